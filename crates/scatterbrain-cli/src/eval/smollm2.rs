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

    /// Pieces of `length` tokens of a text, from the first on; a shorter last one is left out. The text is the file of the
    /// command line, or the test articles of WikiText.
    ///
    /// # Errors
    /// A text that is missing or too short.
    pub(crate) fn pieces(&self, options: &ModelOptions) -> Result<Vec<Vec<u32>>> {
        let path = places::data_file(options, "wikitext", "wiki.test.raw")?;
        // Copies differ in their line ends; perplexities are stated for this one.
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?.replace("\r\n", "\n");
        let tokens = self.tokenizer.encode(&text, false)?;
        self.check_length(tokens.len(), &path)?;
        Ok(tokens.chunks_exact(self.length).map(<[u32]>::to_vec).collect())
    }

    /// The first `length` tokens of a text.
    ///
    /// # Errors
    /// A text that is shorter.
    pub(crate) fn first_tokens(&self, text: &str, file: &Path) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.encode(text, false)?;
        self.check_length(tokens.len(), file)?;
        tokens.truncate(self.length);
        Ok(tokens)
    }

    fn check_length(&self, got: usize, file: &Path) -> Result<()> {
        let length = self.length;
        ensure!(got >= length, "{}: expected {length} tokens, got {got}: --length takes fewer", file.display());
        Ok(())
    }
}

/// What the text of [`Decoder::pieces`] is called.
pub(crate) fn text_name(options: &ModelOptions) -> String {
    let given = options.data.as_ref().filter(|path| path.is_file());
    given.map_or_else(|| "WikiText-2's test articles".to_owned(), |path| path.display().to_string())
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
