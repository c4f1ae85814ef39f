//! The online softmax of a panel: running maximum, exp, running sums (Milakov and Gimelshein 2018).
//!
//! Each lane has a reference `max`; sums are kept relative to exp(max). A lane's arithmetic depends on its
//! own scores alone.

use super::PANEL;
use super::exp::exp_vector;
use crate::Level;
use pulp::{Simd, WithSimd};

/// Running state of the lanes of a panel.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// Reference of each lane, natural log; −∞ before anything was seen.
    pub max: [f32; PANEL],
    /// Σ exp(score − max).
    pub sum: [f32; PANEL],
    /// Factor by which the last call shrank what was summed before.
    pub rescale: [f32; PANEL],
}

impl Default for Running {
    fn default() -> Self {
        Self { max: [f32::NEG_INFINITY; PANEL], sum: [0.0; PANEL], rescale: [1.0; PANEL] }
    }
}

/// Replaces `scores[j][r]` by exp(score − max_r), after raising max_r to the scores' maximum, and adds to
/// the sums. A score of −∞ weighs nothing. `rescale` is exp(old max − new max), 1 where the max stood.
///
/// # Panics
/// If `scores` is not a multiple of [`PANEL`] long.
pub fn softmax(level: Level, scores: &mut [f32], running: &mut Running) {
    assert_eq!(scores.len() % PANEL, 0, "scores");
    if scores.is_empty() {
        running.rescale = [1.0; PANEL];
        return;
    }
    level.run(Softmax { scores, running });
}

struct Softmax<'a> {
    scores: &'a mut [f32],
    running: &'a mut Running,
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let vectors = PANEL / S::F32_LANES;
        let scores = S::as_mut_simd_f32s(self.scores).0;
        let max = S::as_mut_simd_f32s(&mut self.running.max).0;
        let sum = S::as_mut_simd_f32s(&mut self.running.sum).0;
        let rescale = S::as_mut_simd_f32s(&mut self.running.rescale).0;
        for v in 0..vectors {
            let mut top = max[v];
            for s in scores[v..].iter().step_by(vectors) {
                top = simd.max_f32s(top, *s);
            }
            // A lane that has seen nothing keeps −∞; its differences are taken from 0, not from −∞.
            let nothing = simd.equal_f32s(top, simd.splat_f32s(f32::NEG_INFINITY));
            let base = simd.select_f32s(nothing, simd.splat_f32s(0.0), top);
            let shrink = exp_vector(simd, simd.sub_f32s(max[v], base));
            let shrink = simd.select_f32s(simd.equal_f32s(max[v], top), simd.splat_f32s(1.0), shrink);
            let mut total = simd.mul_f32s(sum[v], shrink);
            for s in scores[v..].iter_mut().step_by(vectors) {
                *s = exp_vector(simd, simd.sub_f32s(*s, base));
                total = simd.add_f32s(total, *s);
            }
            max[v] = top;
            sum[v] = total;
            rescale[v] = shrink;
        }
    }
}
