//! When robust PCA finds the two parts of a low-rank plus sparse matrix.

use crate::error::{Result, suppose};

/// The weight λ of the sparse part in robust PCA:
///
/// ```math
/// \min_{L + S = A} \|L\|_* + \lambda \|S\|_1, \qquad \lambda = \frac{1}{\sqrt{\max(n_1, n_2)}}
/// ```
///
/// Candès, Li, Ma and Wright 2011, "Robust principal component analysis?", the main theorem.
///
/// # Errors
/// A matrix without rows or columns.
///
/// ```
/// assert_eq!(scatterbrain_theory::robust_pca_weight(16, 4)?, 0.25);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn robust_pca_weight(rows: usize, columns: usize) -> Result<f64> {
    let empty = rows == 0 || columns == 0;
    suppose("the weight of robust PCA", "a matrix with rows and columns", !empty, 0.0)?;
    Ok((rows.max(columns) as f64).sqrt().recip())
}

/// The least μ for which L = U Σ Vᵀ of rank r is incoherent:
///
/// ```math
/// \max_i |U^\top e_i|^2 \le \frac{\mu r}{n_1}, \qquad \max_j |V^\top e_j|^2 \le \frac{\mu r}{n_2}, \qquad
/// \max_{ij} |(U V^\top)_{ij}| \le \sqrt{\frac{\mu r}{n_1 n_2}}
/// ```
///
/// `left` is U, `[n₁, r]`, `right` is V, `[n₂, r]`, row-major, orthonormal columns. μ ≥ 1, since the |Uᵀe_i|² sum to r.
/// Large where singular vectors are spiky, so that L is itself sparse and the parts cannot be told apart.
/// Candès et al. 2011, the incoherence conditions.
///
/// # Errors
/// r = 0, lengths that are no multiple of r, or columns whose products differ from the identity by more than 1e-6.
///
/// # Cost
/// n₁ n₂ r multiplications.
///
/// ```
/// use scatterbrain_theory::incoherence;
/// // The constant matrix spreads out; a single entry does not: n₁ n₂ times as coherent.
/// assert!((incoherence(&[0.5; 4], &[0.5; 4], 1)? - 1.0).abs() < 1e-15);
/// assert_eq!(incoherence(&[1.0, 0.0], &[0.0, 1.0], 1)?, 4.0);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn incoherence(left: &[f64], right: &[f64], rank: usize) -> Result<f64> {
    check_orthonormal(left, rank)?;
    check_orthonormal(right, rank)?;
    let r = rank as f64;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let spread = |rows: &[f64]| {
        let longest = rows.chunks_exact(rank).map(|x| dot(x, x)).fold(0.0, f64::max);
        longest * (rows.len() / rank) as f64 / r
    };
    let entries = left.chunks_exact(rank).flat_map(|u| right.chunks_exact(rank).map(move |v| dot(u, v).powi(2)));
    let cells = (left.len() / rank) as f64 * (right.len() / rank) as f64;
    Ok(spread(left).max(spread(right)).max(entries.fold(0.0, f64::max) * cells / r))
}

fn check_orthonormal(rows: &[f64], rank: usize) -> Result<()> {
    const FORMULA: &str = "the incoherence";
    suppose(FORMULA, "a rank of at least 1", rank >= 1, 0.0)?;
    let fits = !rows.is_empty() && rows.len().is_multiple_of(rank);
    suppose(FORMULA, "rows of singular vectors", fits, rows.len() as f64)?;
    for a in 0..rank {
        for b in 0..=a {
            let product = rows.chunks_exact(rank).map(|x| x[a] * x[b]).sum::<f64>();
            let near = (product - f64::from(u8::from(a == b))).abs() <= 1e-6;
            suppose(FORMULA, "orthonormal columns", near, product)?;
        }
    }
    Ok(())
}

/// The constants of the recovery theorem, which the paper shows to exist and does *not* give: whoever uses the theorem
/// with numbers supposes these.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecoveryConstants {
    /// ρ_r > 0, of the rank.
    pub rank: f64,
    /// ρ_s > 0, of the sparsity.
    pub sparsity: f64,
}

