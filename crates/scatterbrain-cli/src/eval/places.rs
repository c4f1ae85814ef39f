//! Where weights and data are.

use super::options::ModelOptions;
use anyhow::{Context, Result};
use scatterbrain_candle::cache;
use std::path::PathBuf;

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

fn place(given: Option<&PathBuf>, name: &str, option: &str) -> Result<PathBuf> {
    match given {
        Some(path) => Ok(path.clone()),
        None => cache::fetched(name).with_context(|| format!("{option} names no other place")),
    }
}
