//! Two entries of one row under the same positive features.

use crate::error::{Result, suppose};
use crate::pair::{Pair, check_count};

/// The covariance of two entries of one query, estimated by the same m positive features on *independent*
/// ω_l ~ N(0, I), z_i = q + k_i:
///
/// ```math
/// \operatorname{Cov}(\hat A_i, \hat A_j) = \frac{1}{m} A_i A_j \bigl(e^{z_i \cdot z_j} - 1\bigr)
/// ```
///
/// With k_i = k_j it is [`crate::variance_positive()`].
/// Infinite where it overflows.
///
/// Derivation: X_i = exp(ω·z_i − (|q|² + |k_i|²)/2), E e^{ω·(z_i + z_j)} = e^{|z_i|²/2 + |z_j|²/2 + z_i·z_j}, and
/// |z_i|²/2 − (|q|² + |k_i|²)/2 = q·k_i. So E X_i X_j = A_i A_j e^{z_i·z_j}.
///
/// # Errors
/// m = 0, vectors of different dimensions, or without finite squares.
///
/// ```
/// use scatterbrain_theory::{Pair, covariance_positive, variance_positive};
/// let (q, k) = ([0.5, 0.0], [0.0, 0.5]);
/// let covariance = covariance_positive(&q, &k, &k, 16)?;
/// assert!((covariance / variance_positive(Pair::of(&q, &k)?, 16)? - 1.0).abs() < 1e-12);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn covariance_positive(query: &[f64], key_i: &[f64], key_j: &[f64], n_features: usize) -> Result<f64> {
    const FORMULA: &str = "the covariance of positive features";
    let m = check_count(FORMULA, n_features)?;
    let (first, second) = (Pair::of(query, key_i)?, Pair::of(query, key_j)?);
    let keys = Pair::of(key_i, key_j)?;
    let dot = first.query_square + first.dot + second.dot + keys.dot;
    suppose(FORMULA, "a finite product of q + k_i and q + k_j", dot.is_finite(), dot)?;
    let entries = first.dot + second.dot;
    // As one exponential, the larger of the two, since a factor alone may overflow.
    let (exponent, factor) = if dot > 0.0 { (entries + dot, -(-dot).exp_m1()) } else { (entries, dot.exp_m1()) };
    Ok(if factor == 0.0 { 0.0 } else { exponent.exp() * factor / m })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{PAIRS, check_value, dot, sum};
    use crate::{Draws, Estimator};

    #[test]
    fn agrees_with_simulation() {
        let (q, k) = PAIRS[0];
        for (other, far) in [(PAIRS[1].1, 1.0), (PAIRS[2].1, 1.0), (PAIRS[0].1, -1.0)] {
            let other = other.map(|x| far * x - 0.5 * (1.0 - far));
            let (z, y) = (sum(&q, &k, 1.0), sum(&q, &other, 1.0));
            let half = 0.5 * (dot(&q, &q) + dot(&k, &k));
            let half_other = 0.5 * (dot(&q, &q) + dot(&other, &other));
            let (a, b) = (dot(&q, &k).exp(), dot(&q, &other).exp());
            let sampler = |draws: &mut Draws| {
                let w = draws.normals::<4>();
                ((dot(&w, &z) - half).exp() - a) * ((dot(&w, &y) - half_other).exp() - b)
            };
            check_value(Estimator::Mean, covariance_positive(&q, &k, &other, 1).unwrap(), sampler);
        }
    }

    #[test]
    fn ends() {
        assert_eq!(covariance_positive(&[1.0], &[-1.0], &[3.0], 4).unwrap(), 0.0);
        assert!(covariance_positive(&[1.0], &[-3.0], &[3.0], 4).unwrap() < 0.0);
        assert_eq!(covariance_positive(&[30.0], &[30.0], &[30.0], 4).unwrap(), f64::INFINITY);
        assert!(covariance_positive(&[1.0], &[1.0], &[1.0, 2.0], 4).is_err());
        assert!(covariance_positive(&[1.0], &[1.0], &[1.0], 0).is_err());
    }
}