/// What rank and how many corrupted entries the recovery theorem allows, given its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecoveryConditions {
    /// rank(L) ≤ ρ_r min(n₁, n₂)/(μ ln² max(n₁, n₂)).
    pub largest_rank: f64,
    /// |S|₀ ≤ ρ_s n₁ n₂.
    pub largest_support: f64,
}

/// When min |L|_* + λ|S|₁ with [`robust_pca_weight`] recovers L and S exactly, with probability 1 − O(max(n₁, n₂)^{−10})
/// over the support of S:
///
/// ```math
/// \operatorname{rank}(L) \le \frac{\rho_r \min(n_1, n_2)}{\mu \ln^2 \max(n_1, n_2)}, \qquad
/// |S|_0 \le \rho_s n_1 n_2
/// ```
///
/// Hypotheses that no argument can show: μ bounds the [`incoherence`] of L; the support of S is *uniformly random*
/// among sets of its size. The largest entries of an attention matrix are no such set, so for attention the conditions
/// are a guide, not a promise. ρ_r and ρ_s are arguments because the theorem leaves them open.
/// Candès et al. 2011, the main theorem, for rectangular matrices.
///
/// # Errors
/// Fewer than two rows and columns (ln 1 = 0), an empty matrix, μ below 1, or constants that are not positive.
///
/// ```
/// use scatterbrain_theory::{RecoveryConstants, robust_pca_recovery};
/// let supposed = RecoveryConstants { rank: 1.0, sparsity: 0.1 };
/// let conditions = robust_pca_recovery(1000, 1000, 2.0, supposed)?;
/// assert!((conditions.largest_rank - 500.0 / 1000f64.ln().powi(2)).abs() < 1e-9);
/// assert_eq!(conditions.largest_support, 1e5);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn robust_pca_recovery(
    rows: usize,
    columns: usize,
    incoherence: f64,
    constants: RecoveryConstants,
) -> Result<RecoveryConditions> {
    const FORMULA: &str = "the recovery conditions of robust PCA";
    suppose(FORMULA, "a matrix with rows and columns", rows >= 1 && columns >= 1, 0.0)?;
    let (least, most) = (rows.min(columns) as f64, rows.max(columns) as f64);
    suppose(FORMULA, "at least two rows or columns", most >= 2.0, most)?;
    // Rounding may leave the incoherence of a perfectly spread matrix just below 1.
    suppose(FORMULA, "an incoherence of at least 1", incoherence >= 1.0 - 1e-6, incoherence)?;
    for constant in [constants.rank, constants.sparsity] {
        suppose(FORMULA, "positive finite constants", constant.is_finite() && constant > 0.0, constant)?;
    }
    Ok(RecoveryConditions {
        largest_rank: constants.rank * least / (incoherence * most.ln().powi(2)),
        largest_support: constants.sparsity * least * most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incoherence_of_two_columns() {
        // Rows of the 4 × 4 Hadamard matrix, halved: every row of U has |Uᵀe|² = 2/4, and U Uᵀ has entries 0 and ½.
        let hadamard = [0.5, 0.5, 0.5, -0.5, 0.5, 0.5, 0.5, -0.5];
        assert!((incoherence(&hadamard, &hadamard, 2).unwrap() - 2.0).abs() < 1e-15);
        // The identity of rank 2 in four dimensions: max |Uᵀe|² = 1, μ = 4/2; U Uᵀ has an entry 1, μ = 16/2.
        let spikes = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(incoherence(&spikes, &spikes, 2).unwrap(), 8.0);
    }

    #[test]
    fn refuses() {
        assert!(incoherence(&[1.0], &[1.0], 0).is_err() && incoherence(&[1.0, 1.0], &[1.0], 1).is_err());
        assert!(incoherence(&[], &[1.0], 1).is_err() && incoherence(&[1.0, 0.0, 0.0], &[1.0], 2).is_err());
        assert!(robust_pca_weight(0, 3).is_err());
        let constants = RecoveryConstants { rank: 1.0, sparsity: 0.1 };
        assert!(robust_pca_recovery(1, 1, 1.0, constants).is_err());
        assert!(robust_pca_recovery(0, 5, 1.0, constants).is_err());
        assert!(robust_pca_recovery(9, 5, 0.9, constants).is_err());
        assert!(robust_pca_recovery(9, 5, 1.0, RecoveryConstants { rank: 0.0, ..constants }).is_err());
    }
}
