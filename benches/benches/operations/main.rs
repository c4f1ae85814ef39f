//! The operations under a call, each at every SIMD level of this CPU. Names are `<operation>/<level>/<sizes>`.
//!
//! Sizes are those of one chunk in the combiner for kernels (a panel of 16 queries against 128 keys), and of one head
//! for hashing, sorting, features and loads. Kernels that work in place are given a fresh copy of their input in each
//! round, and the copying is counted.

mod scans;

use criterion::{BenchmarkId, Criterion, Throughput};
use half::{bf16, f16};
use scatterbrain_attention::features::{
    EluFeatures, FeatureMap, HyperbolicFeatures, LogFeatures, ProjectionKind, ReluFeatures, Role,
};
use scatterbrain_attention::hash::{
    CrossPolytope, E2lsh, HashFamily, KeyRows, ReformerRotation, Rotation, SignRandomProjection, Smyrf, Transform,
    sort_by_code,
};
use scatterbrain_attention::{Data, Tensor};
use scatterbrain_benches::Sizes;
use scatterbrain_core::kernel::{self, PANEL, Running, Seen, Subtract, Taken};
use scatterbrain_core::tile::Keys;
use scatterbrain_core::{Level, Matrix, Seed};
use std::hint::black_box;
use std::time::Duration;

const HEAD_DIM: usize = 64;
const KEYS: usize = 128;
const FEATURES: usize = 64;
const N_HASHES: usize = 2;
const BUDGET: u32 = 32;

/// Normal numbers, the same in every run.
fn normals(stream: u64, count: usize) -> Vec<f32> {
    Seed(0).stream(stream).normals(count)
}

fn matrix(data: &[f32], cols: usize) -> Matrix<'_> {
    Matrix::new("rows", data, data.len() / cols, cols).expect("whole rows")
}

/// Keys in an order that no prefetcher guesses.
fn shuffled(count: usize) -> Vec<u32> {
    let order = normals(90, count);
    let mut keys: Vec<u32> = (0..count as u32).collect();
    keys.sort_by(|a, b| order[*a as usize].total_cmp(&order[*b as usize]));
    keys
}

/// One bench a level; `elements` are what a round works on.
fn at_every_level(
    criterion: &mut Criterion,
    operation: &str,
    sizes: &str,
    elements: usize,
    mut run: impl FnMut(Level),
) {
    let mut group = criterion.benchmark_group(operation);
    group.throughput(Throughput::Elements(elements as u64));
    for level in Level::available() {
        group.bench_function(BenchmarkId::new(level.name(), sizes), |bencher| bencher.iter(|| run(level)));
    }
    group.finish();
}

/// [`at_every_level`] of a kernel that works in place on `data`.
fn in_place(
    criterion: &mut Criterion,
    operation: &str,
    sizes: &str,
    data: &[f32],
    mut run: impl FnMut(Level, &mut [f32]),
) {
    let mut out = data.to_vec();
    at_every_level(criterion, operation, sizes, data.len(), |level| {
        out.copy_from_slice(black_box(data));
        run(level, &mut out);
        black_box(&mut out);
    });
}

fn products(criterion: &mut Criterion) {
    let (panel, weights, data) = (normals(0, HEAD_DIM * PANEL), normals(1, KEYS * PANEL), normals(2, KEYS * HEAD_DIM));
    let rows = matrix(&data, HEAD_DIM);
    let mut out = vec![0.0; KEYS * PANEL];
    let mut sum = vec![0.0; HEAD_DIM * PANEL];
    for (kind, keys) in [("range", Keys::Range(0..KEYS)), ("list", Keys::List(shuffled(KEYS)))] {
        let sizes = format!("{kind},keys={KEYS},d={HEAD_DIM}");
        let pairs = PANEL * KEYS * HEAD_DIM;
        at_every_level(criterion, "product", &sizes, pairs, |level| {
            kernel::product(level, black_box(&panel), rows, &keys, &mut out);
            black_box(&mut out);
        });
        at_every_level(criterion, "weighted_sum", &sizes, pairs, |level| {
            // From zero each time: a sum that grows without end would leave f32.
            sum.fill(0.0);
            kernel::weighted_sum(level, black_box(&weights), rows, &keys, &mut sum);
            black_box(&mut sum);
        });
    }
}

