//! The largest scores of every lane of a panel.
//!
//! Scores become integers of the same order; the threshold of each lane is bracketed and halved, all lanes of a vector
//! at once, one pass of counting a step. A lane is done where exactly as many scores as wanted exceed the middle, which
//! takes a vector of eight ten to fourteen steps on normal scores of 64 to 4096 keys, fewer where a range of numbers will
//! do; where equal scores stand at the threshold it runs until nothing is between the ends, and the first of the equals are
//! taken.

use super::PANEL;
use crate::Level;
use pulp::{Simd, WithSimd};
use std::ops::RangeInclusive;

/// A score that [`select`] never takes: the least in the order of [`f32::total_cmp`], a NaN.
pub const HIDDEN: f32 = f32::from_bits(u32::MAX);

/// Keys in a word of the result.
pub const WORD: usize = u32::BITS as usize;

/// So many steps halve the numbers, the rest their bit patterns: the first is quick on scores spread evenly, the second
/// ends after at most 32 steps for any.
const BY_VALUE: usize = 16;

/// Marks the largest scores of every lane, as [`f32::total_cmp`] orders them, among equals the first: some number of
/// them in `budget`, whichever is found first, or all that are not [`HIDDEN`], where they are no more than its end. Bit
/// b of `chosen[w][r]` says whether key `32·w + b` of lane r is taken. `scores` (`[key][PANEL]`) is used up.
///
/// ```text
/// for r in lanes, j in keys:
///     before = #{i: scores[i][r] > scores[j][r], or equal and i < j}
///     chosen[j / 32][r] bit j % 32 = scores[j][r] is not HIDDEN and before < some number in budget
/// ```
///
/// # Panics
/// If `scores` is not a multiple of [`PANEL`] long, or `chosen` has not one row of [`PANEL`] words for every 32 keys
/// or part of them.
///
/// # Cost
/// Some ten to twenty passes over `scores`, at most 50; no memory.
pub fn select(level: Level, scores: &mut [f32], budget: RangeInclusive<u32>, chosen: &mut [u32]) {
    let (scores, rest) = scores.as_chunks_mut();
    assert!(rest.is_empty(), "scores");
    assert_eq!(chosen.len(), scores.len().div_ceil(WORD) * PANEL, "chosen");
    level.run_wide(Select { scores, budget, chosen: chosen.as_chunks_mut().0 });
}

struct Select<'a> {
    scores: &'a mut [[f32; PANEL]],
    budget: RangeInclusive<u32>,
    chosen: &'a mut [[u32; PANEL]],
}

impl WithSimd for Select<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { scores, budget, chosen } = self;
        for v in 0..PANEL / S::F32_LANES {
            let (bracket, wanted) = least(simd, rank_all(simd, scores, v), *budget.end());
            let (threshold, missing) = narrow(simd, scores, v, bracket, wanted, *budget.start());
            let none = simd.equal_u32s(missing, simd.splat_u32s(0));
            if simd.first_true_m32s(simd.not_m32s(none)) < S::F32_LANES {
                mark::<S, true>(simd, scores, v, threshold, missing, chosen);
            } else {
                mark::<S, false>(simd, scores, v, threshold, missing, chosen);
            }
        }
    }
}

/// The integer of a number that orders as `total_cmp` does: negatives reversed, positives above them. 0 for [`HIDDEN`].
#[inline(always)]
fn rank<S: Simd>(simd: S, x: S::f32s) -> S::u32s {
    let bits = simd.transmute_u32s_f32s(x);
    let negative = simd.sub_u32s(simd.splat_u32s(0), simd.wrapping_dyn_shr_u32s(bits, simd.splat_u32s(31)));
    simd.xor_u32s(bits, simd.or_u32s(negative, simd.splat_u32s(1 << 31)))
}

/// The number of a rank.
#[inline(always)]
fn number<S: Simd>(simd: S, rank: S::u32s) -> S::f32s {
    let positive = simd.wrapping_dyn_shr_u32s(rank, simd.splat_u32s(31));
    let flip = simd.or_u32s(simd.sub_u32s(positive, simd.splat_u32s(1)), simd.splat_u32s(1 << 31));
    simd.transmute_f32s_u32s(simd.xor_u32s(rank, flip))
}

