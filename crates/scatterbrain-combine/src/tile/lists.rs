//! Keys that single rows name, row by row.

use super::{Carried, Work, shrink};
use scatterbrain_core::Level;
use scatterbrain_core::kernel::{self, PANEL};

/// One row, for its list.
struct Row<'a> {
    query: &'a [f32],
    numerator: &'a mut [f32],
    carried: Carried,
    /// Log-scale of the background, base 2.
    log_scale: f32,
}

impl Work<'_> {
    /// The lists of all rows, a panel at a time: its numerators are rows meanwhile.
    pub(super) fn all_lists(&mut self) {
        let lists = std::mem::take(&mut self.selection.lists);
        let mut rows = std::mem::take(&mut self.buffers.rows);
        let (mut query, mut seen) = (vec![0.0; self.tile.query.cols()], Vec::new());
        let (d_v, level) = (self.d_v(), self.head.level);
        for panel in 0..self.panels.len() {
            let members = self.panels[panel].rows.clone();
            if lists[members.clone()].iter().all(Vec::is_empty) {
                continue;
            }
            let numerator = panel * d_v * PANEL..(panel + 1) * d_v * PANEL;
            rows.resize(members.len() * d_v, 0.0);
            kernel::unpack_rows(level, &self.buffers.numerator[numerator.clone()], &mut rows);
            for ((lane, r), numerator) in members.enumerate().zip(rows.chunks_exact_mut(d_v)) {
                self.visible(r, &lists[r], &mut seen);
                if seen.is_empty() {
                    continue;
                }
                query.copy_from_slice(self.tile.query.row(r));
                query.iter_mut().for_each(|q| *q *= self.query_factor());
                let lanes = &self.panels[panel];
                let mut row =
                    Row { query: &query, numerator, carried: lanes.get(lane), log_scale: lanes.log_scale[lane] };
                self.list(r, &seen, &mut row);
                let carried = row.carried;
                self.panels[panel].put(lane, &carried);
            }
            kernel::pack_rows(level, &rows, d_v, &mut self.buffers.numerator[numerator]);
        }
        self.selection.lists = lists;
        self.buffers.rows = rows;
    }

    /// The keys of a list that its row sees.
    fn visible(&self, r: usize, list: &[u32], seen: &mut Vec<u32>) {
        let i = self.tile.rows[r] as usize;
        let (range, allowed) = (self.head.mask.range(i), self.head.mask.allowed_row(i));
        let sees = |k: &u32| range.contains(&(*k as usize)) && allowed.is_none_or(|a| a[*k as usize] != 0);
        seen.clear();
        seen.extend(list.iter().copied().filter(sees));
    }

    pub(super) fn query_row(&self, r: usize) -> Vec<f32> {
        self.tile.query.row(r).iter().map(|q| q * self.query_factor()).collect()
    }

    /// The further keys of one row, all visible.
    fn list(&mut self, r: usize, keys: &[u32], row: &mut Row<'_>) {
        let level = self.head.level;
        let (mut scores, mut entries) = std::mem::take(&mut self.buffers.list);
        scores.resize(keys.len(), 0.0);
        kernel::dot_rows(level, row.query, self.head.key, keys, &mut scores);
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
                let part = factor * e;
                *s -= if part.abs() > kernel::NOTHING { part } else { 0.0 };
                carried.taken += e;
                carried.taken_magnitude += e.abs();
            }
        }
        carried.pairs += keys.len() as u32;
        kernel::weighted_sum_rows(level, &scores, self.head.value, keys, row.numerator);
        self.buffers.list = (scores, entries);
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
