//! Which configuration each head gets.
//!
//! ```text
//! for each head:
//!     exact attention of some rows, one of each stratum
//!     an error asked for:    search (`search.rs`) for the cheapest configuration whose error bound keeps it
//!     units or time:         try configurations as far as the effort goes, and take the least error
//! ```
//!
//! Where the effort does not suffice for a look, a head is left to exact attention for an error, for units to the
//! configuration that would be tried first, and for a time as many heads as it pays to exact attention and the others to that
//! configuration or a scan.

use super::config::{self, Config, Setting};
use super::cost::{self, Shape, Spent};
use super::families::{Family, SCAN, families};
use super::search::{Effort, Search};
use super::trial::{Group, Outcome};
use super::{HeadPlan, LayerPlan, WORTH};
use crate::attend::{Call, Options};
use crate::group::{GroupExtent, KeyRows};
use crate::method::Parts;
use rayon::prelude::*;
use scatterbrain_core::kernel::PANEL;
use scatterbrain_core::{Error, Mask, Result, Seed, Tensor};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};

/// Rows sampled a head where [`PlanOptions::rows`] is not given: such a part of all in whole panels, within these limits.
const ROWS_PART: usize = 80;
const FEWEST_ROWS: usize = 48;
/// The same where no effort limits them: few rows that err by far more than all others are then seen, 3 % of the rows with a
/// probability of 99.9 %.
const UNLIMITED_PART: usize = 8;
const FEWEST_UNLIMITED: usize = 256;
const MOST_ROWS: usize = 512;
/// [`PlanOptions::margin`] of plans for other inputs: of 90 heads of a decoder planned on the first half of the tokens, 89
/// keep a request on the queries of the second half by it, 86 at 1.4 and 81 at 1.3.
const MARGIN: f64 = 1.5;
/// Rows that an error is promised from, at least. Of 16, bounds on heads in which a few rows err far more than all others were
/// broken by up to five times the request, by windows where there is a sink, by scans where one row in eight is spread and the
/// others are not.
const FEWEST_FOR_ERROR: usize = 32;
/// Of the effort, what exact rows may take.
const ROWS_EFFORT: f64 = 0.3;
/// Costs that differ by less of exact attention are taken as one where a time is split among heads.
const COST_STEPS: f64 = 32.0;
/// Of sums of costs.
const ROUNDING: f64 = 1e-9;

/// What a plan is to keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// The mean relative output error of each head; the cheapest configuration that keeps it is taken.
    Error(f64),
    /// Units a query (a key on the support 1, a centroid 2); of those within it the configuration of least error is taken.
    Units(usize),
    /// Mean time of the heads over that of exact attention; it is spent where it lowers errors most.
    Time(f64),
}

impl Default for Request {
    /// An error of 0.05.
    fn default() -> Self {
        Request::Error(0.05)
    }
}

/// As `error 0.05`, `256 units` or `time 0.5`.
impl Display for Request {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Request::Error(error) => write!(f, "error {error}"),
            Request::Units(units) => write!(f, "{units} units"),
            Request::Time(time) => write!(f, "time {time}"),
        }
    }
}

impl Request {
    pub(super) fn check(self) -> Result<()> {
        let positive = |name, x: f64| match x.is_finite() && x > 0.0 {
            true => Ok(()),
            false => Err(Error::invalid(name, "a finite number above 0", x)),
        };
        match self {
            Request::Error(error) => positive("max_error", error),
            Request::Time(time) => positive("max_time", time),
            Request::Units(0) => Err(Error::invalid("units", "at least 1", 0)),
            Request::Units(_) => Ok(()),
        }
    }
}

