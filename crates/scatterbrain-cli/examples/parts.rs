//! Errors of supports and far fields that the library does not have, beside those that it has: what was measured before
//! they were left out. `parts [--heads N] FILE…`, the budget a sixteenth of the keys.
//!
//! A support of one's own and a feature map of one's own in some forty lines each.

#![allow(clippy::print_stdout, reason = "it is a program")]

use anyhow::{Context as _, Result};
use half::f16;
use safetensors::SafeTensors;
use scatterbrain_attention::blocks::{TopK, Union, WindowSupport};
use scatterbrain_attention::features::{
    CentroidBackground, Constant, FeatureBackground, FeatureMap, HyperbolicFeatures, LogFeatures,
    OptimalPositiveFeatures, Projection, ProjectionKind, Role, optimal_a,
};
use scatterbrain_attention::{
    ClusteredSupport, Level, Mask, Matrix, Method, Options, QuantisedTopK, Seed, Tensor, attend,
};
use scatterbrain_core::tile::{Background, Causality, Head, Select, Selection, Summary, Support, Tile};
use std::sync::Arc;

fn main() -> Result<()> {
    let mut heads = usize::MAX;
    let mut files = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--heads" => heads = arguments.next().context("--heads wants a number")?.parse()?,
            _ => files.push(argument),
        }
    }
    for file in files {
        let capture = Capture::read(&file, heads)?;
        let budget = capture.key[0].len() / capture.d / 16;
        println!("{file}, {} heads, budget {budget}", capture.query.len());
        for (name, support) in supports(budget, capture.causal)? {
            let far = Arc::new(centroids(budget)?);
            let (error, keys) =
                capture.measure(&|_| Ok(Method::scatterbrain_shared(support.clone(), far.clone())), false)?;
            println!("  {error:.4}  {keys:7.1} keys  {name}");
        }
        for (name, rule) in thresholds() {
            for far in [Some(Arc::new(centroids(budget)?)), None] {
                let with = |support: Arc<dyn Support>| {
                    let method = || match &far {
                        Some(far) => Method::scatterbrain_shared(support.clone(), far.clone()),
                        None => Method::sparse_shared(support.clone()),
                    };
                    capture.measure(&|_| Ok(method()), false)
                };
                let (error, keys) = match rule {
                    None => with(Arc::new(TopK::new(budget / 2)?))?,
                    Some(rule) => at_count(capture.keys_of(budget / 2), |log| with(Arc::new(Threshold { rule, log })))?,
                };
                println!("  {error:.4}  {keys:7.1} keys  {name}{}", if far.is_some() { "" } else { ", alone" });
            }
        }
        for (name, centred, far) in far_fields(budget) {
            let near = QuantisedTopK::new(budget / 2)?;
            let method = |fit: &Fit| Ok(Method::scatterbrain_shared(Arc::new(near), far(fit)?));
            let (error, _) = capture.measure(&method, centred)?;
            println!("  {error:.4}  {name}");
        }
    }
    Ok(())
}

fn centroids(budget: usize) -> Result<CentroidBackground> {
    Ok(CentroidBackground::new((budget / 4).max(1), Seed(0).derive(3))?)
}

