//! The background of one query tile: its queries against centroids, and against the keys of ragged ends.

use crate::centroids::CentroidSummary;
use scatterbrain_core::Matrix;
use scatterbrain_core::kernel::{self, PANEL, Seen};
use scatterbrain_core::tile::{Keys, TILE_ROWS, Tile, TileBackground};
use std::ops::Range;

pub(crate) struct CentroidTile<'a> {
    summary: &'a CentroidSummary<'a>,
    tile: Tile<'a>,
    panels: Vec<Panel>,
}

/// Weights of a panel's rows, in their scales.
struct Panel {
    scale: [f32; PANEL],
    /// On the clusters that some row sees whole; 0 where a row does not.
    clusters: Weights,
    /// On the keys before and after the clusters that a row sees whole; 0 where it does not see the key or has it in a
    /// cluster. So a pair's weight is the sum of the three.
    ends: [Weights; 2],
}

/// Weights on consecutive clusters or keys, `[range][PANEL]`.
struct Weights {
    range: Range<usize>,
    /// First and end of what each lane takes.
    taken: [[u32; PANEL]; 2],
    weights: Vec<f32>,
}

impl<'a> CentroidTile<'a> {
    pub(crate) fn new(summary: &'a CentroidSummary<'a>, tile: Tile<'a>) -> Self {
        let mut this = Self { summary, tile, panels: Vec::new() };
        this.panels = (0..tile.rows.len()).step_by(PANEL).map(|first| this.panel(first)).collect();
        this
    }

