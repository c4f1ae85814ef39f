//! Owen's T function, from which probabilities of sectors and parallelograms under a normal law are made.

use crate::quadrature::Rule;
use libm::erfc;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Nodes of the rule that [`owens_t`] wants: more of them change it by rounding only.
pub(crate) const NODES: usize = 20;

/// P[N(0, 1) > x].
pub(crate) fn normal_tail(x: f64) -> f64 {
    0.5 * erfc(x * FRAC_1_SQRT_2)
}

/// T(h, a) = (1/2π) ∫₀^{arctan a} exp(−h²/(2 cos² α)) dα, h > 0: the standard normal mass of the points beyond
/// the line g₁ = h in the sector 0 < g₂ < a·g₁.
///
/// Slopes beyond 1, where the integrand gets an essential singularity, are reflected:
/// T(h, a) = ½Q(h) + ½Q(ah) − Q(h)Q(ah) − T(ah, 1/a), Q = P[N > ·]. Derivation: {g₁ > h or g₂ > ah in the
/// first quadrant} has mass ½Q(h) + ½Q(ah) − Q(h)Q(ah), and the diagonal cuts it in these two.
/// Owen 1956, "Tables for computing bivariate normal probabilities".
pub(crate) fn owens_t(rule: &Rule, h: f64, slope: f64) -> f64 {
    if slope < 0.0 {
        return -owens_t(rule, h, -slope);
    }
    if slope > 1.0 {
        let (q, r) = (normal_tail(h), normal_tail(slope * h));
        return 0.5 * q + 0.5 * r - q * r - owens_t(rule, slope * h, slope.recip());
    }
    let square = -0.5 * h * h;
    rule.integrate(0.0, slope.atan(), 1, |alpha| (square / alpha.cos().powi(2)).exp()) / (2.0 * PI)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let rule = Rule::new(NODES);
        // T(h, 1) = ½Φ(h)(1 − Φ(h)), T(h, ∞) = ½(1 − Φ(h)), T(0⁺, a) = arctan(a)/2π.
        for h in [1e-9, 0.1, 0.7, 2.0, 5.0, 9.0] {
            let q = normal_tail(h);
            let near =
                |got: f64, exact: f64| assert!((got - exact).abs() < 1e-16 + 1e-13 * exact.abs(), "{h}: {got} {exact}");
            near(owens_t(&rule, h, 1.0), 0.5 * q * (1.0 - q));
            near(owens_t(&rule, h, f64::INFINITY), 0.5 * q);
            near(owens_t(&rule, h, -0.3), -owens_t(&Rule::new(60), h, 0.3));
        }
        assert!((owens_t(&rule, 1e-12, 3.0) - 3f64.atan() / (2.0 * PI)).abs() < 1e-12);
    }
}
