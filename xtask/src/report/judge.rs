//! How far a method is from exact attention, which the oracle computes in float64 on some rows of each head.

use super::captures::Capture;
use super::context::Context;
use anyhow::Result;
use rayon::prelude::*;
use scatterbrain_attention::{Method, Preset, Seed};
use scatterbrain_oracle::{Problem, mean_error, row_errors, visible};
use scatterbrain_theory::RowEntropy;

/// Rows that one piece of parallel work computes: the oracle holds a few arrays of rows × m.
const BLOCK: usize = 16;

/// Exact attention on some rows of every head of a capture.
pub(super) struct Judge {
    /// The rows, evenly spaced.
    rows: Vec<usize>,
    heads: Vec<Head>,
    /// Heads of a batch entry.
    per_entry: usize,
}

struct Head {
    /// `[rows, d_v]`.
    output: Vec<f64>,
    entropy: f64,
}

/// What is asked of one method at one budget.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) preset: Preset,
    pub(super) budget: usize,
    pub(super) seed: u64,
}

impl Setting {
    pub(super) fn method(&self, capture: &Capture) -> Result<Method> {
        Ok(self.preset.method(self.budget, capture.d(), Seed(self.seed))?)
    }
}

impl Judge {
    /// Exact attention on at most `most` rows of each head.
    ///
    /// # Errors
    /// [`super::context::Interrupted`].
    pub(super) fn new(capture: &Capture, most: usize, context: &Context) -> Result<Self> {
        let [batch, per_entry, n, _] = capture.query_shape;
        let rows = spaced(n, most);
        let mut heads = Vec::new();
        for (entry, head) in (0..batch).flat_map(|entry| (0..per_entry).map(move |head| (entry, head))) {
            let blocks =
                rows.par_chunks(BLOCK).map(|rows| exact(capture, entry, head, rows)).collect::<Result<Vec<_>>>()?;
            let weight = |(block, rows): (&Head, &[usize])| block.entropy * rows.len() as f64;
            let entropy = blocks.iter().zip(rows.chunks(BLOCK)).map(weight).sum::<f64>() / rows.len() as f64;
            heads.push(Head { output: blocks.into_iter().flat_map(|block| block.output).collect(), entropy });
            context.go_on()?;
        }
        Ok(Self { rows, heads, per_entry })
    }

    /// Mean over rows of a head's row entropy over the logarithm of the number of visible keys, head by head.
    pub(super) fn entropies(&self) -> Vec<f64> {
        self.heads.iter().map(|head| head.entropy).collect()
    }

    /// The mean row error |o − ô|/|o| of each head, batch-major. None where it is no number.
    ///
    /// # Errors
    /// What the library refuses.
    pub(super) fn head_errors(&self, capture: &Capture, method: &Method) -> Result<Vec<Option<f64>>> {
        let mut output = capture.output();
        capture.attend(method, &mut output)?;
        let size = capture.query_shape[2] * capture.d_v();
        let heads = output.chunks(size).zip(&self.heads);
        Ok(heads.map(|(output, exact)| self.mean(output, exact, capture.d_v())).collect())
    }

    /// The mean over rows, heads and batch, each evenly. None where a head's is no number.
    ///
    /// # Errors
    /// What the library refuses.
    pub(super) fn error(&self, capture: &Capture, method: &Method) -> Result<Option<f64>> {
        let heads: Option<Vec<f64>> = self.head_errors(capture, method)?.into_iter().collect();
        Ok(heads.map(|heads| {
            let entries: Vec<f64> = heads.chunks(self.per_entry).map(mean).collect();
            mean(&entries)
        }))
    }

    fn mean(&self, output: &[f32], exact: &Head, d_v: usize) -> Option<f64> {
        let row = |&row: &usize| output[row * d_v..(row + 1) * d_v].iter().map(|&x| f64::from(x));
        let estimate: Vec<f64> = self.rows.iter().flat_map(row).collect();
        Some(mean_error(&row_errors(&exact.output, &estimate, d_v))).filter(|error| error.is_finite())
    }
}

/// At most `most` of `n` rows, evenly spaced, each in the middle of its share.
fn spaced(n: usize, most: usize) -> Vec<usize> {
    let count = n.min(most);
    (0..count).map(|at| (2 * at + 1) * n / (2 * count)).collect()
}

/// The oracle's answer for some rows of a head.
fn exact(capture: &Capture, entry: usize, head: usize, rows: &[usize]) -> Result<Head> {
    let [_, heads, n, d] = capture.query_shape;
    let [_, kv_heads, m, _] = capture.key_shape;
    let (d_v, key_head) = (capture.d_v(), entry * kv_heads + head / (heads / kv_heads));
    let wide = |data: &[f32]| data.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let first = (entry * heads + head) * n;
    let query = rows.iter().flat_map(|row| &capture.query[(first + row) * d..(first + row + 1) * d]);
    let length = capture.key_lengths.as_ref().map_or(m, |lengths| lengths[entry]);
    let sees =
        |i: usize, j: usize| visible(n, m, length, capture.causal, None, i, j) && capture.allows(entry, head, i, j);
    let problem = Problem {
        n: rows.len(),
        m,
        d,
        d_v,
        scale: capture.scale,
        query: query.map(|&x| f64::from(x)).collect(),
        key: wide(&capture.key[key_head * m * d..(key_head + 1) * m * d]),
        value: wide(&capture.value[key_head * m * d_v..(key_head + 1) * m * d_v]),
        visible: rows.iter().flat_map(|&i| (0..m).map(move |j| sees(i, j))).collect(),
    };
    let exact = problem.exact();
    let pairs = exact.normalised.chunks(m).zip(problem.visible.chunks(m));
    let entropies = pairs.map(|(row, sees)| relative(row, sees)).collect::<Result<Vec<f64>>>()?;
    Ok(Head { entropy: mean(&entropies), output: exact.output })
}

/// The entropy of a row over that of a uniform one; a row of one key or none is as uniform as it can be.
fn relative(row: &[f64], visible: &[bool]) -> Result<f64> {
    let keys = visible.iter().filter(|sees| **sees).count();
    if keys < 2 {
        return Ok(1.0);
    }
    Ok(RowEntropy::of(row)?.entropy / (keys as f64).ln())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_spread_evenly() {
        assert_eq!(spaced(4, 9), [0, 1, 2, 3]);
        assert_eq!(spaced(100, 4), [12, 37, 62, 87]);
    }

    #[test]
    fn entropy_of_a_row() {
        assert!((relative(&[0.5, 0.5, 0.0], &[true, true, false]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(relative(&[1.0, 0.0], &[true, true]).unwrap(), 0.0);
        assert_eq!(relative(&[1.0, 0.0], &[true, false]).unwrap(), 1.0);
    }
}
