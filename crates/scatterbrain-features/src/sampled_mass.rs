//! The mean of the values, with a weight from a sample of the logits.
//!
//! ```text
//! w̃_ij = mean of e^{x_it} over the sampled keys t that row i sees, off the support      x_it = s q_i·k_t
//!         for the keys j of the blocks of 64 that row i sees whole, else 0
//! ```
//!
//! Of what is off the support a sample says well how much it weighs, and badly what it is worth: 256 keys know the mass of
//! log-normal weights with σ = 1.2 to a tenth, and the mean of unit values to a tenth too, where the mean of thousands is a
//! hundredth. So the mass is sampled, and the values are those of all. All keys weigh the same in a row, so this is for
//! values that have nothing to do with the logits; where they have, centroids do more.
//!
//! **Which keys are sampled.** Where rows see the same keys: one of each of S equal stretches of them. Under a causal mask,
//! for rows that see P to 2P keys (64, 128, 256, …), one of each of S equal stretches of the first P. Under a window of w
//! keys that hides the first from a row, one of every ⌈w/S⌉ keys.
//!
//! **Strict causality.** Neither which keys are sampled nor which blocks are whole depends on later keys. A row has its
//! weight and sums by itself, whatever rows share its tile.

use scatterbrain_core::kernel::{self, PANEL};
use scatterbrain_core::tile::{Background, Block, Causality, KeyHead, Keys, Selection, Summary, Tile, TileBackground};
use scatterbrain_core::{Error, HeadMask, Level, Matrix, Result, Seed};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Keys of a block, and of the first epoch.
const BLOCK: usize = 64;
/// The place of a key that is in no sample.
const NOT: u32 = u32::MAX;

/// One weight a row for all keys off the support, from a sample of their logits.
///
/// Strictly causal. Cost: as many scores a row as keys are sampled; memory for those of every epoch, a sum of values for
/// every 64 keys, and 4 bytes a key and epoch. Under windows a row adds the sums of the blocks that it sees, and a panel
/// takes the samples of all keys between its rows, which are many where rows are visited in another order than they stand
/// in; under boolean masks a row adds the values of all keys.
///
/// ```
/// use scatterbrain_core::Seed;
/// use scatterbrain_core::tile::Background;
/// use scatterbrain_features::SampledMassBackground;
/// assert_eq!(SampledMassBackground::new(256, Seed(0))?.units(), 258);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledMassBackground {
    samples: usize,
    seed: Seed,
}

impl SampledMassBackground {
    /// From a sample of some `samples` keys a row.
    ///
    /// # Errors
    /// No sample.
    pub fn new(samples: usize, seed: Seed) -> Result<Self> {
        if samples == 0 {
            return Err(Error::invalid("samples", "at least 1", samples));
        }
        Ok(Self { samples, seed })
    }

    /// The keys whose logits say the mass of a row without a support, ascending; a boolean mask hides further ones.
    pub fn sample(&self, mask: &HeadMask<'_>, query_idx: usize) -> Vec<usize> {
        let (seen, sources) = (mask.range(query_idx), Source::all(mask));
        let keys = Source::of(&sources, &seen).map_or(Vec::new(), |at| self.keys(sources[at], mask.length()));
        keys.into_iter().filter(|key| seen.contains(key)).collect()
    }

    /// All sampled keys, ascending.
    fn keys(&self, source: Source, length: usize) -> Vec<usize> {
        match source {
            Source::First(keys) => self.seed.stream(keys as u64).strata(keys, self.samples).collect(),
            Source::Windows(width) => {
                let (mut rng, step) = (self.seed.stream(0), width.div_ceil(self.samples));
                let key = |start: usize| start + rng.below(step as u64) as usize;
                (0..length).step_by(step).map(key).filter(|&j| j < length).collect()
            }
        }
    }
}

/// Where a sample is from; which depends on no later key.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// One of each equal stretch of so many first keys.
    First(usize),
    /// One key of every ⌈width/S⌉, so that a window of this width holds about S.
    Windows(usize),
}

