//! elu + 1, the map of linear attention.

use crate::map::{FeatureMap, LogFeatures, Role, check};
use scatterbrain_core::{Error, Level, Matrix, Result, kernel};
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// φ_l(x) = elu(x_l) + 1: x_l + 1 where x_l > 0, e^{x_l} elsewhere; one feature a column. Positive; it does
/// not estimate exp(q·k).
///
/// The **raw** rows are mapped: neither the softmax scale nor any factor enters. Outputs of the linear attention
/// of Scatterbrain's authors (commit 6b73449, default temperature 1/√d) come out to 1.3e-7 so, and are off by 0.067
/// or more with the temperature on query, key or both. O(d) a row.
/// Katharopoulos et al. 2020, "Transformers are RNNs"; the linear baseline of Chen et al. 2021, "Scatterbrain".
///
/// ```
/// use scatterbrain_features::{EluFeatures, FeatureMap};
/// let map = EluFeatures::new(64)?;
/// assert_eq!((map.n_features(), map.uses_scale()), (64, false));
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EluFeatures {
    head_dim: NonZeroUsize,
}

impl EluFeatures {
    /// The map of rows of `head_dim` columns.
    ///
    /// # Errors
    /// `head_dim` of 0.
    pub fn new(head_dim: usize) -> Result<Self> {
        match NonZeroUsize::new(head_dim) {
            Some(head_dim) => Ok(Self { head_dim }),
            None => Err(Error::invalid("head_dim", "at least 1", head_dim)),
        }
    }
}

impl FeatureMap for EluFeatures {
    fn head_dim(&self) -> usize {
        self.head_dim.get()
    }

    fn n_features(&self) -> usize {
        self.head_dim.get()
    }

    fn signed(&self) -> bool {
        false
    }

    fn uses_scale(&self) -> bool {
        false
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
        out.resize(rows.rows(), self.n_features(), false);
        kernel::elu_logs(level, rows, &mut out.log);
        Ok(())
    }
}
