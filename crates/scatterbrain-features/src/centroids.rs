//! Cluster centroids as a background: every key off the support weighs what the mean key of its cluster weighs.
//!
//! Keys are cut in clusters c with n_c members, mean key μ_c and sum of values S_c = Σ_{j∈c} v_j. A pair weighs
//! e^{s·q·μ_c(j)}, a look-up by cluster, so
//!
//! ```text
//! numerator   Σ_c e^{s·q·μ_c} S_c
//! denominator Σ_c e^{s·q·μ_c} n_c
//! ```
//!
//! By Jensen's inequality e^{s·q·μ_c} is at most the mean weight of the members: the background errs on the low side.
//!
//! **Clusters.** Where every row sees the same keys, they are found by k-means over the keys. Under a causal mask or a
//! window, they are blocks of ⌈L/C⌉ consecutive keys; a row uses the blocks that lie inside its interval whole, and gives
//! each key of the ragged ends its own weight e^{s·q·k_j}. A block depends on its own keys alone, so no row is touched, to
//! the bit, by later tokens. They can be asked for under every mask ([`CentroidBackground::of_blocks`]).
//!
//! **Range.** The log-scale of a row is the largest s·q·μ_c + ln n_c of the clusters that it sees (keys of ragged ends are
//! clusters of one), so a row's denominator lies between 1 and the number of its clusters, whatever its logits.
//!
//! | mask | clusters | time of the totals |
//! |---|---|---|
//! | none, lengths | k-means: 4·m·C·d once a key head | O(n·C·(d + d_v)) |
//! | causal | blocks | the same, and up to ⌈L/C⌉ − 1 keys of weights of their own a row |
//! | window | blocks | the same, up to twice as many keys |
//! | boolean | as without it | all pairs in tiles, O(n·m·d_v) |
//!
//! Memory: C·(d + d_v) a key head and C weights a query of a tile.

use crate::centroid_tile::CentroidTile;
use crate::kmeans::{KMeans, Means};
use scatterbrain_core::tile::{Background, Causality, KeyClusters, KeyHead, Selection, Summary, Tile, TileBackground};
use scatterbrain_core::{Error, Result, Seed};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Cluster centroids as the background of attention.
///
/// With as many centroids as keys it is exact attention; with one, and a dense mask, the mean of the values.
///
/// A query pays 2 units a centroid. Not counted are the keys of ragged ends (causal masks and windows), at most
/// ⌈L/C⌉ − 1 a row and end, as far as the support does not hold them anyway.
///
/// ```
/// use scatterbrain_core::Seed;
/// use scatterbrain_core::tile::Background;
/// use scatterbrain_features::CentroidBackground;
/// assert_eq!(CentroidBackground::new(32, Seed(0))?.units(), 64);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CentroidBackground {
    n_centroids: usize,
    seed: Seed,
    blocks: bool,
}

impl CentroidBackground {
    /// `n_centroids` clusters of keys; k-means begins with keys drawn from `seed`.
    ///
    /// # Errors
    /// No centroid.
    pub fn new(n_centroids: usize, seed: Seed) -> Result<Self> {
        if n_centroids == 0 {
            return Err(Error::invalid("n_centroids", "at least 1", 0));
        }
        Ok(Self { n_centroids, seed, blocks: false })
    }

    /// Clusters are blocks of consecutive keys under every mask: nothing is searched for, and where neighbours are alike,
    /// as frames of sound are, the error is the same.
    ///
    /// # Errors
    /// No centroid.
    pub fn of_blocks(n_centroids: usize) -> Result<Self> {
        Ok(Self { blocks: true, ..Self::new(n_centroids, Seed(0))? })
    }

    /// The cluster of every valid key, numbered from 0; for inspection.
    pub fn clusters(&self, keys: &KeyHead<'_>) -> Vec<u32> {
        let partition = self.partition(keys);
        (0..keys.mask.length()).map(|j| partition.of(j) as u32).collect()
    }

    fn partition(&self, keys: &KeyHead<'_>) -> Partition {
        let length = keys.mask.length();
        if self.blocks || keys.mask.is_causal() || keys.mask.has_window() || self.n_centroids >= length {
            return Partition::Blocks { size: length.div_ceil(self.n_centroids).max(1), length };
        }
        let rows = keys.key.first_rows(length);
        let fit = KMeans::fit(keys.level, rows, keys.scale, self.n_centroids, self.seed);
        let (kmeans, cluster) = fit.expect("fewer centroids than keys, and at least one");
        Partition::Scattered { cluster, count: kmeans.count() }
    }
}

impl Background for CentroidBackground {
    fn prepare<'a>(&'a self, keys: &KeyHead<'a>) -> Result<Box<dyn Summary + 'a>> {
        Ok(Box::new(CentroidSummary::new(*keys, self.partition(keys), Vec::new())))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }

    fn units(&self) -> usize {
        self.n_centroids.saturating_mul(2)
    }
}

