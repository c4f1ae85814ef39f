//! The search for the cheapest configuration of a head that keeps an error.
//!
//! ```text
//! for each family of configurations:        # they differ in one parameter
//!     search for the cheapest member whose error bound keeps the request, among those cheaper than the best so far;
//!     give up where a member misses the request by far, or the next trial would cost more than is left
//! ```

use super::config::Config;
use super::cost;
use super::families::{Family, LONG, SCAN};
use super::planner::Planner;
use super::trial::{Group, Outcome};
use super::{HeadPlan, WORTH};
use crate::method::Parts;
use scatterbrain_core::Result;

/// Where there is effort for one scan alone, its expected error is to be so many times under the request.
const SURE: f64 = 1.6;
/// A family is given up where the error of a member exceeds the request so many times: none of its neighbours would do,
/// and the dearest of them cost most to try.
const FAR: f64 = 6.0;

/// A scan that misses by less has neighbours that keep the error, and what it has prepared makes their trials cheap: one
/// more of them may cost what is not left, and heads that share the keys and values have that less.
const NEAR: f64 = 2.0;

/// The search for what keeps an error of one head.
///
/// Windows and inverted files are tried before scans, which they may save, but leave enough for the scan that most heads
/// end with; of long inputs only windows do, as a scan spares little beside an inverted file.
pub(super) struct Search<'a, 'b, 'c> {
    pub planner: &'a Planner<'a>,
    pub group: &'a mut Group<'c>,
    pub head: usize,
    pub error: f64,
    pub effort: &'b mut Effort,
}

impl<'c> Search<'_, '_, 'c> {
    /// The cheapest configuration whose bound is at most the error.
    pub(super) fn cheapest(&mut self, parts: &'c [Vec<Parts>]) -> Result<HeadPlan> {
        let mut best = HeadPlan { cost: WORTH, ..HeadPlan::EXACT };
        // k-means is dear to try, and centroids alone hardly come to a sixth of the error of what has centroids too.
        let mut spiky = false;
        let mut given_up = Vec::new();
        for (family, parts) in self.planner.families.iter().zip(parts) {
            if spiky && family.flat {
                continue;
            }
            let far = match family.expected.is_empty() {
                true => self.bisect(family, parts, &mut best)?,
                false => self.walk(family, parts, None, &mut best)?,
            };
            spiky |= far && family.configs.iter().any(|config| config.centroids() > 0);
            if far && !family.expected.is_empty() {
                given_up.push((family, parts));
            }
        }
        // What was given up for a cheap member may have a dear one that keeps the error.
        for (family, parts) in given_up {
            if best.is_fallback() {
                let dearest = self.worthwhile(family, &best).checked_sub(1);
                self.walk(family, parts, dearest, &mut best)?;
            }
        }
        Ok(if best.is_fallback() { HeadPlan::EXACT } else { best })
    }

    /// Members that may cost less than the best, tried by halves. Whether one missed the error by far.
    fn bisect(&mut self, family: &Family, parts: &'c [Parts], best: &mut HeadPlan) -> Result<bool> {
        let (mut low, mut high) = (0, self.worthwhile(family, best));
        while low < high {
            let middle = (low + high) / 2;
            let Some(outcome) = self.attempt(family.configs[middle], &parts[middle], best, 0.0)? else { break };
            if outcome.bound <= self.error {
                high = middle;
            } else if outcome.error > FAR * self.error {
                return Ok(true);
            } else {
                low = middle + 1;
            }
        }
        Ok(false)
    }

