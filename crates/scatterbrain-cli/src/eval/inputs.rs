//! A model on files of its user: texts, sounds, photos.

use super::options::{Model, ModelOptions};
use super::{minilm, smollm2, t2t, vit, whisper};
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use scatterbrain_candle::Attend;
use scatterbrain_candle::pictures::{Fit, read};
use scatterbrain_candle::whisper::Transcriber;
use scatterbrain_candle::whisper::audio::read_wav;
use std::path::{Path, PathBuf};

/// A model that can be run on any file of its kind, for what its attention gets.
pub(crate) enum AnyModel {
    Minilm(Box<minilm::Encoder>),
    Smollm2(Box<smollm2::Decoder>),
    Whisper(Box<Transcriber>),
    Vit(Box<vit::VitModel>),
    T2t(Box<t2t::T2tModel>),
}

impl AnyModel {
    /// From the command line or the cache.
    ///
    /// # Errors
    /// Files that are missing or not what they should be.
    pub(crate) fn load(model: Model, options: &ModelOptions) -> Result<Self> {
        Ok(match model {
            Model::Minilm => Self::Minilm(Box::new(minilm::Encoder::load(options)?)),
            Model::Smollm2 => Self::Smollm2(Box::new(smollm2::Decoder::load(options)?)),
            Model::WhisperTiny => Self::Whisper(Box::new(whisper::transcriber(options)?)),
            Model::Vit => Self::Vit(Box::new(vit::VitModel::load(options)?)),
            Model::T2tImagenet => Self::T2t(Box::new(t2t::T2tModel::of_authors(options)?)),
            Model::T2tFashion => Self::T2t(Box::new(t2t::T2tModel::load(options)?)),
        })
    }

    /// Runs the model on all files at once, as one batch where it takes one, otherwise one after the other.
    ///
    /// # Errors
    /// Files that are no such inputs, and what the model refuses.
    pub(crate) fn run(&self, files: &[PathBuf], attend: &dyn Attend) -> Result<()> {
        match self {
            Self::Minilm(encoder) => {
                for file in files {
                    encoder.embed(&text(file)?, attend)?;
                }
            }
            Self::Smollm2(decoder) => {
                let rows = files.iter().map(|file| decoder.first_tokens(&text(file)?, file));
                let rows: Vec<Vec<u32>> = rows.collect::<Result<_>>()?;
                let tokens = Tensor::new(rows, &Device::Cpu)?;
                decoder.llama.hidden(&tokens, &mut decoder.llama.cache(decoder.length), attend)?;
            }
            Self::Whisper(transcriber) => {
                let mut frames = Vec::new();
                for file in files {
                    frames.extend(transcriber.frames(&read_wav(file)?)?.into_iter().take(1));
                }
                ensure!(!frames.is_empty(), "no sound in {}", names(files));
                transcriber.model().encode(&Tensor::cat(&frames, 0)?, attend)?;
            }
            Self::Vit(vit) => {
                vit.model.features(&pictures(files, vit.size, Fit::Pad)?, attend)?;
            }
            Self::T2t(t2t) => {
                t2t.model.forward(&t2t.pictures(files)?, attend)?;
            }
        }
        Ok(())
    }
}

/// Photos as one batch.
pub(crate) fn pictures(files: &[PathBuf], size: usize, fit: Fit) -> Result<Tensor> {
    let all = files.iter().map(|file| read(file, size, fit)).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::stack(&all, 0)?)
}

fn text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| file.display().to_string())
}

fn names(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}
