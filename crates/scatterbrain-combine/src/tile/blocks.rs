//! Dense blocks of a tile: chunk by chunk of keys, and in each chunk strip by strip of panels, so that keys and values stay in
//! the first cache.

use super::{Buffers, Lanes, PreparedHead, Work};
use scatterbrain_core::kernel::{self, PANEL, Seen, Subtract};
use scatterbrain_core::tile::{Block, CHUNK, Except, Keys, Tile};
use scatterbrain_core::{HeadMask, Matrix};
use std::borrow::Cow;
use std::ops::Range;

impl Work<'_> {
    pub(super) fn blocks(&mut self) {
        let blocks = std::mem::take(&mut self.selection.blocks);
        if blocks.is_empty() {
            return;
        }
        let (level, query, d) = (self.head.level, self.tile.query, self.tile.query.cols());
        self.buffers.query.resize(self.panels.len() * d * PANEL, 0.0);
        let factor = self.query_factor();
        for (lanes, out) in self.panels.iter().zip(self.buffers.query.chunks_exact_mut(d * PANEL)) {
            let rows: Vec<u32> = lanes.rows.clone().map(|r| r as u32).collect();
            kernel::pack(level, query, &rows, factor, out);
        }
        for block in &blocks {
            self.block(block);
        }
        self.selection.blocks = blocks;
    }

    /// A block: chunks of keys outside, strips of panels inside; first the weights of all panels, then their sums, so that key
    /// rows and then value rows stay in the first cache.
    fn block(&mut self, block: &Block) {
        let meets = |lanes: &Lanes| block.rows.start < lanes.rows.end && lanes.rows.start < block.rows.end;
        let panels = (0..self.panels.len()).filter(|&p| meets(&self.panels[p]));
        let seen: Vec<PanelSeen<'_>> = panels.map(|p| self.seen(p, block)).collect();
        let start = seen.iter().map(|s| s.hull.start).min().unwrap_or(0);
        let end = seen.iter().map(|s| s.hull.end).max().unwrap_or(0);
        let hull = start..end;
        let positions = positions(&block.keys, &hull);
        if let Keys::List(keys) = &block.keys
            && keys[positions.clone()].iter().any(|&k| !hull.contains(&(k as usize)))
        {
            return self.block(&within(block, keys, &hull));
        }
        for from in positions.clone().step_by(CHUNK) {
            let chunk = from..(from + CHUNK).min(positions.end);
            if let Keys::List(keys) = &block.keys {
                self.gather(&keys[chunk.clone()]);
            }
            let slot = chunk.len() * PANEL;
            let scores = &mut self.buffers.scores;
            scores.resize(scores.len().max(seen.len() * slot), 0.0);
            let strips = strips(&seen, &block.keys, &chunk, kernel::panels_at_once(self.head.level));
            for strip in &strips {
                self.scores(strip);
                for (seen, first) in seen[strip.seen.clone()].iter().zip((strip.first..).step_by(slot)) {
                    self.weights(seen, first, &strip.keys, strip.positions.clone());
                }
            }
            for strip in &strips {
                self.sums(strip);
            }
        }
    }

    /// Copies listed rows of key and value: the loads of all rows are then under way at once, and every panel reads them
    /// from the first cache.
    fn gather(&mut self, keys: &[u32]) {
        let (key, value) = (&mut self.buffers.gathered.0, &mut self.buffers.gathered.1);
        for (rows, from) in [(key, self.head.key), (value, self.head.value)] {
            rows.resize(keys.len() * from.cols(), 0.0);
            kernel::gather_rows(self.head.level, from, keys, rows);
        }
    }

    /// What the lanes of a panel see of a block.
    fn seen<'b>(&self, panel: usize, block: &'b Block) -> PanelSeen<'b> {
        let rows = self.panels[panel].rows.clone();
        let mut ends = [[0; PANEL]; 2];
        let (mut first, mut end) = (usize::MAX, 0);
        let mut core = 0..usize::MAX;
        let mut except: Vec<([u32; PANEL], &[u32])> = block.except.iter().map(|e| ([0; PANEL], &*e.keys)).collect();
        let mut whole = rows.len() == PANEL;
        for (lane, r) in rows.clone().enumerate() {
            if !block.rows.contains(&r) {
                whole = false;
                continue;
            }
            let at = r - block.rows.start;
            let mut range = self.head.mask.range(self.tile.rows[r] as usize);
            if let Some(clip) = &block.clip {
                range = range.start.max(clip[at].start)..range.end.min(clip[at].end);
            }
            (ends[0][lane], ends[1][lane]) = (range.start as u32, range.end as u32);
            core = core.start.max(range.start)..core.end.min(range.end);
            if !range.is_empty() {
                (first, end) = (first.min(range.start), end.max(range.end));
            }
            for ((lanes, _), e) in except.iter_mut().zip(&block.except) {
                lanes[lane] = e.rows[at];
            }
        }
        let only = block.only.as_ref().map(|only| {
            // Bit 0 of a lane word is the panel's first row.
            let (up, down) = (block.rows.start.saturating_sub(rows.start), rows.start.saturating_sub(block.rows.start));
            only.iter().map(|&bits| ((bits >> down << up) & 0xffff) as u32).collect()
        });
        PanelSeen { panel, ends, hull: first.min(end)..end, core: if whole { core } else { 0..0 }, only, except }
    }

    /// The rows of key or value that `keys` names, and where they stand in them: gathered ones stand in order.
    fn rows_of<'r>(whole: Matrix<'r>, gathered: &'r [f32], keys: &Keys) -> (Matrix<'r>, Keys) {
        match keys {
            Keys::Range(range) => (whole, Keys::Range(range.clone())),
            Keys::List(list) => {
                let rows = &gathered[..list.len() * whole.cols()];
                let rows = Matrix::new("gathered", rows, list.len(), whole.cols()).expect("a row a key");
                (rows, Keys::Range(0..list.len()))
            }
        }
    }

    /// Scores of a strip, a panel after the other.
    fn scores(&mut self, strip: &Strip<'_>) {
        let size = self.head.query.cols() * PANEL;
        let Buffers { query, scores, gathered, .. } = &mut *self.buffers;
        let (key, near) = Self::rows_of(self.head.key, &gathered.0, &strip.keys);
        let query = &query[strip.panels.start * size..strip.panels.end * size];
        kernel::product(self.head.level, query, key, &near, &mut scores[strip.pairs()]);
    }

    /// Adds the values under the weights of a strip.
    fn sums(&mut self, strip: &Strip<'_>) {
        let size = self.d_v() * PANEL;
        let Buffers { numerator, scores, gathered, .. } = &mut *self.buffers;
        let (value, near) = Self::rows_of(self.head.value, &gathered.1, &strip.keys);
        let numerator = &mut numerator[strip.panels.start * size..strip.panels.end * size];
        kernel::weighted_sum(self.head.level, &scores[strip.pairs()], value, &near, numerator);
    }

    /// Turns a panel's scores from `first` on into weights: of the keys at some positions of a block.
    fn weights(&mut self, seen: &PanelSeen<'_>, first: usize, keys: &Keys, positions: Range<usize>) {
        let head = self.head;
        let (panel, d_v) = (seen.panel, self.d_v());
        let lanes = &mut self.panels[panel];
        let Buffers { numerator, scores, entries, .. } = &mut *self.buffers;
        let scores = &mut scores[first..first + keys.len() * PANEL];
        // Memory that another head has used: without a background there are no entries.
        entries.resize(if self.subtracts { scores.len() } else { 0 }, 0.0);
        if let Some(background) = self.background.as_mut().filter(|_| self.subtracts) {
            background.entries_panel(panel, keys, entries);
        }
        hide(head, &self.tile, lanes, keys, seen, positions, scores, entries);
        let subtract =
            self.subtracts.then_some(Subtract { entries, log_scale: &lanes.log_scale, taken: &mut lanes.taken });
        if kernel::softmax(head.level, scores, &mut lanes.running, subtract) {
            let numerator = &mut numerator[panel * d_v * PANEL..(panel + 1) * d_v * PANEL];
            kernel::scale_lanes(head.level, numerator, &lanes.running.rescale);
        }
    }
}

