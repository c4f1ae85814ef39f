//! What is checked before any work.

use rayon::prelude::*;
use scatterbrain_core::{Error, Matrix, Result};

/// A row sum may differ from one by this: far above the rounding of f32 sums, far below an unnormalised row.
const ROW_SUM_SLACK: f64 = 1e-3;

/// A checked matrix.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) matrix: Matrix<'a>,
    pub(super) n: usize,
    pub(super) m: usize,
    /// ‖A‖_F.
    pub(super) norm: f64,
}

impl<'a> Input<'a> {
    /// Refuses what is not finite and, where it has to be, not normalised.
    pub(super) fn check(matrix: &Matrix<'a>, normalised: bool) -> Result<Self> {
        let (n, m) = (matrix.rows(), matrix.cols());
        if n.max(m) > u32::MAX as usize / 2 {
            return Err(Error::invalid("matrix", "at most 2^31 - 1 rows and columns", format!("{n} x {m}")));
        }
        let squares: Vec<f64> =
            (0..n).into_par_iter().map(|i| check_row(i, matrix.row(i), normalised)).collect::<Result<_>>()?;
        Ok(Self { matrix: *matrix, n, m, norm: squares.iter().sum::<f64>().sqrt() })
    }

    /// A in f64, row-major.
    pub(super) fn dense(&self) -> Vec<f64> {
        self.matrix.iter().flatten().map(|&a| f64::from(a)).collect()
    }
}

/// The squared norm of a row.
fn check_row(i: usize, row: &[f32], normalised: bool) -> Result<f64> {
    if let Some((j, x)) = row.iter().enumerate().find(|(_, x)| !x.is_finite()) {
        return Err(Error::invalid("matrix", "finite entries", format!("{x} at ({i}, {j})")));
    }
    let sum: f64 = row.iter().map(|&x| f64::from(x)).sum();
    if normalised && sum != 0.0 && (sum - 1.0).abs() > ROW_SUM_SLACK {
        let got = format!("row {i} with sum {sum}; say so if the matrix is not normalised");
        return Err(Error::invalid("matrix", "rows that sum to one", got));
    }
    Ok(row.iter().map(|&x| f64::from(x).powi(2)).sum())
}

/// Refuses what no iteration can start with.
pub(super) fn check_stopping(max_iterations: usize, tolerance: f64, stagnation: usize) -> Result<()> {
    if max_iterations == 0 {
        return Err(Error::invalid("max_iterations", "at least 1", 0));
    }
    if !(tolerance > 0.0 && tolerance < 1.0) {
        return Err(Error::invalid("tolerance", "a number between 0 and 1", tolerance));
    }
    if stagnation == 0 {
        return Err(Error::invalid("stagnation", "at least 1", 0));
    }
    Ok(())
}
