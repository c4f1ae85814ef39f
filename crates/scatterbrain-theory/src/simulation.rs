//! Direct simulation, which the formulas are tested against. It shares no code with them.

use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// Dimension of simulated vectors.
pub(crate) const DIM: usize = 4;

/// Queries and keys with |q + k|² and |q − k|² up to about 1: near, apart, and across.
pub(crate) const PAIRS: [([f64; DIM], [f64; DIM]); 3] = [
    ([0.5, 0.0, -0.1, 0.0], [0.3, 0.2, 0.0, -0.3]),
    ([0.4, -0.4, 0.0, 0.2], [-0.3, 0.1, 0.2, 0.1]),
    ([0.6, 0.0, 0.0, 0.0], [0.0, 0.6, 0.1, 0.0]),
];

/// a·b.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// a + sign·b.
pub(crate) fn sum(a: &[f64; DIM], b: &[f64; DIM], sign: f64) -> [f64; DIM] {
    std::array::from_fn(|c| a[c] + sign * b[c])
}

/// The mean and variance of `f(ω)`, ω ~ N(0, I), lie within four standard errors of what is expected; that of
/// the variance comes from the empirical fourth moment, √((μ₄ − σ⁴)/N).
pub(crate) fn check_moments(mean: f64, variance: f64, f: impl Fn(&[f64; DIM]) -> f64) {
    const TRIALS: usize = 200_000;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
    let samples: Vec<f64> = (0..TRIALS).map(|_| f(&std::array::from_fn(|_| StandardNormal.sample(&mut rng)))).collect();
    let n = TRIALS as f64;
    let found = samples.iter().sum::<f64>() / n;
    let moment = |p: i32| samples.iter().map(|x| (x - found).powi(p)).sum::<f64>() / n;
    let (second, fourth) = (moment(2), moment(4));
    let z = (found - mean) / (second / n).sqrt();
    assert!(z.abs() <= 4.0, "mean {found}, expected {mean}: z = {z}");
    let z = (second - variance) / ((fourth - second * second) / n).sqrt();
    assert!(z.abs() <= 4.0, "variance {second}, expected {variance}: z = {z}");
}
