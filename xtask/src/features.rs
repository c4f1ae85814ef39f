//! `cargo xtask features`: every package with features, without any and with each alone, one a line.

use crate::workspace;
use anyhow::{Context, Result};

/// Prints `package` and `package feature` lines.
///
/// # Errors
/// Where cargo does not say.
pub fn run() -> Result<()> {
    let metadata = workspace::metadata(&workspace::root()?)?;
    for package in metadata["packages"].as_array().context("no packages")? {
        let name = package["name"].as_str().context("no name")?;
        let features = package["features"].as_object().context("no features")?;
        if !features.is_empty() {
            println!("{name}");
        }
        features.keys().for_each(|feature| println!("{name} {feature}"));
    }
    Ok(())
}
