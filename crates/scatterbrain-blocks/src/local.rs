//! The window that fits the mask.

use crate::WindowSupport;
use scatterbrain_core::Result;
use scatterbrain_core::tile::{Causality, Head, Select, Support};

/// A window of `budget` keys of which none is hidden by causality: the last ones up to the position under a causal mask
/// ([`WindowSupport::last`]), else those around it ([`WindowSupport::around`]). And the first `sinks` keys.
///
/// Around the position half of a causal row's window would lie behind it, where nothing may be seen.
///
/// ```
/// use scatterbrain_blocks::LocalSupport;
/// let near = LocalSupport::new(60)?.with_sinks(4); // 64 keys a row
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalSupport {
    around: WindowSupport,
    last: WindowSupport,
}

impl LocalSupport {
    /// `budget` keys a row.
    ///
    /// # Errors
    /// A budget of 0.
    pub fn new(budget: usize) -> Result<Self> {
        Ok(Self { around: WindowSupport::around(budget)?, last: WindowSupport::last(budget)? })
    }

    /// The same window, and the first `sinks` keys.
    #[must_use]
    pub fn with_sinks(self, sinks: usize) -> Self {
        Self { around: self.around.with_sinks(sinks), last: self.last.with_sinks(sinks) }
    }
}

impl Support for LocalSupport {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        if head.mask.is_causal() { self.last.prepare(head) } else { self.around.prepare(head) }
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}
