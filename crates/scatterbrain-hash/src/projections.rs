//! Stored directions and the product of rows with them, a panel of rows at a time.

use crate::Codes;
use scatterbrain_core::kernel::{PANEL, pack, product, unpack_rows};
use scatterbrain_core::tile::Keys;
use scatterbrain_core::{Error, Level, Matrix, Result, Rng};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// More numbers than this are refused when a hash is sampled: 4 GB of f32.
const MOST: usize = 1 << 30;

/// Directions of projection, `[count, head_dim]`, row-major.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Projections {
    head_dim: usize,
    data: Vec<f32>,
}

impl Projections {
    pub(crate) fn new(head_dim: usize, data: Vec<f32>) -> Self {
        Self { head_dim, data }
    }

    /// `count` standard normal directions; `count` was checked by [`size`].
    pub(crate) fn normal(head_dim: usize, count: usize, rng: &mut Rng) -> Self {
        Self::new(head_dim, rng.normals(head_dim * count))
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The directions in order, whether or not they are as many as they should.
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.data.chunks_exact(self.head_dim.max(1))
    }

    /// The directions, if there are as many as the sizes of the hash (`factors`) say.
    pub(crate) fn checked(&self, factors: &[usize]) -> Result<Matrix<'_>> {
        let count = factors.iter().try_fold(1usize, |a, &b| a.checked_mul(b)).unwrap_or(usize::MAX);
        Matrix::new("projections", &self.data, count, self.head_dim)
    }

    /// Calls `each(rows, panel)` for [`PANEL`] rows of `rows` at a time, times `factor`, with their projections on all
    /// directions (what [`Projections::checked`] gave), `panel[direction][PANEL]`; lanes behind the last row are 0.
    fn project_panels(
        level: Level,
        directions: Matrix<'_>,
        rows: Matrix<'_>,
        factor: f32,
        mut each: impl FnMut(Range<usize>, &[f32]),
    ) {
        let keys = Keys::Range(0..directions.rows());
        let mut panel = vec![0.0; directions.cols() * PANEL];
        let mut out = vec![0.0; directions.rows() * PANEL];
        for start in (0..rows.rows()).step_by(PANEL) {
            let listed: [u32; PANEL] = std::array::from_fn(|lane| (start + lane) as u32);
            let range = start..rows.rows().min(start + PANEL);
            pack(level, rows, &listed[..range.len()], factor, &mut panel);
            product(level, &panel, directions, &keys, &mut out);
            each(range, &out);
        }
    }

    /// Calls `each(row, projected)` for every row of `rows` times `factor`, with its projection on every
    /// direction of `directions` (what [`Projections::checked`] gave), in order.
    pub(crate) fn project(
        level: Level,
        directions: Matrix<'_>,
        rows: Matrix<'_>,
        factor: f32,
        mut each: impl FnMut(usize, &[f32]),
    ) {
        let count = directions.rows();
        let mut projected = vec![0.0; count * PANEL];
        Self::project_panels(level, directions, rows, factor, |range, panel| {
            let projected = &mut projected[..range.len() * count];
            unpack_rows(level, panel, projected);
            range.zip(projected.chunks_exact(count)).for_each(|(i, projected)| each(i, projected));
        });
    }

    /// Codes by hash: `code(h, projected)` sees the `per_hash` projections of one row under hash `h`.
    pub(crate) fn codes(
        &self,
        level: Level,
        rows: Matrix<'_>,
        n_hashes: usize,
        per_hash: &[usize],
        code: impl Fn(usize, &[f32]) -> u32,
    ) -> Result<Codes> {
        let (directions, width) = self.directions(rows, n_hashes, per_hash)?;
        let n = rows.rows();
        let mut codes = vec![0; n_hashes * n];
        Self::project(level, directions, rows, 1.0, |i, projected| {
            for (h, projected) in projected.chunks_exact(width).enumerate() {
                codes[h * n + i] = code(h, projected);
            }
        });
        Ok(Codes { n_hashes, rows: n, codes })
    }

    /// [`Projections::codes`] of [`PANEL`] rows at once: `code(panel)` sees their projections under one hash,
    /// `panel[projection][PANEL]`.
    pub(crate) fn codes_of_panels(
        &self,
        level: Level,
        rows: Matrix<'_>,
        n_hashes: usize,
        per_hash: usize,
        code: impl Fn(&[f32]) -> [u32; PANEL],
    ) -> Result<Codes> {
        let (directions, width) = self.directions(rows, n_hashes, &[per_hash])?;
        let n = rows.rows();
        let mut codes = vec![0; n_hashes * n];
        Self::project_panels(level, directions, rows, 1.0, |range, panel| {
            for (h, panel) in panel.chunks_exact(width * PANEL).enumerate() {
                codes[h * n..][range.clone()].copy_from_slice(&code(panel)[..range.len()]);
            }
        });
        Ok(Codes { n_hashes, rows: n, codes })
    }

    /// The directions of all hashes, checked, and how many one hash has.
    fn directions(&self, rows: Matrix<'_>, n_hashes: usize, per_hash: &[usize]) -> Result<(Matrix<'_>, usize)> {
        check_rows("rows", rows, self.head_dim)?;
        let factors: Vec<usize> = [n_hashes].iter().chain(per_hash).copied().collect();
        let directions = self.checked(&factors)?;
        Ok((directions, directions.rows() / n_hashes))
    }

    /// The first `kept` of every `per_hash` directions.
    pub(crate) fn first(&self, kept: usize, per_hash: usize) -> Self {
        let hashes = self.data.chunks_exact(per_hash * self.head_dim);
        Self::new(self.head_dim, hashes.flat_map(|hash| &hash[..kept * self.head_dim]).copied().collect())
    }
}

/// The product of named sizes, all at least 1.
pub(crate) fn size(sizes: &[(&'static str, usize)]) -> Result<usize> {
    let mut product = 1usize;
    for &(argument, size) in sizes {
        if size == 0 {
            return Err(Error::invalid(argument, "at least 1", 0));
        }
        product = product
            .checked_mul(size)
            .filter(|&p| p <= MOST)
            .ok_or_else(|| Error::invalid(argument, format!("at most {MOST} numbers in the whole hash"), size))?;
    }
    Ok(product)
}

/// Rows of the right width, and few enough for 32-bit positions.
pub(crate) fn check_rows(argument: &'static str, rows: Matrix<'_>, head_dim: usize) -> Result<()> {
    if rows.cols() != head_dim {
        return Err(Error::invalid(argument, format!("{head_dim} columns (head_dim)"), rows.cols()));
    }
    if u32::try_from(rows.rows()).is_err() {
        return Err(Error::invalid(argument, "fewer than 2^32 rows", rows.rows()));
    }
    Ok(())
}
