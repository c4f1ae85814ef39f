//! Which configuration each head gets.
//!
//! ```text
//! for each head:
//!     exact attention of some rows, one of each stratum
//!     for each family of configurations:        # they differ in one parameter
//!         bisect for the cheapest member whose error bound keeps the request, among those cheaper than the best so far;
//!         give up where a member misses the request by far
//! ```

use super::config::{self, Config, Setting};
use super::cost::{self, Shape, Spent};
use super::trial::{Group, Outcome};
use super::{HeadPlan, LayerPlan, WORTH};
use crate::attend::{Call, Options};
use crate::group::{GroupExtent, KeyRows};
use crate::method::Parts;
use rayon::prelude::*;
use scatterbrain_core::kernel::PANEL;
use scatterbrain_core::{Error, Mask, Result, Seed, Tensor};
use serde::{Deserialize, Serialize};

/// Rows sampled a head where [`PlanOptions::rows`] is not given: such a part of all in whole panels, within these limits.
const ROWS_PART: usize = 80;
const FEWEST_ROWS: usize = 48;
const MOST_ROWS: usize = 256;
/// Sinks of a window.
const SINKS: usize = 4;
/// Centroids beside a window. Heads of a group share them with [`Config::Centroids`].
const CENTROIDS: usize = 32;
/// Heavy shares and their steps, from cheap to dear.
const SCANS: [(usize, u8); 5] = [(16, 15), (16, 31), (32, 63), (64, 127), (256, 127)];
/// A family is given up where the error of a member exceeds the request so many times: none of its neighbours would do,
/// and the dearest of them cost most to try.
const FAR: f64 = 6.0;
/// Steps of the search for the price of an error.
const STEPS: usize = 60;

/// What a plan is to keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
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
    /// Rows to sample a head and batch entry; some n/80, but at least 48 and at most 256, where absent.
    pub rows: Option<usize>,
}

/// A plan for the heads of one layer from an input of it.
///
/// Arguments as of [`attend`](crate::attend).
///
/// # Errors
/// As [`attend`](crate::attend), a request that nothing could keep (not a finite number above 0), fewer than 2 rows.
///
/// # Cost
/// Some rows of exact attention, and some ten configurations on the same rows with what they prepare of a head (k-means,
/// quantising).
///
/// ```
/// use scatterbrain_combine::Options;
/// use scatterbrain_combine::plan::{PlanOptions, Request, plan};
/// use scatterbrain_core::{Mask, Seed, Tensor};
/// let x = Seed(0).stream(0).normals(2 * 300 * 8);
/// let x = Tensor::f32("input", &x, [1, 2, 300, 8])?;
/// let options = PlanOptions { request: Request::Error(0.1), ..PlanOptions::default() };
/// let plan = plan(&x, &x, &x, &Mask::causal(), &options, &Options::default())?;
/// assert!(plan.heads.iter().all(|head| head.error_bound <= 0.1));
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
    plan.request.check()?;
    let call = Call::new(query, key, value, mask, options)?;
    let (sizes, d) = (call.sizes, query.shape()[3]);
    let rows = plan.rows.unwrap_or((sizes.n / ROWS_PART / PANEL * PANEL).clamp(FEWEST_ROWS, MOST_ROWS));
    if rows < 2 {
        return Err(Error::invalid("rows", "at least 2", rows));
    }
    // Values too large for a background are not too large for exact attention.
    let (extents, grown) = match call.check_ranges(true) {
        Ok(extents) => (extents, true),
        Err(_) => (call.check_ranges(false)?, false),
    };
    let seed = plan.seed.unwrap_or(Seed(0));
    let shape = Shape::new(sizes.n, sizes.m, d, sizes.d_v, mask);
    let families = if grown { families(plan.request, &shape) } else { Vec::new() };
    let setting = Setting { head_dim: d, causal: mask.causal, seed };
    let planner = Planner { call: &call, request: plan.request, shape, families, rows, seed };
    let heads = planner.heads(&extents, &setting)?;
    Ok(LayerPlan {
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
    })
}

/// Configurations that differ in one parameter, from cheap to dear: their errors fall.
type Family = Vec<Config>;

