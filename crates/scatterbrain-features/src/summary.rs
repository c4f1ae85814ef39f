//! Feature maps as a background: sums of key features and values, and what a query tile needs of them.
//!
//! Numerator Σ_j φ(q)·φ(k_j) v_j = Σ_l φ_l(q) N_l with N_l = Σ_j φ_l(k_j) v_j, denominator the same with 1 for v
//! (Katharopoulos et al. 2020, eq. 5–9).
//!
//! **Range.** A feature of a key can be e^{±1000}. Each feature l has a reference R_l, a log-scale near the largest
//! log φ_l(k_j), and what is stored is P_jl = φ_l(k_j)·e^{−R_l} and sums of it. A query row has
//! W_il = φ_l(q_i)·e^{R_l − r_i} with r_i = max_l (log φ_l(q_i) + R_l), its log-scale; so W ≤ 1, and a pair weighs
//! W_i·P_j in the row's scale.
//!
//! **Epochs.** Keys are cut in blocks that match query tiles, and one pass over them makes everything. References come
//! from the blocks before (a block's *prefix* epoch); they are raised when a block exceeds them by e^32 (its *settled*
//! epoch, which later rows use). So P is at most e^32.
//!
//! **Strict causality.** A causal row may not be touched, to the bit, by later keys: rows of a block use its prefix
//! epoch, rows that no causal mask ties to a block the last one. Causal sums are kept per block boundary, in the prefix
//! epoch. In the rare block whose epochs differ, its own rows use features computed
//! afresh in the prefix epoch.
//!
//! **What the references cannot hold** (a window or boolean mask that hides all keys near the reference; a key more
//! than e^60 above all earlier ones) shows as a denominator outside [1e-22, 1e30]: the row then says so, and the
//! combiner asks [`TileBackground::off_support`], which sums in the log domain.
//!
//! | mask | memory beyond P (m floats a key) | time of the totals |
//! |---|---|---|
//! | none, lengths | one sum, m·(d_v + 1); no P without a support | O(n·m·d_v) |
//! | causal | one sum a block of 64 keys | O(n·m·d_v) + 64 pairs a row |
//! | window | one sum a block of 64 keys | block sums + up to 128 pairs a row |
//! | boolean | nothing | all pairs in tiles, O(n·m_k·(m + d_v)) |

use crate::map::{FeatureMap, LogFeatures, Role};
use crate::tile::FeatureTile;
use scatterbrain_core::kernel::{self, PANEL};
use scatterbrain_core::tile::{
    Background, Causality, KeyHead, Keys, Selection, Summary, TILE_ROWS, Tile, TileBackground,
};
use scatterbrain_core::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// How far (natural log) a block may exceed its references before they are raised.
const HYSTERESIS: f32 = 32.0;

/// Any feature map as the background of attention.
///
/// ```
/// use scatterbrain_core::Seed;
/// use scatterbrain_core::tile::Background;
/// use scatterbrain_features::{FeatureBackground, HyperbolicFeatures, ProjectionKind};
/// let map = HyperbolicFeatures::sample(64, 32, ProjectionKind::Orthogonal, Seed(0))?;
/// assert_eq!(FeatureBackground::new(map).units(), 64);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FeatureBackground {
    map: Arc<dyn FeatureMap>,
}

impl FeatureBackground {
    /// The background of `map`.
    pub fn new(map: impl FeatureMap + 'static) -> Self {
        Self { map: Arc::new(map) }
    }

    /// The background of a map chosen at run time.
    pub fn shared(map: Arc<dyn FeatureMap>) -> Self {
        Self { map }
    }

    /// The feature map.
    pub fn map(&self) -> &dyn FeatureMap {
        &*self.map
    }
}

impl Background for FeatureBackground {
    fn prepare<'a>(&'a self, keys: &KeyHead<'a>) -> Result<Box<dyn Summary + 'a>> {
        Ok(Box::new(FeatureSummary::new(&*self.map, *keys)?))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }

    fn units(&self) -> usize {
        2 * self.map.n_features()
    }
}