/// All with half of the budget in keys, beside a quarter in centroids.
fn supports(budget: usize, causal: bool) -> Result<Vec<(String, Arc<dyn Support>)>> {
    let keys = budget / 2;
    let mut list: Vec<(String, Arc<dyn Support>)> = vec![
        ("largest quantised logits".into(), Arc::new(QuantisedTopK::new(keys)?)),
        ("clusters by centroid".into(), Arc::new(ClusteredSupport::new(keys, centroids(budget)?)?)),
    ];
    for (score, name) in [(Score::Mean, "mean"), (Score::Box, "box")] {
        for size in [16, 32, 64] {
            list.push((format!("blocks of {size} by {name}"), Arc::new(Blocks { score, size, keys, coarse: None })));
        }
        for factor in [2, 4, 8] {
            let blocks = Blocks { score, size: 16, keys: factor * keys, coarse: None };
            list.push((
                format!("{factor} times the keys in blocks of 16 by {name}, the best of them"),
                Arc::new(Best { of: Arc::new(blocks), keys }),
            ));
        }
        let blocks = Blocks { score, size: 16, keys: 4 * keys, coarse: Some((64, 8 * keys)) };
        list.push((
            format!("8 times the keys in blocks of 64 by {name}, 4 times in blocks of 16, the best of them"),
            Arc::new(Best { of: Arc::new(blocks), keys }),
        ));
    }
    for (name, kind) in
        [("4 bits", Sketched::FourBits), ("64 signs", Sketched::Signs(64)), ("256 signs", Sketched::Signs(256))]
    {
        for factor in [1, 2, 4, 8] {
            let sketch = Sketch { kind, keys: factor * keys };
            list.push((
                format!("{factor} times the keys by {name}, the best of them"),
                Arc::new(Best { of: Arc::new(sketch), keys }),
            ));
        }
    }
    for factor in [2, 4, 8] {
        let clusters = ClusteredSupport::new(factor * keys, centroids(budget)?)?;
        list.push((
            format!("{factor} times the keys in clusters by centroid, the best of them"),
            Arc::new(Best { of: Arc::new(clusters), keys }),
        ));
    }
    for (sinks, share) in [(4, 8), (4, 4), (4, 2), (0, 8)] {
        let near = keys / share;
        let window = if causal { WindowSupport::last(near)? } else { WindowSupport::around(near)? };
        let parts: Vec<Arc<dyn Support>> =
            vec![Arc::new(window.with_sinks(sinks)), Arc::new(QuantisedTopK::new(keys - near - sinks)?)];
        list.push((
            format!("{sinks} first keys, a window of {near}, the largest others"),
            Arc::new(Union::new(parts)?),
        ));
    }
    Ok(list)
}

