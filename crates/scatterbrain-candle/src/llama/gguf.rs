//! What a GGUF file says of a Llama, and its tensors.

use crate::weights::check_finite;
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Error, Result, Tensor};
use std::collections::BTreeSet;
use std::io::{Read, Seek};

/// Sizes and constants, from metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Columns of a hidden row.
    pub hidden: usize,
    /// Columns between the products at the end of a layer.
    pub wide: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; a divisor of `heads`.
    pub kv_heads: usize,
    /// Columns of a head; even.
    pub head_dim: usize,
    /// Tokens that the model was trained for.
    pub context: usize,
    /// Base of the angles of rotary embeddings.
    pub rope_theta: f64,
    /// ε of norms.
    pub rms_eps: f64,
}

impl Config {
    /// From the metadata of a file.
    ///
    /// # Errors
    /// Another architecture, a key that is missing or of another kind, sizes that do not fit each other, rotary embeddings
    /// that are scaled by a rule or cover a part of a head.
    pub fn from_gguf(content: &Content) -> Result<Self> {
        let metadata = Metadata(content);
        let architecture = metadata.text("general.architecture")?;
        if architecture != "llama" {
            return Err(refused("general.architecture", "llama", architecture));
        }
        let hidden = metadata.count("llama.embedding_length")?;
        let heads = metadata.count("llama.attention.head_count")?;
        let kv_heads = metadata.count_or("llama.attention.head_count_kv", heads)?;
        let head_dim = metadata.count_or("llama.attention.key_length", hidden / heads)?;
        // The embeddings say how many tokens there are.
        let embeddings = content.tensor_infos.get("token_embd.weight");
        let vocab = embeddings.ok_or_else(|| missing("token_embd.weight"))?.shape.dims().first().copied().unwrap_or(0);
        let config = Self {
            vocab: metadata.count_or("llama.vocab_size", vocab)?,
            hidden,
            wide: metadata.count("llama.feed_forward_length")?,
            layers: metadata.count("llama.block_count")?,
            heads,
            kv_heads,
            head_dim,
            context: metadata.count("llama.context_length")?,
            rope_theta: metadata.number("llama.rope.freq_base").unwrap_or(Ok(10_000.0))?,
            rms_eps: metadata
                .number("llama.attention.layer_norm_rms_epsilon")
                .ok_or_else(|| refused("llama.attention.layer_norm_rms_epsilon", "a number", "nothing"))??,
        };
        config.check(&metadata)?;
        Ok(config)
    }

    fn check(&self, metadata: &Metadata<'_>) -> Result<()> {
        let &Self { heads, kv_heads, head_dim, rope_theta, rms_eps, .. } = self;
        if heads % kv_heads != 0 {
            let expected = format!("a divisor of {heads} heads");
            return Err(refused("llama.attention.head_count_kv", &expected, kv_heads));
        }
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(refused("llama.attention.key_length", "an even number", head_dim));
        }
        for (key, expected) in [("llama.rope.dimension_count", head_dim), ("llama.attention.value_length", head_dim)] {
            let got = metadata.count_or(key, expected)?;
            if got != expected {
                return Err(refused(key, &format!("{expected}, the columns of a head"), got));
            }
        }
        if let Some(Value::String(scaling)) = metadata.0.metadata.get("llama.rope.scaling.type")
            && scaling != "none"
        {
            return Err(refused("llama.rope.scaling.type", "none", scaling));
        }
        for (key, x) in [("llama.rope.freq_base", rope_theta), ("llama.attention.layer_norm_rms_epsilon", rms_eps)] {
            if !(x.is_finite() && x > 0.0) {
                return Err(refused(key, "a finite number above 0", x));
            }
        }
        Ok(())
    }
}

struct Metadata<'a>(&'a Content);

impl Metadata<'_> {
    fn text(&self, key: &str) -> Result<&str> {
        match self.0.metadata.get(key) {
            Some(Value::String(text)) => Ok(text),
            other => Err(refused(key, "a text", kind(other))),
        }
    }

    /// At least 1.
    fn count(&self, key: &str) -> Result<usize> {
        let value = self.0.metadata.get(key);
        let count = value.and_then(|v| v.to_u64().ok().or_else(|| u64::try_from(v.to_i64().ok()?).ok()));
        match count.and_then(|count| usize::try_from(count).ok()) {
            Some(count) if count > 0 => Ok(count),
            Some(_) => Err(refused(key, "at least 1", 0)),
            None => Err(refused(key, "a count", kind(value))),
        }
    }

    fn count_or(&self, key: &str, otherwise: usize) -> Result<usize> {
        if self.0.metadata.contains_key(key) { self.count(key) } else { Ok(otherwise) }
    }

    fn number(&self, key: &str) -> Option<Result<f64>> {
        Some(match self.0.metadata.get(key)? {
            Value::F32(x) => Ok(f64::from(*x)),
            Value::F64(x) => Ok(*x),
            other => Err(refused(key, "a number", kind(Some(other)))),
        })
    }
}

fn kind(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |v| format!("{:?}", v.value_type()))
}

fn refused(what: &str, expected: &str, got: impl std::fmt::Display) -> Error {
    Error::msg(format!("{what}: expected {expected}, got {got}"))
}

fn missing(tensor: &str) -> Error {
    Error::msg(format!("{tensor}: the file has no tensor of this name"))
}

/// The tensors of a file; which of them were taken is remembered.
pub(super) struct Tensors<'a, R> {
    content: &'a Content,
    file: &'a mut R,
    unused: BTreeSet<&'a str>,
}

impl<'a, R: Read + Seek> Tensors<'a, R> {
    pub(super) fn new(content: &'a Content, file: &'a mut R) -> Self {
        Self { content, file, unused: content.tensor_infos.keys().map(String::as_str).collect() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// In f32.
    pub(super) fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let info = self.content.tensor_infos.get(name).ok_or_else(|| missing(name))?;
        if info.shape.dims() != shape {
            return Err(refused(name, &format!("shape {shape:?}"), format!("{:?}", info.shape.dims())));
        }
        self.unused.remove(name);
        let read = info.read(self.file, self.content.tensor_data_offset, &Device::Cpu);
        let tensor = read.and_then(|tensor| tensor.dequantize(&Device::Cpu));
        let tensor = tensor.map_err(|error| Error::msg(format!("{name}: {error}")))?;
        check_finite(name, &tensor)?;
        Ok(tensor)
    }

    /// A tensor that nobody asked for is a bias or a norm that would be left out silently, or one under another name.
    pub(super) fn all_used(&self) -> Result<()> {
        match self.unused.first() {
            None => Ok(()),
            Some(name) => Err(Error::msg(format!("{name}: a llama has no tensor of this name"))),
        }
    }
}

/// Rows of query or key weights so that rotary embeddings turn columns i and i + d/2 of a head together. Files hold them so
/// that columns 2i and 2i + 1 are turned; products of query and key are the same.
pub(super) fn halves_from_pairs(weights: &Tensor, head_dim: usize) -> Result<Tensor> {
    let (rows, cols) = weights.dims2()?;
    weights.reshape((rows / head_dim, head_dim / 2, 2, cols))?.transpose(1, 2)?.reshape((rows, cols))
}
