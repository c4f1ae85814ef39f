//! How many positive features it takes to be better than none.
//!
//! The uniform row stands for every entry A = exp(q·k) by one constant; the best is E A, with the error Var A.
//! m positive features on independent directions have E(Â − A)² = (1/m)(E A² e^{|q + k|²} − E A²)
//! ([`crate::variance_positive()`], averaged). Both errors are equal at
//!
//! ```math
//! m = \frac{\mathbb E A^2 e^{|q + k|^2} - \mathbb E A^2}{\mathbb E A^2 - (\mathbb E A)^2}
//! ```
//!
//! This is the *mean* error of *unnormalised* entries, which rare large entries rule. The error of normalised rows, or
//! a median over rows, asks for fewer features where logits are large: say which measure is meant.

use crate::error::{Result, suppose};

/// m for q and k from N(0, tI) in d dimensions, t = σ/√d, so that logits have standard deviation σ:
///
/// ```math
/// m = \frac{\bigl((1 - 6t)(1 + 2t)\bigr)^{-d/2} - (1 - 4t^2)^{-d/2}}
/// {(1 - 4t^2)^{-d/2} - (1 - t^2)^{-d}}
/// ```
///
/// Infinite for σ ≥ √d/6, where features have no finite variance, and where it overflows.
///
/// Derivation: for x, y ~ N(0, t), E exp(axy + b(x² + y²)) = ((1 − 2bt)² − a²t²)^{−1/2}, finite where the form is
/// positive; a column each. A²e^{|q + k|²} has a = 4, b = 1: (1 − 2t)² − 16t² = (1 − 6t)(1 + 2t). A² has a = 2, A has
/// a = 1, b = 0.
///
/// # Errors
/// σ not finite or not above 0, or d = 0.
///
/// ```
/// use scatterbrain_theory::features_to_beat_uniform_gaussian;
/// assert_eq!(features_to_beat_uniform_gaussian(0.125, 64)?.round(), 480.0);
/// assert!(features_to_beat_uniform_gaussian(0.5, 64)? > 1e5);
/// assert_eq!(features_to_beat_uniform_gaussian(1.34, 64)?, f64::INFINITY);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn features_to_beat_uniform_gaussian(sigma: f64, head_dim: usize) -> Result<f64> {
    let d = check(sigma, head_dim)?;
    Ok(ratio(sigma, d, gaussian(sigma / d.sqrt(), d)))
}

/// m for q and k uniform on the sphere of squared norm σ√d in d dimensions, so that logits have standard deviation σ:
///
/// ```math
/// m = \frac{e^{2a} \Lambda(4a) - \Lambda(2a)}{\Lambda(2a) - \Lambda(a)^2}, \qquad a = \sigma \sqrt d, \qquad
/// \Lambda(s) = \sum_j \frac{(s^2/4)^j}{j!\, (d/2)_j}
/// ```
///
/// Infinite where it overflows.
///
/// Derivation: |q + k|² = 2a + 2q·k, and E e^{s q·k/a} = Λ(s), the mean of e^{s u_1} over the unit sphere: E u_1^{2j} =
/// (2j)!/(4^j j! (d/2)_j).
///
/// # Errors
/// σ not finite or not above 0, or d = 0.
///
/// ```
/// use scatterbrain_theory::{features_to_beat_uniform_normal_logits, features_to_beat_uniform_sphere};
/// let exact = features_to_beat_uniform_sphere(0.125, 64)?;
/// let limit = features_to_beat_uniform_normal_logits(0.125, 64)?;
/// assert!((exact / limit - 1.0).abs() < 0.01);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn features_to_beat_uniform_sphere(sigma: f64, head_dim: usize) -> Result<f64> {
    let d = check(sigma, head_dim)?;
    Ok(ratio(sigma, d, sphere(sigma * d.sqrt(), d)))
}

/// m for norms fixed at |q|² = |k|² = σ√d and logits taken for N(0, σ²):
///
/// ```math
/// m = \frac{e^{2 \sigma \sqrt d + 8 \sigma^2} - e^{2 \sigma^2}}{e^{2 \sigma^2} - e^{\sigma^2}}
/// ```
///
/// Infinite where it overflows.
///
/// An *approximation* of [`features_to_beat_uniform_sphere`] for σ ≪ √d: logits of vectors on spheres are bounded by
/// σ√d, and not normal.
///
/// Derivation: |q + k|² = 2σ√d + 2x, x = q·k, and E e^{sx} = e^{s²σ²/2} for s = 4, 2, 1.
///
/// # Errors
/// σ not finite or not above 0, or d = 0.
///
/// ```
/// use scatterbrain_theory::features_to_beat_uniform_normal_logits;
/// assert_eq!(features_to_beat_uniform_normal_logits(0.125, 64)?.round(), 459.0);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn features_to_beat_uniform_normal_logits(sigma: f64, head_dim: usize) -> Result<f64> {
    let d = check(sigma, head_dim)?;
    let square = sigma * sigma;
    // e^{2σ²} is left out above and below.
    Ok(ratio(sigma, d, ((2.0 * sigma * d.sqrt() + 6.0 * square).exp_m1(), -(-square).exp_m1())))
}

fn check(sigma: f64, head_dim: usize) -> Result<f64> {
    const FORMULA: &str = "the features to beat the uniform row";
    suppose(FORMULA, "a finite standard deviation above 0", sigma.is_finite() && sigma > 0.0, sigma)?;
    suppose(FORMULA, "a dimension of at least 1", head_dim >= 1, 0.0)?;
    Ok(head_dim as f64)
}

/// Logits so small that m is 2√d/σ in every digit: the errors are 2σ√d and σ² to first order, and σ² may underflow.
const SMALL: f64 = 1e-20;

