//! The Python environment of the peers, under `target/peers`, kept for the next run.
//!
//! PyTorch comes from PyPI with everything that it names. Its Linux wheel needs the CUDA libraries even for the CPU
//! (`libtorch_cpu.so` is linked with them, so `import torch` fails after `pip install --no-deps`), and PyPI has no
//! wheel without: that is 5.4 GB on disk and a minute or two of downloads, once.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is installed. A change here builds the environment anew.
const PINS: [&str; 3] = ["torch==2.15.0", "numpy==2.4.6", "safetensors==0.8.0"];
/// Written last, so that an environment that was interrupted has none.
const MARKER: &str = "pins.txt";

/// The folder of everything that belongs to peers.
pub(super) fn folder(root: &Path) -> PathBuf {
    root.join("target").join("peers")
}

/// The environment's Python; makes the environment where it is not there as pinned.
pub(super) fn ready(root: &Path) -> Result<Peers> {
    let folder = folder(root);
    let peers = Peers { python: python(&folder.join("venv")), folder };
    let marker = peers.folder.join(MARKER);
    if fs::read_to_string(&marker).is_ok_and(|text| text == pins()) && peers.python.is_file() {
        return Ok(peers);
    }
    fs::create_dir_all(&peers.folder)?;
    let _ = fs::remove_file(&marker);
    create(&peers.folder.join("venv"))?;
    install(&peers.python)?;
    fs::write(marker, pins())?;
    Ok(peers)
}

/// Where the environment is.
pub(super) struct Peers {
    pub(super) python: PathBuf,
    pub(super) folder: PathBuf,
}

fn pins() -> String {
    PINS.map(|pin| format!("{pin}\n")).concat()
}

fn python(venv: &Path) -> PathBuf {
    if cfg!(windows) { venv.join("Scripts").join("python.exe") } else { venv.join("bin").join("python") }
}

fn create(venv: &Path) -> Result<()> {
    eprintln!("making a Python environment for {} (once)", PINS.join(", "));
    let system = if cfg!(windows) { "python" } else { "python3" };
    let mut command = Command::new(system);
    command.args(["-m", "venv", "--clear"]).arg(venv).stdout(Stdio::null());
    let status = command.status().with_context(|| format!("no {system} here; {OTHERWISE}"))?;
    ensure!(status.success(), "{system} has no venv (on Debian: apt-get install python3-venv); {OTHERWISE}");
    Ok(())
}

fn install(python: &Path) -> Result<()> {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--disable-pip-version-check"]).args(PINS);
    // Standard output is for results.
    let status = command.stdout(std::io::stderr()).status().context("cannot run pip")?;
    ensure!(status.success(), "pip could not install {}; {OTHERWISE}", PINS.join(", "));
    Ok(())
}

const OTHERWISE: &str = "`--no-peers` measures without PyTorch";
