//! Sixteen rows of a scan: weights of what is looked at, the heavy keys among it, and sums over the light ones.

use super::routes::{Epoch, Route};
use super::store::{NO_KEY, Store};
use super::{MOST, Products, Scan};
use scatterbrain_core::kernel::{self, Coding, PANEL, QUAD, QueryCodes, Running, Seen, WeightCodes};
use scatterbrain_core::tile::{CHUNK, Keys, Tile};
use scatterbrain_core::{Level, Matrix};
use scatterbrain_hash::QuantisedRows;
use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;

/// Fractions between the first keys of neighbouring clusters: a multiple of four, and no part of the period of fractions.
const FRACTIONS: usize = 92;

/// log₂ of what weights of a piece are shrunk to at least; else they are nothing.
const NOTHING: f32 = -60.0;

/// Memory that the panels of a tile use in turn.
#[derive(Default)]
pub(super) struct Memory {
    /// Weights of a panel, `[place][PANEL]`, piece after piece, each relative to 2^its reference.
    weights: Vec<f32>,
    pieces: Vec<Piece>,
    /// Weights of the clusters that lanes do not scan, `[cluster][PANEL]`; empty without any.
    far: Vec<f32>,
    codes: WeightCodes,
    chosen: Vec<u32>,
}

/// Neighbours in a store.
struct Piece {
    /// Whether the store is that of the clusters.
    clustered: bool,
    places: Range<usize>,
    /// Which fraction the first of them rounds from.
    fraction: usize,
    /// Where its weights start, in panel rows.
    at: usize,
    reference: [f32; PANEL],
}

/// Sums of a panel over what is light.
pub(super) struct Panel {
    pub(super) log_scale: [f32; PANEL],
    /// `[d_v][PANEL]`.
    pub(super) numerator: Vec<f32>,
    pub(super) denominator: [f32; PANEL],
    /// Keys looked at, of those that a row sees.
    pub(super) scanned: [usize; PANEL],
}

/// What the lanes of a panel weigh in all: what shares are of.
#[derive(Clone)]
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
    route: Option<Route<'s>>,
    memory: &'s mut Memory,
    whole: Whole,
    scanned: [usize; PANEL],
}

impl Panel {
    /// Pushes lane and key of what is heavy.
    pub(super) fn new(
        scan: &Scan<'_>,
        tile: &Tile<'_>,
        rows: Range<usize>,
        taken: &[&[u32]],
        memory: &mut Memory,
        heavy: &mut Vec<(usize, u32)>,
    ) -> Self {
        let hull = tile.hull(rows.clone());
        let common = tile.rows[rows.clone()].iter().map(|&i| tile.mask.range(i as usize).end).min().unwrap_or(0);
        let route = scan.routes.as_ref().and_then(|routes| routes.at(common));
        let query = codes(scan, tile, rows.clone());
        let factor = scan.scale * LOG2_E;
        let offsets = scan.store.centres.offsets(scan.level, tile.query, rows.clone(), factor, hull.end);
        let whole = Whole { running: Running::default(), sized: [0.0; PANEL] };
        let mut work = Work { scan, tile, rows, taken, query, offsets, route, memory, whole, scanned: [0; PANEL] };
        work.weigh_in_order(hull);
        work.weigh_clusters();
        work.sum(heavy)
    }
}

/// Codes of some queries of a tile, for logarithms of base 2.
fn codes(scan: &Scan<'_>, tile: &Tile<'_>, rows: Range<usize>) -> QueryCodes {
    let rows = QuantisedRows::new(scan.level, tile.query.slice(rows), i8::MAX).expect("127 is a code");
    let scales: Vec<f32> = rows.scales().iter().map(|s| s * scan.scale * LOG2_E).collect();
    QueryCodes::new(scan.level, rows.codes(), rows.width(), &scales)
}

