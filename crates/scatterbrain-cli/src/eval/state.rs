//! What was measured so far, a line of JSON an input and method, so that a kill loses what was in work and nothing else.

use super::metrics::Item;
use super::task::Part;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

/// One input by one method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Whether a probe is trained on it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) train: bool,
    /// The input, from 0.
    pub(crate) input: usize,
    /// The method.
    pub(crate) method: String,
    /// What measures are computed from.
    pub(crate) items: Vec<Item>,
    /// Of exact attention: what methods are compared with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) output: Vec<f32>,
    /// What it took.
    pub(crate) costs: Costs,
}

/// What one input took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Costs {
    /// Tokens.
    pub(crate) length: usize,
    /// The whole model, planning left out.
    pub(crate) seconds: f64,
    /// Attention where methods stand.
    pub(crate) attention_seconds: f64,
    /// Plans that were made.
    pub(crate) planning_seconds: f64,
    /// As the library reports it, averaged over heads and layers.
    pub(crate) share: f64,
    /// The same of pairs that were scanned.
    pub(crate) scan_share: f64,
    /// Heads of all layers.
    pub(crate) heads: usize,
    /// Those that a plan left to exact attention.
    pub(crate) fallback_heads: usize,
    /// Heap that one call of attention took at most, output left out.
    pub(crate) extra_bytes: usize,
    /// Whether the choice of pairs saw later tokens.
    pub(crate) sees_future: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The file of records.
pub(crate) struct State {
    file: File,
    records: HashMap<(bool, usize, String), Record>,
}

impl State {
    /// Opens or begins a file. Its first line says what is measured; a last line that was cut off is dropped.
    ///
    /// # Errors
    /// A file of another measurement, or one that cannot be written.
    pub(crate) fn open(path: &Path, heading: &str) -> Result<Self> {
        let name = || path.display().to_string();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(name)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).with_context(name)?;
        let (mut records, mut whole, mut first) = (HashMap::new(), 0, None);
        let (mut reader, mut line) = (BufReader::new(&file), Vec::new());
        while reader.read_until(b'\n', &mut line).with_context(name)? > 0 && line.ends_with(b"\n") {
            let text = String::from_utf8_lossy(&line);
            if first.is_none() {
                first = Some(text.trim_end().to_owned());
            } else {
                // A line that is none is measured again.
                if let Ok(record) = serde_json::from_str::<Record>(&text) {
                    records.insert((record.train, record.input, record.method.clone()), record);
                }
            }
            whole += line.len() as u64;
            line.clear();
        }
        if let Some(first) = &first {
            ensure!(first == heading, "{}: expected measurements of {heading}, got {first}", path.display());
        }
        // What follows the last whole record was being written when a kill came.
        file.set_len(whole).with_context(name)?;
        if first.is_none() {
            writeln!(file, "{heading}").with_context(name)?;
        }
        Ok(Self { file, records })
    }

    /// What was measured before.
    pub(crate) fn get(&self, part: Part, input: usize, method: &str) -> Option<&Record> {
        self.records.get(&(part == Part::Train, input, method.to_owned()))
    }

    /// Keeps a record.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn add(&mut self, record: Record) -> Result<()> {
        let line = serde_json::to_string(&record)? + "\n";
        self.file.write_all(line.as_bytes())?;
        self.file.flush()?;
        self.records.insert((record.train, record.input, record.method.clone()), record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(input: usize) -> Record {
        let (method, items, output) = ("exact".into(), vec![vec![0.1, 2.0]], vec![1.5, f32::MIN_POSITIVE]);
        Record { train: false, input, method, items, output, costs: Costs::default() }
    }

    #[test]
    fn a_kill_loses_the_line_in_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("state.jsonl");
        let mut state = State::open(&path, "heading").unwrap();
        state.add(record(0)).unwrap();
        state.add(record(1)).unwrap();
        drop(state);
        let text = std::fs::read_to_string(&path).unwrap();
        // Cut at every byte of the second record.
        let second = text.trim_end().rfind('\n').unwrap() + 1;
        for cut in second..text.len() {
            std::fs::write(&path, &text[..cut]).unwrap();
            let mut state = State::open(&path, "heading").unwrap();
            assert_eq!(state.get(Part::Test, 0, "exact"), Some(&record(0)), "{cut}");
            assert_eq!(state.get(Part::Test, 1, "exact"), None, "{cut}");
            state.add(record(2)).unwrap();
            drop(state);
            let state = State::open(&path, "heading").unwrap();
            assert_eq!(state.get(Part::Test, 2, "exact"), Some(&record(2)), "{cut}");
            assert_eq!(state.get(Part::Train, 0, "exact"), None);
        }
        assert!(State::open(&path, "another").is_err());
    }
}
