//! Sentence embeddings by all-MiniLM-L6-v2, or a BERT of the same form.

pub(crate) mod imdb;
pub(crate) mod sst2;
pub(crate) mod stsb;

use super::metrics::Item;
use super::options::ModelOptions;
use super::places;
use anyhow::Result;
use candle_core::{Device, Tensor};
use scatterbrain_candle::Attend;
use scatterbrain_candle::bert::Bert;
use scatterbrain_candle::tokenizer::Tokenizer;

/// A model with its tokens.
pub(crate) struct Encoder {
    bert: Bert,
    tokenizer: Tokenizer,
}

impl Encoder {
    /// From the folder of the command line, or the cache.
    ///
    /// # Errors
    /// Files that are missing or not what they should be.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let folder = places::weights_folder(options, "minilm", "model.safetensors")?;
        let bert = Bert::from_directory(&folder)?;
        let most = options.length.unwrap_or(usize::MAX).min(bert.config().max_position_embeddings);
        let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json"))?.limited(most)?;
        Ok(Self { bert, tokenizer })
    }

    /// The embedding of a text, of length 1, and its tokens; what is too long is cut off.
    ///
    /// # Errors
    /// What the model refuses.
    pub(crate) fn embed(&self, text: &str, attend: &dyn Attend) -> Result<(Vec<f32>, usize)> {
        let tokens = self.tokenizer.encode(text, true)?;
        let count = tokens.len();
        let tokens = Tensor::from_vec(tokens, (1, count), &Device::Cpu)?;
        Ok((self.bert.embed(&tokens, &[count], attend)?.flatten_all()?.to_vec1()?, count))
    }

    /// Tokens of a text, all of them.
    ///
    /// # Errors
    /// What the vocabulary cannot express.
    pub(crate) fn tokens(&self, text: &str) -> Result<usize> {
        Ok(self.tokenizer.encode(text, true)?.len())
    }
}

/// Largest difference of two embeddings' entries; NaN where one is.
pub(crate) fn largest_difference(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from((x - y).abs())).fold(0.0, larger)
}

/// The larger of two; NaN where one is, which `f64::max` would drop.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a >= b { a } else { b }
}

/// Largest entry of a column of the items.
fn largest(items: &[&Item], column: usize) -> f64 {
    items.iter().map(|item| item[column]).fold(0.0, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_a_change() {
        assert_eq!(largest_difference(&[1.0, 2.0, 3.0], &[1.0, 1.5, 3.25]), 0.5);
        assert!(largest_difference(&[1.0, f32::NAN, 3.0], &[1.0, 2.0, 9.0]).is_nan());
        let items = [vec![1.0], vec![f64::NAN], vec![2.0]];
        assert!(largest(&items.iter().collect::<Vec<_>>(), 0).is_nan());
    }
}
