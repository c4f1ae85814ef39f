//! A linear probe: logistic regression with a ridge.

use anyhow::{Result, ensure};

/// Weights of standardised columns, the last one the constant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Probe {
    mean: Vec<f64>,
    deviation: Vec<f64>,
    weights: Vec<f64>,
}

/// Weight of the ridge: ½·λ|w|² beside the sum of losses, the constant left out.
const RIDGE: f64 = 1.0;
/// Iterations at most; Newton's method needs about ten.
const ITERATIONS: usize = 50;
/// A step this small ends the iteration.
const SETTLED: f64 = 1e-8;

impl Probe {
    /// Minimises Σ ln(1 + e^{−y·w·x}) + ½λ|w|² by Newton's method, y = ±1, λ = 1, columns standardised on these rows.
    ///
    /// The loss is convex and the ridge makes its Hessian definite, so there is one minimum.
    ///
    /// # Errors
    /// Rows that are no numbers, or no rows of one of the classes.
    pub(crate) fn fit(rows: &[Vec<f32>], positive: &[bool]) -> Result<Self> {
        ensure!(rows.len() == positive.len(), "a label for each row");
        ensure!(positive.iter().any(|p| *p) && positive.iter().any(|p| !*p), "rows of both classes to train on");
        let columns = rows[0].len();
        let count = rows.len() as f64;
        let column = |c: usize| rows.iter().map(move |row| f64::from(row[c]));
        let mean: Vec<f64> = (0..columns).map(|c| column(c).sum::<f64>() / count).collect();
        let spread = |c: usize| (column(c).map(|x| (x - mean[c]).powi(2)).sum::<f64>() / count).sqrt();
        let deviation: Vec<f64> = (0..columns).map(|c| spread(c).max(1e-12)).collect();
        let mut probe = Self { mean, deviation, weights: vec![0.0; columns + 1] };
        let rows: Vec<Vec<f64>> = rows.iter().map(|row| probe.standardised(row)).collect();
        for _ in 0..ITERATIONS {
            let step = newton_step(&rows, positive, &probe.weights)?;
            probe.weights.iter_mut().zip(&step).for_each(|(w, s)| *w -= s);
            if step.iter().all(|s| s.abs() < SETTLED) {
                break;
            }
        }
        Ok(probe)
    }

    /// Whether a row is of the positive class.
    pub(crate) fn is_positive(&self, row: &[f32]) -> bool {
        dot(&self.weights, &self.standardised(row)) > 0.0
    }

    fn standardised(&self, row: &[f32]) -> Vec<f64> {
        let scaled = row.iter().zip(&self.mean).zip(&self.deviation).map(|((x, m), d)| (f64::from(*x) - m) / d);
        scaled.chain([1.0]).collect()
    }
}

/// H⁻¹g of the loss at `weights`.
fn newton_step(rows: &[Vec<f64>], positive: &[bool], weights: &[f64]) -> Result<Vec<f64>> {
    let size = weights.len();
    let ridge = |at: usize| if at + 1 < size { RIDGE } else { 0.0 };
    let mut gradient: Vec<f64> = weights.iter().enumerate().map(|(at, w)| ridge(at) * w).collect();
    let mut hessian = vec![0.0; size * size];
    for (row, positive) in rows.iter().zip(positive) {
        let p = 1.0 / (1.0 + (-dot(weights, row)).exp());
        let error = p - f64::from(u8::from(*positive));
        for i in 0..size {
            gradient[i] += error * row[i];
            let scaled = p * (1.0 - p) * row[i];
            // The lower half alone: Cholesky reads no more.
            hessian[i * size..=i * size + i].iter_mut().zip(row).for_each(|(h, x)| *h += scaled * x);
        }
    }
    // The constant's own curvature vanishes where every row is classed with certainty.
    (0..size).for_each(|i| hessian[i * size + i] += ridge(i).max(1e-9));
    solve(&mut hessian, gradient, size)
}

/// Solves A x = b by Cholesky's decomposition, which takes A's place.
fn solve(a: &mut [f64], mut b: Vec<f64>, size: usize) -> Result<Vec<f64>> {
    for i in 0..size {
        for j in 0..=i {
            let sum = a[i * size + j] - dot(&a[i * size..i * size + j], &a[j * size..j * size + j]);
            a[i * size + j] = if i == j { sum.sqrt() } else { sum / a[j * size + j] };
        }
        ensure!(a[i * size + i] > 0.0, "embeddings: expected finite numbers to train a probe on");
    }
    for i in 0..size {
        b[i] = (b[i] - dot(&a[i * size..i * size + i], &b[..i])) / a[i * size + i];
    }
    for i in (0..size).rev() {
        let above: f64 = (i + 1..size).map(|k| a[k * size + i] * b[k]).sum();
        b[i] = (b[i] - above) / a[i * size + i];
    }
    Ok(b)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::Seed;

    fn data() -> (Vec<Vec<f32>>, Vec<bool>) {
        let mut rng = Seed(1).stream(0);
        let positive: Vec<bool> = (0..200).map(|i| i % 2 == 0).collect();
        let row = |p: &bool| vec![rng.normal() as f32 + if *p { 3.0 } else { -3.0 }, 7.0, rng.normal() as f32];
        (positive.iter().map(row).collect(), positive)
    }

    #[test]
    fn classes_that_can_be_told_apart_are() {
        let (rows, positive) = data();
        let probe = Probe::fit(&rows, &positive).unwrap();
        let right = rows.iter().zip(&positive).filter(|(row, p)| probe.is_positive(row) == **p).count();
        assert!(right >= 198, "{right}");
        assert!(probe.weights[0] > 5.0 * probe.weights[2].abs());
    }

    #[test]
    fn the_gradient_vanishes_at_the_minimum() {
        let (rows, positive) = data();
        let probe = Probe::fit(&rows, &positive).unwrap();
        let standard: Vec<Vec<f64>> = rows.iter().map(|row| probe.standardised(row)).collect();
        for column in 0..probe.weights.len() {
            let loss = |nudge: f64| {
                let mut weights = probe.weights.clone();
                weights[column] += nudge;
                let ridge = 0.5 * weights[..3].iter().map(|w| w * w).sum::<f64>();
                let sign = |p: bool| if p { 1.0 } else { -1.0 };
                let losses = standard.iter().zip(&positive).map(|(x, p)| (-sign(*p) * dot(&weights, x)).exp().ln_1p());
                ridge + losses.sum::<f64>()
            };
            let slope = (loss(1e-4) - loss(-1e-4)) / 2e-4;
            assert!(slope.abs() < 1e-5, "{column}: {slope}");
        }
    }

    #[test]
    fn refusals() {
        assert!(Probe::fit(&[vec![1.0], vec![2.0]], &[true, true]).is_err());
        assert!(Probe::fit(&[vec![f32::NAN], vec![2.0]], &[true, false]).is_err());
    }
}