/// What a panel sees of a block.
struct PanelSeen<'b> {
    panel: usize,
    /// Interval of each lane: first key, and end.
    ends: [[u32; PANEL]; 2],
    /// The least interval around all.
    hull: Range<usize>,
    /// What every lane sees.
    core: Range<usize>,
    /// Bits of the lanes that a key goes with.
    only: Option<Vec<u32>>,
    /// Codes of lanes and keys that hide a pair where they agree.
    except: Vec<([u32; PANEL], &'b [u32])>,
}

/// The positions of a block's keys from the first to the last in a hull.
fn positions(keys: &Keys, hull: &Range<usize>) -> Range<usize> {
    match keys {
        Keys::Range(keys) => {
            let within = keys.start.max(hull.start)..keys.end.min(hull.end).max(keys.start);
            within.start.min(within.end) - keys.start..within.end - keys.start
        }
        Keys::List(keys) => {
            let inside = |k: &u32| hull.contains(&(*k as usize));
            let end = keys.iter().rposition(inside).map_or(0, |last| last + 1);
            keys.iter().position(inside).unwrap_or(end)..end
        }
    }
}

/// A block without the listed keys outside a hull: no row of it sees them, and a background may not even have them.
fn within(block: &Block, keys: &[u32], hull: &Range<usize>) -> Block {
    let inside = |at: &usize| hull.contains(&(keys[*at] as usize));
    let kept: Vec<usize> = (0..keys.len()).filter(inside).collect();
    let pick = |of: &[u32]| kept.iter().map(|&at| of[at]).collect::<Vec<u32>>();
    let except = block.except.iter().map(|e| Except { rows: e.rows.clone(), keys: pick(&e.keys) }).collect();
    let only = block.only.as_ref().map(|only| kept.iter().map(|&at| only[at]).collect());
    Block { rows: block.rows.clone(), keys: Keys::List(pick(keys)), clip: block.clip.clone(), only, except }
}

