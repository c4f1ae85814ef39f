//! A background from one look at every pair in 8 bits, which also finds the keys that must be exact.

use scatterbrain_core::kernel::{self, Coding, KEY_CODE, PANEL, QUAD, QueryCodes, Running, Seen, WeightCodes};
use scatterbrain_core::tile::{Background, CHUNK, Causality, KeyHead, Keys, Selection, Summary, Tile, TileBackground};
use scatterbrain_core::{Error, Level, Matrix, Result};
use scatterbrain_hash::QuantisedRows;
use serde::{Deserialize, Serialize};
use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The largest code.
const MOST: u8 = 127;

/// The smallest share: sums of codes must fit in 32 bits.
const LEAST_SHARE: f32 = 1.0 / 65536.0;

/// Every visible pair by 8-bit keys, queries and values, and exact where a pair's share of its row is large.
///
/// ```text
/// w_ij  = exp(scale · q̂_i·k̂_j)                    q̂, k̂ = rows rounded to 8 and 7 bits, a scale each
/// heavy ⇔ w_ij > share · Σ_j w_ij   or   w_ij σ_j > share · Σ_j w_ij σ_j          σ_j = max_c |v_jc|
/// o_i   = (Σ_heavy e^{s q·k} v_j + Σ_light ŵ_ij v̂_j) / (Σ_heavy e^{s q·k} + Σ_light w_ij)
/// ŵ_ij σ_j = multiples of share · Σ_j w_ij σ_j / most, rounded with dither;  v̂_j = round(127 v_j/σ_j) σ_j/127
/// ```
///
/// So at most 2/share keys of a row are exact, few on rows that are spread or that a few keys rule, and what is rounded
/// coarsely is no more than a share. Keys of the support are exact as ever, and are left out of all sums but those that
/// decide what is heavy. A row depends on its own pairs alone: strictly causal.
///
/// A logit of the scan is off by two roundings, of standard deviations near s·|q|·max_c |k_c|/(63·√12) and
/// s·|k|·max_c |q_c|/(127·√12) where the limit of 16 bits does not bind: where logits of hundreds compete, that is more than 1,
/// and only what is heavy is right.
///
/// # Cost
/// A pair takes a fourth of an exact one in the scan, a fourth in the sums, and some ten operations between; a head's
/// keys and values are kept once more in one byte an element, a thread keeps 64 bytes a key.
///
/// ```
/// use scatterbrain_combine::{Method, Options, ScanBackground, attend};
/// use scatterbrain_core::{Mask, Tensor};
/// let x: Vec<f32> = (0..64 * 8).map(|i| (i as f32).sin()).collect();
/// let x = Tensor::f32("x", &x, [1, 1, 64, 8])?;
/// let method = Method::low_rank(ScanBackground::new(1.0 / 64.0)?);
/// let near = attend(&x, &x, &x, &Mask::causal(), &method, &Options::default())?;
/// let exact = attend(&x, &x, &x, &Mask::causal(), &Method::exact(), &Options::default())?;
/// for (a, b) in near.output.iter().zip(&exact.output) {
///     assert!((a - b).abs() < 0.05);
/// }
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScanBackground {
    products: Products,
}

/// What multiplies values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Products {
    /// Codes of weights, in `most` steps of a share, and exact weights beyond.
    Shares { share: f32, most: u8 },
    /// Codes of weights, in 127 steps of the largest of the row.
    Largest,
    /// Weights as they are, and values too.
    Whole,
}

impl ScanBackground {
    /// Pairs of more than this share of their row are exact, in weight or in weight times value.
    ///
    /// # Errors
    /// A share outside 2⁻¹⁶ to 1.
    pub fn new(share: f32) -> Result<Self> {
        if !(LEAST_SHARE..=1.0).contains(&share) {
            return Err(Error::invalid("share", format!("{LEAST_SHARE} to 1"), share));
        }
        Ok(Self { products: Products::Shares { share, most: MOST } })
    }

