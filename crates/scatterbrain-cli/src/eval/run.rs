//! `scatterbrain eval`: every input by exact attention and by each method, one after the other.

use super::options::{EvalOptions, Model, Spending};
use super::report::{Evaluation, render};
use super::state::{Costs, Record, State};
use super::swap::Swap;
use super::task::{Part, Task};
use super::{imagenet, minilm, smollm2, t2t, vit, whisper};
use crate::arguments::Choice;
use crate::library::plan::{Plan, Request};
use crate::library::{Preset, Seed};
use crate::measure::pool;
use crate::planning;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use scatterbrain_candle::{Site, Stack, Tally, cache};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is compared where the command line says nothing: the two parts alone and averaged, the paper's combinations, and
/// the planner's choice.
const METHODS: [Choice; 7] = [
    Choice::Preset(Preset::Local),
    Choice::Preset(Preset::Smyrf),
    Choice::Preset(Preset::Performer),
    Choice::Preset(Preset::Average),
    Choice::Preset(Preset::ScatterbrainLocal),
    Choice::Preset(Preset::ScatterbrainSmyrf),
    Choice::Auto,
];
const EXACT: &str = "exact";

/// Runs a model's task and prints the table, or JSON.
///
/// # Errors
/// Options, weights or data that cannot be used.
pub(crate) fn run(options: &EvalOptions) -> Result<()> {
    let mut task = task(options.model, options)?;
    let plan = options.plan.as_deref().map(planning::read_plan).transpose()?;
    if let Some(plan) = &plan {
        check(plan, task.stands_at())?;
    }
    let settings = Settings::new(options, task.as_ref());
    let heading = settings.heading(options, plan.as_ref())?;
    let (path, kept) = match &options.resume {
        Some(path) => (path.clone(), true),
        None => (default_state(&heading)?, false),
    };
    let mut state = State::open(&path, &heading)?;
    let pool = pool(options.common.threads.into())?;
    let swaps = settings.swaps(task.as_ref(), plan.as_ref());
    pool.install(|| measure(task.as_mut(), &settings, &swaps, &mut state))?;
    let evaluation = Evaluation::new(task.as_ref(), &settings, &state, options.common.threads.into());
    let text = if options.json { serde_json::to_string_pretty(&evaluation)? + "\n" } else { render(&evaluation) };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    if !kept {
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

/// Refuses a plan that no site of the task would ask.
fn check(plan: &Plan, stands_at: fn(Site) -> bool) -> Result<()> {
    let site = |name: &String| name.parse().with_context(|| format!("plan.layers: {name:?}"));
    let sites: Vec<Site> = plan.layers.keys().map(site).collect::<Result<_>>()?;
    if !sites.iter().any(|site| stands_at(*site)) {
        let names: Vec<&str> = plan.layers.keys().map(String::as_str).collect();
        bail!("plan.layers: expected some where methods stand in this task, got {}", names.join(", "));
    }
    Ok(())
}

/// What is run on what.
pub(crate) struct Settings {
    pub(crate) model: String,
    pub(crate) task: String,
    pub(crate) methods: Vec<Choice>,
    pub(crate) budget: Spending,
    /// Of `auto` without a stored plan.
    pub(crate) request: Option<Request>,
    pub(crate) effort: Option<f64>,
    pub(crate) margin: Option<f64>,
    pub(crate) planned: bool,
    pub(crate) inputs: usize,
    pub(crate) seed: u64,
    train: usize,
}

impl Settings {
    fn new(options: &EvalOptions, task: &dyn Task) -> Self {
        let asked = match (options.request.max_error, options.request.max_time) {
            (Some(error), _) => Some(Request::Error(error)),
            (None, Some(time)) => Some(Request::Time(time)),
            (None, None) => None,
        };
        let short = task.is_short() && options.budget.is_none();
        let methods = match (options.methods.is_empty(), short) {
            (false, _) => options.methods.clone(),
            (true, false) => METHODS.to_vec(),
            (true, true) => vec![Choice::Auto],
        };
        let methods = methods.into_iter().filter(|method| *method != Choice::Preset(Preset::Exact)).collect();
        let most = options.limit.map_or(usize::MAX, |limit| limit as usize);
        Self {
            model: options.model.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned()),
            task: options.task.clone().unwrap_or_else(|| tasks(options.model)[0].to_owned()),
            methods,
            budget: options.budget.unwrap_or(Spending::Share(task.share())),
            request: asked.or(short.then(Request::default)),
            effort: options.request.effort,
            margin: options.request.margin,
            planned: options.plan.is_some(),
            inputs: task.inputs(Part::Test).min(most),
            seed: options.common.seed,
            train: task.inputs(Part::Train),
        }
    }

    /// All that results depend on, methods and the number of inputs left out: more of them may follow later.
    fn heading(&self, options: &EvalOptions, plan: Option<&Plan>) -> Result<String> {
        let common = &options.common;
        Ok(serde_json::to_string(&serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"), "model": self.model, "task": self.task, "seed": self.seed,
            "threads": common.threads, "budget": self.budget.to_string(), "request": self.request, "effort": self.effort,
            "margin": self.margin,
            "plan": plan.map(serde_json::to_string).transpose()?.map(|text| digest(&text)),
            "length": common.length, "weights": identity(common.weights.as_deref())?,
            "data": identity(common.data.as_deref())?,
        }))?)
    }

    fn swaps(&self, task: &dyn Task, plan: Option<&Plan>) -> Vec<(&'static str, Swap)> {
        let sites = task.stands_at();
        let swap = |choice: &Choice| {
            let plan = plan.filter(|_| *choice == Choice::Auto);
            let swap = Swap::new(*choice, sites, self.budget, self.request, plan, Seed(self.seed));
            (choice.name(), swap.with_limits(self.effort, self.margin))
        };
        let exact = (EXACT, Swap::exact(sites));
        std::iter::once(exact).chain(self.methods.iter().map(swap)).collect()
    }
}

