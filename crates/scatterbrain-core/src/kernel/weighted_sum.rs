//! Weighted sum of rows: `acc[c][r] += Σ_j w[j][r] · row_j[c]`.
//!
//! Micro-kernel: up to six columns × two vectors, or twelve × one where a vector is a whole panel: accumulators that stay
//! in registers over all rows.

use super::product::store;
use super::{PANEL, RowsOf};
use crate::tile::Keys;
use crate::{Level, Matrix};
use pulp::{Simd, WithSimd};

/// `acc[c][r] += Σ_j weights[j][r] · rows(keys[j])[c]`.
///
/// # Panics
/// If `weights` is not `keys.len() * PANEL` long, or `acc` not `rows.cols() * PANEL`.
pub fn weighted_sum(level: Level, weights: &[f32], rows: Matrix<'_>, keys: &Keys, acc: &mut [f32]) {
    assert_eq!(weights.len(), keys.len() * PANEL, "weights");
    assert_eq!(acc.len(), rows.cols() * PANEL, "acc");
    let (weights, acc) = (weights.as_chunks().0, acc.as_chunks_mut().0);
    row_lookup!(rows, keys, |rows| level.run_wide(WeightedSum { weights, rows, acc }));
}

struct WeightedSum<'a, R> {
    weights: &'a [[f32; PANEL]],
    rows: R,
    acc: &'a mut [[f32; PANEL]],
}

impl<'r, R: RowsOf<'r>> WithSimd for WeightedSum<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, rows, acc } = self;
        if S::F32_LANES == PANEL {
            each_share!(wide acc.len(), |at, N| {
                let acc: &mut [_; N] = acc[at..].first_chunk_mut().expect("columns of the sum");
                columns::<S, 1, N>(simd, weights, &rows, at, acc, 0);
            });
            return;
        }
        each_share!(acc.len(), |at, N| {
            let acc: &mut [_; N] = acc[at..].first_chunk_mut().expect("columns of the sum");
            for pair in (0..PANEL / S::F32_LANES).step_by(2) {
                columns::<S, 2, N>(simd, weights, &rows, at, acc, pair);
            }
        });
    }
}

/// N columns from `column` of V vectors from `first`.
#[inline(always)]
fn columns<'r, S: Simd, const V: usize, const N: usize>(
    simd: S,
    weights: &[[f32; PANEL]],
    rows: &impl RowsOf<'r>,
    column: usize,
    acc: &mut [[f32; PANEL]; N],
    first: usize,
) {
    let mut sums = [[simd.splat_f32s(0.0); V]; N];
    for (sum, acc) in sums.iter_mut().zip(&*acc) {
        *sum = *S::as_simd_f32s(acc).0[first..].first_chunk().expect("vectors of a panel");
    }
    rows.add_columns(simd, weights, column, first, &mut sums);
    store(simd, sums, first, acc);
}
