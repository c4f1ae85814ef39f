//! Projections of a panel to codes of its lanes.

use super::PANEL;
use crate::Level;
use pulp::{Simd, WithSimd};

/// Σ_j 2^j · \[panel\[j\]\[r\] ≥ 0\] of every lane: the signs of up to 32 projections. NaN counts as negative.
///
/// # Panics
/// If `panel` is not a multiple of [`PANEL`] long, or holds more than 32 rows of lanes.
pub fn sign_bits(level: Level, panel: &[f32]) -> [u32; PANEL] {
    let (panel, rest) = panel.as_chunks();
    assert!(rest.is_empty() && panel.len() <= 32, "panel");
    let mut bits = [0; PANEL];
    level.run(SignBits { panel, bits: &mut bits });
    bits
}

struct SignBits<'a> {
    panel: &'a [[f32; PANEL]],
    bits: &'a mut [u32; PANEL],
}

impl WithSimd for SignBits<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let zero = simd.splat_u32s(0);
        for (v, bits) in S::as_mut_simd_u32s(self.bits).0.iter_mut().enumerate() {
            let (mut bit, mut code) = (simd.splat_u32s(1), zero);
            for x in self.panel {
                let positive = simd.greater_than_or_equal_f32s(S::as_simd_f32s(x).0[v], simd.splat_f32s(0.0));
                code = simd.or_u32s(code, simd.select_u32s(positive, bit, zero));
                bit = simd.add_u32s(bit, bit);
            }
            *bits = code;
        }
    }
}

/// The position of the largest of `[x, −x]`, x the projections `panel[..][r]` of a lane; the first on ties, 0 where
/// nothing is larger than −∞. A NaN is never largest.
///
/// # Panics
/// If `panel` is not a multiple of [`PANEL`] long.
pub fn largest_signed(level: Level, panel: &[f32]) -> [u32; PANEL] {
    let (panel, rest) = panel.as_chunks();
    assert!(rest.is_empty(), "panel");
    let mut at = [0; PANEL];
    level.run(LargestSigned { panel, at: &mut at });
    at
}

struct LargestSigned<'a> {
    panel: &'a [[f32; PANEL]],
    at: &'a mut [u32; PANEL],
}

impl WithSimd for LargestSigned<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let nothing = (simd.splat_f32s(f32::NEG_INFINITY), simd.splat_u32s(0));
        for (v, at) in S::as_mut_simd_u32s(self.at).0.iter_mut().enumerate() {
            let (mut front, mut back) = (nothing, nothing);
            for (i, x) in self.panel.iter().enumerate() {
                let x = S::as_simd_f32s(x).0[v];
                let i = simd.splat_u32s(i as u32);
                front = larger(simd, front, (x, i));
                back = larger(simd, back, (simd.neg_f32s(x), i));
            }
            let shift = simd.splat_u32s(self.panel.len() as u32);
            *at = larger(simd, front, (back.0, simd.add_u32s(back.1, shift))).1;
        }
    }
}

/// The second, where its number is larger.
#[inline(always)]
fn larger<S: Simd>(simd: S, first: (S::f32s, S::u32s), second: (S::f32s, S::u32s)) -> (S::f32s, S::u32s) {
    let larger = simd.greater_than_f32s(second.0, first.0);
    (simd.select_f32s(larger, second.0, first.0), simd.select_u32s(larger, second.1, first.1))
}
