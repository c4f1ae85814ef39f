//! One row against listed rows: dot products and weighted sums.

use crate::arch::transpose::{BLOCK, Transpose, WithTranspose};
use crate::{Level, Matrix};
use pulp::{Simd, WithSimd};

/// `out[j] = Σ_c x[c] · rows(keys[j])[c]`.
///
/// # Panics
/// If `x` is not `rows.cols()` long or `out` not `keys.len()`.
pub fn dot_rows(level: Level, x: &[f32], rows: Matrix<'_>, keys: &[u32], out: &mut [f32]) {
    assert_eq!(x.len(), rows.cols(), "x");
    assert_eq!(out.len(), keys.len(), "out");
    level.run_transposing(DotRows { x, rows, keys, out });
}

struct DotRows<'a> {
    x: &'a [f32],
    rows: Matrix<'a>,
    keys: &'a [u32],
    out: &'a mut [f32],
}

impl WithTranspose for DotRows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S, transpose: impl Transpose) {
        for (keys, out) in self.keys.chunks(BLOCK).zip(self.out.chunks_mut(BLOCK)) {
            // The last key fills up, so that a product does not depend on how many stand beside it.
            let mut rows: [&[f32]; BLOCK] = [&[]; BLOCK];
            for o in 0..BLOCK {
                rows[o] = self.rows.row(keys[o.min(keys.len() - 1)] as usize);
            }
            let dots = eight_dots(simd, transpose, self.x, rows);
            match out.first_chunk_mut() {
                Some(out) => *out = dots,
                None => out.copy_from_slice(&dots[..out.len()]),
            }
        }
    }
}

/// Products with eight rows at once: eight chains under way, and their lanes summed by one transposition.
#[inline(always)]
fn eight_dots<S: Simd>(simd: S, transpose: impl Transpose, x: &[f32], rows: [&[f32]; BLOCK]) -> [f32; BLOCK] {
    let (vectors, tail) = S::as_simd_f32s(x);
    let whole = x.len() - tail.len();
    let mut sums = [simd.splat_f32s(0.0); BLOCK];
    let mut of_rows: [&[S::f32s]; BLOCK] = [&[]; BLOCK];
    for (of_row, row) in of_rows.iter_mut().zip(&rows) {
        *of_row = &S::as_simd_f32s(row).0[..vectors.len()];
    }
    for (c, x) in vectors.iter().enumerate() {
        for o in 0..BLOCK {
            sums[o] = simd.mul_add_e_f32s(*x, of_rows[o][c], sums[o]);
        }
    }
    let mut dots = sum_lanes(simd, transpose, sums);
    if !tail.is_empty() {
        for (dot, row) in dots.iter_mut().zip(&rows) {
            for (a, b) in tail.iter().zip(&row[whole..]) {
                *dot += a * b;
            }
        }
    }
    dots
}

/// The sum of the lanes of eight vectors.
#[inline(always)]
fn sum_lanes<S: Simd>(simd: S, transpose: impl Transpose, sums: [S::f32s; BLOCK]) -> [f32; BLOCK] {
    let mut out = [0.0; BLOCK];
    if S::F32_LANES != BLOCK {
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = simd.reduce_sum_f32s(sum);
        }
        return out;
    }
    let mut block = [[0.0; BLOCK]; BLOCK];
    for (row, sum) in block.iter_mut().zip(sums) {
        S::as_mut_simd_f32s(row).0[0] = sum;
    }
    let lanes = transpose.transpose(block);
    let mut total = simd.splat_f32s(0.0);
    for lane in &lanes {
        total = simd.add_f32s(total, S::as_simd_f32s(lane).0[0]);
    }
    S::as_mut_simd_f32s(&mut out).0[0] = total;
    out
}

/// `acc[c] += Σ_j weights[j] · rows(keys[j])[c]`.
///
/// # Panics
/// If `acc` is not `rows.cols()` long or `weights` not `keys.len()`.
pub fn weighted_sum_rows(level: Level, weights: &[f32], rows: Matrix<'_>, keys: &[u32], acc: &mut [f32]) {
    assert_eq!(acc.len(), rows.cols(), "acc");
    assert_eq!(weights.len(), keys.len(), "weights");
    level.run_wide(WeightedSumRows { weights, rows, keys, acc });
}

struct WeightedSumRows<'a> {
    weights: &'a [f32],
    rows: Matrix<'a>,
    keys: &'a [u32],
    acc: &'a mut [f32],
}

impl WithSimd for WeightedSumRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, rows, keys, acc } = self;
        let (acc, tail) = S::as_mut_simd_f32s(acc);
        // Eight vectors of the sum stay in registers while the rows stream by.
        let (eights, last) = acc.as_chunks_mut::<8>();
        let single = 8 * eights.len();
        for (block, acc) in eights.iter_mut().enumerate() {
            some_vectors(simd, weights, rows, keys, 8 * block, acc);
        }
        let (fours, last) = last.as_chunks_mut::<4>();
        let first = single + 4 * fours.len();
        for acc in fours {
            some_vectors(simd, weights, rows, keys, single, acc);
        }
        for (block, acc) in last.iter_mut().enumerate() {
            some_vectors(simd, weights, rows, keys, first + block, std::array::from_mut(acc));
        }
        let from = rows.cols() - tail.len();
        for (w, k) in weights.iter().zip(keys) {
            for (t, v) in tail.iter_mut().zip(&rows.row(*k as usize)[from..]) {
                *t += w * v;
            }
        }
    }
}

/// N vectors of the sum, from vector `first` of the rows.
#[inline(always)]
fn some_vectors<S: Simd, const N: usize>(
    simd: S,
    weights: &[f32],
    rows: Matrix<'_>,
    keys: &[u32],
    first: usize,
    acc: &mut [S::f32s; N],
) {
    let mut sum = *acc;
    for (w, k) in weights.iter().zip(keys) {
        let w = simd.splat_f32s(*w);
        let v: &[S::f32s; N] =
            S::as_simd_f32s(rows.row(*k as usize)).0[first..].first_chunk().expect("vectors of a row");
        for (sum, v) in sum.iter_mut().zip(v) {
            *sum = simd.mul_add_e_f32s(w, *v, *sum);
        }
    }
    *acc = sum;
}
