//! `scatterbrain compare`.

use crate::arguments::CompareOptions;
use crate::errors::row_errors;
use crate::input::Input;
use crate::library::{Method, Preset, Seed, causality_name};
use crate::matrix::matrix_error;
use crate::measure::{Call, extra_bytes, pool, times};
use crate::reference::exact_output;
use crate::report::{Comparison, HeadResult, InputSummary, MethodResult};
use crate::table;
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use rayon::ThreadPool;
use std::io::Write;

/// Runs and prints the comparison.
///
/// # Errors
/// An input or an option that cannot be used, or a closed stdout.
pub(crate) fn run(options: &CompareOptions) -> Result<()> {
    let input = Input::read(options.file.as_deref(), &options.common)?;
    let comparison = compare(&input, options)?;
    let text = match options.json {
        true => serde_json::to_string_pretty(&comparison)? + "\n",
        false => table::render(&comparison, &input, options),
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

fn compare(input: &Input, options: &CompareOptions) -> Result<Comparison> {
    let budget = options.common.budget(input.sizes.m)?;
    let presets = presets(options);
    let output_len = input.output_len()?;
    let progress = progress(input.sizes.batch * input.sizes.heads + 3 * presets.len());
    progress.set_message("exact, in float64");
    let exact = exact_output(input, output_len, &|| progress.inc(1));
    let mut bench = Bench {
        input,
        call: Call::new(input, false)?,
        exact_method: Preset::Exact.method(budget, input.sizes.d, Seed(options.common.seed), input.causal)?,
        exact,
        output: vec![0.0; output_len],
        alone: pool(1)?,
        timed: pool(options.common.threads.into())?,
        budget,
        seed: Seed(options.common.seed),
        repeat: options.repeat,
        progress,
    };
    let results =
        presets.into_iter().map(|preset| bench.result(preset).with_context(|| preset.name())).collect::<Result<_>>()?;
    drop(bench);
    Ok(Comparison { input: summary(input), threads: options.common.threads.into(), seed: options.common.seed, results })
}

/// The methods asked for, each once, in the order asked for.
fn presets(options: &CompareOptions) -> Vec<Preset> {
    let mut presets: Vec<Preset> = Vec::new();
    let asked = if options.methods.is_empty() { &Preset::ALL[..] } else { &options.methods };
    for &preset in asked {
        if !presets.contains(&preset) {
            presets.push(preset);
        }
    }
    presets
}

fn summary(input: &Input) -> InputSummary {
    let s = input.sizes;
    InputSummary {
        file: input.file.clone(),
        batch: s.batch,
        heads: s.heads,
        kv_heads: s.kv_heads,
        n: s.n,
        m: s.m,
        d: s.d,
        d_v: s.d_v,
        causal: input.causal,
        scale: input.scale,
    }
}

/// A bar on stderr, hidden where that is no terminal. It draws only when told: its own thread would disturb the
/// measurements.
fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").expect("a valid template");
    ProgressBar::new(steps as u64).with_style(style).with_finish(ProgressFinish::AndClear)
}

/// Everything that stays the same from method to method.
struct Bench<'a> {
    input: &'a Input,
    call: Call<'a>,
    exact_method: Method,
    exact: Vec<f64>,
    output: Vec<f32>,
    alone: ThreadPool,
    timed: ThreadPool,
    budget: usize,
    seed: Seed,
    repeat: u32,
    progress: ProgressBar,
}

impl Bench<'_> {
    fn result(&mut self, preset: Preset) -> Result<MethodResult> {
        let sizes = self.input.sizes;
        let method = preset.method(self.budget, sizes.d, self.seed, self.input.causal)?;
        self.step(preset, "memory and error");
        let (report, extra_bytes) = extra_bytes(&self.alone, &self.call, &method, &mut self.output)?;
        let errors = row_errors(&self.exact, &self.output, &sizes);
        self.step(preset, "time");
        let pair = (&self.exact_method, &method);
        let same = preset == Preset::Exact;
        let times = times(&self.timed, &self.call, pair, same, self.repeat, &mut self.output)?;
        self.step(preset, "matrix");
        Ok(MethodResult {
            method: preset.name(),
            budget: preset.has_budget().then_some(self.budget),
            units: method.units(),
            causality: causality_name(&method),
            share: report.share,
            scan_share: None,
            error: errors.summary,
            zero_rows: errors.zero_rows,
            matrix_error: matrix_error(self.input, &method)?,
            seconds: times.seconds,
            setup_seconds: times.setup_seconds,
            planning_seconds: None,
            exact_seconds: times.exact_seconds,
            speedup: times.exact_seconds / times.seconds,
            extra_bytes,
            dense_bytes: sizes.n.saturating_mul(sizes.m).saturating_mul(4),
            heads: heads(&errors.heads, sizes.heads),
        })
    }

    fn step(&self, preset: Preset, what: &str) {
        self.progress.set_message(format!("{}: {what}", preset.name()));
        self.progress.inc(1);
    }
}

fn heads(errors: &[Option<f64>], heads: usize) -> Vec<HeadResult> {
    let result = |(index, error): (usize, &Option<f64>)| HeadResult {
        batch: index / heads,
        head: index % heads,
        error: *error,
        planned_error: None,
        fallback: false,
    };
    errors.iter().enumerate().map(result).collect()
}