impl Source {
    /// Those that rows of a head have.
    fn all(mask: &HeadMask<'_>) -> Vec<Source> {
        let length = mask.length();
        let width = mask.window().map(|w| w.left.saturating_add(w.right).saturating_add(1));
        if width.is_none() && !mask.is_causal() {
            return vec![Source::First(length)];
        }
        let most = length.min(width.unwrap_or(length));
        let first = std::iter::successors(Some(BLOCK), |p| Some(2 * p)).take_while(|&p| p <= most);
        first.map(Source::First).chain(width.map(Source::Windows)).collect()
    }

    /// That of a row: a row that sees the first keys has no use for its window.
    fn of(sources: &[Source], seen: &Range<usize>) -> Option<usize> {
        sources.iter().rposition(|source| match source {
            Source::First(keys) => seen.start == 0 && (1..=seen.end).contains(keys),
            Source::Windows(_) => seen.start > 0,
        })
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

    /// The sampled keys, and a mean.
    fn units(&self) -> usize {
        self.samples.saturating_add(2)
    }
}

/// A head, summed up.
struct SampledMass<'a> {
    keys: KeyHead<'a>,
    sources: Vec<Source>,
    /// One each.
    samples: Vec<Sample>,
    sums: Sums,
}

/// Sums of values, `[b][d_v]`.
enum Sums {
    /// Over the keys before each block, and over all.
    Prefix(Vec<f32>),
    /// Over each block: under windows, where a difference would keep what a hidden key has rounded away.
    Blocks(Vec<f32>),
    /// None: a boolean mask is summed key by key.
    Keys,
}

/// Some keys of a head.
struct Sample {
    /// Ascending.
    sample: Vec<u32>,
    /// Those keys, `[samples, d]`.
    rows: Vec<f32>,
    /// Where each of the first keys stands in it.
    place: Vec<u32>,
}

impl Sample {
    fn new(key: Matrix<'_>, sampled: Vec<usize>) -> Self {
        let sample: Vec<u32> = sampled.into_iter().map(|key| key as u32).collect();
        let mut place = vec![NOT; sample.last().map_or(0, |&last| last as usize + 1)];
        sample.iter().zip(0..).for_each(|(&key, at)| place[key as usize] = at);
        let rows = sample.iter().flat_map(|&j| key.row(j as usize)).copied().collect();
        Self { sample, rows, place }
    }

    /// Those among some keys, as places.
    fn within(&self, keys: &Range<usize>) -> Range<usize> {
        let before = |end: usize| self.sample.partition_point(|&key| (key as usize) < end);
        before(keys.start)..before(keys.end)
    }
}

impl Sums {
    fn new(keys: &KeyHead<'_>) -> Self {
        let (length, d_v) = (keys.mask.length(), keys.value.cols());
        if keys.boolean {
            return Sums::Keys;
        }
        let windowed = keys.mask.has_window();
        let mut sum = vec![0.0f64; d_v];
        let mut sums = if windowed { Vec::new() } else { vec![0.0; d_v] };
        for block in (0..length).step_by(BLOCK) {
            if windowed {
                sum.fill(0.0);
            }
            for j in block..(block + BLOCK).min(length) {
                sum.iter_mut().zip(keys.value.row(j)).for_each(|(sum, v)| *sum += f64::from(*v));
            }
            sums.extend(sum.iter().map(|sum| *sum as f32));
        }
        if windowed { Sums::Blocks(sums) } else { Sums::Prefix(sums) }
    }
}

impl<'a> SampledMass<'a> {
    fn new(of: &SampledMassBackground, keys: KeyHead<'a>) -> Self {
        let sources = Source::all(&keys.mask);
        let sample = |source: &Source| Sample::new(keys.key, of.keys(*source, keys.mask.length()));
        let samples = sources.iter().map(sample).collect();
        Self { keys, sources, samples, sums: Sums::new(&keys) }
    }

    /// The keys that weigh something for a row: those of whole blocks, and all where there are no later ones.
    fn far(&self, tile: &Tile<'_>, row: usize) -> Range<usize> {
        let seen = tile.mask.range(tile.rows[row] as usize);
        let alike = !tile.mask.is_causal() && !tile.mask.has_window();
        let end = if alike { seen.end } else { seen.end / BLOCK * BLOCK };
        seen.start.next_multiple_of(BLOCK).min(end)..end
    }

