//! Keys and values of a head in bytes.

use super::centres::Centres;
use scatterbrain_core::Result;
use scatterbrain_core::kernel::{CodeRows, QUAD, key_code};
use scatterbrain_core::tile::{CHUNK, KeyHead};
use scatterbrain_hash::QuantisedRows;
use std::ops::Range;

/// Keys and values in bytes, up to a whole group of four: behind the last key codes and scales are 0.
pub(super) struct Store {
    /// `code + key_code`, `[places, width]`.
    keys: Vec<u8>,
    pub(super) key_scales: Vec<f32>,
    width: usize,
    pub(super) values: CodeRows,
    /// max_c |v_jc|.
    pub(super) value_sizes: Vec<f32>,
    /// What keys were taken from before they were rounded.
    pub(super) centres: Centres,
}

impl Store {
    /// Of the valid keys.
    pub(super) fn new(head: &KeyHead<'_>) -> Result<Self> {
        let (level, length, width) = (head.level, head.mask.length(), head.key.cols().next_multiple_of(QUAD));
        let centres = Centres::new(head);
        let (codes, mut key_scales) = centres.codes(head)?;
        let byte = |code: i8| code.wrapping_add(key_code(level)) as u8;
        let padded = length.next_multiple_of(QUAD);
        let mut keys: Vec<u8> = codes.into_iter().map(byte).collect();
        keys.resize(padded * width, byte(0));
        key_scales.resize(padded, 0.0);
        let mut values = CodeRows::with_capacity(length, head.value.cols());
        let mut value_sizes = Vec::with_capacity(padded);
        // Piece by piece: a head's codes twice over are pages more to ask the system for.
        for start in (0..length).step_by(CHUNK) {
            let rows = head.value.slice(start..(start + CHUNK).min(length));
            let rows = QuantisedRows::whole_range(level, rows, i8::MAX)?;
            values.append(level, rows.codes(), rows.width());
            value_sizes.extend(rows.scales().iter().map(|scale| scale * f32::from(i8::MAX)));
        }
        value_sizes.resize(padded, 0.0);
        Ok(Self { keys, key_scales, width, values, value_sizes, centres })
    }

    /// Bytes of the keys at some places.
    pub(super) fn keys(&self, places: &Range<usize>) -> &[u8] {
        &self.keys[places.start * self.width..places.end * self.width]
    }
}
