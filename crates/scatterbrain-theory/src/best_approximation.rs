//! The least error that a low rank, or a number of entries, can have.

use crate::error::{Result, suppose};

/// The least relative error of *every* B of rank r, σ the singular values of A in descending order; 0 for A = 0:
///
/// ```math
/// \frac{\|A - B\|_F}{\|A\|_F} \ge \sqrt{\frac{\sum_{i > r} \sigma_i^2}{\sum_i \sigma_i^2}}
/// ```
///
/// Derivation: Eckart and Young 1936; the truncated singular value decomposition attains it, and no rank r does
/// better by Weyl's σ_{i+r}(A) ≤ σ_i(A − B) + σ_{r+1}(B), whose last term is 0.
///
/// # Errors
/// Values that are negative, not finite, or not in descending order.
///
/// ```
/// use scatterbrain_theory::error_of_best_rank;
/// assert_eq!(error_of_best_rank(&[4.0, 3.0], 1)?, 0.6);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn error_of_best_rank(singular_values: &[f64], rank: usize) -> Result<f64> {
    const FORMULA: &str = "the error of the best rank";
    for s in singular_values {
        suppose(FORMULA, "finite singular values of at least 0", s.is_finite() && *s >= 0.0, *s)?;
    }
    for pair in singular_values.windows(2) {
        suppose(FORMULA, "singular values in descending order", pair[0] >= pair[1], pair[1])?;
    }
    Ok(tail_share(singular_values, rank))
}

/// The relative error of the best B with at most `kept` = s non-zero entries *in every row*, `|a|_(1)` ≥ `|a|_(2)` ≥ …
/// the magnitudes of a row: it keeps the largest, and no other such B is nearer, since every entry left out costs its
/// square. 0 for A = 0.
///
/// ```math
/// \frac{\|A - B\|_F}{\|A\|_F} = \sqrt{\frac{\sum_i \sum_{j > s} |a_i|_{(j)}^2}{\sum_{ij} a_{ij}^2}}
/// ```
///
/// A row of the whole matrix at once (`columns` = its length) gives the best B with `kept` entries *overall*.
///
/// # Errors
/// No columns, a matrix that is no multiple of them, or entries that are not finite.
///
/// # Cost
/// A sort of every row.
///
/// ```
/// use scatterbrain_theory::error_of_best_entries;
/// let matrix = [4.0, 0.0, 0.0, 3.0];
/// assert_eq!((error_of_best_entries(&matrix, 2, 1)?, error_of_best_entries(&matrix, 4, 1)?), (0.0, 0.6));
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn error_of_best_entries(matrix: &[f64], columns: usize, kept: usize) -> Result<f64> {
    const FORMULA: &str = "the error of the best entries";
    let fits = columns >= 1 && matrix.len().is_multiple_of(columns.max(1));
    suppose(FORMULA, "rows of a matrix", fits, matrix.len() as f64)?;
    for x in matrix {
        suppose(FORMULA, "finite entries", x.is_finite(), *x)?;
    }
    let largest = matrix.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let (mut left, mut all) = (0.0, 0.0);
    for row in matrix.chunks_exact(columns) {
        let mut squares: Vec<f64> = row.iter().map(|x| (x / largest).powi(2)).collect();
        squares.sort_by(|a, b| b.total_cmp(a));
        all += squares.iter().sum::<f64>();
        left += squares.iter().skip(kept).sum::<f64>();
    }
    Ok(if largest == 0.0 { 0.0 } else { (left / all).sqrt() })
}

/// √ of the share of squares after the first `kept` of a descending list, scaled against overflow.
fn tail_share(descending: &[f64], kept: usize) -> f64 {
    let Some(&largest) = descending.first().filter(|s| **s > 0.0) else { return 0.0 };
    let sum = |values: &[f64]| values.iter().map(|s| (s / largest).powi(2)).sum::<f64>();
    (sum(descending.get(kept..).unwrap_or(&[])) / sum(descending)).sqrt()
}

/// Least relative Frobenius errors of the two parts alone, at one budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetBounds {
    /// Of b entries a row.
    pub sparse: f64,
    /// Of rank ⌊b/2⌋.
    pub low_rank: f64,
}

