//! The two steps that [`super::go_dec`] and [`super::alternating_projections`] take by turns.

use super::factors::{LowRank, SparseRows};
use super::input::{Input, check_stopping};
use super::partial_svd::{OVERSAMPLE, Ritz};
use super::product::{BLOCK, Dense, outer_rows};
use super::top::largest;
use super::{DecomposeError, Decomposition, DecompositionReport, Split, SplitOptions, StopReason};
use faer::MatRef;
use rayon::prelude::*;
use scatterbrain_core::{Error, Rng};

/// A residual under this is rounding.
const EXACT: f64 = 1e-14;

/// Columns and values of a row of S.
type Entries = Vec<(u32, f64)>;

/// Current L and S of A, and what the next step starts from.
pub(super) struct Fit<'a> {
    pub(super) input: Input<'a>,
    /// A − S.
    x: Dense,
    pub(super) low_rank: LowRank,
    pub(super) sparse: SparseRows,
    ritz: Option<Ritz>,
    rng: Rng,
    pub(super) residuals: Vec<f64>,
    full_svds: usize,
}

impl<'a> Fit<'a> {
    /// L = S = 0.
    pub(super) fn new(
        matrix: &scatterbrain_core::Matrix<'a>,
        split: Split,
        options: &SplitOptions,
    ) -> Result<Self, DecomposeError> {
        check_stopping(options.max_iterations, options.tolerance, options.stagnation)?;
        let (n, m) = (matrix.rows(), matrix.cols());
        if split.rank > n.min(m) {
            return Err(Error::invalid("rank", format!("at most min(n, m) = {}", n.min(m)), split.rank).into());
        }
        if split.per_row > m {
            return Err(Error::invalid("per_row", format!("at most m = {m}"), split.per_row).into());
        }
        if split.units() == 0 {
            return Err(Error::invalid("split", "a rank or an entry a row", "neither").into());
        }
        let input = Input::check(matrix, options.normalised)?;
        Ok(Self {
            input,
            x: Dense { data: input.dense(), n, m },
            low_rank: LowRank::zero(n, m),
            sparse: SparseRows::zero(n, m),
            ritz: None,
            rng: options.seed.stream(0),
            residuals: Vec::new(),
            full_svds: 0,
        })
    }

    /// L ← an approximation of A − S of this rank by one step of subspace iteration, which leaves no more of it than
    /// the L before; where the rank is not small, the best one. Returns the singular values of A − S found, a few
    /// more than the rank.
    pub(super) fn step_low_rank(&mut self, rank: usize) -> Result<&[f64], DecomposeError> {
        let ritz = match self.ritz.take() {
            Some(old) if !old.full && old.right.ncols() >= rank + OVERSAMPLE => {
                let columns = old.right.as_ref().subcols(0, rank + OVERSAMPLE);
                Ritz::refine(&self.x, columns)?
            }
            _ => Ritz::start(&self.x, rank, &mut self.rng)?,
        };
        self.full_svds += usize::from(ritz.full);
        let values = ritz.values.iter().copied().take(rank).collect();
        self.low_rank = LowRank::new(&ritz.left, values, &ritz.right);
        Ok(&self.ritz.insert(ritz).values)
    }

    /// S ← the `per_row` entries of largest magnitude above `threshold` of each row of A − L. Returns and records the
    /// relative residual.
    pub(super) fn step_sparse(&mut self, per_row: usize, threshold: f64) -> f64 {
        let (m, matrix, rank) = (self.input.m, self.input.matrix, self.low_rank.rank());
        let left = self.low_rank.scaled_left();
        let left = MatRef::from_row_major_slice(&left, self.input.n, rank);
        let right = MatRef::from_row_major_slice(&self.low_rank.right, m, rank);
        let blocks: Vec<(f64, Vec<Entries>)> = self
            .x
            .data
            .par_chunks_mut(BLOCK * m)
            .enumerate()
            .map(|(block, x)| {
                let mut rest = vec![0.0; x.len()];
                outer_rows(left, right, block * BLOCK, &mut rest);
                let (mut square, mut chosen) = (0.0, Vec::with_capacity(BLOCK));
                for (i, (x, rest)) in x.chunks_exact_mut(m).zip(rest.chunks_exact_mut(m)).enumerate() {
                    let a = matrix.row(block * BLOCK + i);
                    rest.iter_mut().zip(a).for_each(|(l, &a)| *l = f64::from(a) - *l);
                    x.iter_mut().zip(a).for_each(|(x, &a)| *x = f64::from(a));
                    let entries: Vec<_> =
                        largest(rest, per_row, threshold).into_iter().map(|j| (j, rest[j as usize])).collect();
                    for &(j, value) in &entries {
                        x[j as usize] -= value;
                        rest[j as usize] = 0.0;
                    }
                    square += rest.iter().map(|r| r * r).sum::<f64>();
                    chosen.push(entries);
                }
                (square, chosen)
            })
            .collect();
        let mut sparse = SparseRows::new(m);
        let mut square = 0.0;
        for (part, rows) in blocks {
            square += part;
            rows.into_iter().for_each(|row| sparse.push_row(row.into_iter()));
        }
        self.sparse = sparse;
        let residual = if square == 0.0 { 0.0 } else { square.sqrt() / self.input.norm };
        self.residuals.push(residual);
        residual
    }

    /// Whether nothing is left of A but rounding.
    pub(super) fn is_exact(residual: f64) -> bool {
        residual <= EXACT
    }

    /// What was found.
    pub(super) fn finish(self, iterations: usize, stop: StopReason) -> Result<Decomposition, DecomposeError> {
        Decomposition {
            report: DecompositionReport {
                iterations,
                residuals: self.residuals,
                rank: self.low_rank.rank(),
                nonzeros: self.sparse.nonzeros(),
                stop,
                optimality: None,
                full_svds: self.full_svds,
            },
            low_rank: self.low_rank,
            sparse: self.sparse,
            dual: None,
        }
        .finished()
    }
}
