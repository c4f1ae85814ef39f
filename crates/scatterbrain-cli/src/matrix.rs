//! The error of the normalised attention matrix, seen through the library's own path: with the identity for
//! values, the output is the matrix.

use crate::errors::mean;
use crate::input::{Input, Sizes};
use crate::library::{self, Data, Mask, Method, Options, Tensor};
use crate::reference::Head;
use anyhow::Result;
use rayon::prelude::*;
use std::ops::Range;

/// Larger matrices are not compared.
const MOST_PAIRS: usize = 1 << 24;

/// Nor are rows longer than this, for which the identity alone is larger than any matrix compared.
const MOST_KEYS: usize = 1 << 16;

/// Elements of a block of the identity, or of its output.
const BLOCK: usize = 1 << 24;

/// Relative Frobenius error |P − P̂|/|P| of each head, averaged over heads and batch; none where n·m > 2²⁴.
///
/// # Errors
/// What the library refuses.
pub(crate) fn matrix_error(input: &Input, method: &Method, options: &Options) -> Result<Option<f64>> {
    let Sizes { batch, heads, n, m, .. } = input.sizes;
    if n.checked_mul(m).is_none_or(|pairs| pairs > MOST_PAIRS) || m > MOST_KEYS {
        return Ok(None);
    }
    let mut errors = Vec::with_capacity(batch * heads);
    for entry in 0..batch {
        let exact: Vec<Head<'_>> = (0..heads).map(|h| Head::new(input, entry, h)).collect();
        let mut sums = vec![Sums::default(); heads];
        let columns = (BLOCK / m).min(4 * BLOCK / (heads * n)).clamp(1, m);
        for first in (0..m).step_by(columns) {
            let columns = columns.min(m - first);
            let block = approximate_columns(input, method, options, entry, first..first + columns)?;
            for ((head, sums), block) in exact.iter().zip(&mut sums).zip(block.chunks(n * columns)) {
                sums.add(head, block, first, columns);
            }
        }
        errors.extend(sums.iter().map(Sums::relative));
    }
    Ok(mean(errors.into_iter()))
}

/// Columns of the approximate matrices of one batch entry, `[heads, n, columns]`.
fn approximate_columns(
    input: &Input,
    method: &Method,
    options: &Options,
    entry: usize,
    range: Range<usize>,
) -> Result<Vec<f32>, library::Error> {
    let Sizes { heads, kv_heads, n, m, .. } = input.sizes;
    let (first, columns) = (range.start, range.len());
    let mut identity = vec![0.0f32; m * columns];
    (0..columns).for_each(|c| identity[(first + c) * columns + c] = 1.0);
    let shape = [1, kv_heads, m, columns];
    let value = Tensor::strided("identity", Data::F32(&identity), shape, [0, 0, columns, 1])?;
    let (query, key): (Tensor<'_>, Tensor<'_>) = (input.query.entry(entry)?, input.key.entry(entry)?);
    let mask: Mask<'_> = input.mask_of(entry)?;
    let mut output = vec![0.0; heads * n * columns];
    library::attend_into(&query, &key, &value, &mask, method, options, &mut output, None)?;
    Ok(output)
}

/// Σ (P − P̂)² and Σ P² of one head.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    difference: f64,
    norm: f64,
}

impl Sums {
    fn add(&mut self, exact: &Head<'_>, block: &[f32], first: usize, columns: usize) {
        let rows: Vec<Sums> = block
            .par_chunks(columns)
            .enumerate()
            .map(|(query_idx, estimates)| {
                let row = exact.row(query_idx);
                let mut sums = Sums::default();
                for (c, estimate) in estimates.iter().enumerate() {
                    let key = first + c;
                    let p = if row.keys.contains(&key) { row.weights[key - row.keys.start] } else { 0.0 };
                    sums.difference += (p - f64::from(*estimate)).powi(2);
                    sums.norm += p * p;
                }
                sums
            })
            .collect();
        // In order, so that the sum does not depend on the threads.
        for row in rows {
            self.difference += row.difference;
            self.norm += row.norm;
        }
    }

    fn relative(&self) -> f64 {
        if self.difference == 0.0 { 0.0 } else { (self.difference / self.norm).sqrt() }
    }
}