    /// ln of the weight of the rows of a panel; −∞ where no sample is seen off the support.
    fn log_weights(&self, tile: &Tile<'_>, rows: Range<usize>, selection: &Selection) -> [f32; PANEL] {
        let KeyHead { scale, level, .. } = self.keys;
        let d = tile.query.cols();
        let listed: Vec<u32> = rows.clone().map(|r| r as u32).collect();
        let mut query = vec![0.0; d * PANEL];
        kernel::pack(level, tile.query, &listed, scale, &mut query);
        let mut lanes_at = vec![0u32; self.samples.len()];
        for (lane, r) in rows.clone().enumerate() {
            if let Some(at) = Source::of(&self.sources, &tile.mask.range(tile.rows[r] as usize)) {
                lanes_at[at] |= 1 << lane;
            }
        }
        let mut logs = [f32::NEG_INFINITY; PANEL];
        for (sample, lanes) in self.samples.iter().zip(lanes_at).filter(|(_, lanes)| *lanes != 0) {
            let places = sample.within(&tile.hull(rows.clone()));
            if places.is_empty() {
                continue;
            }
            let mut scores = vec![0.0; places.len() * PANEL];
            let samples = Matrix::new("samples", &sample.rows, sample.sample.len(), d).expect("whole rows");
            kernel::product(level, &query, samples, &Keys::Range(places.clone()), &mut scores);
            hide(tile, &rows, &sample.sample[places.clone()], &mut scores);
            leave_out(&mut scores, (&sample.place, &places), &rows, selection);
            let logs_of_all = log_means(level, &mut scores);
            for lane in (0..PANEL).filter(|lane| lanes >> lane & 1 == 1) {
                logs[lane] = logs_of_all[lane];
            }
        }
        logs
    }
}

/// ln of the mean of e^x over the scores of each lane that are not −∞.
fn log_means(level: Level, scores: &mut [f32]) -> [f32; PANEL] {
    let mut count = [0.0f32; PANEL];
    for scores in scores.as_chunks::<PANEL>().0 {
        count.iter_mut().zip(scores).for_each(|(n, x)| *n += f32::from(u8::from(*x != f32::NEG_INFINITY)));
    }
    let offset = vec![0.0; scores.len() / PANEL];
    let tops = kernel::lane_tops(level, scores, &offset);
    let finite = tops.map(|top| if top == f32::NEG_INFINITY { 0.0 } else { top });
    kernel::exp_lanes(level, scores, &offset, &finite);
    let mut sums = [0.0; PANEL];
    kernel::add_lanes(level, scores, &mut sums);
    std::array::from_fn(|lane| tops[lane] + (sums[lane] / count[lane].max(1.0)).ln())
}

/// Takes the logits of sampled keys out that a window or a boolean mask hides.
fn hide(tile: &Tile<'_>, rows: &Range<usize>, sample: &[u32], scores: &mut [f32]) {
    if !tile.mask.has_window() && !tile.mask.has_boolean() {
        return;
    }
    for (lane, r) in rows.clone().enumerate() {
        let row = tile.rows[r] as usize;
        let lane = scores.iter_mut().skip(lane).step_by(PANEL).zip(sample);
        lane.filter(|(_, key)| !tile.mask.sees(row, **key as usize)).for_each(|(score, _)| *score = f32::NEG_INFINITY);
    }
}