/// Sums over keys: row l holds N_l and, last, Z_l. `[n_features, d_v + 1]`.
pub(crate) type Sum = Vec<f32>;

pub(crate) enum Sums {
    /// Over all valid keys.
    Total(Sum),
    /// Over the keys before each block, in the block's prefix epoch.
    Prefix(Vec<Sum>),
    /// Over each block, in its settled epoch.
    Blocks(Vec<Sum>),
    /// None: a boolean mask is summed pair by pair.
    Pairs,
}

pub(crate) struct FeatureSummary<'a> {
    pub(crate) map: &'a dyn FeatureMap,
    pub(crate) keys: KeyHead<'a>,
    pub(crate) blocks: KeyBlocks,
    /// P, `[length, n_features]`, in the settled epoch of each key's block; empty where no pair is asked for.
    pub(crate) features: Vec<f32>,
    /// Reference log-scales, n_features an epoch.
    pub(crate) references: Vec<Vec<f32>>,
    pub(crate) prefix_epoch: Vec<usize>,
    pub(crate) settled_epoch: Vec<usize>,
    pub(crate) sums: Sums,
    /// Of signed maps: ln |φ(k_j)|₂ of every valid key, and ln Σ_{i ≤ j} |φ(k_i)|₂.
    pub(crate) norms: Vec<(f64, f64)>,
}

/// Keys cut so that each tile of consecutive queries has its positions in one block.
#[derive(Clone, Copy)]
pub(crate) struct KeyBlocks {
    pub(crate) first: usize,
    pub(crate) length: usize,
}

impl KeyBlocks {
    fn new(length: usize, n: usize) -> Self {
        let ragged = (length as isize - n as isize).rem_euclid(TILE_ROWS as isize) as usize;
        Self { first: if ragged == 0 { TILE_ROWS } else { ragged }, length }
    }

    pub(crate) fn of(&self, key: usize) -> usize {
        if key < self.first { 0 } else { 1 + (key - self.first) / TILE_ROWS }
    }

    pub(crate) fn range(&self, block: usize) -> Range<usize> {
        let start = if block == 0 { 0 } else { self.first + (block - 1) * TILE_ROWS };
        start.min(self.length)..(self.first + block * TILE_ROWS).min(self.length)
    }

    fn count(&self) -> usize {
        if self.length == 0 { 0 } else { self.of(self.length - 1) + 1 }
    }

    /// Blocks that lie inside an interval.
    pub(crate) fn inside(&self, range: &Range<usize>) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        let start = if self.range(self.of(range.start)).start == range.start {
            self.of(range.start)
        } else {
            self.of(range.start) + 1
        };
        let end = if range.end == self.length { self.count() } else { self.of(range.end) };
        start..end.max(start)
    }
}

impl<'a> FeatureSummary<'a> {
    fn new(map: &'a dyn FeatureMap, keys: KeyHead<'a>) -> Result<Self> {
        if keys.key.cols() != map.head_dim() {
            return Err(Error::invalid("head_dim", format!("{} as the feature map", map.head_dim()), keys.key.cols()));
        }
        let blocks = KeyBlocks::new(keys.mask.length(), keys.mask.n());
        let mut summary = Self {
            map,
            keys,
            blocks,
            features: Vec::new(),
            references: Vec::new(),
            prefix_epoch: Vec::new(),
            settled_epoch: Vec::new(),
            sums: Sums::Pairs,
            norms: Vec::new(),
        };
        summary.fill()?;
        Ok(summary)
    }

    pub(crate) fn n_features(&self) -> usize {
        self.map.n_features()
    }

    pub(crate) fn width(&self) -> usize {
        self.keys.value.cols() + 1
    }

    /// Log features of keys.
    pub(crate) fn log_features(&self, keys: Range<usize>, out: &mut LogFeatures) -> Result<()> {
        if keys.is_empty() {
            out.resize(0, self.n_features(), self.map.signed());
            return Ok(());
        }
        let rows = self.keys.key.slice(keys);
        self.map.log_features(self.keys.level, rows, Role::Key.factor(self.keys.scale), Role::Key, out)
    }

