//! What the vision and speech models share: normalisation, and heads cut from columns.

use candle_core::{Result, Tensor};
use candle_nn::{VarBuilder, ops};

/// Layer normalisation of the last dimension, with a gradient where one is wanted.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
}

impl LayerNorm {
    /// Reads `weight` and `bias`; both start as the identity where the variables are new.
    pub(crate) fn load(size: usize, epsilon: f32, names: &VarBuilder<'_>) -> Result<LayerNorm> {
        let weight = names.get_with_hints(size, "weight", candle_nn::Init::Const(1.0))?;
        let bias = names.get_with_hints(size, "bias", candle_nn::Init::Const(0.0))?;
        Ok(LayerNorm { weight, bias, epsilon })
    }

    pub(crate) fn new(weight: Tensor, bias: Tensor, epsilon: f32) -> LayerNorm {
        LayerNorm { weight, bias, epsilon }
    }

    pub(crate) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        // The fused operation has no gradient.
        if rows.track_op() || self.weight.track_op() {
            return ops::layer_norm_slow(rows, &self.weight, &self.bias, self.epsilon);
        }
        ops::layer_norm(&rows.contiguous()?, &self.weight, &self.bias, self.epsilon)
    }
}

/// `[batch, n, heads · d]` as `[batch, heads, n, d]`, without a copy.
pub(crate) fn split_heads(rows: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, n, columns) = rows.dims3()?;
    rows.reshape((batch, n, heads, columns / heads))?.transpose(1, 2)
}

/// `[batch, heads, n, d]` as `[batch, n, heads · d]`.
pub(crate) fn join_heads(rows: &Tensor) -> Result<Tensor> {
    let (batch, heads, n, d) = rows.dims4()?;
    rows.transpose(1, 2)?.reshape((batch, n, heads * d))
}
