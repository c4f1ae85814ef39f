//! EVA: groups of keys whose values are averaged by one random feature of the group.
//!
//! Keys are cut in groups c of consecutive ones, with n_c members and mean key μ_c. A group weighs what its mean key does,
//! and its members share that by a softmax of their random features in one direction drawn around the mean:
//!
//! ```text
//! ω_c  = √s μ_c + ε_c,   ε_c ~ N(0, I)
//! ξ_j  = exp(√s ω_c·k_j − s|k_j|²/2)
//! Â_ij = n_c e^{s·q_i·μ_c} · ξ_j / Σ_{l∈c} ξ_l
//! ```
//!
//! So a row's background is Σ_c n_c e^{s·q·μ_c} β_c with β_c = Σ ξ_j v_j / Σ ξ_j: random-feature attention inside each
//! group, its scale corrected by a control variate whose coefficient each group has for itself.
//! A share is at least e⁻⁶⁰, so that no key that a row sees weighs nothing.
//!
//! **Causality, masks.** Groups are the blocks of [`CentroidBackground`](crate::CentroidBackground) under a causal mask,
//! whatever the mask: a row uses those inside its interval whole, and gives each key of the ragged ends its own weight.
//! A block depends on its own keys alone.
//!
//! **Source.** Zheng et al., ICLR 2023, "Efficient Attention via Control Variates", arXiv 2302.04542, §4: exact weights on a
//! set E (here the support), a partition of the rest, exp(q·k̃_c) for the mass of a group and one sample of β̂_c. There k̃_c
//! and the mean of ω_c come from pooled keys and pooled queries through learnt maps; here there is nothing learnt, the
//! means are those of keys, and a group counts its members, n_c, which learnt maps may absorb.

use crate::centroids::{CentroidSummary, Partition};
use crate::kmeans::Means;
use scatterbrain_core::kernel;
use scatterbrain_core::tile::{Background, Causality, KeyHead, Summary};
use scatterbrain_core::{Error, Result, Seed};
use serde::{Deserialize, Serialize};

/// The logarithm of the least share of a group's weight.
const LEAST: f64 = -60.0;

/// EVA's groups as the background of attention.
///
/// A query pays 2 units a group, as for a centroid; keys of ragged ends as there.
/// Time O(L·(d + d_v)) a key head and O(n·C·(d + d_v)).
///
/// ```
/// use scatterbrain_core::Seed;
/// use scatterbrain_core::tile::Background;
/// use scatterbrain_features::EvaBackground;
/// assert_eq!(EvaBackground::new(16, Seed(0))?.units(), 32);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaBackground {
    n_groups: usize,
    seed: Seed,
}

impl EvaBackground {
    /// `n_groups` groups of keys; directions from `seed`.
    ///
    /// # Errors
    /// No group.
    pub fn new(n_groups: usize, seed: Seed) -> Result<Self> {
        if n_groups == 0 {
            return Err(Error::invalid("n_groups", "at least 1", 0));
        }
        Ok(Self { n_groups, seed })
    }

    /// ε_c, of `head_dim` columns; for inspection.
    pub fn noise(&self, group: usize, head_dim: usize) -> Vec<f64> {
        let mut rng = self.seed.stream(group as u64);
        (0..head_dim).map(|_| rng.normal()).collect()
    }

    /// ln(n_c ξ_j / Σ ξ) of every key.
    fn log_multiples(&self, keys: &KeyHead<'_>, partition: &Partition) -> Vec<f64> {
        let length = keys.mask.length();
        let (root, d) = (f64::from(keys.scale.abs()).sqrt(), keys.key.cols());
        let cluster: Vec<u32> = (0..length).map(|j| partition.of(j) as u32).collect();
        let means = Means::new(keys.level, keys.key, &cluster, partition.count()).rows;
        let mut logs = Vec::with_capacity(length);
        for (c, mean) in means.chunks_exact(d).enumerate() {
            let noise = self.noise(c, d);
            let direction = mean.iter().zip(&noise).map(|(&mean, noise)| root * f64::from(mean) + noise);
            let direction: Vec<f64> = direction.map(|w| root * w).collect();
            let members = (logs.len()..length).take_while(|&j| partition.of(j) == c);
            let log = |j| {
                let dot: f64 = direction.iter().zip(keys.key.row(j)).map(|(w, &k)| w * f64::from(k)).sum();
                dot - 0.5 * root * root * kernel::square_norm(keys.key.row(j))
            };
            let group: Vec<f64> = members.map(log).collect();
            let top = group.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum = top + group.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
            let count = (group.len() as f64).ln();
            logs.extend(group.iter().map(|x| count + (x - sum).max(LEAST)));
        }
        logs
    }
}

impl Background for EvaBackground {
    fn prepare<'a>(&'a self, keys: &KeyHead<'a>) -> Result<Box<dyn Summary + 'a>> {
        let length = keys.mask.length();
        let partition = Partition::Blocks { size: length.div_ceil(self.n_groups).max(1), length };
        let log_multiples = self.log_multiples(keys, &partition);
        Ok(Box::new(CentroidSummary::new(*keys, partition, log_multiples)))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }

    fn units(&self) -> usize {
        self.n_groups.saturating_mul(2)
    }
}
