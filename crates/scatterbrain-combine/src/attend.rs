//! The one public call: checks, per-head preparation, tiles in the caller's rayon pool.

use crate::check::{self, Side, Sizes};
use crate::group::{GroupExtent, Summaries};
use crate::method::{Kind, Method, Parts};
use crate::plan::{Config, LayerPlan};
use crate::tile::{Carried, Earlier, PreparedHead, Scratch, TileReport, compute};
use rayon::prelude::*;
use scatterbrain_core::kernel;
use scatterbrain_core::tile::TILE_ROWS;
use scatterbrain_core::{Error, Level, Mask, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::f32::consts::LOG2_E;
use std::time::{Duration, Instant};

/// Tiles a thread whose results are held before they are written to the output: they stay in the second cache.
const WAVE: usize = 4;

/// How to compute. The default: scale 1/√d, no log-sum-exp, the best SIMD level of the CPU.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The softmax scale; 1/√d where absent. Any number, also negative or zero, that log₂e times is still finite.
    pub scale: Option<f32>,
    /// Whether [`attend`] returns the log-sum-exp of each row.
    pub log_sum_exp: bool,
    /// The SIMD level; results are the same to the bit for one level.
    pub level: Option<Level>,
}

/// What [`attend`] returns.
#[derive(Debug, Clone)]
pub struct Attention {
    /// `[batch, heads, n, d_v]`.
    pub output: Vec<f32>,
    /// ln Σ_j Â_ij, `[batch, heads, n]`, where asked for; −∞ for rows with nothing to attend to.
    pub log_sum_exp: Option<Vec<f32>>,
    /// What was spent.
    pub report: Report,
}

/// What a call spent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// Seconds of preparation that depend on the input (hashing, features, sums), over all heads.
    pub setup_seconds: f64,
    /// Units of the background per query.
    pub background_units: usize,
    /// (Exact pairs + units of the background) / visible pairs, averaged over rows that see a key.
    pub share: f64,
    /// Pairs looked at in low precision over visible pairs, averaged over rows that see a key; they are not in `share`.
    #[serde(default)]
    pub scan_share: f64,
    /// Rows computed again without subtraction, or exactly, for want of digits.
    pub recomputed_rows: usize,
    /// By head, batch-major.
    pub heads: Vec<HeadReport>,
}

/// What one head spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeadReport {
    /// Pairs evaluated exactly.
    pub exact_pairs: u64,
    /// Pairs that the masks leave.
    pub visible_pairs: u64,
    /// The head's share.
    pub share: f64,
    /// The head's part of [`Report::scan_share`].
    #[serde(default)]
    pub scan_share: f64,
    /// Rows computed again.
    pub recomputed_rows: usize,
    /// Whether a plan left the head to exact attention.
    #[serde(default)]
    pub fallback: bool,
}

/// Attention by any method.
///
/// `query` `[batch, heads, n, d]`, `key` `[batch, kv_heads, m, d]`, `value` `[batch, kv_heads, m, d_v]`; query head i
/// uses key head i / (heads / kv_heads). Runs in the caller's rayon pool; the same inputs give the same bits for
/// any number of threads, and for a batch entry alone or among others.
///
/// # Errors
/// Shapes that do not fit each other or the method, a budget beyond m, a scale that is not finite, finite inputs
/// whose logits or norms overflow f32. A NaN or an infinity in a tensor makes NaN of the rows that use it.
///
/// # Cost
/// Support: (d + d_v + features) multiply-adds a pair. Background: features·(d + d_v) a row and a key. Memory: one
/// head group's preparation (see the parts) and a few tiles; nothing of size n × m.
///
/// ```
/// use scatterbrain_combine::{Method, Options, attend};
/// use scatterbrain_core::{Mask, Tensor};
/// let x = [0.1f32, 0.2, 0.3, 0.4, 0.5, 0.6];
/// let q = Tensor::f32("query", &x, [1, 1, 3, 2])?;
/// let out = attend(&q, &q, &q, &Mask::causal(), &Method::exact(), &Options::default())?;
/// assert_eq!(out.output[..2], x[..2]); // the first row sees the first key alone
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
pub fn attend(
    query: &Tensor<'_>,
    key: &Tensor<'_>,
    value: &Tensor<'_>,
    mask: &Mask<'_>,
    method: &Method,
    options: &Options,
) -> Result<Attention> {
    let sizes = Sizes::check(query, key, value, mask)?;
    let rows = sizes.batch * sizes.heads * sizes.n;
    let mut output = vec![0.0; rows * sizes.d_v];
    let mut log_sum_exp = options.log_sum_exp.then(|| vec![f32::NEG_INFINITY; rows]);
    let report = attend_into(query, key, value, mask, method, options, &mut output, log_sum_exp.as_deref_mut())?;
    Ok(Attention { output, log_sum_exp, report })
}

