//! The library's side: a stored call, whole or one head of it, by given methods.

use crate::stored::File;
use anyhow::Result;
use scatterbrain_combine::{Method, Options, Partial, attend, dense_matrix, merge};
use scatterbrain_core::{Mask, MaskTensor, Tensor};

/// Inputs of a call.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) n: usize,
    pub(crate) m: usize,
    pub(crate) d: usize,
    pub(crate) d_v: usize,
    pub(crate) query: Vec<f32>,
    pub(crate) key: Vec<f32>,
    value: Vec<f32>,
    lengths: Vec<usize>,
    causal: bool,
    scale: f32,
    /// A boolean mask [n, m] of all heads.
    pub(crate) allowed: Option<Vec<u8>>,
}

/// What a call gives: output [.., n, d_v], attention [.., n, m], log-sum-exp [.., n].
#[derive(Default)]
pub(crate) struct Computed {
    pub(crate) output: Vec<f32>,
    pub(crate) attention: Vec<f32>,
    pub(crate) log_sum_exp: Vec<f32>,
}

impl Computed {
    /// Appends the next heads.
    pub(crate) fn append(&mut self, mut next: Self) {
        self.output.append(&mut next.output);
        self.attention.append(&mut next.attention);
        self.log_sum_exp.append(&mut next.log_sum_exp);
    }

    /// The entries before rows are normalised.
    pub(crate) fn unnormalised(&self) -> Vec<f64> {
        let m = self.attention.len() / self.log_sum_exp.len();
        let rows = self.attention.chunks_exact(m).zip(&self.log_sum_exp);
        rows.flat_map(|(row, l)| row.iter().map(|&a| f64::from(a) * f64::from(*l).exp())).collect()
    }
}

impl Call {
    /// All heads of a file.
    pub(crate) fn read(file: &File) -> Result<Self> {
        let [batch, heads, n, d] = file.shape("query")?;
        let [_, _, m, d_v] = file.shape("value")?;
        Ok(Self {
            batch,
            heads,
            n,
            m,
            d,
            d_v,
            query: file.floats("query", &[batch, heads, n, d])?,
            key: file.floats("key", &[batch, heads, m, d])?,
            value: file.floats("value", &[batch, heads, m, d_v])?,
            lengths: file.key_lengths(batch)?,
            causal: file.parameter("causal")?,
            scale: file.parameter("softmax_temp")?,
            allowed: None,
        })
    }

    /// One head, as a call of its own.
    pub(crate) fn head(&self, index: usize) -> Self {
        let part = |data: &[f32], size: usize| data[index * size..(index + 1) * size].to_vec();
        Self {
            batch: 1,
            heads: 1,
            query: part(&self.query, self.n * self.d),
            key: part(&self.key, self.m * self.d),
            value: part(&self.value, self.m * self.d_v),
            lengths: vec![self.lengths[index / self.heads]],
            ..self.clone()
        }
    }

    /// The same without its boolean mask.
    pub(crate) fn without_boolean(&self) -> Self {
        Self { allowed: None, ..self.clone() }
    }

    /// By one method, or by several over parts of the pairs, joined by their log-sum-exps.
    pub(crate) fn compute(&self, parts: &[Method]) -> Result<Computed> {
        let parts = parts.iter().map(|method| self.part(method)).collect::<Result<Vec<_>>>()?;
        let outputs: Vec<_> =
            parts.iter().map(|p| Partial { output: &p.output, log_sum_exp: &p.log_sum_exp }).collect();
        let matrices: Vec<_> =
            parts.iter().map(|p| Partial { output: &p.attention, log_sum_exp: &p.log_sum_exp }).collect();
        let (output, log_sum_exp) = merge(&outputs)?;
        Ok(Computed { output, attention: merge(&matrices)?.0, log_sum_exp })
    }

    fn part(&self, method: &Method) -> Result<Computed> {
        let allowed = self.allowed.as_ref().map(|a| MaskTensor::new(a, [1, 1, self.n, self.m])).transpose()?;
        let mask = Mask { causal: self.causal, key_lengths: Some(&self.lengths), window: None, allowed };
        let tensor = |name, data, rows, columns| Tensor::f32(name, data, [self.batch, self.heads, rows, columns]);
        let query = tensor("query", &self.query, self.n, self.d)?;
        let key = tensor("key", &self.key, self.m, self.d)?;
        let value = tensor("value", &self.value, self.m, self.d_v)?;
        let options = Options { scale: Some(self.scale), log_sum_exp: true, level: None };
        let result = attend(&query, &key, &value, &mask, method, &options)?;
        let heads = dense_matrix(&query, &key, &mask, method, &options)?;
        Ok(Computed {
            output: result.output,
            attention: heads.into_iter().flat_map(|h| h.normalised).collect(),
            log_sum_exp: result.log_sum_exp.unwrap_or_default(),
        })
    }
}
