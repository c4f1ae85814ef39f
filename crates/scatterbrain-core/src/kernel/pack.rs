//! Between rows and panels: transposition, eight by eight.

use super::{Listed, PANEL, RowsOf};
use crate::arch::transpose::{BLOCK, Transpose, WithTranspose};
use crate::{Level, Matrix};
use pulp::Simd;
use std::ops::Range;

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
/// If `rows` is no whole number of rows or holds more than a panel, or `out` is not `cols * PANEL` long.
pub fn pack_rows(level: Level, rows: &[f32], cols: usize, out: &mut [f32]) {
    assert!(cols > 0 && rows.len().is_multiple_of(cols), "rows of {cols} columns");
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
}

struct Pack<'a, R> {
    rows: R,
    count: usize,
    factor: f32,
    out: &'a mut [[f32; PANEL]],
}

impl<'r, R: RowsOf<'r>> WithTranspose for Pack<'_, R> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S, transpose: impl Transpose) {
        let Self { rows, count, factor, out } = self;
        for first in (0..PANEL).step_by(BLOCK) {
            if first + BLOCK <= count {
                // Plain loops, not `from_fn` and `map`: those are calls where crates are compiled apart.
                let mut eight: [&[f32]; BLOCK] = [&[]; BLOCK];
                for r in 0..BLOCK {
                    eight[r] = rows.row(first + r);
                }
                pack_eight(simd, transpose, eight, factor, first, out);
            } else {
                pack_some(&rows, first..count, factor, out);
            }
        }
    }
}

/// Eight rows to lanes `first..first + 8`.
#[inline(always)]
fn pack_eight<S: Simd>(
    simd: S,
    transpose: impl Transpose,
    rows: [&[f32]; BLOCK],
    factor: f32,
    first: usize,
    out: &mut [[f32; PANEL]],
) {
    let (mut blocks, mut tails): ([&[[f32; BLOCK]]; BLOCK], [&[f32]; BLOCK]) = ([&[]; BLOCK], [&[]; BLOCK]);
    for r in 0..BLOCK {
        (blocks[r], tails[r]) = rows[r].as_chunks();
    }
    let (whole, rest) = out.as_chunks_mut::<BLOCK>();
    for (block, out) in whole.iter_mut().enumerate() {
        let mut square = [[0.0; BLOCK]; BLOCK];
        for r in 0..BLOCK {
            square[r] = blocks[r][block];
        }
        let columns = transpose.transpose(square);
        for (out, column) in out.iter_mut().zip(columns) {
            let out = S::as_mut_simd_f32s(&mut out[first..first + BLOCK]).0;
            for (out, x) in out.iter_mut().zip(S::as_simd_f32s(&column).0) {
                *out = simd.mul_f32s(*x, simd.splat_f32s(factor));
            }
        }
    }
    for (column, out) in rest.iter_mut().enumerate() {
        for (out, row) in out[first..].iter_mut().zip(&tails) {
            *out = row[column] * factor;
        }
    }
}

/// Rows of a range, fewer than eight, to lanes from its start; the lanes after them are zero.
#[inline(always)]
fn pack_some<'r>(rows: &impl RowsOf<'r>, range: Range<usize>, factor: f32, out: &mut [[f32; PANEL]]) {
    for lane in range.start..range.start + BLOCK {
        if range.contains(&lane) {
            out.iter_mut().zip(rows.row(lane)).for_each(|(out, x)| out[lane] = x * factor);
        } else {
            out.iter_mut().for_each(|out| out[lane] = 0.0);
        }
    }
}

/// Writes lane `lane` of `panel[column][PANEL]`, times `factor`, to a row, as many columns as both have.
///
/// # Panics
/// If `lane` is beyond the end of the panel.
#[inline]
pub fn unpack(panel: &[f32], lane: usize, factor: f32, out: &mut [f32]) {
    for (o, x) in out.iter_mut().zip(panel[lane..].iter().step_by(PANEL)) {
        *o = x * factor;
    }
}

/// Writes the first lanes of `panel[column][PANEL]` as contiguous rows, as many as `out` holds.
///
/// # Panics
/// If the panel has no column, or `out` is not a number of rows, up to [`PANEL`], of its columns.
pub fn unpack_rows(level: Level, panel: &[f32], out: &mut [f32]) {
    let cols = panel.len() / PANEL;
    assert!(cols > 0 && panel.len().is_multiple_of(PANEL), "a panel");
    assert!(out.len() <= panel.len() && out.len().is_multiple_of(cols), "rows");
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
                let mut square = [[0.0; BLOCK]; BLOCK];
                for c in 0..BLOCK {
                    square[c] = *columns[c][first..].first_chunk().expect("half a panel");
                }
                let rows = transpose.transpose(square);
                for (out, row) in out.chunks_exact_mut(cols).zip(rows) {
                    *out[BLOCK * block..].first_chunk_mut().expect("a block of columns") = row;
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
