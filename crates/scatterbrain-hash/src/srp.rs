//! Sign random projection: on which side of random hyperplanes a row lies.

use crate::codes::{Codes, HashFamily};
use crate::projections::{Projections, size};
use scatterbrain_core::kernel::sign_bits;
use scatterbrain_core::{Error, Level, Matrix, Result, Seed};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Signs of `bits` Gaussian projections as one code, in `n_hashes` tables.
///
/// code(x) = Σ_j 2^j · \[a_j·x ≥ 0\], a_j standard normal. The length of a row does not matter.
///
/// ```
/// use scatterbrain_core::{Level, Matrix, Seed};
/// use scatterbrain_hash::{HashFamily, SignRandomProjection};
/// let hash = SignRandomProjection::sample(3, 2, 10, Seed(1))?;
/// let rows = [1.0, 2.0, 3.0, -1.0, -2.0, -3.0];
/// let codes = hash.codes(Level::detect(), Matrix::new("rows", &rows, 2, 3)?)?;
/// // Opposite rows differ in every bit.
/// assert_eq!(codes.hash(0)[0] ^ codes.hash(0)[1], (1 << 10) - 1);
/// assert_eq!(hash.collision_probability(std::f64::consts::PI)?, 0.0);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
///
/// # Cost
/// `head_dim · n_hashes · bits` multiplications a row.
///
/// # Source
/// Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignRandomProjection {
    n_hashes: usize,
    bits: usize,
    projections: Projections,
}

impl SignRandomProjection {
    /// Samples `n_hashes` tables of `bits` hyperplanes each.
    ///
    /// # Errors
    /// A zero size, more than 32 bits, or more than 2³⁰ numbers in all.
    pub fn sample(head_dim: usize, n_hashes: usize, bits: usize, seed: Seed) -> Result<Self> {
        check_bits(bits)?;
        size(&[("head_dim", head_dim), ("n_hashes", n_hashes), ("bits", bits)])?;
        let projections = Projections::normal(head_dim, n_hashes * bits, &mut seed.stream(0));
        Ok(Self { n_hashes, bits, projections })
    }

    /// Bits of a code (K).
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// The probability, over draws of the family, that two rows at `angle` get the same code:
    /// (1 − θ/π)^K.
    ///
    /// # Errors
    /// An angle outside [0, π].
    pub fn collision_probability(&self, angle: f64) -> Result<f64> {
        if !(0.0..=PI).contains(&angle) {
            return Err(Error::invalid("angle", "a number in [0, pi]", angle));
        }
        Ok((1.0 - angle / PI).powf(self.bits as f64))
    }
}

impl HashFamily for SignRandomProjection {
    fn head_dim(&self) -> usize {
        self.projections.head_dim()
    }

    fn n_hashes(&self) -> usize {
        self.n_hashes
    }

    fn codes(&self, level: Level, rows: Matrix<'_>) -> Result<Codes> {
        check_bits(self.bits)?;
        self.projections.codes_of_panels(level, rows, self.n_hashes, self.bits, |panel| sign_bits(level, panel))
    }
}

fn check_bits(bits: usize) -> Result<()> {
    if bits == 0 || bits > 32 {
        return Err(Error::invalid("bits", "1 to 32", bits));
    }
    Ok(())
}
