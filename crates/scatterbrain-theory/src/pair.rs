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
        let bound = (self.query_square * self.key_square).sqrt() * (1.0 + 1e-9);
        suppose(formula, "|q·k| at most |q||k|", self.dot.abs() <= bound, self.dot)
    }
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
        assert!(check_count("a count", 0).is_err());
    }
}