/// Exact logits; all with as many keys on average.
fn thresholds() -> [(&'static str, Option<Rule>); 3] {
    [
        ("the largest logits", None),
        ("the fewest keys of a mass", Some(Rule::Mass)),
        ("keys of more than a share of their row", Some(Rule::Share)),
    ]
}

type Far = Box<dyn Fn(&Fit) -> Result<Arc<dyn Background>>>;

/// All beside the largest quantised logits, with half of the budget; whether keys are centred and axes turned.
fn far_fields(budget: usize) -> Vec<(String, bool, Far)> {
    let count = (budget / 4 / 2 * 2).max(2);
    let map = |map: Arc<dyn FeatureMap>| -> Arc<dyn Background> { Arc::new(FeatureBackground::shared(map)) };
    let mut list: Vec<(String, bool, Far)> = vec![
        ("centroids".into(), false, Box::new(move |_| Ok(Arc::new(centroids(budget)?)))),
        ("the mean value".into(), false, Box::new(move |fit| Ok(map(Arc::new(Constant::new(fit.d())?))))),
    ];
    let kind = ProjectionKind::Orthogonal;
    for (name, centred) in [("", false), (", centred", true)] {
        let hyperbolic = move |fit: &Fit| Ok(map(Arc::new(HyperbolicFeatures::sample(fit.d(), count, kind, Seed(2))?)));
        let oprf = move |fit: &Fit| {
            let a = optimal_a(fit.axes.iter().sum(), fit.d())?;
            Ok(map(Arc::new(OptimalPositiveFeatures::sample(fit.d(), count, kind, a, Seed(2))?)))
        };
        list.push((format!("{count} hyperbolic features{name}"), centred, Box::new(hyperbolic)));
        list.push((format!("{count} OPRF{name}"), centred, Box::new(oprf)));
        let sderf = move |fit: &Fit| Ok(map(Arc::new(PerAxis::sample(fit, count, None)?)));
        list.push((format!("{count} SDERF{name}"), centred, Box::new(sderf)));
    }
    for share in [0.25, 0.5, 0.75, 0.9] {
        let shrunk = move |fit: &Fit| Ok(map(Arc::new(PerAxis::sample(fit, count, Some(share))?)));
        list.push((format!("{count} SDERF, centred, {share} of the way to one centroid"), true, Box::new(shrunk)));
    }
    list.push(("one centroid".into(), false, Box::new(|_| Ok(Arc::new(CentroidBackground::new(1, Seed(0))?)))));
    list
}

// A support of one's own.

#[derive(Debug, Clone, Copy)]
enum Score {
    /// s·q·μ.
    Mean,
    /// Σ_c max(s·q_c·min_c, s·q_c·max_c), which no key of the block exceeds.
    Box,
}

/// Blocks of consecutive keys: the one that a row sees in part, and then those of largest score, up to so many keys.
#[derive(Debug, Clone, Copy)]
struct Blocks {
    score: Score,
    size: usize,
    keys: usize,
    /// Blocks are taken from those of another size, of which come so many keys.
    coarse: Option<(usize, usize)>,
}

impl Support for Blocks {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> scatterbrain_attention::Result<Box<dyn Select + 'a>> {
        Ok(Box::new(Prepared {
            rule: *self,
            head: *head,
            fine: Bounds::new(head, self.size),
            coarse: self.coarse.map(|c| Bounds::new(head, c.0)),
        }))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

/// Of each block the mean, the least and the largest of every column, `[blocks, d]`.
struct Bounds {
    size: usize,
    figures: [Vec<f32>; 3],
}

impl Bounds {
    fn new(head: &Head<'_>, size: usize) -> Self {
        let mut figures: [Vec<f32>; 3] = Default::default();
        for first in (0..head.mask.length()).step_by(size) {
            let rows = first..(first + size).min(head.mask.length());
            for c in 0..head.key.cols() {
                let column = || rows.clone().map(|j| head.key.row(j)[c]);
                figures[0].push(column().sum::<f32>() / rows.len() as f32);
                figures[1].push(column().fold(f32::INFINITY, f32::min));
                figures[2].push(column().fold(f32::NEG_INFINITY, f32::max));
            }
        }
        Self { size, figures }
    }

    fn score(&self, score: Score, query: &[f32], scale: f32, block: usize) -> f32 {
        let d = query.len();
        let row = |which: usize| &self.figures[which][block * d..(block + 1) * d];
        let terms = query.iter().map(|q| q * scale).enumerate();
        match score {
            Score::Mean => terms.map(|(c, q)| q * row(0)[c]).sum(),
            Score::Box => terms.map(|(c, q)| (q * row(1)[c]).max(q * row(2)[c])).sum(),
        }
    }

    /// The keys of the best of some blocks, whole ones, up to so many.
    fn best(&self, rule: &Blocks, head: &Head<'_>, query: &[f32], blocks: Vec<usize>, most: usize) -> Vec<usize> {
        let mut scored: Vec<(f32, usize)> =
            blocks.into_iter().map(|b| (self.score(rule.score, query, head.scale, b), b)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.into_iter().flat_map(|(_, b)| b * self.size..(b + 1) * self.size).take(most).collect()
    }
}

struct Prepared<'a> {
    rule: Blocks,
    head: Head<'a>,
    fine: Bounds,
    coarse: Option<Bounds>,
}

impl Select for Prepared<'_> {
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        for (r, &i) in tile.rows.iter().enumerate() {
            let (end, query) = (tile.mask.range(i as usize).end, tile.query.row(r));
            let whole = |size: usize| end / size;
            let mut blocks: Vec<usize> = (0..whole(self.rule.size)).collect();
            if let (Some(coarse), Some((size, keys))) = (&self.coarse, self.rule.coarse) {
                let chosen = coarse.best(&self.rule, &self.head, query, (0..whole(size)).collect(), keys);
                let tail = whole(size) * size..whole(self.rule.size) * self.rule.size;
                blocks = chosen.into_iter().chain(tail).step_by(self.rule.size).map(|j| j / self.rule.size).collect();
            }
            let part = whole(self.rule.size) * self.rule.size..end;
            let most = self.rule.keys.saturating_sub(part.len());
            let best = self.fine.best(&self.rule, &self.head, query, blocks, most);
            selection.lists[r].extend(best.into_iter().chain(part).map(|j| j as u32));
        }
    }
}

/// How keys are remembered.
#[derive(Debug, Clone, Copy)]
enum Sketched {
    /// Every column in steps of a seventh of the row's largest; queries as they are.
    FourBits,
    /// The signs of products with so many directions, of keys less their mean and of queries, and the keys' norms.
    Signs(usize),
}

/// The keys of the largest logits as sketches have them.
#[derive(Debug, Clone, Copy)]
struct Sketch {
    kind: Sketched,
    keys: usize,
}

