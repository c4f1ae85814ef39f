//! Optimal positive random features.

use crate::map::{FeatureMap, LogFeatures, Role, check, half_square_norms};
use crate::{Projection, ProjectionKind};
use scatterbrain_core::{Error, Level, Matrix, Result, Seed};
use serde::{Deserialize, Serialize};

/// φ_l(x) = m^(−1/2) D exp(A|ω_l|² + B ω_l·x − |x|²/2), ω_l ~ N(0, I), B = √(1 − 4A), D = (1 − 4A)^{d/4}.
/// Positive, unbiased for every A < 1/8; A = 0 is [`crate::PositiveFeatures`].
///
/// One feature has E X² = A_ij² (1 − 4A)^d (1 − 8A)^{−d/2} e^{|q+k|²/(1 − 8A)}, for independent ω: with a
/// suitable A < 0 ([`optimal_a`]) it stays bounded where plain positive features grow like e^{|q+k|²}.
/// A is fixed when the map is made: an A fitted to the whole sequence would let a causal row see later tokens.
/// O(m·d) a row.
/// Likhosherstov et al. 2022, "Chefs' random tables" (OPRF).
///
/// ```
/// use scatterbrain_core::{Level, Matrix, Seed};
/// use scatterbrain_features::{FeatureMap, LogFeatures, OptimalPositiveFeatures, ProjectionKind, Role, optimal_a};
/// let a = optimal_a(2.0, 4)?; // Queries and keys with |q + k|² about 2.
/// let map = OptimalPositiveFeatures::sample(4, 256, ProjectionKind::Orthogonal, a, Seed(1))?;
/// let mut features = LogFeatures::default();
/// let rows = Matrix::new("key", &[0.5, 0.5, -0.5, 0.5], 1, 4)?;
/// map.log_features(Level::detect(), rows, 1.0, Role::Key, &mut features)?;
/// let product: f32 = features.row(0).iter().map(|l| (2.0 * l).exp()).sum();
/// assert!((product / 1.0f32.exp() - 1.0).abs() < 0.3); // q = k, |q|² = 1.
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct OptimalPositiveFeatures {
    projection: Projection,
    a: f64,
    /// B.
    gain: f64,
    /// A|ω_l|² + ln D − ½ ln m.
    offsets: Vec<f32>,
}

impl OptimalPositiveFeatures {
    /// `n_features` features on as many fresh directions.
    ///
    /// # Errors
    /// `a` not below 1/8, and those of [`Projection::sample`].
    pub fn sample(head_dim: usize, n_features: usize, kind: ProjectionKind, a: f64, seed: Seed) -> Result<Self> {
        Self::from_projection(Projection::sample(kind, n_features, head_dim, seed)?, a)
    }

    /// One feature a direction of `projection`.
    ///
    /// # Errors
    /// `a` not finite or not below 1/8, where the second moment is infinite.
    pub fn from_projection(projection: Projection, a: f64) -> Result<Self> {
        if !(a.is_finite() && a < 0.125) {
            return Err(Error::invalid("a", "a finite number below 1/8", a));
        }
        let constant =
            0.25 * projection.head_dim() as f64 * (1.0 - 4.0 * a).ln() - 0.5 * (projection.rows() as f64).ln();
        let square = |row: &[f32]| row.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>();
        let offsets: Vec<f32> = projection.matrix().iter().map(|row| (a * square(row) + constant) as f32).collect();
        if let Some(x) = offsets.iter().find(|x| !x.is_finite()) {
            return Err(Error::invalid("a", "a number for which A|ω|² fits into f32", x));
        }
        Ok(Self { gain: (1.0 - 4.0 * a).sqrt(), projection, a, offsets })
    }

    /// The parameter A.
    pub fn a(&self) -> f64 {
        self.a
    }

    /// The directions ω.
    pub fn projection(&self) -> &Projection {
        &self.projection
    }
}

/// What is stored of the map.
#[derive(Serialize, Deserialize)]
struct Parts {
    projection: Projection,
    a: f64,
}

impl TryFrom<Parts> for OptimalPositiveFeatures {
    type Error = Error;

    fn try_from(parts: Parts) -> Result<Self> {
        Self::from_projection(parts.projection, parts.a)
    }
}

impl From<OptimalPositiveFeatures> for Parts {
    fn from(map: OptimalPositiveFeatures) -> Self {
        Self { projection: map.projection, a: map.a }
    }
}

