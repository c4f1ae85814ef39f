//! Supports that hash a head's queries and keys: codes from the hash crate become clusters of the block crate.

use crate::quantised::QuantisedLogits;
use scatterbrain_blocks::{Clusters, Largest, Round};
use scatterbrain_core::tile::{Causality, Head, Select, Support};
use scatterbrain_core::{Error, Result, Seed};
use scatterbrain_hash::{HashFamily, KeyRows, ReformerRotation, Smyrf, sort_by_code};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// SMYRF (Daras et al. 2020): per hash, queries and keys are sorted along one projection and cut in equally many
/// clusters; a query meets the `cluster_size` keys of its cluster.
///
/// The number of clusters is ⌈L / cluster_size⌉, L the key length; nothing needs to divide anything. The global
/// order sees the future: [`Causality::SelectionSeesFuture`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SmyrfSupport {
    hash: Smyrf,
    cluster_size: usize,
    #[serde(default)]
    in_passes: bool,
}

impl SmyrfSupport {
    /// Clusters of `cluster_size` keys.
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(hash: Smyrf, cluster_size: usize) -> Result<Self> {
        check_size("cluster_size", cluster_size)?;
        Ok(Self { hash, cluster_size, in_passes: false })
    }

    /// Takes a pass a hash for small inputs too, where one block a tile is less work
    /// ([`Clusters::whole_where_it_pays`]); the pairs are the same. For measurements and tests.
    #[must_use]
    pub fn in_passes(self) -> Self {
        Self { in_passes: true, ..self }
    }
}

/// Clusters of a choice that sees the future, which may look at their sizes.
fn visited(rounds: Vec<Round>, lookback: bool, head: &Head<'_>, in_passes: bool) -> Result<Clusters> {
    let clusters = Clusters::new(rounds, lookback)?;
    Ok(if in_passes { clusters } else { clusters.whole_where_it_pays(head.mask.is_causal()) })
}

pub(crate) fn check_size(argument: &'static str, size: usize) -> Result<()> {
    if size == 0 { Err(Error::invalid(argument, "at least 1 key", 0)) } else { Ok(()) }
}

pub(crate) fn check_fits(argument: &'static str, size: usize, m: usize) -> Result<()> {
    if size == 0 || size > m {
        return Err(Error::invalid(argument, format!("1 to {m} keys"), size));
    }
    Ok(())
}

impl Support for SmyrfSupport {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        check_fits("cluster_size", self.cluster_size, head.mask.m())?;
        let (n, m, length) = (head.mask.n(), head.mask.m(), head.mask.length());
        let rows = KeyRows { sorted: length, norms: length };
        let orders = self.hash.orders(head.level, head.query, head.key, rows)?;
        let clusters = length.div_ceil(self.cluster_size).max(1);
        let query_size = n.div_ceil(clusters);
        let round = |h| Round::from_orders(orders.query(h), query_size, n, orders.key(h), self.cluster_size, m);
        let rounds = (0..self.hash.n_hashes()).map(round).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(visited(rounds, false, head, self.in_passes)?))
    }

    fn causality(&self) -> Causality {
        Causality::SelectionSeesFuture
    }
}

/// Buckets of a sampled [`ReformerSupport`], where there are keys enough.
pub const MOST_BUCKETS: usize = 256;

/// Reformer (Kitaev et al. 2020, §2): per hash, keys are sorted by bucket and position and cut in chunks of
/// `bucket_size`; a query meets its own chunk and the chunk before.
///
/// Queries and keys are hashed apart. A query's chunk is the one in which its bucket stands among the sorted keys,
/// as deep into the bucket as the query is into its own; with equal queries and keys that is its own place. The
/// global order sees the future.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReformerSupport {
    hash: ReformerRotation,
    bucket_size: usize,
    /// Whether the number of buckets follows the number of keys.
    fit: bool,
    #[serde(default)]
    in_passes: bool,
}

impl ReformerSupport {
    /// Chunks of `bucket_size` keys, with given rotations.
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(hash: ReformerRotation, bucket_size: usize) -> Result<Self> {
        check_size("bucket_size", bucket_size)?;
        Ok(Self { hash, bucket_size, fit: false, in_passes: false })
    }

    /// As [`SmyrfSupport::in_passes`].
    #[must_use]
    pub fn in_passes(self) -> Self {
        Self { in_passes: true, ..self }
    }

    /// Samples rotations, of which each call uses as many columns as give one bucket a chunk (at most
    /// [`MOST_BUCKETS`] buckets), the paper's choice.
    ///
    /// # Errors
    /// A size of 0.
    pub fn sample(head_dim: usize, n_hashes: usize, bucket_size: usize, seed: Seed) -> Result<Self> {
        let hash = ReformerRotation::sample(head_dim, n_hashes, MOST_BUCKETS, seed)?;
        Ok(Self { fit: true, ..Self::new(hash, bucket_size)? })
    }

