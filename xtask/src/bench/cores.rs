//! A core for each thread of either side.
//!
//! A system that wakes a thread may put it on the core of the one that wakes it, and take 10 ms to part them: by two threads
//! calls of 0.1 to 20 ms then took as long as by one (`perf record --sample-cpu`, a guest of two cores), mostly those of
//! this project, whose pool sleeps between calls where OpenMP's looks for work. So both sides' threads are pinned.

use core_affinity::CoreId;
use std::collections::HashSet;
use std::fs;

/// OpenMP's words for the same; PyTorch's threads are OpenMP's.
pub(super) const OPENMP: [(&str, &str); 2] = [("OMP_PLACES", "cores"), ("OMP_PROC_BIND", "close")];

/// One CPU of each core that this process may run on; none where the system does not tell, as elsewhere than on Linux.
pub(super) fn cores() -> Vec<CoreId> {
    let (mut ids, mut seen) = (core_affinity::get_core_ids().unwrap_or_default(), HashSet::new());
    ids.retain(|id| core(id.id).is_some_and(|core| seen.insert(core)));
    ids
}

/// The core of a CPU, by the first CPU that shares it.
fn core(cpu: usize) -> Option<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    first(&fs::read_to_string(path).ok()?)
}

/// The first number of a list such as `0-1` or `3,7`.
fn first(list: &str) -> Option<usize> {
    list.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::first;

    #[test]
    fn lists_begin_with_their_first_cpu() {
        assert_eq!(["0\n", "0-1\n", "3,7\n", "12,76\n", ""].map(first), [Some(0), Some(0), Some(3), Some(12), None]);
    }
}
