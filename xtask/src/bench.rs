//! `cargo xtask bench`: the project beside PyTorch on this machine, and a record of it.
//!
//! `plan` says what is timed with what, `stage` times it in turn, `figures` makes ratios of the times, `targets` says
//! what they should be, `record` and `markdown` write them down.

mod agreement;
mod cores;
mod figures;
mod fma;
pub(crate) mod input;
mod markdown;
pub mod memory;
mod peer;
pub(crate) mod plan;
pub(crate) mod probe;
mod readme;
mod record;
mod row;
pub(crate) mod samples;
pub(crate) mod stage;
mod targets;
mod venv;

use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::machine::{self, Machine};
use crate::{progress, release, workspace};
use anyhow::{Context, Result, ensure};
use peer::Peer;
use plan::Plan;
use record::Record;
use scatterbrain_attention::Level;
use stage::Stage;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `cargo xtask bench` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchOptions {
    /// Small sizes and few repeats, in under three minutes: that the harness works, not how fast the project is.
    #[arg(long)]
    quick: bool,
    /// Leaves PyTorch out; nothing is downloaded.
    #[arg(long)]
    no_peers: bool,
    /// The folder that gets `<machine>/<date>.csv` and `.md`, with `-avx512` or `-peer-avx2` after the date:
    /// `benches/record`, or `target/bench` where `--quick` or `--no-peers` leaves something out.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Builds the library with its feature `avx512`. Without, it runs on AVX2 where PyTorch may pick AVX-512 by itself.
    #[arg(long)]
    avx512: bool,
    /// Holds PyTorch to AVX2, by its environment, where it would pick AVX-512. Exact attention and the methods of the table
    /// are then on the same instructions; scans in 8 bits use AVX-VNNI besides, where the CPU has it.
    #[arg(long, conflicts_with_all = ["avx512", "no_peers"])]
    peer_avx2: bool,
    /// Puts the tables into README.md, between `<!-- bench -->` and `<!-- /bench -->`.
    #[arg(long, conflicts_with_all = ["quick", "no_peers"])]
    readme: bool,
    /// Runs in this build, whatever it is, instead of an optimised one: whether the harness works, with times that say
    /// nothing.
    #[arg(long, requires_all = ["quick", "no_peers"], conflicts_with = "avx512")]
    as_built: bool,
}

impl BenchOptions {
    fn folder(&self, root: &Path) -> PathBuf {
        let default = if self.quick || self.no_peers { ["target", "bench"] } else { ["benches", "record"] };
        self.out.clone().unwrap_or_else(|| root.join(default.iter().collect::<PathBuf>()))
    }

    /// What a record's name says of instruction sets, so that one is not written over by another of the same day.
    fn mode(&self) -> &'static str {
        match (self.peer_avx2, release::AVX512) {
            (true, _) => "-peer-avx2",
            (_, true) => "-avx512",
            _ => "",
        }
    }
}

/// Measures, and writes what was measured also where it ends early.
///
/// # Errors
/// Peers that cannot be had, outputs that disagree, a file that cannot be written. A missed target is no error.
pub fn run(options: &BenchOptions) -> Result<ExitCode> {
    let optimised = release::is_optimised() || options.as_built;
    if !optimised || (options.avx512 && !release::AVX512) {
        return release::start_again(options.avx512 || release::AVX512);
    }
    let level = Level::detect().name();
    ensure!(!options.avx512 || level == "avx512", "this CPU has no AVX-512");
    eprintln!("this library runs at {level}");
    if !release::AVX512 && machine::has_avx512() && !options.peer_avx2 {
        eprintln!("this CPU has AVX-512, which PyTorch picks by itself: `--avx512` lets this library use it too,");
        eprintln!("`--peer-avx2` holds PyTorch to AVX2");
    }
    let root = workspace::root()?;
    if options.readme {
        readme::check(&root.join(readme::FILE))?;
    }
    let interrupt = Interrupt::listen()?;
    let peer = if options.no_peers { None } else { Some(Peer::start(&venv::ready(&root)?, options.peer_avx2)?) };
    let machine = Machine::of_this_run(&root, peer.as_ref().map(Peer::torch))?;
    let mut record = Record::create(&options.folder(&root), &machine, options.mode())?;
    let plan = if options.quick { Plan::quick(peer.is_some())? } else { Plan::full(peer.is_some())? };
    let result = measure(&plan, Stage::new(peer, &plan, interrupt.clone(), progress::bar(plan.steps()))?, &mut record);
    let text = markdown::page(&machine, record.rows(), &plan);
    std::fs::write(record.markdown_path(), &text).context("cannot write the table")?;
    result?;
    eprintln!("written: {} and {}", record.csv_path().display(), record.markdown_path().display());
    if interrupt.asked() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if options.readme {
        readme::update(&root.join(readme::FILE), &markdown::summary(&machine, record.rows(), &plan))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything of the plan; rows are in the file as soon as their group is measured.
fn measure(plan: &Plan, mut stage: Stage, record: &mut Record) -> Result<()> {
    for group in &plan.groups {
        let outcome = stage.group(group, plan.repeats)?;
        record.write(figures::rows(group, &outcome, plan.judged))?;
        agreement::check(&group.name, &outcome.differences)?;
        if stage.interrupted() {
            return Ok(());
        }
    }
    for probe in &plan.probes {
        let found = stage.probe(probe)?;
        record.write(figures::memory_rows(probe, &found, plan.judged))?;
        if stage.interrupted() {
            return Ok(());
        }
    }
    stage.finish();
    Ok(())
}
