//! Principal component pursuit (Candès, Li, Ma, Wright, "Robust principal component analysis?", JACM 2011) by the
//! inexact augmented Lagrange multiplier method (Lin, Chen, Ma, arXiv 1009.5055).

use super::factors::{LowRank, SparseRows};
use super::input::{Input, check_stopping};
use super::partial_svd::{OVERSAMPLE, Ritz, is_complete};
use super::product::{BLOCK, Dense, outer_rows};
use super::{Callback, DecomposeError, Decomposition, DecompositionReport, Optimality, Progress, StopReason};
use faer::Mat;
use rayon::prelude::*;
use scatterbrain_core::{Error, Matrix, Rng, Seed};

/// The first penalty times ‖A‖₂, as Lin, Chen and Ma have it.
const FIRST_PENALTY: f64 = 1.25;

/// The penalty changes by this factor where one residual exceeds the other by [`BALANCE`].
const PENALTY_STEP: f64 = 1.5;
const BALANCE: f64 = 2.0;

/// The penalty changes in so many iterations; the method converges with a fixed one.
const ADAPTED_ITERATIONS: usize = 200;

/// What counts as coming nearer: one per cent.
const GAIN: f64 = 0.99;

/// What to minimise and when to stop, for [`principal_component_pursuit`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PursuitOptions {
    /// Refuse a matrix whose rows do not sum to one (or to zero, where a query sees no key).
    pub normalised: bool,
    /// Seed of random subspaces and probes.
    pub seed: Seed,
    /// Price of an entry of S; 1/√max(n, m) where none is given.
    pub lambda: Option<f64>,
    /// Iterations after which it is an error not to have converged.
    pub max_iterations: usize,
    /// Every figure of [`Optimality`] must be at most this. On attention matrices each halving takes about half as many
    /// iterations again, at higher ranks; where recovery holds 1e-7 is a matter of seconds.
    pub tolerance: f64,
    /// Iterations without one per cent less of the worst figure after which it is an error.
    pub stagnation: usize,
}

impl Default for PursuitOptions {
    /// Normalised, seed 0, λ = 1/√max(n, m), 500 iterations, 2e-3, 100.
    fn default() -> Self {
        Self { normalised: true, seed: Seed(0), lambda: None, max_iterations: 500, tolerance: 2e-3, stagnation: 100 }
    }
}

