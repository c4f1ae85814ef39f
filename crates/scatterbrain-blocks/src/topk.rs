//! Exact top-k: the heaviest visible keys of each row, found by scoring all of them.

use scatterbrain_core::kernel::{self, HIDDEN, PANEL, WORD};
use scatterbrain_core::tile::{Block, Causality, Head, Keys, Select, Selection, Support, Tile};
use scatterbrain_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// As long as a tile's keys are at most so many times the budget, a dense block with single pairs chosen is quicker
/// than lists: a pair costs a fourth in it.
const DENSE: usize = 4;

/// The `budget` visible keys with the largest logits; among equals the earlier key.
///
/// The oracle of supports: it costs the O(n·m·d) of exact scores, and some ten to twenty passes over them to find each
/// row's threshold. Strictly causal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopK {
    budget: usize,
}

impl TopK {
    /// Keeps `budget` keys a row.
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

impl Support for TopK {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        if self.budget == 0 || self.budget > head.mask.m() {
            return Err(Error::invalid("budget", format!("1 to {} keys", head.mask.m()), self.budget));
        }
        Ok(Box::new(Prepared { budget: self.budget, head: *head }))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

struct Prepared<'a> {
    budget: usize,
    head: Head<'a>,
}

impl Select for Prepared<'_> {
    fn reads_all_keys(&self) -> bool {
        true
    }

    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        let Head { key, query, scale, level, .. } = self.head;
        let mut panel = vec![0.0; key.cols() * PANEL];
        let (mut scores, mut chosen) = (Vec::new(), Vec::new());
        let all = seen_by_any(tile, tile.rows);
        let mut only = (all.len() <= DENSE * self.budget).then(|| vec![0u64; all.len()]);
        for (first, rows) in (0..).step_by(PANEL).zip(tile.rows.chunks(PANEL)) {
            let keys = seen_by_any(tile, rows);
            kernel::pack(level, query, rows, scale, &mut panel);
            scores.resize(keys.len() * PANEL, 0.0);
            kernel::product(level, &panel, key, &Keys::Range(keys.clone()), &mut scores);
            hide(tile, rows, &keys, &mut scores);
            chosen.resize(keys.len().div_ceil(WORD) * PANEL, 0);
            // More than u32::MAX keys cannot be listed.
            kernel::select(level, &mut scores, self.budget.try_into().unwrap_or(u32::MAX), &mut chosen);
            for lane in 0..rows.len() {
                let row = first + lane;
                match &mut only {
                    Some(only) => {
                        for_chosen(&chosen, lane, |at| only[keys.start - all.start + at] |= 1 << row);
                    }
                    None => {
                        selection.lists[row].reserve(self.budget);
                        for_chosen(&chosen, lane, |at| selection.lists[row].push((keys.start + at) as u32));
                    }
                }
            }
        }
        if only.is_some() {
            selection.blocks.push(Block { only, ..Block::new(0..tile.rows.len(), Keys::Range(all)) });
        }
    }
}

/// The keys from the first to the last that some of the rows see, but for boolean masks.
fn seen_by_any(tile: &Tile<'_>, rows: &[u32]) -> Range<usize> {
    let ranges = || rows.iter().map(|&i| tile.mask.range(i as usize));
    let start = ranges().map(|r| r.start).min().unwrap_or(0);
    start..ranges().map(|r| r.end).max().unwrap_or(0).max(start)
}

/// Takes out what single rows do not see of `keys`: a few scores at the ends for ranges, any under a boolean mask.
fn hide(tile: &Tile<'_>, rows: &[u32], keys: &Range<usize>, scores: &mut [f32]) {
    for (lane, &i) in rows.iter().enumerate() {
        let range = tile.mask.range(i as usize);
        for j in (keys.start..range.start.min(keys.end)).chain(range.end.max(keys.start)..keys.end) {
            scores[(j - keys.start) * PANEL + lane] = HIDDEN;
        }
        if let Some(allowed) = tile.mask.allowed_row(i as usize) {
            for j in range.filter(|&j| allowed[j] == 0) {
                scores[(j - keys.start) * PANEL + lane] = HIDDEN;
            }
        }
    }
}

/// The positions of the keys whose bits are set for a lane.
fn for_chosen(chosen: &[u32], lane: usize, mut take: impl FnMut(usize)) {
    for (word, lanes) in chosen.chunks_exact(PANEL).enumerate() {
        let mut bits = lanes[lane];
        while bits != 0 {
            take(word * WORD + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    }
}
