//! BERT encoders (Devlin et al. 2019) by the names of published checkpoints, and sentence embeddings of them.
//!
//! ```text
//! x = norm(word + position + type)
//! for each layer:
//!     x = norm(x + output(attention(x)))
//!     x = norm(x + down(act(up(x))))
//! ```

use crate::{Attend, Inputs, Site, Stack, weights};
use candle_core::{D, Error, IndexOp, Module, Result, Tensor};
use candle_nn::{Activation, Embedding, LayerNorm, Linear, VarBuilder, embedding, layer_norm, linear};
use serde::Deserialize;
use std::path::Path;

/// What `config.json` of a checkpoint says, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Config {
    /// Tokens.
    pub vocab_size: usize,
    /// Columns of a hidden row.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of a layer; a divisor of `hidden_size`.
    pub num_attention_heads: usize,
    /// Columns between the two products of a layer's end.
    pub intermediate_size: usize,
    /// Between them.
    pub hidden_act: Activation,
    /// Tokens that an input may have.
    pub max_position_embeddings: usize,
    /// Kinds of segments; inputs here are of the first.
    pub type_vocab_size: usize,
    /// ε of layer norms.
    pub layer_norm_eps: f64,
    /// How positions are told.
    #[serde(default)]
    pub position_embedding_type: PositionEmbedding,
}

/// How a checkpoint tells positions: learnt rows that are added, and nothing else is read here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionEmbedding {
    /// A row for each position.
    #[default]
    Absolute,
}

impl Config {
    /// Of a `config.json`.
    ///
    /// # Errors
    /// A file that cannot be read, a field that is missing or of another kind.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::from(error).with_path(path))?;
        serde_json::from_str(&text).map_err(|error| Error::wrap(error).with_path(path))
    }
}

