//! Positive features in pairs [ω, −ω].

use crate::map::{FeatureMap, LogFeatures, Role, check, half_square_norms, pairs};
use crate::projection::{Projection, ProjectionKind};
use scatterbrain_core::{Level, Matrix, Result, Seed};
use serde::{Deserialize, Serialize};

/// φ_l(x) = m^(−1/2) exp(±ω_l·x − |x|²/2), ω_l ~ N(0, I): feature l < r takes +ω_l, feature l ≥ r takes
/// −ω_{l−r}, with r = m/2 directions. Positive, unbiased; two features for one projection.
///
/// At an equal count of features the variance is that of [`crate::PositiveFeatures`] times
/// 1 − e^{−|q+k|²}, for independent ω. O(m·d/2) a row.
/// Choromanski et al. 2021, "Rethinking attention with Performers", Lemma 1 (SM^{hyp+}).
///
/// ```
/// use scatterbrain_core::{Level, Matrix, Seed};
/// use scatterbrain_features::{FeatureMap, HyperbolicFeatures, LogFeatures, ProjectionKind, Role};
/// let map = HyperbolicFeatures::sample(2, 6, ProjectionKind::Gaussian, Seed(1))?;
/// let mut features = LogFeatures::default();
/// let rows = Matrix::new("key", &[0.5, -0.5], 1, 2)?;
/// map.log_features(Level::detect(), rows, 1.0, Role::Key, &mut features)?;
/// let row = features.row(0);
/// let both = -0.5 - 6.0f32.ln(); // ω and −ω cancel: twice −|x|²/2 − ½ ln m.
/// assert!((row[0] + row[3] - both).abs() < 1e-6);
/// assert!(HyperbolicFeatures::sample(2, 5, ProjectionKind::Gaussian, Seed(1)).is_err());
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HyperbolicFeatures {
    projection: Projection,
}

impl HyperbolicFeatures {
    /// `n_features` features on half as many fresh directions.
    ///
    /// # Errors
    /// An odd `n_features`, and those of [`Projection::sample`].
    pub fn sample(head_dim: usize, n_features: usize, kind: ProjectionKind, seed: Seed) -> Result<Self> {
        Ok(Self::from_projection(Projection::sample(kind, pairs(n_features)?, head_dim, seed)?))
    }

    /// Two features a direction of `projection`.
    pub fn from_projection(projection: Projection) -> Self {
        Self { projection }
    }

    /// The directions ω, half as many as features.
    pub fn projection(&self) -> &Projection {
        &self.projection
    }
}

impl HyperbolicFeatures {
    /// −½|factor·x|² − ½ ln m of every row.
    fn offsets(&self, level: Level, rows: Matrix<'_>, factor: f32, role: Role) -> Result<Vec<f32>> {
        check(self, rows, factor, role)?;
        let norms = half_square_norms(level, rows, factor, role)?;
        let half_log_m = 0.5 * (self.n_features() as f64).ln();
        Ok(norms.iter().map(|norm| (-norm - half_log_m) as f32).collect())
    }
}

impl FeatureMap for HyperbolicFeatures {
    fn head_dim(&self) -> usize {
        self.projection.head_dim()
    }

    fn n_features(&self) -> usize {
        2 * self.projection.rows()
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
        let offset = self.offsets(level, rows, factor, role)?;
        let m = self.n_features();
        out.resize(rows.rows(), m, false);
        self.projection.affine((level, rows), factor, &offset, &mut out.log, m, &[(1.0, 0), (-1.0, m / 2)]);
        Ok(())
    }

    fn log_panels(&self, level: Level, rows: Matrix<'_>, factor: f32, role: Role, out: &mut Vec<f32>) -> Result<()> {
        let offset = self.offsets(level, rows, factor, role)?;
        let m = self.n_features();
        self.projection.affine_panels((level, rows), factor, &offset, out, m, &[(1.0, 0), (-1.0, m / 2)]);
        Ok(())
    }
}
