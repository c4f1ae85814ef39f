//! The online softmax of a panel: running reference, 2^x, running sums (Milakov and Gimelshein 2018), and a background's
//! weights subtracted on the way.
//!
//! Scores are base-2 logarithms: the scale's factor log₂e is folded into the queries. Each lane keeps a reference
//! `max`, and sums relative to 2^max. The reference is raised only when a score exceeds it by more than [`SLACK`]:
//! sums may then grow to 2^SLACK a key, and what was summed before is almost never rescaled. A lane's arithmetic
//! depends on its own scores alone.

use super::PANEL;
use super::exp2::exp2_vector;
use crate::Level;
use pulp::{Simd, WithSimd};

/// How far (log₂) a score may exceed the reference.
pub const SLACK: f32 = 8.0;
/// 2⁻¹¹⁰ of a lane's reference: less than that is not subtracted.
pub const NOTHING: f32 = 7.703_72e-34;

/// Running state of the lanes of a panel.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// Reference of each lane, log₂; −∞ before anything was seen.
    pub max: [f32; PANEL],
    /// Σ 2^(score − max).
    pub sum: [f32; PANEL],
    /// Factor by which the last call shrank what was summed before.
    pub rescale: [f32; PANEL],
}

impl Default for Running {
    fn default() -> Self {
        Self { max: [f32::NEG_INFINITY; PANEL], sum: [0.0; PANEL], rescale: [1.0; PANEL] }
    }
}

/// Background weights that leave the scores of the same keys.
#[derive(Debug)]
pub struct Subtract<'a> {
    /// `[key][PANEL]`, in each lane's own scale; 0 where the pair is hidden.
    pub entries: &'a [f32],
    /// log₂ of each lane's scale, at most 127 more than the reference: start that at the scale.
    pub log_scale: &'a [f32; PANEL],
    /// Running sums of the entries.
    pub taken: &'a mut Taken,
}

/// Σ of background weights on the support, and of their magnitudes, in the lanes' own scales.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "the line above says both")]
pub struct Taken {
    pub sum: [f32; PANEL],
    pub magnitude: [f32; PANEL],
}

/// Replaces `scores[j][r]` by 2^(score − max_r), after raising max_r where a score exceeds it by more than [`SLACK`],
/// adds to the sums, and then subtracts `2^(log_scale_r − max_r) · entries[j][r]` where that is over
/// [`NOTHING`]. No weight is subnormal but by cancellation. A score of −∞ weighs nothing; NaN and ∞ are no scores, and spoil
/// their lane.
/// `rescale` is 2^(old max − new max), 1 where the reference stood. Returns whether any reference moved.
///
/// # Panics
/// If `scores` is not a multiple of [`PANEL`] long, or the entries are not as many.
pub fn softmax(level: Level, scores: &mut [f32], running: &mut Running, subtract: Option<Subtract<'_>>) -> bool {
    let (scores, rest) = scores.as_chunks_mut::<PANEL>();
    assert!(rest.is_empty(), "scores");
    if let Some(subtract) = &subtract {
        assert_eq!(subtract.entries.len(), scores.len() * PANEL, "entries");
    }
    if scores.is_empty() {
        running.rescale = [1.0; PANEL];
        return false;
    }
    level.run_wide(Softmax { scores, running, subtract })
}

struct Softmax<'a> {
    scores: &'a mut [[f32; PANEL]],
    running: &'a mut Running,
    subtract: Option<Subtract<'a>>,
}

impl WithSimd for Softmax<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let Self { scores, running, mut subtract } = self;
        let mut moved = false;
        if S::F32_LANES == PANEL {
            some_vectors::<S, 1>(simd, scores, running, &mut subtract, 0, &mut moved);
            return moved;
        }
        for pair in (0..PANEL / S::F32_LANES).step_by(2) {
            some_vectors::<S, 2>(simd, scores, running, &mut subtract, pair, &mut moved);
        }
        moved
    }
}

/// V vectors of lanes from `first`.
#[inline(always)]
fn some_vectors<S: Simd, const V: usize>(
    simd: S,
    scores: &mut [[f32; PANEL]],
    running: &mut Running,
    subtract: &mut Option<Subtract<'_>>,
    first: usize,
    moved: &mut bool,
) {
    let mut bases = [simd.splat_f32s(0.0); V];
    for v in 0..V {
        bases[v] = raise(simd, scores, running, first + v, moved);
    }
    weigh(simd, scores, running, bases, first);
    if let Some(subtract) = subtract {
        for v in 0..V {
            take(simd, scores, subtract, bases[v], first + v);
        }
    }
}