impl Support for Sketch {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> scatterbrain_attention::Result<Box<dyn Select + 'a>> {
        let (count, d) = (head.mask.length(), head.key.cols());
        let mean: Vec<f32> =
            (0..d).map(|c| (0..count).map(|j| head.key.row(j)[c]).sum::<f32>() / count as f32).collect();
        let keys = (0..count).map(|j| head.key.row(j));
        let (directions, rows, norms) = match self.kind {
            Sketched::FourBits => {
                let coarse = keys.map(|key| {
                    let step = key.iter().fold(0.0, |top: f32, x| top.max(x.abs())) / 7.0;
                    key.iter().map(|x| if step > 0.0 { (x / step).round() * step } else { 0.0 }).collect()
                });
                (None, coarse.collect(), vec![1.0; count])
            }
            Sketched::Signs(bits) => {
                let directions = Projection::sample(ProjectionKind::Orthogonal, bits, d, Seed(4))?;
                let centred: Vec<Vec<f32>> =
                    keys.map(|key| key.iter().zip(&mean).map(|(x, m)| x - m).collect()).collect();
                let norm = |key: &Vec<f32>| key.iter().map(|x| x * x).sum::<f32>().sqrt();
                let norms = centred.iter().map(norm).collect();
                (Some(directions.clone()), centred.iter().map(|key| signs(&directions, key)).collect(), norms)
            }
        };
        Ok(Box::new(PreparedSketch { rows, norms, directions, keys: self.keys, sign: head.scale.signum() }))
    }

    fn causality(&self) -> Causality {
        Causality::SelectionSeesFuture
    }
}

fn signs(directions: &Projection, row: &[f32]) -> Vec<f32> {
    let product = |w: usize| directions.matrix().row(w).iter().zip(row).map(|(w, x)| w * x).sum::<f32>();
    (0..directions.rows()).map(|w| product(w).signum()).collect()
}

struct PreparedSketch {
    rows: Vec<Vec<f32>>,
    norms: Vec<f32>,
    directions: Option<Projection>,
    keys: usize,
    sign: f32,
}

impl PreparedSketch {
    /// A number that grows with the logit.
    fn score(&self, query: &[f32], key: usize) -> f32 {
        let product = query.iter().zip(&self.rows[key]).map(|(q, k)| q * k).sum::<f32>();
        self.sign
            * match &self.directions {
                None => product,
                // A sign differs with a probability of angle/π.
                Some(directions) => {
                    let differ = 0.5 * (1.0 - product / directions.rows() as f32);
                    self.norms[key] * (std::f32::consts::PI * differ).cos()
                }
            }
    }
}

impl Select for PreparedSketch {
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        for (r, &i) in tile.rows.iter().enumerate() {
            let row = tile.query.row(r);
            let query = self.directions.as_ref().map_or_else(|| row.to_vec(), |directions| signs(directions, row));
            let mut scored: Vec<(f32, u32)> =
                tile.mask.range(i as usize).map(|j| (self.score(&query, j), j as u32)).collect();
            scored.sort_by(|a, b| b.0.total_cmp(&a.0));
            selection.lists[r].extend(scored.into_iter().take(self.keys).map(|(_, j)| j));
        }
    }
}

/// Of the keys that another support takes those of the largest logits.
#[derive(Debug)]
struct Best {
    of: Arc<dyn Support>,
    keys: usize,
}

impl Support for Best {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> scatterbrain_attention::Result<Box<dyn Select + 'a>> {
        Ok(Box::new(PreparedBest { of: self.of.prepare(head)?, keys: self.keys, head: *head }))
    }

    fn prepare_beside<'a>(
        &'a self,
        head: &Head<'a>,
        far: &dyn Summary,
    ) -> scatterbrain_attention::Result<Box<dyn Select + 'a>> {
        Ok(Box::new(PreparedBest { of: self.of.prepare_beside(head, far)?, keys: self.keys, head: *head }))
    }

    fn causality(&self) -> Causality {
        self.of.causality()
    }
}

struct PreparedBest<'a> {
    of: Box<dyn Select + 'a>,
    keys: usize,
    head: Head<'a>,
}

impl Select for PreparedBest<'_> {
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        let mut candidates = Selection::default();
        candidates.reset(tile.rows.len());
        self.of.select(tile, &mut candidates);
        for (r, &i) in tile.rows.iter().enumerate() {
            let dot =
                |key: &[f32]| tile.query.row(r).iter().zip(key).map(|(q, k)| q * k).sum::<f32>() * self.head.scale;
            let range = tile.mask.range(i as usize);
            let seen = candidates.row(r).into_iter().filter(|&j| range.contains(&(j as usize)));
            let mut scored: Vec<(f32, u32)> = seen.map(|j| (dot(self.head.key.row(j as usize)), j)).collect();
            scored.sort_by(|a, b| b.0.total_cmp(&a.0));
            selection.lists[r].extend(scored.into_iter().take(self.keys).map(|(_, j)| j));
        }
    }
}

