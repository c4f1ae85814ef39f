//! What is claimed, and what came of it.

use super::{Interval, number};
use serde::{Deserialize, Serialize};

/// What a formula says of the value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Claim {
    /// The value is this.
    Equals(#[serde(with = "number")] f64),
    /// The value is this or less: an upper bound.
    AtMost(#[serde(with = "number")] f64),
    /// The value is this or more: a lower bound.
    AtLeast(#[serde(with = "number")] f64),
}

/// What came of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// The samples show the claim to be true, within the tolerance.
    Holds,
    /// The samples show the claim to be false, by more than the tolerance.
    Refuted,
    /// The samples show neither.
    Undecided,
}

impl Claim {
    /// The number in it.
    pub fn prediction(self) -> f64 {
        match self {
            Claim::Equals(p) | Claim::AtMost(p) | Claim::AtLeast(p) => p,
        }
    }

    /// True of every number.
    pub(super) fn is_trivial(self) -> bool {
        self == Claim::AtMost(f64::INFINITY) || self == Claim::AtLeast(f64::NEG_INFINITY)
    }

    /// The numbers that satisfy the claim up to `slack`.
    pub(super) fn band(self, slack: f64) -> Interval {
        match self {
            Claim::Equals(p) => Interval { low: p - slack, high: p + slack },
            Claim::AtMost(p) => Interval { low: f64::NEG_INFINITY, high: p + slack },
            Claim::AtLeast(p) => Interval { low: p - slack, high: f64::INFINITY },
        }
    }
}
