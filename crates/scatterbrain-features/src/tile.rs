//! The background of one query tile: features of its queries against the sums and features of a
//! [`FeatureSummary`].

use crate::map::{LogFeatures, Role};
use crate::summary::{FeatureSummary, Sums, apply_signs, log_norm, log_sum};
use scatterbrain_core::Matrix;
use scatterbrain_core::kernel::{self, PANEL};
use scatterbrain_core::tile::{Keys, Summary, TILE_ROWS, Tile, TileBackground};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::Range;

/// Denominators outside are not trusted: products below 1e-38 may have been flushed, up to 1e9 of them.
const TRUSTED: Range<f32> = 1e-22..1e30;

/// Which stored features: an epoch, and the block whose own copy is meant.
type Place = (usize, Option<usize>);

/// Keys with features in one place: their positions in the question, and their rows there.
struct Group {
    place: Place,
    at: Vec<usize>,
    keys: Vec<u32>,
}

pub(crate) struct FeatureTile<'a> {
    summary: &'a FeatureSummary<'a>,
    tile: Tile<'a>,
    /// Log features of the queries, made at their first use.
    logs: OnceCell<LogFeatures>,
    /// Epoch of each row's scale.
    epoch: Vec<usize>,
    /// Key block of each row's position, under a causal mask.
    block: Vec<Option<usize>>,
    scale: Vec<f32>,
    /// W of the tile in an epoch, `[n_features][PANEL]` a panel.
    weights: BTreeMap<usize, Vec<f32>>,
    /// A block's features in its prefix epoch, where that differs from its settled one.
    own: BTreeMap<usize, Vec<f32>>,
    /// Rows whose totals were lost to range.
    lost: Vec<bool>,
}

impl<'a> FeatureTile<'a> {
    pub(crate) fn new(summary: &'a FeatureSummary<'a>, tile: Tile<'a>) -> Self {
        let mut this = Self::empty(summary, tile);
        let mut panels = this.log_panels();
        this.choose_scales(&panels);
        if this.epoch.iter().all(|&e| e == this.epoch[0]) {
            this.exponentiate(this.epoch[0], &mut panels);
            this.weights.insert(this.epoch[0], panels);
        }
        this
    }

    /// From what [`TileBackground::remember`] wrote.
    pub(crate) fn recalled(summary: &'a FeatureSummary<'a>, tile: Tile<'a>, memory: &[f32]) -> Self {
        let mut this = Self::empty(summary, tile);
        let (m, width) = (summary.n_features(), summary.memory());
        let mut panels = vec![0.0; tile.rows.len().div_ceil(PANEL) * PANEL * m];
        let mut both = vec![0.0; width * PANEL];
        for (panel, rows) in panels.chunks_exact_mut(PANEL * m).zip(memory.chunks(PANEL * width)) {
            kernel::pack_rows(summary.keys.level, rows, width, &mut both);
            panel.copy_from_slice(&both[..m * PANEL]);
        }
        for (scale, row) in this.scale.iter_mut().zip(memory.chunks_exact(width)) {
            *scale = row[m];
        }
        this.weights.insert(this.epoch[0], panels);
        this
    }

    /// Without scales and weights.
    fn empty(summary: &'a FeatureSummary<'a>, tile: Tile<'a>) -> Self {
        let count = tile.rows.len();
        let seen = |i: &u32| !tile.mask.range(*i as usize).is_empty();
        let place = |i: &u32| seen(i).then(|| summary.blocks.of(tile.mask.position(*i as usize) as usize));
        let block: Vec<Option<usize>> =
            if tile.mask.is_causal() { tile.rows.iter().map(place).collect() } else { vec![None; count] };
        // A row that sees nothing goes with the others.
        let first = block.iter().flatten().next();
        let other = first.map_or(summary.last_epoch(), |&b| summary.prefix_epoch[b]);
        let epoch: Vec<usize> = block.iter().map(|b| b.map_or(other, |b| summary.prefix_epoch[b])).collect();
        Self {
            summary,
            tile,
            logs: OnceCell::new(),
            epoch,
            block,
            scale: vec![f32::NEG_INFINITY; count],
            weights: BTreeMap::new(),
            own: BTreeMap::new(),
            lost: vec![false; count],
        }
    }

