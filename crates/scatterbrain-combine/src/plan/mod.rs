//! Plans: which configuration each head of a layer is computed by, chosen from a few rows computed exactly.
//!
//! [`plan`] looks at sampled query rows of every head, tries configurations on these rows alone, and takes for each head
//! the cheapest that keeps the request, or else exact attention. A [`LayerPlan`] is a small value: made once per model,
//! stored as JSON in a [`Plan`], applied to other inputs of that model by [`Method::planned`](crate::Method::planned).
//!
//! **Architecture Invariant:** a plan holds nothing per row or per key, and no clock is read while one is made.

mod bound;
pub(crate) mod config;
mod cost;
mod families;
mod planner;
mod search;
mod trial;

pub use config::Config;
pub use planner::{PlanOptions, Request, plan};

use crate::attend::Call;
use crate::method::Parts;
use config::{MOST_COUNT, Setting};
use cost::{Shape, Spent};
use scatterbrain_core::{Error, Mask, Result, Seed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A configuration must cost less than this of exact attention to be worth its error.
const WORTH: f64 = 0.85;

/// Plans of the layers of a model.
///
/// ```
/// use scatterbrain_combine::plan::Plan;
/// let plan = Plan::new(Default::default());
/// assert!(plan.check().is_ok());
/// assert!(Plan { version: 99, ..plan }.check().is_err());
/// ```
///
/// What is read by serde is checked as by [`Plan::check`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Plan {
    /// Of the format: [`VERSION`].
    pub version: u32,
    /// By a name of the caller's choice.
    pub layers: BTreeMap<String, LayerPlan>,
}

/// A plan as it stands in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    version: u32,
    layers: BTreeMap<String, LayerPlan>,
}

impl TryFrom<Unchecked> for Plan {
    type Error = Error;

    fn try_from(Unchecked { version, layers }: Unchecked) -> Result<Self> {
        let plan = Self { version, layers };
        plan.check().map(|()| plan)
    }
}

/// The version of the format that this crate reads and writes.
pub const VERSION: u32 = 1;

impl Plan {
    /// Of this crate's [`VERSION`].
    pub fn new(layers: BTreeMap<String, LayerPlan>) -> Self {
        Self { version: VERSION, layers }
    }

    /// Refuses a version that is not known, and figures that no planner writes.
    ///
    /// # Errors
    /// As it says, naming the field.
    pub fn check(&self) -> Result<()> {
        if self.version != VERSION {
            return Err(Error::invalid("plan.version", VERSION, self.version));
        }
        self.layers.values().try_for_each(LayerPlan::check)
    }
}

/// What to compute the heads of one layer by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerPlan {
    /// What was asked for.
    pub request: Request,
    /// Of sampled rows and k-means.
    pub seed: Seed,
    /// Rows sampled a head and batch entry; 0 where the effort did not suffice for a look.
    pub rows: usize,
    /// Whether the input was causal.
    pub causal: bool,
    /// Queries of the input.
    pub n: usize,
    /// Keys of the input.
    pub m: usize,
    /// Columns of query and key.
    pub head_dim: usize,
    /// Columns of value.
    pub value_dim: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// By query head.
    pub heads: Vec<HeadPlan>,
}

/// What to compute a head by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadPlan {
    /// How.
    pub config: Config,
    /// Mean row error of the sampled rows; of several batch entries the largest. `None`: the head was planned unseen, by its
    /// shape.
    pub error: Option<f64>,
    /// What the mean over all rows stays under with a confidence of nominally 95 %, for this configuration by itself:
    /// nothing is added for its being chosen among others on the same rows. Of several batch entries the largest.
    pub error_bound: Option<f64>,
    /// Predicted time over that of exact attention.
    pub cost: f64,
    /// Exact pairs over visible pairs, of the sampled rows.
    pub exact_share: f64,
    /// Pairs looked at in low precision over visible pairs, of the sampled rows; 0 where the configuration does not scan.
    /// A plan that does not say was made when every scan looked at all pairs.
    #[serde(default = "all_pairs")]
    pub scan_share: f64,
}

fn all_pairs() -> f64 {
    1.0
}

impl HeadPlan {
    /// Exact attention.
    pub(crate) const EXACT: Self = Self {
        config: Config::Exact,
        error: Some(0.0),
        error_bound: Some(0.0),
        cost: 1.0,
        exact_share: 1.0,
        scan_share: 0.0,
    };

    /// Whether the head was left to exact attention.
    pub fn is_fallback(&self) -> bool {
        self.config == Config::Exact
    }

    fn check(&self) -> Result<()> {
        self.config.check()?;
        let figures = [
            ("plan.error", self.error.unwrap_or(0.0)),
            ("plan.error_bound", self.error_bound.unwrap_or(0.0)),
            ("plan.cost", self.cost),
            ("plan.exact_share", self.exact_share),
            ("plan.scan_share", self.scan_share),
        ];
        match figures.iter().find(|(_, x)| !(x.is_finite() && *x >= 0.0)) {
            Some((name, x)) => Err(Error::invalid(name, "a finite number of at least 0", x)),
            None => Ok(()),
        }
    }
}

