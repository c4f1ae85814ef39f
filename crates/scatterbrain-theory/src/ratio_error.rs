//! The error of a normalised row, which is a ratio of two estimates.
//!
//! o = N/Z is one column of the output, or one normalised entry: N = Σ_j A_j v_j, Z = Σ_j A_j. The estimate N̂/Ẑ is
//! biased even where N̂ and Ẑ are not. All below rests on D = N̂ − o Ẑ, of mean 0, as N̂/Ẑ − o = D/Ẑ.

use crate::error::{Result, finite, suppose};
use crate::pair::cauchy_schwarz;
use serde::{Deserialize, Serialize};

/// Means, variances and covariance of the *unbiased* estimates N̂ and Ẑ of a numerator and a denominator.
///
/// ```
/// use scatterbrain_theory::RatioMoments;
/// // Two keys, entries 1 and 3, independent estimates of variances 0.01 and 0.02, values 0 and 1.
/// let moments = RatioMoments::of_row(&[1.0, 3.0], &[0.01, 0.0, 0.0, 0.02], &[0.0, 1.0])?;
/// assert_eq!((moments.numerator, moments.denominator, moments.ratio()), (3.0, 4.0, 0.75));
/// assert_eq!((moments.variance_numerator, moments.variance_denominator, moments.covariance), (0.02, 0.03, 0.02));
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RatioMoments {
    /// N.
    pub numerator: f64,
    /// Z, above 0.
    pub denominator: f64,
    /// Var N̂.
    pub variance_numerator: f64,
    /// Var Ẑ.
    pub variance_denominator: f64,
    /// Cov(N̂, Ẑ).
    pub covariance: f64,
}

/// Bias and variance of a ratio to first order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DeltaMethod {
    /// E N̂/Ẑ − N/Z, up to terms of higher order.
    pub bias: f64,
    /// Var N̂/Ẑ, up to terms of higher order.
    pub variance: f64,
}

impl RatioMoments {
    /// The moments of N̂ = Σ_j Â_j v_j and Ẑ = Σ_j Â_j from `entries` A_j, the `covariance` of their unbiased estimates,
    /// row-major `[n, n]`, and `values` v_j. With v = 1 at one key and 0 elsewhere, the normalised entry.
    ///
    /// Equal keys and values that sum to 0 have Var N̂ = 0, of which rounding leaves either sign. So what is within the
    /// rounding of the n² terms (and of 4096 units in the last place of each) of moments that variables have is moved
    /// there.
    ///
    /// # Errors
    /// Lengths that do not fit, and moments that no variables have.
    pub fn of_row(entries: &[f64], covariance: &[f64], values: &[f64]) -> Result<Self> {
        const ROW: &str = "the moments of a row";
        let n = entries.len();
        suppose(ROW, "as many values as entries", values.len() == n, values.len() as f64)?;
        let is_square = n.checked_mul(n) == Some(covariance.len());
        suppose(ROW, "a covariance of each two entries", is_square, covariance.len() as f64)?;
        let [mut numerator, mut denominator, mut both] = [Sum::default(); 3];
        for i in 0..n {
            for j in 0..n {
                let c = covariance[i * n + j];
                numerator.add(values[i] * values[j] * c);
                denominator.add(c);
                both.add(0.5 * values[i] * c);
                both.add(0.5 * values[j] * c);
            }
        }
        for sum in [numerator, denominator, both] {
            finite(ROW, "finite covariances", sum.magnitude)?;
        }
        // What the variances may be at most, and at least.
        let most = |sum: Sum| sum.value + sum.slack(n);
        for sum in [numerator, denominator] {
            suppose(ROW, "variances of at least 0", most(sum) >= 0.0, sum.value)?;
        }
        let least = (both.value.abs() - both.slack(n)).max(0.0);
        let holds = cauchy_schwarz(least, most(numerator), most(denominator));
        suppose(ROW, "a covariance within Cauchy–Schwarz", holds, both.value)?;
        let [variance_numerator, variance_denominator] = [numerator, denominator].map(|sum| sum.value.max(0.0));
        let bound = variance_numerator.sqrt() * variance_denominator.sqrt();
        let moments = Self {
            numerator: entries.iter().zip(values).map(|(a, v)| a * v).sum(),
            denominator: entries.iter().sum(),
            variance_numerator,
            variance_denominator,
            covariance: both.value.clamp(-bound, bound),
        };
        moments.check(ROW)?;
        Ok(moments)
    }

