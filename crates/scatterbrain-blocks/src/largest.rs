//! The keys with the largest scores of each row, whatever makes the scores.

use scatterbrain_core::kernel::{self, HIDDEN, PANEL, WORD};
use scatterbrain_core::tile::{Block, CHUNK, Keys, Select, Selection, Tile};
use scatterbrain_core::{Error, HeadMask, Level, Result};
use std::ops::{Range, RangeInclusive};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// As long as a tile's keys are at most so many times the budget, they make one dense block with single pairs chosen;
/// beyond, each panel has blocks of the keys that some of its rows take.
const DENSE: usize = 2;

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
#[derive(Debug)]
pub struct Largest<S> {
    score: S,
    budget: RangeInclusive<u32>,
    level: Level,
    /// Memory for the scores of a panel that no tile uses now: it is large enough to be mapped anew at each call.
    free: Mutex<Vec<Vec<f32>>>,
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
        Ok(Self { score, budget: clamp(budget.start())..=clamp(budget.end()), level, free: Mutex::default() })
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<f32>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Score> Select for Largest<S> {
    fn reads_all_keys(&self) -> bool {
        true
    }

    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        let budget = *self.budget.end() as usize;
        let (mut scores, mut chosen) = (self.free().pop().unwrap_or_default(), Vec::new());
        let all = tile.hull(0..tile.rows.len());
        let mut only = (all.len() <= DENSE * budget).then(|| vec![0u64; all.len()]);
        for (first, rows) in (0..).step_by(PANEL).zip(tile.rows.chunks(PANEL)) {
            let keys = tile.hull(first..first + rows.len());
            scores.resize(scores.len().max(keys.len() * PANEL), 0.0);
            let scores = &mut scores[..keys.len() * PANEL];
            self.score.score(tile, first..first + rows.len(), &keys, scores);
            hide(tile, rows, &keys, scores);
            chosen.resize(keys.len().div_ceil(WORD) * PANEL, 0);
            kernel::select(self.level, scores, self.budget.clone(), &mut chosen);
            match &mut only {
                Some(only) => kernel::for_chosen(&chosen, |at, lanes| {
                    only[keys.start - all.start + at] |= u64::from(lanes) << first;
                }),
                None => push_blocks(tile, first..first + rows.len(), &keys, &chosen, selection),
            }
        }
        self.free().push(scores);
        if only.is_some() {
            selection.blocks.push(Block { only, ..Block::new(0..tile.rows.len(), Keys::Range(all)) });
        }
    }
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

/// The keys that any row of a panel takes, as blocks.
fn push_blocks(tile: &Tile<'_>, rows: Range<usize>, keys: &Range<usize>, chosen: &[u32], selection: &mut Selection) {
    // Under a causal mask, one block for each so many positions: what later rows of the panel add to its keys then does
    // not show in the bits of a row.
    let segment = |key: usize| if tile.mask.is_causal() { key / CHUNK } else { 0 };
    let (mut list, mut only) = (Vec::new(), Vec::new());
    let mut current = 0;
    let mut push = |list: Vec<u32>, only: Vec<u64>| {
        if !list.is_empty() {
            selection.blocks.push(Block { only: Some(only), ..Block::new(rows.clone(), Keys::List(list)) });
        }
    };
    kernel::for_chosen(chosen, |at, lanes| {
        let key = keys.start + at;
        if segment(key) != current {
            current = segment(key);
            push(std::mem::take(&mut list), std::mem::take(&mut only));
        }
        list.push(key as u32);
        only.push(u64::from(lanes));
    });
    push(list, only);
}
