//! Whether two exact outputs are the same attention.

use super::samples::Difference;
use super::targets::Target;
use anyhow::{Result, ensure};

/// Allowed between two exact outputs, absolute.
///
/// Values are standard normal, and outputs are their weighted means. A logit is a sum of d = 64 products, so that
/// rounding moves it, and with it the relative weight of a key, by about √64 · 2⁻²⁴ · 4 ≈ 2e-6: the outputs of two
/// correct programs differ by some 1e-6. One key too many or too few of 8192 moves a row by about 1/8192 ≈ 1e-4.
pub(super) const TOLERANCE: Target = Target::AtMost(2e-5);

/// The largest |a − b|; NaN where one is, or where the lengths differ.
pub(super) fn difference(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    let distances = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    distances.fold(0.0, |worst, x| if x.is_nan() || x > worst { x } else { worst })
}

/// # Errors
/// Outputs that are not the same attention: times of a wrong result say nothing.
pub(super) fn check(name: &str, differences: &[Difference]) -> Result<()> {
    for found in differences {
        ensure!(
            TOLERANCE.met(found.value),
            "{name}: exact outputs differ from PyTorch's by {:.1e} ({} threads, causal: {})",
            found.value,
            found.threads,
            found.causal
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_and_missing_rows_disagree() {
        let check = |a: &[f32], b: &[f32]| {
            super::check("x", &[Difference { causal: false, threads: 1, value: difference(a, b) }])
        };
        assert!(check(&[1.0, 2.0], &[1.0, 2.000001]).is_ok());
        assert!(check(&[1.0, 2.0], &[1.0, 2.0001]).is_err());
        assert!(check(&[f32::NAN, 2.0], &[1.0, 2.0]).is_err());
        assert!(check(&[1.0], &[1.0, 2.0]).is_err());
    }
}
