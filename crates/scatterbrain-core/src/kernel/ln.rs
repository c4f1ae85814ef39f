//! Natural logarithm, element-wise.
//!
//! x = 2^e · (1 + f) with 1 + f in [√½, √2): ln x = e·ln 2 + f − ½f² + f³·P(f), P of degree 8 from Cephes (Moshier),
//! ln 2 in two parts (Cody and Waite). Measured on every positive f32, with and without fused multiply-adds: at most
//! 0.83 ulp.

use crate::Level;
use pulp::{Simd, WithSimd};

/// √½, from where the mantissa's range starts.
const ROOT_HALF: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
const MANTISSA: u32 = (1 << 23) - 1;
const TWO_23: f32 = 8_388_608.0;
/// ln 2 cut to few bits, so that e·LN2_HIGH is exact, and the rest of it.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Coefficients of P, the highest first.
const P: [f32; 9] = [
    7.037_683_6e-2,
    -1.151_461e-1,
    1.167_699_9e-1,
    -1.242_014_1e-1,
    1.424_932_3e-1,
    -1.666_805_8e-1,
    2.000_071_5e-1,
    -2.499_999_4e-1,
    3.333_333e-1,
];

/// ln x of a vector.
#[inline(always)]
pub(crate) fn ln_vector<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    // Subnormals are made normal, and their exponent corrected.
    let small = simd.less_than_f32s(x, simd.splat_f32s(f32::MIN_POSITIVE));
    let normal = simd.select_f32s(small, simd.mul_f32s(x, simd.splat_f32s(TWO_23)), x);
    let bias = simd.select_f32s(small, simd.splat_f32s(TWO_23 + 150.0), simd.splat_f32s(TWO_23 + 127.0));
    let bits = simd.add_u32s(simd.transmute_u32s_f32s(normal), simd.splat_u32s(1.0f32.to_bits() - ROOT_HALF));
    // The exponent as the low bits of the mantissa of 2²³ + exponent: pulp has no conversion.
    let exponent = simd.wrapping_dyn_shr_u32s(bits, simd.splat_u32s(23));
    let exponent = simd.or_u32s(exponent, simd.splat_u32s(TWO_23.to_bits()));
    let e = simd.sub_f32s(simd.transmute_f32s_u32s(exponent), bias);
    let mantissa = simd.add_u32s(simd.and_u32s(bits, simd.splat_u32s(MANTISSA)), simd.splat_u32s(ROOT_HALF));
    let f = simd.sub_f32s(simd.transmute_f32s_u32s(mantissa), simd.splat_f32s(1.0));
    let square = simd.mul_f32s(f, f);
    let mut p = simd.splat_f32s(P[0]);
    for c in &P[1..] {
        p = simd.mul_add_e_f32s(p, f, simd.splat_f32s(*c));
    }
    let y = simd.mul_f32s(simd.mul_f32s(p, f), square);
    let y = simd.mul_add_e_f32s(e, simd.splat_f32s(LN2_LOW), y);
    let y = simd.mul_add_e_f32s(square, simd.splat_f32s(-0.5), y);
    let y = simd.mul_add_e_f32s(e, simd.splat_f32s(LN2_HIGH), simd.add_f32s(f, y));
    let y = simd.select_f32s(simd.less_than_f32s(x, simd.splat_f32s(f32::INFINITY)), y, x);
    let y = simd.select_f32s(simd.equal_f32s(x, zero), simd.splat_f32s(f32::NEG_INFINITY), y);
    // Negative numbers, and NaN, which is greater than nothing.
    let sound = simd.greater_than_or_equal_f32s(x, zero);
    simd.select_f32s(sound, y, simd.splat_f32s(f32::NAN))
}

/// ln(1 + x) of a vector, for x ≥ 0; NaN stays NaN. 1 + x rounds to u, and ln(1 + x) = ln u + (x − (u − 1))/u up to
/// the square of that rounding, so that small x lose nothing.
#[inline(always)]
pub(crate) fn ln_1p_vector<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let u = simd.add_f32s(x, one);
    let log = ln_vector(simd, u);
    let lost = simd.sub_f32s(x, simd.sub_f32s(u, one));
    let corrected = simd.add_f32s(log, simd.div_f32s(lost, u));
    // ∞ − ∞ would make NaN of ∞; beyond 2²⁴ the correction is none.
    simd.select_f32s(simd.less_than_f32s(x, simd.splat_f32s(16_777_216.0)), corrected, log)
}

/// ln x in place, for every element, within 1 ulp: ln 1 = 0, ln 0 = −∞ (−0 too), ln ∞ = ∞, NaN for negative numbers and
/// NaN. About the cost of [`super::exp_slice`].
///
/// ```
/// use scatterbrain_core::{Level, kernel};
/// let mut x = [1.0, 0.0, f32::INFINITY, -1.0];
/// kernel::ln_slice(Level::detect(), &mut x);
/// assert_eq!(x[..3], [0.0, f32::NEG_INFINITY, f32::INFINITY]);
/// assert!(x[3].is_nan());
/// ```
pub fn ln_slice(level: Level, x: &mut [f32]) {
    level.run_wide(LnSlice(x));
}

struct LnSlice<'a>(&'a mut [f32]);

impl WithSimd for LnSlice<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (vectors, tail) = S::as_mut_simd_f32s(self.0);
        for v in vectors {
            *v = ln_vector(simd, *v);
        }
        if !tail.is_empty() {
            let v = ln_vector(simd, simd.partial_load_f32s(tail));
            simd.partial_store_f32s(tail, v);
        }
    }
}