/// Moves the references of one vector of lanes and returns what scores are taken from.
#[inline(always)]
pub(super) fn raise<S: Simd>(
    simd: S,
    scores: &[[f32; PANEL]],
    running: &mut Running,
    v: usize,
    moved: &mut bool,
) -> S::f32s {
    let mut tops = [simd.splat_f32s(f32::NEG_INFINITY); 2];
    let (pairs, last) = scores.as_chunks::<2>();
    for [a, b] in pairs {
        tops[0] = simd.max_f32s(tops[0], S::as_simd_f32s(a).0[v]);
        tops[1] = simd.max_f32s(tops[1], S::as_simd_f32s(b).0[v]);
    }
    for a in last {
        tops[0] = simd.max_f32s(tops[0], S::as_simd_f32s(a).0[v]);
    }
    let top = simd.max_f32s(tops[0], tops[1]);
    let max = &mut S::as_mut_simd_f32s(&mut running.max).0[v];
    let sum = &mut S::as_mut_simd_f32s(&mut running.sum).0[v];
    let rescale = &mut S::as_mut_simd_f32s(&mut running.rescale).0[v];
    let exceeds = simd.greater_than_f32s(top, simd.add_f32s(*max, simd.splat_f32s(SLACK)));
    let nothing = simd.splat_f32s(f32::NEG_INFINITY);
    let zero = simd.splat_f32s(0.0);
    if simd.first_true_m32s(exceeds) < S::F32_LANES {
        *moved = true;
        let old = *max;
        *max = simd.select_f32s(exceeds, top, old);
        // A lane that had seen nothing has no old sums.
        let shrink = exp2_vector(simd, simd.sub_f32s(old, *max));
        *rescale = simd.select_f32s(exceeds, shrink, simd.splat_f32s(1.0));
        *sum = simd.mul_f32s(*sum, *rescale);
    } else {
        *rescale = simd.splat_f32s(1.0);
    }
    // Differences of a lane that has still seen nothing are taken from 0, not from −∞.
    simd.select_f32s(simd.equal_f32s(*max, nothing), zero, *max)
}

/// 2^(score − base), and its sum, for V vectors of lanes: as many chains of arithmetic at once.
#[inline(always)]
fn weigh<S: Simd, const V: usize>(
    simd: S,
    scores: &mut [[f32; PANEL]],
    running: &mut Running,
    bases: [S::f32s; V],
    first: usize,
) {
    let mut sums = [simd.splat_f32s(0.0); V];
    for s in scores {
        let s = S::as_mut_simd_f32s(s).0;
        let mut weights = [simd.splat_f32s(0.0); V];
        for v in 0..V {
            weights[v] = exp2_vector(simd, simd.sub_f32s(s[first + v], bases[v]));
        }
        for v in 0..V {
            s[first + v] = weights[v];
            sums[v] = simd.add_f32s(sums[v], weights[v]);
        }
    }
    let sum = S::as_mut_simd_f32s(&mut running.sum).0;
    for v in 0..V {
        sum[first + v] = simd.add_f32s(sum[first + v], sums[v]);
    }
}

/// Subtracts the background's weights.
#[inline(always)]
fn take<S: Simd>(simd: S, scores: &mut [[f32; PANEL]], subtract: &mut Subtract<'_>, base: S::f32s, v: usize) {
    let log_scale = S::as_simd_f32s(subtract.log_scale).0[v];
    let size = exp2_vector(simd, simd.sub_f32s(log_scale, base));
    let factor = simd.neg_f32s(size);
    // What is nothing beside the support must not leave subnormal differences.
    let least = simd.div_f32s(simd.splat_f32s(NOTHING), size);
    let (mut total, mut magnitude) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
    for (s, e) in scores.iter_mut().zip(subtract.entries.as_chunks::<PANEL>().0) {
        let s = &mut S::as_mut_simd_f32s(s).0[v];
        let e = S::as_simd_f32s(e).0[v];
        let size = simd.abs_f32s(e);
        let something = simd.select_f32s(simd.greater_than_f32s(size, least), e, simd.splat_f32s(0.0));
        *s = simd.mul_add_e_f32s(factor, something, *s);
        total = simd.add_f32s(total, e);
        magnitude = simd.add_f32s(magnitude, size);
    }
    for (to, x) in [(&mut subtract.taken.sum, total), (&mut subtract.taken.magnitude, magnitude)] {
        let to = &mut S::as_mut_simd_f32s(to).0[v];
        *to = simd.add_f32s(*to, x);
    }
}