/// An encoder.
///
/// ```no_run
/// use candle_core::{Device, Tensor};
/// use scatterbrain_candle::{ScatterbrainAttention, bert::Bert};
/// # fn main() -> candle_core::Result<()> {
/// let bert = Bert::from_directory("all-MiniLM-L6-v2".as_ref())?; // config.json and model.safetensors
/// let tokens = Tensor::new(&[[101u32, 7592, 102, 0], [101, 7592, 2088, 102]], &Device::Cpu)?;
/// let embeddings = bert.embed(&tokens, &[3, 4], &ScatterbrainAttention::exact())?; // [2, 384], of length 1
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Bert {
    config: Config,
    words: Embedding,
    /// Rows of positions plus the row of the first kind of segments, `[max_position_embeddings, hidden]`.
    places: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

impl Bert {
    /// A checkpoint by the names of `transformers`, with or without `bert.` before them.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape or of a layer beyond the last, by its name; heads that do not divide the
    /// columns.
    pub fn load(config: Config, names: VarBuilder<'_>) -> Result<Self> {
        let Config { hidden_size: hidden, layer_norm_eps: eps, num_attention_heads: heads, .. } = config;
        if heads == 0 || hidden % heads != 0 {
            let text = format!("num_attention_heads: expected a divisor of {hidden} columns, got {heads}");
            return Err(Error::msg(text));
        }
        let inner = names.pp("bert");
        let names = if inner.contains_tensor("embeddings.word_embeddings.weight") { inner } else { names };
        let rows = names.pp("embeddings");
        let words = embedding(config.vocab_size, hidden, rows.pp("word_embeddings"))?;
        let positions = rows.pp("position_embeddings").get((config.max_position_embeddings, hidden), "weight")?;
        let kinds = rows.pp("token_type_embeddings").get((config.type_vocab_size, hidden), "weight")?;
        let places = positions.broadcast_add(&kinds.i(0)?)?;
        let norm = layer_norm(hidden, eps, rows.pp("LayerNorm"))?;
        weights::check_last_layer(&names, config.num_hidden_layers, |i| {
            format!("encoder.layer.{i}.attention.self.query.weight")
        })?;
        let layers = (0..config.num_hidden_layers).map(|i| Layer::load(&config, names.pp("encoder.layer").pp(i)));
        let layers = layers.collect::<Result<_>>()?;
        Ok(Self { config, words, places, norm, layers })
    }

    /// `config.json` and `model.safetensors` of a directory.
    ///
    /// # Errors
    /// As [`Bert::load`], and files that cannot be read.
    pub fn from_directory(path: &Path) -> Result<Self> {
        let config = Config::read(&path.join("config.json"))?;
        let file = path.join("model.safetensors");
        Self::load(config, weights::safetensors(&file)?).map_err(|error| error.with_path(file))
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it attends: `encoder.0` and so on.
    pub fn sites(&self) -> Vec<Site> {
        (0..self.layers.len()).map(|layer| Site { stack: Stack::Encoder, layer }).collect()
    }

    /// Hidden rows of the last layer, `[batch, n, hidden]`, for `tokens` `[batch, n]` (u32) of which `lengths[b]` count.
    /// Rows of padding mean nothing.
    ///
    /// Where lengths differ, attention is asked for one batch entry at a time, without its padding: so a window or a hash
    /// of queries finds what it would find if the entry came alone.
    ///
    /// # Errors
    /// More tokens than positions, a token beyond the vocabulary, lengths that are not 1 to n, and what `attend` refuses.
    pub fn forward(&self, tokens: &Tensor, lengths: &[usize], attend: &dyn Attend) -> Result<Tensor> {
        let (batch, n) = tokens.dims2()?;
        let most = self.config.max_position_embeddings;
        if n > most {
            return Err(Error::msg(format!("tokens: expected at most {most} a text, got {n}")));
        }
        if lengths.len() != batch || lengths.iter().any(|&length| length == 0 || length > n) {
            return Err(Error::msg(format!("lengths: expected {batch} numbers from 1 to {n}, got {lengths:?}")));
        }
        let places = self.places.narrow(0, 0, n)?;
        let mut hidden = norm(&self.norm, &self.words.forward(tokens)?.broadcast_add(&places)?)?;
        for (site, layer) in self.sites().into_iter().zip(&self.layers) {
            hidden = layer.forward(&hidden, lengths, site, attend)?;
        }
        Ok(hidden)
    }

    /// Sentence embeddings `[batch, hidden]` as sentence-transformers makes them: the mean of the hidden rows that count,
    /// of length 1. Arguments and errors as of [`Bert::forward`].
    ///
    /// # Errors
    /// As there.
    pub fn embed(&self, tokens: &Tensor, lengths: &[usize], attend: &dyn Attend) -> Result<Tensor> {
        let hidden = self.forward(tokens, lengths, attend)?;
        let mean = |(b, &length): (usize, &usize)| hidden.i((b, ..length))?.mean(0);
        let means = Tensor::stack(&lengths.iter().enumerate().map(mean).collect::<Result<Vec<_>>>()?, 0)?;
        means.broadcast_div(&means.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
    }
}

#[derive(Debug, Clone)]
struct Layer {
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    act: Activation,
    down: Linear,
    norm: LayerNorm,
}

impl Layer {
    fn load(config: &Config, weights: VarBuilder<'_>) -> Result<Self> {
        let &Config { hidden_size: hidden, intermediate_size: wide, layer_norm_eps: eps, .. } = config;
        let attention = weights.pp("attention");
        Ok(Self {
            heads: config.num_attention_heads,
            query: linear(hidden, hidden, attention.pp("self.query"))?,
            key: linear(hidden, hidden, attention.pp("self.key"))?,
            value: linear(hidden, hidden, attention.pp("self.value"))?,
            output: linear(hidden, hidden, attention.pp("output.dense"))?,
            attention_norm: layer_norm(hidden, eps, attention.pp("output.LayerNorm"))?,
            up: linear(hidden, wide, weights.pp("intermediate.dense"))?,
            act: config.hidden_act,
            down: linear(wide, hidden, weights.pp("output.dense"))?,
            norm: layer_norm(hidden, eps, weights.pp("output.LayerNorm"))?,
        })
    }

    fn forward(&self, x: &Tensor, lengths: &[usize], site: Site, attend: &dyn Attend) -> Result<Tensor> {
        let (batch, n, hidden) = x.dims3()?;
        let heads =
            |linear: &Linear| linear.forward(x)?.reshape((batch, n, self.heads, hidden / self.heads))?.transpose(1, 2);
        let rows = [heads(&self.query)?, heads(&self.key)?, heads(&self.value)?];
        let attended = entries(&rows, lengths, site, attend)?.transpose(1, 2)?.reshape((batch, n, hidden))?;
        let x = norm(&self.attention_norm, &(self.output.forward(&attended)? + x)?)?;
        let wide = self.act.forward(&self.up.forward(&x)?)?;
        norm(&self.norm, &(self.down.forward(&wide)? + x)?)
    }
}

/// A layer norm that a gradient passes, up to the attention, which refuses it: candle's fused one would lose it silently.
fn norm(norm: &LayerNorm, x: &Tensor) -> Result<Tensor> {
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (x.sqr()?.mean_keepdim(D::Minus1)? + norm.eps())?.sqrt()?;
    let x = x.broadcast_div(&deviation)?.broadcast_mul(norm.weight())?;
    norm.bias().map_or(Ok(x.clone()), |bias| x.broadcast_add(bias))
}

/// Attention without padding; rows of padding are zero.
fn entries(rows: &[Tensor; 3], lengths: &[usize], site: Site, attend: &dyn Attend) -> Result<Tensor> {
    let (_, _, n, d) = rows[0].dims4()?;
    let call = |[query, key, value]: &[Tensor; 3]| {
        let scale = 1.0 / (d as f32).sqrt();
        attend.attend(site, &Inputs { query, key, value, scale, causal: false, key_lengths: None })
    };
    if lengths.iter().all(|&length| length == n) {
        return call(rows);
    }
    let one = |(b, &length): (usize, &usize)| {
        let [query, key, value] = rows.each_ref().map(|x| x.narrow(0, b, 1)?.narrow(2, 0, length));
        call(&[query?, key?, value?])?.pad_with_zeros(2, 0, n - length)
    };
    Tensor::cat(&lengths.iter().enumerate().map(one).collect::<Result<Vec<_>>>()?, 0)
}
