//! Blocks of consecutive keys, by what bounds or averages them.

use scatterbrain_core::tile::{Causality, Head, Select, Selection, Support, Tile};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Score {
    /// s·q·μ.
    Mean,
    /// Σ_c max(s·q_c·min_c, s·q_c·max_c), which no key of the block exceeds.
    Box,
}

/// Blocks of consecutive keys: the one that a row sees in part, and then those of largest score, up to so many keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocks {
    pub(crate) score: Score,
    pub(crate) size: usize,
    pub(crate) keys: usize,
    /// Blocks are taken from those of another size, of which come so many keys.
    pub(crate) coarse: Option<(usize, usize)>,
}

impl Support for Blocks {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> scatterbrain_attention::Result<Box<dyn Select + 'a>> {
        Ok(Box::new(Prepared {
            rule: *self,
            head: *head,
            fine: Bounds::new(head, self.size),
            coarse: self.coarse.map(|c| Bounds::new(head, c.0)),
        }))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

/// Of each block the mean, the least and the largest of every column, `[blocks, d]`.
struct Bounds {
    size: usize,
    figures: [Vec<f32>; 3],
}

impl Bounds {
    fn new(head: &Head<'_>, size: usize) -> Self {
        let mut figures: [Vec<f32>; 3] = Default::default();
        for first in (0..head.mask.length()).step_by(size) {
            let rows = first..(first + size).min(head.mask.length());
            for c in 0..head.key.cols() {
                let column = || rows.clone().map(|j| head.key.row(j)[c]);
                figures[0].push(column().sum::<f32>() / rows.len() as f32);
                figures[1].push(column().fold(f32::INFINITY, f32::min));
                figures[2].push(column().fold(f32::NEG_INFINITY, f32::max));
            }
        }
        Self { size, figures }
    }

    fn score(&self, score: Score, query: &[f32], scale: f32, block: usize) -> f32 {
        let d = query.len();
        let row = |which: usize| &self.figures[which][block * d..(block + 1) * d];
        let terms = query.iter().map(|q| q * scale).enumerate();
        match score {
            Score::Mean => terms.map(|(c, q)| q * row(0)[c]).sum(),
            Score::Box => terms.map(|(c, q)| (q * row(1)[c]).max(q * row(2)[c])).sum(),
        }
    }

    /// The keys of the best of some blocks, whole ones, up to so many.
    fn best(&self, rule: &Blocks, head: &Head<'_>, query: &[f32], blocks: Vec<usize>, most: usize) -> Vec<usize> {
        let mut scored: Vec<(f32, usize)> =
            blocks.into_iter().map(|b| (self.score(rule.score, query, head.scale, b), b)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.into_iter().flat_map(|(_, b)| b * self.size..(b + 1) * self.size).take(most).collect()
    }
}

struct Prepared<'a> {
    rule: Blocks,
    head: Head<'a>,
    fine: Bounds,
    coarse: Option<Bounds>,
}

impl Select for Prepared<'_> {
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        for (r, &i) in tile.rows.iter().enumerate() {
            let (end, query) = (tile.mask.range(i as usize).end, tile.query.row(r));
            let whole = |size: usize| end / size;
            let mut blocks: Vec<usize> = (0..whole(self.rule.size)).collect();
            if let (Some(coarse), Some((size, keys))) = (&self.coarse, self.rule.coarse) {
                let chosen = coarse.best(&self.rule, &self.head, query, (0..whole(size)).collect(), keys);
                let tail = whole(size) * size..whole(self.rule.size) * self.rule.size;
                blocks = chosen.into_iter().chain(tail).step_by(self.rule.size).map(|j| j / self.rule.size).collect();
            }
            let part = whole(self.rule.size) * self.rule.size..end;
            let most = self.rule.keys.saturating_sub(part.len());
            let best = self.fine.best(&self.rule, &self.head, query, blocks, most);
            selection.lists[r].extend(best.into_iter().chain(part).map(|j| j as u32));
        }
    }
}
