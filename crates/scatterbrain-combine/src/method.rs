//! What to compute: a support, a background, both, or their average.

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
    /// A support, a background, or both.
    Combined(Option<Arc<dyn Support>>, Option<Arc<dyn Background>>),
    /// The mean of the outputs of support alone and background alone.
    Average(Box<Method>, Box<Method>),
}

impl Method {
    /// Exact attention: every visible pair.
    pub fn exact() -> Self {
        Self::sparse(Full)
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
        Self { kind: Kind::Combined(support, background), budget: None, units: None }
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
    pub fn with_units(mut self, units: usize) -> Self {
        self.units = Some(units);
        self
    }

    /// Units per query, where they were stated.
    pub fn units(&self) -> Option<usize> {
        self.units
    }

    /// Units of the background per query.
    pub fn background_units(&self) -> usize {
        match &self.kind {
            Kind::Combined(_, background) => background.as_ref().map_or(0, |b| b.units()),
            Kind::Average(a, b) => a.background_units() + b.background_units(),
        }
    }

    /// Whether the choice of pairs or the weights can depend on later tokens under a causal mask.
    pub fn causality(&self) -> Causality {
        match &self.kind {
            Kind::Combined(s, b) => {
                let support = s.as_ref().map_or(Causality::Strict, |s| s.causality());
                support.and(b.as_ref().map_or(Causality::Strict, |b| b.causality()))
            }
            Kind::Average(a, b) => a.causality().and(b.causality()),
        }
    }
}
