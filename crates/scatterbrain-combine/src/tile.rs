//! One query tile: totals of the background, plus exp(logit) − background weight on the support.
//!
//! A row keeps one reference M = max(log-scale of the background, logits on the support) and sums relative to
//! e^M:
//!
//! ```text
//! denominator = Σ_𝒮 e^{s−M}  +  e^{r−M}·(Z − Σ_𝒮 w)          w = background weight, r its log-scale
//! numerator   = Σ_𝒮 (e^{s−M} − e^{r−M} w)·v  +  e^{r−M}·N
//! ```
//!
//! **Cancellation.** Z − Σ_𝒮 w loses digits where 𝒮 holds nearly all of the background's mass. A row whose
//! denominator falls under [`CANCELLED`] of the sum of its terms' magnitudes (so at most 5 bits are lost elsewhere)
//! is computed again without subtraction: the background is summed directly over the visible keys off 𝒮, O(m·features).
//! If even that is not positive, or falls under [`VANISHED`] of its terms (signed features; features that vanish),
//! the row is computed as exact attention. Both are counted as recomputed.

use scatterbrain_core::kernel::{self, PANEL, Running};
use scatterbrain_core::tile::{Block, Keys, Select, Selection, Summary, TILE_ROWS, Tile, TileBackground};
use scatterbrain_core::{HeadMask, Level, Matrix};
use std::ops::Range;

/// 2¹⁹ roundings of f32.
const CANCELLED: f32 = 1.0 / 32.0;
/// 2¹² roundings of f32.
const VANISHED: f32 = 1.0 / 4096.0;
/// Keys scored at once.
const CHUNK: usize = 128;

/// One head, prepared.
pub(crate) struct PreparedHead<'a> {
    pub query: Matrix<'a>,
    pub key: Matrix<'a>,
    pub value: Matrix<'a>,
    pub scale: f32,
    pub mask: &'a HeadMask<'a>,
    pub select: Option<&'a dyn Select>,
    pub summary: Option<&'a dyn Summary>,
    pub level: Level,
    /// Keys and queries that hold a NaN or an infinity, where there are any.
    pub tainted_keys: Option<&'a [bool]>,
    pub tainted_queries: Option<&'a [bool]>,
}

/// The result of a tile, rows in the tile's order.
pub(crate) struct TileOutput {
    pub output: Vec<f32>,
    pub log_sum_exp: Vec<f32>,
    /// Pairs evaluated exactly, per row.
    pub pairs: Vec<usize>,
    pub recomputed: usize,
}

/// Computes the listed rows of a head.
pub(crate) fn compute(head: &PreparedHead<'_>, rows: &[u32]) -> TileOutput {
    debug_assert!(rows.len() <= TILE_ROWS);
    let tile = Tile { rows, query: head.query, mask: head.mask };
    let mut selection = Selection::default();
    selection.reset(rows.len());
    if let Some(select) = head.select {
        select.select(&tile, &mut selection);
    }
    let background = head.summary.map(|s| s.tile(&tile));
    let d_v = head.value.cols();
    let mut query = Vec::with_capacity(rows.len() * head.query.cols());
    rows.iter().for_each(|&i| query.extend(head.query.row(i as usize).iter().map(|q| q * head.scale)));
    let mut pass = Pass {
        head,
        tile,
        selection,
        background,
        query,
        scores: Vec::new(),
        entries: Vec::new(),
        out: TileOutput {
            output: vec![0.0; rows.len() * d_v],
            log_sum_exp: vec![f32::NEG_INFINITY; rows.len()],
            pairs: vec![0; rows.len()],
            recomputed: 0,
        },
    };
    for panel in 0..rows.len().div_ceil(PANEL) {
        pass.panel(panel);
    }
    pass.spread_taint();
    pass.out
}

