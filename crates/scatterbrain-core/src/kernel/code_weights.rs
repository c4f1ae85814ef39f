//! Weights of a panel in up to seven bits, for [`super::weighted_code_sum()`], and the heavy ones among them.
//!
//! Rounding is dithered: a key rounds up from a fraction of its own, and the fractions of any run of keys are spread
//! evenly. Thousands of weights under one step then add up to what they weigh, where rounding to the nearest step would
//! lose them all.

use super::{PANEL, WORD};
use crate::Level;
use crate::arch::quads::CodeQuad;
use pulp::{Simd, WithSimd};

/// Keys in a group of [`WeightCodes`].
const GROUP: usize = 4;

/// Adding this to a number of magnitude up to 2²² rounds it to an integer, ties to even, in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Keys over which fractions go through all multiples of their inverse.
const PERIOD: usize = 256;
/// Near the golden section of the period and odd: multiples of it fall evenly however many are taken.
const STEP: usize = 157;

/// Codes of a panel's weights on consecutive keys, by groups of four; groups of zeros are left out.
#[derive(Debug, Clone, Default)]
pub struct WeightCodes {
    pub(super) quads: Vec<CodeQuad>,
    /// Which group of the rows each is.
    pub(super) places: Vec<u32>,
}

/// How [`code_weights`] makes codes.
#[derive(Debug, Clone, Copy)]
pub struct Coding<'a> {
    /// The row of codes that belongs to the first key, and the fraction that it rounds from; a multiple of four.
    pub first: usize,
    /// A factor of each key, by which its row of codes is to be multiplied.
    pub scales: &'a [f32],
    /// Steps in a weight times its key's factor, for each lane.
    pub value_steps: &'a [f32; PANEL],
    /// Steps in a weight by itself.
    pub mass_steps: &'a [f32; PANEL],
    /// The largest code, at most 127; a weight of more steps, by one or the other, is heavy.
    pub most: u8,
}

/// Splits the weights of a panel (`[key][PANEL]`) in heavy ones and codes. Weights, scales and steps are finite and not
/// negative, and so are weights times scales; else codes are unspecified.
///
/// ```text
/// x[j][r] = w[j][r] · scales[j] · value_steps[r]
/// heavy[j][r]  ⇔  max(x[j][r], w[j][r] · mass_steps[r]) > most
/// code[j][r] = ⌊x[j][r] + t_j⌋,  0 if heavy
/// light[r] += Σ_j w[j][r] over those that are not heavy
/// t_j = ((157·(f + 148·b) mod 256) + u)/256        f = first + j, b = ⌊f/256⌋
/// u = max(fractional part of (b mod 64)·(√5 − 1)/2, 1/1000)
/// ```
///
/// Bit b of `heavy[w][r]` says whether key `32·w + b` of lane r is heavy. `codes` is overwritten.
///
/// # Panics
/// If `weights` is not a whole number of panel rows of groups of four keys, there is not one scale a key, `first` is no
/// multiple of four, `most` exceeds 127, or `heavy` has not a panel row for every 32 keys or part of them.
pub fn code_weights(
    level: Level,
    weights: &[f32],
    coding: &Coding<'_>,
    codes: &mut WeightCodes,
    heavy: &mut [u32],
    light: &mut [f32; PANEL],
) {
    let (weights, rest) = weights.as_chunks::<PANEL>();
    assert!(rest.is_empty() && weights.len().is_multiple_of(GROUP), "weights");
    assert!(coding.scales.len() == weights.len(), "keys");
    assert!(coding.first.is_multiple_of(GROUP), "groups");
    assert!(coding.most <= 127, "seven bits");
    assert_eq!(heavy.len(), weights.len().div_ceil(WORD) * PANEL, "heavy");
    codes.quads.resize(weights.len() / GROUP, [0; PANEL]);
    level.run_wide(Code { weights, coding, codes, heavy: heavy.as_chunks_mut().0, light });
}

struct Code<'a> {
    weights: &'a [[f32; PANEL]],
    coding: &'a Coding<'a>,
    codes: &'a mut WeightCodes,
    heavy: &'a mut [[u32; PANEL]],
    light: &'a mut [f32; PANEL],
}

impl WithSimd for Code<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, coding, codes, heavy, light } = self;
        if S::F32_LANES == PANEL {
            split::<S, 1>(simd, weights, coding, 0, &mut codes.quads, heavy, light);
        } else {
            for pair in (0..PANEL / S::F32_LANES).step_by(2) {
                split::<S, 2>(simd, weights, coding, pair, &mut codes.quads, heavy, light);
            }
        }
        compact(simd, codes, coding.first / GROUP);
    }
}

