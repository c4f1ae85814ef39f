//! Between rows and panels.

use super::PANEL;
use crate::Matrix;

/// Packs the listed rows (at most [`PANEL`]), times `factor`, as `out[column][PANEL]`; missing rows are zero.
///
/// # Panics
/// If more than [`PANEL`] rows are listed or `out` is not `cols * PANEL` long.
pub fn pack(matrix: Matrix<'_>, rows: &[u32], factor: f32, out: &mut [f32]) {
    assert!(rows.len() <= PANEL && out.len() == matrix.cols() * PANEL, "a panel of {} rows", rows.len());
    for lane in 0..PANEL {
        match rows.get(lane) {
            Some(&r) => {
                for (o, x) in out[lane..].iter_mut().step_by(PANEL).zip(matrix.row(r as usize)) {
                    *o = x * factor;
                }
            }
            None => out[lane..].iter_mut().step_by(PANEL).for_each(|o| *o = 0.0),
        }
    }
}

/// Packs up to [`PANEL`] contiguous rows of `cols` elements as `out[column][PANEL]`; missing rows are zero.
///
/// # Panics
/// If `rows` holds more than a panel or `out` is not `cols * PANEL` long.
pub fn pack_rows(rows: &[f32], cols: usize, out: &mut [f32]) {
    assert!(rows.len() <= cols * PANEL && out.len() == cols * PANEL, "a panel");
    for lane in 0..PANEL {
        let row = rows.get(lane * cols..(lane + 1) * cols);
        for (c, o) in out[lane..].iter_mut().step_by(PANEL).enumerate() {
            *o = row.map_or(0.0, |r| r[c]);
        }
    }
}

/// Writes lane `lane` of `panel[column][PANEL]`, times `factor`, to a row.
#[inline]
pub fn unpack(panel: &[f32], lane: usize, factor: f32, out: &mut [f32]) {
    for (o, x) in out.iter_mut().zip(panel[lane..].iter().step_by(PANEL)) {
        *o = x * factor;
    }
}
