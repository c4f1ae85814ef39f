//! Perplexity of the test articles of WikiText-2, or of a text of the user.

use super::{Decoder, text_name};
use crate::eval::metrics::perplexity::{items, perplexity};
use crate::eval::options::ModelOptions;
use crate::eval::task::{Measure, Measured, Part, Task, Unit};
use anyhow::Result;
use scatterbrain_candle::{Attend, Site, Stack};

/// Pieces of as many tokens, each by itself.
pub(crate) struct Wikitext {
    decoder: Decoder,
    pieces: Vec<Vec<u32>>,
    text: String,
}

impl Wikitext {
    /// The model and the text.
    ///
    /// # Errors
    /// Files that are missing or not what they should be.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let decoder = Decoder::load(options)?;
        let pieces = decoder.pieces(options)?;
        Ok(Self { decoder, pieces, text: text_name(options) })
    }
}

impl Task for Wikitext {
    fn inputs(&self, part: Part) -> usize {
        if part == Part::Test { self.pieces.len() } else { 0 }
    }

    fn run(&self, _: Part, input: usize, attend: &dyn Attend, _: Option<&[f32]>) -> Result<Measured> {
        let tokens = &self.pieces[input];
        let losses: Vec<f64> = self.decoder.llama.log_likelihoods(tokens, attend)?.iter().map(|log| -log).collect();
        Ok(Measured { items: items(&losses), output: Vec::new(), length: tokens.len() })
    }

    fn measures(&self) -> &'static [Measure] {
        const MEASURES: &[Measure] = &[Measure { name: "perplexity", unit: Unit::Number, of: perplexity }];
        MEASURES
    }

    fn stands_at(&self) -> fn(Site) -> bool {
        |site| site.stack == Stack::Decoder
    }

    fn describe(&self) -> String {
        format!("SmolLM2, perplexity of {} in pieces of {} tokens", self.text, self.decoder.length)
    }

    fn share(&self) -> f64 {
        0.05
    }
}
