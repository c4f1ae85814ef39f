//! The sliding window: keys near the query's position, and the first keys of all (sinks).

use scatterbrain_core::kernel::PANEL;
use scatterbrain_core::tile::{Block, Causality, Head, Keys, Select, Selection, Support, Tile};
use scatterbrain_core::{Error, Result, Window, WindowAlign};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Keys from `left` before a query's position to `right` after it are exact, and the first `sinks` keys.
///
/// Decoders park attention on the first tokens, whatever they are (Xiao et al. 2024, StreamingLLM): a window alone
/// loses that mass.
///
/// Positions are those of the mask: query i stands at key i + L − n ([`WindowAlign::End`]).
/// Strictly causal under a causal mask. Cost O(1) a row.
///
/// ```
/// use scatterbrain_blocks::WindowSupport;
/// let local = WindowSupport::around(5)?; // two before, itself, two after
/// assert_eq!((local.window.left, local.window.right), (2, 2));
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSupport {
    /// The interval around the position.
    pub window: Window,
    /// How many of the first keys are exact as well.
    #[serde(default)]
    pub sinks: usize,
}

impl WindowSupport {
    /// `budget` keys around the position, [−⌊b/2⌋, ⌈b/2⌉) as in the authors' code.
    ///
    /// # Errors
    /// A budget of 0.
    pub fn around(budget: usize) -> Result<Self> {
        check(budget)?;
        let (left, right) = (budget / 2, budget.div_ceil(2) - 1);
        Ok(Self { window: Window { left, right, align: WindowAlign::End }, sinks: 0 })
    }

    /// The `budget` last keys up to the position: what a causal row can use.
    ///
    /// # Errors
    /// A budget of 0.
    pub fn last(budget: usize) -> Result<Self> {
        check(budget)?;
        Ok(Self { window: Window { left: budget - 1, right: 0, align: WindowAlign::End }, sinks: 0 })
    }

    /// The same window placed by another rule.
    #[must_use]
    pub fn align(mut self, align: WindowAlign) -> Self {
        self.window.align = align;
        self
    }

    /// The same window, and the first `sinks` keys.
    ///
    /// ```
    /// use scatterbrain_blocks::WindowSupport;
    /// let near = WindowSupport::last(60)?.with_sinks(4); // 64 keys a row
    /// # Ok::<(), scatterbrain_core::Error>(())
    /// ```
    #[must_use]
    pub fn with_sinks(mut self, sinks: usize) -> Self {
        self.sinks = sinks;
        self
    }
}

impl WindowSupport {
    /// The sinks before a query's window, and the window, with the sinks in it where they touch it.
    fn parts(&self, query_idx: usize, n: usize, length: usize) -> (Range<usize>, Range<usize>) {
        let (window, sinks) = (self.window.range(query_idx, n, length), self.sinks.min(length));
        if sinks == 0 {
            (0..0, window)
        } else if window.is_empty() {
            (0..0, 0..sinks)
        } else if window.start <= sinks {
            (0..0, 0..window.end.max(sinks))
        } else {
            (0..sinks, window)
        }
    }
}

/// Rows whose windows together span so many times the keys of one each are taken one by one: a pair of a list costs less
/// than twice one of a block.
const APART: usize = 2;

fn check(budget: usize) -> Result<()> {
    if budget == 0 { Err(Error::invalid("budget", "at least 1 key", 0)) } else { Ok(()) }
}

impl Support for WindowSupport {
    fn prepare<'a>(&'a self, _: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        Ok(Box::new(*self))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

impl Select for WindowSupport {
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        let (n, length) = (tile.mask.n(), tile.mask.length());
        for (panel, rows) in tile.rows.chunks(PANEL).enumerate() {
            let parts = rows.iter().map(|&i| self.parts(i as usize, n, length));
            let (before, clip): (Vec<_>, Vec<_>) = parts.unzip();
            let start = clip.iter().map(|r| r.start).min().unwrap_or(0);
            let end = clip.iter().map(|r| r.end).max().unwrap_or(0);
            let own = clip.iter().map(Range::len).sum::<usize>();
            if (end.max(start) - start) * rows.len() > APART * own {
                for (row, keys) in (panel * PANEL..).zip(before.into_iter().zip(clip)) {
                    selection.lists[row].extend(keys.0.chain(keys.1).map(|key| key as u32));
                }
                continue;
            }
            let first = panel * PANEL;
            let panel = first..first + rows.len();
            let sinks = before.iter().map(|r| r.end).max().unwrap_or(0);
            if sinks > 0 {
                let block = Block::new(panel.clone(), Keys::Range(0..sinks));
                selection.blocks.push(Block { clip: Some(before), ..block });
            }
            let block = Block::new(panel, Keys::Range(start..end.max(start)));
            selection.blocks.push(Block { clip: Some(clip), ..block });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scatterbrain_core::{Level, Mask, Matrix};

    #[test]
    fn rows_far_apart_have_the_keys_that_each_has_alone() {
        let (n, d) = (400, 1);
        let query = vec![0.0; n * d];
        let query = Matrix::new("query", &query, n, d).unwrap();
        let mask = Mask::causal();
        let mask = mask.head(0, 0, n, n);
        let window = WindowSupport::around(21).unwrap().with_sinks(3);
        let select = |rows: &[u32]| {
            let (mut memory, mut selection) = (Vec::new(), Selection::default());
            selection.reset(rows.len());
            window.select(&Tile::new(Level::detect(), rows, query, &mask, &mut memory), &mut selection);
            selection
        };
        // One panel far apart, one of neighbours.
        let rows: Vec<u32> = (0..16).map(|r| r * 23).chain(200..216).collect();
        let selection = select(&rows);
        assert!(selection.lists[..16].iter().all(|list| !list.is_empty()));
        assert!(selection.lists[16..].iter().all(Vec::is_empty) && selection.blocks.len() == 2);
        for (at, &row) in rows.iter().enumerate() {
            assert_eq!(selection.row(at), select(&[row]).row(0), "row {row}");
        }
    }
}
