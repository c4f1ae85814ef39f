//! Cross-polytope hashing: the vertex ±e_i that lies nearest to a randomly rotated row.

use crate::codes::{Codes, HashFamily};
use crate::projections::{Projections, size};
use scatterbrain_core::{Error, Level, Matrix, Result, Rng, Seed};
use serde::{Deserialize, Serialize};

/// What turns the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Rotation {
    /// A matrix of independent standard normals, as in the analysis of the paper.
    Gaussian,
    /// A uniformly random orthogonal matrix: the same normals, orthogonalised by Gram–Schmidt when sampled.
    Orthogonal,
}

/// The nearest vertex of the cross-polytope after a random rotation; `concatenations` of them make a code, in
/// `n_hashes` tables.
///
/// y = R·x, i = argmax |y_i| (the first on ties), digit = 2·i + \[y_i < 0\],
/// code = Σ_j digit_j · (2·head_dim)^j. The length of a row does not matter.
///
/// ```
/// use scatterbrain_core::{Level, Matrix, Seed};
/// use scatterbrain_hash::{CrossPolytope, HashFamily, Rotation};
/// let hash = CrossPolytope::sample(4, 2, 1, Rotation::Orthogonal, Seed(1))?;
/// let rows = [1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0, -4.0];
/// let codes = hash.codes(Level::detect(), Matrix::new("rows", &rows, 2, 4)?)?;
/// // Opposite rows fall to opposite vertices.
/// assert_eq!(codes.hash(1)[0] ^ 1, codes.hash(1)[1]);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
///
/// # Collision probability
/// There is no closed form: [`estimate_collision_probability`](Self::estimate_collision_probability) measures
/// it, and [`CollisionTable`] keeps what was measured. Of Gaussian rotations `collision_cross_polytope` in
/// `scatterbrain-theory` integrates it.
///
/// # Cost
/// `head_dim² · n_hashes · concatenations` multiplications a row.
///
/// # Source
/// Andoni, Indyk, Laarhoven, Razenshteyn and Schmidt, "Practical and Optimal LSH for Angular Distance",
/// NeurIPS 2015.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrossPolytope {
    n_hashes: usize,
    concatenations: usize,
    rotation: Rotation,
    projections: Projections,
}

impl CrossPolytope {
    /// Samples `n_hashes` tables of `concatenations` rotations each.
    ///
    /// # Errors
    /// A zero size, codes that do not fit 32 bits ((2·head_dim)^concatenations > 2³²), or more than 2³⁰
    /// numbers in all.
    ///
    /// # Cost
    /// One normal a number; orthogonalising adds `2·head_dim³` multiplications a rotation.
    pub fn sample(
        head_dim: usize,
        n_hashes: usize,
        concatenations: usize,
        rotation: Rotation,
        seed: Seed,
    ) -> Result<Self> {
        let sizes = [("head_dim", head_dim), ("n_hashes", n_hashes), ("concatenations", concatenations)];
        size(&[sizes[0], sizes[0], sizes[1], sizes[2]])?;
        check_digits(head_dim, concatenations)?;
        let mut rng = seed.stream(0);
        let projections = match rotation {
            Rotation::Gaussian => Projections::normal(head_dim, n_hashes * concatenations * head_dim, &mut rng),
            Rotation::Orthogonal => {
                let matrices = (0..n_hashes * concatenations).flat_map(|_| orthogonal(head_dim, &mut rng));
                Projections::new(head_dim, matrices.collect())
            }
        };
        Ok(Self { n_hashes, concatenations, rotation, projections })
    }

    /// Rotations in a code (K).
    pub fn concatenations(&self) -> usize {
        self.concatenations
    }

    /// What turns the rows.
    pub fn rotation(&self) -> Rotation {
        self.rotation
    }

    /// Measures the probability, over draws of the family, that two unit rows at Euclidean `distance`
    /// τ = 2·sin(θ/2) get the same code.
    ///
    /// Draws `samples` pairs of rotated rows (never a whole matrix: a rotation enters by what it makes of the
    /// pair alone), counts how often one rotation sends both to one vertex, and raises the frequency to the
    /// power K. It depends on `head_dim`, the kind of rotation and K, not on the sampled matrices.
    ///
    /// ```
    /// use scatterbrain_core::Seed;
    /// use scatterbrain_hash::{CrossPolytope, Rotation};
    /// let hash = CrossPolytope::sample(64, 1, 1, Rotation::Gaussian, Seed(1))?;
    /// let p = hash.estimate_collision_probability(1.0, 10_000, Seed(2))?;
    /// assert!((p.probability - 0.0982).abs() < 4.0 * p.standard_error);
    /// # Ok::<(), scatterbrain_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// A distance outside [0, 2], no samples, or a `head_dim` of 1, where only the distances 0 and 2 exist.
    ///
    /// # Cost
    /// `2 · head_dim` normals a sample.
    pub fn estimate_collision_probability(&self, distance: f64, samples: usize, seed: Seed) -> Result<Estimate> {
        let d = self.head_dim();
        check_sphere(distance)?;
        if samples == 0 {
            return Err(Error::invalid("samples", "at least 1", 0));
        }
        if d < 2 {
            let reason = format!("rows of {d} column have no angles between 0 and pi");
            return Err(Error::Undefined { operation: "a collision probability on the sphere", reason });
        }
        let (mut rng, mut pair) = (seed.stream(0), Pair::new(d));
        let met = (0..samples).filter(|_| pair.draw(self.rotation, distance, &mut rng)).count();
        Ok(Estimate::new(met, samples, self.concatenations))
    }
}

