//! What `compare` and `decompose` found; serialised, it is the JSON of the contract. What does not apply is null.

use serde::Serialize;

/// The whole answer.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) input: InputSummary,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
    pub(crate) results: Vec<MethodResult>,
}

/// What was compared on.
#[derive(Debug, Serialize)]
pub(crate) struct InputSummary {
    pub(crate) file: String,
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) n: usize,
    pub(crate) m: usize,
    pub(crate) d: usize,
    pub(crate) d_v: usize,
    /// Rows of a head that errors are of; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<usize>,
    pub(crate) causal: bool,
    pub(crate) scale: f64,
}

/// One method.
#[derive(Debug, Serialize)]
pub(crate) struct MethodResult {
    pub(crate) method: &'static str,
    pub(crate) budget: Option<usize>,
    pub(crate) units: Option<usize>,
    pub(crate) causality: String,
    pub(crate) share: f64,
    pub(crate) scan_share: Option<f64>,
    pub(crate) error: ErrorSummary,
    pub(crate) zero_rows: usize,
    pub(crate) matrix_error: Option<f64>,
    pub(crate) seconds: f64,
    pub(crate) setup_seconds: f64,
    pub(crate) planning_seconds: Option<f64>,
    pub(crate) planned_error: Option<f64>,
    pub(crate) fallback_heads: Option<usize>,
    pub(crate) exact_seconds: f64,
    pub(crate) speedup: f64,
    pub(crate) extra_bytes: usize,
    pub(crate) dense_bytes: usize,
    pub(crate) heads: Vec<HeadResult>,
}

/// Row errors; null where every row is a zero row, or where a NaN came out.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorSummary {
    pub(crate) mean: Option<f64>,
    pub(crate) median: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) max: Option<f64>,
}

/// One head of one method.
#[derive(Debug, Serialize)]
pub(crate) struct HeadResult {
    pub(crate) batch: usize,
    pub(crate) head: usize,
    pub(crate) error: Option<f64>,
    pub(crate) planned_error: Option<f64>,
    pub(crate) fallback: bool,
}

/// What `decompose` found.
#[derive(Debug, Serialize)]
pub(crate) struct HeadDecomposition {
    pub(crate) file: String,
    pub(crate) batch: usize,
    pub(crate) head: usize,
    pub(crate) n: usize,
    pub(crate) m: usize,
    pub(crate) causal: bool,
    pub(crate) scale: f64,
    pub(crate) normalised: bool,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
    pub(crate) method: &'static str,
    pub(crate) budget: Option<usize>,
    pub(crate) rank: usize,
    pub(crate) nonzeros: usize,
    pub(crate) nonzero_share: f64,
    pub(crate) largest_row: usize,
    pub(crate) residual: f64,
    pub(crate) output_error: f64,
    pub(crate) left_coherence: Option<f64>,
    pub(crate) right_coherence: Option<f64>,
    pub(crate) iterations: usize,
    pub(crate) seconds: f64,
    pub(crate) singular_values: Vec<f64>,
    pub(crate) low_rank_singular_values: Vec<f64>,
    pub(crate) sparse_alone: Option<EndResult>,
    pub(crate) low_rank_alone: Option<EndResult>,
    pub(crate) splits: Vec<SplitRun>,
    pub(crate) optimality: Option<OptimalityResult>,
}

/// One part alone with all of the budget.
#[derive(Debug, Serialize)]
pub(crate) struct EndResult {
    pub(crate) rank: usize,
    pub(crate) per_row: usize,
    pub(crate) residual: f64,
    pub(crate) output_error: Option<f64>,
}

/// A split that was tried.
#[derive(Debug, Serialize)]
pub(crate) struct SplitRun {
    pub(crate) method: &'static str,
    pub(crate) rank: usize,
    pub(crate) per_row: usize,
    pub(crate) residual: f64,
    pub(crate) iterations: usize,
    pub(crate) settled: bool,
}

/// Optimality conditions of principal component pursuit.
#[derive(Debug, Serialize)]
pub(crate) struct OptimalityResult {
    pub(crate) primal: f64,
    pub(crate) dual: f64,
    pub(crate) tangent: Option<f64>,
    pub(crate) certified: bool,
}
