//! Rows from and to scattered places. In one loop without calls, so that the loads of many rows are under way at once.

use crate::{Level, Matrix};
use pulp::{Simd, WithSimd};

/// `out[j] = rows(keys[j])`, one row below the other.
///
/// # Panics
/// If `out` is not `keys.len() * rows.cols()` long.
pub fn gather_rows(level: Level, rows: Matrix<'_>, keys: &[u32], out: &mut [f32]) {
    assert_eq!(out.len(), keys.len() * rows.cols(), "out");
    level.run_wide(Gather { rows, keys, out });
}

struct Gather<'a> {
    rows: Matrix<'a>,
    keys: &'a [u32],
    out: &'a mut [f32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (out, key) in self.out.chunks_exact_mut(self.rows.cols()).zip(self.keys) {
            let (from, last) = S::as_simd_f32s(self.rows.row(*key as usize));
            let (to, rest) = S::as_mut_simd_f32s(out);
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
            for (to, from) in rest.iter_mut().zip(last) {
                *to = *from;
            }
        }
    }
}

/// `out[keys[j]] = kept[j] · out[keys[j]] + rows[j]` over rows of `cols` elements; where `kept[j]` is 0, what stood
/// there does not matter, NaN included.
///
/// # Panics
/// If rows have no element, there is not a row and a factor a key, or a key names no row of `out`.
pub fn scatter_rows(level: Level, rows: &[f32], cols: usize, keys: &[u32], kept: &[f32], out: &mut [f32]) {
    assert!(cols > 0 && rows.len() == keys.len() * cols && kept.len() == keys.len(), "a row and a factor a key");
    level.run_wide(Scatter { rows, cols, keys, kept, out });
}

struct Scatter<'a> {
    rows: &'a [f32],
    cols: usize,
    keys: &'a [u32],
    kept: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let cols = self.cols;
        for ((row, key), kept) in self.rows.chunks_exact(cols).zip(self.keys).zip(self.kept) {
            let out = &mut self.out[*key as usize * cols..(*key as usize + 1) * cols];
            if *kept == 0.0 {
                out.copy_from_slice(row);
                continue;
            }
            let (from, last) = S::as_simd_f32s(row);
            let (to, rest) = S::as_mut_simd_f32s(out);
            for (to, from) in to.iter_mut().zip(from) {
                *to = simd.mul_add_e_f32s(*to, simd.splat_f32s(*kept), *from);
            }
            for (to, from) in rest.iter_mut().zip(last) {
                *to = kept * *to + from;
            }
        }
    }
}