impl LayerPlan {
    /// The mean of the heads' bounds: what the mean error should stay under. `None` where a head was planned unseen.
    pub fn error_bound(&self) -> Option<f64> {
        let sum: Option<f64> = self.heads.iter().map(|h| h.error_bound).sum();
        sum.map(|sum| sum / self.heads.len().max(1) as f64)
    }

    /// The mean of the heads' costs.
    pub fn cost(&self) -> f64 {
        self.heads.iter().map(|h| h.cost).sum::<f64>() / self.heads.len().max(1) as f64
    }

    /// The most that a query of some head pays; `None` where a head is exact.
    pub fn units(&self) -> Option<usize> {
        self.heads.iter().map(|h| h.config.units()).try_fold(0, |most, units| Some(most.max(units?)))
    }

    pub(crate) fn background_units(&self) -> usize {
        let parts = self.parts(&self.heads.iter().map(|h| h.config).collect::<Vec<_>>());
        parts.map_or(0, |parts| parts.iter().map(Parts::background_units).max().unwrap_or(0))
    }

    /// Refuses figures that no planner writes.
    fn check(&self) -> Result<()> {
        let counts = [
            ("plan.n", self.n),
            ("plan.m", self.m),
            ("plan.head_dim", self.head_dim),
            ("plan.value_dim", self.value_dim),
            ("plan.kv_heads", self.kv_heads),
            ("plan.heads", self.heads.len()),
        ];
        if let Some((name, count)) = counts.iter().find(|(_, count)| !(1..=MOST_COUNT).contains(count)) {
            return Err(Error::invalid(name, format!("1 to {MOST_COUNT}"), count));
        }
        self.request.check()?;
        self.heads.iter().try_for_each(HeadPlan::check)
    }

    /// Refuses a call that the plan is not for.
    fn check_call(&self, call: &Call<'_>) -> Result<()> {
        self.check()?;
        let sizes = [
            ("plan.heads", call.sizes.heads, self.heads.len()),
            ("plan.kv_heads", call.sizes.kv_heads, self.kv_heads),
            ("plan.head_dim", call.query.shape()[3], self.head_dim),
        ];
        if let Some((name, expected, got)) = sizes.into_iter().find(|(_, expected, got)| expected != got) {
            return Err(Error::invalid(name, format!("{expected}, as the input has"), got));
        }
        if self.causal != call.mask.causal {
            return Err(Error::invalid("plan.causal", format!("{}, as the input is", call.mask.causal), self.causal));
        }
        Ok(())
    }

    /// The configuration of every query head at the sizes of a call: exact attention where the planned one would not be
    /// faster there.
    ///
    /// # Errors
    /// A plan that is not for such a call.
    pub(crate) fn resolve(&self, call: &Call<'_>) -> Result<Vec<Config>> {
        self.check_call(call)?;
        let fit = |(config, cost): (Config, f64)| match self.request {
            Request::Units(_) => config,
            Request::Error(_) | Request::Time(_) if cost < WORTH => config,
            Request::Error(_) | Request::Time(_) => Config::Exact,
        };
        Ok(self.fitted(call.sizes.n, call.sizes.m, call.mask).into_iter().map(fit).collect())
    }

    /// Predicted time over that of exact attention of every head, for `n` queries and `m` keys under `mask`.
    pub fn costs(&self, n: usize, m: usize, mask: &Mask<'_>) -> Vec<f64> {
        self.fitted(n, m, mask).into_iter().map(|(_, cost)| cost).collect()
    }

    /// Configurations at other sizes, with their costs. Columns of value are the plan's own: values = identity, as in
    /// `dense_matrix`, must give the same matrix.
    fn fitted(&self, n: usize, m: usize, mask: &Mask<'_>) -> Vec<(Config, f64)> {
        let shape = Shape::new(n, m, self.head_dim, self.value_dim, mask);
        let own = Mask { causal: self.causal, ..Mask::default() };
        let planned = Shape::new(self.n, self.m, self.head_dim, self.value_dim, &own);
        let fit = |head: &HeadPlan| {
            let config = head.config.at(&shape, &planned);
            let share = head.exact_share.max(shape.share(config.keys()));
            (config, cost::relative(config, &shape, Spent { exact: share, scanned: head.scan_share }))
        };
        self.heads.iter().map(fit).collect()
    }

    /// Supports and backgrounds of configurations, those of this plan's heads among them.
    pub(crate) fn parts(&self, configs: &[Config]) -> Result<Vec<Parts>> {
        config::parts(configs, &Setting { head_dim: self.head_dim, seed: self.seed })
    }
}
