//! What is measured: groups of calls that are timed in turn, and probes of memory.

use super::input::HEAD_DIM;
use anyhow::Result;
use scatterbrain_attention::{Method, Preset, Seed};

/// Units per query of every method that takes a budget, where no smaller input asks for less.
const BUDGET: usize = 128;
/// Both masks.
const MASKS: [bool; 2] = [false, true];
/// What is called approximate where growth and memory are looked at.
const GROWING: [Preset; 5] =
    [Preset::ScatterbrainLocal, Preset::ScatterbrainSmyrf, Preset::Local, Preset::Smyrf, Preset::Performer];

/// A whole run.
pub(crate) struct Plan {
    pub(crate) groups: Vec<Group>,
    pub(crate) probes: Vec<Probe>,
    pub(crate) repeats: usize,
    /// Whether figures are held against their targets.
    pub(crate) judged: bool,
}

/// What a group is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Speed,
    Small,
    Growth,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Speed => "speed",
            Part::Small => "small",
            Part::Growth => "growth",
        }
    }
}

/// Calls that are timed in turn.
pub(crate) struct Group {
    pub(crate) part: Part,
    pub(crate) name: String,
    pub(crate) sizes: Vec<Size>,
    pub(crate) entries: Vec<Entry>,
}

/// Rows of queries and keys, and heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) n: usize,
    pub(crate) heads: usize,
}

/// One call.
pub(crate) struct Entry {
    pub(crate) side: Side,
    /// Into the group's sizes.
    pub(crate) size: usize,
    pub(crate) causal: bool,
    pub(crate) threads: usize,
}

/// Who computes.
pub(crate) enum Side {
    /// PyTorch's exact attention.
    Sdpa,
    /// Multiply-adds and nothing else.
    FmaPeak,
    Project {
        preset: Preset,
        budget: Option<usize>,
        method: Method,
    },
}

/// Memory of one method, a process for each length.
pub(crate) struct Probe {
    pub(crate) preset: Preset,
    pub(crate) causal: bool,
    pub(crate) budget: usize,
    pub(crate) lengths: Vec<usize>,
}

impl Side {
    /// Draws the method's hashes and projections, which is not part of a call.
    pub(crate) fn project(preset: Preset, budget: usize) -> Result<Self> {
        let method = preset.method(budget, HEAD_DIM, Seed(0))?;
        Ok(Side::Project { preset, budget: preset.has_budget().then_some(budget), method })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Side::Sdpa => "torch-sdpa",
            Side::FmaPeak => "fma-peak",
            Side::Project { preset, .. } => preset.name(),
        }
    }

    pub(crate) fn preset(&self) -> Option<Preset> {
        match self {
            Side::Project { preset, .. } => Some(*preset),
            _ => None,
        }
    }
}

impl Group {
    /// The size an entry is for.
    pub(crate) fn size(&self, entry: &Entry) -> Size {
        self.sizes[entry.size]
    }

    /// Whether PyTorch has a part in it.
    pub(crate) fn has_sdpa(&self) -> bool {
        self.entries.iter().any(|e| matches!(e.side, Side::Sdpa))
    }
}

impl Plan {
    /// What the targets are for.
    pub(crate) fn full(peers: bool) -> Result<Self> {
        use Preset::{Exact, Performer, ScatterbrainLocal, ScatterbrainSmyrf};
        let speed: [(Size, &[Preset]); 4] = [
            (Size { n: 1024, heads: 8 }, &[Exact]),
            (Size { n: 4096, heads: 8 }, &[Exact, ScatterbrainSmyrf, ScatterbrainLocal, Performer]),
            (Size { n: 8192, heads: 8 }, &[Exact]),
            (Size { n: 16384, heads: 2 }, &[ScatterbrainSmyrf, ScatterbrainLocal]),
        ];
        Self::of(Sizes { speed: &speed, small: &[64, 128, 256, 512, 1024], growth: &LENGTHS, repeats: 15 }, peers, true)
    }

    /// The same on little inputs: that everything runs.
    pub(crate) fn quick(peers: bool) -> Result<Self> {
        use Preset::{Exact, Performer, ScatterbrainLocal, ScatterbrainSmyrf};
        let all: &[Preset] = &[Exact, ScatterbrainSmyrf, ScatterbrainLocal, Performer];
        let speed = [(Size { n: 1024, heads: 8 }, all), (Size { n: 2048, heads: 8 }, all)];
        Self::of(Sizes { speed: &speed, small: &[64, 128], growth: &[2048, 4096], repeats: 3 }, peers, false)
    }

