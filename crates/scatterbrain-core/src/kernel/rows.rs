//! One row against listed rows: dot products and weighted sums.

use crate::{Level, Matrix};
use pulp::{Simd, WithSimd};

/// `out[j] = Σ_c x[c] · rows(keys[j])[c]`.
///
/// # Panics
/// If `x` is not `rows.cols()` long or `out` not `keys.len()`.
pub fn dot_rows(level: Level, x: &[f32], rows: Matrix<'_>, keys: &[u32], out: &mut [f32]) {
    assert_eq!(x.len(), rows.cols(), "x");
    assert_eq!(out.len(), keys.len(), "out");
    level.run(DotRows { x, rows, keys, out });
}

struct DotRows<'a> {
    x: &'a [f32],
    rows: Matrix<'a>,
    keys: &'a [u32],
    out: &'a mut [f32],
}

impl WithSimd for DotRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, x_tail) = S::as_simd_f32s(self.x);
        for (k, o) in self.keys.iter().zip(self.out) {
            let (y, y_tail) = S::as_simd_f32s(self.rows.row(*k as usize));
            let mut acc = [simd.splat_f32s(0.0); 4];
            let (x4, x1) = pulp::as_arrays::<4, _>(x);
            let (y4, y1) = pulp::as_arrays::<4, _>(y);
            for (a, b) in x4.iter().zip(y4) {
                for c in 0..4 {
                    acc[c] = simd.mul_add_e_f32s(a[c], b[c], acc[c]);
                }
            }
            for (a, b) in x1.iter().zip(y1) {
                acc[0] = simd.mul_add_e_f32s(*a, *b, acc[0]);
            }
            let s = simd.add_f32s(simd.add_f32s(acc[0], acc[1]), simd.add_f32s(acc[2], acc[3]));
            let mut sum = simd.reduce_sum_f32s(s);
            for (a, b) in x_tail.iter().zip(y_tail) {
                sum += a * b;
            }
            *o = sum;
        }
    }
}

/// `acc[c] += Σ_j weights[j] · rows(keys[j])[c]`.
///
/// # Panics
/// If `acc` is not `rows.cols()` long or `weights` not `keys.len()`.
pub fn weighted_sum_rows(level: Level, weights: &[f32], rows: Matrix<'_>, keys: &[u32], acc: &mut [f32]) {
    assert_eq!(acc.len(), rows.cols(), "acc");
    assert_eq!(weights.len(), keys.len(), "weights");
    level.run(WeightedSumRows { weights, rows, keys, acc });
}

struct WeightedSumRows<'a> {
    weights: &'a [f32],
    rows: Matrix<'a>,
    keys: &'a [u32],
    acc: &'a mut [f32],
}

impl WithSimd for WeightedSumRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (acc, tail) = S::as_mut_simd_f32s(self.acc);
        // Eight vectors of the sum stay in registers while the rows stream by.
        for (block, acc) in acc.chunks_mut(8).enumerate() {
            let mut sum = [simd.splat_f32s(0.0); 8];
            sum[..acc.len()].copy_from_slice(acc);
            for (w, k) in self.weights.iter().zip(self.keys) {
                let w = simd.splat_f32s(*w);
                let v = &S::as_simd_f32s(self.rows.row(*k as usize)).0[block * 8..];
                if acc.len() == 8 {
                    let v: &[S::f32s; 8] = v[..8].try_into().expect("eight vectors");
                    for c in 0..8 {
                        sum[c] = simd.mul_add_e_f32s(w, v[c], sum[c]);
                    }
                } else {
                    for (s, v) in sum.iter_mut().zip(v) {
                        *s = simd.mul_add_e_f32s(w, *v, *s);
                    }
                }
            }
            acc.copy_from_slice(&sum[..acc.len()]);
        }
        let from = self.rows.cols() - tail.len();
        for (w, k) in self.weights.iter().zip(self.keys) {
            for (t, v) in tail.iter_mut().zip(&self.rows.row(*k as usize)[from..]) {
                *t += w * v;
            }
        }
    }
}
