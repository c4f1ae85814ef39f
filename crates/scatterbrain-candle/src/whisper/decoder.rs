//! The decoder: tokens and positions, layers with two attentions each, logits from the embeddings.

use super::Config;
use super::layer::{CrossAttention, FeedForward, KeyValue, SelfAttention, layer_norm};
use crate::layers::LayerNorm;
use crate::{Attend, Site, Stack};
use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;

#[derive(Debug, Clone)]
pub(super) struct Decoder {
    /// `[vocabulary, width]`: what tokens become, and what rows are compared with for logits.
    embeddings: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

#[derive(Debug, Clone)]
struct Layer {
    self_attention: SelfAttention,
    cross_attention: CrossAttention,
    feed_forward: FeedForward,
}

/// Keys and values of the tokens that a decoder has seen, and of the memory.
#[derive(Debug, Clone)]
pub struct DecoderState {
    tokens: Vec<Option<KeyValue>>,
    memory: Vec<KeyValue>,
}

impl Decoder {
    pub(super) fn load(config: &Config, weights: &VarBuilder<'_>) -> Result<Decoder> {
        let c = config.width;
        let layer = |i: usize| -> Result<Layer> {
            let name = format!("decoder/layer_{i}");
            Ok(Layer {
                self_attention: SelfAttention::load(config, &format!("{name}/self_attention"), weights)?,
                cross_attention: CrossAttention::load(config, &format!("{name}/attention"), weights)?,
                feed_forward: FeedForward::load(config, &format!("{name}/ffn"), weights)?,
            })
        };
        Ok(Decoder {
            embeddings: weights.get((config.vocabulary, c), "decoder/embeddings/weight")?,
            positions: weights.get((config.text_positions, c), "decoder/position_encodings/encodings")?,
            layers: (0..config.decoder_layers).map(layer).collect::<Result<_>>()?,
            norm: layer_norm(c, "decoder/layer_norm", weights)?,
        })
    }

    pub(super) fn start(&self, memory: &Tensor) -> Result<DecoderState> {
        let (_, _, columns) = memory.dims3()?;
        if columns != self.embeddings.dim(1)? {
            bail!("memory: expected {} columns, got {columns}", self.embeddings.dim(1)?);
        }
        let memory = self.layers.iter().map(|layer| layer.cross_attention.memory(memory)).collect::<Result<_>>()?;
        Ok(DecoderState { tokens: vec![None; self.layers.len()], memory })
    }

    pub(super) fn forward(&self, tokens: &Tensor, state: &mut DecoderState, attend: &dyn Attend) -> Result<Tensor> {
        let (batch, count) = tokens.dims2()?;
        let before = match state.tokens.first() {
            Some(Some(seen)) => seen.len()?,
            _ => 0,
        };
        let most = self.positions.dim(0)?;
        if count == 0 || before + count > most {
            bail!("tokens: expected 1 to {} after the {before} seen, got {count}", most - before);
        }
        let rows = self.embeddings.index_select(&tokens.flatten_all()?, 0)?.reshape((batch, count, ()))?;
        let mut rows = rows.broadcast_add(&self.positions.narrow(0, before, count)?)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let site = |stack| Site { stack, layer: i };
            rows = layer.self_attention.forward(&rows, Some(&mut state.tokens[i]), attend, site(Stack::Decoder))?;
            rows = layer.cross_attention.forward(&rows, &state.memory[i], attend, site(Stack::Cross))?;
            rows = layer.feed_forward.forward(&rows)?;
        }
        self.norm.forward(&rows)?.broadcast_matmul(&self.embeddings.t()?)
    }
}