/// [`attend`] into the caller's memory: `output` `[batch, heads, n, d_v]` and, where given, `log_sum_exp`
/// `[batch, heads, n]`. `options.log_sum_exp` is not looked at.
///
/// # Errors
/// As [`attend`], and an output of another size. What the arguments show is found before anything is written; what the data of
/// a key/value head show (ranges, norms that overflow a hash) may come after other heads were written, and `output` is
/// unspecified then.
#[allow(clippy::too_many_arguments, reason = "six of them are attend's own; two are where the result goes")]
pub fn attend_into(
    query: &Tensor<'_>,
    key: &Tensor<'_>,
    value: &Tensor<'_>,
    mask: &Mask<'_>,
    method: &Method,
    options: &Options,
    output: &mut [f32],
    log_sum_exp: Option<&mut [f32]>,
) -> Result<Report> {
    let call = Call::new(query, key, value, mask, options)?;
    let rows = call.sizes.batch * call.sizes.heads * call.sizes.n;
    if output.len() != rows * call.sizes.d_v {
        return Err(Error::invalid("output", format!("{} elements", rows * call.sizes.d_v), output.len()));
    }
    if let Some(l) = log_sum_exp.as_ref().filter(|l| l.len() != rows) {
        return Err(Error::invalid("log_sum_exp", format!("{rows} elements"), l.len()));
    }
    if let Some(budget) = method.budget.filter(|&b| b > call.sizes.m) {
        return Err(Error::invalid("budget", format!("1 to {} keys", call.sizes.m), budget));
    }
    match &method.kind {
        Kind::Combined(parts) => call.combined(std::slice::from_ref(parts), output, log_sum_exp),
        Kind::Average(support, background) => call.average(support, background, options, output, log_sum_exp),
        Kind::Planned(plan) => call.planned(plan, output, log_sum_exp),
    }
}

/// The arguments of a call, checked.
pub(crate) struct Call<'a> {
    pub query: &'a Tensor<'a>,
    pub key: &'a Tensor<'a>,
    pub value: &'a Tensor<'a>,
    pub mask: &'a Mask<'a>,
    pub sizes: Sizes,
    pub scale: f32,
    pub level: Level,
}

impl<'a> Call<'a> {
    /// Checks shapes, masks and scale.
    ///
    /// # Errors
    /// As [`attend`], but for what depends on the method and for ranges ([`Call::check_ranges`]).
    pub(crate) fn new(
        query: &'a Tensor<'a>,
        key: &'a Tensor<'a>,
        value: &'a Tensor<'a>,
        mask: &'a Mask<'a>,
        options: &Options,
    ) -> Result<Self> {
        let sizes = Sizes::check(query, key, value, mask)?;
        let scale = options.scale.unwrap_or(1.0 / (query.shape()[3] as f32).sqrt());
        // Logits count in base 2.
        if !(scale * LOG2_E).is_finite() {
            return Err(Error::invalid("scale", "a finite number, and log₂e times it", scale));
        }
        Ok(Call { query, key, value, mask, sizes, scale, level: options.level.unwrap_or_else(Level::detect) })
    }

