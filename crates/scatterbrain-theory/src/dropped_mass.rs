//! What is lost where the keys off the support are left out.

use crate::error::{Result, suppose};

/// A bound on the error of attention to the support alone, Z_𝒮 and Z_R the sums of e^{q·k} on and off it, diam(V) the
/// largest distance of two visible values:
///
/// ```math
/// |o - o_{\mathcal S}| \le \tau \operatorname{diam}(V), \qquad
/// \tau = \frac{Z_R}{Z_{\mathcal S} + Z_R}
/// ```
///
/// Derivation: with means μ_𝒮 = o_𝒮 and μ_R of the values under the weights on and off the support,
/// o = (1 − τ) μ_𝒮 + τ μ_R, so o − o_𝒮 = τ (μ_R − μ_𝒮). Both means lie in the convex hull of the values, whose
/// diameter is theirs. Equality where one value is on the support and one off it.
///
/// # Errors
/// Logarithms of masses that are NaN or +∞, an empty support (ln Z_𝒮 = −∞), or a diameter that is negative or NaN.
///
/// ```
/// use scatterbrain_theory::error_of_dropped_mass;
/// assert_eq!(error_of_dropped_mass(0.0, 0.0, 3.0)?, 1.5);
/// assert_eq!(error_of_dropped_mass(0.0, f64::NEG_INFINITY, 3.0)?, 0.0);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn error_of_dropped_mass(log_support_mass: f64, log_dropped_mass: f64, diameter: f64) -> Result<f64> {
    const FORMULA: &str = "the error of dropped mass";
    suppose(FORMULA, "a support that is not empty", log_support_mass.is_finite(), log_support_mass)?;
    suppose(FORMULA, "a dropped mass below infinity", log_dropped_mass < f64::INFINITY, log_dropped_mass)?;
    suppose(FORMULA, "a diameter of at least 0", diameter >= 0.0, diameter)?;
    let share = 1.0 / (1.0 + (log_support_mass - log_dropped_mass).exp());
    Ok(if share == 0.0 { 0.0 } else { share * diameter })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draws;

    #[test]
    fn never_exceeded_and_attained() {
        let mut draws = Draws::new(2);
        for _ in 0..2000 {
            let n = 2 + (draws.uniform() * 6.0) as usize;
            let (logits, values) = (draws.normal_vec(n), draws.normal_vec(n));
            let kept = 1 + (draws.uniform() * (n - 1) as f64) as usize;
            let sums = |range: std::ops::Range<usize>| {
                let mass: f64 = logits[range.clone()].iter().map(|l| l.exp()).sum();
                (mass, range.map(|i| logits[i].exp() * values[i]).sum::<f64>())
            };
            let ((z, sum), (rest, dropped)) = (sums(0..kept), sums(kept..n));
            let error = ((sum + dropped) / (z + rest) - sum / z).abs();
            let diameter = values.iter().fold(f64::NEG_INFINITY, |m, v| m.max(*v))
                - values.iter().fold(f64::INFINITY, |m, v| m.min(*v));
            let bound = error_of_dropped_mass(z.ln(), rest.ln(), diameter).unwrap();
            assert!(error <= bound * (1.0 + 1e-12), "{error} {bound}");
            assert!(n > 2 || (error / bound - 1.0).abs() < 1e-9, "{error} {bound}");
        }
    }

    #[test]
    fn refuses() {
        assert!(error_of_dropped_mass(f64::NEG_INFINITY, 0.0, 1.0).is_err());
        assert!(error_of_dropped_mass(0.0, f64::NAN, 1.0).is_err() && error_of_dropped_mass(0.0, 0.0, -1.0).is_err());
    }
}
