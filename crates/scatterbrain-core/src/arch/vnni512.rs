//! AVX-512 with VNNI: products of bytes for a whole panel by one instruction. pulp's token of AVX-512 leaves VNNI out, so
//! this is one with it.
#![allow(unsafe_code)]

use super::quads::{CodeQuad, PanelQuad, Quads, Start, WithQuads};
use crate::kernel::PANEL;
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

    /// `sum[i] + Σ_{c < 4} a[4i + c] · b[4i + c]` in 32 bits, a without and b with sign.
    #[inline(always)]
    fn add_products(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the CPU has AVX-512 with VNNI, as `try_new` has seen, which alone makes a `Vnni512`.
        unsafe { _mm512_dpbusd_epi32(sum, a, b) }
    }

    /// Four bytes in every word.
    #[inline(always)]
    fn everywhere(self, four: [u8; 4]) -> __m512i {
        self.avx512.avx512f._mm512_set1_epi32(i32::from_le_bytes(four))
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

/// Sums of fours in 32 bits; a panel is one vector.
impl Quads for Vnni512 {
    const WIDE: bool = true;

    #[inline(always)]
    fn fitting(self, codes: &[CodeQuad]) -> usize {
        codes.len()
    }

    #[inline(always)]
    fn dots<const N: usize>(self, panel: &[PanelQuad], rows: [&[[u8; 4]]; N], start: &Start) -> [[i32; PANEL]; N] {
        let mut sums: [__m512i; N] = [pulp::cast(start.whole); N];
        let rows: [&[[u8; 4]]; N] = std::array::from_fn(|o| &rows[o][..panel.len()]);
        for (at, lanes) in panel.iter().enumerate() {
            let lanes: __m512i = pulp::cast(*lanes);
            for (sum, row) in sums.iter_mut().zip(&rows) {
                *sum = self.add_products(*sum, self.everywhere(row[at]), lanes);
            }
        }
        let mut out = [[0; PANEL]; N];
        // A plain loop: `map` would be a call without the instruction set.
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = pulp::cast(sum);
        }
        out
    }

    #[inline(always)]
    fn weigh<'a, const N: usize>(
        self,
        codes: &[CodeQuad],
        rows: impl Iterator<Item = &'a [[i8; 4]; N]>,
        sums: &mut [[i32; PANEL]; N],
    ) {
        let mut own: [__m512i; N] = [self.everywhere([0; 4]); N];
        for (own, sum) in own.iter_mut().zip(&*sums) {
            *own = pulp::cast(*sum);
        }
        for (codes, four) in codes.iter().zip(rows) {
            let lanes: __m512i = pulp::cast(*codes);
            for (own, four) in own.iter_mut().zip(four) {
                *own = self.add_products(*own, lanes, self.everywhere(four.map(|x| x as u8)));
            }
        }
        for (sum, own) in sums.iter_mut().zip(own) {
            *sum = pulp::cast(own);
        }
    }
}
