//! The union of several supports, every pair counted once.

use scatterbrain_core::tile::{Causality, Head, Select, Selection, Summary, Support, Tile};
use scatterbrain_core::{Error, Result};
use std::sync::Arc;

/// Pairs that any of the parts names. Put the part with the largest dense blocks first: its blocks are kept,
/// the others' pairs go by lists.
#[derive(Debug, Clone)]
pub struct Union {
    parts: Vec<Arc<dyn Support>>,
}

impl Union {
    /// The union of `parts`.
    ///
    /// # Errors
    /// No part.
    pub fn new(parts: Vec<Arc<dyn Support>>) -> Result<Self> {
        if parts.is_empty() {
            return Err(Error::invalid("parts", "at least 1 support", 0));
        }
        Ok(Self { parts })
    }
}

impl Support for Union {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        let parts = self.parts.iter().map(|p| p.prepare(head)).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(Prepared { parts }))
    }

    fn prepare_beside<'a>(&'a self, head: &Head<'a>, background: &dyn Summary) -> Result<Box<dyn Select + 'a>> {
        let parts = self.parts.iter().map(|p| p.prepare_beside(head, background)).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(Prepared { parts }))
    }

    fn scans(&self) -> bool {
        self.parts.iter().any(|p| p.scans())
    }

    fn causality(&self) -> Causality {
        self.parts.iter().fold(Causality::Strict, |c, p| c.and(p.causality()))
    }
}

struct Prepared<'a> {
    parts: Vec<Box<dyn Select + 'a>>,
}

impl Select for Prepared<'_> {
    fn order(&self, pass: usize) -> Option<&[u32]> {
        self.parts[0].order(pass)
    }

    fn reads_all_keys(&self) -> bool {
        self.parts.iter().any(|p| p.reads_all_keys())
    }

    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        self.parts[0].select(tile, selection);
        let mut more = Selection::default();
        for part in &self.parts[1..] {
            more.reset(tile.rows.len());
            part.select(tile, &mut more);
            for r in 0..tile.rows.len() {
                let known = selection.row(r);
                let fresh = more.row(r).into_iter().filter(|k| known.binary_search(k).is_err());
                selection.lists[r].extend(fresh);
            }
        }
    }
}
