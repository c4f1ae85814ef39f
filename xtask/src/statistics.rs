//! Medians, ratios and slopes.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The median; of an even number the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// How many times longer `a` takes than `b`: of the medians, and the median over the repeats of a/b, which a drift
/// of the machine's speed moves less.
pub(crate) fn ratio(a: &[f64], b: &[f64]) -> Option<(f64, f64)> {
    let paired: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    Some((median(a)? / median(b)?, median(&paired)?))
}

/// A slope with the half-width of its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Slope {
    pub(crate) value: f64,
    pub(crate) half_width: f64,
}

/// The slope of y over x by least squares. The interval is Student's, for errors of y that are independent and normal
/// with one variance; None with fewer than three different points, which leave no error to judge by.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = points.iter().map(|p| (p.0 - x_mean).powi(2)).sum();
    if points.len() < 3 || spread == 0.0 {
        return None;
    }
    let value = points.iter().map(|p| (p.0 - x_mean) * (p.1 - y_mean)).sum::<f64>() / spread;
    let residuals: f64 = points.iter().map(|p| (p.1 - y_mean - value * (p.0 - x_mean)).powi(2)).sum();
    let freedom = count - 2.0;
    let quantile = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(0.975);
    Some(Slope { value, half_width: quantile * (residuals / freedom / spread).sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes() {
        let exact = slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]).unwrap();
        assert!((exact.value - 2.0).abs() < 1e-12 && exact.half_width < 1e-12);
        // By hand: slope 0.5, residual sum of squares 1.5, spread 2, one degree of freedom, t = 12.706.
        let rough = slope(&[(0.0, 0.0), (1.0, 2.0), (2.0, 1.0)]).unwrap();
        assert!((rough.value - 0.5).abs() < 1e-12);
        assert!((rough.half_width - 12.7062 * 0.75f64.sqrt()).abs() < 1e-3, "{rough:?}");
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0)]), None);
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 3.0), (1.0, 2.0)]), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[5.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn ratios() {
        // The machine halves its speed after the first repeat: pairs do not notice.
        assert_eq!(ratio(&[3.0, 6.0, 6.0], &[1.0, 2.0, 2.0]), Some((3.0, 3.0)));
        assert_eq!(ratio(&[3.0, 6.0, 6.0], &[1.0, 1.0, 2.0]), Some((6.0, 3.0)));
        // An interrupted last repeat.
        assert_eq!(ratio(&[4.0, 4.0], &[2.0]), Some((2.0, 2.0)));
        assert_eq!(ratio(&[4.0], &[]), None);
    }
}