    /// Tries one member after another. Whether one missed the error by far.
    ///
    /// ```text
    /// next = start, or the cheapest member that is expected to keep the error, or the dearest
    /// until next was tried before, or there is no effort left:
    ///     try it; give up where its error is FAR from the request
    ///     expect of every other member the measured bound times the ratio of their expected errors
    ///     kept:    next = the cheapest cheaper member that is then expected to keep the error
    ///     missed:  next = the cheapest dearer one, or the dearest; a near miss of a scan is lent that trial, once
    /// ```
    fn walk(&mut self, family: &Family, parts: &'c [Parts], start: Option<usize>, best: &mut HeadPlan) -> Result<bool> {
        let Family { configs, expected, .. } = family;
        let count = self.worthwhile(family, best);
        let keeps = |factor: f64| expected[..count].iter().position(|e| factor * e <= self.error);
        let mut tried = vec![false; count];
        let again = cost::trial(SCAN, &self.planner.shape, self.planner.rows, true);
        let sure = if self.cost_of_scan() + again > self.effort.left { SURE } else { 1.0 };
        let mut next = start.or(keeps(sure)).or(count.checked_sub(1));
        let mut lent = 0.0;
        while let Some(at) = next.filter(|&at| !tried[at]) {
            tried[at] = true;
            let Some(outcome) = self.attempt(configs[at], &parts[at], best, lent)? else { break };
            if outcome.error > FAR * self.error {
                return Ok(true);
            }
            let known = if outcome.bound.is_finite() { outcome.bound } else { outcome.error };
            let expects = |i: usize| known * expected[i] / expected[at] <= self.error;
            let kept = outcome.bound <= self.error;
            next = match kept {
                true => (0..at).find(|&i| expects(i)),
                false => (at + 1..count).find(|&i| expects(i)).or(count.checked_sub(1)),
            };
            let may_lend = !kept && lent == 0.0 && configs[at].is_scan();
            lent = if may_lend && known <= NEAR * self.error { again } else { 0.0 };
        }
        Ok(false)
    }

    /// What a trial of a scan would cost.
    fn cost_of_scan(&self) -> f64 {
        cost::trial(SCAN, &self.planner.shape, self.planner.rows, self.effort.scanned)
    }

    /// How many members may cost less than the best.
    fn worthwhile(&self, family: &Family, best: &HeadPlan) -> usize {
        family.configs.partition_point(|&config| self.planner.least_cost(config) < best.cost)
    }

    /// Tries a configuration if the effort left and what is `lent` pay for it, and replaces the best where it keeps the
    /// error for less.
    fn attempt(&mut self, config: Config, parts: &'c Parts, best: &mut HeadPlan, lent: f64) -> Result<Option<Outcome>> {
        let (planner, scan) = (self.planner, config.is_scan());
        let prepared = self.group.has(parts) || scan && self.effort.scanned;
        let cost = |rows| cost::trial(config, &planner.shape, rows, prepared);
        let before_scans = match config {
            Config::Window { .. } => true,
            Config::InvertedFile { .. } => planner.shape.m < LONG,
            _ => false,
        };
        let may_scan = before_scans && planner.least_cost(SCAN) < best.cost;
        let reserve = if may_scan { self.cost_of_scan() } else { 0.0 };
        if cost(planner.rows) + reserve > self.effort.left + lent {
            return Ok(None);
        }
        self.effort.scanned |= scan;
        let outcome = self.group.evaluate(self.head, config, parts, self.error)?;
        self.effort.left -= cost(outcome.rows);
        if outcome.bound <= self.error {
            let option = planner.option(config, &outcome);
            if option.cost < best.cost {
                *best = option;
            }
        }
        Ok(Some(outcome))
    }
}

/// What planning a head may still cost.
pub(super) struct Effort {
    /// Nanoseconds.
    pub left: f64,
    /// Whether the group has been scanned: other scans share what was prepared.
    pub scanned: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attend::{Call, Options};
    use crate::plan::Request;
    use crate::plan::config::{Setting, parts};
    use crate::plan::cost::Shape;
    use scatterbrain_core::{Mask, Seed, Tensor};

    const ROWS: usize = 32;

    /// A head without a mask, its planner, and configurations to try on it.
    fn with_head<const N: usize>(
        configs: [Config; N],
        f: impl for<'c> FnOnce(&'c Planner<'c>, &mut Group<'c>, &'c [Parts]),
    ) {
        let (n, d, rows) = (2000, 16, ROWS);
        let data = Seed(1).stream(0).normals(n * d);
        let x = Tensor::f32("input", &data, [1, 1, n, d]).unwrap();
        let mask = Mask::default();
        let call = Call::new(&x, &x, &x, &mask, &Options::default()).unwrap();
        let extents = call.check_ranges(true).unwrap();
        let shape = Shape::new(n, n, d, d, &mask);
        let request = Request::Error(0.9);
        let families = Vec::new();
        let planner = Planner { call: &call, request, shape, families, rows, seed: Seed(0), effort: 0.0, margin: 1.0 };
        let parts = parts(&configs, &Setting { head_dim: d, seed: Seed(0) }).unwrap();
        let keys = [call.key_rows(0, &extents[0])];
        let mut group = Group::new(&call, 0, &keys, &extents, rows, Seed(0));
        f(&planner, &mut group, &parts);
    }

