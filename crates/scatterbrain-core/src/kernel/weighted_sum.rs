//! Weighted sum of rows: `acc[c][r] += Σ_j w[j][r] · row_j[c]`.
//!
//! Micro-kernel: four columns × two vectors, eight accumulators that stay in registers over all rows.

use super::PANEL;
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
    level.run(WeightedSum { weights, rows, keys, acc });
}

struct WeightedSum<'a> {
    weights: &'a [f32],
    rows: Matrix<'a>,
    keys: &'a Keys,
    acc: &'a mut [f32],
}

impl WithSimd for WeightedSum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, rows, keys, acc } = self;
        let weights = S::as_simd_f32s(weights).0;
        let acc = S::as_mut_simd_f32s(acc).0;
        let vectors = PANEL / S::F32_LANES;
        let cols = rows.cols();
        for pair in (0..vectors).step_by(2) {
            let mut column = 0;
            while column + 4 <= cols {
                let mut sum = [[simd.splat_f32s(0.0); 2]; 4];
                for (c, s) in sum.iter_mut().enumerate() {
                    *s = [acc[(column + c) * vectors + pair], acc[(column + c) * vectors + pair + 1]];
                }
                for (j, w) in weights.chunks_exact(vectors).enumerate() {
                    let (a, b) = (w[pair], w[pair + 1]);
                    let v: &[f32; 4] = rows.row(keys.get(j))[column..column + 4].try_into().expect("four columns");
                    for (s, v) in sum.iter_mut().zip(v) {
                        let v = simd.splat_f32s(*v);
                        s[0] = simd.mul_add_e_f32s(a, v, s[0]);
                        s[1] = simd.mul_add_e_f32s(b, v, s[1]);
                    }
                }
                for (c, s) in sum.iter().enumerate() {
                    acc[(column + c) * vectors + pair] = s[0];
                    acc[(column + c) * vectors + pair + 1] = s[1];
                }
                column += 4;
            }
            for column in column..cols {
                let mut s = [acc[column * vectors + pair], acc[column * vectors + pair + 1]];
                for (j, w) in weights.chunks_exact(vectors).enumerate() {
                    let v = simd.splat_f32s(rows.row(keys.get(j))[column]);
                    s[0] = simd.mul_add_e_f32s(w[pair], v, s[0]);
                    s[1] = simd.mul_add_e_f32s(w[pair + 1], v, s[1]);
                }
                acc[column * vectors + pair] = s[0];
                acc[column * vectors + pair + 1] = s[1];
            }
        }
    }
}
