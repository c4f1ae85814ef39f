//! The variance of optimal positive random features, and the A that makes it least.

use crate::error::{Result, suppose};
use crate::pair::{Pair, check_count};
use crate::second_moment_oprf::log_ratio;

/// The variance of the estimate of A_ij = exp(q·k) by m OPRF features on *independent* ω_l ~ N(0, I_d), E X² from
/// [`crate::second_moment_oprf()`]. Infinite where it overflows.
///
/// ```math
/// \operatorname{Var} \hat A = \frac{1}{m} A_{ij}^2 \Bigl(\frac{\mathbb E X^2}{A_{ij}^2} - 1\Bigr)
/// ```
///
/// With [`optimal_a`] it is the least that a map fitted to this pair can have. A map of the library has one A for all
/// pairs: give that A.
///
/// Derivation: the features are unbiased for every A < ¼, as E exp(2A|ω|² + B ω·z) = (1 − 4A)^{−d/2} e^{|z|²/2},
/// which D² = (1 − 4A)^{d/2} and e^{−(|q|² + |k|²)/2} turn into A_ij.
/// Likhosherstov et al. 2022, "Chefs' random tables".
///
/// # Errors
/// m = 0, and those of [`crate::second_moment_oprf()`].
///
/// ```
/// use scatterbrain_theory::{Pair, optimal_a, variance_oprf, variance_positive};
/// let pair = Pair::of(&[1.0, 0.0], &[1.0, 0.0])?; // |q + k|² = 4.
/// assert!((variance_oprf(pair, 0.0, 2, 16)? / variance_positive(pair, 16)? - 1.0).abs() < 1e-12);
/// assert!(variance_oprf(pair, optimal_a(4.0, 2)?, 2, 16)? < 0.1 * variance_positive(pair, 16)?);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn variance_oprf(pair: Pair, a: f64, head_dim: usize, n_features: usize) -> Result<f64> {
    let m = check_count("the variance of OPRF", n_features)?;
    let log = log_ratio("the variance of OPRF", pair, a, head_dim)?;
    // A_ij² (e^log − 1) as one exponential, since a factor alone may overflow.
    Ok((2.0 * pair.dot + log).exp() * -(-log).exp_m1() / m)
}

