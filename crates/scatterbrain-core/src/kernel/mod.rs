//! Safe tile operations, one per file. None is generic outside: each picks its code by [`crate::Level`] once
//! a call.
//!
//! # Panels
//! Vector lanes are *queries*: [`PANEL`] rows of a matrix are kept transposed, `panel[column][PANEL]`
//! ([`pack`]). Then scores of a tile, its maxima and its sums need no horizontal operation, and key and value
//! rows are read in place, one broadcast an element, so that keys may be listed in any order without copying.
//!
//! | operation | formula |
//! |---|---|
//! | [`product()`] | `out[j][r] = Σ_c panel[c][r] · row_j[c]`, of any number of panels ([`panels_at_once`]) |
//! | [`weighted_sum()`] | `acc[c][r] += Σ_j w[j][r] · row_j[c]`, the same |
//! | [`dot_rows`], [`weighted_sum_rows`] | the two for one row and listed ones |
//! | [`softmax()`] | running reference, 2^x and sum of a tile of scores, background weights subtracted |
//! | [`hide()`] | hidden pairs of a tile of scores |
//! | [`scale_lanes`], [`blend_lanes`], [`add_lanes`] | `panel[c][r]·f[r] + other[c][r]·g[r]`, `Σ_c panel[c][r]` |
//! | [`raise_weighted`] | `max_j weights[j]·panel[j][r]` |
//! | [`exp()`], [`exp2()`] | element-wise; the second is the softmax's own |
//! | [`ln_slice`], [`elu_logs`], [`relu_logs`] | natural logarithms, and those of two feature maps |
//! | [`sign_bits`], [`largest_signed`] | codes of projections |
//! | [`select()`] | the largest scores of every lane, as bits ([`for_chosen`], [`for_chosen_lanes`]) |
//! | [`quantise_rows`], [`scan()`] | codes of rows with a scale a row; `product` of codes |
//! | [`coarse_softmax()`] | [`softmax()`] in lower precision, and a second sum, weighted by key |
//! | [`code_weights`], [`weighted_code_sum()`] | codes of weights, and the heavy ones; `weighted_sum` of codes |
//! | [`square_norm`], [`square_norms`] | Σ x², in f64 |
//! | [`affine_rows`], [`raise`], [`exp_below`] | logarithms of features, their maxima, features |
//! | [`affine_lanes`], [`lane_tops`], [`exp_lanes`] | the same three with queries in lanes |
//! | [`lane_argmax`], [`lanes_from`] | the row of the largest number of every lane, the rows of those above a bound |
//! | [`gather_rows`], [`scatter_rows`] | rows from and to scattered places |
//! | [`extent()`] | the largest magnitude |

