//! Tokens-to-Token ViT: two stages of attention over overlapping patches, then a plain ViT.
//!
//! ```text
//! x₀ = unfold₇,₄,₂(image)              [56·56, 3·49] at 224 pixels
//! x₁ = unfold₃,₂,₁(stage₁(x₀))         [28·28, 9·t]
//! x₂ = project(unfold₃,₂,₁(stage₂(x₁))) [14·14, c]
//! logits = head(norm(blocks([cls; x₂] + positions))₀)
//! ```
//!
//! The stages stand at `encoder.0` and `encoder.1`, the blocks after them.
//! Names and shapes are those of the [authors' checkpoints](https://github.com/yitu-opensource/T2T-ViT); see
//! [`read_checkpoint`] for their files.
//!
//! Source: Yuan et al., [Tokens-to-Token ViT](https://arxiv.org/abs/2101.11986), ICCV 2021.

mod block;
mod checkpoint;
mod stage;
mod unfold;

pub use checkpoint::read_checkpoint;

use crate::layers::LayerNorm;
use crate::weights::{check_last_layer, extents};
use crate::{Attend, Site, Stack};
use block::Block;
use candle_core::{DType, Device, Module, Result, Tensor, bail};
use candle_nn::{Init, Linear, VarBuilder, linear};
use stage::Stage;
use std::collections::HashMap;
use unfold::{Grid, Unfold};

/// Epsilon of every layer normalisation of the model.
const EPSILON: f32 = 1e-5;

/// The soft splits: of the image, and between stages.
const SPLITS: [Unfold; 3] = [
    Unfold { kernel: 7, stride: 4, padding: 2 },
    Unfold { kernel: 3, stride: 2, padding: 1 },
    Unfold { kernel: 3, stride: 2, padding: 1 },
];

/// What the two stages before the ViT attend by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// Softmax attention of one head, which is asked of [`Attend`].
    Transformer,
    /// The Performer that the checkpoint brings with it: its random features are weights, and there is nothing to swap.
    Performer,
}

/// Shapes of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// Height and width of images, in pixels.
    pub image_size: usize,
    /// Channels of images.
    pub channels: usize,
    /// Classes of the head.
    pub classes: usize,
    /// The attention of the stages.
    pub tokens: Tokens,
    /// Columns of query, key and value in the stages.
    pub token_dim: usize,
    /// Columns of the ViT.
    pub embed_dim: usize,
    /// Blocks of the ViT.
    pub depth: usize,
    /// Heads of the ViT.
    pub heads: usize,
    /// Hidden columns of the ViT's perceptrons over `embed_dim`.
    pub mlp_ratio: usize,
}

impl Config {
    /// T2T-ViT-t-14, the model of the Scatterbrain paper: 21.5 million weights.
    pub fn t_14() -> Config {
        Config { embed_dim: 384, depth: 14, heads: 6, mlp_ratio: 3, ..Config::t_7() }
    }

    /// T2T-ViT-7 with attention in the stages.
    pub fn t_7() -> Config {
        Config {
            image_size: 224,
            channels: 3,
            classes: 1000,
            tokens: Tokens::Transformer,
            token_dim: 64,
            embed_dim: 256,
            depth: 7,
            heads: 4,
            mlp_ratio: 2,
        }
    }

    /// T2T-ViT-12 with attention in the stages.
    pub fn t_12() -> Config {
        Config { depth: 12, ..Config::t_7() }
    }

    /// The same model with the Performer in the stages, as the authors published T2T-ViT-7, -12 and -14.
    #[must_use]
    pub fn with_performer(self) -> Config {
        Config { tokens: Tokens::Performer, ..self }
    }

    /// The small model that `examples/train_t2t.rs` trains on Fashion-MNIST, 784 tokens in its first stage.
    pub fn fashion_mnist() -> Config {
        Config {
            image_size: 112,
            channels: 1,
            classes: 10,
            tokens: Tokens::Transformer,
            token_dim: 32,
            embed_dim: 96,
            depth: 4,
            heads: 3,
            mlp_ratio: 2,
        }
    }

