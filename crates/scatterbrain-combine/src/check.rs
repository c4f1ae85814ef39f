//! What is checked before the work: shapes, budgets, ranges; and where non-finite values stand.

use scatterbrain_core::kernel::{self, Extent};
use scatterbrain_core::{Error, Level, Mask, Result, Rows, Tensor};

/// Logits and squared norms may reach this; beyond, differences of logits could overflow.
const LARGEST: f64 = f32::MAX as f64 / 16.0;

/// Elements of an output that some machine could hold.
const LONGEST: usize = isize::MAX as usize / 4;

/// Sums of values may reach this: weights reach 2^8 where a logit exceeds its row's reference ([`kernel::SLACK`]).
const LARGEST_SUM: f64 = LARGEST / 256.0;

/// The same where weights are in the scale of features that may exceed their reference by e^32.
const LARGEST_GROWN_SUM: f64 = LARGEST / 7.9e13;

/// Sizes of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub n: usize,
    pub m: usize,
    pub d_v: usize,
}

impl Sizes {
    pub(crate) fn check(query: &Tensor<'_>, key: &Tensor<'_>, value: &Tensor<'_>, mask: &Mask<'_>) -> Result<Self> {
        let [batch, heads, n, d] = query.shape();
        let [key_batch, kv_heads, m, key_d] = key.shape();
        let [value_batch, value_heads, value_m, d_v] = value.shape();
        if key_batch != batch || key_d != d {
            return Err(Error::invalid("key", format!("[{batch}, kv_heads, m, {d}]"), format!("{:?}", key.shape())));
        }
        if heads % kv_heads != 0 {
            return Err(Error::invalid("kv_heads", format!("a divisor of {heads} heads"), kv_heads));
        }
        if (value_batch, value_heads, value_m) != (batch, kv_heads, m) {
            let expected = format!("[{batch}, {kv_heads}, {m}, d_v]");
            return Err(Error::invalid("value", expected, format!("{:?}", value.shape())));
        }
        if n.max(m) > u32::MAX as usize / 2 {
            return Err(Error::invalid("n, m", "at most 2^31 - 1 rows", n.max(m)));
        }
        let product =
            |sizes: &[usize]| sizes.iter().try_fold(1usize, |a, &b| a.checked_mul(b)).filter(|&x| x < LONGEST);
        if product(&[batch, heads, n, d_v]).is_none() {
            let got = format!("[{batch}, {heads}, {n}, {d_v}]");
            return Err(Error::invalid("query", format!("an output of less than {LONGEST} elements"), got));
        }
        mask.check(batch, heads, n, m)?;
        Ok(Self { batch, heads, kv_heads, n, m, d_v })
    }
}

/// Rows of one tensor that hold a NaN or an infinity.
pub(crate) type Tainted = Vec<bool>;

/// Replaces rows that are not finite by zeros, so that they reach nothing but the rows that use them. `extent` is that
/// of the `used` first rows.
pub(crate) fn repair(rows: &mut Rows<'_>, used: usize, extent: Extent) -> Option<Tainted> {
    if extent.finite {
        return None;
    }
    let matrix = rows.matrix();
    let finite = |i: usize| matrix.row(i).iter().all(|x| x.is_finite());
    let tainted: Tainted = (0..matrix.rows()).map(|i| i < used && !finite(i)).collect();
    let (count, cols) = (matrix.rows(), matrix.cols());
    let mut data: Vec<f32> = matrix.iter().flatten().copied().collect();
    for (row, _) in data.chunks_exact_mut(cols).zip(&tainted).filter(|(_, t)| **t) {
        row.fill(0.0);
    }
    *rows = Rows::Owned { data, rows: count, cols };
    Some(tainted)
}

/// Refuses finite values whose sums leave f32. `grown`: weights may be in the scale of a background that grows.
pub(crate) fn check_values(value: Extent, length: usize, grown: bool) -> Result<()> {
    let magnitude = f64::from(value.largest) * length as f64;
    if magnitude > if grown { LARGEST_GROWN_SUM } else { LARGEST_SUM } {
        let magnitude = format!("{magnitude:.1e}");
        return Err(Error::Overflow { argument: "value", quantity: "the largest sum over keys", magnitude });
    }
    Ok(())
}

/// One side of a head, as [`check_range`] looks at it.
pub(crate) struct Side<'a> {
    tensor: &'a Tensor<'a>,
    /// Batch entry and head.
    at: (usize, usize),
    used: usize,
    pub extent: Extent,
}

impl<'a> Side<'a> {
    /// The first `used` rows of a head.
    pub(crate) fn new(level: Level, tensor: &'a Tensor<'a>, at: (usize, usize), used: usize) -> Self {
        Self { tensor, at, used, extent: kernel::head_extent(level, tensor, at.0, at.1, used) }
    }

    /// The largest squared norm of finite rows.
    fn largest_norm(&self, level: Level) -> f64 {
        let mut norms = vec![0.0; self.used];
        kernel::square_norms(level, self.tensor.head(self.at.0, self.at.1).matrix(), &mut norms);
        norms.into_iter().filter(|x| x.is_finite()).fold(0.0, f64::max)
    }

    /// No less than it, and had without a look at the rows.
    fn bound(&self) -> f64 {
        self.tensor.shape()[3] as f64 * f64::from(self.extent.largest).powi(2)
    }
}

/// Refuses finite inputs whose logits or norms leave f32. Rows that are not finite are left to [`repair`].
pub(crate) fn check_range(level: Level, query: &Side<'_>, key: &Side<'_>, scale: f32) -> Result<()> {
    if range(query.bound(), key.bound(), scale).is_ok() {
        return Ok(());
    }
    range(query.largest_norm(level), key.largest_norm(level), scale)
}

/// [`check_range`] of the largest squared norms.
fn range(q: f64, k: f64, scale: f32) -> Result<()> {
    let scale = f64::from(scale.abs());
    for (argument, quantity, magnitude) in [
        ("query", "scale times the squared norm", scale * q),
        ("key", "scale times the squared norm", scale * k),
        ("query", "the largest norm", q.sqrt()),
        ("key", "the largest norm", k.sqrt()),
        ("query, key", "the largest logit", scale * (q * k).sqrt()),
    ] {
        if magnitude > LARGEST {
            return Err(Error::Overflow { argument, quantity, magnitude: format!("{magnitude:.1e}") });
        }
    }
    Ok(())
}