impl<'s> Work<'s, '_> {
    /// Weights of the keys that are in no cluster.
    fn weigh_in_order(&mut self, hull: Range<usize>) {
        let Self { scan, tile, .. } = *self;
        // Pieces start at multiples of their length, or where the clusters end, so that a row's sums do not depend on later
        // rows.
        let start = self.route.map_or(hull.start / CHUNK * CHUNK, |route| route.end());
        let keys = if hull.end > start { start..hull.end.next_multiple_of(QUAD) } else { start..start };
        self.memory.pieces.clear();
        self.memory.weights.resize(self.memory.weights.len().max(keys.len() * PANEL), 0.0);
        for places in chunks(&keys).flat_map(|chunk| scan.store.centres.parts(chunk)) {
            let rows = self.rows.clone();
            let fraction = places.start;
            self.weigh(false, places, fraction, |places, scores| hide(scan.level, tile, &rows, places, scores));
        }
        for (scanned, r) in self.scanned.iter_mut().zip(self.rows.clone()) {
            let i = tile.rows[r] as usize;
            let seen = tile.mask.range(i);
            *scanned = if seen.start >= start { tile.mask.visible(i) } else { seen.end.saturating_sub(start) };
        }
    }

    /// Weights of the members of clusters that some lane scans, and of the other clusters as wholes.
    fn weigh_clusters(&mut self) {
        self.memory.far.clear();
        let Some(route) = self.route else { return };
        let mut far = self.logarithms(route);
        let lanes = self.lanes(route, &far);
        let level = self.scan.level;
        for (c, &lanes) in lanes.iter().enumerate().filter(|(_, lanes)| **lanes != 0) {
            let (all, members) = (route.places(c), route.members(c));
            let mut ends = [[all.start as u32; PANEL]; 2];
            for (lane, end) in ends[1].iter_mut().enumerate().filter(|(lane, _)| lanes >> lane & 1 == 1) {
                *end += members as u32;
                far[c * PANEL + lane] = f32::NEG_INFINITY;
            }
            let whole = lanes == u16::MAX && members == all.len();
            for places in chunks(&all) {
                // Where a cluster stands depends on how many later keys join those before it.
                let fraction = c * FRACTIONS + places.start - all.start;
                self.weigh(true, places, fraction, |places, scores| {
                    if !whole {
                        let seen = Seen { interval: Some(&ends), only: None, except: &[] };
                        kernel::hide(level, &Keys::Range(places.clone()), &seen, scores, &mut []);
                    }
                });
            }
            self.scanned.iter_mut().for_each(|scanned| *scanned += members);
        }
        let Whole { running, sized } = &mut self.whole;
        kernel::coarse_softmax(level, &mut far, &route.epoch.value_sizes, running, sized);
        self.memory.far = far;
    }

    /// Scores and weights of a piece.
    fn weigh(
        &mut self,
        clustered: bool,
        places: Range<usize>,
        fraction: usize,
        hide: impl Fn(&Range<usize>, &mut [f32]),
    ) {
        let (level, store) = (self.scan.level, self.store(clustered));
        let at = self.memory.pieces.last().map_or(0, |last| last.at + last.places.len());
        let weights = &mut self.memory.weights;
        weights.resize(weights.len().max((at + places.len()) * PANEL), 0.0);
        let scores = &mut weights[at * PANEL..(at + places.len()) * PANEL];
        // Beside clusters keys are as they are.
        let offsets = if clustered { &[0.0; PANEL] } else { &self.offsets[store.centres.epoch(places.start)] };
        kernel::scan(level, &self.query, store.keys(&places), &store.key_scales[places.clone()], offsets, scores);
        hide(&places, scores);
        let Whole { running, sized } = &mut self.whole;
        kernel::coarse_softmax(level, scores, &store.value_sizes[places.clone()], running, sized);
        self.memory.pieces.push(Piece { clustered, places, fraction, at, reference: running.max });
    }

    fn store(&self, clustered: bool) -> &'s Store {
        match self.route {
            Some(route) if clustered => &route.epoch.store,
            _ => &self.scan.store,
        }
    }

    /// log₂ ŵ of all clusters, `[clusters][PANEL]`.
    fn logarithms(&self, route: Route<'_>) -> Vec<f32> {
        let Scan { level, scale, .. } = *self.scan;
        let rows: Vec<u32> = self.rows.clone().map(|r| r as u32).collect();
        let (mut query, mut logs) = (vec![0.0; self.tile.query.cols() * PANEL], vec![0.0; route.count() * PANEL]);
        kernel::pack(level, self.tile.query, &rows, scale * LOG2_E, &mut query);
        kernel::product(level, &query, route.means(), &Keys::Range(0..route.count()), &mut logs);
        for (lanes, mass) in logs.as_chunks_mut::<PANEL>().0.iter_mut().zip(route.log_masses()) {
            lanes.iter_mut().for_each(|x| *x += mass);
        }
        logs
    }

    /// The lanes that scan each cluster: those that find it worth it, those of later rows, and all where rows may know of
    /// each other; and those with a key of their support in it.
    fn lanes(&self, route: Route<'_>, logs: &[f32]) -> Vec<u16> {
        let mut whole = self.whole.clone();
        let mut weights = logs.to_vec();
        let sizes = &route.epoch.value_sizes;
        kernel::coarse_softmax(self.scan.level, &mut weights, sizes, &mut whole.running, &mut whole.sized);
        let mut least = [f32::INFINITY; PANEL];
        for lane in 0..self.rows.len() {
            least[lane] = whole.running.max[lane] + (self.scan.skip * whole.running.sum[lane]).log2();
        }
        let mut lanes = vec![0u16; route.count()];
        for ((lanes, logs), spread) in lanes.iter_mut().zip(logs.as_chunks::<PANEL>().0).zip(&route.epoch.spread) {
            for lane in 0..PANEL {
                *lanes |= u16::from(logs[lane] + spread > least[lane]) << lane;
            }
        }
        for (lane, keys) in self.taken.iter().enumerate() {
            for &key in keys.iter().take_while(|&&key| (key as usize) < route.end()) {
                lanes[route.place(key).0] |= 1 << lane;
            }
        }
        let causal = self.tile.mask.is_causal();
        for lanes in lanes.iter_mut().filter(|lanes| **lanes != 0) {
            *lanes = if causal { u16::MAX << lanes.trailing_zeros() } else { u16::MAX };
        }
        lanes
    }

    /// Heavy keys, and sums over the light ones.
    fn sum(mut self, heavy: &mut Vec<(usize, u32)>) -> Panel {
        self.rescale();
        self.leave_out();
        let Self { scan, ref whole, .. } = self;
        let (mut numerator, mut denominator) = match scan.products {
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
        if let Some(route) = self.route {
            let far = &self.memory.far;
            kernel::weighted_sum(scan.level, far, route.mean_values(), &Keys::Range(0..route.count()), &mut numerator);
            kernel::add_lanes(scan.level, far, &mut denominator);
        }
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
                let (clustered, place) = match self.route {
                    Some(route) if (key as usize) < route.end() => (true, route.place(key).1),
                    _ => (false, key as usize),
                };
                let piece = pieces.iter().find(|p| p.clustered == clustered && p.places.contains(&place));
                if let Some(Piece { places, at, .. }) = piece {
                    weights[(at + place - places.start) * PANEL + lane] = 0.0;
                }
            }
        }
    }

    /// Sums by codes.
    fn sum_codes(&mut self, steps: Steps, heavy: &mut Vec<(usize, u32)>) -> (Vec<f32>, [f32; PANEL]) {
        let (level, columns) = (self.scan.level, self.scan.store.values.columns());
        let (mut sums, mut numerator) = (vec![0i32; columns * PANEL], vec![0.0; columns * PANEL]);
        let (mut denominator, mut keys) = ([0.0; PANEL], 0);
        let (epoch, stores) = (self.route.map(|route| route.epoch), [self.store(false), self.store(true)]);
        let Memory { weights, pieces, codes, chosen, .. } = &mut *self.memory;
        for Piece { clustered, places, fraction, at, .. } in pieces {
            // Steps of the largest weight have no bound but the number of keys. A piece counts whole, so that where sums are
            // emptied does not depend on where the rows end.
            keys += CHUNK;
            if keys > kernel::CODE_KEYS {
                empty(&mut sums, &mut numerator);
                keys = CHUNK;
            }
            let store = stores[usize::from(*clustered)];
            let coding = Coding {
                first: places.start,
                fraction: *fraction,
                scales: &store.value_sizes[places.clone()],
                value_steps: &steps.value,
                mass_steps: &steps.mass,
                most: steps.most,
            };
            chosen.resize(places.len().div_ceil(kernel::WORD) * PANEL, 0);
            let weights = &weights[*at * PANEL..(*at + places.len()) * PANEL];
            kernel::code_weights(level, weights, &coding, codes, chosen, &mut denominator);
            kernel::weighted_code_sum(level, codes, &store.values, &mut sums);
            let epoch = epoch.filter(|_| *clustered);
            kernel::for_chosen(chosen, |at, lanes| push(heavy, lanes, key_at(epoch, places.start + at)));
        }
        empty(&mut sums, &mut numerator);
        let step = steps.value.map(|steps| 1.0 / steps / f32::from(i8::MAX));
        kernel::scale_lanes(level, &mut numerator, &step);
        (numerator, denominator)
    }

    /// Sums in f32; such scans have no clusters.
    fn sum_whole(&mut self) -> (Vec<f32>, [f32; PANEL]) {
        let (level, value): (_, Matrix<'_>) = (self.scan.level, self.scan.value);
        let (mut numerator, mut denominator) = (vec![0.0; value.cols() * PANEL], [0.0; PANEL]);
        let Memory { weights, pieces, .. } = &mut *self.memory;
        for Piece { places, at, .. } in pieces {
            let keys = places.start..places.end.min(value.rows());
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
            let weights = self.memory.weights.as_chunks::<PANEL>().0[*at..].iter();
            for (weights, size) in weights.zip(&self.scan.store.value_sizes[places.clone()]) {
                tops.iter_mut().zip(weights).for_each(|(top, w)| *top = top.max(w * size));
            }
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

/// The key at a place.
fn key_at(epoch: Option<&Epoch>, place: usize) -> u32 {
    epoch.map_or(place as u32, |epoch| epoch.key_at[place])
}

fn push(heavy: &mut Vec<(usize, u32)>, mut lanes: u32, key: u32) {
    debug_assert_ne!(key, NO_KEY, "a place without a key weighs nothing");
    while lanes != 0 {
        heavy.push((lanes.trailing_zeros() as usize, key));
        lanes &= lanes - 1;
    }
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
