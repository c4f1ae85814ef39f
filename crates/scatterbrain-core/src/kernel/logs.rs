//! Logarithms of features that are no exponentials.

use super::PANEL;
use super::ln::{ln_1p_vector, ln_vector};
use crate::{Level, Matrix};
use pulp::{Simd, WithSimd};

/// `out[j][c] = ln(elu(x) + 1)` of `x = rows[j][c]`: x where x ≤ 0, ln(1 + x) elsewhere, within 2 ulp also where x is
/// small; NaN for NaN. One logarithm and one division an element.
///
/// # Panics
/// If `out` does not hold as many elements as `rows`.
pub fn elu_logs(level: Level, rows: Matrix<'_>, out: &mut [f32]) {
    assert_eq!(out.len(), rows.rows() * rows.cols(), "out");
    level.run_wide(EluLogs { rows, out });
}

struct EluLogs<'a> {
    rows: Matrix<'a>,
    out: &'a mut [f32],
}

impl WithSimd for EluLogs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (row, out) in self.rows.iter().zip(self.out.chunks_exact_mut(self.rows.cols())) {
            let (x, last) = S::as_simd_f32s(row);
            let (out, rest) = S::as_mut_simd_f32s(out);
            for (out, x) in out.iter_mut().zip(x) {
                *out = elu_log(simd, *x);
            }
            if !rest.is_empty() {
                simd.partial_store_f32s(rest, elu_log(simd, simd.partial_load_f32s(last)));
            }
        }
    }
}

#[inline(always)]
fn elu_log<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let negative = simd.less_than_or_equal_f32s(x, simd.splat_f32s(0.0));
    simd.select_f32s(negative, x, ln_1p_vector(simd, x))
}

/// `out[j][l] = ln(max(dots[j][l]·factor, 0)) + offset`: rows of [`PANEL`] products into rows of `width` numbers, of
/// which `lanes` from `first` are written. −∞ for products that are not positive, NaN for NaN. One logarithm an element.
///
/// # Panics
/// If `dots` and `out` do not have the same number of rows, or the place does not fit a row.
pub fn relu_logs(
    level: Level,
    dots: &[f32],
    (factor, offset): (f32, f32),
    out: &mut [f32],
    (width, first, lanes): (usize, usize, usize),
) {
    assert!(lanes <= PANEL && first + lanes <= width, "place");
    let (dots, rest) = dots.as_chunks();
    assert!(rest.is_empty() && out.len() == dots.len() * width, "rows");
    level.run_wide(ReluLogs { dots, factor, offset, out, width, first, lanes });
}

struct ReluLogs<'a> {
    dots: &'a [[f32; PANEL]],
    factor: f32,
    offset: f32,
    out: &'a mut [f32],
    width: usize,
    first: usize,
    lanes: usize,
}

impl WithSimd for ReluLogs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (factor, offset) = (simd.splat_f32s(self.factor), simd.splat_f32s(self.offset));
        for (dots, out) in self.dots.iter().zip(self.out.chunks_exact_mut(self.width)) {
            let mut row = [0.0; PANEL];
            for (o, x) in S::as_mut_simd_f32s(&mut row).0.iter_mut().zip(S::as_simd_f32s(dots).0) {
                *o = relu_log(simd, simd.mul_f32s(*x, factor), offset);
            }
            let out = &mut out[self.first..];
            match out.first_chunk_mut::<PANEL>() {
                Some(out) if self.lanes == PANEL => *out = row,
                _ => out[..self.lanes].copy_from_slice(&row[..self.lanes]),
            }
        }
    }
}

#[inline(always)]
fn relu_log<S: Simd>(simd: S, x: S::f32s, offset: S::f32s) -> S::f32s {
    let nothing = simd.less_than_or_equal_f32s(x, simd.splat_f32s(0.0));
    let log = simd.add_f32s(ln_vector(simd, x), offset);
    simd.select_f32s(nothing, simd.splat_f32s(f32::NEG_INFINITY), log)
}
