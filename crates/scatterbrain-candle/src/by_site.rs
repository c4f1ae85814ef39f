//! A method for each site of a model.

use crate::{Attend, Inputs, ScatterbrainAttention, Site, Spent};
use candle_core::{Error, Result, Tensor};
use scatterbrain_attention as library;
use scatterbrain_attention::plan::Plan;
use std::collections::BTreeMap;

/// At some sites an attention of their own, at all others another: a plan, or a method in some layers alone.
///
/// ```
/// use scatterbrain_candle::{Budget, BySite, ScatterbrainAttention, Site, Stack};
/// use scatterbrain_candle::{Preset, Seed};
/// # fn main() -> candle_core::Result<()> {
/// let scan = ScatterbrainAttention::preset(Preset::ScatterbrainScan, Budget::Units(32), Seed(0))?;
/// let first = Site { stack: Stack::Encoder, layer: 0 };
/// let attention = BySite::exact().with(first, scan); // layer 0 swapped, the others exact
/// assert_eq!(attention.sites().collect::<Vec<_>>(), [first]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct BySite {
    sites: BTreeMap<Site, ScatterbrainAttention>,
    otherwise: ScatterbrainAttention,
}

impl BySite {
    /// `attention` wherever no site gets one of its own.
    pub fn everywhere(attention: ScatterbrainAttention) -> Self {
        Self { sites: BTreeMap::new(), otherwise: attention }
    }

    /// Exact attention wherever no site gets another.
    pub fn exact() -> Self {
        Self::everywhere(ScatterbrainAttention::exact())
    }

    /// A plan whose layers are named as sites are (`encoder.3`); sites that it does not name are exact.
    ///
    /// # Errors
    /// A layer of another name, a version that is not known, figures that no planner writes.
    pub fn planned(plan: &Plan) -> Result<Self> {
        plan.check().map_err(Error::wrap)?;
        plan.layers.iter().try_fold(Self::exact(), |all, (name, layer)| {
            let site = name.parse().map_err(Error::wrap)?;
            Ok(all.with(site, ScatterbrainAttention::planned(layer.clone())))
        })
    }

    /// The same with `attention` at `site`.
    pub fn with(mut self, site: Site, attention: ScatterbrainAttention) -> Self {
        self.sites.insert(site, attention);
        self
    }

    /// Sites that have an attention of their own.
    pub fn sites(&self) -> impl Iterator<Item = Site> + '_ {
        self.sites.keys().copied()
    }

    /// Refuses sites that a model does not have: what is named there would never be asked.
    ///
    /// # Errors
    /// The first such site.
    pub fn check(&self, model: &[Site]) -> Result<()> {
        match self.sites().find(|site| !model.contains(site)) {
            None => Ok(()),
            Some(site) => {
                let expected = "a layer of the model";
                Err(Error::wrap(library::Error::invalid("plan.layers", expected, site)))
            }
        }
    }
}

impl Attend for BySite {
    fn attend(&self, site: Site, inputs: &Inputs<'_>) -> Result<Tensor> {
        Ok(self.attend_reported(site, inputs)?.0)
    }

    fn attend_reported(&self, site: Site, inputs: &Inputs<'_>) -> Result<(Tensor, Option<Spent>)> {
        self.sites.get(&site).unwrap_or(&self.otherwise).attend_reported(site, inputs)
    }
}
