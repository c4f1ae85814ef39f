//! E2LSH: projections cut into intervals, a hash for Euclidean distance.

use crate::codes::{Codes, HashFamily};
use crate::projections::{Projections, size};
use scatterbrain_core::{Error, Level, Matrix, Result, Seed};
use serde::{Deserialize, Serialize};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Gaussian projections with a random offset, cut into intervals of one width; `concatenations` of them make a
/// code, in `n_hashes` tables.
///
/// c_j(x) = ⌊(a_j·x + b_j) / w⌋, a_j standard normal, b_j uniform on [0, w). The K integers are mixed into 32
/// bits by the loop below, so codes of rows with different integers agree by accident with probability about
/// 2⁻³²:
///
/// ```text
/// state = 0
/// for c in floors: state = splitmix64(state xor c)     // c as a 64-bit two's complement integer
/// code = high 32 bits of state
/// ```
///
/// Integers saturate at the ends of 64 bits; NaN counts as 0.
///
/// ```
/// use scatterbrain_core::{Level, Matrix, Seed};
/// use scatterbrain_hash::{E2lsh, HashFamily};
/// let hash = E2lsh::sample(2, 3, 2, 1.0, Seed(1))?;
/// let rows = [0.5, 0.5, 0.5, 0.5, -40.0, 40.0];
/// let codes = hash.codes(Level::detect(), Matrix::new("rows", &rows, 3, 2)?)?;
/// assert_eq!(codes.hash(2)[0], codes.hash(2)[1]);
/// assert!(hash.collision_probability(0.1)? > 0.8 && hash.collision_probability(50.0)? < 1e-3);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
///
/// # Cost
/// `head_dim · n_hashes · concatenations` multiplications a row.
///
/// # Source
/// Datar, Immorlica, Indyk and Mirrokni, "Locality-sensitive hashing scheme based on p-stable distributions",
/// SoCG 2004.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct E2lsh {
    n_hashes: usize,
    concatenations: usize,
    width: f32,
    /// In units of the width, `[n_hashes, concatenations]`.
    offsets: Vec<f32>,
    projections: Projections,
}

impl E2lsh {
    /// Samples `n_hashes` tables of `concatenations` projections, cut at `width`.
    ///
    /// # Errors
    /// A zero size, more than 2³⁰ numbers in all, or a width that is not positive and finite.
    pub fn sample(head_dim: usize, n_hashes: usize, concatenations: usize, width: f32, seed: Seed) -> Result<Self> {
        size(&[("head_dim", head_dim), ("n_hashes", n_hashes), ("concatenations", concatenations)])?;
        check_width(width)?;
        let projections = Projections::normal(head_dim, n_hashes * concatenations, &mut seed.stream(0));
        let mut rng = seed.stream(1);
        let offsets = (0..n_hashes * concatenations).map(|_| rng.uniform() as f32).collect();
        Ok(Self { n_hashes, concatenations, width, offsets, projections })
    }

    /// Projections in a code (K).
    pub fn concatenations(&self) -> usize {
        self.concatenations
    }

    /// The width w of an interval.
    pub fn width(&self) -> f32 {
        self.width
    }

    /// The probability, over draws of the family, that two rows at Euclidean `distance` τ get the same code.
    ///
    /// p(τ)^K with p(τ) = 1 − 2F(−w/τ) − (2τ/(√(2π)·w))·(1 − e^(−w²/(2τ²))), F the normal distribution
    /// function (accidents of the mixing, about 2⁻³², left out).
    ///
    /// # Errors
    /// A distance that is negative or NaN.
    pub fn collision_probability(&self, distance: f64) -> Result<f64> {
        if distance.is_nan() || distance < 0.0 {
            return Err(Error::invalid("distance", "a number of at least 0", distance));
        }
        check_width(self.width)?;
        Ok(one(f64::from(self.width) / distance).powf(self.concatenations as f64))
    }
}

/// p(τ) as a function of r = w/τ; 1 − 2F(−r) = erf(r/√2).
fn one(r: f64) -> f64 {
    if r == 0.0 {
        return 0.0;
    }
    let inside = libm::erf(r * FRAC_1_SQRT_2);
    let cut = (2.0 / PI).sqrt() / r * -(-0.5 * r * r).exp_m1();
    (inside - cut).clamp(0.0, 1.0)
}

impl HashFamily for E2lsh {
    fn head_dim(&self) -> usize {
        self.projections.head_dim()
    }

    fn n_hashes(&self) -> usize {
        self.n_hashes
    }

    fn codes(&self, level: Level, rows: Matrix<'_>) -> Result<Codes> {
        check_width(self.width)?;
        if self.n_hashes.checked_mul(self.concatenations) != Some(self.offsets.len()) {
            let expected = format!("{} x {} numbers", self.n_hashes, self.concatenations);
            return Err(Error::invalid("offsets", expected, self.offsets.len()));
        }
        self.projections.codes(level, rows, self.n_hashes, &[self.concatenations], |h, projected| {
            let offsets = &self.offsets[h * self.concatenations..];
            mix(projected.iter().zip(offsets).map(|(p, b)| (p / self.width + b).floor() as i64))
        })
    }
}

/// The loop of [`E2lsh`]'s documentation.
fn mix(floors: impl Iterator<Item = i64>) -> u32 {
    (floors.fold(0, |state, c| splitmix64(state ^ c as u64)) >> 32) as u32
}

/// The output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), a bijection of 64 bits.
fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn check_width(width: f32) -> Result<()> {
    if !(width.is_finite() && width > 0.0) {
        return Err(Error::invalid("width", "a positive finite number", width));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integral_behind_the_formula() {
        // p(τ) = ∫₀^w (1/τ)·f(t/τ)·(1 − t/w) dt, f the density of |N(0, 1)|; midpoint rule.
        for r in [0.01, 0.3, 1.0, 2.5, 8.0] {
            let n = 20_000;
            let density = |t: f64| (2.0 / PI).sqrt() * (-0.5 * t * t).exp();
            let integral: f64 = (0..n)
                .map(|i| (f64::from(i) + 0.5) / f64::from(n))
                .map(|u| density(u * r) * (1.0 - u) * r / f64::from(n))
                .sum();
            assert!((one(r) - integral).abs() < 1e-8, "{r}: {} {integral}", one(r));
        }
        assert_eq!((one(f64::INFINITY), one(0.0)), (1.0, 0.0));
    }

    #[test]
    fn mixing_depends_on_every_floor_and_its_place() {
        let code = |c: &[i64]| mix(c.iter().copied());
        assert_eq!(code(&[3, -1]), code(&[3, -1]));
        assert_ne!(code(&[3, -1]), code(&[-1, 3]));
        assert_ne!(code(&[3, -1]), code(&[3, 0]));
        let mut all: Vec<u32> = (-100..100).flat_map(|a| (-50..50).map(move |b| mix([a, b].into_iter()))).collect();
        all.sort_unstable();
        all.dedup();
        assert!(all.len() >= 19_998, "{}", all.len());
    }
}
