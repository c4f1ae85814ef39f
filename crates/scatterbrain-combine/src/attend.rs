//! The one public call: checks, per-head preparation, tiles in the caller's rayon pool.

use crate::check::{self, Sizes};
use crate::method::{Kind, Method};
use crate::tile::{PreparedHead, compute};
use rayon::prelude::*;
use scatterbrain_core::tile::{Background, Head, KeyHead, Support, TILE_ROWS};
use scatterbrain_core::{Error, Level, Mask, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Tiles whose results are held before they are written to the output.
const WAVE: usize = 32;

/// How to compute. The default: scale 1/√d, no log-sum-exp, the best SIMD level of the CPU.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The softmax scale; 1/√d where absent. Any finite number, also negative or zero.
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
pub struct Report {
    /// Seconds of preparation that depend on the input (hashing, features, sums), over all heads.
    pub setup_seconds: f64,
    /// Units of the background per query.
    pub background_units: usize,
    /// (Exact pairs + units of the background) / visible pairs, averaged over rows that see a key.
    pub share: f64,
    /// Rows computed again without subtraction, or exactly, for want of digits.
    pub recomputed_rows: usize,
    /// By head, batch-major.
    pub heads: Vec<HeadReport>,
}

/// What one head spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HeadReport {
    /// Pairs evaluated exactly.
    pub exact_pairs: u64,
    /// Pairs that the masks leave.
    pub visible_pairs: u64,
    /// The head's share.
    pub share: f64,
    /// Rows computed again.
    pub recomputed_rows: usize,
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
/// As [`attend`], and an output of another size. Nothing is written then.
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
    let sizes = Sizes::check(query, key, value, mask)?;
    let rows = sizes.batch * sizes.heads * sizes.n;
    if output.len() != rows * sizes.d_v {
        return Err(Error::invalid("output", format!("{} elements", rows * sizes.d_v), output.len()));
    }
    if let Some(l) = log_sum_exp.as_ref().filter(|l| l.len() != rows) {
        return Err(Error::invalid("log_sum_exp", format!("{rows} elements"), l.len()));
    }
    if let Some(budget) = method.budget.filter(|&b| b > sizes.m) {
        return Err(Error::invalid("budget", format!("1 to {} keys", sizes.m), budget));
    }
    let scale = options.scale.unwrap_or(1.0 / (query.shape()[3] as f32).sqrt());
    if !scale.is_finite() {
        return Err(Error::invalid("scale", "a finite number", scale));
    }
    let call = Call { query, key, value, mask, sizes, scale, level: options.level.unwrap_or_else(Level::detect) };
    let mut own_lse = Vec::new();
    let lse = match log_sum_exp {
        Some(l) => l,
        None => {
            own_lse.resize(rows, 0.0);
            &mut own_lse
        }
    };
    match &method.kind {
        Kind::Combined(support, background) => call.combined(support.as_deref(), background.as_deref(), output, lse),
        Kind::Average(support, background) => call.average(support, background, options, output, lse),
    }
}

struct Call<'a> {
    query: &'a Tensor<'a>,
    key: &'a Tensor<'a>,
    value: &'a Tensor<'a>,
    mask: &'a Mask<'a>,
    sizes: Sizes,
    scale: f32,
    level: Level,
}

