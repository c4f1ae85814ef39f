//! Robust PCA of an attention matrix: A ≈ L + S, L of low rank, S sparse.
//!
//! | function | given | finds |
//! |---|---|---|
//! | [`principal_component_pursuit`] | λ | the minimiser of ‖L‖_* + λ‖S‖₁ under L + S = A, a convex problem |
//! | [`go_dec`] | rank, entries a row | a local minimum of ‖A − L − S‖_F, by turns over L and S |
//! | [`alternating_projections`] | the same | the same, ranks raised in stages and entries admitted by a falling threshold |
//! | [`best_at_budget`] | units a query | the best split of a budget over rank and entries among those tried |
//!
//! Sums are in f64: f32 has twice the speed (X·V of 2048 × 2048 × 256: 92 ms against 205 ms side by side), but its
//! rounding is 6e-8 of an entry, and thresholds, certificates and residuals here go below.
//! Products run in blocks of fixed size on the current rayon pool and sums are joined in order, so that results do
//! not depend on the number of threads.

mod alternating;
mod budgeted;
mod factors;
mod go_dec;
mod input;
mod partial_svd;
mod product;
mod pursuit;
mod spectrum;
mod top;
mod yardstick;

pub use alternating::alternating_projections;
pub use factors::{LowRank, SparseRows};
pub use go_dec::go_dec;
pub use pursuit::{PursuitOptions, principal_component_pursuit};
pub use spectrum::singular_values;
pub use yardstick::{End, Heuristic, SplitResult, Yardstick, YardstickOptions, best_at_budget, relative_output_error};

use scatterbrain_core::Seed;
use serde::Serialize;
use std::ops::ControlFlow;

/// What a query may use of each part: at 2 units a rank and 1 an entry, `2 * rank + per_row` units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Split {
    /// Largest rank of L.
    pub rank: usize,
    /// Most entries in a row of S.
    pub per_row: usize,
}

impl Split {
    /// Units of a query.
    pub fn units(&self) -> usize {
        2 * self.rank + self.per_row
    }
}

/// When to stop, and what the input is, for [`go_dec`] and [`alternating_projections`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SplitOptions {
    /// Refuse a matrix whose rows do not sum to one (or to zero, where a query sees no key).
    pub normalised: bool,
    /// Seed of the first random subspace.
    pub seed: Seed,
    /// Iterations after which it is an error not to have settled.
    pub max_iterations: usize,
    /// A relative decrease of the residual of less than this in one iteration is none.
    pub tolerance: f64,
    /// Iterations in a row without a decrease after which the residual has settled.
    pub stagnation: usize,
}

impl Default for SplitOptions {
    /// Normalised, seed 0, 300 iterations, 1e-3, twice in a row.
    fn default() -> Self {
        Self { normalised: true, seed: Seed(0), max_iterations: 300, tolerance: 1e-3, stagnation: 2 }
    }
}

/// Where a run stands; the callback gets one after each iteration, and cancels by `ControlFlow::Break(())`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// This run among `runs`, from 0; several where [`best_at_budget`] tries splits.
    pub run: usize,
    /// Runs in all.
    pub runs: usize,
    /// Iterations done in this run.
    pub iteration: usize,
    /// ‖A − L − S‖_F / ‖A‖_F.
    pub residual: f64,
    /// Rank of L.
    pub rank: usize,
    /// Entries of S that are not zero.
    pub nonzeros: usize,
}

/// A progress callback.
pub type Callback<'a> = dyn FnMut(&Progress) -> ControlFlow<()> + 'a;

/// The callback that never cancels.
///
/// ```
/// use scatterbrain_combine::decompose::{Split, SplitOptions, go_dec, silent};
/// # let matrix = [0.25f32; 16];
/// # let matrix = scatterbrain_core::Matrix::new("matrix", &matrix, 4, 4)?;
/// let found = go_dec(&matrix, Split { rank: 1, per_row: 0 }, &SplitOptions::default(), &mut silent)?;
/// assert!(found.report.residual() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn silent(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// L + S and how it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Decomposition {
    /// L.
    pub low_rank: LowRank,
    /// S.
    pub sparse: SparseRows,
    /// The multipliers Y of L + S = A, `[n, m]`; of principal component pursuit alone.
    pub dual: Option<Vec<f64>>,
    /// How it went.
    pub report: DecompositionReport,
}

