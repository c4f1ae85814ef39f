//! The open traits that carry the composition.
//!
//! A [`Support`] says which pairs are exact, a [`Background`] stands for the pairs off it. A support is prepared once for
//! each query head ([`Select`]), a background once for the heads that share keys and values ([`Summary`]), and both are
//! then asked once a *query tile* ([`TileBackground`]), never once a pair, so that any support works with any background at
//! kernel speed:
//!
//! ```text
//! for tile in tiles(head):                           # up to TILE_ROWS queries
//!     selection  = select.select(tile)               # which keys, each pair once, before masks
//!     background = summary.tile(tile, selection)     # may add keys to the selection
//!     for pair in selection ∧ mask:
//!         weight = exp(q·k) − background.entries(pair)
//!     output = (background.totals + Σ weight·v) / (background.totals + Σ weight)
//! ```
//!
//! Totals are sums of φ(q)·φ(k) (1, v) over all visible keys, in a scale of each row. A background that scores every key
//! anyway knows the heavy ones from the same scan, and adds them to the tile's selection ([`Summary::extends`]).

use crate::kernel::{PANEL, gather_rows};
use crate::{HeadMask, Level, Matrix, Result};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// Queries in a tile. Keys of a background are blocked by the same number, so that the diagonal of a causal
/// tile is one block.
pub const TILE_ROWS: usize = 64;

/// Whether a row can depend on later tokens, under a causal mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Causality {
    /// No output row changes, to the bit, when later tokens change.
    Strict,
    /// Values and weights are causal, but the choice of pairs saw the whole sequence.
    SelectionSeesFuture,
}

impl Causality {
    /// The weaker of the two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == Causality::Strict { other } else { self }
    }
}

/// The keys of a block that are taken at once, counted from its first: the sums of a row are those of such chunks. A
/// block whose keys depend on several rows stays within one, or those rows show in the last bits of each other.
///
/// So many rows of key and value fit in the first two caches, and it is a multiple of what the micro-kernels take.
pub const CHUNK: usize = 192;

/// What one head shows to a support.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `[n, d]`.
    pub query: Matrix<'a>,
    /// `[m, d]`.
    pub key: Matrix<'a>,
    /// The softmax scale: a logit is `scale * q·k`.
    pub scale: f32,
    /// Which pairs are visible.
    pub mask: &'a HeadMask<'a>,
    /// SIMD level to compute at.
    pub level: Level,
}

/// What one key/value head shows to a background; shared by the query heads of its group.
#[derive(Debug, Clone, Copy)]
pub struct KeyHead<'a> {
    /// `[m, d]`.
    pub key: Matrix<'a>,
    /// `[m, d_v]`.
    pub value: Matrix<'a>,
    /// The softmax scale.
    pub scale: f32,
    /// The mask without its boolean part.
    pub mask: HeadMask<'a>,
    /// Whether some head of the group has a boolean mask (totals are then summed pair by pair).
    pub boolean: bool,
    /// Whether there is a support, so that [`TileBackground`] is asked for weights of single pairs. Else it is asked for
    /// totals and for sums off an empty support alone, and need keep nothing a key.
    pub pairs: bool,
    /// SIMD level to compute at.
    pub level: Level,
}

/// Some queries of one head.
#[derive(Debug, Clone, Copy)]
pub struct Tile<'a> {
    /// Indices of the queries, at least 1 and at most [`TILE_ROWS`], in any order.
    pub rows: &'a [u32],
    /// Those queries, one below the other: `[rows.len(), d]`.
    pub query: Matrix<'a>,
    /// The mask of the head.
    pub mask: &'a HeadMask<'a>,
}

