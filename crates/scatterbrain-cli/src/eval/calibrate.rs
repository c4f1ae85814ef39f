//! `scatterbrain plan --model`: a plan for every site of a model, from inputs that it runs on.

use super::inputs::AnyModel;
use super::options::ModelOptions;
use crate::arguments::PlanOptions;
use crate::attend::write_whole;
use crate::library::plan::{LayerPlan, Plan, PlanOptions as Options};
use crate::measure::pool;
use crate::planning;
use crate::table::{PlannedLayer, render_plan};
use anyhow::{Context, Result, ensure};
use scatterbrain_candle::{Inputs, Recorder, ScatterbrainAttention, Site};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Runs the model once with exact attention, planning each site as its inputs come by.
///
/// # Errors
/// Files or options that cannot be used, or an output that cannot be written.
pub(crate) fn run(options: &PlanOptions) -> Result<()> {
    let calibrate = &options.calibrate;
    let model = calibrate.model.context("--model names the model")?;
    let places = ModelOptions {
        weights: calibrate.weights.clone(),
        data: None,
        length: calibrate.length,
        seed: options.common.seed,
        threads: options.common.threads() as u16,
    };
    let runner = AnyModel::load(model, &places)?;
    let planned: Mutex<BTreeMap<Site, Vec<(LayerPlan, f64)>>> = Mutex::default();
    let exact = ScatterbrainAttention::exact();
    let recorder = Recorder::new(&exact, |site, inputs| {
        if inputs.query.dim(2)? > 1 {
            let start = Instant::now();
            let request = request(options, inputs).map_err(|e| candle_core::Error::msg(format!("{e:#}")))?;
            let plan = inputs.plan(&request)?;
            let mut planned = planned.lock().unwrap_or_else(PoisonError::into_inner);
            planned.entry(site).or_default().push((plan, start.elapsed().as_secs_f64()));
        }
        Ok(())
    });
    pool(places.threads.into())?.install(|| runner.run(&calibrate.calibrate, &recorder))?;
    let planned = planned.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(!planned.is_empty(), "the model attended to nothing");
    write(options, planned)
}

fn request(options: &PlanOptions, inputs: &Inputs<'_>) -> Result<Options> {
    planning::options(&options.request, &options.common, inputs.key.dim(2)?)
}

fn write(options: &PlanOptions, planned: BTreeMap<Site, Vec<(LayerPlan, f64)>>) -> Result<()> {
    let mut plan = Plan::new(BTreeMap::new());
    let mut lines = Vec::new();
    for (site, plans) in planned {
        let seconds = plans.iter().map(|(_, seconds)| seconds).sum();
        let layer = plans.into_iter().map(|(layer, _)| layer).reduce(safer).context("a plan for each site")?;
        lines.push(PlannedLayer { name: site.to_string(), file: String::new(), seconds });
        plan.layers.insert(site.to_string(), layer);
    }
    let json = serde_json::to_string_pretty(&plan)? + "\n";
    let text = match &options.output {
        Some(path) => {
            write_whole(path, json.as_bytes()).with_context(|| path.display().to_string())?;
            render_plan(&plan, &lines)
        }
        None => json,
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Of two plans for a site, made from inputs that came one after the other, the dearer configuration of each head: where
/// an error was asked for, that is the one that keeps it on both; and of their bounds the larger. For the longer input.
fn safer(a: LayerPlan, b: LayerPlan) -> LayerPlan {
    let (mut kept, other) = if a.m >= b.m { (a, b) } else { (b, a) };
    for (head, other) in kept.heads.iter_mut().zip(&other.heads) {
        let larger = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a.max(b));
        let (error, bound) = (larger(head.error, other.error), larger(head.error_bound, other.error_bound));
        if other.cost > head.cost {
            *head = *other;
        }
        (head.error, head.error_bound) = (error, bound);
    }
    kept
}