/// Neighbouring panels and the keys of a chunk that all of them take.
struct Strip<'k> {
    panels: Range<usize>,
    /// Where they are among the panels that meet the block.
    seen: Range<usize>,
    keys: Cow<'k, Keys>,
    /// Where the keys are in the block.
    positions: Range<usize>,
    /// Where their scores start.
    first: usize,
}

impl Strip<'_> {
    /// Places of the scores.
    fn pairs(&self) -> Range<usize> {
        self.first..self.first + self.panels.len() * self.keys.len() * PANEL
    }
}

/// Strips of a chunk: up to `most` panels that take all of it, and every other by itself.
fn strips<'k>(seen: &[PanelSeen<'_>], keys: &'k Keys, chunk: &Range<usize>, most: usize) -> Vec<Strip<'k>> {
    let mut strips: Vec<Strip<'k>> = Vec::new();
    for (at, seen) in seen.iter().enumerate() {
        let Some((keys, positions)) = part(keys, chunk, &seen.hull) else { continue };
        match strips.last_mut() {
            Some(last)
                if last.panels.len() < most
                    && last.panels.end == seen.panel
                    && last.positions == *chunk
                    && positions == *chunk =>
            {
                (last.panels.end, last.seen.end) = (seen.panel + 1, at + 1);
            }
            _ => {
                let (panels, first) = (seen.panel..seen.panel + 1, at * chunk.len() * PANEL);
                strips.push(Strip { panels, seen: at..at + 1, keys, positions, first });
            }
        }
    }
    strips
}

/// The keys of a block at some positions that lie in a hull, and their positions; of listed ones, all up to the last.
/// `None`: there is none.
fn part<'k>(keys: &'k Keys, positions: &Range<usize>, hull: &Range<usize>) -> Option<(Cow<'k, Keys>, Range<usize>)> {
    match keys {
        Keys::Range(all) => {
            let part = (all.start + positions.start).max(hull.start)..(all.start + positions.end).min(hull.end);
            let at = part.start.saturating_sub(all.start)..part.end.saturating_sub(all.start);
            (!part.is_empty()).then_some((Cow::Owned(Keys::Range(part)), at))
        }
        Keys::List(all) => {
            let last = all[positions.clone()].iter().rposition(|&k| hull.contains(&(k as usize)))?;
            let at = positions.start..positions.start + last + 1;
            let part = if at.len() == all.len() {
                Cow::Borrowed(keys)
            } else {
                Cow::Owned(Keys::List(all[at.clone()].to_vec()))
            };
            Some((part, at))
        }
    }
}

