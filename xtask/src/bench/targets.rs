//! What the figures should be.

use scatterbrain_attention::Preset;

/// The bound of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Target {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

impl Target {
    pub(super) fn met(self, value: f64) -> bool {
        match self {
            Target::AtLeast(bound) => value >= bound,
            Target::AtMost(bound) => value <= bound,
        }
    }
}

/// Fewer repeats are no median to judge by.
pub(super) const REPEATS: usize = 7;

/// How many times faster than PyTorch's exact attention.
pub(super) fn speed_up(preset: Preset, n: usize, causal: bool) -> Option<Target> {
    use Preset::{Exact, Performer, ScatterbrainLocal, ScatterbrainSmyrf};
    let times = match (preset, n, causal) {
        (Exact, 1024 | 4096 | 8192, false) => 1.25,
        (Exact, 1024 | 4096 | 8192, true) => 1.35,
        (ScatterbrainSmyrf, 4096, false) => 18.0,
        (ScatterbrainSmyrf, 16384, false) => 60.0,
        (ScatterbrainLocal, 4096, false) => 22.0,
        (ScatterbrainLocal, 16384, false) => 80.0,
        (ScatterbrainLocal, 4096, true) => 7.0,
        (ScatterbrainLocal, 16384, true) => 25.0,
        (Performer, 4096, false) => 30.0,
        (Performer, 4096, true) => 12.0,
        // Small inputs are not punished.
        (Exact, 128, _) => 1.0,
        _ => return None,
    };
    Some(Target::AtLeast(times))
}

/// The part of the peak of multiply-adds that exact attention reaches.
pub(super) const FMA_SHARE: Target = Target::AtLeast(0.86);

/// Two threads against one, from 4096 rows on.
pub(super) fn two_threads(n: usize) -> Option<Target> {
    (n >= 4096).then_some(Target::AtLeast(1.85))
}

/// An approximate method's time in times of exact attention.
pub(super) const TIME_OF_EXACT: Target = Target::AtMost(2.0);

/// Time and extra memory at twice the length.
pub(super) const DOUBLING: Target = Target::AtMost(2.1);

/// Extra memory as a part of the n × m matrix of one head.
pub(super) fn matrix_share(preset: Preset, n: usize) -> Option<Target> {
    (n == 16384 && preset != Preset::Exact).then_some(Target::AtMost(0.02))
}

/// Resident memory of a whole process with one head of 131072 rows.
pub(super) fn resident_bytes(n: usize) -> Option<Target> {
    const GIB: f64 = (1u64 << 30) as f64;
    (n == 131_072).then_some(Target::AtMost(GIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_nan_meets_none() {
        assert!(Target::AtLeast(2.0).met(2.0) && !Target::AtLeast(2.0).met(1.9));
        assert!(Target::AtMost(2.0).met(2.0) && !Target::AtMost(2.0).met(2.1));
        assert!(!Target::AtLeast(2.0).met(f64::NAN) && !Target::AtMost(2.0).met(f64::NAN));
    }

    #[test]
    fn causal_smyrf_is_shown_without_a_target() {
        assert_eq!(speed_up(Preset::ScatterbrainSmyrf, 4096, true), None);
        assert_eq!(speed_up(Preset::ScatterbrainLocal, 16384, true), Some(Target::AtLeast(25.0)));
    }
}
