//! The times of one entry.

/// Seconds of one call, a sample a repeat.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Samples {
    /// Calls of a sample, which is their mean: short calls are timed many at once.
    pub(crate) calls: usize,
    pub(crate) seconds: Vec<f64>,
}

/// What a group gave.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// In the order of the group's entries.
    pub(crate) samples: Vec<Samples>,
    pub(crate) differences: Vec<Difference>,
}

/// How far the project's exact output is from the peer's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Difference {
    pub(crate) causal: bool,
    pub(crate) threads: usize,
    /// The largest |a − b|.
    pub(crate) value: f64,
}
