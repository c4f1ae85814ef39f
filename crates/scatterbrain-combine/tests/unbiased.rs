//! Unbiased estimates through the production path. The paper's theorem on unnormalised entries: E[Â] = A and
//! Var Â = (1 − p̂)·Var φ·φ, with fresh and independent hashes and features in every trial. And sampled keys: E[Â] = A.
//!
//! Features: one query and one key: the row's log-sum-exp is ln Â. Seeded; each assertion is a two-sided 4-sigma interval
//! (confidence 99.99 % for each of the twelve), the variance's sigma from the sample's fourth moment.

use scatterbrain_blocks::WindowSupport;
use scatterbrain_combine::{HashSupport, Method, Options, attend};
use scatterbrain_core::tile::Background;
use scatterbrain_core::{Mask, MaskTensor, Seed, Tensor, Window};
use scatterbrain_features::{
    FeatureBackground, HyperbolicFeatures, PositiveFeatures, ProjectionKind, SampledBackground, SampledRestBackground,
};
use scatterbrain_hash::{SignRandomProjection, amplify};
use scatterbrain_theory::{Pair, variance_combined, variance_hyperbolic, variance_positive};
use std::sync::Arc;

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

/// A background of so many keys.
type Kind = fn(usize, Seed) -> Arc<dyn Background>;

/// Keys sampled uniformly, by the norms of values, and off the support.
const KINDS: [Kind; 3] = [
    |samples, seed| Arc::new(SampledBackground::new(samples, seed).unwrap()),
    |samples, seed| Arc::new(SampledBackground::by_value_norm(samples, seed).unwrap()),
    |samples, seed| Arc::new(SampledRestBackground::new(samples, seed).unwrap()),
];

/// Unnormalised entries of sampled keys, off a support and without one, have the exact entries as their mean, for every
/// pair that a mask shows: values are multiples of the unit vectors, so an output row times e^{log-sum-exp} is a row of Â
/// times those.
///
/// Draws are seeds; each of the 2760 entries is held to 5 sigma, all of them together to a confidence of 99.8 %.
#[test]
fn sampled_keys_are_unbiased_under_every_mask() {
    let (n, m, samples, trials) = (5, 23, 6, 4000);
    let mut rng = Seed(31).stream(0);
    let (query, key) = (rng.normals(n * D), rng.normals(m * D));
    let multiple = |j: usize| [1.0f32, 0.25, 4.0][j % 3];
    let value: Vec<f32> = (0..m * m).map(|x| if x / m == x % m { multiple(x % m) } else { 0.0 }).collect();
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
    let value = Tensor::f32("value", &value, [1, 1, m, m]).unwrap();
    let options = Options { scale: Some(0.5), log_sum_exp: true, ..Options::default() };
    let cases = masks.iter().flat_map(|mask| [(mask, false), (mask, true)]);
    for (kind, (mask, support)) in cases.flat_map(|case| (0..KINDS.len()).map(move |kind| (kind, case))) {
        let (mut sums, mut squares) = (vec![0.0f64; n * m], vec![0.0f64; n * m]);
        for trial in 0..trials {
            let far = KINDS[kind](samples, Seed(trial));
            let method = if support {
                Method::scatterbrain_shared(Arc::new(WindowSupport::last(3).unwrap()), far)
            } else {
                Method::low_rank_shared(far)
            };
            let got = attend(&query_tensor, &key_tensor, &value, mask, &method, &options).unwrap();
            let lse = got.log_sum_exp.unwrap();
            for (at, x) in got.output.iter().enumerate() {
                let entry = f64::from(*x / multiple(at % m)) * f64::from(lse[at / m]).exp();
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
            let off = (mean - exact).abs();
            assert!(off <= 5.0 * sigma + 1e-5 * exact, "kind {kind} ({i}, {j}): {mean} for {exact} ± {sigma}");
        }
    }
}

/// A target of almost no error takes every key; one of any error takes the first sample alone; and one of 10 % at 95 % is
/// kept by the denominators of at least 90 % of rows and seeds (the theorem behind it is asymptotic, its figures estimates).
#[test]
fn targets_of_sampled_keys_are_kept() {
    let (n, m, samples) = (40, 400, 32);
    let mut rng = Seed(32).stream(0);
    let (query, key, value) = (rng.normals(n * D), rng.normals(m * D), rng.normals(m * D));
    let tensor = |name, data, rows| Tensor::f32(name, data, [1, 1, rows, D]).unwrap();
    let (query, key, value) = (tensor("query", &query, n), tensor("key", &key, m), tensor("value", &value, m));
    let options = Options { scale: Some(0.5), log_sum_exp: true, ..Options::default() };
    let call = |method: &Method| attend(&query, &key, &value, &Mask::default(), method, &options).unwrap();
    let of = |seed, target: Option<f64>| {
        let far = SampledRestBackground::new(samples, Seed(seed)).unwrap();
        let far = target.map_or(far, |error| far.with_target(error, 1.96).unwrap());
        call(&Method::scatterbrain(WindowSupport::around(16).unwrap(), far))
    };
    let exact = call(&Method::exact());
    let worst = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(worst(&of(0, Some(1e-9)).output, &exact.output) < 4e-6);
    assert_eq!(of(0, Some(1e9)).output, of(0, None).output);
    let want = exact.log_sum_exp.unwrap();
    let kept = |target| {
        let rows = (0..200).flat_map(|seed| of(seed, target).log_sum_exp.unwrap());
        rows.zip(want.iter().cycle()).filter(|(got, want)| ((got - *want).exp() - 1.0).abs() <= 0.1).count()
    };
    let (with, without) = (kept(Some(0.1)) as f64 / (200 * n) as f64, kept(None) as f64 / (200 * n) as f64);
    assert!(with >= 0.9 && without < 0.9, "{with} with the target, {without} without");
    let far = SampledRestBackground::new(1, Seed(0)).unwrap();
    assert!(far.with_target(0.1, 1.96).is_err());
    for (error, quantile) in [(0.0, 1.0), (0.1, -1.0), (f64::NAN, 1.0), (0.1, f64::INFINITY)] {
        assert!(SampledRestBackground::new(2, Seed(0)).unwrap().with_target(error, quantile).is_err());
    }
}