    /// `parts`: of every query head, or one for all.
    fn combined(&self, parts: &[Parts], output: &mut [f32], lse: Option<&mut [f32]>) -> Result<Report> {
        let grown = parts.iter().any(|p| p.background.is_some());
        let Sizes { n, d_v, .. } = self.sizes;
        let group = self.group_size();
        // Ranges of a group right before it is computed with, while its rows are in a cache: up to a twentieth of the time of
        // methods that read each row a few times.
        let run = |g, output, lse| self.group(g, &self.check_group(g, grown)?, parts, output, lse);
        let outputs = output.par_chunks_mut(group * n * d_v);
        let groups: Vec<Result<Vec<(HeadReport, Duration)>>> = match lse {
            Some(lse) => {
                let both = outputs.zip(lse.par_chunks_mut(group * n)).enumerate();
                both.map(|(g, (output, lse))| run(g, output, Some(lse))).collect()
            }
            None => outputs.enumerate().map(|(g, output)| run(g, output, None)).collect(),
        };
        let background_units = parts.iter().map(Parts::background_units).max().unwrap_or(0);
        let mut report = Report { background_units, ..Report::default() };
        for group in groups {
            for (head, setup) in group? {
                report.setup_seconds += setup.as_secs_f64();
                report.recomputed_rows += head.recomputed_rows;
                report.heads.push(head);
            }
        }
        report.share = report.heads.iter().map(|h| h.share).sum::<f64>() / report.heads.len() as f64;
        report.scan_share = report.heads.iter().map(|h| h.scan_share).sum::<f64>() / report.heads.len() as f64;
        Ok(report)
    }

    /// Ranges of all heads; the extents are kept, a group at a time.
    pub(crate) fn check_ranges(&self, grown: bool) -> Result<Vec<GroupExtent>> {
        let groups = 0..self.sizes.batch * self.sizes.kv_heads;
        // The first error, whichever thread is first to find one.
        let checked: Vec<Result<_>> = groups.into_par_iter().map(|index| self.check_group(index, grown)).collect();
        checked.into_iter().collect()
    }

    /// Ranges of the query heads that share one key/value head, before anything of theirs is written.
    fn check_group(&self, index: usize, grown: bool) -> Result<GroupExtent> {
        let Sizes { kv_heads, n, m, .. } = self.sizes;
        let group = self.group_size();
        let (batch, kv_head) = (index / kv_heads, index % kv_heads);
        let heads = kv_head * group..(kv_head + 1) * group;
        let length = self.mask.head(batch, heads.start, n, m).length();
        // Keys and values last: they are read next.
        let queries: Vec<Side<'_>> = heads.map(|head| Side::new(self.level, self.query, (batch, head), n)).collect();
        let value = kernel::head_extent(self.level, self.value, batch, kv_head, length);
        check::check_values(value, length, grown)?;
        let key = Side::new(self.level, self.key, (batch, kv_head), length);
        for query in &queries {
            check::check_range(self.level, query, &key, self.scale)?;
        }
        Ok(GroupExtent { query: queries.iter().map(|query| query.extent).collect(), key: key.extent, value })
    }

    /// The query heads that share one key/value head.
    fn group(
        &self,
        index: usize,
        extent: &GroupExtent,
        parts: &[Parts],
        output: &mut [f32],
        mut lse: Option<&mut [f32]>,
    ) -> Result<Vec<(HeadReport, Duration)>> {
        let Sizes { kv_heads, n, d_v, .. } = self.sizes;
        let group = self.group_size();
        let (batch, first) = (index / kv_heads, index % kv_heads * group);
        let start = Instant::now();
        let rows = self.key_rows(index, extent);
        let own = if parts.len() == 1 { parts } else { &parts[first..first + group] };
        let keys = rows.head(self);
        let mut summaries = Summaries::default();
        let mut setup = start.elapsed();
        // Where groups are many, they are parallelism enough. Without a background nothing is prepared once a head, and
        // smaller pieces make up for what a thread loses to other programs.
        let threads = rayon::current_num_threads();
        let groups = self.sizes.batch * kv_heads;
        let enough = if own.iter().all(|p| p.background.is_none()) { 16 } else { 4 };
        let parallel = threads > 1 && groups < enough * threads;
        let mut space = Workspace { scratch: (!parallel).then(Scratch::default), ..Workspace::default() };
        let mut reports = Vec::with_capacity(group);
        for (h, output) in output.chunks_mut(n * d_v).enumerate() {
            let lse = lse.as_mut().map(|l| &mut l[h * n..(h + 1) * n]);
            let start = Instant::now();
            let parts = if parts.len() == 1 { &parts[0] } else { &parts[first + h] };
            let summary = summaries.of(&keys, parts)?;
            let head = self.query_rows(batch, first + h, extent.query[h]);
            let seen = head.head(&keys);
            let select = parts.support.as_ref().map(|support| match summary {
                Some(summary) => support.prepare_beside(&seen, summary),
                None => support.prepare(&seen),
            });
            let select = select.transpose()?;
            setup += start.elapsed();
            let prepared = head.prepared(&rows, &keys, parts, select.as_deref(), summary, lse.is_some());
            let units = parts.background_units();
            let mut report = run_head(&prepared, units, output, lse, &mut space);
            if parts.support.as_ref().is_some_and(|s| s.scans()) {
                report.scan_share = 1.0;
            }
            reports.push((report, std::mem::take(&mut setup)));
        }
        Ok(reports)
    }

