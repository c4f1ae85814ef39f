//! Clusters: a query meets the keys that share its cluster in some round.
//!
//! Hash buckets, balanced sorted clusters (SMYRF, Reformer) and stored positions all come down to this:
//! per round, a cluster for every query and a partition of the keys. Decoded, round r contributes
//!
//! ```text
//! { (i, j) : key_cluster_r[j] == query_cluster_r[i]  (or the one before it, with lookback) }
//! ```
//!
//! and a pair found by several rounds counts once.

use scatterbrain_core::kernel::PANEL;
use scatterbrain_core::tile::{Block, Except, Keys, Select, Selection, Tile};
use scatterbrain_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// No cluster: a padded key, or a query that meets nobody.
const NONE: u32 = u32::MAX;
/// The code of a query without a cluster, which no key has.
const NOBODY: u32 = u32::MAX - 1;
/// Neighbours of one cluster that are worth a dense block; fewer go by lists.
const DENSE_ROWS: usize = 4;
/// What a row costs in each pass beside its pairs, in pairs: gathering it, scattering and joining its sums. By instruction
/// counts of `smyrf` at d = 64 on 64 rows, a thousand beside 46 a pair.
const ROW: usize = 22;
/// What a pair costs in a tile's one block, over one in a pass: its bit is set and looked at. By the same counts.
const WHOLE: (usize, usize) = (3, 2);

/// One round: clusters of queries and of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredRound", into = "StoredRound")]
pub struct Round {
    query_cluster: Vec<u32>,
    key_cluster: Vec<u32>,
    /// Queries by cluster, ascending inside each; those without one last.
    query_order: Vec<u32>,
    /// Keys by cluster, ascending inside each.
    key_order: Vec<u32>,
    /// Cluster c holds `key_order[offsets[c]..offsets[c + 1]]`.
    offsets: Vec<u32>,
}

/// What a round is made from; the rest is derived, so that a file cannot contradict itself.
#[derive(Serialize, Deserialize)]
struct StoredRound {
    query_cluster: Vec<u32>,
    key_cluster: Vec<u32>,
}

impl From<Round> for StoredRound {
    fn from(round: Round) -> Self {
        Self { query_cluster: round.query_cluster, key_cluster: round.key_cluster }
    }
}

impl TryFrom<StoredRound> for Round {
    type Error = Error;

    fn try_from(stored: StoredRound) -> Result<Self> {
        Self::from_clusters(stored.query_cluster, &stored.key_cluster, stored.key_cluster.len())
    }
}

impl Round {
    /// From the cluster of every query and of the first `key_cluster.len()` of `m` keys.
    ///
    /// # Errors
    /// More keys than `m`.
    pub fn from_clusters(query_cluster: Vec<u32>, key_cluster: &[u32], m: usize) -> Result<Self> {
        if key_cluster.len() > m {
            return Err(Error::invalid("key_cluster", format!("at most {m} keys"), key_cluster.len()));
        }
        let used = |c: &&u32| **c != NONE;
        let count = key_cluster.iter().chain(&query_cluster).filter(used).max().map_or(0, |&c| c as usize + 1);
        // Cluster numbers index a table: larger ones than there are rows must be renumbered first.
        let limit = m + query_cluster.len();
        if count > limit {
            return Err(Error::invalid("cluster", format!("numbers below {limit}"), count - 1));
        }
        let (query_order, _) = by_cluster(&query_cluster, count);
        let (mut key_order, offsets) = by_cluster(key_cluster, count);
        key_order.truncate(offsets[count] as usize);
        let mut padded = key_cluster.to_vec();
        padded.resize(m, NONE);
        Ok(Self { query_cluster, key_cluster: padded, query_order, key_order, offsets })
    }

