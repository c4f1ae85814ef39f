//! One query and one key.

use crate::error::{Result, suppose};
use serde::{Deserialize, Serialize};

/// What the variances of one unnormalised entry A = exp(q·k) depend on; the softmax scale is absorbed in q, k.
///
/// ```
/// use scatterbrain_theory::Pair;
/// let pair = Pair::of(&[1.0, 0.0], &[0.5, -0.5])?;
/// assert_eq!((pair.sum_square(), pair.difference_square()), (2.5, 0.5));
/// assert_eq!(pair.entry(), 0.5f64.exp());
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// |q|².
    pub query_square: f64,
    /// |k|².
    pub key_square: f64,
    /// q·k.
    pub dot: f64,
}

impl Pair {
    /// The pair of two vectors.
    ///
    /// # Errors
    /// Different or infinite lengths.
    pub fn of(query: &[f64], key: &[f64]) -> Result<Self> {
        suppose("a pair", "vectors of one dimension", query.len() == key.len(), key.len() as f64)?;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let pair = Self { query_square: dot(query, query), key_square: dot(key, key), dot: dot(query, key) };
        pair.check("a pair")?;
        Ok(pair)
    }

    /// A = exp(q·k).
    pub fn entry(&self) -> f64 {
        self.dot.exp()
    }

    /// |q + k|², not below 0.
    pub fn sum_square(&self) -> f64 {
        (self.query_square + 2.0 * self.dot + self.key_square).max(0.0)
    }

    /// |q − k|², not below 0.
    pub fn difference_square(&self) -> f64 {
        (self.query_square - 2.0 * self.dot + self.key_square).max(0.0)
    }

    /// Squares that are finite and not negative, and Cauchy–Schwarz up to rounding.
    pub(crate) fn check(&self, formula: &'static str) -> Result<()> {
        for square in [self.query_square, self.key_square] {
            suppose(formula, "finite squared norms, at least 0", square.is_finite() && square >= 0.0, square)?;
        }
        let holds = cauchy_schwarz(self.dot, self.query_square, self.key_square);
        suppose(formula, "|q·k| at most |q||k|", holds, self.dot)
    }

    /// |q||k|, which overflows and vanishes no sooner than the vectors do.
    pub(crate) fn norms(&self) -> f64 {
        self.query_square.sqrt() * self.key_square.sqrt()
    }
}

/// Whether `product`² is at most `a`·`b`, all three sums that were rounded.
///
/// Relative rounding of a sum of d products is below d·ε of the bound, 10⁻⁹ for d of four millions. What underflows
/// loses up to 2⁻¹⁰⁷⁵ a term, together less than the smallest normal number.
pub(crate) fn cauchy_schwarz(product: f64, a: f64, b: f64) -> bool {
    let root = |square: f64| (square + f64::MIN_POSITIVE).sqrt();
    product.is_finite() && product.abs() <= root(a) * root(b) * (1.0 + 1e-9)
}

/// At least one feature.
pub(crate) fn check_count(formula: &'static str, count: usize) -> Result<f64> {
    suppose(formula, "at least one feature", count >= 1, count as f64)?;
    Ok(count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses() {
        assert!(Pair::of(&[1.0], &[1.0, 2.0]).is_err());
        assert!(Pair::of(&[f64::NAN], &[1.0]).is_err());
        assert!(Pair { query_square: 1.0, key_square: 1.0, dot: 1.1 }.check("a pair").is_err());
        assert!(Pair { query_square: -1.0, key_square: 1.0, dot: 0.0 }.check("a pair").is_err());
        // Infinite where no product of these norms is.
        assert!(Pair { query_square: 1e155, key_square: 1e155, dot: f64::INFINITY }.check("a pair").is_err());
        assert!(Pair { query_square: 1e155, key_square: 1e155, dot: 1.1e155 }.check("a pair").is_err());
        assert!(Pair { query_square: 1e-200, key_square: 1e-200, dot: 1.1e-200 }.check("a pair").is_err());
        assert!(check_count("a count", 0).is_err());
    }

    /// Cauchy–Schwarz holds for vectors of any size whose squares are finite, parallel ones at its end.
    #[test]
    fn takes_all_vectors() {
        for size in [1e-320, 1e-200, 1e-162, 1e-100, 1e-77, 1.0, 1e77, 1e153] {
            for other in [1e-320, 1e-162, 1e-100, 1.0, 1e153] {
                for sign in [-1.0, 1.0] {
                    let (q, k) =
                        ([size, 0.3 * size, 0.7 * size], [sign * other, sign * 0.3 * other, sign * 0.7 * other]);
                    assert!(Pair::of(&q, &k).is_ok(), "{size} {other}: {:?}", Pair::of(&q, &k));
                }
            }
        }
    }
}