    #[test]
    fn a_trial_is_paid_for_and_none_is_made_that_is_not() {
        let windows = [40, 50].map(|keys| Config::Window { keys, sinks: 4, centroids: 8 });
        with_head(windows, |planner, group, parts| trials_are_paid_for(windows, planner, group, parts));
    }

    fn trials_are_paid_for<'c>(
        windows: [Config; 2],
        planner: &'c Planner<'c>,
        group: &mut Group<'c>,
        parts: &'c [Parts],
    ) {
        let rows = ROWS;
        let fresh = cost::trial(windows[0], &planner.shape, rows, false);
        let scan = cost::trial(SCAN, &planner.shape, rows, false);
        let mut try_with = |left: f64, at: usize| {
            let mut effort = Effort { left, scanned: false };
            let mut search = Search { planner, group: &mut *group, head: 0, error: 0.9, effort: &mut effort };
            // Nothing is cheaper than the best, so that no scan is kept in reserve.
            let mut best = HeadPlan { cost: 0.0, ..HeadPlan::EXACT };
            let tried = search.attempt(windows[at], &parts[at], &mut best, 0.0).unwrap();
            (tried.map(|outcome| outcome.rows), left - effort.left)
        };
        assert_eq!(try_with(0.99 * fresh, 0), (None, 0.0));
        let (rows_tried, paid) = try_with(2.0 * fresh, 0);
        assert!(rows_tried == Some(rows) && (paid / fresh - 1.0).abs() < 1e-9, "{paid} {fresh}");
        // Its blocks of keys are there now: another window with as many needs none.
        let (rows_tried, paid) = try_with(2.0 * fresh, 1);
        let again = cost::trial(windows[1], &planner.shape, rows, true);
        assert!(rows_tried == Some(rows) && (paid / again - 1.0).abs() < 1e-9 && again < fresh, "{paid} {again}");
        // Where a scan may come out best, the effort for one is left over.
        let mut effort = Effort { left: scan + 0.99 * again, scanned: false };
        let mut search = Search { planner, group: &mut *group, head: 0, error: 0.9, effort: &mut effort };
        let mut best = HeadPlan { cost: 2.0 * planner.least_cost(SCAN), ..HeadPlan::EXACT };
        assert!(search.attempt(windows[1], &parts[1], &mut best, 0.0).unwrap().is_none());
    }

    #[test]
    fn a_near_miss_has_one_more_trial() {
        let scans = [8, 16].map(|keys| Config::Scan { keys, steps: 127 });
        let family = Family { configs: scans.to_vec(), expected: vec![0.025, 0.014], flat: false };
        with_head(scans, |planner, group, parts| {
            let bound = group.evaluate(0, scans[0], &parts[0], f64::INFINITY).unwrap().bound;
            let once = cost::trial(scans[0], &planner.shape, ROWS, false);
            // Just missed, missed by far, and missed where there is effort for both.
            for (part, trials, kept) in [(0.7, 1.0, true), (0.4, 1.0, false), (0.7, 2.0, true)] {
                let mut effort = Effort { left: trials * once, scanned: false };
                let error = part * bound;
                let mut search = Search { planner, group: &mut *group, head: 0, error, effort: &mut effort };
                let mut best = HeadPlan { cost: 1.0, ..HeadPlan::EXACT };
                search.walk(&family, parts, Some(0), &mut best).unwrap();
                assert_eq!(best.config == scans[1], kept, "{part} {trials} {best:?}");
                assert!(effort.left > -once, "{}", effort.left);
            }
        });
    }
}
