//! Weighted sum of rows: `acc[c][r] += Σ_j w[j][r] · row_j[c]`.
//!
//! Micro-kernel: four columns × two vectors, eight accumulators that stay in registers over all rows.

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
    row_lookup!(rows, keys, |rows| level.run(WeightedSum { weights, rows, acc }));
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
        each_share!(acc.len(), |at, N| {
            let acc: &mut [_; N] = acc[at..].first_chunk_mut().expect("columns of the sum");
            for pair in (0..PANEL / S::F32_LANES).step_by(2) {
                columns(simd, weights, &rows, at, acc, pair);
            }
        });
    }
}

/// N columns from `column` of two vectors.
#[inline(always)]
fn columns<'r, S: Simd, const N: usize>(
    simd: S,
    weights: &[[f32; PANEL]],
    rows: &impl RowsOf<'r>,
    column: usize,
    acc: &mut [[f32; PANEL]; N],
    pair: usize,
) {
    let mut sums: [[S::f32s; 2]; N] = std::array::from_fn(|c| {
        let acc = S::as_simd_f32s(&acc[c]).0;
        [acc[pair], acc[pair + 1]]
    });
    rows.add_columns(simd, weights, column, pair, &mut sums);
    store(simd, sums, pair, acc);
}
