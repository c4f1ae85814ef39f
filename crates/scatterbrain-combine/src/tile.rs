//! One query tile: totals of the background, plus exp(logit) − background weight on the support.
//!
//! A row keeps one reference M, near max(log-scale of the background, logits on the support), and sums relative to
//! 2^M; logits and log-scales count in base 2 here:
//!
//! ```text
//! denominator = Σ_𝒮 2^{s−M}  +  2^{r−M}·(Z − Σ_𝒮 w)          w = background weight, r its log-scale
//! numerator   = Σ_𝒮 (2^{s−M} − 2^{r−M} w)·v  +  2^{r−M}·N
//! ```
//!
//! Dense blocks go chunk by chunk of keys, and in each chunk panel by panel, so that keys and values stay in the first
//! cache; then the lists, row by row; then normalisation. Where a support has several passes ([`Select::passes`]), each
//! is a tile of its own; running sums of rows are joined after each, and [`TileReport::kept`] says by which factor the
//! numerators that stand from before enter.
//!
//! **Cancellation.** Z − Σ_𝒮 w loses digits where 𝒮 holds nearly all of the background's mass. A row whose
//! denominator falls under [`CANCELLED`] of the sum of its terms' magnitudes (so at most 5 bits are lost elsewhere)
//! is computed again without subtraction: the background is summed directly over the visible keys off 𝒮, O(m·features).
//! If even that is not positive, or falls under [`VANISHED`] of its terms (signed features; features that vanish),
//! the row is computed as exact attention. Both are counted as recomputed.

use scatterbrain_core::kernel::{self, PANEL, Running, Seen, Subtract, Taken};
use scatterbrain_core::tile::{Block, Except, Keys, Select, Selection, Summary, TILE_ROWS, Tile, TileBackground};
use scatterbrain_core::{HeadMask, Level, Matrix};
use std::borrow::Cow;
use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;

/// 2¹⁹ roundings of f32.
const CANCELLED: f32 = 1.0 / 32.0;
/// 2¹² roundings of f32.
const VANISHED: f32 = 1.0 / 4096.0;
/// Keys scored at once: their key and value rows fit in the first two caches, and it is a multiple of what the
/// micro-kernels take.
const CHUNK: usize = 192;

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
    pub visits: Visits,
    /// Whether the log-sum-exp is asked for.
    pub log_sum_exp: bool,
}

/// How often the queries of a head are visited, and in which orders.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visits {
    /// Passes of the support, each in its own order. `None`: the queries are taken once, as they come, with all keys.
    pub rounds: Option<usize>,
    /// Whether a last pass, over neighbours, follows the rounds for the totals of the background alone.
    pub totals: bool,
}

impl Visits {
    /// Passes in all.
    pub(crate) fn count(&self) -> usize {
        self.rounds.unwrap_or(1) + usize::from(self.totals)
    }
}

/// What a row has summed over its support so far, beside its numerator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    max: f32,
    sum: f32,
    taken: f32,
    taken_magnitude: f32,
    /// Pairs evaluated exactly.
    pub pairs: u32,
}

impl Default for Carried {
    fn default() -> Self {
        Self { max: f32::NEG_INFINITY, sum: 0.0, taken: 0.0, taken_magnitude: 0.0, pairs: 0 }
    }
}

impl Carried {
    /// Joins two sums over disjoint keys; returns the factors of their numerators.
    fn join(&mut self, other: &Carried) -> (f32, f32) {
        let max = self.max.max(other.max);
        let (own, others) = (shrink(self.max, max), shrink(other.max, max));
        self.max = max;
        self.sum = self.sum * own + other.sum * others;
        self.taken += other.taken;
        self.taken_magnitude += other.taken_magnitude;
        self.pairs += other.pairs;
        (own, others)
    }
}