    fn panel(&self, first: usize) -> Panel {
        let rows = first..(first + PANEL).min(self.tile.rows.len());
        let mut intervals: [[Range<usize>; PANEL]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| 0..0));
        for (lane, r) in rows.clone().enumerate() {
            let [clusters, before, after] = self.split(r);
            (intervals[0][lane], intervals[1][lane], intervals[2][lane]) = (clusters, before, after);
        }
        let [mut clusters, before, after] = intervals.map(|lanes| Weights::new(&lanes));
        let mut ends = [before, after];
        self.score(rows.clone(), &mut clusters, &mut ends);
        let mut scale = self.tops(&rows, &clusters);
        for end in ends.iter_mut().filter(|end| !end.range.is_empty()) {
            self.hide_boolean(&rows, end);
            let tops = kernel::lane_tops(self.summary.keys.level, &end.weights, &vec![0.0; end.range.len()]);
            scale.iter_mut().zip(tops).for_each(|(s, top)| *s = s.max(top));
        }
        // A lane that sees nothing has no score above −∞.
        let finite = scale.map(|s| if s == f32::NEG_INFINITY { 0.0 } else { s });
        for part in [&mut clusters].into_iter().chain(&mut ends) {
            let offset = vec![0.0; part.range.len()];
            kernel::exp_lanes(self.summary.keys.level, &mut part.weights, &offset, &finite);
        }
        Panel { scale, clusters, ends }
    }

    /// The clusters that a row sees whole, and the keys before and after them.
    fn split(&self, row: usize) -> [Range<usize>; 3] {
        let seen = self.tile.mask.range(self.tile.rows[row] as usize);
        let (clusters, keys) = self.summary.partition.whole(&seen);
        if clusters.is_empty() {
            return [0..0, 0..0, seen];
        }
        [clusters, seen.start..keys.start, keys.end..seen.end]
    }

    /// s·q·μ and s·q·k, −∞ where a lane does not take them.
    fn score(&self, rows: Range<usize>, clusters: &mut Weights, ends: &mut [Weights; 2]) {
        let CentroidSummary { keys, means, .. } = self.summary;
        let (level, d) = (keys.level, keys.key.cols());
        let rows: Vec<u32> = rows.map(|r| r as u32).collect();
        let mut query = vec![0.0; d * PANEL];
        kernel::pack(level, self.tile.query, &rows, keys.scale, &mut query);
        let means = Matrix::new("means", means, means.len() / d, d).ok();
        let parts = [(means, clusters)].into_iter().chain(ends.iter_mut().map(|end| (Some(keys.key), end)));
        for (matrix, part) in parts.filter(|(_, part)| !part.range.is_empty()) {
            let listed = Keys::Range(part.range.clone());
            kernel::product(level, &query, matrix.expect("some cluster"), &listed, &mut part.weights);
            let seen = Seen { interval: Some(&part.taken), only: None, except: &[] };
            kernel::hide(level, &listed, &seen, &mut part.weights, &mut []);
        }
    }

    /// The largest s·q·μ_c + ln n_c of every lane, members hidden by a boolean mask not counted.
    fn tops(&self, rows: &Range<usize>, clusters: &Weights) -> [f32; PANEL] {
        let CentroidSummary { keys, log_counts, .. } = self.summary;
        if !self.tile.mask.has_boolean() {
            return kernel::lane_tops(keys.level, &clusters.weights, &log_counts[clusters.range.clone()]);
        }
        let mut tops = [f32::NEG_INFINITY; PANEL];
        for (lane, r) in rows.clone().enumerate().filter(|_| !clusters.range.is_empty()) {
            let mut members = vec![0f32; clusters.range.len()];
            for k in self.visible(r, &[]) {
                let c = self.summary.partition.of(k as usize);
                if let Some(members) = c.checked_sub(clusters.range.start).and_then(|c| members.get_mut(c)) {
                    *members += self.summary.multiple(k as usize);
                }
            }
            let logits = clusters.weights[lane..].iter().step_by(PANEL);
            let tops = &mut tops[lane];
            logits.zip(members).filter(|(_, n)| *n > 0.0).for_each(|(x, n)| *tops = tops.max(x + n.ln()));
        }
        tops
    }

    /// Takes out the keys of an end that a boolean mask hides.
    fn hide_boolean(&self, rows: &Range<usize>, end: &mut Weights) {
        for (lane, r) in rows.clone().enumerate() {
            let Some(allowed) = self.tile.mask.allowed_row(self.tile.rows[r] as usize) else { return };
            let weights = end.weights[lane..].iter_mut().step_by(PANEL);
            weights
                .zip(&allowed[end.range.clone()])
                .filter(|(_, a)| **a == 0)
                .for_each(|(w, _)| *w = f32::NEG_INFINITY);
        }
    }

    /// Keys a row sees, without those in `skip` (ascending).
    fn visible(&self, row: usize, skip: &[u32]) -> Vec<u32> {
        let i = self.tile.rows[row] as usize;
        let allowed = self.tile.mask.allowed_row(i);
        let seen = self.tile.mask.range(i).filter(|&j| allowed.is_none_or(|a| a[j] != 0)).map(|j| j as u32);
        seen.filter(|j| skip.binary_search(j).is_err()).collect()
    }

    /// Totals from the sums of clusters.
    fn add_clusters(&self, part: &Weights, numerator: &mut [f32], denominator: &mut [f32; PANEL]) {
        if part.range.is_empty() {
            return;
        }
        let CentroidSummary { keys, sums, .. } = self.summary;
        let width = keys.value.cols() + 1;
        let sums = Matrix::new("sums", sums, sums.len() / width, width).expect("some cluster");
        let mut acc = vec![0.0; width * PANEL];
        kernel::weighted_sum(keys.level, &part.weights, sums, &Keys::Range(part.range.clone()), &mut acc);
        let (sums, total) = acc.split_at(numerator.len());
        numerator.copy_from_slice(sums);
        denominator.copy_from_slice(total);
    }

    /// Totals pair by pair, for a boolean mask.
    fn add_pairs(&mut self, panel: usize, numerator: &mut [f32], denominator: &mut [f32; PANEL]) {
        let keys = self.summary.keys;
        let rows = panel * PANEL..((panel + 1) * PANEL).min(self.tile.rows.len());
        let ranges: Vec<Range<usize>> = rows.map(|r| self.tile.mask.range(self.tile.rows[r] as usize)).collect();
        let seen = || ranges.iter().filter(|range| !range.is_empty());
        let (start, end) = (seen().map(|r| r.start).min().unwrap_or(0), seen().map(|r| r.end).max().unwrap_or(0));
        for from in (start..end).step_by(TILE_ROWS) {
            let chunk = from..(from + TILE_ROWS).min(end);
            let listed = Keys::Range(chunk.clone());
            let mut weights = vec![0.0; chunk.len() * PANEL];
            self.entries_panel(panel, &listed, &mut weights);
            for (lane, range) in ranges.iter().enumerate() {
                let allowed = self.tile.mask.allowed_row(self.tile.rows[panel * PANEL + lane] as usize);
                let hidden = |j: usize| !range.contains(&j) || allowed.is_some_and(|a| a[j] == 0);
                let lane = weights[lane..].iter_mut().step_by(PANEL);
                lane.zip(chunk.clone()).filter(|(_, j)| hidden(*j)).for_each(|(w, _)| *w = 0.0);
            }
            kernel::add_lanes(keys.level, &weights, denominator);
            kernel::weighted_sum(keys.level, &weights, keys.value, &listed, numerator);
        }
    }

    /// ln of the weights of one row on keys that it sees.
    fn logs(&self, row: usize, keys: &[u32]) -> Vec<f32> {
        let CentroidSummary { keys: head, partition, means, .. } = self.summary;
        let query: Vec<f32> = self.tile.query.row(row).iter().map(|q| q * head.scale).collect();
        let [clusters, ..] = self.split(row);
        let mut of_clusters = vec![0.0; clusters.len()];
        if let Ok(means) = Matrix::new("means", means, partition.count(), head.key.cols()) {
            let listed: Vec<u32> = clusters.clone().map(|c| c as u32).collect();
            kernel::dot_rows(head.level, &query, means, &listed, &mut of_clusters);
        }
        let mut logs = vec![0.0; keys.len()];
        for (log, key) in logs.iter_mut().zip(keys) {
            let c = partition.of(*key as usize);
            if clusters.contains(&c) {
                let multiple = self.summary.log_multiples.get(*key as usize).copied().unwrap_or(0.0);
                *log = of_clusters[c - clusters.start] + multiple;
            } else {
                kernel::dot_rows(head.level, &query, head.key, &[*key], std::slice::from_mut(log));
            }
        }
        logs
    }
}

