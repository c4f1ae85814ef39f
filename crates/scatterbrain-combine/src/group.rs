//! The query heads that share a key/value head: their rows, and what backgrounds prepare for all of them.

use crate::attend::Call;
use crate::check::{self, Tainted};
use crate::method::Parts;
use crate::tile::{PreparedHead, Visits};
use scatterbrain_core::kernel::Extent;
use scatterbrain_core::tile::{Background, Causality, Head, KeyHead, Select, Summary, Support};
use scatterbrain_core::{HeadMask, Matrix, Result, Rows};
use std::sync::Arc;

/// Extents of a key/value head and of the query heads that share it.
pub(crate) struct GroupExtent {
    pub query: Vec<Extent>,
    pub key: Extent,
    pub value: Extent,
}

/// A key/value head as it is computed with: rows that are not finite are zeros.
pub(crate) struct KeyRows<'a> {
    key: Rows<'a>,
    value: Rows<'a>,
    tainted: Option<Tainted>,
    mask: HeadMask<'a>,
}

/// A query head, the same.
pub(crate) struct QueryRows<'a> {
    query: Rows<'a>,
    tainted: Option<Tainted>,
    mask: HeadMask<'a>,
}

impl<'a> Call<'a> {
    /// Query heads of a key/value head.
    pub(crate) fn group_size(&self) -> usize {
        self.sizes.heads / self.sizes.kv_heads
    }

    /// Key and value of group `index`, groups counted batch-major.
    pub(crate) fn key_rows(&self, index: usize, extent: &GroupExtent) -> KeyRows<'a> {
        let (batch, kv_head) = (index / self.sizes.kv_heads, index % self.sizes.kv_heads);
        let mask = self.mask.head(batch, kv_head * self.group_size(), self.sizes.n, self.sizes.m);
        let (mut key, mut value) = (self.key.head(batch, kv_head), self.value.head(batch, kv_head));
        let used = mask.length();
        let tainted = either(check::repair(&mut key, used, extent.key), check::repair(&mut value, used, extent.value));
        KeyRows { key, value, tainted, mask }
    }

    /// The query head `head` of batch entry `batch`.
    pub(crate) fn query_rows(&self, batch: usize, head: usize, extent: Extent) -> QueryRows<'a> {
        let mask = self.mask.head(batch, head, self.sizes.n, self.sizes.m);
        let mut query = self.query.head(batch, head);
        let tainted = check::repair(&mut query, self.sizes.n, extent);
        QueryRows { query, tainted, mask }
    }
}

fn either(a: Option<Tainted>, b: Option<Tainted>) -> Option<Tainted> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.iter().zip(b).map(|(x, y)| *x || y).collect()),
        (a, b) => a.or(b),
    }
}

impl KeyRows<'_> {
    /// What a background sees of it, with pairs.
    pub(crate) fn head(&self, call: &Call<'_>) -> KeyHead<'_> {
        KeyHead {
            key: self.key.matrix(),
            value: self.value.matrix(),
            scale: call.scale,
            mask: self.mask.without_boolean(),
            boolean: self.mask.has_boolean(),
            pairs: true,
            level: call.level,
        }
    }
}

impl QueryRows<'_> {
    /// The masks of the head.
    pub(crate) fn mask(&self) -> &HeadMask<'_> {
        &self.mask
    }

    /// The queries.
    pub(crate) fn query(&self) -> Matrix<'_> {
        self.query.matrix()
    }

    /// What a support sees of the head.
    pub(crate) fn head<'a>(&'a self, keys: &KeyHead<'a>) -> Head<'a> {
        Head { query: self.query(), key: keys.key, scale: keys.scale, mask: &self.mask, level: keys.level }
    }

    /// The head, ready for tiles. `select` is what the support of `parts` has prepared.
    pub(crate) fn prepared<'a>(
        &'a self,
        rows: &'a KeyRows<'_>,
        keys: &KeyHead<'a>,
        parts: &Parts,
        select: Option<&'a dyn Select>,
        summary: Option<&'a dyn Summary>,
        log_sum_exp: bool,
    ) -> PreparedHead<'a> {
        PreparedHead {
            query: self.query(),
            key: keys.key,
            value: keys.value,
            scale: keys.scale,
            mask: &self.mask,
            select,
            summary,
            level: keys.level,
            tainted_keys: rows.tainted.as_deref(),
            tainted_queries: self.tainted.as_deref(),
            visits: visits(parts.support.as_deref().zip(select), summary, &self.mask),
            log_sum_exp,
        }
    }
}

