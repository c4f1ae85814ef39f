//! Attention with its method, for models that hold one.

use crate::{Attend, Attention, Inputs, Mask, Site, Spent, attend};
use candle_core::{Error, Result, Tensor};
use scatterbrain_attention::plan::LayerPlan;
use scatterbrain_attention::{Causality, Method, Preset, Seed};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Units that a query may spend.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Budget {
    /// So many, whatever the number of keys.
    Units(usize),
    /// A part of the keys of a call, rounded down, at least 1.
    Share(f64),
}

impl Budget {
    fn units(self, keys: usize) -> usize {
        match self {
            Budget::Units(units) => units,
            Budget::Share(share) => ((share * keys as f64) as usize).max(1),
        }
    }
}

/// Attention by one method, with candle's shapes.
///
/// It holds no weights: a model projects and rotates, this attends. As an [`Attend`] it is the same method at every site.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use scatterbrain_candle::{Budget, Mask, ScatterbrainAttention};
/// use scatterbrain_candle::{Preset, Seed};
/// # fn main() -> candle_core::Result<()> {
/// # let q = Tensor::randn(0f32, 1.0, (1, 4, 300, 16), &Device::Cpu)?; // [batch, heads, n, d]
/// # let (k, v) = (q.narrow(1, 0, 2)?, q.narrow(1, 2, 2)?); // two key/value heads for four
/// let attention = ScatterbrainAttention::preset(Preset::ScatterbrainScan, Budget::Units(64), Seed(0))?;
/// let output = attention.forward(&q, &k, &v, &Mask::causal())?;
/// # assert_eq!(output.dims(), q.dims());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ScatterbrainAttention {
    choice: Choice,
    scale: Option<f32>,
}

#[derive(Debug, Clone)]
enum Choice {
    Method(Method),
    Preset { preset: Preset, budget: Budget, seed: Seed, sampled: Sampled },
}

/// Methods by budget and columns, the last that were sampled: a share of the keys is another budget at every
/// length.
type Sampled = Arc<Mutex<VecDeque<((usize, usize), Method)>>>;

/// Methods that are kept.
const KEPT: usize = 8;

impl ScatterbrainAttention {
    /// A method of the library. Its budget, if it has one, must not exceed the keys of a call.
    pub fn new(method: Method) -> Self {
        Self { choice: Choice::Method(method), scale: None }
    }

    /// Exact attention.
    pub fn exact() -> Self {
        Self::new(Method::exact())
    }

    /// A layer of a plan. It takes calls of the heads, columns and causality that it was made for.
    pub fn planned(plan: LayerPlan) -> Self {
        Self::new(Method::planned(plan))
    }

    /// A method by name, sampled for the columns of the calls that come. Where a call has fewer keys
    /// than the budget has units, it is exact.
    ///
    /// # Errors
    /// A budget of 0 units, or a share that is not above 0 and at most 1.
    pub fn preset(preset: Preset, budget: Budget, seed: Seed) -> Result<Self> {
        let invalid =
            |expected, got: String| Err(Error::wrap(scatterbrain_attention::Error::invalid("budget", expected, got)));
        match budget {
            Budget::Units(0) => return invalid("at least 1 unit", "0".to_owned()),
            Budget::Share(share) if !(share > 0.0 && share <= 1.0) => {
                return invalid("a share above 0 and at most 1", share.to_string());
            }
            Budget::Units(_) | Budget::Share(_) => {}
        }
        let choice = Choice::Preset { preset, budget, seed, sampled: Sampled::default() };
        Ok(Self { choice, scale: None })
    }

    /// A scale of its own instead of 1/√d, for [`Self::forward`] and [`Self::attention`]; a model's site brings its scale.
    #[must_use]
    pub fn with_scale(mut self, scale: f32) -> Self {
        self.scale = Some(scale);
        self
    }

    /// Attention, `[batch, heads, n, d_v]`, of the query's type; arguments as of [`attend`](crate::attend).
    ///
    /// # Errors
    /// As [`attend`](crate::attend).
    pub fn forward(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: &Mask) -> Result<Tensor> {
        Ok(self.attention(query, key, value, mask)?.output)
    }

    /// [`Self::forward`], and what it took.
    ///
    /// # Errors
    /// As [`attend`](crate::attend).
    pub fn attention(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: &Mask) -> Result<Attention> {
        attend(query, key, value, mask, &self.method(query, key)?, self.scale)
    }

    /// Whether the choice of pairs can see later tokens in calls with `head_dim` columns and `keys` keys.
    ///
    /// # Errors
    /// A method that cannot be sampled for these.
    pub fn causality(&self, head_dim: usize, keys: usize) -> Result<Causality> {
        Ok(self.sampled(head_dim, keys)?.causality())
    }

    fn method(&self, query: &Tensor, key: &Tensor) -> Result<Method> {
        match (query.dims(), key.dims()) {
            (&[_, _, _, d], &[_, _, m, _]) => self.sampled(d, m),
            // The operation refuses them.
            _ => Ok(Method::exact()),
        }
    }

    fn sampled(&self, head_dim: usize, keys: usize) -> Result<Method> {
        let (preset, budget, seed, sampled) = match &self.choice {
            Choice::Method(method) => return Ok(method.clone()),
            Choice::Preset { preset, budget, seed, sampled } => (preset, budget, seed, sampled),
        };
        let units = budget.units(keys);
        if preset.has_budget() && units > keys {
            return Ok(Method::exact());
        }
        let key = (units, head_dim);
        // A method is sampled before it is put there: what another thread's panic left is whole.
        let known = || sampled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, method)) = known().iter().find(|(k, _)| *k == key) {
            return Ok(method.clone());
        }
        let method = preset.method(units, head_dim, *seed).map_err(Error::wrap)?;
        let mut known = known();
        known.push_front((key, method.clone()));
        known.truncate(KEPT);
        Ok(method)
    }
}

impl Attend for ScatterbrainAttention {
    fn attend(&self, site: Site, inputs: &Inputs<'_>) -> Result<Tensor> {
        Ok(self.attend_reported(site, inputs)?.0)
    }

    fn attend_reported(&self, _: Site, inputs: &Inputs<'_>) -> Result<(Tensor, Option<Spent>)> {
        let Inputs { query, key, value, scale, .. } = *inputs;
        let method = self.method(query, key)?;
        let attention = attend(query, key, value, &inputs.mask(), &method, Some(scale))?;
        Ok((attention.output, Some(attention.spent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_methods_are_kept_and_come_back() -> Result<()> {
        let attention = ScatterbrainAttention::preset(Preset::ScatterbrainLocal, Budget::Share(0.5), Seed(0))?;
        let Choice::Preset { sampled, .. } = &attention.choice else { unreachable!("it was made from one") };
        for keys in (100..200).step_by(2).chain([198]) {
            let units = attention.sampled(8, keys)?.units();
            assert_eq!(units, Preset::ScatterbrainLocal.method(keys / 2, 8, Seed(0)).map_err(Error::wrap)?.units());
            let known = sampled.lock().unwrap();
            let times = known.iter().filter(|((units, ..), _)| *units == keys / 2).count();
            assert!(known.len() <= KEPT && times == 1, "{keys}: {times} of {}", known.len());
        }
        Ok(())
    }
}
