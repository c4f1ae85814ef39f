//! Rows whose digits were lost to subtraction, computed again.

use super::lists::weigh;
use super::{VANISHED, Work, shrink};
use scatterbrain_core::kernel;
use scatterbrain_core::tile::{Selection, Tile};
use std::f32::consts::LOG2_E;

impl Work<'_> {
    /// All visible keys of a row on the support.
    pub(super) fn support_row(&self, r: usize) -> Vec<u32> {
        let i = self.tile.rows[r];
        let mut keys = match self.head.select {
            // What earlier passes took is not in this one's selection.
            Some(select) if self.head.visits.count() > 1 => {
                let mut selection = Selection::default();
                selection.reset(1);
                select
                    .select(&Tile { rows: &[i], query: self.tile.query.slice(r..r + 1), ..self.tile }, &mut selection);
                selection.row(0)
            }
            _ => self.selection.row(r),
        };
        keys.retain(|&k| self.head.mask.sees(i as usize, k as usize));
        keys
    }

    /// The row without subtraction; as exact attention where even that has no denominator. `full`: the support
    /// holds every visible key, so there is nothing off it.
    pub(super) fn recompute(&mut self, r: usize, full: bool) {
        let query_idx = self.tile.rows[r] as usize;
        let keys = self.support_row(r);
        let query = self.query_row(r);
        let mut numerator = vec![0.0; self.d_v()];
        let (mut scale, mut total, mut magnitude) = (f32::NEG_INFINITY, 0.0, 0.0);
        if let (Some(background), false) = (&mut self.background, full) {
            self.report.recomputed += 1;
            (scale, total, magnitude) = background.off_support(r, &keys, &mut numerator);
            scale *= LOG2_E;
        }
        let (max, sum) = self.add_exact(&query, &keys, scale, &mut numerator);
        let factor = shrink(scale, max);
        let (denominator, terms) = (sum + factor * total, sum + factor * magnitude);
        if terms.is_finite() && denominator > VANISHED * terms {
            self.write(r, max, denominator, &numerator);
            return;
        }
        let mask = self.head.mask;
        let all: Vec<u32> =
            mask.range(query_idx).map(|k| k as u32).filter(|&k| mask.sees(query_idx, k as usize)).collect();
        numerator.fill(0.0);
        let (max, sum) = self.add_exact(&query, &all, f32::NEG_INFINITY, &mut numerator);
        self.report.carried[r].pairs = all.len() as u32;
        self.write(r, max, sum, &numerator);
    }

    /// Adds exact pairs to a numerator kept relative to 2^scale; returns the new reference and Σ 2^{s−M}.
    fn add_exact(&self, query: &[f32], keys: &[u32], scale: f32, numerator: &mut [f32]) -> (f32, f32) {
        let mut scores = vec![0.0; keys.len()];
        kernel::dot_rows(self.head.level, query, self.head.key, keys, &mut scores);
        let mut max = scale;
        let rescale = weigh(self.head.level, &mut scores, &mut max);
        numerator.iter_mut().for_each(|n| *n *= rescale);
        kernel::weighted_sum_rows(self.head.level, &scores, self.head.value, keys, numerator);
        (max, scores.iter().map(|&s| f64::from(s)).sum::<f64>() as f32)
    }
}
