//! Takes turns: each repeat times every entry of a group once, so that a change of the machine's speed meets all.

use super::agreement::difference;
use super::cores::cores;
use super::input::{HEAD_DIM, Input};
use super::peer::Peer;
use super::plan::{Entry, Group, Plan, Probe, Side};
use super::samples::{Difference, Outcome, Samples};
use super::{fma, probe};
use crate::interrupt::Interrupt;
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use rayon::{ThreadPool, ThreadPoolBuilder};
use scatterbrain_attention::{Method, Preset, Seed};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A sample is no shorter: clocks and wake-ups are microseconds.
const SHORTEST: f64 = 8e-3;
/// Before a sample, until the threads of the one before sleep. OpenMP's look for work first, for 12 ms here; with
/// `OMP_WAIT_POLICY=passive` they would not, and PyTorch's short calls would be slower for it. So both sides keep
/// their own ways, and neither runs while the other is timed.
const PAUSE: Duration = Duration::from_millis(20);

/// Then for so long the side to be timed computes exact attention of 64 rows, as in `peer.py`, and goes on to what is timed
/// without a rest: its threads are awake then.
const BUSY: Duration = Duration::from_millis(10);

/// The machine, and everything on it that computes.
pub(crate) struct Stage {
    /// By number of threads, from one.
    pools: Vec<ThreadPool>,
    /// What threads are kept busy with.
    small: (Input, Method),
    peer: Option<Peer>,
    interrupt: Interrupt,
    bar: ProgressBar,
}

impl Stage {
    pub(crate) fn new(peer: Option<Peer>, plan: &Plan, interrupt: Interrupt, bar: ProgressBar) -> Result<Self> {
        let most = plan.groups.iter().flat_map(|g| &g.entries).map(|e| e.threads).max().unwrap_or(1);
        let cores = cores();
        let pool = |threads| {
            let pinned = if cores.len() < threads { Vec::new() } else { cores.clone() };
            let pin = move |thread: usize| {
                if let Some(core) = pinned.get(thread) {
                    core_affinity::set_for_current(*core);
                }
            };
            let built = ThreadPoolBuilder::new().num_threads(threads).start_handler(pin).build();
            built.with_context(|| format!("cannot start {threads} threads"))
        };
        let pools = (1..=most).map(pool).collect::<Result<_>>()?;
        let small = (Input::draw(64, 8), Preset::Exact.method(1, HEAD_DIM, Seed(0))?);
        Ok(Self { pools, small, peer, interrupt, bar })
    }

    /// Whether the run is to end.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupt.asked()
    }

    /// Times a group; where interrupted, what there is so far.
    pub(crate) fn group(&mut self, group: &Group, repeats: usize) -> Result<Outcome> {
        self.announce(&group.name);
        let inputs: Vec<Input> = group.sizes.iter().map(|size| Input::draw(size.n, size.heads)).collect();
        if let (Some(peer), true) = (&mut self.peer, group.has_sdpa()) {
            peer.load(&inputs[0])?;
        }
        let mut outcome = Outcome { differences: self.differences(group, &inputs)?, ..Outcome::default() };
        for entry in &group.entries {
            let calls = if self.interrupted() { 1 } else { self.warm_up(entry, &inputs[entry.size])? };
            outcome.samples.push(Samples { calls, seconds: Vec::with_capacity(repeats) });
        }
        for _ in 0..repeats {
            for (entry, samples) in group.entries.iter().zip(&mut outcome.samples) {
                if self.interrupted() {
                    return Ok(outcome);
                }
                samples.seconds.push(self.time(entry, &inputs[entry.size], samples.calls)?);
                self.bar.inc(1);
            }
        }
        Ok(outcome)
    }

    /// Memory of a method at every length; fewer where interrupted.
    pub(crate) fn probe(&mut self, probe: &Probe) -> Result<Vec<probe::Found>> {
        self.announce(&format!("memory of {}", probe.preset.name()));
        let mut found = Vec::new();
        for &n in &probe.lengths {
            if self.interrupted() {
                break;
            }
            match probe::run(probe, n) {
                // Ctrl-C reaches the other process too.
                Err(_) if self.interrupted() => break,
                result => found.push(result?),
            }
            self.bar.inc(1);
        }
        Ok(found)
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn announce(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.bar.is_hidden() {
            eprintln!("measuring {what}");
        }
    }

    /// First calls, which make caches and pools warm, and how many calls a sample takes.
    fn warm_up(&mut self, entry: &Entry, input: &Input) -> Result<usize> {
        let first = self.time(entry, input, 1)?;
        let second = if first > 10.0 * SHORTEST { first } else { self.time(entry, input, 1)? };
        Ok((SHORTEST / second).ceil().clamp(1.0, 1e5) as usize)
    }

    /// Seconds of one of `calls` calls.
    fn time(&mut self, entry: &Entry, input: &Input, calls: usize) -> Result<f64> {
        sleep(PAUSE);
        let total = match &entry.side {
            Side::Sdpa => self.peer.as_mut().context("no peer")?.time(entry.threads, entry.causal, calls, BUSY)?,
            Side::FmaPeak => {
                let busy = Instant::now();
                while busy.elapsed() < BUSY {
                    fma::run(self.pool(entry));
                }
                let start = Instant::now();
                (0..calls).for_each(|_| fma::run(self.pool(entry)));
                start.elapsed().as_secs_f64()
            }
            Side::Project { method, .. } => self.pool(entry).install(|| {
                let (small, exact) = &self.small;
                small.attend_for(BUSY, exact)?;
                let start = Instant::now();
                for _ in 0..calls {
                    input.attend(method, entry.causal)?;
                }
                Ok::<_, scatterbrain_attention::Error>(start.elapsed().as_secs_f64())
            })?,
        };
        Ok(total / calls as f64)
    }

    fn pool(&self, entry: &Entry) -> &ThreadPool {
        &self.pools[entry.threads - 1]
    }

    /// Exact outputs beside the peer's.
    fn differences(&mut self, group: &Group, inputs: &[Input]) -> Result<Vec<Difference>> {
        let mut differences = Vec::new();
        if !group.has_sdpa() {
            return Ok(differences);
        }
        for entry in group.entries.iter().filter(|e| e.side.preset() == Some(Preset::Exact)) {
            let (Side::Project { method, .. }, false) = (&entry.side, self.interrupted()) else {
                continue;
            };
            let ours = self.pool(entry).install(|| inputs[entry.size].attend(method, entry.causal))?;
            let theirs = self.peer.as_mut().context("no peer")?.output(entry.threads, entry.causal)?;
            let value = difference(&ours, &theirs);
            differences.push(Difference { causal: entry.causal, threads: entry.threads, value });
        }
        Ok(differences)
    }
}
