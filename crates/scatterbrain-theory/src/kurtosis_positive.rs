//! The kurtosis of positive features: why plain confidence intervals fail for them.

use crate::error::Result;
use crate::pair::Pair;

/// The kurtosis of one positive feature X = exp(ω·z − (|q|² + |k|²)/2), ω ~ N(0, I), z = q + k:
///
/// ```math
/// \frac{\mathbb E (X - A)^4}{(\operatorname{Var} X)^2} = w^4 + 2 w^3 + 3 w^2 - 3, \qquad w = e^{|z|^2}
/// ```
///
/// A normal variable has 3. Infinite where it overflows.
///
/// An empirical variance of N samples has a relative standard error of √((kurtosis − 1)/N): at |z|² = 4 the kurtosis is
/// 9.2·10⁶, and 10 % take 10⁹ samples; fewer give mostly too little. [`crate::Check`] tells.
/// Of m averaged features, independent, the excess over 3 is that of one, over m.
///
/// Derivation: X/A = e^{Y − |z|²/2}, Y ~ N(0, |z|²), so E (X/A)^p = w^{p(p−1)/2}: 1, w, w³, w⁶ for p = 1 to 4.
/// The fourth central moment over A⁴ is w⁶ − 4w³ + 6w − 3 = (w − 1)²(w⁴ + 2w³ + 3w² − 3), the variance over A² w − 1.
///
/// # Errors
/// Norms and a product that no vectors have.
///
/// ```
/// use scatterbrain_theory::{Pair, kurtosis_positive};
/// let pair = Pair::of(&[1.0, 0.0], &[1.0, 0.0])?; // |z|² = 4.
/// let kurtosis = kurtosis_positive(pair)?;
/// assert!(9.2e6 < kurtosis && kurtosis < 9.3e6);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn kurtosis_positive(pair: Pair) -> Result<f64> {
    pair.check("the kurtosis of positive features")?;
    let w = pair.sum_square().exp();
    Ok(w * w * (w * (w + 2.0) + 3.0) - 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Check, Claim, Draws, Estimator, Verdict};

    /// E(X/A − 1)⁴ = kurtosis·(e^{|z|²} − 1)², drawn at |z|² = 0.09.
    #[test]
    fn agrees_with_simulation() {
        let pair = Pair { query_square: 0.09, key_square: 0.0, dot: 0.0 };
        let fourth = kurtosis_positive(pair).unwrap() * 0.09f64.exp_m1().powi(2);
        let sampler = |draws: &mut Draws| ((0.3 * draws.standard_normal() - 0.045).exp() - 1.0).powi(4);
        let check = Check { tolerance: 0.05, relative_width: 0.05, ..Check::default() };
        let run = |factor: f64| check.run(Claim::Equals(factor * fourth), Estimator::Mean, sampler).unwrap().verdict;
        assert_eq!((run(1.0), run(1.1)), (Verdict::Holds, Verdict::Refuted));
    }

    #[test]
    fn ends() {
        let of = |query_square| kurtosis_positive(Pair { query_square, key_square: 0.0, dot: 0.0 });
        assert_eq!(of(0.0).unwrap(), 3.0);
        assert_eq!(of(1e3).unwrap(), f64::INFINITY);
        assert!(of(-1.0).is_err());
    }
}