    /// Every head as the plan has it.
    fn planned(&self, plan: &LayerPlan, output: &mut [f32], lse: Option<&mut [f32]>) -> Result<Report> {
        let configs = plan.resolve(self)?;
        let mut report = self.combined(&plan.parts(&configs)?, output, lse)?;
        for (head, config) in report.heads.iter_mut().zip(configs.iter().cycle()) {
            head.fallback = *config == Config::Exact;
        }
        Ok(report)
    }

    fn average(
        &self,
        support: &Method,
        background: &Method,
        options: &Options,
        output: &mut [f32],
        mut lse: Option<&mut [f32]>,
    ) -> Result<Report> {
        let options = Options { log_sum_exp: lse.is_some(), ..*options };
        let far = attend(self.query, self.key, self.value, self.mask, background, &options)?;
        let (near_lse, mask) = (lse.as_deref_mut(), self.mask);
        let near = attend_into(self.query, self.key, self.value, mask, support, &options, output, near_lse)?;
        output.iter_mut().zip(&far.output).for_each(|(o, f)| *o = 0.5 * (*o + f));
        for (l, f) in lse.into_iter().flatten().zip(far.log_sum_exp.unwrap_or_default()) {
            let top = l.max(f);
            if top > f32::NEG_INFINITY {
                *l = top + (0.5 * ((*l - top).exp() + (f - top).exp())).ln();
            }
        }
        let mut report = near;
        report.setup_seconds += far.report.setup_seconds;
        report.recomputed_rows += far.report.recomputed_rows;
        report.background_units = far.report.background_units;
        for (a, b) in report.heads.iter_mut().zip(&far.report.heads) {
            a.exact_pairs += b.exact_pairs;
            a.share += b.share;
            a.scan_share += b.scan_share;
            a.recomputed_rows += b.recomputed_rows;
        }
        report.share += far.report.share;
        report.scan_share += far.report.scan_share;
        Ok(report)
    }
}

/// What the tiles of a head have left so far.
struct HeadRun<'a> {
    carried: Vec<Carried>,
    /// What the background left of the rows.
    memory: Vec<f32>,
    recomputed_rows: usize,
    log_sum_exp: Option<&'a mut [f32]>,
}

/// Memory that the heads of a group use in turn.
#[derive(Default)]
struct Workspace {
    /// Where the tiles of a head run on one thread.
    scratch: Option<Scratch>,
    /// Rows of a wave.
    buffer: Vec<f32>,
}

