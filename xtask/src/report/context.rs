//! What every figure is given: captures, sizes, progress, and the wish to stop.

use super::captures::{Captures, Source};
use crate::interrupt::Interrupt;
use crate::progress;
use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// Somebody wants the run to end: what is computed is kept, what is in work is lost.
#[derive(Debug)]
pub(super) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// One run of the report.
pub(super) struct Context {
    pub(super) captures: Captures,
    pub(super) quick: bool,
    /// Where parts are kept.
    pub(super) kept: PathBuf,
    /// What tells one build of this program from another.
    pub(super) program: u64,
    pub(super) interrupt: Interrupt,
    /// One thread, on which everything is timed.
    alone: ThreadPool,
    parts: ProgressBar,
    steps: ProgressBar,
}

impl Context {
    pub(super) fn new(captures: Captures, quick: bool, folder: &Path, interrupt: Interrupt) -> Result<Self> {
        let bars = MultiProgress::new();
        Ok(Self {
            captures,
            quick,
            kept: folder.join("kept"),
            program: program()?,
            interrupt,
            alone: ThreadPoolBuilder::new().num_threads(1).build()?,
            parts: bars.add(progress::bar(0)),
            steps: bars.add(progress::bar(0)),
        })
    }

    /// One of two settings: of a quick run, or of a full one.
    pub(super) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The captures of this run: a quick one takes the smallest of each model.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        let all = self.captures.sources.iter().filter(|_| !self.quick);
        all.chain(self.one_a_model().filter(|_| self.quick))
    }

    /// The smallest capture of each model.
    pub(super) fn one_a_model(&self) -> impl Iterator<Item = &Source> {
        let all = &self.captures.sources;
        let first = |at: usize| all[..at].iter().all(|before| before.model() != all[at].model());
        all.iter().enumerate().filter(move |(at, _)| first(*at)).map(|(_, source)| source)
    }

    /// Runs on one thread.
    pub(super) fn alone<R: Send>(&self, run: impl FnOnce() -> R + Send) -> R {
        self.alone.install(run)
    }

    /// How many parts there will be.
    pub(super) fn expect(&self, parts: usize) {
        self.parts.set_length(parts as u64);
    }

    /// Announces a part.
    pub(super) fn begin(&self, label: &str) {
        self.parts.set_message(label.to_owned());
        self.steps.reset();
        self.steps.set_length(0);
        if self.parts.is_hidden() {
            eprintln!("{label}");
        }
    }

    /// How many steps the part in work has.
    pub(super) fn steps(&self, steps: usize) {
        self.steps.set_length(steps as u64);
    }

    /// The bar of the part in work.
    pub(super) fn bar(&self) -> ProgressBar {
        self.steps.clone()
    }

    /// A step of the part in work is done.
    ///
    /// # Errors
    /// [`Interrupted`] where somebody asked for it.
    pub(super) fn step(&self) -> Result<()> {
        self.steps.inc(1);
        self.go_on()
    }

    /// # Errors
    /// [`Interrupted`] where somebody asked for it.
    pub(super) fn go_on(&self) -> Result<()> {
        if self.interrupt.asked() { Err(Interrupted.into()) } else { Ok(()) }
    }

    /// A part is done.
    pub(super) fn done(&self) {
        self.parts.inc(1);
    }

    /// Takes the bars away.
    pub(super) fn finish(&self) {
        self.steps.finish_and_clear();
        self.parts.finish_and_clear();
    }
}

/// A digest of the running program. It changes with the code of the library and of the report, committed or not, and
/// does not where a commit touches documents alone.
fn program() -> Result<u64> {
    Ok(digest(&std::fs::read(std::env::current_exe()?)?))
}

/// A digest within one build of this program: the standard library promises no more.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
