//! What measures runs optimised, whatever profile `cargo xtask` was built with.
//!
//! The alias builds xtask without optimisation, which is right for its other commands: a release build takes minutes.
//! So such a command builds itself again and hands over.

use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::process::{Command, ExitCode};

/// Release builds have no debug assertions.
pub(crate) fn is_optimised() -> bool {
    !cfg!(debug_assertions)
}

/// Whether the library beneath was built with AVX-512.
pub(crate) const AVX512: bool = cfg!(feature = "avx512");

/// Builds xtask's programs with the release profile, with AVX-512 or without, and runs the same command with them.
pub(crate) fn start_again(avx512: bool) -> Result<ExitCode> {
    let root = workspace::root()?;
    let features: &[&str] = if avx512 { &["--features", "avx512"] } else { &[] };
    let build = workspace::cargo(&root)
        .args(["build", "--quiet", "--release", "--package", "xtask", "--bins"])
        .args(features)
        .status()
        .context("cannot run cargo")?;
    ensure!(build.success(), "the release build failed");
    // Not in the root: `--out` counts from where the caller is.
    let mut program = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    program.args(["run", "--quiet", "--release", "--manifest-path"]).arg(root.join("Cargo.toml"));
    program.args(["--package", "xtask", "--bin", "xtask"]).args(features).arg("--");
    program.args(std::env::args_os().skip(1));
    hand_over(program)
}

/// This process becomes the other, so that Ctrl-C and the exit code reach the right one.
#[cfg(unix)]
fn hand_over(mut program: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(program.exec()).context("cannot run the release build")
}

#[cfg(not(unix))]
fn hand_over(mut program: Command) -> Result<ExitCode> {
    let status = program.status().context("cannot run the release build")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
