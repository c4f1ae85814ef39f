//! Seeded Monte Carlo: unnormalised entries are unbiased and have the variance of the theory.
//!
//! Projections are drawn afresh in every trial. A mean lies within z ≤ 4 standard errors. A variance lies
//! within four standard errors of the formula, its standard error √((μ₄ − σ⁴)/N) taken from the sample.

use ProjectionKind::{Gaussian, Orthogonal, Simplex};
use scatterbrain_core::{Level, Matrix, Result, Seed};
use scatterbrain_features::{
    FeatureMap, HyperbolicFeatures, LogFeatures, OptimalPositiveFeatures, PositiveFeatures, ProjectionKind, Role,
    TrigonometricFeatures,
};
use scatterbrain_theory::{Pair, second_moment_oprf, variance_hyperbolic, variance_positive, variance_trigonometric};

const TRIALS: usize = 20_000;
/// Below 1/16, so that the fourth moment exists.
const A: f64 = -0.1;

struct Sample {
    mean: f64,
    variance: f64,
    fourth: f64,
}

/// φ(q)·φ(k) over fresh maps.
fn sample(q: &[f32], k: &[f32], map: impl Fn(Seed) -> Result<Box<dyn FeatureMap>>) -> Sample {
    let row = |x| Matrix::new("row", x, 1, q.len()).unwrap();
    let level = Level::detect();
    let (mut phi_q, mut phi_k) = (LogFeatures::default(), LogFeatures::default());
    let products: Vec<f64> = (0..TRIALS)
        .map(|t| {
            let map = map(Seed(t as u64)).unwrap();
            map.log_features(level, row(q), 1.0, Role::Query, &mut phi_q).unwrap();
            map.log_features(level, row(k), 1.0, Role::Key, &mut phi_k).unwrap();
            product(&phi_q, &phi_k)
        })
        .collect();
    let n = TRIALS as f64;
    let mean = products.iter().sum::<f64>() / n;
    let moment = |p: i32| products.iter().map(|x| (x - mean).powi(p)).sum::<f64>() / n;
    Sample { mean, variance: moment(2), fourth: moment(4) }
}

fn product(q: &LogFeatures, k: &LogFeatures) -> f64 {
    let negative = |f: &LogFeatures, l: usize| f.negative_row(0).is_some_and(|n| n[l]);
    let sign = |l: usize| if negative(q, l) == negative(k, l) { 1.0 } else { -1.0 };
    (0..q.n_features).map(|l| sign(l) * (f64::from(q.log[l]) + f64::from(k.log[l])).exp()).sum()
}

fn check_mean(name: &str, sample: &Sample, entry: f64) {
    let z = (sample.mean - entry) / (sample.variance / TRIALS as f64).sqrt();
    assert!(z.abs() <= 4.0, "{name}: mean {}, expected {entry}, z = {z}", sample.mean);
}

fn check_variance(name: &str, sample: &Sample, variance: f64) {
    let error = ((sample.fourth - sample.variance.powi(2)) / TRIALS as f64).sqrt();
    let z = (sample.variance - variance) / error;
    assert!(z.abs() <= 4.0, "{name}: variance {}, expected {variance}, z = {z}", sample.variance);
}

/// Pairs with |q + k|² ≤ 1, of d = 4 to 8.
fn pairs() -> Vec<(Vec<f32>, Vec<f32>)> {
    vec![
        (vec![0.5, 0.0, -0.2, 0.1], vec![0.3, 0.2, 0.1, -0.3]),
        (vec![0.4, -0.4, 0.1, 0.2, 0.3], vec![-0.3, 0.5, 0.2, 0.1, 0.3]),
        (vec![0.4, 0.0, -0.3, 0.2, 0.0, 0.1, 0.1, -0.2], vec![0.1, 0.3, 0.2, 0.3, -0.3, 0.1, 0.0, -0.2]),
    ]
}

fn theory_pair(q: &[f32], k: &[f32]) -> Pair {
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let pair = Pair::of(&wide(q), &wide(k)).unwrap();
    assert!(pair.sum_square() <= 1.0);
    pair
}

/// More features than one block of coupled rows, and a ragged last block.
fn n_features(d: usize) -> usize {
    2 * (d + 1)
}

fn check(
    kinds: &[ProjectionKind],
    map: impl Fn(usize, usize, ProjectionKind, Seed) -> Result<Box<dyn FeatureMap>>,
    variance: impl Fn(Pair, usize, usize) -> f64,
) {
    for (q, k) in pairs() {
        let d = q.len();
        let pair = theory_pair(&q, &k);
        for &kind in kinds {
            let name = format!("{kind:?}, d = {d}");
            let sample = sample(&q, &k, |seed| map(d, n_features(d), kind, seed));
            check_mean(&name, &sample, pair.entry());
            if kind == Gaussian {
                check_variance(&name, &sample, variance(pair, n_features(d), d));
            }
        }
    }
}

#[test]
fn positive() {
    check(
        &[Gaussian, Orthogonal, Simplex],
        |d, m, kind, seed| Ok(Box::new(PositiveFeatures::sample(d, m, kind, seed)?)),
        |pair, m, _| variance_positive(pair, m).unwrap(),
    );
}

#[test]
fn hyperbolic() {
    check(
        &[Gaussian, Orthogonal],
        |d, m, kind, seed| Ok(Box::new(HyperbolicFeatures::sample(d, m, kind, seed)?)),
        |pair, m, _| variance_hyperbolic(pair, m).unwrap(),
    );
}

#[test]
fn trigonometric() {
    check(
        &[Gaussian, Orthogonal],
        |d, m, kind, seed| Ok(Box::new(TrigonometricFeatures::sample(d, m, kind, seed)?)),
        |pair, m, _| variance_trigonometric(pair, m / 2).unwrap(),
    );
}

#[test]
fn optimal_positive() {
    check(
        &[Gaussian, Orthogonal],
        |d, m, kind, seed| Ok(Box::new(OptimalPositiveFeatures::sample(d, m, kind, A, seed)?)),
        |pair, m, d| (second_moment_oprf(pair, A, d).unwrap() - 1.0) * pair.entry().powi(2) / m as f64,
    );
}

/// Coupling pays where it is said to: the variance falls below that of independent rows.
#[test]
fn coupling_lowers_the_variance_of_positive_features() {
    let (q, k) = (vec![0.5, 0.0, 0.0, 0.1], vec![0.4, 0.1, 0.1, 0.0]);
    let variance = |kind| sample(&q, &k, |s| Ok(Box::new(PositiveFeatures::sample(4, 4, kind, s)?))).variance;
    let independent = variance(Gaussian);
    assert!(variance(Orthogonal) < 0.95 * independent);
    assert!(variance(Simplex) < 0.95 * independent);
}

/// QR without the sign fix has mean/A of 0.83 and 1.17 here.
#[test]
fn orthogonal_rows_have_no_preferred_side() {
    for sign in [1.0, -1.0] {
        let half = [sign * 0.5, 0.0, 0.0, 0.0];
        for m in [1, 4] {
            let sample = sample(&half, &half, |s| Ok(Box::new(PositiveFeatures::sample(4, m, Orthogonal, s)?)));
            check_mean(&format!("z = {sign} e1, m = {m}"), &sample, 0.25f64.exp());
        }
    }
}
