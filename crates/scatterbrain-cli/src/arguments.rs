//! The command line.

use crate::eval::{CalibrateOptions, CaptureOptions, EvalOptions};
use crate::library::{Level, Preset, Window, WindowAlign};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Budget where none is given, or as many keys as there are.
const DEFAULT_BUDGET: usize = 64;

/// Approximate attention against exact attention, on real inputs.
#[derive(Debug, Parser)]
#[command(name = "scatterbrain", version, about, after_help = "Try it: scatterbrain compare")]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run methods against exact attention and print error, time and memory
    Compare(CompareOptions),
    /// Run one method and write its output to a file
    Attend(AttendOptions),
    /// Choose a method for each head of one or more layers, and store the choice for other inputs of the model
    Plan(PlanOptions),
    /// Split the attention matrix of one head into a low-rank and a sparse part
    Decompose(DecomposeOptions),
    /// Run a pre-trained model with exact attention and with methods in its place, and print what its quality becomes
    Eval(EvalOptions),
    /// Write what the attention of a pre-trained model gets, as files for `compare`
    Capture(CaptureOptions),
}

/// `scatterbrain compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// Tensors `query`, `key`, `value` [batch, heads, rows, columns] in f32, f16 or bf16, perhaps `key_lengths`
    /// and `mask`, metadata `causal` and `scale`. Without a file: a capture from a real model, built in
    #[arg(value_name = "FILE.safetensors")]
    pub(crate) file: Option<PathBuf>,

    /// Methods to run, repeatable [default: all; with --plan, auto]
    #[arg(long = "method", value_name = "NAME", value_parser = choice(), value_delimiter = ',')]
    pub(crate) methods: Vec<Choice>,

    /// Timed calls of each method; medians are printed
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,

    /// Rows of each head that errors are measured on, one drawn from each of N equal stretches [default: all]; for long
    /// inputs, whose exact output in float64 takes long
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rows: Option<u32>,

    /// Print one JSON object and nothing else
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) source: PlanSource,

    #[command(flatten)]
    pub(crate) simd: SimdOptions,

    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// `scatterbrain attend`.
#[derive(Debug, Args)]
pub(crate) struct AttendOptions {
    /// As for `compare`
    #[arg(value_name = "FILE.safetensors")]
    pub(crate) file: PathBuf,

    /// The method
    #[arg(long, value_name = "NAME", value_parser = choice())]
    pub(crate) method: Choice,

    /// Where to write `output` and `log_sum_exp`; an old file is replaced only by a complete new one
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) source: PlanSource,

    #[command(flatten)]
    pub(crate) simd: SimdOptions,

    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// `scatterbrain plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanOptions {
    /// Inputs of one model, each a layer: it is called by the metadata `layer`, or by the file's name without folder and
    /// ending
    #[arg(value_name = "FILE.safetensors", required_unless_present = "model", conflicts_with = "model")]
    pub(crate) files: Vec<PathBuf>,

    /// Where to write the plan; an old file is replaced only by a complete new one [default: to stdout]
    #[arg(short, long, value_name = "PLAN.json")]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) calibrate: CalibrateOptions,

    #[command(flatten)]
    pub(crate) request: RequestOptions,

    #[command(flatten)]
    pub(crate) simd: SimdOptions,

    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// What `auto` is to keep.
#[derive(Debug, Args)]
pub(crate) struct RequestOptions {
    /// The mean relative output error that `auto` may have in each head [default: 0.05, or --budget where that is given]
    #[arg(long, value_name = "E", value_parser = positive, conflicts_with = "max_time", allow_negative_numbers = true)]
    pub(crate) max_error: Option<f64>,

    /// The time that `auto` may take, as a part of exact attention's (predicted from counts of operations)
    #[arg(long, value_name = "PART", value_parser = positive, allow_negative_numbers = true)]
    pub(crate) max_time: Option<f64>,

    /// What planning may cost, as a part of exact attention's time, predicted as well; for units or a time at least one
    /// configuration is tried [default: 0.095; no limit where a plan serves other inputs too]
    #[arg(long, value_name = "PART", value_parser = positive, allow_negative_numbers = true)]
    pub(crate) effort: Option<f64>,

    /// How many times less than the error asked for a bound must be [default: 1; 1.5 where a plan serves other inputs too]
    #[arg(long, value_name = "TIMES", value_parser = at_least_one, allow_negative_numbers = true)]
    pub(crate) margin: Option<f64>,
}

/// Where the plan of `auto` comes from.
#[derive(Debug, Args)]
pub(crate) struct PlanSource {
    #[command(flatten)]
    pub(crate) request: RequestOptions,

    /// A plan that `scatterbrain plan` has stored, for `auto`
    #[arg(long, value_name = "PLAN.json", conflicts_with_all = ["max_error", "max_time", "effort", "margin"])]
    pub(crate) plan: Option<PathBuf>,

    /// The layer of that plan [default: the input's, or the only one]
    #[arg(long, value_name = "NAME", requires = "plan")]
    pub(crate) layer: Option<String>,
}

/// What may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A method by its name and a budget.
    Preset(Preset),
    /// What a plan says.
    Auto,
}

impl Choice {
    /// All presets, and `auto`.
    pub(crate) fn all() -> Vec<Self> {
        Preset::ALL.into_iter().map(Self::Preset).chain([Self::Auto]).collect()
    }

    /// As the program takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Preset(preset) => preset.name(),
            Self::Auto => "auto",
        }
    }
}

/// What to compute with.
#[derive(Debug, Args)]
pub(crate) struct SimdOptions {
    /// Instruction set to compute with [default: the best of this CPU]
    #[arg(long, value_name = "NAME")]
    simd: Option<Level>,
}