/// A* = (1 − 2φ̄ − √((2φ̄ + 1)² + 8φ̄))/16 with φ̄ = `mean_square_norm_of_z`/d, z = q + k: the A ≤ 0 that
/// minimises the mean *logarithm* of the second moment over pairs with that mean of |z|².
///
/// Derivation: with u = 1 − 8A the mean log second moment over 2 ln A_ij is d·f(u),
/// f = ln((1 + u)/2) − ½ ln u + φ̄/u; f' = 0 is u² − (1 + 2φ̄)u − 2φ̄ = 0, whose positive root gives A*.
/// The minimiser of the mean second moment itself lies below it. For strict causality the mean has to come
/// from the prefix or from a calibration set.
/// Likhosherstov et al. 2022, "Chefs' random tables".
///
/// # Errors
/// A mean that is negative or not finite, or `head_dim` of 0.
///
/// ```
/// use scatterbrain_features::optimal_a;
/// assert_eq!(optimal_a(0.0, 64)?, 0.0);
/// assert!(optimal_a(64.0, 64)? < -0.25);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
pub fn optimal_a(mean_square_norm_of_z: f64, head_dim: usize) -> Result<f64> {
    if !(mean_square_norm_of_z.is_finite() && mean_square_norm_of_z >= 0.0) {
        return Err(Error::invalid("mean_square_norm_of_z", "a finite number, at least 0", mean_square_norm_of_z));
    }
    if head_dim == 0 {
        return Err(Error::invalid("head_dim", "at least 1", head_dim));
    }
    let phi = mean_square_norm_of_z / head_dim as f64;
    Ok((1.0 - 2.0 * phi - ((2.0 * phi + 1.0).powi(2) + 8.0 * phi).sqrt()) / 16.0)
}

impl FeatureMap for OptimalPositiveFeatures {
    fn head_dim(&self) -> usize {
        self.projection.head_dim()
    }

    fn n_features(&self) -> usize {
        self.projection.rows()
    }

    fn signed(&self) -> bool {
        false
    }

    fn uses_scale(&self) -> bool {
        true
    }

    fn log_features(
        &self,
        level: Level,
        rows: Matrix<'_>,
        factor: f32,
        role: Role,
        out: &mut LogFeatures,
    ) -> Result<()> {
        check(self, rows, factor, role)?;
        let norms = half_square_norms(level, rows, factor, role)?;
        let m = self.n_features();
        out.resize(rows.rows(), m, false);
        let gain = (self.gain * f64::from(factor)) as f32;
        self.projection.project(level, rows, |i, first, dots| {
            let norm = norms[i] as f32;
            let log = out.log[i * m + first..].iter_mut();
            for ((o, dot), offset) in log.zip(dots).zip(&self.offsets[first..]) {
                *o = dot * gain + offset - norm;
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minimises_the_log_second_moment() {
        for (square, d) in [(0.3, 4), (1.0, 8), (20.0, 64), (500.0, 64)] {
            let phi = square / d as f64;
            let log_moment = |a: f64| (1.0 - 4.0 * a).ln() - 0.5 * (1.0 - 8.0 * a).ln() + phi / (1.0 - 8.0 * a);
            let a = optimal_a(square, d).unwrap();
            assert!(a <= 0.0);
            for step in [1e-4, 1e-2, 0.1] {
                assert!(log_moment(a) < log_moment(a - step), "{square} {d} {a}");
                assert!(a + step >= 0.125 || log_moment(a) < log_moment(a + step), "{square} {d} {a}");
            }
        }
    }

    #[test]
    fn refuses() {
        let sample = |a| OptimalPositiveFeatures::sample(4, 8, ProjectionKind::Gaussian, a, Seed(0));
        for a in [0.125, 1.0, f64::NAN, f64::NEG_INFINITY, -1e300] {
            assert!(sample(a).is_err(), "{a}");
        }
        assert!(optimal_a(-1.0, 4).is_err() && optimal_a(1.0, 0).is_err() && optimal_a(f64::NAN, 4).is_err());
        let json = serde_json::to_string(&sample(-0.1).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<OptimalPositiveFeatures>(&json).unwrap(), sample(-0.1).unwrap());
        assert!(serde_json::from_str::<OptimalPositiveFeatures>(&json.replace("-0.1}", "0.5}")).is_err());
    }
}
