//! Squared norms in f64.

/// Σ_c x_c², in f64: its rounding does not depend on the SIMD level. NaN or ∞ where the row is not finite.
#[inline]
pub fn square_norm(row: &[f32]) -> f64 {
    // Eight sums, which the compiler keeps in vectors.
    let mut sums = [0.0f64; 8];
    let (eights, rest) = row.as_chunks::<8>();
    for eight in eights {
        for (s, &x) in sums.iter_mut().zip(eight) {
            *s += f64::from(x) * f64::from(x);
        }
    }
    for (s, &x) in sums.iter_mut().zip(rest) {
        *s += f64::from(x) * f64::from(x);
    }
    sums.iter().sum()
}
