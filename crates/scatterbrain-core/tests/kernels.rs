//! Every kernel on every SIMD level of this CPU, against float64 loops written here.
//!
//! Tolerance: a dot product of length c in f32 is off by at most about c·2⁻²⁴·Σ|x·y|; twice that is allowed.

use proptest::prelude::*;
use scatterbrain_core::kernel::{self, PANEL, Running};
use scatterbrain_core::tile::Keys;
use scatterbrain_core::{Level, Matrix, Seed};

const ULP: f64 = 1.0 / (1u64 << 24) as f64;

fn close(got: f32, want: f64, magnitude: f64, terms: usize) -> bool {
    (f64::from(got) - want).abs() <= 2.0 * (terms as f64 + 1.0) * ULP * magnitude + 1e-37
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn product_and_weighted_sum_are_their_formulas(
        cols in 1usize..70, n_rows in 1usize..40, count in 0usize..50, lanes in 1usize..=PANEL, listed in any::<bool>(), seed in any::<u64>()
    ) {
        let mut rng = Seed(seed).stream(0);
        let rows = rng.normals(n_rows * cols);
        let matrix = Matrix::new("rows", &rows, n_rows, cols).unwrap();
        let keys = if listed {
            Keys::List((0..count).map(|_| rng.below(n_rows as u64) as u32).collect())
        } else {
            let start = rng.below(n_rows as u64) as usize;
            Keys::Range(start..(start + count).min(n_rows))
        };
        let query = rng.normals(lanes * cols);
        let query_matrix = Matrix::new("query", &query, lanes, cols).unwrap();
        let ids: Vec<u32> = (0..lanes as u32).collect();
        let mut panel = vec![f32::NAN; cols * PANEL];
        kernel::pack(query_matrix, &ids, 0.5, &mut panel);
        let weights = rng.normals(keys.len() * PANEL);
        let start = rng.normals(cols * PANEL);
        for level in Level::available() {
            let mut out = vec![f32::NAN; keys.len() * PANEL];
            kernel::product(level, &panel, matrix, &keys, &mut out);
            for j in 0..keys.len() {
                for r in 0..PANEL {
                    let q = |c: usize| if r < lanes { f64::from(query[r * cols + c]) * 0.5 } else { 0.0 };
                    let k = |c: usize| f64::from(matrix.row(keys.get(j))[c]);
                    let want: f64 = (0..cols).map(|c| q(c) * k(c)).sum();
                    let size: f64 = (0..cols).map(|c| (q(c) * k(c)).abs()).sum();
                    prop_assert!(close(out[j * PANEL + r], want, size, cols), "{} at {j}, {r}: {} {want}", level.name(), out[j * PANEL + r]);
                }
            }
            let mut acc = start.clone();
            kernel::weighted_sum(level, &weights, matrix, &keys, &mut acc);
            for c in 0..cols {
                for r in 0..PANEL {
                    let term = |j: usize| f64::from(weights[j * PANEL + r]) * f64::from(matrix.row(keys.get(j))[c]);
                    let first = f64::from(start[c * PANEL + r]);
                    let want = first + (0..keys.len()).map(term).sum::<f64>();
                    let size = first.abs() + (0..keys.len()).map(|j| term(j).abs()).sum::<f64>();
                    prop_assert!(close(acc[c * PANEL + r], want, size, keys.len()), "{}", level.name());
                }
            }
        }
    }

    #[test]
    fn row_kernels_are_their_formulas(cols in 1usize..140, n_rows in 1usize..20, count in 0usize..40, seed in any::<u64>()) {
        let mut rng = Seed(seed).stream(0);
        let rows = rng.normals(n_rows * cols);
        let matrix = Matrix::new("rows", &rows, n_rows, cols).unwrap();
        let keys: Vec<u32> = (0..count).map(|_| rng.below(n_rows as u64) as u32).collect();
        let x = rng.normals(cols);
        let weights = rng.normals(count);
        let start = rng.normals(cols);
        for level in Level::available() {
            let mut out = vec![f32::NAN; count];
            kernel::dot_rows(level, &x, matrix, &keys, &mut out);
            for (o, k) in out.iter().zip(&keys) {
                let term = |c: usize| f64::from(x[c]) * f64::from(matrix.row(*k as usize)[c]);
                let size = (0..cols).map(|c| term(c).abs()).sum();
                prop_assert!(close(*o, (0..cols).map(term).sum(), size, cols));
            }
            let mut acc = start.clone();
            kernel::weighted_sum_rows(level, &weights, matrix, &keys, &mut acc);
            for c in 0..cols {
                let term = |j: usize| f64::from(weights[j]) * f64::from(matrix.row(keys[j] as usize)[c]);
                let first = f64::from(start[c]);
                let size = first.abs() + (0..count).map(|j| term(j).abs()).sum::<f64>();
                prop_assert!(close(acc[c], first + (0..count).map(term).sum::<f64>(), size, count));
            }
        }
    }

    #[test]
    fn online_softmax_in_pieces_is_softmax_at_once(pieces in prop::collection::vec(0usize..9, 1..5), seed in any::<u64>(), spread in 0.1f32..60.0) {
        let mut rng = Seed(seed).stream(0);
        let all: Vec<Vec<f32>> = pieces.iter().map(|p| rng.normals(p * PANEL).iter().map(|x| if *x > 1.5 { f32::NEG_INFINITY } else { x * spread }).collect()).collect();
        for level in Level::available() {
            let mut running = Running::default();
            for piece in &all {
                let mut scores = piece.clone();
                kernel::softmax(level, &mut scores, &mut running);
            }
            for r in 0..PANEL {
                let lane: Vec<f64> = all.iter().flat_map(|p| p.iter().skip(r).step_by(PANEL).map(|x| f64::from(*x))).collect();
                let top = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                prop_assert_eq!(f64::from(running.max[r]), top);
                let want: f64 = if top.is_finite() { lane.iter().map(|x| (x - top).exp()).sum() } else { 0.0 };
                // Differences of scores up to 4·spread are rounded to 2⁻²⁴ of themselves.
                prop_assert!((f64::from(running.sum[r]) - want).abs() <= want * 1e-6 * (4.0 + f64::from(spread)), "{} {want}", running.sum[r]);
            }
        }
    }
}

