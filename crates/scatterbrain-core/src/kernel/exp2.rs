//! 2^x for the softmax: fewer steps than [`super::exp()`], for the range that softmax needs.
//!
//! x = n + r with n the nearest integer, |r| ≤ ½; 2^r by a polynomial of degree 5 with p(0) = 1, minimax in the relative
//! error (9.1e-8, and with its rounding in f32 at most 2.5e-7); 2^n is added to the exponent.

use crate::Level;
use pulp::{Simd, WithSimd};

/// Adding 1.5·2²³ rounds to an integer and leaves it in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;
/// Where n is this or less, 2^x is taken as 0: subnormal weights make products that an x86 core computes a hundred times
/// slower, and took exact attention of logits that spread over 90 or more from 0.5 to 5.3 s (n = 16384).
const SMALLEST: f32 = -126.0;
/// The same where weights are scaled by as much again later: products of the two are normal numbers.
const NOTHING: f32 = -60.0;
/// p(r) = 1 + r·(C[0] + r·(C[1] + …)).
#[allow(clippy::approx_constant, reason = "near ln 2, and not it")]
const C: [f32; 5] = [0.693_147, 0.240_222_42, 0.055_507_336, 0.009_671_513, 0.001_326_472_7];

/// 2^x of a vector, for x ≤ 127; from −125.5 down, and at −∞, exactly 0. NaN is not kept: the result is then unspecified.
#[inline(always)]
pub(crate) fn exp2_vector<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    exp2_by(simd, x, &C, SMALLEST)
}

/// As [`C`], degree 3: minimax in the relative error, 4.3e-4.
const COARSE: [f32; 3] = [0.695_766_8, 0.242_030_5, 0.041_698_75];

/// [`exp2_vector`] with a relative error of at most 4.4e-4, and 0 from x = −59.5 down.
#[inline(always)]
pub(super) fn exp2_vector_coarse<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    exp2_by(simd, x, &COARSE, NOTHING)
}

#[inline(always)]
fn exp2_by<S: Simd, const N: usize>(simd: S, x: S::f32s, c: &[f32; N], least: f32) -> S::f32s {
    let splat = |c: f32| simd.splat_f32s(c);
    let shifted = simd.add_f32s(x, splat(ROUND));
    let r = simd.sub_f32s(x, simd.sub_f32s(shifted, splat(ROUND)));
    let y = times_two_to(simd, polynomial(simd, r, c), shifted);
    // Compared as integers: of a comparison of floats the compiler takes the sign again before it selects by it. Sums that
    // are no longer near ROUND are negative or less.
    let bits = |x: S::f32s| simd.transmute_i32s_u32s(simd.transmute_u32s_f32s(x));
    simd.select_f32s(simd.greater_than_i32s(bits(shifted), bits(splat(ROUND + least))), y, splat(0.0))
}

/// e^x of a vector by the same polynomial, for x ≤ 87: relative error at most 2.5e-7 + 2e-8·|x| with fused multiply-adds
/// (1.2e-7·|x| without), below −87.3 exactly 0; ∞ gives ∞. NaN is not kept.
#[inline(always)]
pub(crate) fn exp_vector_fast<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |c: f32| simd.splat_f32s(c);
    let log2_e = splat(std::f32::consts::LOG2_E);
    let shifted = simd.mul_add_e_f32s(x, log2_e, splat(ROUND));
    let n = simd.sub_f32s(shifted, splat(ROUND));
    let r = simd.mul_add_e_f32s(x, log2_e, simd.neg_f32s(n));
    let y = times_two_to(simd, polynomial(simd, r, &C), shifted);
    let y = simd.select_f32s(simd.less_than_f32s(x, splat(-87.3)), splat(0.0), y);
    simd.select_f32s(simd.equal_f32s(x, splat(f32::INFINITY)), x, y)
}

/// 1 + r·(c[0] + r·(c[1] + …)).
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, r: S::f32s, c: &[f32; N]) -> S::f32s {
    let mut p = simd.splat_f32s(c[N - 1]);
    for i in (0..N - 1).rev() {
        p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(c[i]));
    }
    simd.mul_add_e_f32s(p, r, simd.splat_f32s(1.0))
}

/// p times 2^n, n in the low bits of `shifted`, two's complement: shifted out of the mantissa they add to the exponent.
#[inline(always)]
fn times_two_to<S: Simd>(simd: S, p: S::f32s, shifted: S::f32s) -> S::f32s {
    let n = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), n))
}

/// 2^x in place, relative error at most 2.5e-7. Domain: x ≤ 127 or −∞; for x ≤ −125.5 the result is 0.
/// Outside (NaN, larger x) the result is unspecified, though no panic: [`super::exp_slice`] is the one for any input.
///
/// ```
/// use scatterbrain_core::{Level, kernel};
/// let mut x = [0.0, 3.0, -1.0, f32::NEG_INFINITY];
/// kernel::exp2_slice(Level::detect(), &mut x);
/// assert_eq!(x, [1.0, 8.0, 0.5, 0.0]);
/// ```
pub fn exp2_slice(level: Level, x: &mut [f32]) {
    level.run_wide(Exp2Slice(x));
}

struct Exp2Slice<'a>(&'a mut [f32]);

impl WithSimd for Exp2Slice<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (vectors, tail) = S::as_mut_simd_f32s(self.0);
        for v in vectors {
            *v = exp2_vector(simd, *v);
        }
        if !tail.is_empty() {
            let v = exp2_vector(simd, simd.partial_load_f32s(tail));
            simd.partial_store_f32s(tail, v);
        }
    }
}

/// 2^x of one number, by the arithmetic of the scalar level; the domain is that of [`exp2_slice`].
pub fn exp2(x: f32) -> f32 {
    exp2_vector(pulp::Scalar, x)
}
