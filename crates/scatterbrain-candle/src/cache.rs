//! Where fetched models and data sets are.

use std::path::PathBuf;

/// Names the folder, where it is set.
pub const VARIABLE: &str = "SCATTERBRAIN_CACHE";

/// `$SCATTERBRAIN_CACHE`, or `scatterbrain` in the user's cache directory.
///
/// # Errors
/// No such variable, and a user without a home.
pub fn folder() -> std::io::Result<PathBuf> {
    use etcetera::BaseStrategy;
    if let Some(folder) = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()) {
        return Ok(folder.into());
    }
    let user = etcetera::choose_base_strategy().map_err(|e| std::io::Error::other(format!("{e}: set {VARIABLE}")))?;
    Ok(user.cache_dir().join("scatterbrain"))
}

/// The folder of a fetched model or data set, where `cargo xtask fetch NAME` has completed it.
///
/// # Errors
/// It is not there; the error says how to get it.
pub fn fetched(name: &str) -> std::io::Result<PathBuf> {
    let path = folder()?.join(name);
    if path.join(COMPLETE).is_file() {
        return Ok(path);
    }
    let message = format!("{name} is not in {}: run `cargo xtask fetch {name}`", path.display());
    Err(std::io::Error::new(std::io::ErrorKind::NotFound, message))
}

/// A file in the folder of what is complete.
pub const COMPLETE: &str = ".complete";
