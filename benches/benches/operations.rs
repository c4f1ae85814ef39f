//! The operations under a call, each at every SIMD level of this CPU. Names are `<operation>/<level>/<sizes>`.
//!
//! Sizes are those of one chunk in the combiner for kernels (a panel of 16 queries against 128 keys), and of one head
//! for hashing and features.

use criterion::{BenchmarkId, Criterion, Throughput};
use scatterbrain_attention::features::{FeatureMap, HyperbolicFeatures, LogFeatures, ProjectionKind, Role};
use scatterbrain_attention::hash::{KeyRows, Smyrf, Transform};
use scatterbrain_benches::Sizes;
use scatterbrain_core::kernel::{self, PANEL, Running};
use scatterbrain_core::tile::Keys;
use scatterbrain_core::{Level, Matrix, Seed};
use std::hint::black_box;
use std::time::Duration;

const HEAD_DIM: usize = 64;
const KEYS: usize = 128;
const FEATURES: usize = 64;
const N_HASHES: usize = 2;

/// Multiply-adds of a panel against the keys.
const PAIR_ELEMENTS: u64 = (PANEL * KEYS * HEAD_DIM) as u64;

fn product(criterion: &mut Criterion) {
    let panel = Seed(0).stream(0).normals(HEAD_DIM * PANEL);
    let rows = Seed(0).stream(1).normals(KEYS * HEAD_DIM);
    let rows = Matrix::new("rows", &rows, KEYS, HEAD_DIM).expect("a shape that fits");
    let keys = Keys::Range(0..KEYS);
    let mut out = vec![0.0; KEYS * PANEL];
    let mut group = criterion.benchmark_group("product");
    group.throughput(Throughput::Elements(PAIR_ELEMENTS));
    for level in Level::available() {
        group.bench_function(BenchmarkId::new(level.name(), format!("keys={KEYS},d={HEAD_DIM}")), |bencher| {
            bencher.iter(|| {
                kernel::product(level, black_box(&panel), rows, &keys, &mut out);
                black_box(&mut out);
            });
        });
    }
    group.finish();
}

fn weighted_sum(criterion: &mut Criterion) {
    let weights = Seed(0).stream(2).normals(KEYS * PANEL);
    let rows = Seed(0).stream(3).normals(KEYS * HEAD_DIM);
    let rows = Matrix::new("rows", &rows, KEYS, HEAD_DIM).expect("a shape that fits");
    let keys = Keys::Range(0..KEYS);
    let mut sum = vec![0.0; HEAD_DIM * PANEL];
    let mut group = criterion.benchmark_group("weighted_sum");
    group.throughput(Throughput::Elements(PAIR_ELEMENTS));
    for level in Level::available() {
        group.bench_function(BenchmarkId::new(level.name(), format!("keys={KEYS},d={HEAD_DIM}")), |bencher| {
            bencher.iter(|| {
                // From zero each time: a sum that grows without end would leave f32.
                sum.fill(0.0);
                kernel::weighted_sum(level, black_box(&weights), rows, &keys, &mut sum);
                black_box(&mut sum);
            });
        });
    }
    group.finish();
}

fn exp_and_softmax(criterion: &mut Criterion) {
    let scores = Seed(0).stream(4).normals(KEYS * PANEL);
    let mut out = scores.clone();
    let name = format!("scores={}", KEYS * PANEL);
    let mut group = criterion.benchmark_group("exp");
    group.throughput(Throughput::Elements(scores.len() as u64));
    for level in Level::available() {
        group.bench_function(BenchmarkId::new(level.name(), &name), |bencher| {
            bencher.iter(|| {
                out.copy_from_slice(black_box(&scores));
                kernel::exp_slice(level, &mut out);
                black_box(&mut out);
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("softmax");
    group.throughput(Throughput::Elements(scores.len() as u64));
    for level in Level::available() {
        group.bench_function(BenchmarkId::new(level.name(), &name), |bencher| {
            bencher.iter(|| {
                out.copy_from_slice(black_box(&scores));
                let mut running = Running::default();
                kernel::softmax(level, &mut out, &mut running, None);
                black_box((&mut out, running));
            });
        });
    }
    group.finish();
}

fn smyrf_orders(criterion: &mut Criterion, sizes: Sizes) {
    let hash = Smyrf::sample(HEAD_DIM, N_HASHES, Transform::XboxPlus, Seed(0)).expect("sizes that fit");
    let mut group = criterion.benchmark_group("smyrf_orders");
    for &n in sizes.lengths() {
        let [query, key] = [5, 6].map(|part| Seed(0).stream(part).normals(n * HEAD_DIM));
        let query = Matrix::new("query", &query, n, HEAD_DIM).expect("a shape that fits");
        let key = Matrix::new("key", &key, n, HEAD_DIM).expect("a shape that fits");
        group.throughput(Throughput::Elements(n as u64));
        for level in Level::available() {
            let id = BenchmarkId::new(level.name(), format!("n={n},d={HEAD_DIM},hashes={N_HASHES}"));
            group.bench_function(id, |bencher| bencher.iter(|| hash.orders(level, query, key, KeyRows::all(key))));
        }
    }
    group.finish();
}

fn hyperbolic_features(criterion: &mut Criterion, sizes: Sizes) {
    let map = HyperbolicFeatures::sample(HEAD_DIM, FEATURES, ProjectionKind::Orthogonal, Seed(0)).expect("even");
    let factor = Role::Key.factor(1.0 / (HEAD_DIM as f32).sqrt());
    let mut out = LogFeatures::default();
    let mut group = criterion.benchmark_group("hyperbolic_features");
    for &n in sizes.lengths() {
        let rows = Seed(0).stream(7).normals(n * HEAD_DIM);
        let rows = Matrix::new("key", &rows, n, HEAD_DIM).expect("a shape that fits");
        group.throughput(Throughput::Elements(n as u64));
        for level in Level::available() {
            let id = BenchmarkId::new(level.name(), format!("n={n},d={HEAD_DIM},features={FEATURES}"));
            group.bench_function(id, |bencher| {
                bencher.iter(|| map.log_features(level, rows, factor, Role::Key, &mut out));
            });
        }
    }
    group.finish();
}

fn main() {
    let sizes = Sizes::from_arguments(std::env::args());
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    product(&mut criterion);
    weighted_sum(&mut criterion);
    exp_and_softmax(&mut criterion);
    smyrf_orders(&mut criterion, sizes);
    hyperbolic_features(&mut criterion, sizes);
    criterion.final_summary();
}
