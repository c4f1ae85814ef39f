//! Unbiased estimates through the production path. The paper's theorem on unnormalised entries: E[Â] = A and
//! Var Â = (1 − p̂)·Var φ·φ, with fresh and independent hashes and features in every trial. And sampled keys: E[Â] = A.
//!
//! Features: one query and one key: the row's log-sum-exp is ln Â. Seeded; each assertion is a two-sided 4-sigma interval
//! (confidence 99.99 % for each of the twelve), the variance's sigma from the sample's fourth moment.

use scatterbrain_blocks::WindowSupport;
use scatterbrain_combine::{HashSupport, Method, Options, attend};
use scatterbrain_core::{Mask, MaskTensor, Seed, Tensor, Window};
use scatterbrain_features::{
    FeatureBackground, HyperbolicFeatures, PositiveFeatures, ProjectionKind, SampledBackground,
};
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

/// Unnormalised entries of sampled keys, off a support and without one, have the exact entries as their mean, for every
/// pair that a mask shows: values are the unit vectors, so an output row times e^{log-sum-exp} is a row of Â.
///
/// Draws are seeds; each of the 920 entries is held to 5 sigma, all of them together to a confidence of 99.9 %.
#[test]
fn sampled_keys_are_unbiased_under_every_mask() {
    let (n, m, samples, trials) = (5, 23, 6, 4000);
    let mut rng = Seed(31).stream(0);
    let (query, key) = (rng.normals(n * D), rng.normals(m * D));
    let identity: Vec<f32> = (0..m * m).map(|x| f32::from(u8::from(x / m == x % m))).collect();
    let allowed: Vec<u8> = (0..n * m).map(|_| u8::from(rng.below(3) > 0)).collect();
    let window = Some(Window { left: 9, right: 2, align: Default::default() });
    let masks = [
        Mask::default(),
        Mask::causal(),
        Mask { window, ..Mask::default() },
        Mask { allowed: Some(MaskTensor::new(&allowed, [1, 1, n, m]).unwrap()), ..Mask::causal() },
    ];
    let query_tensor = Tensor::f32("query", &query, [1, 1, n, D]).unwrap();
    let key_tensor = Tensor::f32("key", &key, [1, 1, m, D]).unwrap();
    let value = Tensor::f32("value", &identity, [1, 1, m, m]).unwrap();
    let options = Options { scale: Some(0.5), log_sum_exp: true, ..Options::default() };
    for (mask, support) in masks.iter().flat_map(|mask| [(mask, false), (mask, true)]) {
        let (mut sums, mut squares) = (vec![0.0f64; n * m], vec![0.0f64; n * m]);
        for trial in 0..trials {
            let far = SampledBackground::new(samples, Seed(trial)).unwrap();
            let method = if support {
                Method::scatterbrain(WindowSupport::last(3).unwrap(), far)
            } else {
                Method::low_rank(far)
            };
            let got = attend(&query_tensor, &key_tensor, &value, mask, &method, &options).unwrap();
            let lse = got.log_sum_exp.unwrap();
            for (at, x) in got.output.iter().enumerate() {
                let entry = f64::from(*x) * f64::from(lse[at / m]).exp();
                sums[at] += entry;
                squares[at] += entry * entry;
            }
        }
        for (i, j) in (0..n).flat_map(|i| (0..m).map(move |j| (i, j))) {
            let mean = sums[i * m + j] / trials as f64;
            let variance = squares[i * m + j] / trials as f64 - mean * mean;
            let dot: f64 = (0..D).map(|c| f64::from(query[i * D + c]) * f64::from(key[j * D + c])).sum();
            let seen = mask.head(0, 0, n, m).sees(i, j);
            let exact = if seen { (0.5 * dot).exp() } else { 0.0 };
            let sigma = (variance.max(0.0) / trials as f64).sqrt();
            assert!((mean - exact).abs() <= 5.0 * sigma + 1e-5 * exact, "({i}, {j}): {mean} for {exact} ± {sigma}");
        }
    }
}
