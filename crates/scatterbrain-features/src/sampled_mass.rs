//! The mean of the values, with a weight from a sample of the logits.
//!
//! ```text
//! w̃_ij = mean of e^{x_it} over the sampled keys t that row i sees, off the support      x_it = s q_i·k_t
//!         for the keys j of the blocks of 64 that row i sees whole, else 0
//! ```
//!
//! Of what is off the support a sample says well how much it weighs, and badly what it is worth: 256 keys know the mass of
//! log-normal weights with σ = 1.2 to a tenth, and the mean of unit values to a tenth too, where the mean of thousands is a
//! hundredth. So the mass is sampled, and the values are those of all. All keys weigh the same in a row, so this is for values
//! that have nothing to do with the logits; where they have, centroids do more.
//!
//! **Strict causality.** Rows that see P to 2P keys use a sample of the first P (64, 128, 256, …), where they do not all see
//! the same keys. A row has its weight and sums by itself, whatever rows share its tile.

use scatterbrain_core::kernel::{self, PANEL};
use scatterbrain_core::tile::{Background, Block, Causality, KeyHead, Keys, Selection, Summary, Tile, TileBackground};
use scatterbrain_core::{Error, HeadMask, Matrix, Result, Seed};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Keys of a block, and of the first epoch.
const BLOCK: usize = 64;
/// The place of a key that is in no sample.
const NOT: u16 = u16::MAX;

/// One weight a row for all keys off the support, from a sample of their logits.
///
/// Strictly causal. Cost: as many scores a row as keys are sampled; memory for those of every epoch, a sum of values for
/// every 64 keys, and 2 bytes a key and epoch.
///
/// ```
/// use scatterbrain_core::Seed;
/// use scatterbrain_core::tile::Background;
/// use scatterbrain_features::SampledMassBackground;
/// assert_eq!(SampledMassBackground::new(256, Seed(0))?.units(), 256);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledMassBackground {
    samples: usize,
    seed: Seed,
}

impl SampledMassBackground {
    /// From a sample of at most `samples` keys, one from each of as many equal stretches.
    ///
    /// # Errors
    /// No sample, or more than 65 535.
    pub fn new(samples: usize, seed: Seed) -> Result<Self> {
        if !(1..=usize::from(NOT)).contains(&samples) {
            return Err(Error::invalid("samples", format!("1 to {NOT}"), samples));
        }
        Ok(Self { samples, seed })
    }

    /// The sample of the first `keys` keys, ascending.
    pub fn sample(&self, keys: usize) -> Vec<usize> {
        let mut rng = self.seed.stream(keys as u64);
        let count = self.samples.min(keys);
        let start = |at: usize| at * keys / count;
        (0..count).map(|at| start(at) + rng.below((start(at + 1) - start(at)) as u64) as usize).collect()
    }
}

impl Background for SampledMassBackground {
    fn prepare<'a>(&'a self, keys: &KeyHead<'a>) -> Result<Box<dyn Summary + 'a>> {
        // It may have come from a file.
        Self::new(self.samples, self.seed)?;
        Ok(Box::new(SampledMass::new(self, *keys)))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }

    fn units(&self) -> usize {
        self.samples
    }
}

/// A head, summed up.
struct SampledMass<'a> {
    keys: KeyHead<'a>,
    epochs: Vec<Sample>,
    /// Σ_{j < 64 b} v_j, `[b][d_v]`; the last row has all valid keys.
    sums: Vec<f32>,
}

/// A sample of the first keys of a head.
struct Sample {
    /// P.
    keys: usize,
    /// Ascending.
    sample: Vec<u32>,
    /// Those keys, `[samples, d]`.
    rows: Vec<f32>,
    /// Where each of the first keys stands in it.
    place: Vec<u16>,
}