impl<'a> Tile<'a> {
    /// The tile of the listed rows of `query` (all queries of a head); `memory` takes them where they are not
    /// neighbours.
    ///
    /// # Panics
    /// If no row is listed, or one that is not there.
    pub fn new(
        level: Level,
        rows: &'a [u32],
        query: Matrix<'a>,
        mask: &'a HeadMask<'a>,
        memory: &'a mut Vec<f32>,
    ) -> Self {
        let first = rows[0] as usize;
        if rows.windows(2).all(|w| w[0] + 1 == w[1]) {
            return Tile { rows, query: query.slice(first..first + rows.len()), mask };
        }
        memory.resize(rows.len() * query.cols(), 0.0);
        gather_rows(level, query, rows, memory);
        Tile { rows, query: Matrix::new("query", memory, rows.len(), query.cols()).expect("a tile has rows"), mask }
    }
}

impl Tile<'_> {
    /// The keys from the first to the last that some of the rows at these places see, but for boolean masks.
    ///
    /// # Panics
    /// If the tile has not so many rows.
    pub fn hull(&self, rows: Range<usize>) -> Range<usize> {
        let ranges = || self.rows[rows.clone()].iter().map(|&i| self.mask.range(i as usize));
        let start = ranges().map(|r| r.start).min().unwrap_or(0);
        start..ranges().map(|r| r.end).max().unwrap_or(0).max(start)
    }
}

/// Which keys a block of a selection covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// Consecutive keys.
    Range(Range<usize>),
    /// Listed keys, ascending or not, none twice.
    List(Vec<u32>),
}

/// Some rows of the tile against some keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Rows of the tile (positions in `Tile::rows`).
    pub rows: Range<usize>,
    /// Their keys.
    pub keys: Keys,
    /// Where given, row `r` of the block takes only keys inside `clip[r]`.
    pub clip: Option<Vec<Range<usize>>>,
    /// Where given, a key goes only with the rows whose bits are set: bit `r` of `only[k]` stands for row `r` of the
    /// block and the key at position `k`.
    pub only: Option<Vec<u64>>,
    /// Pairs that stand elsewhere in the support.
    pub except: Vec<Except>,
}

// A bit a row.
const _: () = assert!(TILE_ROWS <= u64::BITS as usize);

impl Block {
    /// All rows against all keys.
    pub fn new(rows: Range<usize>, keys: Keys) -> Self {
        Self { rows, keys, clip: None, only: None, except: Vec::new() }
    }

    /// Whether row `row` of the block takes the key at position `at` here, masks not applied.
    pub fn takes(&self, row: usize, at: usize) -> bool {
        let chosen = self.only.as_ref().is_none_or(|only| only[at] >> row & 1 == 1);
        let inside = self.clip.as_ref().is_none_or(|clip| clip[row].contains(&self.keys.get(at)));
        chosen && inside && !self.except.iter().any(|e| e.rows[row] == e.keys[at])
    }
}

/// Pairs left out of a block: row `r` and the key at position `k` where `rows[r] == keys[k]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Except {
    /// A code for each row of the block.
    pub rows: Vec<u32>,
    /// A code for each of its keys.
    pub keys: Vec<u32>,
}

/// The support of one tile: blocks shared by several rows, and lists of single rows.
///
/// No pair may occur twice. Pairs that the mask hides may occur: the combiner drops them.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Dense blocks.
    pub blocks: Vec<Block>,
    /// Per row of the tile, further keys; rows behind the last list have none, lists behind the last row are dropped.
    pub lists: Vec<Vec<u32>>,
}

impl Selection {
    /// Empties it for the next tile of `rows` rows, keeping memory.
    pub fn reset(&mut self, rows: usize) {
        self.blocks.clear();
        self.lists.iter_mut().for_each(Vec::clear);
        self.lists.resize_with(rows, Vec::new);
    }

    /// Whether no row has a key.
    pub fn is_empty(&self) -> bool {
        self.blocks.iter().all(|b| b.keys.is_empty()) && self.lists.iter().all(Vec::is_empty)
    }

    /// All keys of a row, ascending, masks not applied.
    pub fn row(&self, row: usize) -> Vec<u32> {
        let mut keys = self.lists.get(row).cloned().unwrap_or_default();
        for block in self.blocks.iter().filter(|b| b.rows.contains(&row)) {
            let row = row - block.rows.start;
            let taken = (0..block.keys.len()).filter(|&at| block.takes(row, at));
            keys.extend(taken.map(|at| block.keys.get(at) as u32));
        }
        keys.sort_unstable();
        keys
    }
}

