//! Logarithms of features to features, below a reference.

use super::PANEL;
use super::exp2::exp_vector_fast;
use crate::Level;
use pulp::{Simd, WithSimd};

/// `top[l] = max(top[l], max_j rows[j][l])` over contiguous rows as long as `top`.
///
/// # Panics
/// If `top` is empty, or `rows` not a whole number of rows.
pub fn raise(level: Level, rows: &[f32], top: &mut [f32]) {
    assert!(!top.is_empty() && rows.len().is_multiple_of(top.len()), "rows of {}", top.len());
    level.run_wide(Raise { rows, top });
}

struct Raise<'a> {
    rows: &'a [f32],
    top: &'a mut [f32],
}

impl WithSimd for Raise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.top.len();
        let (vectors, tail) = S::as_mut_simd_f32s(self.top);
        for row in self.rows.chunks_exact(width) {
            let (x, rest) = S::as_simd_f32s(row);
            for (t, x) in vectors.iter_mut().zip(x) {
                *t = simd.max_f32s(*t, *x);
            }
            for (t, x) in tail.iter_mut().zip(rest) {
                *t = t.max(*x);
            }
        }
    }
}

/// `rows[j][l] = exp(rows[j][l] − reference[l])` in place, over contiguous rows as long as `reference`; −∞ gives 0
/// whatever the reference. Differences up to 87, or ∞; relative error at most 2.5e-7 + 1.2e-7·|difference|.
///
/// # Panics
/// If `reference` is empty, or `rows` not a whole number of rows.
pub fn exp_below(level: Level, rows: &mut [f32], reference: &[f32]) {
    assert!(!reference.is_empty() && rows.len().is_multiple_of(reference.len()), "rows of {}", reference.len());
    level.run_wide(ExpBelow { rows, reference });
}

struct ExpBelow<'a> {
    rows: &'a mut [f32],
    reference: &'a [f32],
}

impl WithSimd for ExpBelow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (reference, last) = S::as_simd_f32s(self.reference);
        for row in self.rows.chunks_exact_mut(self.reference.len()) {
            let (x, rest) = S::as_mut_simd_f32s(row);
            for (x, r) in x.iter_mut().zip(reference) {
                *x = exp_difference(simd, *x, *r);
            }
            if !rest.is_empty() {
                let y = exp_difference(simd, simd.partial_load_f32s(rest), simd.partial_load_f32s(last));
                simd.partial_store_f32s(rest, y);
            }
        }
    }
}

/// exp(x − reference), 0 for x = −∞.
#[inline(always)]
fn exp_difference<S: Simd>(simd: S, x: S::f32s, reference: S::f32s) -> S::f32s {
    let y = exp_vector_fast(simd, simd.sub_f32s(x, reference));
    let nothing = simd.equal_f32s(x, simd.splat_f32s(f32::NEG_INFINITY));
    simd.select_f32s(nothing, simd.splat_f32s(0.0), y)
}

/// The largest `panel[l][r] + offset[l]` of every lane.
///
/// # Panics
/// If `panel` does not hold one row of lanes an offset.
pub fn lane_tops(level: Level, panel: &[f32], offset: &[f32]) -> [f32; PANEL] {
    assert_eq!(panel.len(), offset.len() * PANEL, "panel");
    let mut tops = [f32::NEG_INFINITY; PANEL];
    level.run_wide(LaneTops { panel: panel.as_chunks().0, offset, tops: &mut tops });
    tops
}

struct LaneTops<'a> {
    panel: &'a [[f32; PANEL]],
    offset: &'a [f32],
    tops: &'a mut [f32; PANEL],
}

impl WithSimd for LaneTops<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (v, top) in S::as_mut_simd_f32s(self.tops).0.iter_mut().enumerate() {
            for (x, o) in self.panel.iter().zip(self.offset) {
                *top = simd.max_f32s(*top, simd.add_f32s(S::as_simd_f32s(x).0[v], simd.splat_f32s(*o)));
            }
        }
    }
}

