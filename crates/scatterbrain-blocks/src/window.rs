//! The sliding window: keys near the query's position, and the first keys of all (sinks).

use scatterbrain_core::kernel::PANEL;
use scatterbrain_core::tile::{Block, Causality, Head, Keys, Select, Selection, Support, Tile};
use scatterbrain_core::{Error, Result, Window, WindowAlign};
use serde::{Deserialize, Serialize};

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
    pub fn with_sinks(mut self, sinks: usize) -> Self {
        self.sinks = sinks;
        self
    }
}

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
            let clip: Vec<_> = rows.iter().map(|&i| self.window.range(i as usize, n, length)).collect();
            let start = clip.iter().map(|r| r.start).min().unwrap_or(0);
            let end = clip.iter().map(|r| r.end).max().unwrap_or(0);
            let first = panel * PANEL;
            let panel = first..first + rows.len();
            // Sinks inside a row's window stand there.
            let sinks = self.sinks.min(length);
            let before = clip.iter().map(|r| 0..if r.is_empty() { sinks } else { sinks.min(r.start) });
            let before: Vec<_> = before.collect();
            let most = before.iter().map(|r| r.end).max().unwrap_or(0);
            if most > 0 {
                let block = Block::new(panel.clone(), Keys::Range(0..most));
                selection.blocks.push(Block { clip: Some(before), ..block });
            }
            let block = Block::new(panel, Keys::Range(start..end.max(start)));
            selection.blocks.push(Block { clip: Some(clip), ..block });
        }
    }
}
