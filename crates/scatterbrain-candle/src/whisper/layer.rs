//! What the layers of encoder and decoder are made of, by CTranslate2's names.

use super::{Config, EPSILON};
use crate::layers::{LayerNorm, join_heads, split_heads};
use crate::{Attend, Inputs, Site};
use candle_core::{Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder};

/// `linear_i` of a group: `{name}/weight` `[out, columns]`, `{name}/bias` `[out]`.
pub(super) fn linear(columns: usize, out: usize, name: &str, weights: &VarBuilder<'_>) -> Result<Linear> {
    let weight = weights.get((out, columns), &format!("{name}/weight"))?;
    Ok(Linear::new(weight, Some(weights.get(out, &format!("{name}/bias"))?)))
}

/// `{name}/gamma` and `{name}/beta`.
pub(super) fn layer_norm(columns: usize, name: &str, weights: &VarBuilder<'_>) -> Result<LayerNorm> {
    let gamma = weights.get(columns, &format!("{name}/gamma"))?;
    Ok(LayerNorm::new(gamma, weights.get(columns, &format!("{name}/beta"))?, EPSILON))
}

/// `x + mlp(norm(x))` with GELU (by the error function) between.
#[derive(Debug, Clone)]
pub(super) struct FeedForward {
    norm: LayerNorm,
    first: Linear,
    second: Linear,
}

impl FeedForward {
    pub(super) fn load(config: &Config, name: &str, weights: &VarBuilder<'_>) -> Result<FeedForward> {
        Ok(FeedForward {
            norm: layer_norm(config.width, &format!("{name}/layer_norm"), weights)?,
            first: linear(config.width, config.hidden, &format!("{name}/linear_0"), weights)?,
            second: linear(config.hidden, config.width, &format!("{name}/linear_1"), weights)?,
        })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        rows + self.second.forward(&self.first.forward(&self.norm.forward(rows)?)?.gelu_erf()?)?
    }
}

/// Keys and values, `[batch, heads, m, d]`.
#[derive(Debug, Clone)]
pub(super) struct KeyValue {
    key: Tensor,
    value: Tensor,
}

impl KeyValue {
    /// How many there are.
    pub(super) fn len(&self) -> Result<usize> {
        self.key.dim(2)
    }
}

/// `x + out(attention(norm(x)))`, key and value from the same rows.
#[derive(Debug, Clone)]
pub(super) struct SelfAttention {
    heads: usize,
    norm: LayerNorm,
    qkv: Linear,
    out: Linear,
}

impl SelfAttention {
    pub(super) fn load(config: &Config, name: &str, weights: &VarBuilder<'_>) -> Result<SelfAttention> {
        let c = config.width;
        Ok(SelfAttention {
            heads: config.heads,
            norm: layer_norm(c, &format!("{name}/layer_norm"), weights)?,
            qkv: linear(c, 3 * c, &format!("{name}/linear_0"), weights)?,
            out: linear(c, c, &format!("{name}/linear_1"), weights)?,
        })
    }

    /// With a cache the rows follow those in it, and see nothing after themselves.
    pub(super) fn forward(
        &self,
        rows: &Tensor,
        cache: Option<&mut Option<KeyValue>>,
        attend: &dyn Attend,
        site: Site,
    ) -> Result<Tensor> {
        let columns = rows.dim(2)?;
        let qkv = self.qkv.forward(&self.norm.forward(rows)?)?;
        let part = |i: usize| split_heads(&qkv.narrow(2, i * columns, columns)?, self.heads);
        let (query, mut seen) = (part(0)?, KeyValue { key: part(1)?, value: part(2)? });
        let causal = cache.is_some();
        if let Some(cache) = cache {
            if let Some(before) = cache.take() {
                seen.key = Tensor::cat(&[&before.key, &seen.key], 2)?;
                seen.value = Tensor::cat(&[&before.value, &seen.value], 2)?;
            }
            *cache = Some(seen.clone());
        }
        rows + self.out.forward(&attention(&query, &seen, causal, attend, site)?)?
    }
}

/// `x + out(attention(norm(x), memory))`.
#[derive(Debug, Clone)]
pub(super) struct CrossAttention {
    heads: usize,
    norm: LayerNorm,
    query: Linear,
    key_value: Linear,
    out: Linear,
}

impl CrossAttention {
    pub(super) fn load(config: &Config, name: &str, weights: &VarBuilder<'_>) -> Result<CrossAttention> {
        let c = config.width;
        Ok(CrossAttention {
            heads: config.heads,
            norm: layer_norm(c, &format!("{name}/layer_norm"), weights)?,
            query: linear(c, c, &format!("{name}/linear_0"), weights)?,
            key_value: linear(c, 2 * c, &format!("{name}/linear_1"), weights)?,
            out: linear(c, c, &format!("{name}/linear_2"), weights)?,
        })
    }

    pub(super) fn memory(&self, memory: &Tensor) -> Result<KeyValue> {
        let columns = memory.dim(2)?;
        let rows = self.key_value.forward(memory)?;
        let part = |i: usize| split_heads(&rows.narrow(2, i * columns, columns)?, self.heads);
        Ok(KeyValue { key: part(0)?, value: part(1)? })
    }

    pub(super) fn forward(&self, rows: &Tensor, memory: &KeyValue, attend: &dyn Attend, site: Site) -> Result<Tensor> {
        let query = split_heads(&self.query.forward(&self.norm.forward(rows)?)?, self.heads)?;
        rows + self.out.forward(&attention(&query, memory, false, attend, site)?)?
    }
}

fn attention(query: &Tensor, seen: &KeyValue, causal: bool, attend: &dyn Attend, site: Site) -> Result<Tensor> {
    let scale = (query.dim(3)? as f32).powf(-0.5);
    let inputs = Inputs { query, key: &seen.key, value: &seen.value, scale, causal, key_lengths: None };
    join_heads(&attend.attend(site, &inputs)?)
}
