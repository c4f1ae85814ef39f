//! Cosine and correlation of two vectors.

/// a·b / (|a| |b|); NaN where one is zero.
///
/// # Panics
/// Vectors of different lengths.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors of one length");
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Pearson's correlation: the cosine of the deviations from the means.
pub(crate) fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let pairs = || a.iter().zip(b).map(|(x, y)| (x - mean_a, y - mean_b));
    let (aa, bb) = (pairs().map(|(x, _)| x * x).sum::<f64>(), pairs().map(|(_, y)| y * y).sum::<f64>());
    pairs().map(|(x, y)| x * y).sum::<f64>() / (aa * bb).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles() {
        assert!((cosine(&[1.0, 0.0], &[1.0, 1.0]) - 0.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(cosine(&[2.0, 0.0], &[-3.0, 0.0]), -1.0);
        assert!(cosine(&[0.0], &[1.0]).is_nan());
        assert!((correlation(&[1.0, 2.0, 4.0], &[7.0, 5.0, 1.0]) + 1.0).abs() < 1e-12);
    }
}