    /// Steps that the share is cut in, from 1 to 127 (the default): with fewer, more weights are 0 and cost nothing. Dense
    /// 8-bit attention has no share to cut, and stays as it is.
    ///
    /// # Errors
    /// None, or more than 127.
    pub fn with_steps(mut self, steps: u8) -> Result<Self> {
        if !(1..=MOST).contains(&steps) {
            return Err(Error::invalid("steps", format!("1 to {MOST}"), steps));
        }
        if let Products::Shares { most, .. } = &mut self.products {
            *most = steps;
        }
        Ok(self)
    }

    /// Dense 8-bit attention, for comparison: no pair is exact, and a weight has 127 steps of the largest of its row
    /// (times σ_j).
    pub fn eight_bits() -> Self {
        Self { products: Products::Largest }
    }

    /// Dense attention with scores in 8 bits, and weights and values in f32, for comparison.
    pub fn eight_bit_scores() -> Self {
        Self { products: Products::Whole }
    }
}

impl Background for ScanBackground {
    fn prepare<'a>(&'a self, keys: &KeyHead<'a>) -> Result<Box<dyn Summary + 'a>> {
        // It may have come from a file.
        if let Products::Shares { share, most } = self.products {
            Self::new(share)?.with_steps(most)?;
        }
        Ok(Box::new(Scan::new(self.products, keys)?))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }

    fn units(&self) -> usize {
        0
    }

    fn scans(&self) -> bool {
        true
    }
}

/// Keys and values of a head in bytes, padded to whole groups of four.
struct Scan<'a> {
    products: Products,
    /// `[m, d_v]`.
    value: Matrix<'a>,
    /// `code + KEY_CODE`, `[keys, width]`.
    keys: Vec<u8>,
    key_scales: Vec<f32>,
    width: usize,
    values: kernel::CodeRows,
    /// σ_j.
    value_sizes: Vec<f32>,
    scale: f32,
    level: Level,
    /// Memory that no tile uses now: it is large enough to be mapped anew at each call.
    free: Mutex<Vec<Memory>>,
}

impl<'a> Scan<'a> {
    fn free(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new(products: Products, keys: &KeyHead<'a>) -> Result<Self> {
        let (level, length) = (keys.level, keys.mask.length());
        let padded = length.next_multiple_of(QUAD);
        let width = keys.key.cols().next_multiple_of(QUAD);
        let (mut codes, mut key_scales) = (Vec::new(), Vec::new());
        let (mut value_codes, mut value_sizes) = (Vec::new(), Vec::new());
        if length > 0 {
            let rows = QuantisedRows::new(level, keys.key.head_rows(length), KEY_CODE)?;
            codes.extend(rows.codes().iter().map(|code| (code + KEY_CODE) as u8));
            key_scales.extend(rows.scales());
            let rows = QuantisedRows::whole_range(level, keys.value.head_rows(length), i8::MAX)?;
            value_codes.extend(rows.codes());
            value_sizes.extend(rows.scales().iter().map(|scale| scale * f32::from(i8::MAX)));
        }
        codes.resize(padded * width, KEY_CODE as u8);
        key_scales.resize(padded, 0.0);
        value_sizes.resize(padded, 0.0);
        let d_v = keys.value.cols();
        let values = kernel::CodeRows::new(&value_codes, d_v.next_multiple_of(QUAD), d_v);
        let (scale, free) = (keys.scale, Mutex::default());
        let value = keys.value;
        Ok(Self { products, value, keys: codes, key_scales, width, values, value_sizes, scale, level, free })
    }

    /// Codes of some queries of a tile, for logarithms of base 2.
    fn query(&self, tile: &Tile<'_>, rows: Range<usize>) -> QueryCodes {
        let rows = QuantisedRows::new(self.level, tile.query.slice(rows), i8::MAX).expect("127 is a code");
        let scales: Vec<f32> = rows.scales().iter().map(|s| s * self.scale * LOG2_E).collect();
        QueryCodes::new(rows.codes(), self.width, &scales)
    }
}

impl Summary for Scan<'_> {
    fn tile<'a>(&'a self, tile: &Tile<'a>, selection: &mut Selection) -> Box<dyn TileBackground + 'a> {
        let taken: Vec<Vec<u32>> = match selection.is_empty() {
            true => Vec::new(),
            false => (0..tile.rows.len()).map(|row| selection.row(row)).collect(),
        };
        let mut memory = self.free().pop().unwrap_or_default();
        let panels = (0..tile.rows.len()).step_by(PANEL).map(|first| {
            let rows = first..(first + PANEL).min(tile.rows.len());
            let mut heavy = Vec::new();
            let panel = Panel::new(self, tile, rows.clone(), &taken, &mut memory, &mut heavy);
            for (lane, key) in heavy {
                selection.lists[first + lane].push(key);
            }
            panel
        });
        let panels = panels.collect();
        self.free().push(memory);
        Box::new(ScanTile { panels })
    }

