//! Robust PCA: recovery where theory promises it, optimality conditions by loops of their own, invariances, edges.

use scatterbrain_combine::decompose::*;
use scatterbrain_core::{Matrix, Rng, Seed};
use std::ops::ControlFlow;

type Found = Result<Decomposition, DecomposeError>;
type Algorithm = fn(&Matrix<'_>, Split, &SplitOptions, &mut Callback<'_>) -> Found;

const ALGORITHMS: [Algorithm; 2] = [go_dec, alternating_projections];

fn loose() -> SplitOptions {
    SplitOptions { normalised: false, ..SplitOptions::default() }
}

fn precise() -> PursuitOptions {
    PursuitOptions { normalised: false, tolerance: 1e-7, ..PursuitOptions::default() }
}

fn pursue(data: &[f32], n: usize, m: usize, options: &PursuitOptions) -> Found {
    principal_component_pursuit(&view(data, n, m), options, &mut silent)
}

fn view(data: &[f32], n: usize, m: usize) -> Matrix<'_> {
    Matrix::new("matrix", data, n, m).expect("n m entries")
}

/// L of this rank with entries of variance 1, and S of `per_row` entries a row, ±`size` in random places.
struct Planted {
    low: Vec<f64>,
    sparse: Vec<f64>,
    sum: Vec<f32>,
}

fn planted(n: usize, m: usize, rank: usize, per_row: usize, size: f64, seed: u64) -> Planted {
    let rng = &mut Seed(seed).stream(9);
    let (u, v): (Vec<f64>, Vec<f64>) =
        ((0..n * rank).map(|_| rng.normal()).collect(), (0..m * rank).map(|_| rng.normal()).collect());
    let scale = 1.0 / (rank.max(1) as f64).sqrt();
    let entry = |e: usize| (0..rank).map(|c| u[e / m * rank + c] * v[e % m * rank + c]).sum::<f64>() * scale;
    let low: Vec<f64> = (0..n * m).map(entry).collect();
    let mut sparse = vec![0.0; n * m];
    for row in sparse.chunks_exact_mut(m) {
        for column in distinct(m, per_row, rng) {
            row[column] = if rng.uniform() < 0.5 { size } else { -size };
        }
    }
    let sum = low.iter().zip(&sparse).map(|(l, s)| (l + s) as f32).collect();
    Planted { low, sparse, sum }
}

fn distinct(m: usize, count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut columns: Vec<usize> = (0..m).collect();
    for i in 0..count {
        columns.swap(i, i + rng.below((m - i) as u64) as usize);
    }
    columns.truncate(count);
    columns
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
}

