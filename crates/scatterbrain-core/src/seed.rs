//! Where every random number comes from.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng};
use serde::{Deserialize, Serialize};

/// A seed. The same seed gives the same bits on every machine and for any thread count.
///
/// ```
/// use scatterbrain_core::Seed;
/// let mut a = Seed(7).stream(1);
/// let mut b = Seed(7).stream(1);
/// assert_eq!(a.normal(), b.normal());
/// assert_ne!(Seed(7).stream(2).normal(), Seed(7).stream(3).normal());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seed(pub u64);

impl Seed {
    /// The generator of one purpose: streams of different numbers are independent.
    pub fn stream(self, purpose: u64) -> Rng {
        Rng(Xoshiro256PlusPlus::seed_from_u64(self.derive(purpose).0))
    }

    /// A seed for a part of the whole, so that parts can draw streams of their own.
    pub fn derive(self, part: u64) -> Seed {
        // One round of SplitMix64 (Steele, Lea, Flood 2014) over the pair.
        let mut z = self.0 ^ part.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Seed(z ^ (z >> 31))
    }
}

/// xoshiro256++ behind the few draws that the library makes; no `rand` type is public.
#[derive(Debug, Clone)]
pub struct Rng(Xoshiro256PlusPlus);

impl Rng {
    /// Standard normal, by the `rand_distr` ziggurat, in f64.
    pub fn normal(&mut self) -> f64 {
        use rand_distr::Distribution;
        rand_distr::StandardNormal.sample(&mut self.0)
    }

    /// `len` standard normals in f32.
    pub fn normals(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.normal() as f32).collect()
    }

    /// Chi-distributed with `degrees` degrees of freedom: the norm of a standard normal vector.
    pub fn chi(&mut self, degrees: usize) -> f64 {
        (0..degrees).map(|_| self.normal().powi(2)).sum::<f64>().sqrt()
    }

    /// Uniform on [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform on 0..`bound` (rejection, no bias).
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range");
        let zone = u64::MAX - u64::MAX % bound;
        loop {
            let x = self.bits();
            if x < zone {
                return x % bound;
            }
        }
    }

    /// An index of each of up to `count` equal stretches of 0..`len`, ascending: spread as evenly as steps are, and blind
    /// to what recurs at equal distances.
    ///
    /// ```
    /// let drawn: Vec<usize> = scatterbrain_core::Seed(1).stream(0).strata(100, 4).collect();
    /// assert!(drawn.iter().enumerate().all(|(stretch, &i)| i / 25 == stretch));
    /// ```
    pub fn strata(&mut self, len: usize, count: usize) -> impl ExactSizeIterator<Item = usize> {
        let count = count.min(len);
        let start = move |s: usize| (s as u128 * len as u128 / count as u128) as usize;
        (0..count).map(move |s| start(s) + self.below((start(s + 1) - start(s)) as u64) as usize)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}
