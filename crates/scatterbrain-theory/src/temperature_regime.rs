//! Which part suffices at which temperature: sparse, low-rank, or both together.

use crate::clustered_process::ClusteredProcess;
use crate::error::{Result, suppose};

/// Relative Frobenius errors of the two-level matrix at one budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwoLevelErrors {
    /// The best b entries of every row: exact.
    pub sparse: f64,
    /// The best rank ⌊b/2⌋: exact.
    pub low_rank: f64,
    /// ⌊b/2⌋ entries a row and rank ⌊b/4⌋: an upper bound, by a construction.
    pub both: f64,
}

/// Which of the errors reach a tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regime {
    /// Low rank does, sparse does not.
    LowRank,
    /// Sparse does, low rank does not.
    Sparse,
    /// Each alone does.
    Either,
    /// Neither alone does, the two together do.
    Both,
    /// None is known to: the error of both together is an upper bound.
    Unknown,
}

/// Errors of the matrix with C × C blocks of m × m equal entries, `ratio` = W/U ≥ 1 on the diagonal and 1 off it, at b
/// units a query (a key 1, a feature 2), relative to N = C W² + C(C − 1) (U = 1, blocks counted):
///
/// ```math
/// \begin{aligned}
/// \text{low rank}\ r = \lfloor b/2 \rfloor &: \sqrt{(C - r)(W - 1)^2/N} && 1 \le r \le C;\ 1 \text{ for } r = 0 \\
/// \text{sparse}\ b < m &: \sqrt{C \bigl((1 - b/m) W^2 + C - 1\bigr)/N} \\
/// \text{sparse}\ b \ge m &: \sqrt{C (C - b/m)/N} \\
/// \text{both} &: \sqrt{(C - r + 1)(1 - s/m)(W - 1)^2/N}
/// && s = \min(\lfloor b/2 \rfloor, m),\ 1 \le r = \lfloor b/4 \rfloor \le C
/// \end{aligned}
/// ```
///
/// Derivation: the matrix is (W − 1)·(identity of C) + (all ones of C), each entry blown up to an m × m block, which
/// multiplies singular values by m: m(W − 1 + C) once, m(W − 1) C − 1 times; then Eckart–Young. The best entries of a
/// row are the m of its block first. Both: the low-rank part is all ones and r − 1 whole diagonal blocks; the sparse
/// part corrects s of the m entries of each row in the others. Where it is less, `both` is either part alone at its
/// half of the budget.
///
/// What follows, and no more: at W = 1 rank 1 is exact and sparse leaves 1 − b/n; as W grows sparse with b ≥ m falls
/// to 0 and low rank of r < C rises to √(1 − r/C); with ⌊b/2⌋ ≥ m and b ≥ 4 both are exact at every W.
///
/// # Errors
/// No clusters, members or units, or W/U below 1 or NaN; ∞ stands for nothing between clusters.
///
/// ```
/// use scatterbrain_theory::two_level_errors;
/// let errors = two_level_errors(16, 4, 10.0, 8)?;
/// assert!(errors.both == 0.0 && errors.sparse > 0.3 && errors.low_rank > 0.6);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn two_level_errors(clusters: usize, members: usize, ratio: f64, units: usize) -> Result<TwoLevelErrors> {
    const FORMULA: &str = "the errors of a two-level matrix";
    suppose(FORMULA, "at least one cluster", clusters >= 1, 0.0)?;
    suppose(FORMULA, "at least one member", members >= 1, 0.0)?;
    suppose(FORMULA, "at least one unit", units >= 1, 0.0)?;
    suppose(FORMULA, "a ratio of at least 1", ratio >= 1.0, ratio)?;
    // Everything over W², which may not overflow.
    let (c, m, off) = (clusters as f64, members as f64, ratio.recip().powi(2));
    let excess = (1.0 - ratio.recip()).powi(2);
    let norm = c + c * (c - 1.0) * off;

    let sparse = |s: usize| {
        let s = s as f64;
        let left = if s < m { (1.0 - s / m) + (c - 1.0) * off } else { (c - s / m).max(0.0) * off };
        (c * left / norm).sqrt()
    };
    let low_rank = |r: usize| if r == 0 { 1.0 } else { ((c - r as f64).max(0.0) * excess / norm).sqrt() };
    let (s, r) = (units / 2, units / 4);
    let construction = || {
        let blocks = (c - r as f64 + 1.0).max(0.0);
        (blocks * (1.0 - s as f64 / m).max(0.0) * excess / norm).sqrt()
    };
    let apart = sparse(s).min(low_rank(r));
    Ok(TwoLevelErrors {
        sparse: sparse(units),
        low_rank: low_rank(units / 2),
        both: if r == 0 { apart } else { apart.min(construction()) },
    })
}