    fn extends(&self) -> bool {
        true
    }
}

/// Memory that the panels of a tile use in turn.
#[derive(Default)]
struct Memory {
    /// Weights of a panel, `[key][PANEL]`, each chunk relative to 2^reference.
    weights: Vec<f32>,
    references: Vec<[f32; PANEL]>,
    codes: WeightCodes,
    chosen: Vec<u32>,
}

/// Sums of a panel over what is light.
struct Panel {
    log_scale: [f32; PANEL],
    /// `[d_v][PANEL]`.
    numerator: Vec<f32>,
    denominator: [f32; PANEL],
}

/// What the lanes of a panel weigh in all: what shares are of.
struct Whole {
    running: Running,
    /// Σ w σ, relative as the sum of `running`.
    sized: [f32; PANEL],
}

impl Panel {
    fn new(
        scan: &Scan<'_>,
        tile: &Tile<'_>,
        rows: Range<usize>,
        taken: &[Vec<u32>],
        memory: &mut Memory,
        heavy: &mut Vec<(usize, u32)>,
    ) -> Self {
        let hull = tile.hull(rows.clone());
        // Chunks start at multiples of their length, so that a row's sums do not depend on the other rows.
        let keys = hull.start / CHUNK * CHUNK..hull.end.next_multiple_of(QUAD);
        let whole = scan.weigh(tile, rows.clone(), &keys, memory);
        let taken: Vec<&[u32]> = rows.filter_map(|r| taken.get(r)).map(Vec::as_slice).collect();
        scan.sum(&keys, &whole, &taken, memory, heavy)
    }
}

