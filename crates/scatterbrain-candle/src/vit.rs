//! A vision transformer of DINOv2's shape, with a head that draws a saliency map.
//!
//! ```text
//! x = [cls; patches₁₄(image)] + positions
//! x = x + λ₁ ∘ attention(norm1(x)),   x = x + λ₂ ∘ mlp(norm2(x))     12 times
//! features = norm(x)                                                 [1 + patches, 384]
//! map = σ(enlarge(upconvolutions(features of the patches)))          [height, width]
//! ```
//!
//! Attention stands at `encoder.i`.
//! Names and shapes are those of `Dinov2Model` under `backbone`, and of the head under `decoder`; [`read_onnx`] reads them
//! from an exported file.
//!
//! Source: Oquab et al., [DINOv2](https://arxiv.org/abs/2304.07193), 2023.

mod layer;
mod positions;
mod saliency;

use crate::layers::LayerNorm;
use crate::weights::{check_last_layer, extents};
use crate::{Attend, Site, Stack, onnx};
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::{Conv2d, Conv2dConfig, VarBuilder};
use layer::Layer;
use saliency::SaliencyHead;
use std::collections::HashMap;
use std::path::Path;

/// Epsilon of the encoder's layer normalisations.
const EPSILON: f32 = 1e-6;

/// A tensor that every model has, by its name without `backbone.` before it.
const CLASS_TOKEN: &str = "embeddings.cls_token";

/// Shapes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Height and width of a patch, in pixels.
    pub patch: usize,
    /// Columns.
    pub width: usize,
    /// Hidden columns of the perceptrons.
    pub hidden: usize,
    /// Heads.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Patches along one side of the images that the stored positions are for.
    pub grid: usize,
    /// Channels between the head's three upconvolutions; none where there is no head.
    pub saliency_channels: Option<[usize; 3]>,
}

impl Config {
    /// ViT-S/14 with positions for 518 pixels and the saliency head.
    pub fn small_14() -> Config {
        Config {
            patch: 14,
            width: 384,
            hidden: 1536,
            heads: 6,
            layers: 12,
            grid: 37,
            saliency_channels: Some([256, 128, 64]),
        }
    }

    /// The shapes of a model, as its tensors tell them; a head has 64 columns, as in all models of DINOv2.
    ///
    /// # Errors
    /// A tensor that is missing or of another rank; the message names it.
    pub fn of_tensors(tensors: &HashMap<String, Tensor>) -> Result<Config> {
        let shape = |name: &str, rank: usize| extents(tensors, name, rank);
        let prefix = if tensors.contains_key(CLASS_TOKEN) { "" } else { "backbone." };
        let kernel = shape(&format!("{prefix}embeddings.patch_embeddings.projection.weight"), 4)?;
        let positions = shape(&format!("{prefix}embeddings.position_embeddings"), 3)?[1];
        let layers = format!("{prefix}encoder.layer.");
        let layer = |name: &String| name.strip_prefix(&layers)?.split_once('.')?.0.parse::<usize>().ok();
        let channels = |i: usize| -> Result<usize> { Ok(shape(&format!("decoder.upconv{i}.weight"), 4)?[1]) };
        let head = tensors.keys().any(|name| name.starts_with("decoder."));
        Ok(Config {
            patch: kernel[2],
            width: kernel[0],
            hidden: shape(&format!("{layers}0.mlp.fc1.weight"), 2)?[0],
            heads: kernel[0] / 64,
            layers: tensors.keys().filter_map(layer).max().map_or(0, |last| last.saturating_add(1)),
            grid: positions.saturating_sub(1).isqrt(),
            saliency_channels: if head { Some([channels(1)?, channels(2)?, channels(3)?]) } else { None },
        })
    }

    fn check(&self) -> Result<()> {
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            bail!("width: expected a multiple of {} heads, got {}", self.heads, self.width);
        }
        if self.patch == 0 || self.grid == 0 {
            bail!("patch, grid: expected numbers above zero, got {} and {}", self.patch, self.grid);
        }
        Ok(())
    }
}

/// The model.
#[derive(Debug, Clone)]
pub struct Vit {
    config: Config,
    patches: Conv2d,
    class_token: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    saliency: Option<SaliencyHead>,
}