    /// o = N/Z.
    pub fn ratio(&self) -> f64 {
        self.numerator / self.denominator
    }

    /// Var D/Z², Cov(D, Ẑ)/Z² and Var Ẑ/Z², D = N̂ − oẐ. Divided twice, as Z² may overflow or vanish.
    fn difference(&self, formula: &'static str) -> Result<[f64; 3]> {
        let over = |moment: f64| moment / self.denominator / self.denominator;
        let (o, own) = (self.ratio(), over(self.variance_denominator));
        let covariance = over(self.covariance);
        let variance = over(self.variance_numerator) - 2.0 * o * covariance + o * o * own;
        finite(formula, "a finite variance of Ẑ/Z", own)?;
        finite(formula, "a finite variance of (N̂ − oẐ)/Z", variance)?;
        let covariance = finite(formula, "a finite covariance of (N̂ − oẐ)/Z and Ẑ/Z", covariance - o * own)?;
        Ok([variance.max(0.0), covariance, own])
    }

    /// Finite moments, Z > 0, variances of at least 0, and Cauchy–Schwarz up to rounding.
    fn check(&self, formula: &'static str) -> Result<()> {
        suppose(formula, "a finite numerator", self.numerator.is_finite(), self.numerator)?;
        let z = self.denominator;
        suppose(formula, "a finite denominator above 0", z.is_finite() && z > 0.0, z)?;
        for variance in [self.variance_numerator, self.variance_denominator] {
            suppose(formula, "finite variances, at least 0", variance.is_finite() && variance >= 0.0, variance)?;
        }
        let holds = cauchy_schwarz(self.covariance, self.variance_numerator, self.variance_denominator);
        suppose(formula, "a covariance within Cauchy–Schwarz", holds, self.covariance)
    }
}

/// A sum, and that of its terms' magnitudes, which its rounding is a share of.
#[derive(Clone, Copy, Default)]
struct Sum {
    value: f64,
    magnitude: f64,
}

impl Sum {
    fn add(&mut self, term: f64) {
        self.value += term;
        self.magnitude += term.abs();
    }

    /// How far the value may be off: each of 2n² additions rounds by ε/2 of the magnitude at most, and each term was off
    /// by 4096 ε when it came. The last is for terms that underflow.
    fn slack(&self, n: usize) -> f64 {
        ((n as f64).powi(2) + 4096.0) * f64::EPSILON * self.magnitude + f64::MIN_POSITIVE
    }
}

/// The delta method, D = N̂ − oẐ:
///
/// ```math
/// \begin{aligned}
/// \text{bias} &\approx -\frac{\operatorname{Cov}(D, \hat Z)}{Z^2}
/// = \frac{o \operatorname{Var} \hat Z - \operatorname{Cov}(\hat N, \hat Z)}{Z^2} \\
/// \text{variance} &\approx \frac{\operatorname{Var} D}{Z^2}
/// = \frac{\operatorname{Var} \hat N - 2 o \operatorname{Cov}(\hat N, \hat Z) + o^2 \operatorname{Var} \hat Z}{Z^2}
/// \end{aligned}
/// ```
///
/// An *approximation*: with moments of m averaged features the terms shown are of order 1/m, what is left out of order
/// 1/m² (given moments of Ẑ to fourth order and of 1/Ẑ). For heavy tails m has to be large before that shows.
///
/// Derivation: N̂/Ẑ − o = D/Ẑ = (D/Z)(1 − (Ẑ − Z)/Z + …), E D = 0.
///
/// # Errors
/// Z not above 0, moments that no variables have, and those whose quotients by Z² or o² are not finite.
///
/// ```
/// use scatterbrain_theory::{RatioMoments, ratio_delta_method};
/// let moments = RatioMoments::of_row(&[1.0, 3.0], &[0.01, 0.0, 0.0, 0.02], &[0.0, 1.0])?;
/// let delta = ratio_delta_method(moments)?;
/// assert!((delta.bias - (0.75 * 0.03 - 0.02) / 16.0).abs() < 1e-15);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn ratio_delta_method(moments: RatioMoments) -> Result<DeltaMethod> {
    const FORMULA: &str = "the delta method";
    moments.check(FORMULA)?;
    let [variance, covariance, _] = moments.difference(FORMULA)?;
    Ok(DeltaMethod { bias: -covariance, variance })
}

