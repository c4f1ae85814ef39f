//! Embeddings of short sentences of film reviews: what must not change.

use super::{Encoder, largest_difference};
use crate::eval::metrics::cosine::cosine;
use crate::eval::metrics::mean;
use crate::eval::options::ModelOptions;
use crate::eval::places;
use crate::eval::task::{Measure, Measured, Part, Task, Unit};
use anyhow::{Context, Result, ensure};
use scatterbrain_candle::Attend;

/// Sentences.
pub(crate) struct Sst2 {
    encoder: Encoder,
    sentences: Vec<String>,
}

impl Sst2 {
    /// The model and `sst2-test.tsv`, a sentence, a tab and a label a line.
    ///
    /// # Errors
    /// Files that are missing or not what they should be.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let path = places::data_file(options, "sst2", "sst2-test.tsv")?;
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let sentence = |line: &str| line.rsplit_once('\t').map_or(line, |(sentence, _)| sentence).to_owned();
        let sentences: Vec<String> = text.lines().map(sentence).collect();
        ensure!(!sentences.is_empty(), "{}: no sentences", path.display());
        Ok(Self { encoder: Encoder::load(options)?, sentences })
    }
}

impl Task for Sst2 {
    fn inputs(&self, part: Part) -> usize {
        if part == Part::Test { self.sentences.len() } else { 0 }
    }

    fn run(&self, _: Part, input: usize, attend: &dyn Attend, exact: Option<&[f32]>) -> Result<Measured> {
        let (output, length) = self.encoder.embed(&self.sentences[input], attend)?;
        let alike = exact.map_or(1.0, |exact| cosine(exact, &output));
        let difference = exact.map_or(0.0, |exact| largest_difference(exact, &output));
        Ok(Measured { items: vec![vec![alike, difference]], output, length })
    }

    fn measures(&self) -> &'static [Measure] {
        const MEASURES: &[Measure] = &[
            Measure { name: "cosine", unit: Unit::Number, of: |items| mean(items, 0) },
            Measure { name: "largest change", unit: Unit::Number, of: |items| super::largest(items, 1) },
        ];
        MEASURES
    }

    fn describe(&self) -> String {
        "MiniLM, embeddings of short sentences (SST-2)".into()
    }

    fn is_short(&self) -> bool {
        true
    }

    fn share(&self) -> f64 {
        1.0
    }
}
