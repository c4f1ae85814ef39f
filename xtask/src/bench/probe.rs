//! Starts `measure-memory` and reads its answer.

use super::memory::Memory;
use super::plan::Probe;
use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

/// Memory at one length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    pub(crate) n: usize,
    pub(crate) memory: Memory,
}

pub(crate) fn run(probe: &Probe, n: usize) -> Result<Found> {
    let mut command = Command::new(program()?);
    command.args([probe.preset.name(), &n.to_string(), &probe.budget.to_string()]);
    command.args(probe.causal.then_some("--causal"));
    let answer = workspace::output(&mut command)?;
    Ok(Found { n, memory: serde_json::from_str(&answer).with_context(|| answer.clone())? })
}

/// It stands beside this program.
fn program() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(format!("measure-memory{}", std::env::consts::EXE_SUFFIX));
    ensure!(path.is_file(), "measure-memory is not built: start with `cargo xtask bench`");
    Ok(path)
}