impl Sample {
    fn new(of: &SampledMassBackground, key: Matrix<'_>, keys: usize) -> Self {
        let sample: Vec<u32> = of.sample(keys).into_iter().map(|key| key as u32).collect();
        let mut place = vec![NOT; keys];
        sample.iter().zip(0..).for_each(|(&key, at)| place[key as usize] = at);
        let rows = sample.iter().flat_map(|&j| key.row(j as usize)).copied().collect();
        Self { keys, sample, rows, place }
    }
}

impl<'a> SampledMass<'a> {
    fn new(of: &SampledMassBackground, keys: KeyHead<'a>) -> Self {
        let length = keys.mask.length();
        let starts: Vec<usize> = match all_alike(&keys.mask) {
            true => vec![length],
            false => std::iter::successors(Some(BLOCK), |p| Some(2 * p)).take_while(|&p| p <= length).collect(),
        };
        let sample = |p| Sample::new(of, keys.key, p);
        let epochs = starts.into_iter().filter(|&p| p > 0).map(sample).collect();
        let mut sum = vec![0.0f64; keys.value.cols()];
        let mut sums = vec![0.0; sum.len()];
        for block in (0..length).step_by(BLOCK) {
            for j in block..(block + BLOCK).min(length) {
                sum.iter_mut().zip(keys.value.row(j)).for_each(|(sum, v)| *sum += f64::from(*v));
            }
            sums.extend(sum.iter().map(|sum| *sum as f32));
        }
        Self { keys, epochs, sums }
    }

    /// The keys that weigh something for a row: those of whole blocks, and all where there are no later ones.
    fn far(&self, tile: &Tile<'_>, row: usize) -> Range<usize> {
        let seen = tile.mask.range(tile.rows[row] as usize);
        let end = if all_alike(tile.mask) { seen.end } else { seen.end / BLOCK * BLOCK };
        seen.start.next_multiple_of(BLOCK).min(end)..end
    }

    fn epoch(&self, tile: &Tile<'_>, row: usize) -> Option<usize> {
        let seen = tile.mask.range(tile.rows[row] as usize);
        self.epochs.iter().rposition(|sample| sample.keys <= seen.end)
    }

    /// Σ of the values of far keys.
    fn add_values(&self, far: &Range<usize>, mut add: impl FnMut(usize, f32)) {
        let d_v = self.keys.value.cols();
        let sum = |key: usize| &self.sums[key.div_ceil(BLOCK) * d_v..][..d_v];
        for (c, (to, from)) in sum(far.end).iter().zip(sum(far.start)).enumerate() {
            add(c, to - from);
        }
    }

    /// Takes the logits of sampled keys out that a window or a boolean mask hides.
    fn hide(tile: &Tile<'_>, rows: &Range<usize>, sample: &[u32], scores: &mut [f32]) {
        if !tile.mask.has_window() && !tile.mask.has_boolean() {
            return;
        }
        for (lane, r) in rows.clone().enumerate() {
            let row = tile.rows[r] as usize;
            let hidden = sample.iter().zip(0..).filter(|(key, _)| !tile.mask.sees(row, **key as usize));
            hidden.for_each(|(_, at): (_, usize)| scores[at * PANEL + lane] = f32::NEG_INFINITY);
        }
    }