impl Scan<'_> {
    /// Weights of all keys, and what they come to.
    fn weigh(&self, tile: &Tile<'_>, rows: Range<usize>, keys: &Range<usize>, memory: &mut Memory) -> Whole {
        let query = self.query(tile, rows.clone());
        let mut whole = Whole { running: Running::default(), sized: [0.0; PANEL] };
        memory.weights.resize(memory.weights.len().max(keys.len() * PANEL), 0.0);
        memory.references.clear();
        for chunk in chunks(keys) {
            let scores = part_of(&mut memory.weights, &chunk, keys);
            let codes = &self.keys[chunk.start * self.width..chunk.end * self.width];
            kernel::scan(self.level, &query, codes, &self.key_scales[chunk.clone()], scores);
            hide(self.level, tile, &rows, &chunk, scores);
            kernel::coarse_softmax(self.level, scores, &self.value_sizes[chunk], &mut whole.running, &mut whole.sized);
            memory.references.push(whole.running.max);
        }
        whole
    }

    /// Heavy keys, and sums over the light ones.
    fn sum(
        &self,
        keys: &Range<usize>,
        whole: &Whole,
        taken: &[&[u32]],
        memory: &mut Memory,
        heavy: &mut Vec<(usize, u32)>,
    ) -> Panel {
        let weights = &mut memory.weights[..keys.len() * PANEL];
        for (chunk, reference) in chunks(keys).zip(&memory.references) {
            let rescale = std::array::from_fn(|lane| shrink(reference[lane], whole.running.max[lane]));
            let weights = part_of(weights, &chunk, keys);
            if rescale != [1.0; PANEL] {
                kernel::scale_lanes(self.level, weights, &rescale);
            }
            leave_out(&chunk, taken, weights);
        }
        let (numerator, denominator) = match self.products {
            Products::Shares { share, most } => {
                let per_share = |whole: f32| (f32::from(most) / share / whole).min(f32::MAX);
                let (value, mass) = (whole.sized.map(per_share), whole.running.sum.map(per_share));
                self.sum_codes(keys, Steps { value, mass, most }, memory, heavy)
            }
            Products::Largest => {
                let per_step = |top: f32| (f32::from(MOST) / top).min(f32::MAX);
                // The largest itself must not be over by rounding.
                let value = self.largest(weights, keys).map(|top| per_step(top) * (1.0 - f32::EPSILON));
                self.sum_codes(keys, Steps { value, mass: [0.0; PANEL], most: MOST }, memory, heavy)
            }
            Products::Whole => self.sum_whole(weights, keys),
        };
        let mut log_scale = whole.running.max.map(|max| max * LN_2);
        for (scale, denominator) in log_scale.iter_mut().zip(denominator) {
            if denominator == 0.0 {
                *scale = f32::NEG_INFINITY;
            }
        }
        Panel { log_scale, numerator, denominator }
    }

    /// Sums by codes.
    fn sum_codes(
        &self,
        keys: &Range<usize>,
        steps: Steps,
        memory: &mut Memory,
        heavy: &mut Vec<(usize, u32)>,
    ) -> (Vec<f32>, [f32; PANEL]) {
        let Memory { weights, codes, chosen, .. } = memory;
        let (mut sums, mut denominator) = (vec![0i32; self.values.columns() * PANEL], [0.0; PANEL]);
        for chunk in chunks(keys) {
            let coding = Coding {
                first: chunk.start,
                scales: &self.value_sizes[chunk.clone()],
                value_steps: &steps.value,
                mass_steps: &steps.mass,
                most: steps.most,
            };
            chosen.resize(chunk.len().div_ceil(kernel::WORD) * PANEL, 0);
            let weights = part_of(weights, &chunk, keys);
            kernel::code_weights(self.level, weights, &coding, codes, chosen, &mut denominator);
            kernel::weighted_code_sum(self.level, codes, &self.values, &mut sums);
            kernel::for_chosen(chosen, |at, mut lanes| {
                while lanes != 0 {
                    heavy.push((lanes.trailing_zeros() as usize, (chunk.start + at) as u32));
                    lanes &= lanes - 1;
                }
            });
        }
        let mut numerator: Vec<f32> = sums.iter().map(|&x| x as f32).collect();
        let step = steps.value.map(|steps| 1.0 / steps / f32::from(i8::MAX));
        kernel::scale_lanes(self.level, &mut numerator, &step);
        (numerator, denominator)
    }

    /// Sums in f32.
    fn sum_whole(&self, weights: &mut [f32], keys: &Range<usize>) -> (Vec<f32>, [f32; PANEL]) {
        let mut numerator = vec![0.0; self.value.cols() * PANEL];
        let end = keys.end.min(self.value.rows()).max(keys.start);
        for chunk in chunks(&(keys.start..end)) {
            let weights = part_of(weights, &chunk, keys);
            kernel::weighted_sum(self.level, weights, self.value, &Keys::Range(chunk), &mut numerator);
        }
        let mut denominator = [0.0; PANEL];
        kernel::add_lanes(self.level, weights, &mut denominator);
        (numerator, denominator)
    }

    /// max_j w σ of every lane.
    fn largest(&self, weights: &[f32], keys: &Range<usize>) -> [f32; PANEL] {
        let mut tops = [0.0f32; PANEL];
        for (weights, size) in weights.as_chunks::<PANEL>().0.iter().zip(&self.value_sizes[keys.clone()]) {
            tops.iter_mut().zip(weights).for_each(|(top, w)| *top = top.max(w * size));
        }
        tops
    }
}

