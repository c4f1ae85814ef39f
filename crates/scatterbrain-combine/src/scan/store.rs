//! Keys and values of a head in bytes, in one order or another.

use super::centres::Centres;
use scatterbrain_core::kernel::{CodeRows, QUAD, key_code};
use scatterbrain_core::tile::KeyHead;
use scatterbrain_core::{Level, Result};
use scatterbrain_hash::QuantisedRows;
use std::ops::Range;

/// Keys and values in bytes. Places are whole groups of four; one without a key has codes and scales of 0.
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
    /// Bytes of the keys at some places.
    pub(super) fn keys(&self, places: &Range<usize>) -> &[u8] {
        &self.keys[places.start * self.width..places.end * self.width]
    }
}

/// Codes of a head by position, from which stores in other orders are copied.
pub(super) struct Codes {
    keys: Vec<i8>,
    key_scales: Vec<f32>,
    width: usize,
    values: Vec<i8>,
    value_width: usize,
    value_columns: usize,
    value_sizes: Vec<f32>,
    centres: Centres,
    level: Level,
}

impl Codes {
    /// Of the valid keys, less `centres`.
    pub(super) fn new(head: &KeyHead<'_>, centres: Centres) -> Result<Self> {
        let (keys, key_scales) = centres.codes(head)?;
        let (values, scales) = match head.mask.length() {
            0 => (Vec::new(), Vec::new()),
            length => QuantisedRows::whole_range(head.level, head.value.head_rows(length), i8::MAX)?.into_parts(),
        };
        Ok(Self {
            keys,
            key_scales,
            width: head.key.cols().next_multiple_of(QUAD),
            values,
            value_width: head.value.cols().next_multiple_of(QUAD),
            value_columns: head.value.cols(),
            value_sizes: scales.iter().map(|scale| scale * f32::from(i8::MAX)).collect(),
            centres,
            level: head.level,
        })
    }

    /// By position.
    pub(super) fn in_order(&self) -> Store {
        let padded = self.key_scales.len().next_multiple_of(QUAD);
        let mut keys: Vec<u8> = self.keys.iter().map(|code| self.byte(*code)).collect();
        keys.resize(padded * self.width, self.byte(0));
        let pad = |sizes: &[f32]| {
            let mut sizes = sizes.to_vec();
            sizes.resize(padded, 0.0);
            sizes
        };
        let values = CodeRows::new(self.level, &self.values, self.value_width, self.value_columns);
        let (key_scales, value_sizes) = (pad(&self.key_scales), pad(&self.value_sizes));
        Store { keys, key_scales, width: self.width, values, value_sizes, centres: self.centres.clone() }
    }

    /// No key.
    pub(super) fn none(&self) -> Store {
        self.at(&[])
    }

    /// The keys that stand at each place; [`NO_KEY`] where there is none.
    pub(super) fn at(&self, places: &[u32]) -> Store {
        let (width, value_width) = (self.width, self.value_width);
        let mut keys = vec![self.byte(0); places.len() * width];
        let mut values = vec![0; places.len() * value_width];
        let (mut key_scales, mut value_sizes) = (vec![0.0; places.len()], vec![0.0; places.len()]);
        for (at, &key) in places.iter().enumerate().filter(|(_, key)| **key != NO_KEY) {
            let key = key as usize;
            let codes = &self.keys[key * width..(key + 1) * width];
            keys[at * width..(at + 1) * width].iter_mut().zip(codes).for_each(|(to, x)| *to = self.byte(*x));
            let codes = &self.values[key * value_width..(key + 1) * value_width];
            values[at * value_width..(at + 1) * value_width].copy_from_slice(codes);
            (key_scales[at], value_sizes[at]) = (self.key_scales[key], self.value_sizes[key]);
        }
        let values = CodeRows::new(self.level, &values, value_width, self.value_columns);
        Store { keys, key_scales, width, values, value_sizes, centres: self.centres.clone() }
    }

    /// A code of a key as scans take it.
    fn byte(&self, code: i8) -> u8 {
        code.wrapping_add(key_code(self.level)) as u8
    }

    /// max_c |v_jc| of every key.
    pub(super) fn value_sizes(&self) -> &[f32] {
        &self.value_sizes
    }
}

/// A place without a key.
pub(super) const NO_KEY: u32 = u32::MAX;
