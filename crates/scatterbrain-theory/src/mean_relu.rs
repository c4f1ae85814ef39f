//! What ReLU features estimate, and how well.

use crate::error::Result;
use crate::pair::{Pair, check_count};
use std::f64::consts::TAU;

/// What features max(ω·x, 0) estimate without bias, on any directions that are each N(0, I), θ the angle between q and k:
///
/// ```math
/// \mathbb E\, \varphi(q) \cdot \varphi(k) = \frac{|q| |k|}{2 \pi} J_1(\theta), \qquad
/// J_1 = \sin \theta + (\pi - \theta) \cos \theta
/// ```
///
/// Computed by δ = π − θ, as J_1 = sin δ − δ cos δ, by its series where that cancels, so that it is never below 0.
/// A [`Pair`] knows δ by its product and squares, rounded by a few ε = 2⁻⁵²: near π the relative error of δ is some ε/δ²,
/// that of J_1, which is δ³/3, three times it, and below δ of √ε = 1.5·10⁻⁸ no digit is left.
///
/// It is no softmax kernel: the bias
/// against A = exp(q·k) is this less A, whatever the number of features.
///
/// Derivation: in the plane of q and k, in polar coordinates, with n = 1 (and n = 2 for [`variance_relu`]),
/// E max(ω·q, 0)^n max(ω·k, 0)^n = |q|^n |k|^n/(2π) ∫ r^{2n+1} e^{−r²/2} dr ∫ cos^n φ cos^n(φ − θ) dφ over φ from
/// θ − π/2 to π/2. The integrals are 2 and ½((π − θ) cos θ + sin θ) for n = 1.
/// The kernel: Cho and Saul 2009, "Kernel methods for deep learning".
///
/// # Errors
/// Norms and a product that no vectors have.
///
/// ```
/// use scatterbrain_theory::{Pair, mean_relu};
/// assert_eq!(mean_relu(Pair::of(&[2.0, 0.0], &[2.0, 0.0])?)?, 2.0); // ½|q|².
/// assert_eq!(mean_relu(Pair::of(&[1.0, 0.0], &[-1.0, 0.0])?)?, 0.0);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn mean_relu(pair: Pair) -> Result<f64> {
    pair.check("the mean of ReLU features")?;
    Ok(pair.norms() * (angular_moments(pair)[0] / TAU))
}

/// The variance of φ(q)·φ(k) by m ReLU features on *independent* ω_l ~ N(0, I), with [`mean_relu`] for the mean:
///
/// ```math
/// \operatorname{Var} = \frac{1}{m} \Bigl(\frac{|q|^2 |k|^2}{2 \pi} J_2(\theta) - \text{mean}^2\Bigr), \qquad
/// J_2 = 3 \sin \theta \cos \theta + (\pi - \theta) (1 + 2 \cos^2 \theta)
/// ```
///
/// Computed by δ as the mean, J_2 = δ(2 + cos 2δ) − (3/2) sin 2δ, which is (4/15)δ⁵ near π, with the same accuracy of δ.
/// Never below 0; infinite where it overflows.
///
/// Derivation: as for [`mean_relu`], n = 2: the integrals are 8 and ¼((π − θ)(cos² θ + ½) + (3/2) sin θ cos θ).
///
/// # Errors
/// m = 0, or norms and a product that no vectors have.
///
/// ```
/// use scatterbrain_theory::{Pair, variance_relu};
/// assert_eq!(variance_relu(Pair::of(&[1.0, 0.0], &[1.0, 0.0])?, 5)?, 0.25); // (3/2 − 1/4)/5.
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn variance_relu(pair: Pair, n_features: usize) -> Result<f64> {
    let m = check_count("the variance of ReLU features", n_features)?;
    pair.check("the variance of ReLU features")?;
    let [mean, second] = angular_moments(pair).map(|moment| moment / TAU);
    Ok(pair.norms() * (pair.norms() * (second - mean * mean)) / m)
}

