//! Similarity of short sentences: what must not change.

use super::{Encoder, largest_difference};
use crate::eval::metrics::Item;
use crate::eval::metrics::cosine::cosine;
use crate::eval::metrics::spearman::spearman;
use crate::eval::options::ModelOptions;
use crate::eval::places;
use crate::eval::task::{Measure, Measured, Part, Task, Unit};
use anyhow::{Context, Result};
use scatterbrain_candle::Attend;

/// Pairs of sentences and how alike people find them.
pub(crate) struct Stsb {
    encoder: Encoder,
    pairs: Vec<(String, String, f64)>,
}

impl Stsb {
    /// The model and `stsb-en-test.csv`.
    ///
    /// # Errors
    /// Files that are missing or not what they should be.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let path = places::data_file(options, "stsb", "stsb-en-test.csv")?;
        let name = || path.display().to_string();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(&path).with_context(name)?;
        let pairs = reader.deserialize().collect::<Result<_, _>>().with_context(name)?;
        Ok(Self { encoder: Encoder::load(options)?, pairs })
    }
}

impl Task for Stsb {
    fn inputs(&self, part: Part) -> usize {
        if part == Part::Test { self.pairs.len() } else { 0 }
    }

    fn run(&self, _: Part, input: usize, attend: &dyn Attend, exact: Option<&[f32]>) -> Result<Measured> {
        let (first, second, likeness) = &self.pairs[input];
        let (mut output, length) = self.encoder.embed(first, attend)?;
        let (other, other_length) = self.encoder.embed(second, attend)?;
        let found = cosine(&output, &other);
        output.extend(other);
        let difference = exact.map_or(0.0, |exact| largest_difference(exact, &output));
        Ok(Measured { items: vec![vec![found, *likeness, difference]], output, length: length.max(other_length) })
    }

    fn measures(&self) -> &'static [Measure] {
        const MEASURES: &[Measure] = &[
            Measure { name: "Spearman", unit: Unit::Number, of: correlation },
            Measure { name: "largest change", unit: Unit::Number, of: |items| super::largest(items, 2) },
        ];
        MEASURES
    }

    fn describe(&self) -> String {
        "MiniLM, similarity of the STS benchmark's sentences".into()
    }

    fn is_short(&self) -> bool {
        true
    }

    fn share(&self) -> f64 {
        1.0
    }
}

fn correlation(items: &[&Item]) -> f64 {
    let column = |c: usize| items.iter().map(|item| item[c]).collect::<Vec<_>>();
    spearman(&column(0), &column(1))
}
