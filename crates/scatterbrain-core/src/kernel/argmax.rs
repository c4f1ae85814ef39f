//! The largest of a panel's rows in every lane, and those above a bound.

use super::{PANEL, WORD};
use crate::Level;
use pulp::{Simd, WithSimd};

/// The largest `panel[l][r] + offset[l]` of every lane, as its row l; the first of equals, 0 where none exceeds −∞.
///
/// # Panics
/// If `panel` does not hold one row of lanes an offset.
///
/// ```
/// use scatterbrain_core::{Level, kernel};
/// let mut panel = vec![0.0; 3 * kernel::PANEL];
/// panel[2 * kernel::PANEL] = 5.0; // row 2 of lane 0
/// let rows = kernel::lane_argmax(Level::detect(), &panel, &[0.0, 1.0, 0.0]);
/// assert_eq!(rows[..2], [2, 1]);
/// ```
pub fn lane_argmax(level: Level, panel: &[f32], offset: &[f32]) -> [u32; PANEL] {
    assert_eq!(panel.len(), offset.len() * PANEL, "panel");
    let mut rows = [0; PANEL];
    level.run_wide(LaneArgmax { panel: panel.as_chunks().0, offset, rows: &mut rows });
    rows
}

struct LaneArgmax<'a> {
    panel: &'a [[f32; PANEL]],
    offset: &'a [f32],
    rows: &'a mut [u32; PANEL],
}

impl WithSimd for LaneArgmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (v, row) in S::as_mut_simd_u32s(self.rows).0.iter_mut().enumerate() {
            let (mut top, mut best) = (simd.splat_f32s(f32::NEG_INFINITY), simd.splat_u32s(0));
            for (l, (x, o)) in self.panel.iter().zip(self.offset).enumerate() {
                let x = simd.add_f32s(S::as_simd_f32s(x).0[v], simd.splat_f32s(*o));
                let larger = simd.greater_than_f32s(x, top);
                top = simd.select_f32s(larger, x, top);
                best = simd.select_u32s(larger, simd.splat_u32s(l as u32), best);
            }
            *row = best;
        }
    }
}

/// Bit b of `chosen[w][r]` says whether `panel[l][r] + offset[l]` is at least `least[r]`, l = 32·w + b; for
/// [`for_chosen`](super::for_chosen). `chosen` is overwritten.
///
/// # Panics
/// If `panel` does not hold one row of lanes an offset, or `chosen` one for every 32 of them or part of them.
///
/// ```
/// use scatterbrain_core::{Level, kernel};
/// let panel = vec![1.0; 2 * kernel::PANEL];
/// let mut chosen = vec![0; kernel::PANEL];
/// kernel::lanes_from(Level::detect(), &panel, &[0.0, 0.5], &[1.25; kernel::PANEL], &mut chosen);
/// assert_eq!(chosen, [0b10; kernel::PANEL]);
/// ```
pub fn lanes_from(level: Level, panel: &[f32], offset: &[f32], least: &[f32; PANEL], chosen: &mut [u32]) {
    assert_eq!(panel.len(), offset.len() * PANEL, "panel");
    assert_eq!(chosen.len(), offset.len().div_ceil(WORD) * PANEL, "chosen");
    level.run_wide(LanesFrom { panel: panel.as_chunks().0, offset, least, chosen: chosen.as_chunks_mut().0 });
}

struct LanesFrom<'a> {
    panel: &'a [[f32; PANEL]],
    offset: &'a [f32],
    least: &'a [f32; PANEL],
    chosen: &'a mut [[u32; PANEL]],
}

impl WithSimd for LanesFrom<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let zero = simd.splat_u32s(0);
        let words = self.panel.chunks(WORD).zip(self.offset.chunks(WORD)).zip(self.chosen);
        for ((panel, offset), chosen) in words {
            for (v, chosen) in S::as_mut_simd_u32s(chosen).0.iter_mut().enumerate() {
                let least = S::as_simd_f32s(self.least).0[v];
                *chosen = zero;
                for (b, (x, o)) in panel.iter().zip(offset).enumerate() {
                    let x = simd.add_f32s(S::as_simd_f32s(x).0[v], simd.splat_f32s(*o));
                    let bit = simd.splat_u32s(1 << b);
                    let from = simd.greater_than_or_equal_f32s(x, least);
                    *chosen = simd.or_u32s(*chosen, simd.select_u32s(from, bit, zero));
                }
            }
        }
    }
}
