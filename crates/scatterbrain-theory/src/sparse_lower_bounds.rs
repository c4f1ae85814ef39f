//! What a sparse row misses at least, by its effective number of keys.

use crate::error::{Result, suppose};
use crate::row_entropy::RowEntropy;

/// A lower bound on τ, the mass of a row of n weights off *any* s of its keys:
///
/// ```math
/// \tau \ge \max\Bigl(1 - \sqrt{s \textstyle\sum_j p_j^2},\; 1 - s \max_j p_j,\;
/// \frac{H - \ln s - \ln 2}{\ln(n - s) - \ln s} \text{ where } s < \tfrac n2,\; 0\Bigr)
/// ```
///
/// Any row x with at most s non-zero entries then has Σ|p − x| ≥ τ, and Σ(p − x)² ≥ τ²/(n − s).
///
/// Derivation: s weights hold at most √s √Σp² by Cauchy–Schwarz, and at most s max p.
/// By the chain rule, with h(τ) ≤ ln 2 the entropy of "on or off", H ≤ h(τ) + (1 − τ) ln s + τ ln(n − s), the third
/// (Fano's inequality). Off the s entries x is 0, so there Σ|p| = τ and Σp² ≥ τ²/(n − s).
///
/// # Errors
/// s = 0, s > n, or fewer weights n than are positive.
///
/// ```
/// use scatterbrain_theory::{RowEntropy, mass_off_sparse_rows};
/// // Uniform over 16: four keys leave 3/4; the bound by Σp² gives 1 − √(4/16).
/// let row = RowEntropy::of(&[1.0 / 16.0; 16])?;
/// assert_eq!(mass_off_sparse_rows(row, 16, 4)?, 0.75); // By the peak.
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn mass_off_sparse_rows(row: RowEntropy, n: usize, kept: usize) -> Result<f64> {
    const FORMULA: &str = "the mass off sparse rows";
    suppose(FORMULA, "at least one kept key", kept >= 1, 0.0)?;
    suppose(FORMULA, "at most n kept keys", kept <= n, kept as f64)?;
    suppose(FORMULA, "at least as many weights as are positive", row.positive <= n, n as f64)?;
    let (n, s) = (n as f64, kept as f64);
    let fano =
        if s < 0.5 * n { (row.entropy - s.ln() - std::f64::consts::LN_2) / ((n - s).ln() - s.ln()) } else { 0.0 };
    Ok((1.0 - (s / row.participation).sqrt()).max(1.0 - s * row.peak).max(fano).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draws;

    #[test]
    fn never_above_the_best_rows() {
        let (mut draws, mut by_entropy) = (Draws::new(13), 0);
        for _ in 0..3000 {
            let (n, beta) = (2 + (draws.uniform() * 200.0) as usize, 4.0 * draws.uniform());
            let weights: Vec<f64> = (0..n).map(|_| (beta * draws.standard_normal()).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let mut row: Vec<f64> = weights.iter().map(|w| w / sum).collect();
            row.sort_by(|a, b| b.total_cmp(a));
            let measures = RowEntropy::of(&row).unwrap();
            let s = 1 + (draws.uniform() * n as f64) as usize;
            let tail: f64 = row[s..].iter().sum();
            let bound = mass_off_sparse_rows(measures, n, s).unwrap();
            assert!(bound <= tail + 1e-12, "{n} {s} {bound} {tail}");
            // The best sparse row in squares keeps the largest weights.
            let squares: f64 = row[s..].iter().map(|p| p * p).sum();
            assert!(s == n || bound * bound / (n - s) as f64 <= squares + 1e-15);
            let without = RowEntropy { entropy: 0.0, ..measures };
            by_entropy += usize::from(bound > mass_off_sparse_rows(without, n, s).unwrap());
        }
        // Each of the three is of use.
        assert!(by_entropy > 30, "{by_entropy}");
    }

    #[test]
    fn refuses() {
        let row = RowEntropy::of(&[0.5, 0.5]).unwrap();
        assert!(mass_off_sparse_rows(row, 2, 0).is_err() && mass_off_sparse_rows(row, 2, 3).is_err());
        assert!(mass_off_sparse_rows(row, 1, 1).is_err());
        assert_eq!(mass_off_sparse_rows(row, 2, 2).unwrap(), 0.0);
    }
}
