//! Reformer's rotation: the largest of some random projections and their negatives.

use crate::codes::{Codes, HashFamily};
use crate::projections::{Projections, size};
use scatterbrain_core::kernel::largest_signed;
use scatterbrain_core::{Error, Level, Matrix, Result, Seed};
use serde::{Deserialize, Serialize};

/// The bucket of the largest of `n_buckets / 2` random projections and their negatives.
///
/// code(x) = argmax \[x·R, −x·R\] (the first on ties), R `[head_dim, n_buckets / 2]` per hash. The length of a row
/// does not matter.
///
/// ```
/// use scatterbrain_core::{Level, Matrix, Seed};
/// use scatterbrain_hash::{HashFamily, ReformerRotation};
/// // One hash, four buckets: the projections are the coordinates themselves.
/// let hash = ReformerRotation::from_parts(2, 1, 4, &[1.0, 0.0, 0.0, 1.0])?;
/// let rows = [3.0, 1.0, 1.0, 3.0, -3.0, 1.0, 1.0, -3.0];
/// let codes = hash.codes(Level::detect(), Matrix::new("rows", &rows, 4, 2)?)?;
/// assert_eq!(codes.hash(0), [0, 1, 2, 3]);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
///
/// # Collision probability
/// None is given. It is that of a Gaussian cross-polytope of `n_buckets / 2` projections: it depends on the angle
/// alone, and has no closed form; `collision_cross_polytope` in `scatterbrain-theory` integrates it.
///
/// # Cost
/// `head_dim · n_hashes · n_buckets / 2` multiplications a row.
///
/// # Source
/// Kitaev, Kaiser and Levskaya, "Reformer", ICLR 2020, §2; Andoni et al., NeurIPS 2015.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReformerRotation {
    n_hashes: usize,
    n_buckets: usize,
    /// `[n_hashes, n_buckets / 2]` directions: the rotations, transposed.
    projections: Projections,
}

impl ReformerRotation {
    /// Samples standard normal rotations.
    ///
    /// # Errors
    /// A zero size, an odd number of buckets, or more than 2³⁰ numbers in all.
    pub fn sample(head_dim: usize, n_hashes: usize, n_buckets: usize, seed: Seed) -> Result<Self> {
        let count = check_sizes(head_dim, n_hashes, n_buckets)? / head_dim;
        let projections = Projections::normal(head_dim, count, &mut seed.stream(0));
        Ok(Self { n_hashes, n_buckets, projections })
    }

    /// Takes stored rotations, `[head_dim, n_hashes, n_buckets / 2]` row-major, Reformer's own layout.
    ///
    /// # Errors
    /// A zero size, an odd number of buckets, or rotations of another length.
    pub fn from_parts(head_dim: usize, n_hashes: usize, n_buckets: usize, rotations: &[f32]) -> Result<Self> {
        let expected = check_sizes(head_dim, n_hashes, n_buckets)?;
        if rotations.len() != expected {
            let shape = format!("{head_dim} x {n_hashes} x {} numbers", n_buckets / 2);
            return Err(Error::invalid("rotations", shape, rotations.len()));
        }
        let count = expected / head_dim;
        let transposed = (0..count).flat_map(|p| (0..head_dim).map(move |c| rotations[c * count + p]));
        Ok(Self { n_hashes, n_buckets, projections: Projections::new(head_dim, transposed.collect()) })
    }

    /// The rotations as [`from_parts`](Self::from_parts) takes them.
    pub fn rotations(&self) -> Vec<f32> {
        let column = |c: usize| self.projections.rows().map(move |direction| direction[c]);
        (0..self.projections.head_dim()).flat_map(column).collect()
    }

    /// The same hashes with fewer buckets: of every hash, the first `n_buckets / 2` columns of its rotation.
    ///
    /// ```
    /// use scatterbrain_hash::ReformerRotation;
    /// let hash = ReformerRotation::from_parts(1, 2, 4, &[1.0, 2.0, 3.0, 4.0])?;
    /// assert_eq!(hash.with_buckets(2)?, ReformerRotation::from_parts(1, 2, 2, &[1.0, 3.0])?);
    /// # Ok::<(), scatterbrain_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// No buckets, an odd number of them, or more than there are; a stored hash whose parts do not fit together.
    ///
    /// # Cost
    /// A copy of the rotations that are kept.
    pub fn with_buckets(&self, n_buckets: usize) -> Result<Self> {
        check_sizes(self.head_dim(), self.n_hashes, self.n_buckets)?;
        self.projections.checked(&[self.n_hashes, self.n_buckets / 2])?;
        if n_buckets == 0 || n_buckets % 2 == 1 || n_buckets > self.n_buckets {
            let expected = format!("an even number from 2 to {}", self.n_buckets);
            return Err(Error::invalid("n_buckets", expected, n_buckets));
        }
        let projections = self.projections.first(n_buckets / 2, self.n_buckets / 2);
        Ok(Self { n_hashes: self.n_hashes, n_buckets, projections })
    }

    /// Number of buckets: codes are below it.
    pub fn n_buckets(&self) -> usize {
        self.n_buckets
    }
}

impl HashFamily for ReformerRotation {
    fn head_dim(&self) -> usize {
        self.projections.head_dim()
    }

    fn n_hashes(&self) -> usize {
        self.n_hashes
    }

    fn codes(&self, level: Level, rows: Matrix<'_>) -> Result<Codes> {
        check_sizes(self.head_dim(), self.n_hashes, self.n_buckets)?;
        let half = self.n_buckets / 2;
        self.projections.codes_of_panels(level, rows, self.n_hashes, half, |panel| largest_signed(level, panel))
    }
}

/// The count of all numbers.
fn check_sizes(head_dim: usize, n_hashes: usize, n_buckets: usize) -> Result<usize> {
    if n_buckets == 0 || n_buckets % 2 == 1 {
        return Err(Error::invalid("n_buckets", "an even number of at least 2", n_buckets));
    }
    size(&[("head_dim", head_dim), ("n_hashes", n_hashes), ("n_buckets", n_buckets / 2)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use scatterbrain_core::kernel::PANEL;

    #[test]
    fn first_bucket_on_ties_and_no_nan() {
        let bucket = |projected: &[f32]| {
            let panel: Vec<f32> = projected.iter().flat_map(|x| [*x; PANEL]).collect();
            largest_signed(Level::detect(), &panel)[PANEL - 1]
        };
        assert_eq!(bucket(&[1.0, -1.0]), 0);
        assert_eq!(bucket(&[-1.0, -1.0]), 2);
        assert_eq!(bucket(&[0.0, 0.0]), 0);
        assert_eq!(bucket(&[f32::NAN, -3.0, 2.0]), 4);
        assert_eq!(bucket(&[f32::NAN]), 0);
    }

    #[test]
    fn parts_there_and_back() {
        let hash = ReformerRotation::sample(5, 2, 6, Seed(4)).unwrap();
        assert_eq!(ReformerRotation::from_parts(5, 2, 6, &hash.rotations()).unwrap(), hash);
    }
}
