//! Rows to codes of 8 bits with a scale a row, small enough that sums of their products fit where they are added up.

use crate::{Level, Matrix};
use pulp::{Simd, WithSimd};

/// Columns that a code row is padded to a multiple of.
pub const QUAD: usize = 4;

/// Lanes of the plain loops below: their sums are the same at every level.
const LANES: usize = 8;

/// Codes made at once: four vectors of numbers are one of codes.
const WIDE: usize = 32;

/// Rows whose norms are found before their codes: what a row waits for (sums of eight lanes, a root, divisions) passes
/// while others are added up.
const TOGETHER: usize = 16;

/// Adding this to a number of magnitude up to 2²² rounds it to an integer, ties to even, in the low bits.
const ROUND: f32 = 12_582_912.0;

/// 2⁻¹⁰⁰.
const TINY: f32 = f32::from_bits(27 << 23);

/// The limit that [`quantise_rows`] needs for [`super::scan()`] of rows of `cols` columns at a level.
///
/// With VNNI, whose sums are of 32 bits, infinity, or 0 from 2¹⁷ columns. Else so much that two rows of codes have
/// products of at most 2¹⁵ − 1 in magnitude over the even and over the odd pairs of columns, by Cauchy and Schwarz, also
/// after rounding, which moves either half by at most √h/2 if it has h columns: 181 − √h/2, which is 0 from some 262 000
/// columns.
pub fn product_limit(level: Level, cols: usize) -> f32 {
    if level.has_fine_codes() {
        return if cols < 1 << 17 { f32::INFINITY } else { 0.0 };
    }
    let even = cols / QUAD * 2 + (cols % QUAD).min(2);
    (181.0 - (even as f32).sqrt() / 2.0).max(0.0)
}

/// Quantises rows: `codes[j][c] = round(x_j[c] / scales[j])`, padded with zeros to a multiple of [`QUAD`] columns.
///
/// ```text
/// u = x / max_c |x_c|
/// t = min(most, limit / max(|u_even|, |u_odd|))        columns 0, 1, 4, 5, 8, … and 2, 3, 6, 7, 10, …
/// code = round(t·u)        scale = max_c |x_c| / t
/// ```
///
/// A code depends on its own row only. |code| ≤ `most`. `limit` bounds the norms of the two halves of a row of codes before
/// rounding: [`product_limit`] for [`super::scan()`], infinity for none. Rows must be finite; those of zeros or of numbers
/// whose scale would be 0 in f32, and all where `most` or the limit is not positive, have codes and scale 0. Scales are
/// finite.
///
/// # Panics
/// If `codes` has not `rows.cols()` rounded up for every row, or `scales` not one number.
///
/// # Cost
/// Three passes over a row in the first cache.
pub fn quantise_rows(level: Level, rows: Matrix<'_>, most: i8, limit: f32, codes: &mut [i8], scales: &mut [f32]) {
    let width = rows.cols().next_multiple_of(QUAD);
    assert!(codes.len() == rows.rows() * width && scales.len() == rows.rows(), "codes and scales");
    level.run(Quantise { rows, most: f32::from(most), limit, codes, width, scales });
}

struct Quantise<'a> {
    rows: Matrix<'a>,
    most: f32,
    limit: f32,
    codes: &'a mut [i8],
    width: usize,
    scales: &'a mut [f32],
}

