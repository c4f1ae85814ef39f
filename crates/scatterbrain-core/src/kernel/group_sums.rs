//! Sums of rows by group, in f64.

use crate::{Level, Matrix};
use pulp::{Simd, WithSimd};

/// `sums[groups[j]] += row_j`, in the order of the rows and in f64: the same bits at every SIMD level.
///
/// # Panics
/// If there are fewer rows than groups, or `sums` has no row of `rows.cols()` elements for one.
pub fn add_to_groups(level: Level, rows: Matrix<'_>, groups: &[u32], sums: &mut [f64]) {
    assert!(groups.len() <= rows.rows(), "{} groups of {} rows", groups.len(), rows.rows());
    level.run_wide(AddToGroups { rows, groups, sums });
}

struct AddToGroups<'a> {
    rows: Matrix<'a>,
    groups: &'a [u32],
    sums: &'a mut [f64],
}

impl WithSimd for AddToGroups<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.rows.cols();
        for (row, &group) in self.rows.iter().zip(self.groups) {
            let sum = &mut self.sums[group as usize * width..(group as usize + 1) * width];
            for (s, &x) in sum.iter_mut().zip(row) {
                *s += f64::from(x);
            }
        }
    }
}
