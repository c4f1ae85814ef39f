//! Concatenation and repetition: what K and L make of a collision probability.

use scatterbrain_core::{Error, Result};

/// The probability that a pair meets in at least one of `tables` tables whose codes concatenate `concatenations`
/// independent hashes, each of which collides with `probability`.
///
/// p̂ = 1 − (1 − p^K)^L, for fresh hashes in every concatenation and table; computed without cancellation where
/// p^K is small.
///
/// ```
/// let p = scatterbrain_hash::amplify(0.5, 2, 3)?;
/// assert!((p - (1.0 - 0.75f64.powi(3))).abs() < 1e-15);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
///
/// # Errors
/// `probability` outside [0, 1] or NaN; `concatenations` or `tables` of 0.
///
/// # Source
/// Indyk and Motwani, "Approximate Nearest Neighbors", STOC 1998.
pub fn amplify(probability: f64, concatenations: usize, tables: usize) -> Result<f64> {
    if !(0.0..=1.0).contains(&probability) {
        return Err(Error::invalid("probability", "a number in [0, 1]", probability));
    }
    for (argument, count) in [("concatenations", concatenations), ("tables", tables)] {
        if count == 0 {
            return Err(Error::invalid(argument, "at least 1", 0));
        }
    }
    let code = probability.powf(concatenations as f64);
    Ok(-((tables as f64) * (-code).ln_1p()).exp_m1())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_middle() {
        assert_eq!(amplify(0.0, 3, 4).unwrap(), 0.0);
        assert_eq!(amplify(1.0, 3, 4).unwrap(), 1.0);
        assert!((amplify(0.3, 1, 1).unwrap() - 0.3).abs() < 1e-15);
        assert!((amplify(1e-6, 3, 1000).unwrap() / 1e-15 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn refuses() {
        for p in [-1e-9, 1.0 + 1e-9, f64::NAN, f64::INFINITY] {
            assert!(matches!(amplify(p, 1, 1), Err(Error::Invalid { argument: "probability", .. })), "{p}");
        }
        assert!(amplify(0.5, 0, 1).is_err() && amplify(0.5, 1, 0).is_err());
    }
}
