//! Hidden pairs of a panel: outside a lane's interval of keys, not chosen, or already counted elsewhere.

use super::PANEL;
use crate::Level;
use crate::tile::Keys;
use pulp::{Simd, WithSimd};

/// What each lane of a panel sees.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// First key of each lane's interval, and its end: a lane with `end <= first` sees nothing. `None`: all keys.
    pub interval: Option<&'a [[u32; PANEL]; 2]>,
    /// A key goes only with the lanes whose bits are set. `None`: with all.
    pub only: Option<&'a [u32]>,
    /// Codes of lanes and keys, `(lanes, keys)`: a pair whose codes agree is hidden.
    pub except: &'a [([u32; PANEL], &'a [u32])],
}

/// Sets scores (no NaN among them) of hidden pairs to −∞ and their entries to 0, where there are any of either; returns
/// how many each lane keeps.
///
/// # Panics
/// If `scores`, `entries` (where not empty), bits or codes do not have one panel row, one word or one code a key.
pub fn hide(level: Level, keys: &Keys, seen: &Seen<'_>, scores: &mut [f32], entries: &mut [f32]) -> [u32; PANEL] {
    let whole = keys.len() * PANEL;
    assert!([scores.len(), entries.len()].iter().all(|&x| x == 0 || x == whole), "scores and entries");
    assert!(seen.except.iter().all(|(_, keys_codes)| keys_codes.len() == keys.len()), "codes");
    assert!(seen.only.is_none_or(|only| only.len() == keys.len()), "only");
    let (scores, entries) = (scores.as_chunks_mut().0, entries.as_chunks_mut().0);
    level.run_wide(Hide { keys, seen, scores, entries })
}

/// The bit of each lane.
const LANE_BITS: [u32; PANEL] = {
    let mut bits = [0; PANEL];
    let mut lane = 0;
    while lane < PANEL {
        bits[lane] = 1 << lane;
        lane += 1;
    }
    bits
};

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
        for (v, kept) in S::as_mut_simd_u32s(&mut kept).0.iter_mut().enumerate() {
            let all = simd.equal_u32s(simd.splat_u32s(0), simd.splat_u32s(0));
            let mut count = simd.splat_u32s(0);
            match (seen.interval, seen.only, seen.except) {
                // The common case by itself, with nothing else in the loop.
                (None, None, [(lanes, codes)]) if !scores.is_empty() => {
                    let lanes = S::as_simd_u32s(lanes).0[v];
                    for ((at, s), code) in scores.iter_mut().enumerate().zip(*codes) {
                        keep(simd, differ(simd, lanes, *code), Some(s), entries.get_mut(at), v, &mut count);
                    }
                }
                (interval, only, except) => {
                    let own = S::as_simd_u32s(&LANE_BITS).0[v];
                    let ends = interval.map(|ends| ends.each_ref().map(|end| S::as_simd_u32s(end).0[v]));
                    for at in 0..keys.len() {
                        let mut visible = ends.map_or(all, |ends| within(simd, ends, keys.get(at) as u32));
                        if let Some(only) = only {
                            let bit = simd.and_u32s(simd.splat_u32s(only[at]), own);
                            visible = simd.and_m32s(visible, simd.equal_u32s(bit, own));
                        }
                        for (lanes, codes) in except {
                            let differ = differ(simd, S::as_simd_u32s(lanes).0[v], codes[at]);
                            visible = simd.and_m32s(visible, differ);
                        }
                        keep(simd, visible, scores.get_mut(at), entries.get_mut(at), v, &mut count);
                    }
                }
            }
            *kept = count;
        }
        kept
    }
}

/// first ≤ key < end.
#[inline(always)]
fn within<S: Simd>(simd: S, [first, end]: [S::u32s; 2], key: u32) -> S::m32s {
    let key = simd.splat_u32s(key);
    simd.and_m32s(simd.greater_than_or_equal_u32s(key, first), simd.less_than_u32s(key, end))
}

#[inline(always)]
fn differ<S: Simd>(simd: S, lanes: S::u32s, code: u32) -> S::m32s {
    simd.not_m32s(simd.equal_u32s(lanes, simd.splat_u32s(code)))
}

/// Keeps what is visible of one key's vector, and counts it. By arithmetic: a select of what stands in memory would
/// become a masked store, at some twenty cycles each on Zen.
#[inline(always)]
fn keep<S: Simd>(
    simd: S,
    visible: S::m32s,
    scores: Option<&mut [f32; PANEL]>,
    entries: Option<&mut [f32; PANEL]>,
    v: usize,
    count: &mut S::u32s,
) {
    if let Some(scores) = scores {
        let s = &mut S::as_mut_simd_f32s(scores).0[v];
        let limit = simd.select_f32s(visible, simd.splat_f32s(f32::INFINITY), simd.splat_f32s(f32::NEG_INFINITY));
        *s = simd.min_f32s(*s, limit);
    }
    if let Some(entries) = entries {
        let e = &mut S::as_mut_simd_f32s(entries).0[v];
        let mask = simd.select_u32s(visible, simd.splat_u32s(u32::MAX), simd.splat_u32s(0));
        *e = simd.transmute_f32s_u32s(simd.and_u32s(simd.transmute_u32s_f32s(*e), mask));
    }
    *count = simd.add_u32s(*count, simd.select_u32s(visible, simd.splat_u32s(1), simd.splat_u32s(0)));
}
