//! The error of a row, and its mean.

/// `|o − ô| / |o|` of one row. Where `o` is zero: 0 if `ô` is zero too, else infinite.
pub fn row_error(exact: &[f64], estimate: &[f64]) -> f64 {
    let difference: f64 = exact.iter().zip(estimate).map(|(a, b)| (a - b) * (a - b)).sum();
    let norm: f64 = exact.iter().map(|a| a * a).sum();
    match (norm == 0.0, difference == 0.0) {
        (true, true) => 0.0,
        (true, false) => f64::INFINITY,
        _ => (difference / norm).sqrt(),
    }
}

/// [`row_error`] of every row of two `[rows, d_v]` outputs.
pub fn row_errors(exact: &[f64], estimate: &[f64], d_v: usize) -> Vec<f64> {
    assert_eq!(exact.len(), estimate.len(), "outputs of one shape");
    exact.chunks(d_v).zip(estimate.chunks(d_v)).map(|(a, b)| row_error(a, b)).collect()
}

/// How many rows have a zero exact output and another estimate; the mean leaves them out.
pub fn zero_rows(errors: &[f64]) -> usize {
    errors.iter().filter(|e| **e == f64::INFINITY).count()
}

/// The mean of the finite row errors of one head; 0 where there is none. A NaN stays a NaN.
pub fn mean_error(errors: &[f64]) -> f64 {
    let kept: Vec<f64> = errors.iter().copied().filter(|e| *e != f64::INFINITY).collect();
    kept.iter().sum::<f64>() / kept.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_cases() {
        assert_eq!(row_error(&[3.0, 4.0], &[3.0, 3.0]), 0.2);
        assert_eq!(row_error(&[0.0], &[0.0]), 0.0);
        let errors = row_errors(&[2.0, 0.0, 0.0], &[1.0, 0.0, 1.0], 1);
        assert_eq!(errors, [0.5, 0.0, f64::INFINITY]);
        assert_eq!((zero_rows(&errors), mean_error(&errors)), (1, 0.25));
    }
}
