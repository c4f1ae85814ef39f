//! Texts to tokens and back, for the models here.

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use candle_core::{Error, Result};
use std::path::Path;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{PreTokenizerWrapper, TruncationParams};

/// A tokenizer as the [`tokenizers`] crate reads it, without the padding and the truncation that some files ask for.
#[derive(Debug, Clone)]
pub struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    /// From a `tokenizer.json`.
    ///
    /// # Errors
    /// A file that cannot be read or is no such file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let mut inner = tokenizers::Tokenizer::from_file(path).map_err(|error| Error::msg(error).with_path(path))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(Error::msg)?;
        Ok(Self(inner))
    }

    /// From the vocabulary and the merges in a GGUF file.
    ///
    /// # Errors
    /// A vocabulary that is not one of byte pairs; a pre-tokenizer other than `smollm` and `gpt-2`: take the model's
    /// `tokenizer.json` for those.
    pub fn from_gguf(content: &Content) -> Result<Self> {
        // Words as GPT-2 cuts them, spaces before them, nothing added in front.
        let words = || ByteLevel::new(false, true, true).into();
        let cut: PreTokenizerWrapper = match content.metadata.get("tokenizer.ggml.pre") {
            Some(Value::String(pre)) if pre == "gpt-2" => words(),
            // Digits by themselves.
            Some(Value::String(pre)) if pre == "smollm" => {
                Sequence::new(vec![Digits::new(true).into(), words()]).into()
            }
            other => return Err(Error::msg(format!("tokenizer.ggml.pre: expected smollm or gpt-2, got {other:?}"))),
        };
        let mut inner = tokenizers::Tokenizer::from_gguf(content)?;
        inner.with_pre_tokenizer(Some(cut));
        Ok(Self(inner))
    }

    /// The same, with at most `tokens` of a text, those that frame it among them.
    ///
    /// # Errors
    /// Fewer than the tokens that frame a text.
    pub fn limited(mut self, tokens: usize) -> Result<Self> {
        let limit = TruncationParams { max_length: tokens, ..TruncationParams::default() };
        self.0.with_truncation(Some(limit)).map_err(Error::msg)?;
        Ok(self)
    }

    /// Tokens of a text; `frame` adds those that the model expects around it (`[CLS]` and `[SEP]`, a first token), if any.
    ///
    /// # Errors
    /// A text that the vocabulary cannot express.
    pub fn encode(&self, text: &str, frame: bool) -> Result<Vec<u32>> {
        Ok(self.0.encode_fast(text, frame).map_err(Error::msg)?.get_ids().to_vec())
    }

    /// The text of tokens, without those that frame it.
    ///
    /// # Errors
    /// What the decoder refuses.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.0.decode(tokens, true).map_err(Error::msg)
    }
}
