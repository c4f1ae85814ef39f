//! Clusters of keys, by which a scan is spared most of the pairs.
//!
//! ```text
//! x_j   = k_j ⊙ ρ                       ρ_l = root mean square of the sampled queries' column l
//! clusters: k-means of x; C ≈ 1.4·√P    of the first P keys; later keys join the nearest
//! ŵ_ic  = n_c · e^{s q_i·μ_c + σ_c²/2}  σ_c² = s² · mean |x_j − x̄_c|², the variance of a logit within the cluster
//! row i scans c  ⇔  ŵ_ic · √κ_c · s_c > skip · Σ_c ŵ_ic      κ_c = √(e^{σ_c²} − 1)
//! ```
//!
//! s_c is the spread of the cluster's values over the root mean square of all: what a cluster that is not scanned gets wrong
//! grows with its weight, with how far its weights differ (κ_c, their coefficient of variation were logits normal), and with
//! how far its values do. An error in weights reaches the output in full where values go with logits and by chance else, so
//! κ_c enters by its root: of six such rules this one scanned least at equal errors on captures of a decoder, an audio
//! encoder and a vision transformer (a prototype in numpy).
//!
//! Distances are those of logits for queries like the sampled ones: keys of rotary decoders have large components that no
//! query looks at, and plain k-means spends its clusters on them.
//!
//! **Strict causality.** Rows that see P to 2P keys use clusters of the first P keys (an *epoch*), fitted to queries that see
//! no more; keys from P on are assigned by themselves. Counts and mean values are those of the keys before a block of
//! [`BLOCK`] positions, and what is behind it is scanned in order. Rows that see fewer than [`FIRST`] keys have no clusters.

use super::store::{Codes, NO_KEY, Store};
use crate::metric::{Metric, one_a_stretch};
use crate::moments::Moments;
use scatterbrain_blocks::by_cluster;
use scatterbrain_core::kernel::QUAD;
use scatterbrain_core::tile::KeyHead;
use scatterbrain_core::{Matrix, Result, Seed};
use scatterbrain_features::KMeans;
use std::f64::consts::LOG2_E;
use std::ops::Range;

/// Keys of the first epoch.
const FIRST: usize = 512;
/// Positions between two counts of the members.
const BLOCK: usize = 128;
/// Variances of logits are taken for no more: the formula of normal logits then says too much.
const MOST_VARIANCE: f64 = 4.0;
/// Members of the average cluster that are added to each that later keys may join.
const PRIOR: f64 = 2.0;
/// k-means looks at no more keys a cluster while it moves centroids.
const FITTED: usize = 6;

/// The clusters of a head.
pub(super) struct Routes {
    epochs: Vec<Epoch>,
    length: usize,
}

impl Routes {
    /// `None` where masks are more than lengths and causality, or keys are few.
    pub(super) fn new(head: &KeyHead<'_>, codes: &Codes) -> Result<Option<Self>> {
        let length = head.mask.length();
        if head.boolean || head.mask.has_window() || length < FIRST {
            return Ok(None);
        }
        let doubled = |start: &usize| Some(2 * start).filter(|&next| next < length);
        let epochs = match head.mask.is_causal() {
            false => vec![Epoch::new(head, codes, length, length)?],
            true => std::iter::successors(Some(FIRST), doubled)
                .map(|start| Epoch::new(head, codes, start, (2 * start).min(length)))
                .collect::<Result<_>>()?,
        };
        Ok(Some(Self { epochs, length }))
    }

    /// Whether every key that a row sees is in a cluster.
    pub(super) fn hold_all(&self) -> bool {
        self.epochs[0].start == self.length
    }

    /// The clusters for rows that all see the first `seen` keys, as they stand at the last block before.
    pub(super) fn at(&self, seen: usize) -> Option<Route<'_>> {
        let epoch = self.epochs.iter().rev().find(|epoch| epoch.start <= seen)?;
        let block = match epoch.start == self.length {
            true => 0,
            false => ((seen - epoch.start) / BLOCK).min(epoch.blocks.len() - 1),
        };
        Some(Route { epoch, block: &epoch.blocks[block] })
    }
}

