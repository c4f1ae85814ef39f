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
//! Dense blocks go chunk by chunk of keys, and in each chunk strip by strip of panels, so that keys and values stay in the first
//! cache; then the lists, row by row; then normalisation. Where a support has several passes ([`Select::passes`]), each
//! is a tile of its own; running sums of rows are joined after each, and [`TileReport::kept`] says by which factor the
//! numerators that stand from before enter.
//!
//! **Cancellation.** Z − Σ_𝒮 w loses digits where 𝒮 holds nearly all of the background's mass. A row whose
//! denominator falls under [`CANCELLED`] of the sum of its terms' magnitudes (so at most 5 bits are lost elsewhere)
//! is computed again without subtraction: the background is summed directly over the visible keys off 𝒮, O(m·features).
//! If even that is not positive, or falls under [`VANISHED`] of its terms (signed features; features that vanish),
//! the row is computed as exact attention. Both are counted as recomputed.

mod again;
mod blocks;
mod lists;

use aligned_vec::AVec;
use scatterbrain_core::kernel::{self, PANEL, Running, Taken};
use scatterbrain_core::tile::{Block, Keys, Select, Selection, Summary, TILE_ROWS, Tile, TileBackground};
use scatterbrain_core::{HeadMask, Level, Matrix};
use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;

/// 2¹⁹ roundings of f32.
const CANCELLED: f32 = 1.0 / 32.0;
/// 2¹² roundings of f32.
const VANISHED: f32 = 1.0 / 4096.0;

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
    /// Pairs that the background looked at in low precision; known after the last pass.
    pub scanned: u32,
}

impl Default for Carried {
    fn default() -> Self {
        Self { max: f32::NEG_INFINITY, sum: 0.0, taken: 0.0, taken_magnitude: 0.0, pairs: 0, scanned: 0 }
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
    // A support may leave fewer, or more.
    selection.lists.resize_with(rows.len(), Vec::new);
    let background = head.summary.map(|summary| match earlier {
        Some(earlier) if summary.memory() > 0 => {
            let width = summary.memory();
            let all = Matrix::new("memory", earlier.memory, head.mask.n(), width).expect("a row a query");
            buffers.memory.resize(rows.len() * width, 0.0);
            kernel::gather_rows(head.level, all, rows, &mut buffers.memory);
            summary.recall(&tile, &buffers.memory)
        }
        _ => summary.tile(&tile, selection),
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

/// What products read as whole vectors is aligned, so that none lies in two cache lines.
struct Buffers {
    /// Scaled queries, `[d][PANEL]` a panel; empty where no panel needs them.
    query: AVec<f32>,
    /// Numerators, `[d_v][PANEL]` a panel.
    numerator: AVec<f32>,
    /// Numerators of a panel as rows.
    rows: Vec<f32>,
    /// Rows of key and value that a block lists.
    gathered: (Vec<f32>, Vec<f32>),
    /// Scores and background weights of a block's keys at hand.
    scores: AVec<f32>,
    entries: Vec<f32>,
    /// The same of the keys that a row lists.
    list: (Vec<f32>, Vec<f32>),
    /// Sums of a background, `[d_v][PANEL]`.
    totals: Vec<f32>,
    /// What a background left of the tile's rows.
    memory: Vec<f32>,
}

impl Default for Buffers {
    fn default() -> Self {
        // 0 asks for no more than its own alignment, which is that of a cache line.
        let [query, numerator, scores] = [(); 3].map(|()| AVec::new(0));
        let (rows, gathered, entries, list) = Default::default();
        let (totals, memory) = Default::default();
        Buffers { query, numerator, rows, gathered, scores, entries, list, totals, memory }
    }
}

struct Work<'a> {
    head: &'a PreparedHead<'a>,
    tile: Tile<'a>,
    selection: &'a mut Selection,
    background: Option<Box<dyn TileBackground + 'a>>,
    /// Whether the background has weights on the support, which leave its totals.
    subtracts: bool,
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
            subtracts: head.summary.is_some_and(|summary| !summary.extends()),
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

    /// Normalises the rows of a panel; computes those again where digits were lost.
    fn finish(&mut self, panel: usize) {
        let size = self.d_v() * PANEL;
        let mut totals = std::mem::take(&mut self.buffers.totals);
        let mut total = [0.0; PANEL];
        totals.resize(if self.background.is_some() { size } else { 0 }, 0.0);
        if let Some(background) = &mut self.background {
            background.totals(panel, &mut totals, &mut total);
        }
        let lanes = &self.panels[panel];
        let rows = lanes.rows.clone();
        let (mut inverse, mut share) = ([0.0; PANEL], [0.0; PANEL]);
        let (mut again, mut log_sum_exp) = (Vec::new(), [f32::NEG_INFINITY; PANEL]);
        for (lane, r) in rows.clone().enumerate() {
            let (carried, own, before) = self.joined(r);
            let scanned = self.background.as_ref().map_or(0, |b| b.scanned(r)) as u32;
            self.report.carried[r] = Carried { scanned, ..carried };
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
            scanned: 0,
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

/// Whether a selection has every key that a row sees, so that nothing is left to the background. A block with single
/// pairs chosen counts where it alone has them all; blocks with pairs taken out are not looked into.
fn holds_all(selection: &Selection, row: usize, seen: Range<usize>) -> bool {
    if !seen.is_empty() && selection.blocks.iter().any(|block| chooses_all(block, row, &seen)) {
        return true;
    }
    let mut missing = seen.len();
    let list = &selection.lists[row];
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

/// Whether a block of consecutive keys with single pairs chosen has all that a row sees.
fn chooses_all(block: &Block, row: usize, seen: &Range<usize>) -> bool {
    let (Keys::Range(keys), Some(only)) = (&block.keys, &block.only) else { return false };
    if !block.rows.contains(&row) || keys.start > seen.start || keys.end < seen.end {
        return false;
    }
    let plain = block.clip.is_none() && block.except.is_empty();
    let chosen = |bits: &u64| bits >> (row - block.rows.start) & 1 == 1;
    plain && only[seen.start - keys.start..seen.end - keys.start].iter().all(chosen)
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
