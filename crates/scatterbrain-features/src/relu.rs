//! Generalised ReLU features.

use crate::map::{FeatureMap, LogFeatures, Role, check, half_square_norms};
use crate::{Projection, ProjectionKind};
use scatterbrain_core::{Level, Matrix, Result, Seed, kernel};
use serde::{Deserialize, Serialize};

/// φ_l(x) = m^(−1/2) max(ω_l·x, 0). Non-negative; it does not estimate exp(q·k) but the arc-cosine kernel of
/// degree 1 (halved), and has no ε: a row may **vanish** (all logs −∞), for x = 0 or with few features.
///
/// O(m·d) and m logarithms a row.
/// Choromanski et al. 2021, "Rethinking attention with Performers" ("Performer-ReLU", without its ε);
/// the kernel: Cho and Saul 2009.
///
/// ```
/// use scatterbrain_core::{Level, Matrix};
/// use scatterbrain_features::{FeatureMap, LogFeatures, Projection, ReluFeatures, Role};
/// let map = ReluFeatures::from_projection(Projection::from_parts(vec![1.0, 0.0], 1, 2)?);
/// let mut features = LogFeatures::default();
/// let rows = Matrix::new("key", &[1.0, 5.0, -1.0, 5.0], 2, 2)?;
/// map.log_features(Level::detect(), rows, 1.0, Role::Key, &mut features)?;
/// assert_eq!(features.log, [0.0, f32::NEG_INFINITY]);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReluFeatures {
    projection: Projection,
}

impl ReluFeatures {
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

impl FeatureMap for ReluFeatures {
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
        half_square_norms(level, rows, factor, role)?;
        let m = self.n_features();
        out.resize(rows.rows(), m, false);
        let half_log_m = (0.5 * (m as f64).ln()) as f32;
        self.projection.project_panels(level, rows, |rows, directions, dots| {
            let place = (m, directions.start, directions.len());
            let out = &mut out.log[rows.start * m..rows.end * m];
            kernel::relu_logs(level, dots, (factor, -half_log_m), out, place);
        });
        Ok(())
    }
}