/// Tasks of a model, the one that is taken where none is named first.
fn tasks(model: Model) -> &'static [&'static str] {
    match model {
        Model::Minilm => &["imdb", "stsb", "sst2"],
        Model::Smollm2 => &["wikitext", "generate"],
        Model::WhisperTiny => &["wer"],
        Model::Vit => &["features"],
        Model::T2tFashion | Model::T2tImagenet => &["top1"],
    }
}

fn task(model: Model, options: &EvalOptions) -> Result<Box<dyn Task>> {
    let common = &options.common;
    let names = tasks(model);
    Ok(match options.task.as_deref().unwrap_or(names[0]) {
        name if !names.contains(&name) => bail!("task: expected {}, got {name:?}", names.join(", ")),
        "imdb" => Box::new(minilm::imdb::Imdb::load(common)?),
        "stsb" => Box::new(minilm::stsb::Stsb::load(common)?),
        "sst2" => Box::new(minilm::sst2::Sst2::load(common)?),
        "wikitext" => Box::new(smollm2::wikitext::Wikitext::load(common)?),
        "generate" => Box::new(smollm2::generate::Generate::load(common)?),
        "wer" => Box::new(whisper::WordErrors::load(common)?),
        "features" => Box::new(vit::Features::load(common)?),
        _ if model == Model::T2tImagenet => Box::new(imagenet::ImageNet::load(common)?),
        _ => Box::new(t2t::TopOne::load(common)?),
    })
}