impl HeadRun<'_> {
    fn put(&mut self, rows: &[u32], report: &TileReport) {
        self.recomputed_rows += report.recomputed;
        let width = report.memory.len() / rows.len();
        for (&i, row) in rows.iter().zip(report.memory.chunks_exact(width.max(1))) {
            self.memory[i as usize * width..(i as usize + 1) * width].copy_from_slice(row);
        }
        for (r, &i) in rows.iter().enumerate() {
            self.carried[i as usize] = report.carried[r];
            if let (Some(to), Some(from)) = (&mut self.log_sum_exp, report.log_sum_exp.get(r)) {
                to[i as usize] = *from;
            }
        }
    }

    /// Tiles of the listed rows, into `output` in their order; in parallel without a scratch of this thread's own.
    fn tiles(
        &self,
        head: &PreparedHead<'_>,
        pass: usize,
        order: &[u32],
        earlier: Option<Earlier<'_>>,
        output: &mut [f32],
        scratch: Option<&mut Scratch>,
    ) -> Vec<TileReport> {
        let size = TILE_ROWS * head.value.cols();
        let compute = |scratch: &mut Scratch, (output, rows): (&mut [f32], &[u32])| {
            compute(head, pass, rows, earlier, output, scratch)
        };
        match scratch {
            Some(scratch) => {
                let tiles = output.chunks_mut(size).zip(order.chunks(TILE_ROWS));
                tiles.map(|tile| compute(scratch, tile)).collect()
            }
            None => {
                let tiles = output.par_chunks_mut(size).zip(order.par_chunks(TILE_ROWS));
                tiles.map_init(Scratch::default, compute).collect()
            }
        }
    }

    /// Tiles of neighbours, each written where it belongs.
    fn neighbours(&mut self, head: &PreparedHead<'_>, order: &[u32], output: &mut [f32], space: &mut Workspace) {
        let reports = self.tiles(head, 0, order, None, output, space.scratch.as_mut());
        order.chunks(TILE_ROWS).zip(&reports).for_each(|(rows, report)| self.put(rows, report));
    }

    /// Tiles in any order, a wave at a time, copied to their places.
    fn scattered(
        &mut self,
        head: &PreparedHead<'_>,
        pass: usize,
        order: &[u32],
        output: &mut [f32],
        space: &mut Workspace,
    ) {
        let d_v = head.value.cols();
        let threads = if space.scratch.is_some() { 1 } else { rayon::current_num_threads() };
        let wave = (TILE_ROWS * WAVE * threads).min(order.len());
        space.buffer.resize(wave * d_v, 0.0);
        let buffer = &mut space.buffer;
        for wave in order.chunks(wave) {
            let earlier = (pass > 0).then_some(Earlier { carried: &self.carried, memory: &self.memory });
            let rows = &mut buffer[..wave.len() * d_v];
            let reports = self.tiles(head, pass, wave, earlier, rows, space.scratch.as_mut());
            wave.chunks(TILE_ROWS).zip(&reports).for_each(|(rows, report)| self.put(rows, report));
            for ((rows, report), from) in wave.chunks(TILE_ROWS).zip(&reports).zip(buffer.chunks(TILE_ROWS * d_v)) {
                kernel::scatter_rows(head.level, &from[..rows.len() * d_v], d_v, rows, &report.kept, output);
            }
        }
    }
}

/// All tiles of a head, pass by pass.
fn run_head(
    head: &PreparedHead<'_>,
    units: usize,
    output: &mut [f32],
    lse: Option<&mut [f32]>,
    space: &mut Workspace,
) -> HeadReport {
    let n = head.mask.n();
    let natural: Vec<u32> = (0..n as u32).collect();
    let passes = head.visits.count();
    let memory = vec![0.0; if passes > 1 { n * head.summary.map_or(0, |s| s.memory()) } else { 0 }];
    let mut run = HeadRun { carried: vec![Carried::default(); n], memory, recomputed_rows: 0, log_sum_exp: lse };
    for pass in 0..passes {
        let own = head.visits.rounds.is_some_and(|rounds| pass < rounds);
        match head.select.filter(|_| own).and_then(|s| s.order(pass)) {
            None if pass == 0 => run.neighbours(head, &natural, output, space),
            order => run.scattered(head, pass, order.unwrap_or(&natural), output, space),
        }
    }
    let HeadRun { carried, recomputed_rows, .. } = run;
    let mut report = HeadReport { recomputed_rows, ..HeadReport::default() };
    let (mut share, mut scan_share, mut seeing) = (0.0, 0.0, 0usize);
    for (i, row) in carried.iter().enumerate() {
        let visible = head.mask.visible(i);
        report.exact_pairs += u64::from(row.pairs);
        report.visible_pairs += visible as u64;
        if visible > 0 {
            share += (row.pairs as usize + units) as f64 / visible as f64;
            scan_share += f64::from(row.scanned) / visible as f64;
            seeing += 1;
        }
    }
    let rows = seeing.max(1) as f64;
    (report.share, report.scan_share) = (share / rows, scan_share / rows);
    report
}