fn norm(a: &[f64]) -> f64 {
    a.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn widened(a: &[f32]) -> Vec<f64> {
    a.iter().map(|&x| f64::from(x)).collect()
}

/// Softmax rows of random queries and keys, sharp enough to be no low-rank matrix.
fn attention(n: usize, m: usize, seed: u64) -> Vec<f32> {
    let rng = &mut Seed(seed).stream(3);
    let d = 8;
    let (q, k) = (rng.normals(n * d), rng.normals(m * d));
    let mut data = Vec::with_capacity(n * m);
    for i in 0..n {
        let row: Vec<f64> =
            (0..m).map(|j| (0..d).map(|c| f64::from(q[i * d + c] * k[j * d + c])).sum::<f64>().exp()).collect();
        let sum: f64 = row.iter().sum();
        data.extend(row.iter().map(|x| (x / sum) as f32));
    }
    data
}

#[test]
fn pursuit_recovers_what_was_planted() {
    for (n, m, rank, per_row) in [(160, 160, 4, 8), (150, 220, 5, 9), (220, 150, 3, 6), (50, 40, 1, 2)] {
        let p = planted(n, m, rank, per_row, 2.0, 1);
        let found = pursue(&p.sum, n, m, &precise()).expect("it converges");
        // The input is rounded to f32: 3e-8 of an entry of about 1, and the residual may be 1e-7 of ‖A‖.
        let bound = 1e-6 * norm(&widened(&p.sum));
        assert!(distance(&found.low_rank.to_dense(), &p.low) < bound, "{n} x {m}");
        assert!(distance(&found.sparse.to_dense(), &p.sparse) < bound, "{n} x {m}");
        assert_eq!(found.report.stop, StopReason::Tolerance);
        let significant = found.low_rank.singular_values.iter().filter(|s| **s > 1e-5 * norm(&p.low)).count();
        assert_eq!(significant, rank);
        assert!(found.sparse.values.iter().filter(|v| v.abs() > 1e-4).count() == n * per_row);
    }
}

#[test]
fn budgeted_algorithms_recover_what_was_planted() {
    for algorithm in ALGORITHMS {
        for (n, m, rank, per_row) in [(160, 160, 4, 8), (150, 220, 5, 9), (220, 150, 3, 6)] {
            let p = planted(n, m, rank, per_row, 10.0, 2);
            let options = SplitOptions { tolerance: 1e-4, ..loose() };
            let found =
                algorithm(&view(&p.sum, n, m), Split { rank, per_row }, &options, &mut silent).expect("settles");
            assert!(distance(&found.low_rank.to_dense(), &p.low) < 1e-5 * norm(&p.low), "{n} x {m}");
            assert!(distance(&found.sparse.to_dense(), &p.sparse) < 1e-5 * norm(&p.low), "{n} x {m}");
        }
    }
}

/// The Karush-Kuhn-Tucker conditions by plain loops: they prove the minimum without knowing it, whatever A is.
#[test]
fn pursuit_satisfies_its_optimality_conditions() {
    let p = planted(90, 110, 3, 5, 2.0, 3);
    let noise = Seed(4).stream(1).normals(90 * 110);
    let noisy: Vec<f32> = p.sum.iter().zip(&noise).map(|(a, e)| a + 0.05 * e).collect();
    for (data, tolerance) in [(p.sum, 1e-7), (noisy, 1e-4)] {
        let (n, m) = (90, 110);
        let options = PursuitOptions { tolerance, max_iterations: 3000, ..precise() };
        let found = pursue(&data, n, m, &options).expect("it converges");
        let (y, lambda) = (found.dual.as_ref().expect("the multipliers"), 1.0 / (m as f64).sqrt());
        assert!(distance(&found.to_dense(), &widened(&data)) <= 1.01 * tolerance * norm(&widened(&data)));
        // Y ∈ λ∂‖S‖₁.
        assert!(y.iter().all(|y| y.abs() <= lambda));
        for (y, s) in y.iter().zip(found.sparse.to_dense()) {
            assert!(s == 0.0 || *y == lambda * s.signum());
        }
        // Y ∈ ∂‖L‖_*: YV = U, YᵀU = V, ‖Y‖₂ ≤ 1.
        let (r, l) = (found.low_rank.rank(), &found.low_rank);
        assert!(r > 0);
        let slack = tolerance * (r as f64).sqrt() + 1e-12;
        let yv: Vec<f64> =
            (0..n * r).map(|e| (0..m).map(|j| y[e / r * m + j] * l.right[j * r + e % r]).sum()).collect();
        let yu: Vec<f64> = (0..m * r).map(|e| (0..n).map(|i| y[i * m + e / r] * l.left[i * r + e % r]).sum()).collect();
        assert!(distance(&yv, &l.left) < slack && distance(&yu, &l.right) < slack);
        assert!(spectral_norm(y, n, m) < 1.0 + 1e-6 + tolerance * norm(y));
        assert!(found.report.optimality.is_some_and(|o| o.certified));
    }
}

/// By 500 steps of power iteration.
fn spectral_norm(x: &[f64], n: usize, m: usize) -> f64 {
    let rng = &mut Seed(5).stream(0);
    let mut v: Vec<f64> = (0..m).map(|_| rng.normal()).collect();
    let mut size = 0.0;
    for _ in 0..500 {
        let scale = norm(&v);
        v.iter_mut().for_each(|v| *v /= scale);
        let u: Vec<f64> = (0..n).map(|i| (0..m).map(|j| x[i * m + j] * v[j]).sum()).collect();
        size = norm(&u);
        v = (0..m).map(|j| (0..n).map(|i| x[i * m + j] * u[i]).sum()).collect();
    }
    size
}

/// No pair near the minimiser has a smaller objective: the planted pair has not, on a matrix where it is no minimiser.
#[test]
fn pursuit_is_no_worse_than_the_planted_pair() {
    // Too many entries for recovery.
    let (n, m) = (80, 80);
    let p = planted(n, m, 10, 24, 1.0, 6);
    let lambda = 1.0 / (m as f64).sqrt();
    let options = PursuitOptions { tolerance: 1e-5, max_iterations: 3000, ..precise() };
    let found = pursue(&p.sum, n, m, &options).expect("it converges");
    let ones = |x: &[f64]| x.iter().map(|v| v.abs()).sum::<f64>();
    let low: Vec<f32> = p.low.iter().map(|&x| x as f32).collect();
    let nuclear: f64 = singular_values(&view(&low, n, m)).expect("finite").iter().sum();
    let objective = found.low_rank.singular_values.iter().sum::<f64>() + lambda * ones(&found.sparse.values);
    assert!(objective < nuclear + lambda * ones(&p.sparse));
}

#[test]
fn go_dec_never_grows() {
    let (n, m) = (48, 60);
    for (rank, per_row) in [(1, 0), (3, 0), (2, 4), (4, 5), (10, 15), (20, 1)] {
        for seed in 0..2 {
            let data = attention(n, m, seed);
            let options = SplitOptions { seed: Seed(seed), tolerance: 1e-6, ..loose() };
            let split = Split { rank, per_row };
            let residuals = match go_dec(&view(&data, n, m), split, &options, &mut silent) {
                Ok(found) => found.report.residuals,
                Err(DecomposeError::NotConverged(found)) => found.report.residuals,
                Err(other) => panic!("{other}"),
            };
            assert!(residuals.len() > 1);
            // Rounding of a sum of squares: 1e-15 of ‖A‖².
            assert!(residuals.windows(2).all(|r| r[1] * r[1] <= r[0] * r[0] + 1e-15), "{split:?}: {residuals:?}");
        }
    }
}

#[test]
fn budgets_hold_and_residuals_are_what_they_say() {
    let (n, m) = (100, 130);
    let data = attention(n, m, 7);
    for algorithm in ALGORITHMS {
        for (rank, per_row) in [(0, 5), (4, 0), (3, 7), (1, 130)] {
            let found = algorithm(&view(&data, n, m), Split { rank, per_row }, &SplitOptions::default(), &mut silent)
                .expect("settles");
            assert!(found.low_rank.rank() <= rank && (0..n).all(|i| found.sparse.row(i).0.len() <= per_row));
            let residual = distance(&found.to_dense(), &widened(&data)) / norm(&widened(&data));
            assert!((residual - found.report.residual()).abs() < 1e-12);
            assert_eq!((found.report.rank, found.report.nonzeros), (found.low_rank.rank(), found.sparse.nonzeros()));
            assert!((0..n).all(|i| found.sparse.row(i).0.is_sorted_by(|a, b| a < b)));
            let l = &found.low_rank;
            for a in 0..l.rank() {
                for b in 0..l.rank() {
                    let gram: f64 = (0..m).map(|j| l.right[j * l.rank() + a] * l.right[j * l.rank() + b]).sum();
                    assert!((gram - f64::from(a == b)).abs() < 1e-12);
                }
            }
        }
    }
}

#[test]
fn transposition_and_permutation_change_nothing() {
    let (n, m) = (70, 90);
    let data = planted(n, m, 2, 4, 2.0, 8).sum;
    let found = pursue(&data, n, m, &precise()).expect("it converges").low_rank.to_dense();
    let transposed: Vec<f32> = (0..m * n).map(|e| data[e % n * m + e / n]).collect();
    let other = pursue(&transposed, m, n, &precise()).expect("it converges").low_rank.to_dense();
    let back: Vec<f64> = (0..n * m).map(|e| other[e % m * n + e / m]).collect();
    let bound = 1e-6 * norm(&widened(&data));
    assert!(distance(&found, &back) < bound);

    let order: Vec<usize> = (0..n).map(|i| (i * 29 + 3) % n).collect();
    let permuted: Vec<f32> = order.iter().flat_map(|&i| data[i * m..(i + 1) * m].iter().copied()).collect();
    let expected: Vec<f64> = order.iter().flat_map(|&i| found[i * m..(i + 1) * m].iter().copied()).collect();
    let other = pursue(&permuted, n, m, &precise()).expect("it converges").low_rank.to_dense();
    assert!(distance(&expected, &other) < bound);
    for algorithm in ALGORITHMS {
        let options = SplitOptions { tolerance: 1e-4, ..loose() };
        let run = |data: &[f32]| {
            let split = Split { rank: 2, per_row: 6 };
            algorithm(&view(data, n, m), split, &options, &mut silent).expect("settles").to_dense()
        };
        let (a, b) = (run(&data), run(&permuted));
        let expected: Vec<f64> = order.iter().flat_map(|&i| a[i * m..(i + 1) * m].iter().copied()).collect();
        assert!(distance(&expected, &b) < 1e-4 * norm(&widened(&data)));
    }
}

#[test]
fn matrices_without_much_in_them() {
    let uniform = |n: usize, m: usize| (vec![1.0 / m as f32; n * m], n, m);
    let zero = |n: usize, m: usize| (vec![0.0f32; n * m], n, m);
    for (data, n, m) in [uniform(1, 1), uniform(1, 90), uniform(90, 1), uniform(80, 100), zero(1, 3), zero(90, 80)] {
        let rank = usize::from(data[0] != 0.0);
        let close =
            |found: &Decomposition| distance(&found.to_dense(), &widened(&data)) <= 1e-5 * norm(&widened(&data));
        for algorithm in ALGORITHMS {
            for split in [Split { rank: 1, per_row: 0 }, Split { rank: 1, per_row: 1 }, Split { rank: 0, per_row: m }] {
                let found =
                    algorithm(&view(&data, n, m), split, &SplitOptions::default(), &mut silent).expect("settles");
                assert!(close(&found), "{n} x {m}, {split:?}");
                assert!(found.low_rank.rank() <= rank && found.report.residuals.iter().all(|r| r.is_finite()));
            }
        }
        let options = PursuitOptions { tolerance: 1e-6, ..PursuitOptions::default() };
        let found = pursue(&data, n, m, &options).expect("it converges");
        assert!(close(&found), "{n} x {m}");
        assert!(found.low_rank.coherence().is_none_or(|(a, b)| a >= 1.0 - 1e-9 && b >= 1.0 - 1e-9));
        let budget = YardstickOptions::default();
        let yardstick = best_at_budget(&view(&data, n, m), None, 3, &budget, &mut silent).expect("a yardstick");
        assert!(yardstick.error < 1e-6 && yardstick.low_rank_alone.error < 1e-6);
    }
}

#[test]
fn what_cannot_be_used_is_refused() {
    let data = attention(20, 30, 9);
    let refused = |result: Found, needle: &str| match result {
        Err(DecomposeError::Input(e)) => assert!(e.to_string().contains(needle), "{e}"),
        other => panic!("{needle}: {other:?}"),
    };
    for algorithm in ALGORITHMS {
        let run = |data: &[f32], rank, per_row, options: SplitOptions| {
            algorithm(&view(data, 20, 30), Split { rank, per_row }, &options, &mut silent)
        };
        let plain = SplitOptions::default();
        refused(run(&data, 0, 0, plain), "a rank or an entry a row");
        refused(run(&data, 21, 0, plain), "rank: expected at most min(n, m) = 20");
        refused(run(&data, 1, 31, plain), "per_row: expected at most m = 30");
        refused(run(&data, 1, 1, SplitOptions { max_iterations: 0, ..plain }), "max_iterations");
        refused(run(&data, 1, 1, SplitOptions { tolerance: f64::NAN, ..plain }), "tolerance");
        refused(run(&data, 1, 1, SplitOptions { stagnation: 0, ..plain }), "stagnation");
        for bad in [f32::NAN, f32::INFINITY] {
            let mut spoiled = data.clone();
            spoiled[31] = bad;
            refused(run(&spoiled, 1, 1, plain), "at (1, 1)");
        }
        let doubled: Vec<f32> = data.iter().map(|x| 2.0 * x).collect();
        refused(run(&doubled, 1, 1, plain), "rows that sum to one");
        assert!(run(&doubled, 1, 1, loose()).is_ok());
    }
    let mut spoiled = data.clone();
    spoiled[5] = f32::NEG_INFINITY;
    refused(pursue(&spoiled, 20, 30, &precise()), "finite");
    for lambda in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused(pursue(&data, 20, 30, &PursuitOptions { lambda: Some(lambda), ..precise() }), "lambda");
    }
    let options = YardstickOptions::default();
    let value = view(&data, 20, 30);
    for (value, budget, needle) in [(None, 0, "budget"), (Some(&value), 4, "value: expected 30 rows")] {
        let error = best_at_budget(&view(&data, 20, 30), value, budget, &options, &mut silent).expect_err("refused");
        assert!(error.to_string().contains(needle), "{error}");
    }
    assert!(singular_values(&view(&spoiled, 20, 30)).is_err());
}

