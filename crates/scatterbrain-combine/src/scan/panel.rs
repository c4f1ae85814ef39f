//! Sixteen rows of a scan.
//!
//! ```text
//! 1. weigh     piece by piece of keys: scores in 8 bits, hidden pairs out, 2^(score − reference); the reference rises
//! 2. rescale   weights of earlier pieces to the last reference
//! 3. leave out weights of keys that the support has
//! 4. code      a weight beyond a share of the row is heavy: its key is pushed, for the combiner to compute exactly; others
//!              become whole numbers of steps
//! 5. sum       codes of weights times codes of values
//! ```
//!
//! Logarithms are of base 2, but for [`Panel::log_scale`].

use super::store::Store;
use super::{MOST, Products, Scan};
use scatterbrain_core::kernel::{self, Coding, PANEL, QUAD, QueryCodes, Running, Seen, WeightCodes};
use scatterbrain_core::tile::{CHUNK, Keys, Tile};
use scatterbrain_core::{Level, Matrix};
use scatterbrain_hash::QuantisedRows;
use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;

/// A factor below 2 to this power is taken as 0.
const NOTHING: f32 = -60.0;

/// Memory that the panels of a tile use in turn.
#[derive(Default)]
pub(super) struct Memory {
    /// Weights of a panel, `[place][PANEL]`, piece after piece, each relative to 2^its reference.
    weights: Vec<f32>,
    pieces: Vec<Piece>,
    codes: WeightCodes,
    chosen: Vec<u32>,
    /// Sums of codes, `[d_v][PANEL]`; zeros between panels.
    sums: Vec<i32>,
}

/// Neighbours among the keys, up to whole groups of four.
struct Piece {
    places: Range<usize>,
    /// Where its weights start, in panel rows.
    at: usize,
    reference: [f32; PANEL],
}

/// Sums of a panel over what is light.
pub(super) struct Panel {
    /// Natural.
    pub(super) log_scale: [f32; PANEL],
    /// `[d_v][PANEL]`.
    pub(super) numerator: Vec<f32>,
    pub(super) denominator: [f32; PANEL],
    /// Keys looked at, of those that a row sees.
    pub(super) scanned: [usize; PANEL],
}

/// What the lanes of a panel weigh in all: what shares are of.
struct Whole {
    running: Running,
    /// Σ w σ, relative as the sum of `running`.
    sized: [f32; PANEL],
}

/// A panel in work.
struct Work<'s, 'a> {
    scan: &'s Scan<'a>,
    tile: &'s Tile<'a>,
    rows: Range<usize>,
    /// Keys that are exact already, of each row; none where the support is empty.
    taken: &'s [&'s [u32]],
    query: QueryCodes,
    /// Of the centres of the keys in order, `[epochs][PANEL]`.
    offsets: Vec<[f32; PANEL]>,
    sight: Sight,
    memory: &'s mut Memory,
    whole: Whole,
    scanned: [usize; PANEL],
}

impl Panel {
    /// Pushes the keys that are heavy, for each of the rows.
    pub(super) fn new(
        scan: &Scan<'_>,
        tile: &Tile<'_>,
        rows: Range<usize>,
        taken: &[&[u32]],
        memory: &mut Memory,
        heavy: &mut [Vec<u32>],
    ) -> Self {
        let hull = tile.hull(rows.clone());
        let query = codes(scan, tile, rows.clone());
        let factor = scan.scale * LOG2_E;
        let offsets = scan.store.centres.offsets(scan.level, tile.query, rows.clone(), factor, hull.end);
        let whole = Whole { running: Running::default(), sized: [0.0; PANEL] };
        let mut scanned = [0; PANEL];
        for (scanned, &i) in scanned.iter_mut().zip(&tile.rows[rows.clone()]) {
            *scanned = tile.mask.visible(i as usize);
        }
        let sight = Sight::new(tile, &rows);
        let mut work = Work { scan, tile, rows, taken, query, offsets, sight, memory, whole, scanned };
        work.weigh_all(hull);
        work.rescale();
        work.leave_out();
        work.sum(heavy)
    }
}

/// Codes of some queries of a tile, for logarithms of base 2.
fn codes(scan: &Scan<'_>, tile: &Tile<'_>, rows: Range<usize>) -> QueryCodes {
    let rows = QuantisedRows::new(scan.level, tile.query.slice(rows), i8::MAX).expect("127 is a code");
    let scales: Vec<f32> = rows.scales().iter().map(|s| s * scan.scale * LOG2_E).collect();
    QueryCodes::new(scan.level, rows.codes(), rows.width(), &scales)
}