/// A *bound* from second moments alone, for any unbiased N̂ and Ẑ, however distributed and of whatever sign, D = N̂ − oẐ.
/// At most 1.
///
/// ```math
/// P\Bigl[\Bigl|\frac{\hat N}{\hat Z} - o\Bigr| > t \text{ or } \hat Z = 0\Bigr]
/// \le \sum_\pm \frac{V_\pm}{V_\pm + t^2 Z^2}, \qquad V_\pm = \operatorname{Var}(\pm D - t \hat Z)
/// ```
///
/// Derivation: |D/Ẑ| > t means |D| > t|Ẑ| ≥ tẐ, so D − tẐ ≥ 0 or −D − tẐ ≥ 0; Ẑ = 0 implies one of them. Each has
/// mean −tZ < 0 and variance V_± = Var D ∓ 2t Cov(D, Ẑ) + t² Var Ẑ: Cantelli's inequality.
///
/// # Errors
/// t not finite or not above 0, and moments that [`ratio_delta_method`] refuses.
///
/// ```
/// use scatterbrain_theory::{RatioMoments, ratio_error_cantelli};
/// let moments = RatioMoments::of_row(&[1.0, 3.0], &[0.01, 0.0, 0.0, 0.02], &[0.0, 1.0])?;
/// assert!(ratio_error_cantelli(moments, 0.1)? < 0.12);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn ratio_error_cantelli(moments: RatioMoments, t: f64) -> Result<f64> {
    let sides = sides("Cantelli's bound of a ratio", moments, t)?;
    // V/(V + t²Z²), with 1 for what t is nothing beside.
    Ok(sides.map(|v| (1.0 + v.recip()).recip()).iter().sum::<f64>().min(1.0))
}

/// A *bound* for averages N̂, Ẑ of m independent, identically distributed, bounded terms:
///
/// ```math
/// P\Bigl[\Bigl|\frac{\hat N}{\hat Z} - o\Bigr| > t \text{ or } \hat Z = 0\Bigr]
/// \le \sum_\pm \exp\Bigl(-\frac{m t^2 Z^2}{2 (V_\pm + R t Z/3)}\Bigr)
/// ```
///
/// `one` are the moments of one term, V_± = Var(±D − tẐ) those of its
/// D − tẐ, and R = `range` a number that ±D − tẐ of one term never exceed their mean −tZ by. At most 1.
///
/// Trigonometric features are so bounded; positive ones are not, and have [`ratio_error_cantelli`].
///
/// Derivation: as there, with Bernstein's inequality for the two averages.
///
/// # Errors
/// m = 0, t or R not finite or not above 0, and moments that [`ratio_delta_method`] refuses.
///
/// ```
/// use scatterbrain_theory::{RatioMoments, ratio_error_bernstein};
/// let one = RatioMoments::of_row(&[1.0, 3.0], &[0.1, 0.0, 0.0, 0.2], &[0.0, 1.0])?;
/// assert!(ratio_error_bernstein(one, 3.0, 1000, 0.1)? < 1e-9);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn ratio_error_bernstein(one: RatioMoments, range: f64, n_terms: usize, t: f64) -> Result<f64> {
    const FORMULA: &str = "Bernstein's bound of a ratio";
    let sides = sides(FORMULA, one, t)?;
    let m = crate::pair::check_count(FORMULA, n_terms)?;
    suppose(FORMULA, "a finite range above 0", range.is_finite() && range > 0.0, range)?;
    // Numerator and denominator over t²Z².
    let side = |v: f64| (-m / (2.0 * (v + range / t / one.denominator / 3.0))).exp();
    Ok(sides.map(side).iter().sum::<f64>().min(1.0))
}

