//! A layer: attention and a perceptron, each scaled column by column and added to what came in.

use super::{Config, EPSILON};
use crate::layers::{LayerNorm, join_heads, split_heads};
use crate::{Attend, Inputs, Site};
use candle_core::{Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder, linear};

#[derive(Debug, Clone)]
pub(super) struct Layer {
    heads: usize,
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    scale1: Tensor,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    scale2: Tensor,
}

impl Layer {
    pub(super) fn load(config: &Config, names: &VarBuilder<'_>) -> Result<Layer> {
        let (c, hidden) = (config.width, config.hidden);
        let attention = names.pp("attention");
        Ok(Layer {
            heads: config.heads,
            norm1: LayerNorm::load(c, EPSILON, &names.pp("norm1"))?,
            query: linear(c, c, attention.pp("attention.query"))?,
            key: linear(c, c, attention.pp("attention.key"))?,
            value: linear(c, c, attention.pp("attention.value"))?,
            dense: linear(c, c, attention.pp("output.dense"))?,
            scale1: names.get(c, "layer_scale1.lambda1")?,
            norm2: LayerNorm::load(c, EPSILON, &names.pp("norm2"))?,
            fc1: linear(c, hidden, names.pp("mlp.fc1"))?,
            fc2: linear(hidden, c, names.pp("mlp.fc2"))?,
            scale2: names.get(c, "layer_scale2.lambda1")?,
        })
    }

    pub(super) fn forward(&self, tokens: &Tensor, attend: &dyn Attend, site: Site) -> Result<Tensor> {
        let rows = self.norm1.forward(tokens)?;
        let heads = |linear: &Linear| split_heads(&linear.forward(&rows)?, self.heads);
        let query = heads(&self.query)?;
        let attention = attend.attend(
            site,
            &Inputs {
                query: &query,
                key: &heads(&self.key)?,
                value: &heads(&self.value)?,
                scale: (query.dim(3)? as f32).powf(-0.5),
                causal: false,
                key_lengths: None,
            },
        )?;
        let tokens = (tokens + self.dense.forward(&join_heads(&attention)?)?.broadcast_mul(&self.scale1)?)?;
        let hidden = self.fc1.forward(&self.norm2.forward(&tokens)?)?.gelu_erf()?;
        &tokens + self.fc2.forward(&hidden)?.broadcast_mul(&self.scale2)?
    }
}