/// One key's ranks, where its scores stood.
#[inline(always)]
fn load<S: Simd>(simd: S, ranks: &[f32; PANEL], v: usize) -> S::u32s {
    simd.transmute_u32s_f32s(S::as_simd_f32s(ranks).0[v])
}

/// 1 in the lanes of a mask.
#[inline(always)]
fn ones<S: Simd>(simd: S, mask: S::m32s) -> S::u32s {
    simd.select_u32s(mask, simd.splat_u32s(1), simd.splat_u32s(0))
}

/// Ranks of one vector of lanes.
struct Extent<S: Simd> {
    /// One less than the least that is not hidden.
    below: S::u32s,
    most: S::u32s,
    /// How many are not hidden.
    visible: S::u32s,
}

/// Replaces scores by their ranks.
#[inline(always)]
fn rank_all<S: Simd>(simd: S, scores: &mut [[f32; PANEL]], v: usize) -> Extent<S> {
    let (mut below, mut most) = (simd.splat_u32s(u32::MAX), simd.splat_u32s(0));
    let mut visible = simd.splat_u32s(0);
    for score in scores {
        let x = &mut S::as_mut_simd_f32s(score).0[v];
        let rank = rank(simd, *x);
        *x = simd.transmute_f32s_u32s(rank);
        // A hidden one wraps around to the largest number.
        let less = simd.sub_u32s(rank, simd.splat_u32s(1));
        below = simd.select_u32s(simd.less_than_u32s(less, below), less, below);
        most = simd.select_u32s(simd.greater_than_u32s(rank, most), rank, most);
        visible = simd.add_u32s(visible, ones(simd, simd.greater_than_u32s(rank, simd.splat_u32s(0))));
    }
    Extent { below, most, visible }
}

/// Bracket of a threshold: more than wanted exceed `low`, `above`, at most as many as wanted, exceed `high`; or the two
/// are equal, and exactly as many exceed them.
struct Bracket<S: Simd> {
    low: S::u32s,
    high: S::u32s,
    above: S::u32s,
}

/// The first bracket, and how many each lane takes.
#[inline(always)]
fn least<S: Simd>(simd: S, extent: Extent<S>, budget: u32) -> (Bracket<S>, S::u32s) {
    let (zero, budget) = (simd.splat_u32s(0), simd.splat_u32s(budget));
    let Extent { below, most, visible } = extent;
    let all = simd.less_than_or_equal_u32s(visible, budget);
    let wanted = simd.select_u32s(all, visible, budget);
    let high = simd.select_u32s(all, below, most);
    let above = simd.select_u32s(all, visible, zero);
    let low = simd.select_u32s(simd.equal_u32s(wanted, zero), high, below);
    (Bracket { low, high, above }, wanted)
}

/// The thresholds, and how many of the scores equal to them each lane takes beside all that exceed them.
#[inline(always)]
fn narrow<S: Simd>(
    simd: S,
    ranks: &[[f32; PANEL]],
    v: usize,
    mut bracket: Bracket<S>,
    mut wanted: S::u32s,
    enough: u32,
) -> (S::u32s, S::u32s) {
    let enough = simd.splat_u32s(enough);
    for step in 0.. {
        let Bracket { low, high, above } = bracket;
        let open = simd.greater_than_u32s(simd.sub_u32s(high, low), simd.splat_u32s(1));
        if simd.first_true_m32s(open) >= S::F32_LANES {
            break;
        }
        let middle = if step < BY_VALUE { middle_value(simd, low, high) } else { middle_rank(simd, low, high) };
        let count = count(simd, ranks, v, middle);
        let few = simd.and_m32s(simd.greater_than_or_equal_u32s(count, enough), simd.less_than_u32s(count, wanted));
        wanted = simd.select_u32s(simd.and_m32s(open, few), count, wanted);
        let rises = simd.and_m32s(open, simd.greater_than_or_equal_u32s(count, wanted));
        let falls = simd.and_m32s(open, simd.less_than_or_equal_u32s(count, wanted));
        bracket = Bracket {
            low: simd.select_u32s(rises, middle, low),
            high: simd.select_u32s(falls, middle, high),
            above: simd.select_u32s(falls, count, above),
        };
    }
    (bracket.high, simd.sub_u32s(wanted, bracket.above))
}

