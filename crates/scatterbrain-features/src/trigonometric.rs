//! Trigonometric (random Fourier) features of the softmax kernel.

use crate::map::{FeatureMap, LogFeatures, Role, check, half_square_norms, pairs};
use crate::{Projection, ProjectionKind};
use scatterbrain_core::{Level, Matrix, Result, Seed};
use serde::{Deserialize, Serialize};

/// φ(x) = r^(−1/2) e^{|x|²/2} [cos ω_l·x, sin ω_l·x], ω_l ~ N(0, I), l < r = m/2: the r cosines come first.
/// Unbiased, **signed**: φ(q)·φ(k) = e^{(|q|²+|k|²)/2} · mean_l cos(ω_l·(q − k)) can be negative, so that rows
/// of attention need not be probabilities.
///
/// A weight is the small difference of products of cosines and sines: f32 keeps it to some 2⁻²⁴ of Σ_l |φ_l(q)||φ_l(k)|,
/// not of itself.
///
/// Var = e^{|q|²+|k|²} ½(1 − e^{−|q−k|²})²/r for independent ω: it vanishes at q = k, where positive
/// features are worst. O(m·d/2) and m sines a row.
/// Rahimi and Recht 2007; Choromanski et al. 2021, "Rethinking attention with Performers" (SM^{trig}).
///
/// ```
/// use scatterbrain_core::{Level, Matrix, Seed};
/// use scatterbrain_features::{FeatureMap, LogFeatures, ProjectionKind, Role, TrigonometricFeatures};
/// let map = TrigonometricFeatures::sample(2, 6, ProjectionKind::Gaussian, Seed(1))?;
/// let mut features = LogFeatures::default();
/// let rows = Matrix::new("key", &[0.5, -0.5], 1, 2)?;
/// map.log_features(Level::detect(), rows, 1.0, Role::Key, &mut features)?;
/// let (log_scale, values) = features.values(0);
/// let square: f32 = values.iter().map(|v| v * v).sum();
/// assert!(((2.0 * log_scale).exp() * square - 0.5f32.exp()).abs() < 1e-5); // Exact for q = k.
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrigonometricFeatures {
    projection: Projection,
}

impl TrigonometricFeatures {
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

impl FeatureMap for TrigonometricFeatures {
    fn head_dim(&self) -> usize {
        self.projection.head_dim()
    }

    fn n_features(&self) -> usize {
        2 * self.projection.rows()
    }

    fn signed(&self) -> bool {
        true
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
        let (r, m) = (self.projection.rows(), self.n_features());
        out.resize(rows.rows(), m, true);
        let half_log_r = 0.5 * (r as f64).ln();
        let LogFeatures { log, negative, .. } = out;
        let negative = negative.as_mut().expect("resized with signs");
        self.projection.project(level, rows, |i, first, dots| {
            let offset = (norms[i] - half_log_r) as f32;
            for (t, dot) in dots.iter().enumerate() {
                let (sin, cos) = (dot * factor).sin_cos();
                for (at, value) in [(i * m + first + t, cos), (i * m + r + first + t, sin)] {
                    log[at] = value.abs().ln() + offset;
                    negative[at] = value < 0.0;
                }
            }
        });
        Ok(())
    }
}