#[test]
fn exp_is_within_one_and_a_half_ulp() {
    for level in Level::available() {
        let mut worst = 0.0f64;
        let mut inputs: Vec<f32> = (0..2_000_000).map(|i| -87.3 + 176.0 * (i as f32 / 2_000_000.0)).collect();
        inputs.extend((0..100_000).map(|i| (i as f32 - 50_000.0) * 1e-7));
        let mut out = inputs.clone();
        kernel::exp_slice(level, &mut out);
        for (x, y) in inputs.iter().zip(&out) {
            let want = f64::from(*x).exp();
            if want < f64::from(f32::MAX) {
                let ulp = f64::from((want as f32).next_up()) - f64::from(want as f32);
                worst = worst.max((f64::from(*y) - want).abs() / ulp);
            }
        }
        assert!(worst <= 1.5, "{}: {worst} ulp", level.name());
    }
}

#[test]
fn exp_of_special_values() {
    for level in Level::available() {
        let mut x = [0.0, -0.0, f32::NEG_INFINITY, f32::INFINITY, 1e30, -1e30, 88.9, -104.5, f32::NAN, 1.0, -100.0];
        kernel::exp_slice(level, &mut x);
        assert_eq!(
            &x[..8],
            &[1.0, 1.0, 0.0, f32::INFINITY, f32::INFINITY, 0.0, f32::INFINITY, 0.0],
            "{}",
            level.name()
        );
        assert!(x[8].is_nan());
        assert!((x[9] - std::f32::consts::E).abs() < 3e-7);
        assert!((f64::from(x[10]) / (-100.0f64).exp() - 1.0).abs() < 0.02, "subnormal: {}", x[10]);
    }
}
