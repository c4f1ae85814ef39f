//! Exact top-k: the heaviest visible keys of each row, found by scoring all of them.

use scatterbrain_core::kernel::{self, PANEL};
use scatterbrain_core::tile::{Causality, Head, Keys, Select, Selection, Support, Tile};
use scatterbrain_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The `budget` visible keys with the largest logits; among equals the earlier key.
///
/// The oracle of supports: it costs the O(n·m·d) of exact scores. Strictly causal.
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
        if self.budget == 0 || self.budget > head.mask.m() {
            return Err(Error::invalid("budget", format!("1 to {} keys", head.mask.m()), self.budget));
        }
        Ok(Box::new(Prepared { budget: self.budget, head: *head }))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

struct Prepared<'a> {
    budget: usize,
    head: Head<'a>,
}

impl Select for Prepared<'_> {
    fn reads_all_keys(&self) -> bool {
        true
    }

    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        let key = self.head.key;
        let mut panel = vec![0.0; key.cols() * PANEL];
        let mut ranked: Vec<(f32, u32)> = Vec::new();
        for (p, rows) in tile.rows.chunks(PANEL).enumerate() {
            let ranges: Vec<_> = rows.iter().map(|&i| tile.mask.range(i as usize)).collect();
            let start = ranges.iter().map(|r| r.start).min().unwrap_or(0);
            let end = ranges.iter().map(|r| r.end).max().unwrap_or(0).max(start);
            kernel::pack(self.head.level, self.head.query, rows, self.head.scale, &mut panel);
            let mut scores = vec![0.0; (end - start) * PANEL];
            kernel::product(self.head.level, &panel, key, &Keys::Range(start..end), &mut scores);
            for (lane, (&i, range)) in rows.iter().zip(ranges).enumerate() {
                let allowed = tile.mask.allowed_row(i as usize);
                let visible = range.filter(|&j| allowed.is_none_or(|a| a[j] != 0));
                ranked.clear();
                ranked.extend(visible.map(|j| (scores[(j - start) * PANEL + lane], j as u32)));
                if ranked.len() > self.budget {
                    ranked.select_nth_unstable_by(self.budget, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                    ranked.truncate(self.budget);
                }
                let list = &mut selection.lists[p * PANEL + lane];
                list.extend(ranked.iter().map(|r| r.1));
                list.sort_unstable();
            }
        }
    }
}