/// V_+ and V_−, over t²Z²; infinite for a t that is nothing beside them.
fn sides(formula: &'static str, moments: RatioMoments, t: f64) -> Result<[f64; 2]> {
    suppose(formula, "a finite t above 0", t.is_finite() && t > 0.0, t)?;
    moments.check(formula)?;
    let [variance, covariance, own] = moments.difference(formula)?;
    Ok([-1.0, 1.0].map(|s| ((variance / t + 2.0 * s * covariance) / t + own).max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::dot;
    use crate::{Check, Claim, Draws, Estimator, Pair, Verdict, covariance_positive, variance_trigonometric};

    const QUERY: [f64; 2] = [0.5, 0.2];
    const KEYS: [[f64; 2]; 3] = [[0.4, 0.0], [-0.3, 0.5], [0.1, -0.6]];
    const VALUES: [f64; 3] = [1.0, -0.5, 2.0];

    /// Moments of m positive features.
    fn positive(m: usize) -> RatioMoments {
        let entries = KEYS.map(|k| dot(&QUERY, &k).exp());
        let covariance: Vec<f64> =
            (0..9).map(|e| covariance_positive(&QUERY, &KEYS[e / 3], &KEYS[e % 3], m).unwrap()).collect();
        RatioMoments::of_row(&entries, &covariance, &VALUES).unwrap()
    }

    /// N̂/Ẑ by m features.
    fn ratio(draws: &mut Draws, m: usize) -> f64 {
        let (mut numerator, mut denominator) = (0.0, 0.0);
        for _ in 0..m {
            let w = draws.normals::<2>();
            for (k, v) in KEYS.iter().zip(VALUES) {
                let weight = (dot(&w, &QUERY) + dot(&w, k) - 0.5 * dot(k, k)).exp();
                numerator += weight * v;
                denominator += weight;
            }
        }
        numerator / denominator
    }

    /// The delta method errs by order 1/m of what it gives: within 5 % at m = 100.
    #[test]
    fn delta_method_agrees() {
        let m = 100;
        let moments = positive(m);
        let delta = ratio_delta_method(moments).unwrap();
        let check = Check { tolerance: 0.1, relative_width: 0.1, max_trials: 300_000, ..Check::default() };
        for (factor, verdict) in [(1.0, Verdict::Holds), (1.3, Verdict::Refuted)] {
            let claim = Claim::Equals(factor * delta.variance);
            let report = check.run(claim, Estimator::Variance, |draws| ratio(draws, m)).unwrap();
            assert_eq!(report.verdict, verdict, "{report:?}");
        }
        // The bias is far below the standard deviation: at m = 8, within 20 %, its sign beyond doubt.
        let delta = ratio_delta_method(positive(8)).unwrap();
        let check = Check { tolerance: 0.2, relative_width: 0.3, ..check };
        let bias = |draws: &mut Draws| ratio(draws, 8) - moments.ratio();
        let report = Check { max_trials: 8_000_000, ..check }.run(Claim::Equals(delta.bias), Estimator::Mean, bias);
        let report = report.unwrap();
        assert_ne!(report.verdict, Verdict::Refuted, "{report:?}");
        assert!(report.z_score.is_some() && report.interval.low * report.interval.high > 0.0, "{report:?}");
    }

    #[test]
    fn cantelli_bounds() {
        for m in [1, 4, 32] {
            let moments = positive(m);
            let o = moments.ratio();
            for t in [0.05, 0.2, 0.5, 1.0] {
                let bound = ratio_error_cantelli(moments, t).unwrap();
                let check = Check { max_trials: 200_000, ..Check::default() };
                let miss = |draws: &mut Draws| (ratio(draws, m) - o).abs() > t;
                let report = check.run(Claim::AtMost(bound), Estimator::Probability, miss).unwrap();
                assert_eq!(report.verdict, Verdict::Holds, "m = {m}, t = {t}: {report:?}");
            }
        }
    }

    /// Two values that attain Cantelli's inequality attain this bound: N̂ = 0 never errs on one side.
    #[test]
    fn cantelli_is_attained() {
        // Ẑ = 1, N̂ = −1/4 or 1 with probabilities 4/5 and 1/5: o = 0, and |N̂| > t for t just below 1 has 1/5.
        let one = RatioMoments {
            numerator: 0.0,
            denominator: 1.0,
            variance_numerator: 0.25,
            variance_denominator: 0.0,
            covariance: 0.0,
        };
        // Each side of the bound is V/(V + t²) = 1/5.
        assert!((ratio_error_cantelli(one, 1.0).unwrap() - 0.4).abs() < 1e-15);
        assert_eq!(ratio_error_cantelli(RatioMoments { variance_numerator: 0.0, ..one }, 1.0).unwrap(), 0.0);
    }

    /// One projection of trigonometric features, a row of one key against a known background of 1: N̂ = X, Ẑ = X + 1.
    #[test]
    fn bernstein_bounds() {
        let pair = Pair::of(&[0.5, 0.2], &[-0.4, 0.3]).unwrap();
        let u = [0.9f64, -0.1];
        let factor = (0.5 * (pair.query_square + pair.key_square)).exp();
        let variance = variance_trigonometric(pair, 1).unwrap();
        let a = pair.entry();
        let one = RatioMoments {
            numerator: a,
            denominator: a + 1.0,
            variance_numerator: variance,
            variance_denominator: variance,
            covariance: variance,
        };
        let o = one.ratio();
        let mut least = 1.0f64;
        for (m, t) in [(4, 0.1), (16, 0.1), (64, 0.05), (64, 0.1)] {
            // ±D − tẐ = ((±(1 − o) − t)(X − A)) less its mean, and |X − A| ≤ factor + A.
            let range = (1.0 - o + t) * (factor + a);
            let bound = ratio_error_bernstein(one, range, m, t).unwrap();
            least = least.min(bound);
            let miss = |draws: &mut Draws| {
                let x = (0..m).map(|_| factor * dot(&draws.normals::<2>(), &u).cos()).sum::<f64>() / m as f64;
                (x / (x + 1.0) - o).abs() > t
            };
            let check = Check { max_trials: 100_000, tolerance: 0.0, ..Check::default() };
            let report = check.run(Claim::AtMost(bound), Estimator::Probability, miss).unwrap();
            assert_ne!(report.verdict, Verdict::Refuted, "m = {m}, t = {t}: {report:?}");
        }
        assert!(least < 0.01, "the bound says something: {least}");
    }

    /// Keys that are equal, and values of which some sum to 0: rows that exist, at the end of Cauchy–Schwarz.
    #[test]
    fn rows_of_equal_keys() {
        let values: [[f64; 3]; 4] = [[1.0, 2.0, -3.0], [1.0, -1.0, 0.0], [0.1, 0.2, -0.3], [0.3; 3]];
        let mut draws = Draws::new(5);
        for _ in 0..500 {
            let (q, k) = (draws.normals::<4>(), draws.normals::<4>());
            let (a, c) = (dot(&q, &k).exp(), covariance_positive(&q, &k, &k, 8).unwrap());
            for v in values {
                let moments = RatioMoments::of_row(&[a; 3], &[c; 9], &v).unwrap();
                // By hand: N̂ = Â Σv and Ẑ = 3Â, so that the ratio never errs.
                let sum = v.iter().sum::<f64>();
                let error = (moments.variance_numerator - sum * sum * c).abs();
                assert!(error <= 1e-13 * c, "{v:?}: {moments:?}");
                let delta = ratio_delta_method(moments).unwrap();
                let relative = c / (a * a);
                assert!(delta.variance <= 1e-12 * relative && delta.bias.abs() <= 1e-12 * relative, "{v:?}: {delta:?}");
            }
        }
        // The slack is rounding's alone.
        let row = |c: f64, v: [f64; 2]| RatioMoments::of_row(&[1.0; 2], &[1.0, c, c, 1.0], &v);
        assert!(row(1.0 + 1e-6, [1.0, -1.0]).is_err() && row(1.0, [1.0, -1.0]).is_ok());
    }

    /// A factor on all entries changes no ratio: neither where squares vanish nor where products of variances do.
    #[test]
    fn scale_is_nothing() {
        let covariance = [1.0, 0.5, 0.5, 1.0];
        for logit in [-300.0f64, -190.0, -100.0, 0.0, 100.0, 300.0] {
            let factor = logit.exp();
            let scaled = covariance.map(|c| c * factor * factor);
            let moments = RatioMoments::of_row(&[factor, 2.0 * factor], &scaled, &[1.0, 0.0]).unwrap();
            // By hand: o = 1/3, Var Ẑ = 3, Cov = 3/2, Var N̂ = 1, all over 9.
            let delta = ratio_delta_method(moments).unwrap();
            assert!((delta.bias + 1.0 / 18.0).abs() < 1e-14, "{logit}: {delta:?}");
            assert!((delta.variance - 1.0 / 27.0).abs() < 1e-14, "{logit}: {delta:?}");
            // V_± at t = 1: (1/3 ± 1/2·2 + 3)/9 = 13/27 and 7/27.
            let bound = ratio_error_cantelli(moments, 1.0).unwrap();
            assert!((bound - 13.0 / 40.0 - 7.0 / 34.0).abs() < 1e-14, "{logit}: {bound}");
            let bound = ratio_error_bernstein(moments, factor, 100, 1.0).unwrap();
            let exact = [13.0f64, 7.0].map(|v| (-50.0 / (v / 27.0 + 1.0 / 9.0)).exp()).iter().sum::<f64>();
            assert!((bound / exact - 1.0).abs() < 1e-11, "{logit}: {bound}");
        }
    }

    /// Numbers or errors, for all finite moments; bounds within [0, 1].
    #[test]
    fn never_nan() {
        let sizes = [0.0f64, 1e-320, 1e-170, 1e-9, 1.0, 1e9, 1e155, 1e200, 1e300];
        let mut answers = 0;
        for at in 0..sizes.len().pow(4) {
            let pick = |place: u32| sizes[at / sizes.len().pow(place) % sizes.len()];
            let (variance_numerator, variance_denominator) = (pick(2), pick(3));
            let covariance = variance_numerator.sqrt() * variance_denominator.sqrt();
            let moments = RatioMoments {
                numerator: pick(0),
                denominator: pick(1),
                variance_numerator,
                variance_denominator,
                covariance,
            };
            if let Ok(delta) = ratio_delta_method(moments) {
                assert!(delta.bias.is_finite() && delta.variance >= 0.0, "{moments:?}: {delta:?}");
            }
            for t in [1e-320, 1e-170, 1.0, 1e155, 1e300] {
                let bounds = [ratio_error_cantelli(moments, t), ratio_error_bernstein(moments, t, 10, t)];
                for bound in bounds.into_iter().flatten() {
                    assert!((0.0..=1.0).contains(&bound), "{moments:?}, {t}: {bound}");
                    answers += 1;
                }
            }
        }
        assert!(answers > 1000, "{answers}");
        let far = RatioMoments {
            numerator: 1e200,
            denominator: 1.0,
            variance_numerator: 1e300,
            variance_denominator: 1.0,
            covariance: 1e150,
        };
        assert!(ratio_delta_method(far).is_err());
    }

    #[test]
    fn refuses() {
        let good = positive(4);
        assert!(ratio_delta_method(RatioMoments { denominator: 0.0, ..good }).is_err());
        assert!(ratio_delta_method(RatioMoments { variance_numerator: -1.0, ..good }).is_err());
        assert!(ratio_delta_method(RatioMoments { covariance: 1e3, ..good }).is_err());
        for t in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(ratio_error_cantelli(good, t).is_err() && ratio_error_bernstein(good, 1.0, 4, t).is_err());
        }
        assert!(ratio_error_bernstein(good, 0.0, 4, 0.1).is_err() && ratio_error_bernstein(good, 1.0, 0, 0.1).is_err());
        assert!(RatioMoments::of_row(&[1.0], &[1.0], &[1.0, 2.0]).is_err());
        assert!(RatioMoments::of_row(&[1.0, 2.0], &[1.0], &[1.0, 2.0]).is_err());
        assert!(RatioMoments::of_row(&[], &[], &[]).is_err());
    }
}
