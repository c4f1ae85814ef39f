//! An inverted file: keys in lists by cluster, of which a query reads those that matter to it.
//!
//! ```text
//! clusters: k-means in two levels of the first P keys, C of them, at most P/2; later keys join the nearest
//! w_ic  = n_c e^{s q_i·μ_c}                 n_c members among the first P keys
//! row i reads the clusters with w_ic ≥ ε·max_c w_ic by falling s q_i·μ_c, until it has b keys; of the last one the latest
//! ```
//!
//! Under a causal mask an eighth of b goes first to the cluster that the row's last key has joined: keys unlike any of the
//! first P are where such a key would be, and no mean shows them.
//!
//! What a row pays for a cluster is its number of keys, so clusters are read by weight a key; ε = e⁻⁷ ends it where the
//! others weigh nothing. A row that sees no more than b keys takes all; where nothing that matters to a row holds a key that
//! it sees, or it sees fewer than 64, it takes the last b.
//!
//! **Cost of the choice.** A key or query looks into some of √C cells of √C clusters each, in codes of 8 bits (`router.rs`):
//! up to 21·√C products of d for the m of a scan. k-means takes 8·C keys at most, √C middles each.
//!
//! **Strict causality.** Rows that see P to 2P keys use clusters of the first P keys (an *epoch*, P = 64, 128, 256, …), in a
//! metric of queries that see no more; keys from P on are assigned by themselves, and from P = 4C on clusters stay as they
//! are. Members stand in a list by position, so a row's keys are a piece of each list, and blocks of a row are cut at
//! multiples of [`CHUNK`] members, wherever other rows of its panel read. With a given number of clusters rows are also what
//! they were, to the bit, when tokens are appended.
//!
//! **Source.** Sivic and Zisserman 2003, "Video Google"; Jégou, Douze and Schmid 2011, "Product quantization for nearest
//! neighbor search", §4 (inverted file, coarse quantiser, several assignments a query). Here the number of lists that a
//! query reads is not fixed, and the file grows with the sequence.

mod epoch;
mod metric;
mod moments;
mod router;

use epoch::{ENOUGH, Epoch, Ranked};
use rayon::prelude::*;
use router::BATCH;
use scatterbrain_blocks::by_cluster;
use scatterbrain_core::kernel::PANEL;
use scatterbrain_core::tile::{Block, CHUNK, Causality, Head, Keys, Select, Selection, Support, Tile};
use scatterbrain_core::{Error, HeadMask, Matrix, Result, Seed};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::OnceLock;

/// Keys a cluster, where no number of clusters is given.
const KEYS: usize = 32;
/// Of a row's budget under a causal mask, the part that goes first to the cluster that its last key has joined.
const OWN: usize = 8;
/// Keys of the first epoch.
const FIRST: usize = 64;
/// ln ε: clusters that weigh a smaller part of a row's heaviest are not read.
const LEAST: f32 = -7.0;

/// The keys of the clusters that matter most to a row.
///
/// For heads with many keys of which a row needs few that are alike: on the clustered process of 131072 rows it takes a
/// thirtieth of exact attention's time at an error of .009. On short or spread rows it is neither fast nor right.
///
/// Strictly causal; the number of clusters that is taken by default follows the number of keys. Cost: (n + m)·21·√C products
/// of d bytes, and up to b exact pairs a row; memory for the keys in f32 while it is set up, then 2·C·d bytes, 8 bytes a key
/// and 12 a list that a row reads.
///
/// ```
/// use scatterbrain_combine::{InvertedFileSupport, Method};
/// let method = Method::sparse(InvertedFileSupport::new(256)?.with_clusters(512)?);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvertedFileSupport {
    budget: usize,
    clusters: Option<usize>,
    #[serde(default)]
    seed: Seed,
}

impl InvertedFileSupport {
    /// At most `budget` keys a row, from one cluster for every 32 keys of a head.
    ///
    /// # Errors
    /// A budget of 0.
    pub fn new(budget: usize) -> Result<Self> {
        if budget == 0 {
            return Err(Error::invalid("budget", "at least 1 key", 0));
        }
        Ok(Self { budget, clusters: None, seed: Seed(0) })
    }

    /// With at most so many clusters: twice as many as there are groups of like keys find nearly all.
    ///
    /// # Errors
    /// A count of 0.
    pub fn with_clusters(self, clusters: usize) -> Result<Self> {
        if clusters == 0 {
            return Err(Error::invalid("clusters", "at least 1", 0));
        }
        Ok(Self { clusters: Some(clusters), ..self })
    }

    /// With another seed of the clusters than 0.
    #[must_use]
    pub fn with_seed(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }
}

impl Support for InvertedFileSupport {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        if self.budget > head.mask.m() {
            return Err(Error::invalid("budget", format!("1 to {} keys", head.mask.m()), self.budget));
        }
        Ok(Box::new(InvertedFile::new(self, head)?))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

/// A piece of a cluster's list that a row reads.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Number of the epoch, and of the cluster in it.
    list: (u32, u32),
    from: u32,
    to: u32,
}

