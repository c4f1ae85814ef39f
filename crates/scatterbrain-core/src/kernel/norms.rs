//! Squared norms in f64.

use crate::{Level, Matrix};
use pulp::{Simd, WithSimd};

/// Σ_c x_c², in f64: its rounding does not depend on the SIMD level. NaN or ∞ where the row is not finite.
#[inline]
pub fn square_norm(row: &[f32]) -> f64 {
    inlined(row)
}

/// [`square_norm`] of the first `out.len()` rows.
///
/// # Panics
/// If there are fewer rows.
pub fn square_norms(level: Level, rows: Matrix<'_>, out: &mut [f64]) {
    assert!(out.len() <= rows.rows(), "{} norms of {} rows", out.len(), rows.rows());
    level.run_wide(SquareNorms { rows, out });
}

struct SquareNorms<'a> {
    rows: Matrix<'a>,
    out: &'a mut [f64],
}

impl WithSimd for SquareNorms<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (row, out) in self.rows.iter().zip(self.out) {
            *out = inlined(row);
        }
    }
}

/// [`square_norm`], compiled for the caller's instructions.
#[inline(always)]
fn inlined(row: &[f32]) -> f64 {
    // Eight sums, which the compiler keeps in vectors. A product of two f32 is exact in f64, so it makes no difference
    // whether a multiply-add is fused.
    let mut sums = [0.0f64; 8];
    let (eights, rest) = row.as_chunks::<8>();
    for eight in eights {
        for (s, &x) in sums.iter_mut().zip(eight) {
            *s += f64::from(x) * f64::from(x);
        }
    }
    for (s, &x) in sums.iter_mut().zip(rest) {
        *s += f64::from(x) * f64::from(x);
    }
    sums.iter().sum()
}
