//! Whisper: speech to text by an encoder of audio and a decoder of tokens.
//!
//! ```text
//! memory = encoder(log_mel(audio))                      [1500, c] for 30 seconds
//! logits = decoder(tokens, memory)                      [tokens, vocabulary]
//! ```
//!
//! Self-attention stands at `encoder.i` and `decoder.i`, the decoder's attention to the memory at `cross.i`.
//! Names and shapes are those of CTranslate2's converter; see [`ctranslate2`] for its files.
//!
//! Source: Radford et al., [Robust Speech Recognition via Large-Scale Weak Supervision](https://arxiv.org/abs/2212.04356),
//! 2022.

pub mod audio;
pub mod ctranslate2;
mod decoder;
mod encoder;
mod layer;
pub mod mel;
mod transcribe;

pub use decoder::DecoderState;
pub use transcribe::{Transcriber, Transcription};

use crate::Attend;
use crate::weights::check_last_layer;
use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use decoder::Decoder;
use encoder::Encoder;

/// Epsilon of every layer normalisation of the model.
const EPSILON: f32 = 1e-5;

/// Shapes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Mel bands of the input.
    pub mels: usize,
    /// Columns of encoder and decoder.
    pub width: usize,
    /// Hidden columns of the perceptrons.
    pub hidden: usize,
    /// Heads of every attention.
    pub heads: usize,
    /// Layers of the encoder.
    pub encoder_layers: usize,
    /// Layers of the decoder.
    pub decoder_layers: usize,
    /// Positions of the encoder: half the frames of its input.
    pub audio_positions: usize,
    /// Positions of the decoder.
    pub text_positions: usize,
    /// Tokens.
    pub vocabulary: usize,
}

impl Config {
    /// Whisper tiny.en: 37 million weights.
    pub fn tiny_en() -> Config {
        Config {
            mels: 80,
            width: 384,
            hidden: 1536,
            heads: 6,
            encoder_layers: 4,
            decoder_layers: 4,
            audio_positions: 1500,
            text_positions: 448,
            vocabulary: 51864,
        }
    }

    fn check(&self) -> Result<()> {
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            bail!("width: expected a multiple of {} heads, got {}", self.heads, self.width);
        }
        Ok(())
    }
}

/// Encoder and decoder.
#[derive(Debug, Clone)]
pub struct Whisper {
    config: Config,
    encoder: Encoder,
    decoder: Decoder,
}

impl Whisper {
    /// Reads the weights by CTranslate2's names (`encoder/layer_0/self_attention/linear_0/weight`).
    ///
    /// # Errors
    /// A configuration that cannot be, or a tensor that is missing, of another shape or of a layer beyond the last; the
    /// message names it.
    pub fn load(config: Config, weights: &VarBuilder<'_>) -> Result<Whisper> {
        config.check()?;
        for (stack, layers) in [("encoder", config.encoder_layers), ("decoder", config.decoder_layers)] {
            check_last_layer(weights, layers, |i| format!("{stack}/layer_{i}/self_attention/linear_0/weight"))?;
        }
        Ok(Whisper { config, encoder: Encoder::load(&config, weights)?, decoder: Decoder::load(&config, weights)? })
    }

    /// The shapes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The memory that the decoder looks at, `[batch, frames / 2, width]`, of log-mel frames `[batch, mels, frames]`.
    ///
    /// # Errors
    /// Other bands, more than twice [`Config::audio_positions`] frames, and what `attend` does not take.
    pub fn encode(&self, frames: &Tensor, attend: &dyn Attend) -> Result<Tensor> {
        self.encoder.forward(frames, attend)
    }

    /// A decoder that has seen no token yet; key and value of the memory are computed here, once.
    ///
    /// # Errors
    /// A memory of another width.
    pub fn start(&self, memory: &Tensor) -> Result<DecoderState> {
        self.decoder.start(memory)
    }

    /// Logits after each of the tokens `[batch, tokens]` (u32), `[batch, tokens, vocabulary]`; the state remembers them.
    ///
    /// # Errors
    /// More tokens than there are positions, and what `attend` does not take.
    pub fn decode(&self, tokens: &Tensor, state: &mut DecoderState, attend: &dyn Attend) -> Result<Tensor> {
        self.decoder.forward(tokens, state, attend)
    }
}
