//! Keys and values of a head in bytes.

use super::centres::Centres;
use scatterbrain_core::Result;
use scatterbrain_core::kernel::{CodeRows, QUAD, key_code};
use scatterbrain_core::tile::KeyHead;
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
        let (values, scales) = match length {
            0 => (Vec::new(), Vec::new()),
            length => QuantisedRows::whole_range(level, head.value.first_rows(length), i8::MAX)?.into_parts(),
        };
        let byte = |code: i8| code.wrapping_add(key_code(level)) as u8;
        let padded = length.next_multiple_of(QUAD);
        let mut keys: Vec<u8> = codes.iter().map(|code| byte(*code)).collect();
        keys.resize(padded * width, byte(0));
        key_scales.resize(padded, 0.0);
        let mut value_sizes: Vec<f32> = scales.iter().map(|scale| scale * f32::from(i8::MAX)).collect();
        value_sizes.resize(padded, 0.0);
        let columns = head.value.cols();
        let values = CodeRows::new(level, &values, columns.next_multiple_of(QUAD), columns);
        Ok(Self { keys, key_scales, width, values, value_sizes, centres })
    }

    /// Bytes of the keys at some places.
    pub(super) fn keys(&self, places: &Range<usize>) -> &[u8] {
        &self.keys[places.start * self.width..places.end * self.width]
    }
}
