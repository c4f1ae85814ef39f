//! Which clusters a row is compared with: those of the cells that come first for it.
//!
//! ```text
//! cells of row x    = the first p by x·M_z + a_z
//! clusters of x     = those of its cells, with x·μ_c
//! ```
//!
//! Rows are taken a batch at a time and brought together by cell, so that sixteen of them are multiplied with a cell's
//! clusters at once, in codes of 8 bits. What is found for a row depends on it alone.

use crate::quantised::QuantisedLogits;
use scatterbrain_core::kernel::{self, PANEL, WORD};
use scatterbrain_core::{Level, Matrix, Result};
use scatterbrain_hash::QuantisedRows;
use std::ops::Range;

/// Rows that are brought together.
pub(super) const BATCH: usize = 2048;

/// Clusters by cell, as rows to multiply with.
pub(super) struct Router {
    cells: QuantisedLogits,
    /// a.
    offsets: Vec<f32>,
    clusters: QuantisedLogits,
    /// Cell z has the clusters `ends[z]..ends[z + 1]`.
    ends: Vec<u32>,
    /// p.
    probes: u32,
    level: Level,
}

/// The rows of a batch, and where they look.
pub(super) struct Routed {
    rows: QuantisedRows,
    /// The rows that look into each cell, ascending.
    pub by_cell: Vec<Vec<u32>>,
}

/// Some rows against the clusters of one cell.
pub(super) struct Meeting<'a> {
    /// At most [`PANEL`] of the batch.
    pub rows: &'a [u32],
    pub cell: usize,
    pub clusters: Range<usize>,
    /// `[cluster][PANEL]`.
    pub scores: &'a [f32],
}

impl Router {
    /// With the products times `scale`. Where a row would look into two thirds of the cells they are one: to bring rows
    /// together by cell then costs more than it spares.
    pub(super) fn new(
        level: Level,
        scale: f32,
        (cells, offsets): (Matrix<'_>, Vec<f32>),
        clusters: Matrix<'_>,
        ends: Vec<u32>,
        probes: u32,
    ) -> Result<Self> {
        let all = 2 * cells.rows() <= 3 * probes as usize;
        let (cells, offsets) = if all { (cells.first_rows(1), vec![0.0]) } else { (cells, offsets) };
        let ends = if all { vec![0, clusters.rows() as u32] } else { ends };
        let rows = |rows| QuantisedLogits::new(level, rows, scale);
        Ok(Self { cells: rows(cells)?, offsets, clusters: rows(clusters)?, ends, probes, level })
    }

    /// The cells of the rows of a batch.
    pub(super) fn route(&self, batch: Matrix<'_>) -> Routed {
        let rows = QuantisedRows::new(self.level, batch, i8::MAX).expect("127 is a code");
        let count = self.offsets.len();
        let (mut scores, mut chosen) = (vec![0.0; count * PANEL], vec![0; count.div_ceil(WORD) * PANEL]);
        if count == 1 {
            return Routed { by_cell: vec![(0..batch.rows() as u32).collect()], rows };
        }
        let mut by_cell = vec![Vec::new(); count];
        for (panel, first) in rows.codes().chunks(rows.width() * PANEL).zip((0..).step_by(PANEL)) {
            let lanes = panel.len() / rows.width();
            self.cells.products(panel, &rows.scales()[first..first + lanes], &(0..count), &mut scores);
            for (scores, offset) in scores.as_chunks_mut::<PANEL>().0.iter_mut().zip(&self.offsets) {
                scores.iter_mut().for_each(|score| *score += offset);
            }
            kernel::select(self.level, &mut scores, self.probes..=self.probes, &mut chosen);
            kernel::for_chosen(&chosen, |cell, bits| {
                let taken = (0..lanes).filter(|lane| bits >> lane & 1 == 1);
                by_cell[cell].extend(taken.map(|lane| (first + lane) as u32));
            });
        }
        Routed { rows, by_cell }
    }

    /// Calls `meet` for the rows of every cell and its clusters.
    pub(super) fn meet(&self, routed: &Routed, mut meet: impl FnMut(&Meeting<'_>)) {
        let Routed { rows, by_cell } = routed;
        let (mut codes, mut scales, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for (cell, listed) in by_cell.iter().enumerate() {
            let clusters = self.ends[cell] as usize..self.ends[cell + 1] as usize;
            scores.resize(clusters.len() * PANEL, 0.0);
            for listed in listed.chunks(PANEL) {
                codes.clear();
                scales.clear();
                for &row in listed {
                    codes.extend_from_slice(rows.row(row as usize));
                    scales.push(rows.scales()[row as usize]);
                }
                self.clusters.products(&codes, &scales, &clusters, &mut scores);
                meet(&Meeting { rows: listed, cell, clusters: clusters.clone(), scores: &scores });
            }
        }
    }
}
