//! What a model is judged by.

use super::metrics::Item;
use anyhow::Result;
use scatterbrain_candle::{Attend, Site, Stack};

/// A model with inputs, and figures of merit of what it makes of them.
pub(crate) trait Task: Send {
    /// Inputs of a part.
    fn inputs(&self, part: Part) -> usize;

    /// The model on one input, its attention by `attend`. `exact`: what came of the same input with exact attention.
    ///
    /// # Errors
    /// What the model refuses.
    fn run(&self, part: Part, input: usize, attend: &dyn Attend, exact: Option<&[f32]>) -> Result<Measured>;

    /// Takes what came of the inputs of [`Part::Train`], all with exact attention.
    ///
    /// # Errors
    /// Outputs that nothing can be learnt from.
    fn train(&mut self, outputs: &[Vec<f32>]) -> Result<()> {
        let _ = outputs;
        Ok(())
    }

    /// What is printed, the figure that counts most first.
    fn measures(&self) -> &'static [Measure];

    /// Whether methods stand in for the attention there; all other is exact.
    fn stands_at(&self) -> fn(Site) -> bool {
        |site| site.stack == Stack::Encoder
    }

    /// What is run, in a few words.
    fn describe(&self) -> String;

    /// Whether inputs are so short that exact attention is what a plan should come to.
    fn is_short(&self) -> bool {
        false
    }

    /// The share that the model is to keep its quality at.
    fn share(&self) -> f64;
}

/// Inputs of one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// To train a probe on, with exact attention.
    Train,
    /// To compare methods on.
    Test,
}

/// What came of one input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measured {
    /// What [`Measure::of`] takes, of this input or of its parts.
    pub(crate) items: Vec<Item>,
    /// What methods are compared with on the same input; kept of exact attention alone.
    pub(crate) output: Vec<f32>,
    /// Tokens.
    pub(crate) length: usize,
}

/// A figure of merit.
pub(crate) struct Measure {
    /// Its name.
    pub(crate) name: &'static str,
    /// How it is printed.
    pub(crate) unit: Unit,
    /// From the items of all inputs.
    pub(crate) of: fn(&[&Item]) -> f64,
}

/// How a figure is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// As it is.
    Number,
    /// In per cent; differences in points.
    Percent,
}
