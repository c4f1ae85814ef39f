//! The second moment of optimal positive random features.

use crate::error::{Result, suppose};
use crate::pair::Pair;

/// The second moment of one OPRF feature X = D² exp(2A|ω|² + B ω·z − (|q|² + |k|²)/2), B = √(1 − 4A),
/// D = (1 − 4A)^{d/4}, ω ~ N(0, I_d), z = q + k:
///
/// ```math
/// \frac{\mathbb E X^2}{A_{ij}^2} = (1 - 4A)^d (1 - 8A)^{-d/2} e^{|z|^2/(1 - 8A)}
/// ```
///
/// m independent ones have variance A_ij² (E X²/A_ij² − 1)/m. Infinite where it overflows.
///
/// Derivation: E exp(s|ω|² + b·ω) = (1 − 2s)^{−d/2} e^{|b|²/(2(1 − 2s))} for s < ½. With s = 4A, b = 2Bz:
/// E X² = (1 − 4A)^d (1 − 8A)^{−d/2} exp(2(1 − 4A)|z|²/(1 − 8A) − |q|² − |k|²), and
/// 2(1 − 4A)/(1 − 8A) = 1 + 1/(1 − 8A), e^{|z|² − |q|² − |k|²} = A_ij².
/// The map: Likhosherstov et al. 2022, "Chefs' random tables".
///
/// # Errors
/// 8A not finite, A not below 1/8 (the moment is infinite), d = 0, or norms and a product that no vectors have.
///
/// ```
/// use scatterbrain_theory::{Pair, second_moment_oprf};
/// let pair = Pair::of(&[0.5, 0.0], &[0.5, 0.0])?;
/// assert_eq!(second_moment_oprf(pair, 0.0, 2)?, 1.0f64.exp()); // Plain positive features.
/// assert!(second_moment_oprf(pair, -0.1, 2)? < 1.0f64.exp());
/// assert!(second_moment_oprf(pair, 0.125, 2).is_err());
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn second_moment_oprf(pair: Pair, a: f64, head_dim: usize) -> Result<f64> {
    Ok(log_ratio("the second moment of OPRF", pair, a, head_dim)?.exp())
}

/// ln(E X²/A_ij²).
pub(crate) fn log_ratio(formula: &'static str, pair: Pair, a: f64, head_dim: usize) -> Result<f64> {
    suppose(formula, "A below 1/8 and 8A finite", (8.0 * a).is_finite() && a < 0.125, a)?;
    suppose(formula, "a dimension of at least 1", head_dim >= 1, 0.0)?;
    pair.check(formula)?;
    let d = head_dim as f64;
    Ok(d * (-4.0 * a).ln_1p() - 0.5 * d * (-8.0 * a).ln_1p() + pair.sum_square() / (1.0 - 8.0 * a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{PAIRS, check_moments, dot, sum};

    #[test]
    fn agrees_with_simulation() {
        for (q, k) in PAIRS {
            // The interval needs a fourth moment: A < 1/16.
            for a in [-0.2, -0.05, 0.01] {
                let pair = Pair::of(&q, &k).unwrap();
                let half = 0.5 * (pair.query_square + pair.key_square);
                let z = sum(&q, &k, 1.0);
                let d = z.len() as f64;
                let entry = pair.entry();
                let variance = (second_moment_oprf(pair, a, z.len()).unwrap() - 1.0) * entry * entry;
                check_moments(entry, variance, |w| {
                    let log = 2.0 * a * dot(w, w) + (1.0 - 4.0 * a).sqrt() * dot(w, &z) - half;
                    (1.0 - 4.0 * a).powf(0.5 * d) * log.exp()
                });
            }
        }
    }
}
