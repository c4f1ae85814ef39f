//! Variances with coupled directions, exact.
//!
//! # Derivation
//! n projections in blocks of d, the last one shorter, have Σ_b n_b(n_b − 1) ordered pairs of one block, n_b the size
//! of block b, so the mean of their terms X_l has
//!
//! ```text
//! Var = (1/n)(Var X + κ C),   κ = (1/n) Σ_b n_b(n_b − 1),   C = Cov(X_i, X_j) within a block.
//! ```
//!
//! Directions of different blocks are independent. C rests on E e^{(ω_i ± ω_j)·z}, derived beside [`Directions`]:
//!
//! - positive: X = e^{ω·z − (|q|² + |k|²)/2}, so C = A²(E e^{(ω_i + ω_j)·z} e^{−|z|²} − 1);
//! - OPRF: the same C. The weights D² e^{2A|ω|²} turn each |ω|² into χ²(d)/(1 − 4A), which B² = 1 − 4A undoes;
//! - hyperbolic: X = e^{−(|q|² + |k|²)/2} cosh ω·z, and cosh a cosh b = ½(cosh(a + b) + cosh(a − b));
//! - trigonometric: X = e^{(|q|² + |k|²)/2} cos ω·u, u = q − k, and cosines likewise.

use crate::coupled_moment::{Coupled, Directions};
use crate::error::{Result, suppose};
use crate::pair::Pair;
use crate::{variance_hyperbolic, variance_oprf, variance_positive, variance_trigonometric};

/// The variance of the estimate of A = exp(q·k) by m positive features on coupled directions; with independent ones
/// [`variance_positive()`]. Infinite where it overflows.
///
/// ```math
/// \operatorname{Var} \hat A = \frac{1}{m} (\operatorname{Var} X + \kappa C), \qquad
/// C = A^2\, \mathbb E (\rho_J s_J - 1), \qquad \rho_j = \prod_{i < j} \frac{d + i}{d + 2i}
/// ```
///
/// with J from Poisson(|z|²), z = q + k, κ the mean number of other directions in a direction's block, and s_j = 1 for
/// orthogonal directions, E(1 − sin ψ/(d − 1))^j ≤ 1 for the simplex, ψ on (0, π) with a density proportional to
/// sin^{d−1} ψ: of the three the simplex has the least variance.
///
/// Derivation: at the top of this file, `variance_coupled.rs`, and of `coupled_moment.rs`.
///
/// # Errors
/// m = 0, d = 0, a simplex with d < 2, |z|² above 10⁴ with coupled directions, or norms and a product that no vectors
/// have.
///
/// ```
/// use scatterbrain_theory::{Directions, Pair, variance_positive_coupled};
/// let pair = Pair::of(&[0.5, 0.5, 0.0, 0.0], &[0.5, 0.0, 0.0, 0.0])?;
/// let of = |directions| variance_positive_coupled(pair, directions, 4, 16);
/// assert!(of(Directions::HaarSimplex)? < of(Directions::HaarOrthogonal)?);
/// assert!(of(Directions::HaarOrthogonal)? < of(Directions::Independent)?);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn variance_positive_coupled(
    pair: Pair,
    directions: Directions,
    head_dim: usize,
    n_features: usize,
) -> Result<f64> {
    let alone = variance_positive(pair, n_features)?;
    let covariance = exponential_covariance("positive features", pair, directions, head_dim, false)?;
    Ok(with_pairs(alone, covariance, n_features, head_dim))
}