    /// Balanced clusters from two orders: position p of an order lies in cluster `p / size`.
    /// Entries at or beyond `n` or `m` are padding and take their place. Sizes need not divide anything.
    ///
    /// # Errors
    /// A size of 0, or an order that names an index twice.
    pub fn from_orders(
        query_order: &[u32],
        query_size: usize,
        n: usize,
        key_order: &[u32],
        key_size: usize,
        m: usize,
    ) -> Result<Self> {
        let queries = cut("query_order", query_order, query_size, n)?;
        let keys = cut("key_order", key_order, key_size, m)?;
        Self::from_clusters(queries, &keys, m)
    }

    /// Buckets by code: a query meets the keys of its own code, however many.
    ///
    /// # Errors
    /// More key codes than `m`.
    pub fn from_codes(query_codes: &[u32], key_codes: &[u32], m: usize) -> Result<Self> {
        let mut codes: Vec<u32> = key_codes.to_vec();
        codes.sort_unstable();
        codes.dedup();
        let number = |c: &u32| codes.binary_search(c).map_or(NONE, |x| x as u32);
        let keys: Vec<u32> = key_codes.iter().map(number).collect();
        Self::from_clusters(query_codes.iter().map(number).collect(), &keys, m)
    }

    fn keys(&self, cluster: u32) -> &[u32] {
        match self.offsets.get(cluster as usize..cluster as usize + 2) {
            Some(&[start, end]) => &self.key_order[start as usize..end as usize],
            _ => &[],
        }
    }

    /// Those of a cluster's keys, which ascend, that lie in an interval.
    fn keys_within(&self, cluster: u32, seen: &Range<usize>) -> &[u32] {
        let keys = self.keys(cluster);
        let below = |limit: usize| keys.partition_point(|&k| (k as usize) < limit);
        &keys[below(seen.start)..below(seen.end).max(below(seen.start))]
    }

    /// The cluster before, around the corner; `None` where there is no other.
    fn before(&self, cluster: u32) -> Option<u32> {
        let count = self.offsets.len() as u32 - 1;
        (count > 1 && cluster != NONE).then(|| (cluster + count - 1) % count)
    }

    fn meets(&self, query_idx: usize, key_idx: u32, lookback: bool) -> bool {
        let (q, k) = (self.query_cluster[query_idx], self.key_cluster[key_idx as usize]);
        k != NONE && (q == k || (lookback && self.before(q) == Some(k)))
    }
}

/// Indices by cluster, ascending inside each, those of clusters beyond `count` last; and where each of the `count` clusters
/// starts, and the last ends.
///
/// ```
/// use scatterbrain_blocks::by_cluster;
/// assert_eq!(by_cluster(&[1, 0, 1], 2), (vec![1, 0, 2], vec![0, 1, 3]));
/// ```
pub fn by_cluster(clusters: &[u32], count: usize) -> (Vec<u32>, Vec<u32>) {
    let place = |c: u32| (c as usize).min(count);
    let mut offsets = vec![0; count + 2];
    clusters.iter().for_each(|&c| offsets[place(c) + 1] += 1);
    for c in 0..count {
        offsets[c + 1] += offsets[c];
    }
    let mut next = offsets.clone();
    let mut order = vec![0; clusters.len()];
    for (i, &c) in clusters.iter().enumerate() {
        let next = &mut next[place(c)];
        order[*next as usize] = i as u32;
        *next += 1;
    }
    offsets.truncate(count + 1);
    (order, offsets)
}

fn cut(argument: &'static str, order: &[u32], size: usize, count: usize) -> Result<Vec<u32>> {
    if size == 0 {
        return Err(Error::invalid(argument, "clusters of at least 1", 0));
    }
    let mut clusters = vec![NONE; count];
    for (p, &x) in order.iter().enumerate().filter(|(_, x)| (**x as usize) < count) {
        if clusters[x as usize] != NONE {
            return Err(Error::invalid(argument, "each index once", format!("{x} twice")));
        }
        clusters[x as usize] = (p / size) as u32;
    }
    Ok(clusters)
}

