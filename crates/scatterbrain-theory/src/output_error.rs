//! From the errors of entries to the error of a normalised row and of its output.

use crate::error::{Result, suppose};

/// A bound on the total variation between the rows p = A/ΣA and p̂ = Â/ΣÂ where l A_j ≤ Â_j ≤ h A_j for every key j,
/// 0 < l ≤ h:
///
/// ```math
/// \tfrac12 \sum_j |\hat p_j - p_j| \le \tanh\bigl(\tfrac14 \ln(h/l)\bigr)
/// ```
///
/// Attained by some A. A common factor of all entries costs nothing.
///
/// With relative errors of at most ε, l = 1 − ε and h = 1 + ε, it is (1 − √(1 − ε²))/ε, about ε/2, and below
/// ε/(2(1 − ε)).
///
/// Derivation: the total variation is the largest p̂(S) − p(S). For a set S of mass P = p(S) it is most with Â = hA on
/// S and lA off it: f(P) = hP/(hP + l(1 − P)) − P. f′ = 0 at hP + l(1 − P) = √(hl), P = √l/(√l + √h), where
/// f = (√h − √l)/(√h + √l).
///
/// # Errors
/// l not above 0, h below l, or either not finite.
///
/// ```
/// use scatterbrain_theory::total_variation_from_factors;
/// assert!((total_variation_from_factors(0.25, 1.0)? - 1.0 / 3.0).abs() < 1e-15);
/// assert_eq!(total_variation_from_factors(2.0, 2.0)?, 0.0);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn total_variation_from_factors(lowest: f64, highest: f64) -> Result<f64> {
    const FORMULA: &str = "the total variation of a row";
    suppose(FORMULA, "a lowest factor above 0", lowest.is_finite() && lowest > 0.0, lowest)?;
    suppose(FORMULA, "a highest factor of at least the lowest", highest.is_finite() && highest >= lowest, highest)?;
    Ok((0.25 * (highest.ln() - lowest.ln())).tanh())
}

/// A bound on the error of an output row o = Σ_j p_j v_j where every entry has a relative error |Â_j − A_j|/A_j of at most
/// ε < 1, and diam(V) = max |v_i − v_j|. Attained.
///
/// ```math
/// |o - \hat o| \le \frac{1 - \sqrt{1 - \varepsilon^2}}{\varepsilon} \operatorname{diam}(V)
/// ```
///
/// Derivation: p̂ − p = τ(P⁺ − P⁻) with τ the total variation and P⁺, P⁻ probability vectors, and
/// |Σ_j P⁺_j v_j − Σ_j P⁻_j v_j| ≤ diam(V); τ by [`total_variation_from_factors`].
///
/// # Errors
/// ε outside [0, 1), or a diameter that is negative or not finite.
///
/// ```
/// use scatterbrain_theory::output_error_from_relative;
/// assert!((output_error_from_relative(0.6, 3.0)? - 1.0).abs() < 1e-15);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn output_error_from_relative(relative_error: f64, diameter: f64) -> Result<f64> {
    const FORMULA: &str = "the output error from relative errors";
    suppose(FORMULA, "a relative error in [0, 1)", (0.0..1.0).contains(&relative_error), relative_error)?;
    check_diameter(FORMULA, diameter)?;
    let square = relative_error * relative_error;
    // ε/(1 + √(1 − ε²)), which keeps its digits for small ε.
    Ok(relative_error / (1.0 + (1.0 - square).sqrt()) * diameter)
}

/// A bound on the error of an output row from the absolute errors of its entries, for estimates Â_j ≥ 0 that are not
/// all 0:
///
/// ```math
/// |o - \hat o| \le \operatorname{diam}(V) \frac{\sum_j |\hat A_j - A_j|}{Z}, \qquad Z = \sum_j A_j
/// ```
///
/// At most diam(V), the distance of any two averages.
///
/// Derivation: Z(o − ô) = Σ_j A_j (v_j − ô) = Σ_j (A_j − Â_j)(v_j − ô), as Σ_j Â_j (v_j − ô) = 0, and ô, an average of
/// values, is no further than diam(V) from any of them.
///
/// # Errors
/// A sum of errors that is negative or not finite, Z not finite or not above 0, or a diameter that is negative or not
/// finite.
///
/// ```
/// use scatterbrain_theory::output_error_from_absolute;
/// assert_eq!(output_error_from_absolute(1.0, 4.0, 2.0)?, 0.5);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn output_error_from_absolute(sum_of_errors: f64, denominator: f64, diameter: f64) -> Result<f64> {
    const FORMULA: &str = "the output error from absolute errors";
    suppose(
        FORMULA,
        "a finite sum of errors, at least 0",
        sum_of_errors.is_finite() && sum_of_errors >= 0.0,
        sum_of_errors,
    )?;
    suppose(FORMULA, "a finite denominator above 0", denominator.is_finite() && denominator > 0.0, denominator)?;
    check_diameter(FORMULA, diameter)?;
    Ok((sum_of_errors / denominator).min(1.0) * diameter)
}