/// Lower bounds at b units a query, a key costing 1 and a feature 2: b entries in every row, or rank ⌊b/2⌋. No sparse
/// method (of an equal number a row) and no low-rank method of this budget is below them, however it chooses.
/// A combination whose error is below both is better than either could be.
///
/// ```math
/// \min_{|B_i|_0 \le b} \frac{\|A - B\|_F}{\|A\|_F}
/// \qquad \min_{\operatorname{rank} B \le \lfloor b/2 \rfloor} \frac{\|A - B\|_F}{\|A\|_F}
/// ```
///
/// # Errors
/// Those of [`error_of_best_entries`] and [`error_of_best_rank`]; singular values that are not the matrix's, by
/// Σσ² = |A|_F² to 1e-6.
///
/// ```
/// use scatterbrain_theory::budget_bounds;
/// // The identity: one entry a row is all; rank 1 of 4 leaves √(3/4).
/// let identity: Vec<f64> = (0..16).map(|i| f64::from(u8::from(i % 5 == 0))).collect();
/// let bounds = budget_bounds(&identity, 4, &[1.0; 4], 2)?;
/// assert_eq!((bounds.sparse, bounds.low_rank), (0.0, 0.75f64.sqrt()));
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn budget_bounds(matrix: &[f64], columns: usize, singular_values: &[f64], units: usize) -> Result<BudgetBounds> {
    let bounds = BudgetBounds {
        sparse: error_of_best_entries(matrix, columns, units)?,
        low_rank: error_of_best_rank(singular_values, units / 2)?,
    };
    let norm = |x: &[f64]| x.iter().fold(0.0, |n: f64, x| n.hypot(*x));
    let (frobenius, found) = (norm(matrix), norm(singular_values));
    let equal = (frobenius - found).abs() <= 1e-6 * frobenius;
    suppose("budget-matched bounds", "the matrix's own singular values", equal, found)?;
    Ok(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draws;

    /// A = diag(σ) turned by reflections: whatever rank-1 or row-sparse approximation is tried, none is nearer.
    #[test]
    fn nothing_is_nearer() {
        let mut draws = Draws::new(31);
        let n = 5;
        let sigma = [3.0, 2.0, 1.0, 0.5, 0.1];
        let unit = |draws: &mut Draws| {
            let x = draws.normal_vec(n);
            let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
            x.iter().map(|x| x / norm).collect::<Vec<f64>>()
        };
        let (u, v) = (unit(&mut draws), unit(&mut draws));
        let reflect = |w: &[f64], i: usize, j: usize| f64::from(u8::from(i == j)) - 2.0 * w[i] * w[j];
        let a: Vec<f64> = (0..n * n)
            .map(|at| (0..n).map(|l| reflect(&u, at / n, l) * sigma[l] * reflect(&v, l, at % n)).sum())
            .collect();
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let bounds = budget_bounds(&a, n, &sigma, 3).unwrap();
        for _ in 0..2000 {
            let (x, y) = (unit(&mut draws), unit(&mut draws));
            // The best multiple of xyᵀ.
            let dot: f64 = (0..n * n).map(|at| a[at] * x[at / n] * y[at % n]).sum();
            let off: Vec<f64> = (0..n * n).map(|at| a[at] - dot * x[at / n] * y[at % n]).collect();
            assert!(norm(&off) >= norm(&a) * bounds.low_rank * (1.0 - 1e-12));
            // Three random entries of every row kept.
            let start = (draws.uniform() * n as f64) as usize;
            let off: Vec<f64> = (0..n * n).map(|at| if (at % n + start) % n < 3 { 0.0 } else { a[at] }).collect();
            assert!(norm(&off) >= norm(&a) * bounds.sparse * (1.0 - 1e-12));
        }
        // The truncated decomposition attains its bound.
        let column = |w: &[f64], i: usize| reflect(w, i, 0);
        let off: Vec<f64> = (0..n * n).map(|at| a[at] - 3.0 * column(&u, at / n) * column(&v, at % n)).collect();
        assert!((norm(&off) / norm(&a) - bounds.low_rank).abs() < 1e-12);
        assert!(budget_bounds(&a, n, &[3.0], 3).is_err());
    }

    #[test]
    fn ends() {
        assert_eq!(error_of_best_rank(&[], 1).unwrap(), 0.0);
        assert_eq!(error_of_best_rank(&[1.0, 0.5], 2).unwrap(), 0.0);
        assert_eq!(error_of_best_rank(&[1e300, 1e300], 1).unwrap(), 0.5f64.sqrt());
        assert!(error_of_best_rank(&[1.0, 2.0], 1).is_err() && error_of_best_rank(&[-1.0], 1).is_err());
        assert_eq!(error_of_best_entries(&[0.0; 4], 2, 1).unwrap(), 0.0);
        assert!(error_of_best_entries(&[0.0; 4], 3, 1).is_err() && error_of_best_entries(&[1.0], 0, 1).is_err());
        assert!(error_of_best_entries(&[f64::NAN], 1, 1).is_err());
    }
}