/// The variance of the estimate of A_ij = exp(q·k) by m OPRF features with parameter A on coupled directions; with
/// independent ones [`variance_oprf()`]. The covariance C within a block is that of [`variance_positive_coupled`],
/// whatever A:
///
/// ```math
/// \operatorname{Var} \hat A = \frac{1}{m} (\operatorname{Var} X + \kappa C), \qquad C = A_{ij}^2\, \mathbb E (\rho_J s_J - 1)
/// ```
///
/// Derivation: at the top of this file, `variance_coupled.rs`, and of `coupled_moment.rs`.
///
/// # Errors
/// Those of [`variance_oprf()`] and [`variance_positive_coupled`].
///
/// ```
/// use scatterbrain_theory::{Directions, Pair, variance_oprf, variance_oprf_coupled};
/// let pair = Pair::of(&[0.5, 0.5], &[0.5, 0.0])?;
/// let coupled = variance_oprf_coupled(pair, -0.1, Directions::HaarOrthogonal, 2, 16)?;
/// assert!(coupled < variance_oprf(pair, -0.1, 2, 16)?);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn variance_oprf_coupled(
    pair: Pair,
    a: f64,
    directions: Directions,
    head_dim: usize,
    n_features: usize,
) -> Result<f64> {
    let alone = variance_oprf(pair, a, head_dim, n_features)?;
    let covariance = exponential_covariance("OPRF", pair, directions, head_dim, false)?;
    Ok(with_pairs(alone, covariance, n_features, head_dim))
}

/// The variance of the estimate of A = exp(q·k) by m positive features on m/2 pairs [ω, −ω], the ω coupled; with
/// independent ones [`variance_hyperbolic()`]. Infinite where it overflows.
///
/// ```math
/// \operatorname{Var} \hat A = \frac{2}{m} (\operatorname{Var} X + \kappa C), \qquad C = A^2\, \mathbb E (\rho_J s_J - 1)
/// ```
///
/// as in [`variance_positive_coupled`], but s_j = ½E((1 − x)^j + (1 + x)^j) ≥ 1, x = sin ψ/(d − 1), for the simplex: here
/// it is never better than orthogonal directions.
///
/// Derivation: at the top of this file, `variance_coupled.rs`, and of `coupled_moment.rs`.
///
/// # Errors
/// m odd, and those of [`variance_positive_coupled`].
///
/// ```
/// use scatterbrain_theory::{Directions, Pair, variance_hyperbolic_coupled};
/// let pair = Pair::of(&[0.5, 0.5, 0.0, 0.0], &[0.5, 0.0, 0.0, 0.0])?;
/// let of = |directions| variance_hyperbolic_coupled(pair, directions, 4, 16);
/// assert!(of(Directions::HaarOrthogonal)? < of(Directions::HaarSimplex)?);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn variance_hyperbolic_coupled(
    pair: Pair,
    directions: Directions,
    head_dim: usize,
    n_features: usize,
) -> Result<f64> {
    let alone = variance_hyperbolic(pair, n_features)?;
    let covariance = exponential_covariance("hyperbolic features", pair, directions, head_dim, true)?;
    Ok(with_pairs(alone, covariance, n_features / 2, head_dim))
}

/// The variance of the estimate of A = exp(q·k) by cosines and sines of r coupled projections; with independent ones
/// [`variance_trigonometric()`]. Infinite where it overflows.
///
/// ```math
/// \operatorname{Var} \hat A = \frac{1}{r} (\operatorname{Var} X + \kappa C), \qquad
/// C = e^{|q|^2 + |k|^2} \bigl(\mathbb E \cos((\omega_i \pm \omega_j) \cdot u) - e^{-|u|^2}\bigr)
/// ```
///
/// with u = q − k. C is negative for small |u|, positive for some large
/// ones, where coupling *raises* the variance.
///
/// Derivation: at the top of this file, `variance_coupled.rs`, and of `coupled_moment.rs`.
///
/// # Errors
/// r = 0, d = 0, a simplex with d < 2, |u|² above 10⁴ with coupled directions, or norms and a product that no vectors
/// have.
///
/// ```
/// use scatterbrain_theory::{Directions, Pair, variance_trigonometric, variance_trigonometric_coupled};
/// let near = Pair::of(&[0.5, 0.5], &[0.5, 0.0])?;
/// let coupled = variance_trigonometric_coupled(near, Directions::HaarOrthogonal, 2, 16)?;
/// assert!(coupled < variance_trigonometric(near, 16)?);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn variance_trigonometric_coupled(
    pair: Pair,
    directions: Directions,
    head_dim: usize,
    n_projections: usize,
) -> Result<f64> {
    const FORMULA: &str = "the variance of trigonometric features";
    let alone = variance_trigonometric(pair, n_projections)?;
    let square = pair.difference_square();
    if directions == Directions::Independent || square == 0.0 || alone.is_infinite() {
        suppose(FORMULA, "a dimension of at least 1", head_dim >= 1, 0.0)?;
        return Ok(alone);
    }
    let cosine = Coupled::new(FORMULA, directions, head_dim, square, true)?.cosine(square);
    let covariance = (pair.query_square + pair.key_square).exp() * cosine;
    Ok(with_pairs(alone, covariance, n_projections, head_dim))
}

