//! Text after an approximate prefill: the prompt by the method, each further token exactly, from the same cache.

use super::Decoder;
use crate::eval::metrics::mean;
use crate::eval::options::ModelOptions;
use crate::eval::task::{Measure, Measured, Part, Task, Unit};
use anyhow::{Result, ensure};
use scatterbrain_candle::{Attend, Site, Stack};

/// Tokens that follow a prompt.
const TOKENS: usize = 64;

/// Prompts from the test articles of WikiText, or from a text of the user.
pub(crate) struct Generate {
    decoder: Decoder,
    prompts: Vec<Vec<u32>>,
}

impl Generate {
    /// The model and the text.
    ///
    /// # Errors
    /// Files that are missing or not what they should be; a length that leaves no room in the context.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let decoder = Decoder::load(options)?;
        let (length, context) = (decoder.length, decoder.llama.config().context);
        ensure!(length + TOKENS <= context, "length: expected at most {} tokens, got {length}", context - TOKENS);
        let prompts = decoder.pieces(options)?;
        Ok(Self { decoder, prompts })
    }
}

impl Task for Generate {
    fn inputs(&self, part: Part) -> usize {
        if part == Part::Test { self.prompts.len() } else { 0 }
    }

    fn run(&self, _: Part, input: usize, attend: &dyn Attend, exact: Option<&[f32]>) -> Result<Measured> {
        let prompt = &self.prompts[input];
        let tokens = self.decoder.llama.generate(prompt, TOKENS, None, attend)?;
        // Token numbers are far below 2²⁴: f32 holds them exactly.
        let output: Vec<f32> = tokens.iter().map(|&token| token as f32).collect();
        let exact = exact.unwrap_or(&output);
        let equal = exact.iter().zip(&output).filter(|(a, b)| a == b).count();
        let alike = exact.iter().zip(&output).take_while(|(a, b)| a == b).count();
        let items = vec![vec![equal as f64 / exact.len() as f64, alike as f64]];
        Ok(Measured { items, output, length: prompt.len() })
    }

    fn measures(&self) -> &'static [Measure] {
        const MEASURES: &[Measure] = &[
            Measure { name: "equal tokens", unit: Unit::Percent, of: |items| mean(items, 0) },
            Measure { name: "first different", unit: Unit::Number, of: |items| mean(items, 1) },
        ];
        MEASURES
    }

    fn stands_at(&self) -> fn(Site) -> bool {
        |site| site.stack == Stack::Decoder
    }

    fn describe(&self) -> String {
        format!("SmolLM2, {TOKENS} tokens after a prompt of {} (exact attention after the prompt)", self.decoder.length)
    }

    fn share(&self) -> f64 {
        0.05
    }
}
