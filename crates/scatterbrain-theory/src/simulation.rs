//! What formulas are tested with: pairs, and directions drawn by code of its own.

use crate::{Check, Claim, Draws, Estimator, Verdict};

/// Dimension of simulated vectors.
pub(crate) const DIM: usize = 4;

/// Queries and keys with |q + k|² and |q − k|² up to about 1: near, apart, and across.
pub(crate) const PAIRS: [([f64; DIM], [f64; DIM]); 3] = [
    ([0.5, 0.0, -0.1, 0.0], [0.3, 0.2, 0.0, -0.3]),
    ([0.4, -0.4, 0.0, 0.2], [-0.3, 0.1, 0.2, 0.1]),
    ([0.6, 0.0, 0.0, 0.0], [0.0, 0.6, 0.1, 0.0]),
];

/// a·b.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// a + sign·b.
pub(crate) fn sum(a: &[f64; DIM], b: &[f64; DIM], sign: f64) -> [f64; DIM] {
    std::array::from_fn(|c| a[c] + sign * b[c])
}

/// A block of `D` directions: the rows of a Haar-distributed orthogonal matrix (Gram–Schmidt of Gaussian rows, whose R
/// has a positive diagonal), turned by `shape` and given norms from χ(D).
pub(crate) fn block<const D: usize>(draws: &mut Draws, shape: impl Fn(&mut [[f64; D]; D])) -> [[f64; D]; D] {
    let mut rows: [[f64; D]; D] = std::array::from_fn(|_| draws.normals());
    for i in 0..D {
        for j in 0..i {
            let along = dot(&rows[i], &rows[j]);
            rows[i] = std::array::from_fn(|c| rows[i][c] - along * rows[j][c]);
        }
        let norm = dot(&rows[i], &rows[i]).sqrt();
        rows[i] = rows[i].map(|x| x / norm);
    }
    shape(&mut rows);
    for row in &mut rows {
        let norm = draws.normals::<D>();
        *row = row.map(|x| x * dot(&norm, &norm).sqrt());
    }
    rows
}

/// Nothing done to an orthogonal block.
pub(crate) fn orthogonal<const D: usize>(_: &mut [[f64; D]; D]) {}

/// Orthonormal rows to the vertices of a regular simplex around 0.
pub(crate) fn simplex<const D: usize>(rows: &mut [[f64; D]; D]) {
    let mean: [f64; D] = std::array::from_fn(|c| rows.iter().map(|r| r[c]).sum::<f64>() / D as f64);
    for row in rows {
        *row = std::array::from_fn(|c| row[c] - mean[c]);
        let norm = dot(row, row).sqrt();
        *row = row.map(|x| x / norm);
    }
}

/// The claim that a quantity is `value` holds, and that it is 1.1 times as large is refuted: within 5 %, each verdict
/// false with at most 10⁻⁴ (see [`Check`]).
pub(crate) fn check_value(estimator: Estimator, value: f64, sampler: impl Fn(&mut Draws) -> f64 + Sync) {
    let check = Check { seed: 11, max_trials: 16_000_000, tolerance: 0.05, relative_width: 0.05, ..Check::default() };
    for (factor, verdict) in [(1.0, Verdict::Holds), (1.1, Verdict::Refuted)] {
        let report = check.run(Claim::Equals(factor * value), estimator, &sampler).unwrap();
        assert_eq!(report.verdict, verdict, "{report:?}");
    }
}

/// Mean and variance of `f(ω)`, ω ~ N(0, I).
pub(crate) fn check_moments(mean: f64, variance: f64, f: impl Fn(&[f64; DIM]) -> f64 + Sync) {
    check_value(Estimator::Mean, mean, |draws| f(&draws.normals()));
    check_value(Estimator::Variance, variance, |draws| f(&draws.normals()));
}
