//! Singular values and vectors of a dense matrix from a subspace that is refined, after Halko, Martinsson and Tropp,
//! "Finding structure with randomness" (SIAM Review 2011): X V spans the columns, Q orthonormal for it, QᵀX the rows.
//!
//! Started from a former call's right vectors it is one step of subspace iteration, which is what an outer iteration
//! needs whose matrices change little.

use super::DecomposeError;
use super::product::{BLOCK, Dense, gram, is_positive_definite, orthonormal, outer_rows, small, thin_svd};
use faer::{Mat, MatRef};
use rayon::prelude::*;
use scatterbrain_core::Rng;

/// Columns beyond those asked for: they make the last ones converge, and show that nothing larger follows.
pub(super) const OVERSAMPLE: usize = 10;

/// Up to this size everything is decomposed in full, which then takes no longer.
const SMALL: usize = 64;

/// Random vectors that look for what a subspace misses.
const PROBES: usize = 8;

/// Steps of subspace iteration from random vectors.
const FIRST_STEPS: usize = 4;

/// A threshold's relative slack in [`is_complete`]: rounding must not refute a value at the threshold itself.
const SLACK: f64 = 1e-6;

/// Approximate singular triples, values falling: X ≈ U diag(σ) Vᵀ.
pub(super) struct Ritz {
    pub(super) left: Mat<f64>,
    pub(super) values: Vec<f64>,
    pub(super) right: Mat<f64>,
    /// All of X, by a full decomposition.
    pub(super) full: bool,
}

impl Ritz {
    /// Every singular triple.
    fn full(x: &Dense) -> Result<Self, DecomposeError> {
        let (left, values, right) = thin_svd(x.view())?;
        Ok(Self { left, values, right, full: true })
    }

    /// The best approximation of X with columns in the span of X·`right`.
    ///
    /// For any number r of leading triples, what they leave of X is at most what any matrix of rank r leaves whose
    /// rows are in the span of `right`: the best of these has the columns X·W, W its rows, which the span contains.
    pub(super) fn refine(x: &Dense, right: MatRef<'_, f64>) -> Result<Self, DecomposeError> {
        let q = orthonormal(x.times(right));
        let (right, values, turn) = thin_svd(x.transposed_times(q.as_ref()).as_ref())?;
        Ok(Self { left: small(q.as_ref(), turn.as_ref()), values, right, full: false })
    }

    /// About the `count` largest, from random vectors, and some more; all of them where that is no more work.
    pub(super) fn start(x: &Dense, count: usize, rng: &mut Rng) -> Result<Self, DecomposeError> {
        if is_large(x, count + OVERSAMPLE) {
            return Self::full(x);
        }
        let mut right = gaussian(x.m, count + OVERSAMPLE, rng);
        for _ in 1..FIRST_STEPS {
            right = Self::refine(x, right.as_ref())?.right;
        }
        Self::refine(x, right.as_ref())
    }

    /// All triples with a value of at least `threshold`, and at least one more where there is one, starting from the
    /// span of `right`. The number of columns grows until the last value is smaller than the threshold and random
    /// probes of the rest find no larger one; beyond half of all columns, all are computed.
    ///
    /// Values are those of QᵀX, from below: one near the threshold may be found only by the next call that starts from
    /// this one's vectors. The probes give a lower bound of what is missed, too; [`is_complete`] proves.
    pub(super) fn above(x: &Dense, threshold: f64, right: Mat<f64>, rng: &mut Rng) -> Result<Self, DecomposeError> {
        let mut right = right;
        loop {
            if is_large(x, right.ncols()) {
                return Self::full(x);
            }
            let ritz = Self::refine(x, right.as_ref())?;
            if ritz.values.last().is_none_or(|&v| v >= threshold) {
                let more = OVERSAMPLE.max(right.ncols() / 2);
                right = beside(ritz.right.as_ref(), gaussian(x.m, more, rng).as_ref());
                continue;
            }
            let (missed, directions) = ritz.probe(x, rng)?;
            if missed < threshold {
                return Ok(ritz);
            }
            right = beside(ritz.right.as_ref(), directions.as_ref());
        }
    }

    /// A lower bound of ‖(I − UUᵀ)X‖₂ by one step of block power iteration, and rows that attain it.
    fn probe(&self, x: &Dense, rng: &mut Rng) -> Result<(f64, Mat<f64>), DecomposeError> {
        let images = x.times(gaussian(x.m, PROBES, rng).as_ref());
        let inside = small(self.left.transpose(), images.as_ref());
        let images = orthonormal(images - small(self.left.as_ref(), inside.as_ref()));
        let (directions, values, _) = thin_svd(x.transposed_times(images.as_ref()).as_ref())?;
        Ok((values[0], directions))
    }