/// V vectors of lanes of what codes are made with.
struct Steps<S: Simd, const V: usize> {
    value: [S::f32s; V],
    mass: [S::f32s; V],
    most: S::f32s,
}

/// Codes and heavy bits of V vectors of lanes from `first`.
#[inline(always)]
fn split<S: Simd, const V: usize>(
    simd: S,
    weights: &[[f32; PANEL]],
    coding: &Coding<'_>,
    first: usize,
    quads: &mut [CodeQuad],
    heavy: &mut [[u32; PANEL]],
    light: &mut [f32; PANEL],
) {
    let vectors = |lanes: &[f32; PANEL]| vectors(simd, lanes, first);
    let most = simd.splat_f32s(f32::from(coding.most));
    let steps: Steps<S, V> = Steps { value: vectors(coding.value_steps), mass: vectors(coding.mass_steps), most };
    let mut sums: [_; V] = vectors(light);
    let words = weights.chunks(WORD).zip(coding.scales.chunks(WORD)).zip(quads.chunks_mut(WORD / GROUP));
    for ((at, ((weights, scales), quads)), heavy) in words.enumerate().zip(heavy) {
        let mut bits = [simd.splat_u32s(0); V];
        let light_below = light_below(simd, scales, &steps);
        let groups = weights.as_chunks::<GROUP>().0.iter().zip(scales.as_chunks::<GROUP>().0).zip(quads);
        for (group, ((weights, scales), quad)) in groups.enumerate() {
            let fraction = coding.first + at * WORD + group * GROUP;
            let mut codes = encode::<S, V, false>(simd, weights, scales, fraction, first, &steps);
            let mut any = simd.greater_than_f32s(codes.top[0], light_below[0]);
            for v in 1..V {
                any = simd.or_m32s(any, simd.greater_than_f32s(codes.top[v], light_below[v]));
            }
            if simd.first_true_m32s(any) < S::F32_LANES {
                codes = encode::<S, V, true>(simd, weights, scales, fraction, first, &steps);
                let shift = simd.splat_u32s((group * GROUP) as u32);
                for (bits, own) in bits.iter_mut().zip(codes.heavy) {
                    *bits = simd.or_u32s(*bits, simd.wrapping_dyn_shl_u32s(own, shift));
                }
            }
            for (sum, own) in sums.iter_mut().zip(codes.light) {
                *sum = simd.add_f32s(*sum, own);
            }
            S::as_mut_simd_u32s(quad).0[first..first + V].copy_from_slice(&codes.words);
        }
        S::as_mut_simd_u32s(heavy).0[first..first + V].copy_from_slice(&bits);
    }
    S::as_mut_simd_f32s(light).0[first..first + V].copy_from_slice(&sums);
}

/// Weights of keys with these factors that are surely not heavy: up to most / max(scale · value, mass), less what
/// roundings come to. Where that overflows or nothing bounds it, none or any.
#[inline(always)]
fn light_below<S: Simd, const V: usize>(simd: S, scales: &[f32], steps: &Steps<S, V>) -> [S::f32s; V] {
    let (vectors, tail) = S::as_simd_f32s(scales);
    let mut tops = simd.splat_f32s(tail.iter().copied().fold(0.0, f32::max));
    for scales in vectors {
        tops = simd.max_f32s(tops, *scales);
    }
    let scale = simd.splat_f32s(simd.reduce_max_f32s(tops));
    let most = simd.mul_f32s(steps.most, simd.splat_f32s(1.0 - 8.0 * f32::EPSILON));
    let mut below = [most; V];
    for v in 0..V {
        below[v] = simd.div_f32s(most, simd.max_f32s(simd.mul_f32s(scale, steps.value[v]), steps.mass[v]));
    }
    below
}

/// V vectors of a row of lanes from `first`.
#[inline(always)]
fn vectors<S: Simd, const V: usize>(_: S, lanes: &[f32; PANEL], first: usize) -> [S::f32s; V] {
    *S::as_simd_f32s(lanes).0[first..].first_chunk().expect("vectors of a panel")
}

/// What [`encode`] makes of V vectors of a group's weights.
struct Encoded<S: Simd, const V: usize> {
    words: [S::u32s; V],
    light: [S::f32s; V],
    /// A bit for each heavy key.
    heavy: [S::u32s; V],
    /// The largest weight of each lane.
    top: [S::f32s; V],
}

