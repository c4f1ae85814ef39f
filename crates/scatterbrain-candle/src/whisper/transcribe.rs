//! From audio to words: greedy decoding without timestamps.

use super::ctranslate2::ModelFile;
use super::mel::{LogMel, RATE};
use super::{Config, Whisper};
use crate::{Attend, weights};
use candle_core::{Device, Error, Result, Tensor, bail};
use serde::Deserialize;
use std::path::Path;
use tokenizers::Tokenizer;

/// Seconds that the encoder hears at once.
const SECONDS: usize = 30;

/// A model with its tokens: audio in, text out.
///
/// Audio is heard in pieces of 30 seconds, the last filled up with silence, each transcribed on its own.
/// At every step the likeliest token is taken; never one of the model's `suppress_ids` or a timestamp, and not
/// `suppress_ids_begin` at first.
/// There is no beam, no temperature and no second try.
pub struct Transcriber {
    model: Whisper,
    mel: LogMel,
    tokenizer: Tokenizer,
    start: Vec<u32>,
    end: u32,
    /// Tokens that are never taken, and those that are not taken first.
    suppressed: Vec<u32>,
    suppressed_first: Vec<u32>,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcription {
    /// The text, without spaces around it.
    pub text: String,
    /// Its tokens, without the special ones.
    pub tokens: Vec<u32>,
}

/// What is read of `config.json`.
#[derive(Deserialize)]
struct Suppression {
    suppress_ids: Vec<u32>,
    suppress_ids_begin: Vec<u32>,
}

impl Transcriber {
    /// Reads a model in CTranslate2's form from a folder with `model.bin`, `config.json` and `tokenizer.json`.
    ///
    /// Only models for English are understood: those of several languages start with other tokens.
    ///
    /// # Errors
    /// A file that is missing or not what it should be; a tensor that is missing or of another shape, which is named.
    pub fn open(folder: impl AsRef<Path>) -> Result<Transcriber> {
        let folder = folder.as_ref();
        let file = ModelFile::open(folder.join("model.bin"))?;
        let config = file.whisper_config()?;
        let path = folder.join("model.bin");
        let model = Whisper::load(config, &weights::builder(file.tensors)).map_err(|error| error.with_path(path))?;
        let path = folder.join("tokenizer.json");
        let tokenizer =
            Tokenizer::from_file(&path).map_err(|error| Error::msg(format!("{}: {error}", path.display())))?;
        let path = folder.join("config.json");
        let told = |error: &dyn std::fmt::Display| Error::msg(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| told(&error))?;
        let suppression: Suppression = serde_json::from_str(&text).map_err(|error| told(&error))?;
        Transcriber::new(model, tokenizer, suppression)
    }

    fn new(model: Whisper, tokenizer: Tokenizer, suppression: Suppression) -> Result<Transcriber> {
        let Config { mels, vocabulary, .. } = *model.config();
        let token = |name: &str| match tokenizer.token_to_id(name) {
            Some(id) if (id as usize) < vocabulary => Ok(id),
            Some(id) => bail!("token {name}: expected a number under {vocabulary}, got {id}"),
            None => bail!("token {name} is missing"),
        };
        let (start, quiet, end) =
            (token("<|startoftranscript|>")?, token("<|notimestamps|>")?, token("<|endoftext|>")?);
        // Timestamps follow after this token, to the end of the vocabulary.
        let mut suppressed: Vec<u32> = (quiet..vocabulary as u32).collect();
        suppressed.extend(suppression.suppress_ids);
        let mut suppressed_first = suppression.suppress_ids_begin;
        for ids in [&mut suppressed, &mut suppressed_first] {
            ids.retain(|&id| (id as usize) < vocabulary);
        }
        let mel = LogMel::new(mels)?;
        Ok(Transcriber { model, mel, tokenizer, start: vec![start, quiet], end, suppressed, suppressed_first })
    }

    /// The model.
    pub fn model(&self) -> &Whisper {
        &self.model
    }

    /// Log-mel frames of each piece of 30 seconds, `[1, mels, 3000]`: what [`Whisper::encode`] takes.
    ///
    /// # Errors
    /// None but candle's own.
    pub fn frames(&self, samples: &[f32]) -> Result<Vec<Tensor>> {
        let piece = |samples: &[f32]| {
            let mut samples = samples.to_vec();
            samples.resize(SECONDS * RATE, 0.0);
            self.mel.frames(&samples)
        };
        samples.chunks(SECONDS * RATE).map(piece).collect()
    }

    /// Transcribes samples in [−1, 1] at 16 kHz (see [`read_wav`](super::audio::read_wav)).
    ///
    /// # Errors
    /// What `attend` does not take.
    pub fn transcribe(&self, samples: &[f32], attend: &dyn Attend) -> Result<Transcription> {
        let mut tokens = Vec::new();
        for frames in self.frames(samples)? {
            tokens.extend(self.tokens(&frames, attend)?);
        }
        let text = self.tokenizer.decode(&tokens, true).map_err(|error| Error::msg(error.to_string()))?;
        Ok(Transcription { text: text.trim().to_owned(), tokens })
    }

    /// The likeliest tokens one by one, until the text ends or half the positions are taken.
    fn tokens(&self, frames: &Tensor, attend: &dyn Attend) -> Result<Vec<u32>> {
        let mut state = self.model.start(&self.model.encode(frames, attend)?)?;
        let mut tokens = Vec::new();
        let mut input = self.start.clone();
        while tokens.len() < self.model.config().text_positions / 2 {
            let logits =
                self.model.decode(&Tensor::new(&input[..], &Device::Cpu)?.unsqueeze(0)?, &mut state, attend)?;
            let mut logits = logits.get(0)?.get(input.len() - 1)?.to_vec1::<f32>()?;
            let first: &[u32] = if tokens.is_empty() { &self.suppressed_first } else { &[] };
            for &id in self.suppressed.iter().chain(first) {
                logits[id as usize] = f32::NEG_INFINITY;
            }
            let likeliest = (0..logits.len()).fold(0, |best, id| if logits[id] > logits[best] { id } else { best });
            if likeliest as u32 == self.end {
                break;
            }
            tokens.push(likeliest as u32);
            input = vec![likeliest as u32];
        }
        Ok(tokens)
    }
}
