//! Singular values of a matrix.

use super::DecomposeError;
use super::input::Input;
use super::product::{Dense, eigenvalues, gram};
use scatterbrain_core::Matrix;

/// All singular values of a matrix, falling.
///
/// They are the square roots of the eigenvalues of AAᵀ or AᵀA, whichever is smaller: three times as fast as from A
/// itself, with an error of a value's *square* of about 1e-16 of the largest square, so that values below 1e-8 of the
/// largest are noise, and sums of squares are exact to rounding.
/// `[n, m]` gives min(n, m) values.
///
/// # Errors
/// Entries that are not finite.
///
/// # Cost
/// O(n m min(n, m)) time, 8 (n m + 2 min(n, m)²) bytes.
///
/// ```
/// use scatterbrain_combine::decompose::singular_values;
/// let data = [3.0, 0.0, 0.0, 0.0, -4.0, 0.0];
/// let matrix = scatterbrain_core::Matrix::new("matrix", &data, 2, 3)?;
/// let values = singular_values(&matrix)?;
/// assert!((values[0] - 4.0).abs() < 1e-12 && (values[1] - 3.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn singular_values(matrix: &Matrix<'_>) -> Result<Vec<f64>, DecomposeError> {
    spectrum(&Input::check(matrix, false)?)
}

pub(super) fn spectrum(input: &Input<'_>) -> Result<Vec<f64>, DecomposeError> {
    let gram = gram(&Dense { data: input.dense(), n: input.n, m: input.m });
    Ok(eigenvalues(gram.as_ref())?.into_iter().rev().map(|x| x.max(0.0).sqrt()).collect())
}
