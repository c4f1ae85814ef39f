//! How often projections fall in one interval.

use crate::error::{Result, suppose};
use libm::erf;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Widths, in distances, below which a series is used.
const SMALL: f64 = 1e-3;

/// The exact probability that ⌊(a·x + b)/w⌋ is the same for two points at Euclidean distance τ, a ~ N(0, I) and
/// b uniform on [0, w), F the normal distribution function:
///
/// ```math
/// p = 1 - 2 F(-w/\tau) - \frac{2 \tau}{\sqrt{2 \pi}\, w} \bigl(1 - e^{-w^2/(2 \tau^2)}\bigr)
/// ```
///
/// Derivation: a·x − a·y ~ N(0, τ²). At a difference of size t the uniform offset puts no boundary between the two
/// with probability 1 − t/w, or 0 where t > w. So p = ∫₀^w (2/τ) f(t/τ) (1 − t/w) dt, f the normal density.
/// The first term is P[|N| < w/τ] = 1 − 2F(−w/τ); with u = t/τ the second is
/// (2τ/w) ∫₀^{w/τ} u f(u) du = (2τ/w) (1 − e^{−w²/(2τ²)})/√(2π).
/// K projections and L tables: [`amplification`](crate::amplification()).
/// Datar et al. 2004, "Locality-sensitive hashing scheme based on p-stable distributions".
///
/// # Errors
/// A width that is not positive and finite, or a distance that is negative or NaN.
///
/// ```
/// use scatterbrain_theory::collision_e2lsh;
/// assert_eq!((collision_e2lsh(1.0, 0.0)?, collision_e2lsh(1.0, f64::INFINITY)?), (1.0, 0.0));
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn collision_e2lsh(width: f64, distance: f64) -> Result<f64> {
    const FORMULA: &str = "the collision probability of E2LSH";
    suppose(FORMULA, "a positive finite width", width.is_finite() && width > 0.0, width)?;
    suppose(FORMULA, "a distance of at least 0", distance >= 0.0, distance)?;
    // A distance of −0 is 0.
    let ratio = (width / distance).abs();
    if ratio == 0.0 {
        return Ok(0.0);
    }
    // Where r² may vanish beside 1, the integral of the density's series: the next term is below 10⁻²⁰ of the sum.
    if ratio < SMALL {
        let square = ratio * ratio;
        return Ok(ratio / (2.0 * PI).sqrt() * (1.0 - square / 12.0 + square * square / 120.0));
    }
    // 1 − 2F(−r) = erf(r/√2).
    let near = erf(ratio * FRAC_1_SQRT_2);
    let cut = (2.0 / PI).sqrt() / ratio * -(-0.5 * ratio * ratio).exp_m1();
    Ok((near - cut).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::check_moments;

    #[test]
    fn agrees_with_simulation() {
        let width = 1.3;
        for distance in [0.2, 1.0, 4.0] {
            let p = collision_e2lsh(width, distance).unwrap();
            check_moments(p, p * (1.0 - p), |w| {
                // Two points of the line; (w₁, w₂) has a uniform angle, which makes the offset.
                let offset = (w[1].atan2(w[2]) / (2.0 * PI) + 0.5) * width;
                let cell = |x: f64| ((x * w[0] + offset) / width).floor();
                f64::from(u8::from(cell(0.4) == cell(0.4 + distance)))
            });
        }
    }

    #[test]
    fn small_widths_keep_digits() {
        // p = r/√(2π) (1 − r²/12 + …), r = w/τ.
        let r = 1e-5;
        let p = collision_e2lsh(r, 1.0).unwrap();
        assert!((p / (r / (2.0 * PI).sqrt()) - 1.0).abs() < 1e-9, "{p}");
    }

    /// By mpmath's quadrature of the integral, on both sides of where the series begins and far from it.
    #[test]
    fn of_any_ratio() {
        for (width, distance, exact) in [
            (1e-170, 1.0, 3.98942280401447e-171),
            (1e-3, 1.0, 0.000398942247156246),
            (0.9e-3, 1.0, 0.000359048028125548),
            (1e-6, 3.0, 1.3298076013381e-7),
            (0.1, 1.0, 0.0398610160656397),
        ] {
            let p = collision_e2lsh(width, distance).unwrap();
            assert!((p / exact - 1.0).abs() < 1e-12, "{width} {distance}: {p} {exact}");
        }
        // p depends on the ratio alone, here one that is below the normal numbers.
        let p = collision_e2lsh(1e-320, 1e-9).unwrap();
        assert!((p / 1e-311 * (2.0 * PI).sqrt() - 1.0).abs() < 1e-3, "{p}");
        assert_eq!(collision_e2lsh(1e300, 1e-300).unwrap(), 1.0);
        assert_eq!(collision_e2lsh(1.0, -0.0).unwrap(), 1.0);
    }

    #[test]
    fn refuses() {
        assert!(collision_e2lsh(0.0, 1.0).is_err() && collision_e2lsh(f64::INFINITY, 1.0).is_err());
        assert!(collision_e2lsh(1.0, -1.0).is_err() && collision_e2lsh(1.0, f64::NAN).is_err());
    }
}