/// How to plan.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PlanOptions {
    /// What the plan is to keep.
    pub request: Request,
    /// Of the sampled rows and of k-means; the same seed gives the same plan for any number of threads.
    pub seed: Option<Seed>,
    /// Rows to sample a head and batch entry; where absent some n/8, but at least 256 and at most 512, for an error without
    /// a limit of effort, and else some n/80, at least 48. With an `effort` as many of them as it pays, and none where that is
    /// too few.
    pub rows: Option<usize>,
    /// What planning a head may cost, predicted from counts of operations, over the cost of exact attention of it. Where it
    /// does not suffice for a look at sixteen rows, or 32 for an error, heads are planned unseen: for an error they are left
    /// to exact attention, for units or a time to what mostly errs least within them ([`HeadPlan::error`] is `None`). Absent:
    /// no limit, for plans that are stored. [`PlanOptions::on_the_fly`] has one.
    pub effort: Option<f64>,
    /// How many times less than the request an error's bound must be: at least 1. Absent: 1.5, for plans that other inputs
    /// will use, whose errors differ from those of the planned one. It does not bind requests in units or time.
    pub margin: Option<f64>,
    /// Whether scans are tried with the codes of this CPU, for a plan that is used on it alone, as one on the fly is. Else
    /// with those that every CPU takes ([`Level::with_common_codes`](scatterbrain_core::Level::with_common_codes)), so that
    /// errors are no larger elsewhere.
    pub own_codes: bool,
}

impl PlanOptions {
    /// For a plan that is used once: a tenth of exact attention, or an effort of 0.095 as counts are off by a twentieth, no
    /// margin, and the codes of this CPU. Counts are those of AVX2: with the feature `avx512` exact attention is faster, and
    /// planning up to 13 % of it.
    pub fn on_the_fly(request: Request) -> Self {
        Self { request, effort: Some(0.095), margin: Some(1.0), own_codes: true, ..Self::default() }
    }

    fn margin(&self) -> f64 {
        self.margin.unwrap_or(MARGIN)
    }

    fn check(&self) -> Result<()> {
        self.request.check()?;
        let margin = self.margin();
        if !(margin.is_finite() && margin >= 1.0) {
            return Err(Error::invalid("margin", "a finite number of at least 1", margin));
        }
        match self.effort {
            Some(effort) if effort.is_nan() || effort < 0.0 => Err(Error::invalid("effort", "at least 0", effort)),
            _ => Ok(()),
        }
    }

    /// Rows to sample.
    fn count_rows(&self, shape: &Shape, causal: bool) -> Result<usize> {
        let panels = |rows: usize| rows / PANEL * PANEL;
        let seeing = shape.seeing(causal);
        let affordable = |effort: f64| panels((seeing as f64 * effort * ROWS_EFFORT / shape.lone()) as usize);
        let (most, part, fewest) = match (self.effort, self.request) {
            (Some(effort), _) => (affordable(effort), ROWS_PART, FEWEST_ROWS),
            (None, Request::Error(_)) => (usize::MAX, UNLIMITED_PART, FEWEST_UNLIMITED),
            (None, _) => (usize::MAX, ROWS_PART, FEWEST_ROWS),
        };
        match self.rows {
            Some(rows) if rows < 2 => Err(Error::invalid("rows", "at least 2", rows)),
            Some(rows) => Ok(rows.min(seeing)),
            None => Ok(panels(seeing / part).clamp(fewest, MOST_ROWS).min(most).min(seeing)),
        }
    }
}

