//! Product of a panel with rows: `out[j][r] = Σ_c panel[c][r] · row_j[c]`.
//!
//! Micro-kernel: four rows × two vectors, eight accumulators; a row element is broadcast, the panel is read
//! along. Each output is one chain of fused multiply-adds in column order, whatever rows surround it.

use super::{PANEL, by_fours};
use crate::tile::Keys;
use crate::{Level, Matrix};
use pulp::{Simd, WithSimd};

/// `out[j][r] = Σ_c panel[c][r] · rows(keys[j])[c]` for every listed row.
///
/// # Panics
/// If `panel` is not `rows.cols() * PANEL` long, or `out` not `keys.len() * PANEL`.
pub fn product(level: Level, panel: &[f32], rows: Matrix<'_>, keys: &Keys, out: &mut [f32]) {
    assert_eq!(panel.len(), rows.cols() * PANEL, "panel");
    assert_eq!(out.len(), keys.len() * PANEL, "out");
    level.run(Product { panel, rows, keys, out });
}

struct Product<'a> {
    panel: &'a [f32],
    rows: Matrix<'a>,
    keys: &'a Keys,
    out: &'a mut [f32],
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { panel, rows, keys, out } = self;
        let panel = S::as_simd_f32s(panel).0;
        let out = S::as_mut_simd_f32s(out).0;
        let vectors = PANEL / S::F32_LANES;
        by_fours(rows, keys, |at, row, count| {
            for pair in (0..vectors).step_by(2) {
                let mut acc = [[simd.splat_f32s(0.0); 2]; 4];
                let elements = row[0].iter().zip(row[1]).zip(row[2]).zip(row[3]);
                for (lanes, (((x0, x1), x2), x3)) in panel.chunks_exact(vectors).zip(elements) {
                    let (a, b) = (lanes[pair], lanes[pair + 1]);
                    for (acc, x) in acc.iter_mut().zip([x0, x1, x2, x3]) {
                        let x = simd.splat_f32s(*x);
                        acc[0] = simd.mul_add_e_f32s(a, x, acc[0]);
                        acc[1] = simd.mul_add_e_f32s(b, x, acc[1]);
                    }
                }
                for (j, acc) in acc.iter().enumerate().take(count) {
                    out[(at + j) * vectors + pair] = acc[0];
                    out[(at + j) * vectors + pair + 1] = acc[1];
                }
            }
        });
    }
}
