//! A row of the record: a call, its times, and one figure made of them.

use super::plan::{Entry, Group, Probe};
use super::samples::{Difference, Samples};
use super::targets::{self, Target};
use crate::statistics::median;
use serde::{Deserialize, Serialize};

/// Columns. What does not apply is blank; a call that others are compared with has a row without a figure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// What the row was measured for.
    pub(super) part: String,
    /// Who computes: a preset, `torch-sdpa` or `fma-peak`.
    pub(super) method: String,
    pub(super) budget: Option<usize>,
    pub(super) n: usize,
    pub(super) heads: usize,
    pub(super) causal: bool,
    pub(super) threads: usize,
    pub(super) repeats: Option<usize>,
    /// A sample is their mean.
    pub(super) calls_per_sample: Option<usize>,
    pub(super) median_seconds: Option<f64>,
    pub(super) min_seconds: Option<f64>,
    pub(super) max_seconds: Option<f64>,
    pub(super) figure: Option<Figure>,
    /// What the figure compares with.
    pub(super) against: String,
    pub(super) against_median_seconds: Option<f64>,
    pub(super) value: Option<f64>,
    /// Where `value` is a ratio of medians: the median of the ratios, repeat by repeat.
    pub(super) value_of_pairs: Option<f64>,
    pub(super) at_least: Option<f64>,
    pub(super) at_most: Option<f64>,
    /// Blank without a target, or with too few repeats to judge by.
    pub(super) met: Option<Met>,
}

/// What `value` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Figure {
    /// Time of `against` over the method's.
    SpeedUp,
    /// Time on one thread over time on these.
    ThreadSpeedUp,
    /// 10⁹ operations a second.
    GflopPerSecond,
    /// Operations of the method, 4·n·m·d a head, as a part of the peak.
    FmaShare,
    /// Time of the method over exact attention's.
    TimeOfExact,
    /// Time over the time at half the length.
    TimePerDoubling,
    /// Heap of a call, without its output.
    ExtraBytes,
    /// The same over that at half the length.
    ExtraBytesPerDoubling,
    /// Extra bytes over 4·n·m.
    ShareOfMatrix,
    /// Of a process that makes one call.
    PeakResidentBytes,
    /// Between two exact outputs.
    MaxDifference,
}

/// Whether the target is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Met {
    Yes,
    No,
}

impl Row {
    /// The times of an entry.
    pub(super) fn timed(group: &Group, entry: &Entry, samples: &Samples) -> Self {
        let size = group.size(entry);
        let budget = match &entry.side {
            super::plan::Side::Project { budget, .. } => *budget,
            _ => None,
        };
        Self {
            part: group.part.name().into(),
            method: entry.side.name().into(),
            budget,
            n: size.n,
            heads: size.heads,
            causal: entry.causal,
            threads: entry.threads,
            repeats: Some(samples.seconds.len()),
            calls_per_sample: Some(samples.calls),
            median_seconds: median(&samples.seconds),
            min_seconds: samples.seconds.iter().copied().reduce(f64::min),
            max_seconds: samples.seconds.iter().copied().reduce(f64::max),
            ..Self::default()
        }
    }

    /// A call whose memory was measured.
    pub(super) fn memory(probe: &Probe, n: usize) -> Self {
        Self {
            part: "memory".into(),
            method: probe.preset.name().into(),
            budget: probe.preset.has_budget().then_some(probe.budget),
            n,
            heads: 1,
            causal: probe.causal,
            threads: 1,
            ..Self::default()
        }
    }

    /// How far exact outputs are from the peer's.
    pub(super) fn difference(group: &Group, difference: &Difference) -> Self {
        let size = group.sizes[0];
        let row = Self {
            part: group.part.name().into(),
            method: "exact".into(),
            n: size.n,
            heads: size.heads,
            causal: difference.causal,
            threads: difference.threads,
            against: "torch-sdpa".into(),
            ..Self::default()
        };
        row.with(Figure::MaxDifference, difference.value).judged(Some(super::agreement::TOLERANCE))
    }

    /// The same call with a figure.
    pub(super) fn with(&self, figure: Figure, value: f64) -> Self {
        Self { figure: Some(figure), value: Some(value), ..self.clone() }
    }

    /// The figure held against its target. A median of too few repeats gets no verdict.
    pub(super) fn judged(mut self, target: Option<Target>) -> Self {
        match target {
            Some(Target::AtLeast(bound)) => self.at_least = Some(bound),
            Some(Target::AtMost(bound)) => self.at_most = Some(bound),
            None => {}
        }
        let enough = self.repeats.is_none_or(|repeats| repeats >= targets::REPEATS);
        if let (Some(target), Some(value), true) = (target, self.value, enough) {
            self.met = Some(if target.met(value) { Met::Yes } else { Met::No });
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_repeats_are_not_judged() {
        let row = |repeats| Row { repeats, ..Row::default() }.with(Figure::SpeedUp, 3.0);
        let target = Some(Target::AtLeast(2.0));
        assert_eq!(row(Some(7)).judged(target).met, Some(Met::Yes));
        assert_eq!(row(Some(7)).judged(Some(Target::AtLeast(4.0))).met, Some(Met::No));
        assert_eq!((row(Some(6)).judged(target).met, row(Some(6)).judged(target).at_least), (None, Some(2.0)));
        assert_eq!(row(Some(7)).judged(None).met, None);
        // Memory is no median.
        assert_eq!(row(None).judged(target).met, Some(Met::Yes));
    }
}
