//! The record of a run: `<machine>/<date><mode>.csv`, written row by row.

use super::row::Row;
use crate::machine::Machine;
use anyhow::{Context, Result};
use csv::{Writer, WriterBuilder};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Columns before those of [`Row`].
const MACHINE: [&str; 8] = ["date", "cpu", "cores", "simd", "rustc", "commit", "dirty", "torch"];
/// Columns of [`Row`].
const ROW: [&str; 20] = [
    "part",
    "method",
    "budget",
    "n",
    "heads",
    "causal",
    "threads",
    "repeats",
    "calls_per_sample",
    "median_seconds",
    "min_seconds",
    "max_seconds",
    "figure",
    "against",
    "against_median_seconds",
    "value",
    "value_of_pairs",
    "at_least",
    "at_most",
    "met",
];

/// An open record. Rows are on disk when [`Record::write`] returns.
pub(super) struct Record {
    machine: Machine,
    path: PathBuf,
    writer: Writer<File>,
    rows: Vec<Row>,
}

impl Record {
    /// A new record of today; one of the same day and mode is written over.
    pub(super) fn create(folder: &Path, machine: &Machine, mode: &str) -> Result<Self> {
        let folder = folder.join(machine.slug());
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("{}{mode}.csv", machine.date));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        // Two structs a row: the writer cannot name their columns itself.
        let mut writer = WriterBuilder::new().has_headers(false).from_writer(file);
        writer.write_record(MACHINE.iter().chain(&ROW))?;
        writer.flush()?;
        Ok(Self { machine: machine.clone(), path, writer, rows: Vec::new() })
    }

    pub(super) fn write(&mut self, rows: Vec<Row>) -> Result<()> {
        for row in &rows {
            self.writer.serialize((&self.machine, row))?;
        }
        self.writer.flush()?;
        self.rows.extend(rows);
        Ok(())
    }

    /// All rows so far.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn csv_path(&self) -> &Path {
        &self.path
    }

    pub(super) fn markdown_path(&self) -> PathBuf {
        self.path.with_extension("md")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::Figure;
    use crate::bench::targets::Target;
    use crate::workspace;

    fn read(path: &Path) -> Vec<Row> {
        let mut reader = csv::Reader::from_path(path).unwrap();
        let expected: Vec<&str> = MACHINE.iter().chain(&ROW).copied().collect();
        assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), expected);
        reader.deserialize().collect::<Result<_, _>>().unwrap()
    }

    fn rows() -> Vec<Row> {
        let timed = Row {
            part: "speed".into(),
            method: "exact".into(),
            n: 4096,
            heads: 8,
            causal: true,
            threads: 2,
            repeats: Some(9),
            median_seconds: Some(1.5e-3),
            ..Row::default()
        };
        vec![timed.with(Figure::SpeedUp, 1.3).judged(Some(Target::AtLeast(1.25))), timed]
    }

    #[test]
    fn rows_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine {
            date: "2026-03-01".into(),
            // Commas and quotes need RFC 4180.
            cpu: "A \"fast\", small CPU".into(),
            cores: 2,
            ..Machine::default()
        };
        let mut record = Record::create(folder.path(), &machine, "-mode").unwrap();
        assert!(record.csv_path().ends_with("a-fast-small-cpu-2-cores/2026-03-01-mode.csv"));
        assert_eq!(read(record.csv_path()), vec![]);
        record.write(rows()).unwrap();
        // Not closed: what is written is there.
        assert_eq!(read(record.csv_path()), rows());
        assert_eq!(record.rows(), rows());
    }

    #[test]
    fn stored_records_parse() {
        let folder = workspace::root().unwrap().join("benches").join("record");
        for machine in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
            let files = fs::read_dir(machine).unwrap().map(|entry| entry.unwrap().path());
            for file in files.filter(|path| path.extension().is_some_and(|e| e == "csv")) {
                assert!(!read(&file).is_empty(), "{} has no rows", file.display());
            }
        }
    }
}
