//! What a feature map is, and what it writes.

use scatterbrain_core::kernel::{self, PANEL};
use scatterbrain_core::{Error, Level, Matrix, Result};
use std::fmt::Debug;

/// Which side of the product a row stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A query row.
    Query,
    /// A key row.
    Key,
}

impl Role {
    /// The name of the argument in errors.
    pub fn argument(self) -> &'static str {
        match self {
            Role::Query => "query",
            Role::Key => "key",
        }
    }

    /// The factor that absorbs the softmax scale s in the rows: √|s|, and −√|s| for queries where s < 0, so
    /// that (factor·q)·(factor·k) = s·q·k.
    ///
    /// ```
    /// use scatterbrain_features::Role;
    /// assert_eq!((Role::Query.factor(-4.0), Role::Key.factor(-4.0)), (-2.0, 2.0));
    /// ```
    pub fn factor(self, scale: f32) -> f32 {
        let root = scale.abs().sqrt();
        if self == Role::Query && scale < 0.0 { -root } else { root }
    }
}

/// A map φ whose products stand for attention: φ(q)·φ(k) ≈ exp(q·k).
///
/// Maps whose features never change sign make every background weight, and so every row of attention,
/// non-negative; [`FeatureMap::signed`] says which do not.
pub trait FeatureMap: Send + Sync + Debug {
    /// Columns of the rows that it takes.
    fn head_dim(&self) -> usize;

    /// Features it makes of a row.
    fn n_features(&self) -> usize;

    /// Whether features can be negative: then no row is promised to be a probability vector.
    fn signed(&self) -> bool;

    /// Whether rows are to be multiplied by [`Role::factor`]. Maps that answer no ignore `factor`.
    fn uses_scale(&self) -> bool;

    /// Writes φ(factor·x) of every row x: natural logs of |φ|, −∞ for 0, and signs where the map has them.
    /// `out` is resized to `[rows, n_features]` and overwritten.
    /// A NaN or infinity in a row shows in that row alone.
    ///
    /// # Errors
    /// Columns other than `head_dim`, a `factor` that is not finite, or finite rows whose squared norm
    /// overflows f32.
    fn log_features(
        &self,
        level: Level,
        rows: Matrix<'_>,
        factor: f32,
        role: Role,
        out: &mut LogFeatures,
    ) -> Result<()>;

    /// The logs of [`FeatureMap::log_features`], to the bit, with rows in lanes: `[n_features][PANEL]` for every
    /// [`PANEL`] rows, one after the other; lanes without a row are unspecified. `out` is resized and overwritten.
    ///
    /// Tiles of queries ask for this. The default transposes; a map that projects packed rows on its directions need
    /// not.
    ///
    /// # Errors
    /// As [`FeatureMap::log_features`].
    fn log_panels(&self, level: Level, rows: Matrix<'_>, factor: f32, role: Role, out: &mut Vec<f32>) -> Result<()> {
        let mut logs = LogFeatures::default();
        self.log_features(level, rows, factor, role, &mut logs)?;
        logs.write_panels(level, out);
        Ok(())
    }
}

/// Features of rows, as logarithms of their sizes.
///
/// ```
/// use scatterbrain_core::{Level, Matrix};
/// use scatterbrain_features::{EluFeatures, FeatureMap, LogFeatures, Role};
/// let map = EluFeatures::new(2)?;
/// let mut features = LogFeatures::default();
/// let rows = Matrix::new("key", &[1.0, 0.0], 1, 2)?;
/// map.log_features(Level::detect(), rows, 1.0, Role::Key, &mut features)?;
/// assert_eq!(features.row(0), [2.0f32.ln(), 0.0]);
/// assert_eq!(features.values(0), (2.0f32.ln(), vec![1.0, 0.5]));
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogFeatures {
    /// Features of a row.
    pub n_features: usize,
    /// Natural log of |φ|, row-major `[rows, n_features]`; −∞ for 0.
    pub log: Vec<f32>,
    /// Where the map changes sign: whether φ < 0, row-major `[rows, n_features]`.
    pub negative: Option<Vec<bool>>,
}