impl Vit {
    /// Reads the weights by the names of `Dinov2Model`, with `backbone.` before them or, in a model without a head, without.
    ///
    /// # Errors
    /// A configuration that cannot be, or a tensor that is missing, of another shape or of a layer beyond the last; the
    /// message names it.
    pub fn load(config: Config, weights: VarBuilder<'_>) -> Result<Vit> {
        config.check()?;
        let Config { patch, width: c, grid, .. } = config;
        let backbone = if weights.contains_tensor(CLASS_TOKEN) { weights.clone() } else { weights.pp("backbone") };
        check_last_layer(&backbone, config.layers, |i| format!("encoder.layer.{i}.attention.attention.query.weight"))?;
        let embeddings = backbone.pp("embeddings");
        let projection = embeddings.pp("patch_embeddings.projection");
        let kernel = projection.get((c, 3, patch, patch), "weight")?;
        let stride = Conv2dConfig { stride: patch, ..Default::default() };
        Ok(Vit {
            config,
            patches: Conv2d::new(kernel, Some(projection.get(c, "bias")?), stride),
            class_token: embeddings.get((1, 1, c), "cls_token")?,
            positions: embeddings.get((1, grid * grid + 1, c), "position_embeddings")?,
            layers: (0..config.layers)
                .map(|i| Layer::load(&config, &backbone.pp("encoder.layer").pp(i)))
                .collect::<Result<_>>()?,
            norm: LayerNorm::load(c, EPSILON, &backbone.pp("layernorm"))?,
            saliency: config
                .saliency_channels
                .map(|channels| SaliencyHead::load(c, channels, &weights.pp("decoder")))
                .transpose()?,
        })
    }

    /// The shapes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Features `[batch, 1 + patches, width]` of images `[batch, 3, height, width]`, the class token's first.
    ///
    /// Images are normalised as [`pictures`](crate::pictures) does; a rest of pixels that fills no patch is left out.
    /// Positions are interpolated for other sizes than the stored one.
    ///
    /// # Errors
    /// Images of another shape or smaller than a patch, and what `attend` does not take.
    pub fn features(&self, images: &Tensor, attend: &dyn Attend) -> Result<Tensor> {
        let (batch, channels, height, width) = images.dims4()?;
        let (rows, columns) = (height / self.config.patch, width / self.config.patch);
        if channels != 3 || rows == 0 || columns == 0 {
            bail!(
                "images: expected [batch, 3, height, width] of at least {} pixels, got {:?}",
                self.config.patch,
                images.dims()
            );
        }
        let patches = self.patches.forward(images)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let class_token = self.class_token.broadcast_as((batch, 1, self.config.width))?;
        let positions = positions::for_grid(&self.positions, self.config.grid, rows, columns)?;
        let mut tokens = Tensor::cat(&[&class_token, &patches], 1)?.broadcast_add(&positions)?;
        for (i, layer) in self.layers.iter().enumerate() {
            tokens = layer.forward(&tokens, attend, Site { stack: Stack::Encoder, layer: i })?;
        }
        self.norm.forward(&tokens)
    }

    /// How much each pixel draws the eye, in [0, 1], `[batch, 1, height, width]`, from [`Vit::features`] of such images.
    ///
    /// # Errors
    /// A model without the head, or features of images of another size.
    pub fn saliency(&self, features: &Tensor, height: usize, width: usize) -> Result<Tensor> {
        let Some(head) = &self.saliency else {
            bail!("saliency: the model was loaded without its head");
        };
        let (batch, tokens, columns) = features.dims3()?;
        let (rows, cells) = (height / self.config.patch, width / self.config.patch);
        if tokens != rows * cells + 1 {
            bail!("features: expected {} tokens for {height} × {width} pixels, got {tokens}", rows * cells + 1);
        }
        let map = features.narrow(1, 1, tokens - 1)?.transpose(1, 2)?.reshape((batch, columns, rows, cells))?;
        head.forward(&map, height, width)
    }
}

/// Reads an exported file, with the positions put together under `backbone.embeddings.position_embeddings`.
///
/// The result goes to [`weights::builder`](crate::weights::builder), or to `candle_core::safetensors::save` to be kept as
/// such a file.
///
/// # Errors
/// What [`onnx::Weights::open`] tells; positions of the class token or the patches that are not there.
pub fn read_onnx(path: impl AsRef<Path>) -> Result<HashMap<String, Tensor>> {
    let path = path.as_ref();
    let onnx::Weights { mut tensors, anonymous } = onnx::Weights::open(path)?;
    // The exporter cut the positions in two: that of the class token is concatenated, those of the patches reshaped.
    let part = |node: &str, what: &str| {
        let found = anonymous.iter().find(|weight| {
            weight.node.starts_with(&format!("/backbone/embeddings/{node}")) && weight.tensor.rank() == 3
        });
        match found {
            Some(weight) => Ok(&weight.tensor),
            None => bail!("{}: tensor backbone.embeddings.position_embeddings: {what} is missing", path.display()),
        }
    };
    let positions =
        Tensor::cat(&[part("Concat", "that of the class token")?, part("Reshape", "those of the patches")?], 1)?;
    tensors.insert("backbone.embeddings.position_embeddings".to_owned(), positions);
    Ok(tensors)
}
