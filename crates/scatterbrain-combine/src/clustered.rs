//! Clusters routed by centroid: a query takes the clusters that weigh most by their mean key.
//!
//! ```text
//! score_ic = s·q_i·μ_c + ln n_c                          of the clusters that row i sees whole
//! row i takes keys of the clusters that it sees in part, then of the others by falling score, until it has b of them
//! ```
//!
//! Beside a [`CentroidBackground`] the support takes its clusters, so that keys are clustered once, and the two are
//! multipole attention: the clusters that weigh little keep their centroid.
//!
//! **Clusters** are those of the background: k-means where every row sees the same keys, blocks of consecutive keys under
//! causal masks and windows. A cluster that a row sees in part has no mean that the row may know; its visible keys are few
//! (those of one block at each end) and are taken first. So no row is touched, to the bit, by later tokens.
//!
//! **Blocks.** The keys that some row of a panel takes are one list for the panel. Where every row sees the same keys, the
//! queries are visited in the order of their heaviest clusters, so that rows of a panel share most of their keys.
//!
//! **Source.** Hooper et al. 2025, "Multipole Attention for Efficient Long Context Reasoning", arXiv 2506.13059: k-means
//! over keys, clusters ranked by q·μ_c, exact attention on the first of them up to a budget of keys, n_c e^{q·μ_c} and the
//! mean value for the others. Here the ranking is by the cluster's estimated mass, with ln n_c; the last cluster is cut to
//! the budget; each query head chooses for itself, where the paper sums scores over a group; and causal rows have blocks of
//! positions, where the paper clusters a prompt and then the tokens behind it anew.

use scatterbrain_blocks::by_cluster;
use scatterbrain_core::kernel::{self, PANEL};
use scatterbrain_core::tile::{
    Background, Block, CHUNK, Causality, Head, KeyClusters, KeyHead, Keys, Select, Selection, Summary, Support, Tile,
};
use scatterbrain_core::{Error, HeadMask, Level, Matrix, Result};
use scatterbrain_features::CentroidBackground;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The keys of the clusters with the heaviest centroids.
///
/// Strictly causal. Cost: C·d multiply-adds a query (twice where every row sees the same keys, for the order), a sort of C
/// scores, and b keys; C the clusters.
///
/// ```
/// use scatterbrain_combine::{ClusteredSupport, Method};
/// use scatterbrain_core::Seed;
/// use scatterbrain_features::CentroidBackground;
/// let far = CentroidBackground::new(16, Seed(0))?;
/// let multipole = Method::scatterbrain(ClusteredSupport::new(32, far)?, far);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusteredSupport {
    budget: usize,
    clusters: CentroidBackground,
}

impl ClusteredSupport {
    /// At most `budget` keys a row; all where it sees fewer. Without a background that has clusters, keys are cut in those
    /// of `clusters`.
    ///
    /// # Errors
    /// A budget of 0.
    pub fn new(budget: usize, clusters: CentroidBackground) -> Result<Self> {
        if budget == 0 {
            return Err(Error::invalid("budget", "at least 1 key", 0));
        }
        Ok(Self { budget, clusters })
    }
}