struct Pass<'a> {
    head: &'a PreparedHead<'a>,
    tile: Tile<'a>,
    selection: Selection,
    background: Option<Box<dyn TileBackground + 'a>>,
    /// Scaled query rows of the tile, [rows, d].
    query: Vec<f32>,
    /// Scores and background weights of the keys at hand.
    scores: Vec<f32>,
    entries: Vec<f32>,
    out: TileOutput,
}

/// Running sums of a panel's rows.
struct Lanes {
    query: Vec<f32>,
    running: Running,
    numerator: Vec<f32>,
    /// Log-scale of the background.
    log_scale: [f32; PANEL],
    /// Σ_𝒮 of background weights, and of their magnitudes.
    taken: [f32; PANEL],
    taken_magnitude: [f32; PANEL],
    pairs: [usize; PANEL],
}

impl Lanes {
    /// One lane as a row, and its background's log-scale.
    fn row(&self, lane: usize, d_v: usize) -> (Row, f32) {
        let mut numerator = vec![0.0; d_v];
        kernel::unpack(&self.numerator, lane, 1.0, &mut numerator);
        let row = Row {
            max: self.running.max[lane],
            sum: self.running.sum[lane],
            numerator,
            taken: self.taken[lane],
            taken_magnitude: self.taken_magnitude[lane],
            pairs: self.pairs[lane],
        };
        (row, self.log_scale[lane])
    }
}

/// Running sums of one row.
struct Row {
    max: f32,
    sum: f32,
    numerator: Vec<f32>,
    taken: f32,
    taken_magnitude: f32,
    pairs: usize,
}

