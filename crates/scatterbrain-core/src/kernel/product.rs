//! Product of a panel with rows: `out[j][r] = Σ_c panel[c][r] · row_j[c]`.
//!
//! Micro-kernel: up to six rows × two vectors, or twelve rows × one where a vector is a whole panel; a row element is
//! broadcast, the panel is read along. Each output is one chain of fused multiply-adds in column order, whatever rows
//! surround it.

use super::{PANEL, RowsOf};
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
    let (panel, out) = (panel.as_chunks().0, out.as_chunks_mut().0);
    row_lookup!(rows, keys, |rows| level.run_wide(Product { panel, rows, out }));
}

struct Product<'a, R> {
    panel: &'a [[f32; PANEL]],
    rows: R,
    out: &'a mut [[f32; PANEL]],
}

impl<'r, R: RowsOf<'r>> WithSimd for Product<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { panel, rows, out } = self;
        if S::F32_LANES == PANEL {
            each_share!(wide out.len(), |at, N| {
                let rows = apart(std::array::from_fn::<_, N, _>(|o| rows.row(at + o)));
                let out = out[at..].first_chunk_mut().expect("rows of the product");
                some_rows::<S, 1, N>(simd, panel, &rows, 0, out);
            });
            return;
        }
        each_share!(out.len(), |at, N| {
            let rows = apart(std::array::from_fn::<_, N, _>(|o| rows.row(at + o)));
            let out = out[at..].first_chunk_mut().expect("rows of the product");
            for pair in (0..PANEL / S::F32_LANES).step_by(2) {
                some_rows::<S, 2, N>(simd, panel, &rows, pair, out);
            }
        });
    }
}

/// The rows, whose places have nothing to do with each other as far as the compiler can see: else it makes the address of
/// each from the one before, once a column.
#[inline(always)]
pub(super) fn apart<T, const N: usize>(rows: [&[T]; N]) -> [&[T]; N] {
    std::hint::black_box(rows)
}

/// N rows against V vectors of the panel from `first`.
#[inline(always)]
fn some_rows<S: Simd, const V: usize, const N: usize>(
    simd: S,
    panel: &[[f32; PANEL]],
    rows: &[&[f32]; N],
    first: usize,
    out: &mut [[f32; PANEL]; N],
) {
    let mut sums = [[simd.splat_f32s(0.0); V]; N];
    let d = panel.len();
    let rows: [&[f32]; N] = std::array::from_fn(|o| &rows[o][..d]);
    for (c, lanes) in panel.iter().enumerate() {
        add_column(simd, lanes, first, std::array::from_fn(|o| rows[o][c]), &mut sums);
    }
    store(simd, sums, first, out);
}

/// Writes V vectors of every row of a panel, from `first`.
#[inline(always)]
pub(super) fn store<S: Simd, const V: usize, const N: usize>(
    _: S,
    sums: [[S::f32s; V]; N],
    first: usize,
    out: &mut [[f32; PANEL]; N],
) {
    for (out, sum) in out.iter_mut().zip(sums) {
        S::as_mut_simd_f32s(out).0[first..first + V].copy_from_slice(&sum);
    }
}

/// `sums[j] += lanes · x[j]`.
#[inline(always)]
pub(super) fn add_column<S: Simd, const V: usize, const N: usize>(
    simd: S,
    lanes: &[f32; PANEL],
    first: usize,
    x: [f32; N],
    sums: &mut [[S::f32s; V]; N],
) {
    let lanes = S::as_simd_f32s(lanes).0;
    for (sum, x) in sums.iter_mut().zip(x) {
        let x = simd.splat_f32s(x);
        for v in 0..V {
            sum[v] = simd.mul_add_e_f32s(lanes[first + v], x, sum[v]);
        }
    }
}
