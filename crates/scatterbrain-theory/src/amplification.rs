//! How concatenation and repetition change a collision probability.

use crate::error::{Result, suppose};

/// The probability that two points share a bucket in at least one of L tables, each keyed by K hashes, all *independent*
/// and with collision probability p:
///
/// ```math
/// \hat p = 1 - (1 - p^K)^L
/// ```
///
/// Derivation: all K hashes of a table collide with probability p^K; all L tables miss with (1 − p^K)^L.
/// Computed as −expm1(L ln1p(−p^K)), which keeps its digits where p^K is small.
/// Indyk and Motwani 1998, "Approximate nearest neighbors".
///
/// # Errors
/// p outside [0, 1], K = 0 or L = 0.
///
/// ```
/// use scatterbrain_theory::amplification;
/// assert_eq!(amplification(0.5, 1, 2)?, 0.75);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn amplification(collision: f64, n_concatenated: u32, n_tables: u32) -> Result<f64> {
    const FORMULA: &str = "the amplified collision probability";
    suppose(FORMULA, "a collision probability in [0, 1]", (0.0..=1.0).contains(&collision), collision)?;
    suppose(FORMULA, "at least one hash a table", n_concatenated >= 1, 0.0)?;
    suppose(FORMULA, "at least one table", n_tables >= 1, 0.0)?;
    let table = collision.powf(f64::from(n_concatenated));
    Ok(-(f64::from(n_tables) * (-table).ln_1p()).exp_m1())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::check_moments;

    #[test]
    fn agrees_with_simulation() {
        // A hash collides where its normal is positive, p = ½; K = 2, L = 2 uses four of them.
        let p = amplification(0.5, 2, 2).unwrap();
        check_moments(p, p * (1.0 - p), |w| {
            let table = |i: usize| w[i] > 0.0 && w[i + 1] > 0.0;
            f64::from(u8::from(table(0) || table(2)))
        });
    }

    #[test]
    fn ends() {
        assert_eq!(amplification(0.0, 3, 4).unwrap(), 0.0);
        assert_eq!(amplification(1.0, 3, 4).unwrap(), 1.0);
        let small = amplification(1e-10, 2, 7).unwrap();
        assert!((small / 7e-20 - 1.0).abs() < 1e-12);
        assert!(amplification(1.5, 1, 1).is_err() && amplification(0.5, 0, 1).is_err());
        assert!(amplification(0.5, 1, 0).is_err() && amplification(f64::NAN, 1, 1).is_err());
    }
}
