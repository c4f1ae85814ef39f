//! The paper's theorem on unnormalised entries, through the production path: E[Â] = A and Var Â = (1 − p̂)·Var φ·φ,
//! with fresh and independent hashes and features in every trial.
//!
//! One query and one key: the row's log-sum-exp is ln Â. Seeded; each assertion is a two-sided 4-sigma interval
//! (confidence 99.99 % for each of the twelve), the variance's sigma from the sample's fourth moment.

use scatterbrain_combine::{HashSupport, Method, Options, attend};
use scatterbrain_core::{Mask, Seed, Tensor};
use scatterbrain_features::{FeatureBackground, HyperbolicFeatures, PositiveFeatures, ProjectionKind};
use scatterbrain_hash::{SignRandomProjection, amplify};
use scatterbrain_theory::{Pair, variance_combined, variance_hyperbolic, variance_positive};

const D: usize = 4;
const FEATURES: usize = 8;
const TRIALS: u64 = 40_000;

/// (query, key): |q + k|² at most 1, angles from acute to obtuse.
const PAIRS: [([f32; D], [f32; D]); 2] =
    [([0.5, 0.2, 0.0, 0.1], [0.4, -0.1, 0.1, 0.0]), ([0.5, -0.3, 0.2, 0.0], [-0.1, 0.4, 0.3, 0.2])];

fn entries(query: &[f32], key: &[f32], method: impl Fn(Seed) -> Method) -> Vec<f64> {
    let query = Tensor::f32("query", query, [1, 1, 1, D]).unwrap();
    let key = Tensor::f32("key", key, [1, 1, 1, D]).unwrap();
    let options = Options { scale: Some(1.0), log_sum_exp: true, ..Options::default() };
    let entry = |trial| {
        let result = attend(&query, &key, &key, &Mask::default(), &method(Seed(trial)), &options).unwrap();
        f64::from(result.log_sum_exp.unwrap()[0]).exp()
    };
    (0..TRIALS).map(entry).collect()
}

/// (mean, its standard error, variance, its standard error).
fn moments(x: &[f64]) -> (f64, f64, f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let central = |p: i32| x.iter().map(|x| (x - mean).powi(p)).sum::<f64>() / n;
    let variance = central(2);
    (mean, (variance / n).sqrt(), variance, ((central(4) - variance * variance) / n).sqrt())
}

fn check(hyperbolic: bool, bits: usize, tables: usize) {
    for (query, key) in PAIRS {
        let wide = |x: [f32; D]| x.map(f64::from);
        let pair = Pair::of(&wide(query), &wide(key)).unwrap();
        let method = |seed: Seed| {
            let hash = SignRandomProjection::sample(D, tables, bits, seed.derive(1)).unwrap();
            let kind = ProjectionKind::Gaussian;
            let features = if hyperbolic {
                FeatureBackground::new(HyperbolicFeatures::sample(D, FEATURES, kind, seed.derive(2)).unwrap())
            } else {
                FeatureBackground::new(PositiveFeatures::sample(D, FEATURES, kind, seed.derive(2)).unwrap())
            };
            Method::scatterbrain(HashSupport::new(hash), features)
        };
        let angle = (pair.dot / (pair.query_square * pair.key_square).sqrt()).acos();
        let inclusion = amplify(1.0 - angle / std::f64::consts::PI, bits, tables).unwrap();
        let low_rank = if hyperbolic { variance_hyperbolic(pair, FEATURES) } else { variance_positive(pair, FEATURES) };
        let low_rank = low_rank.unwrap();
        let predicted = variance_combined(inclusion, low_rank).unwrap();
        let (mean, mean_error, variance, variance_error) = moments(&entries(&query, &key, method));
        let exact = pair.dot.exp();
        assert!((mean - exact).abs() <= 4.0 * mean_error, "mean {mean} for {exact} ± {mean_error}");
        let off = (variance - predicted).abs();
        assert!(off <= 4.0 * variance_error, "variance {variance} for {predicted} ± {variance_error}, p̂ = {inclusion}");
        // The interval means something: the features' own variance is outside it.
        assert!(low_rank - variance > 4.0 * variance_error);
    }
}

#[test]
fn positive_features_with_one_table() {
    check(false, 2, 1);
}

#[test]
fn positive_features_with_three_tables() {
    check(false, 3, 3);
}

#[test]
fn hyperbolic_features_with_two_tables() {
    check(true, 3, 2);
}
