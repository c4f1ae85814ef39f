//! How far a mean of samples may be from the true one.

use crate::error::{Result, suppose};
use statrs::function::erf::erfc_inv;
use std::f64::consts::SQRT_2;

/// The half width of an interval that covers the mean of N independent samples with probability about 1 − δ, V the
/// samples' variance (by N − 1), z the two-sided normal quantile of δ:
///
/// ```math
/// z \sqrt{V/N}, \qquad \operatorname{erfc}(z/\sqrt 2) = \delta
/// ```
///
/// **Asymptotic**: by the central limit theorem, as N → ∞ at a finite variance. For few samples or rare large ones it
/// covers less than it says; [`half_width_empirical_bernstein`] does not.
///
/// # Errors
/// Fewer than two samples, samples that are not finite, or δ outside (0, 1).
///
/// ```
/// use scatterbrain_theory::half_width_clt;
/// let half = half_width_clt(&[1.0, -1.0, 1.0, -1.0], 0.05)?;
/// assert!((half - 1.959964 / 3f64.sqrt()).abs() < 1e-6);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn half_width_clt(samples: &[f64], error_probability: f64) -> Result<f64> {
    let (variance, n) = variance("a central limit interval", samples, error_probability)?;
    // erfc(z/√2) = δ.
    Ok(SQRT_2 * erfc_inv(error_probability) * (variance / n).sqrt())
}

/// The half width of an interval that covers the mean of N independent, equally distributed samples with probability at
/// least 1 − δ, for *every* N ≥ 2, V the samples' variance (by N − 1), b the width of a range that holds every sample:
///
/// ```math
/// \sqrt{\frac{2 V t}{N}} + \frac{7 b t}{3 (N - 1)}, \qquad t = \ln \frac{3}{\delta}
/// ```
///
/// Derivation: each of three events has probability at most δ/3. Bernstein's inequality, above and below:
/// the mean of the samples is off by more than √(2σ²t/N) + bt/(3N). And the samples' variance is too small:
/// σ > √V + b√(2t/(N − 1)) (Maurer and Pontil 2009, "Empirical Bernstein bounds and sample variance penalization").
/// Without them, √(2σ²t/N) ≤ √(2Vt/N) + 2bt/(N − 1), and 2 + 1/3 = 7/3.
///
/// # Errors
/// Fewer than two samples, samples that are not finite or whose spread exceeds b, b negative or infinite, or δ outside
/// (0, 1).
///
/// ```
/// use scatterbrain_theory::half_width_empirical_bernstein;
/// // Equal samples: only the range is left.
/// let half = half_width_empirical_bernstein(&[0.5; 71], 1.0, 0.03)?;
/// assert!((half - 100f64.ln() / 30.0).abs() < 1e-15);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn half_width_empirical_bernstein(samples: &[f64], range: f64, error_probability: f64) -> Result<f64> {
    const FORMULA: &str = "an empirical Bernstein interval";
    let (variance, n) = variance(FORMULA, samples, error_probability)?;
    suppose(FORMULA, "a finite range of at least 0", range.is_finite() && range >= 0.0, range)?;
    let end = |pick: fn(f64, f64) -> f64| samples.iter().copied().reduce(pick).unwrap_or(0.0);
    let spread = end(f64::max) - end(f64::min);
    suppose(FORMULA, "samples within the range", spread <= range * (1.0 + 1e-12), spread)?;
    // Apart, as the quotient may overflow.
    let t = 3f64.ln() - error_probability.ln();
    Ok((2.0 * variance * t / n).sqrt() + 7.0 * range * t / (3.0 * (n - 1.0)))
}

/// The unbiased variance and N.
fn variance(formula: &'static str, samples: &[f64], error_probability: f64) -> Result<(f64, f64)> {
    let n = samples.len() as f64;
    suppose(formula, "at least two samples", samples.len() >= 2, n)?;
    for x in samples {
        suppose(formula, "finite samples", x.is_finite(), *x)?;
    }
    let inside = error_probability > 0.0 && error_probability < 1.0;
    suppose(formula, "an error probability in (0, 1)", inside, error_probability)?;
    let mean = samples.iter().sum::<f64>() / n;
    Ok((samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0), n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Check, Claim, Draws, Estimator, Verdict};

    const DELTA: f64 = 0.1;

    /// How the share of intervals that miss the mean compares with δ; a false verdict has probability 10⁻⁴.
    fn misses(claim: Claim, n: usize, mean: f64, half: fn(&[f64]) -> f64, draw: fn(&mut Draws) -> f64) -> Verdict {
        let check = Check { max_trials: 200_000, relative_width: 0.1, tolerance: 0.1, ..Check::default() };
        let missed = |draws: &mut Draws| {
            let samples: Vec<f64> = (0..n).map(|_| draw(draws)).collect();
            (samples.iter().sum::<f64>() / n as f64 - mean).abs() > half(&samples)
        };
        check.run(claim, Estimator::Probability, missed).unwrap().verdict
    }

    fn rare(draws: &mut Draws) -> f64 {
        f64::from(u8::from(draws.uniform() < 0.01))
    }

    #[test]
    fn coverage() {
        let clt: fn(&[f64]) -> f64 = |s| half_width_clt(s, DELTA).unwrap();
        let bernstein: fn(&[f64]) -> f64 = |s| half_width_empirical_bernstein(s, 1.0, DELTA).unwrap();
        // Many samples of an even law: the quantile is right, within a tenth of δ.
        assert_eq!(misses(Claim::Equals(DELTA), 500, 0.5, clt, Draws::uniform), Verdict::Holds);
        // Fifty samples of an event of probability 1/100: most draws have none, and a variance of 0.
        assert_eq!(misses(Claim::AtMost(DELTA), 50, 0.01, clt, rare), Verdict::Refuted);
        for n in [3, 50] {
            assert_eq!(misses(Claim::AtMost(DELTA), n, 0.01, bernstein, rare), Verdict::Holds);
            assert_eq!(misses(Claim::AtMost(DELTA), n, 0.5, bernstein, Draws::uniform), Verdict::Holds);
        }
    }

    /// Of a probability that 3/δ overflows for: t = ln 3 + 320 ln 10 up to the few digits of such a δ.
    #[test]
    fn tiny_probabilities() {
        let half = half_width_empirical_bernstein(&[0.5; 71], 1.0, 1e-320).unwrap();
        assert!((half - (3f64.ln() + 320.0 * 10f64.ln()) / 30.0).abs() < 1e-4, "{half}");
    }

    #[test]
    fn refuses() {
        assert!(half_width_clt(&[1.0], 0.1).is_err() && half_width_clt(&[1.0, f64::NAN], 0.1).is_err());
        assert!(half_width_clt(&[1.0, 2.0], 0.0).is_err() && half_width_clt(&[1.0, 2.0], 1.0).is_err());
        assert!(half_width_empirical_bernstein(&[1.0, 2.0], 0.9, 0.1).is_err());
        assert!(half_width_empirical_bernstein(&[1.0, 2.0], f64::INFINITY, 0.1).is_err());
    }
}
