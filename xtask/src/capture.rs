//! `cargo xtask capture`: the program's `capture`, built with models and the release profile.

use crate::workspace;
use anyhow::{Context, Result, ensure};

/// Hands the arguments over.
///
/// # Errors
/// A build or a run that fails.
pub fn run(arguments: &[String]) -> Result<()> {
    let root = workspace::root()?;
    // Not in the root: paths count from where the caller is.
    let mut command = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet", "--release", "--manifest-path"]).arg(root.join("Cargo.toml"));
    command.args(["--package", "scatterbrain-cli", "--features", "models", "--", "capture"]).args(arguments);
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "nothing was captured");
    Ok(())
}
