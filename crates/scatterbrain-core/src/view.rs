//! Strided views over caller-owned memory.

use crate::{Error, Level, Result, kernel};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::slice::ChunksExact;

/// Elements of a tensor; everything is computed in f32.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Data<'a> {
    /// 32-bit floats, read in place where columns are contiguous.
    F32(&'a [f32]),
    /// IEEE half precision, converted a head at a time.
    F16(&'a [f16]),
    /// bfloat16, converted a head at a time.
    Bf16(&'a [bf16]),
}

impl Data<'_> {
    fn len(&self) -> usize {
        match self {
            Data::F32(x) => x.len(),
            Data::F16(x) => x.len(),
            Data::Bf16(x) => x.len(),
        }
    }
}

/// Rows that are converted at once.
const CONVERTED: usize = 32;

/// A view of `[batch, heads, rows, columns]` with any strides (in elements; 0 repeats an axis).
///
/// ```
/// use scatterbrain_core::Tensor;
/// let data = vec![0.0f32; 2 * 3 * 5 * 4];
/// let query = Tensor::f32("query", &data, [2, 3, 5, 4])?;
/// assert_eq!(query.head(1, 2).matrix().row(4).len(), 4);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    data: Data<'a>,
    shape: [usize; 4],
    strides: [usize; 4],
}

impl<'a> Tensor<'a> {
    /// A contiguous f32 tensor. `argument` names it in errors.
    ///
    /// # Errors
    /// A zero size, or a length that differs from the product of `shape`.
    pub fn f32(argument: &'static str, data: &'a [f32], shape: [usize; 4]) -> Result<Self> {
        Self::contiguous(argument, Data::F32(data), shape)
    }

    /// A contiguous tensor of any element type.
    ///
    /// # Errors
    /// A zero size, or a length that differs from the product of `shape`.
    pub fn contiguous(argument: &'static str, data: Data<'a>, shape: [usize; 4]) -> Result<Self> {
        let [_, h, n, d] = shape;
        if shape.contains(&0) {
            return Err(Error::invalid(argument, "sizes of at least 1", format!("shape {shape:?}")));
        }
        let expected = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
        if expected != Some(data.len()) {
            return Err(Error::invalid(
                argument,
                format!("{} elements for shape {shape:?}", expected.map_or("too many".into(), |e| e.to_string())),
                data.len(),
            ));
        }
        let strides = [h * n * d, n * d, d, 1];
        Self::strided(argument, data, shape, strides)
    }

    /// A tensor with strides of its own, element (b, h, i, c) at `Σ index·stride`.
    ///
    /// # Errors
    /// A zero size, or strides that reach beyond `data`.
    pub fn strided(argument: &'static str, data: Data<'a>, shape: [usize; 4], strides: [usize; 4]) -> Result<Self> {
        if shape.contains(&0) {
            return Err(Error::invalid(argument, "sizes of at least 1", format!("shape {shape:?}")));
        }
        let last = shape.iter().zip(&strides).try_fold(0usize, |a, (&s, &t)| a.checked_add((s - 1).checked_mul(t)?));
        if last.is_none_or(|l| l >= data.len()) {
            return Err(Error::invalid(
                argument,
                format!(
                    "at least {} elements for shape {shape:?} and strides {strides:?}",
                    last.map_or("too many".into(), |l| (l.saturating_add(1)).to_string())
                ),
                data.len(),
            ));
        }
        Ok(Self { data, shape, strides })
    }

    /// `[batch, heads, rows, columns]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// One head as f32 rows: borrowed where it is f32 with contiguous columns, else converted.
    ///
    /// # Panics
    /// If `batch` or `head` is out of range.
    pub fn head(&self, batch: usize, head: usize) -> Rows<'a> {
        let [b, h, rows, cols] = self.shape;
        assert!(batch < b && head < h, "head ({batch}, {head}) of {b} x {h}");
        let base = batch * self.strides[0] + head * self.strides[1];
        let [_, _, row_stride, col_stride] = self.strides;
        if let Data::F32(data) = self.data
            && col_stride == 1
            && row_stride >= cols
        {
            let end = base + (rows - 1) * row_stride + cols;
            return Rows::Borrowed(Matrix { data: &data[base..end], rows, cols, row_stride });
        }
        // A few rows at a time in the first cache: memory that is zeroed first would be written twice.
        let (mut data, mut part) = (Vec::with_capacity(rows * cols), vec![0.0; CONVERTED.min(rows) * cols]);
        let halves = self.halves(batch, head);
        for start in (0..rows).step_by(CONVERTED) {
            let part = &mut part[..CONVERTED.min(rows - start) * cols];
            match halves {
                Some(halves) => kernel::widen(Level::detect(), halves.from(start), part),
                None => {
                    (start..).zip(part.chunks_exact_mut(cols)).for_each(|(i, out)| self.read_row(batch, head, i, out))
                }
            }
            data.extend_from_slice(part);
        }
        Rows::Owned { data, rows, cols }
    }

    /// A head as the bits of halves, where it holds halves whose columns are contiguous.
    ///
    /// # Panics
    /// If `batch` or `head` is out of range.
    pub(crate) fn halves(&self, batch: usize, head: usize) -> Option<Halves<'a>> {
        let [b, h, rows, cols] = self.shape;
        assert!(batch < b && head < h, "head ({batch}, {head}) of {b} x {h}");
        let (bits, brain) = match self.data {
            Data::F32(_) => return None,
            Data::F16(x) => (x.reinterpret_cast(), false),
            Data::Bf16(x) => (x.reinterpret_cast(), true),
        };
        let [_, _, row_stride, col_stride] = self.strides;
        let base = batch * self.strides[0] + head * self.strides[1];
        (col_stride == 1).then(|| {
            let bits = &bits[base..base + (rows - 1) * row_stride + cols];
            Halves { bits, cols, row_stride, brain }
        })
    }
}

