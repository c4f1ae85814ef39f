//! What `measure-memory` does: one call in a process of its own, and the memory that it took.

use super::input::{HEAD_DIM, Input};
use anyhow::{Context, Result};
use peak_alloc::PeakAlloc;
use rayon::ThreadPoolBuilder;
use scatterbrain_attention::{Preset, Seed};
use serde::{Deserialize, Serialize};

/// What `measure-memory` takes.
#[derive(Debug, Clone, PartialEq, Eq, clap::Parser)]
pub struct MemoryOptions {
    /// The method's name.
    pub method: String,
    /// Queries and keys of the one head.
    pub n: usize,
    /// Units per query.
    pub budget: usize,
    /// Under a causal mask.
    #[arg(long)]
    pub causal: bool,
}

/// What it found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Peak of the heap during the call over what it was before, the output left out.
    pub extra_bytes: usize,
    /// Most that the process ever had in memory, input and output included; Linux alone says it.
    pub peak_resident_bytes: Option<usize>,
}

/// One head, one call, one thread. Counts the heap only in a program whose allocator is [`PeakAlloc`].
///
/// # Errors
/// An unknown method, or what the library refuses.
pub fn measure(options: &MemoryOptions) -> Result<Memory> {
    let preset = Preset::from_name(&options.method).with_context(|| format!("no method {}", options.method))?;
    let method = preset.method(options.budget, HEAD_DIM, Seed(0))?;
    let input = Input::draw(options.n, 1);
    let mut output = vec![0.0; input.len()];
    let alone = ThreadPoolBuilder::new().num_threads(1).build()?;
    let extra_bytes = alone.install(|| {
        PeakAlloc.reset_peak_usage();
        let before = PeakAlloc.current_usage();
        input.attend_into(&method, options.causal, &mut output)?;
        Ok::<_, scatterbrain_attention::Error>(PeakAlloc.peak_usage().saturating_sub(before))
    })?;
    Ok(Memory { extra_bytes, peak_resident_bytes: peak_resident_bytes() })
}

/// `VmHWM` of this process.
fn peak_resident_bytes() -> Option<usize> {
    high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn high_water_mark(status: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_in_bytes() {
        let status = "Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(high_water_mark(status), Some(1234 * 1024));
        assert_eq!(high_water_mark("Name:\tx\n"), None);
    }

    #[test]
    fn unknown_methods_are_refused() {
        let options = MemoryOptions { method: "nystrom".into(), n: 64, budget: 16, causal: false };
        assert!(measure(&options).is_err());
        assert!(measure(&MemoryOptions { method: "local".into(), ..options }).is_ok());
    }
}