impl Work<'_, '_> {
    /// Weights of the keys from the first to the last that a row sees.
    fn weigh_all(&mut self, hull: Range<usize>) {
        // Pieces start at multiples of their length, so that a row's sums do not depend on later rows.
        let start = hull.start / CHUNK * CHUNK;
        let keys = start..hull.end.next_multiple_of(QUAD).max(start);
        self.memory.pieces.clear();
        self.memory.weights.resize(self.memory.weights.len().max(keys.len() * PANEL), 0.0);
        let scan = self.scan;
        for places in chunks(&keys).flat_map(|chunk| scan.store.centres.parts(chunk)) {
            self.weigh(places, keys.start);
        }
    }

    /// Scores and weights of a piece; weights start with those of key `first`.
    fn weigh(&mut self, places: Range<usize>, first: usize) {
        let (level, store): (_, &Store) = (self.scan.level, &self.scan.store);
        let at = places.start - first;
        let scores = &mut self.memory.weights[at * PANEL..(at + places.len()) * PANEL];
        let offsets = &self.offsets[store.centres.epoch(places.start)];
        kernel::scan(level, &self.query, store.keys(&places), &store.key_scales[places.clone()], offsets, scores);
        self.sight.hide(level, self.tile, &self.rows, &places, scores);
        let Whole { running, sized } = &mut self.whole;
        kernel::coarse_softmax(level, scores, &store.value_sizes[places.clone()], running, sized);
        self.memory.pieces.push(Piece { places, at, reference: running.max });
    }

    /// Heavy keys, and sums over the light ones.
    fn sum(mut self, heavy: &mut [Vec<u32>]) -> Panel {
        let Self { scan, ref whole, .. } = self;
        let (numerator, denominator) = match scan.products {
            Products::Shares { share, most } => {
                let per_share = |whole: f32| (f32::from(most) / share / whole).min(f32::MAX);
                let (value, mass) = (whole.sized.map(per_share), whole.running.sum.map(per_share));
                self.sum_codes(Steps { value, mass, most }, heavy)
            }
            Products::Largest => {
                let per_step = |top: f32| (f32::from(MOST) / top).min(f32::MAX);
                // The largest itself must not be over by rounding.
                let value = self.largest().map(|top| per_step(top) * (1.0 - f32::EPSILON));
                self.sum_codes(Steps { value, mass: [0.0; PANEL], most: MOST }, heavy)
            }
            Products::Whole => self.sum_whole(),
        };
        let mut log_scale = self.whole.running.max.map(|max| max * LN_2);
        for (scale, denominator) in log_scale.iter_mut().zip(denominator) {
            if denominator == 0.0 {
                *scale = f32::NEG_INFINITY;
            }
        }
        Panel { log_scale, numerator, denominator, scanned: self.scanned }
    }

    /// All weights relative to the last reference.
    fn rescale(&mut self) {
        let Memory { weights, pieces, .. } = &mut *self.memory;
        for Piece { places, at, reference, .. } in pieces {
            let rescale = std::array::from_fn(|lane| shrink(reference[lane], self.whole.running.max[lane]));
            if rescale != [1.0; PANEL] {
                kernel::scale_lanes(self.scan.level, &mut weights[*at * PANEL..(*at + places.len()) * PANEL], &rescale);
            }
        }
    }

    /// Takes out the weights of the keys on the support.
    fn leave_out(&mut self) {
        let Memory { weights, pieces, .. } = &mut *self.memory;
        for (lane, keys) in self.taken.iter().enumerate() {
            for &key in *keys {
                let key = key as usize;
                if let Some(Piece { places, at, .. }) = pieces.iter().find(|piece| piece.places.contains(&key)) {
                    weights[(at + key - places.start) * PANEL + lane] = 0.0;
                }
            }
        }
    }

