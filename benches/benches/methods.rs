//! One call of every preset: one head, d = d_v = 64, budget 128, one thread, with and without a causal mask; planning, and a
//! call by the plan (`auto`).
//!
//! Names are `attend/<mask>/<preset>/n=…,d=…,b=…` and `plan/<mask>/n=…,d=…,e=…`. Drawing hashes and projections is outside the timing; hashing,
//! features and sums, which depend on the input, are inside.

use criterion::{BenchmarkId, Criterion};
use scatterbrain_attention::plan::{PlanOptions, Request, plan};
use scatterbrain_attention::{Mask, Method, Options, Preset, Seed, Tensor, attend};
use scatterbrain_benches::Sizes;
use std::time::Duration;

const HEAD_DIM: usize = 64;
const BUDGET: usize = 128;
/// What a plan is to keep.
const ERROR: f64 = 0.05;

fn methods(criterion: &mut Criterion, sizes: Sizes) {
    for &n in sizes.lengths() {
        let [query, key, value] = [0, 1, 2].map(|part| Seed(n as u64).stream(part).normals(n * HEAD_DIM));
        let shape = [1, 1, n, HEAD_DIM];
        let query = Tensor::f32("query", &query, shape).expect("a shape that fits");
        let key = Tensor::f32("key", &key, shape).expect("a shape that fits");
        let value = Tensor::f32("value", &value, shape).expect("a shape that fits");
        for (mask_name, mask) in [("dense", Mask::default()), ("causal", Mask::causal())] {
            let mut group = criterion.benchmark_group(format!("attend/{mask_name}"));
            for preset in Preset::ALL {
                let method = preset.method(BUDGET, HEAD_DIM, Seed(0)).expect("a budget that fits");
                let id = BenchmarkId::new(preset.name(), format!("n={n},d={HEAD_DIM},b={BUDGET}"));
                group.bench_function(id, |bencher| {
                    bencher.iter(|| attend(&query, &key, &value, &mask, &method, &Options::default()));
                });
            }
            let request = PlanOptions { request: Request::Error(ERROR), ..PlanOptions::default() };
            let make =
                || plan(&query, &key, &value, &mask, &request, &Options::default()).expect("a request that is kept");
            let sizes = format!("n={n},d={HEAD_DIM},e={ERROR}");
            let auto = Method::planned(make());
            group.bench_function(BenchmarkId::new("auto", &sizes), |bencher| {
                bencher.iter(|| attend(&query, &key, &value, &mask, &auto, &Options::default()));
            });
            group.finish();
            criterion.bench_function(&format!("plan/{mask_name}/{sizes}"), |bencher| bencher.iter(make));
        }
    }
}

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    let sizes = Sizes::from_arguments(std::env::args());
    pool.install(|| {
        let mut criterion = Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(2))
            .configure_from_args();
        methods(&mut criterion, sizes);
        criterion.final_summary();
    });
}