fn single_rows(criterion: &mut Criterion) {
    let (x, weights, data) = (normals(0, HEAD_DIM), normals(1, KEYS), normals(2, KEYS * HEAD_DIM));
    let (rows, keys) = (matrix(&data, HEAD_DIM), shuffled(KEYS));
    let (mut dots, mut sum) = (vec![0.0; KEYS], vec![0.0; HEAD_DIM]);
    let sizes = format!("keys={KEYS},d={HEAD_DIM}");
    at_every_level(criterion, "dot_rows", &sizes, KEYS * HEAD_DIM, |level| {
        kernel::dot_rows(level, black_box(&x), rows, &keys, &mut dots);
        black_box(&mut dots);
    });
    at_every_level(criterion, "weighted_sum_rows", &sizes, KEYS * HEAD_DIM, |level| {
        sum.fill(0.0);
        kernel::weighted_sum_rows(level, black_box(&weights), rows, &keys, &mut sum);
        black_box(&mut sum);
    });
}

fn softmax(criterion: &mut Criterion) {
    let (scores, entries) = (normals(3, KEYS * PANEL), normals(4, KEYS * PANEL));
    let log_scale = [0.5; PANEL];
    for subtracts in [false, true] {
        let sizes = format!("keys={KEYS},subtract={subtracts}");
        in_place(criterion, "softmax", &sizes, &scores, |level, scores| {
            let (mut running, mut taken) = (Running::default(), Taken::default());
            let subtract =
                subtracts.then_some(Subtract { entries: &entries, log_scale: &log_scale, taken: &mut taken });
            kernel::softmax(level, scores, &mut running, subtract);
            black_box((running, taken));
        });
    }
}

fn hide_and_select(criterion: &mut Criterion) {
    let (scores, mut entries) = (normals(3, KEYS * PANEL), normals(4, KEYS * PANEL));
    let keys = Keys::Range(0..KEYS);
    let ends = [[0; PANEL], std::array::from_fn(|lane| (KEYS - PANEL + lane) as u32)];
    let codes: Vec<u32> = (0..KEYS as u32).map(|key| key % 8).collect();
    let lanes = std::array::from_fn(|lane| lane as u32 % 8);
    let except = [(lanes, &*codes)];
    for (name, seen) in [
        ("interval", Seen { interval: Some(&ends), only: None, except: &[] }),
        ("codes", Seen { interval: None, only: None, except: &except }),
        ("both", Seen { interval: Some(&ends), only: None, except: &except }),
    ] {
        in_place(criterion, "hide", &format!("{name},keys={KEYS}"), &scores, |level, scores| {
            black_box(kernel::hide(level, &keys, &seen, scores, &mut entries));
        });
    }
    in_place(criterion, "hide", &format!("weights,keys={KEYS}"), &scores, |level, weights| {
        let seen = Seen { interval: Some(&ends), only: None, except: &[] };
        black_box(kernel::hide(level, &keys, &seen, &mut [], weights));
    });
    for keys in [KEYS, 4 * KEYS] {
        let scores = normals(5, keys * PANEL);
        let mut chosen = vec![0; keys.div_ceil(kernel::WORD) * PANEL];
        in_place(criterion, "select", &format!("keys={keys},budget={BUDGET}"), &scores, |level, scores| {
            kernel::select(level, scores, BUDGET..=BUDGET, &mut chosen);
            black_box(&mut chosen);
        });
    }
}

