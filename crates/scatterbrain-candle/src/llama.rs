//! Llama decoders (Touvron et al. 2023) from GGUF files, in f32.
//!
//! ```text
//! x = embeddings[token]
//! for each layer:
//!     x = x + output(attention(rope(query(norm(x))), rope(key(norm(x))), value(norm(x))))
//!     x = x + down(silu(gate(norm(x))) · up(norm(x)))
//! logits = output(norm(x))
//! ```
//!
//! Quantised weights become f32 when they are read: products with quantised weights would round the activations too.

mod gguf;

pub use gguf::Config;

use crate::{Attend, Inputs, ScatterbrainAttention, Site, Stack};
use candle_core::quantized::gguf_file::Content;
use candle_core::{D, Device, Error, IndexOp, Module, Result, Tensor};
use candle_nn::kv_cache::KvCache;
use candle_nn::rotary_emb::rope_thd;
use candle_nn::{Embedding, Linear, RmsNorm};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

/// Rows whose logits exist at a time where only their log-likelihoods are wanted.
const BLOCK: usize = 256;

/// A decoder.
///
/// ```no_run
/// use scatterbrain_candle::{Budget, Preset, ScatterbrainAttention, Seed, llama::Llama, tokenizer::Tokenizer};
/// # fn main() -> candle_core::Result<()> {
/// let (llama, content) = Llama::from_file("SmolLM2-135M-Instruct.Q4_1.gguf".as_ref())?;
/// let tokenizer = Tokenizer::from_gguf(&content)?;
/// let scan = ScatterbrainAttention::preset(Preset::ScatterbrainScan, Budget::Units(64), Seed(0))?;
/// let prompt = tokenizer.encode("Long ago", true)?;
/// let logs = llama.log_likelihoods(&prompt, &scan)?;
/// let perplexity = (-logs.iter().sum::<f64>() / logs.len() as f64).exp();
/// let text = tokenizer.decode(&llama.generate(&prompt, 40, None, &scan)?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Llama {
    config: Config,
    embeddings: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    output: Linear,
    /// Angles from one token to the next, `[head_dim / 2]`.
    frequencies: Vec<f64>,
}

/// Keys and values of the tokens so far.
#[derive(Debug, Clone)]
pub struct Cache {
    layers: Vec<KvCache>,
}

impl Cache {
    /// Tokens so far.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, KvCache::current_seq_len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets them.
    pub fn reset(&mut self) {
        self.layers.iter_mut().for_each(KvCache::reset);
    }
}

impl Llama {
    /// A model, and the file's header, which holds the vocabulary too.
    ///
    /// # Errors
    /// A file that cannot be read, is no GGUF file or ends early; an architecture that is not `llama`; metadata that is
    /// missing; a tensor that is missing, of another shape, or of no use to the architecture, by its name.
    pub fn from_file(path: &Path) -> Result<(Self, Content)> {
        let read = || {
            let mut file = BufReader::new(File::open(path)?);
            let content =
                Content::read(&mut file).map_err(|e| Error::msg(format!("the header of a GGUF file: {e}")))?;
            Ok((Self::from_gguf(&content, &mut file)?, content))
        };
        read().map_err(|error: Error| error.with_path(path))
    }