/// Codes of a group; without `HEAVY` as if nothing in it were heavy, and nonsense if something is.
#[inline(always)]
fn encode<S: Simd, const V: usize, const HEAVY: bool>(
    simd: S,
    weights: &[[f32; PANEL]; GROUP],
    scales: &[f32; GROUP],
    fraction: usize,
    first: usize,
    steps: &Steps<S, V>,
) -> Encoded<S, V> {
    let offsets = offsets(fraction);
    let (round, zero, none) = (simd.splat_f32s(ROUND), simd.splat_f32s(0.0), simd.splat_u32s(0));
    // What shifting leaves of the bits of ROUND.
    let rest = 0u32.wrapping_sub(ROUND.to_bits()).wrapping_sub(ROUND.to_bits() << 8);
    let mut out = Encoded { words: [simd.splat_u32s(rest); V], light: [zero; V], heavy: [none; V], top: [zero; V] };
    for o in 0..GROUP {
        let (scale, offset) = (simd.splat_f32s(scales[o]), simd.splat_f32s(offsets[o]));
        let (shift, bit) = (simd.splat_u32s(8 * o as u32), simd.splat_u32s(1 << o));
        let w: [_; V] = vectors(simd, &weights[o], first);
        for v in 0..V {
            let mut w = w[v];
            out.top[v] = simd.max_f32s(out.top[v], w);
            // In this order: steps times a scale may overflow where the weight is 0.
            let mut sized = simd.mul_f32s(w, scale);
            if HEAVY {
                let largest = simd.max_f32s(simd.mul_f32s(sized, steps.value[v]), simd.mul_f32s(w, steps.mass[v]));
                let heavy = simd.greater_than_f32s(largest, steps.most);
                out.heavy[v] = simd.or_u32s(out.heavy[v], simd.select_u32s(heavy, bit, none));
                (w, sized) = (simd.select_f32s(heavy, zero, w), simd.select_f32s(heavy, zero, sized));
            }
            out.light[v] = simd.add_f32s(out.light[v], w);
            let x = simd.mul_add_e_f32s(sized, steps.value[v], offset);
            let code = simd.transmute_u32s_f32s(simd.add_f32s(x, round));
            out.words[v] = simd.add_u32s(out.words[v], simd.wrapping_dyn_shl_u32s(code, shift));
        }
    }
    out
}

/// t_j − ½ of a group.
#[inline(always)]
fn offsets(first: usize) -> [f32; GROUP] {
    let block = first / PERIOD;
    let offsets: &[f32; GROUP] =
        OFFSETS[first.wrapping_add(148 * block) % PERIOD..].first_chunk().expect("a group in the period");
    let fine = FINE[block % FINE.len()];
    [offsets[0] + fine, offsets[1] + fine, offsets[2] + fine, offsets[3] + fine]
}

/// Multiples of 1/256, less ½.
const OFFSETS: [f32; PERIOD] = {
    let mut offsets = [0.0; PERIOD];
    let mut key = 0;
    while key < PERIOD {
        offsets[key] = (key * STEP % PERIOD) as f32 / PERIOD as f32 - 0.5;
        key += 1;
    }
    offsets
};

/// What is under 1/256: multiples of the golden section.
const FINE: [f32; 64] = {
    let mut fine = [0.0; 64];
    let mut block = 0;
    while block < fine.len() {
        let golden = block as f64 * 0.618_033_988_749_894_9;
        // A hair more than 0, so that a weight of 0 never rounds up or a whole number down.
        fine[block] = ((golden - golden as u32 as f64).max(1e-3) / PERIOD as f64) as f32;
        block += 1;
    }
    fine
};

/// Drops groups of zeros.
#[inline(always)]
fn compact<S: Simd>(simd: S, codes: &mut WeightCodes, first: usize) {
    let WeightCodes { quads, places } = codes;
    places.clear();
    for at in 0..quads.len() {
        let quad = quads[at];
        let any = S::as_simd_u32s(&quad).0.iter().fold(simd.splat_u32s(0), |any, four| simd.or_u32s(any, *four));
        if !none(simd, any) {
            quads[places.len()] = quad;
            places.push((first + at) as u32);
        }
    }
    quads.truncate(places.len());
}

/// Whether all bits are 0.
#[inline(always)]
fn none<S: Simd>(simd: S, x: S::u32s) -> bool {
    simd.first_true_m32s(simd.greater_than_u32s(x, simd.splat_u32s(0))) >= S::F32_LANES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_even() {
        for length in [4, 64, 256, 1000, 8192] {
            for start in (0..512).step_by(GROUP) {
                let groups = (start..start + length).step_by(GROUP);
                let mut t: Vec<f32> = groups.flat_map(offsets).map(|x| x + 0.5).collect();
                assert!(t.iter().all(|t| (0.0..1.0).contains(t)));
                t.sort_by(f32::total_cmp);
                let off = t.iter().enumerate().map(|(at, t)| (t - (at as f32 + 0.5) / length as f32).abs());
                let off = off.fold(0.0, f32::max);
                assert!(off < 3.0 / length.min(PERIOD) as f32, "{length} from {start}: {}", off * length as f32);
            }
        }
    }
}