impl SimdOptions {
    /// The level.
    pub(crate) fn level(&self) -> Level {
        self.simd.unwrap_or_else(Level::detect)
    }
}

/// `scatterbrain decompose`.
#[derive(Debug, Args)]
pub(crate) struct DecomposeOptions {
    /// As for `compare`
    #[arg(value_name = "FILE.safetensors")]
    pub(crate) file: Option<PathBuf>,

    /// The query head
    #[arg(long, value_name = "N")]
    pub(crate) head: usize,

    /// The batch entry
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) batch: usize,

    /// How to decompose
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Algorithm::Best)]
    pub(crate) method: Algorithm,

    /// Decompose e^logit (over its largest value in the matrix) instead of softmax rows
    #[arg(long)]
    pub(crate) unnormalised: bool,

    /// Price of an entry of the sparse part, for pcp [default: 1/√max(n, m)]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) lambda: Option<f64>,

    /// What counts as converged [default: 0.002 for pcp, else 0.001]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) tolerance: Option<f64>,

    /// Iterations at most, of each run [default: 500 for pcp, else 300]
    #[arg(long, value_name = "N")]
    pub(crate) iterations: Option<usize>,

    /// Print one JSON object and nothing else
    #[arg(long)]
    pub(crate) json: bool,

    /// Where to write `left` and `right` (L = left·rightᵀ) and `sparse_offsets`, `sparse_columns`, `sparse_values` (S
    /// by rows); an old file is replaced only by a complete new one
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

/// How to decompose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Algorithm {
    /// The better of godec and altproj at each split of the budget
    Best,
    /// GoDec at each split of the budget
    Godec,
    /// Alternating projections at each split of the budget
    Altproj,
    /// Principal component pursuit, which has no budget
    Pcp,
}

/// What all commands take.
#[derive(Debug, Args)]
pub(crate) struct CommonOptions {
    /// What a query may spend: a key on the support, or an entry of a sparse part, costs 1; a random feature, a centroid
    /// or a rank 2 [default: 64, or the number of keys where there are fewer]
    #[arg(long, value_name = "UNITS")]
    budget: Option<usize>,

    /// Seed of all that is random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Threads to compute on [default: 1, so that times can be compared; for decompose as many as there are cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Hide keys after the query, whatever the file says
    #[arg(long, overrides_with = "no_causal")]
    causal: bool,

    /// Hide no later keys, whatever the file says
    #[arg(long, action = ArgAction::SetTrue, overrides_with = "causal")]
    no_causal: bool,

    /// Show only keys from L before the query's position to R after it
    #[arg(long, value_name = "L,R", value_parser = window)]
    pub(crate) window: Option<Window>,

    /// The softmax scale, whatever the file says
    #[arg(long, value_name = "S", value_parser = scale, allow_negative_numbers = true)]
    pub(crate) scale: Option<f64>,
}

impl CommonOptions {
    /// The budget for `m` keys.
    ///
    /// # Errors
    /// A budget outside 1 to `m`.
    pub(crate) fn budget(&self, m: usize) -> anyhow::Result<usize> {
        match self.budget {
            None => Ok(DEFAULT_BUDGET.min(m)),
            Some(budget) if (1..=m).contains(&budget) => Ok(budget),
            Some(budget) => anyhow::bail!("budget: expected 1 to {m}, got {budget}"),
        }
    }

    /// Threads to compute on: one where none are given.
    pub(crate) fn threads(&self) -> usize {
        self.threads.map_or(1, usize::from)
    }

    /// Threads to compute on: every core where none are given. For what takes long and is not timed against others; its
    /// results are the same bits for any number.
    pub(crate) fn threads_or_all(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cores, usize::from)
    }

    /// Whether the command line says a budget.
    pub(crate) fn has_budget(&self) -> bool {
        self.budget.is_some()
    }

    /// Causality as the command line wants it.
    pub(crate) fn causal(&self) -> Option<bool> {
        match (self.causal, self.no_causal) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }
}

/// Method names; clap lists them and suggests the nearest.
pub(crate) fn choice() -> impl TypedValueParser<Value = Choice> {
    PossibleValuesParser::new(Choice::all().into_iter().map(Choice::name))
        .map(|name| Preset::from_name(&name).map_or(Choice::Auto, Choice::Preset))
}

/// A number above 0.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0);
    number.ok_or_else(|| "expected a finite number above 0".into())
}

fn at_least_one(text: &str) -> Result<f64, String> {
    let number = positive(text).ok().filter(|x| *x >= 1.0);
    number.ok_or_else(|| "expected a finite number of at least 1".into())
}

fn window(text: &str) -> Result<Window, String> {
    let parsed: Option<(usize, usize)> =
        text.split_once(',').and_then(|(l, r)| Some((l.trim().parse().ok()?, r.trim().parse().ok()?)));
    let (left, right) = parsed.ok_or("expected two whole numbers L,R, for example 128,0")?;
    // Beyond every length, and far from where positions overflow.
    const WIDEST: usize = u32::MAX as usize;
    Ok(Window { left: left.min(WIDEST), right: right.min(WIDEST), align: WindowAlign::End })
}

fn scale(text: &str) -> Result<f64, String> {
    parse_scale(text).ok_or_else(|| "expected a finite decimal number".into())
}

/// A softmax scale that f32 can hold.
pub(crate) fn parse_scale(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|s: &f64| (*s as f32).is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn windows_and_scales() {
        assert_eq!(window("3, 4"), Ok(Window { left: 3, right: 4, align: WindowAlign::End }));
        assert!(window("3").is_err() && window("3,-1").is_err() && window("a,b").is_err());
        assert_eq!(parse_scale("0.125"), Some(0.125));
        assert!(["NaN", "inf", "1e99", "", "x"].into_iter().all(|s| parse_scale(s).is_none()));
    }
}
