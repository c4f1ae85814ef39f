//! Products of bytes, four columns at a time: pulp's generic vectors have no bytes, so the instructions are reached
//! through tokens. With AVX2 alone sums are 16-bit and wrap around, else 32-bit; where the first fit, both are the same.

use crate::kernel::PANEL;
use pulp::{Simd, WithSimd};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::__m256i;

/// Four columns of the sixteen lanes of a panel.
pub(crate) type PanelQuad = [[i8; 4]; PANEL];

/// Codes of four keys for the sixteen lanes of a panel, four in a word, the first in its lowest byte; each at most 127.
pub(crate) type CodeQuad = [u32; PANEL];

/// What is added to products of a lane.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start {
    /// To the sums over even and over odd pairs of columns, modulo 2¹⁶.
    #[cfg(target_arch = "x86_64")]
    halves: [[i16; 2]; PANEL],
    /// To both together.
    pub(super) whole: [i32; PANEL],
}

impl Start {
    /// Of a lane, over even and over odd pairs.
    pub(crate) fn set(&mut self, lane: usize, [even, odd]: [i32; 2]) {
        #[cfg(target_arch = "x86_64")]
        {
            self.halves[lane] = [even as i16, odd as i16];
        }
        self.whole[lane] = even + odd;
    }
}

/// An operation that needs [`Quads`] beside pulp's vectors, of which one may be a whole panel.
pub(crate) trait WithQuads {
    /// Runs at a level.
    fn run<S: Simd, Q: Quads>(self, simd: S, quads: Q);
}

/// How a level multiplies bytes.
pub(crate) trait Quads: Copy {
    /// Whether one vector holds a whole panel, so that it takes twice as many rows or columns to fill the registers.
    const WIDE: bool = false;

    /// Σ of products of rows with the lanes of a panel, plus both parts of `start`: exact where it fits, whatever partial
    /// sums do. With AVX2 alone elements of rows are at most 127, and it is the sum over the even pairs of columns plus the
    /// first part, and that over the odd pairs plus the second, that have to fit in 16 bits; else the whole in 32.
    fn dots<const N: usize>(self, panel: &[PanelQuad], rows: [&[[u8; 4]]; N], start: &Start) -> [[i32; PANEL]; N];

    /// How many codes from the first on [`Quads::weigh`] takes at once: their sums over the even and over the odd pairs of
    /// rows times 127 fit in 16 bits where sums are no wider. At least one if there is one.
    fn fitting(self, codes: &[CodeQuad]) -> usize;

    /// Adds to the sums of N columns code times element over four rows for each of the codes, as many as are
    /// [`Quads::fitting`].
    fn weigh<'a, const N: usize>(
        self,
        codes: &[CodeQuad],
        rows: impl Iterator<Item = &'a [[i8; 4]; N]>,
        sums: &mut [[i32; PANEL]; N],
    );
}

/// So much times 127 still fits in 16 bits.
#[cfg(target_arch = "x86_64")]
const CODE_SUM: i16 = 258;

/// By the compiler, for levels without a way of their own.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

impl Quads for Plain {
    #[inline(always)]
    fn fitting(self, codes: &[CodeQuad]) -> usize {
        codes.len()
    }