/// A *bound* on the variance of φ(q)·φ(k) by m ReLU features on directions that are coupled in any way within blocks of d
/// and independent between them, m_b the size of block b, Var X = [`variance_relu`] at m = 1:
///
/// ```math
/// \operatorname{Var} \le \operatorname{Var} X \cdot \frac{1}{m^2} \sum_b m_b^2
/// ```
///
/// For orthogonal and simplex directions, of which no exact formula is given here, it is wide: for m ≤ d it says no more
/// than that averaging does not hurt.
///
/// Derivation: the variance of a sum of m_b variables of one variance is at most m_b² times it (Cauchy–Schwarz), and
/// sums of different blocks are independent.
///
/// # Errors
/// m = 0, d = 0, or norms and a product that no vectors have.
///
/// ```
/// use scatterbrain_theory::{Pair, variance_relu, variance_relu_at_most};
/// let pair = Pair::of(&[1.0, 0.0], &[0.5, 0.5])?;
/// // Ten features in blocks of two.
/// assert!((variance_relu_at_most(pair, 2, 10)? / variance_relu(pair, 10)? - 2.0).abs() < 1e-12);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn variance_relu_at_most(pair: Pair, head_dim: usize, n_features: usize) -> Result<f64> {
    const FORMULA: &str = "the bound of coupled ReLU features";
    let (m, d) = (check_count(FORMULA, n_features)?, check_count(FORMULA, head_dim)?);
    let rest = (n_features % head_dim) as f64;
    let squares = (m - rest) * d + rest * rest;
    Ok(variance_relu(pair, 1)? * squares / (m * m))
}

/// J_1 and J_2; of a vector that is 0, those of a right angle.
fn angular_moments(pair: Pair) -> [f64; 2] {
    let norms = pair.norms();
    let cosine = if norms > 0.0 { (pair.dot / norms).clamp(-1.0, 1.0) } else { 0.0 };
    // Of unit vectors |u + v|² = 2(1 + cos θ) and |u − v|² = 2(1 − cos θ).
    let delta = 2.0 * (1.0 + cosine).sqrt().atan2((1.0 - cosine).sqrt());
    if delta < 1.0 {
        return series(delta);
    }
    let (sine, cosine) = delta.sin_cos();
    [sine - delta * cosine, delta * (2.0 + (2.0 * delta).cos()) - 1.5 * (2.0 * delta).sin()]
}

