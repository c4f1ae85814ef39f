//! Clothes by a T2T-ViT that was trained on Fashion-MNIST with exact attention, its first stage swapped.

use super::inputs::pictures;
use super::metrics::{Item, mean};
use super::options::ModelOptions;
use super::places;
use super::task::{Measure, Measured, Part, Task, Unit};
use anyhow::{Context, Result};
use candle_core::safetensors::load;
use candle_core::{Device, Tensor};
use scatterbrain_candle::fashion_mnist::{FashionMnist, Split};
use scatterbrain_candle::pictures::Fit;
use scatterbrain_candle::t2t_vit::{Config, T2tVit, read_checkpoint};
use scatterbrain_candle::weights::{builder, safetensors};
use scatterbrain_candle::{Attend, Site, Stack};
use std::path::PathBuf;

/// The test images.
pub(crate) struct TopOne {
    model: T2tVit,
    images: FashionMnist,
}

/// A model for pictures of its size.
pub(crate) struct T2tModel {
    pub(crate) model: T2tVit,
}

impl T2tModel {
    /// From the command line or the repository.
    ///
    /// # Errors
    /// Weights that are missing or not what they should be.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        Ok(Self { model: model(options)? })
    }

    /// From a checkpoint of the authors, or the same tensors in a safetensors file.
    ///
    /// # Errors
    /// No path, or a file that is not what it should be.
    pub(crate) fn of_authors(options: &ModelOptions) -> Result<Self> {
        let path = options.weights.as_ref().context(
            "--weights: expected a checkpoint of the T2T-ViT's authors (81.7_T2T_ViTt_14.pth.tar; the README says where)",
        )?;
        let safetensors = path.extension().is_some_and(|end| end == "safetensors");
        let tensors = if safetensors { load(path, &Device::Cpu)? } else { read_checkpoint(path)? };
        let model = Config::of_checkpoint(&tensors).and_then(|config| T2tVit::load(config, builder(tensors)));
        Ok(Self { model: model.with_context(|| path.display().to_string())? })
    }

    /// Photos as one batch, as each model is tested with them: cut to the middle, or, for a model of one channel, padded and
    /// the mean of the channels taken.
    ///
    /// # Errors
    /// Files that are no photos.
    pub(crate) fn pictures(&self, files: &[PathBuf]) -> Result<Tensor> {
        let (size, channels) = (self.model.config().image_size, self.model.config().channels);
        if channels == 1 {
            Ok(pictures(files, size, Fit::Pad)?.mean_keepdim(1)?)
        } else {
            pictures(files, size, Fit::Crop)
        }
    }
}

impl TopOne {
    /// The model, from a file or the repository, and the images.
    ///
    /// # Errors
    /// Files that are missing or not what they should be.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let images = FashionMnist::open(places::data(options, "fashion-mnist")?, Split::Test)?;
        Ok(Self { model: model(options)?, images })
    }
}

/// The model of the command line, or the one of the repository.
fn model(options: &ModelOptions) -> Result<T2tVit> {
    let path = options.weights.clone().unwrap_or_else(|| ASSET.into());
    Ok(T2tVit::load(Config::fashion_mnist(), safetensors(&path)?)?)
}

/// Trained by `train_t2t`, an example of `scatterbrain-candle`.
const ASSET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scatterbrain-candle/assets/t2t-fashion-mnist.safetensors");

impl Task for TopOne {
    fn inputs(&self, part: Part) -> usize {
        if part == Part::Test { self.images.len() } else { 0 }
    }

    fn run(&self, _: Part, input: usize, attend: &dyn Attend, exact: Option<&[f32]>) -> Result<Measured> {
        let image = self.images.images(&[input], self.model.config().image_size)?;
        let output: Vec<f32> = self.model.forward(&image, attend)?.flatten_all()?.to_vec1()?;
        let items = vec![top_one(&output, self.images.label(input) as usize, exact)];
        Ok(Measured { items, output, length: self.model.config().token_counts()[0] })
    }

    fn measures(&self) -> &'static [Measure] {
        MEASURES
    }

    fn stands_at(&self) -> fn(Site) -> bool {
        |site| site == Site { stack: Stack::Encoder, layer: 0 }
    }

    fn describe(&self) -> String {
        "T2T-ViT on Fashion-MNIST, the first stage swapped".into()
    }

    fn share(&self) -> f64 {
        0.05
    }
}

/// Whether the largest of the logits is right, and whether it is exact attention's.
pub(crate) const MEASURES: &[Measure] = &[
    Measure { name: "top-1", unit: Unit::Percent, of: |items| mean(items, 0) },
    Measure { name: "same class", unit: Unit::Percent, of: |items| mean(items, 1) },
];

/// The item of [`MEASURES`].
pub(crate) fn top_one(logits: &[f32], label: usize, exact: Option<&[f32]>) -> Item {
    let class = largest(logits);
    let same = exact.is_none_or(|exact| class == largest(exact));
    vec![f64::from(u8::from(class == label)), f64::from(u8::from(same))]
}

fn largest(logits: &[f32]) -> usize {
    (0..logits.len()).fold(0, |best, class| if logits[class] > logits[best] { class } else { best })
}
