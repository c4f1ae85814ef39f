//! All pairs: exact attention as a support.

use scatterbrain_core::Result;
use scatterbrain_core::tile::{Block, Causality, Head, Keys, Select, Selection, Support, Tile};
use serde::{Deserialize, Serialize};

/// Every visible pair is exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Full;

impl Support for Full {
    fn prepare<'a>(&'a self, _: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        Ok(Box::new(Full))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

impl Select for Full {
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        selection.blocks.push(Block::new(0..tile.rows.len(), Keys::Range(0..tile.mask.length())));
    }
}