/// Takes hidden pairs out of scores and background weights, and counts the others. `positions`: of the keys in the block.
#[allow(clippy::too_many_arguments, reason = "split borrows of one struct")]
fn hide(
    head: &PreparedHead<'_>,
    tile: &Tile<'_>,
    lanes: &mut Lanes,
    keys: &Keys,
    seen: &PanelSeen<'_>,
    positions: Range<usize>,
    scores: &mut [f32],
    entries: &mut [f32],
) {
    // Keys that every lane sees need no look, where nothing else hides a pair.
    let core = match keys {
        Keys::Range(k) => {
            let core = k.start.max(seen.core.start)..k.end.min(seen.core.end).max(k.start);
            core.start.min(core.end) - k.start..core.end - k.start
        }
        Keys::List(k) if k.iter().all(|&k| seen.core.contains(&(k as usize))) => 0..k.len(),
        Keys::List(_) => 0..0,
    };
    let all = core == (0..keys.len());
    let interval = (!all).then_some(&seen.ends);
    let only = seen.only.as_ref().map(|only| &only[positions.clone()]);
    if only.is_none() && seen.except.is_empty() {
        lanes.pairs.iter_mut().for_each(|p| *p += core.len() as u32);
        for edge in [0..core.start, core.end..keys.len()].into_iter().filter(|edge| !edge.is_empty()) {
            let part = match keys {
                Keys::Range(k) => Keys::Range(k.start + edge.start..k.start + edge.end),
                Keys::List(k) => Keys::List(k[edge.clone()].to_vec()),
            };
            let edge = edge.start * PANEL..edge.end * PANEL;
            let entries = entries.get_mut(edge.clone()).unwrap_or_default();
            let kept = kernel::hide(
                head.level,
                &part,
                &Seen { interval, only: None, except: &[] },
                &mut scores[edge],
                entries,
            );
            lanes.pairs.iter_mut().zip(kept).for_each(|(p, k)| *p += k);
        }
    } else {
        let except: Vec<_> = seen.except.iter().map(|(lanes, codes)| (*lanes, &codes[positions.clone()])).collect();
        let kept = kernel::hide(head.level, keys, &Seen { interval, only, except: &except }, scores, entries);
        lanes.pairs.iter_mut().zip(kept).for_each(|(p, k)| *p += k);
    }
    if head.mask.has_boolean() {
        hide_boolean(head.mask, tile, lanes, keys, scores, entries);
    }
}

/// Takes out pairs that a boolean mask hides.
fn hide_boolean(
    mask: &HeadMask<'_>,
    tile: &Tile<'_>,
    lanes: &mut Lanes,
    keys: &Keys,
    scores: &mut [f32],
    entries: &mut [f32],
) {
    for (lane, r) in lanes.rows.clone().enumerate() {
        let Some(allowed) = mask.allowed_row(tile.rows[r] as usize) else { continue };
        for at in (0..keys.len()).filter(|&at| allowed[keys.get(at)] == 0) {
            lanes.pairs[lane] -= u32::from(scores[at * PANEL + lane] > f32::NEG_INFINITY);
            scores[at * PANEL + lane] = f32::NEG_INFINITY;
            if let Some(e) = entries.get_mut(at * PANEL + lane) {
                *e = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scatterbrain_core::Seed;

    fn panel(panel: usize, hull: Range<usize>) -> PanelSeen<'static> {
        PanelSeen { panel, ends: Default::default(), core: hull.clone(), hull, only: None, except: Vec::new() }
    }

    /// Panels that meet a block and the chunks of its keys: some see all of them, some an end, some nothing.
    #[test]
    fn strips_of_several_panels_are_those_of_one_side_by_side() {
        let mut joined = [0; 5];
        for case in 0..400 {
            let mut rng = Seed(case).stream(0);
            let mut below = |end: usize| rng.below(end as u64) as usize;
            let all = 3 * CHUNK / 2;
            let keys = match case % 2 {
                0 => Keys::Range(10..10 + all),
                _ => Keys::List((0..all).map(|at| (10 + at * 7 % all) as u32).collect()),
            };
            let mut seen = Vec::new();
            for p in 0..4 {
                let hull = [10 + below(all)..10 + all, 0..below(all + 20), 0..all + 20][below(3)].clone();
                if below(8) > 0 {
                    seen.push(panel(p, hull));
                }
            }
            for start in (0..all).step_by(CHUNK) {
                let chunk = start..(start + CHUNK).min(all);
                let alone = strips(&seen, &keys, &chunk, 1);
                let slot = chunk.len() * PANEL;
                let mut next = alone.iter();
                for strip in strips(&seen, &keys, &chunk, 4) {
                    joined[strip.panels.len()] += 1;
                    for (at, (panel, seen)) in strip.panels.clone().zip(strip.seen.clone()).enumerate() {
                        let own = next.next().expect("as many panels");
                        assert_eq!((own.panels.clone(), own.seen.clone()), (panel..panel + 1, seen..seen + 1));
                        assert_eq!((&own.positions, &*own.keys), (&strip.positions, &*strip.keys));
                        assert_eq!(own.first, strip.first + at * slot);
                    }
                    assert!(strip.panels.len() == 1 || strip.positions == chunk);
                }
                assert!(next.next().is_none());
            }
        }
        assert!(joined[1..].iter().all(|&count| count > 20), "{joined:?}");
    }
}