/// The error of one feature over that of the uniform row.
fn ratio(sigma: f64, d: f64, (feature, uniform): (f64, f64)) -> f64 {
    if sigma < SMALL {
        return 2.0 * d.sqrt() / sigma;
    }
    if feature.is_finite() { feature / uniform } else { f64::INFINITY }
}

/// E A² e^{|q + k|²} − E A² and Var A for q, k ~ N(0, tI).
fn gaussian(t: f64, d: f64) -> (f64, f64) {
    if 6.0 * t >= 1.0 {
        return (f64::INFINITY, f64::INFINITY);
    }
    let feature = -0.5 * d * ((-6.0 * t).ln_1p() + (2.0 * t).ln_1p());
    let square = -0.5 * d * (-4.0 * t * t).ln_1p();
    let mean = -d * (-t * t).ln_1p();
    (square.exp() * (feature - square).exp_m1(), mean.exp() * (square - mean).exp_m1())
}

/// The same for q, k uniform on spheres of squared norm `a`.
fn sphere(a: f64, d: f64) -> (f64, f64) {
    // Past that e^{2a} overflows, and the series would be long.
    if 2.0 * a > 709.0 {
        return (f64::INFINITY, f64::INFINITY);
    }
    let [one, two, four] = [1.0, 2.0, 4.0].map(|s| sphere_mean_less_one(s * a, d));
    ((2.0 * a).exp_m1() + (2.0 * a).exp() * four - two, two - one * (2.0 + one))
}

/// Λ(s) − 1.
fn sphere_mean_less_one(s: f64, d: f64) -> f64 {
    let (mut term, mut total, mut j) = (1.0, 0.0, 0.0);
    loop {
        term *= 0.25 * s * s / ((j + 1.0) * (0.5 * d + j));
        total += term;
        j += 1.0;
        // From there on terms fall faster than by half.
        if term <= 1e-17 * total && j > s || total.is_infinite() {
            return total;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{check_value, dot};
    use crate::{Draws, Estimator};

    /// A and the error of one feature for a query and a key.
    fn entry_and_error(draws: &mut Draws, q: [f64; 4], k: [f64; 4]) -> (f64, f64) {
        let w = draws.normals::<4>();
        let a = dot(&q, &k).exp();
        (a, (dot(&w, &q) + dot(&w, &k) - 0.5 * (dot(&q, &q) + dot(&k, &k))).exp() - a)
    }

    #[test]
    fn gaussian_agrees_with_simulation() {
        let t = 0.03f64;
        let (feature, uniform) = gaussian(t, 4.0);
        let pair = |draws: &mut Draws| {
            let mut draw = || draws.normals::<4>().map(|x| x * t.sqrt());
            let (q, k) = (draw(), draw());
            entry_and_error(draws, q, k)
        };
        check_value(Estimator::SecondMoment, feature, |draws| pair(draws).1);
        check_value(Estimator::Variance, uniform, |draws| pair(draws).0);
        let found = features_to_beat_uniform_gaussian(t * 2.0, 4).unwrap();
        assert!((found / (feature / uniform) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn sphere_agrees_with_simulation() {
        let a = 0.2;
        let (feature, uniform) = sphere(a, 4.0);
        let pair = |draws: &mut Draws| {
            let mut draw = || {
                let x = draws.normals::<4>();
                x.map(|c| c * (a / dot(&x, &x)).sqrt())
            };
            let (q, k) = (draw(), draw());
            entry_and_error(draws, q, k)
        };
        check_value(Estimator::SecondMoment, feature, |draws| pair(draws).1);
        check_value(Estimator::Variance, uniform, |draws| pair(draws).0);
        assert_eq!(features_to_beat_uniform_sphere(a / 2.0, 4).unwrap(), feature / uniform);
    }

    /// On the sphere in one dimension q·k = ±a: Λ = cosh. In many dimensions logits become normal.
    #[test]
    fn ends_of_dimension() {
        for s in [1e-3, 1.0, 30.0, 300.0f64] {
            assert!((sphere_mean_less_one(s, 1.0) / (2.0 * (0.5 * s).sinh().powi(2)) - 1.0).abs() < 1e-12, "{s}");
        }
        let of = |d| {
            features_to_beat_uniform_sphere(0.5, d).unwrap() / features_to_beat_uniform_normal_logits(0.5, d).unwrap()
                - 1.0
        };
        assert!(of(64).abs() > 4.0 * of(1024).abs() && of(1024).abs() < 0.01, "{} {}", of(64), of(1024));
    }

    #[test]
    fn small_and_large() {
        for f in
            [features_to_beat_uniform_gaussian, features_to_beat_uniform_sphere, features_to_beat_uniform_normal_logits]
        {
            // 2σ√d/σ² to first order.
            assert!((f(1e-7, 64).unwrap() * 1e-7 / 16.0 - 1.0).abs() < 1e-5);
            for sigma in [1e-18, 1e-21, 1e-160, 1e-200, 1e-306] {
                assert!((f(sigma, 64).unwrap() * sigma / 16.0 - 1.0).abs() < 1e-14, "{sigma}");
            }
            assert_eq!(f(1e9, 64).unwrap(), f64::INFINITY);
            assert!(f(0.0, 64).is_err() && f(f64::NAN, 64).is_err() && f(1.0, 0).is_err());
        }
        assert!(features_to_beat_uniform_gaussian(1.333, 64).unwrap().is_finite());
        assert_eq!(features_to_beat_uniform_gaussian(8.0 / 6.0 + 1e-12, 64).unwrap(), f64::INFINITY);
    }
}
