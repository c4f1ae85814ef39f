//! Features and saliency of photos by a ViT-S/14.

use super::metrics::cosine::{correlation, cosine};
use super::metrics::mean;
use super::options::ModelOptions;
use super::places::{self, has_ending};
use super::task::{Measure, Measured, Part, Task, Unit};
use anyhow::{Context, Result, ensure};
use candle_core::Device;
use candle_core::safetensors::load;
use scatterbrain_candle::pictures::{Fit, read};
use scatterbrain_candle::vit::{Config, Vit, read_onnx};
use scatterbrain_candle::{Attend, weights};
use std::path::PathBuf;

/// Tokens of a photo where the command line says nothing: 37 × 37 patches and the class token.
const LENGTH: usize = 1370;

/// Photos, and a model that says where people look.
pub(crate) struct Features {
    vit: VitModel,
    photos: Vec<PathBuf>,
}

/// A model with the size that photos are brought to.
pub(crate) struct VitModel {
    pub(crate) model: Vit,
    /// Height and width in pixels.
    pub(crate) size: usize,
}

impl VitModel {
    /// From the command line or the cache.
    ///
    /// # Errors
    /// Weights that are missing or not what they should be; tokens that are no square and one.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let path = places::inside(places::weights(options, "vit")?, "vit_s_focus.onnx");
        let safetensors = has_ending(&path, &["safetensors"]);
        let tensors = if safetensors { load(&path, &Device::Cpu)? } else { read_onnx(&path)? };
        let model = Config::of_tensors(&tensors).and_then(|config| Vit::load(config, weights::builder(tensors)));
        let model = model.with_context(|| path.display().to_string())?;
        let length = options.length.unwrap_or(LENGTH);
        let side = length.saturating_sub(1).isqrt();
        ensure!(side > 0 && side * side + 1 == length, "length: expected a square and 1, as 257 or 1370, got {length}");
        let size = side * model.config().patch;
        Ok(Self { model, size })
    }
}

impl Features {
    /// The model and every photo of the folder, or one photo.
    ///
    /// # Errors
    /// Files that are missing or not what they should be; tokens that are no square and one.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let photos = photos(places::data(options, "photos")?)?;
        Ok(Self { vit: VitModel::load(options)?, photos })
    }
}

/// A photo, or those of a folder in the order of their names.
fn photos(path: PathBuf) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path]);
    }
    let entries = std::fs::read_dir(&path).with_context(|| path.display().to_string())?;
    let mut photos = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    photos.retain(|photo| has_ending(photo, &["png", "jpg", "jpeg"]));
    photos.sort();
    ensure!(!photos.is_empty(), "{}: expected photos (.png, .jpg, .jpeg), found none", path.display());
    Ok(photos)
}

impl Task for Features {
    fn inputs(&self, part: Part) -> usize {
        if part == Part::Test { self.photos.len() } else { 0 }
    }

    fn run(&self, _: Part, input: usize, attend: &dyn Attend, exact: Option<&[f32]>) -> Result<Measured> {
        let VitModel { model, size } = &self.vit;
        let image = read(&self.photos[input], *size, Fit::Pad)?.unsqueeze(0)?;
        let features = model.features(&image, attend)?;
        let (_, length, width) = features.dims3()?;
        let saliency: Vec<f32> = match model.config().saliency_channels {
            Some(_) => model.saliency(&features, *size, *size)?.flatten_all()?.to_vec1()?,
            None => Vec::new(),
        };
        let mut output: Vec<f32> = features.flatten_all()?.to_vec1()?;
        let rows = output.len();
        output.extend(saliency);
        let item = exact.map_or_else(|| vec![1.0, 1.0], |exact| compare(exact, &output, rows, width));
        Ok(Measured { items: vec![item], output, length })
    }

    fn measures(&self) -> &'static [Measure] {
        const MEASURES: &[Measure] = &[
            Measure { name: "cosine", unit: Unit::Number, of: |items| mean(items, 0) },
            Measure { name: "saliency correlation", unit: Unit::Number, of: |items| mean(items, 1) },
        ];
        // Without the head there is no saliency.
        let head = self.vit.model.config().saliency_channels.is_some();
        if head { MEASURES } else { &MEASURES[..1] }
    }

    fn describe(&self) -> String {
        let Config { patch, width, layers, .. } = *self.vit.model.config();
        let size = self.vit.size;
        format!("ViT of {layers} layers × {width}, patches of {patch}, on photos of {size} × {size} pixels")
    }

    fn share(&self) -> f64 {
        0.1
    }
}

/// Mean cosine of the rows of features, and correlation of the maps that follow them.
fn compare(exact: &[f32], output: &[f32], rows: usize, width: usize) -> Vec<f64> {
    let pairs = exact[..rows].chunks_exact(width).zip(output[..rows].chunks_exact(width));
    let cosines: Vec<f64> = pairs.map(|(a, b)| cosine(a, b)).collect();
    let map = |all: &[f32]| all[rows..].iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    let (exact_map, own_map) = (map(exact), map(output));
    // No map, no figure: a NaN would be none in the file of records.
    if own_map.is_empty() { vec![mean] } else { vec![mean, correlation(&exact_map, &own_map)] }
}
