//! Exact attention of this crate beside candle-nn's own, on one thread: its `flash_attn`, and product, softmax, product.
//!
//! Names are `attention/<mask>/<engine>/n=…,h=…,d=…`. `cargo bench -p scatterbrain-candle` first times the engines call by
//! call in turn and prints medians with their ratios, then measures each by itself; `cargo test` runs each once, on
//! small inputs.

#![allow(clippy::print_stdout, reason = "ratios are for people")]

use candle_core::{Device, Result, Tensor};
use candle_nn::attention::{AttnMask, flash_attn};
use candle_nn::ops::softmax_last_dim;
use criterion::{BenchmarkId, Criterion};
use scatterbrain_candle::{Mask, ScatterbrainAttention};
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

const HEADS: usize = 2;
const HEAD_DIM: usize = 64;
/// Calls of each engine whose median the ratios are of.
const ROUNDS: usize = 7;

/// What the engines are given: the layouts that each of them likes best.
struct Case {
    n: usize,
    causal: bool,
    /// `[1, n, heads, d]`.
    by_row: [Tensor; 3],
    /// `[1, heads, n, d]`.
    by_head: [Tensor; 3],
    /// 0 or −∞, `[n, n]`.
    bias: Option<Tensor>,
}

const ENGINES: [&str; 3] = ["scatterbrain", "flash_attn", "matmul"];

impl Case {
    fn new(n: usize, causal: bool) -> Result<Self> {
        let random = || Tensor::randn(0f32, 1.0, (1, n, HEADS, HEAD_DIM), &Device::Cpu);
        let by_row = [random()?, random()?, random()?];
        let turned = |x: &Tensor| x.transpose(1, 2)?.contiguous();
        let by_head = [turned(&by_row[0])?, turned(&by_row[1])?, turned(&by_row[2])?];
        let hidden = |i: usize| (0..n).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 });
        let bias = causal.then(|| Tensor::from_vec((0..n).flat_map(hidden).collect(), (n, n), &Device::Cpu));
        Ok(Self { n, causal, by_row, by_head, bias: bias.transpose()? })
    }

    fn run(&self, engine: &str) -> Result<Tensor> {
        let scale = 1.0 / (HEAD_DIM as f64).sqrt();
        match engine {
            "scatterbrain" => {
                let mask = if self.causal { Mask::causal() } else { Mask::none() };
                let [q, k, v] = self.by_row.each_ref().map(|x| x.transpose(1, 2));
                ScatterbrainAttention::exact().forward(&q?, &k?, &v?, &mask)
            }
            "flash_attn" => {
                let mask = if self.causal { AttnMask::causal() } else { AttnMask::None };
                let [q, k, v] = &self.by_row;
                flash_attn::<f32>(q, k, v, scale as f32, mask, None, None)
            }
            _ => {
                let [q, k, v] = &self.by_head;
                let logits = (q.matmul(&k.t()?)? * scale)?;
                let logits = match &self.bias {
                    Some(bias) => logits.broadcast_add(bias)?,
                    None => logits,
                };
                softmax_last_dim(&logits)?.matmul(v)
            }
        }
    }

    fn mask(&self) -> &'static str {
        if self.causal { "causal" } else { "dense" }
    }

    /// Median seconds of each engine, call by call in turn.
    fn seconds(&self) -> Result<[f64; 3]> {
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (engine, times) in ENGINES.iter().zip(&mut times) {
                let start = Instant::now();
                black_box(self.run(engine)?);
                times.push(start.elapsed().as_secs_f64());
            }
        }
        Ok(times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[ROUNDS / 2]
        }))
    }
}

fn agree(case: &Case) -> Result<()> {
    let expected = case.run("matmul")?;
    for engine in ENGINES {
        let difference = (case.run(engine)? - &expected)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        assert!(difference < 1e-4, "{engine}: {difference}");
    }
    Ok(())
}

/// candle asks the environment for the number of its threads, so the program starts itself again with one.
fn on_one_thread() -> Result<bool> {
    const THREADS: &str = "RAYON_NUM_THREADS";
    if std::env::var(THREADS).is_ok_and(|threads| threads == "1") {
        return Ok(true);
    }
    let program = std::env::current_exe()?;
    let status = Command::new(program).args(std::env::args_os().skip(1)).env(THREADS, "1").status()?;
    if status.success() { Ok(false) } else { Err(candle_core::Error::msg(format!("the bench failed: {status}"))) }
}

fn main() -> Result<()> {
    if !on_one_thread()? {
        return Ok(());
    }
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|a| a == name);
    let full = has("--bench") && !has("--test");
    let mut criterion =
        Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3)).configure_from_args();
    for &n in if full { &[1024, 4096][..] } else { &[100] } {
        for causal in [false, true] {
            let case = Case::new(n, causal)?;
            if full {
                let [ours, flash, matmul] = case.seconds()?;
                let flops = 4.0 * (HEADS * n * n * HEAD_DIM) as f64 / 1e9;
                let rates = [ours, flash, matmul].map(|s| format!("{:.1}", flops / s)).join(", ");
                println!(
                    "{}, n = {n}: {:.1} × flash_attn, {:.1} × matmul; GFLOP/s of all pairs: {rates}",
                    case.mask(),
                    flash / ours,
                    matmul / ours
                );
            } else {
                agree(&case)?;
            }
            let mut group = criterion.benchmark_group(format!("attention/{}", case.mask()));
            for engine in ENGINES {
                let id = BenchmarkId::new(engine, format!("n={},h={HEADS},d={HEAD_DIM}", case.n));
                group.bench_function(id, |bencher| bencher.iter(|| case.run(engine)));
            }
            group.finish();
        }
    }
    criterion.final_summary();
    Ok(())
}
