//! Uniformly sampled keys as a background: each stands for its share of the keys.
//!
//! The L keys are cut in S stretches of equal size, give or take one. Every key has a random rank, drawn from the seed
//! and its position alone. Of each stretch a row takes the key of lowest rank among those it sees there, and weighs it as
//! many times as it sees keys there:
//!
//! ```text
//! c_ig  = keys of stretch g that row i sees
//! j_ig  = the one of lowest rank
//! Â_ij  = c_ig e^{s·q_i·k_j}   if j = j_ig for its stretch g
//!         0                    else
//! ```
//!
//! The lowest rank of any set is equally likely at each of its members, so E Â_ij = c_ig · (1/c_ig) · A_ij = A_ij for every
//! pair that a row sees, whatever the mask.
//! With as many samples as keys it is exact attention.
//!
//! **Causality.** Ranks do not depend on what keys hold, and a row takes keys that it sees: no row is touched, to the bit,
//! by later tokens. As a row sees more of a stretch, its sample there changes now and then (at a new lowest rank), as in
//! reservoir sampling; so early rows have samples too, and rows that see the same stretch whole share its sample.
//!
//! **Source.** HyperAttention (Han et al. 2023, arXiv 2310.05869) adds m keys, drawn uniformly and shared by all queries,
//! with weight n/m, to the keys that hashing finds. Here one is drawn from each stretch instead of m with replacement, which
//! has no more variance where stretches are of one size; and causal rows take samples of what they see, where the paper halves the sequence recursively,
//! with a new hash and new samples for each unmasked half.
//!
//! **Range.** The log-scale of a row is the largest s·q·k_j + ln c of its samples, so a row's denominator lies between 1
//! and S, whatever its logits.

use crate::sampled_tile::{Sample, SampledSummary, Taken, visible};
use scatterbrain_core::tile::{Background, Causality, KeyHead, Summary};
use scatterbrain_core::{Error, HeadMask, Result, Seed};
use std::ops::Range;

/// Uniformly sampled keys as the background of attention.
///
/// A query pays a unit a sample: the samples' weights are those of their own keys.
///
/// Time O(n·S·(d + d_v)) under any interval mask; a boolean mask adds a look at each pair, O(n·m). Memory 8 bytes a sample
/// for a head, and S weights a query of a tile.
///
/// ```
/// use scatterbrain_core::Seed;
/// use scatterbrain_core::tile::Background;
/// use scatterbrain_features::SampledBackground;
/// assert_eq!(SampledBackground::new(32, Seed(0))?.units(), 32);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SampledBackground {
    n_samples: usize,
    seed: Seed,
}

impl SampledBackground {
    /// `n_samples` keys a row, as far as it sees so many; ranks from `seed`.
    ///
    /// # Errors
    /// No sample.
    pub fn new(n_samples: usize, seed: Seed) -> Result<Self> {
        if n_samples == 0 {
            return Err(Error::invalid("n_samples", "at least 1", 0));
        }
        Ok(Self { n_samples, seed })
    }

    /// The rank of a key; for inspection.
    pub fn rank(&self, key_idx: usize) -> u64 {
        self.seed.derive(key_idx as u64).0
    }
}

impl Background for SampledBackground {
    fn prepare<'a>(&'a self, keys: &KeyHead<'a>) -> Result<Box<dyn Summary + 'a>> {
        let sample = Stretches::new(*self, keys.mask.length());
        Ok(Box::new(SampledSummary { keys: *keys, sample }))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }

    fn units(&self) -> usize {
        self.n_samples
    }
}

/// Stretches of consecutive keys.
struct Stretches {
    background: SampledBackground,
    count: usize,
    length: usize,
    /// The key of lowest rank of each, and ln of its size.
    keys: Vec<u32>,
    logs: Vec<f32>,
}

impl Stretches {
    fn new(background: SampledBackground, length: usize) -> Self {
        let count = background.n_samples.min(length);
        let mut this = Self { background, count, length, keys: Vec::new(), logs: Vec::new() };
        let whole = (0..this.count).filter_map(|g| this.lowest(this.range(g)));
        (this.keys, this.logs) = whole.collect();
        this
    }

    /// Stretch g is the keys ⌊gL/S⌋..⌊(g + 1)L/S⌋.
    fn range(&self, g: usize) -> Range<usize> {
        g * self.length / self.count..(g + 1) * self.length / self.count
    }

    /// The stretch of a key: the largest g with gL/S < key + 1.
    fn of(&self, key: usize) -> usize {
        ((key + 1) * self.count).div_ceil(self.length) - 1
    }

    /// The key of lowest rank, and ln of how many there are.
    fn lowest(&self, keys: impl Iterator<Item = usize>) -> Option<(u32, f32)> {
        let (mut best, mut count) = (None, 0u32);
        for key in keys {
            let rank = (self.background.rank(key), key as u32);
            best = best.filter(|b| *b < rank).or(Some(rank));
            count += 1;
        }
        best.map(|(_, key)| (key, (count as f32).ln()))
    }
}

impl Sample for Stretches {
    fn shared(&self) -> &[u32] {
        &self.keys
    }

    fn shared_logs(&self) -> &[f32] {
        &self.logs
    }

    fn of_row(&self, mask: &HeadMask<'_>, query_idx: usize) -> Taken {
        let seen = mask.range(query_idx);
        if seen.is_empty() {
            return Taken::default();
        }
        let (first, last) = (self.of(seen.start), self.of(seen.end - 1));
        let within = |g: usize| self.range(g).start.max(seen.start)..self.range(g).end.min(seen.end);
        let own = |stretches: &mut dyn Iterator<Item = usize>| {
            stretches.filter_map(|g| self.lowest(visible(mask, query_idx, within(g)))).collect()
        };
        let whole = first + usize::from(within(first) != self.range(first))
            ..last + usize::from(within(last) == self.range(last));
        if mask.has_boolean() || whole.is_empty() {
            return Taken { shared: 0..0, own: own(&mut (first..last + 1)) };
        }
        let own = own(&mut (first..whole.start).chain(whole.end..last + 1));
        Taken { shared: whole, own }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_each_key_once() {
        for (count, length) in [(1, 1), (3, 10), (10, 10), (7, 100), (64, 65), (99, 100), (5, 3)] {
            let stretches = Stretches::new(SampledBackground::new(count, Seed(1)).unwrap(), length);
            assert_eq!(stretches.keys.len(), count.min(length));
            let mut next = 0;
            for g in 0..stretches.count {
                let range = stretches.range(g);
                assert!(range.start == next && !range.is_empty());
                assert!(range.clone().all(|key| stretches.of(key) == g), "{g} of {count}, {length}");
                assert!(range.contains(&(stretches.keys[g] as usize)));
                next = range.end;
            }
            assert_eq!(next, length);
        }
    }
}
