//! Where weights and data are.

use super::options::ModelOptions;
use anyhow::{Context, Result};
use scatterbrain_candle::cache;
use std::path::{Path, PathBuf};

/// Weights of the command line, or fetched ones.
///
/// # Errors
/// Neither; the error says how to get them.
pub(crate) fn weights(options: &ModelOptions, name: &str) -> Result<PathBuf> {
    place(options.weights.as_ref(), name, "--weights")
}

/// Data of the command line, or fetched ones.
///
/// # Errors
/// Neither; the error says how to get them.
pub(crate) fn data(options: &ModelOptions, name: &str) -> Result<PathBuf> {
    place(options.data.as_ref(), name, "--data")
}

/// A file of data: the one of the command line, that of this name in the folder of the command line, or the fetched one.
///
/// # Errors
/// None of them; the error says how to get it.
pub(crate) fn data_file(options: &ModelOptions, name: &str, file: &str) -> Result<PathBuf> {
    Ok(inside(data(options, name)?, file))
}

/// A folder of weights, which may be named by its main file.
///
/// # Errors
/// Neither there nor fetched; the error says how to get it.
pub(crate) fn weights_folder(options: &ModelOptions, name: &str, main: &str) -> Result<PathBuf> {
    let path = weights(options, name)?;
    let is_main = path.is_file() && path.file_name().is_some_and(|file| file == main);
    Ok(path.parent().filter(|_| is_main).map(Path::to_path_buf).unwrap_or(path))
}

/// The file of a folder, or the path itself where that is no folder.
pub(crate) fn inside(path: PathBuf, file: &str) -> PathBuf {
    if path.is_dir() { path.join(file) } else { path }
}

/// Whether a file's name ends so, in small or large letters.
pub(crate) fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|end| endings.iter().any(|known| end.eq_ignore_ascii_case(known)))
}

fn place(given: Option<&PathBuf>, name: &str, option: &str) -> Result<PathBuf> {
    match given {
        Some(path) => Ok(path.clone()),
        None => cache::fetched(name).with_context(|| format!("{option} names no other place")),
    }
}
