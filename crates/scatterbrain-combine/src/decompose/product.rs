//! Products of a dense row-major matrix with a few columns, and the dense factorisations, each the same for any
//! number of threads: blocks have a fixed size, and faer is told to run alone.

use super::DecomposeError;
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::{cholesky, evd, householder, matmul, qr, svd};
use faer::{Accum, Conj, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Rows of a block of work.
pub(super) const BLOCK: usize = 128;

/// A dense row-major matrix.
pub(super) struct Dense {
    pub(super) data: Vec<f64>,
    pub(super) n: usize,
    pub(super) m: usize,
}

impl Dense {
    pub(super) fn view(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.data, self.n, self.m)
    }

    /// X·V, V `[m, k]`.
    pub(super) fn times(&self, v: MatRef<'_, f64>) -> Mat<f64> {
        in_blocks(self.n, v.ncols(), |start, out| {
            multiply(out, self.view().subrows(start, out_rows(self.n, start)), v);
        })
    }

    /// Xᵀ·Q, Q `[n, k]`.
    pub(super) fn transposed_times(&self, q: MatRef<'_, f64>) -> Mat<f64> {
        in_blocks(self.m, q.ncols(), |start, out| {
            multiply(out, self.view().transpose().subrows(start, out_rows(self.m, start)), q);
        })
    }
}

fn out_rows(rows: usize, start: usize) -> usize {
    BLOCK.min(rows - start)
}

fn multiply(out: &mut [f64], left: MatRef<'_, f64>, right: MatRef<'_, f64>) {
    let out = MatMut::from_row_major_slice_mut(out, left.nrows(), right.ncols());
    matmul::matmul(out, Accum::Replace, left, right, 1.0, Par::Seq);
}

/// A matrix made in blocks of rows.
fn in_blocks(rows: usize, cols: usize, fill: impl Fn(usize, &mut [f64]) + Sync) -> Mat<f64> {
    if cols == 0 {
        return Mat::zeros(rows, 0);
    }
    let mut data = vec![0.0; rows * cols];
    data.par_chunks_mut(BLOCK * cols).enumerate().for_each(|(block, out)| fill(block * BLOCK, out));
    MatRef::from_row_major_slice(&data, rows, cols).to_owned()
}

/// left[rows]·rightᵀ, row-major, for rows from `start`.
pub(super) fn outer_rows(left: MatRef<'_, f64>, right: MatRef<'_, f64>, start: usize, out: &mut [f64]) {
    let rows = out.len() / right.nrows();
    if left.ncols() == 0 {
        return out.fill(0.0);
    }
    multiply(out, left.subrows(start, rows), right.transpose());
}

/// left·right of small matrices.
pub(super) fn small(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(left.nrows(), right.ncols());
    matmul::matmul(out.as_mut(), Accum::Replace, left, right, 1.0, Par::Seq);
    out
}

/// An orthonormal basis of the columns, by Householder QR; where columns depend on each other, completed.
pub(super) fn orthonormal(mut columns: Mat<f64>) -> Mat<f64> {
    let (n, k) = columns.shape();
    if k == 0 {
        return columns;
    }
    let block = qr::no_pivoting::factor::recommended_block_size::<f64>(n, k);
    let mut coefficients = Mat::zeros(block, n.min(k));
    let scratch = qr::no_pivoting::factor::qr_in_place_scratch::<f64>(n, k, block, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    qr::no_pivoting::factor::qr_in_place(columns.as_mut(), coefficients.as_mut(), Par::Seq, stack, Default::default());
    let mut q = Mat::identity(n, n.min(k));
    let scratch = householder::apply_block_householder_sequence_on_the_left_in_place_scratch::<f64>(n, block, n.min(k));
    let mut memory = MemBuffer::new(scratch);
    householder::apply_block_householder_sequence_on_the_left_in_place_with_conj(
        columns.as_ref().subcols(0, n.min(k)),
        coefficients.as_ref(),
        Conj::No,
        q.as_mut(),
        Par::Seq,
        MemStack::new(&mut memory),
    );
    q
}

/// U, σ, V.
type Triples = (Mat<f64>, Vec<f64>, Mat<f64>);

/// X = U diag(σ) Vᵀ, σ falling, min(rows, cols) of them.
pub(super) fn thin_svd(x: MatRef<'_, f64>) -> Result<Triples, DecomposeError> {
    let (n, m) = x.shape();
    let size = n.min(m);
    let (mut u, mut v, mut s) = (Mat::zeros(n, size), Mat::zeros(m, size), Diag::<f64>::zeros(size));
    let thin = svd::ComputeSvdVectors::Thin;
    let mut memory = MemBuffer::new(svd::svd_scratch::<f64>(n, m, thin, thin, Par::Seq, Default::default()));
    let stack = MemStack::new(&mut memory);
    svd::svd(x, s.as_mut(), Some(u.as_mut()), Some(v.as_mut()), Par::Seq, stack, Default::default())
        .map_err(|_| DecomposeError::Factorisation { rows: n, cols: m })?;
    let s = s.column_vector().iter().copied().collect();
    Ok((u, s, v))
}

/// X·Xᵀ or Xᵀ·X, whichever is smaller.
pub(super) fn gram(x: &Dense) -> Mat<f64> {
    let view = if x.n <= x.m { x.view() } else { x.view().transpose() };
    in_blocks(view.nrows(), view.nrows(), |start, out| {
        multiply(out, view.subrows(start, out_rows(view.nrows(), start)), view.transpose());
    })
}

/// Eigenvalues of a symmetric matrix, rising.
pub(super) fn eigenvalues(x: MatRef<'_, f64>) -> Result<Vec<f64>, DecomposeError> {
    let n = x.nrows();
    let mut s = Diag::<f64>::zeros(n);
    let scratch = evd::self_adjoint_evd_scratch::<f64>(n, evd::ComputeEigenvectors::No, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(scratch);
    evd::self_adjoint_evd(x, s.as_mut(), None, Par::Seq, MemStack::new(&mut memory), Default::default())
        .map_err(|_| DecomposeError::Factorisation { rows: n, cols: n })?;
    Ok(s.column_vector().iter().copied().collect())
}

/// Whether a symmetric matrix is positive definite, by its Cholesky factorisation.
pub(super) fn is_positive_definite(mut x: Mat<f64>) -> bool {
    let n = x.nrows();
    let scratch = cholesky::llt::factor::cholesky_in_place_scratch::<f64>(n, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    let regular = Default::default();
    cholesky::llt::factor::cholesky_in_place(x.as_mut(), regular, Par::Seq, stack, Default::default()).is_ok()
}
