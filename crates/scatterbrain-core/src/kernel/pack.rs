//! Between rows and panels: transposition, eight by eight.

use super::{Listed, PANEL, RowsOf};
use crate::arch::transpose::{BLOCK, Transpose, WithTranspose};
use crate::{Level, Matrix};
use pulp::Simd;

/// Packs the listed rows (at most [`PANEL`]), times `factor`, as `out[column][PANEL]`; missing rows are zero.
///
/// # Panics
/// If more than [`PANEL`] rows are listed or `out` is not `cols * PANEL` long.
pub fn pack(level: Level, matrix: Matrix<'_>, rows: &[u32], factor: f32, out: &mut [f32]) {
    assert!(rows.len() <= PANEL && out.len() == matrix.cols() * PANEL, "a panel of {} rows", rows.len());
    let listed = Listed { matrix, keys: rows };
    level.run_transposing(Pack { rows: listed, count: rows.len(), factor, out: out.as_chunks_mut().0 });
}

/// Packs up to [`PANEL`] contiguous rows of `cols` elements as `out[column][PANEL]`; missing rows are zero.
///
/// # Panics
/// If `rows` holds more than a panel or `out` is not `cols * PANEL` long.
pub fn pack_rows(level: Level, rows: &[f32], cols: usize, out: &mut [f32]) {
    assert!(rows.len() <= cols * PANEL && out.len() == cols * PANEL, "a panel");
    let count = rows.len() / cols;
    level.run_transposing(Pack { rows: Flat { rows, cols }, count, factor: 1.0, out: out.as_chunks_mut().0 });
}

/// Contiguous rows.
#[derive(Clone, Copy)]
struct Flat<'a> {
    rows: &'a [f32],
    cols: usize,
}

impl<'a> RowsOf<'a> for Flat<'a> {
    #[inline(always)]
    fn row(&self, at: usize) -> &'a [f32] {
        &self.rows[at * self.cols..(at + 1) * self.cols]
    }

    #[inline(always)]
    fn each<T>(&self, with: &[T], mut f: impl FnMut(&'a [f32], &T)) {
        self.rows.chunks_exact(self.cols).zip(with).for_each(|(row, with)| f(row, with));
    }
}

struct Pack<'a, R> {
    rows: R,
    count: usize,
    factor: f32,
    out: &'a mut [[f32; PANEL]],
}

impl<'r, R: RowsOf<'r>> WithTranspose for Pack<'_, R> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S, transpose: impl Transpose) {
        let Self { rows, count, factor, out } = self;
        for first in (0..PANEL).step_by(BLOCK) {
            // Missing rows are read as the last one and dropped.
            let at: [usize; BLOCK] = std::array::from_fn(|r| (first + r).min(count.max(1) - 1));
            let there: [bool; BLOCK] = std::array::from_fn(|r| first + r < count);
            if first >= count {
                out.iter_mut().for_each(|out| out[first..first + BLOCK].fill(0.0));
                continue;
            }
            let rows = at.map(|r| rows.row(r).as_chunks::<BLOCK>());
            let (whole, rest) = out.as_chunks_mut::<BLOCK>();
            for (block, out) in whole.iter_mut().enumerate() {
                let columns = transpose.transpose(&rows.map(|row| row.0[block]));
                for (out, column) in out.iter_mut().zip(columns) {
                    for r in 0..BLOCK {
                        out[first + r] = if there[r] { column[r] * factor } else { 0.0 };
                    }
                }
            }
            for (column, out) in rest.iter_mut().enumerate() {
                for r in 0..BLOCK {
                    out[first + r] = if there[r] { rows[r].1[column] * factor } else { 0.0 };
                }
            }
        }
    }
}

/// Writes lane `lane` of `panel[column][PANEL]`, times `factor`, to a row.
#[inline]
pub fn unpack(panel: &[f32], lane: usize, factor: f32, out: &mut [f32]) {
    for (o, x) in out.iter_mut().zip(panel[lane..].iter().step_by(PANEL)) {
        *o = x * factor;
    }
}

/// Writes the first lanes of `panel[column][PANEL]` as contiguous rows, as many as `out` holds.
///
/// # Panics
/// If `out` is not a number of rows, up to [`PANEL`], of `panel.len() / PANEL` columns.
pub fn unpack_rows(level: Level, panel: &[f32], out: &mut [f32]) {
    let cols = panel.len() / PANEL;
    assert!(panel.len().is_multiple_of(PANEL) && out.len() <= panel.len() && out.len().is_multiple_of(cols), "rows");
    level.run_transposing(Unpack { panel: panel.as_chunks().0, out });
}

struct Unpack<'a> {
    panel: &'a [[f32; PANEL]],
    out: &'a mut [f32],
}

impl WithTranspose for Unpack<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S, transpose: impl Transpose) {
        let cols = self.panel.len();
        let (whole, rest) = self.panel.as_chunks::<BLOCK>();
        let ragged = BLOCK * whole.len();
        for (half, out) in self.out.chunks_mut(BLOCK * cols).enumerate() {
            let first = BLOCK * half;
            for (block, columns) in whole.iter().enumerate() {
                let columns = columns.map(|lanes| *lanes[first..].first_chunk().expect("half a panel"));
                let rows = transpose.transpose(&columns);
                for (out, row) in out.chunks_exact_mut(cols).zip(rows) {
                    out[BLOCK * block..BLOCK * (block + 1)].copy_from_slice(&row);
                }
            }
            for (column, lanes) in rest.iter().enumerate() {
                for (out, x) in out.chunks_exact_mut(cols).zip(&lanes[first..]) {
                    out[ragged + column] = *x;
                }
            }
        }
    }
}