impl Support for ClusteredSupport {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        let Head { key, scale, mask, level, .. } = *head;
        let mask = mask.without_boolean();
        let keys = KeyHead { key, value: key, scale, mask, boolean: false, pairs: true, level };
        let summary = self.clusters.prepare(&keys)?;
        self.prepare_beside(head, &*summary)
    }

    fn prepare_beside<'a>(&'a self, head: &Head<'a>, background: &dyn Summary) -> Result<Box<dyn Select + 'a>> {
        if self.budget > head.mask.m() {
            return Err(Error::invalid("budget", format!("1 to {} keys", head.mask.m()), self.budget));
        }
        match background.clusters() {
            Some(clusters) => Ok(Box::new(Routed::new(self.budget, head, &clusters))),
            None => self.prepare(head),
        }
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

/// A head's clusters.
struct Routed {
    budget: usize,
    level: Level,
    scale: f32,
    /// `[clusters, d]`.
    means: Vec<f32>,
    log_counts: Vec<f32>,
    /// Keys by cluster, ascending in each; cluster c holds `members[offsets[c]..offsets[c + 1]]`.
    members: Vec<u32>,
    offsets: Vec<u32>,
    /// Queries by heaviest cluster, where rows may be visited in any order.
    order: Option<Vec<u32>>,
}

impl Routed {
    fn new(budget: usize, head: &Head<'_>, clusters: &KeyClusters<'_>) -> Self {
        let count = clusters.means.len() / head.key.cols();
        let (members, offsets) = by_cluster(&clusters.cluster, count);
        let log_counts = offsets.windows(2).map(|w| ((w[1] - w[0]) as f32).ln()).collect();
        let (means, level, scale) = (clusters.means.to_vec(), head.level, head.scale);
        let mut this = Self { budget, level, scale, means, log_counts, members, offsets, order: None };
        if head.mask.is_dense() && count > 0 {
            this.order = Some(this.by_heaviest(head));
        }
        this
    }

    fn count(&self) -> usize {
        self.log_counts.len()
    }

    fn members(&self, cluster: usize) -> &[u32] {
        &self.members[self.offsets[cluster] as usize..self.offsets[cluster + 1] as usize]
    }

    /// s·q·μ of a panel of rows, `[clusters][PANEL]`.
    fn score(&self, query: Matrix<'_>, rows: &[u32]) -> Vec<f32> {
        let (mut panel, mut scores) = (vec![0.0; query.cols() * PANEL], vec![0.0; self.count() * PANEL]);
        if let Ok(means) = Matrix::new("means", &self.means, self.count(), query.cols()) {
            kernel::pack(self.level, query, rows, self.scale, &mut panel);
            kernel::product(self.level, &panel, means, &Keys::Range(0..self.count()), &mut scores);
        }
        scores
    }

    fn by_heaviest(&self, head: &Head<'_>) -> Vec<u32> {
        let rows: Vec<u32> = (0..head.query.rows() as u32).collect();
        let mut heaviest = Vec::with_capacity(rows.len());
        for rows in rows.chunks(PANEL) {
            let clusters = kernel::lane_argmax(self.level, &self.score(head.query, rows), &self.log_counts);
            heaviest.extend_from_slice(&clusters[..rows.len()]);
        }
        by_cluster(&heaviest, self.count()).0
    }

    /// The clusters of a row in the order in which it takes them: those that it sees in part, then by falling score.
    fn ranked(&self, seen: &Range<usize>, scores: impl Iterator<Item = f32>) -> Vec<u32> {
        let mut part = Vec::new();
        let mut whole: Vec<(f32, u32)> = Vec::with_capacity(self.count());
        for ((c, score), log_count) in (0..).zip(scores).zip(&self.log_counts) {
            let members = self.members(c as usize);
            let (first, last) = (members[0] as usize, members[members.len() - 1] as usize);
            if first >= seen.start && last < seen.end {
                whole.push((score + log_count, c));
            } else if last >= seen.start && first < seen.end {
                part.push(c);
            }
        }
        whole.sort_by(|a, b| b.0.total_cmp(&a.0));
        part.extend(whole.into_iter().map(|(_, c)| c));
        part
    }

    /// Sets a row's bit at the keys that it takes, and marks their clusters.
    fn take(&self, mask: &HeadMask<'_>, row: (usize, u64), ranked: &[u32], taken: &mut [u64], touched: &mut [bool]) {
        let (query_idx, bit) = row;
        let (seen, allowed) = (mask.range(query_idx), mask.allowed_row(query_idx));
        let mut left = self.budget;
        for &c in ranked {
            touched[c as usize] = true;
            for &key in self.members(c as usize) {
                let key = key as usize;
                if seen.contains(&key) && allowed.is_none_or(|a| a[key] != 0) {
                    taken[key] |= bit;
                    left -= 1;
                    if left == 0 {
                        return;
                    }
                }
            }
        }
    }

    /// Blocks of the keys that some row of a panel takes; clears their bits.
    fn push(&self, rows: &Range<usize>, causal: bool, taken: &mut [u64], touched: &mut [bool], out: &mut Selection) {
        // Under a causal mask, one block for each so many positions: what later rows of the panel add to its keys then
        // does not show in the bits of a row.
        let segment = |key: u32| if causal { key as usize / CHUNK } else { 0 };
        let mut keys: Vec<u32> = Vec::new();
        for c in 0..self.count() {
            if std::mem::take(&mut touched[c]) {
                keys.extend(self.members(c).iter().filter(|&&key| taken[key as usize] != 0));
            }
        }
        for keys in keys.chunk_by(|a, b| segment(*a) == segment(*b)) {
            let only = keys.iter().map(|&key| std::mem::take(&mut taken[key as usize])).collect();
            out.blocks.push(Block { only: Some(only), ..Block::new(rows.clone(), Keys::List(keys.to_vec())) });
        }
    }
}

impl Select for Routed {
    fn order(&self, _pass: usize) -> Option<&[u32]> {
        self.order.as_deref()
    }

    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        let (mut taken, mut touched) = (vec![0u64; self.members.len()], vec![false; self.count()]);
        for (first, indices) in (0..).step_by(PANEL).zip(tile.rows.chunks(PANEL)) {
            let rows = first..first + indices.len();
            let listed: Vec<u32> = rows.clone().map(|r| r as u32).collect();
            let scores = self.score(tile.query, &listed);
            for (lane, &i) in indices.iter().enumerate() {
                let scores = scores[lane.min(scores.len())..].iter().step_by(PANEL).copied();
                let ranked = self.ranked(&tile.mask.range(i as usize), scores);
                self.take(tile.mask, (i as usize, 1 << lane), &ranked, &mut taken, &mut touched);
            }
            self.push(&rows, tile.mask.is_causal(), &mut taken, &mut touched, selection);
        }
    }
}
