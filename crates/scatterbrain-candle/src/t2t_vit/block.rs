//! A block of the ViT: attention and a perceptron, each added to what came in.

use super::{Config, EPSILON};
use crate::layers::{LayerNorm, join_heads, split_heads};
use crate::{Attend, Inputs, Site};
use candle_core::{Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder, linear, linear_no_bias};

/// `x + proj(attention(norm1(x)))`, then `x + mlp(norm2(x))`.
#[derive(Debug, Clone)]
pub(super) struct Block {
    heads: usize,
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    pub(super) fn load(config: &Config, names: &VarBuilder<'_>) -> Result<Block> {
        let c = config.embed_dim;
        Ok(Block {
            heads: config.heads,
            norm1: LayerNorm::load(c, EPSILON, &names.pp("norm1"))?,
            qkv: linear_no_bias(c, 3 * c, names.pp("attn.qkv"))?,
            proj: linear(c, c, names.pp("attn.proj"))?,
            norm2: LayerNorm::load(c, EPSILON, &names.pp("norm2"))?,
            mlp: Mlp::load(c, config.mlp_ratio * c, ["fc1", "fc2"], &names.pp("mlp"))?,
        })
    }

    pub(super) fn forward(&self, tokens: &Tensor, attend: &dyn Attend, site: Site) -> Result<Tensor> {
        let [query, key, value] = thirds(&self.qkv.forward(&self.norm1.forward(tokens)?)?)?;
        let d = query.dim(2)? / self.heads;
        let attention = attend.attend(
            site,
            &Inputs {
                query: &split_heads(&query, self.heads)?,
                key: &split_heads(&key, self.heads)?,
                value: &split_heads(&value, self.heads)?,
                scale: (d as f32).powf(-0.5),
                causal: false,
                key_lengths: None,
            },
        )?;
        let tokens = (tokens + self.proj.forward(&join_heads(&attention)?)?)?;
        &tokens + self.mlp.forward(&self.norm2.forward(&tokens)?)?
    }
}

/// The three equal parts of the last dimension.
pub(super) fn thirds(rows: &Tensor) -> Result<[Tensor; 3]> {
    let columns = rows.dim(2)? / 3;
    let part = |i| rows.narrow(2, i * columns, columns);
    Ok([part(0)?, part(1)?, part(2)?])
}

/// Two linear maps around GELU (by the error function).
#[derive(Debug, Clone)]
pub(super) struct Mlp {
    first: Linear,
    second: Linear,
}

impl Mlp {
    pub(super) fn load(columns: usize, hidden: usize, layers: [&str; 2], names: &VarBuilder<'_>) -> Result<Mlp> {
        Ok(Mlp {
            first: linear(columns, hidden, names.pp(layers[0]))?,
            second: linear(hidden, columns, names.pp(layers[1]))?,
        })
    }

    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(rows)?.gelu_erf()?)
    }
}
