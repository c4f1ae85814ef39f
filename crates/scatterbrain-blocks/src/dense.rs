//! The way back from a support to a matrix, for plots, inspection and tests.

use scatterbrain_core::tile::{Head, Support, TILE_ROWS, Tile};
use scatterbrain_core::{Error, Result};

/// The support of a head as a dense `[n, m]` mask, hidden pairs left out. Allocates n × m.
///
/// # Errors
/// What the rule's `prepare` refuses, or a rule that names a pair twice.
pub fn to_dense_mask(support: &dyn Support, head: &Head<'_>) -> Result<Vec<bool>> {
    let select = support.prepare(head)?;
    let (n, m) = (head.mask.n(), head.mask.m());
    let mut dense = vec![false; n * m];
    let rows: Vec<u32> = match select.order().filter(|_| head.mask.is_dense()) {
        Some(order) => order.to_vec(),
        None => (0..n as u32).collect(),
    };
    let mut selection = Default::default();
    for rows in rows.chunks(TILE_ROWS) {
        let tile = Tile { rows, query: head.query, mask: head.mask };
        scatterbrain_core::tile::Selection::reset(&mut selection, rows.len());
        select.select(&tile, &mut selection);
        for (r, &i) in rows.iter().enumerate() {
            let keys = selection.row(r);
            if let Some(twice) = keys.windows(2).find(|w| w[0] == w[1]) {
                return Err(Error::invalid("support", "each pair once", format!("pair ({i}, {}) twice", twice[0])));
            }
            for k in keys.into_iter().filter(|&k| head.mask.sees(i as usize, k as usize)) {
                dense[i as usize * m + k as usize] = true;
            }
        }
    }
    Ok(dense)
}