    /// Block by block, while its rows are in the first cache: logs, epoch, P, sums.
    fn fill(&mut self) -> Result<()> {
        let count = self.blocks.count();
        let mut logs = LogFeatures::default();
        let mut top = vec![f32::NEG_INFINITY; self.n_features()];
        let mut sum = RunningSum::new(self);
        let (mut prefix, mut by_block) = (Vec::new(), Vec::new());
        let kind = (self.keys.boolean, self.keys.mask.has_window(), self.keys.mask.is_causal());
        // Ragged ends of masks are summed pair by pair.
        let kept = self.keys.pairs || kind != (false, false, false);
        if kept {
            self.features.reserve_exact(self.blocks.length * self.n_features());
        }
        for b in 0..count {
            self.log_features(self.blocks.range(b), &mut logs)?;
            if self.map.signed() {
                self.add_norms(&logs);
            }
            self.choose_epochs(&logs, &mut top);
            kernel::exp_below(self.keys.level, &mut logs.log, &self.references[self.settled_epoch[b]]);
            apply_signs(logs.negative.as_deref(), &mut logs.log);
            if kept {
                self.features.extend_from_slice(&logs.log);
            }
            match kind {
                (true, ..) => continue,
                (_, true, _) => sum.clear(),
                (_, _, causal) => {
                    if causal {
                        prefix.push(sum.rows(self));
                    }
                    sum.move_epoch(self, self.prefix_epoch[b], self.settled_epoch[b]);
                }
            }
            sum.add_block(self, b, &logs.log);
            if kind.1 {
                by_block.push(sum.rows(self));
            }
        }
        if count == 0 {
            self.references.push(top);
        }
        self.sums = match kind {
            (true, ..) => Sums::Pairs,
            (_, true, _) => Sums::Blocks(by_block),
            (_, _, true) => Sums::Prefix(prefix),
            _ => Sums::Total(sum.rows(self)),
        };
        Ok(())
    }

    fn add_norms(&mut self, logs: &LogFeatures) {
        for row in (0..logs.rows()).map(|j| logs.row(j)) {
            let norm = log_norm(row);
            let before = self.norms.last().map_or(f64::NEG_INFINITY, |n| n.1);
            self.norms.push((norm, log_sum([before, norm].into_iter())));
        }
    }

    /// Epochs of the next block, from its logs; `top` is the largest so far of every feature.
    fn choose_epochs(&mut self, logs: &LogFeatures, top: &mut [f32]) {
        if self.references.is_empty() {
            // Every row that sees a key through a causal mask stands at or behind key 0; others see whole blocks.
            let rows = if self.keys.mask.is_causal() { logs.row(0) } else { &logs.log };
            kernel::raise(self.keys.level, rows, top);
            self.references.push(top.to_vec());
        }
        let current = &self.references[self.references.len() - 1];
        self.prefix_epoch.push(self.references.len() - 1);
        kernel::raise(self.keys.level, &logs.log, top);
        let exceeds = |(&t, &r): (&f32, &f32)| t > r + HYSTERESIS;
        if top.iter().zip(current).any(exceeds) {
            let raised = top.iter().zip(current).map(|pair| if exceeds(pair) { *pair.0 } else { *pair.1 });
            let raised = raised.collect();
            self.references.push(raised);
        }
        self.settled_epoch.push(self.references.len() - 1);
    }

    /// The epoch of rows that no causal mask ties to a block.
    pub(crate) fn last_epoch(&self) -> usize {
        self.references.len().saturating_sub(1)
    }

    pub(crate) fn epoch_factors(&self, from: usize, to: usize) -> Vec<f32> {
        let change = self.references[from].iter().zip(&self.references[to]);
        change
            .map(|(&f, &t)| if f == t || f == f32::NEG_INFINITY { f32::from(f == t) } else { kernel::exp(f - t) })
            .collect()
    }
}

/// A [`Sum`] that grows, with features in lanes: `[d_v + 1][PANEL]` a panel of features.
struct RunningSum {
    panels: Vec<f32>,
    /// Features of a block's keys, `[key][PANEL]`.
    weights: Vec<f32>,
}