    /// The shapes of a checkpoint's model, as its tensors tell them; a head has 64 columns, as in all models of the authors.
    ///
    /// # Errors
    /// A tensor that is missing or of another rank; the message names it.
    pub fn of_checkpoint(tensors: &HashMap<String, Tensor>) -> Result<Config> {
        let shape = |name: &str, rank: usize| extents(tensors, name, rank);
        let performer = tensors.contains_key("tokens_to_token.attention1.w");
        let (tokens, projection) =
            if performer { (Tokens::Performer, "proj") } else { (Tokens::Transformer, "attn.proj") };
        let positions = shape("pos_embed", 3)?;
        let (side, embed_dim) = (positions[1].saturating_sub(1).isqrt(), positions[2]);
        let block = |name: &String| name.strip_prefix("blocks.")?.split_once('.')?.0.parse::<usize>().ok();
        Ok(Config {
            // The splits make a token of 4 · 2 · 2 pixels.
            image_size: 16 * side,
            channels: shape("tokens_to_token.attention1.norm1.weight", 1)?[0] / SPLITS[0].kernel.pow(2),
            classes: shape("head.weight", 2)?[0],
            tokens,
            token_dim: shape(&format!("tokens_to_token.attention1.{projection}.weight"), 2)?[0],
            embed_dim,
            depth: tensors.keys().filter_map(block).max().map_or(0, |last| last.saturating_add(1)),
            heads: embed_dim / 64,
            mlp_ratio: shape("blocks.0.mlp.fc1.weight", 2)?[0] / embed_dim.max(1),
        })
    }

    /// Tokens of the first stage, of the second, and of the ViT without its class token.
    pub fn token_counts(&self) -> [usize; 3] {
        let mut grid = Grid { height: self.image_size, width: self.image_size };
        SPLITS.map(|split| {
            grid = split.grid(grid);
            grid.height * grid.width
        })
    }

    fn check(&self) -> Result<()> {
        if self.heads == 0 || !self.embed_dim.is_multiple_of(self.heads) {
            bail!("embed_dim: expected a multiple of {} heads, got {}", self.heads, self.embed_dim);
        }
        if self.image_size < SPLITS[0].kernel {
            bail!("image_size: expected at least {} pixels, got {}", SPLITS[0].kernel, self.image_size);
        }
        Ok(())
    }
}

