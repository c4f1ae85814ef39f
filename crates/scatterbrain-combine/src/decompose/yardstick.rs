//! The yardstick: how well some L + S does at a budget.

use super::factors::{LowRank, SparseRows};
use super::input::Input;
use super::spectrum::spectrum;
use super::{Callback, DecomposeError, Decomposition, Progress, Split, SplitOptions, alternating_projections, go_dec};
use rayon::prelude::*;
use scatterbrain_core::{Error, Matrix, Result as CoreResult};
use serde::{Deserialize, Serialize};

/// An algorithm for a fixed split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Heuristic {
    /// [`go_dec`].
    GoDec,
    /// [`alternating_projections`].
    AlternatingProjections,
}

/// What [`best_at_budget`] tries.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct YardstickOptions {
    /// The one algorithm to use; both where none is given.
    pub heuristic: Option<Heuristic>,
    /// Options of each run.
    pub split: SplitOptions,
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SplitResult {
    /// Which algorithm.
    pub heuristic: Heuristic,
    /// The split tried.
    pub split: Split,
    /// ‖A − L − S‖_F / ‖A‖_F.
    pub error: f64,
    /// Iterations done.
    pub iterations: usize,
    /// Whether it settled within `max_iterations`.
    pub settled: bool,
}

/// One part alone with all of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct End {
    /// All rank, or all entries.
    pub split: Split,
    /// ‖A − L‖_F or ‖A − S‖_F over ‖A‖_F: the smallest possible.
    pub error: f64,
    /// [`relative_output_error`], where values were given.
    pub output_error: Option<f64>,
}

/// A good L + S at a budget, and the two ends for comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Yardstick {
    /// L.
    pub low_rank: LowRank,
    /// S.
    pub sparse: SparseRows,
    /// How the budget was split.
    pub split: Split,
    /// Which algorithm found it.
    pub heuristic: Heuristic,
    /// ‖A − L − S‖_F / ‖A‖_F.
    pub error: f64,
    /// [`relative_output_error`], where values were given.
    pub output_error: Option<f64>,
    /// The best S alone: the largest entries of each row, an exact optimum.
    pub sparse_alone: End,
    /// The best L alone: the truncated singular value decomposition, an exact optimum (Eckart and Young).
    pub low_rank_alone: End,
    /// All runs, in the order tried.
    pub splits: Vec<SplitResult>,
    /// Singular values of A, falling.
    pub singular_values: Vec<f64>,
}

/// A good L + S of at most `budget` units a query, a rank costing 2 and an entry of S 1. **A heuristic**: neither is a
/// fixed split solved to its optimum nor are all splits tried, so the error is an upper bound of the best one.
///
/// Ranks 0, 1, 2, 4, … up to budget/2 are tried, then those half-way between the best and its neighbours; the smallest
/// Frobenius error wins. `matrix` is `[n, m]`, `value` `[m, d_v]`. Each run's iterations are told to `progress`.
///
/// # Errors
/// Entries that are not finite, rows that do not sum to one (if `normalised`), a budget of 0, values of other than m
/// rows; cancellation. A run that does not settle is no error: its best iterate counts, and `settled` says so.
///
/// # Cost
/// About log₂ budget runs an algorithm, and the eigenvalues of a min(n, m)² matrix; memory of one run and 16 min(n, m)²
/// bytes.
///
/// ```
/// use scatterbrain_combine::decompose::{YardstickOptions, best_at_budget, silent};
/// let data: Vec<f32> = (0..40 * 40).map(|e| if e % 41 == 0 { 0.61 } else { 0.01 }).collect();
/// let matrix = scatterbrain_core::Matrix::new("matrix", &data, 40, 40)?;
/// let found = best_at_budget(&matrix, None, 3, &YardstickOptions::default(), &mut silent)?;
/// assert_eq!((found.split.rank, found.split.per_row), (1, 1));
/// assert!(found.error < 1e-6 && found.sparse_alone.error > 0.09 && found.low_rank_alone.error > 0.9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn best_at_budget(
    matrix: &Matrix<'_>,
    value: Option<&Matrix<'_>>,
    budget: usize,
    options: &YardstickOptions,
    progress: &mut Callback<'_>,
) -> Result<Yardstick, DecomposeError> {
    if budget == 0 {
        return Err(Error::invalid("budget", "at least 1", 0).into());
    }
    check_value(matrix, value)?;
    let input = Input::check(matrix, options.split.normalised)?;
    let values = spectrum(&input)?;
    let mut search = Search { matrix, budget, options, progress, runs: 0, splits: Vec::new(), best: None };
    search.all()?;
    let (found, split, heuristic) = search.best.take().expect("rank 0 or rank 1 fits any budget");
    let splits = std::mem::take(&mut search.splits);
    let output = |l: &LowRank, s: &SparseRows| value.map(|v| relative_output_error(matrix, l, s, v)).transpose();
    let error = found.report.residual();
    Ok(Yardstick {
        output_error: output(&found.low_rank, &found.sparse)?,
        sparse_alone: search.sparse_alone(value)?,
        low_rank_alone: search.low_rank_alone(&input, &values, value)?,
        low_rank: found.low_rank,
        sparse: found.sparse,
        split,
        heuristic,
        error,
        splits,
        singular_values: values,
    })
}

