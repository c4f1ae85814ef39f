//! Clusters of the first keys of a head, and the keys that join them.

use super::LEAST;
use super::metric::{Metric, one_a_stretch};
use super::moments::Moments;
use super::router::{BATCH, Meeting, Router};
use rayon::prelude::*;
use scatterbrain_blocks::by_cluster;
use scatterbrain_core::kernel::{self, PANEL, WORD};
use scatterbrain_core::tile::Head;
use scatterbrain_core::{Level, Matrix, Result, Seed};
use scatterbrain_features::KMeansTree;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Keys of the average cluster, at least.
const FEWEST: usize = 2;
/// Once the average cluster holds so many keys, clusters stay as they are.
pub(super) const ENOUGH: usize = 4;
/// k-means looks at no more keys a cluster.
const FITTED: usize = 8;
/// Cells that a query looks into, and that a key does. On the clustered process of 131072 rows, whose 64 cells are as far
/// from each other as independent rows are, 16 and 8 miss more than a tenth of an output on 3.0 % of the last half of the
/// rows, 20 and 10 on 1.9 %, 24 and 16 on 1.1 %, and take 1.11, 1.20 and 1.32 s.
const QUERY_PROBES: u32 = 20;
const KEY_PROBES: u32 = 10;
/// The cluster of a key that joins none.
const NONE: u32 = u32::MAX;
/// Room for the clusters that matter to a row, which grows where there are more.
const MATTER: usize = 32;
/// Queries that the metric is made from.
const QUERIES: usize = 1024;

/// The clusters of the keys before `start`.
pub(super) struct Epoch {
    /// Rows that see so many keys use it.
    pub start: usize,
    /// Of each key.
    cluster: Vec<u32>,
    /// Keys by cluster, ascending in each; cluster c holds `members[offsets[c]..offsets[c + 1]]`.
    members: Vec<u32>,
    offsets: Vec<u32>,
    /// ln of how many are before the start.
    log_counts: Vec<f32>,
    /// By their means of these.
    router: Router,
    level: Level,
}

impl Epoch {
    /// At most `clusters`, which the keys before `end` join.
    pub(super) fn new(head: &Head<'_>, start: usize, end: usize, clusters: usize, seed: Seed) -> Result<Self> {
        let metric = Metric::new(head.key.cols(), queries(head, start));
        let keys = metric.units(head.key.first_rows(end), start);
        let keys = Matrix::new("keys", &keys, end, head.key.cols())?;
        let count = clusters.min(start / FEWEST).max(1);
        let fitted = one_a_stretch(keys.first_rows(start), count.saturating_mul(FITTED), seed);
        let fitted = Matrix::new("keys", &fitted, fitted.len() / keys.cols(), keys.cols())?;
        let tree = KMeansTree::fit(head.level, fitted, 1.0, count, seed)?;
        let used = Used::new(&nearest(head.level, keys, &tree)?, start, &tree);
        let count = used.count as usize;
        let (mut members, offsets) = by_cluster(&used.cluster, count);
        members.truncate(offsets[count] as usize);
        let first = head.key.first_rows(start);
        let moments = Moments::new(first, &used.cluster, count);
        let cell: Vec<u32> = used.cluster[..start].iter().map(|&c| used.cell_of[c as usize]).collect();
        let cells = used.ends.len() - 1;
        let (means, middles) = (moments.means(), Moments::new(first, &cell, cells).means());
        let means = Matrix::new("means", &means, count, first.cols())?;
        let middles = Matrix::new("means", &middles, cells, first.cols())?;
        let router = Router::new(head.level, head.scale, (middles, vec![0.0; cells]), means, used.ends, QUERY_PROBES)?;
        let log_counts = moments.counts.iter().map(|n| n.ln() as f32).collect();
        Ok(Self { start, cluster: used.cluster, members, offsets, log_counts, router, level: head.level })
    }

    pub(super) fn count(&self) -> u32 {
        self.log_counts.len() as u32
    }

    /// The cluster of a key before the end, if it is in one.
    pub(super) fn cluster_of(&self, key: usize) -> Option<u32> {
        self.cluster.get(key).copied().filter(|&cluster| cluster != NONE)
    }

    pub(super) fn members(&self, cluster: u32) -> &[u32] {
        &self.members[self.offsets[cluster as usize] as usize..self.offsets[cluster as usize + 1] as usize]
    }

