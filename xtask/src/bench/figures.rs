//! From times and bytes to the figures that have targets.

use super::fma;
use super::input::HEAD_DIM;
use super::plan::{Entry, Group, Part, Probe, Side};
use super::probe::Found;
use super::row::{Figure, Row};
use super::samples::{Outcome, Samples};

use super::targets::{self, Target};
use crate::statistics::{median, ratio};
use scatterbrain_attention::Preset;

/// Rows of a group: each call with its figures, or alone where it has none. `judged`: targets apply.
pub(super) fn rows(group: &Group, outcome: &Outcome, judged: bool) -> Vec<Row> {
    let table = Table { group, samples: &outcome.samples, judged };
    let mut rows: Vec<Row> = outcome.differences.iter().map(|d| Row::difference(group, d)).collect();
    for (entry, samples) in table.entries() {
        let row = Row::timed(group, entry, samples);
        let figures = table.figures(entry, samples, &row);
        rows.extend(if figures.is_empty() { vec![row] } else { figures });
    }
    rows
}

/// Rows of a method's memory.
pub(super) fn memory_rows(probe: &Probe, found: &[Found], judged: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut before: Option<usize> = None;
    for found in found {
        let row = Row::memory(probe, found.n);
        let target = |target: Option<Target>| target.filter(|_| judged);
        let extra = found.memory.extra_bytes as f64;
        rows.push(row.with(Figure::ExtraBytes, extra));
        let share = row.with(Figure::ShareOfMatrix, extra / (4.0 * (found.n as f64).powi(2)));
        rows.push(share.judged(target(targets::matrix_share(probe.preset, found.n))));
        if let Some(before) = before {
            let growth = row.with(Figure::ExtraBytesPerDoubling, extra / before as f64);
            rows.push(growth.judged(target(Some(targets::DOUBLING))));
        }
        if let Some(bytes) = found.memory.peak_resident_bytes {
            let resident = row.with(Figure::PeakResidentBytes, bytes as f64);
            rows.push(resident.judged(target(targets::resident_bytes(found.n))));
        }
        before = Some(found.memory.extra_bytes);
    }
    rows
}

/// A group with its times.
struct Table<'a> {
    group: &'a Group,
    samples: &'a [Samples],
    judged: bool,
}

impl<'a> Table<'a> {
    /// Entries that were timed; an interrupted run has others.
    fn entries(&self) -> impl Iterator<Item = (&'a Entry, &'a Samples)> + use<'a> {
        self.group.entries.iter().zip(self.samples).filter(|(_, samples)| !samples.seconds.is_empty())
    }

    fn find(&self, wanted: impl Fn(&Entry) -> bool) -> Option<(&'a Entry, &'a Samples)> {
        self.entries().find(|(entry, _)| wanted(entry))
    }

    fn figures(&self, entry: &Entry, samples: &Samples, row: &Row) -> Vec<Row> {
        let found = match (self.group.part, &entry.side) {
            (_, Side::FmaPeak) => vec![self.peak(entry, row)],
            (Part::Speed, Side::Sdpa) => vec![self.threads(entry, samples, row)],
            (Part::Speed, Side::Project { preset, .. }) => vec![
                self.speed_up(entry, *preset, samples, row),
                self.fma_share(entry, *preset, samples, row),
                self.threads(entry, samples, row),
            ],
            (Part::Small, Side::Project { preset: Preset::Exact, .. }) => {
                vec![self.speed_up(entry, Preset::Exact, samples, row)]
            }
            (Part::Small, Side::Project { .. }) => vec![self.time_of_exact(entry, samples, row)],
            (Part::Growth, _) => vec![self.doubling(entry, samples, row)],
            (Part::Small, Side::Sdpa) => vec![],
        };
        found.into_iter().flatten().collect()
    }

    fn speed_up(&self, entry: &Entry, preset: Preset, samples: &Samples, row: &Row) -> Option<Row> {
        let (other, against) = self.find(|e| matches!(e.side, Side::Sdpa) && same_call(e, entry))?;
        let row = compared(row, Figure::SpeedUp, other, against, ratio(&against.seconds, &samples.seconds)?);
        Some(self.judge(row, targets::speed_up(preset, self.group.size(entry).n, entry.causal)))
    }

    /// Exact attention's operations a second over those of the peak, on as many threads.
    fn fma_share(&self, entry: &Entry, preset: Preset, samples: &Samples, row: &Row) -> Option<Row> {
        if preset != Preset::Exact || entry.causal {
            return None;
        }
        let (other, peak) = self.find(|e| matches!(e.side, Side::FmaPeak) && e.threads == entry.threads)?;
        let size = self.group.size(entry);
        let operations = (4 * size.heads * size.n * size.n * HEAD_DIM) as f64 / fma::operations(entry.threads);
        let (value, paired) = ratio(&peak.seconds, &samples.seconds)?;
        let row = compared(row, Figure::FmaShare, other, peak, (value * operations, paired * operations));
        Some(self.judge(row, Some(targets::FMA_SHARE)))
    }

    fn threads(&self, entry: &Entry, samples: &Samples, row: &Row) -> Option<Row> {
        let same = |e: &Entry| e.side.name() == entry.side.name() && e.causal == entry.causal;
        let (other, alone) = self.find(|e| same(e) && e.threads == 1 && entry.threads > 1)?;
        let row = compared(row, Figure::ThreadSpeedUp, other, alone, ratio(&alone.seconds, &samples.seconds)?);
        // What the peer gains is shown and not judged.
        let target = entry.side.preset().and_then(|_| targets::two_threads(self.group.size(entry).n));
        Some(self.judge(row, target))
    }

    fn time_of_exact(&self, entry: &Entry, samples: &Samples, row: &Row) -> Option<Row> {
        let (other, exact) = self.find(|e| e.side.preset() == Some(Preset::Exact) && same_call(e, entry))?;
        let row = compared(row, Figure::TimeOfExact, other, exact, ratio(&samples.seconds, &exact.seconds)?);
        Some(self.judge(row, Some(targets::TIME_OF_EXACT)))
    }

    fn doubling(&self, entry: &Entry, samples: &Samples, row: &Row) -> Option<Row> {
        let (other, half) = self.find(|e| 2 * self.group.size(e).n == self.group.size(entry).n)?;
        let row = compared(row, Figure::TimePerDoubling, other, half, ratio(&samples.seconds, &half.seconds)?);
        Some(self.judge(row, Some(targets::DOUBLING)))
    }

    fn peak(&self, entry: &Entry, row: &Row) -> Option<Row> {
        Some(row.with(Figure::GflopPerSecond, fma::operations(entry.threads) / row.median_seconds? / 1e9))
    }

    fn judge(&self, row: Row, target: Option<Target>) -> Row {
        row.judged(target.filter(|_| self.judged))
    }
}