/// Minimises ‖L‖_* + λ‖S‖₁ under L + S = A.
///
/// ```text
/// L ← U max(Σ − 1/μ, 0) Vᵀ,  U Σ Vᵀ = A − S + Y/μ
/// Y ← clip(Y + μ(A − L), ±λ)
/// S ← what the clip cut off, over μ
/// ```
///
/// The last two lines are the usual soft threshold of S and step of Y in one. μ is not raised for ever, which would
/// end at a feasible point that need not be optimal, but follows the larger of the primal and the dual residual
/// (Boyd et al. 2011, §3.4.1) in the first 200 iterations and then stays.
///
/// The singular values above 1/μ come from a subspace kept from iteration to iteration, which grows until random
/// probes find nothing above 1/μ outside it; a full decomposition takes over where that needs more than half of all.
/// Before the method says that it has converged, a Cholesky factorisation proves that nothing was missed.
///
/// `matrix` is `[n, m]`. Where L is incoherent, S has few entries in random places, and both are few enough, the
/// minimiser is the pair that A was made of (Candès et al.). Attention matrices promise neither: expect a rank that
/// grows with the size, and an S with many small entries.
///
/// # Errors
/// Entries that are not finite, rows that do not sum to one (if `normalised`), λ or a stopping rule that makes no
/// sense; no convergence; cancellation.
///
/// # Cost
/// An iteration takes O(n m r), r the rank so far, and two passes over four n × m matrices; `32 n m` bytes beside the
/// input, and `16 min(n, m)²` for the proof. Products with r columns dominate: two thirds of the samples of a profile at
/// n = 2048. On two cores shared with other work, n = m = 2048 took 2.6 s for rank 40 planted under 5 % of entries
/// (tolerance 1e-6, 15 iterations), and 28 s and 48 s for two heads of a causal model (ranks 82 and 260).
///
/// ```
/// use scatterbrain_combine::decompose::{PursuitOptions, principal_component_pursuit, silent};
/// // The uniform rows of a query that looks at nothing, and one entry that stands out.
/// let mut data = vec![0.01f32; 100 * 100];
/// data[100 * 30 + 7] = 0.9;
/// let matrix = scatterbrain_core::Matrix::new("matrix", &data, 100, 100)?;
/// let options = PursuitOptions { normalised: false, tolerance: 1e-6, ..PursuitOptions::default() };
/// let found = principal_component_pursuit(&matrix, &options, &mut silent)?;
/// assert_eq!((found.low_rank.rank(), found.sparse.row(30).0), (1, &[7][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn principal_component_pursuit(
    matrix: &Matrix<'_>,
    options: &PursuitOptions,
    progress: &mut Callback<'_>,
) -> Result<Decomposition, DecomposeError> {
    check_stopping(options.max_iterations, options.tolerance, options.stagnation)?;
    let lambda = options.lambda.unwrap_or(1.0 / (matrix.rows().max(matrix.cols()) as f64).sqrt());
    if !(lambda > 0.0 && lambda.is_finite()) {
        return Err(Error::invalid("lambda", "a positive finite number", lambda).into());
    }
    let input = Input::check(matrix, options.normalised)?;
    if input.norm == 0.0 {
        return Ok(nothing(&input));
    }
    Pursuit::new(input, lambda, options)?.run(options, progress)
}

fn nothing(input: &Input<'_>) -> Decomposition {
    let optimality = Optimality { primal: 0.0, dual: 0.0, tangent: Some(0.0), certified: true };
    Decomposition {
        low_rank: LowRank::zero(input.n, input.m),
        sparse: SparseRows::zero(input.n, input.m),
        dual: Some(vec![0.0; input.n * input.m]),
        report: DecompositionReport {
            iterations: 0,
            residuals: vec![0.0],
            rank: 0,
            nonzeros: 0,
            stop: StopReason::Tolerance,
            optimality: Some(optimality),
            full_svds: 0,
        },
    }
}

/// The state of the iteration.
struct Pursuit<'a> {
    input: Input<'a>,
    lambda: f64,
    penalty: f64,
    /// A − S + Y/μ.
    x: Dense,
    y: Dense,
    s: Dense,
    basis: Mat<f64>,
    rng: Rng,
    best: Option<Best>,
    residuals: Vec<f64>,
    full_svds: usize,
}

/// The iterate with the smallest worst figure.
struct Best {
    iteration: usize,
    optimality: Optimality,
    low_rank: LowRank,
    s: Vec<f64>,
    nonzeros: usize,
}

/// Sums over a block of rows.
#[derive(Clone, Copy, Default)]
struct Sums {
    primal: f64,
    dual: f64,
    y: f64,
    nonzeros: usize,
}

impl<'a> Pursuit<'a> {
    fn new(input: Input<'a>, lambda: f64, options: &PursuitOptions) -> Result<Self, DecomposeError> {
        let (n, m) = (input.n, input.m);
        let dense = |data| Dense { data, n, m };
        let x = dense(input.dense());
        let mut rng = options.seed.stream(0);
        let first = Ritz::start(&x, 1, &mut rng)?;
        Ok(Self {
            lambda,
            penalty: FIRST_PENALTY / first.values[0],
            basis: first.right_vectors((1 + OVERSAMPLE).min(n.min(m)), &mut rng),
            x,
            y: dense(vec![0.0; n * m]),
            s: dense(vec![0.0; n * m]),
            rng,
            best: None,
            residuals: Vec::new(),
            full_svds: 0,
            input,
        })
    }

