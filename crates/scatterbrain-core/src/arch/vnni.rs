//! AVX-VNNI: products of bytes summed in 32 bits by one instruction. pulp has no token for it, so this is one.
#![allow(unsafe_code)]

use super::quads::WithQuads;
use pulp::x86::V3;
use std::arch::x86_64::{__m256i, _mm256_dpbusd_avx_epi32};

/// A CPU that has AVX2 and AVX-VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vnni {
    // Private, so that `try_new` alone makes one.
    avx2: V3,
}

impl Vnni {
    /// The token, where the CPU has the instructions.
    pub(crate) fn try_new() -> Option<Self> {
        let avx2 = V3::try_new()?;
        std::arch::is_x86_feature_detected!("avxvnni").then_some(Self { avx2 })
    }

    /// The token of AVX2 alone.
    #[inline(always)]
    pub(crate) fn avx2(self) -> V3 {
        self.avx2
    }

    /// `sum[i] + Σ_{c < 4} a[4i + c] · b[4i + c]` in 32 bits, a without and b with sign.
    #[inline(always)]
    pub(crate) fn add_products(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the CPU has AVX-VNNI, as `try_new` has seen, which alone makes a `Vnni`.
        unsafe { _mm256_dpbusd_avx_epi32(sum, a, b) }
    }

    /// Runs an operation compiled for these instructions.
    #[inline(always)]
    pub(crate) fn run(self, op: impl WithQuads) {
        /// Features of pulp's token, and one more.
        #[target_feature(enable = "sse,sse2,fxsr,sse3,ssse3,sse4.1,sse4.2,popcnt,avx,avx2,bmi1,bmi2,fma,lzcnt,avxvnni")]
        fn compiled(token: Vnni, op: impl WithQuads) {
            op.run(token.avx2, token);
        }
        // SAFETY: the CPU has all of pulp's V3, as its token says, and AVX-VNNI, as `try_new` has seen.
        unsafe { compiled(self, op) }
    }
}
