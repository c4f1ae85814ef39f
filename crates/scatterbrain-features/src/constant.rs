//! The uniform row.

use crate::map::{FeatureMap, LogFeatures, Role, check};
use scatterbrain_core::{Error, Level, Matrix, Result};
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// One feature, φ(x) = 1, of every row: attention spread evenly over the visible keys. O(1) a row.
///
/// What a row is is not looked at: not even a NaN shows.
///
/// ```
/// use scatterbrain_core::{Level, Matrix};
/// use scatterbrain_features::{Constant, FeatureMap, LogFeatures, Role};
/// let mut features = LogFeatures::default();
/// let rows = Matrix::new("key", &[1.0, 2.0, 3.0, 4.0], 2, 2)?;
/// Constant::new(2)?.log_features(Level::detect(), rows, 1.0, Role::Key, &mut features)?;
/// assert_eq!(features.log, [0.0, 0.0]);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constant {
    head_dim: NonZeroUsize,
}

impl Constant {
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

impl FeatureMap for Constant {
    fn head_dim(&self) -> usize {
        self.head_dim.get()
    }

    fn n_features(&self) -> usize {
        1
    }

    fn signed(&self) -> bool {
        false
    }

    fn uses_scale(&self) -> bool {
        false
    }

    fn log_features(&self, _: Level, rows: Matrix<'_>, factor: f32, role: Role, out: &mut LogFeatures) -> Result<()> {
        check(self, rows, factor, role)?;
        out.resize(rows.rows(), 1, false);
        out.log.fill(0.0);
        Ok(())
    }
}