impl Call<'_> {
    fn combined(
        &self,
        support: Option<&dyn Support>,
        background: Option<&dyn Background>,
        output: &mut [f32],
        lse: &mut [f32],
    ) -> Result<Report> {
        self.check_ranges()?;
        let Sizes { heads, kv_heads, n, d_v, .. } = self.sizes;
        let group = heads / kv_heads;
        let groups: Vec<Result<Vec<(HeadReport, Duration)>>> = output
            .par_chunks_mut(group * n * d_v)
            .zip(lse.par_chunks_mut(group * n))
            .enumerate()
            .map(|(g, (output, lse))| self.group(g / kv_heads, g % kv_heads, support, background, output, lse))
            .collect();
        let mut report = Report { background_units: background.map_or(0, |b| b.units()), ..Report::default() };
        for group in groups {
            for (head, setup) in group? {
                report.setup_seconds += setup.as_secs_f64();
                report.recomputed_rows += head.recomputed_rows;
                report.heads.push(head);
            }
        }
        report.share = report.heads.iter().map(|h| h.share).sum::<f64>() / report.heads.len() as f64;
        Ok(report)
    }

    /// Ranges of all heads, before any output is written.
    fn check_ranges(&self) -> Result<()> {
        let Sizes { batch, heads, kv_heads, n, m, .. } = self.sizes;
        (0..batch * heads).into_par_iter().try_for_each(|bh| {
            let (b, h) = (bh / heads, bh % heads);
            let mask = self.mask.head(b, h, n, m);
            let (query, key) = (self.query.head(b, h), self.key.head(b, h / (heads / kv_heads)));
            check::check_range(query.matrix(), key.matrix(), self.scale, &mask)?;
            // Once a group.
            let group = heads / kv_heads;
            if h % group == 0 {
                check::check_values(self.value.head(b, h / group).matrix(), &mask)?;
            }
            Ok(())
        })
    }

    /// The query heads that share one key/value head.
    fn group(
        &self,
        batch: usize,
        kv_head: usize,
        support: Option<&dyn Support>,
        background: Option<&dyn Background>,
        output: &mut [f32],
        lse: &mut [f32],
    ) -> Result<Vec<(HeadReport, Duration)>> {
        let Sizes { heads, kv_heads, n, m, d_v, .. } = self.sizes;
        let group = heads / kv_heads;
        let start = Instant::now();
        let shared = self.mask.head(batch, kv_head * group, n, m);
        let (mut key, mut value) = (self.key.head(batch, kv_head), self.value.head(batch, kv_head));
        let used = shared.length();
        let tainted_keys = either(check::repair(&mut key, used), check::repair(&mut value, used));
        let (key, value) = (key.matrix(), value.matrix());
        let keys = KeyHead {
            key,
            value,
            scale: self.scale,
            mask: shared.without_boolean(),
            boolean: shared.has_boolean(),
            level: self.level,
        };
        let summary = background.map(|b| b.prepare(&keys)).transpose()?;
        let mut setup = start.elapsed();
        let mut reports = Vec::with_capacity(group);
        for (h, (output, lse)) in output.chunks_mut(n * d_v).zip(lse.chunks_mut(n)).enumerate() {
            let start = Instant::now();
            let mask = self.mask.head(batch, kv_head * group + h, n, m);
            let mut query = self.query.head(batch, kv_head * group + h);
            let tainted_queries = check::repair(&mut query, n);
            let query = query.matrix();
            let head = Head { query, key, scale: self.scale, mask: &mask, level: self.level };
            let select = support.map(|s| s.prepare(&head)).transpose()?;
            setup += start.elapsed();
            let prepared = PreparedHead {
                query,
                key,
                value,
                scale: self.scale,
                mask: &mask,
                select: select.as_deref(),
                summary: summary.as_deref(),
                level: self.level,
                tainted_keys: tainted_keys.as_deref(),
                tainted_queries: tainted_queries.as_deref(),
            };
            let units = background.map_or(0, |b| b.units());
            reports.push((run_head(&prepared, units, output, lse), std::mem::take(&mut setup)));
        }
        Ok(reports)
    }

    fn average(
        &self,
        support: &Method,
        background: &Method,
        options: &Options,
        output: &mut [f32],
        lse: &mut [f32],
    ) -> Result<Report> {
        let options = Options { log_sum_exp: true, ..*options };
        let far = attend(self.query, self.key, self.value, self.mask, background, &options)?;
        let near = attend_into(self.query, self.key, self.value, self.mask, support, &options, output, Some(lse))?;
        output.iter_mut().zip(&far.output).for_each(|(o, f)| *o = 0.5 * (*o + f));
        for (l, f) in lse.iter_mut().zip(far.log_sum_exp.unwrap_or_default()) {
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
            a.recomputed_rows += b.recomputed_rows;
        }
        report.share += far.report.share;
        Ok(report)
    }
}

fn either(a: Option<Vec<bool>>, b: Option<Vec<bool>>) -> Option<Vec<bool>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.iter().zip(b).map(|(x, y)| *x || y).collect()),
        (a, b) => a.or(b),
    }
}

/// All tiles of a head, a wave at a time.
fn run_head(head: &PreparedHead<'_>, units: usize, output: &mut [f32], lse: &mut [f32]) -> HeadReport {
    let d_v = head.value.cols();
    let n = head.mask.n();
    let natural: Vec<u32>;
    // A select's own order pays only where all rows see the same keys: masks want neighbours together.
    let order = match head.select.and_then(|s| s.order()).filter(|_| head.mask.is_dense()) {
        Some(order) => order,
        None => {
            natural = (0..n as u32).collect();
            &natural
        }
    };
    let mut report = HeadReport::default();
    let (mut share, mut seeing) = (0.0, 0usize);
    let tiles: Vec<&[u32]> = order.chunks(TILE_ROWS).collect();
    for wave in tiles.chunks(WAVE) {
        let results: Vec<_> = wave.par_iter().map(|rows| compute(head, rows)).collect();
        for (rows, result) in wave.iter().zip(results) {
            report.recomputed_rows += result.recomputed;
            for (r, &i) in rows.iter().enumerate() {
                let i = i as usize;
                output[i * d_v..(i + 1) * d_v].copy_from_slice(&result.output[r * d_v..(r + 1) * d_v]);
                lse[i] = result.log_sum_exp[r];
                let visible = head.mask.visible(i);
                report.exact_pairs += result.pairs[r] as u64;
                report.visible_pairs += visible as u64;
                if visible > 0 {
                    share += (result.pairs[r] + units) as f64 / visible as f64;
                    seeing += 1;
                }
            }
        }
    }
    report.share = if seeing == 0 { 0.0 } else { share / seeing as f64 };
    report
}
