//! FAVOR+ positive features.

use crate::map::{FeatureMap, LogFeatures, Role, check, half_square_norms};
use crate::projection::{Projection, ProjectionKind};
use scatterbrain_core::{Level, Matrix, Result, Seed};
use serde::{Deserialize, Serialize};

/// φ_l(x) = m^(−1/2) exp(ω_l·x − |x|²/2), ω_l ~ N(0, I): positive, with E[φ(q)·φ(k)] = exp(q·k).
///
/// Var = e^{|q+k|²} (1 − e^{−|q+k|²}) A²/m for independent ω. O(m·d) a row.
/// Choromanski et al. 2021, "Rethinking attention with Performers", Lemma 1.
///
/// ```
/// use scatterbrain_core::{Level, Matrix, Seed};
/// use scatterbrain_features::{FeatureMap, LogFeatures, PositiveFeatures, ProjectionKind, Role};
/// let map = PositiveFeatures::sample(4, 4096, ProjectionKind::Orthogonal, Seed(1))?;
/// let rows = Matrix::new("query", &[0.5, 0.0, -0.25, 0.0], 1, 4)?;
/// let mut features = LogFeatures::default();
/// map.log_features(Level::detect(), rows, 1.0, Role::Query, &mut features)?;
/// let product: f32 = features.row(0).iter().map(|l| (2.0 * l).exp()).sum();
/// assert!((product / 0.3125f32.exp() - 1.0).abs() < 0.2); // q = k, |q|² = 0.3125.
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PositiveFeatures {
    projection: Projection,
}

impl PositiveFeatures {
    /// `n_features` features on as many fresh directions.
    ///
    /// # Errors
    /// Those of [`Projection::sample`].
    pub fn sample(head_dim: usize, n_features: usize, kind: ProjectionKind, seed: Seed) -> Result<Self> {
        Ok(Self::from_projection(Projection::sample(kind, n_features, head_dim, seed)?))
    }

    /// One feature a direction of `projection`.
    pub fn from_projection(projection: Projection) -> Self {
        Self { projection }
    }

    /// The directions ω.
    pub fn projection(&self) -> &Projection {
        &self.projection
    }
}

impl PositiveFeatures {
    /// −½|factor·x|² − ½ ln m of every row.
    fn offsets(&self, level: Level, rows: Matrix<'_>, factor: f32, role: Role) -> Result<Vec<f32>> {
        check(self, rows, factor, role)?;
        let norms = half_square_norms(level, rows, factor, role)?;
        let half_log_m = 0.5 * (self.n_features() as f64).ln();
        Ok(norms.iter().map(|norm| (-norm - half_log_m) as f32).collect())
    }
}

impl FeatureMap for PositiveFeatures {
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
        let offset = self.offsets(level, rows, factor, role)?;
        let m = self.n_features();
        out.resize(rows.rows(), m, false);
        self.projection.affine((level, rows), factor, &offset, &mut out.log, m, &[(1.0, 0)]);
        Ok(())
    }

    fn log_panels(&self, level: Level, rows: Matrix<'_>, factor: f32, role: Role, out: &mut Vec<f32>) -> Result<()> {
        let offset = self.offsets(level, rows, factor, role)?;
        let m = self.n_features();
        self.projection.affine_panels((level, rows), factor, &offset, out, m, &[(1.0, 0)]);
        Ok(())
    }
}