/// Takes the logits of keys out that are on the support of their lanes; `place` of a key, of which some are here.
fn leave_out(scores: &mut [f32], (place, here): (&[u32], &Range<usize>), rows: &Range<usize>, selection: &Selection) {
    let sampled = |key: usize| place.get(key).map(|at| *at as usize).filter(|at| here.contains(at));
    for block in selection.blocks.iter().filter(|b| b.rows.start < rows.end && rows.start < b.rows.end) {
        for at in 0..block.keys.len() {
            if let Some(place) = sampled(block.keys.get(at)) {
                let first = (place - here.start) * PANEL;
                let lanes = lanes_of(block, rows, at);
                let taken = (0..PANEL).filter(|lane| lanes >> lane & 1 == 1);
                taken.for_each(|lane| scores[first + lane] = f32::NEG_INFINITY);
            }
        }
    }
    for (lane, r) in rows.clone().enumerate() {
        let listed = selection.lists.get(r).into_iter().flatten();
        let listed = listed.filter_map(|&key| sampled(key as usize));
        listed.for_each(|place| scores[(place - here.start) * PANEL + lane] = f32::NEG_INFINITY);
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

    /// Σ of the values of far keys of a row.
    fn add_values(&self, row: usize, mut add: impl FnMut(usize, f32)) {
        let (far, d_v) = (&self.far[row], self.summary.keys.value.cols());
        let sum = |sums: &'a [f32], block: usize| &sums[block * d_v..][..d_v];
        match &self.summary.sums {
            Sums::Prefix(sums) => {
                let ends = sum(sums, far.end.div_ceil(BLOCK)).iter().zip(sum(sums, far.start / BLOCK));
                ends.enumerate().for_each(|(c, (to, from))| add(c, to - from));
            }
            Sums::Blocks(sums) => {
                let mut all = vec![0.0f64; d_v];
                for block in far.start / BLOCK..far.end / BLOCK {
                    all.iter_mut().zip(sum(sums, block)).for_each(|(all, sum)| *all += f64::from(*sum));
                }
                all.iter().enumerate().for_each(|(c, sum)| add(c, *sum as f32));
            }
            Sums::Keys => {
                let mut all = vec![0.0; d_v];
                self.sum_keys(row, &[], &mut all);
                all.iter().enumerate().for_each(|(c, sum)| add(c, *sum));
            }
        }
    }

    /// Far keys of a row that no boolean mask hides, but those in `skip` (ascending): Σ of their values, and how many.
    fn sum_keys(&self, row: usize, skip: &[u32], numerator: &mut [f32]) -> usize {
        let value = self.summary.keys.value;
        let allowed = self.tile.mask.allowed_row(self.tile.rows[row] as usize);
        let mut all = vec![0.0f64; numerator.len()];
        let mut count = 0;
        for block in self.far[row].clone().step_by(BLOCK) {
            let keys = block..(block + BLOCK).min(self.far[row].end);
            let seen = keys.filter(|&j| allowed.is_none_or(|a| a[j] != 0));
            let listed: Vec<u32> = seen.map(|j| j as u32).filter(|j| skip.binary_search(j).is_err()).collect();
            numerator.fill(0.0);
            kernel::weighted_sum_rows(self.summary.keys.level, &vec![1.0; listed.len()], value, &listed, numerator);
            all.iter_mut().zip(&*numerator).for_each(|(all, sum)| *all += f64::from(*sum));
            count += listed.len();
        }
        numerator.iter_mut().zip(all).for_each(|(sum, all)| *sum = all as f32);
        count
    }

    /// How many far keys a row sees.
    fn count(&self, row: usize) -> usize {
        match self.tile.mask.allowed_row(self.tile.rows[row] as usize) {
            None => self.far[row].len(),
            Some(allowed) => allowed[self.far[row].clone()].iter().filter(|a| **a != 0).count(),
        }
    }
}

impl TileBackground for SampledMassTile<'_> {
    fn log_scale(&self, row: usize) -> f32 {
        if self.far[row].is_empty() { f32::NEG_INFINITY } else { self.log_weights[row] }
    }

    fn totals(&mut self, panel: usize, numerator: &mut [f32], denominator: &mut [f32; PANEL]) {
        numerator.fill(0.0);
        denominator.fill(0.0);
        for (lane, row) in (panel * PANEL..((panel + 1) * PANEL).min(self.tile.rows.len())).enumerate() {
            denominator[lane] = self.count(row) as f32;
            self.add_values(row, |c, sum| numerator[c * PANEL + lane] = sum);
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
        let count = self.sum_keys(row, skip, numerator) as f32;
        (self.log_weights[row], count, count)
    }
}