#[test]
fn too_few_iterations_are_an_error_with_the_iterate() {
    let data = attention(80, 80, 10);
    let options = PursuitOptions { max_iterations: 1, ..PursuitOptions::default() };
    let Err(DecomposeError::NotConverged(found)) = pursue(&data, 80, 80, &options) else { panic!("it converged") };
    assert_eq!((found.report.stop, found.report.iterations), (StopReason::MaxIterations, 1));
    let residual = distance(&found.to_dense(), &widened(&data)) / norm(&widened(&data));
    assert!((residual - found.report.residual()).abs() < 1e-12);
    for algorithm in ALGORITHMS {
        let options = SplitOptions { max_iterations: 1, ..SplitOptions::default() };
        let result = algorithm(&view(&data, 80, 80), Split { rank: 3, per_row: 3 }, &options, &mut silent);
        let Err(DecomposeError::NotConverged(found)) = result else { panic!("it settled") };
        assert_eq!(found.report.iterations, 1);
        assert!(found.report.residual() < 1.0);
    }
}

#[test]
fn pursuit_that_comes_no_nearer_stops_with_its_best() {
    let data = attention(80, 80, 11);
    let options =
        PursuitOptions { tolerance: 1e-15, stagnation: 3, max_iterations: 100_000, ..PursuitOptions::default() };
    let Err(DecomposeError::NotConverged(found)) = pursue(&data, 80, 80, &options) else { panic!("it converged") };
    assert_eq!(found.report.stop, StopReason::Stagnation);
    let residual = distance(&found.to_dense(), &widened(&data)) / norm(&widened(&data));
    assert!((residual - found.report.residual()).abs() < 1e-12);
}

