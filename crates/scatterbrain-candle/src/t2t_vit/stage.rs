//! A stage before the ViT: one head whose value is carried on in place of what came in.

use super::block::{Mlp, thirds};
use super::{EPSILON, Tokens};
use crate::layers::LayerNorm;
use crate::{Attend, Inputs, Site};
use candle_core::{D, Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder, linear, linear_no_bias};

/// `y = v + proj(attention(q, k, v))` of `norm1(x)`, then `y + mlp(norm2(y))`.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    norm1: LayerNorm,
    attention: StageAttention,
    proj: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
}

#[derive(Debug, Clone)]
enum StageAttention {
    /// `scale` is 1/√ of the columns that come in, not of q's: so the authors trained it.
    Softmax { qkv: Linear, scale: f32 },
    /// Positive features with the stored directions `[features, columns]`; key, query and value come in this order.
    Performer { kqv: Linear, directions: Tensor },
}

impl Stage {
    pub(super) fn load(tokens: Tokens, columns: usize, out: usize, names: &VarBuilder<'_>) -> Result<Stage> {
        let (attention, proj, mlp) = match tokens {
            Tokens::Transformer => {
                let qkv = linear_no_bias(columns, 3 * out, names.pp("attn.qkv"))?;
                (StageAttention::Softmax { qkv, scale: (columns as f32).powf(-0.5) }, "attn.proj", ["fc1", "fc2"])
            }
            Tokens::Performer => {
                let kqv = linear(columns, 3 * out, names.pp("kqv"))?;
                let directions = names.get((out / 2, out), "w")?;
                (StageAttention::Performer { kqv, directions }, "proj", ["0", "2"])
            }
        };
        Ok(Stage {
            norm1: LayerNorm::load(columns, EPSILON, &names.pp("norm1"))?,
            attention,
            proj: linear(out, out, names.pp(proj))?,
            norm2: LayerNorm::load(out, EPSILON, &names.pp("norm2"))?,
            mlp: Mlp::load(out, out, mlp, &names.pp("mlp"))?,
        })
    }

    pub(super) fn forward(&self, tokens: &Tensor, attend: &dyn Attend, site: Site) -> Result<Tensor> {
        let rows = self.norm1.forward(tokens)?;
        let (attention, value) = match &self.attention {
            StageAttention::Softmax { qkv, scale } => {
                let [query, key, value] = thirds(&qkv.forward(&rows)?)?;
                let attention = attend.attend(
                    site,
                    &Inputs {
                        query: &query.unsqueeze(1)?,
                        key: &key.unsqueeze(1)?,
                        value: &value.unsqueeze(1)?,
                        scale: *scale,
                        causal: false,
                        key_lengths: None,
                    },
                )?;
                (attention.squeeze(1)?, value)
            }
            StageAttention::Performer { kqv, directions } => {
                let [key, query, value] = thirds(&kqv.forward(&rows)?)?;
                (performer(&query, &key, &value, directions)?, value)
            }
        };
        let rows = (value + self.proj.forward(&attention)?)?;
        &rows + self.mlp.forward(&self.norm2.forward(&rows)?)?
    }
}

/// `φ(q)·Σ φ(k) v / (φ(q)·Σ φ(k) + 1e-8)`; the authors' ε belongs to their weights.
fn performer(query: &Tensor, key: &Tensor, value: &Tensor, directions: &Tensor) -> Result<Tensor> {
    let (query, key) = (positive_features(query, directions)?, positive_features(key, directions)?);
    let sums = key.transpose(1, 2)?.matmul(&value.contiguous()?)?;
    let total = key.sum_keepdim(1)?.transpose(1, 2)?.contiguous()?;
    query.matmul(&sums)?.broadcast_div(&(query.matmul(&total)? + 1e-8)?)
}

/// `exp(w·x − |x|²/2) / √features`.
fn positive_features(rows: &Tensor, directions: &Tensor) -> Result<Tensor> {
    let half_norms = (rows.sqr()?.sum_keepdim(D::Minus1)? / 2.0)?;
    let logs = rows.contiguous()?.broadcast_matmul(&directions.t()?)?.broadcast_sub(&half_norms)?;
    logs.exp()? / (directions.dim(0)? as f64).sqrt()
}