    fn logs(&self) -> &LogFeatures {
        self.logs.get_or_init(|| {
            let mut logs = LogFeatures::default();
            let keys = &self.summary.keys;
            let factor = Role::Query.factor(keys.scale);
            let map = self.summary.map.log_features(keys.level, self.tile.query, factor, Role::Query, &mut logs);
            map.expect("head_dim was checked when the background was prepared");
            logs
        })
    }

    /// Log features with queries in lanes.
    fn log_panels(&self) -> Vec<f32> {
        let (map, keys) = (self.summary.map, &self.summary.keys);
        let mut panels = Vec::new();
        if map.signed() {
            // Their signs are needed besides.
            self.logs().write_panels(keys.level, &mut panels);
        } else {
            let factor = Role::Query.factor(keys.scale);
            let written = map.log_panels(keys.level, self.tile.query, factor, Role::Query, &mut panels);
            written.expect("head_dim was checked when the background was prepared");
        }
        panels
    }

    /// r_i of every row that sees a key: the largest log φ_l(q_i) + R_l in the row's epoch.
    fn choose_scales(&mut self, log_panels: &[f32]) {
        let summary = self.summary;
        for panel in 0..self.tile.rows.len().div_ceil(PANEL) {
            let rows = self.panel_rows(panel);
            let size = summary.n_features() * PANEL;
            let logs = &log_panels[panel * size..(panel + 1) * size];
            let mut tops = BTreeMap::new();
            for r in rows.clone().filter(|&r| !self.tile.mask.range(self.tile.rows[r] as usize).is_empty()) {
                let epoch = self.epoch[r];
                let reference = &summary.references[epoch];
                let tops = tops.entry(epoch).or_insert_with(|| kernel::lane_tops(summary.keys.level, logs, reference));
                self.scale[r] = tops[r - rows.start];
            }
        }
    }

    /// Log features to W in an epoch.
    fn exponentiate(&self, epoch: usize, panels: &mut [f32]) {
        let m = self.summary.n_features();
        for (panel, logs) in panels.chunks_exact_mut(m * PANEL).enumerate() {
            let rows = self.panel_rows(panel);
            let mut scale = [0.0; PANEL];
            for (s, r) in scale.iter_mut().zip(rows.clone()) {
                *s = if self.scale[r] == f32::NEG_INFINITY { 0.0 } else { self.scale[r] };
            }
            kernel::exp_lanes(self.summary.keys.level, logs, &self.summary.references[epoch], &scale);
            if !self.summary.map.signed() {
                continue;
            }
            for (lane, r) in rows.enumerate() {
                let negative = self.logs().negative_row(r).unwrap_or_default();
                for (w, _) in logs[lane..].iter_mut().step_by(PANEL).zip(negative).filter(|(_, n)| **n) {
                    *w = -*w;
                }
            }
        }
    }

    fn panel_rows(&self, panel: usize) -> Range<usize> {
        panel * PANEL..((panel + 1) * PANEL).min(self.tile.rows.len())
    }