    fn run(mut self, options: &PursuitOptions, progress: &mut Callback<'_>) -> Result<Decomposition, DecomposeError> {
        let (mut gained, mut reached) = (0, f64::INFINITY);
        for iteration in 1..=options.max_iterations {
            let ritz = Ritz::above(
                &self.x,
                1.0 / self.penalty,
                std::mem::replace(&mut self.basis, Mat::new()),
                &mut self.rng,
            )?;
            self.full_svds += usize::from(ritz.full);
            let low_rank = self.shrink(&ritz);
            let sums = self.update(&low_rank);
            let mut optimality = self.optimality(&sums);
            self.residuals.push(optimality.primal);
            let rank = low_rank.rank();
            let mut more = 0;
            let stop = if optimality.worst() <= options.tolerance && {
                let tangent = self.tangent(&low_rank);
                optimality.tangent = Some(tangent);
                tangent <= options.tolerance
            } {
                optimality.certified = is_complete(&mut self.x, &ritz, 1.0 / self.penalty);
                more = ritz.values.len() / 2;
                optimality.certified.then_some(StopReason::Tolerance)
            } else {
                None
            };
            let old = self.best.as_ref().map_or(f64::INFINITY, |b| b.optimality.worst());
            if optimality.worst() < GAIN * reached {
                (gained, reached) = (iteration, optimality.worst());
            }
            if optimality.worst() < old || stop.is_some() {
                self.keep(iteration, optimality, low_rank, sums.nonzeros);
            }
            let residual = optimality.primal;
            let state = Progress { run: 0, runs: 1, iteration, residual, rank, nonzeros: sums.nonzeros };
            let cancelled = progress(&state).is_break();
            let stop = stop
                .or(cancelled.then_some(StopReason::Cancelled))
                .or((iteration - gained >= options.stagnation).then_some(StopReason::Stagnation))
                .or((iteration == options.max_iterations).then_some(StopReason::MaxIterations));
            if let Some(stop) = stop {
                return self.finish(stop, iteration);
            }
            if iteration <= ADAPTED_ITERATIONS {
                self.balance(&optimality);
            }
            self.renew_x();
            let columns = (rank + OVERSAMPLE.max(rank / 5) + more).min(self.input.n.min(self.input.m));
            self.basis = ritz.right_vectors(columns, &mut self.rng);
        }
        unreachable!("max_iterations is at least 1, and its last iteration returns")
    }

    /// The step of L: singular values less 1/μ, where they are larger.
    fn shrink(&self, ritz: &Ritz) -> LowRank {
        let values = ritz.values.iter().map(|v| v - 1.0 / self.penalty).collect();
        LowRank::new(&ritz.left, values, &ritz.right)
    }

    /// The steps of Y and S.
    fn update(&mut self, low_rank: &LowRank) -> Sums {
        let (lambda, penalty, m, matrix) = (self.lambda, self.penalty, self.input.m, self.input.matrix);
        let left = low_rank.scaled_left();
        let left = faer::MatRef::from_row_major_slice(&left, self.input.n, low_rank.rank());
        let right = faer::MatRef::from_row_major_slice(&low_rank.right, m, low_rank.rank());
        let blocks = self.s.data.par_chunks_mut(BLOCK * m).zip(self.y.data.par_chunks_mut(BLOCK * m));
        let sums: Vec<Sums> = blocks
            .enumerate()
            .map(|(block, (s, y))| {
                let mut low = vec![0.0; s.len()];
                outer_rows(left, right, block * BLOCK, &mut low);
                let mut sums = Sums::default();
                let rows = s.chunks_exact_mut(m).zip(y.chunks_exact_mut(m)).zip(low.chunks_exact(m));
                for (i, ((s, y), low)) in rows.enumerate() {
                    let a = matrix.row(block * BLOCK + i);
                    for j in 0..m {
                        let rest = f64::from(a[j]) - low[j];
                        let wanted = y[j] + penalty * rest;
                        let clipped = wanted.clamp(-lambda, lambda);
                        // Where nothing is cut off this is 0 exactly.
                        let entry = (wanted - clipped) / penalty;
                        sums.primal += (rest - entry).powi(2);
                        sums.dual += (entry - s[j]).powi(2);
                        sums.y += clipped * clipped;
                        sums.nonzeros += usize::from(entry != 0.0);
                        (s[j], y[j]) = (entry, clipped);
                    }
                }
                sums
            })
            .collect();
        sums.iter().fold(Sums::default(), |a, b| Sums {
            primal: a.primal + b.primal,
            dual: a.dual + b.dual,
            y: a.y + b.y,
            nonzeros: a.nonzeros + b.nonzeros,
        })
    }

