//! The background of one query tile, where a few keys stand for all: its queries against the sampled keys.
//!
//! A pair of row i and a sampled key j weighs e^{s·q_i·k_j + c_ij}, e^{c_ij} being how many keys it stands for; a pair with
//! any other key weighs nothing.

use scatterbrain_core::HeadMask;
use scatterbrain_core::kernel::{self, PANEL, Seen};
use scatterbrain_core::tile::{KeyHead, Keys, Selection, Summary, Tile, TileBackground};
use std::ops::Range;

/// Which keys stand for those that a row sees.
pub(crate) trait Sample: Send + Sync {
    /// Keys that rows share, ascending.
    fn shared(&self) -> &[u32];

    /// c of each.
    fn shared_logs(&self) -> &[f32];

    /// What a row takes. Under a boolean mask it shares nothing.
    fn of_row(&self, mask: &HeadMask<'_>, query_idx: usize) -> Taken;
}

/// The sample of one row.
#[derive(Default)]
pub(crate) struct Taken {
    /// Positions among the shared keys.
    pub(crate) shared: Range<usize>,
    /// Keys of its own, each with c.
    pub(crate) own: Vec<(u32, f32)>,
}

/// The summary of a head: the sample, and where its keys are.
pub(crate) struct SampledSummary<'a, S> {
    pub(crate) keys: KeyHead<'a>,
    pub(crate) sample: S,
}

impl<S: Sample> Summary for SampledSummary<'_, S> {
    fn tile<'a>(&'a self, tile: &Tile<'a>, _: &mut Selection) -> Box<dyn TileBackground + 'a> {
        let taken = tile.rows.iter().map(|&i| self.sample.of_row(tile.mask, i as usize)).collect();
        let shared = (self.sample.shared(), self.sample.shared_logs());
        Box::new(SampledTile::new(&self.keys, shared, *tile, taken))
    }

    fn any_order(&self) -> bool {
        true
    }
}

pub(crate) struct SampledTile<'a> {
    keys: &'a KeyHead<'a>,
    /// Keys that rows share, ascending, each with c.
    shared: (&'a [u32], &'a [f32]),
    tile: Tile<'a>,
    /// What each row takes.
    taken: Vec<Taken>,
    panels: Vec<Panel>,
}

/// Weights of a panel's rows, in their scales.
struct Panel {
    scale: [f32; PANEL],
    shared: Part,
    own: Part,
}

/// Some keys and their weights, `[key][PANEL]`; 0 where a lane does not take one.
struct Part {
    /// Ascending.
    keys: Keys,
    weights: Vec<f32>,
}

impl<'a> SampledTile<'a> {
    pub(crate) fn new(
        keys: &'a KeyHead<'a>,
        shared: (&'a [u32], &'a [f32]),
        tile: Tile<'a>,
        taken: Vec<Taken>,
    ) -> Self {
        let mut this = Self { keys, shared, tile, taken, panels: Vec::new() };
        this.panels = (0..tile.rows.len()).step_by(PANEL).map(|first| this.panel(first)).collect();
        this
    }

    fn panel(&self, first: usize) -> Panel {
        let level = self.keys.level;
        let rows = first..(first + PANEL).min(self.tile.rows.len());
        let taken = &self.taken[rows.clone()];
        let listed: Vec<u32> = rows.map(|r| r as u32).collect();
        let mut query = vec![0.0; self.keys.key.cols() * PANEL];
        kernel::pack(level, self.tile.query, &listed, self.keys.scale, &mut query);
        let (mut shared, logs) = self.shared(&query, taken);
        let mut own = self.own(&query, taken);
        let mut scale = kernel::lane_tops(level, &shared.weights, logs);
        let nothing = vec![0.0; own.keys.len()];
        let tops = kernel::lane_tops(level, &own.weights, &nothing);
        scale.iter_mut().zip(tops).for_each(|(s, top)| *s = s.max(top));
        // A lane that takes nothing has no score above −∞.
        let finite = scale.map(|s| if s == f32::NEG_INFINITY { 0.0 } else { s });
        kernel::exp_lanes(level, &mut shared.weights, logs, &finite);
        kernel::exp_lanes(level, &mut own.weights, &nothing, &finite);
        Panel { scale, shared, own }
    }

    /// s·q·k of the shared keys that some lane takes, −∞ where a lane does not; and their c.
    fn shared(&self, query: &[f32], taken: &[Taken]) -> (Part, &'a [f32]) {
        let some = || taken.iter().map(|taken| &taken.shared).filter(|shared| !shared.is_empty());
        let start = some().map(|shared| shared.start).min().unwrap_or(0);
        let places = start..some().map(|shared| shared.end).max().unwrap_or(start);
        let part = self.score(query, self.shared.0[places.clone()].to_vec());
        let Part { keys, mut weights } = part;
        let mut ends = [[0; PANEL]; 2];
        for (lane, Taken { shared, .. }) in taken.iter().enumerate() {
            (ends[0][lane], ends[1][lane]) = (shared.start as u32, shared.end as u32);
        }
        let seen = Seen { interval: Some(&ends), only: None, except: &[] };
        kernel::hide(self.keys.level, &Keys::Range(places.clone()), &seen, &mut weights, &mut []);
        (Part { keys, weights }, &self.shared.1[places])
    }

