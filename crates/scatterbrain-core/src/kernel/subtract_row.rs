//! Rows less one row.

use crate::{Level, Matrix};
use pulp::{Simd, WithSimd};

/// `out[j][c] = rows[j][c] − row[c]`.
///
/// # Panics
/// If `row` is not a row of `rows`' columns, there are none of these, or `out` is not as many rows as there are.
pub fn subtract_row(level: Level, rows: Matrix<'_>, row: &[f32], out: &mut [f32]) {
    assert!(row.len() == rows.cols() && out.len() == rows.rows() * row.len(), "rows");
    level.run_wide(SubtractRow { rows, row, out });
}

struct SubtractRow<'a> {
    rows: Matrix<'a>,
    row: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for SubtractRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (from, out) in self.rows.iter().zip(self.out.chunks_exact_mut(self.row.len())) {
            for ((out, x), c) in out.iter_mut().zip(from).zip(self.row) {
                *out = x - c;
            }
        }
    }
}
