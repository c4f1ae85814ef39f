//! Exact top-k: the heaviest visible keys of each row, found by scoring all of them.

use crate::largest::{Largest, Score};
use scatterbrain_core::kernel::{self, PANEL};
use scatterbrain_core::tile::{Causality, Head, Keys, Select, Support, Tile};
use scatterbrain_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The `budget` visible keys with the largest logits; among equals the earlier key.
///
/// The oracle of supports: it costs the O(n·m·d) of exact scores, and some ten to twenty passes over them to find each
/// row's threshold. Strictly causal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopK {
    budget: usize,
}

impl TopK {
    /// Keeps `budget` keys a row.
    ///
    /// # Errors
    /// A budget of 0.
    pub fn new(budget: usize) -> Result<Self> {
        if budget == 0 {
            return Err(Error::invalid("budget", "at least 1 key", 0));
        }
        Ok(Self { budget })
    }
}

impl Support for TopK {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        Ok(Box::new(Largest::new(Logits(*head), self.budget..=self.budget, head.mask, head.level)?))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

/// Exact logits.
struct Logits<'a>(Head<'a>);

impl Score for Logits<'_> {
    fn score(&self, tile: &Tile<'_>, rows: Range<usize>, keys: &Range<usize>, out: &mut [f32]) {
        let Head { key, query, scale, level, .. } = self.0;
        let (rows, mut panel) = (&tile.rows[rows], vec![0.0; key.cols() * PANEL]);
        kernel::pack(level, query, rows, scale, &mut panel);
        kernel::product(level, &panel, key, &Keys::Range(keys.clone()), out);
    }
}