/// Which keys a row takes, the largest logits first.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// As many as make up 1 − e^log of the row's mass.
    Mass,
    /// Those that weigh more than e^log of it.
    Share,
}

#[derive(Debug)]
struct Threshold {
    rule: Rule,
    log: f64,
}

impl Support for Threshold {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> scatterbrain_attention::Result<Box<dyn Select + 'a>> {
        Ok(Box::new(PreparedThreshold { rule: self.rule, part: self.log.exp(), head: *head }))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

struct PreparedThreshold<'a> {
    rule: Rule,
    part: f64,
    head: Head<'a>,
}

impl Select for PreparedThreshold<'_> {
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        for (r, &i) in tile.rows.iter().enumerate() {
            let dot = |j: usize| {
                let products = tile.query.row(r).iter().zip(self.head.key.row(j)).map(|(q, k)| q * k);
                f64::from(products.sum::<f32>() * self.head.scale)
            };
            let mut scored: Vec<(f64, u32)> = tile.mask.range(i as usize).map(|j| (dot(j), j as u32)).collect();
            scored.sort_by(|a, b| b.0.total_cmp(&a.0));
            let top = scored.first().map_or(0.0, |s| s.0);
            let total: f64 = scored.iter().map(|s| (s.0 - top).exp()).sum();
            let mut left = total;
            let taken = scored.into_iter().take_while(|(logit, _)| {
                let weight = (logit - top).exp();
                let before = left;
                left -= weight;
                match self.rule {
                    Rule::Mass => before > self.part * total,
                    Rule::Share => weight > self.part * total,
                }
            });
            selection.lists[r].extend(taken.map(|(_, j)| j));
        }
    }
}

/// The result at the threshold that takes as many keys as are wanted, to a hundredth.
fn at_count(wanted: f64, run: impl Fn(f64) -> Result<(f64, f64)>) -> Result<(f64, f64)> {
    let (mut low, mut high) = (-20.0, 0.0);
    loop {
        let middle = 0.5 * (low + high);
        let (error, keys) = run(middle)?;
        if (keys / wanted - 1.0).abs() < 0.01 || high - low < 1e-3 {
            return Ok((error, keys));
        }
        if keys > wanted { low = middle } else { high = middle }
    }
}

// A feature map of one's own.

/// Optimal positive features with a parameter an axis (SDERF, Likhosherstov et al. 2023, arXiv 2302.00787), on rows whose
/// axes are those of E zzᵀ; and perhaps a share of rank one, every key weighing what the mean key does.
#[derive(Debug)]
struct PerAxis {
    projection: Projection,
    a: Vec<f64>,
    share: Option<f64>,
    /// √s times the mean key.
    mean: Vec<f64>,
}

impl PerAxis {
    fn sample(fit: &Fit, count: usize, share: Option<f64>) -> Result<Self> {
        let a = fit.axes.iter().map(|&square| optimal_a(square, 1)).collect::<Result<_, _>>()?;
        let projection = Projection::sample(ProjectionKind::Orthogonal, count, fit.d(), Seed(2))?;
        Ok(Self { projection, a, share, mean: fit.mean.clone() })
    }
}

impl FeatureMap for PerAxis {
    fn head_dim(&self) -> usize {
        self.a.len()
    }

    fn n_features(&self) -> usize {
        self.projection.rows() + usize::from(self.share.is_some())
    }

    fn signed(&self) -> bool {
        false
    }

    fn uses_scale(&self) -> bool {
        true
    }

