//! Keys sampled from those off the support as a background: each stands for its share of the rest.
//!
//! Every key has a random rank, drawn from the seed and its position alone. A row takes the S keys of lowest rank among
//! those that it sees and that are not on its support, a uniform sample without replacement:
//!
//! ```text
//! R_i   = keys that row i sees off its support,   S_i = min(S, |R_i|)
//! Â_ij  = (|R_i| / S_i) e^{s·q_i·k_j}   for the S_i keys of lowest rank in R_i
//!         0                             for the others in R_i
//! ```
//!
//! So E Â_ij = A_ij over seeds, whatever the mask and the support, as long as the support does not know the ranks.
//! Where R has no more than S keys a row is exact.
//!
//! **Budget by error** ([`SampledRestBackground::with_target`]). The first S keys tell how far their weights scatter; by the
//! central limit theorem the denominator is then within ε of the true one at confidence 1 − δ with
//!
//! ```text
//! S_i ≥ (z σ |R_i| / (ε Z_i))²         z = Φ⁻¹(1 − δ/2)
//! ```
//!
//! keys, σ their empirical standard deviation and Z_i the denominator by support and first sample. A row that wants more
//! than it has takes further ranks. The theorem is asymptotic, σ and Z_i are estimates from the same keys: no bound is
//! proven.
//!
//! **Causality.** Ranks do not depend on what keys hold, and a row looks at its own keys alone.
//!
//! **Source.** vAttention (Desai et al. 2025, arXiv 2510.05688): sinks, a window and predicted top keys are exact, the rest
//! is sampled uniformly, with a budget from the central limit theorem for a user's (ε, δ). Here the target is the
//! denominator's alone, where the paper also has one for the numerator, and the sample is without replacement.

use crate::sampled_tile::{SampledTile, Taken, visible};
use scatterbrain_core::kernel;
use scatterbrain_core::tile::{Background, Causality, KeyHead, Selection, Summary, Tile, TileBackground};
use scatterbrain_core::{Error, Result, Seed};
use serde::{Deserialize, Serialize};

/// Keys sampled uniformly from those off the support, as the background of attention.
///
/// A query pays a unit a sample; what it takes beyond its first sample for a target is not counted.
///
/// Time O(n·S·(d + d_v)); finding a row's sample takes a look at some S·L/|R| ranks, so a window of w keys costs L/w times
/// as many looks. Memory 4 bytes a key for a head.
///
/// ```
/// use scatterbrain_core::Seed;
/// use scatterbrain_core::tile::Background;
/// use scatterbrain_features::SampledRestBackground;
/// assert_eq!(SampledRestBackground::new(32, Seed(0))?.units(), 32);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SampledRestBackground {
    n_samples: usize,
    seed: Seed,
    target: Option<Target>,
}

/// What the denominator is to keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Target {
    error: f64,
    quantile: f64,
}

impl SampledRestBackground {
    /// `n_samples` keys a row, as far as it sees so many off its support; ranks from `seed`.
    ///
    /// # Errors
    /// No sample.
    pub fn new(n_samples: usize, seed: Seed) -> Result<Self> {
        if n_samples == 0 {
            return Err(Error::invalid("n_samples", "at least 1", 0));
        }
        Ok(Self { n_samples, seed, target: None })
    }

    /// As many more keys as keep the relative error `error` of the denominator at the confidence of which `quantile` is the
    /// two-sided normal quantile: 1.96 for 95 %.
    ///
    /// # Errors
    /// Either is not positive and finite; fewer than 2 samples, which do not scatter.
    ///
    /// ```
    /// use scatterbrain_core::Seed;
    /// use scatterbrain_features::SampledRestBackground;
    /// let verified = SampledRestBackground::new(16, Seed(0))?.with_target(0.05, 1.96)?;
    /// # Ok::<(), scatterbrain_core::Error>(())
    /// ```
    pub fn with_target(self, error: f64, quantile: f64) -> Result<Self> {
        for (argument, value) in [("error", error), ("quantile", quantile)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::invalid(argument, "positive and finite", value));
            }
        }
        if self.n_samples < 2 {
            return Err(Error::invalid("n_samples", "at least 2", self.n_samples));
        }
        Ok(Self { target: Some(Target { error, quantile }), ..self })
    }

    /// The rank of a key; for inspection.
    pub fn rank(&self, key_idx: usize) -> u64 {
        self.seed.derive(key_idx as u64).0
    }
}

