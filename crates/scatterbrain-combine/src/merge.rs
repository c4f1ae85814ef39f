//! Joining attention over disjoint sets of keys by their log-sum-exps.

use scatterbrain_core::{Error, Result};

/// Attention over some keys: output rows and the log-sum-exp of each.
#[derive(Debug, Clone, Copy)]
pub struct Partial<'a> {
    /// `[rows, d_v]`.
    pub output: &'a [f32],
    /// `[rows]`; −∞ where a row saw nothing.
    pub log_sum_exp: &'a [f32],
}

/// o = Σ_p e^{lse_p} o_p / Σ_p e^{lse_p}, row by row: attention over the union of the parts' keys, a key that
/// occurs in several parts counted as often. Returns (output, log-sum-exp).
///
/// # Errors
/// No part, or parts of different sizes. A log-sum-exp of +∞ or NaN makes NaN of its row.
///
/// ```
/// use scatterbrain_combine::{Partial, merge};
/// let a = Partial { output: &[1.0], log_sum_exp: &[0.0] };
/// let b = Partial { output: &[3.0], log_sum_exp: &[0.0] };
/// let (output, lse) = merge(&[a, b])?;
/// assert_eq!(output, [2.0]);
/// assert!((lse[0] - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
pub fn merge(parts: &[Partial<'_>]) -> Result<(Vec<f32>, Vec<f32>)> {
    let Some(first) = parts.first() else {
        return Err(Error::invalid("parts", "at least 1 part", 0));
    };
    let rows = first.log_sum_exp.len();
    let size = |p: &Partial<'_>| (p.log_sum_exp.len(), p.output.len());
    if let Some(p) = parts.iter().find(|p| size(p) != size(first)) {
        return Err(Error::invalid("parts", format!("{:?} rows and outputs", size(first)), format!("{:?}", size(p))));
    }
    if rows == 0 || first.output.len() % rows != 0 {
        return Err(Error::invalid("output", "rows of equal width", first.output.len()));
    }
    let width = first.output.len() / rows;
    let (mut output, mut lse) = (vec![0.0; first.output.len()], vec![f32::NEG_INFINITY; rows]);
    for r in 0..rows {
        let top = parts.iter().map(|p| p.log_sum_exp[r]).fold(f32::NEG_INFINITY, f32::max);
        if top == f32::NEG_INFINITY {
            continue;
        }
        let weights: Vec<f64> = parts.iter().map(|p| f64::from(p.log_sum_exp[r] - top).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for c in 0..width {
            let column = parts.iter().zip(&weights).map(|(p, w)| w * f64::from(p.output[r * width + c]));
            output[r * width + c] = (column.sum::<f64>() / sum) as f32;
        }
        lse[r] = (f64::from(top) + sum.ln()) as f32;
    }
    Ok((output, lse))
}