/// A T2T-ViT.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::VarBuilder;
/// use scatterbrain_candle::t2t_vit::{Config, T2tVit};
/// use scatterbrain_candle::{Attend, Inputs, Site};
///
/// /// Any attention will do; this one looks at nothing.
/// struct Mean;
///
/// impl Attend for Mean {
///     fn attend(&self, _: Site, inputs: &Inputs<'_>) -> candle_core::Result<Tensor> {
///         let (batch, heads, n, _) = inputs.query.dims4()?;
///         let mean = inputs.value.mean_keepdim(2)?;
///         mean.broadcast_as((batch, heads, n, mean.dim(3)?))
///     }
/// }
///
/// let weights = VarBuilder::zeros(DType::F32, &Device::Cpu);
/// let model = T2tVit::load(Config::fashion_mnist(), weights)?;
/// let images = Tensor::zeros((2, 1, 112, 112), DType::F32, &Device::Cpu)?;
/// assert_eq!(model.forward(&images, &Mean)?.dims(), [2, 10]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct T2tVit {
    config: Config,
    stages: [Stage; 2],
    project: Linear,
    class_token: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl T2tVit {
    /// Reads the weights by the names of the authors' checkpoints.
    ///
    /// # Errors
    /// A configuration that cannot be, or a tensor that is missing, of another shape or of a block beyond the last; the
    /// message names it.
    pub fn load(config: Config, weights: VarBuilder<'_>) -> Result<T2tVit> {
        config.check()?;
        check_last_layer(&weights, config.depth, |i| format!("blocks.{i}.attn.qkv.weight"))?;
        let (t, c) = (config.token_dim, config.embed_dim);
        let tokens = weights.pp("tokens_to_token");
        let stage = |name: &str, columns| Stage::load(config.tokens, columns, t, &tokens.pp(name));
        let normal = Init::Randn { mean: 0.0, stdev: 0.02 };
        let blocks = weights.pp("blocks");
        Ok(T2tVit {
            config,
            stages: [
                stage("attention1", config.channels * SPLITS[0].kernel.pow(2))?,
                stage("attention2", t * SPLITS[1].kernel.pow(2))?,
            ],
            project: linear(t * SPLITS[2].kernel.pow(2), c, tokens.pp("project"))?,
            class_token: weights.get_with_hints((1, 1, c), "cls_token", normal)?,
            positions: weights.get_with_hints((1, config.token_counts()[2] + 1, c), "pos_embed", normal)?,
            blocks: (0..config.depth).map(|layer| Block::load(&config, &blocks.pp(layer))).collect::<Result<_>>()?,
            norm: LayerNorm::load(c, EPSILON, &weights.pp("norm"))?,
            head: linear(c, config.classes, weights.pp("head"))?,
        })
    }

    /// The shapes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Logits of the classes, `[batch, classes]`, of images `[batch, channels, image_size, image_size]`.
    ///
    /// # Errors
    /// Images of another shape, and what `attend` does not take.
    pub fn forward(&self, images: &Tensor, attend: &dyn Attend) -> Result<Tensor> {
        let tokens = self.project.forward(&self.tokens(images, attend)?)?;
        let class_token = self.class_token.broadcast_as((tokens.dim(0)?, 1, self.config.embed_dim))?;
        let mut tokens = Tensor::cat(&[&class_token, &tokens], 1)?.broadcast_add(&self.positions)?;
        for (block, layer) in self.blocks.iter().zip(self.stages.len()..) {
            tokens = block.forward(&tokens, attend, Site { stack: Stack::Encoder, layer })?;
        }
        // Rows are normalised one by one: the class token's is the only one that is asked for.
        self.head.forward(&self.norm.forward(&tokens.narrow(1, 0, 1)?.squeeze(1)?)?)
    }

    /// From images to the last soft split, `[batch, tokens, 9 · token_dim]`.
    fn tokens(&self, images: &Tensor, attend: &dyn Attend) -> Result<Tensor> {
        let Config { image_size, channels, .. } = self.config;
        let (_, c, height, width) = images.dims4()?;
        if (c, height, width) != (channels, image_size, image_size) {
            bail!("images: expected [batch, {channels}, {image_size}, {image_size}], got {:?}", images.dims());
        }
        let mut grid = SPLITS[0].grid(Grid { height, width });
        let mut tokens = SPLITS[0].unfold(images)?;
        for (layer, stage) in self.stages.iter().enumerate() {
            let rows = stage.forward(&tokens, attend, Site { stack: Stack::Encoder, layer })?;
            let (batch, _, columns) = rows.dims3()?;
            let map = rows.transpose(1, 2)?.reshape((batch, columns, grid.height, grid.width))?;
            let split = SPLITS[layer + 1];
            tokens = split.unfold(&map)?;
            grid = split.grid(grid);
        }
        Ok(tokens)
    }
}

/// The sinusoid table that a new model starts from as `pos_embed`, `[1, positions, columns]`.
///
/// `table[p, 2i] = sin(p / 10000^(2i/columns))`, `table[p, 2i + 1]` its cosine.
///
/// # Errors
/// None but candle's own.
pub fn sinusoid_positions(positions: usize, columns: usize) -> Result<Tensor> {
    let entry = |position: usize, column: usize| {
        let angle = position as f64 / 10000f64.powf((2 * (column / 2)) as f64 / columns as f64);
        (if column.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    };
    let table = (0..positions).flat_map(|p| (0..columns).map(move |c| entry(p, c))).collect();
    Tensor::from_vec(table, (1, positions, columns), &Device::Cpu)?.to_dtype(DType::F32)
}
