//! One head of the clustered process, with values.

use super::captures::Capture;
use anyhow::Result;
use scatterbrain_attention::Seed;
use scatterbrain_theory::ClusteredProcess;
use serde::Serialize;

/// Columns of queries, keys and values.
const HEAD_DIM: usize = 64;

/// A draw of [`ClusteredProcess`]; values N(0, I).
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Clustered {
    pub(super) clusters: usize,
    /// Queries of a cluster, and keys.
    pub(super) members: usize,
    /// Δ: the spread of members over the spread of centres.
    pub(super) spread: f64,
    /// β: a logit is β q·k.
    pub(super) inverse_temperature: f64,
    pub(super) seed: u64,
}

impl Clustered {
    /// The process without its temperature.
    pub(super) fn process(&self) -> ClusteredProcess {
        let Self { clusters, members, spread, .. } = *self;
        ClusteredProcess { clusters, members, head_dim: HEAD_DIM, spread }
    }

    /// Rows.
    pub(super) fn n(&self) -> usize {
        self.clusters * self.members
    }

    /// # Errors
    /// A process that is none.
    pub(super) fn draw(&self) -> Result<Capture> {
        let rows = self.process().sample(self.seed)?;
        let narrow = |rows: Vec<f64>| rows.into_iter().map(|x| x as f32).collect();
        let value = Seed(self.seed).stream(0).normals(self.n() * HEAD_DIM);
        let (query, key) = (narrow(rows.query), narrow(rows.key));
        Ok(Capture::drawn("clustered".into(), HEAD_DIM, self.inverse_temperature, query, key, value))
    }
}
