//! What to compute: a support, a background, both, or their average; or what a plan says of each head.

use crate::plan::LayerPlan;
use scatterbrain_blocks::Full;
use scatterbrain_core::tile::{Background, Causality, Support};
use scatterbrain_core::{Error, Result};
use std::sync::Arc;

/// An attention method: any support with any background, sampled once and reused over calls.
///
/// ```
/// use scatterbrain_blocks::WindowSupport;
/// use scatterbrain_combine::Method;
/// use scatterbrain_core::Seed;
/// use scatterbrain_features::{FeatureBackground, HyperbolicFeatures, ProjectionKind};
/// let near = WindowSupport::around(32)?;
/// let far = HyperbolicFeatures::sample(64, 16, ProjectionKind::Orthogonal, Seed(0))?;
/// let method = Method::scatterbrain(near, FeatureBackground::new(far));
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Method {
    pub(crate) kind: Kind,
    pub(crate) budget: Option<usize>,
    units: Option<usize>,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// The same for every head.
    Combined(Parts),
    /// The mean of the outputs of support alone and background alone.
    Average(Box<Method>, Box<Method>),
    /// For each head its own, as soon as the sizes of a call are known.
    Planned(Arc<LayerPlan>),
}

/// A support, a background, or both.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    pub support: Option<Arc<dyn Support>>,
    /// Heads of a group that hold the same `Arc` share what it prepares.
    pub background: Option<Arc<dyn Background>>,
}

impl Parts {
    /// Every visible pair.
    pub(crate) fn exact() -> Self {
        Self { support: Some(Arc::new(Full)), background: None }
    }

    /// Units of the background per query.
    pub(crate) fn background_units(&self) -> usize {
        self.background.as_ref().map_or(0, |b| b.units())
    }
}

impl Method {
    /// Exact attention: every visible pair.
    pub fn exact() -> Self {
        Self::sparse(Full)
    }

    /// What a plan says, head by head; checked against the sizes and the mask of each call.
    ///
    /// ```
    /// use scatterbrain_combine::plan::{PlanOptions, plan};
    /// use scatterbrain_combine::{Method, Options, attend};
    /// use scatterbrain_core::{Mask, Seed, Tensor};
    /// let x = Seed(0).stream(0).normals(2 * 100 * 8);
    /// let x = Tensor::f32("input", &x, [1, 2, 100, 8])?;
    /// let (mask, options) = (Mask::causal(), Options::default());
    /// let plan = plan(&x, &x, &x, &mask, &PlanOptions::default(), &options)?;
    /// let out = attend(&x, &x, &x, &mask, &Method::planned(plan), &options)?;
    /// assert!(out.report.heads.iter().all(|head| head.fallback)); // 100 keys: nothing is cheaper than exact attention
    /// # Ok::<(), scatterbrain_core::Error>(())
    /// ```
    pub fn planned(plan: LayerPlan) -> Self {
        Self { kind: Kind::Planned(Arc::new(plan)), budget: None, units: None }
    }

    /// Softmax over the support alone; a row with an empty support is zero.
    pub fn sparse(support: impl Support + 'static) -> Self {
        Self::of(Some(Arc::new(support)), None)
    }

    /// The background alone.
    pub fn low_rank(background: impl Background + 'static) -> Self {
        Self::of(None, Some(Arc::new(background)))
    }

    /// Exact on the support, the background off it.
    pub fn scatterbrain(support: impl Support + 'static, background: impl Background + 'static) -> Self {
        Self::of(Some(Arc::new(support)), Some(Arc::new(background)))
    }

    /// [`Method::sparse`] of a support chosen at run time.
    pub fn sparse_shared(support: Arc<dyn Support>) -> Self {
        Self::of(Some(support), None)
    }

    /// [`Method::low_rank`] of a background chosen at run time.
    pub fn low_rank_shared(background: Arc<dyn Background>) -> Self {
        Self::of(None, Some(background))
    }

    /// [`Method::scatterbrain`] of parts chosen at run time.
    pub fn scatterbrain_shared(support: Arc<dyn Support>, background: Arc<dyn Background>) -> Self {
        Self::of(Some(support), Some(background))
    }

    /// The plain average (o₁ + o₂)/2 of support alone and background alone, the paper's baseline. Its
    /// log-sum-exp is the logarithm of the mean of the two normalisers.
    pub fn average(support: impl Support + 'static, background: impl Background + 'static) -> Self {
        let kind = Kind::Average(Box::new(Self::sparse(support)), Box::new(Self::low_rank(background)));
        Self { kind, budget: None, units: None }
    }

    fn of(support: Option<Arc<dyn Support>>, background: Option<Arc<dyn Background>>) -> Self {
        Self { kind: Kind::Combined(Parts { support, background }), budget: None, units: None }
    }

    /// States the budget per query, checked against the number of keys at each call, and the units really used.
    ///
    /// # Errors
    /// A budget of 0.
    pub fn with_budget(mut self, budget: usize, units: usize) -> Result<Self> {
        if budget == 0 {
            return Err(Error::invalid("budget", "at least 1", 0));
        }
        (self.budget, self.units) = (Some(budget), Some(units));
        Ok(self)
    }

    /// States the units used by a method without a budget.
    #[must_use]
    pub fn with_units(mut self, units: usize) -> Self {
        self.units = Some(units);
        self
    }

    /// Units per query, where they were stated.
    pub fn units(&self) -> Option<usize> {
        self.units
    }

    /// Units of the background per query; of a plan's heads the most, at the sizes that it was made for.
    pub fn background_units(&self) -> usize {
        match &self.kind {
            Kind::Combined(parts) => parts.background_units(),
            Kind::Average(a, b) => a.background_units() + b.background_units(),
            Kind::Planned(plan) => plan.background_units(),
        }
    }

    /// Whether the choice of pairs or the weights can depend on later tokens under a causal mask.
    pub fn causality(&self) -> Causality {
        match &self.kind {
            Kind::Combined(parts) => {
                let support = parts.support.as_ref().map_or(Causality::Strict, |s| s.causality());
                support.and(parts.background.as_ref().map_or(Causality::Strict, |b| b.causality()))
            }
            Kind::Average(a, b) => a.causality().and(b.causality()),
            // Plans are made of such configurations alone.
            Kind::Planned(_) => Causality::Strict,
        }
    }
}