    fn of(sizes: Sizes<'_>, peers: bool, judged: bool) -> Result<Self> {
        let mut groups = Vec::new();
        for &(size, presets) in sizes.speed {
            groups.push(speed(size, presets, peers)?);
        }
        for &n in sizes.small {
            groups.push(small(n, peers)?);
        }
        let mut probes =
            vec![Probe { preset: Preset::Exact, causal: false, budget: BUDGET, lengths: sizes.growth[..1].to_vec() }];
        for (preset, causal) in GROWING.into_iter().flat_map(|preset| MASKS.map(|causal| (preset, causal))) {
            groups.push(growth(preset, causal, sizes.growth)?);
            probes.push(Probe { preset, causal, budget: BUDGET, lengths: sizes.growth.to_vec() });
        }
        Ok(Self { groups, probes, repeats: sizes.repeats, judged })
    }

    /// Steps of a progress bar.
    pub(crate) fn steps(&self) -> usize {
        let calls: usize = self.groups.iter().map(|g| g.entries.len() * self.repeats).sum();
        calls + self.probes.iter().map(|p| p.lengths.len()).sum::<usize>()
    }
}

/// Where growth is looked at.
const LENGTHS: [usize; 4] = [16384, 32768, 65536, 131_072];

struct Sizes<'a> {
    speed: &'a [(Size, &'a [Preset])],
    small: &'a [usize],
    growth: &'a [usize],
    repeats: usize,
}

/// Every number of threads: one, and two where the machine has them.
fn thread_counts() -> Vec<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (1..=cores.min(2)).collect()
}

fn speed(size: Size, presets: &[Preset], peers: bool) -> Result<Group> {
    let mut entries = Vec::new();
    for threads in thread_counts() {
        entries.push(Entry { side: Side::FmaPeak, size: 0, causal: false, threads });
        entries.append(&mut sides(presets, BUDGET, threads, peers)?);
    }
    let name = format!("{} rows x {} heads", size.n, size.heads);
    Ok(Group { part: Part::Speed, name, sizes: vec![size], entries })
}

fn small(n: usize, peers: bool) -> Result<Group> {
    let mut entries = Vec::new();
    for threads in thread_counts() {
        entries.append(&mut sides(&Preset::ALL, BUDGET.min(n / 2), threads, peers)?);
    }
    Ok(Group { part: Part::Small, name: format!("all methods, {n} rows"), sizes: vec![Size { n, heads: 8 }], entries })
}

/// The peer and the methods, each under both masks.
fn sides(presets: &[Preset], budget: usize, threads: usize, peers: bool) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for causal in MASKS {
        if peers {
            entries.push(Entry { side: Side::Sdpa, size: 0, causal, threads });
        }
        for &preset in presets {
            entries.push(Entry { side: Side::project(preset, budget)?, size: 0, causal, threads });
        }
    }
    Ok(entries)
}

/// One method on one thread at every length.
fn growth(preset: Preset, causal: bool, lengths: &[usize]) -> Result<Group> {
    let entry = |size| Ok(Entry { side: Side::project(preset, BUDGET)?, size, causal, threads: 1 });
    let mask = if causal { ", causal" } else { "" };
    Ok(Group {
        part: Part::Growth,
        name: format!("growth of {}{mask}", preset.name()),
        sizes: lengths.iter().map(|&n| Size { n, heads: 1 }).collect(),
        entries: (0..lengths.len()).map(entry).collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::targets;

    #[test]
    fn the_full_plan_measures_every_target() {
        let plan = Plan::full(true).unwrap();
        assert!(plan.judged && plan.repeats >= targets::REPEATS);
        let has = |preset: Preset, n: usize, causal: bool| {
            let found = |g: &Group| {
                g.has_sdpa()
                    && g.sizes[0].n == n
                    && g.entries.iter().any(|e| e.side.preset() == Some(preset) && e.causal == causal)
            };
            plan.groups.iter().any(found)
        };
        for preset in Preset::ALL {
            for n in [128, 1024, 4096, 8192, 16384] {
                for causal in MASKS {
                    assert!(targets::speed_up(preset, n, causal).is_none() || has(preset, n, causal));
                }
            }
        }
    }

    #[test]
    fn without_peers_nobody_asks_for_one() {
        let plan = Plan::quick(false).unwrap();
        assert!(!plan.judged && !plan.groups.iter().any(Group::has_sdpa));
        assert!(plan.steps() > 0);
    }
}