/// What a tile leaves beside its output, rows in the tile's order.
pub(crate) struct TileReport {
    pub carried: Vec<Carried>,
    /// Factor of what an earlier pass left in the output; 0 in the first.
    pub kept: Vec<f32>,
    /// What the background left for later passes; empty but in the first of several.
    pub memory: Vec<f32>,
    /// Empty where it is not asked for, or not yet known.
    pub log_sum_exp: Vec<f32>,
    pub recomputed: usize,
}

/// A head's rows after the pass before.
#[derive(Clone, Copy)]
pub(crate) struct Earlier<'a> {
    pub carried: &'a [Carried],
    /// What the background left of them, in rows of [`Summary::memory`] numbers.
    pub memory: &'a [f32],
}

/// Computes the listed rows of a head in one pass: into `output`, a row a listed one, after the last pass the results,
/// before it the numerators.
pub(crate) fn compute(
    head: &PreparedHead<'_>,
    pass: usize,
    rows: &[u32],
    earlier: Option<Earlier<'_>>,
    output: &mut [f32],
    scratch: &mut Scratch,
) -> TileReport {
    debug_assert!(rows.len() <= TILE_ROWS);
    let Scratch { rows: memory, selection, work: buffers } = scratch;
    let tile = Tile::new(head.level, rows, head.query, head.mask, memory);
    selection.reset(rows.len());
    match (head.select, head.visits.rounds) {
        (Some(select), None) => select.select(&tile, selection),
        (Some(select), Some(rounds)) if pass < rounds => select.select_pass(pass, &tile, selection),
        _ => {}
    }
    let background = head.summary.map(|summary| match earlier {
        Some(earlier) if summary.memory() > 0 => {
            let width = summary.memory();
            let all = Matrix::new("memory", earlier.memory, head.mask.n(), width).expect("a row a query");
            buffers.memory.resize(rows.len() * width, 0.0);
            kernel::gather_rows(head.level, all, rows, &mut buffers.memory);
            summary.recall(&tile, &buffers.memory)
        }
        _ => summary.tile(&tile),
    });
    let mut work = Work::new(head, tile, selection, background, output, buffers);
    work.earlier = earlier.map(|e| e.carried);
    let last = pass + 1 == head.visits.count();
    if earlier.is_none() && !last {
        work.remember();
    }
    work.blocks();
    work.all_lists();
    if last {
        (0..work.panels.len()).for_each(|panel| work.finish(panel));
        work.spread_taint();
    } else {
        work.keep();
    }
    work.report
}

/// Memory that a thread keeps from tile to tile.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Query rows of a tile.
    rows: Vec<f32>,
    selection: Selection,
    work: Buffers,
}

#[derive(Default)]
struct Buffers {
    /// Scaled queries, `[d][PANEL]` a panel; empty where no panel needs them.
    query: Vec<f32>,
    /// Numerators, `[d_v][PANEL]` a panel.
    numerator: Vec<f32>,
    /// Rows of key and value that a list names.
    gathered: (Vec<f32>, Vec<f32>),
    /// Scores and background weights of the keys at hand.
    scores: Vec<f32>,
    entries: Vec<f32>,
    /// Sums of a background, `[d_v][PANEL]`.
    totals: Vec<f32>,
    /// What a background left of the tile's rows.
    memory: Vec<f32>,
}

struct Work<'a> {
    head: &'a PreparedHead<'a>,
    tile: Tile<'a>,
    selection: &'a mut Selection,
    background: Option<Box<dyn TileBackground + 'a>>,
    panels: Vec<Lanes>,
    buffers: &'a mut Buffers,
    earlier: Option<&'a [Carried]>,
    output: &'a mut [f32],
    report: TileReport,
}

/// Running sums of a panel's rows.
#[derive(Clone)]
struct Lanes {
    /// Rows of the tile.
    rows: Range<usize>,
    running: Running,
    /// Log-scale of the background, base 2.
    log_scale: [f32; PANEL],
    taken: Taken,
    pairs: [u32; PANEL],
}

/// One row's query and running sums, for its list.
struct Row {
    query: Vec<f32>,
    numerator: Vec<f32>,
    carried: Carried,
    /// Log-scale of the background, base 2.
    log_scale: f32,
}

