//! The times of one entry.

/// Seconds of one call, a sample a repeat.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Samples {
    /// Calls of a sample, which is their mean: short calls are timed many at once.
    pub(super) calls: usize,
    pub(super) seconds: Vec<f64>,
}

/// What a group gave.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// In the order of the group's entries.
    pub(super) samples: Vec<Samples>,
    pub(super) differences: Vec<Difference>,
}

/// How far the project's exact output is from the peer's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Difference {
    pub(super) causal: bool,
    pub(super) threads: usize,
    /// The largest |a − b|.
    pub(super) value: f64,
}