/// How many steps there are in weights; see [`Coding`].
struct Steps {
    value: [f32; PANEL],
    mass: [f32; PANEL],
    most: u8,
}

/// The panel rows of a chunk among those of `keys`.
fn part_of<'w>(weights: &'w mut [f32], chunk: &Range<usize>, keys: &Range<usize>) -> &'w mut [f32] {
    &mut weights[(chunk.start - keys.start) * PANEL..(chunk.end - keys.start) * PANEL]
}

/// 2^(from − to), 0 where `from` is −∞.
fn shrink(from: f32, to: f32) -> f32 {
    if from == to || from == f32::NEG_INFINITY { f32::from(from == to) } else { kernel::exp2(from - to) }
}

/// Pieces of `keys` that end at multiples of [`CHUNK`].
fn chunks(keys: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = keys.end;
    (keys.start..end).step_by(CHUNK).map(move |start| start..(start + CHUNK).min(end))
}

/// Hides what lanes do not see.
fn hide(level: Level, tile: &Tile<'_>, rows: &Range<usize>, chunk: &Range<usize>, scores: &mut [f32]) {
    let mut ends = [[0; PANEL]; 2];
    for (lane, r) in rows.clone().enumerate() {
        let range = tile.mask.range(tile.rows[r] as usize);
        (ends[0][lane], ends[1][lane]) = (range.start as u32, range.end as u32);
    }
    let core = ends[0].iter().max().copied().unwrap_or(0) as usize..ends[1].iter().min().copied().unwrap_or(0) as usize;
    if !(core.start <= chunk.start && chunk.end <= core.end) {
        let seen = Seen { interval: Some(&ends), only: None, except: &[] };
        kernel::hide(level, &Keys::Range(chunk.clone()), &seen, scores, &mut []);
    }
    for (lane, r) in rows.clone().enumerate() {
        if let Some(allowed) = tile.mask.allowed_row(tile.rows[r] as usize) {
            for j in chunk.clone().filter(|&j| allowed.get(j).is_some_and(|&a| a == 0)) {
                scores[(j - chunk.start) * PANEL + lane] = f32::NEG_INFINITY;
            }
        }
    }
}

/// Takes the weights of the keys on the support from those of a chunk.
fn leave_out(chunk: &Range<usize>, taken: &[&[u32]], weights: &mut [f32]) {
    for (lane, keys) in taken.iter().enumerate() {
        let first = keys.partition_point(|&j| (j as usize) < chunk.start);
        for &j in keys[first..].iter().take_while(|&&j| (j as usize) < chunk.end) {
            weights[(j as usize - chunk.start) * PANEL + lane] = 0.0;
        }
    }
}

struct ScanTile {
    panels: Vec<Panel>,
}

impl TileBackground for ScanTile {
    fn log_scale(&self, row: usize) -> f32 {
        self.panels[row / PANEL].log_scale[row % PANEL]
    }

    fn totals(&mut self, panel: usize, numerator: &mut [f32], denominator: &mut [f32; PANEL]) {
        numerator.copy_from_slice(&self.panels[panel].numerator);
        *denominator = self.panels[panel].denominator;
    }

    fn entries_panel(&mut self, _panel: usize, _keys: &Keys, out: &mut [f32]) {
        out.fill(0.0);
    }

    fn entries_row(&mut self, _row: usize, _keys: &[u32], out: &mut [f32]) {
        out.fill(0.0);
    }

    /// What the totals are; nothing was subtracted from them.
    fn off_support(&mut self, row: usize, _skip: &[u32], numerator: &mut [f32]) -> (f32, f32, f32) {
        let (panel, lane) = (&self.panels[row / PANEL], row % PANEL);
        kernel::unpack(&panel.numerator, lane, 1.0, numerator);
        (panel.log_scale[lane], panel.denominator[lane], panel.denominator[lane])
    }
}