    /// Sums of one panel: whole blocks from their sums, ragged ends pair by pair.
    fn total_panel(&mut self, panel: usize, numerator: &mut [f32], denominator: &mut [f32; PANEL]) {
        let rows = self.panel_rows(panel);
        let ranges: Vec<Range<usize>> =
            rows.clone().map(|r| self.tile.mask.range(self.tile.rows[r] as usize)).collect();
        let seen = || rows.clone().zip(&ranges).filter(|(_, range)| !range.is_empty());
        numerator.fill(0.0);
        denominator.fill(0.0);
        let Some((first, _)) = seen().next() else { return };
        if seen().any(|(r, _)| self.block[r] != self.block[first]) {
            // Rows of several blocks in one panel: only a caller's own tiling does that.
            denominator[..rows.len()].fill(f32::NAN);
            return;
        }
        let start = seen().map(|(_, r)| r.start).min().unwrap_or(0);
        let end = seen().map(|(_, r)| r.end).max().unwrap_or(0);
        let common = seen().map(|(_, r)| r.start).max().unwrap_or(0)..seen().map(|(_, r)| r.end).min().unwrap_or(0);
        let whole = self.add_whole(panel, first, &common, numerator, denominator);
        let ragged = if whole.is_empty() { [start..end, end..end] } else { [start..whole.start, whole.end..end] };
        for keys in ragged {
            for from in keys.clone().step_by(TILE_ROWS) {
                let chunk = from..(from + TILE_ROWS).min(keys.end);
                self.add_pairs(panel, chunk, &ranges, numerator, denominator);
            }
        }
        for lane in 0..PANEL {
            if ranges.get(lane).is_none_or(|r| r.is_empty()) {
                // A row that sees nothing shares the panel's arithmetic but owns none of it.
                denominator[lane] = 0.0;
                numerator[lane..].iter_mut().step_by(PANEL).for_each(|n| *n = 0.0);
            } else if !TRUSTED.contains(&denominator[lane].abs()) {
                denominator[lane] = f32::NAN;
            }
        }
    }

    /// Adds the blocks that all rows of the panel see whole, and returns their keys.
    fn add_whole(
        &mut self,
        panel: usize,
        first: usize,
        common: &Range<usize>,
        numerator: &mut [f32],
        denominator: &mut [f32; PANEL],
    ) -> Range<usize> {
        let summary = self.summary;
        let epoch = self.epoch[first];
        let width = summary.width();
        let inside = summary.blocks.inside(common);
        if inside.is_empty() {
            return 0..0;
        }
        let keys = summary.blocks.range(inside.start).start..summary.blocks.range(inside.end - 1).end;
        let moved;
        let (sum, keys) = match &summary.sums {
            Sums::Pairs => return 0..0,
            Sums::Total(sum) => (sum, keys),
            Sums::Prefix(prefix) => {
                // The prefix of the rows' own block, in their own epoch.
                let block = self.block[first].unwrap_or(0);
                (&prefix[block], 0..summary.blocks.range(block).start)
            }
            Sums::Blocks(blocks) => {
                let mut sum = vec![0.0; summary.n_features() * width];
                let own = self.block[first];
                let inside = inside.start..inside.end.min(own.unwrap_or(usize::MAX));
                if inside.is_empty() {
                    return 0..0;
                }
                let keys = keys.start..summary.blocks.range(inside.end - 1).end;
                for b in inside {
                    let factors = summary.epoch_factors(summary.settled_epoch[b], epoch);
                    for ((to, from), f) in sum.chunks_exact_mut(width).zip(blocks[b].chunks_exact(width)).zip(factors) {
                        to.iter_mut().zip(from).for_each(|(t, x)| *t += f * x);
                    }
                }
                moved = sum;
                (&moved, keys)
            }
        };
        if keys.is_empty() {
            return 0..0;
        }
        let sum = Matrix::new("sum", sum, summary.n_features(), width).expect("a sum has features");
        let level = summary.keys.level;
        let count = summary.n_features() * PANEL;
        let weights = &self.weights(epoch)[panel * count..(panel + 1) * count];
        let mut acc = vec![0.0; width * PANEL];
        kernel::weighted_sum(level, weights, sum, &Keys::Range(0..sum.rows()), &mut acc);
        let (sums, total) = acc.split_at((width - 1) * PANEL);
        numerator.copy_from_slice(sums);
        denominator.copy_from_slice(total);
        keys
    }