    /// A model from an open file whose header was read.
    ///
    /// # Errors
    /// As [`Llama::from_file`].
    pub fn from_gguf<R: Read + Seek>(content: &Content, file: &mut R) -> Result<Self> {
        let config = Config::from_gguf(content)?;
        let mut tensors = gguf::Tensors::new(content, file);
        let &Config { hidden, vocab, .. } = &config;
        let embeddings = tensors.get("token_embd.weight", &[vocab, hidden])?;
        // Without an output of its own, the embeddings turned round.
        let output = match tensors.has("output.weight") {
            true => tensors.get("output.weight", &[vocab, hidden])?,
            false => embeddings.clone(),
        };
        let layers = (0..config.layers).map(|i| Layer::load(&config, &mut tensors, i)).collect::<Result<_>>()?;
        let norm = RmsNorm::new(tensors.get("output_norm.weight", &[hidden])?, config.rms_eps);
        let divisors = match tensors.has("rope_freqs.weight") {
            true => tensors.get("rope_freqs.weight", &[config.head_dim / 2])?.to_vec1()?,
            false => vec![1.0; config.head_dim / 2],
        };
        tensors.all_used()?;
        let frequencies = frequencies(&config, &divisors);
        let embeddings = Embedding::new(embeddings, hidden);
        Ok(Self { config, embeddings, layers, norm, output: Linear::new(output, None), frequencies })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it attends: `decoder.0` and so on.
    pub fn sites(&self) -> Vec<Site> {
        (0..self.layers.len()).map(|layer| Site { stack: Stack::Decoder, layer }).collect()
    }

    /// An empty cache with room for `tokens` at first; it grows by as many.
    pub fn cache(&self, tokens: usize) -> Cache {
        Cache { layers: vec![KvCache::new(1, tokens.max(1)); self.layers.len()] }
    }

    /// Hidden rows after the last norm, `[batch, n, hidden]`, for the tokens `[batch, n]` (u32) that follow those of the
    /// cache; their keys and values enter it.
    ///
    /// # Errors
    /// No tokens, more in all than the context holds, a token beyond the vocabulary, and what `attend` refuses; the cache
    /// is empty then.
    pub fn hidden(&self, tokens: &Tensor, cache: &mut Cache, attend: &dyn Attend) -> Result<Tensor> {
        let hidden = self.rows(tokens, cache, attend);
        if hidden.is_err() {
            cache.reset();
        }
        hidden
    }

    fn rows(&self, tokens: &Tensor, cache: &mut Cache, attend: &dyn Attend) -> Result<Tensor> {
        let (_, n) = tokens.dims2()?;
        let (start, most) = (cache.len(), self.config.context);
        if n == 0 || start.saturating_add(n) > most {
            let left = most.saturating_sub(start);
            return Err(Error::msg(format!("tokens: expected 1 to {left} after {start}, got {n}")));
        }
        if cache.layers.len() != self.layers.len() {
            return Err(Error::msg(format!(
                "cache: expected {} layers, got {}",
                self.layers.len(),
                cache.layers.len()
            )));
        }
        let rotation = rotation(&self.frequencies, start, n)?;
        let mut hidden = self.embeddings.forward(tokens)?;
        for ((site, layer), cache) in self.sites().into_iter().zip(&self.layers).zip(&mut cache.layers) {
            hidden = layer.forward(&hidden, &rotation, cache, site, attend)?;
        }
        self.norm.forward(&hidden)
    }

    /// Logits of hidden rows, `[…, vocab]`. They take 4 bytes a row and token: ask for the rows that are needed.
    ///
    /// # Errors
    /// Rows of another width.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.output.forward(hidden)
    }

    /// ln p(token i + 1 | tokens 0 to i) for i from 0 to n − 2; the perplexity is e to the minus mean of them.
    ///
    /// # Errors
    /// Fewer than 2 tokens, and as [`Llama::hidden`].
    ///
    /// # Cost
    /// Logits of a few rows at a time; nothing of size n × vocab.
    pub fn log_likelihoods(&self, tokens: &[u32], attend: &dyn Attend) -> Result<Vec<f64>> {
        let Some((_, next)) = tokens.split_first().filter(|(_, next)| !next.is_empty()) else {
            return Err(Error::msg(format!("tokens: expected at least 2, got {}", tokens.len())));
        };
        let rows = next.len();
        let input = Tensor::new(&tokens[..rows], &Device::Cpu)?.unsqueeze(0)?;
        let hidden = self.hidden(&input, &mut self.cache(rows), attend)?.i(0)?;
        let next = Tensor::new(next, &Device::Cpu)?.unsqueeze(1)?;
        let mut logs = Vec::with_capacity(rows);
        for start in (0..rows).step_by(BLOCK) {
            let count = BLOCK.min(rows - start);
            let logits = self.logits(&hidden.narrow(0, start, count)?)?;
            let taken = logits.gather(&next.narrow(0, start, count)?, 1)?.squeeze(1)?;
            let block: Vec<f32> = (taken - logits.log_sum_exp(D::Minus1)?)?.to_vec1()?;
            logs.extend(block.into_iter().map(f64::from));
        }
        Ok(logs)
    }

