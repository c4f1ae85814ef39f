//! The largest magnitude of rows, and whether all are finite, in one pass.

use crate::view::Halves;
use crate::{Level, Matrix, Tensor};
use pulp::{Simd, WithSimd};

/// What [`extent`] finds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extent {
    /// The largest finite |x|.
    pub largest: f32,
    /// Whether no element is NaN or infinite.
    pub finite: bool,
}

/// The extent of the first `rows` rows; of none: 0 and finite.
///
/// # Panics
/// If there are fewer rows.
pub fn extent(level: Level, matrix: Matrix<'_>, rows: usize) -> Extent {
    assert!(rows <= matrix.rows(), "{rows} rows of {}", matrix.rows());
    level.run_wide(Scan { matrix, rows })
}

/// [`extent`] of a head of a tensor. Halves are compared by their bits and not converted, unless some is not finite.
///
/// # Panics
/// If there is no such head, or it has fewer rows.
pub fn head_extent(level: Level, tensor: &Tensor<'_>, batch: usize, head: usize, rows: usize) -> Extent {
    assert!(rows <= tensor.shape()[2], "{rows} rows of {}", tensor.shape()[2]);
    if let Some(halves) = tensor.halves(batch, head) {
        let largest = halves.value(level.run_wide(LargestBits { halves, rows }));
        if largest.is_finite() {
            return Extent { largest, finite: true };
        }
    }
    extent(level, tensor.head(batch, head).matrix(), rows)
}

/// The largest bits without their sign: halves are ordered as these are.
struct LargestBits<'a> {
    halves: Halves<'a>,
    rows: usize,
}

impl WithSimd for LargestBits<'_> {
    type Output = u16;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u16 {
        let Self { halves, rows } = self;
        // Two chains, as one would wait for itself.
        let (mut tops, mut last) = ([simd.splat_u16s(0); 2], 0);
        let mut raise = |run: &[u16]| {
            let (vectors, rest) = S::as_simd_u16s(run);
            for (at, x) in vectors.iter().enumerate() {
                tops[at % 2] = simd.max_u16s(tops[at % 2], simd.and_u16s(*x, simd.splat_u16s(MAGNITUDE)));
            }
            last = rest.iter().fold(last, |top: u16, x| top.max(x & MAGNITUDE));
        };
        if halves.cols == halves.row_stride {
            raise(&halves.bits[..rows * halves.cols]);
        } else {
            (0..rows).for_each(|i| raise(halves.row(i)));
        }
        let lanes: &[u16] = pulp::bytemuck::cast_slice(&tops);
        lanes.iter().copied().fold(last, u16::max)
    }
}

/// All bits of a half but its sign.
const MAGNITUDE: u16 = u16::MAX >> 1;

struct Scan<'a> {
    matrix: Matrix<'a>,
    rows: usize,
}

impl WithSimd for Scan<'_> {
    type Output = Extent;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Extent {
        let mut looked = Looked { tops: [simd.splat_f32s(0.0); 4], odd: [simd.splat_f32s(0.0); 4], largest: 0.0 };
        match self.matrix.run(self.rows) {
            Some(run) => look(simd, run, &mut looked),
            None => self.matrix.iter().take(self.rows).for_each(|row| look(simd, row, &mut looked)),
        }
        let Looked { tops, odd, mut largest } = looked;
        let odd = simd.add_f32s(simd.add_f32s(odd[0], odd[1]), simd.add_f32s(odd[2], odd[3]));
        let sound = simd.equal_f32s(odd, simd.splat_f32s(0.0));
        if simd.first_true_m32s(simd.not_m32s(sound)) < S::F32_LANES || !largest.is_finite() {
            return without_others(simd, self.matrix, self.rows);
        }
        for top in tops {
            largest = largest.max(simd.reduce_max_f32s(top));
        }
        Extent { largest, finite: true }
    }
}

/// What [`look`] has seen; four chains, as one would wait for itself.
struct Looked<S: Simd> {
    /// The largest magnitudes, where all is finite.
    tops: [S::f32s; 4],
    /// NaN where something was not finite, else 0.
    odd: [S::f32s; 4],
    /// Of what filled no vector; NaN or ∞ where something was.
    largest: f32,
}

#[inline(always)]
fn look<S: Simd>(simd: S, run: &[f32], looked: &mut Looked<S>) {
    let (vectors, tail) = S::as_simd_f32s(run);
    let (fours, rest) = vectors.as_chunks::<4>();
    for four in fours {
        for v in 0..4 {
            look_at(simd, four[v], &mut looked.tops[v], &mut looked.odd[v]);
        }
    }
    for x in rest {
        look_at(simd, *x, &mut looked.tops[0], &mut looked.odd[0]);
    }
    for x in tail {
        // Adding 0·x makes NaN of what is not finite, and `max` would drop a NaN.
        looked.largest = if looked.largest.is_nan() { f32::NAN } else { looked.largest.max(x.abs()) + 0.0 * x };
    }
}

#[inline(always)]
fn look_at<S: Simd>(simd: S, x: S::f32s, top: &mut S::f32s, odd: &mut S::f32s) {
    *top = simd.max_f32s(*top, magnitude(simd, x));
    *odd = simd.mul_add_e_f32s(x, simd.splat_f32s(0.0), *odd);
}

/// Not pulp's abs, which is a call where crates are compiled apart.
#[inline(always)]
fn magnitude<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let bits = simd.and_u32s(simd.transmute_u32s_f32s(x), simd.splat_u32s(u32::MAX >> 1));
    simd.transmute_f32s_u32s(bits)
}

/// The rare case: the largest of those elements that are finite.
#[inline(always)]
fn without_others<S: Simd>(simd: S, matrix: Matrix<'_>, rows: usize) -> Extent {
    let (mut top, mut largest) = (simd.splat_f32s(0.0), 0.0f32);
    for row in matrix.iter().take(rows) {
        let (vectors, tail) = S::as_simd_f32s(row);
        for x in vectors {
            let size = magnitude(simd, *x);
            let sound = simd.less_than_or_equal_f32s(size, simd.splat_f32s(f32::MAX));
            top = simd.max_f32s(top, simd.select_f32s(sound, size, simd.splat_f32s(0.0)));
        }
        largest = tail.iter().filter(|x| x.is_finite()).fold(largest, |a, x| a.max(x.abs()));
    }
    Extent { largest: largest.max(simd.reduce_max_f32s(top)), finite: false }
}
