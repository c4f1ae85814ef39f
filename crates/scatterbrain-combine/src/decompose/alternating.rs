//! Alternating projections (Netrapalli, Niranjan, Sanghavi, Anandkumar, Jain, "Non-convex robust PCA", NeurIPS 2014),
//! with at most k entries in a row of S.

use super::budgeted::Fit;
use super::factors::{LowRank, SparseRows};
use super::{Callback, DecomposeError, Decomposition, Progress, Split, SplitOptions, StopReason};
use scatterbrain_core::Matrix;

/// Iterations of a stage after which its threshold has fallen as far as it will, to rounding.
const LONGEST_STAGE: usize = 40;

/// Decreases ‖A − L − S‖_F over L of at most `split.rank` and S of at most `split.per_row` entries a row, by projections
/// whose rank rises in stages and whose threshold falls.
///
/// ```text
/// S ← entries of A above β σ₁(A)
/// for ρ = 1, 2, 4, …, r:   for t = 0, 1, …:
///     L ← the rank-ρ approximation of A − S
///     S ← entries of A − L above β (σ_{ρ+1} + 2^{−t} σ_ρ), the k largest of a row,   σ of A − S, β = 1/√max(n, m)
/// last:  S ← the k largest |A − L| of each row
/// ```
///
/// How it differs from [`super::go_dec`]: S takes an entry only where it exceeds what a component not yet in L could
/// put there, and L learns its strong components first, so that entries which belong to L are not caught in S early; the
/// residual may grow on the way.
/// How it differs from the paper: the number of entries in a row is bounded and filled up at last, ranks double from
/// stage to stage instead of rising by one (the cost of r stages), a stage ends where its residual has settled, and
/// L is a step of subspace iteration. The paper's proof covers none of these. `matrix` is `[n, m]`.
///
/// # Errors
/// As [`super::go_dec`].
///
/// # Cost
/// As [`super::go_dec`], with log₂ r stages.
///
/// ```
/// use scatterbrain_combine::decompose::{Split, SplitOptions, alternating_projections, silent};
/// let data = [0.7f32, 0.1, 0.1, 0.1, 0.1, 0.7, 0.1, 0.1, 0.1, 0.1, 0.7, 0.1, 0.1, 0.1, 0.1, 0.7];
/// let matrix = scatterbrain_core::Matrix::new("matrix", &data, 4, 4)?;
/// let split = Split { rank: 1, per_row: 1 };
/// let found = alternating_projections(&matrix, split, &SplitOptions::default(), &mut silent)?;
/// assert!(found.report.residual() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn alternating_projections(
    matrix: &Matrix<'_>,
    split: Split,
    options: &SplitOptions,
    progress: &mut Callback<'_>,
) -> Result<Decomposition, DecomposeError> {
    let mut fit = Fit::new(matrix, split, options)?;
    let beta = 1.0 / (fit.input.n.max(fit.input.m) as f64).sqrt();
    if split.rank > 0 {
        let largest = fit.step_low_rank(1)?[0];
        fit.low_rank = LowRank::zero(fit.input.n, fit.input.m);
        fit.step_sparse(split.per_row, beta * largest);
        // What was before the first iteration is no residual of one.
        fit.residuals.clear();
    }
    let (mut stage, mut step) = (split.rank.min(1), 0);
    let (mut last, mut idle) = (f64::INFINITY, 0);
    let mut best: Option<(f64, LowRank, SparseRows)> = None;
    for iteration in 1..=options.max_iterations {
        let mut threshold = 0.0;
        if stage > 0 {
            let values = fit.step_low_rank(stage)?;
            let value = |c: usize| values.get(c).copied().unwrap_or(0.0);
            threshold = beta * (value(stage) + 0.5f64.powi(step as i32) * value(stage - 1));
        }
        let residual = fit.step_sparse(split.per_row, threshold);
        step += 1;
        idle = if (residual - last).abs() < options.tolerance * last { idle + 1 } else { 0 };
        last = residual;
        let (rank, nonzeros) = (fit.low_rank.rank(), fit.sparse.nonzeros());
        let cancelled = progress(&Progress { run: 0, runs: 1, iteration, residual, rank, nonzeros }).is_break();
        let stage_ends = idle >= options.stagnation || step >= LONGEST_STAGE || Fit::is_exact(residual);
        let settled = stage_ends && (stage == split.rank || Fit::is_exact(residual));
        if best.as_ref().is_none_or(|(r, _, _)| residual < *r) {
            best = Some((residual, fit.low_rank.clone(), fit.sparse.clone()));
        }
        let stop = (settled || split.rank == 0)
            .then_some(StopReason::Settled)
            .or(cancelled.then_some(StopReason::Cancelled))
            .or((iteration == options.max_iterations).then_some(StopReason::MaxIterations));
        if let Some(stop) = stop {
            return fill(fit, best, split.per_row, iteration, stop);
        }
        if stage_ends {
            (stage, step, idle) = ((2 * stage).min(split.rank), 0, 0);
        }
    }
    unreachable!("max_iterations is at least 1, and its last iteration returns")
}

/// Fills the rows of the best S with the largest entries that its L leaves.
fn fill(
    mut fit: Fit<'_>,
    best: Option<(f64, LowRank, SparseRows)>,
    per_row: usize,
    iterations: usize,
    stop: StopReason,
) -> Result<Decomposition, DecomposeError> {
    if let Some((_, low_rank, _)) = best {
        fit.low_rank = low_rank;
    }
    let residual = fit.step_sparse(per_row, 0.0);
    let stop = if Fit::is_exact(residual) { StopReason::Tolerance } else { stop };
    fit.finish(iterations, stop)
}
