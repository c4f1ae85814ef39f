//! Rows in 8 bits with a scale of their own.

use scatterbrain_core::kernel::{QUAD, product_limit, quantise_rows};
use scatterbrain_core::{Error, Level, Matrix, Result};

/// Rows as codes of 8 bits and a scale a row: x_j ≈ scale_j · code_j.
///
/// ```text
/// code_j[c] = round(x_j[c] / scale_j)        scale_j = max(max_c |x_j[c]| / most, max(|x_j|_even, |x_j|_odd) / limit)
/// ```
///
/// |code| ≤ `most`, and [`scan`](scatterbrain_core::kernel::scan()) takes products of two rows of codes. At levels where it adds
/// them in 16 bits, the second bound sees to that: the norms of x_j over the even and over the odd pairs of columns, and
/// `limit` = [`product_limit`]. [`QuantisedRows::whole_range`] never has it.
/// An element is off by at most half of its row's scale; a row's codes depend on no other row, so that one of outliers
/// spoils itself alone.
///
/// ```
/// use scatterbrain_core::{Level, Matrix};
/// use scatterbrain_hash::QuantisedRows;
/// let rows = [1.0, -0.5, 0.25, 0.0, 3e6, 6e6];
/// let rows = QuantisedRows::new(Level::detect(), Matrix::new("rows", &rows, 3, 2)?, 100)?;
/// assert_eq!(rows.row(0)[..2], [100, -50]);
/// assert_eq!(rows.row(1)[..2], [100, 0]);
/// assert_eq!(rows.row(2)[..2], [50, 100]);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
///
/// # Cost
/// Some ten operations an element; one byte an element and four a row are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantisedRows {
    codes: Vec<i8>,
    scales: Vec<f32>,
    width: usize,
}

impl QuantisedRows {
    /// Quantises finite rows to codes of at most `most` in magnitude.
    ///
    /// # Errors
    /// `most` outside 1 to 127.
    pub fn new(level: Level, rows: Matrix<'_>, most: i8) -> Result<Self> {
        Self::limited(level, rows, most, product_limit(level, rows.cols()))
    }

    /// With `scale_j = max_c |x_j[c]| / most`: finer, but for products of 32 bits.
    ///
    /// # Errors
    /// `most` outside 1 to 127.
    pub fn whole_range(level: Level, rows: Matrix<'_>, most: i8) -> Result<Self> {
        Self::limited(level, rows, most, f32::INFINITY)
    }

    fn limited(level: Level, rows: Matrix<'_>, most: i8, limit: f32) -> Result<Self> {
        if most < 1 {
            return Err(Error::invalid("most", "1 to 127", most));
        }
        let width = rows.cols().next_multiple_of(QUAD);
        let (mut codes, mut scales) = (vec![0; rows.rows() * width], vec![0.0; rows.rows()]);
        quantise_rows(level, rows, most, limit, &mut codes, &mut scales);
        Ok(Self { codes, scales, width })
    }

    /// All codes, `[rows, width]`.
    pub fn codes(&self) -> &[i8] {
        &self.codes
    }

    /// The codes of a row, zeros behind its columns.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[i8] {
        &self.codes[row * self.width..(row + 1) * self.width]
    }

    /// One scale a row.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Codes of a row: its columns, rounded up to a multiple of [`QUAD`].
    pub fn width(&self) -> usize {
        self.width
    }
}