    fn log_features(
        &self,
        _: Level,
        rows: Matrix<'_>,
        factor: f32,
        role: Role,
        out: &mut LogFeatures,
    ) -> scatterbrain_attention::Result<()> {
        out.resize(rows.rows(), self.n_features(), false);
        let count = self.projection.rows() as f64;
        for (row, out) in rows.iter().zip(out.log.chunks_exact_mut(self.n_features())) {
            let x: Vec<f64> = row.iter().map(|x| f64::from(x * factor)).collect();
            let half = 0.5 * x.iter().map(|x| x * x).sum::<f64>();
            for (direction, out) in self.projection.matrix().iter().zip(out.iter_mut()) {
                let axis = |((&w, x), a): ((&f32, &f64), &f64)| {
                    let w = f64::from(w);
                    a * w * w + (1.0 - 4.0 * a).sqrt() * w * x + 0.25 * (1.0 - 4.0 * a).ln()
                };
                let sum: f64 = direction.iter().zip(&x).zip(&self.a).map(axis).sum();
                *out = (sum - half - 0.5 * count.ln() + 0.5 * (1.0 - self.share.unwrap_or(0.0)).ln()) as f32;
            }
            if let Some(share) = self.share {
                let logit = x.iter().zip(&self.mean).map(|(x, mean)| x * mean).sum::<f64>();
                let logit = if role == Role::Query { logit } else { 0.0 };
                *out.last_mut().expect("a feature") = (0.5 * share.ln() + logit) as f32;
            }
        }
        Ok(())
    }
}

// Captures.

/// One batch entry in f32.
struct Capture {
    n: usize,
    d: usize,
    d_v: usize,
    group: usize,
    scale: f32,
    causal: bool,
    query: Vec<Vec<f32>>,
    key: Vec<Vec<f32>>,
    value: Vec<Vec<f32>>,
}

/// What is fitted to a head's queries and keys, all of them: more than a strict method may know.
struct Fit {
    query: Vec<f32>,
    key: Vec<f32>,
    /// E z_c² of every axis.
    axes: Vec<f64>,
    /// √s k̄.
    mean: Vec<f64>,
}

impl Fit {
    fn d(&self) -> usize {
        self.axes.len()
    }

    /// Rows turned to the axes of E zzᵀ, z = √s(q + k) with q and k independent, and keys shifted by −(q̄ + k̄) before that
    /// if `centred`; neither changes attention.
    fn new(query: &[f32], key: &[f32], d: usize, scale: f32, centred: bool) -> Self {
        let mean = |rows: &[f32]| -> Vec<f64> {
            let mut sum = vec![0.0; d];
            rows.chunks(d).for_each(|row| sum.iter_mut().zip(row).for_each(|(s, x)| *s += f64::from(*x)));
            sum.iter().map(|s| s / (rows.len() / d) as f64).collect()
        };
        let (q_mean, k_mean) = (mean(query), mean(key));
        let shift: Vec<f64> = q_mean.iter().zip(&k_mean).map(|(q, k)| if centred { q + k } else { 0.0 }).collect();
        let shifted: Vec<f64> = key.iter().enumerate().map(|(x, &k)| f64::from(k) - shift[x % d]).collect();
        let query: Vec<f64> = query.iter().map(|&q| f64::from(q)).collect();
        let k_mean: Vec<f64> = k_mean.iter().zip(&shift).map(|(k, s)| k - s).collect();
        // E zzᵀ = s (E qqᵀ + E kkᵀ + q̄k̄ᵀ + k̄q̄ᵀ).
        let mut second = vec![0.0; d * d];
        for rows in [&query, &shifted] {
            for row in rows.chunks(d) {
                for (a, x) in row.iter().enumerate() {
                    second[a * d..(a + 1) * d]
                        .iter_mut()
                        .zip(row)
                        .for_each(|(s, y)| *s += x * y / (rows.len() / d) as f64);
                }
            }
        }
        for (a, b) in (0..d).flat_map(|a| (0..d).map(move |b| (a, b))) {
            second[a * d + b] += q_mean[a] * k_mean[b] + k_mean[a] * q_mean[b];
            second[a * d + b] *= f64::from(scale);
        }
        let (axes, vectors) = eigen(second, d);
        let turn = |rows: &[f64]| -> Vec<f32> {
            let turned = rows.chunks(d).flat_map(|row| {
                (0..d).map(|c| (0..d).map(|r| row[r] * vectors[r * d + c]).sum::<f64>() as f32).collect::<Vec<_>>()
            });
            turned.collect()
        };
        let mean = turn(&k_mean).iter().map(|&x| f64::from(x) * f64::from(scale).sqrt()).collect();
        Self { query: turn(&query), key: turn(&shifted), mean, axes: axes.iter().map(|x| x.max(0.0)).collect() }
    }
}

