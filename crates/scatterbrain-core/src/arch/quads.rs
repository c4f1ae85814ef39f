//! Products of bytes, four columns at a time: pulp's generic vectors have no bytes, so the instructions are reached
//! through tokens. With AVX2 alone sums are 16-bit and wrap around, else 32-bit; where the first fit, both are the same.

use crate::kernel::PANEL;
#[cfg(target_arch = "x86_64")]
use pulp::bytemuck::Pod;
use pulp::{Simd, WithSimd};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::__m256i;
#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
use std::arch::x86_64::__m512i;

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
    whole: [i32; PANEL],
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
type Pair = [__m256i; 2];

/// What of [`Quads`] differs between the instruction sets of x86.
#[cfg(target_arch = "x86_64")]
pub(crate) trait Fours: Copy {
    /// A panel's sixteen words.
    type Words: Pod;

    /// As [`Quads::WIDE`].
    const WIDE: bool = false;

    /// As [`Quads::fitting`].
    fn fitting(self, codes: &[CodeQuad]) -> usize;

    /// What sums of products of a lane start from.
    fn start(self, start: &Start) -> Self::Words;

    /// Adds the products of four bytes to each word's sum; those of `codes` are without sign, and at most 127 where sums
    /// are of 16 bits.
    fn add(self, sum: Self::Words, codes: Self::Words, signed: Self::Words) -> Self::Words;

    /// The sums in 32 bits.
    fn whole(self, sum: Self::Words) -> Self::Words;

    /// Four bytes in every word.
    fn everywhere(self, four: [u8; 4]) -> Self::Words;

    /// In 32 bits.
    fn add_words(self, a: Self::Words, b: Self::Words) -> Self::Words;
}

#[cfg(target_arch = "x86_64")]
impl<F: Fours> Quads for F {
    const WIDE: bool = F::WIDE;

    #[inline(always)]
    fn fitting(self, codes: &[CodeQuad]) -> usize {
        Fours::fitting(self, codes)
    }

    #[inline(always)]
    fn dots<const N: usize>(self, panel: &[PanelQuad], rows: [&[[u8; 4]]; N], start: &Start) -> [[i32; PANEL]; N] {
        let mut sums = [self.start(start); N];
        let rows: [&[[u8; 4]]; N] = std::array::from_fn(|o| &rows[o][..panel.len()]);
        for (at, lanes) in panel.iter().enumerate() {
            let lanes: F::Words = pulp::cast(*lanes);
            for (sum, row) in sums.iter_mut().zip(&rows) {
                *sum = self.add(*sum, self.everywhere(row[at]), lanes);
            }
        }
        let mut out = [[0; PANEL]; N];
        // A plain loop: `map` would be a call without the instruction set.
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = pulp::cast(self.whole(sum));
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
        let mut own = [self.everywhere([0; 4]); N];
        for (codes, four) in codes.iter().zip(rows) {
            let lanes: F::Words = pulp::cast(*codes);
            for (sum, four) in own.iter_mut().zip(four) {
                *sum = self.add(*sum, lanes, self.everywhere(four.map(|x| x as u8)));
            }
        }
        for (sum, own) in sums.iter_mut().zip(own) {
            *sum = pulp::cast(self.add_words(pulp::cast(*sum), self.whole(own)));
        }
    }
}

/// Sums of even and of odd pairs in the halves of 32 bits. A pair comes to at most 2·127·128, which does not saturate.
#[cfg(target_arch = "x86_64")]
impl Fours for pulp::x86::V3 {
    type Words = Pair;

    /// Sums of codes over even and over odd pairs are kept under [`CODE_SUM`]. A group by itself always fits.
    #[inline(always)]
    fn fitting(self, codes: &[CodeQuad]) -> usize {
        let (ones, most) = ([self.avx._mm256_set1_epi8(1); 2], self.avx._mm256_set1_epi16(CODE_SUM));
        let mut sums = self.everywhere([0; 4]);
        for (at, codes) in codes.iter().enumerate() {
            sums = self.add(sums, pulp::cast(*codes), ones);
            let top = self.avx2._mm256_max_epi16(sums[0], sums[1]);
            if self.avx2._mm256_movemask_epi8(self.avx2._mm256_cmpgt_epi16(top, most)) != 0 {
                return at.max(1);
            }
        }
        codes.len()
    }

    #[inline(always)]
    fn start(self, start: &Start) -> Pair {
        pulp::cast(start.halves)
    }

    #[inline(always)]
    fn add(self, sum: Pair, codes: Pair, signed: Pair) -> Pair {
        let add = |v: usize| self.avx2._mm256_add_epi16(sum[v], self.avx2._mm256_maddubs_epi16(codes[v], signed[v]));
        [add(0), add(1)]
    }

    #[inline(always)]
    fn whole(self, sum: Pair) -> Pair {
        let ones = self.avx._mm256_set1_epi16(1);
        [self.avx2._mm256_madd_epi16(sum[0], ones), self.avx2._mm256_madd_epi16(sum[1], ones)]
    }

    #[inline(always)]
    fn everywhere(self, four: [u8; 4]) -> Pair {
        [self.avx._mm256_set1_epi32(i32::from_le_bytes(four)); 2]
    }

    #[inline(always)]
    fn add_words(self, a: Pair, b: Pair) -> Pair {
        [self.avx2._mm256_add_epi32(a[0], b[0]), self.avx2._mm256_add_epi32(a[1], b[1])]
    }
}

/// Sums of fours in 32 bits.
#[cfg(target_arch = "x86_64")]
impl Fours for super::vnni::Vnni {
    type Words = Pair;

    #[inline(always)]
    fn fitting(self, codes: &[CodeQuad]) -> usize {
        codes.len()
    }

    #[inline(always)]
    fn start(self, start: &Start) -> Pair {
        pulp::cast(start.whole)
    }

    #[inline(always)]
    fn add(self, sum: Pair, codes: Pair, signed: Pair) -> Pair {
        [self.add_products(sum[0], codes[0], signed[0]), self.add_products(sum[1], codes[1], signed[1])]
    }

    #[inline(always)]
    fn whole(self, sum: Pair) -> Pair {
        sum
    }

    #[inline(always)]
    fn everywhere(self, four: [u8; 4]) -> Pair {
        self.avx2().everywhere(four)
    }

    #[inline(always)]
    fn add_words(self, a: Pair, b: Pair) -> Pair {
        self.avx2().add_words(a, b)
    }
}

/// Sums of fours in 32 bits, a panel in one vector.
#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
impl Fours for super::vnni512::Vnni512 {
    type Words = __m512i;

    const WIDE: bool = true;

    #[inline(always)]
    fn fitting(self, codes: &[CodeQuad]) -> usize {
        codes.len()
    }

    #[inline(always)]
    fn start(self, start: &Start) -> __m512i {
        pulp::cast(start.whole)
    }

    #[inline(always)]
    fn add(self, sum: __m512i, codes: __m512i, signed: __m512i) -> __m512i {
        self.add_products(sum, codes, signed)
    }

    #[inline(always)]
    fn whole(self, sum: __m512i) -> __m512i {
        sum
    }

    #[inline(always)]
    fn everywhere(self, four: [u8; 4]) -> __m512i {
        self.avx512().avx512f._mm512_set1_epi32(i32::from_le_bytes(four))
    }

    #[inline(always)]
    fn add_words(self, a: __m512i, b: __m512i) -> __m512i {
        self.avx512().avx512f._mm512_add_epi32(a, b)
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