    /// ln of the weight of the rows of a panel; −∞ where there is no sample, or the support holds it.
    fn log_weights(&self, tile: &Tile<'_>, rows: Range<usize>, selection: &Selection) -> [f32; PANEL] {
        let KeyHead { scale, level, .. } = self.keys;
        let d = tile.query.cols();
        let listed: Vec<u32> = rows.clone().map(|r| r as u32).collect();
        let mut query = vec![0.0; d * PANEL];
        kernel::pack(level, tile.query, &listed, scale, &mut query);
        let mut lanes_at = vec![0u32; self.epochs.len()];
        for (lane, r) in rows.clone().enumerate() {
            if let Some(epoch) = self.epoch(tile, r) {
                lanes_at[epoch] |= 1 << lane;
            }
        }
        let mut logs = [f32::NEG_INFINITY; PANEL];
        for (sample, lanes) in self.epochs.iter().zip(lanes_at).filter(|(_, lanes)| *lanes != 0) {
            let count = sample.sample.len();
            let mut scores = vec![0.0; count * PANEL];
            let samples = Matrix::new("samples", &sample.rows, count, d).expect("whole rows");
            kernel::product(level, &query, samples, &Keys::Range(0..count), &mut scores);
            Self::hide(tile, &rows, &sample.sample, &mut scores);
            leave_out(&mut scores, &sample.place, &rows, selection);
            let left = seen(&scores);
            let offset = vec![0.0; count];
            let tops = kernel::lane_tops(level, &scores, &offset);
            let finite = tops.map(|top| if top == f32::NEG_INFINITY { 0.0 } else { top });
            kernel::exp_lanes(level, &mut scores, &offset, &finite);
            let mut sums = [0.0; PANEL];
            kernel::add_lanes(level, &scores, &mut sums);
            for lane in (0..PANEL).filter(|lane| lanes >> lane & 1 == 1) {
                logs[lane] = tops[lane] + (sums[lane] / left[lane].max(1.0)).ln();
            }
        }
        logs
    }
}

/// Whether rows have the same keys but for a boolean mask.
fn all_alike(mask: &HeadMask<'_>) -> bool {
    !mask.is_causal() && !mask.has_window()
}

/// How many scores of each lane are left.
fn seen(scores: &[f32]) -> [f32; PANEL] {
    let mut seen = [0.0; PANEL];
    for scores in scores.as_chunks::<PANEL>().0 {
        seen.iter_mut().zip(scores).for_each(|(n, x)| *n += f32::from(u8::from(*x != f32::NEG_INFINITY)));
    }
    seen
}

/// Takes the logits of keys out that are on the support of their lanes.
fn leave_out(scores: &mut [f32], place: &[u16], rows: &Range<usize>, selection: &Selection) {
    let sampled = |key: usize| place.get(key).filter(|at| **at != NOT).map(|at| usize::from(*at) * PANEL);
    for block in selection.blocks.iter().filter(|b| b.rows.start < rows.end && rows.start < b.rows.end) {
        for at in 0..block.keys.len() {
            if let Some(first) = sampled(block.keys.get(at)) {
                let lanes = lanes_of(block, rows, at);
                let taken = (0..PANEL).filter(|lane| lanes >> lane & 1 == 1);
                taken.for_each(|lane| scores[first + lane] = f32::NEG_INFINITY);
            }
        }
    }
    for (lane, r) in rows.clone().enumerate() {
        let listed = selection.lists.get(r).into_iter().flatten();
        listed.filter_map(|&key| sampled(key as usize)).for_each(|first| scores[first + lane] = f32::NEG_INFINITY);
    }
}

/// The rows of a panel that take the key `at` of a block, as bits.
fn lanes_of(block: &Block, rows: &Range<usize>, at: usize) -> u32 {
    let inside = block.rows.start.max(rows.start)..block.rows.end.min(rows.end);
    if block.clip.is_some() || !block.except.is_empty() {
        return inside
            .filter(|r| block.takes(r - block.rows.start, at))
            .fold(0, |bits, r| bits | 1 << (r - rows.start));
    }
    // Bit 0 is the panel's first row.
    let chosen = block.only.as_ref().map_or(u64::MAX, |only| only[at]);
    let chosen = chosen >> (inside.start - block.rows.start) << (inside.start - rows.start);
    let lanes = (1 << (inside.end - rows.start)) - (1 << (inside.start - rows.start));
    chosen as u32 & lanes
}

impl Summary for SampledMass<'_> {
    fn tile<'a>(&'a self, tile: &Tile<'a>, selection: &mut Selection) -> Box<dyn TileBackground + 'a> {
        let mut log_weights = Vec::with_capacity(tile.rows.len());
        for first in (0..tile.rows.len()).step_by(PANEL) {
            let rows = first..(first + PANEL).min(tile.rows.len());
            log_weights.extend_from_slice(&self.log_weights(tile, rows.clone(), selection)[..rows.len()]);
        }
        Box::new(SampledMassTile::new(self, *tile, log_weights))
    }

    fn any_order(&self) -> bool {
        true
    }

    fn by_row(&self) -> bool {
        true
    }
}

