//! What the tests judge by: plain loops in f64, without candle and without the library.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use candle_core::{Device, Result, Tensor};

/// Rows of numbers.
pub type Rows = Vec<Vec<f64>>;

/// Numbers between −1 and 1 that look random, of `[batch, heads, rows, columns]` or any other shape.
pub fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A contiguous tensor of [`numbers`].
pub fn tensor(shape: &[usize], seed: u64) -> Result<Tensor> {
    Tensor::from_vec(numbers(shape.iter().product(), seed), shape, &Device::Cpu)
}

/// Attention of one head; `sees(i, j)` says whether query i may attend to key j. A row that sees nothing is zero.
pub fn attention(q: &Rows, k: &Rows, v: &Rows, scale: f64, sees: impl Fn(usize, usize) -> bool) -> Rows {
    let mut output = Vec::new();
    for (i, q) in q.iter().enumerate() {
        let mut row = vec![0.0; v[0].len()];
        let logit = |j: usize| scale * q.iter().zip(&k[j]).map(|(a, b)| a * b).sum::<f64>();
        let seen: Vec<usize> = (0..k.len()).filter(|&j| sees(i, j)).collect();
        let top = seen.iter().map(|&j| logit(j)).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = seen.iter().map(|&j| (logit(j) - top).exp()).sum();
        for &j in &seen {
            let weight = (logit(j) - top).exp() / sum;
            row.iter_mut().zip(&v[j]).for_each(|(o, v)| *o += weight * v);
        }
        output.push(row);
    }
    output
}

/// One head of `[batch, heads, rows, columns]`, whatever its strides and type.
pub fn head(tensor: &Tensor, batch: usize, head: usize) -> Result<Rows> {
    let rows = tensor.get(batch)?.get(head)?.to_dtype(candle_core::DType::F64)?;
    rows.to_vec2()
}

/// Largest difference of two matrices.
pub fn largest_difference(a: &Rows, b: &Rows) -> f64 {
    assert_eq!((a.len(), a[0].len()), (b.len(), b[0].len()));
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, |worst, x| {
        // `max` would drop a NaN.
        if x <= worst { worst } else { x }
    })
}

/// Fails unless two matrices agree.
pub fn agree(a: &Rows, b: &Rows, tolerance: f64, what: &str) {
    let difference = largest_difference(a, b);
    assert!(difference <= tolerance, "{what}: differ by {difference:e}");
}
