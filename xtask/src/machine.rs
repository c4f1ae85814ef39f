//! What a record or a report says of the machine and the programs: enough to compare, nothing that names its owner.

use crate::{date, workspace};
use anyhow::Result;
use scatterbrain_attention::Level;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;

/// Columns that are the same in every row of a record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// What this library ran at.
    pub(crate) simd: String,
    pub(crate) rustc: String,
    pub(crate) commit: String,
    /// Whether files differed from the commit.
    pub(crate) dirty: bool,
    /// Version, and the instruction set that it picked: "2.15.0 at AVX512". Blank without peers.
    pub(crate) torch: String,
}

impl Machine {
    pub(crate) fn of_this_run(root: &Path, torch: Option<&str>) -> Result<Self> {
        let git = |arguments: &[&str]| workspace::output(Command::new("git").current_dir(root).args(arguments));
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        // What this command writes itself does not count.
        let status = ["status", "--porcelain", "--", ".", ":!benches/record", ":!README.md"];
        Ok(Self {
            date: date::today(),
            cpu: cpu(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            simd: Level::detect().name().to_owned(),
            rustc: workspace::output(Command::new(rustc).arg("--version"))?.trim().to_owned(),
            commit: git(&["rev-parse", "--short=12", "HEAD"])?.trim().to_owned(),
            dirty: !git(&status)?.trim().is_empty(),
            torch: torch.unwrap_or_default().to_owned(),
        })
    }

    /// The name of the folder of this machine's records.
    pub(crate) fn slug(&self) -> String {
        slug(&format!("{} {} cores", self.cpu, self.cores))
    }
}

/// The model of the CPU as the system names it.
fn cpu() -> String {
    let linux = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let mac = || workspace::output(Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"])).ok();
    linux.or_else(mac).map_or_else(|| std::env::consts::ARCH.to_owned(), |name| name.trim().to_owned())
}

/// Whether the CPU has AVX-512, whatever this was built with.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

/// It has not.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn has_avx512() -> bool {
    false
}

/// Lower-case letters and digits, everything else one dash.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_folder_names() {
        assert_eq!(slug("AMD EPYC 9B14 (Genoa) @ 2.6GHz 2 cores"), "amd-epyc-9b14-genoa-2-6ghz-2-cores");
        assert_eq!(slug("../../x"), "x");
    }

    #[test]
    fn this_machine_has_a_name() {
        assert!(!cpu().is_empty());
    }
}
