//! The most multiply-adds a core can do: a loop of nothing else, through pulp like the kernels.

use pulp::{Arch, Simd, WithSimd};
use rayon::ThreadPool;
use std::hint::black_box;

/// Chains that do not wait for each other. Two units with a latency of four need eight; twelve and two operands fit
/// in sixteen registers.
const CHAINS: usize = 12;
/// Rounds of one call, two milliseconds: waking the threads takes microseconds.
const ROUNDS: usize = 1_000_000;

/// Runs the loop on every thread of the pool.
pub(super) fn run(pool: &ThreadPool) {
    pool.broadcast(|_| black_box(Arch::new().dispatch(Loop { factor: black_box(0.999), addend: black_box(0.001) })));
}

/// Floating-point operations of one [`run`]: two for each multiply-add, a lane and a thread.
pub(super) fn operations(threads: usize) -> f64 {
    (2 * ROUNDS * CHAINS * Arch::new().dispatch(Lanes) * threads) as f64
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

struct Loop {
    factor: f32,
    addend: f32,
}

impl WithSimd for Loop {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (factor, addend) = (simd.splat_f32s(self.factor), simd.splat_f32s(self.addend));
        let mut chains = [factor; CHAINS];
        for _ in 0..ROUNDS {
            // `mul_add_e` may be two instructions where there is no fused one.
            chains = chains.map(|chain| simd.mul_add_e_f32s(chain, factor, addend));
        }
        chains.into_iter().map(|chain| simd.reduce_sum_f32s(chain)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_comes_to_its_fixed_point() {
        let sum = Arch::new().dispatch(Loop { factor: 0.5, addend: 0.25 });
        // x = x / 2 + 1 / 4.
        assert_eq!(sum, 0.5 * (CHAINS * Arch::new().dispatch(Lanes)) as f32);
    }

    #[test]
    fn operations_count_threads() {
        assert_eq!(operations(2), 2.0 * operations(1));
    }
}
