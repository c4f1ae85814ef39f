//! Spoken prompts to text by Whisper tiny.en.

use super::metrics::word_error::{item, rate, words};
use super::options::ModelOptions;
use super::places;
use super::task::{Measure, Measured, Part, Task, Unit};
use anyhow::{Context, Result, ensure};
use scatterbrain_candle::Attend;
use scatterbrain_candle::whisper::Transcriber;
use scatterbrain_candle::whisper::audio::read_wav;
use std::path::{Path, PathBuf};

/// Words of a transcript at least: on a single word whisper hears much that nobody would call an error of attention.
const WORDS: usize = 4;

/// Sounds with what is said in them.
pub(crate) struct WordErrors {
    transcriber: Transcriber,
    prompts: Vec<(PathBuf, String)>,
}

impl WordErrors {
    /// The model; Asterisk's prompts and PocketSphinx's readings that have a transcript of four words or more.
    ///
    /// # Errors
    /// Files that are missing or not what they should be.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let folder = places::data(options, "sounds")?;
        let mut prompts = readings(&folder.join("pocketsphinx"))?;
        prompts.extend(asterisk(&folder.join("asterisk"))?);
        prompts.retain(|(path, said)| path.is_file() && words(said).len() >= WORDS);
        ensure!(!prompts.is_empty(), "{}: no sounds with transcripts", folder.display());
        Ok(Self { transcriber: Transcriber::open(places::weights(options, "whisper-tiny")?)?, prompts })
    }
}

impl Task for WordErrors {
    fn inputs(&self, part: Part) -> usize {
        if part == Part::Test { self.prompts.len() } else { 0 }
    }

    fn run(&self, _: Part, input: usize, attend: &dyn Attend, _: Option<&[f32]>) -> Result<Measured> {
        let (path, said) = &self.prompts[input];
        let samples = read_wav(path)?;
        let heard = self.transcriber.transcribe(&samples, attend)?.text;
        let length = self.transcriber.model().config().audio_positions;
        Ok(Measured { items: vec![item(said, &heard)], output: Vec::new(), length })
    }

    fn measures(&self) -> &'static [Measure] {
        const MEASURES: &[Measure] = &[Measure { name: "word error rate", unit: Unit::Percent, of: rate }];
        MEASURES
    }

    fn describe(&self) -> String {
        "Whisper tiny.en, spoken prompts (attention of the encoder)".into()
    }

    fn share(&self) -> f64 {
        0.1
    }
}

/// `NAME: what is said` a line; what is in brackets is no speech.
fn asterisk(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let path = folder.join("core-sounds-en.txt");
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = |line: &str| {
        let (name, said) = line.split_once(": ")?;
        let speech = !line.starts_with(';') && !said.contains('[');
        speech.then(|| (folder.join(format!("{name}.wav")), said.to_owned()))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// `WHAT IS SAID (NAME)` a line.
fn readings(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let folder = folder.join("librivox");
    let path = folder.join("transcription");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let line = |line: &str| {
        let (said, name) = line.trim().strip_suffix(')')?.rsplit_once('(')?;
        let said = said.replace("<s>", " ").replace("</s>", " ");
        Some((folder.join(format!("{name}.wav")), said))
    };
    Ok(text.lines().filter_map(line).collect())
}
