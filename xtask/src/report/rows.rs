//! Normalised rows, and what entries are worth: the library's positive and trigonometric features against formulas of
//! ratios.

use super::bounds::event;
use super::checks::{Item, dot};
use super::samples::{Family, Map, Vectors};
use anyhow::Result;
use scatterbrain_attention::features::ProjectionKind::Gaussian;
use scatterbrain_attention::features::{FeatureBackground, PositiveFeatures};
use scatterbrain_attention::{Mask, Method, Options, Seed, Tensor, attend};
use scatterbrain_theory::{
    Claim, Draws, Estimator, Pair, RatioMoments, covariance_positive, features_to_beat_uniform_gaussian,
    kurtosis_positive, mean_of_reused_directions, ratio_delta_method, ratio_error_bernstein, ratio_error_cantelli,
    variance_trigonometric,
};

const DIM: usize = 2;
const QUERY: [f32; DIM] = [0.5, 0.25];
const KEYS: [f32; 3 * DIM] = [0.5, 0.0, -0.25, 0.5, 0.125, -0.625];
const VALUES: [f32; 3] = [1.0, -0.5, 2.0];

pub(super) fn push(items: &mut Vec<Item>) -> Result<()> {
    ratios(items)?;
    bounded_ratio(items)?;
    entries(items)
}

/// The output of a row by m features.
fn ratios(items: &mut Vec<Item>) -> Result<()> {
    let (few, many) = (16, 400);
    let delta = ratio_delta_method(moments(many)?)?;
    let output = move |draws: &mut Draws| output(many, Seed(draws.seed())).unwrap_or(f64::NAN);
    let claim = Claim::Equals(delta.variance);
    let item =
        Item::new("variance of an output, 400 features", "ratio_delta_method", claim, Estimator::Variance, output);
    items.push(Item { max_trials: 1 << 17, ..item });
    let (moments, t) = (moments(few)?, 0.5);
    let bound = Claim::AtMost(ratio_error_cantelli(moments, t)?);
    let name = "output of 16 features off by more than ½";
    items.push(event(name, "ratio_error_cantelli", bound, move |draws| {
        Some((self::output(few, Seed(draws.seed())).ok()? - moments.ratio()).abs() > t)
    }));
    Ok(())
}

/// A key against a known background of 1, its weight by 64 projections of trigonometric features.
fn bounded_ratio(items: &mut Vec<Item>) -> Result<()> {
    let vectors = || Vectors { query: vec![0.5, 0.2], key: vec![-0.4, 0.3] };
    let (projections, t) = (64, 0.1);
    let map = Map { family: Family::Trigonometric, kind: Gaussian, n_features: 2 * projections };
    let pair = vectors().pair()?;
    let (entry, variance) = (pair.entry(), variance_trigonometric(pair, 1)?);
    let one = RatioMoments {
        numerator: entry,
        denominator: entry + 1.0,
        variance_numerator: variance,
        variance_denominator: variance,
        covariance: variance,
    };
    // N̂ − oẐ ∓ tẐ moves with the weight alone, which is at most e^{(|q|² + |k|²)/2} in size.
    let range = (1.0 - one.ratio() + t) * ((0.5 * (pair.query_square + pair.key_square)).exp() + entry);
    let bound = Claim::AtMost(ratio_error_bernstein(one, range, projections, t)?);
    let name = "share of a key, 64 projections, off by more than 1/10";
    items.push(event(name, "ratio_error_bernstein", bound, move |draws| {
        let weight = map.product(&vectors(), Seed(draws.seed()));
        Some((weight / (weight + 1.0) - one.ratio()).abs() > t)
    }));
    Ok(())
}

fn entries(items: &mut Vec<Item>) -> Result<()> {
    // The fourth moment is the kurtosis times the squared variance.
    let map = Map { family: Family::Positive, kind: Gaussian, n_features: 1 };
    let vectors = || Vectors { query: vec![0.125, 0.0], key: vec![0.0, 0.0625] };
    let pair = vectors().pair()?;
    let (entry, square) = (pair.entry(), pair.sum_square());
    let claim = Claim::Equals(kurtosis_positive(pair)? * square.exp_m1().powi(2));
    let fourth = move |draws: &mut Draws| (map.product(&vectors(), Seed(draws.seed())) / entry - 1.0).powi(4);
    let item = Item::new("fourth moment of a positive feature", "kurtosis_positive", claim, Estimator::Mean, fourth);
    items.push(item);

    // As many features as beat the uniform row leave its error, Var A.
    let (t, d) = (0.02f64, 4);
    let features = features_to_beat_uniform_gaussian(t * (d as f64).sqrt(), d)?;
    let dim = d as f64;
    let uniform = (1.0 - 4.0 * t * t).powf(-0.5 * dim) - (1.0 - t * t).powf(-dim);
    let pair = move |draws: &mut Draws| {
        let mut row = || (0..d).map(|_| (t.sqrt() * draws.standard_normal()) as f32).collect::<Vec<f32>>();
        let vectors = Vectors { query: row(), key: row() };
        let entry = vectors.pair().map_or(f64::NAN, |pair| pair.entry());
        let map = Map { family: Family::Positive, kind: Gaussian, n_features: 4 };
        map.product(&vectors, Seed(draws.seed())) - entry
    };
    let name = "error of 4 features, q and k normal";
    let claim = Claim::Equals(uniform * features / 4.0);
    items.push(Item::new(name, "features_to_beat_uniform_gaussian", claim, Estimator::SecondMoment, pair));

    let (query, key) = ([0.6, 0.2], [0.5, -0.3]);
    let share = mean_of_reused_directions(Pair::of(&query, &key)?, 1)?;
    let reused = move |draws: &mut Draws| {
        let w = draws.normals::<2>();
        let (q, k) = (dot(&w, &query), dot(&w, &key));
        let entry = dot(&query, &key);
        let feature = (q + k - 0.5 * (dot(&query, &query) + dot(&key, &key)) - entry).exp();
        if (q > 0.0) == (k > 0.0) { 1.0 } else { feature }
    };
    let name = "mean where the hash reuses the feature's direction";
    items.push(Item::new(name, "mean_of_reused_directions", Claim::Equals(share), Estimator::Mean, reused));
    Ok(())
}

/// N̂/Ẑ of the library's positive features.
fn output(features: usize, seed: Seed) -> Result<f64> {
    let map = PositiveFeatures::sample(DIM, features, Gaussian, seed)?;
    let query = Tensor::f32("query", &QUERY, [1, 1, 1, DIM])?;
    let key = Tensor::f32("key", &KEYS, [1, 1, 3, DIM])?;
    let value = Tensor::f32("value", &VALUES, [1, 1, 3, 1])?;
    let options = Options { scale: Some(1.0), ..Options::default() };
    let method = Method::low_rank(FeatureBackground::new(map));
    Ok(f64::from(attend(&query, &key, &value, &Mask::default(), &method, &options)?.output[0]))
}

fn moments(features: usize) -> Result<RatioMoments> {
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let (query, keys) = (wide(&QUERY), wide(&KEYS));
    let key = |j: usize| &keys[j * DIM..][..DIM];
    let entries: Vec<f64> = (0..3).map(|j| dot(&query, key(j)).exp()).collect();
    let covariance: Result<Vec<f64>, _> =
        (0..9).map(|at| covariance_positive(&query, key(at / 3), key(at % 3), features)).collect();
    Ok(RatioMoments::of_row(&entries, &covariance?, &wide(&VALUES))?)
}