impl LogFeatures {
    /// Makes room for `[rows, n_features]`, keeping memory. What it holds afterwards is unspecified.
    pub fn resize(&mut self, rows: usize, n_features: usize, signed: bool) {
        self.n_features = n_features;
        self.log.resize(rows * n_features, f32::NEG_INFINITY);
        if signed {
            self.negative.get_or_insert_default().resize(rows * n_features, false);
        } else {
            self.negative = None;
        }
    }

    /// Writes the logs with rows in lanes ([`FeatureMap::log_panels`]).
    pub(crate) fn write_panels(&self, level: Level, out: &mut Vec<f32>) {
        let size = self.n_features * PANEL;
        out.resize(self.rows().div_ceil(PANEL) * size, 0.0);
        for (panel, rows) in out.chunks_exact_mut(size).zip(self.log.chunks(size)) {
            kernel::pack_rows(level, rows, self.n_features, panel);
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.log.len().checked_div(self.n_features).unwrap_or(0)
    }

    /// Logs of row `i`.
    ///
    /// # Panics
    /// If `i >= rows`.
    #[inline]
    pub fn row(&self, i: usize) -> &[f32] {
        &self.log[i * self.n_features..(i + 1) * self.n_features]
    }

    /// Signs of row `i`, where the map has them.
    ///
    /// # Panics
    /// If `i >= rows`.
    #[inline]
    pub fn negative_row(&self, i: usize) -> Option<&[bool]> {
        self.negative.as_ref().map(|n| &n[i * self.n_features..(i + 1) * self.n_features])
    }

    /// Row `i` as (log-scale, values in [−1, 1]): φ = exp(log-scale)·value, the largest |value| being 1.
    /// A row of zeros has log-scale −∞.
    ///
    /// # Panics
    /// If `i >= rows`.
    pub fn values(&self, i: usize) -> (f32, Vec<f32>) {
        let row = self.row(i);
        let scale = row.iter().fold(f32::NEG_INFINITY, |a, &b| if a.is_nan() || b <= a { a } else { b });
        if scale == f32::NEG_INFINITY {
            return (scale, vec![0.0; row.len()]);
        }
        let mut values: Vec<f32> = row.iter().map(|l| kernel::exp(l - scale)).collect();
        if let Some(negative) = self.negative_row(i) {
            values.iter_mut().zip(negative).filter(|(_, n)| **n).for_each(|(v, _)| *v = -*v);
        }
        (scale, values)
    }
}

/// The checks that open every map's `log_features`.
pub(crate) fn check(map: &dyn FeatureMap, rows: Matrix<'_>, factor: f32, role: Role) -> Result<()> {
    if rows.cols() != map.head_dim() {
        return Err(Error::invalid(role.argument(), format!("rows of {} columns", map.head_dim()), rows.cols()));
    }
    if !factor.is_finite() {
        return Err(Error::invalid("factor", "a finite number", factor));
    }
    Ok(())
}

/// ½|factor·x|² of every row, in f64, so that its rounding does not depend on the SIMD level.
///
/// # Errors
/// Where the row is finite and its squared norm is not, in f32.
pub(crate) fn half_square_norms(level: Level, rows: Matrix<'_>, factor: f32, role: Role) -> Result<Vec<f64>> {
    let square = f64::from(factor).powi(2);
    let mut norms = vec![0.0; rows.rows()];
    kernel::square_norms(level, rows, &mut norms);
    for (i, norm) in norms.iter_mut().enumerate() {
        *norm *= square;
        if *norm > f64::from(f32::MAX) && rows.row(i).iter().all(|x| x.is_finite()) {
            return Err(Error::Overflow {
                argument: role.argument(),
                quantity: "a row's squared norm",
                magnitude: format!("{norm:e}"),
            });
        }
        *norm *= 0.5;
    }
    Ok(norms)
}

/// Number of projections for `n_features` features that come in pairs.
pub(crate) fn pairs(n_features: usize) -> Result<usize> {
    if n_features == 0 || !n_features.is_multiple_of(2) {
        return Err(Error::invalid("n_features", "an even number, at least 2", n_features));
    }
    Ok(n_features / 2)
}
