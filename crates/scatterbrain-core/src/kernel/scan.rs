//! Approximate scores of a panel of quantised queries with quantised keys.
//!
//! Micro-kernel: up to six keys × sixteen queries, or twelve where one vector is a whole panel, four columns a step, as in
//! [`super::product()`]; four bytes of a key are broadcast. Integer arithmetic is exact, and the two factors are applied in
//! one order, so that scores of the same codes without offsets are the same to the bit at every level that takes these
//! codes.

use super::product::apart;
use super::{PANEL, QUAD};
use crate::Level;
use crate::arch::quads::{PanelQuad, Quads, Start, WithQuads};
use pulp::Simd;

/// The largest code of a key that [`scan()`] takes at a level; it is stored as `code + key_code(level)`, without sign. 127
/// with VNNI (AVX-VNNI, or AVX-512's with the feature `avx512`); else 63, as AVX2 adds two products of bytes in 16 bits, and
/// other levels take the same codes.
///
/// ```
/// use scatterbrain_core::{Level, kernel};
/// assert_eq!(kernel::key_code(Level::scalar()), 63);
/// ```
pub fn key_code(level: Level) -> i8 {
    if level.has_fine_codes() { i8::MAX } else { 63 }
}

/// Sixteen quantised queries, packed for [`scan()`].
#[derive(Debug, Clone)]
pub struct QueryCodes {
    panel: Vec<PanelQuad>,
    scales: [f32; PANEL],
    /// What the keys' offsets add to the two parts of a product, negated.
    start: Start,
    /// That offset.
    key_code: i8,
}

impl QueryCodes {
    /// Packs the codes of up to [`PANEL`] rows, `width` bytes each, with their scales, for scans at a level; missing rows
    /// are zero.
    ///
    /// # Panics
    /// If `width` is 0 or no multiple of [`QUAD`], there are more rows than lanes, or other than one scale a row.
    pub fn new(level: Level, codes: &[i8], width: usize, scales: &[f32]) -> Self {
        assert!(width > 0 && width.is_multiple_of(QUAD), "width");
        assert!(scales.len() <= PANEL && codes.len() == width * scales.len(), "codes and scales");
        let (panel, key_code) = (vec![[[0; QUAD]; PANEL]; width / QUAD], key_code(level));
        let mut packed = QueryCodes { panel, scales: [0.0; PANEL], start: Start::default(), key_code };
        packed.scales[..scales.len()].copy_from_slice(scales);
        for (lane, row) in codes.chunks_exact(width).enumerate() {
            for (column, quad) in packed.panel.iter_mut().zip(row.as_chunks().0) {
                column[lane] = *quad;
            }
            let mut sums = [0i32; QUAD];
            for quad in row.as_chunks::<QUAD>().0 {
                sums.iter_mut().zip(quad).for_each(|(sum, code)| *sum += i32::from(*code));
            }
            packed.start.set(lane, [sums[0] + sums[1], sums[2] + sums[3]].map(|sum| -i32::from(key_code) * sum));
        }
        packed
    }
}

/// `out[j][r] = (Σ_c query[r][c] · (keys[j][c] − key_code)) · query_scale[r] · key_scale[j] + offsets[r]`, where the sum
/// over even and that over odd pairs of columns each fit in 16 bits, or the whole in 32 at levels whose [`key_code`] is 127;
/// partial sums need not.
///
/// Codes of [`super::quantise_rows`] (keys with at most [`key_code`]) within [`super::product_limit`] have sums that fit.
/// Factors are applied from the left: a sum times the query's scale that exceeds f32 is infinite whatever the key's scale.
///
/// # Panics
/// If `query` was packed for a level of another [`key_code`], `keys` has not as many bytes a key as `query` has columns, or
/// one of them exceeds twice [`key_code`] by more than 1 (in debug builds), or `out` has not a panel row a key.
pub fn scan(level: Level, query: &QueryCodes, keys: &[u8], scales: &[f32], offsets: &[f32; PANEL], out: &mut [f32]) {
    assert_eq!(keys.len(), scales.len() * query.panel.len() * QUAD, "keys");
    assert_eq!(out.len(), scales.len() * PANEL, "out");
    assert_eq!(query.key_code, key_code(level), "level of the query's codes");
    debug_assert!(keys.iter().all(|&k| k <= 2 * query.key_code.unsigned_abs() + 1), "keys");
    let (out, quads) = (out.as_chunks_mut().0, keys.as_chunks().0);
    level.run_quads(Scan { query, keys: quads, scales, offsets, out });
}

struct Scan<'a> {
    query: &'a QueryCodes,
    keys: &'a [[u8; QUAD]],
    scales: &'a [f32],
    offsets: &'a [f32; PANEL],
    out: &'a mut [[f32; PANEL]],
}

impl WithQuads for Scan<'_> {
    #[inline(always)]
    fn run<S: Simd, Q: Quads>(self, simd: S, quads: Q) {
        let mut scan = self;
        if Q::WIDE {
            each_share!(wide scan.out.len(), |at, N| { scan.some_keys::<S, Q, N>(simd, quads, at) });
        } else {
            each_share!(scan.out.len(), |at, N| { scan.some_keys::<S, Q, N>(simd, quads, at) });
        }
    }
}

impl Scan<'_> {
    /// N keys from the one at a place.
    #[inline(always)]
    fn some_keys<S: Simd, Q: Quads, const N: usize>(&mut self, simd: S, quads: Q, at: usize) {
        let Self { query, keys, scales, offsets, out } = self;
        let width = query.panel.len();
        let rows = apart(std::array::from_fn::<_, N, _>(|o| &keys[(at + o) * width..][..width]));
        let sums = quads.dots(&query.panel, rows, &query.start);
        let scales: &[f32; N] = scales[at..].first_chunk().expect("scales of the keys");
        let out: &mut [_; N] = out[at..].first_chunk_mut().expect("scores of the keys");
        scale::<S, N>(simd, &sums, [&query.scales, offsets], scales, out);
    }
}

/// `out[j][r] = sums[j][r] · lanes[r] · scales[j] + offsets[r]`.
#[inline(always)]
fn scale<S: Simd, const N: usize>(
    simd: S,
    sums: &[[i32; PANEL]; N],
    [lanes, offsets]: [&[f32; PANEL]; 2],
    scales: &[f32; N],
    out: &mut [[f32; PANEL]; N],
) {
    for ((sum, scale), out) in sums.iter().zip(scales).zip(out) {
        let mut numbers = [0.0; PANEL];
        for (x, sum) in numbers.iter_mut().zip(sum) {
            *x = *sum as f32;
        }
        let scale = simd.splat_f32s(*scale);
        let lanes = S::as_simd_f32s(lanes).0.iter().zip(S::as_simd_f32s(offsets).0);
        let terms = S::as_simd_f32s(&numbers).0.iter().zip(lanes);
        for (out, (x, (lane, offset))) in S::as_mut_simd_f32s(out).0.iter_mut().zip(terms) {
            *out = simd.mul_add_e_f32s(simd.mul_f32s(*x, *lane), scale, *offset);
        }
    }
}
