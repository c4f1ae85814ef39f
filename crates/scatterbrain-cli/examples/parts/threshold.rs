//! Keys by a threshold instead of a count.

use anyhow::Result;
use scatterbrain_core::tile::{Causality, Head, Select, Selection, Support, Tile};

/// Which keys a row takes, the largest logits first.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// As many as make up 1 − e^log of the row's mass.
    Mass,
    /// Those that weigh more than e^log of it.
    Share,
}

#[derive(Debug)]
pub(crate) struct Threshold {
    pub(crate) rule: Rule,
    pub(crate) log: f64,
}

impl Support for Threshold {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> scatterbrain_attention::Result<Box<dyn Select + 'a>> {
        Ok(Box::new(PreparedThreshold { rule: self.rule, part: self.log.exp(), head: *head }))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

struct PreparedThreshold<'a> {
    rule: Rule,
    part: f64,
    head: Head<'a>,
}

impl Select for PreparedThreshold<'_> {
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        for (r, &i) in tile.rows.iter().enumerate() {
            let dot = |j: usize| {
                let products = tile.query.row(r).iter().zip(self.head.key.row(j)).map(|(q, k)| q * k);
                f64::from(products.sum::<f32>() * self.head.scale)
            };
            let mut scored: Vec<(f64, u32)> = tile.mask.range(i as usize).map(|j| (dot(j), j as u32)).collect();
            scored.sort_by(|a, b| b.0.total_cmp(&a.0));
            let top = scored.first().map_or(0.0, |s| s.0);
            let total: f64 = scored.iter().map(|s| (s.0 - top).exp()).sum();
            let mut left = total;
            let taken = scored.into_iter().take_while(|(logit, _)| {
                let weight = (logit - top).exp();
                let before = left;
                left -= weight;
                match self.rule {
                    Rule::Mass => before > self.part * total,
                    Rule::Share => weight > self.part * total,
                }
            });
            selection.lists[r].extend(taken.map(|(_, j)| j));
        }
    }
}

/// The result at the threshold that takes as many keys as are wanted, to a hundredth.
pub(crate) fn at_count(wanted: f64, run: impl Fn(f64) -> Result<(f64, f64)>) -> Result<(f64, f64)> {
    let (mut low, mut high) = (-20.0, 0.0);
    loop {
        let middle = 0.5 * (low + high);
        let (error, keys) = run(middle)?;
        if (keys / wanted - 1.0).abs() < 0.01 || high - low < 1e-3 {
            return Ok((error, keys));
        }
        if keys > wanted { low = middle } else { high = middle }
    }
}
