//! Where the workspace is, what it holds, and how to call its tools.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root, from where xtask was built.
pub(crate) fn root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    Ok(root.context("xtask has a parent folder")?.to_path_buf())
}

/// Cargo, as the caller runs it.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Standard output of a command that must succeed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let result = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let complaint = String::from_utf8_lossy(&result.stderr);
    ensure!(result.status.success(), "{command:?} failed:\n{complaint}");
    Ok(String::from_utf8(result.stdout)?)
}

/// `cargo metadata` of the workspace members.
pub(crate) fn metadata(root: &Path) -> Result<Value> {
    let text = output(cargo(root).args(["metadata", "--format-version", "1", "--no-deps"]))?;
    Ok(serde_json::from_str(&text)?)
}

/// Tracked and new files that are not ignored, relative to the root.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let names = output(&mut git)?;
    let paths = names.split('\0').filter(|n| !n.is_empty()).map(PathBuf::from);
    Ok(paths.filter(|p| root.join(p).is_file()).collect())
}