/// A plan for the heads of one layer from an input of it.
///
/// Arguments as of [`attend`](crate::attend).
///
/// # Errors
/// As [`attend`](crate::attend), a request that nothing could keep (not a finite number above 0), fewer than 2 rows, an
/// effort below 0, a margin below 1. Where the effort suffices for no row, values are not looked at.
///
/// # Cost
/// Some rows of exact attention, and some ten configurations on the same rows with what they prepare of a head (k-means,
/// quantising); [`PlanOptions::effort`] limits it.
///
/// ```
/// use scatterbrain_combine::Options;
/// use scatterbrain_combine::plan::{PlanOptions, Request, plan};
/// use scatterbrain_core::{Mask, Seed, Tensor};
/// let x = Seed(0).stream(0).normals(2 * 300 * 8);
/// let x = Tensor::f32("input", &x, [1, 2, 300, 8])?;
/// let options = PlanOptions { request: Request::Error(0.1), ..PlanOptions::default() };
/// let plan = plan(&x, &x, &x, &Mask::causal(), &options, &Options::default())?;
/// assert!(plan.heads.iter().all(|head| head.error_bound.is_some_and(|bound| bound <= 0.1)));
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
pub fn plan(
    query: &Tensor<'_>,
    key: &Tensor<'_>,
    value: &Tensor<'_>,
    mask: &Mask<'_>,
    plan: &PlanOptions,
    options: &Options,
) -> Result<LayerPlan> {
    plan.check()?;
    let mut call = Call::new(query, key, value, mask, options)?;
    if !plan.own_codes {
        call.level = call.level.with_common_codes();
    }
    let (sizes, d) = (call.sizes, query.shape()[3]);
    let shape = Shape::new(sizes.n, valid_keys(&call), d, sizes.d_v, mask);
    let rows = plan.count_rows(&shape, mask.causal)?;
    let seed = plan.seed.unwrap_or(Seed(0));
    let layer = |rows, heads| LayerPlan {
        request: plan.request,
        seed,
        rows,
        causal: mask.causal,
        n: sizes.n,
        m: sizes.m,
        head_dim: d,
        value_dim: sizes.d_v,
        kv_heads: sizes.kv_heads,
        heads,
    };
    let group = sizes.heads / sizes.kv_heads;
    let effort = plan.effort.unwrap_or(f64::INFINITY) * cost::exact(&shape) - cost::checks(&shape, group);
    let (families, margin) = (families(plan.request, &shape), plan.margin());
    let mut planner = Planner { call: &call, request: plan.request, shape, families, rows, seed, effort, margin };
    planner.afford_rows();
    if planner.rows == 0 && matches!(plan.request, Request::Error(_)) {
        return Ok(layer(0, vec![HeadPlan::EXACT; sizes.heads]));
    }
    let extents = match call.check_ranges(true) {
        Ok(extents) => extents,
        // Values too large for a background are not too large for exact attention.
        Err(_) => {
            call.check_ranges(false)?;
            return Ok(layer(0, vec![HeadPlan::EXACT; sizes.heads]));
        }
    };
    let heads = planner.heads(&extents, &Setting { head_dim: d, seed })?;
    Ok(layer(planner.rows, heads))
}

/// Keys that are there, the mean over batch entries: what is padding costs nothing, and saves nothing.
fn valid_keys(call: &Call<'_>) -> usize {
    let Some(lengths) = call.mask.key_lengths else { return call.sizes.m };
    let sum: usize = lengths.iter().sum();
    sum.div_ceil(lengths.len()).max(1)
}

/// What a plan is made from.
pub(super) struct Planner<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) request: Request,
    pub(super) shape: Shape,
    pub(super) families: Vec<Family>,
    pub(super) rows: usize,
    pub(super) seed: Seed,
    /// Nanoseconds a head.
    pub(super) effort: f64,
    pub(super) margin: f64,
}

