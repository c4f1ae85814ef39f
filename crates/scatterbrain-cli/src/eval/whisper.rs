//! Spoken prompts to text by Whisper tiny.en.

use super::metrics::word_error::{item, rate, words};
use super::options::ModelOptions;
use super::places::{self, has_ending};
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
    /// The model; Asterisk's prompts and PocketSphinx's readings that have a transcript of four words or more, or every
    /// `NAME.wav` of a folder of the user that has what is said in `NAME.txt` beside it.
    ///
    /// # Errors
    /// Files that are missing or not what they should be.
    pub(crate) fn load(options: &ModelOptions) -> Result<Self> {
        let folder = places::data(options, "sounds")?;
        let prompts = if folder.join("asterisk").is_dir() {
            let mut prompts = readings(&folder.join("pocketsphinx"))?;
            prompts.extend(asterisk(&folder.join("asterisk"))?);
            prompts.retain(|(path, said)| path.is_file() && words(said).len() >= WORDS);
            prompts
        } else {
            side_by_side(&folder)?
        };
        ensure!(
            !prompts.is_empty(),
            "{}: expected NAME.wav with what is said in NAME.txt, found none",
            folder.display()
        );
        Ok(Self { transcriber: transcriber(options)?, prompts })
    }
}

/// The model of the command line, or of the cache.
///
/// # Errors
/// Files that are missing or not what they should be.
pub(crate) fn transcriber(options: &ModelOptions) -> Result<Transcriber> {
    Ok(Transcriber::open(places::weights_folder(options, "whisper-tiny", "model.bin")?)?)
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

/// `NAME.wav` with what is said in `NAME.txt`, in the order of their names.
fn side_by_side(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut sounds = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    sounds.retain(|path| has_ending(path, &["wav"]) && path.with_extension("txt").is_file());
    sounds.sort();
    let with_text = |sound: PathBuf| {
        let text = sound.with_extension("txt");
        let said = std::fs::read_to_string(&text).with_context(|| text.display().to_string())?;
        ensure!(!words(&said).is_empty(), "{}: expected words, got none", text.display());
        Ok((sound, said))
    };
    sounds.into_iter().map(with_text).collect()
}
