//! The keys with the largest scores of each row, whatever makes the scores.

use scatterbrain_core::kernel::{self, HIDDEN, PANEL, WORD};
use scatterbrain_core::tile::{Block, Keys, Select, Selection, Tile};
use scatterbrain_core::{Error, HeadMask, Level, Result};
use std::ops::{Range, RangeInclusive};

/// As long as a tile's keys are at most so many times the budget, a dense block with single pairs chosen is quicker
/// than lists: a pair costs a fourth in it.
const DENSE: usize = 4;

/// What a selection orders keys by.
pub trait Score: Send + Sync {
    /// Scores of the rows `rows` of the tile (at most [`PANEL`]) with consecutive keys, hidden ones too:
    /// `out[key][PANEL]`. A score must not depend on other rows or other keys.
    fn score(&self, tile: &Tile<'_>, rows: Range<usize>, keys: &Range<usize>, out: &mut [f32]);
}

/// Of the keys that a row sees, those with the largest scores, among equals the earlier: as many as lie in `budget`, or
/// all where there are fewer.
///
/// Every visible key is scored, then some ten passes over the scores find each row's threshold ([`kernel::select`]).
/// Strictly causal, as scores are of single pairs.
#[derive(Debug, Clone)]
pub struct Largest<S> {
    score: S,
    budget: RangeInclusive<u32>,
    level: Level,
}

impl<S: Score> Largest<S> {
    /// By `score`, so many keys a row.
    ///
    /// # Errors
    /// An empty budget, one of 0 keys, or of more keys than the head has.
    pub fn new(score: S, budget: RangeInclusive<usize>, mask: &HeadMask<'_>, level: Level) -> Result<Self> {
        if budget.is_empty() || *budget.end() == 0 || *budget.end() > mask.m() {
            return Err(Error::invalid("budget", format!("1 to {} keys", mask.m()), budget.end()));
        }
        // More than u32::MAX keys cannot be listed.
        let clamp = |keys: &usize| (*keys).try_into().unwrap_or(u32::MAX);
        Ok(Self { score, budget: clamp(budget.start())..=clamp(budget.end()), level })
    }
}

impl<S: Score> Select for Largest<S> {
    fn reads_all_keys(&self) -> bool {
        true
    }

    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        let budget = *self.budget.end() as usize;
        let (mut scores, mut chosen) = (Vec::new(), Vec::new());
        let all = seen_by_any(tile, tile.rows);
        let mut only = (all.len() <= DENSE * budget).then(|| vec![0u64; all.len()]);
        for (first, rows) in (0..).step_by(PANEL).zip(tile.rows.chunks(PANEL)) {
            let keys = seen_by_any(tile, rows);
            scores.resize(keys.len() * PANEL, 0.0);
            self.score.score(tile, first..first + rows.len(), &keys, &mut scores);
            hide(tile, rows, &keys, &mut scores);
            chosen.resize(keys.len().div_ceil(WORD) * PANEL, 0);
            kernel::select(self.level, &mut scores, self.budget.clone(), &mut chosen);
            for lane in 0..rows.len() {
                let row = first + lane;
                match &mut only {
                    Some(only) => {
                        for_chosen(&chosen, lane, |at| only[keys.start - all.start + at] |= 1 << row);
                    }
                    None => {
                        selection.lists[row].reserve(budget);
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