impl RunningSum {
    fn new(summary: &FeatureSummary<'_>) -> Self {
        let count = summary.n_features().div_ceil(PANEL);
        Self { panels: vec![0.0; count * summary.width() * PANEL], weights: Vec::new() }
    }

    fn clear(&mut self) {
        self.panels.fill(0.0);
    }

    /// Adds a block's N and Z, from its P.
    fn add_block(&mut self, summary: &FeatureSummary<'_>, block: usize, features: &[f32]) {
        let (m, width, level) = (summary.n_features(), summary.width(), summary.keys.level);
        let keys = summary.blocks.range(block);
        self.weights.resize(keys.len() * PANEL, 0.0);
        let listed = Keys::Range(keys);
        for (panel, sum) in self.panels.chunks_exact_mut(width * PANEL).enumerate() {
            let first = panel * PANEL;
            let lanes = PANEL.min(m - first);
            for (w, row) in self.weights.chunks_exact_mut(PANEL).zip(features.chunks_exact(m)) {
                match row[first..].first_chunk::<PANEL>() {
                    Some(row) => w.copy_from_slice(row),
                    None => {
                        w[..lanes].copy_from_slice(&row[first..]);
                        w[lanes..].fill(0.0);
                    }
                }
            }
            let (numerator, total) = sum.split_at_mut((width - 1) * PANEL);
            kernel::weighted_sum(level, &self.weights, summary.keys.value, &listed, numerator);
            kernel::add_lanes(level, &self.weights, total.first_chunk_mut().expect("a row of lanes"));
        }
    }

    /// Rescales from one epoch's references to another's.
    fn move_epoch(&mut self, summary: &FeatureSummary<'_>, from: usize, to: usize) {
        if from == to {
            return;
        }
        let factors = summary.epoch_factors(from, to);
        for (sum, factors) in self.panels.chunks_exact_mut(summary.width() * PANEL).zip(factors.chunks(PANEL)) {
            let mut lanes = [0.0; PANEL];
            lanes[..factors.len()].copy_from_slice(factors);
            kernel::scale_lanes(summary.keys.level, sum, &lanes);
        }
    }

    /// The sum, a row a feature.
    fn rows(&self, summary: &FeatureSummary<'_>) -> Sum {
        let width = summary.width();
        let mut sum = vec![0.0; summary.n_features() * width];
        for (rows, panel) in sum.chunks_mut(PANEL * width).zip(self.panels.chunks_exact(width * PANEL)) {
            kernel::unpack_rows(summary.keys.level, panel, rows);
        }
        sum
    }
}

/// ln |φ|₂ from ln |φ_l|.
pub(crate) fn log_norm(logs: &[f32]) -> f64 {
    0.5 * log_sum(logs.iter().map(|&x| 2.0 * f64::from(x)))
}

/// ln Σ e^x.
pub(crate) fn log_sum(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY { top } else { top + logs.map(|x| (x - top).exp()).sum::<f64>().ln() }
}

/// Gives features their signs.
pub(crate) fn apply_signs(negative: Option<&[bool]>, out: &mut [f32]) {
    for (o, _) in out.iter_mut().zip(negative.unwrap_or_default()).filter(|(_, n)| **n) {
        *o = -*o;
    }
}

impl Summary for FeatureSummary<'_> {
    fn tile<'a>(&'a self, tile: &Tile<'a>, _: &mut Selection) -> Box<dyn TileBackground + 'a> {
        Box::new(FeatureTile::new(self, *tile))
    }

    /// With several epochs under a causal mask, those of a panel's rows must agree.
    fn any_order(&self) -> bool {
        !self.keys.mask.is_causal() || self.references.len() == 1
    }

    /// W and the log-scale, where the rows of a tile have one epoch.
    fn memory(&self) -> usize {
        if self.any_order() { self.n_features() + 1 } else { 0 }
    }

    fn recall<'a>(&'a self, tile: &Tile<'a>, memory: &[f32]) -> Box<dyn TileBackground + 'a> {
        Box::new(FeatureTile::recalled(self, *tile, memory))
    }
}