    /// Adds pairs of a panel with consecutive keys, hidden ones left out.
    fn add_pairs(
        &mut self,
        panel: usize,
        keys: Range<usize>,
        ranges: &[Range<usize>],
        numerator: &mut [f32],
        denominator: &mut [f32; PANEL],
    ) {
        let mut weights = vec![0.0; keys.len() * PANEL];
        let listed = Keys::Range(keys.clone());
        self.entries_panel(panel, &listed, &mut weights);
        let mut interval = [[0; PANEL]; 2];
        for (lane, range) in ranges.iter().enumerate() {
            (interval[0][lane], interval[1][lane]) = (range.start as u32, range.end as u32);
        }
        let seen = kernel::Seen { interval: Some(&interval), only: None, except: &[] };
        kernel::hide(self.summary.keys.level, &listed, &seen, &mut [], &mut weights);
        for (lane, r) in self.panel_rows(panel).enumerate() {
            let Some(allowed) = self.tile.mask.allowed_row(self.tile.rows[r] as usize) else { continue };
            for (j, w) in keys.clone().zip(weights[lane..].iter_mut().step_by(PANEL)) {
                if allowed[j] == 0 {
                    *w = 0.0;
                }
            }
        }
        kernel::add_lanes(self.summary.keys.level, &weights, denominator);
        kernel::weighted_sum(self.summary.keys.level, &weights, self.summary.keys.value, &listed, numerator);
    }

    /// W in the given epoch, made at its first use.
    fn weights(&mut self, epoch: usize) -> &[f32] {
        if !self.weights.contains_key(&epoch) {
            let mut panels = self.log_panels();
            self.exponentiate(epoch, &mut panels);
            self.weights.insert(epoch, panels);
        }
        &self.weights[&epoch]
    }

    /// W of one row in an epoch that was made.
    fn weights_row(&self, epoch: usize, row: usize) -> Vec<f32> {
        let size = self.summary.n_features() * PANEL;
        let panel = row / PANEL;
        let mut out = vec![0.0; self.summary.n_features()];
        kernel::unpack(&self.weights[&epoch][panel * size..(panel + 1) * size], row % PANEL, 1.0, &mut out);
        out
    }

    /// Keys by where a row finds their features. The arithmetic of a pair does not depend on its group.
    fn places(&self, row: usize, keys: impl Iterator<Item = usize>) -> Vec<Group> {
        let summary = self.summary;
        let mut groups: Vec<Group> = Vec::new();
        for (at, key) in keys.enumerate() {
            let block = summary.blocks.of(key);
            let (prefix, settled) = (summary.prefix_epoch[block], summary.settled_epoch[block]);
            let (mut place, mut index) = ((settled, None), key);
            if prefix != settled && self.block[row] == Some(block) {
                place = (prefix, Some(block));
                index -= summary.blocks.range(block).start;
            }
            let group = match groups.iter_mut().rposition(|g| g.place == place) {
                Some(found) => &mut groups[found],
                None => {
                    groups.push(Group { place, at: Vec::new(), keys: Vec::new() });
                    groups.last_mut().expect("just pushed")
                }
            };
            group.at.push(at);
            group.keys.push(index as u32);
        }
        groups
    }

    /// Makes weights and features of a place.
    fn ready(&mut self, place: Place) {
        self.weights(place.0);
        if let Some(block) = place.1 {
            self.own(block);
        }
    }

    fn product(&mut self, panel: usize, place: Place, keys: &Keys, out: &mut [f32]) {
        self.ready(place);
        let count = self.summary.n_features() * PANEL;
        let weights = &self.weights[&place.0][panel * count..(panel + 1) * count];
        kernel::product(self.summary.keys.level, weights, self.features(place), keys, out);
    }

    /// A block's features in its prefix epoch.
    fn own(&mut self, block: usize) {
        let summary = self.summary;
        self.own.entry(block).or_insert_with(|| {
            let range = summary.blocks.range(block);
            let mut logs = LogFeatures::default();
            summary.log_features(range, &mut logs).expect("these keys were mapped before");
            let reference = &summary.references[summary.prefix_epoch[block]];
            kernel::exp_below(summary.keys.level, &mut logs.log, reference);
            apply_signs(logs.negative.as_deref(), &mut logs.log);
            logs.log
        });
    }