/// A rule that says which pairs are exact. Sampled hashes live inside it; it is reused over calls.
pub trait Support: Send + Sync + Debug {
    /// Looks at one head.
    ///
    /// # Errors
    /// Where the head's shape does not fit the rule.
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>>;

    /// [`Support::prepare`] beside a background that has seen the same keys: a support that needs what the background has
    /// made of them, as its clusters ([`Summary::clusters`]), takes it from there.
    ///
    /// # Errors
    /// As [`Support::prepare`].
    fn prepare_beside<'a>(&'a self, head: &Head<'a>, _background: &dyn Summary) -> Result<Box<dyn Select + 'a>> {
        self.prepare(head)
    }

    /// Whether the choice can depend on later tokens.
    fn causality(&self) -> Causality;

    /// Whether it looks at every visible pair in low precision, which has no units.
    fn scans(&self) -> bool {
        false
    }
}

/// A support that has seen its head.
pub trait Select: Send + Sync {
    /// In how many passes over the queries the pairs are best visited, each in an order of its own; at least 1.
    /// No pair may be in two of them. Passes apply where every row sees the same keys, where the support declares
    /// [`Causality::SelectionSeesFuture`], or with [`Select::any_order`]: elsewhere the queries are taken once, as they
    /// come, and [`Select::select`] gives all their keys.
    ///
    /// With more than one pass, a row's keys must not depend on the other rows of its tile.
    fn passes(&self) -> usize {
        1
    }

    /// An order of the queries in which neighbours share keys of a pass; tiles are cut from it. `None`: as they come.
    fn order(&self, _pass: usize) -> Option<&[u32]> {
        None
    }

    /// Whether [`Select::order`] may be followed under masks too, though the choice is strictly causal, where there is no
    /// background or one by rows ([`Summary::by_row`]): a row's blocks are its own, none longer than [`CHUNK`], and come in
    /// an order of its own, so that which rows share its tile does not show in its bits.
    fn any_order(&self) -> bool {
        false
    }

    /// Whether a row's choice reads every key that the row sees, so that a key which is not finite spoils it.
    fn reads_all_keys(&self) -> bool {
        false
    }

    /// Writes the keys of the tile's rows into an empty selection.
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection);

    /// [`Select::select`] for the pairs of one pass.
    fn select_pass(&self, _pass: usize, tile: &Tile<'_>, selection: &mut Selection) {
        self.select(tile, selection);
    }
}

/// What stands for the pairs off the support.
pub trait Background: Send + Sync + Debug {
    /// Sums up one key/value head.
    ///
    /// # Errors
    /// Where the head's shape does not fit.
    fn prepare<'a>(&'a self, keys: &KeyHead<'a>) -> Result<Box<dyn Summary + 'a>>;

    /// [`Background::prepare`] beside backgrounds that have seen the same keys and values: what they share
    /// ([`Summary::share`]) need not be made again. The result is the same to the bit.
    ///
    /// # Errors
    /// As [`Background::prepare`].
    fn prepare_sharing<'a>(&'a self, keys: &KeyHead<'a>, _shared: &[Shared]) -> Result<Box<dyn Summary + 'a>> {
        self.prepare(keys)
    }

    /// Whether weights can depend on later tokens.
    fn causality(&self) -> Causality;

    /// Units a query pays for it (a random feature or a centroid costs 2).
    fn units(&self) -> usize;
}

/// What a summary has made that others can use, of a type that the makers know.
pub type Shared = Arc<dyn Any + Send + Sync>;

/// A background that has seen its keys and values.
pub trait Summary: Send + Sync {
    /// The background of a tile: features of its queries and sums over all visible keys. `selection` is the support's, with a
    /// list for every row, and concerns those alone that extend it or whose weights follow it.
    fn tile<'a>(&'a self, tile: &Tile<'a>, selection: &mut Selection) -> Box<dyn TileBackground + 'a>;