impl HashFamily for CrossPolytope {
    fn head_dim(&self) -> usize {
        self.projections.head_dim()
    }

    fn n_hashes(&self) -> usize {
        self.n_hashes
    }

    fn codes(&self, level: Level, rows: Matrix<'_>) -> Result<Codes> {
        let d = self.head_dim();
        check_digits(d, self.concatenations)?;
        self.projections.codes(level, rows, self.n_hashes, &[self.concatenations, d], |_, projected| {
            // Digits fit 32 bits together, so only the unused last power may wrap.
            let digits = projected.chunks_exact(d).map(vertex);
            digits.rev().fold(0u32, |code, digit| code.wrapping_mul(2 * d as u32).wrapping_add(digit))
        })
    }
}

/// A measured probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The measured frequency, to the power K.
    pub probability: f64,
    /// Its standard error, from the frequency with two successes and two failures added (Agresti and Coull
    /// 1998), so that it is positive where nothing or everything was met.
    pub standard_error: f64,
}

impl Estimate {
    fn new(met: usize, samples: usize, concatenations: usize) -> Self {
        let (x, n, k) = (met as f64, samples as f64, concatenations as f64);
        let shifted = (x + 2.0) / (n + 4.0);
        let one = (shifted * (1.0 - shifted) / (n + 4.0)).sqrt();
        Self { probability: (x / n).powf(k), standard_error: k * shifted.powf(k - 1.0) * one }
    }
}

/// Measured collision probabilities of [`CrossPolytope`] over all distances of the unit sphere, joined by lines.
///
/// ```
/// use scatterbrain_core::Seed;
/// use scatterbrain_hash::{CollisionTable, CrossPolytope, Rotation};
/// let hash = CrossPolytope::sample(16, 1, 1, Rotation::Gaussian, Seed(1))?;
/// let table = CollisionTable::calibrate(&hash, 8, 2000, Seed(2))?;
/// assert_eq!(table.collision_probability(0.0)?, 1.0);
/// assert!(table.collision_probability(0.4)? > table.collision_probability(1.3)?);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollisionTable {
    /// At distances 0, 2/intervals, …, 2.
    probabilities: Vec<f64>,
}

impl CollisionTable {
    /// Measures at `intervals + 1` distances, evenly spread over [0, 2], with the same draws at each, so that the
    /// table is as smooth as the probability itself.
    ///
    /// # Errors
    /// As [`CrossPolytope::estimate_collision_probability`]; no intervals, or more than 2³⁰.
    pub fn calibrate(hash: &CrossPolytope, intervals: usize, samples: usize, seed: Seed) -> Result<Self> {
        size(&[("intervals", intervals)])?;
        let at = |i: usize| 2.0 * i as f64 / intervals as f64;
        let measure = |i| Ok(hash.estimate_collision_probability(at(i), samples, seed)?.probability);
        Ok(Self { probabilities: (0..=intervals).map(measure).collect::<Result<_>>()? })
    }

    /// The probability at a `distance`, interpolated linearly between the two measured ones around it.
    ///
    /// # Errors
    /// A distance outside [0, 2], or a stored table of less than two probabilities.
    pub fn collision_probability(&self, distance: f64) -> Result<f64> {
        check_sphere(distance)?;
        let intervals = self.probabilities.len().saturating_sub(1);
        if intervals == 0 {
            return Err(Error::invalid("probabilities", "at least 2", self.probabilities.len()));
        }
        let at = distance / 2.0 * intervals as f64;
        let left = (at as usize).min(intervals - 1);
        let (p, q) = (self.probabilities[left], self.probabilities[left + 1]);
        Ok(p + (q - p) * (at - left as f64))
    }
}

/// The leading term of the *asymptotic* logarithm of the collision probability of one rotation, as d → ∞.
///
/// ln p = −τ²/(4 − τ²) · ln d − O(ln ln d); this returns the first term. **It is not a probability and must not
/// be used as one**: at d = 64, τ = 1 its exponential is 0.25, the probability 0.098 (Gaussian) or 0.093
/// (orthogonal). It serves to compare growth in d and τ; for probabilities see
/// [`CrossPolytope::estimate_collision_probability`].
///
/// ```
/// let log = scatterbrain_hash::asymptotic_log_collision(64, 1.0)?;
/// assert!((log.exp() - 0.25).abs() < 1e-12);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
///
/// # Errors
/// A `head_dim` of 0, or a distance outside [0, 2).
///
/// # Source
/// Andoni et al., NeurIPS 2015, Theorem 1.
pub fn asymptotic_log_collision(head_dim: usize, distance: f64) -> Result<f64> {
    if head_dim == 0 {
        return Err(Error::invalid("head_dim", "at least 1", 0));
    }
    if !(0.0..2.0).contains(&distance) {
        return Err(Error::invalid("distance", "a number in [0, 2)", distance));
    }
    let square = distance * distance;
    Ok(-square / (4.0 - square) * (head_dim as f64).ln())
}