impl<'a> Work<'a> {
    fn new(
        head: &'a PreparedHead<'a>,
        tile: Tile<'a>,
        selection: &'a mut Selection,
        background: Option<Box<dyn TileBackground + 'a>>,
        output: &'a mut [f32],
        buffers: &'a mut Buffers,
    ) -> Self {
        let count = tile.rows.len();
        let mut panels: Vec<Lanes> = (0..count)
            .step_by(PANEL)
            .map(|start| Lanes::new(start..(start + PANEL).min(count), background.as_deref()))
            .collect();
        if background.is_some() && head.visits.count() == 1 && !head.mask.has_boolean() {
            for r in (0..count).filter(|&r| holds_all(selection, r, head.mask.range(tile.rows[r] as usize))) {
                panels[r / PANEL].forgo_background(r % PANEL);
            }
        }
        let d_v = head.value.cols();
        buffers.numerator.clear();
        buffers.numerator.resize(panels.len() * d_v * PANEL, 0.0);
        Self {
            head,
            tile,
            selection,
            background,
            panels,
            buffers,
            earlier: None,
            output,
            report: TileReport {
                carried: vec![Carried::default(); count],
                kept: vec![0.0; count],
                memory: Vec::new(),
                log_sum_exp: Vec::new(),
                recomputed: 0,
            },
        }
    }

    fn d_v(&self) -> usize {
        self.head.value.cols()
    }

    /// Queries carry the scale and log₂e.
    fn query_factor(&self) -> f32 {
        self.head.scale * LOG2_E
    }

    /// A row's sums, joined with those of earlier passes, and the factors of the numerators: here, and from before.
    fn joined(&self, r: usize) -> (Carried, f32, f32) {
        let mut carried = self.panels[r / PANEL].get(r % PANEL);
        match self.earlier {
            Some(earlier) => {
                let (own, before) = carried.join(&earlier[self.tile.rows[r] as usize]);
                (carried, own, before)
            }
            None => (carried, 1.0, 0.0),
        }
    }

    /// Lets the background leave what later passes need.
    fn remember(&mut self) {
        if let (Some(background), Some(summary)) = (&self.background, self.head.summary) {
            self.report.memory.resize(self.tile.rows.len() * summary.memory(), 0.0);
            background.remember(&mut self.report.memory);
        }
    }

    /// Leaves the sums to a later pass.
    fn keep(&mut self) {
        let (d_v, level) = (self.d_v(), self.head.level);
        for panel in 0..self.panels.len() {
            let rows = self.panels[panel].rows.clone();
            let mut factor = [0.0; PANEL];
            for (lane, r) in rows.clone().enumerate() {
                let (carried, own, before) = self.joined(r);
                self.report.carried[r] = carried;
                self.report.kept[r] = before;
                factor[lane] = own;
            }
            let numerator = &mut self.buffers.numerator[panel * d_v * PANEL..(panel + 1) * d_v * PANEL];
            if self.earlier.is_some() {
                kernel::scale_lanes(level, numerator, &factor);
            }
            kernel::unpack_rows(level, numerator, &mut self.output[rows.start * d_v..rows.end * d_v]);
        }
    }