/// J_1 = δ³/3 − δ⁵/30 + δ⁷/840 − …, −2j of each term s_j = (−1)^j δ^{2j+1}/(2j+1)! of the sine's series, and
/// J_2 = (4/15)δ⁵ − (16/315)δ⁷ + …, 4^j (2j − 2) of each, δ below 1.
fn series(delta: f64) -> [f64; 2] {
    let (mut first, mut second) = (0.0, 0.0);
    let (mut term, mut power) = (delta, 1.0);
    // The term of j = 14 of the second is below 10⁻²⁰ of the sum.
    for j in 1..15 {
        let twice = f64::from(2 * j);
        term *= -delta * delta / (twice * (twice + 1.0));
        power *= 4.0;
        first -= twice * term;
        second += power * (twice - 2.0) * term;
    }
    [first, second]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{PAIRS, block, check_moments, dot, orthogonal, simplex};
    use crate::{Check, Claim, Draws, Estimator, Verdict};

    #[test]
    fn agrees_with_simulation() {
        for (q, k) in PAIRS {
            let pair = Pair::of(&q, &k).unwrap();
            let feature = |w: &[f64; 4]| dot(w, &q).max(0.0) * dot(w, &k).max(0.0);
            check_moments(mean_relu(pair).unwrap(), variance_relu(pair, 1).unwrap(), feature);
        }
    }

    /// Coupled directions keep the bound; one direction for all of a block attains it.
    #[test]
    fn the_bound_of_coupled_directions() {
        type Block = fn(&mut Draws) -> [[f64; 4]; 4];
        let one: Block = |draws| [draws.normals(); 4];
        let coupled: [Block; 3] = [one, |draws| block(draws, orthogonal), |draws| block(draws, simplex)];
        for (q, k) in PAIRS {
            let bound = variance_relu_at_most(Pair::of(&q, &k).unwrap(), 4, 6).unwrap();
            for (at, draw) in coupled.into_iter().enumerate() {
                let six = |draws: &mut Draws| {
                    let (first, second) = (draw(draws), draw(draws));
                    let feature = |w: &[f64; 4]| dot(w, &q).max(0.0) * dot(w, &k).max(0.0);
                    first.iter().chain(&second[..2]).map(feature).sum::<f64>() / 6.0
                };
                let run = |claim| Check::default().run(claim, Estimator::Variance, six).unwrap().verdict;
                assert_eq!(run(Claim::AtMost(bound)), Verdict::Holds);
                assert_eq!(run(Claim::Equals(bound)), if at == 0 { Verdict::Holds } else { Verdict::Refuted });
            }
        }
    }

    /// Near opposite vectors, q = (1, 0) and k = (−1, y): by mpmath's quadrature of the integrals over φ.
    #[test]
    fn near_opposite_vectors() {
        for (y, mean, variance) in [
            (1.0, 0.0341549430918953, 0.0213686105867034),
            (0.5, 0.00578566272073103, 0.00105749015099301),
            (1e-1, 5.27355939127488e-5, 4.18024371656059e-7),
            (1e-2, 5.30484648257831e-8, 4.24095392374909e-12),
            (1e-3, 5.30516158663326e-11, 4.24384673056503e-17),
            (1e-4, 5.30516473789886e-14, 4.24410363463271e-22),
        ] {
            let pair = Pair::of(&[1.0, 0.0], &[-1.0, y]).unwrap();
            // δ is off by ε/δ² of itself, and the powers are δ³ and δ⁵.
            let tolerance = 1e-14 + 20.0 * f64::EPSILON / (y * y);
            let (got, got_variance) = (mean_relu(pair).unwrap(), variance_relu(pair, 1).unwrap());
            assert!((got / mean - 1.0).abs() < tolerance, "{y}: {got} {mean}");
            assert!((got_variance / variance - 1.0).abs() < tolerance, "{y}: {got_variance} {variance}");
        }
        // The series and the closed form meet.
        let closed = |x: f64| [x.sin() - x * x.cos(), x * (2.0 + (2.0 * x).cos()) - 1.5 * (2.0 * x).sin()];
        for (a, b) in series(0.999).into_iter().zip(closed(0.999)) {
            assert!((a / b - 1.0).abs() < 1e-14, "{a} {b}");
        }
        // Closer than a pair knows, nothing is below 0, and no mean without a variance.
        for y in [1e-6, 1e-7, 1e-8, 1e-9, 1e-300] {
            let pair = Pair::of(&[0.3, 0.7], &[-0.3 + y, -0.7]).unwrap();
            let (mean, variance) = (mean_relu(pair).unwrap(), variance_relu(pair, 1).unwrap());
            assert!(mean >= 0.0 && variance >= mean * mean, "{y}: {mean} {variance}");
        }
    }

    /// φ(q)·φ(k) is homogeneous of degree 1 in either, wherever the result is a number.
    #[test]
    fn homogeneous() {
        let of = |size: f64| Pair::of(&[size, 0.0], &[0.3 / size, 0.4 / size]).unwrap();
        let one = (mean_relu(of(1.0)).unwrap(), variance_relu(of(1.0), 1).unwrap());
        for size in [1e-150, 1e-80, 1e80, 1e150] {
            let got = (mean_relu(of(size)).unwrap(), variance_relu(of(size), 1).unwrap());
            assert!((got.0 / one.0 - 1.0).abs() < 1e-14 && (got.1 / one.1 - 1.0).abs() < 1e-14, "{size}: {got:?}");
        }
        let large = Pair::of(&[1e150, 0.0], &[1e150, 1e150]).unwrap();
        assert_eq!(variance_relu(large, 1).unwrap(), f64::INFINITY);
        let square = 2f64.powi(1000);
        let opposite = Pair { query_square: square, key_square: square, dot: -square };
        assert_eq!(variance_relu(opposite, 1).unwrap(), 0.0);
    }

    #[test]
    fn ends() {
        let zero = Pair { query_square: 0.0, key_square: 1.0, dot: 0.0 };
        assert_eq!((mean_relu(zero).unwrap(), variance_relu(zero, 1).unwrap()), (0.0, 0.0));
        assert!(variance_relu(zero, 0).is_err() && variance_relu_at_most(zero, 0, 1).is_err());
        assert!(mean_relu(Pair { dot: 1.0, ..zero }).is_err());
    }
}