/// What may be chosen from.
fn families(request: Request, shape: &Shape) -> Vec<Family> {
    let m = shape.m;
    let families = match request {
        Request::Units(units) => within(units.min(m)),
        Request::Error(_) | Request::Time(_) => {
            let part = |share: f64| ((m as f64 * share).round() as usize).max(1);
            // From m/64 to m/4, two steps a factor of two.
            let keys = || (0..=8).map(|step| part(2f64.powf(f64::from(step) / 2.0) / 64.0));
            let centroids = [CENTROIDS, 4 * CENTROIDS].map(|centroids| Config::Centroids { centroids });
            vec![
                vec![Config::Uniform],
                centroids.to_vec(),
                keys().map(|keys| Config::Window { keys, sinks: SINKS, centroids: CENTROIDS }).collect(),
                SCANS.map(|(keys, steps)| Config::Scan { keys, steps, skip: 0.0 }).to_vec(),
                keys().map(|keys| Config::QuantisedTopK { keys, centroids: CENTROIDS }).collect(),
            ]
        }
    };
    let fits = |config: &Config| config.keys().is_some_and(|keys| keys <= m) && config.centroids() <= m / 2;
    families.into_iter().map(|family| family.into_iter().filter(fits).collect()).collect()
}

/// Splits of a budget in units.
fn within(units: usize) -> Vec<Family> {
    let sixteenths = |part: usize| units * part / 16;
    let split = |part: usize| {
        let centroids = sixteenths(part);
        let keys = units - 2 * centroids;
        let window = Config::Window { keys: keys.saturating_sub(SINKS), sinks: SINKS.min(keys - 1), centroids };
        [Config::QuantisedTopK { keys, centroids }, window]
    };
    let splits = [0, 1, 2, 4, 6].into_iter().flat_map(split).filter(|config| config.check().is_ok());
    let scan = Config::Scan { keys: units / 2, steps: 127, skip: 0.0 };
    let alone = [Config::Uniform, Config::Centroids { centroids: units / 2 }, scan];
    let all = splits.chain(alone.into_iter().filter(|config| config.check().is_ok()));
    vec![all.filter(|config| config.units().is_some_and(|u| u <= units)).collect()]
}

struct Planner<'a> {
    call: &'a Call<'a>,
    request: Request,
    shape: Shape,
    families: Vec<Family>,
    rows: usize,
    seed: Seed,
}

