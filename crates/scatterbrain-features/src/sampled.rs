//! Sampled keys as a background: each stands for its share of the keys.
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
//! **By norm** ([`SampledBackground::by_value_norm`]). For every other stretch, by a coin of the seed, ranks are those of
//! an exponential race, in which the keys of a set win in proportion to the norms of their values; the weight is one over
//! the probability that either side of the coin gives, so the mean is A_ij as before:
//!
//! ```text
//! u_j  = (⌊rank_j / 2¹¹⌋ + ½) / 2⁵³
//! j_ig = argmin_j −ln u_j / |v_j|                  where the coin says so and some value is not 0
//! Â_ij = e^{s·q_i·k_j} / (½ (1/c_ig + |v_j| / Σ_seen |v|))     instead of c_ig e^{s·q_i·k_j}, in every stretch
//! ```
//!
//! **Causality.** Ranks and coins do not depend on what keys hold, and a row takes keys that it sees: no row is touched, to
//! the bit, by later tokens. As a row sees more of a stretch, its sample there changes now and then (at a new lowest rank),
//! as in reservoir sampling; so early rows have samples too, and rows that see the same stretch whole share its sample. A
//! norm is that of the key's own value.
//!
//! **Source.** HyperAttention (Han et al. 2023, arXiv 2310.05869) adds m keys, drawn uniformly and shared by all queries,
//! with weight n/m, to the keys that hashing finds. Here one is drawn from each stretch instead of m with replacement, which
//! has no more variance where stretches are of one size; and causal rows take samples of what they see, where the paper
//! halves the sequence recursively, with a new hash and new samples for each unmasked half. KDEformer (Zandieh et al. 2023,
//! arXiv 2302.02451) draws key j with a probability that mixes the norm of its column of the softmax matrix, estimated by
//! kernel densities, and that of its value; the authors' code has |v_j|/|V|_op + 1/n, with neither densities nor a sampled
//! stretch. By norm it is even here: half and half, which holds a weight under 2c.
//!
//! **Range.** The log-scale of a row is the largest s·q·k_j + ln c of its samples, so a row's denominator lies between 1
//! and S, whatever its logits.

use crate::sampled_tile::{Sample, SampledSummary, Taken, visible};
use scatterbrain_core::kernel;
use scatterbrain_core::tile::{Background, Causality, KeyHead, Summary};
use scatterbrain_core::{Error, HeadMask, Result, Seed};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Sampled keys as the background of attention.
///
/// A query pays a unit a sample: the samples' weights are those of their own keys.
///
/// Time O(n·S·(d + d_v)) under any interval mask, and O(L) or O(L·d_v) once; a boolean mask adds a look at each pair,
/// O(n·m). Memory 8 bytes a sample for a head, and S weights a query of a tile.
///
/// ```
/// use scatterbrain_core::Seed;
/// use scatterbrain_core::tile::Background;
/// use scatterbrain_features::SampledBackground;
/// assert_eq!(SampledBackground::new(32, Seed(0))?.units(), 32);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledBackground {
    n_samples: usize,
    seed: Seed,
    /// Whether coins are thrown.
    by_norm: bool,
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
        Ok(Self { n_samples, seed, by_norm: false })
    }

    /// The same, half of the stretches by the norms of values.
    ///
    /// # Errors
    /// No sample.
    pub fn by_value_norm(n_samples: usize, seed: Seed) -> Result<Self> {
        Ok(Self { by_norm: true, ..Self::new(n_samples, seed)? })
    }

    /// Whether the sample of a stretch is drawn by norms; for inspection.
    pub fn coin(&self, stretch: usize) -> bool {
        self.by_norm && self.seed.stream(stretch as u64).bits() & 1 == 1
    }

    /// The rank of a key; for inspection.
    pub fn rank(&self, key_idx: usize) -> u64 {
        self.seed.derive(key_idx as u64).0
    }
}

impl Background for SampledBackground {
    fn prepare<'a>(&'a self, keys: &KeyHead<'a>) -> Result<Box<dyn Summary + 'a>> {
        let length = keys.mask.length();
        let norm = |row| kernel::square_norm(row).sqrt();
        let norms = if self.by_norm { keys.value.iter().take(length).map(norm).collect() } else { Vec::new() };
        let sample = Stretches::new(*self, length, norms);
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
    /// |v_j|, where they matter.
    norms: Vec<f64>,
    /// The key that stands for each, and the logarithm of how many times.
    keys: Vec<u32>,
    logs: Vec<f32>,
}

impl Stretches {
    fn new(background: SampledBackground, length: usize, norms: Vec<f64>) -> Self {
        let count = background.n_samples.min(length);
        let mut this = Self { background, count, length, norms, keys: Vec::new(), logs: Vec::new() };
        let whole = (0..this.count).filter_map(|g| this.draw(g, this.range(g)));
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

    /// Which of some keys of a stretch stands for them, and the logarithm of how many times.
    fn draw(&self, g: usize, keys: impl Iterator<Item = usize> + Clone) -> Option<(u32, f32)> {
        let lowest = keys.clone().min_by_key(|&key| self.background.rank(key))?;
        let count = keys.clone().count();
        let all: f64 = keys.clone().map(|key| self.norm(key)).sum();
        if all == 0.0 {
            return Some((lowest as u32, (count as f32).ln()));
        }
        let first = |keys: &mut dyn Iterator<Item = usize>| keys.min_by(|&a, &b| self.time(a).total_cmp(&self.time(b)));
        let key = if self.background.coin(g) { first(&mut keys.into_iter()) } else { Some(lowest) }?;
        let chance = 0.5 * (1.0 / count as f64 + self.norm(key) / all);
        Some((key as u32, -chance.ln() as f32))
    }

    fn norm(&self, key: usize) -> f64 {
        self.norms.get(key).copied().unwrap_or(0.0)
    }

    /// When a key is through in a race that it wins in proportion to its norm.
    fn time(&self, key: usize) -> f64 {
        let uniform = ((self.background.rank(key) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -uniform.ln() / self.norm(key)
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
            stretches.filter_map(|g| self.draw(g, visible(mask, query_idx, within(g)))).collect()
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
            let stretches = Stretches::new(SampledBackground::new(count, Seed(1)).unwrap(), length, Vec::new());
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
