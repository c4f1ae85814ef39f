//! A feature map of one's own.

use crate::capture::Fit;
use anyhow::Result;
use scatterbrain_attention::features::{FeatureMap, LogFeatures, Projection, ProjectionKind, Role, optimal_a};
use scatterbrain_attention::{Level, Matrix, Seed};

/// Optimal positive features with a parameter an axis (SDERF, Likhosherstov et al. 2023, arXiv 2302.00787), on rows whose
/// axes are those of E zzᵀ; and perhaps a share of rank one, every key weighing what the mean key does.
#[derive(Debug)]
pub(crate) struct PerAxis {
    pub(crate) projection: Projection,
    pub(crate) a: Vec<f64>,
    pub(crate) share: Option<f64>,
    /// √s times the mean key.
    pub(crate) mean: Vec<f64>,
}

impl PerAxis {
    pub(crate) fn sample(fit: &Fit, count: usize, share: Option<f64>) -> Result<Self> {
        let a = fit.axes.iter().map(|&square| optimal_a(square, 1)).collect::<Result<_, _>>()?;
        let projection = Projection::sample(ProjectionKind::Orthogonal, count, fit.d(), Seed(2))?;
        Ok(Self { projection, a, share, mean: fit.mean.clone() })
    }
}

impl FeatureMap for PerAxis {
    fn head_dim(&self) -> usize {
        self.a.len()
    }

    fn n_features(&self) -> usize {
        self.projection.rows() + usize::from(self.share.is_some())
    }

    fn signed(&self) -> bool {
        false
    }

    fn uses_scale(&self) -> bool {
        true
    }

    fn log_features(
        &self,
        _: Level,
        rows: Matrix<'_>,
        factor: f32,
        role: Role,
        out: &mut LogFeatures,
    ) -> scatterbrain_attention::Result<()> {
        out.resize(rows.rows(), self.n_features(), false);
        let count = self.projection.rows() as f64;
        for (row, out) in rows.iter().zip(out.log.chunks_exact_mut(self.n_features())) {
            let x: Vec<f64> = row.iter().map(|x| f64::from(x * factor)).collect();
            let half = 0.5 * x.iter().map(|x| x * x).sum::<f64>();
            for (direction, out) in self.projection.matrix().iter().zip(out.iter_mut()) {
                let axis = |((&w, x), a): ((&f32, &f64), &f64)| {
                    let w = f64::from(w);
                    a * w * w + (1.0 - 4.0 * a).sqrt() * w * x + 0.25 * (1.0 - 4.0 * a).ln()
                };
                let sum: f64 = direction.iter().zip(&x).zip(&self.a).map(axis).sum();
                *out = (sum - half - 0.5 * count.ln() + 0.5 * (1.0 - self.share.unwrap_or(0.0)).ln()) as f32;
            }
            if let Some(share) = self.share {
                let logit = x.iter().zip(&self.mean).map(|(x, mean)| x * mean).sum::<f64>();
                let logit = if role == Role::Query { logit } else { 0.0 };
                *out.last_mut().expect("a feature") = (0.5 * share.ln() + logit) as f32;
            }
        }
        Ok(())
    }
}
