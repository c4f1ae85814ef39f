//! The command lines of what runs whole models. They are there without the feature `models`, to say what is missing.

#![cfg_attr(not(feature = "models"), allow(dead_code, reason = "only models read them"))]

use crate::arguments::{Choice, RequestOptions, choice, positive};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Models that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Model {
    /// all-MiniLM-L6-v2, a BERT encoder for sentences; tasks imdb, stsb, sst2
    Minilm,
    /// SmolLM2-135M-Instruct, a Llama decoder; tasks wikitext, generate
    Smollm2,
    /// Whisper tiny.en, speech to text; task wer
    WhisperTiny,
    /// A ViT-S/14 tuned for saliency; task features
    Vit,
    /// A T2T-ViT trained on Fashion-MNIST; task top1
    T2tFashion,
    /// A T2T-ViT of its authors (--weights) on a folder with a folder of photos a class (--data); task top1
    T2tImagenet,
}

/// `scatterbrain eval`.
#[derive(Debug, Args)]
pub(crate) struct EvalOptions {
    /// The model
    #[arg(value_name = "MODEL", value_enum)]
    pub(crate) model: Model,

    /// What it is judged by [default: the first task of the model]
    #[arg(long, value_name = "NAME")]
    pub(crate) task: Option<String>,

    /// Methods to run beside exact attention, repeatable [default: local, smyrf, performer, average, scatterbrain-local,
    /// scatterbrain-smyrf, auto]
    #[arg(long = "method", value_name = "NAME", value_parser = choice(), value_delimiter = ',')]
    pub(crate) methods: Vec<Choice>,

    /// What a query may spend: units, or a part of the keys it sees in per cent, as `share` counts it on average over
    /// queries [default: the share that the model is to keep its quality at]
    #[arg(long, value_name = "UNITS|P%", value_parser = spending)]
    pub(crate) budget: Option<Spending>,

    #[command(flatten)]
    pub(crate) request: RequestOptions,

    /// A plan that `scatterbrain plan --model` has stored, for `auto`
    #[arg(long, value_name = "PLAN.json", conflicts_with_all = ["max_error", "max_time", "effort", "margin"])]
    pub(crate) plan: Option<PathBuf>,

    /// Inputs at most [default: all of the task]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,

    /// Print one JSON object and nothing else
    #[arg(long)]
    pub(crate) json: bool,

    /// Keep what was measured in this file, and go on from it [default: a file under the cache, removed at the end]
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) resume: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) common: ModelOptions,
}

/// `scatterbrain capture`.
#[derive(Debug, Args)]
pub(crate) struct CaptureOptions {
    /// The model
    #[arg(value_name = "MODEL", value_enum)]
    pub(crate) model: Model,

    /// A text, a sound (WAV) or a photo (PNG, JPEG), as the model takes it
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,

    /// The attention to capture, as plans name it (encoder.3), repeatable [default: all]
    #[arg(long = "layer", value_name = "NAME", value_delimiter = ',')]
    pub(crate) layers: Vec<String>,

    /// Store f16, half the size, instead of f32
    #[arg(long)]
    pub(crate) f16: bool,

    /// Where to write; with several layers the name of each comes before the ending
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) common: ModelOptions,
}

/// `scatterbrain plan --model`.
#[derive(Debug, Args)]
pub(crate) struct CalibrateOptions {
    /// Plan for the layers of a model, from inputs that it runs on
    #[arg(long, value_enum, value_name = "MODEL", requires = "calibrate")]
    pub(crate) model: Option<Model>,

    /// With --model: texts, sounds or photos, as the model takes them
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "model")]
    pub(crate) calibrate: Vec<PathBuf>,

    /// With --model: a file or folder of weights, instead of what `cargo xtask fetch` has put into the cache
    #[arg(long, value_name = "PATH", requires = "model")]
    pub(crate) weights: Option<PathBuf>,

    /// With --model: tokens of an input
    #[arg(long, value_name = "TOKENS", requires = "model")]
    pub(crate) length: Option<usize>,
}

/// What every run of a model takes.
#[derive(Debug, Args)]
pub(crate) struct ModelOptions {
    /// A file or folder of weights, instead of what `cargo xtask fetch` has put into the cache
    #[arg(long, value_name = "PATH")]
    pub(crate) weights: Option<PathBuf>,

    /// Data of yours, instead of the same: a text for smollm2; photos for vit; for whisper-tiny a folder of NAME.wav with
    /// what is said in NAME.txt; otherwise a folder with the files that `fetch` brings
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,

    /// Tokens of an input, where the model takes several lengths [default: 4096 for smollm2, 1370 for vit]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) length: Option<usize>,

    /// Seed of all that is random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Threads to compute on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,
}

/// What a query may spend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Spending {
    /// So many units, or as many as there are keys.
    Units(usize),
    /// This part of the visible pairs, on average over queries.
    Share(f64),
}

impl Spending {
    /// The units of a call: the most whose share, min(1, units/visible keys) averaged over queries, is not beyond; 1 at
    /// least.
    pub(crate) fn units(self, n: usize, m: usize, causal: bool) -> usize {
        let share = match self {
            Self::Units(units) => return units.min(m).max(1),
            Self::Share(share) => share,
        };
        let visible = |i: usize| if causal { (i + 1 + m).saturating_sub(n).max(1) } else { m };
        let spent = |units: usize| (0..n).map(|i| (units as f64 / visible(i) as f64).min(1.0)).sum::<f64>() / n as f64;
        let (mut low, mut high) = (1, m + 1);
        while low + 1 < high {
            let middle = (low + high) / 2;
            if spent(middle) <= share { low = middle } else { high = middle }
        }
        low
    }
}

impl std::fmt::Display for Spending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Units(units) => write!(f, "{units} units"),
            Self::Share(share) => write!(f, "{} % of the keys", (share * 1e6).round() / 1e4),
        }
    }
}

fn spending(text: &str) -> Result<Spending, String> {
    match text.trim().strip_suffix('%') {
        Some(part) => match positive(part)? {
            percent if percent <= 100.0 => Ok(Spending::Share(percent / 100.0)),
            _ => Err("expected at most 100%".into()),
        },
        None => match text.trim().parse() {
            Ok(units) if units > 0 => Ok(Spending::Units(units)),
            _ => Err("expected units (64), or a part of the keys in per cent (5%)".into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        assert_eq!(spending("64"), Ok(Spending::Units(64)));
        assert_eq!(spending("12.5%"), Ok(Spending::Share(0.125)));
        assert!(["0", "-1", "0%", "101%", "x", "", "0.05"].into_iter().all(|text| spending(text).is_err()));
        assert_eq!(Spending::Share(0.05).to_string(), "5 % of the keys");
    }

    #[test]
    fn units_of_a_share() {
        assert_eq!(Spending::Units(64).units(9, 10, false), 10);
        assert_eq!(Spending::Share(0.125).units(512, 512, false), 64);
        assert_eq!(Spending::Share(0.001).units(512, 512, false), 1);
        assert_eq!(Spending::Share(1.0).units(5, 5, true), 5);
        // Early rows of a decoder see few keys, so that a share buys fewer units: b·(1 + ln(n/b))/n = share nearly.
        let units = Spending::Share(0.05).units(4096, 4096, true);
        let share = units as f64 / 4096.0 * (1.0 + (4096.0 / units as f64).ln());
        assert!(units < 205 && (share - 0.05).abs() < 2e-3, "{units} {share}");
    }
}
