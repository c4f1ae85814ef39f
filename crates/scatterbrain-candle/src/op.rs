//! Attention as an operation of candle.

use crate::Mask;
use candle_core::{CpuStorage, CudaStorage, CustomOp3, Device, Error, Layout, MetalStorage, Result, Shape, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use scatterbrain_attention::{self as library, Causality, Data, Method, Options, Report};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

const NAME: &str = "scatterbrain attention";

/// What [`attend`] returns.
#[derive(Debug, Clone)]
pub struct Attention {
    /// `[batch, heads, n, d_v]`, of the type of the query.
    pub output: Tensor,
    /// What it took.
    pub spent: Spent,
}

/// What a call of attention took.
#[derive(Debug, Clone)]
pub struct Spent {
    /// Pairs, units and rows computed again, by head.
    pub report: Report,
    /// Whether the choice of pairs saw the whole sequence: under a causal mask such a method is no decoder's.
    pub causality: Causality,
    /// Wall-clock time of the call.
    pub seconds: f64,
}

/// Attention by any method of the library: o_i = Σ_j Â_ij v_j / Σ_j Â_ij.
///
/// `query` `[batch, heads, n, d]`, `key` `[batch, kv_heads, m, d]`, `value` `[batch, kv_heads, m, d_v]`, each f32, f16 or
/// bf16 on the CPU with any strides; query head i uses key head i / (heads / kv_heads). The scale is 1/√d where none is
/// given. Tensors of f32 whose columns are contiguous are read in place, so transposed and narrowed ones cost no copy;
/// others are converted a head at a time. Everything is computed in f32. Runs in the rayon pool of the caller.
///
/// # Errors
/// Tensors that are not on the CPU, of another type or rank, shapes that do not fit each other, the mask or the method: the
/// argument, what was expected and what came. Gradients do not exist: `backward` through the output is an error, too.
///
/// # Cost
/// As [`scatterbrain_attention::attend`].
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use scatterbrain_candle::{Mask, attend};
/// use scatterbrain_candle::{Preset, Seed};
/// # fn main() -> candle_core::Result<()> {
/// let x = Tensor::randn(0f32, 1.0, (1, 200, 4, 16), &Device::Cpu)?.transpose(1, 2)?; // [batch, heads, n, d], not contiguous
/// let method = Preset::ScatterbrainCentroid.method(32, 16, Seed(0)).map_err(candle_core::Error::wrap)?;
/// let result = attend(&x, &x, &x, &Mask::none(), &method, None)?;
/// assert_eq!(result.output.dims(), [1, 4, 200, 16]);
/// assert!(result.spent.report.share < 0.17); // 32 of 200 keys
/// # Ok(())
/// # }
/// ```
pub fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: &Mask,
    method: &Method,
    scale: Option<f32>,
) -> Result<Attention> {
    for (argument, tensor) in [("query", query), ("key", key), ("value", value)] {
        check_device(argument, tensor.device())?;
    }
    let start = Instant::now();
    let report = Arc::new(OnceLock::new());
    let op = Op { mask: mask.clone(), method: method.clone(), scale, report: report.clone() };
    let output = query.apply_op3(key, value, op)?;
    let seconds = start.elapsed().as_secs_f64();
    let report = report.get().cloned().ok_or_else(|| Error::msg("the operation left no report"))?;
    Ok(Attention { output, spent: Spent { report, causality: method.causality(), seconds } })
}

/// One call; candle keeps it where a gradient may be asked for.
struct Op {
    mask: Mask,
    method: Method,
    scale: Option<f32>,
    report: Arc<OnceLock<Report>>,
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        query: &CpuStorage,
        query_layout: &Layout,
        key: &CpuStorage,
        key_layout: &Layout,
        value: &CpuStorage,
        value_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let query_view = view("query", query, query_layout)?;
        let key = view("key", key, key_layout)?;
        let value = view("value", value, value_layout)?;
        let options = Options { scale: self.scale, ..Options::default() };
        let attention = self.mask.with(|mask| {
            library::attend(&query_view, &key, &value, mask, &self.method, &options).map_err(Error::wrap)
        })?;
        // The cell is this call's own: it is empty.
        let _ = self.report.set(attention.report);
        let [batch, heads, n, _] = query_view.shape();
        let output = match query {
            CpuStorage::F16(_) => {
                let mut half = vec![f16::ZERO; attention.output.len()];
                half.convert_from_f32_slice(&attention.output);
                CpuStorage::F16(half)
            }
            CpuStorage::BF16(_) => {
                let mut half = vec![bf16::ZERO; attention.output.len()];
                half.convert_from_f32_slice(&attention.output);
                CpuStorage::BF16(half)
            }
            _ => CpuStorage::F32(attention.output),
        };
        Ok((output, Shape::from((batch, heads, n, value.shape()[3]))))
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Err(not_on_cpu("query", "a CUDA device"))
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        Err(not_on_cpu("query", "a Metal device"))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Err(Error::msg(format!(
            "{NAME}: gradients do not exist yet; detach query, key and value, or train with exact attention"
        )))
    }
}

pub(crate) fn check_device(argument: &'static str, device: &Device) -> Result<()> {
    match device {
        Device::Cpu => Ok(()),
        Device::Cuda(_) => Err(not_on_cpu(argument, "a CUDA device")),
        Device::Metal(_) => Err(not_on_cpu(argument, "a Metal device")),
    }
}

fn not_on_cpu(argument: &'static str, device: &str) -> Error {
    Error::wrap(library::Error::invalid(argument, "a tensor on the CPU", format!("one on {device}")))
}

/// The elements where they are.
pub(crate) fn view<'a>(
    argument: &'static str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<library::Tensor<'a>> {
    let invalid = |expected: &str, got: String| Error::wrap(library::Error::invalid(argument, expected, got));
    let rank = || invalid("[batch, heads, rows, columns]", format!("{:?}", layout.dims()));
    let shape: [usize; 4] = layout.dims().try_into().map_err(|_| rank())?;
    let strides: [usize; 4] = layout.stride().try_into().map_err(|_| rank())?;
    let start = layout.start_offset();
    let data = match storage {
        CpuStorage::F32(data) => Data::F32(&data[start..]),
        CpuStorage::F16(data) => Data::F16(&data[start..]),
        CpuStorage::BF16(data) => Data::Bf16(&data[start..]),
        other => {
            let got = candle_core::backend::BackendStorage::dtype(other);
            return Err(invalid("elements of f32, f16 or bf16", got.as_str().to_owned()));
        }
    };
    library::Tensor::strided(argument, data, shape, strides).map_err(Error::wrap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::CudaDevice;

    /// No such device can be had in tests; the check knows no more of it than its kind.
    #[test]
    fn other_devices_are_named() {
        assert!(check_device("query", &Device::Cpu).is_ok());
        let error = check_device("key", &Device::Cuda(CudaDevice)).unwrap_err().to_string();
        assert!(error.starts_with("key: expected a tensor on the CPU, got one on a CUDA device"), "{error}");
        let layout = Layout::contiguous((1, 1, 1, 1));
        let op = Op { mask: Mask::none(), method: Method::exact(), scale: None, report: Arc::default() };
        let (s, l) = (&CudaStorage, &layout);
        assert!(op.cuda_fwd(s, l, s, l, s, l).unwrap_err().to_string().contains("on the CPU"));
    }
}
