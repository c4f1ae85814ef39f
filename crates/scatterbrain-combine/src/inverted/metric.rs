//! Distances of keys as queries see them.

use scatterbrain_core::{Matrix, Seed};

/// The root mean square of each column of some queries, over the largest of them: a diagonal metric in which squared
/// distances of keys go as those of their logits, for queries like these.
pub(super) struct Metric {
    weights: Vec<f32>,
}

impl Metric {
    /// Of queries of `d` columns; all ones where there is none, or none but zeros.
    pub(super) fn new<'a>(d: usize, queries: impl Iterator<Item = &'a [f32]>) -> Self {
        let mut squares = vec![0.0f64; d];
        for row in queries {
            squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x).powi(2));
        }
        let top = squares.iter().copied().fold(0.0, f64::max);
        if top == 0.0 {
            return Metric { weights: vec![1.0; d] };
        }
        Metric { weights: squares.iter().map(|x| (x / top).sqrt() as f32).collect() }
    }

    /// Rows in that metric, over the largest number in the `first` of them: their squares fit in f32. Later numbers do not
    /// pass [`FAR`].
    pub(super) fn units(&self, rows: Matrix<'_>, first: usize) -> Vec<f32> {
        let mut out = vec![0.0; rows.rows() * rows.cols()];
        for (out, row) in out.chunks_exact_mut(rows.cols()).zip(rows.iter()) {
            out.iter_mut().zip(row).zip(&self.weights).for_each(|((out, x), w)| *out = x * w);
        }
        let top = out[..first * rows.cols()].iter().fold(0.0, |top: f32, x| top.max(x.abs()));
        if top > 0.0 {
            out.iter_mut().for_each(|x| *x = (*x / top).clamp(-FAR, FAR));
        }
        out
    }
}

/// Beyond what squares of f32 are far from.
const FAR: f32 = 1e15;

/// A row of each of up to `count` equal stretches, at a place of its own in each: even steps would miss whole clusters of
/// rows that recur.
pub(super) fn one_a_stretch(rows: Matrix<'_>, count: usize, seed: Seed) -> Vec<f32> {
    seed.stream(1).strata(rows.rows(), count).flat_map(|i| rows.row(i)).copied().collect()
}