fn packing(criterion: &mut Criterion) {
    let data = normals(6, PANEL * HEAD_DIM);
    let (rows, listed) = (matrix(&data, HEAD_DIM), shuffled(PANEL));
    let mut out = vec![0.0; data.len()];
    let sizes = format!("rows={PANEL},d={HEAD_DIM}");
    at_every_level(criterion, "pack", &sizes, data.len(), |level| {
        kernel::pack(level, rows, black_box(&listed), 0.5, &mut out);
        black_box(&mut out);
    });
    at_every_level(criterion, "pack_rows", &sizes, data.len(), |level| {
        kernel::pack_rows(level, black_box(&data), HEAD_DIM, &mut out);
        black_box(&mut out);
    });
    at_every_level(criterion, "unpack_rows", &sizes, data.len(), |level| {
        kernel::unpack_rows(level, black_box(&data), &mut out);
        black_box(&mut out);
    });
}

fn copies(criterion: &mut Criterion) {
    let data = normals(7, KEYS * HEAD_DIM);
    let (rows, keys, kept) = (matrix(&data, HEAD_DIM), shuffled(KEYS), vec![0.5; KEYS]);
    let sizes = format!("rows={KEYS},d={HEAD_DIM}");
    let mut out = vec![0.0; data.len()];
    at_every_level(criterion, "gather_rows", &sizes, data.len(), |level| {
        kernel::gather_rows(level, rows, black_box(&keys), &mut out);
        black_box(&mut out);
    });
    at_every_level(criterion, "scatter_rows", &sizes, data.len(), |level| {
        kernel::scatter_rows(level, black_box(&data), HEAD_DIM, &keys, &kept, &mut out);
        black_box(&mut out);
    });
}

fn element_wise(criterion: &mut Criterion) {
    let data = normals(8, KEYS * PANEL);
    let positive: Vec<f32> = data.iter().map(|x| x.abs()).collect();
    let sizes = format!("numbers={}", data.len());
    in_place(criterion, "exp_slice", &sizes, &data, kernel::exp_slice);
    in_place(criterion, "exp2_slice", &sizes, &data, kernel::exp2_slice);
    in_place(criterion, "ln_slice", &sizes, &positive, kernel::ln_slice);
}

fn looks(criterion: &mut Criterion) {
    let data = normals(9, KEYS * HEAD_DIM);
    let rows = matrix(&data, HEAD_DIM);
    let mut norms = vec![0.0; KEYS];
    let sizes = format!("rows={KEYS},d={HEAD_DIM}");
    at_every_level(criterion, "extent", &sizes, data.len(), |level| {
        black_box(kernel::extent(level, black_box(rows), KEYS));
    });
    at_every_level(criterion, "square_norms", &sizes, data.len(), |level| {
        kernel::square_norms(level, black_box(rows), &mut norms);
        black_box(&mut norms);
    });
}

fn lanes(criterion: &mut Criterion) {
    let (panel, other) = (normals(10, HEAD_DIM * PANEL), normals(11, HEAD_DIM * PANEL));
    let (factor, share, mut sum) = ([0.5; PANEL], [0.25; PANEL], [0.0; PANEL]);
    let sizes = format!("d={HEAD_DIM}");
    in_place(criterion, "scale_lanes", &sizes, &panel, |level, panel| kernel::scale_lanes(level, panel, &factor));
    in_place(criterion, "blend_lanes", &sizes, &panel, |level, panel| {
        kernel::blend_lanes(level, panel, &factor, &other, &share);
    });
    at_every_level(criterion, "add_lanes", &sizes, panel.len(), |level| {
        sum = [0.0; PANEL];
        kernel::add_lanes(level, black_box(&panel), &mut sum);
        black_box(&mut sum);
    });
    at_every_level(criterion, "lane_argmax", &sizes, panel.len(), |level| {
        black_box(kernel::lane_argmax(level, black_box(&panel), &[0.5; HEAD_DIM]));
    });
    at_every_level(criterion, "sign_bits", "bits=32", 32 * PANEL, |level| {
        black_box(kernel::sign_bits(level, black_box(&panel[..32 * PANEL])));
    });
    at_every_level(criterion, "largest_signed", &format!("projections={HEAD_DIM}"), panel.len(), |level| {
        black_box(kernel::largest_signed(level, black_box(&panel)));
    });
}

