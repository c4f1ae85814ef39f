//! `cargo xtask ci`: the steps of `.ci/run`, which states them.

use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::process::Command;

/// Runs every step in order, with their own output.
///
/// # Errors
/// A step that fails.
pub fn run() -> Result<()> {
    let script = workspace::root()?.join(".ci").join("run");
    let status = Command::new(&script).status().context("cannot run .ci/run")?;
    ensure!(status.success(), ".ci/run failed: {status}");
    Ok(())
}
