//! What a feature map is, and the log-scaled features it gives.

use scatterbrain_core::{Level, Matrix, Result};
use std::fmt::Debug;

/// Which side of a logit a row is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A query.
    Query,
    /// A key.
    Key,
}

/// A map from rows x to features φ(x) with E[φ(q)·φ(k)] = exp(q·k), or an approximation of it.
pub trait FeatureMap: Send + Sync + Debug {
    /// Columns of a row.
    fn head_dim(&self) -> usize;
    /// Features of a row.
    fn n_features(&self) -> usize;
    /// Whether features can be negative.
    fn signed(&self) -> bool;
    /// Whether the softmax scale is absorbed into the rows.
    fn uses_scale(&self) -> bool {
        true
    }
    /// ln |φ_l(factor·x)| of every row.
    ///
    /// # Errors
    /// Rows of another width.
    fn log_features(&self, level: Level, rows: Matrix<'_>, factor: f32, role: Role, out: &mut LogFeatures) -> Result<()>;
}

/// ln |φ| of some rows, and signs where a map has them.
#[derive(Debug, Clone, Default)]
pub struct LogFeatures {
    n_features: usize,
    log: Vec<f32>,
    negative: Option<Vec<bool>>,
}

impl LogFeatures {
    /// Features of a row.
    pub fn n_features(&self) -> usize {
        self.n_features
    }
    /// Row i.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.log[i * self.n_features..(i + 1) * self.n_features]
    }
    /// All signs.
    pub fn negative(&self) -> Option<&[bool]> {
        self.negative.as_deref()
    }
    /// Signs of a row.
    pub fn negative_row(&self, i: usize) -> Option<&[bool]> {
        self.negative.as_ref().map(|n| &n[i * self.n_features..(i + 1) * self.n_features])
    }
}
