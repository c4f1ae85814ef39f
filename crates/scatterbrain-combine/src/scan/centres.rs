//! What keys are taken from before they are rounded: what they have in common costs their codes range, and logits nothing,
//! since q·k = q·(k − c) + q·c ("smoothing of K" in Zhang et al., SageAttention, ICLR 2025, arXiv 2410.02367, §4.2).

use scatterbrain_core::kernel::{self, PANEL, QUAD};
use scatterbrain_core::tile::{CHUNK, KeyHead};
use scatterbrain_core::{Level, Matrix, Result};
use scatterbrain_hash::QuantisedRows;
use std::ops::Range;

/// The second epoch's first key. On the first 512 tokens of SmolLM2 (layers 1, 8, 22, 29) codes of logits alone leave
/// errors of .028, .023, .046 and .029 without centres, .020, .020, .036 and .024 where this is 192, and .016, .019, .029
/// and .019 at 48; but each start before [`CHUNK`] is a piece more for every row.
const FIRST: usize = CHUNK / 2;

/// Keys that a mean is taken of, at most: any vector would do, and by 256 or 64 no error of a capture differs by more than
/// 4 %.
const AVERAGED: usize = 64;

/// A vector for each epoch of keys.
///
/// ```text
/// every row sees every key:   one epoch, c = mean of all keys
/// under a causal mask alone:  epochs start at 0, 96, 192, 384, …;  c = mean of the keys before, 0 in the first
/// else:                       one epoch, c = 0
/// mean of k keys:             that of every ⌈k/64⌉th of them, 0 unless Σ max|k − c| < Σ max|k| over these
/// ```
#[derive(Debug)]
pub(super) struct Centres {
    /// First keys of the epochs.
    starts: Vec<usize>,
    /// A vector for each, or for each but the first, whose centre is 0.
    means: Vec<Vec<f32>>,
}

impl Centres {
    /// Of the valid keys. Under other masks the mean would be of keys that a row does not see, however large they are.
    pub(super) fn new(head: &KeyHead<'_>) -> Self {
        let length = head.mask.length();
        if head.mask.is_dense() && !head.boolean && length > 0 {
            return Self { starts: vec![0], means: vec![mean(head.key, length)] };
        }
        let mut centres = Self { starts: vec![0], means: Vec::new() };
        if head.mask.is_causal() && !head.mask.has_window() && !head.boolean {
            let later = std::iter::successors(Some(FIRST), |start| Some(2 * start)).take_while(|&start| start < length);
            for start in later {
                centres.starts.push(start);
                centres.means.push(mean(head.key, start));
            }
        }
        centres
    }

    /// Codes of the valid keys less their centres, and a scale each.
    pub(super) fn codes(&self, head: &KeyHead<'_>) -> Result<(Vec<i8>, Vec<f32>)> {
        let (length, d) = (head.mask.length(), head.key.cols());
        if length == 0 {
            return Ok((Vec::new(), Vec::new()));
        }
        let padded = length.next_multiple_of(QUAD);
        let mut codes = Vec::with_capacity(padded * d.next_multiple_of(QUAD));
        let mut scales = Vec::with_capacity(padded);
        let mut centred = vec![0.0; length.min(FIRST) * d];
        for start in (0..length).step_by(FIRST) {
            let mut rows = head.key.slice(start..(start + FIRST).min(length));
            if let Some(mean) = self.mean(self.epoch(start)) {
                let centred = &mut centred[..rows.rows() * d];
                kernel::subtract_row(head.level, rows, mean, centred);
                rows = Matrix::new("key", centred, rows.rows(), d)?;
            }
            let rows = QuantisedRows::new(head.level, rows, kernel::key_code(head.level))?;
            codes.extend_from_slice(rows.codes());
            scales.extend_from_slice(rows.scales());
        }
        Ok((codes, scales))
    }

    /// factor · q_r·c of some rows, `[epochs][PANEL]`, of the epochs that start before key `end`.
    pub(super) fn offsets(
        &self,
        level: Level,
        query: Matrix<'_>,
        rows: Range<usize>,
        factor: f32,
        end: usize,
    ) -> Vec<[f32; PANEL]> {
        let rows: Vec<u32> = rows.map(|r| r as u32).collect();
        let epochs = 0..self.starts.partition_point(|&start| start < end);
        let offsets = epochs.map(|epoch| {
            let mut offsets = [0.0; PANEL];
            if let Some(mean) = self.mean(epoch) {
                kernel::dot_rows(level, mean, query, &rows, &mut offsets[..rows.len()]);
            }
            offsets.map(|x| x * factor)
        });
        offsets.collect()
    }

    /// Parts of some keys, each of one epoch.
    pub(super) fn parts(&self, keys: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
        let before = |key: usize| self.starts.partition_point(|&start| start < key);
        let inside = &self.starts[before(keys.start + 1)..before(keys.end)];
        let mut next = keys.start;
        inside.iter().copied().chain([keys.end]).map(move |end| std::mem::replace(&mut next, end)..end)
    }

    /// The epoch of a key.
    pub(super) fn epoch(&self, key: usize) -> usize {
        self.starts.partition_point(|&start| start <= key) - 1
    }

    fn mean(&self, epoch: usize) -> Option<&[f32]> {
        let without = self.starts.len() - self.means.len();
        epoch.checked_sub(without).map(|at| &*self.means[at])
    }
}

/// The mean of the first `count` keys; 0 where it leaves them no smaller, as one that few keys are near.
fn mean(key: Matrix<'_>, count: usize) -> Vec<f32> {
    let keys = || (0..count).step_by(count.div_ceil(AVERAGED)).map(|j| key.row(j));
    let mut sums = vec![0.0; key.cols()];
    for row in keys() {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / keys().len() as f64) as f32).collect();
    let (mut before, mut after) = (0.0, 0.0);
    for row in keys() {
        before += f64::from(row.iter().fold(0.0, |top: f32, x| top.max(x.abs())));
        after += f64::from(row.iter().zip(&mean).fold(0.0, |top: f32, (x, c)| top.max((x - c).abs())));
    }
    if after < before { mean } else { vec![0.0; key.cols()] }
}