    fn features(&self, place: Place) -> Matrix<'_> {
        let m = self.summary.n_features();
        let data = place.1.map_or(&self.summary.features, |block| &self.own[&block]);
        Matrix::new("features", data, data.len() / m, m).expect("some key is visible")
    }

    /// Keys a row sees, without those in `skip` (ascending).
    fn visible(&self, row: usize, skip: &[u32]) -> Vec<u32> {
        let i = self.tile.rows[row] as usize;
        let allowed = self.tile.mask.allowed_row(i);
        self.tile
            .mask
            .range(i)
            .filter(|&j| allowed.is_none_or(|a| a[j] != 0))
            .map(|j| j as u32)
            .filter(|j| skip.binary_search(j).is_err())
            .collect()
    }

    /// The sum from stored features; `None` where they do not hold it.
    fn off_support_fast(&mut self, row: usize, keys: &[u32], numerator: &mut [f32]) -> Option<(f32, f32, f32)> {
        if self.lost[row] || self.summary.features.is_empty() {
            return None;
        }
        let mut weights = vec![0.0; keys.len()];
        self.entries_row(row, keys, &mut weights);
        numerator.fill(0.0);
        kernel::weighted_sum_rows(self.summary.keys.level, &weights, self.summary.keys.value, keys, numerator);
        let denominator: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let magnitude: f64 = weights.iter().map(|&w| f64::from(w.abs())).sum();
        let held = keys.is_empty() || TRUSTED.contains(&(magnitude as f32));
        held.then_some((self.scale[row], denominator as f32, magnitude as f32))
    }

    /// The sum in the log domain, in f64: a key's weight is e^top · Σ_l ± e^{t_l − top}.
    fn off_support_logs(&self, row: usize, keys: &[u32], numerator: &mut [f32]) -> (f32, f32, f32) {
        let summary = self.summary;
        let query = self.logs().row(row);
        let query_sign = self.logs().negative_row(row);
        let mut terms: Vec<(f64, f64)> = Vec::with_capacity(keys.len());
        let mut logs = LogFeatures::default();
        for run in keys.chunk_by(|a, b| a + 1 == *b).flat_map(|run| run.chunks(TILE_ROWS)) {
            let range = run[0] as usize..run[run.len() - 1] as usize + 1;
            summary.log_features(range, &mut logs).expect("mapped before");
            for (j, _) in run.iter().enumerate() {
                let pairs = || query.iter().zip(logs.row(j)).map(|(&q, &k)| f64::from(q) + f64::from(k));
                let top = pairs().fold(f64::NEG_INFINITY, f64::max);
                let sign = |l: usize| {
                    let negative = query_sign.is_some_and(|s| s[l]) != logs.negative_row(j).is_some_and(|s| s[l]);
                    if negative { -1.0 } else { 1.0 }
                };
                let weight = if top == f64::NEG_INFINITY {
                    0.0
                } else {
                    pairs().enumerate().map(|(l, t)| sign(l) * (t - top).exp()).sum()
                };
                terms.push((top, weight));
            }
        }
        let scale = terms.iter().map(|t| t.0).fold(f64::NEG_INFINITY, f64::max);
        let (mut denominator, mut magnitude) = (0.0, 0.0);
        let mut sum = vec![0.0f64; numerator.len()];
        if scale > f64::NEG_INFINITY {
            for (&j, (top, weight)) in keys.iter().zip(terms) {
                let w = weight * (top - scale).exp();
                denominator += w;
                magnitude += w.abs();
                sum.iter_mut().zip(summary.keys.value.row(j as usize)).for_each(|(s, &v)| *s += w * f64::from(v));
            }
        }
        numerator.iter_mut().zip(sum).for_each(|(n, s)| *n = s as f32);
        (scale as f32, denominator as f32, magnitude as f32)
    }
}

impl FeatureTile<'_> {
    /// Σ_j |φ(q)|₂|φ(k_j)|₂ over the keys that a row sees, relative to e^scale: no less than Σ |φ_l(q) φ_l(k_j)|
    /// (Cauchy and Schwarz). It uses no reference, so later keys cannot move it.
    fn signed_magnitude(&self, row: usize) -> f32 {
        let norms = &self.summary.norms;
        let range = self.tile.mask.range(self.tile.rows[row] as usize);
        let keys = if self.tile.mask.has_boolean() {
            self.log_norms(&self.visible(row, &[]))
        } else if range.is_empty() {
            f64::NEG_INFINITY
        } else if range.start == 0 {
            norms[range.end - 1].1
        } else {
            log_sum(norms[range].iter().map(|n| n.0))
        };
        (log_norm(self.logs().row(row)) + keys - f64::from(self.scale[row])).exp() as f32
    }

    /// ln Σ |φ(k_j)|₂ over listed keys.
    fn log_norms(&self, keys: &[u32]) -> f64 {
        log_sum(keys.iter().map(|&k| self.summary.norms[k as usize].0))
    }
}