/// The same tensors, mask and threads.
fn same_call(a: &Entry, b: &Entry) -> bool {
    (a.size, a.causal, a.threads) == (b.size, b.causal, b.threads)
}

fn compared(row: &Row, figure: Figure, other: &Entry, against: &Samples, (value, paired): (f64, f64)) -> Row {
    Row {
        against: other.side.name().into(),
        against_median_seconds: median(&against.seconds),
        value_of_pairs: Some(paired),
        ..row.with(figure, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::memory::Memory;
    use crate::bench::plan::Plan;
    use crate::bench::row::Met;
    use crate::bench::samples::Difference;

    /// Every call of the first group takes `seconds(name, threads)`.
    fn measured(seconds: impl Fn(&str, usize) -> f64) -> Vec<Row> {
        let plan = Plan::full(true).unwrap();
        let group = plan.groups.iter().find(|g| g.part == Part::Speed && g.sizes[0].n == 4096).unwrap();
        let samples =
            group.entries.iter().map(|e| Samples { calls: 1, seconds: vec![seconds(e.side.name(), e.threads); 7] });
        let differences = vec![Difference { causal: true, threads: 1, value: 1e-6 }];
        rows(group, &Outcome { samples: samples.collect(), differences }, true)
    }

    fn figure(rows: &[Row], figure: Figure, method: &str, threads: usize) -> Row {
        let found = |r: &&Row| (r.figure, r.method.as_str(), r.threads) == (Some(figure), method, threads);
        rows.iter().find(found).unwrap_or_else(|| panic!("no {figure:?} of {method}")).clone()
    }

    #[test]
    fn ratios_of_a_group() {
        let rows = measured(|name, _| if name == "torch-sdpa" { 3.0 } else { 2.0 });
        let exact = figure(&rows, Figure::SpeedUp, "exact", 1);
        assert_eq!((exact.value, exact.at_least, exact.met), (Some(1.5), Some(1.25), Some(Met::Yes)));
        assert_eq!(exact.against_median_seconds, Some(3.0));
        assert_eq!(figure(&rows, Figure::SpeedUp, "scatterbrain-local", 1).met, Some(Met::No));
        assert_eq!(figure(&rows, Figure::MaxDifference, "exact", 1).met, Some(Met::Yes));
        let share = figure(&rows, Figure::FmaShare, "exact", 1).value.unwrap();
        let operations = (4usize * 8 * 4096 * 4096 * 64) as f64;
        assert!((share - operations / fma::operations(1)).abs() < 1e-9 * share);
    }

    #[test]
    fn interrupted_groups_give_what_they_have() {
        let plan = Plan::full(true).unwrap();
        let group = &plan.groups[0];
        assert_eq!(rows(group, &Outcome::default(), true), vec![]);
        let outcome = Outcome {
            samples: vec![Samples { calls: 1, seconds: vec![1.0] }, Samples::default()],
            ..Outcome::default()
        };
        assert_eq!(rows(group, &outcome, true).len(), 1);
    }

    #[test]
    fn memory_per_doubling() {
        let probe = Probe { preset: Preset::Local, causal: false, budget: 128, lengths: vec![16384, 32768] };
        let at = |n, extra_bytes| Found { n, memory: Memory { extra_bytes, peak_resident_bytes: None } };
        let rows = memory_rows(&probe, &[at(16384, 1 << 20), at(32768, 3 << 20)], true);
        let growth = figure(&rows, Figure::ExtraBytesPerDoubling, "local", 1);
        assert_eq!((growth.value, growth.met), (Some(3.0), Some(Met::No)));
        assert_eq!(figure(&rows, Figure::ShareOfMatrix, "local", 1).met, Some(Met::Yes));
    }
}