/// A head's keys by cluster, and what its rows read.
struct InvertedFile<'a> {
    budget: usize,
    epochs: Vec<Epoch>,
    head: Head<'a>,
    /// What all rows read; absent as long as only some are asked for.
    all: OnceLock<Readings>,
}

/// What all rows of a head read.
struct Readings {
    /// Of row i: `pieces[starts[i]..starts[i + 1]]`, by falling weight a key.
    pieces: Vec<Piece>,
    starts: Vec<usize>,
    /// Rows by the cluster that they read first.
    order: Vec<u32>,
}

impl Readings {
    fn row(&self, row: u32) -> &[Piece] {
        &self.pieces[self.starts[row as usize]..self.starts[row as usize + 1]]
    }
}

impl<'a> InvertedFile<'a> {
    fn new(support: &InvertedFileSupport, head: &Head<'a>) -> Result<Self> {
        let clusters = support.clusters.unwrap_or(head.mask.m() / KEYS).max(1);
        let epochs = epochs(head, support.budget, clusters, support.seed)?;
        Ok(Self { budget: support.budget, epochs, head: *head, all: OnceLock::new() })
    }

    fn read_all(&self) -> Readings {
        let n = self.head.mask.n();
        let natural: Vec<u32> = (0..n as u32).collect();
        let batch =
            |rows: &[u32]| self.read(rows, self.head.query.slice(rows[0] as usize..rows[0] as usize + rows.len()));
        let batches: Vec<Vec<Vec<Piece>>> = natural.par_chunks(BATCH).map(batch).collect();
        let before = self.epochs.iter().scan(1, |next, e| Some(std::mem::replace(next, *next + e.count())));
        let before: Vec<u32> = before.collect();
        let (mut pieces, mut starts, mut first) = (Vec::new(), vec![0], Vec::with_capacity(n));
        for row in batches.into_iter().flatten() {
            first.push(row.first().map_or(0, |piece| before[piece.list.0 as usize] + piece.list.1));
            pieces.extend(row);
            starts.push(pieces.len());
        }
        let lists = 1 + self.epochs.iter().map(|e| e.count() as usize).sum::<usize>();
        Readings { pieces, starts, order: by_cluster(&first, lists).0 }
    }

    /// What at most [`BATCH`] rows read, each by falling weight a key.
    fn read(&self, rows: &[u32], query: Matrix<'_>) -> Vec<Vec<Piece>> {
        let epoch_of = |row: &u32| {
            let seen = self.head.mask.range(*row as usize);
            let few = seen.len() <= self.budget;
            if few { None } else { self.epochs.iter().rposition(|epoch| epoch.start <= seen.end) }
        };
        let (mut out, mut from) = (Vec::with_capacity(rows.len()), 0);
        for same in rows.chunk_by(|a, b| epoch_of(a) == epoch_of(b)) {
            let query = query.slice(from..from + same.len());
            from += same.len();
            match epoch_of(&same[0]) {
                None => out.extend(same.iter().map(|_| Vec::new())),
                Some(number) => {
                    let ranked = self.epochs[number].rank(query);
                    out.extend(same.iter().zip(ranked).map(|(&row, ranked)| self.pieces(row, number, ranked)));
                }
            }
        }
        out
    }

    /// Pieces of the ranked clusters' lists that hold the keys of a row.
    fn pieces(&self, row: u32, number: usize, ranked: Ranked) -> Vec<Piece> {
        let epoch = &self.epochs[number];
        let seen = self.head.mask.range(row as usize);
        let (mut left, mut out) = (self.budget, Vec::with_capacity(8));
        let mut own = epoch.cluster_of(seen.end - 1).filter(|_| self.head.mask.is_causal()).map(|cluster| {
            let (piece, taken) = self.latest(row, (number as u32, cluster), u32::MAX, (left / OWN).max(1));
            left -= taken;
            piece
        });
        for cluster in ranked {
            if left == 0 {
                break;
            }
            let list = (number as u32, cluster);
            match own.as_mut().filter(|own| own.list == list) {
                Some(own) => {
                    let (piece, taken) = self.latest(row, list, own.from, left);
                    own.from = piece.from;
                    left -= taken;
                }
                None => {
                    let (piece, taken) = self.latest(row, list, u32::MAX, left);
                    out.extend((taken > 0).then_some(piece));
                    left -= taken;
                }
            }
        }
        out.extend(own.filter(|own| own.from < own.to));
        out
    }

    /// The last keys of a list, before a place in it, that a row sees: at most `most`, and how many.
    fn latest(&self, row: u32, list: (u32, u32), end: u32, most: usize) -> (Piece, usize) {
        let mask = self.head.mask;
        let members = self.epochs[list.0 as usize].members(list.1);
        let seen = mask.range(row as usize);
        let below = |end: usize| members.partition_point(|&key| (key as usize) < end);
        let (start, to) = (below(seen.start), below(seen.end).min(end as usize));
        let (from, taken) = match mask.allowed_row(row as usize) {
            None => (start.max(to.saturating_sub(most)), most.min(to.saturating_sub(start))),
            Some(allowed) => {
                let visible = |at: &usize| allowed[members[*at] as usize] != 0;
                (start..to).rev().filter(visible).take(most).fold((to, 0), |(_, taken), at| (at, taken + 1))
            }
        };
        (Piece { list, from: from as u32, to: to as u32 }, taken)
    }

