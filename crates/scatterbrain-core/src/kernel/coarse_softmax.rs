//! The online softmax of approximate scores: 2^x in lower precision, and a second sum in the same pass.

use super::exp2::exp2_vector_coarse;
use super::softmax::raise;
use super::{PANEL, Running};
use crate::Level;
use pulp::{Simd, WithSimd};

/// As [`super::softmax()`] without a background, weights with a relative error of at most 4.4e-4, 0 from 2^−59.5 of the
/// reference down; and `sized[r] = sized[r]·rescale[r] + Σ_j sizes[j]·weight[j][r]`.
///
/// # Panics
/// If `scores` has not one panel row for each of the `sizes`.
pub fn coarse_softmax(
    level: Level,
    scores: &mut [f32],
    sizes: &[f32],
    running: &mut Running,
    sized: &mut [f32; PANEL],
) {
    let (scores, rest) = scores.as_chunks_mut::<PANEL>();
    assert!(rest.is_empty() && scores.len() == sizes.len(), "scores");
    level.run_wide(CoarseSoftmax { scores, sizes, running, sized });
}

struct CoarseSoftmax<'a> {
    scores: &'a mut [[f32; PANEL]],
    sizes: &'a [f32],
    running: &'a mut Running,
    sized: &'a mut [f32; PANEL],
}

impl WithSimd for CoarseSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut this = self;
        if S::F32_LANES == PANEL {
            this.some_vectors::<S, 1>(simd, 0);
            return;
        }
        for pair in (0..PANEL / S::F32_LANES).step_by(2) {
            this.some_vectors::<S, 2>(simd, pair);
        }
    }
}

impl CoarseSoftmax<'_> {
    /// V vectors of lanes from `first`.
    #[inline(always)]
    fn some_vectors<S: Simd, const V: usize>(&mut self, simd: S, first: usize) {
        let Self { scores, sizes, running, sized } = self;
        let mut bases = [simd.splat_f32s(0.0); V];
        for v in 0..V {
            bases[v] = raise(simd, scores, running, first + v, &mut false);
        }
        weigh(simd, scores, sizes, running, sized, bases, first);
    }
}

/// 2^(score − base) and the two sums, for V vectors of lanes.
#[inline(always)]
fn weigh<S: Simd, const V: usize>(
    simd: S,
    scores: &mut [[f32; PANEL]],
    sizes: &[f32],
    running: &mut Running,
    sized: &mut [f32; PANEL],
    bases: [S::f32s; V],
    first: usize,
) {
    let mut sums = [simd.splat_f32s(0.0); V];
    let mut sized_sums = sums;
    for (s, size) in scores.iter_mut().zip(sizes) {
        let (s, size) = (S::as_mut_simd_f32s(s).0, simd.splat_f32s(*size));
        for v in 0..V {
            let w = exp2_vector_coarse(simd, simd.sub_f32s(s[first + v], bases[v]));
            s[first + v] = w;
            sums[v] = simd.add_f32s(sums[v], w);
            sized_sums[v] = simd.mul_add_e_f32s(w, size, sized_sums[v]);
        }
    }
    for v in 0..V {
        let sum = &mut S::as_mut_simd_f32s(&mut running.sum).0[first + v];
        *sum = simd.add_f32s(*sum, sums[v]);
        let rescale = S::as_simd_f32s(&running.rescale).0[first + v];
        let sized = &mut S::as_mut_simd_f32s(sized).0[first + v];
        *sized = simd.mul_add_e_f32s(*sized, rescale, sized_sums[v]);
    }
}