impl TileBackground for FeatureTile<'_> {
    fn remember(&self, out: &mut [f32]) {
        let (m, width) = (self.summary.n_features(), self.summary.memory());
        let mut both = vec![0.0; width * PANEL];
        let weights = &self.weights[&self.epoch[0]];
        for (panel, out) in out.chunks_mut(PANEL * width).enumerate() {
            both[..m * PANEL].copy_from_slice(&weights[panel * m * PANEL..(panel + 1) * m * PANEL]);
            for (scale, r) in both[m * PANEL..].iter_mut().zip(self.panel_rows(panel)) {
                *scale = self.scale[r];
            }
            kernel::unpack_rows(self.summary.keys.level, &both, out);
        }
    }

    fn log_scale(&self, row: usize) -> f32 {
        self.scale[row]
    }

    fn totals(&mut self, panel: usize, numerator: &mut [f32], denominator: &mut [f32; PANEL]) {
        self.total_panel(panel, numerator, denominator);
        let rows = self.panel_rows(panel);
        self.lost[rows].iter_mut().zip(denominator).for_each(|(l, d)| *l = d.is_nan());
    }

    fn magnitude(&self, row: usize, denominator: f32) -> f32 {
        if self.summary.map.signed() { self.signed_magnitude(row) } else { denominator.abs() }
    }

    fn entries_panel(&mut self, panel: usize, keys: &Keys, out: &mut [f32]) {
        if self.summary.references.len() == 1 {
            return self.product(panel, (0, None), keys, out);
        }
        let rows = self.panel_rows(panel);
        let row = rows.clone().find(|&r| self.scale[r] > f32::NEG_INFINITY).unwrap_or(rows.start);
        let groups = self.places(row, (0..keys.len()).map(|at| keys.get(at)));
        if groups.len() == 1 && groups[0].place.1.is_none() {
            self.product(panel, groups[0].place, keys, out);
            return;
        }
        for group in groups {
            let mut part = vec![0.0; group.keys.len() * PANEL];
            self.product(panel, group.place, &Keys::List(group.keys), &mut part);
            for (at, part) in group.at.iter().zip(part.chunks_exact(PANEL)) {
                out[at * PANEL..(at + 1) * PANEL].copy_from_slice(part);
            }
        }
    }

    fn entries_row(&mut self, row: usize, keys: &[u32], out: &mut [f32]) {
        let level = self.summary.keys.level;
        if self.summary.references.len() == 1 {
            self.ready((0, None));
            return kernel::dot_rows(level, &self.weights_row(0, row), self.features((0, None)), keys, out);
        }
        for group in self.places(row, keys.iter().map(|&k| k as usize)) {
            let mut part = vec![0.0; group.keys.len()];
            self.ready(group.place);
            let weights = self.weights_row(group.place.0, row);
            kernel::dot_rows(level, &weights, self.features(group.place), &group.keys, &mut part);
            group.at.iter().zip(part).for_each(|(&at, p)| out[at] = p);
        }
    }

    fn off_support(&mut self, row: usize, skip: &[u32], numerator: &mut [f32]) -> (f32, f32, f32) {
        let keys = self.visible(row, skip);
        let (scale, denominator, magnitude) = match self.off_support_fast(row, &keys, numerator) {
            Some(sums) => sums,
            None => self.off_support_logs(row, &keys, numerator),
        };
        if !self.summary.map.signed() || keys.is_empty() {
            return (scale, denominator, magnitude);
        }
        let log = log_norm(self.logs().row(row)) + self.log_norms(&keys) - f64::from(scale);
        (scale, denominator, log.exp() as f32)
    }
}
