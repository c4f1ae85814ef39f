//! The largest magnitude of rows, and whether all are finite, in one pass.

use crate::{Level, Matrix};
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
    level.run(Scan { matrix, rows })
}

struct Scan<'a> {
    matrix: Matrix<'a>,
    rows: usize,
}

impl WithSimd for Scan<'_> {
    type Output = Extent;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Extent {
        let mut tops = [simd.splat_f32s(0.0); 4];
        let mut bad = simd.splat_u32s(0);
        let (mut largest, mut finite) = (0.0f32, true);
        for row in self.matrix.iter().take(self.rows) {
            let (vectors, tail) = S::as_simd_f32s(row);
            for four in vectors.chunks(4) {
                for (top, x) in tops.iter_mut().zip(four) {
                    // Not pulp's abs, which is a call where crates are compiled apart.
                    let bits = simd.and_u32s(simd.transmute_u32s_f32s(*x), simd.splat_u32s(u32::MAX >> 1));
                    let size = simd.transmute_f32s_u32s(bits);
                    let sound = simd.less_than_or_equal_f32s(size, simd.splat_f32s(f32::MAX));
                    *top = simd.max_f32s(*top, simd.select_f32s(sound, size, simd.splat_f32s(0.0)));
                    let odd = simd.select_u32s(sound, simd.splat_u32s(0), simd.splat_u32s(1));
                    bad = simd.or_u32s(bad, odd);
                }
            }
            for x in tail {
                finite &= x.is_finite();
                largest = if x.is_finite() { largest.max(x.abs()) } else { largest };
            }
        }
        for top in tops {
            largest = largest.max(simd.reduce_max_f32s(top));
        }
        let sound = simd.equal_u32s(bad, simd.splat_u32s(0));
        Extent { largest, finite: finite && simd.first_true_m32s(simd.not_m32s(sound)) >= S::F32_LANES }
    }
}
