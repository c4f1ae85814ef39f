//! Products of bytes, four columns at a time, in 16-bit arithmetic that wraps around: pulp's generic vectors have no
//! bytes, so the instruction is reached through its token.

use crate::kernel::PANEL;
use pulp::{Simd, WithSimd};

/// Four columns of the sixteen lanes of a panel.
pub(crate) type PanelQuad = [[i8; 4]; PANEL];

/// An operation that needs [`Quads`] beside pulp's vectors.
pub(crate) trait WithQuads {
    /// Runs at a level.
    fn run<S: Simd>(self, simd: S, quads: impl Quads);
}

/// How a level multiplies bytes.
pub(crate) trait Quads: Copy {
    /// Σ of products of rows, elements at most 127, with the lanes of a panel, plus `start`: exact where the sum fits in
    /// 16 bits, whatever partial sums do.
    fn dots<const N: usize>(
        self,
        panel: &[PanelQuad],
        rows: [&[[u8; 4]]; N],
        start: &[i32; PANEL],
    ) -> [[i32; PANEL]; N];
}

/// By the compiler, for levels without a way of their own.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

impl Quads for Plain {
    #[inline(always)]
    fn dots<const N: usize>(
        self,
        panel: &[PanelQuad],
        rows: [&[[u8; 4]]; N],
        start: &[i32; PANEL],
    ) -> [[i32; PANEL]; N] {
        let mut sums = [*start; N];
        for (at, lanes) in panel.iter().enumerate() {
            for (sum, row) in sums.iter_mut().zip(&rows) {
                for (sum, lane) in sum.iter_mut().zip(lanes) {
                    let products = lane.iter().zip(row[at]).map(|(q, k)| i32::from(*q) * i32::from(k));
                    *sum = sum.wrapping_add(products.sum());
                }
            }
        }
        // What 16 bits keep.
        sums.map(|lanes| lanes.map(|sum| i32::from(sum as i16)))
    }
}

#[cfg(target_arch = "x86_64")]
impl Quads for pulp::x86::V3 {
    /// Sums of even and of odd pairs of columns in the halves of 32 bits. A pair comes to at most 2·127·128, which does
    /// not saturate.
    #[inline(always)]
    fn dots<const N: usize>(
        self,
        panel: &[PanelQuad],
        rows: [&[[u8; 4]]; N],
        start: &[i32; PANEL],
    ) -> [[i32; PANEL]; N] {
        use std::arch::x86_64::__m256i;
        let (avx, avx2) = (self.avx, self.avx2);
        let low = avx._mm256_set1_epi32(0xffff);
        let start: [__m256i; 2] = pulp::cast(*start);
        let start = [avx2._mm256_and_si256(start[0], low), avx2._mm256_and_si256(start[1], low)];
        let mut sums = [start; N];
        let rows: [&[[u8; 4]]; N] = std::array::from_fn(|o| &rows[o][..panel.len()]);
        for (at, lanes) in panel.iter().enumerate() {
            let lanes: [__m256i; 2] = pulp::cast(*lanes);
            for (sum, row) in sums.iter_mut().zip(&rows) {
                let row = avx._mm256_set1_epi32(i32::from_le_bytes(row[at]));
                sum[0] = avx2._mm256_add_epi16(sum[0], avx2._mm256_maddubs_epi16(row, lanes[0]));
                sum[1] = avx2._mm256_add_epi16(sum[1], avx2._mm256_maddubs_epi16(row, lanes[1]));
            }
        }
        let mut out = [[0; PANEL]; N];
        for (out, sum) in out.iter_mut().zip(sums) {
            let join = |sum| {
                let both = avx2._mm256_add_epi16(sum, avx2._mm256_slli_epi32::<16>(sum));
                avx2._mm256_srai_epi32::<16>(both)
            };
            *out = pulp::cast([join(sum[0]), join(sum[1])]);
        }
        out
    }
}

/// Adapter that hands the token's products to an operation.
pub(crate) struct Run<Op, Q>(pub(crate) Op, pub(crate) Q);

impl<Op: WithQuads, Q: Quads> WithSimd for Run<Op, Q> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.run(simd, self.1);
    }
}
