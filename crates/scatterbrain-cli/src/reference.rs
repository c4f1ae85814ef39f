//! Exact attention in f64 from the stored inputs, by code of its own: the judge shares nothing with the library.

use crate::input::{Allowed, Input, Sizes};
use crate::library::{Window, WindowAlign};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of one piece of parallel work.
const CHUNK_ROWS: usize = 32;

/// Partial sums of a dot product, so that the compiler can keep them in vector registers.
const LANES: usize = 8;

/// One head in f64.
pub(crate) struct Head<'a> {
    sizes: Sizes,
    batch: usize,
    head: usize,
    scale: f64,
    query: Vec<f64>,
    key: Vec<f64>,
    length: usize,
    causal: bool,
    window: Option<Window>,
    allowed: Option<&'a Allowed>,
}

/// What a query gives to the keys it sees: weights of consecutive keys, zero for those the mask hides.
pub(crate) struct Row {
    /// The keys that length, causality and window leave.
    pub(crate) keys: Range<usize>,
    /// Their weights, summing to one where any key is visible.
    pub(crate) weights: Vec<f64>,
    /// ln Σ e^logit over visible keys; −∞ where there are none.
    pub(crate) log_normaliser: f64,
}

impl<'a> Head<'a> {
    /// One head of the input.
    pub(crate) fn new(input: &'a Input, batch: usize, head: usize) -> Self {
        let sizes = input.sizes;
        Head {
            sizes,
            batch,
            head,
            scale: input.scale,
            query: input.query.head_f64(batch, head),
            key: input.key.head_f64(batch, sizes.kv_head(head)),
            length: input.key_lengths.as_ref().map_or(sizes.m, |l| l[batch]),
            causal: input.causal,
            window: input.window,
            allowed: input.allowed.as_ref(),
        }
    }

    /// The softmax row of a query.
    pub(crate) fn row(&self, query_idx: usize) -> Row {
        let d = self.sizes.d;
        let keys = self.interval(query_idx);
        let query = &self.query[query_idx * d..(query_idx + 1) * d];
        let mut weights: Vec<f64> =
            keys.clone().map(|j| self.scale * dot(query, &self.key[j * d..(j + 1) * d])).collect();
        let seen: Option<&[u8]> = self.allowed.map(|a| &a.row(self.batch, self.head, query_idx)[keys.clone()]);
        let log_normaliser = softmax(&mut weights, |j| seen.is_none_or(|s| s[j] != 0));
        Row { keys, weights, log_normaliser }
    }

    /// The keys that length, causality and window leave to a query, which stands at i + L − n.
    fn interval(&self, query_idx: usize) -> Range<usize> {
        let position = query_idx as i64 + self.length as i64 - self.sizes.n as i64;
        let (mut first, mut last) = (0, self.length as i64 - 1);
        if self.causal {
            last = last.min(position);
        }
        if let Some(window) = self.window {
            let centre = match window.align {
                WindowAlign::End => position,
                WindowAlign::Start => query_idx as i64,
            };
            first = first.max(centre - window.left as i64);
            last = last.min(centre + window.right as i64);
        }
        if first > last { 0..0 } else { first as usize..last as usize + 1 }
    }
}

/// The exact output of some rows of every head, `[batch, heads, rows, d_v]`; `done` is told of every head.
pub(crate) fn exact_output(input: &Input, rows: &[usize], done: &(dyn Fn() + Sync)) -> Vec<f64> {
    let Sizes { batch, heads, d_v, .. } = input.sizes;
    let mut output = vec![0.0; batch * heads * rows.len() * d_v];
    for (index, out) in output.chunks_mut(rows.len() * d_v).enumerate() {
        let (batch, head) = (index / heads, index % heads);
        let value = input.value.head_f64(batch, input.sizes.kv_head(head));
        let head = Head::new(input, batch, head);
        out.par_chunks_mut(CHUNK_ROWS * d_v).zip(rows.par_chunks(CHUNK_ROWS)).for_each(|(out, rows)| {
            for (out, &i) in out.chunks_mut(d_v).zip(rows) {
                let row = head.row(i);
                for (j, weight) in row.keys.zip(row.weights).filter(|(_, w)| *w != 0.0) {
                    out.iter_mut().zip(&value[j * d_v..(j + 1) * d_v]).for_each(|(o, v)| *o += weight * v);
                }
            }
        });
        done();
    }
    output
}

/// Turns logits into weights; what is not `seen` becomes 0 and takes no part in the maximum. Returns ln Σ e^logit.
fn softmax(logits: &mut [f64], seen: impl Fn(usize) -> bool) -> f64 {
    let mut top = f64::NEG_INFINITY;
    for (j, logit) in logits.iter().enumerate() {
        if seen(j) {
            top = top.max(*logit);
        }
    }
    let mut total = 0.0;
    for (j, logit) in logits.iter_mut().enumerate() {
        *logit = if seen(j) { (*logit - top).exp() } else { 0.0 };
        total += *logit;
    }
    if total != 0.0 {
        logits.iter_mut().for_each(|w| *w /= total);
    }
    top + total.ln()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (x, y) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_softmax_of_some() {
        let mut weights = [0.0, 3f64.ln(), 1e6];
        let log_normaliser = softmax(&mut weights, |j| j < 2);
        assert!((log_normaliser - 4f64.ln()).abs() < 1e-15);
        assert!((weights[0] - 0.25).abs() < 1e-15 && (weights[1] - 0.75).abs() < 1e-15 && weights[2] == 0.0);
        let mut blind = [5.0, f64::NAN];
        assert_eq!(softmax(&mut blind, |_| false), f64::NEG_INFINITY);
        assert_eq!(blind, [0.0, 0.0]);
    }

    #[test]
    fn a_dot_product_of_any_length() {
        for len in 0..40 {
            let x: Vec<f64> = (0..len).map(f64::from).collect();
            assert_eq!(dot(&x, &x), x.iter().map(|v| v * v).sum::<f64>());
        }
    }
}