impl Background for SampledRestBackground {
    fn prepare<'a>(&'a self, keys: &KeyHead<'a>) -> Result<Box<dyn Summary + 'a>> {
        let mut by_rank: Vec<u32> = (0..keys.mask.length() as u32).collect();
        by_rank.sort_by_cached_key(|&key| self.rank(key as usize));
        Ok(Box::new(Rest { keys: *keys, background: *self, by_rank }))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }

    fn units(&self) -> usize {
        self.n_samples
    }
}

struct Rest<'a> {
    keys: KeyHead<'a>,
    background: SampledRestBackground,
    by_rank: Vec<u32>,
}

impl Summary for Rest<'_> {
    fn tile<'a>(&'a self, tile: &Tile<'a>, selection: &mut Selection) -> Box<dyn TileBackground + 'a> {
        let taken = (0..tile.rows.len()).map(|row| self.of_row(tile, row, &selection.row(row))).collect();
        Box::new(SampledTile::new(&self.keys, (&[], &[]), *tile, taken))
    }

    /// It adds nothing, but has to know the support.
    fn extends(&self) -> bool {
        true
    }
}

impl Rest<'_> {
    /// What a row takes off `support` (ascending, hidden keys among them).
    fn of_row(&self, tile: &Tile<'_>, row: usize, support: &[u32]) -> Taken {
        let query_idx = tile.rows[row] as usize;
        let (range, allowed) = (tile.mask.range(query_idx), tile.mask.allowed_row(query_idx));
        let sees = |key: &u32| range.contains(&(*key as usize)) && allowed.is_none_or(|a| a[*key as usize] != 0);
        let support: Vec<u32> = support.iter().copied().filter(sees).collect();
        let rest = visible(tile.mask, query_idx, range.clone()).count() - support.len();
        let off = |key: &&u32| sees(key) && support.binary_search(key).is_err();
        let mut ranked = self.by_rank.iter().filter(off).copied();
        let first = self.background.n_samples.min(rest);
        let mut keys: Vec<u32> = ranked.by_ref().take(first).collect();
        if let Some(target) = self.background.target.filter(|_| first < rest) {
            let more = self.wanted(target, tile.query.row(row), &support, &keys, rest) - first;
            keys.extend(ranked.take(more));
        }
        let log = (rest as f64 / keys.len().max(1) as f64).ln() as f32;
        Taken { shared: 0..0, own: keys.into_iter().map(|key| (key, log)).collect() }
    }

    /// How many keys of the rest a row wants for its target, at least as many as the first.
    fn wanted(&self, target: Target, query: &[f32], support: &[u32], first: &[u32], rest: usize) -> usize {
        let query: Vec<f32> = query.iter().map(|q| q * self.keys.scale).collect();
        let logits = |keys: &[u32]| {
            let mut out = vec![0.0; keys.len()];
            kernel::dot_rows(self.keys.level, &query, self.keys.key, keys, &mut out);
            out
        };
        let (near, far) = (logits(support), logits(first));
        let top = near.iter().chain(&far).copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |x: &f32| f64::from(x - top).exp();
        let weights: Vec<f64> = far.iter().map(weight).collect();
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let variance = weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / (weights.len() as f64 - 1.0);
        let denominator = near.iter().map(weight).sum::<f64>() + rest as f64 * mean;
        let root = target.quantile * variance.sqrt() * rest as f64 / (target.error * denominator);
        ((root * root).ceil() as usize).clamp(first.len(), rest)
    }
}
