//! Random numbers of a trial.

use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rand_xoshiro::{SplitMix64, Xoshiro256PlusPlus};

/// The random numbers that a sampler may use, all from one seed.
///
/// A type of our own, so that no version of `rand` shows in a signature; [`Draws::seed`] seeds any generator.
///
/// ```
/// use scatterbrain_theory::Draws;
/// let (mut a, mut b) = (Draws::new(1), Draws::new(1));
/// assert_eq!(a.normals::<3>().as_slice(), b.normal_vec(3));
/// assert_eq!(a.seed(), b.seed());
/// ```
#[derive(Debug, Clone)]
pub struct Draws(Xoshiro256PlusPlus);

impl Draws {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self::of_block(seed, 0)
    }

    /// The stream of one block. The seed is hashed first, so that blocks of neighbouring seeds do not coincide.
    pub(super) fn of_block(seed: u64, block: u64) -> Self {
        let origin = SplitMix64::seed_from_u64(seed).next_u64();
        Self(Xoshiro256PlusPlus::seed_from_u64(origin.wrapping_add(block)))
    }

    /// One number from N(0, 1).
    pub fn standard_normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// A vector from N(0, I) of a dimension known when compiling.
    pub fn normals<const D: usize>(&mut self) -> [f64; D] {
        std::array::from_fn(|_| self.standard_normal())
    }

    /// A vector from N(0, I).
    pub fn normal_vec(&mut self, dim: usize) -> Vec<f64> {
        (0..dim).map(|_| self.standard_normal()).collect()
    }

    /// A number from [0, 1), all multiples of 2⁻⁵³ alike.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 64 random bits: a seed for a generator of one's own.
    pub fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }
}
