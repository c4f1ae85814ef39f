//! The encoder: two convolutions over log-mel frames, positions, layers.

use super::Config;
use super::layer::{FeedForward, SelfAttention, layer_norm};
use crate::layers::LayerNorm;
use crate::{Attend, Site, Stack};
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::{Conv1d, Conv1dConfig, VarBuilder};

#[derive(Debug, Clone)]
pub(super) struct Encoder {
    conv1: Conv1d,
    conv2: Conv1d,
    positions: Tensor,
    layers: Vec<(SelfAttention, FeedForward)>,
    norm: LayerNorm,
}

impl Encoder {
    pub(super) fn load(config: &Config, weights: &VarBuilder<'_>) -> Result<Encoder> {
        let c = config.width;
        let conv = |channels: usize, stride: usize, name: &str| -> Result<Conv1d> {
            let kernel = weights.get((c, channels, 3), &format!("encoder/{name}/weight"))?;
            let bias = weights.get(c, &format!("encoder/{name}/bias"))?;
            Ok(Conv1d::new(kernel, Some(bias), Conv1dConfig { padding: 1, stride, ..Default::default() }))
        };
        let layer = |i: usize| -> Result<(SelfAttention, FeedForward)> {
            let name = format!("encoder/layer_{i}");
            let attention = SelfAttention::load(config, &format!("{name}/self_attention"), weights)?;
            Ok((attention, FeedForward::load(config, &format!("{name}/ffn"), weights)?))
        };
        Ok(Encoder {
            conv1: conv(config.mels, 1, "conv1")?,
            conv2: conv(c, 2, "conv2")?,
            positions: weights.get((config.audio_positions, c), "encoder/position_encodings/encodings")?,
            layers: (0..config.encoder_layers).map(layer).collect::<Result<_>>()?,
            norm: layer_norm(c, "encoder/layer_norm", weights)?,
        })
    }

    pub(super) fn forward(&self, frames: &Tensor, attend: &dyn Attend) -> Result<Tensor> {
        let (_, bands, count) = frames.dims3()?;
        let (mels, most) = (self.conv1.weight().dim(1)?, 2 * self.positions.dim(0)?);
        if bands != mels || count == 0 || count > most {
            bail!("frames: expected [batch, {mels}, 1 to {most}], got {:?}", frames.dims());
        }
        let map = self.conv2.forward(&self.conv1.forward(frames)?.gelu_erf()?)?.gelu_erf()?;
        let rows = map.transpose(1, 2)?.contiguous()?;
        let mut rows = rows.broadcast_add(&self.positions.narrow(0, 0, rows.dim(1)?)?)?;
        for (layer, (attention, feed_forward)) in self.layers.iter().enumerate() {
            rows = attention.forward(&rows, None, attend, Site { stack: Stack::Encoder, layer })?;
            rows = feed_forward.forward(&rows)?;
        }
        self.norm.forward(&rows)
    }
}