/// C for positive (`symmetric` false) and hyperbolic features.
fn exponential_covariance(
    formula: &'static str,
    pair: Pair,
    directions: Directions,
    head_dim: usize,
    symmetric: bool,
) -> Result<f64> {
    suppose(formula, "a dimension of at least 1", head_dim >= 1, 0.0)?;
    let square = pair.sum_square();
    if directions == Directions::Independent || square == 0.0 {
        return Ok(0.0);
    }
    let coupled = Coupled::new(formula, directions, head_dim, square, symmetric)?;
    // A² e^{−|z|²} = e^{−|q|² − |k|²}.
    Ok(coupled.exponential(square, -(pair.query_square + pair.key_square)))
}

/// (Var X + κC)/n from Var X/n and C, not below 0; an infinite variance stays infinite.
fn with_pairs(alone: f64, covariance: f64, n_projections: usize, head_dim: usize) -> f64 {
    if alone.is_infinite() {
        return alone;
    }
    let (n, d, rest) = (n_projections as f64, head_dim as f64, (n_projections % head_dim) as f64);
    let pairs = ((n - rest) * (d - 1.0) + rest * (rest - 1.0)) / n;
    (alone + pairs * covariance / n).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{DIM, PAIRS, block, check_value, dot, orthogonal, simplex, sum};
    use crate::{Draws, Estimator};

    use Directions::{HaarOrthogonal, HaarSimplex, Independent};

    /// The mean of `f` over the first six directions of two blocks of four.
    fn six(draws: &mut Draws, directions: Directions, f: impl Fn(&[f64; DIM]) -> f64) -> f64 {
        let mut draw = || match directions {
            HaarSimplex => block(draws, simplex),
            _ => block(draws, orthogonal),
        };
        let (first, second) = (draw(), draw());
        first.iter().chain(&second[..2]).map(f).sum::<f64>() / 6.0
    }

    #[test]
    fn agrees_with_simulation() {
        for (q, k) in PAIRS {
            let pair = Pair::of(&q, &k).unwrap();
            let half = 0.5 * (pair.query_square + pair.key_square);
            let (z, u) = (sum(&q, &k, 1.0), sum(&q, &k, -1.0));
            for directions in [HaarOrthogonal, HaarSimplex] {
                let check = |variance: Result<f64>, f: &(dyn Fn(&[f64; DIM]) -> f64 + Sync)| {
                    check_value(Estimator::Mean, pair.entry(), |draws| six(draws, directions, f));
                    check_value(Estimator::Variance, variance.unwrap(), |draws| six(draws, directions, f));
                };
                check(variance_positive_coupled(pair, directions, DIM, 6), &|w| (dot(w, &z) - half).exp());
                check(variance_hyperbolic_coupled(pair, directions, DIM, 12), &|w| (-half).exp() * dot(w, &z).cosh());
                check(variance_trigonometric_coupled(pair, directions, DIM, 6), &|w| half.exp() * dot(w, &u).cos());
                let a = -0.07;
                check(variance_oprf_coupled(pair, a, directions, DIM, 6), &|w| {
                    (1.0 - 4.0 * a).powi(2) * (2.0 * a * dot(w, w) + (1.0 - 4.0 * a).sqrt() * dot(w, &z) - half).exp()
                });
            }
        }
    }

    /// Independent directions, one projection, one dimension and z = 0 leave what is without coupling.
    #[test]
    fn nothing_to_couple() {
        let pair = Pair::of(&[0.7], &[0.4]).unwrap();
        for (directions, d, m) in
            [(Independent, 4, 6), (HaarOrthogonal, 4, 2), (HaarOrthogonal, 1, 6), (HaarSimplex, 8, 2)]
        {
            let near = |a: Result<f64>, b: Result<f64>| assert!((a.unwrap() / b.unwrap() - 1.0).abs() < 1e-15);
            let n = if d == 4 && m == 6 || d == 1 { m } else { 1 };
            near(variance_positive_coupled(pair, directions, d, n), variance_positive(pair, n));
            near(variance_hyperbolic_coupled(pair, directions, d, 2 * n), variance_hyperbolic(pair, 2 * n));
            near(variance_trigonometric_coupled(pair, directions, d, n), variance_trigonometric(pair, n));
            near(variance_oprf_coupled(pair, -0.1, directions, d, n), variance_oprf(pair, -0.1, d, n));
        }
        let opposite = Pair::of(&[0.7], &[-0.7]).unwrap();
        assert_eq!(variance_positive_coupled(opposite, HaarSimplex, 4, 8).unwrap(), 0.0);
        assert_eq!(variance_hyperbolic_coupled(opposite, HaarOrthogonal, 4, 8).unwrap(), 0.0);
    }

    /// No variance is negative or NaN, from tiny squares to those that overflow; orthogonal directions lie between.
    #[test]
    fn any_square() {
        for d in [2, 3, 64, 512] {
            for exponent in [-12, -6, -2, 0, 1, 2, 3] {
                let half = 0.25 * 10f64.powi(exponent);
                let pair = Pair { query_square: half, key_square: half, dot: half };
                for m in [2, 2 * d, 5 * d + 1] {
                    let positive = |directions| variance_positive_coupled(pair, directions, d, m).unwrap();
                    let (alone, orthogonal, simplex) =
                        (positive(Independent), positive(HaarOrthogonal), positive(HaarSimplex));
                    assert!(0.0 <= simplex && simplex <= orthogonal && orthogonal <= alone, "{d} {exponent} {m}");
                    let across = Pair { dot: -half, ..pair };
                    for directions in [HaarOrthogonal, HaarSimplex] {
                        let hyperbolic = variance_hyperbolic_coupled(pair, directions, d, 2 * m).unwrap();
                        let trigonometric = variance_trigonometric_coupled(across, directions, d, m).unwrap();
                        assert!(hyperbolic >= 0.0 && trigonometric >= 0.0, "{directions:?} {d} {exponent} {m}");
                    }
                }
            }
        }
    }

    #[test]
    fn refuses() {
        let pair = Pair::of(&[0.7], &[0.4]).unwrap();
        assert!(variance_positive_coupled(pair, HaarSimplex, 1, 4).is_err());
        for directions in [Independent, HaarOrthogonal, HaarSimplex] {
            assert!(variance_positive_coupled(pair, directions, 0, 4).is_err());
            assert!(variance_trigonometric_coupled(pair, directions, 0, 4).is_err());
            assert!(variance_oprf_coupled(pair, 0.2, directions, 4, 4).is_err());
            assert!(variance_hyperbolic_coupled(pair, directions, 4, 3).is_err());
        }
        // A² overflows.
        let large = Pair { query_square: 400.0, key_square: 400.0, dot: 400.0 };
        assert_eq!(variance_positive_coupled(large, HaarOrthogonal, 4, 8).unwrap(), f64::INFINITY);
        assert_eq!(variance_hyperbolic_coupled(large, HaarSimplex, 4, 8).unwrap(), f64::INFINITY);
        assert_eq!(variance_trigonometric_coupled(large, HaarSimplex, 4, 8).unwrap(), 0.0);
        let far = Pair { query_square: 1e9, key_square: 1e9, dot: -9.9e8 };
        assert!(variance_positive_coupled(far, HaarOrthogonal, 4, 4).is_err());
    }
}