    /// The hash for a number of keys.
    fn fitted(&self, length: usize) -> Result<Cow<'_, ReformerRotation>> {
        let wanted = (length.div_ceil(self.bucket_size) / 2 * 2).max(2);
        if !self.fit || wanted >= self.hash.n_buckets() {
            return Ok(Cow::Borrowed(&self.hash));
        }
        Ok(Cow::Owned(self.hash.with_buckets(wanted)?))
    }

    fn round(&self, query_codes: &[u32], key_codes: &[u32], m: usize) -> Result<Round> {
        let key_order = sort_by_code(key_codes);
        let query_order = sort_by_code(query_codes);
        let sorted = |order: &[u32], codes: &[u32]| order.iter().map(|&i| codes[i as usize]).collect::<Vec<_>>();
        let (sorted_keys, sorted_queries) = (sorted(&key_order, key_codes), sorted(&query_order, query_codes));
        let bucket = |codes: &[u32], c: u32| codes.partition_point(|&x| x < c)..codes.partition_point(|&x| x <= c);
        let mut keys = vec![0; key_codes.len()];
        key_order.iter().enumerate().for_each(|(p, &j)| keys[j as usize] = (p / self.bucket_size) as u32);
        let mut queries = vec![0; query_codes.len()];
        for (p, &i) in query_order.iter().enumerate() {
            let code = query_codes[i as usize];
            let (own, other) = (bucket(&sorted_queries, code), bucket(&sorted_keys, code));
            let depth = (p - own.start) * other.len() / own.len();
            let place = (other.start + depth).min(key_codes.len().saturating_sub(1));
            queries[i as usize] = (place / self.bucket_size) as u32;
        }
        Round::from_clusters(queries, &keys, m)
    }
}

impl Support for ReformerSupport {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        check_fits("bucket_size", self.bucket_size, head.mask.m())?;
        let codes = codes(&*self.fitted(head.mask.length())?, head)?;
        let round = |(q, k): &CodePair| self.round(q, k, head.mask.m());
        let rounds = codes.iter().map(round).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(visited(rounds, true, head, self.in_passes)?))
    }

    fn causality(&self) -> Causality {
        Causality::SelectionSeesFuture
    }
}

/// Plain hash buckets of any family: a pair is exact if its codes agree in some hash (Chen et al. 2021, §4.1).
///
/// Buckets may be any size, so a row has no fixed budget. Codes of single rows decide: strictly causal.
#[derive(Debug, Clone)]
pub struct HashSupport {
    hash: Arc<dyn HashFamily>,
}

impl HashSupport {
    /// Buckets of `hash`.
    pub fn new(hash: impl HashFamily + 'static) -> Self {
        Self { hash: Arc::new(hash) }
    }
}

impl Support for HashSupport {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        let codes = codes(&*self.hash, head)?;
        let round = |(q, k): &CodePair| Round::from_codes(q, k, head.mask.m());
        let rounds = codes.iter().map(round).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(Clusters::new(rounds, false)?))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

/// Codes of one hash: of all queries, and of the valid keys.
pub(crate) type CodePair = (Vec<u32>, Vec<u32>);

/// Codes of every hash.
pub(crate) fn codes(hash: &dyn HashFamily, head: &Head<'_>) -> Result<Vec<CodePair>> {
    let query = hash.codes(head.level, head.query)?;
    let key = match head.mask.length() {
        0 => None,
        length => Some(hash.codes(head.level, head.key.first_rows(length))?),
    };
    let of_key = |h| key.as_ref().map_or(Vec::new(), |k| k.hash(h).to_vec());
    Ok((0..hash.n_hashes()).map(|h| (query.hash(h).to_vec(), of_key(h))).collect())
}

/// A row takes no more than 1/SLACK fewer keys than its budget: the threshold is then found in fewer passes.
const SLACK: usize = 16;

/// The keys with the largest approximate logits, from keys and queries in 8 bits (keys in 7 without VNNI).
///
/// ```text
/// code, scale = rows rounded, a scale each (QuantisedRows)
/// score_ij    = scale · scale_i · scale_j · Σ_c code_i[c] code_j[c]
/// row i takes the b' visible keys of largest score, among equals the earlier; b − ⌊b/16⌋ ≤ b' ≤ b, all where there are fewer
/// ```
///
/// Weights on what is chosen are exact. Codes are of single rows and thresholds of single queries: strictly causal.
///
/// # Cost
/// A scan of every visible pair in integers, about a fifth of exact attention, and some eight passes over the scores;
/// one byte a key element for a head, 64 bytes a key for a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantisedTopK {
    budget: usize,
}

impl QuantisedTopK {
    /// Keeps at most `budget` keys a row.
    ///
    /// # Errors
    /// A budget of 0.
    pub fn new(budget: usize) -> Result<Self> {
        if budget == 0 {
            return Err(Error::invalid("budget", "at least 1 key", 0));
        }
        Ok(Self { budget })
    }
}

impl Support for QuantisedTopK {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        let budget = self.budget - self.budget / SLACK..=self.budget;
        Ok(Box::new(Largest::new(
            QuantisedLogits::new(head.level, head.key, head.scale)?,
            budget,
            head.mask,
            head.level,
        )?))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }

    fn scans(&self) -> bool {
        true
    }
}

/// Given clusters of one head, for stored positions and clusterings of one's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterSupport {
    clusters: Clusters,
    causality: Causality,
}

impl ClusterSupport {
    /// From clusters; `causality` says how they were chosen.
    pub fn new(clusters: Clusters, causality: Causality) -> Self {
        Self { clusters, causality }
    }
}

impl Support for ClusterSupport {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        let sizes = (self.clusters.n(), self.clusters.m());
        if sizes != (head.mask.n(), head.mask.m()) {
            let expected = format!("{} queries and {} keys", head.mask.n(), head.mask.m());
            return Err(Error::invalid("clusters", expected, format!("{} and {}", sizes.0, sizes.1)));
        }
        Ok(Box::new(self.clusters.clone()))
    }

    fn causality(&self) -> Causality {
        self.causality
    }
}
