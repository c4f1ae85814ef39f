//! GoDec (Zhou, Tao, "GoDec: randomized low-rank & sparse matrix decomposition in noisy case", ICML 2011), with the
//! cardinality of S counted row by row.

use super::budgeted::Fit;
use super::{Callback, DecomposeError, Decomposition, Progress, Split, SplitOptions, StopReason};
use scatterbrain_core::Matrix;

/// Decreases ‖A − L − S‖_F over L of at most `split.rank` and S of at most `split.per_row` entries a row, by turns.
///
/// ```text
/// L ← the rank-r approximation of A − S          S ← the k largest |A − L| of each row
/// ```
///
/// The original counts the entries of S over the whole matrix; counted by rows they cost every query the same. It also
/// takes L from a fresh random projection; here L is a step of subspace iteration from the former one, which leaves no
/// more of A − S than the former L does, so that the residual never grows. Where it stops is a fixed point, a local
/// minimum at best. `matrix` is `[n, m]`.
///
/// # Errors
/// Entries that are not finite, rows that do not sum to one (if `normalised`), a rank above min(n, m), more entries
/// than m, neither rank nor entries, a stopping rule that makes no sense; no convergence; cancellation.
///
/// # Cost
/// O(n m (r + 10)) time an iteration, a full singular value decomposition each where r + 10 exceeds half of min(n, m);
/// `8 n m` bytes beside the input, and `12 k n` for S.
///
/// ```
/// use scatterbrain_combine::decompose::{Split, SplitOptions, go_dec, silent};
/// let data = [0.7f32, 0.1, 0.1, 0.1, 0.1, 0.7, 0.1, 0.1, 0.1, 0.1, 0.7, 0.1, 0.1, 0.1, 0.1, 0.7];
/// let matrix = scatterbrain_core::Matrix::new("matrix", &data, 4, 4)?;
/// let found = go_dec(&matrix, Split { rank: 1, per_row: 1 }, &SplitOptions::default(), &mut silent)?;
/// assert!(found.report.residual() < 1e-6);
/// assert_eq!(found.sparse.row(2).0, [2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn go_dec(
    matrix: &Matrix<'_>,
    split: Split,
    options: &SplitOptions,
    progress: &mut Callback<'_>,
) -> Result<Decomposition, DecomposeError> {
    let mut fit = Fit::new(matrix, split, options)?;
    let (mut last, mut idle) = (f64::INFINITY, 0);
    for iteration in 1..=options.max_iterations {
        if split.rank > 0 {
            fit.step_low_rank(split.rank)?;
        }
        let residual = fit.step_sparse(split.per_row, 0.0);
        idle = if residual > (1.0 - options.tolerance) * last { idle + 1 } else { 0 };
        last = residual;
        let (rank, nonzeros) = (fit.low_rank.rank(), fit.sparse.nonzeros());
        let cancelled = progress(&Progress { run: 0, runs: 1, iteration, residual, rank, nonzeros }).is_break();
        let stop = Fit::is_exact(residual)
            .then_some(StopReason::Tolerance)
            // Without a rank the first S is the best one.
            .or((idle >= options.stagnation || split.rank == 0).then_some(StopReason::Settled))
            .or(cancelled.then_some(StopReason::Cancelled))
            .or((iteration == options.max_iterations).then_some(StopReason::MaxIterations));
        if let Some(stop) = stop {
            return fit.finish(iteration, stop);
        }
    }
    unreachable!("max_iterations is at least 1, and its last iteration returns")
}
