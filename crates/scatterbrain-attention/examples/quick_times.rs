//! Time of every preset on random rows, one head: `quick_times [n] [d] [budget] [causal|full] [preset]`.

#![allow(clippy::print_stdout, reason = "it is a program")]

use scatterbrain_attention::{Mask, Options, Preset, Seed, Tensor, attend};
use std::time::Instant;

fn main() -> Result<(), scatterbrain_attention::Error> {
    let number = |at, default| std::env::args().nth(at).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (n, d, budget) = (number(1, 4096), number(2, 64), number(3, 128));
    let causal = std::env::args().nth(4).is_some_and(|a| a == "causal");
    let mut rng = Seed(1).stream(0);
    let data: Vec<Vec<f32>> = (0..3).map(|_| rng.normals(n * d)).collect();
    let [q, k, v] = [0, 1, 2].map(|i| Tensor::f32("input", &data[i], [1, 1, n, d]));
    let (q, k, v) = (q?, k?, v?);
    let mask = Mask { causal, ..Mask::default() };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    let chosen = std::env::args().nth(5);
    for preset in Preset::ALL.into_iter().filter(|p| chosen.as_ref().is_none_or(|c| c == p.name())) {
        let method = preset.method(budget, d, Seed(0))?;
        let run = || pool.install(|| attend(&q, &k, &v, &mask, &method, &Options::default()));
        run()?;
        let mut times = Vec::new();
        for _ in 0..9 {
            let start = Instant::now();
            let report = run()?.report;
            times.push((start.elapsed().as_secs_f64() * 1e3, report.setup_seconds * 1e3, report.recomputed_rows));
        }
        times.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (total, setup, recomputed) = times[4];
        println!("{:20} {total:9.2} ms, set-up {setup:7.2} ms, {recomputed} rows recomputed", preset.name());
    }
    Ok(())
}