/// `panel[l][r] = exp(panel[l][r] + offset[l] − scale[r])` in place, `scale` finite; else the domain and error of
/// [`exp_below`].
///
/// # Panics
/// If `panel` does not hold one row of lanes an offset.
pub fn exp_lanes(level: Level, panel: &mut [f32], offset: &[f32], scale: &[f32; PANEL]) {
    assert_eq!(panel.len(), offset.len() * PANEL, "panel");
    level.run_wide(ExpLanes { panel: panel.as_chunks_mut().0, offset, scale });
}

struct ExpLanes<'a> {
    panel: &'a mut [[f32; PANEL]],
    offset: &'a [f32],
    scale: &'a [f32; PANEL],
}

impl WithSimd for ExpLanes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (v, scale) in S::as_simd_f32s(self.scale).0.iter().enumerate() {
            for (x, o) in self.panel.iter_mut().zip(self.offset) {
                let x = &mut S::as_mut_simd_f32s(x).0[v];
                *x = exp_vector_fast(simd, simd.sub_f32s(simd.add_f32s(*x, simd.splat_f32s(*o)), *scale));
            }
        }
    }
}

/// `out[j][l] = dots[j][l]·factor + offset[j]`: rows of [`PANEL`] products into rows of `width` numbers, of which the
/// first `lanes` from `first` are written.
///
/// # Panics
/// If rows have no element, `dots`, `offset` and `out` not the same number of them, or the place does not fit a row.
pub fn affine_rows(
    level: Level,
    dots: &[f32],
    (factor, offset): (f32, &[f32]),
    out: &mut [f32],
    (width, first, lanes): (usize, usize, usize),
) {
    assert!(width > 0 && lanes <= PANEL && first + lanes <= width, "place");
    assert!(dots.len() == offset.len() * PANEL && out.len() == offset.len() * width, "rows");
    level.run_wide(AffineRows { dots: dots.as_chunks().0, factor, offset, out, width, first, lanes });
}

struct AffineRows<'a> {
    dots: &'a [[f32; PANEL]],
    factor: f32,
    offset: &'a [f32],
    out: &'a mut [f32],
    width: usize,
    first: usize,
    lanes: usize,
}

impl WithSimd for AffineRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let factor = simd.splat_f32s(self.factor);
        for ((dots, offset), out) in self.dots.iter().zip(self.offset).zip(self.out.chunks_exact_mut(self.width)) {
            let offset = simd.splat_f32s(*offset);
            let mut row = [0.0; PANEL];
            for (o, x) in S::as_mut_simd_f32s(&mut row).0.iter_mut().zip(S::as_simd_f32s(dots).0) {
                *o = simd.mul_add_e_f32s(*x, factor, offset);
            }
            let out = &mut out[self.first..];
            match out.first_chunk_mut::<PANEL>() {
                Some(out) if self.lanes == PANEL => *out = row,
                _ => out[..self.lanes].copy_from_slice(&row[..self.lanes]),
            }
        }
    }
}

/// `out[l][r] = dots[l][r]·factor + offset[r]`: [`affine_rows`] with rows in lanes, by the same arithmetic.
///
/// # Panics
/// If `dots` is not a multiple of [`PANEL`] long, or `out` not as long.
pub fn affine_lanes(level: Level, dots: &[f32], (factor, offset): (f32, &[f32; PANEL]), out: &mut [f32]) {
    let (dots, rest) = dots.as_chunks();
    assert!(rest.is_empty() && out.len() == dots.len() * PANEL, "panels");
    level.run_wide(AffineLanes { dots, factor, offset, out: out.as_chunks_mut().0 });
}

struct AffineLanes<'a> {
    dots: &'a [[f32; PANEL]],
    factor: f32,
    offset: &'a [f32; PANEL],
    out: &'a mut [[f32; PANEL]],
}

impl WithSimd for AffineLanes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let factor = simd.splat_f32s(self.factor);
        for (v, offset) in S::as_simd_f32s(self.offset).0.iter().enumerate() {
            for (dots, out) in self.dots.iter().zip(&mut *self.out) {
                S::as_mut_simd_f32s(out).0[v] = simd.mul_add_e_f32s(S::as_simd_f32s(dots).0[v], factor, *offset);
            }
        }
    }
}