struct Search<'a, 'p> {
    matrix: &'a Matrix<'a>,
    budget: usize,
    options: &'a YardstickOptions,
    progress: &'a mut Callback<'p>,
    /// Runs expected.
    runs: usize,
    splits: Vec<SplitResult>,
    best: Option<(Decomposition, Split, Heuristic)>,
}

impl Search<'_, '_> {
    fn all(&mut self) -> Result<(), DecomposeError> {
        let most = self.most_rank();
        let mut ranks: Vec<usize> = std::iter::once(0)
            .chain(std::iter::successors(Some(1), |r| Some(2 * r)).take_while(|r| *r < most))
            .chain((most > 0).then_some(most))
            .collect();
        // Two more ranks are tried at last.
        self.runs = (ranks.len() + 2) * self.heuristics().len();
        for &rank in &ranks {
            self.try_rank(rank)?;
        }
        let best = self.best.as_ref().map_or(0, |(_, split, _)| split.rank);
        let at = ranks.iter().position(|&r| r == best).unwrap_or(0);
        let neighbours = [at.checked_sub(1), Some(at + 1)].into_iter().flatten().filter_map(|i| ranks.get(i));
        let between: Vec<usize> = neighbours.map(|r| (r + best) / 2).collect();
        for rank in between {
            if !ranks.contains(&rank) {
                ranks.push(rank);
                self.try_rank(rank)?;
            }
        }
        Ok(())
    }

    fn most_rank(&self) -> usize {
        (self.budget / 2).min(self.matrix.rows()).min(self.matrix.cols())
    }

    fn heuristics(&self) -> Vec<Heuristic> {
        match self.options.heuristic {
            Some(one) => vec![one],
            None => vec![Heuristic::GoDec, Heuristic::AlternatingProjections],
        }
    }

    fn try_rank(&mut self, rank: usize) -> Result<(), DecomposeError> {
        let split = Split { rank, per_row: (self.budget - 2 * rank).min(self.matrix.cols()) };
        let mut heuristics = self.heuristics();
        if rank == 0 || split.per_row == 0 {
            // One part alone is the same to both.
            heuristics.truncate(1);
        }
        for heuristic in heuristics {
            let found = self.decompose(heuristic, split, &self.options.split)?;
            let (error, iterations) = (found.report.residual(), found.report.iterations);
            let settled = found.report.stop != super::StopReason::MaxIterations;
            self.splits.push(SplitResult { heuristic, split, error, iterations, settled });
            if self.best.as_ref().is_none_or(|(b, _, _)| error < b.report.residual()) {
                self.best = Some((found, split, heuristic));
            }
        }
        Ok(())
    }

    fn decompose(
        &mut self,
        heuristic: Heuristic,
        split: Split,
        options: &SplitOptions,
    ) -> Result<Decomposition, DecomposeError> {
        let (run, runs) = (self.splits.len(), self.runs);
        let mut told = |p: &Progress| (self.progress)(&Progress { run, runs, ..*p });
        let result = match heuristic {
            Heuristic::GoDec => go_dec(self.matrix, split, options, &mut told),
            Heuristic::AlternatingProjections => alternating_projections(self.matrix, split, options, &mut told),
        };
        match result {
            Err(DecomposeError::NotConverged(best)) => Ok(*best),
            result => result,
        }
    }

    /// One step: the largest entries of each row.
    fn sparse_alone(&mut self, value: Option<&Matrix<'_>>) -> Result<End, DecomposeError> {
        let split = Split { rank: 0, per_row: self.budget.min(self.matrix.cols()) };
        let found = self.decompose(Heuristic::GoDec, split, &self.options.split)?;
        let error = |v| relative_output_error(self.matrix, &found.low_rank, &found.sparse, v);
        Ok(End { split, error: found.report.residual(), output_error: value.map(error).transpose()? })
    }

