//! How many keys a row of attention attends to.

use crate::error::{Result, suppose};

/// Measures of one row of weights that are not negative and sum to one, p.
///
/// | field | formula |
/// |---|---|
/// | `entropy` | H = −Σ p ln p |
/// | `perplexity` | e^H |
/// | `participation` | 1/Σ p² |
/// | `peak` | max p |
/// | `positive` | number of p > 0 |
///
/// Effective numbers of keys, all equal where the positive weights are:
///
/// ```math
/// \frac{1}{\max_j p_j} \le \frac{1}{\sum_j p_j^2} \le e^H \le \#\{j : p_j > 0\}, \qquad
/// H = -\sum_j p_j \ln p_j
/// ```
///
/// Derivation: Σp² ≤ max p · Σp; ln Σ p·p ≥ Σ p ln p by Jensen (ln is concave, the weights p sum to one);
/// H = Σ p ln(1/p) ≤ ln Σ_{p>0} p/p by Jensen again.
///
/// ```
/// use scatterbrain_theory::RowEntropy;
/// let row = RowEntropy::of(&[0.5, 0.5, 0.0])?;
/// assert_eq!((row.participation, row.positive), (2.0, 2));
/// assert!((row.perplexity - 2.0).abs() < 1e-15);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowEntropy {
    /// H, in nats.
    pub entropy: f64,
    /// e^H.
    pub perplexity: f64,
    /// 1/Σp².
    pub participation: f64,
    /// max p.
    pub peak: f64,
    /// Number of p > 0.
    pub positive: usize,
}

impl RowEntropy {
    /// Of a row.
    ///
    /// # Errors
    /// Weights that are negative or NaN, or whose sum differs from 1 by more than 1e-9.
    pub fn of(row: &[f64]) -> Result<Self> {
        check_row("the entropy of a row", row)?;
        let entropy = row.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum::<f64>().max(0.0);
        Ok(Self {
            entropy,
            perplexity: entropy.exp(),
            participation: row.iter().map(|p| p * p).sum::<f64>().recip(),
            peak: row.iter().copied().fold(0.0, f64::max),
            positive: row.iter().filter(|p| **p > 0.0).count(),
        })
    }
}

/// The smallest number of keys that hold a share 1 − ε of the row, its effective support s:
///
/// ```math
/// s = \min\Bigl\{|T| : \sum_{j \in T} p_j \ge 1 - \varepsilon\Bigr\}
/// \ge \frac{(1 - \varepsilon)^2}{\sum_j p_j^2}
/// ```
///
/// The bound: s keys hold at most √(s Σp²), by Cauchy–Schwarz.
///
/// # Errors
/// As [`RowEntropy::of`], or ε outside \[0, 1).
///
/// # Cost
/// A sort.
///
/// ```
/// use scatterbrain_theory::effective_support;
/// assert_eq!(effective_support(&[0.25, 0.5, 0.125, 0.125], 0.25)?, 2);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn effective_support(row: &[f64], missing: f64) -> Result<usize> {
    const FORMULA: &str = "the effective support of a row";
    check_row(FORMULA, row)?;
    suppose(FORMULA, "a missing share in [0, 1)", (0.0..1.0).contains(&missing), missing)?;
    let mut sorted = row.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    // The smallest weights are summed first, so that what is left out keeps its digits.
    let mut tail = 0.0;
    for (at, p) in sorted.iter().enumerate().rev() {
        tail += p;
        if tail > missing {
            return Ok(at + 1);
        }
    }
    // Only rounding of a sum near 1 leads here.
    Ok(1)
}

fn check_row(formula: &'static str, row: &[f64]) -> Result<()> {
    for p in row {
        suppose(formula, "weights of at least 0", *p >= 0.0, *p)?;
    }
    let sum = row.iter().sum::<f64>();
    suppose(formula, "weights that sum to one", (sum - 1.0).abs() <= 1e-9, sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draws;

    #[test]
    fn inequalities() {
        let mut draws = Draws::new(12);
        for _ in 0..3000 {
            let (n, beta) = (1 + (draws.uniform() * 40.0) as usize, 6.0 * draws.uniform());
            let weights: Vec<f64> = (0..n).map(|_| (beta * draws.standard_normal()).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let row: Vec<f64> = weights.iter().map(|w| w / sum).collect();
            let r = RowEntropy::of(&row).unwrap();
            let slack = 1.0 + 1e-12;
            assert!(1.0 / r.peak <= r.participation * slack && r.participation <= r.perplexity * slack);
            assert!(r.perplexity <= r.positive as f64 * slack);
            let missing = draws.uniform();
            let s = effective_support(&row, missing).unwrap();
            assert!(s as f64 * slack >= (1.0 - missing).powi(2) * r.participation, "{s} {r:?}");
            // By definition: s keys suffice, and s − 1 do not.
            let mut sorted = row;
            sorted.sort_by(|a, b| b.total_cmp(a));
            let held = |s: usize| sorted[..s].iter().sum::<f64>();
            assert!(held(s) >= 1.0 - missing - 1e-12 && (s == 1 || held(s - 1) < 1.0 - missing + 1e-12));
        }
    }

    #[test]
    fn refuses() {
        for row in [&[][..], &[0.5, 0.4], &[1.5, -0.5], &[f64::NAN]] {
            assert!(RowEntropy::of(row).is_err() && effective_support(row, 0.1).is_err());
        }
        assert!(effective_support(&[1.0], 1.0).is_err());
        assert_eq!(effective_support(&[1.0, 0.0], 0.0).unwrap(), 1);
    }
}
