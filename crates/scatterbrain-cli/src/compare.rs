//! `scatterbrain compare`.

use crate::arguments::{Choice, CompareOptions};
use crate::errors::{RowErrors, mean, row_errors};
use crate::input::Input;
use crate::library::plan::{LayerPlan, Request};
use crate::library::{HeadReport, Method, Preset, Seed, causality_name};
use crate::matrix::matrix_error;
use crate::measure::{Call, Turn, extra_bytes, pool, times};
use crate::planning::Planning;
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
    let choices = choices(options);
    let planning = Planning::new(&options.source, &options.common, input)?;
    let output_len = input.output_len()?;
    let progress = progress(input.sizes.batch * input.sizes.heads + 3 * choices.len());
    progress.set_message("exact, in float64");
    let rows = rows(input.sizes.n, options.rows, Seed(options.common.seed));
    let exact = exact_output(input, &rows, &|| progress.inc(1));
    let mut bench = Bench {
        input,
        call: Call::new(input, options.simd.level(), false)?,
        exact_method: Method::exact(),
        exact,
        rows,
        output: vec![0.0; output_len],
        alone: pool(1)?,
        timed: pool(options.common.threads())?,
        budget,
        seed: Seed(options.common.seed),
        repeat: options.repeat,
        planning,
        progress,
    };
    let results =
        choices.into_iter().map(|choice| bench.result(choice).with_context(|| choice.name())).collect::<Result<_>>()?;
    let rows = bench.rows.len();
    drop(bench);
    Ok(Comparison {
        input: summary(input, rows),
        threads: options.common.threads(),
        seed: options.common.seed,
        results,
    })
}

/// The methods asked for, each once, in the order asked for; a plan asks for `auto`.
fn choices(options: &CompareOptions) -> Vec<Choice> {
    let mut choices: Vec<Choice> = Vec::new();
    let planned = options.source.plan.as_ref().map(|_| Choice::Auto);
    let asked = match options.methods.is_empty() && planned.is_none() {
        true => Choice::all(),
        false => options.methods.iter().copied().chain(planned).collect(),
    };
    for choice in asked {
        if !choices.contains(&choice) {
            choices.push(choice);
        }
    }
    choices
}

/// The rows that errors are measured on: all of `n`, or one drawn from each of so many equal stretches.
fn rows(n: usize, count: Option<u32>, seed: Seed) -> Vec<usize> {
    let count = count.map_or(n, |count| count as usize);
    seed.derive(n as u64).stream(0).strata(n, count).collect()
}

fn summary(input: &Input, rows: usize) -> InputSummary {
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
        rows: (rows < s.n).then_some(rows),
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
    /// Of `rows` alone.
    exact: Vec<f64>,
    rows: Vec<usize>,
    output: Vec<f32>,
    alone: ThreadPool,
    timed: ThreadPool,
    budget: usize,
    seed: Seed,
    repeat: u32,
    planning: Planning,
    progress: ProgressBar,
}

/// A method as it is run.
struct Chosen {
    method: Method,
    budget: Option<usize>,
    plan: Option<LayerPlan>,
}

impl Bench<'_> {
    fn result(&mut self, choice: Choice) -> Result<MethodResult> {
        let sizes = self.input.sizes;
        self.step(choice, "memory and error");
        let Chosen { method, budget, plan } = self.choose(choice)?;
        let (report, extra_bytes) = extra_bytes(&self.alone, &self.call, &method, &mut self.output)?;
        let errors = row_errors(&self.exact, &self.output, &self.rows, &sizes);
        self.step(choice, "time");
        let turn = Turn {
            exact: &self.exact_method,
            method: &method,
            same: choice == Choice::Preset(Preset::Exact),
            plan: plan.as_ref().and_then(|_| self.planning.fresh()),
        };
        let times = times(&self.timed, &self.call, &turn, self.repeat, &mut self.output)?;
        self.step(choice, "matrix");
        let heads = heads(&errors, sizes.heads, plan.as_ref(), &report.heads);
        Ok(MethodResult {
            method: choice.name(),
            budget,
            units: plan.as_ref().map_or(method.units(), LayerPlan::units),
            causality: causality_name(&method),
            share: report.share,
            scan_share: Some(report.scan_share).filter(|&share| share > 0.0),
            error: errors.summary,
            zero_rows: errors.zero_rows,
            matrix_error: matrix_error(self.input, &method, &self.call.options)?,
            seconds: times.seconds,
            setup_seconds: times.setup_seconds,
            planning_seconds: times.planning_seconds,
            planned_error: planned_error(&heads),
            fallback_heads: plan.map(|_| heads.iter().filter(|h| h.fallback).count()),
            exact_seconds: times.exact_seconds,
            speedup: times.exact_seconds / times.seconds,
            extra_bytes,
            dense_bytes: sizes.n.saturating_mul(sizes.m).saturating_mul(4),
            heads,
        })
    }

    fn choose(&self, choice: Choice) -> Result<Chosen> {
        let Choice::Preset(preset) = choice else {
            let plan = self.timed.install(|| self.planning.plan(&self.call))?;
            let budget = if let Request::Units(units) = plan.request { Some(units) } else { None };
            return Ok(Chosen { method: Method::planned(plan.clone()), budget, plan: Some(plan) });
        };
        let method = preset.method(self.budget, self.input.sizes.d, self.seed)?;
        let budget = preset.has_budget().then_some(self.budget);
        Ok(Chosen { method, budget, plan: None })
    }

    fn step(&self, choice: Choice, what: &str) {
        self.progress.set_message(format!("{}: {what}", choice.name()));
        self.progress.inc(1);
    }
}

/// The mean of what was promised of each head; nothing where it was not of some.
fn planned_error(heads: &[HeadResult]) -> Option<f64> {
    let bounds: Option<Vec<f64>> = heads.iter().map(|h| h.planned_error).collect();
    bounds.and_then(|bounds| mean(bounds.into_iter()))
}

/// Heads batch-major, with what a plan promised of each.
fn heads(errors: &RowErrors, heads: usize, plan: Option<&LayerPlan>, reports: &[HeadReport]) -> Vec<HeadResult> {
    let result = |(index, (error, report)): (usize, (&Option<f64>, &HeadReport))| HeadResult {
        batch: index / heads,
        head: index % heads,
        error: *error,
        planned_error: plan.and_then(|p| if report.fallback { Some(0.0) } else { p.heads[index % heads].error_bound }),
        fallback: report.fallback,
    };
    errors.heads.iter().zip(reports).enumerate().map(result).collect()
}