/// Everything that the state does not have yet.
fn measure(task: &mut dyn Task, settings: &Settings, swaps: &[(&str, Swap)], state: &mut State) -> Result<()> {
    let bar = bar(settings.train + settings.inputs * swaps.len());
    let (_, exact) = &swaps[0];
    let mut outputs = Vec::with_capacity(settings.train);
    for input in 0..settings.train {
        bar.set_message("training the probe");
        outputs.push(once(task, Part::Train, input, (EXACT, exact), &[], state)?.output);
        bar.inc(1);
    }
    if settings.train > 0 {
        task.train(&outputs)?;
    }
    for (name, swap) in swaps.iter().filter(|(_, swap)| swap.plans()) {
        let has = |input| state.get(Part::Test, input, name).is_some();
        // A run that goes on needs the plan of the first input, as one that was never stopped.
        if settings.inputs > 0 && has(0) && !(1..settings.inputs).all(has) {
            task.run(Part::Test, 0, swap, None)?;
            swap.take_costs();
        }
    }
    for input in 0..settings.inputs {
        let mut known = Vec::new();
        for (name, swap) in swaps {
            bar.set_message(format!("input {} by {name}", input + 1));
            let record = once(task, Part::Test, input, (*name, swap), &known, state)
                .with_context(|| format!("input {} by {name}", input + 1))?;
            if *name == EXACT {
                known = record.output;
            }
            bar.inc(1);
        }
    }
    Ok(())
}

/// The record of one input by one method, measured where it is not there. `known`: what exact attention made of the input.
fn once(
    task: &dyn Task,
    part: Part,
    input: usize,
    (name, swap): (&str, &Swap),
    known: &[f32],
    state: &mut State,
) -> Result<Record> {
    if let Some(record) = state.get(part, input, name) {
        return Ok(record.clone());
    }
    let tally = Tally::new(swap);
    let start = Instant::now();
    let measured = task.run(part, input, &tally, (!known.is_empty()).then_some(known))?;
    let (planning_seconds, extra_bytes) = swap.take_costs();
    let seconds = start.elapsed().as_secs_f64() - planning_seconds;
    let total = tally.total();
    let part_of_heads = |share: f64| if total.heads > 0 { share } else { 0.0 };
    let decodes = (task.stands_at())(Site { stack: Stack::Decoder, layer: 0 });
    let costs = Costs {
        length: measured.length,
        seconds,
        attention_seconds: total.seconds,
        planning_seconds,
        share: part_of_heads(total.share()),
        scan_share: part_of_heads(total.scan_share()),
        heads: total.heads,
        fallback_heads: total.fallback_heads,
        extra_bytes,
        sees_future: decodes && total.calls_that_see_future > 0,
    };
    let output = if name == EXACT { measured.output } else { Vec::new() };
    let (method, train) = (name.to_owned(), part == Part::Train);
    let record = Record { train, input, method, items: measured.items, output, costs };
    state.add(record.clone())?;
    Ok(record)
}

/// A file under the cache, of its own for every heading.
fn default_state(heading: &str) -> Result<PathBuf> {
    Ok(cache::folder()?.join("eval").join(format!("{}.jsonl", digest(heading))))
}

/// What tells files of the user from others of the same name: where they are, and the length and the time of each. What
/// was fetched does not change.
fn identity(path: Option<&Path>) -> Result<Option<String>> {
    let Some(path) = path else { return Ok(None) };
    let name = || path.display().to_string();
    let place = path.canonicalize().with_context(name)?;
    let (mut files, mut folders) = (BTreeSet::new(), vec![place.clone()]);
    while let Some(path) = folders.pop() {
        let metadata = path.metadata().with_context(name)?;
        if metadata.is_dir() {
            for entry in path.read_dir().with_context(name)? {
                folders.push(entry?.path());
            }
        } else {
            files.insert((path, metadata.len(), metadata.modified().ok()));
        }
    }
    Ok(Some(format!("{} ({})", place.display(), digest(&format!("{files:?}")))))
}

/// A name for a text; nothing is kept long enough to meet another version of the hash.
fn digest(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// A bar on stderr, hidden where that is no terminal.
fn bar(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {msg} (left: {eta})");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps as u64).with_style(style).with_finish(ProgressFinish::AndClear)
}