    fn optimality(&self, sums: &Sums) -> Optimality {
        // Y is zero only where L is all of A: then S has not moved either.
        let dual = if sums.dual == 0.0 { 0.0 } else { self.penalty * (sums.dual / sums.y).sqrt() };
        Optimality { primal: sums.primal.sqrt() / self.input.norm, dual, tangent: None, certified: false }
    }

    /// How far Y is from UVᵀ on the rows and columns of L.
    fn tangent(&self, low_rank: &LowRank) -> f64 {
        let rank = low_rank.rank();
        if rank == 0 {
            return 0.0;
        }
        let view = |x, rows| faer::MatRef::from_row_major_slice(x, rows, rank);
        let (u, v) = (view(&low_rank.left[..], self.input.n), view(&low_rank.right[..], self.input.m));
        let far = |a: Mat<f64>, b: faer::MatRef<'_, f64>| {
            (0..rank).flat_map(|c| (0..b.nrows()).map(move |i| (i, c))).map(|e| (a[e] - b[e]).powi(2)).sum::<f64>()
        };
        let worst = far(self.y.times(v), u).max(far(self.y.transposed_times(u), v));
        (worst / rank as f64).sqrt()
    }

    fn balance(&mut self, optimality: &Optimality) {
        if optimality.primal > BALANCE * optimality.dual {
            self.penalty *= PENALTY_STEP;
        } else if optimality.dual > BALANCE * optimality.primal {
            self.penalty /= PENALTY_STEP;
        }
    }

    fn renew_x(&mut self) {
        let (m, matrix, penalty) = (self.input.m, self.input.matrix, self.penalty);
        let rows = self.s.data.par_chunks(m).zip(self.y.data.par_chunks(m));
        self.x.data.par_chunks_mut(m).zip(rows).enumerate().for_each(|(i, (x, (s, y)))| {
            let a = matrix.row(i);
            for j in 0..m {
                x[j] = f64::from(a[j]) - s[j] + y[j] / penalty;
            }
        });
    }

    fn keep(&mut self, iteration: usize, optimality: Optimality, low_rank: LowRank, nonzeros: usize) {
        let mut s = self.best.take().map_or_else(|| vec![0.0; self.s.data.len()], |b| b.s);
        s.copy_from_slice(&self.s.data);
        self.best = Some(Best { iteration, optimality, low_rank, s, nonzeros });
    }

    fn finish(mut self, stop: StopReason, iterations: usize) -> Result<Decomposition, DecomposeError> {
        let best = self.best.expect("the first iterate is kept, since every figure is finite");
        // The report ends with the residual of what is returned.
        if best.iteration < iterations {
            self.residuals.push(best.optimality.primal);
        }
        Decomposition {
            sparse: SparseRows::from_dense(&best.s, self.input.m),
            dual: (stop == StopReason::Tolerance).then_some(self.y.data),
            report: DecompositionReport {
                iterations,
                residuals: self.residuals,
                rank: best.low_rank.rank(),
                nonzeros: best.nonzeros,
                stop,
                optimality: Some(best.optimality),
                full_svds: self.full_svds,
            },
            low_rank: best.low_rank,
        }
        .finished()
    }
}
