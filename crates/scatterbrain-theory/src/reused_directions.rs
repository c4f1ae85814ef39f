//! What breaks where the features' directions are the hash's too.

use crate::error::Result;
use crate::owens_t::normal_tail;
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
/// p_z by one integral: with U = ω·q/|q| ~ N(z·q/|q|, 1), ω·k/|k| given U is normal with mean
/// z·k/|k| + ρ(U − z·q/|q|) and variance 1 − ρ², ρ = cos θ.
///
/// # Errors
/// m = 0, norms and a product that no vectors have, or a q or k of length 0, which have no angle.
///
/// # Cost
/// One integral, 640 values of the normal distribution.
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
    let rho = (pair.dot / query / key).clamp(-1.0, 1.0);
    let p = 1.0 - rho.acos() / PI;
    let (u, v) = ((pair.query_square + pair.dot) / query, (pair.key_square + pair.dot) / key);
    Ok(1.0 - p.powf(m - 1.0) * (same_sign(u, v, rho) - p))
}

/// P[UV > 0] for normal U, V of variance 1, means u, v and correlation ρ.
fn same_sign(u: f64, v: f64, rho: f64) -> f64 {
    let spread = (1.0 - rho * rho).sqrt();
    let rule = Rule::new(16);
    let side = |sign: f64| {
        let given = |t: f64| {
            let (mean, density) = (v + rho * (t - u), (-0.5 * (t - u).powi(2)).exp() / (2.0 * PI).sqrt());
            // Without a spread V is its mean; a tie has no mass.
            let agree = if spread > 0.0 { normal_tail(-sign * mean / spread) } else { f64::from(sign * mean > 0.0) };
            density * agree
        };
        // The half line of this sign, as far as U has mass.
        let (from, to) = if sign > 0.0 { (0f64.max(u - 10.0), u + 10.0) } else { (u - 10.0, 0f64.min(u + 10.0)) };
        if from < to { rule.integrate(from, to, 20, given) } else { 0.0 }
    };
    side(1.0) + side(-1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Check, Claim, Draws, Estimator, Verdict, collision_sign_random_projection};

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

    #[test]
    fn without_means_the_signs_agree_as_hashes_collide() {
        for rho in [-1.0f64, -0.7, 0.0, 0.4, 0.999, 1.0] {
            let p = collision_sign_random_projection(rho.acos()).unwrap();
            assert!((same_sign(0.0, 0.0, rho) - p).abs() < 1e-10, "{rho}");
        }
        // Independent: both positive, or both negative.
        let (a, b) = (normal_tail(-0.3), normal_tail(1.1));
        assert!((same_sign(0.3, -1.1, 0.0) - a * b - (1.0 - a) * (1.0 - b)).abs() < 1e-12);
    }

    #[test]
    fn refuses() {
        let zero = Pair { query_square: 0.0, key_square: 1.0, dot: 0.0 };
        assert!(mean_of_reused_directions(zero, 1).is_err());
        assert!(mean_of_reused_directions(Pair { query_square: 1.0, ..zero }, 0).is_err());
    }
}