impl Pass<'_> {
    fn panel(&mut self, panel: usize) {
        let rows = panel * PANEL..((panel + 1) * PANEL).min(self.tile.rows.len());
        let lanes = self.blocks(panel, &rows);
        for r in rows {
            let (row, log_scale) = match &lanes {
                Some(lanes) => lanes.row(r % PANEL, self.head.value.cols()),
                None => self.start_row(r),
            };
            self.row(r, log_scale, row);
        }
    }

    /// The dense blocks of a panel; `None` where there are none: then nothing need be transposed.
    fn blocks(&mut self, panel: usize, rows: &Range<usize>) -> Option<Lanes> {
        let blocks = std::mem::take(&mut self.selection.blocks);
        let mut lanes = None;
        for block in blocks.iter().filter(|b| b.rows.start < rows.end && rows.start < b.rows.end) {
            let lanes = lanes.get_or_insert_with(|| self.start(rows));
            self.block(panel, rows, block, lanes);
        }
        self.selection.blocks = blocks;
        lanes
    }

    /// What is left of a row once its blocks are done.
    fn row(&mut self, r: usize, log_scale: f32, mut row: Row) {
        self.list(r, log_scale, &mut row);
        self.finish(r, log_scale, row);
    }

    fn start_row(&self, r: usize) -> (Row, f32) {
        let (log_scale, numerator) = match &self.background {
            Some(background) => (background.log_scale(r), background.numerator(r).to_vec()),
            None => (f32::NEG_INFINITY, vec![0.0; self.head.value.cols()]),
        };
        (Row { max: log_scale, sum: 0.0, numerator, taken: 0.0, taken_magnitude: 0.0, pairs: 0 }, log_scale)
    }

    fn start(&self, rows: &Range<usize>) -> Lanes {
        let head = self.head;
        let d = head.query.cols();
        let mut query = vec![0.0; d * PANEL];
        kernel::pack_rows(&self.query[rows.start * d..rows.end * d], d, &mut query);
        let mut lanes = Lanes {
            query,
            running: Running::default(),
            numerator: vec![0.0; head.value.cols() * PANEL],
            log_scale: [f32::NEG_INFINITY; PANEL],
            taken: [0.0; PANEL],
            taken_magnitude: [0.0; PANEL],
            pairs: [0; PANEL],
        };
        if let Some(background) = &self.background {
            for (lane, r) in rows.clone().enumerate() {
                lanes.log_scale[lane] = background.log_scale(r);
                let numerator = lanes.numerator[lane..].iter_mut().step_by(PANEL);
                numerator.zip(background.numerator(r)).for_each(|(n, &x)| *n = x);
            }
            lanes.running.max = lanes.log_scale;
        }
        lanes
    }

    /// A dense block against a panel, in chunks of keys.
    fn block(&mut self, panel: usize, rows: &Range<usize>, block: &Block, lanes: &mut Lanes) {
        let mut seen: [Range<usize>; PANEL] = std::array::from_fn(|_| 0..0);
        for r in rows.start.max(block.rows.start)..rows.end.min(block.rows.end) {
            let mut range = self.head.mask.range(self.tile.rows[r] as usize);
            if let Some(clip) = &block.clip {
                let clip = &clip[r - block.rows.start];
                range = range.start.max(clip.start)..range.end.min(clip.end);
            }
            seen[r - rows.start] = range;
        }
        let filled = || seen.iter().filter(|s| !s.is_empty());
        let start = filled().map(|s| s.start).min().unwrap_or(0);
        let end = filled().map(|s| s.end).max().unwrap_or(0);
        match &block.keys {
            Keys::Range(keys) => {
                let keys = keys.start.max(start)..keys.end.min(end);
                for from in keys.clone().step_by(CHUNK) {
                    self.chunk(panel, rows, &Keys::Range(from..(from + CHUNK).min(keys.end)), &seen, lanes);
                }
            }
            Keys::List(keys) => {
                for keys in keys.chunks(CHUNK) {
                    let keys = keys.iter().copied().filter(|&k| (start..end).contains(&(k as usize))).collect();
                    self.chunk(panel, rows, &Keys::List(keys), &seen, lanes);
                }
            }
        }
    }

    fn chunk(
        &mut self,
        panel: usize,
        rows: &Range<usize>,
        keys: &Keys,
        seen: &[Range<usize>; PANEL],
        lanes: &mut Lanes,
    ) {
        let head = self.head;
        let (mut scores, mut entries) = (std::mem::take(&mut self.scores), std::mem::take(&mut self.entries));
        scores.resize(keys.len() * PANEL, 0.0);
        kernel::product(head.level, &lanes.query, head.key, keys, &mut scores);
        if let Some(background) = &mut self.background {
            entries.resize(scores.len(), 0.0);
            background.entries_panel(panel, keys, &mut entries);
        }
        self.hide(rows, keys, seen, &mut scores, &mut entries, &mut lanes.pairs);
        kernel::softmax(head.level, &mut scores, &mut lanes.running);
        if lanes.running.rescale.iter().any(|&f| f != 1.0) {
            for column in lanes.numerator.chunks_exact_mut(PANEL) {
                column.iter_mut().zip(&lanes.running.rescale).for_each(|(x, f)| *x *= f);
            }
        }
        if !entries.is_empty() {
            let factor: [f32; PANEL] = std::array::from_fn(|l| shrink(lanes.log_scale[l], lanes.running.max[l]));
            for (s, e) in scores.chunks_exact_mut(PANEL).zip(entries.chunks_exact(PANEL)) {
                for lane in 0..PANEL {
                    s[lane] -= factor[lane] * e[lane];
                    lanes.taken[lane] += e[lane];
                    lanes.taken_magnitude[lane] += e[lane].abs();
                }
            }
        }
        kernel::weighted_sum(head.level, &scores, head.value, keys, &mut lanes.numerator);
        (self.scores, self.entries) = (scores, entries);
    }

    /// Takes hidden pairs out of scores and background weights, and counts the others.
    fn hide(
        &self,
        rows: &Range<usize>,
        keys: &Keys,
        seen: &[Range<usize>; PANEL],
        scores: &mut [f32],
        entries: &mut [f32],
        pairs: &mut [usize; PANEL],
    ) {
        for (lane, range) in seen.iter().enumerate() {
            let row = rows.start + lane;
            let allowed = (row < rows.end).then(|| self.head.mask.allowed_row(self.tile.rows[row] as usize)).flatten();
            let whole = allowed.is_none()
                && match keys {
                    Keys::Range(k) => range.start <= k.start && k.end <= range.end,
                    Keys::List(k) => k.iter().all(|&k| range.contains(&(k as usize))),
                };
            if whole {
                pairs[lane] += keys.len();
                continue;
            }
            for at in 0..keys.len() {
                let key = keys.get(at);
                if range.contains(&key) && allowed.is_none_or(|a| a[key] != 0) {
                    pairs[lane] += 1;
                } else {
                    scores[at * PANEL + lane] = f32::NEG_INFINITY;
                    if let Some(e) = entries.get_mut(at * PANEL + lane) {
                        *e = 0.0;
                    }
                }
            }
        }
    }

    /// The further keys of one row.
    fn list(&mut self, r: usize, log_scale: f32, row: &mut Row) {
        let Some(list) = self.selection.lists.get_mut(r) else { return };
        let query_idx = self.tile.rows[r] as usize;
        let (range, allowed) = (self.head.mask.range(query_idx), self.head.mask.allowed_row(query_idx));
        list.retain(|&k| range.contains(&(k as usize)) && allowed.is_none_or(|a| a[k as usize] != 0));
        if list.is_empty() {
            return;
        }
        let list = std::mem::take(list);
        let (mut scores, mut entries) = (std::mem::take(&mut self.scores), std::mem::take(&mut self.entries));
        self.score(r, &list, &mut scores);
        if let Some(background) = &mut self.background {
            entries.resize(list.len(), 0.0);
            background.entries_row(r, &list, &mut entries);
        }
        let top = scores.iter().copied().fold(row.max, f32::max);
        let rescale = shrink(row.max, top);
        row.max = top;
        scores.iter_mut().for_each(|s| *s -= top);
        kernel::exp_slice(self.head.level, &mut scores);
        row.sum = row.sum * rescale + scores.iter().sum::<f32>();
        row.numerator.iter_mut().for_each(|n| *n *= rescale);
        let factor = shrink(log_scale, top);
        for (s, e) in scores.iter_mut().zip(&entries) {
            *s -= factor * e;
            row.taken += e;
            row.taken_magnitude += e.abs();
        }
        row.pairs += list.len();
        kernel::weighted_sum_rows(self.head.level, &scores, self.head.value, &list, &mut row.numerator);
        self.selection.lists[r] = list;
    }

    fn score(&self, r: usize, keys: &[u32], scores: &mut Vec<f32>) {
        let d = self.head.query.cols();
        scores.resize(keys.len(), 0.0);
        kernel::dot_rows(self.head.level, &self.query[r * d..(r + 1) * d], self.head.key, keys, scores);
    }

    /// Normalises a row, or computes it again where digits were lost.
    fn finish(&mut self, r: usize, log_scale: f32, row: Row) {
        let visible = self.head.mask.visible(self.tile.rows[r] as usize);
        self.out.pairs[r] = row.pairs;
        if visible == 0 {
            return;
        }
        let (total, magnitude, factor) = match &self.background {
            Some(background) => (background.denominator(r), background.magnitude(r), shrink(log_scale, row.max)),
            None => (0.0, 0.0, 0.0),
        };
        let denominator = row.sum + factor * (total - row.taken);
        let terms = row.sum + factor * (total.abs() + row.taken_magnitude);
        let usable = terms.is_finite()
            && denominator > CANCELLED * terms
            && denominator > VANISHED * (row.sum + factor * magnitude);
        if self.background.is_none() {
            if row.pairs > 0 {
                self.write(r, row.max, denominator, &row.numerator);
            }
        } else if row.pairs < visible && usable {
            self.write(r, row.max, denominator, &row.numerator);
        } else {
            self.recompute(r, row.pairs == visible);
        }
    }

    fn write(&mut self, r: usize, max: f32, denominator: f32, numerator: &[f32]) {
        let d_v = numerator.len();
        self.out.log_sum_exp[r] = max + denominator.ln();
        for (o, n) in self.out.output[r * d_v..(r + 1) * d_v].iter_mut().zip(numerator) {
            *o = n / denominator;
        }
    }

    /// The row without subtraction; as exact attention where even that has no denominator. `full`: the support
    /// holds every visible key, so there is nothing off it.
    fn recompute(&mut self, r: usize, full: bool) {
        let query_idx = self.tile.rows[r] as usize;
        let mut keys = self.selection.row(r);
        keys.retain(|&k| self.head.mask.sees(query_idx, k as usize));
        let mut numerator = vec![0.0; self.head.value.cols()];
        let (mut scale, mut total, mut magnitude) = (f32::NEG_INFINITY, 0.0, 0.0);
        if let (Some(background), false) = (&mut self.background, full) {
            self.out.recomputed += 1;
            (scale, total, magnitude) = background.off_support(r, &keys, &mut numerator);
        }
        let (max, sum) = self.add_exact(r, &keys, scale, &mut numerator);
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
        let (max, sum) = self.add_exact(r, &all, f32::NEG_INFINITY, &mut numerator);
        self.out.pairs[r] = all.len();
        self.write(r, max, sum, &numerator);
    }

    /// Adds exact pairs to a numerator kept relative to e^scale; returns the new reference and Σ e^{s−M}.
    fn add_exact(&self, r: usize, keys: &[u32], scale: f32, numerator: &mut [f32]) -> (f32, f32) {
        let mut scores = Vec::new();
        self.score(r, keys, &mut scores);
        let max = scores.iter().copied().fold(scale, f32::max);
        let rescale = shrink(scale, max);
        numerator.iter_mut().for_each(|n| *n *= rescale);
        scores.iter_mut().for_each(|s| *s -= max);
        kernel::exp_slice(self.head.level, &mut scores);
        kernel::weighted_sum_rows(self.head.level, &scores, self.head.value, keys, numerator);
        (max, scores.iter().map(|&s| f64::from(s)).sum::<f64>() as f32)
    }

    /// Makes NaN of the rows that used a query, key or value which is not finite.
    fn spread_taint(&mut self) {
        if self.head.tainted_keys.is_none() && self.head.tainted_queries.is_none() {
            return;
        }
        let d_v = self.head.value.cols();
        let all = self.background.is_some() || self.head.select.is_some_and(|s| s.reads_all_keys());
        for r in 0..self.tile.rows.len() {
            let i = self.tile.rows[r] as usize;
            let keys = if all { None } else { Some(self.selection.row(r)) };
            if self.spoiled(i, keys.as_deref()) {
                self.out.output[r * d_v..(r + 1) * d_v].fill(f32::NAN);
                self.out.log_sum_exp[r] = f32::NAN;
            }
        }
    }

    /// Whether query i, or a key among those it uses (`None`: all that it sees), is not finite.
    fn spoiled(&self, i: usize, keys: Option<&[u32]>) -> bool {
        let mask = self.head.mask;
        let query = self.head.tainted_queries.is_some_and(|t| t[i]);
        let key = |k: usize| self.head.tainted_keys.is_some_and(|t| t[k]);
        match keys {
            Some(keys) => keys.iter().map(|&k| k as usize).any(|k| (query || key(k)) && mask.sees(i, k)),
            None if query => mask.visible(i) > 0,
            None => {
                let allowed = mask.allowed_row(i);
                mask.range(i).any(|k| key(k) && allowed.is_none_or(|a| a[k] != 0))
            }
        }
    }
}

/// e^{from − to}, 0 where `from` is −∞.
fn shrink(from: f32, to: f32) -> f32 {
    if from == f32::NEG_INFINITY { 0.0 } else { kernel::exp(from - to) }
}
