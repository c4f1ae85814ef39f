//! Progress bars.

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// A bar on stderr, hidden where that is no terminal. It draws only when told: its own thread would disturb the
/// measurements.
pub(crate) fn bar(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {msg}").expect("a valid template");
    ProgressBar::new(steps as u64).with_style(style).with_finish(ProgressFinish::AndClear)
}