/// 2·i + sign of the largest coordinate; a NaN is never largest.
fn vertex(coordinates: &[f32]) -> u32 {
    let (mut best, mut at) = (f32::NEG_INFINITY, 0);
    for (i, y) in coordinates.iter().enumerate() {
        if y.abs() > best {
            (best, at) = (y.abs(), i);
        }
    }
    2 * at as u32 + u32::from(coordinates[at] < 0.0)
}

/// Two rotated unit rows at a distance, drawn without their rotation.
struct Pair {
    u: Vec<f32>,
    v: Vec<f32>,
    normals: [Vec<f64>; 2],
}

impl Pair {
    fn new(d: usize) -> Self {
        Self { u: vec![0.0; d], v: vec![0.0; d], normals: [vec![0.0; d], vec![0.0; d]] }
    }

    /// Whether a fresh rotation sends both rows to one vertex.
    ///
    /// x = e, y = cos θ·e + sin θ·f with e, f orthonormal. A Gaussian matrix makes of e and f independent normal
    /// vectors, a uniform orthogonal one a uniformly random orthonormal pair.
    fn draw(&mut self, rotation: Rotation, distance: f64, rng: &mut Rng) -> bool {
        let cos = 1.0 - distance * distance / 2.0;
        let sin = distance * (1.0 - distance * distance / 4.0).max(0.0).sqrt();
        self.normals.iter_mut().flatten().for_each(|x| *x = rng.normal());
        let [e, f] = &mut self.normals;
        if rotation == Rotation::Orthogonal {
            normalise(e);
            remove(e, f);
            normalise(f);
        }
        for (i, (e, f)) in e.iter().zip(f.iter()).enumerate() {
            self.u[i] = *e as f32;
            self.v[i] = (cos * e + sin * f) as f32;
        }
        vertex(&self.u) == vertex(&self.v)
    }
}

/// A uniformly random orthogonal matrix, row-major: Gram–Schmidt, twice for orthogonality to rounding, on
/// standard normals (its triangular factor has a positive diagonal, which makes the result uniform).
fn orthogonal(d: usize, rng: &mut Rng) -> Vec<f32> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(d);
    for _ in 0..d {
        let mut row: Vec<f64> = (0..d).map(|_| rng.normal()).collect();
        for earlier in rows.iter().chain(&rows) {
            remove(earlier, &mut row);
        }
        normalise(&mut row);
        rows.push(row);
    }
    rows.into_iter().flatten().map(|x| x as f32).collect()
}

/// Takes the part along the unit vector `e` out of `x`.
fn remove(e: &[f64], x: &mut [f64]) {
    let dot: f64 = e.iter().zip(x.iter()).map(|(e, x)| e * x).sum();
    x.iter_mut().zip(e).for_each(|(x, e)| *x -= dot * e);
}

fn normalise(x: &mut [f64]) {
    let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
    x.iter_mut().for_each(|x| *x /= norm);
}

fn check_sphere(distance: f64) -> Result<()> {
    if !(0.0..=2.0).contains(&distance) {
        return Err(Error::invalid("distance", "a number in [0, 2], both rows being of unit length", distance));
    }
    Ok(())
}

/// Whether (2d)^K codes fit 32 bits.
fn check_digits(head_dim: usize, concatenations: usize) -> Result<()> {
    let codes = u32::try_from(concatenations).ok().and_then(|k| (2 * head_dim as u128).checked_pow(k));
    if concatenations == 0 || codes.is_none_or(|c| c > 1 << 32) {
        let expected = format!("at least 1 and at most what fits 32 bits: {}^concatenations <= 2^32", 2 * head_dim);
        return Err(Error::invalid("concatenations", expected, concatenations));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orthogonal_rows() {
        let d = 24;
        let q = orthogonal(d, &mut Seed(3).stream(0));
        for i in 0..d {
            for j in 0..d {
                let dot: f64 = (0..d).map(|c| f64::from(q[i * d + c]) * f64::from(q[j * d + c])).sum();
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-6, "{i} {j} {dot}");
            }
        }
    }

    #[test]
    fn first_vertex_on_ties_and_no_nan() {
        assert_eq!(vertex(&[1.0, -1.0, 1.0]), 0);
        assert_eq!(vertex(&[0.5, -1.0, 1.0]), 3);
        assert_eq!(vertex(&[f32::NAN, 0.5, -1.0]), 5);
        assert_eq!(vertex(&[f32::NAN, f32::NAN]), 0);
    }

    #[test]
    fn digits_that_fit() {
        check_digits(32768, 2).unwrap(); // (2^16)^2 = 2^32
        check_digits(64, 4).unwrap();
        for (d, k) in [(64, 5), (32769, 2), (usize::MAX / 2, 1), (2, usize::MAX), (2, 0)] {
            assert!(check_digits(d, k).is_err(), "{d} {k}");
        }
    }
}