impl Decomposition {
    /// L + S, `[n, m]`.
    pub fn to_dense(&self) -> Vec<f64> {
        let mut dense = self.low_rank.to_dense();
        self.sparse.add_to(&mut dense);
        dense
    }
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecompositionReport {
    /// Iterations done.
    pub iterations: usize,
    /// ‖A − L − S‖_F / ‖A‖_F after each; a single 0 for the zero matrix.
    pub residuals: Vec<f64>,
    /// Rank of L.
    pub rank: usize,
    /// Entries of S that are not zero.
    pub nonzeros: usize,
    /// Why it ended.
    pub stop: StopReason,
    /// How far it is from the optimality conditions; of principal component pursuit alone.
    pub optimality: Option<Optimality>,
    /// Full singular value decompositions that were needed because the rank was not small.
    pub full_svds: usize,
}

impl DecompositionReport {
    /// The residual of what is returned.
    pub fn residual(&self) -> f64 {
        self.residuals.last().copied().unwrap_or(0.0)
    }
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum StopReason {
    /// Every stopping condition is met, or nothing is left of A.
    Tolerance,
    /// The residual has stopped decreasing: a fixed point of the iteration.
    Settled,
    /// `max_iterations` were done. An error.
    MaxIterations,
    /// The conditions were not met, and came no nearer. An error.
    Stagnation,
    /// The callback said so. An error.
    Cancelled,
}

/// Optimality conditions of principal component pursuit: L + S = A, Y ∈ λ∂‖S‖₁ and Y ∈ ∂‖L‖_*.
///
/// Y ∈ λ∂‖S‖₁ (|Y| ≤ λ, Y = λ·sign S on the support) holds exactly by the way S and Y are computed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Optimality {
    /// ‖A − L − S‖_F / ‖A‖_F.
    pub primal: f64,
    /// ‖Y − Ŷ‖_F / ‖Y‖_F, Ŷ the multipliers that the step of L has seen.
    pub dual: f64,
    /// The larger of ‖YV − U‖_F and ‖YᵀU − V‖_F, over √rank, L = U Σ Vᵀ; none where it was not computed.
    pub tangent: Option<f64>,
    /// Whether ‖Ŷ‖₂ ≤ 1 + 1e-6 off the captured subspace was proved, by a Cholesky factorisation.
    pub certified: bool,
}

impl Optimality {
    fn worst(&self) -> f64 {
        self.primal.max(self.dual)
    }
}

/// Why there is no decomposition, or only an unfinished one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecomposeError {
    /// The input or an option cannot be used; nothing was computed.
    #[error(transparent)]
    Input(#[from] scatterbrain_core::Error),
    /// The stopping rule was not met; the best iterate and its report are inside.
    #[error("not converged after {} iterations ({:?}), residual {:.1e}", .0.report.iterations, .0.report.stop, .0.report.residual())]
    NotConverged(Box<Decomposition>),
    /// The callback cancelled; the best iterate and its report are inside.
    #[error("cancelled after {} iterations, residual {:.1e}", .0.report.iterations, .0.report.residual())]
    Cancelled(Box<Decomposition>),
    /// A dense factorisation failed, which finite input does not make likely.
    #[error("the factorisation of a {rows} x {cols} matrix did not converge")]
    Factorisation {
        /// Rows of it.
        rows: usize,
        /// Columns of it.
        cols: usize,
    },
}

impl Decomposition {
    /// Ok, or the error that belongs to the stop reason.
    fn finished(self) -> Result<Self, DecomposeError> {
        match self.report.stop {
            StopReason::Tolerance | StopReason::Settled => Ok(self),
            StopReason::MaxIterations | StopReason::Stagnation => Err(DecomposeError::NotConverged(Box::new(self))),
            StopReason::Cancelled => Err(DecomposeError::Cancelled(Box::new(self))),
        }
    }
}
