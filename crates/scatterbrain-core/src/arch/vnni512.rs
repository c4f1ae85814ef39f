//! AVX-512 with VNNI: products of bytes for a whole panel by one instruction. pulp's token of AVX-512 leaves VNNI out, so
//! this is one with it.
#![allow(unsafe_code)]

use super::quads::WithQuads;
use pulp::x86::V4;
use std::arch::x86_64::{__m512i, _mm512_dpbusd_epi32};

/// A CPU that has AVX-512 and its VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vnni512 {
    // Private, so that `try_new` alone makes one.
    avx512: V4,
}

impl Vnni512 {
    /// The token, where the CPU has the instructions.
    pub(crate) fn try_new() -> Option<Self> {
        let avx512 = V4::try_new()?;
        std::arch::is_x86_feature_detected!("avx512vnni").then_some(Self { avx512 })
    }

    /// The token of AVX-512 alone.
    #[inline(always)]
    pub(crate) fn avx512(self) -> V4 {
        self.avx512
    }

    /// `sum[i] + Σ_{c < 4} a[4i + c] · b[4i + c]` in 32 bits, a without and b with sign.
    #[inline(always)]
    pub(crate) fn add_products(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the CPU has AVX-512 with VNNI, as `try_new` has seen, which alone makes a `Vnni512`.
        unsafe { _mm512_dpbusd_epi32(sum, a, b) }
    }

    /// Runs an operation compiled for these instructions.
    #[inline(always)]
    pub(crate) fn run(self, op: impl WithQuads) {
        /// Features of pulp's token, and one more.
        #[target_feature(
            enable = "sse,sse2,fxsr,sse3,ssse3,sse4.1,sse4.2,popcnt,avx,avx2,bmi1,bmi2,fma,lzcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni"
        )]
        fn compiled(token: Vnni512, op: impl WithQuads) {
            op.run(token.avx512, token);
        }
        // SAFETY: the CPU has all of pulp's V4, as its token says, and VNNI, as `try_new` has seen.
        unsafe { compiled(self, op) }
    }
}
