//! A background from one look at every pair in 8 bits, which also finds the keys that must be exact.

mod centres;
mod panel;
mod store;

use panel::{Memory, Panel};
use scatterbrain_core::kernel::{self, PANEL};
use scatterbrain_core::tile::{Background, Causality, KeyHead, Keys, Selection, Shared, Summary, Tile, TileBackground};
use scatterbrain_core::{Error, Level, Matrix, Result};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::Store;

/// The largest code.
const MOST: u8 = 127;

/// The smallest share: sums of codes must fit in 32 bits.
const LEAST_SHARE: f32 = 1.0 / 65536.0;

/// Every visible pair by 8-bit keys, queries and values, and exact where a pair's share of its row is large.
///
/// ```text
/// w_ij  = exp(scale · (q̂_i·k̂_j + q_i·c_j))        q̂, k̂ = q and k − c rounded to 8 bits, a scale each row
/// c_j   = the mean key where every row sees every key;  under a causal mask alone, from key 96 on, the mean of the first 96·2^e,
///         no more than j;  else 0.  Means of k > 64 keys are of every ⌈k/64⌉th; a mean that does not make the keys'
///         largest elements smaller, on average, is replaced by 0.
/// heavy ⇔ w_ij > share · Σ_j w_ij   or   w_ij σ_j > share · Σ_j w_ij σ_j          σ_j = max_c |v_jc|
/// o_i   = (Σ_heavy e^{s q·k} v_j + Σ_light ŵ_ij v̂_j) / (Σ_heavy e^{s q·k} + Σ_light w_ij)
/// ŵ_ij σ_j = multiples of share · Σ_j w_ij σ_j / most, rounded with dither;  v̂_j = round(127 v_j/σ_j) σ_j/127
/// ```
///
/// So at most 2/share keys of a row are exact, few on rows that are spread or that a few keys rule, and what is rounded
/// coarsely is no more than a share. Keys of the support are exact as ever, and are left out of all sums but those that
/// decide what is heavy. A row depends on its own pairs and on keys before them: strictly causal.
///
/// A weight from some 2⁻⁶⁰ of the row's largest down counts as 0, whatever its value. Values below some 10⁻³⁶ lose digits: a
/// step of them is too small for f32.
///
/// A logit of the scan is off by two roundings, of standard deviations near s·|q|·max_c |k_c − c_c|/(127·√12) and
/// s·|k − c|·max_c |q_c|/(127·√12): where logits of hundreds compete, that is more than 1, and only what is heavy is right.
/// Without VNNI keys have 7 bits, 63 for 127, and where products would not fit in 16 bits both have fewer
/// ([`product_limit`](kernel::product_limit)): on captures a logit is then off by twice as much. A mean that few keys are
/// near, as that of two far groups of keys, makes these larger; and under a causal mask the first 96 keys are rounded as
/// they are, so that keys whose common part is many times what they differ by weigh too much or too little beside later
/// ones.
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
        self.prepare_sharing(keys, &[])
    }

    /// Scans of all pairs differ in what they do with the same codes.
    fn prepare_sharing<'a>(&'a self, keys: &KeyHead<'a>, shared: &[Shared]) -> Result<Box<dyn Summary + 'a>> {
        // It may have come from a file.
        if let Products::Shares { share, most } = self.products {
            Self::new(share)?.with_steps(most)?;
        }
        let known = shared.iter().find_map(|shared| shared.clone().downcast::<Store>().ok());
        let store = match known {
            Some(store) => store,
            None => Arc::new(Store::new(keys)?),
        };
        Ok(Box::new(Scan::new(self, keys, store)))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }

    fn units(&self) -> usize {
        0
    }
}

/// A head, ready to be scanned.
struct Scan<'a> {
    products: Products,
    /// `[m, d_v]`.
    value: Matrix<'a>,
    /// Valid keys.
    length: usize,
    store: Arc<Store>,
    scale: f32,
    level: Level,
    /// Memory that no tile uses now: it is large enough to be mapped anew at each call.
    free: Mutex<Vec<Memory>>,
}

impl<'a> Scan<'a> {
    fn new(scan: &ScanBackground, keys: &KeyHead<'a>, store: Arc<Store>) -> Self {
        Self {
            products: scan.products,
            value: keys.value,
            length: keys.mask.length(),
            store,
            scale: keys.scale,
            level: keys.level,
            free: Mutex::default(),
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
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
            let taken: Vec<&[u32]> = rows.clone().filter_map(|r| taken.get(r)).map(Vec::as_slice).collect();
            let heavy = &mut selection.lists[rows.clone()];
            Panel::new(self, tile, rows, &taken, &mut memory, heavy)
        });
        let panels = panels.collect();
        self.free().push(memory);
        Box::new(ScanTile { panels })
    }

    fn extends(&self) -> bool {
        true
    }

    fn share(&self) -> Option<Shared> {
        Some(self.store.clone())
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

    fn scanned(&self, row: usize) -> usize {
        self.panels[row / PANEL].scanned[row % PANEL]
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
