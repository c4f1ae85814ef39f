//! Text by SmolLM2-135M-Instruct, or a Llama in a GGUF file.

pub(crate) mod generate;
pub(crate) mod wikitext;

use super::options::ModelOptions;
use super::places;
use anyhow::{Context, Result, ensure};
use scatterbrain_candle::llama::Llama;
use scatterbrain_candle::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

/// Tokens of an input where the command line says nothing.
const LENGTH: usize = 4096;

/// A model with its tokens, and a long text cut in pieces.
pub(crate) struct Decoder {
    pub(crate) llama: Llama,
    tokenizer: Tokenizer,
    pub(crate) length: usize,
}

impl Decoder {
    /// From the file of the command line, or the cache.
    ///
    /// # Errors
    /// A file that is missing or not what it should be; a length beyond the context.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let (llama, content) = Llama::from_file(&file(options)?)?;
        let tokenizer = Tokenizer::from_gguf(&content)?;
        let context = llama.config().context;
        let length = options.length.unwrap_or(LENGTH.min(context));
        ensure!((2..=context).contains(&length), "length: expected 2 to {context} tokens, got {length}");
        Ok(Self { llama, tokenizer, length })
    }

    /// Pieces of `length` tokens of the test articles of WikiText, from the first on; a shorter last one is left out.
    ///
    /// # Errors
    /// A text that is missing or too short.
    pub(crate) fn pieces(&self, options: &ModelOptions, length: usize) -> Result<Vec<Vec<u32>>> {
        let path = places::data(options, "wikitext")?.join("wiki.test.raw");
        // Copies differ in their line ends; perplexities are stated for this one.
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?.replace("\r\n", "\n");
        let tokens = self.tokenizer.encode(&text, false)?;
        ensure!(tokens.len() >= length, "{}: expected {length} tokens, got {}", path.display(), tokens.len());
        Ok(tokens.chunks_exact(length).map(<[u32]>::to_vec).collect())
    }

    /// The first `length` tokens of a text.
    ///
    /// # Errors
    /// A text that is shorter.
    pub(crate) fn first_tokens(&self, text: &str, file: &Path) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.encode(text, false)?;
        let (got, length) = (tokens.len(), self.length);
        ensure!(got >= length, "{}: expected {length} tokens, got {got}: --length takes fewer", file.display());
        tokens.truncate(length);
        Ok(tokens)
    }
}

/// A GGUF file, or the one of a folder.
fn file(options: &ModelOptions) -> Result<PathBuf> {
    let path = places::weights(options, "smollm2")?;
    if path.is_file() {
        return Ok(path);
    }
    let entries = std::fs::read_dir(&path).with_context(|| path.display().to_string())?;
    let files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let mut files = files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "gguf"));
    files.next().with_context(|| format!("{}: no GGUF file", path.display()))
}