    /// The error from the singular values left out; vectors are computed only where there are values to weigh.
    fn low_rank_alone(
        &mut self,
        input: &Input<'_>,
        values: &[f64],
        value: Option<&Matrix<'_>>,
    ) -> Result<End, DecomposeError> {
        let split = Split { rank: self.most_rank(), per_row: 0 };
        let tail: f64 = values[split.rank..].iter().map(|s| s * s).sum();
        let error = if tail == 0.0 { 0.0 } else { (tail.sqrt() / input.norm).min(1.0) };
        let (n, m) = (input.n, input.m);
        let output_error = match value {
            None => None,
            Some(value) => {
                let low_rank = if split.rank == 0 {
                    LowRank::zero(n, m)
                } else {
                    let options = SplitOptions { tolerance: 1e-6, ..self.options.split };
                    self.decompose(Heuristic::GoDec, split, &options)?.low_rank
                };
                Some(relative_output_error(self.matrix, &low_rank, &SparseRows::zero(n, m), value)?)
            }
        };
        Ok(End { split, error, output_error })
    }
}

fn check_value(matrix: &Matrix<'_>, value: Option<&Matrix<'_>>) -> CoreResult<()> {
    match value {
        Some(v) if v.rows() != matrix.cols() => {
            Err(Error::invalid("value", format!("{} rows, one a key", matrix.cols()), v.rows()))
        }
        Some(v) if v.iter().flatten().any(|x| !x.is_finite()) => {
            Err(Error::invalid("value", "finite entries", "an entry that is not"))
        }
        _ => Ok(()),
    }
}

/// The mean over rows of |o − ô|/|o|, o = A·V, ô = (L + S)·V, rows with o = 0 left out; 0 where all are. Rows of L + S
/// are taken as they are, not normalised again.
///
/// `matrix` is `[n, m]`, `value` `[m, d_v]`.
///
/// # Errors
/// Shapes that do not fit, values that are not finite.
///
/// # Cost
/// O(n m d_v) time.
pub fn relative_output_error(
    matrix: &Matrix<'_>,
    low_rank: &LowRank,
    sparse: &SparseRows,
    value: &Matrix<'_>,
) -> CoreResult<f64> {
    check_value(matrix, Some(value))?;
    let shape = (matrix.rows(), matrix.cols());
    for (argument, got) in [("low_rank", low_rank.shape()), ("sparse", sparse.shape())] {
        if got != shape {
            return Err(Error::invalid(argument, format!("{shape:?}"), format!("{got:?}")));
        }
    }
    let (d_v, rank) = (value.cols(), low_rank.rank());
    // Vᵀ of L times the values, [rank, d_v].
    let mut inner = vec![0.0; rank * d_v];
    for (j, row) in value.iter().enumerate() {
        for c in 0..rank {
            add(&mut inner[c * d_v..][..d_v], low_rank.right[j * rank + c], row);
        }
    }
    let left = low_rank.scaled_left();
    let errors: Vec<Option<f64>> = (0..shape.0)
        .into_par_iter()
        .map(|i| {
            let (mut exact, mut found) = (vec![0.0; d_v], vec![0.0; d_v]);
            matrix.row(i).iter().zip(value.iter()).for_each(|(&a, v)| add(&mut exact, f64::from(a), v));
            for c in 0..rank {
                let weight = left[i * rank + c];
                found.iter_mut().zip(&inner[c * d_v..][..d_v]).for_each(|(f, x)| *f += weight * x);
            }
            let (columns, entries) = sparse.row(i);
            columns.iter().zip(entries).for_each(|(&j, &s)| add(&mut found, s, value.row(j as usize)));
            let norm = |x: f64, y: f64| x + y * y;
            let size = exact.iter().copied().fold(0.0, norm).sqrt();
            let difference = exact.iter().zip(&found).map(|(a, b)| a - b).fold(0.0, norm).sqrt();
            (size > 0.0).then(|| difference / size)
        })
        .collect();
    let counted = errors.iter().flatten().count().max(1);
    // The sum of nothing would be −0.
    Ok(errors.iter().flatten().fold(0.0, |sum, e| sum + e) / counted as f64)
}

fn add(sum: &mut [f64], weight: f64, row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(s, &x)| *s += weight * f64::from(x));
}