fn feature_kernels(criterion: &mut Criterion) {
    let (rows, panel, dots) = (normals(12, KEYS * FEATURES), normals(13, FEATURES * PANEL), normals(14, KEYS * PANEL));
    let (reference, offset, scale) = (vec![3.0; FEATURES], vec![0.5; KEYS], [2.0; PANEL]);
    let sizes = format!("rows={KEYS},features={FEATURES}");
    let lanes = format!("features={FEATURES}");
    let mut top = reference.clone();
    let mut out = vec![0.0; rows.len()];
    at_every_level(criterion, "raise", &sizes, rows.len(), |level| {
        kernel::raise(level, black_box(&rows), &mut top);
        black_box(&mut top);
    });
    in_place(criterion, "exp_below", &sizes, &rows, |level, rows| kernel::exp_below(level, rows, &reference));
    at_every_level(criterion, "lane_tops", &lanes, panel.len(), |level| {
        black_box(kernel::lane_tops(level, black_box(&panel), &reference));
    });
    in_place(criterion, "exp_lanes", &lanes, &panel, |level, panel| {
        kernel::exp_lanes(level, panel, &reference, &scale);
    });
    at_every_level(criterion, "affine_rows", &sizes, dots.len(), |level| {
        kernel::affine_rows(level, black_box(&dots), (0.5, &offset), &mut out, (FEATURES, PANEL, PANEL));
        black_box(&mut out);
    });
    at_every_level(criterion, "affine_lanes", &lanes, panel.len(), |level| {
        kernel::affine_lanes(level, black_box(&panel), (0.5, &scale), &mut out[..FEATURES * PANEL]);
        black_box(&mut out);
    });
    at_every_level(criterion, "relu_logs", &sizes, dots.len(), |level| {
        kernel::relu_logs(level, black_box(&dots), (0.5, 0.25), &mut out, (FEATURES, PANEL, PANEL));
        black_box(&mut out);
    });
    at_every_level(criterion, "elu_logs", &sizes, rows.len(), |level| {
        kernel::elu_logs(level, matrix(black_box(&rows), FEATURES), &mut out);
        black_box(&mut out);
    });
}

fn hashing(criterion: &mut Criterion, sizes: Sizes) {
    let (d, l, seed) = (HEAD_DIM, N_HASHES, Seed(0));
    let families: [(&str, Box<dyn HashFamily>); 4] = [
        ("sign_random_projection/bits=16", Box::new(SignRandomProjection::sample(d, l, 16, seed).expect("sizes"))),
        ("cross_polytope/k=1", Box::new(CrossPolytope::sample(d, l, 1, Rotation::Orthogonal, seed).expect("sizes"))),
        ("e2lsh/k=4,w=4", Box::new(E2lsh::sample(d, l, 4, 4.0, seed).expect("sizes"))),
        ("reformer_rotation/buckets=64", Box::new(ReformerRotation::sample(d, l, 64, seed).expect("sizes"))),
    ];
    let smyrf = Smyrf::sample(d, l, Transform::XboxPlus, seed).expect("sizes");
    for &n in sizes.lengths() {
        let (query, key) = (normals(15, n * d), normals(16, n * d));
        let (query, key) = (matrix(&query, d), matrix(&key, d));
        let sizes = format!("n={n},d={d},hashes={l}");
        for (name, family) in &families {
            at_every_level(criterion, &format!("codes/{name}"), &sizes, n, |level| {
                black_box(family.codes(level, key)).expect("rows that fit");
            });
        }
        at_every_level(criterion, "smyrf_orders", &sizes, n, |level| {
            black_box(smyrf.orders(level, query, key, KeyRows::all(key))).expect("rows that fit");
        });
    }
}

