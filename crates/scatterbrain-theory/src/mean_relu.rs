//! What ReLU features estimate, and how well.

use crate::error::Result;
use crate::pair::{Pair, check_count};

/// E φ(q)·φ(k) = |q||k| J_1(θ)/(2π), J_1 = sin θ + (π − θ) cos θ, θ the angle between q and k: what features
/// max(ω·x, 0) estimate without bias, on any directions that are each N(0, I). It is no softmax kernel: the bias
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

/// Var = (1/m)(|q|²|k|² J_2(θ)/(2π) − [`mean_relu`]²), J_2 = 3 sin θ cos θ + (π − θ)(1 + 2 cos² θ): the variance of
/// φ(q)·φ(k) by m ReLU features on *independent* ω_l ~ N(0, I).
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

/// sin θ, cos θ, π − θ; of a vector that is 0, those of a right angle.
fn angle(pair: Pair) -> (f64, f64, f64) {
    let norms = (pair.query_square * pair.key_square).sqrt();
    let cosine = if norms > 0.0 { (pair.dot / norms).clamp(-1.0, 1.0) } else { 0.0 };
    ((1.0 - cosine * cosine).sqrt(), cosine, (-cosine).acos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{PAIRS, check_moments, dot};

    #[test]
    fn agrees_with_simulation() {
        for (q, k) in PAIRS {
            let pair = Pair::of(&q, &k).unwrap();
            let feature = |w: &[f64; 4]| dot(w, &q).max(0.0) * dot(w, &k).max(0.0);
            check_moments(mean_relu(pair).unwrap(), variance_relu(pair, 1).unwrap(), feature);
        }
    }

    #[test]
    fn ends() {
        let zero = Pair { query_square: 0.0, key_square: 1.0, dot: 0.0 };
        assert_eq!((mean_relu(zero).unwrap(), variance_relu(zero, 1).unwrap()), (0.0, 0.0));
        assert!(variance_relu(zero, 0).is_err() && mean_relu(Pair { dot: 1.0, ..zero }).is_err());
    }
}
