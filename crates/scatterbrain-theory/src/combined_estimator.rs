//! Sparse and low-rank together: the paper's theorem for one unnormalised entry.
//!
//! Â = A where the pair is on the support, which happens with probability p̂, and X off it. Hypotheses that no
//! number can show: X is independent of the support (other randomness than the hash), and p̂ is the actual
//! probability of inclusion.
//!
//! Unbiasedness: E Â = A where E X = A, whatever p̂ is, since Â − A = (1 − I)(X − A) and the factors are independent.
//! Independence is needed: [`mean_of_reused_directions`](crate::mean_of_reused_directions) is the mean without it.
//! Both are statements on the *unnormalised* entry: the softmax ratio is biased.

use crate::error::{Result, suppose};

/// The variance of the combined estimator, for an X that is unbiased and independent of the support:
///
/// ```math
/// \operatorname{Var} \hat A = (1 - \hat p) \operatorname{Var} X
/// ```
///
/// E Â = A, so this is the mean squared error too. With directions that serve features and hash both, the mean is another:
/// [`mean_of_reused_directions`](crate::mean_of_reused_directions).
///
/// Derivation: with I the indicator of the support, Â − A = (1 − I)(X − A); I and X are independent and
/// 1 − I is its own square, so E(Â − A) = (1 − p̂)·0 and E(Â − A)² = (1 − p̂) E(X − A)².
/// Chen et al. 2021, "Scatterbrain", the theorem on the combined estimator.
///
/// # Errors
/// p̂ outside [0, 1], or a negative variance.
///
/// ```
/// use scatterbrain_theory::variance_combined;
/// assert_eq!(variance_combined(0.75, 2.0)?, 0.5);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn variance_combined(inclusion: f64, variance_low_rank: f64) -> Result<f64> {
    check_inclusion("the variance of the combined estimator", inclusion)?;
    suppose(
        "the variance of the combined estimator",
        "a low-rank variance of at least 0",
        variance_low_rank >= 0.0,
        variance_low_rank,
    )?;
    Ok(scaled(1.0 - inclusion, variance_low_rank))
}

/// The mean squared error of the sparse part alone, 0 off the support:
///
/// ```math
/// \mathbb E (\hat A - A)^2 = (1 - \hat p)\, A^2
/// ```
///
/// Derivation: [`mse_biased_background`] with Ã = 0.
///
/// # Errors
/// p̂ outside [0, 1], or an entry that is NaN or infinite.
///
/// ```
/// use scatterbrain_theory::mse_sparse_alone;
/// assert_eq!(mse_sparse_alone(0.5, 2.0)?, 2.0);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn mse_sparse_alone(inclusion: f64, entry: f64) -> Result<f64> {
    mse_biased_background(inclusion, entry, 0.0)
}

/// The mean squared error of a fixed background Ã off the support, biased or not:
///
/// ```math
/// \mathbb E (\hat A - A)^2 = (1 - \hat p) (\tilde A - A)^2
/// ```
///
/// Derivation: Â − A = (1 − I)(Ã − A) with Ã − A constant; E(1 − I)² = 1 − p̂.
///
/// # Errors
/// p̂ outside [0, 1], or entries that are NaN or infinite.
///
/// ```
/// use scatterbrain_theory::mse_biased_background;
/// assert_eq!(mse_biased_background(0.5, 3.0, 1.0)?, 2.0);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn mse_biased_background(inclusion: f64, entry: f64, background: f64) -> Result<f64> {
    const FORMULA: &str = "the error of a fixed background";
    check_inclusion(FORMULA, inclusion)?;
    suppose(FORMULA, "a finite entry", entry.is_finite(), entry)?;
    suppose(FORMULA, "a finite background", background.is_finite(), background)?;
    Ok(scaled(1.0 - inclusion, (background - entry).powi(2)))
}

fn check_inclusion(formula: &'static str, inclusion: f64) -> Result<()> {
    suppose(formula, "an inclusion probability in [0, 1]", (0.0..=1.0).contains(&inclusion), inclusion)
}

/// A share of an error; nothing of an infinite one is nothing.
fn scaled(share: f64, error: f64) -> f64 {
    if share == 0.0 { 0.0 } else { share * error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::check_moments;

    /// ω_0 decides inclusion (by a threshold at 0: p̂ = ½), ω_1 the low-rank estimate.
    #[test]
    fn agrees_with_simulation() {
        let (entry, sigma) = (1.7, 0.6);
        let variance = variance_combined(0.5, sigma * sigma).unwrap();
        check_moments(entry, variance, |w| if w[0] > 0.0 { entry } else { entry + sigma * w[1] });

        // Mean A/2, so the variance is the mean squared error less (A/2)².
        let mse = mse_sparse_alone(0.5, entry).unwrap();
        check_moments(entry / 2.0, mse - entry * entry / 4.0, |w| if w[0] > 0.0 { entry } else { 0.0 });

        let background = 1.1;
        let mse = mse_biased_background(0.5, entry, background).unwrap();
        let bias = (background - entry) / 2.0;
        check_moments(entry + bias, mse - bias * bias, |w| if w[0] > 0.0 { entry } else { background });
    }

    #[test]
    fn ends() {
        assert_eq!(variance_combined(1.0, f64::INFINITY).unwrap(), 0.0);
        assert_eq!(mse_biased_background(0.0, 3.0, 1.0).unwrap(), 4.0);
        assert!(variance_combined(1.1, 1.0).is_err() && variance_combined(f64::NAN, 1.0).is_err());
        assert!(variance_combined(0.5, -1.0).is_err() && mse_sparse_alone(0.5, f64::NAN).is_err());
    }
}
