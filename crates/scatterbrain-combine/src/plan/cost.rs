//! What a head costs, by a count of operations: no clock is read, so the same input always has the same plan.
//!
//! ```text
//! exact            P·pair                                            pair = (d + d_v)·PRODUCT + SOFTMAX
//! window           n·min(b + s + PANEL, P/n)·pair
//! quantised-topk   P·(d·SCORED + CHOOSE) + m·d·QUANTISE + P·(1 − (1 − x)^UNION)·((d + d_v)·GATHERED + SOFTMAX)
//! inverted-file    m·(√C·d·ROUTED + FILED) + n·(√C·d·ROUTED + READ) + P·x·READING·gathered
//! its mass         m·d_v·SUM + n·S·(d·SAMPLED + SOFTMAX), and P·weight under a boolean mask; entries are in READING
//! scan             P·(d·CODE + d_v·CODE + EACH) + m·(d + d_v)·QUANTISE + n·SCANNED
//!                  + P·x·((d + d_v)·LISTED + HEAVY)
//! background       m·(d + d_v)·SUM + n·C'·((d + d_v)·PRODUCT + WEIGHT) + ENTRY a pair of the support
//!                  + KMEANS·m·C·d where every row sees the same keys and C are no blocks
//! a row            (d + d_v)·COLUMN, and OTHER where it is not exact
//! ```
//!
//! P visible pairs, x the share of them that is exact (the sixteen rows of a panel gather the union of their keys), C' the
//! clusters that a row sees and the keys of its ragged ends, S sampled keys. Nanoseconds of one core of the machine of
//! `benches/record`, fitted by eye to what `cargo run --release --example plan_costs` of `scatterbrain-attention` prints,
//! and the union to captures of SmolLM2 and Whisper; only ratios matter. Trials of a plan cost besides: rows far from each
//! other take SCATTERED times as long, APART times where they are exact, those with a tile of their own ALONE more, and a trial
//! BEGUN. These, narrow heads (NARROW), what is set up (QUANTISE, SUM, MEMBER, KMEANS) and a look at every number (CHECK) were
//! fitted to timed trials on another machine, in times of its exact attention.

use super::Config;
use super::config::MASS_SAMPLES;
use scatterbrain_core::Mask;
use scatterbrain_core::kernel::PANEL;

/// Sizes of a head that decide its cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub n: usize,
    pub m: usize,
    pub d: usize,
    pub d_v: usize,
    /// Pairs that causality and window leave: of key lengths the planner takes their mean for `m`, and boolean masks hardly
    /// change ratios of costs.
    pub pairs: f64,
    /// Whether every row sees every key.
    pub dense: bool,
    /// Whether there is a boolean mask: sums are then made pair by pair.
    pub boolean: bool,
    /// Whether rows see a window: those far from each other then have few keys in common or none.
    pub window: bool,
}

/// A column of an exact pair in a panel, and of one that rows list by themselves.
const PRODUCT: f64 = 0.022;
const GATHERED: f64 = 0.036;
/// Of an exact pair what is not by column.
const SOFTMAX: f64 = 0.3;
/// A row's column of query and output.
const COLUMN: f64 = 0.6;
/// What a row asks that is not exact throughout.
const OTHER: f64 = 100.0;

/// A column of a pair of codes where largest are chosen, and the choice itself.
const SCORED: f64 = 0.0075;
const CHOOSE: f64 = 1.95;
/// Rows of a panel gather the union of their keys: as if each had so many times its share, by chance.
const UNION: f64 = 3.5;

/// A column of a scanned pair, in scores and in sums; the rest of a pair; and of a row.
const CODE: f64 = 0.0075;
const EACH: f64 = 0.55;
const SCANNED: f64 = 300.0;
/// A column of a heavy pair of a scan, and the rest of it.
const LISTED: f64 = 0.1;
const HEAVY: f64 = 4.0;

/// A column of a key or row that meets a cell or cluster; a key that is filed; a row's reading; and how many times a
/// gathered pair one that is read costs.
const ROUTED: f64 = 0.6;
const FILED: f64 = 300.0;
const READ: f64 = 1000.0;
const READING: f64 = 3.0;
/// A column of a sampled logit of a mass.
const SAMPLED: f64 = 0.05;

