//! Keys of the largest logits as few bits have them.

use scatterbrain_attention::Seed;
use scatterbrain_attention::features::{Projection, ProjectionKind};
use scatterbrain_core::tile::{Causality, Head, Select, Selection, Support, Tile};

/// How keys are remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sketched {
    /// Every column in steps of a seventh of the row's largest; queries as they are.
    FourBits,
    /// The signs of products with so many directions, of keys less their mean and of queries, and the keys' norms.
    Signs(usize),
}

/// The keys of the largest logits as sketches have them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sketch {
    pub(crate) kind: Sketched,
    pub(crate) keys: usize,
}

impl Support for Sketch {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> scatterbrain_attention::Result<Box<dyn Select + 'a>> {
        let (count, d) = (head.mask.length(), head.key.cols());
        let mean: Vec<f32> =
            (0..d).map(|c| (0..count).map(|j| head.key.row(j)[c]).sum::<f32>() / count as f32).collect();
        let keys = (0..count).map(|j| head.key.row(j));
        let (directions, rows, norms) = match self.kind {
            Sketched::FourBits => {
                let coarse = keys.map(|key| {
                    let step = key.iter().fold(0.0, |top: f32, x| top.max(x.abs())) / 7.0;
                    key.iter().map(|x| if step > 0.0 { (x / step).round() * step } else { 0.0 }).collect()
                });
                (None, coarse.collect(), vec![1.0; count])
            }
            Sketched::Signs(bits) => {
                let directions = Projection::sample(ProjectionKind::Orthogonal, bits, d, Seed(4))?;
                let centred: Vec<Vec<f32>> =
                    keys.map(|key| key.iter().zip(&mean).map(|(x, m)| x - m).collect()).collect();
                let norm = |key: &Vec<f32>| key.iter().map(|x| x * x).sum::<f32>().sqrt();
                let norms = centred.iter().map(norm).collect();
                (Some(directions.clone()), centred.iter().map(|key| signs(&directions, key)).collect(), norms)
            }
        };
        Ok(Box::new(PreparedSketch { rows, norms, directions, keys: self.keys, sign: head.scale.signum() }))
    }

    fn causality(&self) -> Causality {
        Causality::SelectionSeesFuture
    }
}

fn signs(directions: &Projection, row: &[f32]) -> Vec<f32> {
    let product = |w: usize| directions.matrix().row(w).iter().zip(row).map(|(w, x)| w * x).sum::<f32>();
    (0..directions.rows()).map(|w| product(w).signum()).collect()
}

struct PreparedSketch {
    rows: Vec<Vec<f32>>,
    norms: Vec<f32>,
    directions: Option<Projection>,
    keys: usize,
    sign: f32,
}

impl PreparedSketch {
    /// A number that grows with the logit.
    fn score(&self, query: &[f32], key: usize) -> f32 {
        let product = query.iter().zip(&self.rows[key]).map(|(q, k)| q * k).sum::<f32>();
        self.sign
            * match &self.directions {
                None => product,
                // A sign differs with a probability of angle/π.
                Some(directions) => {
                    let differ = 0.5 * (1.0 - product / directions.rows() as f32);
                    self.norms[key] * (std::f32::consts::PI * differ).cos()
                }
            }
    }
}

impl Select for PreparedSketch {
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        for (r, &i) in tile.rows.iter().enumerate() {
            let row = tile.query.row(r);
            let query = self.directions.as_ref().map_or_else(|| row.to_vec(), |directions| signs(directions, row));
            let mut scored: Vec<(f32, u32)> =
                tile.mask.range(i as usize).map(|j| (self.score(&query, j), j as u32)).collect();
            scored.sort_by(|a, b| b.0.total_cmp(&a.0));
            selection.lists[r].extend(scored.into_iter().take(self.keys).map(|(_, j)| j));
        }
    }
}
