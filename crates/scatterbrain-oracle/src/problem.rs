//! One head of attention.

use crate::estimate::{Estimate, combine};
use crate::{Weights, dot};

/// One head: queries, keys, values, and what each query may see. Row-major throughout.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Queries.
    pub n: usize,
    /// Keys.
    pub m: usize,
    /// Dimension of queries and keys.
    pub d: usize,
    /// Dimension of values.
    pub d_v: usize,
    /// The softmax scale: a logit is `scale * q·k`.
    pub scale: f64,
    /// `[n, d]`.
    pub query: Vec<f64>,
    /// `[m, d]`.
    pub key: Vec<f64>,
    /// `[m, d_v]`.
    pub value: Vec<f64>,
    /// `[n, m]`: whether the pair takes part.
    pub visible: Vec<bool>,
}

impl Problem {
    /// Everything visible, scale 1/√d, entries drawn from N(0, spread²) (values from N(0, 1)).
    pub fn random(n: usize, m: usize, d: usize, d_v: usize, spread: f64, seed: u64) -> Self {
        let mut normal = normals(seed);
        let mut draw = |len: usize, spread: f64| -> Vec<f64> { (0..len).map(|_| spread * normal()).collect() };
        Problem {
            n,
            m,
            d,
            d_v,
            scale: 1.0 / (d as f64).sqrt(),
            query: draw(n * d, spread),
            key: draw(m * d, spread),
            value: draw(m * d_v, 1.0),
            visible: vec![true; n * m],
        }
    }

    /// One head from f32 rows, everything visible.
    pub fn from_f32(shape: [usize; 4], scale: f64, query: &[f32], key: &[f32], value: &[f32]) -> Self {
        let wide = |x: &[f32]| x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let [n, m, d, d_v] = shape;
        assert_eq!((query.len(), key.len(), value.len()), (n * d, m * d, m * d_v), "shape {shape:?} (n, m, d, d_v)");
        Problem {
            n,
            m,
            d,
            d_v,
            scale,
            query: wide(query),
            key: wide(key),
            value: wide(value),
            visible: vec![true; n * m],
        }
    }

    /// The same head with another visibility, `[n, m]`.
    pub fn seeing(self, visible: Vec<bool>) -> Self {
        assert_eq!(visible.len(), self.n * self.m, "one entry a pair");
        Problem { visible, ..self }
    }

    /// Query `i`.
    pub fn query_row(&self, i: usize) -> &[f64] {
        &self.query[i * self.d..(i + 1) * self.d]
    }

    /// Key `j`.
    pub fn key_row(&self, j: usize) -> &[f64] {
        &self.key[j * self.d..(j + 1) * self.d]
    }

    /// Value `j`.
    pub fn value_row(&self, j: usize) -> &[f64] {
        &self.value[j * self.d_v..(j + 1) * self.d_v]
    }

    /// `scale * q_i·k_j` of every pair, visible or not, `[n, m]`.
    pub fn logits(&self) -> Vec<f64> {
        (0..self.n * self.m)
            .map(|pair| self.scale * dot(self.query_row(pair / self.m), self.key_row(pair % self.m)))
            .collect()
    }

    /// Softmax attention over the visible pairs. Rows that see nothing are zeros with a log-sum-exp of −∞.
    pub fn exact(&self) -> Estimate {
        combine(self, &vec![true; self.n * self.m], &Weights::zero(self))
    }
}

/// Standard normals by SplitMix64 and Box–Muller.
fn normals(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    move || {
        let (radius, angle) = (1.0 - uniform(), uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}
