//! What breaks where the features' directions are the hash's too.

use crate::error::Result;
use crate::owens_t::{NODES, owens_t};
use crate::pair::{Pair, check_count};
use crate::quadrature::Rule;
use std::f64::consts::PI;

/// The mean of the combined estimator, as a share of A, where the m directions ω_l of positive features are reused as the
/// m hyperplanes of one sign-random-projection code:
///
/// ```math
/// \frac{\mathbb E\, \hat A}{A} = 1 - p^{m - 1} (p_z - p), \qquad p = 1 - \frac{\theta}{\pi}
/// ```
///
/// p_z is the probability that ω·q and ω·k have one sign for ω ~ N(z, I), z = q + k.
///
/// It is what the independence in [`variance_combined`](crate::variance_combined) is needed for: with fresh
/// directions the mean is A. With these it is below A where q·k > 0 (then p_z > p).
///
/// Derivation: Â = A on the support, which has probability p^m, and Σ_l X_l/m off it, so
/// E Â = A p^m + E\[X_1; miss\] by symmetry. X_1/A = e^{ω_1·z − |z|²/2} is the density of N(z, I) to that of
/// N(0, I): under its weight ω_1 has mean z and the others are unchanged, so E\[X_1; miss\] = A (1 − p_z p^{m−1}).
/// p_z by Owen's T function: U = ω·q/|q| and V = ω·k/|k| are normal of means u = z·q/|q|, v = z·k/|k|, variance 1 and
/// correlation cos θ, for which Owen's formula gives
/// P\[U, V > 0\] + P\[U, V < 0\] = 1 − 2T(u, a) − 2T(v, b) − \[uv < 0\] (1956, "Tables for computing bivariate normal
/// probabilities"), a = (v/u − cos θ)/sin θ = |k| sin θ/u since v − u cos θ = |k| sin² θ, and likewise b = |q| sin θ/v.
///
/// Accuracy: the formula's is that of rounding, about 10⁻¹⁵. A [`Pair`] knows θ by its product and squares, rounded by a
/// few ε = 2⁻⁵², so that near 0 and π it and the share are off by some ε/sin θ, and by √ε = 1.5·10⁻⁸ at most.
///
/// # Errors
/// m = 0, norms and a product that no vectors have, or a q or k of length 0, which have no angle.
///
/// # Cost
/// Two integrals, 40 exponentials.
///
/// ```
/// use scatterbrain_theory::{Pair, mean_of_reused_directions};
/// let across = Pair::of(&[0.5, 0.0], &[0.0, 0.5])?;
/// let along = Pair::of(&[0.7, 0.7], &[1.0, 0.0])?;
/// assert!(mean_of_reused_directions(across, 1)? < 1.0);
/// assert!((mean_of_reused_directions(along, 1)? - 0.805).abs() < 1e-3);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn mean_of_reused_directions(pair: Pair, n_features: usize) -> Result<f64> {
    const FORMULA: &str = "the mean with reused directions";
    let m = check_count(FORMULA, n_features)?;
    pair.check(FORMULA)?;
    for square in [pair.query_square, pair.key_square] {
        crate::error::suppose(FORMULA, "a query and a key other than 0", square > 0.0, square)?;
    }
    let (query, key) = (pair.query_square.sqrt(), pair.key_square.sqrt());
    let cosine = (pair.dot / pair.norms()).clamp(-1.0, 1.0);
    let p = 1.0 - cosine.acos() / PI;
    Ok(1.0 - p.powf(m - 1.0) * (same_sign(query, key, cosine) - p))
}