    /// At most `most` tokens after a prompt, the likeliest each time: the prompt by `prefill`, the others exactly. `stop`
    /// ends it and is not among them.
    ///
    /// # Errors
    /// As [`Llama::hidden`] of the prompt. Where the context is full, the text ends.
    pub fn generate(&self, prompt: &[u32], most: usize, stop: Option<u32>, prefill: &dyn Attend) -> Result<Vec<u32>> {
        let exact = ScatterbrainAttention::exact();
        let mut cache = self.cache(prompt.len().saturating_add(most).min(self.config.context));
        let mut hidden = self.hidden(&Tensor::new(prompt, &Device::Cpu)?.unsqueeze(0)?, &mut cache, prefill)?;
        let mut text = Vec::new();
        while text.len() < most {
            let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?;
            let token = self.logits(&last)?.flatten_all()?.argmax(0)?.to_scalar()?;
            if Some(token) == stop {
                break;
            }
            text.push(token);
            if text.len() == most || cache.len() == self.config.context {
                break;
            }
            hidden = self.hidden(&Tensor::new(&[[token]], &Device::Cpu)?, &mut cache, &exact)?;
        }
        Ok(text)
    }
}

/// θ^(−2i/d) / divisor_i.
fn frequencies(config: &Config, divisors: &[f32]) -> Vec<f64> {
    let half = config.head_dim / 2;
    let frequency = |i: usize| config.rope_theta.powf(-(i as f64) / half as f64) / f64::from(divisors[i]);
    (0..half).map(frequency).collect()
}

/// Cosines and sines of position · frequency, `[n, head_dim / 2]` each, for the positions from `start` on. A table of the
/// whole context would have the size that a file's header asks for.
fn rotation(frequencies: &[f64], start: usize, n: usize) -> Result<(Tensor, Tensor)> {
    let table = |f: fn(f64) -> f64| {
        let angles = (start..start + n).flat_map(|position| frequencies.iter().map(move |w| position as f64 * w));
        Tensor::from_vec(angles.map(|angle| f(angle) as f32).collect(), (n, frequencies.len()), &Device::Cpu)
    };
    Ok((table(f64::cos)?, table(f64::sin)?))
}

#[derive(Debug, Clone)]
struct Layer {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    end_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Layer {
    fn load<R: Read + Seek>(config: &Config, tensors: &mut gguf::Tensors<'_, R>, layer: usize) -> Result<Self> {
        let &Config { hidden, wide, heads, kv_heads, head_dim, rms_eps, .. } = config;
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let mut linear =
            |part, rows, cols| -> Result<Linear> { Ok(Linear::new(tensors.get(&name(part), &[rows, cols])?, None)) };
        let value = linear("attn_v", kv_heads * head_dim, hidden)?;
        let output = linear("attn_output", hidden, heads * head_dim)?;
        let gate = linear("ffn_gate", wide, hidden)?;
        let up = linear("ffn_up", wide, hidden)?;
        let down = linear("ffn_down", hidden, wide)?;
        let query = tensors.get(&name("attn_q"), &[heads * head_dim, hidden])?;
        let key = tensors.get(&name("attn_k"), &[kv_heads * head_dim, hidden])?;
        let mut norm = |part| -> Result<RmsNorm> { Ok(RmsNorm::new(tensors.get(&name(part), &[hidden])?, rms_eps)) };
        Ok(Self {
            heads,
            kv_heads,
            head_dim,
            norm: norm("attn_norm")?,
            query: Linear::new(gguf::halves_from_pairs(&query, head_dim)?, None),
            key: Linear::new(gguf::halves_from_pairs(&key, head_dim)?, None),
            value,
            output,
            end_norm: norm("ffn_norm")?,
            gate,
            up,
            down,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        (cos, sin): &(Tensor, Tensor),
        cache: &mut KvCache,
        site: Site,
        attend: &dyn Attend,
    ) -> Result<Tensor> {
        let (batch, n, _) = x.dims3()?;
        let normed = self.norm.forward(x)?;
        let rows = |linear: &Linear, heads| linear.forward(&normed)?.reshape((batch, n, heads, self.head_dim));
        let query = rope_thd(&rows(&self.query, self.heads)?, cos, sin)?.transpose(1, 2)?;
        let key = rope_thd(&rows(&self.key, self.kv_heads)?, cos, sin)?;
        let (key, value) = cache.append(&key, &rows(&self.value, self.kv_heads)?)?;
        let inputs = Inputs {
            query: &query,
            key: &key.transpose(1, 2)?,
            value: &value.transpose(1, 2)?,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
            causal: true,
            key_lengths: None,
        };
        let attended = attend.attend(site, &inputs)?.transpose(1, 2)?.flatten_from(2)?;
        let x = (self.output.forward(&attended)? + x)?;
        let normed = self.end_norm.forward(&x)?;
        let wide = (self.gate.forward(&normed)?.silu()? * self.up.forward(&normed)?)?;
        self.down.forward(&wide)? + x
    }
}
