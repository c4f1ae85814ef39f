//! The variance of hyperbolic pairs.

use crate::error::{Result, suppose};
use crate::pair::{Pair, check_count};

/// The variance of the estimate of A = exp(q·k) by m positive features on m/2 *independent* pairs [ω, −ω],
/// ω ~ N(0, I), z = q + k. Infinite where it overflows.
///
/// ```math
/// \operatorname{Var} \hat A = \frac{1}{m} e^{|z|^2} A^2 \bigl(1 - e^{-|z|^2}\bigr)^2
/// ```
///
/// At an equal count of features that is [`crate::variance_positive`] times 1 − e^{−|z|²}; per projection,
/// times half of that.
///
/// Derivation: a pair gives X = e^{−(|q|² + |k|²)/2} cosh ω·z. E cosh² ω·z = ½(1 + E cosh 2ω·z) =
/// ½(1 + e^{2|z|²}), minus (E cosh ω·z)² = e^{|z|²} leaves ½(e^{|z|²} − 1)². With
/// e^{−|q|² − |k|²} = A² e^{−|z|²}: Var X = ½ A² e^{|z|²}(1 − e^{−|z|²})², and m/2 pairs are averaged.
/// Choromanski et al. 2021, "Rethinking attention with Performers", Lemma 2.
///
/// # Errors
/// m = 0 or odd, or norms and a product that no vectors have.
///
/// ```
/// use scatterbrain_theory::{Pair, variance_hyperbolic, variance_positive};
/// let pair = Pair::of(&[0.5, 0.0], &[0.5, 0.0])?;
/// assert!(variance_hyperbolic(pair, 16)? < 0.64 * variance_positive(pair, 16)?); // 1 − 1/e.
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn variance_hyperbolic(pair: Pair, n_features: usize) -> Result<f64> {
    let m = check_count("the variance of hyperbolic features", n_features)?;
    suppose("the variance of hyperbolic features", "an even number of features", n_features.is_multiple_of(2), m)?;
    pair.check("the variance of hyperbolic features")?;
    let z = pair.sum_square();
    Ok((2.0 * pair.dot + z).exp() * (-z).exp_m1().powi(2) / m)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{PAIRS, check_moments, dot, sum};

    #[test]
    fn agrees_with_simulation() {
        for (q, k) in PAIRS {
            let pair = Pair::of(&q, &k).unwrap();
            let half = 0.5 * (pair.query_square + pair.key_square);
            let z = sum(&q, &k, 1.0);
            let variance = variance_hyperbolic(pair, 2).unwrap();
            check_moments(pair.entry(), variance, |w| (-half).exp() * dot(w, &z).cosh());
        }
    }

    #[test]
    fn refuses_odd_counts() {
        let pair = Pair::of(&[1.0], &[1.0]).unwrap();
        assert!(variance_hyperbolic(pair, 3).is_err() && variance_hyperbolic(pair, 0).is_err());
    }
}
