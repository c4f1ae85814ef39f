//! Product of panels with rows: `out[p][j][r] = Σ_c panel_p[c][r] · row_j[c]`.
//!
//! Micro-kernels hold up to 24 accumulators, a row element is broadcast, panels are read along:
//!
//! | a vector is | panels × vectors × rows |
//! |---|---|
//! | less than a panel | 1 × 2 × 6 |
//! | a panel | 4 × 1 × 6, and 1 × 1 × 12 for what is left |
//!
//! Each output is one chain of fused multiply-adds in column order, whatever rows and panels surround it.

use super::{PANEL, PANELS, RowsOf};
use crate::tile::Keys;
use crate::{Level, Matrix};
use pulp::{Simd, WithSimd};

/// `out[p][j][r] = Σ_c panels[p][c][r] · rows(keys[j])[c]` for every panel and every listed row.
///
/// # Panics
/// If `panels` is no multiple of `rows.cols() * PANEL` long, or `out` is not as many times `keys.len() * PANEL`.
pub fn product(level: Level, panels: &[f32], rows: Matrix<'_>, keys: &Keys, out: &mut [f32]) {
    let (d, n) = (rows.cols(), keys.len());
    let count = panels.len() / (d * PANEL);
    assert_eq!(panels.len(), count * d * PANEL, "panels");
    assert_eq!(out.len(), count * n * PANEL, "out");
    if out.is_empty() {
        return;
    }
    let (panels, out) = (panels.as_chunks().0, out.as_chunks_mut().0);
    row_lookup!(rows, keys, |rows| level.run_wide(Product { panels, d, rows, n, out }));
}

struct Product<'a, R> {
    /// Each of `d` columns.
    panels: &'a [[f32; PANEL]],
    d: usize,
    /// `n` of them.
    rows: R,
    n: usize,
    out: &'a mut [[f32; PANEL]],
}

impl<'r, R: RowsOf<'r>> WithSimd for Product<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { mut panels, d, rows, n, mut out } = self;
        while S::F32_LANES == PANEL && panels.len() >= PANELS * d {
            let (several, rest) = panels.split_at(PANELS * d);
            let (out_of_several, rest_of_out) = out.split_at_mut(PANELS * n);
            let (several, mut out_of_several) = (parts(several, d), parts_mut(out_of_several, n));
            each_share!(n, |at, N| {
                let rows = some_of::<_, N>(rows, at);
                some_rows::<S, PANELS, 1, N>(simd, several, rows, 0, chunks(&mut out_of_several, at));
            });
            (panels, out) = (rest, rest_of_out);
        }
        for (panel, out) in panels.chunks_exact(d).zip(out.chunks_exact_mut(n)) {
            let (panel, mut out) = ([panel], [out]);
            if S::F32_LANES == PANEL {
                each_share!(wide n, |at, N| {
                    some_rows::<S, 1, 1, N>(simd, panel, some_of::<_, N>(rows, at), 0, chunks(&mut out, at));
                });
                continue;
            }
            each_share!(n, |at, N| {
                let rows = some_of::<_, N>(rows, at);
                for pair in (0..PANEL / S::F32_LANES).step_by(2) {
                    some_rows::<S, 1, 2, N>(simd, panel, rows, pair, chunks(&mut out, at));
                }
            });
        }
    }
}

/// N runs of `size`.
#[inline(always)]
pub(super) fn parts<T, const N: usize>(all: &[T], size: usize) -> [&[T]; N] {
    std::array::from_fn(|part| &all[part * size..(part + 1) * size])
}

/// N runs of `size`, to write.
#[inline(always)]
pub(super) fn parts_mut<T, const N: usize>(all: &mut [T], size: usize) -> [&mut [T]; N] {
    let mut parts = all.chunks_exact_mut(size);
    std::array::from_fn(|_| parts.next().expect("a run"))
}

/// N rows or columns of each panel, from `at`.
#[inline(always)]
pub(super) fn chunks<'o, const P: usize, const N: usize>(
    panels: &'o mut [&mut [[f32; PANEL]]; P],
    at: usize,
) -> [&'o mut [[f32; PANEL]; N]; P] {
    panels.each_mut().map(|panel| panel[at..].first_chunk_mut().expect("as many as asked for"))
}

/// N rows from `at`.
#[inline(always)]
fn some_of<'r, R: RowsOf<'r>, const N: usize>(rows: R, at: usize) -> [&'r [f32]; N] {
    apart(std::array::from_fn(|o| rows.row(at + o)))
}

/// The rows, whose places have nothing to do with each other as far as the compiler can see: else it makes the address of
/// each from the one before, once a column.
#[inline(always)]
pub(super) fn apart<T, const N: usize>(rows: [&[T]; N]) -> [&[T]; N] {
    std::hint::black_box(rows)
}

/// N rows against V vectors of each of P panels, from `first`.
#[inline(always)]
fn some_rows<S: Simd, const P: usize, const V: usize, const N: usize>(
    simd: S,
    panels: [&[[f32; PANEL]]; P],
    rows: [&[f32]; N],
    first: usize,
    out: [&mut [[f32; PANEL]; N]; P],
) {
    let mut sums = [[[simd.splat_f32s(0.0); V]; N]; P];
    let d = panels[0].len();
    let panels: [&[[f32; PANEL]]; P] = std::array::from_fn(|p| &panels[p][..d]);
    let rows: [&[f32]; N] = std::array::from_fn(|o| &rows[o][..d]);
    for c in 0..d {
        add_column(simd, std::array::from_fn(|p| &panels[p][c]), first, std::array::from_fn(|o| rows[o][c]), &mut sums);
    }
    for (out, sums) in out.into_iter().zip(&sums) {
        store(simd, sums, first, out);
    }
}

/// Writes V vectors of every row of a panel, from `first`.
#[inline(always)]
pub(super) fn store<S: Simd, const V: usize, const N: usize>(
    _: S,
    sums: &[[S::f32s; V]; N],
    first: usize,
    out: &mut [[f32; PANEL]; N],
) {
    for (out, sum) in out.iter_mut().zip(sums) {
        let out = &mut S::as_mut_simd_f32s(out).0[first..first + V];
        for (out, sum) in out.iter_mut().zip(sum) {
            *out = *sum;
        }
    }
}

/// `sums[p][j] += lanes[p] · x[j]`.
#[inline(always)]
pub(super) fn add_column<S: Simd, const P: usize, const V: usize, const N: usize>(
    simd: S,
    lanes: [&[f32; PANEL]; P],
    first: usize,
    x: [f32; N],
    sums: &mut [[[S::f32s; V]; N]; P],
) {
    for (j, x) in x.into_iter().enumerate() {
        let x = simd.splat_f32s(x);
        for p in 0..P {
            let lanes = S::as_simd_f32s(lanes[p]).0;
            for v in 0..V {
                sums[p][j][v] = simd.mul_add_e_f32s(lanes[first + v], x, sums[p][j][v]);
            }
        }
    }
}
