//! The two parts of a decomposition.

use faer::{Mat, MatRef};
use rayon::prelude::*;

/// L = U diag(σ) Vᵀ.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    n: usize,
    m: usize,
    /// U, `[n, rank]`, orthonormal columns.
    pub left: Vec<f64>,
    /// σ, `[rank]`, falling and positive.
    pub singular_values: Vec<f64>,
    /// V, `[m, rank]`, orthonormal columns.
    pub right: Vec<f64>,
}

impl LowRank {
    /// The first `singular_values.len()` columns of `left` and `right`; values that are not positive are dropped.
    pub(super) fn new(left: &Mat<f64>, singular_values: Vec<f64>, right: &Mat<f64>) -> Self {
        let singular_values: Vec<f64> = singular_values.into_iter().take_while(|s| *s > 0.0).collect();
        let rank = singular_values.len();
        let rows = |x: &Mat<f64>| (0..x.nrows()).flat_map(|i| (0..rank).map(move |c| x[(i, c)])).collect();
        Self { n: left.nrows(), m: right.nrows(), left: rows(left), right: rows(right), singular_values }
    }

    /// The zero matrix.
    pub(super) fn zero(n: usize, m: usize) -> Self {
        Self { n, m, left: Vec::new(), singular_values: Vec::new(), right: Vec::new() }
    }

    /// Number of rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.n, self.m)
    }

    /// Number of singular values.
    pub fn rank(&self) -> usize {
        self.singular_values.len()
    }

    /// U diag(σ), `[n, rank]`.
    pub fn scaled_left(&self) -> Vec<f64> {
        let mut scaled = self.left.clone();
        if self.rank() > 0 {
            let rows = scaled.chunks_exact_mut(self.rank());
            rows.for_each(|row| row.iter_mut().zip(&self.singular_values).for_each(|(u, s)| *u *= s));
        }
        scaled
    }

    /// L, `[n, m]`.
    pub fn to_dense(&self) -> Vec<f64> {
        let mut dense = vec![0.0; self.n * self.m];
        let (left, r) = (self.scaled_left(), self.rank());
        let left = MatRef::from_row_major_slice(&left, self.n, r);
        let right = MatRef::from_row_major_slice(&self.right, self.m, r);
        dense
            .par_chunks_mut(super::product::BLOCK * self.m)
            .enumerate()
            .for_each(|(b, rows)| super::product::outer_rows(left, right, b * super::product::BLOCK, rows));
        dense
    }

    /// Coherence of column and row space, (n/r) max_i ‖U_i‖² and (m/r) max_j ‖V_j‖²: from 1 (spread evenly) to n/r and
    /// m/r (a row of its own). The guarantees of principal component pursuit ask for small ones (Candès et al. 2011).
    /// None at rank 0.
    pub fn coherence(&self) -> Option<(f64, f64)> {
        let r = self.rank();
        let largest = |x: &[f64]| x.chunks_exact(r).map(|row| row.iter().map(|v| v * v).sum()).fold(0.0, f64::max);
        (r > 0).then(|| {
            let scale = |rows: usize| rows as f64 / r as f64;
            (scale(self.n) * largest(&self.left), scale(self.m) * largest(&self.right))
        })
    }
}

/// S, row by row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SparseRows {
    m: usize,
    /// Row i holds entries `offsets[i]..offsets[i + 1]`, `[n + 1]`.
    pub offsets: Vec<usize>,
    /// Columns of the entries, rising within a row.
    pub columns: Vec<u32>,
    /// The entries; none is zero.
    pub values: Vec<f64>,
}

impl SparseRows {
    /// No rows yet.
    pub(super) fn new(m: usize) -> Self {
        Self { m, offsets: vec![0], ..Self::default() }
    }

    pub(super) fn push_row(&mut self, entries: impl Iterator<Item = (u32, f64)>) {
        for (column, value) in entries.filter(|(_, v)| *v != 0.0) {
            self.columns.push(column);
            self.values.push(value);
        }
        self.offsets.push(self.columns.len());
    }

    /// The entries of a dense row-major matrix that are not zero.
    pub(super) fn from_dense(dense: &[f64], m: usize) -> Self {
        let mut rows = Self::new(m);
        for row in dense.chunks_exact(m) {
            rows.push_row((0..).zip(row.iter().copied()));
        }
        rows
    }

    /// The zero matrix.
    pub(super) fn zero(n: usize, m: usize) -> Self {
        Self { m, offsets: vec![0; n + 1], ..Self::default() }
    }

    /// Number of rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.offsets.len() - 1, self.m)
    }

    /// Number of entries.
    pub fn nonzeros(&self) -> usize {
        self.values.len()
    }

    /// Columns and values of row `i`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, i: usize) -> (&[u32], &[f64]) {
        let range = self.offsets[i]..self.offsets[i + 1];
        (&self.columns[range.clone()], &self.values[range])
    }

    /// S, `[n, m]`.
    pub fn to_dense(&self) -> Vec<f64> {
        let mut dense = vec![0.0; self.shape().0 * self.m];
        self.add_to(&mut dense);
        dense
    }

    pub(super) fn add_to(&self, dense: &mut [f64]) {
        for (i, row) in dense.chunks_exact_mut(self.m).enumerate() {
            let (columns, values) = self.row(i);
            columns.iter().zip(values).for_each(|(&j, v)| row[j as usize] += v);
        }
    }
}