/// Clusters of the first keys, and the keys that join them.
pub(super) struct Epoch {
    start: usize,
    pub(super) store: Store,
    /// The key at each place of the store.
    pub(super) key_at: Vec<u32>,
    /// The cluster and the place of each key.
    place_of: Vec<(u32, u32)>,
    /// First place of each cluster.
    offsets: Vec<u32>,
    /// μ, `[clusters, d]`.
    means: Vec<f32>,
    /// log₂(√κ·s) of each.
    pub(super) spread: Vec<f32>,
    /// Mean of max_c |v_jc| of each.
    pub(super) value_sizes: Vec<f32>,
    blocks: Vec<Block>,
}

/// The members of all clusters before a position.
struct Block {
    end: usize,
    counts: Vec<u32>,
    /// log₂ of n_c e^{σ_c²/2}.
    log_masses: Vec<f32>,
    /// `[clusters, d_v]`.
    mean_values: Vec<f32>,
}

/// An epoch at one of its blocks.
#[derive(Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) epoch: &'a Epoch,
    block: &'a Block,
}

impl<'a> Route<'a> {
    /// Where the keys end that stand in the clusters.
    pub(super) fn end(&self) -> usize {
        self.block.end
    }

    pub(super) fn count(&self) -> usize {
        self.block.counts.len()
    }

    /// Members of a cluster.
    pub(super) fn members(&self, cluster: usize) -> usize {
        self.block.counts[cluster] as usize
    }

    /// The places of a cluster's members, up to a whole group.
    pub(super) fn places(&self, cluster: usize) -> Range<usize> {
        let start = self.epoch.offsets[cluster] as usize;
        start..start + self.members(cluster).next_multiple_of(QUAD)
    }

    /// The cluster and the place of a key.
    pub(super) fn place(&self, key: u32) -> (usize, usize) {
        let (cluster, place) = self.epoch.place_of[key as usize];
        (cluster as usize, place as usize)
    }

    /// Mean keys, `[clusters, d]`.
    pub(super) fn means(&self) -> Matrix<'a> {
        let count = self.count();
        Matrix::new("means", &self.epoch.means, count, self.epoch.means.len() / count).expect("clusters")
    }

    /// log₂ of n_c e^{σ_c²/2}.
    pub(super) fn log_masses(&self) -> &'a [f32] {
        &self.block.log_masses
    }

    /// Mean values, `[clusters, d_v]`.
    pub(super) fn mean_values(&self) -> Matrix<'a> {
        let (values, count) = (&self.block.mean_values, self.count());
        Matrix::new("mean values", values, count, values.len() / count).expect("clusters")
    }
}

impl Epoch {
    /// Clusters of the keys before `start`, which those before `end` join.
    fn new(head: &KeyHead<'_>, codes: &Codes, start: usize, end: usize) -> Result<Self> {
        let metric = metric(head, start);
        let seen = metric.apply(head.key.head_rows(end));
        let seen = Matrix::new("keys", &seen, end, head.key.cols())?;
        let count = ((1.4 * (start as f64).sqrt()) as usize).clamp(1, start);
        let fitted = one_a_stretch(seen.head_rows(start), count * FITTED);
        let fitted = Matrix::new("keys", &fitted, fitted.len() / seen.cols(), seen.cols())?;
        let (kmeans, _) = KMeans::fit(head.level, fitted, head.scale, count, Seed(0))?;
        let cluster = kmeans.nearest(head.level, seen)?;
        let count = kmeans.count();
        let (order, ends) = by_cluster(&cluster, count);
        let (mut key_at, mut offsets, mut place_of) = (Vec::new(), Vec::with_capacity(count), vec![(0, 0); end]);
        for c in 0..count {
            offsets.push(key_at.len() as u32);
            for &key in &order[ends[c] as usize..ends[c + 1] as usize] {
                place_of[key as usize] = (c as u32, key_at.len() as u32);
                key_at.push(key);
            }
            key_at.resize(key_at.len().next_multiple_of(QUAD), NO_KEY);
        }
        let store = codes.at(&key_at);
        let stats = Stats::new(head, seen, &metric, &cluster, count, start, codes.value_sizes());
        let blocks = blocks(head, &stats, &cluster, start..end);
        let Stats { means, spread, value_sizes, .. } = stats;
        Ok(Self { start, store, key_at, place_of, offsets, means, spread, value_sizes, blocks })
    }
}