impl TwoLevelErrors {
    /// Which of the errors are at most `tolerance`.
    ///
    /// # Errors
    /// A tolerance outside (0, 1).
    pub fn regime(&self, tolerance: f64) -> Result<Regime> {
        let inside = tolerance > 0.0 && tolerance < 1.0;
        suppose("a temperature regime", "a tolerance in (0, 1)", inside, tolerance)?;
        let reached = |error: f64| error <= tolerance;
        Ok(match (reached(self.sparse), reached(self.low_rank)) {
            (true, true) => Regime::Either,
            (true, false) => Regime::Sparse,
            (false, true) => Regime::LowRank,
            (false, false) if reached(self.both) => Regime::Both,
            (false, false) => Regime::Unknown,
        })
    }
}

/// The regime that is predicted for softmax(β q·k), the *row-normalised* matrix, of a [`ClusteredProcess`]: that of the
/// two-level matrix with the entries at the mean logits within and between clusters,
///
/// ```math
/// W/U = e^{\beta \sqrt d}
/// ```
///
/// **A prediction, not a theorem.** Logits have standard deviations of about β around these means
/// ([`ClusteredProcess::logit_moments`]), which the model leaves out: where β(1 + Δ²) is not small beside 1 the entries
/// between clusters vary by factors.
/// So Δ is no argument of W/U but a hypothesis, Δ ≤ 1: two keys of a cluster have correlation 1/(1 + Δ²) ≥ ½, and
/// logits between clusters a standard deviation β(1 + Δ²), at most twice what the centres alone give.
/// Beyond it the few largest logits decide: at β = 0.35 below, sparse measured within 0.05 of the predicted 0.315 at
/// Δ = 0.1, 0.5 and 1, and under 0.1 at Δ = 3.
/// Predicted and measured at d = 64, Δ = 0.1, 32 clusters of 8, 16 units (the unit
/// test's sample; "both" measured as an upper bound, eight entries a row over a constant):
///
/// | β | sparse | low rank | both |
/// |---|---|---|---|
/// | 0.02 | 0.963, 0.961 | 0.026, 0.022 | 0, 0.018 |
/// | 0.35 | 0.315, 0.333 | 0.770, 0.654 | 0, 0.116 |
/// | 1 | 0.002, 0.009 | 0.866, 0.858 | 0, 0.009 |
///
/// Of the *unnormalised* matrix it is no prediction at large β: entries e^{β|c|²} differ from cluster to cluster, the
/// few longest centres hold the norm, and rank 8 measured 0.13 at β = 1. In the model all rows have one sum, so
/// normalising changes no relative error.
/// The paper's own regimes (asymptotic in n) are not restated here.
///
/// # Errors
/// Δ above 1, and those of [`two_level_errors`], [`ClusteredProcess::logit_moments`] and [`TwoLevelErrors::regime`].
///
/// ```
/// use scatterbrain_theory::{ClusteredProcess, Regime, predicted_regime};
/// let process = ClusteredProcess { clusters: 32, members: 8, head_dim: 64, spread: 0.1 };
/// let at = |beta| predicted_regime(process, beta, 16, 0.2);
/// assert_eq!([at(0.02)?, at(0.35)?, at(1.0)?], [Regime::LowRank, Regime::Both, Regime::Sparse]);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn predicted_regime(process: ClusteredProcess, beta: f64, units: usize, tolerance: f64) -> Result<Regime> {
    suppose("a predicted regime", "a spread of at most 1", process.spread <= 1.0, process.spread)?;
    let ratio = process.logit_moments(beta, true)?.mean.exp();
    two_level_errors(process.clusters, process.members, ratio, units)?.regime(tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_of_best_entries;

    /// Singular values, descending, by one-sided Jacobi rotations of the columns of a copy.
    fn singular_values(matrix: &[f64], n: usize) -> Vec<f64> {
        let mut columns: Vec<Vec<f64>> = (0..n).map(|j| (0..n).map(|i| matrix[i * n + j]).collect()).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for _ in 0..30 {
            let mut turned = false;
            for p in 0..n {
                for q in p + 1..n {
                    let (a, b, c) =
                        (dot(&columns[p], &columns[p]), dot(&columns[q], &columns[q]), dot(&columns[p], &columns[q]));
                    if c.abs() <= 1e-10 * (a * b).sqrt() {
                        continue;
                    }
                    turned = true;
                    let zeta = (b - a) / (2.0 * c);
                    let t = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
                    let cos = 1.0 / t.hypot(1.0);
                    let (left, right) = columns.split_at_mut(q);
                    for (x, y) in left[p].iter_mut().zip(&mut right[0]) {
                        (*x, *y) = (cos * (*x - t * *y), cos * (t * *x + *y));
                    }
                }
            }
            if !turned {
                break;
            }
        }
        let mut values: Vec<f64> = columns.iter().map(|c| dot(c, c).sqrt()).collect();
        values.sort_by(|a, b| b.total_cmp(a));
        values
    }

    fn tail(values: &[f64], rank: usize) -> f64 {
        let sum = |v: &[f64]| v.iter().map(|s| s * s).sum::<f64>();
        (sum(&values[rank..]) / sum(values)).sqrt()
    }

    #[test]
    fn exact_for_the_matrix_itself() {
        for (c, m, ratio) in [(5, 4, 3.0), (8, 3, 40.0), (6, 4, 1.0)] {
            let n = c * m;
            let entry = |at: usize| if (at / n) / m == (at % n) / m { ratio } else { 1.0 };
            let matrix: Vec<f64> = (0..n * n).map(entry).collect();
            let values = singular_values(&matrix, n);
            for units in [2, 3, 5, 8, 11] {
                let got = two_level_errors(c, m, ratio, units).unwrap();
                let sparse = error_of_best_entries(&matrix, n, units).unwrap();
                assert!((got.sparse - sparse).abs() < 1e-12, "{c} {m} {ratio} {units}: {got:?} {sparse}");
                assert!((got.low_rank - tail(&values, units / 2)).abs() < 1e-7, "{c} {m} {ratio} {units}: {got:?}");
                // The construction, built: all ones, r − 1 blocks, s entries a row.
                let (s, r) = (units / 2, units / 4);
                if r >= 1 {
                    let off = |at: usize| {
                        let (i, j) = (at / n, at % n);
                        let done = i / m != j / m || i / m < r - 1 || j % m < s;
                        if done { 0.0 } else { (matrix[at] - 1.0).powi(2) }
                    };
                    let norm = matrix.iter().map(|x| x * x).sum::<f64>();
                    let built = ((0..n * n).map(off).sum::<f64>() / norm).sqrt();
                    assert!(got.both <= built + 1e-12, "{c} {m} {ratio} {units}: {got:?} {built}");
                }
            }
        }
    }

    /// Measured on a sample: lower bounds of the parts alone, and both together by the 8 largest entries a row over the
    /// best constant (rank 1 of the 4 allowed).
    #[test]
    fn agrees_with_the_process() {
        let process = ClusteredProcess { clusters: 32, members: 8, head_dim: 64, spread: 0.1 };
        let (n, d, units, tolerance) = (256, 64, 16, 0.2);
        let rows = process.sample(9).unwrap();
        for (beta, regime) in [(0.02, Regime::LowRank), (0.35, Regime::Both), (1.0, Regime::Sparse)] {
            let logit = |at: usize| {
                let (q, k) = (&rows.query[at / n * d..][..d], &rows.key[at % n * d..][..d]);
                q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>()
            };
            let weights: Vec<f64> = (0..n * n).map(|at| (beta * logit(at)).exp()).collect();
            let sums: Vec<f64> = weights.chunks_exact(n).map(|row| row.iter().sum()).collect();
            let matrix: Vec<f64> = weights.iter().enumerate().map(|(at, w)| w / sums[at / n]).collect();
            let mut left: Vec<f64> = Vec::new();
            for row in matrix.chunks_exact(n) {
                let mut row = row.to_vec();
                row.sort_by(|a, b| b.total_cmp(a));
                left.extend(&row[units / 2..]);
            }
            let constant = left.iter().sum::<f64>() / left.len() as f64;
            let norm: f64 = matrix.iter().map(|x| x * x).sum();
            let both = (left.iter().map(|x| (x - constant).powi(2)).sum::<f64>() / norm).sqrt();
            let sparse = error_of_best_entries(&matrix, n, units).unwrap();
            let low_rank = tail(&singular_values(&matrix, n), units / 2);
            let measured = TwoLevelErrors { sparse, low_rank, both };
            assert_eq!(measured.regime(tolerance).unwrap(), regime, "{beta}: {measured:?}");
            assert_eq!(predicted_regime(process, beta, units, tolerance).unwrap(), regime, "{beta}");
        }
    }

    /// What the model leaves out is small up to the spread it is asked for, and not far beyond.
    #[test]
    fn the_spread_is_a_hypothesis() {
        let (n, d, units, beta) = (256, 64, 16, 0.35);
        let measured = |spread: f64| {
            let process = ClusteredProcess { clusters: 32, members: 8, head_dim: d, spread };
            let rows = process.sample(9).unwrap();
            let logit = |at: usize| {
                let (q, k) = (&rows.query[at / n * d..][..d], &rows.key[at % n * d..][..d]);
                beta * q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>()
            };
            let mut matrix: Vec<f64> = (0..n * n).map(|at| logit(at).exp()).collect();
            for row in matrix.chunks_exact_mut(n) {
                let sum = row.iter().sum::<f64>();
                row.iter_mut().for_each(|x| *x /= sum);
            }
            (error_of_best_entries(&matrix, n, units).unwrap(), predicted_regime(process, beta, units, 0.2))
        };
        let predicted = two_level_errors(32, 8, (beta * 8.0).exp(), units).unwrap().sparse;
        for spread in [0.1, 0.5, 1.0] {
            let (sparse, regime) = measured(spread);
            assert!((sparse - predicted).abs() < 0.05 && regime == Ok(Regime::Both), "{spread}: {sparse} {regime:?}");
        }
        let (sparse, regime) = measured(3.0);
        assert!((sparse - predicted).abs() > 0.2 && sparse < 0.1, "{sparse} {predicted}");
        assert_eq!(regime.unwrap_err().got, 3.0);
    }

    #[test]
    fn ends() {
        let none = TwoLevelErrors { sparse: 1.0, low_rank: 1.0, both: 1.0 };
        assert_eq!(none.regime(0.5).unwrap(), Regime::Unknown);
        assert!(none.regime(0.0).is_err());
        assert!(two_level_errors(0, 1, 2.0, 4).is_err() && two_level_errors(1, 0, 2.0, 4).is_err());
        assert!(two_level_errors(1, 1, 0.9, 4).is_err() && two_level_errors(1, 1, 2.0, 0).is_err());
        assert!(two_level_errors(4, 4, 1e300, 8).unwrap().sparse < 1e-200);
        assert_eq!(two_level_errors(4, 4, f64::INFINITY, 8).unwrap().sparse, 0.0);
    }
}