/// Of a pair of a query and a centroid what is not by column, and the weight of a centroid's part of a pair of the support.
const WEIGHT: f64 = 0.6;
const ENTRY: f64 = 0.6;

/// Set up: a number to codes, a number to sums, a column of a key and a centroid in k-means.
const QUANTISE: f64 = 0.5;
const SUM: f64 = 0.4;
const KMEANS: f64 = 0.2;
/// A look at a number of the input, before planning.
const CHECK: f64 = 0.4;

/// How many times as long rows of a trial take, far from each other as they are; and where they are exact.
const SCATTERED: f64 = 1.5;
const SCATTERED_UNDER_MASK: f64 = 2.0;
const SCANS_UNDER_MASK: f64 = 1.7;
const APART: f64 = 1.3;
/// In several panels under a mask, and in one: it goes through all keys that its last row sees, twice as many as rows see on
/// average, and finds them in no cache.
const APART_UNDER_MASK: f64 = 1.9;
const ONE_PANEL_UNDER_MASK: f64 = 3.1;
/// A row of a trial with a tile of its own; a trial, and one with centroids under a mask; without one a key to its cluster.
const ALONE: f64 = 2000.0;
const BEGUN: f64 = 16_000.0;
const BLOCKS_BEGUN: f64 = 35_000.0;
const MEMBER: f64 = 33.0;
/// How many times as long as counted rows of trials of narrow heads take, of fewer columns in keys and values together: a pair is
/// so cheap there that what is not counted by pair shows.
const NARROW: f64 = 1.2;
const NARROW_COLUMNS: usize = 48;

impl Shape {
    pub(crate) fn new(n: usize, m: usize, d: usize, d_v: usize, mask: &Mask<'_>) -> Self {
        let all = Mask { key_lengths: None, allowed: None, ..*mask };
        let head = all.head(0, 0, n, m);
        let window = mask.window.is_some();
        let pairs = match (window, mask.causal) {
            (true, _) => (0..n).map(|i| head.range(i).len() as f64).sum::<f64>(),
            (false, true) => pairs_before(n, m),
            (false, false) => n as f64 * m as f64,
        };
        Shape { n, m, d, d_v, pairs, dense: head.is_dense(), boolean: mask.allowed.is_some(), window }
    }

    /// Keys that a row sees, on average.
    pub(crate) fn seen(&self) -> f64 {
        self.pairs / self.n as f64
    }

    /// How many times as much rows far from each other cost under a window: a panel goes through what lies between them, or
    /// each has a panel of its own.
    pub(crate) fn lone(&self) -> f64 {
        let between = self.m as f64 / self.seen().max(1.0);
        if self.window { between.clamp(1.0, PANEL as f64) } else { 1.0 }
    }

    /// Rows that see a key, windows left out.
    pub(crate) fn seeing(&self, causal: bool) -> usize {
        if causal { self.n.min(self.m) } else { self.n }
    }

    /// An exact pair.
    fn pair(&self) -> f64 {
        (self.d + self.d_v) as f64 * PRODUCT + SOFTMAX
    }

    /// A pair of a query and a centroid.
    fn weight(&self) -> f64 {
        (self.d + self.d_v) as f64 * PRODUCT + WEIGHT
    }

    /// Keys at the end of a row that fill no block.
    fn ragged(&self, blocks: usize) -> f64 {
        (self.m / blocks) as f64 / 2.0
    }

    /// An exact pair of a list.
    fn gathered(&self) -> f64 {
        (self.d + self.d_v) as f64 * GATHERED + SOFTMAX
    }

    /// The share of pairs that is exact where every row takes up to `keys`.
    pub(crate) fn share(&self, keys: Option<usize>) -> f64 {
        keys.map_or(1.0, |keys| (keys as f64 / self.seen().max(1.0)).min(1.0))
    }
}

/// Pairs under a causal mask: the last query sees every key, each one before it a key less.
fn pairs_before(n: usize, m: usize) -> f64 {
    let (n, m) = (n as f64, m as f64);
    if n <= m { n * m - n * (n - 1.0) / 2.0 } else { m * (m + 1.0) / 2.0 }
}

