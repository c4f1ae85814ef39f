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
//! | [`product()`] | `out[j][r] = Σ_c panel[c][r] · row_j[c]` |
//! | [`weighted_sum()`] | `acc[c][r] += Σ_j w[j][r] · row_j[c]` |
//! | [`softmax()`] | the running maximum, exp and sum of a tile of scores |
//! | [`dot_rows`], [`weighted_sum_rows`] | the same two for one row against listed rows |
//! | [`exp()`] | element-wise |
//! | [`square_norm`] | Σ x², in f64 |

mod exp;
mod norms;
mod pack;
mod product;
mod rows;
mod softmax;
mod weighted_sum;

pub use exp::{exp, exp_slice};
pub use norms::square_norm;
pub use pack::{pack, pack_rows, unpack};
pub use product::product;
pub use rows::{dot_rows, weighted_sum_rows};
pub use softmax::{Running, softmax};
pub use weighted_sum::weighted_sum;

/// Rows in a panel.
pub const PANEL: usize = 16;

use crate::Matrix;
use crate::tile::Keys;

/// Calls `f` with up to four rows at a time: (position, rows).
#[inline(always)]
fn by_fours<'a>(matrix: Matrix<'a>, keys: &Keys, mut f: impl FnMut(usize, [&'a [f32]; 4], usize)) {
    let len = keys.len();
    let mut at = 0;
    while at < len {
        let count = (len - at).min(4);
        // A ragged end repeats its last row; the caller drops the copies.
        let row = |o: usize| matrix.row(keys.get(at + o.min(count - 1)));
        f(at, [row(0), row(1), row(2), row(3)], count);
        at += count;
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
