//! Means and variances of rows by cluster.

use scatterbrain_core::Matrix;

/// Sums of the rows of each cluster.
pub(crate) struct Moments {
    /// Members.
    pub(crate) counts: Vec<f64>,
    /// `[clusters, cols]`.
    sums: Vec<f64>,
    /// Σ |x|².
    pub(crate) squares: Vec<f64>,
    cols: usize,
}

impl Moments {
    /// Of the first rows, one for each number that `cluster` gives.
    pub(crate) fn new(rows: Matrix<'_>, cluster: &[u32], count: usize) -> Self {
        let cols = rows.cols();
        let mut this =
            Self { counts: vec![0.0; count], sums: vec![0.0; count * cols], squares: vec![0.0; count], cols };
        for (row, &c) in rows.iter().zip(cluster) {
            let c = c as usize;
            this.counts[c] += 1.0;
            let mut square = 0.0f64;
            for (sum, x) in this.sums[c * cols..(c + 1) * cols].iter_mut().zip(row) {
                let x = f64::from(*x);
                *sum += x;
                square += x * x;
            }
            this.squares[c] += square;
        }
        this
    }

    /// `[clusters, cols]`; zeros where a cluster is empty.
    pub(crate) fn means(&self) -> Vec<f32> {
        let rows = self.sums.chunks_exact(self.cols).zip(&self.counts);
        rows.flat_map(|(row, n)| row.iter().map(move |x| (x / n.max(1.0)) as f32)).collect()
    }

    /// Mean |x − x̄|² of each cluster, and of `prior` members more that are like all.
    pub(crate) fn variances(&self, prior: f64) -> Vec<f64> {
        let sum = |c: usize| {
            let square: f64 = self.sums[c * self.cols..(c + 1) * self.cols].iter().map(|x| x * x).sum();
            (self.squares[c] - square / self.counts[c].max(1.0)).max(0.0)
        };
        let sums: Vec<f64> = (0..self.counts.len()).map(sum).collect();
        let all = sums.iter().sum::<f64>() / self.counts.iter().sum::<f64>();
        sums.iter().zip(&self.counts).map(|(sum, n)| (sum + prior * all) / (n + prior).max(1.0)).collect()
    }
}