    /// Sums by codes.
    fn sum_codes(&mut self, steps: Steps, heavy: &mut [Vec<u32>]) -> (Vec<f32>, [f32; PANEL]) {
        let (level, store): (_, &Store) = (self.scan.level, &self.scan.store);
        let columns = store.values.columns();
        let mut numerator = vec![0.0; columns * PANEL];
        let (mut denominator, mut keys) = ([0.0; PANEL], 0);
        let Memory { weights, pieces, codes, chosen, sums } = &mut *self.memory;
        sums.resize(columns * PANEL, 0);
        for Piece { places, at, .. } in pieces {
            // Steps of the largest weight have no bound but the number of keys. A piece counts whole, so that where sums are
            // emptied does not depend on where the rows end.
            keys += CHUNK;
            if keys > kernel::CODE_KEYS {
                empty(sums, &mut numerator);
                keys = CHUNK;
            }
            let coding = Coding {
                first: places.start,
                scales: &store.value_sizes[places.clone()],
                value_steps: &steps.value,
                mass_steps: &steps.mass,
                most: steps.most,
            };
            chosen.resize(places.len().div_ceil(kernel::WORD) * PANEL, 0);
            let weights = &weights[*at * PANEL..(*at + places.len()) * PANEL];
            kernel::code_weights(level, weights, &coding, codes, chosen, &mut denominator);
            kernel::weighted_code_sum(level, codes, &store.values, sums);
            kernel::for_chosen_lanes(chosen, |lane, at| heavy[lane].push((places.start + at) as u32));
        }
        empty(sums, &mut numerator);
        let step = steps.value.map(|steps| 1.0 / steps / f32::from(i8::MAX));
        kernel::scale_lanes(level, &mut numerator, &step);
        (numerator, denominator)
    }

    /// Sums in f32.
    fn sum_whole(&mut self) -> (Vec<f32>, [f32; PANEL]) {
        let (level, value): (_, Matrix<'_>) = (self.scan.level, self.scan.value);
        let (mut numerator, mut denominator) = (vec![0.0; value.cols() * PANEL], [0.0; PANEL]);
        let Memory { weights, pieces, .. } = &mut *self.memory;
        for Piece { places, at, .. } in pieces {
            // Values behind the last key may be anything, and 0 times NaN is none.
            let keys = places.start..places.end.min(self.scan.length);
            let weights = &weights[*at * PANEL..(*at + keys.len()) * PANEL];
            kernel::weighted_sum(level, weights, value, &Keys::Range(keys), &mut numerator);
            kernel::add_lanes(level, weights, &mut denominator);
        }
        (numerator, denominator)
    }

    /// max_j w σ of every lane.
    fn largest(&self) -> [f32; PANEL] {
        let mut tops = [0.0f32; PANEL];
        for Piece { places, at, .. } in &self.memory.pieces {
            let weights = &self.memory.weights[*at * PANEL..(*at + places.len()) * PANEL];
            kernel::raise_weighted(self.scan.level, weights, &self.scan.store.value_sizes[places.clone()], &mut tops);
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

/// Adds sums to others, and starts them anew.
fn empty(sums: &mut [i32], to: &mut [f32]) {
    to.iter_mut().zip(sums).for_each(|(to, sum)| *to += std::mem::take(sum) as f32);
}

/// 2^(from − to), 0 where that is nothing: weights must not become subnormal.
fn shrink(from: f32, to: f32) -> f32 {
    if from == to {
        1.0
    } else if from - to < NOTHING {
        0.0
    } else {
        kernel::exp2(from - to)
    }
}

/// Pieces of `places` of [`CHUNK`], the last shorter.
fn chunks(places: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = places.end;
    (places.start..end).step_by(CHUNK).map(move |start| start..(start + CHUNK).min(end))
}

/// Keys that the lanes of a panel see; one without a row sees none.
struct Sight {
    /// First key of each, and its end.
    ends: [[u32; PANEL]; 2],
    /// Keys that all see.
    common: Range<usize>,
}

impl Sight {
    fn new(tile: &Tile<'_>, rows: &Range<usize>) -> Self {
        let mut ends = [[0; PANEL]; 2];
        for (lane, &i) in tile.rows[rows.clone()].iter().enumerate() {
            let range = tile.mask.range(i as usize);
            (ends[0][lane], ends[1][lane]) = (range.start as u32, range.end as u32);
        }
        let edge = |end: Option<&u32>| end.map_or(0, |end| *end as usize);
        let common = edge(ends[0].iter().max())..edge(ends[1].iter().min());
        Self { ends, common }
    }

    /// Hides what lanes do not see of some keys.
    fn hide(&self, level: Level, tile: &Tile<'_>, rows: &Range<usize>, keys: &Range<usize>, scores: &mut [f32]) {
        if !(self.common.start <= keys.start && keys.end <= self.common.end) {
            let seen = Seen { interval: Some(&self.ends), only: None, except: &[] };
            kernel::hide(level, &Keys::Range(keys.clone()), &seen, scores, &mut []);
        }
        if !tile.mask.has_boolean() {
            return;
        }
        for (lane, &i) in tile.rows[rows.clone()].iter().enumerate() {
            if let Some(allowed) = tile.mask.allowed_row(i as usize) {
                for j in keys.clone().filter(|&j| allowed.get(j).is_some_and(|&a| a == 0)) {
                    scores[(j - keys.start) * PANEL + lane] = f32::NEG_INFINITY;
                }
            }
        }
    }
}