fn check_diameter(formula: &'static str, diameter: f64) -> Result<()> {
    suppose(formula, "a finite diameter of at least 0", diameter.is_finite() && diameter >= 0.0, diameter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draws;

    /// Output of one column.
    fn output(entries: &[f64], values: &[f64]) -> f64 {
        entries.iter().zip(values).map(|(a, v)| a * v).sum::<f64>() / entries.iter().sum::<f64>()
    }

    /// 20 000 rows of three keys with errors in all directions: no bound is exceeded.
    #[test]
    fn bounds_hold() {
        let mut draws = Draws::new(1);
        let (mut relative_share, mut absolute_share) = (0.0f64, 0.0f64);
        for _ in 0..20_000 {
            let epsilon = draws.uniform();
            let entries: [f64; 3] = std::array::from_fn(|_| draws.standard_normal().exp());
            let values: [f64; 3] = std::array::from_fn(|_| draws.standard_normal());
            // Mostly at the ends, where the bound is attained.
            let estimates = entries.map(|a| {
                let error = draws.standard_normal().signum() * draws.uniform().sqrt().sqrt();
                a * (1.0 + epsilon * error)
            });
            let diameter =
                values.iter().copied().fold(f64::MIN, f64::max) - values.iter().copied().fold(f64::MAX, f64::min);
            let found = (output(&entries, &values) - output(&estimates, &values)).abs();
            let bound = output_error_from_relative(epsilon, diameter).unwrap();
            relative_share = relative_share.max(found / bound);
            let errors = entries.iter().zip(&estimates).map(|(a, b)| (a - b).abs()).sum();
            let bound = output_error_from_absolute(errors, entries.iter().sum(), diameter).unwrap();
            absolute_share = absolute_share.max(found / bound);
        }
        assert!(relative_share <= 1.0 && relative_share > 0.9, "{relative_share}");
        assert!(absolute_share <= 1.0, "{absolute_share}");
    }

    /// Two keys of masses √l/(√l + √h) and the rest, with errors of both signs.
    #[test]
    fn attained() {
        for epsilon in [1e-6, 0.1, 0.5, 0.99f64] {
            let (low, high) = ((1.0 - epsilon).sqrt(), (1.0 + epsilon).sqrt());
            let entries = [low, high];
            let estimates = [low * (1.0 + epsilon), high * (1.0 - epsilon)];
            let found = output(&estimates, &[1.0, 0.0]) - output(&entries, &[1.0, 0.0]);
            let bound = output_error_from_relative(epsilon, 1.0).unwrap();
            assert!((found - bound).abs() < 1e-15, "{epsilon}: {found} {bound}");
            let factors = total_variation_from_factors(1.0 - epsilon, 1.0 + epsilon).unwrap();
            assert!((factors - bound).abs() < 1e-15);
            assert!(bound <= epsilon / (2.0 * (1.0 - epsilon)));
        }
        let found = output(&[1.0, 3.0], &[1.0, 0.0]) - output(&[0.0, 3.0], &[1.0, 0.0]);
        assert_eq!(found, output_error_from_absolute(1.0, 4.0, 1.0).unwrap());
    }

    #[test]
    fn refuses() {
        for bad in [-0.1, 1.0, f64::NAN] {
            assert!(output_error_from_relative(bad, 1.0).is_err());
        }
        for bad in [-0.1, f64::INFINITY, f64::NAN] {
            assert!(
                output_error_from_relative(0.5, bad).is_err() && output_error_from_absolute(bad, 1.0, 1.0).is_err()
            );
            assert!(
                output_error_from_absolute(1.0, bad, 1.0).is_err()
                    && output_error_from_absolute(1.0, 1.0, bad).is_err()
            );
        }
        assert!(total_variation_from_factors(0.0, 1.0).is_err() && total_variation_from_factors(2.0, 1.0).is_err());
        assert!(total_variation_from_factors(1.0, f64::NAN).is_err());
        assert_eq!(output_error_from_relative(0.0, 2.0).unwrap(), 0.0);
        assert_eq!(output_error_from_absolute(5.0, 1.0, 2.0).unwrap(), 2.0);
    }
}