    /// The first `count` right vectors, and random ones where there are fewer.
    pub(super) fn right_vectors(&self, count: usize, rng: &mut Rng) -> Mat<f64> {
        let have = self.right.ncols().min(count);
        let kept = self.right.as_ref().subcols(0, have);
        if have == count { kept.to_owned() } else { beside(kept, gaussian(kept.nrows(), count - have, rng).as_ref()) }
    }
}

/// Proves, to rounding and a slack of 1e-6, that X has no more than `ritz.values.len()` singular values of
/// `threshold` or more: by the interlacing of singular values the next one is at most ‖E‖₂, E = X − U diag(σ) Vᵀ, and
/// ‖E‖₂ < t exactly where t²I − EᵀE is positive definite. Leaves E in X.
pub(super) fn is_complete(x: &mut Dense, ritz: &Ritz, threshold: f64) -> bool {
    if ritz.full {
        return true;
    }
    let mut left = ritz.left.clone();
    for (c, value) in ritz.values.iter().enumerate() {
        left.col_mut(c).iter_mut().for_each(|u| *u *= value);
    }
    let m = x.m;
    x.data.par_chunks_mut(BLOCK * m).enumerate().for_each(|(block, rows)| {
        let mut low = vec![0.0; rows.len()];
        outer_rows(left.as_ref(), ritz.right.as_ref(), block * BLOCK, &mut low);
        rows.iter_mut().zip(&low).for_each(|(x, l)| *x -= l);
    });
    let square = (threshold * (1.0 + SLACK)).powi(2);
    let gram = gram(x);
    is_positive_definite(Mat::from_fn(gram.nrows(), gram.nrows(), |i, j| {
        if i == j { square - gram[(i, i)] } else { -gram[(i, j)] }
    }))
}

/// Whether a full decomposition takes no longer than one of `columns` columns.
fn is_large(x: &Dense, columns: usize) -> bool {
    let size = x.n.min(x.m);
    size <= SMALL || columns > size / 2
}

fn gaussian(rows: usize, cols: usize, rng: &mut Rng) -> Mat<f64> {
    Mat::from_fn(rows, cols, |_, _| rng.normal())
}

fn beside(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let (first, cols) = (a.ncols(), a.ncols() + b.ncols());
    Mat::from_fn(a.nrows(), cols, |i, c| if c < first { a[(i, c)] } else { b[(i, c - first)] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use scatterbrain_core::Seed;

    /// A matrix with singular values 0.9^c.
    fn decaying(n: usize, m: usize) -> Dense {
        let rng = &mut Seed(1).stream(0);
        let size = n.min(m);
        let (u, v) = (orthonormal(gaussian(n, size, rng)), orthonormal(gaussian(m, size, rng)));
        let mut data = vec![0.0; n * m];
        for (i, row) in data.chunks_exact_mut(m).enumerate() {
            for (j, x) in row.iter_mut().enumerate() {
                *x = (0..size).map(|c| 0.9f64.powi(c as i32) * u[(i, c)] * v[(j, c)]).sum();
            }
        }
        Dense { data, n, m }
    }

    #[test]
    fn all_values_above_a_threshold_and_a_proof() {
        let rng = &mut Seed(2).stream(0);
        for (n, m) in [(150, 130), (130, 150)] {
            let mut x = decaying(n, m);
            let threshold = 0.9f64.powf(29.5);
            let mut ritz = Ritz::above(&x, threshold, gaussian(m, 5, rng), rng).expect("finite");
            for _ in 0..4 {
                ritz = Ritz::above(&x, threshold, ritz.right, rng).expect("finite");
            }
            assert!(!ritz.full && ritz.values.len() < 66);
            assert_eq!(ritz.values.iter().filter(|v| **v >= threshold).count(), 30);
            assert!(is_complete(&mut x, &ritz, threshold));
        }
    }

    #[test]
    fn a_missed_value_is_proved() {
        let mut x = decaying(140, 120);
        let rng = &mut Seed(3).stream(0);
        let mut ritz = Ritz::above(&x, 0.9f64.powf(29.5), gaussian(120, 50, rng), rng).expect("finite");
        // Forget the largest.
        ritz.values[0] = 0.0;
        assert!(!is_complete(&mut x, &ritz, 0.9f64.powf(29.5)));
    }

    #[test]
    fn half_of_the_values_ask_for_all() {
        let x = decaying(100, 90);
        let rng = &mut Seed(4).stream(0);
        let ritz = Ritz::above(&x, 0.9f64.powf(59.5), gaussian(90, 5, rng), rng).expect("finite");
        assert!(ritz.full);
        for (c, value) in ritz.values.iter().enumerate() {
            assert!((value - 0.9f64.powi(c as i32)).abs() < 1e-12, "{c}: {value}");
        }
    }
}
