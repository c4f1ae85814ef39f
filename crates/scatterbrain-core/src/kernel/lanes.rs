//! Arithmetic of whole panels with one number a lane, or one a panel row.

use super::PANEL;
use crate::Level;
use pulp::{Simd, WithSimd};

/// `panel[c][r] *= factor[r]`.
///
/// # Panics
/// If `panel` is not a multiple of [`PANEL`] long.
pub fn scale_lanes(level: Level, panel: &mut [f32], factor: &[f32; PANEL]) {
    let (panel, rest) = panel.as_chunks_mut();
    assert!(rest.is_empty(), "panel");
    level.run_wide(Blend { panel, factor, other: &[], share: &[0.0; PANEL] });
}

/// `panel[c][r] = factor[r]·panel[c][r] + share[r]·other[c][r]`.
///
/// # Panics
/// If `panel` and `other` are not equally long, or not a multiple of [`PANEL`].
pub fn blend_lanes(level: Level, panel: &mut [f32], factor: &[f32; PANEL], other: &[f32], share: &[f32; PANEL]) {
    assert_eq!(panel.len(), other.len(), "panel and other");
    let (panel, rest) = panel.as_chunks_mut();
    assert!(rest.is_empty(), "panel");
    level.run_wide(Blend { panel, factor, other: other.as_chunks().0, share });
}

struct Blend<'a> {
    panel: &'a mut [[f32; PANEL]],
    factor: &'a [f32; PANEL],
    other: &'a [[f32; PANEL]],
    share: &'a [f32; PANEL],
}

impl WithSimd for Blend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for v in 0..PANEL / S::F32_LANES {
            let factor = S::as_simd_f32s(self.factor).0[v];
            let share = S::as_simd_f32s(self.share).0[v];
            for (c, x) in self.panel.iter_mut().enumerate() {
                let x = &mut S::as_mut_simd_f32s(x).0[v];
                *x = simd.mul_f32s(*x, factor);
                if let Some(y) = self.other.get(c) {
                    *x = simd.mul_add_e_f32s(S::as_simd_f32s(y).0[v], share, *x);
                }
            }
        }
    }
}

/// `sum[r] += Σ_c panel[c][r]`.
///
/// # Panics
/// If `panel` is not a multiple of [`PANEL`] long.
pub fn add_lanes(level: Level, panel: &[f32], sum: &mut [f32; PANEL]) {
    let (panel, rest) = panel.as_chunks();
    assert!(rest.is_empty(), "panel");
    level.run_wide(AddLanes { panel, sum });
}

struct AddLanes<'a> {
    panel: &'a [[f32; PANEL]],
    sum: &'a mut [f32; PANEL],
}

impl WithSimd for AddLanes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (v, sum) in S::as_mut_simd_f32s(self.sum).0.iter_mut().enumerate() {
            for x in self.panel {
                *sum = simd.add_f32s(*sum, S::as_simd_f32s(x).0[v]);
            }
        }
    }
}

/// `tops[r] = max(tops[r], max_j weights[j] · panel[j][r])`, of numbers whose products are none of them NaN: one would be
/// dropped or take the maximum's place, as the CPU has it.
///
/// # Panics
/// If `panel` has not a panel row for each of the `weights`.
pub fn raise_weighted(level: Level, panel: &[f32], weights: &[f32], tops: &mut [f32; PANEL]) {
    let (panel, rest) = panel.as_chunks();
    assert!(rest.is_empty() && panel.len() == weights.len(), "panel");
    level.run_wide(RaiseWeighted { panel, weights, tops });
}

struct RaiseWeighted<'a> {
    panel: &'a [[f32; PANEL]],
    weights: &'a [f32],
    tops: &'a mut [f32; PANEL],
}

impl WithSimd for RaiseWeighted<'_> {
    type Output = ();

    /// Four chains, each of which waits for its last maximum.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (v, top) in S::as_mut_simd_f32s(self.tops).0.iter_mut().enumerate() {
            let mut tops = [*top; 4];
            for (panel, weights) in self.panel.chunks(4).zip(self.weights.chunks(4)) {
                for (top, (x, weight)) in tops.iter_mut().zip(panel.iter().zip(weights)) {
                    let x = simd.mul_f32s(S::as_simd_f32s(x).0[v], simd.splat_f32s(*weight));
                    *top = simd.max_f32s(*top, x);
                }
            }
            *top = tops.into_iter().fold(*top, |a, b| simd.max_f32s(a, b));
        }
    }
}
