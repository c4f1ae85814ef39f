//! Counts and means of rows by cluster.

use scatterbrain_core::Matrix;

/// Sums of the rows of each cluster.
pub(super) struct Moments {
    /// Members.
    pub(super) counts: Vec<f64>,
    /// `[clusters, cols]`.
    sums: Vec<f64>,
    cols: usize,
}

impl Moments {
    /// Of the first rows, one for each number that `cluster` gives.
    pub(super) fn new(rows: Matrix<'_>, cluster: &[u32], count: usize) -> Self {
        let cols = rows.cols();
        let mut this = Self { counts: vec![0.0; count], sums: vec![0.0; count * cols], cols };
        for (row, &c) in rows.iter().zip(cluster) {
            let c = c as usize;
            this.counts[c] += 1.0;
            this.sums[c * cols..(c + 1) * cols].iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        this
    }

    /// `[clusters, cols]`; zeros where a cluster is empty.
    pub(super) fn means(&self) -> Vec<f32> {
        let rows = self.sums.chunks_exact(self.cols).zip(&self.counts);
        rows.flat_map(|(row, n)| row.iter().map(move |x| (x / n.max(1.0)) as f32)).collect()
    }
}
