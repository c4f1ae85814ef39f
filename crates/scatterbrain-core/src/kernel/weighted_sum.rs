//! Weighted sums of rows: `acc[p][c][r] += Σ_j w_p[j][r] · row_j[c]`.
//!
//! Micro-kernels as those of [`product`](super::product()), with columns for rows: accumulators stay in registers over a block
//! of rows.

use super::product::{chunks, parts, parts_mut, store};
use super::{PANEL, PANELS, RowsOf};
use crate::tile::Keys;
use crate::{Level, Matrix};
use pulp::{Simd, WithSimd};

/// `acc[p][c][r] += Σ_j weights[p][j][r] · rows(keys[j])[c]` for every panel.
///
/// # Panics
/// If `acc` is no multiple of `rows.cols() * PANEL` long, or `weights` is not as many times `keys.len() * PANEL`.
pub fn weighted_sum(level: Level, weights: &[f32], rows: Matrix<'_>, keys: &Keys, acc: &mut [f32]) {
    let (d, n) = (rows.cols(), keys.len());
    let count = acc.len() / (d * PANEL);
    assert_eq!(acc.len(), count * d * PANEL, "acc");
    assert_eq!(weights.len(), count * n * PANEL, "weights");
    if weights.is_empty() {
        return;
    }
    let (weights, acc) = (weights.as_chunks().0, acc.as_chunks_mut().0);
    row_lookup!(rows, keys, |rows| level.run_wide(WeightedSum { weights, rows, n, d, acc }));
}

/// Numbers in a block of rows, which is summed over all columns before the next one: 16 KiB, half of a small first cache, since
/// each share of columns reads a part of every row. Rows of more than 256 columns come sixteen a block. Measured on rows that
/// follow each other; those of a view lie further apart, and then fewer sets of the cache hold a block.
const BLOCK: usize = 4096;

struct WeightedSum<'a, R> {
    weights: &'a [[f32; PANEL]],
    /// `n` of them.
    rows: R,
    n: usize,
    /// Each of `d` columns.
    acc: &'a mut [[f32; PANEL]],
    d: usize,
}

impl<'r, R: RowsOf<'r>> WithSimd for WeightedSum<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { mut weights, rows, n, mut acc, d } = self;
        let step = (BLOCK / d).max(PANEL);
        while S::F32_LANES == PANEL && acc.len() >= PANELS * d {
            let (several, rest) = weights.split_at(PANELS * n);
            let (acc_of_several, rest_of_acc) = acc.split_at_mut(PANELS * d);
            let (several, mut acc_of_several) = (parts::<_, PANELS>(several, n), parts_mut(acc_of_several, d));
            for from in (0..n).step_by(step) {
                let block = several.map(|weights| &weights[from..n.min(from + step)]);
                each_share!(d, |at, N| {
                    columns::<S, _, PANELS, 1, N>(simd, &block, (rows, from), at, 0, chunks(&mut acc_of_several, at));
                });
            }
            (weights, acc) = (rest, rest_of_acc);
        }
        for (weights, acc) in weights.chunks_exact(n).zip(acc.chunks_exact_mut(d)) {
            let mut acc = [acc];
            for from in (0..n).step_by(step) {
                let block = [&weights[from..n.min(from + step)]];
                if S::F32_LANES == PANEL {
                    each_share!(wide d, |at, N| {
                        columns::<S, _, 1, 1, N>(simd, &block, (rows, from), at, 0, chunks(&mut acc, at));
                    });
                    continue;
                }
                each_share!(d, |at, N| {
                    for pair in (0..PANEL / S::F32_LANES).step_by(2) {
                        columns::<S, _, 1, 2, N>(simd, &block, (rows, from), at, pair, chunks(&mut acc, at));
                    }
                });
            }
        }
    }
}

/// N columns from `column` of rows from a position, for V vectors of each of P panels, from `first`.
#[inline(always)]
fn columns<'r, S: Simd, R: RowsOf<'r>, const P: usize, const V: usize, const N: usize>(
    simd: S,
    weights: &[&[[f32; PANEL]]; P],
    (rows, from): (R, usize),
    column: usize,
    first: usize,
    acc: [&mut [[f32; PANEL]; N]; P],
) {
    let mut sums = [[[simd.splat_f32s(0.0); V]; N]; P];
    for (sums, acc) in sums.iter_mut().zip(&acc) {
        for (sums, acc) in sums.iter_mut().zip(acc.iter()) {
            let acc = &S::as_simd_f32s(acc).0[first..first + V];
            for (sum, acc) in sums.iter_mut().zip(acc) {
                *sum = *acc;
            }
        }
    }
    rows.add_columns(simd, weights, from, column, first, &mut sums);
    for (acc, sums) in acc.into_iter().zip(&sums) {
        store(simd, sums, first, acc);
    }
}
