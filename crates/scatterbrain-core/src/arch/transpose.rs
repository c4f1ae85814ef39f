//! Transposition of 8 × 8 blocks: pulp has no general shuffles, so the AVX ones are reached through its token.

use pulp::{Simd, WithSimd};

/// Rows of a block.
pub(crate) const BLOCK: usize = 8;
/// A block; after transposition, `block[c][r]`.
pub(crate) type Block = [[f32; BLOCK]; BLOCK];

/// An operation that needs [`Transpose`] beside pulp's vectors.
pub(crate) trait WithTranspose {
    /// Runs at a level.
    fn run<S: Simd>(self, simd: S, transpose: impl Transpose);
}

/// How a level transposes.
pub(crate) trait Transpose: Copy {
    /// `out[c][r] = block[r][c]`.
    fn transpose(self, block: Block) -> Block;
}

/// By the compiler, for levels without a way of their own.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

impl Transpose for Plain {
    #[inline(always)]
    fn transpose(self, block: Block) -> Block {
        let mut out = [[0.0; BLOCK]; BLOCK];
        for c in 0..BLOCK {
            for r in 0..BLOCK {
                out[c][r] = block[r][c];
            }
        }
        out
    }
}

#[cfg(target_arch = "x86_64")]
impl Transpose for pulp::x86::V3 {
    /// Pairs, then fours, then halves: 24 shuffles.
    #[inline(always)]
    fn transpose(self, block: Block) -> Block {
        let avx = self.avx;
        let rows: [std::arch::x86_64::__m256; BLOCK] = pulp::cast(block);
        let low = |a: usize| avx._mm256_unpacklo_ps(rows[a], rows[a + 1]);
        let high = |a: usize| avx._mm256_unpackhi_ps(rows[a], rows[a + 1]);
        let pairs = [low(0), high(0), low(2), high(2), low(4), high(4), low(6), high(6)];
        let first = |a: usize| avx._mm256_shuffle_ps::<0b01_00_01_00>(pairs[a], pairs[a + 2]);
        let last = |a: usize| avx._mm256_shuffle_ps::<0b11_10_11_10>(pairs[a], pairs[a + 2]);
        let fours = [first(0), last(0), first(1), last(1), first(4), last(4), first(5), last(5)];
        let front = |a: usize| avx._mm256_permute2f128_ps::<0x20>(fours[a], fours[a + 4]);
        let back = |a: usize| avx._mm256_permute2f128_ps::<0x31>(fours[a], fours[a + 4]);
        pulp::cast([front(0), front(1), front(2), front(3), back(0), back(1), back(2), back(3)])
    }
}

/// Adapter that hands the token's transposition to an operation.
pub(crate) struct Run<Op, T>(pub(crate) Op, pub(crate) T);

impl<Op: WithTranspose, T: Transpose> WithSimd for Run<Op, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.run(simd, self.1);
    }
}
