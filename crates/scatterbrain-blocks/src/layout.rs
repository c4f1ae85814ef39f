//! Fixed block-sparse layouts: Sparse Transformer's "fixed", BigBird, Longformer.
//!
//! A layout is decoded by
//!
//! ```text
//! for block_row, columns in rows:                          # ⌈n / shape.queries⌉ block rows
//!     for column in columns:                               # of ⌈m / shape.keys⌉ block columns
//!         exact[block_row·bq .. min(n, …+bq), column·bk .. min(m, …+bk)] = true
//! ```
//!
//! The last block of an axis may be ragged. The diagonal of a block row is the block column in which the
//! position (i + L − n, clamped at 0) of its last query lies.

use scatterbrain_core::tile::{Block, Causality, Head, Keys, Select, Selection, Support, Tile};
use scatterbrain_core::{Error, HeadMask, Result, Seed};
use serde::{Deserialize, Serialize};

/// Size of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockShape {
    /// Queries in a block.
    pub queries: usize,
    /// Keys in a block.
    pub keys: usize,
}

/// A rule that makes a layout for any n and m. Counts are in blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// "Fixed" (Child et al. 2019, §4.3): each stride of `stride` block columns sees itself, and everybody
    /// sees the last `summary` columns of every earlier and own stride.
    Fixed {
        /// Size of a block.
        shape: BlockShape,
        /// Block columns in a stride.
        stride: usize,
        /// Summary columns at the end of each stride.
        summary: usize,
    },
    /// BigBird (Zaheer et al. 2020, §2): `window` columns on each side of the diagonal, the first `global`
    /// columns for all (and all columns for the first `global` rows), and `random` columns a row.
    BigBird {
        /// Size of a block.
        shape: BlockShape,
        /// Columns on each side of the diagonal.
        window: usize,
        /// Global columns and rows.
        global: usize,
        /// Random columns a row.
        random: usize,
        /// Seed of the random columns.
        seed: Seed,
    },
    /// Longformer (Beltagy et al. 2020, §3.1): window and global tokens, no random ones.
    Longformer {
        /// Size of a block.
        shape: BlockShape,
        /// Columns on each side of the diagonal.
        window: usize,
        /// Global columns and rows.
        global: usize,
    },
}

impl Layout {
    /// The size of a block.
    pub fn shape(&self) -> BlockShape {
        match self {
            Layout::Fixed { shape, .. } | Layout::BigBird { shape, .. } | Layout::Longformer { shape, .. } => *shape,
        }
    }

    /// The layout of one head.
    ///
    /// # Errors
    /// A block size, stride or summary of 0, or a summary longer than its stride.
    pub fn build(&self, mask: &HeadMask<'_>) -> Result<BlockLayout> {
        let shape = self.shape();
        if shape.queries == 0 || shape.keys == 0 {
            return Err(Error::invalid("shape", "blocks of at least 1 x 1", format!("{shape:?}")));
        }
        if let Layout::Fixed { stride, summary, .. } = self
            && (*summary == 0 || summary > stride)
        {
            return Err(Error::invalid("summary", format!("1 to the stride {stride}"), summary));
        }
        let columns = mask.m().div_ceil(shape.keys);
        let rows = (0..mask.n().div_ceil(shape.queries))
            .map(|row| {
                let last = (row + 1).saturating_mul(shape.queries).min(mask.n()) - 1;
                let diagonal = (mask.position(last).max(0) as usize / shape.keys).min(columns - 1);
                let mut listed = self.row(row, diagonal, columns);
                listed.sort_unstable();
                listed.dedup();
                listed
            })
            .collect();
        Ok(BlockLayout { shape, n: mask.n(), m: mask.m(), rows })
    }

    fn row(&self, row: usize, diagonal: usize, columns: usize) -> Vec<u32> {
        let near = |window: usize| {
            (diagonal.saturating_sub(window)..=diagonal.saturating_add(window).min(columns - 1)).map(|c| c as u32)
        };
        let global = |global: usize| 0..if row < global { columns } else { global.min(columns) } as u32;
        match self {
            Layout::Fixed { stride, summary, .. } => (0..columns)
                .filter(|c| c / stride == diagonal / stride || (c % stride >= stride - summary && *c <= diagonal))
                .map(|c| c as u32)
                .collect(),
            Layout::Longformer { window, global: g, .. } => near(*window).chain(global(*g)).collect(),
            Layout::BigBird { window, global: g, random, seed, .. } => {
                let mut rng = seed.stream(row as u64);
                let drawn: Vec<u32> = (0..(*random).min(columns)).map(|_| rng.below(columns as u64) as u32).collect();
                near(*window).chain(global(*g)).chain(drawn).collect()
            }
        }
    }
}

impl Support for Layout {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        Ok(Box::new(self.build(head.mask)?))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

/// A layout for given n and m: listed block columns of each block row, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockLayout {
    shape: BlockShape,
    n: usize,
    m: usize,
    rows: Vec<Vec<u32>>,
}

impl BlockLayout {
    /// A layout of one's own. `rows[r]` lists the block columns of block row r, ascending.
    ///
    /// # Errors
    /// A wrong number of block rows, or columns that are out of range or not ascending.
    pub fn new(shape: BlockShape, n: usize, m: usize, rows: Vec<Vec<u32>>) -> Result<Self> {
        if shape.queries == 0 || shape.keys == 0 {
            return Err(Error::invalid("shape", "blocks of at least 1 x 1", format!("{shape:?}")));
        }
        let (block_rows, columns) = (n.div_ceil(shape.queries), m.div_ceil(shape.keys));
        if rows.len() != block_rows {
            return Err(Error::invalid("rows", format!("{block_rows} block rows"), rows.len()));
        }
        let bad = |r: &&Vec<u32>| r.iter().any(|&c| c as usize >= columns) || r.windows(2).any(|w| w[0] >= w[1]);
        if let Some(r) = rows.iter().find(bad) {
            return Err(Error::invalid("rows", format!("ascending block columns below {columns}"), format!("{r:?}")));
        }
        Ok(Self { shape, n, m, rows })
    }

    /// Block columns of each block row.
    pub fn rows(&self) -> &[Vec<u32>] {
        &self.rows
    }
}

impl Support for BlockLayout {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        if (head.mask.n(), head.mask.m()) != (self.n, self.m) {
            return Err(Error::invalid(
                "layout",
                format!("a layout of {} x {}", head.mask.n(), head.mask.m()),
                format!("{} x {}", self.n, self.m),
            ));
        }
        // A layout that was read from a file has not been through `new`.
        Ok(Box::new(Self::new(self.shape, self.n, self.m, self.rows.clone())?))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

impl Select for BlockLayout {
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        let block_row = |i: &u32| *i as usize / self.shape.queries;
        let mut start = 0;
        for group in tile.rows.chunk_by(|a, b| block_row(a) == block_row(b)) {
            let rows = start..start + group.len();
            start = rows.end;
            // Neighbouring columns join into one range.
            for run in self.rows[block_row(&group[0])].chunk_by(|a, b| a + 1 == *b) {
                let end = (run[run.len() - 1] as usize + 1).saturating_mul(self.shape.keys).min(self.m);
                let keys = run[0] as usize * self.shape.keys..end;
                selection.blocks.push(Block::new(rows.clone(), Keys::Range(keys)));
            }
        }
    }
}
