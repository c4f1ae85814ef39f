//! Hidden pairs of a panel: outside a lane's interval of keys, or already counted elsewhere.

use super::PANEL;
use crate::Level;
use crate::tile::Keys;
use pulp::{Simd, WithSimd};

/// What each lane of a panel sees.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// First key of each lane's interval, and its end: a lane with `end <= first` sees nothing. `None`: all keys.
    pub interval: Option<&'a [[u32; PANEL]; 2]>,
    /// Codes of lanes and keys, `(lanes, keys)`: a pair whose codes agree is hidden.
    pub except: &'a [([u32; PANEL], &'a [u32])],
}

/// Sets scores of hidden pairs to −∞ and their entries (where there are any) to 0; returns how many each lane keeps.
///
/// # Panics
/// If `scores`, `entries` (where not empty) or codes do not have one panel row, or one code, a key.
pub fn hide(level: Level, keys: &Keys, seen: &Seen<'_>, scores: &mut [f32], entries: &mut [f32]) -> [u32; PANEL] {
    let whole = keys.len() * PANEL;
    assert!(scores.len() == whole && (entries.is_empty() || entries.len() == whole), "scores and entries");
    assert!(seen.except.iter().all(|(_, keys_codes)| keys_codes.len() == keys.len()), "codes");
    let (scores, entries) = (scores.as_chunks_mut().0, entries.as_chunks_mut().0);
    level.run(Hide { keys, seen, scores, entries })
}

struct Hide<'a> {
    keys: &'a Keys,
    seen: &'a Seen<'a>,
    scores: &'a mut [[f32; PANEL]],
    entries: &'a mut [[f32; PANEL]],
}

impl WithSimd for Hide<'_> {
    type Output = [u32; PANEL];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [u32; PANEL] {
        let Self { keys, seen, scores, entries } = self;
        let mut kept = [0; PANEL];
        let (zero, one) = (simd.splat_u32s(0), simd.splat_u32s(1));
        for v in 0..PANEL / S::F32_LANES {
            let interval = seen.interval.map(|ends| ends.each_ref().map(|end| S::as_simd_u32s(end).0[v]));
            let mut count = zero;
            for (at, s) in scores.iter_mut().enumerate() {
                let mut visible = match interval {
                    Some([first, end]) => {
                        let key = simd.splat_u32s(keys.get(at) as u32);
                        let inside = simd.greater_than_or_equal_u32s(key, first);
                        simd.and_m32s(inside, simd.less_than_u32s(key, end))
                    }
                    None => simd.equal_u32s(zero, zero),
                };
                for (lanes, codes) in seen.except {
                    let equal = simd.equal_u32s(S::as_simd_u32s(lanes).0[v], simd.splat_u32s(codes[at]));
                    visible = simd.and_m32s(visible, simd.not_m32s(equal));
                }
                let s = &mut S::as_mut_simd_f32s(s).0[v];
                *s = simd.select_f32s(visible, *s, simd.splat_f32s(f32::NEG_INFINITY));
                if let Some(e) = entries.get_mut(at) {
                    let e = &mut S::as_mut_simd_f32s(e).0[v];
                    *e = simd.select_f32s(visible, *e, simd.splat_f32s(0.0));
                }
                count = simd.add_u32s(count, simd.select_u32s(visible, one, zero));
            }
            S::as_mut_simd_u32s(&mut kept).0[v] = count;
        }
        kept
    }
}