fn sorting(criterion: &mut Criterion, sizes: Sizes) {
    let mut group = criterion.benchmark_group("sort_by_code");
    for &n in sizes.lengths() {
        group.throughput(Throughput::Elements(n as u64));
        for codes in [64, 1 << 32] {
            let mut rng = Seed(0).stream(17);
            let list: Vec<u32> = (0..n).map(|_| rng.below(codes) as u32).collect();
            let id = BenchmarkId::from_parameter(format!("n={n},codes={codes}"));
            group.bench_function(id, |bencher| bencher.iter(|| sort_by_code(black_box(&list))));
        }
    }
    group.finish();
}

fn features(criterion: &mut Criterion, sizes: Sizes) {
    let (d, kind, seed) = (HEAD_DIM, ProjectionKind::Orthogonal, Seed(0));
    let maps: [(&str, Box<dyn FeatureMap>); 3] = [
        ("hyperbolic", Box::new(HyperbolicFeatures::sample(d, FEATURES, kind, seed).expect("even"))),
        ("relu", Box::new(ReluFeatures::sample(d, FEATURES, kind, seed).expect("sizes"))),
        ("elu", Box::new(EluFeatures::new(d).expect("sizes"))),
    ];
    let factor = Role::Key.factor(1.0 / (d as f32).sqrt());
    let mut out = LogFeatures::default();
    for &n in sizes.lengths() {
        let rows = normals(18, n * d);
        let rows = matrix(&rows, d);
        let sizes = format!("n={n},d={d},features={FEATURES}");
        for (name, map) in &maps {
            at_every_level(criterion, &format!("log_features/{name}"), &sizes, n, |level| {
                map.log_features(level, rows, factor, Role::Key, &mut out).expect("rows that fit");
                black_box(&mut out);
            });
            let mut panels = Vec::new();
            at_every_level(criterion, &format!("log_panels/{name}"), &sizes, n, |level| {
                map.log_panels(level, rows, factor, Role::Query, &mut panels).expect("rows that fit");
                black_box(&mut panels);
            });
        }
    }
}

/// One head out of a tensor, contiguous and with columns a stride apart; f32 is read in place where it can be.
fn loads(criterion: &mut Criterion, sizes: Sizes) {
    let mut group = criterion.benchmark_group("head");
    for &n in sizes.lengths() {
        let numbers = normals(19, n * HEAD_DIM);
        let halves: Vec<f16> = numbers.iter().map(|x| f16::from_f32(*x)).collect();
        let brains: Vec<bf16> = numbers.iter().map(|x| bf16::from_f32(*x)).collect();
        group.throughput(Throughput::Elements(numbers.len() as u64));
        for (name, data) in [("f32", Data::F32(&numbers)), ("f16", Data::F16(&halves)), ("bf16", Data::Bf16(&brains))] {
            let shape = [1, 1, n, HEAD_DIM];
            for (order, strides) in [("rows", [0, 0, HEAD_DIM, 1]), ("columns", [0, 0, 1, n])] {
                let tensor = Tensor::strided("key", data, shape, strides).expect("a shape that fits");
                let id = BenchmarkId::new(name, format!("{order},n={n},d={HEAD_DIM}"));
                group.bench_function(id, |bencher| bencher.iter(|| black_box(tensor.head(0, 0))));
            }
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
    let kernels = [
        products,
        scans::codes,
        scans::weights,
        single_rows,
        softmax,
        hide_and_select,
        packing,
        copies,
        element_wise,
        looks,
        lanes,
        feature_kernels,
    ];
    kernels.iter().for_each(|kernel| kernel(&mut criterion));
    for part in [hashing, sorting, features, loads] {
        part(&mut criterion, sizes);
    }
    criterion.final_summary();
}
