//! One head of the clustered process: rows scattered around centres, as both queries and keys.

use super::captures::Capture;
use scatterbrain_attention::Seed;
use serde::Serialize;

/// Columns of queries, keys and values.
const HEAD_DIM: usize = 64;

/// The process: centres c ~ N(0, I/√d), members c + N(0, Δ²I/√d), so that |c|² is about √d; values N(0, I).
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Clustered {
    pub(super) n: usize,
    /// Members of a cluster.
    pub(super) members: usize,
    /// Δ: the spread of members over the spread of centres.
    pub(super) spread: f64,
    /// β: a logit is β q·k.
    pub(super) inverse_temperature: f64,
    pub(super) seed: u64,
}

impl Clustered {
    /// Draws a head. The order of rows is random, so that neighbours in position are no neighbours in space.
    pub(super) fn draw(&self) -> Capture {
        let seed = Seed(self.seed);
        let sigma = (HEAD_DIM as f64).powf(-0.25);
        let (mut centre, mut member) = (seed.stream(0), seed.stream(1));
        let centres: Vec<f64> =
            (0..self.n.div_ceil(self.members) * HEAD_DIM).map(|_| sigma * centre.normal()).collect();
        let mut order: Vec<usize> = (0..self.n).collect();
        let mut shuffle = seed.stream(2);
        for last in (1..self.n).rev() {
            order.swap(last, shuffle.below(last as u64 + 1) as usize);
        }
        let mut rows = Vec::with_capacity(self.n * HEAD_DIM);
        for at in order {
            let start = at / self.members * HEAD_DIM;
            let around = &centres[start..start + HEAD_DIM];
            rows.extend(around.iter().map(|c| (c + self.spread * sigma * member.normal()) as f32));
        }
        let value = seed.stream(3).normals(self.n * HEAD_DIM);
        Capture::drawn("clustered".into(), HEAD_DIM, self.inverse_temperature, rows.clone(), rows, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_cluster_are_near() {
        let process = Clustered { n: 60, members: 20, spread: 0.1, inverse_temperature: 1.0, seed: 1 };
        let head = process.draw();
        let row = |i: usize| &head.query[i * HEAD_DIM..(i + 1) * HEAD_DIM];
        let distance = |i: usize, j: usize| row(i).iter().zip(row(j)).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        // Within a cluster 2 Δ² √d = 0.16 on average, between clusters 2 √d = 16 more.
        let near = |i: usize| (0..60).filter(|&j| distance(i, j) < 1.0).count();
        assert!((0..60).all(|i| near(i) == 20));
    }
}