/// p_z, of norms above 0.
fn same_sign(query: f64, key: f64, cosine: f64) -> f64 {
    // z in units of q and of k, along and across; the sine by factors, as 1 − cos² loses it near parallel vectors.
    let sine = ((1.0 - cosine) * (1.0 + cosine)).sqrt();
    let (u, v) = (query + key * cosine, key + query * cosine);
    let rule = Rule::new(NODES);
    // T is even in u and odd in the slope, and T(0, ∞) = ¼.
    let t = |along: f64, across: f64| {
        let h = along.abs();
        if h == 0.0 { 0.25 } else { owens_t(&rule, h, across / h).copysign(along) }
    };
    let apart = if u < 0.0 || v < 0.0 { 1.0 } else { 0.0 };
    1.0 - 2.0 * t(u, key * sine) - 2.0 * t(v, query * sine) - apart
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Check, Claim, Draws, Estimator, Verdict};

    const QUERY: [f64; 4] = [0.6, 0.2, 0.0, 0.1];
    const KEY: [f64; 4] = [0.5, -0.3, 0.2, 0.0];

    fn dot(a: &[f64; 4], b: &[f64; 4]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// Â with the code's hyperplanes, the same as the features' directions or fresh.
    fn estimate(draws: &mut Draws, m: usize, reused: bool) -> f64 {
        let half = 0.5 * (dot(&QUERY, &QUERY) + dot(&KEY, &KEY));
        let features: Vec<[f64; 4]> = (0..m).map(|_| draws.normals()).collect();
        let planes = if reused { features.clone() } else { (0..m).map(|_| draws.normals()).collect() };
        if planes.iter().all(|w| (dot(w, &QUERY) > 0.0) == (dot(w, &KEY) > 0.0)) {
            return dot(&QUERY, &KEY).exp();
        }
        features.iter().map(|w| (dot(w, &QUERY) + dot(w, &KEY) - half).exp()).sum::<f64>() / m as f64
    }

    /// 10⁻⁴ is the probability of a false verdict of each.
    fn verdict(claim: f64, m: usize, reused: bool) -> Verdict {
        let check = Check { relative_width: 0.01, tolerance: 0.01, ..Check::default() };
        check.run(Claim::Equals(claim), Estimator::Mean, |draws| estimate(draws, m, reused)).unwrap().verdict
    }

    #[test]
    fn independence_matters() {
        let pair = Pair::of(&QUERY, &KEY).unwrap();
        for (m, least) in [(1, 0.05), (2, 0.03)] {
            let share = mean_of_reused_directions(pair, m).unwrap();
            assert!(1.0 - share > least, "{m}: {share}");
            assert_eq!(verdict(share * pair.entry(), m, true), Verdict::Holds);
            // What the theorem says, without its hypothesis and with it.
            assert_eq!(verdict(pair.entry(), m, true), Verdict::Refuted);
            assert_eq!(verdict(pair.entry(), m, false), Verdict::Holds);
        }
    }

    /// Against p_z by its definition: an integral over the plane's angle α of ω around the origin,
    /// P[angle in dα] for N(z, I), at which U and V have one sign or not.
    fn by_angle(query: f64, key: f64, theta: f64) -> f64 {
        // q along the first axis, and the density of the angle of N(z, I₂), r integrated out.
        let z = [query + key * theta.cos(), key * theta.sin()];
        let square = 0.5 * (z[0] * z[0] + z[1] * z[1]);
        let density = |alpha: f64| {
            let along = z[0] * alpha.cos() + z[1] * alpha.sin();
            let far = along * crate::owens_t::normal_tail(-along) * (0.5 * along * along).exp() * (2.0 * PI).sqrt();
            (-square).exp() * (1.0 + far) / (2.0 * PI)
        };
        // U < 0 < V and V < 0 < U: two sectors of angle θ, where the signs differ.
        let rule = Rule::new(20);
        let sector = |from: f64| rule.integrate(from, from + theta, 40, density);
        1.0 - sector(0.5 * PI) - sector(-0.5 * PI)
    }

    #[test]
    fn agrees_with_the_density_of_the_angle() {
        for (query, key) in [(1.0, 1.0), (1.0, 0.5), (0.2, 3.0), (2.0, 2.0), (1e-3, 4.0)] {
            for theta in [1e-4f64, 1e-3, 0.1, 1.0, 0.5 * PI, 2.0, 3.0, PI - 1e-3, PI - 1e-4] {
                let (got, exact) = (same_sign(query, key, theta.cos()), by_angle(query, key, theta));
                // cos θ is rounded: θ is off by ε/sin θ, and p_z by less than that.
                let tolerance = 1e-14 + 4.0 * f64::EPSILON / theta.sin();
                assert!((got - exact).abs() < tolerance, "{query} {key} {theta}: {got} {exact}");
            }
        }
    }

    /// Near parallel and near opposite vectors, by mpmath's quadrature of the integral over U.
    #[test]
    fn near_the_ends() {
        for (key, exact) in [
            ([1.0, 0.1], 0.9725608533127),
            ([1.0, 1e-3], 0.999724768757),
            ([1.0, 1e-4], 0.9999724768673),
            ([-0.5, 0.1], 1.006388821068),
            ([-0.5, 1e-3], 1.000074803665),
            ([-0.5, 1e-4], 1.000007480478),
        ] {
            let share = mean_of_reused_directions(Pair::of(&[1.0, 0.0], &key).unwrap(), 1).unwrap();
            // ε/sin θ, with the last digit printed.
            let tolerance = 1e-12 + 4.0 * f64::EPSILON / key[1];
            assert!((share - exact).abs() < tolerance, "{key:?}: {share}");
        }
        // A direction and itself or its opposite: signs agree always, or never.
        for key in [2.0, 1.0, -0.5, -1.0, -2.0] {
            let pair = Pair::of(&[1.0, 0.0], &[key, 0.0]).unwrap();
            assert_eq!(mean_of_reused_directions(pair, 1).unwrap(), 1.0, "{key}");
        }
        // Of any length.
        for size in [1e-160, 1e-100, 1e100, 1e153] {
            let pair = Pair::of(&[size, 0.0], &[0.3 * size, 0.4 * size]).unwrap();
            let share = mean_of_reused_directions(pair, 1).unwrap();
            // z = 0 changes no mean; a long z makes the signs agree.
            let exact = if size < 1.0 { 1.0 } else { 1.0 - 0.6f64.acos() / PI };
            assert!((share - exact).abs() < 1e-7, "{size}: {share}");
        }
    }

    #[test]
    fn refuses() {
        let zero = Pair { query_square: 0.0, key_square: 1.0, dot: 0.0 };
        assert!(mean_of_reused_directions(zero, 1).is_err());
        assert!(mean_of_reused_directions(Pair { query_square: 1.0, ..zero }, 0).is_err());
    }
}