    /// Whether [`Summary::tile`] adds keys to the selection. It then sums over the pairs off the extended selection, so
    /// that its weights on those are 0, and every query is taken once, with the whole of its support.
    fn extends(&self) -> bool {
        false
    }

    /// What other backgrounds of its kind can be prepared from ([`Background::prepare_sharing`]).
    fn share(&self) -> Option<Shared> {
        None
    }

    /// The clusters of keys that it stands on, where it has any.
    fn clusters(&self) -> Option<KeyClusters<'_>> {
        None
    }

    /// Whether a tile of any queries, in any order, has right entries where rows see different keys. Totals are asked
    /// of neighbours even then.
    fn any_order(&self) -> bool {
        false
    }

    /// Whether what it gives of a row, totals too, is the same to the bit whichever rows share its tile. Every query is then
    /// taken once with the whole of its support, which weights may follow, in the order that the support wants
    /// ([`Select::any_order`]).
    fn by_row(&self) -> bool {
        false
    }

    /// How many numbers a query may leave for later passes over it ([`Select::passes`]); 0: none.
    fn memory(&self) -> usize {
        0
    }

    /// [`Summary::tile`] in a later pass, from what [`TileBackground::remember`] wrote of the tile's rows,
    /// `[rows][memory()]`.
    fn recall<'a>(&'a self, tile: &Tile<'a>, _memory: &[f32]) -> Box<dyn TileBackground + 'a> {
        let mut selection = Selection::default();
        selection.reset(tile.rows.len());
        self.tile(tile, &mut selection)
    }
}

/// Clusters of the valid keys of a head.
#[derive(Debug, Clone)]
pub struct KeyClusters<'a> {
    /// The cluster of each key, numbered from 0, none empty.
    pub cluster: Vec<u32>,
    /// Mean keys, `[clusters, d]`.
    pub means: &'a [f32],
}

/// The background of one query tile.
///
/// Row `r` has a log-scale `s_r`; every figure of it is to be multiplied by `exp(s_r)`.
pub trait TileBackground {
    /// Writes what later passes need of the tile's rows, `[rows][memory()]` numbers ([`Summary::memory`]).
    fn remember(&self, _out: &mut [f32]) {}

    /// Log-scale of a row; −∞ where it sees nothing.
    fn log_scale(&self, row: usize) -> f32;

    /// Sums over the keys that rows `panel*PANEL..` see: of weight times value into `numerator` `[d_v][PANEL]`, of the
    /// weight into `denominator`. Both are overwritten; lanes without a row are 0. A denominator that is not finite or
    /// not positive says that the sum was lost to rounding or range: the combiner then asks
    /// [`TileBackground::off_support`].
    fn totals(&mut self, panel: usize, numerator: &mut [f32], denominator: &mut [f32; PANEL]);

    /// A bound on Σ |terms| of a row's `denominator`, in the row's scale: what its rounding is relative to. Only
    /// weights that change sign, or are differences themselves, need more than the default.
    fn magnitude(&self, _row: usize, denominator: f32) -> f32 {
        denominator.abs()
    }

    /// Pairs of a row that were looked at in low precision.
    fn scanned(&self, _row: usize) -> usize {
        0
    }

    /// Background weights of rows `panel*PANEL..` on keys, `out[key][PANEL]`, in the rows' scales.
    fn entries_panel(&mut self, panel: usize, keys: &Keys, out: &mut [f32]);

    /// Background weights of one row on listed keys, in the row's scale.
    fn entries_row(&mut self, row: usize, keys: &[u32], out: &mut [f32]);

    /// The background of one row summed directly, without subtraction, over visible keys not in `skip`
    /// (ascending): writes the numerator and returns (log-scale, denominator, bound on Σ |terms|).
    /// O(m · features); the way out where the totals lost their digits.
    fn off_support(&mut self, row: usize, skip: &[u32], numerator: &mut [f32]) -> (f32, f32, f32);
}
