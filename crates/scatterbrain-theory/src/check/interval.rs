//! Confidence intervals.

use super::moments::Moments;
use super::number;
use serde::{Deserialize, Serialize};

/// All numbers from `low` to `high`; the whole line where nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    #[serde(with = "number")]
    pub low: f64,
    /// Upper end.
    #[serde(with = "number")]
    pub high: f64,
}

/// Relative spread below which terms are equal up to the rounding of their formula.
pub(super) const ROUNDING: f64 = 1e-10;

impl Interval {
    /// Where nothing is known.
    pub(super) const LINE: Self = Self { low: f64::NEG_INFINITY, high: f64::INFINITY };

    /// Whether `x` lies in it, ends included.
    pub fn contains(&self, x: f64) -> bool {
        self.low <= x && x <= self.high
    }

    /// high − low.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }

    /// Whether all of it lies in `other`.
    pub(super) fn inside(&self, other: &Self) -> bool {
        other.low <= self.low && self.high <= other.high
    }

    /// Whether none of it lies in `other`.
    pub(super) fn outside(&self, other: &Self) -> bool {
        self.high < other.low || other.high < self.low
    }

    /// Bernstein's inequality with variance and range of the samples, each side failing with e^{−t}.
    pub(super) fn bernstein(moments: &Moments, t: f64) -> Self {
        let n = moments.trials as f64;
        let variance = moments.powers[0] / n;
        let half = (2.0 * variance * t / n).sqrt() + moments.spread() * t / (3.0 * n);
        Self::around(moments.mean, half + ROUNDING * moments.largest() + moments.noise)
    }

    /// Terms that are all equal, allowing for an event of their size that N trials did not show:
    /// its probability is at most t/N, or it would have been missed with less than e^{−t}.
    pub(super) fn constant(moments: &Moments, t: f64, unit: f64) -> Self {
        let size = if moments.is_zero() { unit } else { moments.largest() };
        Self::around(moments.mean, size * (t / moments.trials as f64 + ROUNDING) + moments.noise)
    }

    /// All p with N·KL(p̂‖p) ≤ t, for `hits` of `trials` = N: Chernoff's bound inverted. It fails with at most
    /// 2e^{−t}, for every p and N.
    pub(super) fn chernoff(hits: f64, trials: f64, t: f64) -> Self {
        let found = hits / trials;
        let part = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a * (a / b).ln() };
        let inside = |p: f64| trials * (part(found, p) + part(1.0 - found, 1.0 - p)) <= t;
        // Bisection between the estimate, which is inside, and an end of [0, 1].
        let end = |outer: f64| {
            if inside(outer) {
                return outer;
            }
            let (mut inner, mut outer) = (found, outer);
            for _ in 0..200 {
                let middle = 0.5 * (inner + outer);
                if inside(middle) { inner = middle } else { outer = middle }
            }
            outer
        };
        Self { low: end(0.0), high: end(1.0) }
    }

    /// In other units.
    pub(super) fn scaled(self, scale: f64) -> Self {
        Self { low: self.low * scale, high: self.high * scale }
    }

    fn around(x: f64, half: f64) -> Self {
        Self { low: x - half, high: x + half }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No hit in N trials: (1 − p)^N = e^{−t} at the upper end; and the mirror image.
    #[test]
    fn chernoff_ends() {
        let none = Interval::chernoff(0.0, 1000.0, 5.0);
        assert_eq!(none.low, 0.0);
        assert!((none.high - -(-5.0f64 / 1000.0).exp_m1()).abs() < 1e-12);
        let all = Interval::chernoff(1000.0, 1000.0, 5.0);
        assert_eq!(all.high, 1.0);
        assert!((all.low - (-5.0f64 / 1000.0).exp()).abs() < 1e-12);
        let one = Interval::chernoff(1.0, 1.0, 5.0);
        assert!((one.low - (-5.0f64).exp()).abs() < 1e-12);
    }

    /// The exact binomial probability that the interval misses p is at most 2e^{−t}.
    #[test]
    fn chernoff_covers() {
        let t = 3.0;
        for n in [1u32, 5, 40, 200] {
            for p in [1e-4, 0.01, 0.3, 0.5, 0.97, 0.9999f64] {
                let mut missed = 0.0;
                let mut mass = (1.0 - p).powi(n as i32);
                for hits in 0..=n {
                    if !Interval::chernoff(f64::from(hits), f64::from(n), t).contains(p) {
                        missed += mass;
                    }
                    mass *= f64::from(n - hits) / f64::from(hits + 1) * p / (1.0 - p);
                }
                assert!(missed <= 2.0 * (-t).exp(), "n = {n}, p = {p}: {missed}");
            }
        }
    }
}
