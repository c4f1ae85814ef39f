//! Sentiment of long film reviews, by a linear probe on embeddings.

use super::Encoder;
use crate::eval::metrics::cosine::cosine;
use crate::eval::metrics::logistic::Probe;
use crate::eval::metrics::mean;
use crate::eval::options::ModelOptions;
use crate::eval::places;
use crate::eval::task::{Measure, Measured, Part, Task, Unit};
use anyhow::{Context, Result, ensure};
use scatterbrain_candle::Attend;
use std::fs;
use std::path::Path;

/// Tokens of the reviews that are taken from the whole data set.
const LONG: std::ops::RangeInclusive<usize> = 300..=512;
/// Reviews of each class that are.
const EACH: usize = 500;

/// The probe is trained once, on embeddings by exact attention, and judges those of every method: attention is swapped in
/// a model that is in use.
pub(crate) struct Imdb {
    encoder: Encoder,
    train: Vec<Review>,
    test: Vec<Review>,
    probe: Option<Probe>,
}

struct Review {
    positive: bool,
    text: String,
}

impl Imdb {
    /// The model and the reviews, `imdb-long-train.tsv` and `-test.tsv`, or the original folders `train/pos` and so on.
    ///
    /// # Errors
    /// Files that are missing or not what they should be.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let encoder = Encoder::load(options)?;
        let folder = places::data(options, "imdb")?;
        let [train, test] = ["train", "test"].map(|part| {
            let cut = folder.join(format!("imdb-long-{part}.tsv"));
            if cut.is_file() { read_tsv(&cut) } else { read_folders(&folder.join(part), &encoder) }
        });
        Ok(Self { encoder, train: train?, test: test?, probe: None })
    }

    fn reviews(&self, part: Part) -> &[Review] {
        match part {
            Part::Train => &self.train,
            Part::Test => &self.test,
        }
    }
}

impl Task for Imdb {
    fn inputs(&self, part: Part) -> usize {
        self.reviews(part).len()
    }

    fn run(&self, part: Part, input: usize, attend: &dyn Attend, exact: Option<&[f32]>) -> Result<Measured> {
        let review = &self.reviews(part)[input];
        let (output, length) = self.encoder.embed(&review.text, attend)?;
        let right = self.probe.as_ref().map(|probe| probe.is_positive(&output) == review.positive);
        let alike = exact.map_or(1.0, |exact| cosine(exact, &output));
        let items = right.map(|right| vec![f64::from(u8::from(right)), alike]).into_iter().collect();
        Ok(Measured { items, output, length })
    }

    fn train(&mut self, outputs: &[Vec<f32>]) -> Result<()> {
        let positive: Vec<bool> = self.train.iter().take(outputs.len()).map(|review| review.positive).collect();
        self.probe = Some(Probe::fit(outputs, &positive)?);
        Ok(())
    }

    fn measures(&self) -> &'static [Measure] {
        const MEASURES: &[Measure] = &[
            Measure { name: "accuracy", unit: Unit::Percent, of: |items| mean(items, 0) },
            Measure { name: "cosine", unit: Unit::Number, of: |items| mean(items, 1) },
        ];
        MEASURES
    }

    fn describe(&self) -> String {
        "MiniLM, sentiment of long IMDb reviews by a linear probe on embeddings".into()
    }

    fn share(&self) -> f64 {
        0.125
    }
}

/// Lines of a label, a tab and a text.
fn read_tsv(path: &Path) -> Result<Vec<Review>> {
    let name = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(name)?;
    let review = |line: &str| match line.split_once('\t') {
        Some((label @ ("0" | "1"), text)) => Some(Review { positive: label == "1", text: text.to_owned() }),
        _ => None,
    };
    let reviews: Option<Vec<Review>> = text.lines().map(review).collect();
    reviews.with_context(|| format!("{}: expected lines of 0 or 1, a tab and a text", name()))
}

/// The first long reviews of each class, in the order of their names, classes in turn.
fn read_folders(folder: &Path, encoder: &Encoder) -> Result<Vec<Review>> {
    let [positive, negative] = ["pos", "neg"].map(|class| -> Result<Vec<String>> {
        let folder = folder.join(class);
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        let mut taken = Vec::new();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "txt")) {
            let text = fs::read_to_string(path)?.replace("<br />", " ");
            // The tokenizer cuts what is longer, so its limit is what a review must stay under.
            let tokens = encoder.tokens(&text)?;
            if LONG.contains(&tokens) && tokens < *LONG.end() {
                taken.push(text);
            }
            if taken.len() == EACH {
                break;
            }
        }
        ensure!(!taken.is_empty(), "{}: no review of {LONG:?} tokens", folder.display());
        Ok(taken)
    });
    let class = |positive| move |text| Review { positive, text };
    let pairs = positive?.into_iter().map(class(true)).zip(negative?.into_iter().map(class(false)));
    Ok(pairs.flat_map(|(positive, negative)| [negative, positive]).collect())
}
