//! Clothes by a T2T-ViT that was trained on Fashion-MNIST with exact attention, its first stage swapped.

use super::inputs::pictures;
use super::metrics::mean;
use super::options::ModelOptions;
use super::places;
use super::task::{Measure, Measured, Part, Task, Unit};
use anyhow::Result;
use candle_core::Tensor;
use scatterbrain_candle::fashion_mnist::{FashionMnist, Split};
use scatterbrain_candle::t2t_vit::{Config, T2tVit};
use scatterbrain_candle::weights::safetensors;
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

    /// Photos as one batch: the mean of their channels, normalised by ImageNet's figures.
    ///
    /// # Errors
    /// Files that are no photos.
    pub(crate) fn pictures(&self, files: &[PathBuf]) -> Result<Tensor> {
        Ok(pictures(files, self.model.config().image_size)?.mean_keepdim(1)?)
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
        let class = largest(&output);
        let right = class == self.images.label(input) as usize;
        let same = exact.is_none_or(|exact| class == largest(exact));
        let items = vec![vec![f64::from(u8::from(right)), f64::from(u8::from(same))]];
        Ok(Measured { items, output, length: self.model.config().token_counts()[0] })
    }

    fn measures(&self) -> &'static [Measure] {
        const MEASURES: &[Measure] = &[
            Measure { name: "top-1", unit: Unit::Percent, of: |items| mean(items, 0) },
            Measure { name: "same class", unit: Unit::Percent, of: |items| mean(items, 1) },
        ];
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

fn largest(logits: &[f32]) -> usize {
    (0..logits.len()).fold(0, |best, class| if logits[class] > logits[best] { class } else { best })
}
