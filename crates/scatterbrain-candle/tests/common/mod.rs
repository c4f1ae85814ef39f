//! What the tests judge by: plain loops in f64, without candle and without the library.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod layers;

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

/// Generated weights by name, and what a reference reads of them.
#[derive(Clone, Default)]
pub struct Weights(pub std::collections::BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Weights {
    /// Numbers within `size` of `centre`.
    pub fn add(&mut self, name: &str, shape: &[usize], centre: f32, size: f32) {
        let count = shape.iter().product();
        let numbers = numbers(count, 1000 + self.0.len() as u64).into_iter().map(|x| centre + size * x).collect();
        self.0.insert(name.to_owned(), (shape.to_vec(), numbers));
    }

    /// Of two axes.
    pub fn rows(&self, name: &str) -> Rows {
        let (shape, numbers) = &self.0[name];
        assert_eq!(shape.len(), 2, "{name}");
        numbers.chunks(shape[1]).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect()
    }

    /// Of one axis.
    pub fn row(&self, name: &str) -> Vec<f64> {
        let (shape, numbers) = &self.0[name];
        assert_eq!(shape.len(), 1, "{name}");
        numbers.iter().map(|&x| f64::from(x)).collect()
    }

    /// As candle's tensors.
    pub fn tensors(&self) -> Result<std::collections::HashMap<String, Tensor>> {
        let tensor = |(name, (shape, numbers)): (&String, &(Vec<usize>, Vec<f32>))| {
            Ok((name.clone(), Tensor::from_slice(numbers, &shape[..], &Device::Cpu)?))
        };
        self.0.iter().map(tensor).collect()
    }
}

/// x Wᵀ + b.
pub fn linear(x: &Rows, weights: &Rows, bias: Option<&[f64]>) -> Rows {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let row = |x: &Vec<f64>| {
        let outputs = weights.iter().enumerate();
        outputs.map(|(c, w)| dot(x, w) + bias.map_or(0.0, |b| b[c])).collect()
    };
    x.iter().map(row).collect()
}

/// a + b.
pub fn sum(a: &Rows, b: &Rows) -> Rows {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a + b).collect();
    a.iter().zip(b).map(row).collect()
}

/// Columns of one of several heads.
pub fn columns(x: &Rows, head: usize, head_dim: usize) -> Rows {
    x.iter().map(|row| row[head * head_dim..(head + 1) * head_dim].to_vec()).collect()
}

/// Heads side by side.
pub fn joined(heads: &[Rows]) -> Rows {
    (0..heads[0].len()).map(|i| heads.iter().flat_map(|head| head[i].clone()).collect()).collect()
}