/// The A at which [`crate::second_moment_oprf()`] of a pair with |q + k|² = |z|² is least, φ̄ = |z|²/d:
///
/// ```math
/// A^* = \frac{1 - 2 \bar\varphi - \sqrt{(2 \bar\varphi + 1)^2 + 8 \bar\varphi}}{16} \le 0
/// ```
///
/// For a mean of |z|² over pairs it makes the mean *logarithm* of the second moment least, as that is linear in φ̄; the
/// mean second moment itself is least further below.
///
/// Derivation: with u = 1 − 8A > 0, 1 − 4A = (1 + u)/2 and ln(E X²/A_ij²) = d f(u),
/// f = ln((1 + u)/2) − ½ ln u + φ̄/u. f′ = 1/(1 + u) − 1/(2u) − φ̄/u², and 2u²(1 + u) f′ = u² − (1 + 2φ̄)u − 2φ̄:
/// negative up to its only positive root u = (1 + 2φ̄ + √((1 + 2φ̄)² + 8φ̄))/2, positive beyond. A* = (1 − u)/8.
/// Likhosherstov et al. 2022, "Chefs' random tables".
///
/// # Errors
/// A |z|² that is negative or not finite, or d = 0.
///
/// ```
/// use scatterbrain_theory::optimal_a;
/// assert_eq!(optimal_a(0.0, 64)?, 0.0);
/// assert!((optimal_a(64.0, 64)? - (-1.0 - 17f64.sqrt()) / 16.0).abs() < 1e-16); // φ̄ = 1.
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn optimal_a(sum_square: f64, head_dim: usize) -> Result<f64> {
    const FORMULA: &str = "the best A of OPRF";
    suppose(FORMULA, "a finite |z|² of at least 0", sum_square.is_finite() && sum_square >= 0.0, sum_square)?;
    suppose(FORMULA, "a dimension of at least 1", head_dim >= 1, 0.0)?;
    let phi = sum_square / head_dim as f64;
    let root = (2.0 * phi + 1.0).hypot((8.0 * phi).sqrt());
    let plain = 1.0 - 2.0 * phi;
    // (p − r) = (p² − r²)/(p + r), p² − r² = −16φ̄, where p and r nearly cancel.
    Ok(if plain > 0.0 { -phi / (plain + root) } else { (plain - root) / 16.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{PAIRS, check_moments, dot, sum};
    use crate::{Check, Claim, Draws, Estimator, Verdict, second_moment_oprf};

    fn feature(w: &[f64], z: &[f64], a: f64, half: f64) -> f64 {
        (1.0 - 4.0 * a).powf(0.5 * z.len() as f64)
            * (2.0 * a * dot(w, w) + (1.0 - 4.0 * a).sqrt() * dot(w, z) - half).exp()
    }

    #[test]
    fn agrees_with_simulation() {
        for (q, k) in PAIRS {
            let pair = Pair::of(&q, &k).unwrap();
            let half = 0.5 * (pair.query_square + pair.key_square);
            let z = sum(&q, &k, 1.0);
            let a = optimal_a(pair.sum_square(), z.len()).unwrap();
            let variance = variance_oprf(pair, a, z.len(), 1).unwrap();
            check_moments(pair.entry(), variance, |w| feature(w, &z, a, half));
            assert_eq!(variance_oprf(pair, a, z.len(), 8).unwrap(), variance / 8.0);
        }
    }

    /// At |z|² = 4, where plain features are not to be judged, the optimum is.
    #[test]
    fn light_tails_at_the_optimum() {
        let pair = Pair { query_square: 1.0, key_square: 1.0, dot: 1.0 };
        let a = optimal_a(4.0, 4).unwrap();
        let variance = variance_oprf(pair, a, 4, 1).unwrap();
        let sampler = |draws: &mut Draws| feature(&draws.normals::<4>(), &[2.0, 0.0, 0.0, 0.0], a, 1.0);
        for (factor, verdict) in [(1.0, Verdict::Holds), (1.1, Verdict::Refuted)] {
            let claim = Claim::Equals(factor * variance);
            let report = Check::default().run(claim, Estimator::Variance, sampler).unwrap();
            assert_eq!(report.verdict, verdict, "{report:?}");
        }
    }

    /// No A to either side has a smaller second moment; for φ̄ near 0, A* = −φ̄/2 to first order.
    #[test]
    fn optimum_is_least() {
        for (square, d) in [(0.3, 4), (1.0, 8), (20.0, 64), (32.0, 64), (500.0, 64), (1e4, 1)] {
            let pair = Pair { query_square: square, key_square: 0.0, dot: 0.0 };
            let log = |a: f64| log_ratio("", pair, a, d).unwrap();
            let a = optimal_a(square, d).unwrap();
            for step in [1e-3, 1e-2, 0.1] {
                let step = step * (1.0 - 8.0 * a);
                assert!(log(a) < log(a - step) && log(a) < log(a + step), "{square} {d}");
            }
        }
        assert!((optimal_a(1e-12, 1).unwrap() / -5e-13 - 1.0).abs() < 1e-11);
    }

    /// The second moment at the optimum grows like (e φ̄/2)^{d/2}: the ratio of logarithms tends to 1.
    #[test]
    fn growth() {
        let pair = Pair { query_square: 1e6, key_square: 0.0, dot: 0.0 };
        let log = second_moment_oprf(pair, optimal_a(1e6, 4).unwrap(), 4).unwrap().ln();
        let expected = 2.0 * (0.5 * std::f64::consts::E * 2.5e5).ln();
        assert!((log / expected - 1.0).abs() < 1e-6, "{log} {expected}");
    }

    #[test]
    fn refuses() {
        let pair = Pair { query_square: 1.0, key_square: 0.0, dot: 0.0 };
        assert!(variance_oprf(pair, 0.0, 4, 0).is_err() && variance_oprf(pair, 0.125, 4, 1).is_err());
        assert!(optimal_a(-1.0, 4).is_err() && optimal_a(f64::INFINITY, 4).is_err() && optimal_a(1.0, 0).is_err());
        assert_eq!(variance_oprf(Pair { query_square: 0.0, ..pair }, 0.0, 4, 1).unwrap(), 0.0);
    }

    #[test]
    fn ends_of_the_range() {
        let pair = Pair { query_square: 1.0, key_square: 1.0, dot: 0.0 };
        assert!(variance_oprf(pair, -1e308, 2, 1).is_err());
        assert!(!variance_oprf(pair, -1e307, 2, 1).unwrap().is_nan());
        // For large φ̄, A* → −φ̄/4.
        assert!((optimal_a(1e155, 2).unwrap() / -1.25e154 - 1.0).abs() < 1e-9);
    }
}
