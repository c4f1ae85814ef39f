//! The window that fits the mask.

use crate::WindowSupport;
use scatterbrain_core::tile::{Causality, Head, Select, Support};
use scatterbrain_core::{HeadMask, Result, WindowAlign};
use serde::{Deserialize, Serialize};

/// A sliding window by its number of keys: the last ones up to a row's position ([`WindowSupport::last`]) where a causal mask,
/// or a window of none to the right, hides all later ones; else those around it ([`WindowSupport::around`]). And the first
/// `sinks` keys.
///
/// Around the position half of a causal row's window would lie behind it, where nothing may be seen. Boolean masks are not
/// looked at. Strictly causal under a causal mask. Cost O(1) a row.
///
/// ```
/// use scatterbrain_blocks::LocalSupport;
/// let near = LocalSupport::new(60)?.with_sinks(4); // 64 keys a row
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalSupport {
    /// Keys of the window.
    keys: usize,
    /// How many of the first keys are exact as well.
    #[serde(default)]
    sinks: usize,
}

impl LocalSupport {
    /// `budget` keys a row.
    ///
    /// # Errors
    /// A budget of 0.
    pub fn new(budget: usize) -> Result<Self> {
        WindowSupport::around(budget)?;
        Ok(Self { keys: budget, sinks: 0 })
    }

    /// The same window, and the first `sinks` keys.
    #[must_use]
    pub fn with_sinks(mut self, sinks: usize) -> Self {
        self.sinks = sinks;
        self
    }
}

/// Whether no row sees a key behind its position.
fn hides_later(mask: &HeadMask<'_>) -> bool {
    mask.is_causal() || mask.window().is_some_and(|w| w.right == 0 && w.align == WindowAlign::End)
}

impl Support for LocalSupport {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        let window = if hides_later(head.mask) { WindowSupport::last } else { WindowSupport::around };
        Ok(Box::new(window(self.keys)?.with_sinks(self.sinks)))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}
