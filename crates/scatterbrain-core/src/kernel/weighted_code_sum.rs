//! Weighted sum of rows in bytes: `acc[c][r] += Σ_j code[j][r] · row_j[c]`, exactly.
//!
//! Micro-kernel: up to six columns × sixteen lanes, or twelve where one vector is a whole panel, four rows a step, over runs
//! of groups that cannot exceed 16 bits where sums are no wider.

use super::{PANEL, WeightCodes};
use crate::Level;
use crate::arch::quads::{CodeQuad, Quads, WithQuads};
use pulp::{Simd, WithSimd};

/// Sums over so many keys fit in 32 bits, whatever their codes and rows are.
pub const CODE_KEYS: usize = i32::MAX as usize / (127 * 127);

/// Rows of codes as [`weighted_code_sum`] reads them: four rows side by side, zeros after the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeRows {
    quads: Vec<[i8; 4]>,
    columns: usize,
}

impl CodeRows {
    /// Packs the first `columns` codes of rows of `width` codes; a code of −128 counts as −127.
    ///
    /// # Panics
    /// If `width` is 0 or less than `columns`, or `codes` not a whole number of rows.
    pub fn new(level: Level, codes: &[i8], width: usize, columns: usize) -> Self {
        let mut rows = Self::with_capacity(codes.len() / width.max(1), columns);
        rows.append(level, codes, width);
        rows
    }

    /// None yet, with room for some.
    pub fn with_capacity(rows: usize, columns: usize) -> Self {
        Self { quads: Vec::with_capacity(rows.div_ceil(4) * columns), columns }
    }

    /// Adds rows as [`CodeRows::new`] packs them, from a whole group on: so all appended before the last are to be a multiple
    /// of four.
    ///
    /// # Panics
    /// If `width` is 0 or less than the columns, or `codes` not a whole number of rows.
    pub fn append(&mut self, level: Level, codes: &[i8], width: usize) {
        let Self { quads, columns } = self;
        assert!(width >= (*columns).max(1) && codes.len().is_multiple_of(width), "rows");
        let (before, rows) = (quads.len(), codes.len() / width);
        quads.resize(before + rows.div_ceil(4) * *columns, [0; 4]);
        level.run(Interleave { codes, width, columns: *columns, quads: &mut quads[before..] });
    }

    /// Columns of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

struct Interleave<'a> {
    codes: &'a [i8],
    width: usize,
    columns: usize,
    quads: &'a mut [[i8; 4]],
}

impl WithSimd for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { codes, width, columns, quads } = self;
        // Four rows at once: one by one, each quad would be written four times.
        let none = vec![0; columns];
        for (four, quads) in codes.chunks(4 * width).zip(quads.chunks_exact_mut(columns.max(1))) {
            let row = |at: usize| four.get(at * width..).and_then(|r| r.get(..columns)).unwrap_or(&none);
            let (a, b, c, d) = (row(0), row(1), row(2), row(3));
            for ((((quad, a), b), c), d) in quads.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *quad = [*a, *b, *c, *d].map(|x| x.max(-127));
            }
        }
    }
}

/// `acc[c][r] += Σ_j code[j][r] · rows[j][c]`, `j` as the codes were made. Sums must fit in 32 bits, as those over
/// [`CODE_KEYS`] keys do.
///
/// # Panics
/// If `acc` is not `rows.columns() * PANEL` long, or a group of codes has no row; a code behind the last row of a group is
/// multiplied by zeros.
///
/// # Cost
/// A fourth of [`super::weighted_sum()`] for codes that are not in a group of zeros.
pub fn weighted_code_sum(level: Level, codes: &WeightCodes, rows: &CodeRows, acc: &mut [i32]) {
    assert_eq!(acc.len(), rows.columns * PANEL, "acc");
    level.run_quads(WeightedCodeSum { codes, rows, acc: acc.as_chunks_mut().0 });
}

struct WeightedCodeSum<'a> {
    codes: &'a WeightCodes,
    rows: &'a CodeRows,
    acc: &'a mut [[i32; PANEL]],
}

impl WithQuads for WeightedCodeSum<'_> {
    /// Where the number of columns is known to the compiler, the place of a row costs a shift and one check.
    #[inline(always)]
    fn run<S: Simd, Q: Quads>(self, _: S, quads: Q) {
        let (rows, columns) = (&self.rows.quads[..], self.rows.columns);
        match columns {
            32 => self.sum(quads, |place| &rows.as_chunks::<32>().0[place]),
            64 => self.sum(quads, |place| &rows.as_chunks::<64>().0[place]),
            128 => self.sum(quads, |place| &rows.as_chunks::<128>().0[place]),
            _ => self.sum(quads, |place| &rows[place * columns..]),
        }
    }
}

impl<'a> WeightedCodeSum<'a> {
    /// The sums, with what finds the four rows at a place.
    #[inline(always)]
    fn sum<Q: Quads>(self, quads: Q, row: impl Fn(usize) -> &'a [[i8; 4]] + Copy) {
        let Self { codes: WeightCodes { quads: codes, places }, acc, .. } = self;
        let (mut codes, mut places) = (&codes[..], &places[..]);
        while !codes.is_empty() {
            let (run, run_places);
            (run, codes) = codes.split_at(quads.fitting(codes));
            (run_places, places) = places.split_at(run.len());
            let rows = run_places.iter().map(move |&place| row(place as usize));
            if Q::WIDE {
                each_share!(wide acc.len(), |at, N| { some_columns::<Q, N>(quads, run, rows.clone(), at, acc) });
            } else {
                each_share!(acc.len(), |at, N| { some_columns::<Q, N>(quads, run, rows.clone(), at, acc) });
            }
        }
    }
}

/// N columns from the one at a place.
#[inline(always)]
fn some_columns<'a, Q: Quads, const N: usize>(
    quads: Q,
    codes: &[CodeQuad],
    rows: impl Iterator<Item = &'a [[i8; 4]]>,
    at: usize,
    acc: &mut [[i32; PANEL]],
) {
    let acc: &mut [_; N] = acc[at..].first_chunk_mut().expect("columns of the sum");
    quads.weigh(codes, rows.map(|four| four[at..].first_chunk().expect("columns of four rows")), acc);
}