    fn blocks(&mut self) {
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

    /// A block: chunks of keys outside, panels inside; first the weights of all panels, then their sums, so that key
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
            // Where the scores of each panel start.
            let slot = chunk.len() * PANEL;
            let scores = &mut self.buffers.scores;
            scores.resize(scores.len().max(seen.len() * slot), 0.0);
            for (p, seen) in seen.iter().enumerate() {
                if let Some((keys, at)) = part(&block.keys, &chunk, &seen.hull) {
                    self.weights(seen, p * slot, &keys, at);
                }
            }
            for (p, seen) in seen.iter().enumerate() {
                if let Some((keys, _)) = part(&block.keys, &chunk, &seen.hull) {
                    self.sum(seen.panel, p * slot, &keys);
                }
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

    /// Weights of a block's keys, `at` in it, for a panel: into the scores from `first`.
    fn weights(&mut self, seen: &PanelSeen<'_>, first: usize, keys: &Keys, at: Range<usize>) {
        let head = self.head;
        let (panel, d, d_v) = (seen.panel, head.query.cols(), self.d_v());
        let lanes = &mut self.panels[panel];
        let Buffers { query, numerator, scores, entries, gathered, .. } = &mut *self.buffers;
        let scores = &mut scores[first..first + keys.len() * PANEL];
        let (key, near) = Self::rows_of(head.key, &gathered.0, keys);
        kernel::product(head.level, &query[panel * d * PANEL..(panel + 1) * d * PANEL], key, &near, scores);
        if let Some(background) = &mut self.background {
            entries.resize(scores.len(), 0.0);
            background.entries_panel(panel, keys, entries);
        }
        hide(head, &self.tile, lanes, keys, seen, at, scores, entries);
        let subtract = self.background.is_some().then_some(Subtract {
            entries,
            log_scale: &lanes.log_scale,
            taken: &mut lanes.taken,
        });
        if kernel::softmax(head.level, scores, &mut lanes.running, subtract) {
            let numerator = &mut numerator[panel * d_v * PANEL..(panel + 1) * d_v * PANEL];
            kernel::scale_lanes(head.level, numerator, &lanes.running.rescale);
        }
    }

    /// Adds the values under the weights from `first`.
    fn sum(&mut self, panel: usize, first: usize, keys: &Keys) {
        let size = self.d_v() * PANEL;
        let Buffers { numerator, scores, gathered, .. } = &mut *self.buffers;
        let (value, near) = Self::rows_of(self.head.value, &gathered.1, keys);
        let weights = &scores[first..first + keys.len() * PANEL];
        kernel::weighted_sum(self.head.level, weights, value, &near, &mut numerator[panel * size..(panel + 1) * size]);
    }

    /// The lists of all rows.
    fn all_lists(&mut self) {
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

    fn query_row(&self, r: usize) -> Vec<f32> {
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
        if let Some(background) = self.background.as_mut().filter(|_| row.log_scale > f32::NEG_INFINITY) {
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

    /// Normalises the rows of a panel; computes those again where digits were lost.
    fn finish(&mut self, panel: usize) {
        let size = self.d_v() * PANEL;
        let mut totals = std::mem::take(&mut self.buffers.totals);
        let mut total = [0.0; PANEL];
        totals.clear();
        if let Some(background) = &mut self.background {
            totals.resize(size, 0.0);
            background.totals(panel, &mut totals, &mut total);
        }
        let lanes = &self.panels[panel];
        let rows = lanes.rows.clone();
        let (mut inverse, mut share) = ([0.0; PANEL], [0.0; PANEL]);
        let (mut again, mut log_sum_exp) = (Vec::new(), [f32::NEG_INFINITY; PANEL]);
        for (lane, r) in rows.clone().enumerate() {
            let (carried, own, before) = self.joined(r);
            self.report.carried[r] = carried;
            match self.denominator(r, &carried, lanes.log_scale[lane], total[lane]) {
                Denominator::Nothing => {}
                Denominator::Lost { full } => again.push((r, full)),
                Denominator::Usable { value, factor } => {
                    (inverse[lane], share[lane]) = (own / value, factor / value);
                    self.report.kept[r] = before / value;
                    log_sum_exp[lane] = if self.head.log_sum_exp { natural(carried.max, value) } else { 0.0 };
                }
            }
        }
        if self.head.log_sum_exp {
            self.report.log_sum_exp.extend(&log_sum_exp[..rows.len()]);
        }
        let numerator = &mut self.buffers.numerator[panel * size..(panel + 1) * size];
        if totals.is_empty() {
            kernel::scale_lanes(self.head.level, numerator, &inverse);
        } else {
            kernel::blend_lanes(self.head.level, numerator, &inverse, &totals, &share);
        }
        self.buffers.totals = totals;
        let d_v = size / PANEL;
        kernel::unpack_rows(self.head.level, numerator, &mut self.output[rows.start * d_v..rows.end * d_v]);
        for (r, full) in again {
            self.recompute(r, full);
        }
    }

    fn denominator(&self, r: usize, row: &Carried, log_scale: f32, total: f32) -> Denominator {
        let visible = self.head.mask.visible(self.tile.rows[r] as usize);
        let Some(background) = &self.background else {
            return if row.pairs > 0 {
                Denominator::Usable { value: row.sum, factor: 0.0 }
            } else {
                Denominator::Nothing
            };
        };
        if visible == 0 {
            return Denominator::Nothing;
        }
        let full = row.pairs as usize == visible;
        if full && log_scale == f32::NEG_INFINITY && total.is_finite() && row.taken.is_finite() {
            return Denominator::Usable { value: row.sum, factor: 0.0 };
        }
        let factor = shrink(log_scale, row.max);
        let value = row.sum + factor * (total - row.taken);
        let terms = row.sum + factor * (total.abs() + row.taken_magnitude);
        let magnitude = row.sum + factor * background.magnitude(r, total);
        let usable = terms.is_finite() && value > CANCELLED * terms && value > VANISHED * magnitude;
        if usable && !full { Denominator::Usable { value, factor } } else { Denominator::Lost { full } }
    }

    fn write(&mut self, r: usize, max: f32, denominator: f32, numerator: &[f32]) {
        let d_v = numerator.len();
        if let Some(l) = self.report.log_sum_exp.get_mut(r) {
            *l = natural(max, denominator);
        }
        for (o, n) in self.output[r * d_v..(r + 1) * d_v].iter_mut().zip(numerator) {
            *o = n / denominator;
        }
    }

    /// All visible keys of a row on the support.
    fn support_row(&self, r: usize) -> Vec<u32> {
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
    fn recompute(&mut self, r: usize, full: bool) {
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

    /// Makes NaN of the rows that used a query, key or value which is not finite.
    fn spread_taint(&mut self) {
        if self.head.tainted_keys.is_none() && self.head.tainted_queries.is_none() {
            return;
        }
        let d_v = self.d_v();
        let all = self.background.is_some() || self.head.select.is_some_and(|s| s.reads_all_keys());
        for r in 0..self.tile.rows.len() {
            let i = self.tile.rows[r] as usize;
            let keys = if all { None } else { Some(self.support_row(r)) };
            if self.spoiled(i, keys.as_deref()) {
                self.output[r * d_v..(r + 1) * d_v].fill(f32::NAN);
                self.report.kept[r] = 0.0;
                if let Some(l) = self.report.log_sum_exp.get_mut(r) {
                    *l = f32::NAN;
                }
            }
        }
    }

    /// Whether query i, or a key among those it uses (`None`: all that it sees), is not finite.
    fn spoiled(&self, i: usize, keys: Option<&[u32]>) -> bool {
        let mask = self.head.mask;
        let query = self.head.tainted_queries.is_some_and(|t| t[i]);
        let key = |k: usize| self.head.tainted_keys.is_some_and(|t| t[k]);
        match keys {
            Some(keys) => keys.iter().any(|&k| query || key(k as usize)),
            None if query => mask.visible(i) > 0,
            None => {
                let allowed = mask.allowed_row(i);
                mask.range(i).any(|k| key(k) && allowed.is_none_or(|a| a[k] != 0))
            }
        }
    }
}

enum Denominator {
    /// The row has nothing to attend to.
    Nothing,
    Usable {
        value: f32,
        /// Of the background's sums.
        factor: f32,
    },
    /// Too few digits; `full`: all visible keys are on the support.
    Lost { full: bool },
}

impl Lanes {
    fn new(rows: Range<usize>, background: Option<&dyn TileBackground>) -> Self {
        let mut log_scale = [f32::NEG_INFINITY; PANEL];
        if let Some(background) = background {
            rows.clone().zip(&mut log_scale).for_each(|(r, l)| *l = background.log_scale(r) * LOG2_E);
        }
        let running = Running { max: log_scale, ..Running::default() };
        Self { rows, running, log_scale, taken: Taken::default(), pairs: [0; PANEL] }
    }

    /// Leaves a row to its support.
    fn forgo_background(&mut self, lane: usize) {
        self.log_scale[lane] = f32::NEG_INFINITY;
        self.running.max[lane] = f32::NEG_INFINITY;
    }

    fn get(&self, lane: usize) -> Carried {
        Carried {
            max: self.running.max[lane],
            sum: self.running.sum[lane],
            taken: self.taken.sum[lane],
            taken_magnitude: self.taken.magnitude[lane],
            pairs: self.pairs[lane],
        }
    }

    fn put(&mut self, lane: usize, carried: &Carried) {
        self.running.max[lane] = carried.max;
        self.running.sum[lane] = carried.sum;
        self.taken.sum[lane] = carried.taken;
        self.taken.magnitude[lane] = carried.taken_magnitude;
        self.pairs[lane] = carried.pairs;
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

/// Whether a selection has every key that a row sees, so that nothing is left to the background. Blocks with single
/// pairs taken out are not looked into.
fn holds_all(selection: &Selection, row: usize, seen: Range<usize>) -> bool {
    let mut missing = seen.len();
    let list = selection.lists.get(row).map_or(&[][..], |list| list);
    let blocks =
        || selection.blocks.iter().filter(|b| b.rows.contains(&row) && b.only.is_none() && b.except.is_empty());
    let most = list.len() + blocks().map(|b| b.keys.len()).sum::<usize>();
    if seen.is_empty() || most < missing {
        return false;
    }
    missing = missing.saturating_sub(list.iter().filter(|&&k| seen.contains(&(k as usize))).count());
    for block in blocks() {
        let clip = block.clip.as_ref().map_or(seen.clone(), |clip| clip[row - block.rows.start].clone());
        let inside = clip.start.max(seen.start)..clip.end.min(seen.end);
        missing = missing.saturating_sub(match &block.keys {
            Keys::Range(keys) => keys.end.min(inside.end).saturating_sub(keys.start.max(inside.start)),
            Keys::List(keys) => keys.iter().filter(|&&k| inside.contains(&(k as usize))).count(),
        });
    }
    missing == 0
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

/// Takes hidden pairs out of scores and background weights, and counts the others. `at`: the keys' place in the block.
#[allow(clippy::too_many_arguments, reason = "split borrows of one struct")]
fn hide(
    head: &PreparedHead<'_>,
    tile: &Tile<'_>,
    lanes: &mut Lanes,
    keys: &Keys,
    seen: &PanelSeen<'_>,
    at: Range<usize>,
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
    let only = seen.only.as_ref().map(|only| &only[at.clone()]);
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
        let except: Vec<_> = seen.except.iter().map(|(lanes, codes)| (*lanes, &codes[at.clone()])).collect();
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

/// Turns scores of one row into weights; raises the reference and returns the factor of what was summed before.
fn weigh(level: Level, scores: &mut [f32], max: &mut f32) -> f32 {
    let top = scores.iter().copied().fold(*max, f32::max);
    let rescale = shrink(*max, top);
    *max = top;
    scores.iter_mut().for_each(|s| *s -= top);
    kernel::exp2_slice(level, scores);
    rescale
}

/// 2^{from − to}, 0 where `from` is −∞.
fn shrink(from: f32, to: f32) -> f32 {
    if from == f32::NEG_INFINITY {
        0.0
    } else if from == to {
        1.0
    } else {
        kernel::exp2(from - to)
    }
}

/// ln(2^max · sum).
fn natural(max: f32, sum: f32) -> f32 {
    max * LN_2 + sum.ln()
}
