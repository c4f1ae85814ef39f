//! The variance of positive features.

use crate::error::Result;
use crate::pair::{Pair, check_count};

/// The variance of the estimate of A = exp(q·k) by m positive features on *independent* ω_l ~ N(0, I), z = q + k.
/// Infinite where it overflows.
///
/// ```math
/// \operatorname{Var} \hat A = \frac{1}{m} e^{|z|^2} A^2 \bigl(1 - e^{-|z|^2}\bigr)
/// ```
///
/// Derivation: X = exp(ω·z − (|q|² + |k|²)/2) and E e^{tω·z} = e^{t²|z|²/2}, so E X² = e^{2|z|² − |q|² − |k|²} =
/// A² e^{|z|²}, by |z|² = |q|² + |k|² + 2q·k; minus (E X)² = A².
/// Choromanski et al. 2021, "Rethinking attention with Performers", Lemma 2.
///
/// # Errors
/// m = 0, or norms and a product that no vectors have.
///
/// ```
/// use scatterbrain_theory::{Pair, variance_positive};
/// let opposite = Pair::of(&[1.0, 0.0], &[-1.0, 0.0])?;
/// assert_eq!(variance_positive(opposite, 16)?, 0.0); // z = 0: every feature gives A.
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn variance_positive(pair: Pair, n_features: usize) -> Result<f64> {
    let m = check_count("the variance of positive features", n_features)?;
    pair.check("the variance of positive features")?;
    let z = pair.sum_square();
    // A² e^{|z|²} as one exponential, since a factor alone may overflow.
    Ok((2.0 * pair.dot + z).exp() * -(-z).exp_m1() / m)
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
            let variance = variance_positive(pair, 1).unwrap();
            check_moments(pair.entry(), variance, |w| (dot(w, &z) - half).exp());
            assert_eq!(variance_positive(pair, 8).unwrap(), variance / 8.0);
        }
    }
}