#[test]
fn a_callback_sees_each_iteration_and_cancels() {
    let data = attention(80, 80, 12);
    let cancel_at = |last: usize| {
        let mut seen = 0;
        move |p: &Progress| {
            seen += 1;
            assert_eq!(p.iteration, seen);
            if seen == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    };
    let matrix = view(&data, 80, 80);
    let result = principal_component_pursuit(&matrix, &PursuitOptions::default(), &mut cancel_at(4));
    let Err(DecomposeError::Cancelled(found)) = result else { panic!("it went on") };
    assert_eq!((found.report.iterations, found.report.stop), (4, StopReason::Cancelled));
    for algorithm in ALGORITHMS {
        let result = algorithm(&matrix, Split { rank: 4, per_row: 4 }, &SplitOptions::default(), &mut cancel_at(2));
        let Err(DecomposeError::Cancelled(found)) = result else { panic!("it went on") };
        assert_eq!(found.report.iterations, 2);
    }
    let stop = &mut |_: &Progress| ControlFlow::Break(());
    let result = best_at_budget(&matrix, None, 9, &YardstickOptions::default(), stop);
    // The first run is one step, which has settled before it can be cancelled.
    assert!(matches!(result, Err(DecomposeError::Cancelled(_))));
}

#[test]
fn threads_change_no_bit() {
    let data = attention(300, 280, 13);
    let matrix = view(&data, 300, 280);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let options = PursuitOptions { max_iterations: 12, ..PursuitOptions::default() };
            let pursuit = match principal_component_pursuit(&matrix, &options, &mut silent) {
                Ok(found) => found,
                Err(DecomposeError::NotConverged(found)) => *found,
                Err(other) => panic!("{other}"),
            };
            let split = Split { rank: 6, per_row: 5 };
            let budgeted =
                ALGORITHMS.map(|a| a(&matrix, split, &SplitOptions::default(), &mut silent).expect("settles"));
            let yardstick =
                best_at_budget(&matrix, Some(&matrix_of_values()), 8, &YardstickOptions::default(), &mut silent);
            (pursuit, budgeted, yardstick.expect("a yardstick"))
        })
    };
    assert!(run(1) == run(2));
}