struct SampledMassTile<'a> {
    summary: &'a SampledMass<'a>,
    tile: Tile<'a>,
    log_weights: Vec<f32>,
    /// The keys that weigh something for each row.
    far: Vec<Range<usize>>,
}

impl<'a> SampledMassTile<'a> {
    fn new(summary: &'a SampledMass<'a>, tile: Tile<'a>, log_weights: Vec<f32>) -> Self {
        let far = |row: usize| if log_weights[row] == f32::NEG_INFINITY { 0..0 } else { summary.far(&tile, row) };
        let far = (0..tile.rows.len()).map(far).collect();
        Self { summary, tile, log_weights, far }
    }

    /// Far keys of a row that no boolean mask hides, but those in `skip` (ascending), one after the other.
    fn sum_pairs(&self, row: usize, skip: &[u32], mut add: impl FnMut(&[f32])) {
        let allowed = self.tile.mask.allowed_row(self.tile.rows[row] as usize);
        let seen = self.far[row].clone().filter(|&j| allowed.is_none_or(|a| a[j] != 0));
        seen.filter(|&j| skip.binary_search(&(j as u32)).is_err()).for_each(|j| add(self.summary.keys.value.row(j)));
    }
}

impl TileBackground for SampledMassTile<'_> {
    fn log_scale(&self, row: usize) -> f32 {
        if !self.far[row].is_empty() { self.log_weights[row] } else { f32::NEG_INFINITY }
    }

    fn totals(&mut self, panel: usize, numerator: &mut [f32], denominator: &mut [f32; PANEL]) {
        numerator.fill(0.0);
        denominator.fill(0.0);
        let rows = panel * PANEL..((panel + 1) * PANEL).min(self.tile.rows.len());
        for (lane, row) in rows.enumerate() {
            if self.tile.mask.has_boolean() {
                self.sum_pairs(row, &[], |value| {
                    denominator[lane] += 1.0;
                    numerator[lane..].iter_mut().step_by(PANEL).zip(value).for_each(|(sum, v)| *sum += v);
                });
            } else {
                denominator[lane] = self.far[row].len() as f32;
                self.summary.add_values(&self.far[row], |c, sum| numerator[c * PANEL + lane] = sum);
            }
        }
    }

    fn entries_panel(&mut self, panel: usize, keys: &Keys, out: &mut [f32]) {
        let far = &self.far[panel * PANEL..((panel + 1) * PANEL).min(self.far.len())];
        let mut lanes = [[0u32; PANEL]; 2];
        for (lane, far) in far.iter().enumerate() {
            (lanes[0][lane], lanes[1][lane]) = (far.start as u32, far.end as u32);
        }
        for (at, out) in out.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            let key = keys.get(at) as u32;
            for (lane, out) in out.iter_mut().enumerate() {
                *out = f32::from(u8::from(lanes[0][lane] <= key && key < lanes[1][lane]));
            }
        }
    }

    fn entries_row(&mut self, row: usize, keys: &[u32], out: &mut [f32]) {
        let far = &self.far[row];
        out.iter_mut().zip(keys).for_each(|(out, &key)| *out = f32::from(u8::from(far.contains(&(key as usize)))));
    }

    fn off_support(&mut self, row: usize, skip: &[u32], numerator: &mut [f32]) -> (f32, f32, f32) {
        let mut sum = vec![0.0f64; numerator.len()];
        let mut count = 0.0;
        self.sum_pairs(row, skip, |value| {
            count += 1.0;
            sum.iter_mut().zip(value).for_each(|(sum, v)| *sum += f64::from(*v));
        });
        numerator.iter_mut().zip(&sum).for_each(|(n, sum)| *n = *sum as f32);
        (self.log_weights[row], count, count)
    }
}
