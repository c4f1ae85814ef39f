//! Time of planned configurations over that of exact attention, measured and as the planner predicts it, on random rows
//! and one thread: `plan_costs [repeats]`. What the constants of the planner's costs are fitted to.

#![allow(clippy::print_stdout, reason = "it is a program")]

use scatterbrain_attention::plan::{Config, HeadPlan, LayerPlan, Request};
use scatterbrain_attention::{Mask, Method, Options, Seed, Tensor, attend};
use std::time::Instant;

fn main() -> Result<(), scatterbrain_attention::Error> {
    let repeats = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(7);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    println!("n      d    mask     exact      measured predicted configuration");
    for (n, d, causal) in
        [(512, 64, false), (1500, 64, false), (4096, 64, true), (1024, 32, true), (2000, 16, true), (4096, 128, true)]
    {
        let mask = Mask { causal, ..Mask::default() };
        let data = Seed(1).stream(0).normals(n * d);
        let x = Tensor::f32("input", &data, [1, 1, n, d])?;
        let time = |config| {
            let plan = one(config, n, d, causal);
            let method = Method::planned(plan);
            let start = Instant::now();
            pool.install(|| attend(&x, &x, &x, &mask, &method, &Options::default()))
                .map(|_| start.elapsed().as_secs_f64())
        };
        for config in configs(n) {
            let mut times = (Vec::new(), Vec::new());
            for _ in 0..repeats {
                times.0.push(time(Config::Exact)?);
                times.1.push(time(config)?);
            }
            let [exact, own] = [times.0, times.1].map(|mut t: Vec<f64>| {
                t.sort_by(f64::total_cmp);
                t[t.len() / 2]
            });
            let predicted = one(config, n, d, causal).costs(n, n, &mask)[0];
            let name = if causal { "causal" } else { "none" };
            let ratio = own / exact;
            println!("{n:<6} {d:<4} {name:<8} {:7.2} ms {ratio:9.3} {predicted:9.3} {config:?}", exact * 1e3);
        }
    }
    Ok(())
}

fn configs(n: usize) -> Vec<Config> {
    vec![
        Config::Uniform,
        Config::Centroids { centroids: 16 },
        Config::Centroids { centroids: 64 },
        Config::Window { keys: n / 32, sinks: 4, centroids: 0 },
        Config::Window { keys: n / 8, sinks: 4, centroids: 0 },
        Config::Window { keys: n / 32, sinks: 4, centroids: 32 },
        Config::Window { keys: n / 8, sinks: 4, centroids: 32 },
        Config::Scan { keys: 16, steps: 31 },
        Config::Scan { keys: 64, steps: 127 },
        Config::QuantisedTopK { keys: n / 128, centroids: 0 },
        Config::QuantisedTopK { keys: n / 32, centroids: 0 },
        Config::QuantisedTopK { keys: n / 8, centroids: 0 },
        Config::QuantisedTopK { keys: n / 32, centroids: 16 },
        Config::QuantisedTopK { keys: n / 32, centroids: 64 },
    ]
}

/// A plan of one head, which no cost overrules.
fn one(config: Config, n: usize, d: usize, causal: bool) -> LayerPlan {
    let head = HeadPlan { config, error: None, error_bound: None, cost: 1.0, exact_share: 0.0, scan_share: 1.0 };
    let heads = vec![head];
    let request = Request::Units(n);
    LayerPlan { request, seed: Seed(0), rows: 64, causal, n, m: n, head_dim: d, value_dim: d, kv_heads: 1, heads }
}