/// Runs an expression with the rows that `keys` names, once a kind.
macro_rules! row_lookup {
    ($matrix:expr, $keys:expr, |$rows:ident| $run:expr) => {
        match $keys {
            $crate::tile::Keys::Range(range) => {
                let $rows = super::Consecutive { matrix: $matrix, start: range.start };
                $run
            }
            $crate::tile::Keys::List(list) => {
                let $rows = super::Listed { matrix: $matrix, keys: list };
                $run
            }
        }
    };
}
/// Cuts `0..count` in shares of at most six, as even as can be, and runs the body for each with its start and its size
/// as a constant: rows or columns that a micro-kernel takes at once. With two vectors each, twelve accumulators, one or
/// two vectors of the panel and one broadcast fill sixteen registers. Eight accumulators reach 93 % of the FMA peak on
/// Zen 4 (each chain must then issue at every fourth cycle), twelve 98 %.
macro_rules! each_share {
    ($count:expr, |$at:ident, $size:ident| $body:block) => {
        each_share!(@cut 6, $count, $at, $size, $body, 1 2 3 4 5 6)
    };
    // Where one vector is a whole panel: twelve accumulators again.
    (wide $count:expr, |$at:ident, $size:ident| $body:block) => {
        each_share!(@cut 12, $count, $at, $size, $body, 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    (@cut $most:literal, $count:expr, $at:ident, $size:ident, $body:block, $($n:literal)*) => {{
        let count: usize = $count;
        let shares = count.div_ceil($most);
        let (least, more) = (count / shares.max(1), count % shares.max(1));
        let mut $at = 0;
        for share in 0..shares {
            let size = least + usize::from(share < more);
            each_share!(@match size, $size, $body, $($n)*);
            $at += size;
        }
    }};
    (@match $got:ident, $size:ident, $body:block, $($n:literal)*) => {
        match $got {
            $($n => { const $size: usize = $n; $body })*
            _ => unreachable!("a share"),
        }
    };
}

mod argmax;
mod coarse_softmax;
mod code_weights;
mod codes;
mod copy;
mod exp;
mod exp2;
mod extent;
mod features;
mod group_sums;
mod hide;
mod lanes;
mod ln;
mod logs;
mod norms;
mod pack;
mod product;
mod quantise;
mod rows;
mod scan;
mod select;
mod softmax;
mod subtract_row;
mod weighted_code_sum;
mod weighted_sum;
mod widen;

pub use argmax::{lane_argmax, lanes_from};
pub use coarse_softmax::coarse_softmax;
pub use code_weights::{Coding, WeightCodes, code_weights};
pub use codes::{largest_signed, sign_bits};
pub use copy::{gather_rows, scatter_rows};
pub use exp::{exp, exp_slice};
pub use exp2::{exp2, exp2_slice};
pub use extent::{Extent, extent, head_extent};
pub use features::{affine_lanes, affine_rows, exp_below, exp_lanes, lane_tops, raise};
pub use group_sums::add_to_groups;
pub use hide::{Seen, hide};
pub use lanes::{add_lanes, blend_lanes, raise_weighted, scale_lanes};
pub use ln::ln_slice;
pub use logs::{elu_logs, relu_logs};
pub use norms::{square_norm, square_norms};
pub use pack::{pack, pack_rows, unpack, unpack_rows};
pub use product::product;
pub use quantise::{QUAD, product_limit, quantise_rows};
pub use rows::{dot_rows, weighted_sum_rows};
pub use scan::{QueryCodes, key_code, scan};
pub use select::{HIDDEN, WORD, for_chosen, for_chosen_lanes, select};
pub use softmax::{NOTHING, Running, SLACK, Subtract, Taken, softmax};
pub use subtract_row::subtract_row;
pub use weighted_code_sum::{CODE_KEYS, CodeRows, weighted_code_sum};
pub use weighted_sum::weighted_sum;
pub(crate) use widen::widen;

/// Rows in a panel.
pub const PANEL: usize = 16;

use crate::tile::Keys;
use crate::{Level, Matrix};
use product::add_column;
use pulp::Simd;

/// Panels that products take at once where a vector holds a whole one: four with six rows, 24 accumulators of 32 registers.
const PANELS: usize = 4;

/// How many panels [`product()`] and [`weighted_sum()`] take at once at a level: 4 with AVX-512, else 1. More are no faster
/// together than one call after the other.
pub fn panels_at_once(level: Level) -> usize {
    if level.is_wide() { PANELS } else { 1 }
}

/// Rows that a kernel visits, monomorphised for consecutive and listed ones.
trait RowsOf<'a>: Copy {
    /// The row at a position.
    fn row(&self, at: usize) -> &'a [f32];

    /// `sums[p][c] += Σ_j weights[p][j] · row_{from + j}[column + c]` for V vectors of lanes from `first`.
    #[inline(always)]
    fn add_columns<S: Simd, const P: usize, const V: usize, const N: usize>(
        &self,
        simd: S,
        weights: &[&[[f32; PANEL]]; P],
        from: usize,
        column: usize,
        first: usize,
        sums: &mut [[[S::f32s; V]; N]; P],
    ) {
        let count = weights[0].len();
        let weights: [&[[f32; PANEL]]; P] = std::array::from_fn(|p| &weights[p][..count]);
        for at in 0..count {
            let w = std::array::from_fn(|p| &weights[p][at]);
            add_column(simd, w, first, elements(self.row(from + at), column), sums);
        }
    }
}

/// Consecutive rows: whole memory from the first, cut by stride.
#[derive(Clone, Copy)]
struct Consecutive<'a> {
    matrix: Matrix<'a>,
    start: usize,
}

/// Listed rows.
#[derive(Clone, Copy)]
struct Listed<'a, 'k> {
    matrix: Matrix<'a>,
    keys: &'k [u32],
}

impl<'a> RowsOf<'a> for Consecutive<'a> {
    #[inline(always)]
    fn row(&self, at: usize) -> &'a [f32] {
        self.matrix.row(self.start + at)
    }

    #[inline(always)]
    fn add_columns<S: Simd, const P: usize, const V: usize, const N: usize>(
        &self,
        simd: S,
        weights: &[&[[f32; PANEL]]; P],
        from: usize,
        column: usize,
        first: usize,
        sums: &mut [[[S::f32s; V]; N]; P],
    ) {
        let count = weights[0].len();
        let weights: [&[[f32; PANEL]]; P] = std::array::from_fn(|p| &weights[p][..count]);
        let (strides, last) = self.matrix.strides(self.start + from, count);
        // A copy of its own stays in registers through both loops.
        let mut held = *sums;
        for (at, row) in (0..count).zip(strides) {
            let w = std::array::from_fn(|p| &weights[p][at]);
            add_column(simd, w, first, elements(row, column), &mut held);
        }
        if let Some(row) = last {
            let w = std::array::from_fn(|p| &weights[p][count - 1]);
            add_column(simd, w, first, elements(row, column), &mut held);
        }
        *sums = held;
    }
}

/// N elements of a row.
#[inline(always)]
fn elements<const N: usize>(row: &[f32], column: usize) -> [f32; N] {
    *row[column..].first_chunk().expect("columns of a row")
}

impl<'a> RowsOf<'a> for Listed<'a, '_> {
    #[inline(always)]
    fn row(&self, at: usize) -> &'a [f32] {
        self.matrix.row(self.keys[at] as usize)
    }
}

impl Keys {
    /// Number of keys.
    #[inline(always)]
    pub fn len(&self) -> usize {
        match self {
            Keys::Range(r) => r.len(),
            Keys::List(l) => l.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key at a position.
    ///
    /// # Panics
    /// If `at >= len`.
    #[inline(always)]
    pub fn get(&self, at: usize) -> usize {
        match self {
            Keys::Range(r) => r.start + at,
            Keys::List(l) => l[at] as usize,
        }
    }
}
