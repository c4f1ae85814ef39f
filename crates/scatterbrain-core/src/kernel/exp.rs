//! exp, element-wise.
//!
//! x = n·ln 2 + r with |r| ≤ ½·ln 2 (ln 2 in two parts, Cody and Waite), e^r by its Taylor polynomial of
//! degree 7 (truncation below 5e-9 relative at |r| = ½ ln 2), times 2^n in two factors so that results below
//! 2^-126 come out subnormal. Domain: −∞ gives 0, above 88.73 gives ∞, NaN gives NaN.

use crate::Level;
use pulp::{Simd, WithSimd};

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 cut to 15 bits, so that n·LN2_HIGH is exact for |n| < 2^9.
const LN2_HIGH: f32 = 0.693_145_75;
const LN2_LOW: f32 = 1.428_606_8e-6;
/// Adding 1.5·2²³ rounds to an integer and leaves it in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;

/// e^x of a vector.
#[inline(always)]
pub(crate) fn exp_vector<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |c: f32| simd.splat_f32s(c);
    let clamped = simd.max_f32s(simd.min_f32s(x, splat(89.0)), splat(-105.0));
    let shifted = simd.mul_add_e_f32s(clamped, splat(LOG2_E), splat(ROUND));
    let n = simd.sub_f32s(shifted, splat(ROUND));
    let r = simd.mul_add_e_f32s(n, splat(-LN2_HIGH), clamped);
    let r = simd.mul_add_e_f32s(n, splat(-LN2_LOW), r);
    let mut p = splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = simd.mul_add_e_f32s(p, r, splat(c));
    }
    // 2^n as 2^⌊n/2⌋ · 2^(n − ⌊n/2⌋), each a normal number. The low bits of `shifted` hold n + 2^22.
    let bits = simd.transmute_u32s_f32s(shifted);
    let n = simd.sub_u32s(bits, simd.splat_u32s(ROUND.to_bits() - 256));
    let half = simd.wrapping_dyn_shr_u32s(n, simd.splat_u32s(1));
    let rest = simd.sub_u32s(n, half);
    // n + 256 ≥ 0 here, so half and rest are the exponents + 128.
    let power = |e: S::u32s| {
        let e = simd.sub_u32s(e, simd.splat_u32s(1));
        simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(e, simd.splat_u32s(23)))
    };
    let y = simd.mul_f32s(simd.mul_f32s(p, power(half)), power(rest));
    let y = simd.select_f32s(simd.less_than_f32s(x, splat(-104.0)), splat(0.0), y);
    let y = simd.select_f32s(simd.greater_than_f32s(x, splat(88.8)), splat(f32::INFINITY), y);
    // x86 min and max lose NaN.
    simd.select_f32s(simd.equal_f32s(x, x), y, x)
}

/// e^x in place, for every element, within 1.5 ulp, also where the result is subnormal. −∞ and everything below −104 give
/// 0, everything above 88.73 gives ∞, NaN gives NaN.
///
/// ```
/// use scatterbrain_core::{Level, kernel};
/// let mut x = [0.0, f32::NEG_INFINITY, 1000.0];
/// kernel::exp_slice(Level::detect(), &mut x);
/// assert_eq!(x, [1.0, 0.0, f32::INFINITY]);
/// ```
pub fn exp_slice(level: Level, x: &mut [f32]) {
    level.run_wide(ExpSlice(x));
}

struct ExpSlice<'a>(&'a mut [f32]);

impl WithSimd for ExpSlice<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (vectors, tail) = S::as_mut_simd_f32s(self.0);
        for v in vectors {
            *v = exp_vector(simd, *v);
        }
        if !tail.is_empty() {
            let v = exp_vector(simd, simd.partial_load_f32s(tail));
            simd.partial_store_f32s(tail, v);
        }
    }
}

/// e^x of one number by the same arithmetic as the scalar level; bound and range are those of [`exp_slice`].
pub fn exp(x: f32) -> f32 {
    exp_vector(pulp::Scalar, x)
}