    /// s·q·k + c of the keys that single lanes take, −∞ in the other lanes.
    fn own(&self, query: &[f32], taken: &[Taken]) -> Part {
        let mut keys: Vec<u32> = taken.iter().flat_map(|taken| &taken.own).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut logs = vec![f32::NEG_INFINITY; keys.len() * PANEL];
        for (lane, Taken { own, .. }) in taken.iter().enumerate() {
            for (key, log) in own {
                logs[keys.partition_point(|k| k < key) * PANEL + lane] = *log;
            }
        }
        let mut part = self.score(query, keys);
        part.weights.iter_mut().zip(&logs).for_each(|(x, log)| *x += log);
        part
    }

    fn score(&self, query: &[f32], keys: Vec<u32>) -> Part {
        let (keys, mut weights) = (Keys::List(keys.clone()), vec![0.0; keys.len() * PANEL]);
        kernel::product(self.keys.level, query, self.keys.key, &keys, &mut weights);
        Part { keys, weights }
    }

    /// The keys that a row takes, each with c.
    fn row(&self, row: usize) -> Vec<(u32, f32)> {
        let Taken { shared, own } = &self.taken[row];
        let shared = shared.clone().map(|at| (self.shared.0[at], self.shared.1[at]));
        own.iter().copied().chain(shared).collect()
    }
}

impl Part {
    /// The lanes of a key, where it is one of them.
    #[inline]
    fn lanes(&self, key: u32) -> Option<&[f32; PANEL]> {
        let Keys::List(keys) = &self.keys else { return None };
        keys.binary_search(&key).ok().map(|at| &self.weights.as_chunks().0[at])
    }
}

impl TileBackground for SampledTile<'_> {
    fn log_scale(&self, row: usize) -> f32 {
        self.panels[row / PANEL].scale[row % PANEL]
    }

    fn totals(&mut self, panel: usize, numerator: &mut [f32], denominator: &mut [f32; PANEL]) {
        numerator.fill(0.0);
        denominator.fill(0.0);
        let Panel { shared, own, .. } = &self.panels[panel];
        for part in [shared, own] {
            kernel::add_lanes(self.keys.level, &part.weights, denominator);
            kernel::weighted_sum(self.keys.level, &part.weights, self.keys.value, &part.keys, numerator);
        }
    }

    fn entries_panel(&mut self, panel: usize, keys: &Keys, out: &mut [f32]) {
        let Panel { shared, own, .. } = &self.panels[panel];
        for (at, out) in out.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            let key = keys.get(at) as u32;
            *out = shared.lanes(key).copied().unwrap_or_default();
            if let Some(lanes) = own.lanes(key) {
                out.iter_mut().zip(lanes).for_each(|(o, w)| *o += w);
            }
        }
    }

    fn entries_row(&mut self, row: usize, keys: &[u32], out: &mut [f32]) {
        let Panel { shared, own, .. } = &self.panels[row / PANEL];
        for (out, &key) in out.iter_mut().zip(keys) {
            *out = [shared.lanes(key), own.lanes(key)].into_iter().flatten().map(|lanes| lanes[row % PANEL]).sum();
        }
    }

    fn off_support(&mut self, row: usize, skip: &[u32], numerator: &mut [f32]) -> (f32, f32, f32) {
        let KeyHead { key, value, scale, level, .. } = *self.keys;
        let mut taken = self.row(row);
        taken.retain(|(key, _)| skip.binary_search(key).is_err());
        let (keys, logs): (Vec<u32>, Vec<f32>) = taken.into_iter().unzip();
        let query: Vec<f32> = self.tile.query.row(row).iter().map(|q| q * scale).collect();
        let mut weights = vec![0.0; keys.len()];
        kernel::dot_rows(level, &query, key, &keys, &mut weights);
        weights.iter_mut().zip(&logs).for_each(|(w, log)| *w += log);
        let scale = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        weights.iter_mut().for_each(|w| *w -= scale);
        kernel::exp_slice(level, &mut weights);
        numerator.fill(0.0);
        kernel::weighted_sum_rows(level, &weights, value, &keys, numerator);
        let denominator = weights.iter().map(|&w| f64::from(w)).sum::<f64>() as f32;
        (scale, denominator, denominator)
    }
}

/// The keys of an interval that a boolean mask leaves to a row.
pub(crate) fn visible<'m>(
    mask: &'m HeadMask<'_>,
    query_idx: usize,
    keys: Range<usize>,
) -> impl Iterator<Item = usize> + Clone + 'm {
    let allowed = mask.allowed_row(query_idx);
    keys.filter(move |&j| allowed.is_none_or(|a| a[j] != 0))
}