/// Several rounds; the support is their union.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredClusters", into = "StoredClusters")]
pub struct Clusters {
    rounds: Vec<Round>,
    lookback: bool,
    /// Whether a tile makes one block of all keys that it sees, where queries stand as they come.
    whole: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredClusters {
    rounds: Vec<Round>,
    lookback: bool,
}

impl From<Clusters> for StoredClusters {
    fn from(clusters: Clusters) -> Self {
        Self { rounds: clusters.rounds, lookback: clusters.lookback }
    }
}

impl TryFrom<StoredClusters> for Clusters {
    type Error = Error;

    fn try_from(stored: StoredClusters) -> Result<Self> {
        Self::new(stored.rounds, stored.lookback)
    }
}

impl Clusters {
    /// From rounds over the same queries and keys.
    ///
    /// # Errors
    /// No round, or rounds of different sizes.
    pub fn new(rounds: Vec<Round>, lookback: bool) -> Result<Self> {
        let Some(first) = rounds.first() else {
            return Err(Error::invalid("n_hashes", "at least 1 round", 0));
        };
        let size = |r: &Round| (r.query_cluster.len(), r.key_cluster.len());
        if let Some(r) = rounds.iter().find(|r| size(r) != size(first)) {
            return Err(Error::invalid(
                "rounds",
                format!("{:?} queries and keys", size(first)),
                format!("{:?}", size(r)),
            ));
        }
        Ok(Self { rounds, lookback, whole: false })
    }

    /// Takes queries as they come, once, and each tile with all keys that it sees, chosen pairs marked by bits, where
    /// that is less work than a pass a round: small inputs, whose clusters fill no panel. The pairs are the same.
    ///
    /// Work is counted in pairs of whole panels; for each pass over it a row pays 22 pairs more, and a pair of the one
    /// block counts half as much again (both fitted to counts of instructions at 64 to 256 rows). The sizes of all clusters
    /// decide, so this is for supports that see the future by their choice.
    #[must_use]
    pub fn whole_where_it_pays(mut self, causal: bool) -> Self {
        let (n, m) = (self.n(), self.rounds[0].key_order.len());
        // A panel of a causal tile sees the keys up to its own end.
        let seen = if causal { (m + PANEL) / 2 } else { m }.min(m);
        let pairs = |round: &Round| -> usize {
            let cluster = |i: &u32| round.query_cluster[*i as usize];
            let groups = round.query_order.chunk_by(|a, b| cluster(a) == cluster(b));
            groups.map(|group| group.len().next_multiple_of(PANEL) * self.keys_of(round, cluster(&group[0]))).sum()
        };
        let passes: usize = self.rounds.iter().map(|round| pairs(round) + n * ROW).sum();
        self.whole = WHOLE.0 * n * seen <= WHOLE.1 * passes;
        self
    }

    /// Keys that a query of a cluster meets in a round.
    fn keys_of(&self, round: &Round, cluster: u32) -> usize {
        self.met(round, cluster).map(|c| round.keys(c).len()).sum()
    }

    /// A cluster, and the one before where that is met too.
    fn met(&self, round: &Round, cluster: u32) -> impl Iterator<Item = u32> + use<> {
        let before = if self.lookback { round.before(cluster) } else { None };
        [Some(cluster), before].into_iter().flatten()
    }

    /// Number of queries.
    pub fn n(&self) -> usize {
        self.rounds[0].query_cluster.len()
    }

    /// Number of keys.
    pub fn m(&self) -> usize {
        self.rounds[0].key_cluster.len()
    }