    /// The clusters that matter to each of at most [`BATCH`] queries, by falling weight a key.
    pub(super) fn rank(&self, query: Matrix<'_>) -> Vec<Ranked> {
        let mut routed = self.router.route(query);
        // First only which cells hold something that matters: most of a row's do not.
        let mut least = vec![f32::NEG_INFINITY; query.rows()];
        let mut tops = vec![Vec::new(); routed.by_cell.len()];
        self.router.meet(&routed, |Meeting { rows, cell, clusters, scores }| {
            let here = kernel::lane_tops(self.level, scores, &self.log_counts[clusters.clone()]);
            tops[*cell].extend_from_slice(&here[..rows.len()]);
            rows.iter().zip(&here).for_each(|(&row, top)| least[row as usize] = least[row as usize].max(top + LEAST));
        });
        for (rows, tops) in routed.by_cell.iter_mut().zip(&tops) {
            let mut tops = tops.iter();
            rows.retain(|&row| tops.next().is_some_and(|top| *top >= least[row as usize]));
        }
        let mut ranked: Vec<Vec<(i32, Reverse<u32>)>> = (0..query.rows()).map(|_| Vec::with_capacity(MATTER)).collect();
        let mut chosen = Vec::new();
        self.router.meet(&routed, |Meeting { rows, clusters, scores, .. }| {
            let mut from = [f32::INFINITY; PANEL];
            rows.iter().zip(&mut from).for_each(|(&row, from)| *from = least[row as usize]);
            chosen.resize(clusters.len().div_ceil(WORD) * PANEL, 0);
            kernel::lanes_from(self.level, scores, &self.log_counts[clusters.clone()], &from, &mut chosen);
            kernel::for_chosen_lanes(&chosen, |lane, at| {
                let cluster = Reverse((clusters.start + at) as u32);
                ranked[rows[lane] as usize].push((ordered(scores[at * PANEL + lane]), cluster));
            });
        });
        ranked.into_iter().map(|ranked| Ranked(ranked.into())).collect()
    }
}

/// Clusters by falling score; equal ones as they are numbered. Of hundreds that matter a little a row reads some ten.
pub(super) struct Ranked(BinaryHeap<(i32, Reverse<u32>)>);

impl Iterator for Ranked {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0.pop().map(|(_, Reverse(cluster))| cluster)
    }
}

/// An integer that orders as the number does.
fn ordered(x: f32) -> i32 {
    let bits = x.to_bits() as i32;
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

/// Some queries that see no key from `end` on, whatever stands behind them.
fn queries<'a>(head: &Head<'a>, end: usize) -> impl Iterator<Item = &'a [f32]> {
    let (query, mask) = (head.query, head.mask);
    let seeing = move |&i: &usize| (1..=end).contains(&mask.range(i).end);
    (0..query.rows()).filter(seeing).step_by(end.div_ceil(QUERIES)).map(move |i| query.row(i))
}

/// The nearest centroid of each key, of those of its cells.
fn nearest(level: Level, keys: Matrix<'_>, tree: &KMeansTree) -> Result<Vec<u32>> {
    let halves = |rows: Matrix<'_>| rows.iter().map(|x| (-0.5 * kernel::square_norm(x)) as f32).collect::<Vec<_>>();
    let (cells, centroids) = (tree.cells(), tree.centroids());
    let ends = (0..cells.rows()).map(|cell| tree.centroids_of(cell).end as u32);
    let ends = std::iter::once(0).chain(ends).collect();
    let (router, offset) =
        (Router::new(level, 1.0, (cells, halves(cells)), centroids, ends, KEY_PROBES)?, halves(centroids));
    let mut cluster = vec![0; keys.rows()];
    cluster.par_chunks_mut(BATCH).enumerate().for_each(|(batch, cluster)| {
        let mut best = vec![f32::NEG_INFINITY; cluster.len()];
        let keys = keys.slice(batch * BATCH..batch * BATCH + cluster.len());
        router.meet(&router.route(keys), |Meeting { rows, clusters, scores, .. }| {
            let top = kernel::lane_argmax(level, scores, &offset[clusters.clone()]);
            for (lane, (&row, &at)) in rows.iter().zip(&top).enumerate() {
                let score = scores[at as usize * PANEL + lane] + offset[clusters.start + at as usize];
                if score > best[row as usize] {
                    best[row as usize] = score;
                    cluster[row as usize] = clusters.start as u32 + at;
                }
            }
        });
    });
    Ok(cluster)
}

/// Clusters, and cells, numbered anew without those that hold none of the first keys.
struct Used {
    /// Of each key; none for a later key that would be alone.
    cluster: Vec<u32>,
    count: u32,
    cell_of: Vec<u32>,
    /// Cell z has the clusters `ends[z]..ends[z + 1]`.
    ends: Vec<u32>,
}

impl Used {
    fn new(cluster: &[u32], first: usize, tree: &KMeansTree) -> Self {
        let mut holds = vec![false; tree.centroids().rows()];
        cluster[..first].iter().for_each(|&c| holds[c as usize] = true);
        let mut number = vec![NONE; holds.len()];
        let (mut count, mut cell_of, mut ends) = (0, Vec::new(), vec![0]);
        for cell in 0..tree.cells().rows() {
            for c in tree.centroids_of(cell).filter(|&c| holds[c]) {
                number[c] = count;
                count += 1;
                cell_of.push(ends.len() as u32 - 1);
            }
            if ends.last() != Some(&count) {
                ends.push(count);
            }
        }
        Self { cluster: cluster.iter().map(|&c| number[c as usize]).collect(), count, cell_of, ends }
    }
}
