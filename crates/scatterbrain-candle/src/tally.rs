//! What the attention of a model took, added up.

use crate::{Attend, Inputs, Site, Spent};
use candle_core::{Result, Tensor};
use scatterbrain_attention::Causality;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Runs another attention and adds up what it reports, by site.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use scatterbrain_candle::{Attend, Inputs, ScatterbrainAttention, Site, Stack, Tally};
/// # fn main() -> candle_core::Result<()> {
/// # let x = Tensor::zeros((1, 2, 3, 2), candle_core::DType::F32, &Device::Cpu)?;
/// # let inputs = Inputs { query: &x, key: &x, value: &x, scale: 1.0, causal: true, key_lengths: None };
/// # let site = Site { stack: Stack::Decoder, layer: 0 };
/// let exact = ScatterbrainAttention::exact();
/// let tally = Tally::new(&exact);
/// // … a model runs with &tally …
/// # tally.attend(site, &inputs)?;
/// assert_eq!(tally.total().share(), 1.0);
/// # Ok(())
/// # }
/// ```
pub struct Tally<'a> {
    attend: &'a dyn Attend,
    sites: Mutex<BTreeMap<Site, SiteTally>>,
}

impl fmt::Debug for Tally<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally").field("sites", &self.sites).finish_non_exhaustive()
    }
}

/// What one site took, or several together. Heads of all batch entries and calls count evenly.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SiteTally {
    /// Calls.
    pub calls: usize,
    /// Heads of them, batch entries apart.
    pub heads: usize,
    /// Heads that a plan left to exact attention.
    pub fallback_heads: usize,
    /// Rows computed again for want of digits.
    pub recomputed_rows: usize,
    /// Pairs computed exactly.
    pub exact_pairs: u64,
    /// Pairs that the masks leave.
    pub visible_pairs: u64,
    /// Calls by a method whose choice of pairs saw the whole sequence.
    pub calls_that_see_future: usize,
    /// Calls that reported nothing; they are in no other figure.
    pub unreported: usize,
    /// Wall-clock time of the calls.
    pub seconds: f64,
    /// Preparation that depends on the input, over all heads; part of `seconds` on one thread.
    pub setup_seconds: f64,
    /// Sum of `share` over heads.
    shares: f64,
    /// Sum of `scan_share` over heads.
    scan_shares: f64,
}

impl SiteTally {
    /// (Exact pairs + units of the background) / visible pairs: averaged over rows that see a key, then over heads. A head
    /// that was left to exact attention counts 1. NaN where nothing was reported.
    pub fn share(&self) -> f64 {
        self.shares / self.heads as f64
    }

    /// Visible pairs looked at in low precision over visible pairs, averaged over heads. NaN where nothing was reported.
    pub fn scan_share(&self) -> f64 {
        self.scan_shares / self.heads as f64
    }

    fn add(&mut self, spent: Option<&Spent>) {
        let Some(Spent { report, causality, seconds }) = spent else {
            self.unreported += 1;
            return;
        };
        self.calls += 1;
        self.heads += report.heads.len();
        self.recomputed_rows += report.recomputed_rows;
        self.calls_that_see_future += usize::from(*causality == Causality::SelectionSeesFuture);
        self.seconds += seconds;
        self.setup_seconds += report.setup_seconds;
        self.scan_shares += report.scan_share * report.heads.len() as f64;
        for head in &report.heads {
            self.shares += head.share;
            self.fallback_heads += usize::from(head.fallback);
            self.exact_pairs += head.exact_pairs;
            self.visible_pairs += head.visible_pairs;
        }
    }

    fn merge(mut self, other: &Self) -> Self {
        self.calls += other.calls;
        self.heads += other.heads;
        self.fallback_heads += other.fallback_heads;
        self.recomputed_rows += other.recomputed_rows;
        self.exact_pairs += other.exact_pairs;
        self.visible_pairs += other.visible_pairs;
        self.calls_that_see_future += other.calls_that_see_future;
        self.unreported += other.unreported;
        self.seconds += other.seconds;
        self.setup_seconds += other.setup_seconds;
        self.shares += other.shares;
        self.scan_shares += other.scan_shares;
        self
    }
}

impl<'a> Tally<'a> {
    /// Nothing so far.
    pub fn new(attend: &'a dyn Attend) -> Self {
        Self { attend, sites: Mutex::default() }
    }

    /// By site, in their order.
    pub fn sites(&self) -> BTreeMap<Site, SiteTally> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All sites together, heads counting evenly.
    pub fn total(&self) -> SiteTally {
        self.sites().values().fold(SiteTally::default(), SiteTally::merge)
    }

    /// Forgets what was added up.
    pub fn clear(&self) {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Attend for Tally<'_> {
    fn attend(&self, site: Site, inputs: &Inputs<'_>) -> Result<Tensor> {
        Ok(self.attend_reported(site, inputs)?.0)
    }

    fn attend_reported(&self, site: Site, inputs: &Inputs<'_>) -> Result<(Tensor, Option<Spent>)> {
        let (output, spent) = self.attend.attend_reported(site, inputs)?;
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).entry(site).or_default().add(spent.as_ref());
        Ok((output, spent))
    }
}
