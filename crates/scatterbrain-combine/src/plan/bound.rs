//! How large the mean error of all rows may be, from the errors of some.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// How sure [`upper_bound`] is.
const CONFIDENCE: f64 = 0.95;

/// Mean of the errors of sampled rows, and what the mean over all rows stays under with a confidence of nominally 95 %.
///
/// ```text
/// bound = ē + s · 3/g · (1 − ∛(1 − g·(t/√S + g/(6S))))        g → 0:  ē + s·t/√S
/// ```
///
/// S rows, ē their mean, s² their variance (by S − 1), g their skewness, 0 where it is negative, t Student's quantile of
/// S − 1 degrees: the upper end of Hall's interval ("On the removal of skewness by transformation in confidence
/// regions", 1992), as row errors have long tails to the right. It is Student's interval after the cubic transform that
/// takes skewness out of the studentised mean. Of samples of 64 log-normal numbers with σ = 1, whose skewness is 6.2, 91 %
/// have their mean under it, and 87 % under Student's; with σ = ½, 94 and 92 %.
///
/// Rows are drawn one from each stratum, which makes their mean steadier than s²/S says. One row bounds nothing.
pub(crate) fn upper_bound(errors: &[f64]) -> (f64, f64) {
    let count = errors.len() as f64;
    let mean = errors.iter().sum::<f64>() / count;
    let moment = |power: i32| errors.iter().map(|e| (e - mean).powi(power)).sum::<f64>();
    let deviation = (moment(2) / (count - 1.0)).sqrt();
    if errors.len() < 2 || !deviation.is_finite() {
        return (mean, f64::INFINITY);
    }
    if deviation == 0.0 {
        return (mean, mean);
    }
    let student = StudentsT::new(0.0, 1.0, count - 1.0).expect("a positive number of degrees");
    let quantile = student.inverse_cdf(CONFIDENCE) / count.sqrt();
    let skewness = moment(3) / count / deviation.powi(3);
    // Below, the transform is the identity to the last bits.
    let half_width = if skewness > 1e-6 {
        (1.0 - (1.0 - skewness * (quantile + skewness / (6.0 * count))).cbrt()) * 3.0 / skewness
    } else {
        quantile
    };
    (mean, mean + deviation * half_width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scatterbrain_core::Seed;

    #[test]
    fn the_bound_is_kept_as_often_as_it_says() {
        // Log-normal errors have the mean e^{σ²/2}. The shares found by another program, in 4000 samples, have a standard
        // deviation of under 0.5 %, and so have these; 2.5 % are more than three of the difference.
        let mut rng = Seed(5).stream(0);
        for (sigma, share) in [(0.5f64, 0.943), (1.0, 0.914)] {
            let mut kept = 0usize;
            for _ in 0..4000 {
                let errors: Vec<f64> = (0..64).map(|_| (sigma * rng.normal()).exp()).collect();
                kept += usize::from(upper_bound(&errors).1 >= (sigma * sigma / 2.0).exp());
            }
            assert!((kept as f64 / 4000.0 - share).abs() < 0.025, "{sigma}: {kept}");
        }
    }

    #[test]
    fn ends() {
        assert_eq!(upper_bound(&[0.25]), (0.25, f64::INFINITY));
        assert_eq!(upper_bound(&[0.25; 8]), (0.25, 0.25));
        assert_eq!(upper_bound(&[0.0, f64::INFINITY]).1, f64::INFINITY);
    }
}
