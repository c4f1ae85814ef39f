//! What a head costs, by a count of operations: no clock is read, so the same input always has the same plan.
//!
//! ```text
//! exact            P·pair                                            pair = (d + d_v)·PRODUCT + SOFTMAX
//! window           n·min(b + s + PANEL, P/n)·pair
//! quantised-topk   P·(d·SCAN + CHOOSE) + m·d·QUANTISE + P·(1 − (1 − x)^UNION)·((d + d_v)·GATHERED + SOFTMAX)
//! scan             P·(d·CODE + d_v·CODE + EACH) + m·(d + d_v)·QUANTISE + n·SCANNED
//!                  + P·x·((d + d_v)·LISTED + HEAVY)
//! background       m·(d + d_v)·SUM + n·C'·((d + d_v)·PRODUCT + WEIGHT) + ENTRY a pair of the support
//!                  + KMEANS·m·C·d where every row sees the same keys
//! a row            (d + d_v)·COLUMN, and OTHER where it is not exact
//! ```
//!
//! P visible pairs, x the share of them that is exact (the sixteen rows of a panel gather the union of their keys), C' the
//! clusters that a row sees and the keys of its ragged ends. Nanoseconds of one core of the machine of `benches/record`,
//! fitted by eye to what `cargo run --release --example plan_costs` of `scatterbrain-attention` prints, and the union to
//! captures of SmolLM2 and Whisper; only ratios matter.

use super::Config;
use scatterbrain_core::Mask;
use scatterbrain_core::kernel::PANEL;

/// Sizes of a head that decide its cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub n: usize,
    pub m: usize,
    pub d: usize,
    pub d_v: usize,
    /// Pairs that causality and window leave: key lengths and boolean masks hardly change ratios of costs.
    pub pairs: f64,
    /// Whether every row sees every key.
    pub dense: bool,
    /// Whether there is a boolean mask: sums are then made pair by pair.
    pub boolean: bool,
}

const PRODUCT: f64 = 0.022;
const SOFTMAX: f64 = 0.3;
const SCAN: f64 = 0.0075;
const CHOOSE: f64 = 1.95;
const QUANTISE: f64 = 0.5;
const CODE: f64 = 0.0075;
const EACH: f64 = 0.55;
const SCANNED: f64 = 300.0;
const LISTED: f64 = 0.1;
const HEAVY: f64 = 4.0;
const UNION: f64 = 3.5;
const GATHERED: f64 = 0.036;
const CLUSTERED: f64 = 0.06;
const COPIED: f64 = 3.0;
const SUM: f64 = 1.2;
const WEIGHT: f64 = 0.6;
const ENTRY: f64 = 0.6;
const KMEANS: f64 = 0.13;
const COLUMN: f64 = 1.6;
const OTHER: f64 = 100.0;

impl Shape {
    pub(crate) fn new(n: usize, m: usize, d: usize, d_v: usize, mask: &Mask<'_>) -> Self {
        let all = Mask { key_lengths: None, allowed: None, ..*mask };
        let head = all.head(0, 0, n, m);
        let pairs = (0..n).map(|i| head.range(i).len() as f64).sum::<f64>();
        Shape { n, m, d, d_v, pairs, dense: head.is_dense(), boolean: mask.allowed.is_some() }
    }

    /// Keys that a row sees, on average.
    fn seen(&self) -> f64 {
        self.pairs / self.n as f64
    }

    /// The share of pairs that is exact where every row takes up to `keys`.
    pub(crate) fn share(&self, keys: Option<usize>) -> f64 {
        keys.map_or(1.0, |keys| (keys as f64 / self.seen().max(1.0)).min(1.0))
    }
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
    nanoseconds(config, shape, spent) / nanoseconds(Config::Exact, shape, Spent { exact: 1.0, scanned: 0.0 })
}

fn nanoseconds(config: Config, shape: &Shape, spent: Spent) -> f64 {
    let share = spent.exact;
    let Shape { n, m, d, d_v, pairs, .. } = *shape;
    let (n, m, d, both) = (n as f64, m as f64, d as f64, (d + d_v) as f64);
    let pair = both * PRODUCT + SOFTMAX;
    let rows = n * both * COLUMN;
    let support = match config {
        Config::Exact => return pairs * pair + rows,
        Config::Uniform | Config::Centroids { .. } => 0.0,
        Config::Scan { skip, .. } => {
            let scan = pairs * spent.scanned * (both * CODE + EACH) + m * both * QUANTISE + n * SCANNED;
            let routes = if skip > 0.0 { routes(shape) } else { 0.0 };
            scan + routes + pairs * share * (both * LISTED + HEAVY)
        }
        Config::Window { keys, sinks, .. } => n * ((keys + sinks + PANEL) as f64).min(shape.seen()) * pair,
        Config::QuantisedTopK { .. } => {
            let union = 1.0 - (1.0 - share).powf(UNION);
            pairs * (d * SCAN + CHOOSE) + m * d * QUANTISE + pairs * union * (both * GATHERED + SOFTMAX)
        }
    };
    support + background(config, shape, share) + rows + n * OTHER
}

/// Clusters of a scan: what is set up, and what a row asks of them.
fn routes(shape: &Shape) -> f64 {
    let Shape { n, m, d, d_v, .. } = *shape;
    let (n, m, d, both) = (n as f64, m as f64, d as f64, (d + d_v) as f64);
    let clusters = 1.4 * (if shape.dense { m } else { m / 2.0 }).sqrt();
    CLUSTERED * m * clusters * d + COPIED * m * both + n * clusters * (both * PRODUCT + WEIGHT)
}

fn background(config: Config, shape: &Shape, share: f64) -> f64 {
    let Shape { n, m, d, d_v, pairs, .. } = *shape;
    let (n, m, d, both) = (n as f64, m as f64, d as f64, (d + d_v) as f64);
    let mean = config == Config::Uniform;
    let count = if mean { 1.0 } else { config.centroids() as f64 };
    if count == 0.0 {
        return 0.0;
    }
    let weight = both * PRODUCT + WEIGHT;
    let sums = if shape.boolean {
        pairs * weight
    } else if shape.dense {
        let clusters = if mean { 0.0 } else { KMEANS * m * count * d };
        clusters + n * count * weight
    } else {
        // Clusters are blocks of keys, of which a row has half a one at its end.
        let ragged = if mean { PANEL as f64 } else { m / count / 2.0 };
        n * (count * shape.seen() / m + ragged) * weight
    };
    m * both * SUM + sums + share * pairs * ENTRY
}