impl WithSimd for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { rows, most, limit, codes, width, scales } = self;
        for (block, (codes, scales)) in codes.chunks_mut(TOGETHER * width).zip(scales.chunks_mut(TOGETHER)).enumerate()
        {
            let row = |at: usize| rows.row(block * TOGETHER + at);
            let mut tops = [0.0; TOGETHER];
            for (at, top) in tops.iter_mut().enumerate().take(scales.len()) {
                *top = largest(row(at));
            }
            let units = tops.map(Unit::of);
            let mut squares = [0.0; TOGETHER];
            if limit.is_finite() {
                for (at, (square, unit)) in squares.iter_mut().zip(&units).enumerate().take(scales.len()) {
                    *square = larger_half(add_squares(row(at), unit));
                }
            }
            let fitting =
                if limit.is_finite() { squares.map(|square| limit / square.sqrt()) } else { [most; TOGETHER] };
            let (mut steps, mut of_rows) = ([0.0; TOGETHER], [0.0; TOGETHER]);
            for at in 0..TOGETHER {
                let fits = if tops[at] > 0.0 && limit > 0.0 { most.min(fitting[at]) } else { 0.0 };
                steps[at] = fits;
                of_rows[at] = if fits > 0.0 { (tops[at] / fits).min(f32::MAX) } else { 0.0 };
            }
            scales.copy_from_slice(&of_rows[..scales.len()]);
            for (at, (codes, scale)) in codes.chunks_exact_mut(width).zip(scales).enumerate() {
                let row = row(at);
                codes[row.len()..].fill(0);
                // Codes of scale 0 would be NaN beside a product that overflows.
                if *scale > 0.0 {
                    encode(row, units[at], steps[at], codes);
                } else {
                    codes.fill(0);
                }
            }
        }
    }
}

/// Quotients by the largest magnitude of a row, as products: a division takes as long as five.
#[derive(Clone, Copy)]
struct Unit {
    /// A power of two that keeps the inverse of the tiniest numbers finite.
    up: f32,
    inverse: f32,
}

impl Unit {
    #[inline(always)]
    fn of(largest: f32) -> Self {
        let up = if largest < TINY { 1.0 / TINY } else { 1.0 };
        Self { up, inverse: 1.0 / (largest * up) }
    }

    /// x / largest, to two roundings.
    #[inline(always)]
    fn times(&self, x: f32) -> f32 {
        x * self.up * self.inverse
    }
}

/// round(steps · x / largest).
#[inline(always)]
fn encode(row: &[f32], unit: Unit, steps: f32, codes: &mut [i8]) {
    let factor = unit.inverse * steps;
    let code = |x: f32| (x * unit.up * factor + ROUND).to_bits() as i8;
    let (many, rest) = row.as_chunks::<WIDE>();
    let (many_codes, rest_codes) = codes[..row.len()].as_chunks_mut::<WIDE>();
    for (codes, many) in many_codes.iter_mut().zip(many) {
        *codes = many.map(code);
    }
    rest_codes.iter_mut().zip(rest).for_each(|(c, x)| *c = code(*x));
}

/// max |x|.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let (eights, rest) = row.as_chunks::<LANES>();
    let mut tops = [0.0f32; LANES];
    for eight in eights {
        for (top, x) in tops.iter_mut().zip(eight) {
            *top = if x.abs() > *top { x.abs() } else { *top };
        }
    }
    let most = |a: f32, b: f32| if b > a { b } else { a };
    rest.iter().fold(halves(tops, most), |top, x| most(top, x.abs()))
}

/// Of |x / largest|², what each lane adds up: of columns that are alike modulo [`LANES`].
#[inline(always)]
fn add_squares(row: &[f32], unit: &Unit) -> [f32; LANES] {
    let (eights, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for eight in eights {
        for (sum, x) in sums.iter_mut().zip(eight) {
            let x = unit.times(*x);
            *sum += x * x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += unit.times(*x).powi(2);
    }
    sums
}

/// The sum over the even pairs of columns or that over the odd ones.
#[inline(always)]
fn larger_half(lanes: [f32; LANES]) -> f32 {
    let pair = |at: usize| (lanes[at] + lanes[at + QUAD]) + (lanes[at + 1] + lanes[at + QUAD + 1]);
    pair(0).max(pair(2))
}

/// All lanes in one, the upper half with the lower one each time.
#[inline(always)]
fn halves(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(a, b)| *a = join(*a, *b));
        half /= 2;
    }
    lanes[0]
}