/// What a configuration looks at, as parts of the visible pairs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    /// Exactly.
    pub exact: f64,
    /// In low precision.
    pub scanned: f64,
}

/// Cost over that of exact attention.
pub(crate) fn relative(config: Config, shape: &Shape, spent: Spent) -> f64 {
    time(config, shape, spent).total() / exact(shape)
}

/// Nanoseconds of exact attention.
pub(crate) fn exact(shape: &Shape) -> f64 {
    time(Config::Exact, shape, Spent { exact: 1.0, scanned: 0.0 }).total()
}

/// Nanoseconds of what every call checks, for one of the heads that share keys and values.
pub(crate) fn checks(shape: &Shape, group: usize) -> f64 {
    let Shape { n, m, d, d_v, .. } = *shape;
    CHECK * ((n * d) as f64 + (m * (d + d_v)) as f64 / group as f64)
}

/// Nanoseconds of a configuration on some `rows` of a head, and of what it prepares of the head unless that is `prepared`.
pub(crate) fn trial(config: Config, shape: &Shape, rows: usize, prepared: bool) -> f64 {
    let all = Spent { exact: shape.share(config.keys()), scanned: 1.0 };
    let Time { setup, rows: mut of_all } = time(config, shape, all);
    if let Config::Window { keys, sinks, .. } = config {
        // Their windows lie apart: the keys of each are listed.
        let listed = ((keys + sinks) as f64).min(shape.seen()) * shape.gathered();
        let block = ((keys + sinks + PANEL) as f64).min(shape.seen()) * shape.pair();
        of_all += shape.n as f64 * (listed - block);
    }
    if let Config::Window { centroids, .. } | Config::Centroids { centroids } = config {
        // So are the ragged ends of their blocks, which a panel goes through for all.
        let ragged = if shape.dense || centroids == 0 { 0.0 } else { shape.ragged(centroids) * shape.weight() };
        of_all += shape.n as f64 * ragged * (PANEL - 1) as f64;
    }
    if config.wants_neighbours() && !shape.dense {
        of_all += shape.n as f64 * ALONE;
    }
    if let Config::InvertedFile { keys, .. } = config {
        // A panel goes through what any of its rows reads, and here they have nothing in common.
        of_all += shape.n as f64 * (keys as f64).min(shape.seen()) * shape.gathered() * (PANEL - 1) as f64;
    }
    let support = matches!(config, Config::QuantisedTopK { .. } | Config::InvertedFile { .. });
    let setup = if prepared && !support { 0.0 } else { setup };
    let scattered = match (config, shape.dense) {
        (Config::Exact, true) => APART,
        (Config::Exact, false) if rows <= PANEL => ONE_PANEL_UNDER_MASK,
        (Config::Exact, false) => APART_UNDER_MASK,
        (_, true) => SCATTERED,
        (Config::Scan { .. }, false) => SCANS_UNDER_MASK,
        (_, false) => SCATTERED_UNDER_MASK,
    } * shape.lone();
    let begun = match (shape.dense, config.centroids()) {
        (true, _) => 0.0,
        (false, 0) => BEGUN,
        (false, _) => BEGUN + BLOCKS_BEGUN,
    };
    let narrow = if shape.d + shape.d_v < NARROW_COLUMNS { NARROW } else { 1.0 };
    begun + setup + narrow * scattered * of_all * rows as f64 / shape.n as f64
}

/// [`trial`] that goes through all rows, whatever they err by. Those for an error mostly stop before, and without a mask what
/// they save so pays for their beginning.
pub(crate) fn whole_trial(config: Config, shape: &Shape, rows: usize, prepared: bool) -> f64 {
    let members = if prepared || config.centroids() == 0 { 0.0 } else { shape.m as f64 * MEMBER };
    let begun = if shape.dense { BEGUN + members } else { 0.0 };
    trial(config, shape, rows, prepared) + begun
}

/// Nanoseconds: of what is prepared once, and of all rows.
struct Time {
    setup: f64,
    rows: f64,
}

