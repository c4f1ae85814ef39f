//! The variance of trigonometric features.

use crate::error::Result;
use crate::pair::{Pair, check_count};

/// The variance of the estimate of A = exp(q·k) by r *independent* projections ω ~ N(0, I), each giving a cosine and a
/// sine feature (m = 2r features). Infinite where it overflows.
///
/// ```math
/// \operatorname{Var} \hat A = \frac{1}{r} e^{|q|^2 + |k|^2} \tfrac12 \bigl(1 - e^{-|q - k|^2}\bigr)^2
/// ```
///
/// Derivation: a projection gives X = e^{(|q|² + |k|²)/2} cos ω·u, u = q − k. E cos tω·u = e^{−t²|u|²/2}, so
/// E cos² ω·u = ½(1 + E cos 2ω·u) = ½(1 + e^{−2|u|²}); minus (E cos ω·u)² = e^{−|u|²} leaves
/// ½(1 − e^{−|u|²})².
/// Choromanski et al. 2021, "Rethinking attention with Performers", Lemma 2.
///
/// # Errors
/// r = 0, or norms and a product that no vectors have.
///
/// ```
/// use scatterbrain_theory::{Pair, variance_trigonometric};
/// let equal = Pair::of(&[1.0, 2.0], &[1.0, 2.0])?;
/// assert_eq!(variance_trigonometric(equal, 8)?, 0.0);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn variance_trigonometric(pair: Pair, n_projections: usize) -> Result<f64> {
    let r = check_count("the variance of trigonometric features", n_projections)?;
    pair.check("the variance of trigonometric features")?;
    let shrink = (-pair.difference_square()).exp_m1().powi(2);
    if shrink == 0.0 {
        return Ok(0.0);
    }
    Ok((pair.query_square + pair.key_square).exp() * 0.5 * shrink / r)
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
            let u = sum(&q, &k, -1.0);
            let variance = variance_trigonometric(pair, 1).unwrap();
            check_moments(pair.entry(), variance, |w| half.exp() * dot(w, &u).cos());
            assert_eq!(variance_trigonometric(pair, 8).unwrap(), variance / 8.0);
        }
    }
}