impl Planner<'_> {
    fn heads(&self, extents: &[GroupExtent], setting: &Setting) -> Result<Vec<HeadPlan>> {
        let heads = self.call.group_size() * self.call.sizes.kv_heads;
        if self.families.is_empty() {
            return Ok(vec![HeadPlan::EXACT; heads]);
        }
        if self.rows == 0 {
            return Ok(self.unseen(heads));
        }
        let parts = |family: &Family| config::parts(&family.configs, setting);
        let parts = self.families.iter().map(parts).collect::<Result<Vec<_>>>()?;
        let groups = (0..self.call.sizes.kv_heads).into_par_iter();
        let options = groups.map(|kv_head| self.group(kv_head, extents, &parts)).collect::<Result<Vec<_>>>()?;
        let options: Vec<Vec<HeadPlan>> = options.into_iter().flatten().collect();
        Ok(match self.request {
            Request::Time(time) => forget(spend(&options, time)),
            Request::Error(_) | Request::Units(_) => options.into_iter().map(|head| head[0]).collect(),
        })
    }

    /// Leaves as many rows as there is effort for, with a trial of every head: none where that is too few.
    fn afford_rows(&mut self) {
        let fewest = match self.request {
            Request::Error(_) => FEWEST_FOR_ERROR,
            Request::Units(_) | Request::Time(_) => PANEL,
        };
        // Of short inputs all rows may be fewer.
        let fewest = fewest.min(self.shape.n);
        while self.rows > 0 && !self.may_try() {
            self.rows = self.rows.saturating_sub(PANEL);
        }
        if self.effort.is_finite() && self.rows < fewest {
            self.rows = 0;
        }
    }

    /// Whether there is effort for a trial of every head.
    fn may_try(&self) -> bool {
        let trial: fn(Config, &Shape, usize, bool) -> f64 = match self.request {
            Request::Error(_) => cost::trial,
            Request::Units(_) | Request::Time(_) => cost::whole_trial,
        };
        let first = match self.request {
            // Of narrow heads no scan is faster than exact attention.
            Request::Error(_) => Some(SCAN).filter(|&scan| self.least_cost(scan) < WORTH),
            Request::Units(_) | Request::Time(_) => self.first(),
        };
        first.is_none_or(|first| {
            let [fresh, again] = [false, true].map(|prepared| trial(first, &self.shape, self.rows, prepared));
            self.trial(Config::Exact) + (fresh - again) / self.call.group_size() as f64 + again <= self.effort
        })
    }

    /// Of units or a time what is tried first.
    fn first(&self) -> Option<Config> {
        self.order().first().map(|&(family, at)| self.families[family].configs[at])
    }

    /// What a trial costs where another head of the group has had it.
    fn trial(&self, config: Config) -> f64 {
        cost::trial(config, &self.shape, self.rows, true)
    }

    /// What the first head of a group pays for all.
    fn shared(&self, config: Config) -> f64 {
        cost::trial(config, &self.shape, self.rows, false) - self.trial(config)
    }

    /// What the heads of a group may be computed by: the best, or for a request in time all that was tried.
    fn group(&self, kv_head: usize, extents: &[GroupExtent], parts: &[Vec<Parts>]) -> Result<Vec<Vec<HeadPlan>>> {
        let kv_heads = self.call.sizes.kv_heads;
        let keys = |batch: usize| {
            let index = batch * kv_heads + kv_head;
            self.call.key_rows(index, &extents[index])
        };
        let keys: Vec<KeyRows<'_>> = (0..self.call.sizes.batch).map(keys).collect();
        let mut group = Group::new(self.call, kv_head, &keys, extents, self.rows, self.seed);
        // What a head leaves, the next ones have. A scan is prepared for all, and all pay for it.
        let shared = self.shared(SCAN);
        let own = self.effort - self.trial(Config::Exact) - shared / self.call.group_size() as f64;
        let mut effort = Effort { left: shared, scanned: false };
        (0..self.call.group_size())
            .map(|head| {
                effort.left += own;
                match self.request {
                    Request::Error(error) => {
                        let error = error / self.margin;
                        let mut search = Search { planner: self, group: &mut group, head, error, effort: &mut effort };
                        Ok(vec![search.cheapest(parts)?])
                    }
                    Request::Time(_) => {
                        let mut tried = self.some(&mut group, head, parts, &mut effort)?;
                        // A head of which no row tells anything must not take all the time.
                        tried.extend(self.first().filter(|_| tried.len() == 1).map(|first| self.blind(first, 1.0)));
                        Ok(tried)
                    }
                    Request::Units(_) => {
                        let tried = self.some(&mut group, head, parts, &mut effort)?.into_iter();
                        let units = tried.filter(|option| !option.is_fallback());
                        let error = |option: &HeadPlan| option.error.unwrap_or(f64::INFINITY);
                        let least = units.min_by(|a, b| error(a).total_cmp(&error(b)));
                        Ok(least.map_or_else(|| self.unseen(1), |least| vec![least]))
                    }
                }
            })
            .collect()
    }

    /// Exact attention, the first configuration, and others that there is effort for.
    fn some<'b>(
        &self,
        group: &mut Group<'b>,
        head: usize,
        parts: &'b [Vec<Parts>],
        effort: &mut Effort,
    ) -> Result<Vec<HeadPlan>> {
        let mut options = vec![HeadPlan::EXACT];
        for (before, (family, at)) in self.order().into_iter().enumerate() {
            let (config, parts) = (self.families[family].configs[at], &parts[family][at]);
            let scan = config.is_scan();
            let prepared = group.has(parts) || scan && effort.scanned;
            let cost = cost::whole_trial(config, &self.shape, self.rows, prepared);
            // For the first, what the heads of the group have together suffices.
            if cost > effort.left && before > 0 {
                continue;
            }
            effort.scanned |= scan;
            effort.left -= cost;
            let outcome = group.evaluate(head, config, parts, f64::INFINITY)?;
            if outcome.bound.is_finite() {
                options.push(self.option(config, &outcome));
            }
        }
        Ok(options)
    }

    /// What heads get that nothing was tried on: of units what would be tried first, and of a time a share of the heads exact
    /// attention and the others that, or a scan by the error that it mostly has.
    fn unseen(&self, heads: usize) -> Vec<HeadPlan> {
        let Some(first) = self.first() else { return vec![HeadPlan::EXACT; heads] };
        let chosen = match self.request {
            Request::Error(_) => vec![HeadPlan::EXACT; heads],
            Request::Units(_) => vec![self.blind(first, 1.0); heads],
            Request::Time(time) => {
                let scans = self.families.iter().flat_map(|family| family.configs.iter().zip(&family.expected));
                let scans = scans.map(|(config, error)| self.blind(*config, *error));
                let options = [HeadPlan::EXACT, self.blind(first, 1.0)].into_iter().chain(scans).collect();
                spend(&vec![options; heads], time)
            }
        };
        forget(chosen)
    }

    /// A configuration that was not tried, by the error that it mostly has.
    fn blind(&self, config: Config, error: f64) -> HeadPlan {
        HeadPlan {
            config,
            error: Some(error),
            error_bound: None,
            cost: short(self.expected_cost(config)),
            exact_share: short(self.shape.share(expected_keys(config))),
            scan_share: if config.is_scan() { 1.0 } else { 0.0 },
        }
    }

    /// Places of all configurations. What the request pays, and its neighbours, come first: of each family the dearest that
    /// it pays, then those next to it, scans before others since they mostly err least. Families of which it pays nothing
    /// come after them, the cheapest first.
    fn order(&self) -> Vec<(usize, usize)> {
        let pays = |config: &Config| matches!(self.request, Request::Time(time) if self.expected_cost(*config) <= time);
        let mut places = Vec::new();
        for (f, Family { configs, .. }) in self.families.iter().enumerate() {
            let best = configs.iter().rposition(pays);
            let scans = configs.iter().all(|config| config.is_scan());
            let rank = |at: usize| match (best, self.request) {
                (None, Request::Time(_)) => (true, (1e6 * self.expected_cost(configs[at])) as usize, false),
                (best, _) => (false, at.abs_diff(best.unwrap_or(0)), !scans),
            };
            places.extend((0..configs.len()).map(|at| (rank(at), f, at)));
        }
        places.sort_unstable();
        places.into_iter().map(|(_, family, at)| (family, at)).collect()
    }

    pub(super) fn option(&self, config: Config, outcome: &Outcome) -> HeadPlan {
        let Spent { exact, scanned } = outcome.spent;
        let spent = Spent { exact: exact.max(self.shape.share(config.keys())), scanned };
        HeadPlan {
            config,
            error: Some(short(outcome.error)),
            error_bound: Some(short(outcome.bound)),
            cost: short(cost::relative(config, &self.shape, spent)),
            exact_share: short(exact),
            scan_share: short(scanned),
        }
    }

    /// The cost as captures mostly have it.
    fn expected_cost(&self, config: Config) -> f64 {
        let spent = Spent { exact: self.shape.share(expected_keys(config)), scanned: 1.0 };
        cost::relative(config, &self.shape, spent)
    }

    /// The cost as far as it is known before a trial.
    pub(super) fn least_cost(&self, config: Config) -> f64 {
        let spent = Spent { exact: self.shape.share(config.keys()), scanned: 1.0 };
        cost::relative(config, &self.shape, spent)
    }
}

