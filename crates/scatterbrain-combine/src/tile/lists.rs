//! Keys that single rows name, row by row.

use super::{Carried, Work, shrink};
use scatterbrain_core::Level;
use scatterbrain_core::kernel::{self, PANEL};

/// One row's query and running sums, for its list.
struct Row {
    query: Vec<f32>,
    numerator: Vec<f32>,
    carried: Carried,
    /// Log-scale of the background, base 2.
    log_scale: f32,
}

impl Work<'_> {
    /// The lists of all rows.
    pub(super) fn all_lists(&mut self) {
        let lists = std::mem::take(&mut self.selection.lists);
        for (r, list) in lists.iter().enumerate() {
            let i = self.tile.rows[r] as usize;
            let (range, allowed) = (self.head.mask.range(i), self.head.mask.allowed_row(i));
            let sees = |k: &u32| range.contains(&(*k as usize)) && allowed.is_none_or(|a| a[*k as usize] != 0);
            let seen: Vec<u32> = list.iter().copied().filter(sees).collect();
            if !seen.is_empty() {
                let mut row = self.row(r);
                self.list(r, &seen, &mut row);
                self.put_row(r, &row);
            }
        }
        self.selection.lists = lists;
    }

    fn row(&self, r: usize) -> Row {
        let (panel, lane) = (r / PANEL, r % PANEL);
        let size = self.d_v() * PANEL;
        let mut numerator = vec![0.0; self.d_v()];
        kernel::unpack(&self.buffers.numerator[panel * size..(panel + 1) * size], lane, 1.0, &mut numerator);
        let lanes = &self.panels[panel];
        Row { query: self.query_row(r), numerator, carried: lanes.get(lane), log_scale: lanes.log_scale[lane] }
    }

    pub(super) fn query_row(&self, r: usize) -> Vec<f32> {
        self.tile.query.row(r).iter().map(|q| q * self.query_factor()).collect()
    }

    fn put_row(&mut self, r: usize, row: &Row) {
        let (panel, lane) = (r / PANEL, r % PANEL);
        let size = self.d_v() * PANEL;
        let numerator = self.buffers.numerator[panel * size + lane..(panel + 1) * size].iter_mut().step_by(PANEL);
        numerator.zip(&row.numerator).for_each(|(n, x)| *n = *x);
        self.panels[panel].put(lane, &row.carried);
    }

    /// The further keys of one row, all visible.
    fn list(&mut self, r: usize, keys: &[u32], row: &mut Row) {
        let level = self.head.level;
        let (mut scores, mut entries) =
            (std::mem::take(&mut self.buffers.scores), std::mem::take(&mut self.buffers.entries));
        scores.resize(keys.len(), 0.0);
        kernel::dot_rows(level, &row.query, self.head.key, keys, &mut scores);
        let carried = &mut row.carried;
        let rescale = weigh(level, &mut scores, &mut carried.max);
        carried.sum = carried.sum * rescale + scores.iter().sum::<f32>();
        row.numerator.iter_mut().for_each(|n| *n *= rescale);
        let subtracts = self.subtracts && row.log_scale > f32::NEG_INFINITY;
        if let Some(background) = self.background.as_mut().filter(|_| subtracts) {
            entries.resize(keys.len(), 0.0);
            background.entries_row(r, keys, &mut entries);
            let factor = shrink(row.log_scale, carried.max);
            for (s, e) in scores.iter_mut().zip(&entries) {
                *s -= factor * e;
                carried.taken += e;
                carried.taken_magnitude += e.abs();
            }
        }
        carried.pairs += keys.len() as u32;
        kernel::weighted_sum_rows(level, &scores, self.head.value, keys, &mut row.numerator);
        (self.buffers.scores, self.buffers.entries) = (scores, entries);
    }
}

/// Turns scores of one row into weights; raises the reference and returns the factor of what was summed before.
pub(super) fn weigh(level: Level, scores: &mut [f32], max: &mut f32) -> f32 {
    let top = scores.iter().copied().fold(*max, f32::max);
    let rescale = shrink(*max, top);
    *max = top;
    scores.iter_mut().for_each(|s| *s -= top);
    kernel::exp2_slice(level, scores);
    rescale
}