    /// Appends a query's keys of one round that lie in `seen` and in no earlier round's clusters.
    fn row_keys(&self, round: usize, query_idx: usize, seen: &Range<usize>, out: &mut Vec<u32>) {
        let r = &self.rounds[round];
        let cluster = r.query_cluster[query_idx];
        let before = if self.lookback { r.before(cluster) } else { None };
        for cluster in [Some(cluster), before].into_iter().flatten() {
            let keys = r.keys_within(cluster, seen);
            if round == 0 {
                out.extend_from_slice(keys);
            } else {
                let fresh = |k: &&u32| !self.rounds[..round].iter().any(|e| e.meets(query_idx, **k, self.lookback));
                out.extend(keys.iter().filter(fresh));
            }
        }
    }
}

impl Clusters {
    /// The keys of one round for the tile's rows: a block where neighbours share a cluster, and `dense` allows, else
    /// lists.
    fn select_round(&self, round: usize, dense: bool, tile: &Tile<'_>, selection: &mut Selection) {
        let cluster = |i: &u32| self.rounds[round].query_cluster[*i as usize];
        let mut start = 0;
        for group in tile.rows.chunk_by(|a, b| cluster(a) == cluster(b)) {
            let rows = start..start + group.len();
            start = rows.end;
            if dense && group.len() >= DENSE_ROWS {
                selection.blocks.push(self.block(round, rows, group));
            } else {
                for (r, &i) in rows.zip(group) {
                    self.row_keys(round, i as usize, &tile.mask.range(i as usize), &mut selection.lists[r]);
                }
            }
        }
    }

    /// All keys that the tile's rows see, and which of them each row meets in some round.
    fn select_whole(&self, tile: &Tile<'_>, selection: &mut Selection) {
        let keys = tile.hull(0..tile.rows.len());
        let mut only = vec![0u64; keys.len()];
        for (r, &i) in tile.rows.iter().enumerate() {
            let seen = tile.mask.range(i as usize);
            for round in &self.rounds {
                for cluster in self.met(round, round.query_cluster[i as usize]) {
                    for &k in round.keys_within(cluster, &seen) {
                        only[k as usize - keys.start] |= 1 << r;
                    }
                }
            }
        }
        selection.blocks.push(Block { only: Some(only), ..Block::new(0..tile.rows.len(), Keys::Range(keys)) });
    }

    /// Queries of one cluster against its keys, without the pairs of earlier rounds.
    fn block(&self, round: usize, rows: Range<usize>, queries: &[u32]) -> Block {
        let r = &self.rounds[round];
        let cluster = r.query_cluster[queries[0] as usize];
        let before = if self.lookback { r.before(cluster) } else { None };
        let mut keys = r.keys(cluster).to_vec();
        keys.extend(before.map_or(&[][..], |c| r.keys(c)));
        let mut except = Vec::new();
        for earlier in &self.rounds[..round] {
            let key_codes: Vec<u32> = keys.iter().map(|&k| earlier.key_cluster[k as usize]).collect();
            let own = |i: &u32| Some(earlier.query_cluster[*i as usize]).filter(|&c| c != NONE);
            let codes = |of: &dyn Fn(&u32) -> Option<u32>| queries.iter().map(|i| of(i).unwrap_or(NOBODY)).collect();
            if self.lookback {
                let rows = codes(&|i| own(i).and_then(|c| earlier.before(c)));
                except.push(Except { rows, keys: key_codes.clone() });
            }
            except.push(Except { rows: codes(&own), keys: key_codes });
        }
        Block { except, ..Block::new(rows, Keys::List(keys)) }
    }
}

impl Select for Clusters {
    fn passes(&self) -> usize {
        if self.whole { 1 } else { self.rounds.len() }
    }

    fn order(&self, pass: usize) -> Option<&[u32]> {
        (!self.whole).then(|| &*self.rounds[pass].query_order)
    }

    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        if self.whole {
            return self.select_whole(tile, selection);
        }
        // A block sums in another order than a list. Which of them a row takes may depend on its neighbours' clusters
        // only where no row is hidden from another's: else later tokens would show in its bits.
        self.select_round(0, tile.mask.is_dense(), tile, selection);
        for (r, &i) in tile.rows.iter().enumerate() {
            let seen = tile.mask.range(i as usize);
            for round in 1..self.rounds.len() {
                self.row_keys(round, i as usize, &seen, &mut selection.lists[r]);
            }
        }
    }

    fn select_pass(&self, pass: usize, tile: &Tile<'_>, selection: &mut Selection) {
        if self.whole {
            return self.select_whole(tile, selection);
        }
        self.select_round(pass, true, tile, selection);
    }
}