impl Time {
    fn total(&self) -> f64 {
        self.setup + self.rows
    }
}

fn time(config: Config, shape: &Shape, spent: Spent) -> Time {
    let share = spent.exact;
    let Shape { n, m, d, d_v, pairs, .. } = *shape;
    let (n, m, d, both) = (n as f64, m as f64, d as f64, (d + d_v) as f64);
    let pair = shape.pair();
    let rows = n * both * COLUMN;
    let support = match config {
        Config::Exact => return Time { setup: 0.0, rows: pairs * pair + rows },
        Config::Uniform | Config::Centroids { .. } => Time { setup: 0.0, rows: 0.0 },
        Config::Scan { .. } => {
            let scan = pairs * spent.scanned * (both * CODE + EACH) + n * SCANNED;
            let heavy = pairs * share * (both * LISTED + HEAVY);
            Time { setup: m * both * QUANTISE, rows: scan + heavy }
        }
        Config::Window { keys, sinks, .. } => {
            Time { setup: 0.0, rows: n * ((keys + sinks + PANEL) as f64).min(shape.seen()) * pair }
        }
        Config::InvertedFile { clusters, .. } => {
            let routed = (clusters as f64).sqrt() * d * ROUTED;
            let rows = n * (routed + READ) + pairs * share * READING * shape.gathered();
            Time { setup: m * (routed + FILED), rows }
        }
        Config::QuantisedTopK { .. } => {
            let union = 1.0 - (1.0 - share).powf(UNION);
            let rows = pairs * (d * SCORED + CHOOSE) + pairs * union * shape.gathered();
            Time { setup: m * d * QUANTISE, rows }
        }
    };
    let far = background(config, shape, share);
    Time { setup: support.setup + far.setup, rows: support.rows + far.rows + rows + n * OTHER }
}

/// Of a mass from sampled keys.
fn mass(shape: &Shape) -> Time {
    let scores = shape.n as f64 * MASS_SAMPLES as f64 * (shape.d as f64 * SAMPLED + SOFTMAX);
    let sums = if shape.boolean { shape.pairs * shape.weight() } else { 0.0 };
    Time { setup: (shape.m * shape.d_v) as f64 * SUM, rows: scores + sums }
}

fn background(config: Config, shape: &Shape, share: f64) -> Time {
    if let Config::InvertedFile { .. } = config {
        return mass(shape);
    }
    let Shape { n, m, d, d_v, pairs, .. } = *shape;
    let (n, m, d, both) = (n as f64, m as f64, d as f64, (d + d_v) as f64);
    let mean = config == Config::Uniform;
    let count = if mean { 1.0 } else { config.centroids() as f64 };
    if count == 0.0 {
        return Time { setup: 0.0, rows: 0.0 };
    }
    let weight = shape.weight();
    let blocks = mean || matches!(config, Config::Window { .. });
    let kmeans = if shape.dense && !blocks { KMEANS * m * count * d } else { 0.0 };
    let sums = if shape.boolean {
        pairs * weight
    } else if shape.dense {
        n * count * weight
    } else {
        // Clusters are blocks of keys, of which a row has half a one at its end.
        let ragged = if mean { PANEL as f64 } else { shape.ragged(config.centroids()) };
        n * (count * shape.seen() / m + ragged) * weight
    };
    Time { setup: m * both * SUM + kmeans, rows: sums + share * pairs * ENTRY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_those_that_a_mask_leaves() {
        for (n, m) in [(1, 1), (5, 5), (3, 7), (7, 3), (1, 9), (9, 1)] {
            for causal in [false, true] {
                let mask = Mask { causal, ..Mask::default() };
                let head = mask.head(0, 0, n, m);
                let pairs: usize = (0..n).map(|i| head.range(i).len()).sum();
                let shape = Shape::new(n, m, 4, 4, &mask);
                assert_eq!(shape.pairs, pairs as f64, "{n} {m} {causal}");
                let seeing = (0..n).filter(|&i| !head.range(i).is_empty()).count();
                assert_eq!(shape.seeing(causal), seeing, "{n} {m} {causal}");
            }
        }
    }
}
