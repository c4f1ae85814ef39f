//! Products of rows by their codes of 8 bits.

use scatterbrain_blocks::Score;
use scatterbrain_core::kernel::{PANEL, QueryCodes, key_code, scan};
use scatterbrain_core::tile::Tile;
use scatterbrain_core::{Level, Matrix, Result};
use scatterbrain_hash::QuantisedRows;
use std::ops::Range;

/// Rows to be multiplied with others, in 7 bits, or 8 with VNNI.
pub(crate) struct QuantisedLogits {
    /// `code + key_code`, `[rows, width]`.
    keys: Vec<u8>,
    scales: Vec<f32>,
    width: usize,
    scale: f32,
    level: Level,
}

impl QuantisedLogits {
    /// Of `key`: products are to be multiplied by `scale`.
    pub(crate) fn new(level: Level, key: Matrix<'_>, scale: f32) -> Result<Self> {
        let most = key_code(level);
        let rows = QuantisedRows::new(level, key, most)?;
        let keys = rows.codes().iter().map(|code| code.wrapping_add(most) as u8).collect();
        let (scales, width) = (rows.scales().to_vec(), rows.width());
        Ok(Self { keys, scales, width, scale, level })
    }

    /// Approximate scale·q·k of at most [`PANEL`] queries, by their codes of 8 bits, a row after the other, and scales, with
    /// some of the rows: `out[key][PANEL]`.
    pub(crate) fn products(&self, codes: &[i8], scales: &[f32], keys: &Range<usize>, out: &mut [f32]) {
        let mut scaled = [0.0; PANEL];
        scaled.iter_mut().zip(scales).for_each(|(scaled, s)| *scaled = s * self.scale);
        let query = QueryCodes::new(self.level, codes, self.width, &scaled[..scales.len()]);
        let codes = &self.keys[keys.start * self.width..keys.end * self.width];
        scan(self.level, &query, codes, &self.scales[keys.clone()], &[0.0; PANEL], out);
    }
}

impl Score for QuantisedLogits {
    fn score(&self, tile: &Tile<'_>, rows: Range<usize>, keys: &Range<usize>, out: &mut [f32]) {
        let rows = QuantisedRows::new(self.level, tile.query.slice(rows), i8::MAX).expect("127 is a code");
        self.products(rows.codes(), rows.scales(), keys, out);
    }
}