/// Which cluster a key is in.
pub(crate) enum Partition {
    /// Blocks of consecutive keys; the last may be shorter.
    Blocks { size: usize, length: usize },
    /// Any clusters. Every row sees all keys, but for a boolean mask.
    Scattered { cluster: Vec<u32>, count: usize },
}

impl Partition {
    pub(crate) fn count(&self) -> usize {
        match self {
            Partition::Blocks { size, length } => length.div_ceil(*size),
            Partition::Scattered { count, .. } => *count,
        }
    }

    #[inline]
    pub(crate) fn of(&self, key: usize) -> usize {
        match self {
            Partition::Blocks { size, .. } => key / size,
            Partition::Scattered { cluster, .. } => cluster[key] as usize,
        }
    }

    /// The clusters that an interval of keys holds whole, and the keys from the first of their members to the last.
    pub(crate) fn whole(&self, range: &Range<usize>) -> (Range<usize>, Range<usize>) {
        match self {
            Partition::Scattered { count, .. } if !range.is_empty() => (0..*count, range.clone()),
            Partition::Blocks { size, length } => {
                let start = range.start.div_ceil(*size);
                let end = if range.end == *length { self.count() } else { range.end / size };
                if start < end { (start..end, start * size..(end * size).min(*length)) } else { (0..0, 0..0) }
            }
            Partition::Scattered { .. } => (0..0, 0..0),
        }
    }
}

/// Means, counts and sums of the clusters of one key/value head.
pub(crate) struct CentroidSummary<'a> {
    pub(crate) keys: KeyHead<'a>,
    pub(crate) partition: Partition,
    /// μ, `[clusters, d]`.
    pub(crate) means: Vec<f32>,
    /// ln n_c.
    pub(crate) log_counts: Vec<f32>,
    /// A row a cluster: S_c and, last, n_c; `[clusters, d_v + 1]`.
    pub(crate) sums: Vec<f32>,
    /// How many times the mean weight of its cluster each key has, and the logarithm; empty where it is once.
    pub(crate) multiples: Vec<f32>,
    pub(crate) log_multiples: Vec<f32>,
}

impl<'a> CentroidSummary<'a> {
    /// `log_multiples` says how many times the mean weight of its cluster each key has, on average of a cluster once;
    /// empty: each once.
    pub(crate) fn new(keys: KeyHead<'a>, partition: Partition, log_multiples: Vec<f64>) -> Self {
        let (length, count, d_v) = (keys.mask.length(), partition.count(), keys.value.cols());
        let cluster: Vec<u32> = (0..length).map(|j| partition.of(j) as u32).collect();
        let Means { rows: means, counts } = Means::new(keys.level, keys.key, &cluster, count);
        let mut sums = Vec::with_capacity(count * (d_v + 1));
        if log_multiples.is_empty() {
            let values = Means::new(keys.level, keys.value, &cluster, count).rows;
            for (mean, &n) in values.chunks_exact(d_v).zip(&counts) {
                sums.extend(mean.iter().map(|v| v * n as f32));
                sums.push(n as f32);
            }
        } else {
            let mut exact = vec![0.0f64; count * (d_v + 1)];
            for ((row, c), log) in keys.value.iter().zip(&cluster).zip(&log_multiples) {
                let (sum, multiple) = (&mut exact[*c as usize * (d_v + 1)..], log.exp());
                sum.iter_mut().zip(row).for_each(|(s, &v)| *s += multiple * f64::from(v));
                sum[d_v] += multiple;
            }
            sums.extend(exact.iter().map(|&s| s as f32));
        }
        let log_counts = counts.iter().map(|&n| (n as f32).ln()).collect();
        let multiples = log_multiples.iter().map(|log| log.exp() as f32).collect();
        let log_multiples = log_multiples.iter().map(|&log| log as f32).collect();
        Self { keys, partition, means, log_counts, sums, multiples, log_multiples }
    }

    /// How many times the mean weight of its cluster a key has.
    #[inline]
    pub(crate) fn multiple(&self, key: usize) -> f32 {
        self.multiples.get(key).copied().unwrap_or(1.0)
    }
}

impl Summary for CentroidSummary<'_> {
    fn tile<'a>(&'a self, tile: &Tile<'a>, _: &mut Selection) -> Box<dyn TileBackground + 'a> {
        Box::new(CentroidTile::new(self, *tile))
    }

    /// None where members share unevenly: such groups are made for their own purpose.
    fn clusters(&self) -> Option<KeyClusters<'_>> {
        if !self.multiples.is_empty() {
            return None;
        }
        let cluster = (0..self.keys.mask.length()).map(|j| self.partition.of(j) as u32).collect();
        Some(KeyClusters { cluster, means: &self.means })
    }

    /// Neighbours share the ragged ends of their intervals; other rows would be right, but slow.
    fn any_order(&self) -> bool {
        matches!(self.partition, Partition::Scattered { .. })
    }
}