/// low + ⌊(high − low)/2⌋.
#[inline(always)]
fn middle_rank<S: Simd>(simd: S, low: S::u32s, high: S::u32s) -> S::u32s {
    simd.add_u32s(low, simd.wrapping_dyn_shr_u32s(simd.sub_u32s(high, low), simd.splat_u32s(1)))
}

/// The rank of the mean of both numbers, kept strictly between them whatever it comes to.
#[inline(always)]
fn middle_value<S: Simd>(simd: S, low: S::u32s, high: S::u32s) -> S::u32s {
    let half = simd.splat_f32s(0.5);
    let sum = simd.mul_f32s(number(simd, high), half);
    let middle = rank(simd, simd.mul_add_e_f32s(number(simd, low), half, sum));
    let one = simd.splat_u32s(1);
    let (first, last) = (simd.add_u32s(low, one), simd.sub_u32s(high, one));
    let middle = simd.select_u32s(simd.greater_than_u32s(middle, last), last, middle);
    simd.select_u32s(simd.less_than_u32s(middle, first), first, middle)
}

/// How many ranks of each lane exceed `middle`. Four sums, as one would wait for itself.
#[inline(always)]
fn count<S: Simd>(simd: S, ranks: &[[f32; PANEL]], v: usize, middle: S::u32s) -> S::u32s {
    let mut sums = [simd.splat_u32s(0); 4];
    let (fours, rest) = ranks.as_chunks::<4>();
    for four in fours {
        for (sum, x) in sums.iter_mut().zip(four) {
            *sum = simd.add_u32s(*sum, ones(simd, simd.greater_than_u32s(load(simd, x, v), middle)));
        }
    }
    for x in rest {
        sums[0] = simd.add_u32s(sums[0], ones(simd, simd.greater_than_u32s(load(simd, x, v), middle)));
    }
    simd.add_u32s(simd.add_u32s(sums[0], sums[1]), simd.add_u32s(sums[2], sums[3]))
}

/// Sets the bits of all ranks that exceed the threshold, and of the first `missing` that equal it.
#[inline(always)]
fn mark<S: Simd, const TIES: bool>(
    simd: S,
    ranks: &[[f32; PANEL]],
    v: usize,
    threshold: S::u32s,
    mut missing: S::u32s,
    chosen: &mut [[u32; PANEL]],
) {
    let zero = simd.splat_u32s(0);
    for (ranks, chosen) in ranks.chunks(WORD).zip(chosen) {
        let (mut bit, mut word) = (simd.splat_u32s(1), zero);
        for x in ranks {
            let x = load(simd, x, v);
            let mut taken = simd.greater_than_u32s(x, threshold);
            if TIES {
                let equal = simd.equal_u32s(x, threshold);
                let tie = simd.and_m32s(equal, simd.greater_than_u32s(missing, zero));
                missing = simd.sub_u32s(missing, ones(simd, tie));
                taken = simd.or_m32s(taken, tie);
            }
            word = simd.or_u32s(word, simd.select_u32s(taken, bit, zero));
            bit = simd.add_u32s(bit, bit);
        }
        S::as_mut_simd_u32s(chosen).0[v] = word;
    }
}

/// Calls `take` with the position of every key that some lane has a bit for in the result of [`select`], ascending, and a
/// bit for each such lane.
pub fn for_chosen(chosen: &[u32], mut take: impl FnMut(usize, u32)) {
    for (word, lanes) in chosen.as_chunks::<PANEL>().0.iter().enumerate() {
        let mut any = lanes.iter().fold(0, |any, bits| any | bits);
        while any != 0 {
            let bit = any.trailing_zeros();
            take(word * WORD + bit as usize, lanes.iter().rev().fold(0, |set, bits| set << 1 | bits >> bit & 1));
            any &= any - 1;
        }
    }
}

/// Calls `take` with lane and position of every key that a lane has a bit for in the result of [`select`], for each lane in
/// ascending order.
pub fn for_chosen_lanes(chosen: &[u32], mut take: impl FnMut(usize, usize)) {
    for (word, lanes) in chosen.as_chunks::<PANEL>().0.iter().enumerate() {
        if lanes.iter().fold(0, |any, bits| any | bits) == 0 {
            continue;
        }
        for (lane, &bits) in lanes.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                take(lane, word * WORD + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}