/// Heads without the errors that were only supposed.
fn forget(heads: Vec<HeadPlan>) -> Vec<HeadPlan> {
    let known = |head: HeadPlan| HeadPlan { error: head.error.filter(|_| head.error_bound.is_some()), ..head };
    heads.into_iter().map(known).collect()
}

/// Exact keys of a row, as captures mostly have them: of a scan a fourth of those that could be heavy are.
fn expected_keys(config: Config) -> Option<usize> {
    match config {
        Config::Scan { keys, .. } => Some(keys / 4),
        _ => config.keys(),
    }
}

/// To six digits: all that a plan needs, in a third of the characters.
fn short(x: f64) -> f64 {
    format!("{x:.5e}").parse().unwrap_or(x)
}

/// One option of each head: of those whose mean cost is at most `time` one of least total error, or the cheapest where
/// nothing keeps the time.
///
/// ```text
/// for each head:
///     partial sums · options, those beyond the time left out;     of sums within a step of cost the one of least error and
///                                                                 the cheapest
/// ```
fn spend(options: &[Vec<HeadPlan>], time: f64) -> Vec<HeadPlan> {
    let most = time.min(1.0) * options.len() as f64;
    let cells = (most * COST_STEPS) as usize + 1;
    let mut sums = vec![vec![Sum::default()]];
    for head in options {
        let mut next: Vec<[Option<Sum>; 2]> = vec![[None; 2]; cells];
        for (before, sum) in sums[sums.len() - 1].iter().enumerate() {
            for (option, plan) in head.iter().enumerate() {
                let (cost, error) = (sum.cost + plan.cost, sum.error + plan.error.unwrap_or(1.0));
                let cell = next.get_mut((cost * COST_STEPS) as usize).filter(|_| cost <= most + ROUNDING);
                let Some([best, cheapest]) = cell else { continue };
                let sum = Sum { cost, error, before, option };
                if best.is_none_or(|other| (error, cost) < (other.error, other.cost)) {
                    *best = Some(sum);
                }
                if cheapest.is_none_or(|other| (cost, error) < (other.cost, other.error)) {
                    *cheapest = Some(sum);
                }
            }
        }
        sums.push(next.into_iter().flatten().flatten().collect());
    }
    let Some(mut sum) = sums[options.len()].iter().min_by(|a, b| a.error.total_cmp(&b.error)) else {
        let cheapest = |head: &Vec<HeadPlan>| head.iter().copied().min_by(|a, b| a.cost.total_cmp(&b.cost));
        return options.iter().filter_map(cheapest).collect();
    };
    let mut plans = Vec::with_capacity(options.len());
    for (head, before) in options.iter().zip(&sums).rev() {
        plans.push(head[sum.option]);
        sum = &before[sum.before];
    }
    plans.reverse();
    plans
}