impl Planner<'_> {
    fn heads(&self, extents: &[GroupExtent], setting: &Setting) -> Result<Vec<HeadPlan>> {
        let parts = self.families.iter().map(|family| config::parts(family, setting)).collect::<Result<Vec<_>>>()?;
        let groups = (0..self.call.sizes.kv_heads).into_par_iter();
        let options = groups.map(|kv_head| self.group(kv_head, extents, &parts)).collect::<Result<Vec<_>>>()?;
        let options: Vec<Vec<HeadPlan>> = options.into_iter().flatten().collect();
        Ok(match self.request {
            Request::Time(time) => spend(&options, time),
            Request::Error(_) | Request::Units(_) => options.into_iter().map(|head| head[0]).collect(),
        })
    }

    /// What the heads of a group may be computed by: the best, or for a request in time all.
    fn group(&self, kv_head: usize, extents: &[GroupExtent], parts: &[Vec<Parts>]) -> Result<Vec<Vec<HeadPlan>>> {
        let kv_heads = self.call.sizes.kv_heads;
        let keys = |batch: usize| {
            let index = batch * kv_heads + kv_head;
            self.call.key_rows(index, &extents[index]).with_queries(self.call, index)
        };
        let keys: Vec<KeyRows<'_>> = (0..self.call.sizes.batch).map(keys).collect();
        let mut group = Group::new(self.call, kv_head, &keys, extents, self.rows, self.seed);
        (0..self.call.group_size())
            .map(|head| match self.request {
                Request::Error(error) => Ok(vec![self.cheapest(&mut group, head, parts, error)?]),
                Request::Time(_) => self.all(&mut group, head, parts),
                Request::Units(_) => {
                    let tried = self.all(&mut group, head, parts)?.into_iter();
                    let units = tried.filter(|option| !option.is_fallback());
                    let least = units.min_by(|a, b| a.error.total_cmp(&b.error));
                    Ok(vec![least.unwrap_or(HeadPlan::EXACT)])
                }
            })
            .collect()
    }

    /// The cheapest configuration whose bound is at most `error`.
    fn cheapest<'b>(
        &self,
        group: &mut Group<'b>,
        head: usize,
        parts: &'b [Vec<Parts>],
        error: f64,
    ) -> Result<HeadPlan> {
        let mut best = HeadPlan { cost: WORTH, ..HeadPlan::EXACT };
        // k-means is dear to try, and centroids alone hardly come to a sixth of the error of the mean.
        let mut spiky = false;
        for (family, parts) in self.families.iter().zip(parts) {
            if spiky && matches!(family.first(), Some(Config::Centroids { .. })) {
                continue;
            }
            let (mut low, mut high) = (0, family.partition_point(|&config| self.least_cost(config) < best.cost));
            while low < high {
                let middle = (low + high) / 2;
                let outcome = group.evaluate(head, family[middle], &parts[middle], error)?;
                if outcome.bound <= error {
                    let option = self.option(family[middle], &outcome);
                    if option.cost < best.cost {
                        best = option;
                    }
                    high = middle;
                } else if outcome.error > FAR * error {
                    spiky |= family[middle] == Config::Uniform;
                    break;
                } else {
                    low = middle + 1;
                }
            }
        }
        Ok(if best.is_fallback() { HeadPlan::EXACT } else { best })
    }

    /// Every configuration, and exact attention.
    fn all<'b>(&self, group: &mut Group<'b>, head: usize, parts: &'b [Vec<Parts>]) -> Result<Vec<HeadPlan>> {
        let mut options = vec![HeadPlan::EXACT];
        for (family, parts) in self.families.iter().zip(parts) {
            for (&config, parts) in family.iter().zip(parts) {
                let outcome = group.evaluate(head, config, parts, f64::INFINITY)?;
                if outcome.bound.is_finite() {
                    options.push(self.option(config, &outcome));
                }
            }
        }
        Ok(options)
    }

    fn option(&self, config: Config, outcome: &Outcome) -> HeadPlan {
        let Spent { exact, scanned } = outcome.spent;
        let spent = Spent { exact: exact.max(self.shape.share(config.keys())), scanned };
        HeadPlan {
            config,
            error: outcome.error,
            error_bound: outcome.bound,
            cost: cost::relative(config, &self.shape, spent),
            exact_share: exact,
            scan_share: scanned,
        }
    }

    /// The cost as far as it is known before a trial.
    fn least_cost(&self, config: Config) -> f64 {
        let spent = Spent { exact: self.shape.share(config.keys()), scanned: 1.0 };
        cost::relative(config, &self.shape, spent)
    }
}

/// One option of each head, so that their mean cost is at most `time` and the sum of their errors small: each head takes
/// the least of error + λ·cost, with the smallest λ that keeps the time. Where nothing does, the cheapest.
fn spend(options: &[Vec<HeadPlan>], time: f64) -> Vec<HeadPlan> {
    let take = |price: f64| -> Vec<HeadPlan> {
        let value = |o: &HeadPlan| o.error + price * o.cost;
        let best = |head: &Vec<HeadPlan>| head.iter().copied().min_by(|a, b| value(a).total_cmp(&value(b)));
        options.iter().filter_map(best).collect()
    };
    let cost = |heads: &[HeadPlan]| heads.iter().map(|h| h.cost).sum::<f64>() / heads.len() as f64;
    // Prices between 10⁻⁹ and 10⁹ of an error, by halving their ratio.
    let (mut low, mut high) = (1e-9f64, 1e9f64);
    if cost(&take(low)) <= time {
        return take(low);
    }
    for _ in 0..STEPS {
        let middle = (low * high).sqrt();
        if cost(&take(middle)) <= time { high = middle } else { low = middle }
    }
    take(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_spent_where_it_lowers_errors() {
        let option = |error, cost| HeadPlan { error, cost, ..HeadPlan::EXACT };
        let steep = vec![option(0.0, 1.0), option(0.8, 0.2)];
        let flat = vec![option(0.0, 1.0), option(0.1, 0.2)];
        let errors = |time| spend(&[steep.clone(), flat.clone()], time).iter().map(|h| h.error).collect::<Vec<_>>();
        assert_eq!(errors(0.6), [0.0, 0.1]);
        assert_eq!(errors(1.0), [0.0, 0.0]);
        assert_eq!(errors(0.2), [0.8, 0.1]);
        assert_eq!(errors(0.1), [0.8, 0.1]);
    }
}