/// Of the sampled queries that see no key from `end` on.
fn metric(head: &KeyHead<'_>, end: usize) -> Metric {
    let queries = head.queries.rows.chunks_exact(head.key.cols()).zip(head.queries.ends);
    Metric::new(head.key.cols(), queries.filter(|(_, e)| **e as usize <= end).map(|(row, _)| row))
}

/// What is known of the clusters from the keys before `start`.
struct Stats {
    means: Vec<f32>,
    /// σ²/2, times log₂e.
    extra: Vec<f64>,
    spread: Vec<f32>,
    value_sizes: Vec<f32>,
}

impl Stats {
    fn new(
        head: &KeyHead<'_>,
        seen: Matrix<'_>,
        metric: &Metric,
        cluster: &[u32],
        count: usize,
        start: usize,
        sizes: &[f32],
    ) -> Self {
        let rows = |rows: Matrix<'_>| Moments::new(rows.head_rows(start), cluster, count);
        let (keys, logits, values) = (rows(head.key), rows(seen), rows(head.value));
        let all = values.squares.iter().sum::<f64>() / start as f64;
        let factor = (f64::from(head.scale) * metric.size).powi(2);
        let mut value_sizes = vec![0.0f64; count];
        cluster[..start].iter().zip(sizes).for_each(|(c, size)| value_sizes[*c as usize] += f64::from(*size));
        // Keys that join later are as unlike the others as members are on average.
        let prior = if start < head.mask.length() { PRIOR } else { 0.0 };
        let (logits, values) = (logits.variances(prior), values.variances(prior));
        let variance = |c: usize| (factor * logits[c]).min(MOST_VARIANCE);
        let spread = |c: usize| {
            let root = variance(c).exp_m1().powf(0.25);
            (root * (values[c] / all.max(f64::MIN_POSITIVE)).sqrt()).log2() as f32
        };
        Self {
            means: keys.means(),
            extra: (0..count).map(|c| 0.5 * variance(c) * LOG2_E).collect(),
            spread: (0..count).map(spread).collect(),
            value_sizes: value_sizes.iter().zip(&keys.counts).map(|(s, n)| (s / n.max(1.0)) as f32).collect(),
        }
    }
}

/// Counts and mean values at each block from the start of an epoch on; for an epoch without later keys, at its end.
fn blocks(head: &KeyHead<'_>, stats: &Stats, cluster: &[u32], keys: Range<usize>) -> Vec<Block> {
    let d_v = head.value.cols();
    let count = stats.extra.len();
    let (mut counts, mut sums) = (vec![0u32; count], vec![0.0f32; count * d_v]);
    let mut blocks = Vec::new();
    let mut taken = 0;
    for end in (keys.start..keys.end.max(keys.start + 1)).step_by(BLOCK) {
        for key in taken..end {
            let c = cluster[key] as usize;
            counts[c] += 1;
            sums[c * d_v..(c + 1) * d_v].iter_mut().zip(head.value.row(key)).for_each(|(sum, x)| *sum += x);
        }
        taken = end;
        let log_mass = |(n, extra): (&u32, &f64)| (f64::from(*n).log2() + extra) as f32;
        let mean = |(row, n): (&[f32], &u32)| row.iter().map(|x| x / (*n).max(1) as f32).collect::<Vec<_>>();
        blocks.push(Block {
            end,
            counts: counts.clone(),
            log_masses: counts.iter().zip(&stats.extra).map(log_mass).collect(),
            mean_values: sums.chunks_exact(d_v).zip(&counts).flat_map(mean).collect(),
        });
    }
    blocks
}