/// Of options of some heads.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    cost: f64,
    error: f64,
    /// Place of the sum without the last head.
    before: usize,
    /// What the last head has.
    option: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_six_digits() {
        assert_eq!([1.0 / 3.0, 0.012_990_151_96, 1e-300].map(short), [0.333_333, 0.012_990_2, 1e-300]);
        assert_eq!([0.0, 1.0, 0.05, f64::INFINITY].map(short), [0.0, 1.0, 0.05, f64::INFINITY]);
    }

    /// The first head of a group pays for what the others find prepared.
    #[test]
    fn what_is_always_tried_is_within_the_effort() {
        let data = Seed(1).stream(0).normals(3 * 2500 * 16);
        let input = |heads: usize, n: usize| Tensor::f32("input", &data[..heads * n * 16], [1, heads, n, 16]).unwrap();
        let requests = [Request::Time(0.7), Request::Units(64)];
        let mut looks = 0;
        for n in (500..=2500).step_by(100) {
            for (mask, request, heads) in cases([Mask::default(), Mask::causal()], requests, [1, 3]) {
                let (query, key) = (input(heads, n), input(1, n));
                let call = Call::new(&query, &key, &key, &mask, &Options::default()).unwrap();
                let shape = Shape::new(n, n, 16, 16, &mask);
                let (families, effort) = (families(request, &shape), 0.1 * cost::exact(&shape));
                let mut planner =
                    Planner { call: &call, request, shape, families, rows: 48, seed: Seed(0), effort, margin: 1.0 };
                planner.afford_rows();
                let first = planner.first().unwrap();
                let of_group = |rows| {
                    let heads = heads as f64;
                    let exact = cost::trial(Config::Exact, &shape, rows, true);
                    let [fresh, again] = [false, true].map(|prepared| cost::whole_trial(first, &shape, rows, prepared));
                    heads * exact + fresh + (heads - 1.0) * again
                };
                let (spent, most) = (of_group(planner.rows), heads as f64 * effort * (1.0 + 1e-12));
                assert!(planner.rows == 0 || spent <= most, "{n} {heads} {} {first:?} {spent} {most}", planner.rows);
                // Nothing is looked at where a panel is too dear, and something where it is not.
                assert_eq!(planner.rows == 0, of_group(PANEL) > most, "{n} {heads} {request:?} {first:?}");
                looks += usize::from(planner.rows > 0);
            }
        }
        assert!((1..168).contains(&looks), "{looks}");
    }

    fn cases<'m, const A: usize, const B: usize, const C: usize>(
        masks: [Mask<'m>; A],
        requests: [Request; B],
        heads: [usize; C],
    ) -> impl Iterator<Item = (Mask<'m>, Request, usize)> {
        masks.into_iter().flat_map(move |m| requests.into_iter().flat_map(move |r| heads.map(|h| (m, r, h))))
    }

    #[test]
    fn time_is_spent_where_it_lowers_errors() {
        let option = |error, cost| HeadPlan { error: Some(error), cost, ..HeadPlan::EXACT };
        let steep = vec![option(0.0, 1.0), option(0.8, 0.2)];
        let flat = vec![option(0.0, 1.0), option(0.1, 0.2)];
        let errors = |time| spend(&[steep.clone(), flat.clone()], time).iter().map(|h| h.error).collect::<Vec<_>>();
        assert_eq!(errors(0.6), [0.0, 0.1].map(Some));
        assert_eq!(errors(1.0), [0.0, 0.0].map(Some));
        assert_eq!(errors(0.2), [0.8, 0.1].map(Some));
        assert_eq!(errors(0.1), [0.8, 0.1].map(Some));
        // No price of an error would take the second of three options that bend outwards.
        let bent = vec![option(0.0, 1.0), option(0.9, 0.4), option(1.0, 0.2)];
        let costs = |time| spend(&[bent.clone(), bent.clone()], time).iter().map(|h| h.cost).collect::<Vec<_>>();
        assert_eq!([costs(0.4), costs(0.7), costs(0.3)], [vec![0.4, 0.4], vec![0.4, 1.0], vec![0.2, 0.4]]);
        // Options nearer to each other than a step.
        let near = vec![vec![option(0.0, 1.0), option(0.9, 0.300), option(0.1, 0.310)]; 12];
        let (planned, error) = (spend(&near, 0.305), |h: &HeadPlan| h.error.unwrap());
        let sums = planned.iter().fold((0.0, 0.0), |(cost, sum), h| (cost + h.cost, sum + error(h)));
        assert!(sums.0 <= 12.0 * 0.305 + 1e-9 && sums.1 < 6.0 + 1e-9, "{sums:?}");
    }
}
