//! What ReLU features estimate, and how well.

use crate::error::Result;
use crate::pair::{Pair, check_count};

/// What features max(ω·x, 0) estimate without bias, on any directions that are each N(0, I), θ the angle between q and k:
///
/// ```math
/// \mathbb E\, \varphi(q) \cdot \varphi(k) = \frac{|q| |k|}{2 \pi} J_1(\theta), \qquad
/// J_1 = \sin \theta + (\pi - \theta) \cos \theta
/// ```
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
    let (sine, cosine, rest) = angle(pair);
    let norms = (pair.query_square * pair.key_square).sqrt();
    Ok(norms * (sine + rest * cosine) / std::f64::consts::TAU)
}

/// The variance of φ(q)·φ(k) by m ReLU features on *independent* ω_l ~ N(0, I), with [`mean_relu`] for the mean:
///
/// ```math
/// \operatorname{Var} = \frac{1}{m} \Bigl(\frac{|q|^2 |k|^2}{2 \pi} J_2(\theta) - \text{mean}^2\Bigr), \qquad
/// J_2 = 3 \sin \theta \cos \theta + (\pi - \theta) (1 + 2 \cos^2 \theta)
/// ```
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
    let mean = mean_relu(pair)?;
    let (sine, cosine, rest) = angle(pair);
    let second = (3.0 * sine * cosine + rest * (1.0 + 2.0 * cosine * cosine)) / std::f64::consts::TAU;
    Ok((pair.query_square * pair.key_square * second - mean * mean).max(0.0) / m)
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

/// sin θ, cos θ, π − θ; of a vector that is 0, those of a right angle.
fn angle(pair: Pair) -> (f64, f64, f64) {
    let norms = (pair.query_square * pair.key_square).sqrt();
    let cosine = if norms > 0.0 { (pair.dot / norms).clamp(-1.0, 1.0) } else { 0.0 };
    ((1.0 - cosine * cosine).sqrt(), cosine, (-cosine).acos())
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

    #[test]
    fn ends() {
        let zero = Pair { query_square: 0.0, key_square: 1.0, dot: 0.0 };
        assert_eq!((mean_relu(zero).unwrap(), variance_relu(zero, 1).unwrap()), (0.0, 0.0));
        assert!(variance_relu(zero, 0).is_err() && variance_relu_at_most(zero, 0, 1).is_err());
        assert!(mean_relu(Pair { dot: 1.0, ..zero }).is_err());
    }
}
