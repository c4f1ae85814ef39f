//! How often signs of random projections agree.

use crate::error::{Result, suppose};
use std::f64::consts::PI;

/// The exact probability that two vectors at angle θ lie on the same side of a random hyperplane, that is
/// sign(a·x) = sign(a·y) for a ~ N(0, I). Their lengths do not matter.
///
/// ```math
/// p = 1 - \frac{\theta}{\pi}
/// ```
///
/// Derivation: only the projection of a on the plane of x and y enters; its direction is uniform on the circle,
/// and the signs differ where it falls in one of two arcs of width θ: 2θ/2π.
/// K bits and L tables: [`amplification`](crate::amplification()).
/// Charikar 2002, "Similarity estimation techniques from rounding algorithms".
///
/// # Errors
/// An angle outside [0, π].
///
/// ```
/// use scatterbrain_theory::collision_sign_random_projection;
/// assert_eq!(collision_sign_random_projection(std::f64::consts::FRAC_PI_2)?, 0.5);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn collision_sign_random_projection(angle: f64) -> Result<f64> {
    check_angle("the collision probability of sign random projection", angle)?;
    Ok(1.0 - angle / PI)
}

/// An angle between two vectors.
pub(crate) fn check_angle(formula: &'static str, angle: f64) -> Result<()> {
    suppose(formula, "an angle in [0, pi]", (0.0..=PI).contains(&angle), angle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::check_moments;

    #[test]
    fn agrees_with_simulation() {
        for angle in [0.1f64, 1.0, 2.5] {
            let p = collision_sign_random_projection(angle).unwrap();
            check_moments(p, p * (1.0 - p), |w| {
                let other = angle.cos() * w[0] + angle.sin() * w[1];
                f64::from(u8::from((w[0] > 0.0) == (other > 0.0)))
            });
        }
    }

    #[test]
    fn ends() {
        assert_eq!(collision_sign_random_projection(0.0).unwrap(), 1.0);
        assert_eq!(collision_sign_random_projection(PI).unwrap(), 0.0);
        assert!(collision_sign_random_projection(-0.1).is_err() && collision_sign_random_projection(3.2).is_err());
        assert!(collision_sign_random_projection(f64::NAN).is_err());
    }
}