/// Eigenvalues and eigenvectors (columns) of a symmetric matrix, by Jacobi's rotations.
fn eigen(mut a: Vec<f64>, d: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors: Vec<f64> = (0..d * d).map(|x| f64::from(u8::from(x / d == x % d))).collect();
    for _ in 0..30 {
        for p in 0..d {
            for q in p + 1..d {
                let off = a[p * d + q];
                if off.abs() < 1e-14 * (a[p * d + p].abs() + a[q * d + q].abs()) {
                    continue;
                }
                let theta = (a[q * d + q] - a[p * d + p]) / (2.0 * off);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for x in 0..d {
                    let (u, v) = (a[x * d + p], a[x * d + q]);
                    (a[x * d + p], a[x * d + q]) = (c * u - s * v, s * u + c * v);
                    let (u, v) = (vectors[x * d + p], vectors[x * d + q]);
                    (vectors[x * d + p], vectors[x * d + q]) = (c * u - s * v, s * u + c * v);
                }
                for x in 0..d {
                    let (u, v) = (a[p * d + x], a[q * d + x]);
                    (a[p * d + x], a[q * d + x]) = (c * u - s * v, s * u + c * v);
                }
            }
        }
    }
    ((0..d).map(|x| a[x * d + x]).collect(), vectors)
}

impl Capture {
    fn read(file: &str, heads: usize) -> Result<Self> {
        let bytes = std::fs::read(file).context(file.to_owned())?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let tensors = SafeTensors::deserialize(&bytes)?;
        let part = |name: &str| -> Result<(Vec<usize>, Vec<Vec<f32>>)> {
            let tensor = tensors.tensor(name)?;
            let shape = tensor.shape().to_vec();
            let halves = tensor.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
            let all: Vec<f32> = halves.collect();
            let rows = all.chunks(shape[2] * shape[3]).take(shape[1]).map(<[f32]>::to_vec);
            Ok((shape, rows.collect()))
        };
        let ((query, mut queries), (key, keys), (value, values)) = (part("query")?, part("key")?, part("value")?);
        queries.truncate(heads);
        let scale = match metadata.get("scale") {
            Some(scale) => scale.parse()?,
            None => 1.0 / (query[3] as f32).sqrt(),
        };
        let causal = metadata.get("causal").is_some_and(|c| c == "true");
        let (n, d, d_v, group) = (query[2], query[3], value[3], query[1] / key[1]);
        Ok(Self { n, d, d_v, group, scale, causal, query: queries, key: keys, value: values })
    }

    /// Keys that a row takes on average, of at most so many.
    fn keys_of(&self, most: usize) -> f64 {
        let mask = Mask { causal: self.causal, ..Mask::default() };
        let mask = mask.head(0, 0, self.n, self.key[0].len() / self.d);
        (0..self.n).map(|i| mask.visible(i).min(most) as f64).sum::<f64>() / self.n as f64
    }

    /// The mean error over rows and heads, and the mean count of exact pairs of a row.
    fn measure(&self, method: &dyn Fn(&Fit) -> Result<Method>, centred: bool) -> Result<(f64, f64)> {
        let mask = Mask { causal: self.causal, ..Mask::default() };
        let options = Options { scale: Some(self.scale), ..Options::default() };
        let (mut error, mut pairs) = (0.0, 0.0);
        for (h, query) in self.query.iter().enumerate() {
            let (key, value) = (&self.key[h / self.group], &self.value[h / self.group]);
            let m = key.len() / self.d;
            let run = |query: &[f32], key: &[f32], method: &Method| -> Result<_> {
                let query = Tensor::f32("query", query, [1, 1, self.n, self.d])?;
                let key = Tensor::f32("key", key, [1, 1, m, self.d])?;
                let value = Tensor::f32("value", value, [1, 1, m, self.d_v])?;
                Ok(attend(&query, &key, &value, &mask, method, &options)?)
            };
            let fit = Fit::new(query, key, self.d, self.scale, centred);
            let (exact, got) = (run(query, key, &Method::exact())?, run(&fit.query, &fit.key, &method(&fit)?)?);
            let norm = |row: &mut dyn Iterator<Item = f32>| row.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            for (want, got) in exact.output.chunks(self.d_v).zip(got.output.chunks(self.d_v)) {
                let off = norm(&mut want.iter().zip(got).map(|(a, b)| a - b));
                error += off / norm(&mut want.iter().copied()) / (self.n * self.query.len()) as f64;
            }
            pairs += got.report.heads.iter().map(|head| head.exact_pairs as f64).sum::<f64>()
                / (self.n * self.query.len()) as f64;
        }
        Ok((error, pairs))
    }
}