    /// Blocks of the rows that see no more keys than they may take.
    fn push_whole(&self, tile: &Tile<'_>, rows: &Range<usize>, out: &mut Selection) {
        let whole = |r: &usize| sees_few(tile.mask, tile.rows[*r], self.budget);
        let all: Vec<usize> = rows.clone().filter(whole).collect();
        for run in all.chunk_by(|a, b| a + 1 == *b) {
            let run = run[0]..run[run.len() - 1] + 1;
            out.blocks.push(Block::new(run.clone(), Keys::Range(tile.hull(run))));
        }
    }

    /// A block for each so many members of a cluster that some row of a panel reads.
    fn push_pieces<'p>(&self, rows: &Range<usize>, pieces: impl Iterator<Item = &'p [Piece]>, out: &mut Selection) {
        let bits = pieces.enumerate().flat_map(|(lane, row)| row.iter().map(move |piece| (*piece, 1u64 << lane)));
        let mut wanted: Vec<(Piece, u64)> = bits.collect();
        wanted.sort_by_key(|(piece, _)| piece.list);
        for wanted in wanted.chunk_by(|a, b| a.0.list == b.0.list) {
            let list = wanted[0].0.list;
            let members = self.epochs[list.0 as usize].members(list.1);
            let from = wanted.iter().map(|(piece, _)| piece.from).min().unwrap_or(0) as usize;
            let to = wanted.iter().map(|(piece, _)| piece.to).max().unwrap_or(0) as usize;
            for chunk in (from / CHUNK * CHUNK..to).step_by(CHUNK) {
                let (mut keys, mut only) = (Vec::new(), Vec::new());
                for at in chunk.max(from)..(chunk + CHUNK).min(to) {
                    let reads = |p: &Piece| (p.from as usize..p.to as usize).contains(&at);
                    let bits = wanted.iter().filter(|(p, _)| reads(p)).fold(0, |bits, (_, bit)| bits | bit);
                    if bits != 0 {
                        keys.push(members[at]);
                        only.push(bits);
                    }
                }
                if !keys.is_empty() {
                    out.blocks.push(Block { only: Some(only), ..Block::new(rows.clone(), Keys::List(keys)) });
                }
            }
        }
    }
}

impl Select for InvertedFile<'_> {
    fn order(&self, _pass: usize) -> Option<&[u32]> {
        Some(&self.all.get_or_init(|| self.read_all()).order)
    }

    fn any_order(&self) -> bool {
        true
    }

    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        for start in (0..tile.rows.len()).step_by(PANEL) {
            let rows = start..(start + PANEL).min(tile.rows.len());
            let indices = &tile.rows[rows.clone()];
            self.push_whole(tile, &rows, selection);
            let read = match self.all.get() {
                Some(_) => Vec::new(),
                None => self.read(indices, tile.query.slice(rows.clone())),
            };
            let pieces = |lane: usize| match self.all.get() {
                Some(all) => all.row(indices[lane]),
                None => &read[lane],
            };
            self.push_pieces(&rows, (0..rows.len()).map(pieces), selection);
            for (lane, r) in rows.enumerate() {
                if pieces(lane).is_empty() && !sees_few(tile.mask, tile.rows[r], self.budget) {
                    selection.lists[r] = last_keys(tile.mask, tile.rows[r], self.budget);
                }
            }
        }
    }
}

fn sees_few(mask: &HeadMask<'_>, row: u32, budget: usize) -> bool {
    mask.range(row as usize).len() <= budget
}

/// The last keys that a row sees, where the clusters that matter to it hold none.
fn last_keys(mask: &HeadMask<'_>, row: u32, budget: usize) -> Vec<u32> {
    let allowed = mask.allowed_row(row as usize);
    let seen = mask.range(row as usize).rev().filter(|&j| allowed.is_none_or(|a| a[j] != 0));
    let mut keys: Vec<u32> = seen.take(budget).map(|j| j as u32).collect();
    keys.reverse();
    keys
}

/// The epochs of a head: one where every row sees the same keys.
fn epochs(head: &Head<'_>, budget: usize, clusters: usize, seed: Seed) -> Result<Vec<Epoch>> {
    let length = head.mask.length();
    if length <= budget {
        return Ok(Vec::new());
    }
    if !head.mask.is_causal() || length <= FIRST {
        return Ok(vec![Epoch::new(head, length, length, clusters, seed)?]);
    }
    // Once there are as many clusters as there may be, they stay.
    let last = |start: usize| start / ENOUGH >= clusters || 2 * start > length;
    let next = |&start: &usize| (!last(start)).then_some(2 * start);
    let starts: Vec<usize> = std::iter::successors(Some(FIRST), next).collect();
    let epoch = |&start: &usize| {
        let end = if last(start) { length } else { 2 * start };
        Epoch::new(head, start, end, clusters, seed)
    };
    starts.par_iter().map(epoch).collect()
}