impl Tensor<'_> {
    /// Copies one row of a head, converted.
    ///
    /// # Panics
    /// If there is no such row, or `out` has not its length.
    pub fn read_row(&self, batch: usize, head: usize, row: usize, out: &mut [f32]) {
        let [b, h, rows, cols] = self.shape;
        assert!(batch < b && head < h && row < rows && out.len() == cols, "row ({batch}, {head}, {row})");
        let [batches, heads, row_stride, col_stride] = self.strides;
        let start = batch * batches + head * heads + row * row_stride;
        match self.data {
            Data::F32(x) => copy(&x[start..], col_stride, out, |v| v),
            Data::F16(x) => copy(&x[start..], col_stride, out, f16::to_f32),
            Data::Bf16(x) => copy(&x[start..], col_stride, out, bf16::to_f32),
        }
    }
}

fn copy<T: Copy>(from: &[T], stride: usize, out: &mut [f32], convert: impl Fn(T) -> f32) {
    for (c, o) in out.iter_mut().enumerate() {
        *o = convert(from[c * stride]);
    }
}

/// Rows of halves as their bits.
#[derive(Clone, Copy)]
pub(crate) struct Halves<'a> {
    pub(crate) bits: &'a [u16],
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    /// Whether they are bfloat16.
    pub(crate) brain: bool,
}

impl<'a> Halves<'a> {
    #[inline(always)]
    pub(crate) fn row(&self, at: usize) -> &'a [u16] {
        &self.bits[at * self.row_stride..][..self.cols]
    }

    /// Without the first rows.
    pub(crate) fn from(self, start: usize) -> Self {
        Self { bits: &self.bits[start * self.row_stride..], ..self }
    }

    /// The number that these bits are.
    pub(crate) fn value(&self, bits: u16) -> f32 {
        if self.brain { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() }
    }
}

/// Rows of one head, borrowed from the caller or converted.
#[derive(Debug, Clone)]
pub enum Rows<'a> {
    /// The caller's memory.
    Borrowed(Matrix<'a>),
    /// A converted or repaired copy, row-major and contiguous.
    Owned {
        /// `rows * cols` elements.
        data: Vec<f32>,
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        cols: usize,
    },
}

impl Rows<'_> {
    /// The rows as a matrix view.
    pub fn matrix(&self) -> Matrix<'_> {
        match self {
            Rows::Borrowed(m) => *m,
            Rows::Owned { data, rows, cols } => Matrix { data, rows: *rows, cols: *cols, row_stride: *cols },
        }
    }
}

/// A view of f32 rows, contiguous within a row.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A contiguous row-major matrix.
    ///
    /// # Errors
    /// Where `data` is not `rows * cols` long, or a size is zero.
    pub fn new(argument: &'static str, data: &'a [f32], rows: usize, cols: usize) -> Result<Self> {
        if rows == 0 || cols == 0 || rows.checked_mul(cols) != Some(data.len()) {
            return Err(Error::invalid(argument, format!("{rows} x {cols} elements, both at least 1"), data.len()));
        }
        Ok(Self { data, rows, cols, row_stride: cols })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i >= rows`.
    #[inline(always)]
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.row_stride..i * self.row_stride + self.cols]
    }

    /// `count` rows from `start` as strides of memory, of which the first `cols` elements are the row's, and the last row
    /// by itself: it may end with the memory. So a loop over strides has nothing to check.
    #[inline(always)]
    pub(crate) fn strides(&self, start: usize, count: usize) -> (ChunksExact<'a, f32>, Option<&'a [f32]>) {
        let Some(last) = count.checked_sub(1) else { return ([].chunks_exact(self.row_stride), None) };
        let whole = &self.data[start * self.row_stride..(start + last) * self.row_stride];
        (whole.chunks_exact(self.row_stride), Some(self.row(start + last)))
    }

    /// The first `rows` rows as one run of memory, where nothing stands between rows.
    pub(crate) fn run(&self, rows: usize) -> Option<&'a [f32]> {
        (self.row_stride == self.cols).then(|| &self.data[..rows * self.cols])
    }

    /// The first `rows` rows.
    ///
    /// # Panics
    /// If there are fewer, or `rows` is 0.
    pub fn first_rows(&self, rows: usize) -> Matrix<'a> {
        self.slice(0..rows)
    }

    /// Consecutive rows.
    ///
    /// # Panics
    /// If the range is empty or reaches beyond the rows.
    pub fn slice(&self, rows: std::ops::Range<usize>) -> Matrix<'a> {
        assert!(rows.start < rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        // Cut behind the last row too, or rows after it could be read.
        let data = &self.data[rows.start * self.row_stride..(rows.end - 1) * self.row_stride + self.cols];
        Matrix { data, rows: rows.len(), ..*self }
    }

    /// All rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [f32]> + use<'a> {
        let m = *self;
        (0..m.rows).map(move |i| m.row(i))
    }
}