/// How the queries of a head are visited.
///
/// A support's own orders bring rows that share keys together; under a mask, which keys a row then meets in which order
/// depends on later tokens, so only a support whose choice sees the future anyway is free to use them, or one whose blocks
/// are each row's own, without a background or with one that is each row's own too: features of a row may be scaled by what
/// rows of its tile have in common. The totals of other backgrounds still want neighbours, so they get a pass of their own.
fn visits(support: Option<(&dyn Support, &dyn Select)>, summary: Option<&dyn Summary>, mask: &HeadMask<'_>) -> Visits {
    let once = Visits { rounds: None, totals: false };
    let Some((support, select)) = support else { return once };
    let by_row = summary.is_some_and(|summary| summary.by_row());
    if summary.is_some_and(Summary::extends) || by_row && select.passes() > 1 {
        return once;
    }
    if mask.is_dense() {
        return Visits { rounds: Some(select.passes()), totals: false };
    }
    // An order may be dear to make, and a trial of a few rows needs none.
    let ordered = match select.any_order() {
        true => summary.is_none() || by_row,
        false => support.causality() == Causality::SelectionSeesFuture && select.order(0).is_some(),
    };
    if ordered && !mask.has_boolean() && summary.is_none_or(|s| s.any_order()) {
        return Visits { rounds: Some(select.passes()), totals: summary.is_some() && !by_row };
    }
    once
}

/// What backgrounds have prepared for a group, each once.
#[derive(Default)]
pub(crate) struct Summaries<'a> {
    prepared: Vec<Prepared<'a>>,
    /// Whether all are prepared with pairs, so that heads with a support and heads without one share them.
    pairs: bool,
}

struct Prepared<'a> {
    background: &'a Arc<dyn Background>,
    pairs: bool,
    summary: Box<dyn Summary + 'a>,
}

impl<'a> Summaries<'a> {
    /// All with pairs.
    pub(crate) fn with_pairs() -> Self {
        Self { pairs: true, ..Self::default() }
    }

    /// Whether what the background of `parts` prepares is there, or nothing is to be prepared.
    pub(crate) fn has(&self, parts: &Parts) -> bool {
        let known = |background| self.prepared.iter().any(|p| Arc::ptr_eq(p.background, background));
        parts.background.as_ref().is_none_or(known)
    }

    /// What the background of `parts` has prepared, if there is one.
    ///
    /// # Errors
    /// What it refuses.
    pub(crate) fn of(&mut self, keys: &KeyHead<'a>, parts: &'a Parts) -> Result<Option<&dyn Summary>> {
        let Some(background) = &parts.background else { return Ok(None) };
        let pairs = self.pairs || parts.support.is_some();
        let known = self.prepared.iter().position(|p| Arc::ptr_eq(p.background, background) && p.pairs == pairs);
        let at = match known {
            Some(at) => at,
            None => {
                let shared: Vec<_> = self.prepared.iter().filter_map(|p| p.summary.share()).collect();
                let summary = background.prepare_sharing(&KeyHead { pairs, ..*keys }, &shared)?;
                self.prepared.push(Prepared { background, pairs, summary });
                self.prepared.len() - 1
            }
        };
        Ok(Some(&*self.prepared[at].summary))
    }
}
