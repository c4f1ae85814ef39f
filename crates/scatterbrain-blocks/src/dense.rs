//! The way back from a support to a matrix, for plots, inspection and tests.

use scatterbrain_core::tile::{Head, Selection, Support, TILE_ROWS, Tile};
use scatterbrain_core::{Error, HeadMask, Result};

/// The support of a head as a dense `[n, m]` mask, hidden pairs left out. Allocates n × m.
///
/// # Errors
/// What the rule's `prepare` refuses, or a rule that names a pair twice.
pub fn to_dense_mask(support: &dyn Support, head: &Head<'_>) -> Result<Vec<bool>> {
    let select = support.prepare(head)?;
    let (n, m) = (head.mask.n(), head.mask.m());
    let mut dense = vec![false; n * m];
    let natural: Vec<u32> = (0..n as u32).collect();
    let passes = if head.mask.is_dense() { select.passes() } else { 1 };
    let mut selection = Selection::default();
    for pass in 0..passes {
        let order = select.order(pass).filter(|_| head.mask.is_dense()).unwrap_or(&natural);
        for rows in order.chunks(TILE_ROWS) {
            let mut memory = Vec::new();
            let tile = Tile::new(head.level, rows, head.query, head.mask, &mut memory);
            selection.reset(rows.len());
            if passes > 1 {
                select.select_pass(pass, &tile, &mut selection)
            } else {
                select.select(&tile, &mut selection)
            }
            for (r, &i) in rows.iter().enumerate() {
                add_row(&selection.row(r), i as usize, head.mask, &mut dense[i as usize * m..(i as usize + 1) * m])?;
            }
        }
    }
    Ok(dense)
}

fn add_row(keys: &[u32], query_idx: usize, mask: &HeadMask<'_>, dense: &mut [bool]) -> Result<()> {
    for (at, &k) in keys.iter().enumerate() {
        let visible = mask.sees(query_idx, k as usize);
        if dense[k as usize] || (at > 0 && keys[at - 1] == k) {
            return Err(Error::invalid("support", "each pair once", format!("pair ({query_idx}, {k}) twice")));
        }
        dense[k as usize] = visible;
    }
    Ok(())
}
