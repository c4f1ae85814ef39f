//! How the cross-polytope's collision probability grows, to leading order.

use crate::collision_sign_random_projection::check_angle;
use crate::error::{Result, suppose};

/// The *leading asymptotic term* of ln p as D → ∞, for a Gaussian cross-polytope of D directions, τ = 2 sin(θ/2) the
/// distance of unit vectors:
///
/// ```math
/// -\tan^2(\theta/2) \ln D = -\frac{\tau^2}{4 - \tau^2} \ln D
/// ```
///
/// **Not a probability and not a bound**: the error is O(ln ln D) at fixed θ, a factor of about 2.5 in p at
/// D = 64, τ = 1. It serves to compare growth; [`collision_cross_polytope`](crate::collision_cross_polytope) is exact.
///
/// Derivation: the largest of D absolute normals is near t = √(2 ln D). So p is near D times the probability that
/// one pair of correlation ρ = cos θ exceeds t in both coordinates, whose exponent is the squared distance of the
/// corner (t, t), −t²/(1 + ρ): p = D · D^{−2/(1 + ρ)} = D^{−(1 − ρ)/(1 + ρ)}, and (1 − ρ)/(1 + ρ) = tan²(θ/2).
/// With the error term: Andoni et al. 2015, "Practical and optimal LSH for angular distance".
///
/// # Errors
/// No directions, or an angle outside [0, π): at π the term is −∞.
///
/// ```
/// use scatterbrain_theory::leading_term_cross_polytope;
/// let log = leading_term_cross_polytope(64, std::f64::consts::FRAC_PI_3)?;
/// assert!((log.exp() - 0.25).abs() < 1e-12); // The probability is 0.098.
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn leading_term_cross_polytope(n_directions: usize, angle: f64) -> Result<f64> {
    const FORMULA: &str = "the leading term of the cross-polytope";
    suppose(FORMULA, "at least one direction", n_directions >= 1, 0.0)?;
    check_angle(FORMULA, angle)?;
    suppose(FORMULA, "an angle below pi", angle < std::f64::consts::PI, angle)?;
    Ok(-(0.5 * angle).tan().powi(2) * (n_directions as f64).ln())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collision_cross_polytope;

    /// The slope of ln p in ln D tends to that of the leading term; the factors of ln D make that slow.
    #[test]
    fn slope_of_the_exact_probability() {
        for angle in [0.5, 1.0, 1.4] {
            let log = |d| collision_cross_polytope(d, angle).unwrap().ln();
            let slope = |d: usize| (log(64 * d) - log(d)) / 64f64.ln();
            let limit = leading_term_cross_polytope(64, angle).unwrap() / 64f64.ln();
            let (near, far) = ((slope(64) - limit).abs(), (slope(1 << 24) - limit).abs());
            assert!(far < 0.5 * near && far < 0.4 * limit.abs(), "{angle}: {limit} {near} {far}");
        }
    }

    #[test]
    fn refuses() {
        assert!(leading_term_cross_polytope(0, 1.0).is_err());
        assert!(leading_term_cross_polytope(4, std::f64::consts::PI).is_err());
        assert_eq!(leading_term_cross_polytope(4, 0.0).unwrap(), 0.0);
    }
}