impl Weights {
    /// Room for what the lanes take.
    fn new(lanes: &[Range<usize>; PANEL]) -> Self {
        let taken = || lanes.iter().filter(|range| !range.is_empty());
        let start = taken().map(|range| range.start).min().unwrap_or(0);
        let range = start..taken().map(|range| range.end).max().unwrap_or(start);
        let ends = [lanes.each_ref().map(|r| r.start as u32), lanes.each_ref().map(|r| r.end as u32)];
        let weights = vec![0.0; range.len() * PANEL];
        Self { range, taken: ends, weights }
    }

    /// The lanes of a cluster or key, where there are any.
    #[inline]
    fn lanes(&self, at: usize) -> Option<&[f32; PANEL]> {
        self.range.contains(&at).then(|| &self.weights.as_chunks().0[at - self.range.start])
    }
}

impl TileBackground for CentroidTile<'_> {
    fn log_scale(&self, row: usize) -> f32 {
        self.panels[row / PANEL].scale[row % PANEL]
    }

    fn totals(&mut self, panel: usize, numerator: &mut [f32], denominator: &mut [f32; PANEL]) {
        numerator.fill(0.0);
        denominator.fill(0.0);
        if self.tile.mask.has_boolean() {
            return self.add_pairs(panel, numerator, denominator);
        }
        let keys = self.summary.keys;
        let Panel { clusters, ends, .. } = &self.panels[panel];
        self.add_clusters(clusters, numerator, denominator);
        for end in ends {
            kernel::add_lanes(keys.level, &end.weights, denominator);
            kernel::weighted_sum(keys.level, &end.weights, keys.value, &Keys::Range(end.range.clone()), numerator);
        }
    }

    fn entries_panel(&mut self, panel: usize, keys: &Keys, out: &mut [f32]) {
        let Panel { clusters, ends, .. } = &self.panels[panel];
        for (at, out) in out.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            let key = keys.get(at);
            *out = clusters.lanes(self.summary.partition.of(key)).copied().unwrap_or_default();
            if !self.summary.multiples.is_empty() {
                let multiple = self.summary.multiple(key);
                out.iter_mut().for_each(|o| *o *= multiple);
            }
            for lanes in ends.iter().filter_map(|end| end.lanes(key)) {
                out.iter_mut().zip(lanes).for_each(|(o, w)| *o += w);
            }
        }
    }

    fn entries_row(&mut self, row: usize, keys: &[u32], out: &mut [f32]) {
        let Panel { clusters, ends, .. } = &self.panels[row / PANEL];
        for (out, &key) in out.iter_mut().zip(keys) {
            let key = key as usize;
            let lane = |lanes: &[f32; PANEL]| lanes[row % PANEL];
            let whole = clusters.lanes(self.summary.partition.of(key)).map_or(0.0, lane);
            *out = whole * self.summary.multiple(key);
            *out += ends.iter().filter_map(|end| end.lanes(key)).map(lane).sum::<f32>();
        }
    }

    fn off_support(&mut self, row: usize, skip: &[u32], numerator: &mut [f32]) -> (f32, f32, f32) {
        let keys = self.visible(row, skip);
        let mut weights = self.logs(row, &keys);
        let scale = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        weights.iter_mut().for_each(|w| *w -= scale);
        kernel::exp_slice(self.summary.keys.level, &mut weights);
        numerator.fill(0.0);
        kernel::weighted_sum_rows(self.summary.keys.level, &weights, self.summary.keys.value, &keys, numerator);
        let denominator = weights.iter().map(|&w| f64::from(w)).sum::<f64>() as f32;
        (scale, denominator, denominator)
    }
}
