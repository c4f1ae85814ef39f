//! The attention matrix itself, for plots, inspection and tests.

use crate::{Method, Options, attend};
use scatterbrain_core::{Error, Mask, Result, Tensor};

/// The matrices of one head.
#[derive(Debug, Clone)]
pub struct DenseHead {
    /// Rows that sum to one (or are zero), `[n, m]`.
    pub normalised: Vec<f32>,
    /// Logarithms of the row sums of Â, `[n]`: `normalised * exp(log_sum_exp)` is Â.
    pub log_sum_exp: Vec<f32>,
}

/// The normalised matrix of every head, batch-major, through the production path: values = identity, which a background
/// that looks at values (a scan, samples drawn by their norms) takes for them.
///
/// **Allocates n × m per head.**
///
/// # Errors
/// As [`attend`].
pub fn dense_matrix(
    query: &Tensor<'_>,
    key: &Tensor<'_>,
    mask: &Mask<'_>,
    method: &Method,
    options: &Options,
) -> Result<Vec<DenseHead>> {
    let [batch, heads, n, _] = query.shape();
    let [_, kv_heads, m, _] = key.shape();
    let Some(size) = m.checked_mul(m) else {
        return Err(Error::invalid("m", "a matrix that fits into memory", m));
    };
    let mut identity = vec![0.0; size];
    identity.iter_mut().step_by(m + 1).for_each(|x| *x = 1.0);
    let data = scatterbrain_core::Data::F32(&identity);
    let value = Tensor::strided("value", data, [batch, kv_heads, m, m], [0, 0, m, 1])?;
    let options = Options { log_sum_exp: true, ..*options };
    let result = attend(query, key, &value, mask, method, &options)?;
    let lse = result.log_sum_exp.unwrap_or_default();
    let heads = result.output.chunks_exact(n * m).zip(lse.chunks_exact(n)).take(batch * heads);
    Ok(heads.map(|(a, l)| DenseHead { normalised: a.to_vec(), log_sum_exp: l.to_vec() }).collect())
}