fn matrix_of_values() -> Matrix<'static> {
    static VALUES: std::sync::OnceLock<Vec<f32>> = std::sync::OnceLock::new();
    view(VALUES.get_or_init(|| Seed(1).stream(5).normals(280 * 4)), 280, 4)
}

#[test]
fn the_yardstick_is_no_worse_than_its_ends() {
    let (n, m) = (64, 48);
    let data = attention(n, m, 14);
    let a = widened(&data);
    let values = Seed(2).stream(0).normals(m * 5);
    let value = view(&values, m, 5);
    for budget in [1, 2, 7, 16, 30, 100] {
        let found = best_at_budget(&view(&data, n, m), Some(&value), budget, &YardstickOptions::default(), &mut silent)
            .expect("a yardstick");
        let wasted = 1e-12;
        assert!(found.split.units() <= budget && found.splits.iter().all(|s| s.split.units() <= budget));
        assert!(found.error <= found.sparse_alone.error + wasted);
        assert!(found.splits.iter().all(|s| found.error <= s.error));
        // Eckart and Young: no run without entries is better, and the one tried comes near.
        for s in found.splits.iter().filter(|s| s.split.per_row == 0) {
            assert!(s.error >= found.low_rank_alone.error - 1e-9 && s.error < 1.01 * found.low_rank_alone.error + 1e-9);
        }
        // The best entries of a row, by sorting.
        let mut left = 0.0;
        for row in a.chunks_exact(m) {
            let mut squares: Vec<f64> = row.iter().map(|x| x * x).collect();
            squares.sort_by(|a, b| b.total_cmp(a));
            left += squares.iter().skip(budget).sum::<f64>();
        }
        assert!((found.sparse_alone.error - left.sqrt() / norm(&a)).abs() < 1e-12);
        // The output error by a plain loop.
        let dense: Vec<f64> = {
            let mut x = found.low_rank.to_dense();
            x.iter_mut().zip(found.sparse.to_dense()).for_each(|(l, s)| *l += s);
            x
        };
        let times = |x: &[f64], i: usize, c: usize| -> f64 {
            (0..m).map(|j| x[i * m + j] * f64::from(values[j * 5 + c])).sum()
        };
        let rows: f64 = (0..n)
            .map(|i| {
                let exact: Vec<f64> = (0..5).map(|c| times(&a, i, c)).collect();
                let found: Vec<f64> = (0..5).map(|c| times(&dense, i, c)).collect();
                distance(&exact, &found) / norm(&exact)
            })
            .sum();
        assert!((found.output_error.expect("values were given") - rows / n as f64).abs() < 1e-10);
        let total: f64 = found.singular_values.iter().map(|s| s * s).sum();
        assert!((total.sqrt() - norm(&a)).abs() < 1e-12 * norm(&a));
    }
}
