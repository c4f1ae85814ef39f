//! The best of another support's keys.

use scatterbrain_core::tile::{Causality, Head, Select, Selection, Summary, Support, Tile};
use std::sync::Arc;

/// Of the keys that another support takes those of the largest logits.
#[derive(Debug)]
pub(crate) struct Best {
    pub(crate) of: Arc<dyn Support>,
    pub(crate) keys: usize,
}

impl Support for Best {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> scatterbrain_attention::Result<Box<dyn Select + 'a>> {
        Ok(Box::new(PreparedBest { of: self.of.prepare(head)?, keys: self.keys, head: *head }))
    }

    fn prepare_beside<'a>(
        &'a self,
        head: &Head<'a>,
        far: &dyn Summary,
    ) -> scatterbrain_attention::Result<Box<dyn Select + 'a>> {
        Ok(Box::new(PreparedBest { of: self.of.prepare_beside(head, far)?, keys: self.keys, head: *head }))
    }

    fn causality(&self) -> Causality {
        self.of.causality()
    }
}

struct PreparedBest<'a> {
    of: Box<dyn Select + 'a>,
    keys: usize,
    head: Head<'a>,
}

impl Select for PreparedBest<'_> {
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        let mut candidates = Selection::default();
        candidates.reset(tile.rows.len());
        self.of.select(tile, &mut candidates);
        for (r, &i) in tile.rows.iter().enumerate() {
            let dot =
                |key: &[f32]| tile.query.row(r).iter().zip(key).map(|(q, k)| q * k).sum::<f32>() * self.head.scale;
            let range = tile.mask.range(i as usize);
            let seen = candidates.row(r).into_iter().filter(|&j| range.contains(&(j as usize)));
            let mut scored: Vec<(f32, u32)> = seen.map(|j| (dot(self.head.key.row(j as usize)), j)).collect();
            scored.sort_by(|a, b| b.0.total_cmp(&a.0));
            selection.lists[r].extend(scored.into_iter().take(self.keys).map(|(_, j)| j));
        }
    }
}