    #[inline(always)]
    fn dots<const N: usize>(self, panel: &[PanelQuad], rows: [&[[u8; 4]]; N], start: &Start) -> [[i32; PANEL]; N] {
        let mut sums = [start.whole; N];
        for (at, lanes) in panel.iter().enumerate() {
            for (sum, row) in sums.iter_mut().zip(&rows) {
                for (sum, lane) in sum.iter_mut().zip(lanes) {
                    let product = |c: usize| i32::from(lane[c]) * i32::from(row[at][c]);
                    *sum = sum.wrapping_add(product(0) + product(1) + product(2) + product(3));
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn weigh<'a, const N: usize>(
        self,
        codes: &[CodeQuad],
        rows: impl Iterator<Item = &'a [[i8; 4]; N]>,
        sums: &mut [[i32; PANEL]; N],
    ) {
        for (codes, four) in codes.iter().zip(rows) {
            for (sum, four) in sums.iter_mut().zip(four) {
                for (sum, code) in sum.iter_mut().zip(codes) {
                    *sum +=
                        code.to_le_bytes().iter().zip(four).map(|(c, x)| i32::from(*c) * i32::from(*x)).sum::<i32>();
                }
            }
        }
    }
}

/// A panel's sixteen words in two vectors.
#[cfg(target_arch = "x86_64")]
type Words = [__m256i; 2];

/// What of [`Quads`] differs between the instruction sets of x86.
#[cfg(target_arch = "x86_64")]
pub(crate) trait Fours: Copy {
    /// As [`Quads::fitting`].
    fn fitting(self, codes: &[CodeQuad]) -> usize;

    /// What sums of products of a lane start from.
    fn start(self, start: &Start) -> Words;

    /// Adds the products of four bytes to each word's sum; those of `codes` are without sign, and at most 127 where sums
    /// are of 16 bits.
    fn add(self, sum: __m256i, codes: __m256i, signed: __m256i) -> __m256i;

    /// The sums in 32 bits.
    fn whole(self, sum: __m256i) -> __m256i;

    /// Four bytes in every word.
    fn everywhere(self, four: [u8; 4]) -> __m256i;

    /// In 32 bits.
    fn add_words(self, a: __m256i, b: __m256i) -> __m256i;
}

#[cfg(target_arch = "x86_64")]
impl<F: Fours> Quads for F {
    #[inline(always)]
    fn fitting(self, codes: &[CodeQuad]) -> usize {
        Fours::fitting(self, codes)
    }

    #[inline(always)]
    fn dots<const N: usize>(self, panel: &[PanelQuad], rows: [&[[u8; 4]]; N], start: &Start) -> [[i32; PANEL]; N] {
        let mut sums = [self.start(start); N];
        let rows: [&[[u8; 4]]; N] = std::array::from_fn(|o| &rows[o][..panel.len()]);
        for (at, lanes) in panel.iter().enumerate() {
            let lanes: Words = pulp::cast(*lanes);
            for (sum, row) in sums.iter_mut().zip(&rows) {
                let row = self.everywhere(row[at]);
                *sum = [self.add(sum[0], row, lanes[0]), self.add(sum[1], row, lanes[1])];
            }
        }
        let mut out = [[0; PANEL]; N];
        // A plain loop: `map` would be a call without the instruction set.
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = pulp::cast([self.whole(sum[0]), self.whole(sum[1])]);
        }
        out
    }

    /// What has been summed joins the sums before at the end.
    #[inline(always)]
    fn weigh<'a, const N: usize>(
        self,
        codes: &[CodeQuad],
        rows: impl Iterator<Item = &'a [[i8; 4]; N]>,
        sums: &mut [[i32; PANEL]; N],
    ) {
        let mut own = [[self.everywhere([0; 4]); 2]; N];
        for (codes, four) in codes.iter().zip(rows) {
            let lanes: Words = pulp::cast(*codes);
            for (sum, four) in own.iter_mut().zip(four) {
                let row = self.everywhere(four.map(|x| x as u8));
                *sum = [self.add(sum[0], lanes[0], row), self.add(sum[1], lanes[1], row)];
            }
        }
        for (sum, own) in sums.iter_mut().zip(own) {
            let before: Words = pulp::cast(*sum);
            let join = |at: usize| self.add_words(before[at], self.whole(own[at]));
            *sum = pulp::cast([join(0), join(1)]);
        }
    }
}

/// Sums of even and of odd pairs in the halves of 32 bits. A pair comes to at most 2·127·128, which does not saturate.
#[cfg(target_arch = "x86_64")]
impl Fours for pulp::x86::V3 {
    /// Sums of codes over even and over odd pairs are kept under [`CODE_SUM`]. A group by itself always fits.
    #[inline(always)]
    fn fitting(self, codes: &[CodeQuad]) -> usize {
        let (ones, most) = (self.avx._mm256_set1_epi8(1), self.avx._mm256_set1_epi16(CODE_SUM));
        let mut sums = [self.everywhere([0; 4]); 2];
        for (at, codes) in codes.iter().enumerate() {
            let lanes: Words = pulp::cast(*codes);
            sums = [self.add(sums[0], lanes[0], ones), self.add(sums[1], lanes[1], ones)];
            let top = self.avx2._mm256_max_epi16(sums[0], sums[1]);
            if self.avx2._mm256_movemask_epi8(self.avx2._mm256_cmpgt_epi16(top, most)) != 0 {
                return at.max(1);
            }
        }
        codes.len()
    }

    #[inline(always)]
    fn start(self, start: &Start) -> Words {
        pulp::cast(start.halves)
    }

    #[inline(always)]
    fn add(self, sum: __m256i, codes: __m256i, signed: __m256i) -> __m256i {
        self.avx2._mm256_add_epi16(sum, self.avx2._mm256_maddubs_epi16(codes, signed))
    }

    #[inline(always)]
    fn whole(self, sum: __m256i) -> __m256i {
        self.avx2._mm256_madd_epi16(sum, self.avx._mm256_set1_epi16(1))
    }

    #[inline(always)]
    fn everywhere(self, four: [u8; 4]) -> __m256i {
        self.avx._mm256_set1_epi32(i32::from_le_bytes(four))
    }

    #[inline(always)]
    fn add_words(self, a: __m256i, b: __m256i) -> __m256i {
        self.avx2._mm256_add_epi32(a, b)
    }
}

/// Sums of fours in 32 bits.
#[cfg(target_arch = "x86_64")]
impl Fours for super::vnni::Vnni {
    #[inline(always)]
    fn fitting(self, codes: &[CodeQuad]) -> usize {
        codes.len()
    }

    #[inline(always)]
    fn start(self, start: &Start) -> Words {
        pulp::cast(start.whole)
    }

    #[inline(always)]
    fn add(self, sum: __m256i, codes: __m256i, signed: __m256i) -> __m256i {
        self.add_products(sum, codes, signed)
    }

    #[inline(always)]
    fn whole(self, sum: __m256i) -> __m256i {
        sum
    }

    #[inline(always)]
    fn everywhere(self, four: [u8; 4]) -> __m256i {
        self.avx2().everywhere(four)
    }

    #[inline(always)]
    fn add_words(self, a: __m256i, b: __m256i) -> __m256i {
        self.avx2().add_words(a, b)
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
