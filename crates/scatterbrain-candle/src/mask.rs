//! Which query may see which key, with candle's tensors.

use candle_core::{DType, Error, Result, Tensor};
use scatterbrain_attention as library;

/// The masks of one call; they combine by "and", and the default hides nothing.
///
/// Query i of batch entry b stands at key position `i + L_b − n`: the last query sees the last key, as in a decode step.
/// Positions and alignment are told at [`scatterbrain_attention::Mask`].
#[derive(Debug, Clone, Default)]
pub struct Mask {
    /// Keys after the query's position are hidden.
    pub causal: bool,
    /// Valid keys of each batch entry; the rest is padding.
    pub key_lengths: Option<Vec<usize>>,
    /// Keys outside the window are hidden.
    pub window: Option<library::Window>,
    /// A boolean mask of type u8, `[batch or 1, heads or 1, n, m]`: 1 = may attend. Masks that hold 1 where a pair is
    /// *hidden*, as some models of candle make them, must be turned round.
    pub allowed: Option<Tensor>,
}

impl Mask {
    /// Nothing is hidden.
    pub fn none() -> Self {
        Self::default()
    }

    /// A causal mask and nothing else.
    pub fn causal() -> Self {
        Mask { causal: true, ..Mask::default() }
    }

    /// `lengths[b]` valid keys in batch entry b and nothing else.
    pub fn lengths(lengths: impl Into<Vec<usize>>) -> Self {
        Mask { key_lengths: Some(lengths.into()), ..Mask::default() }
    }

    /// Gives the masks as the library takes them to `then`.
    pub(crate) fn with<T>(&self, then: impl FnOnce(&library::Mask<'_>) -> Result<T>) -> Result<T> {
        let mask = library::Mask {
            causal: self.causal,
            key_lengths: self.key_lengths.as_deref(),
            window: self.window,
            allowed: None,
        };
        let Some(allowed) = &self.allowed else { return then(&mask) };
        let allowed = stored_once(allowed)?;
        let shape: [usize; 4] =
            allowed.dims().try_into().map_err(|_| refused(&allowed, "[batch or 1, heads or 1, n, m]"))?;
        let (storage, layout) = allowed.storage_and_layout();
        let start = layout.start_offset();
        let elements: usize = shape.iter().product();
        match &*storage {
            candle_core::Storage::Cpu(candle_core::CpuStorage::U8(data)) => {
                let tensor = library::MaskTensor::new(&data[start..start + elements], shape).map_err(Error::wrap)?;
                then(&library::Mask { allowed: Some(tensor), ..mask })
            }
            _ => Err(refused(&allowed, "type u8 on the CPU")),
        }
    }
}

/// Contiguous, and without the axes of batch and heads where they only repeat.
fn stored_once(mask: &Tensor) -> Result<Tensor> {
    if mask.dtype() != DType::U8 {
        return Err(refused(mask, "type u8"));
    }
    let mut mask = mask.clone();
    for axis in 0..mask.rank().saturating_sub(2) {
        if mask.stride()[axis] == 0 && mask.dims()[axis] > 1 {
            mask = mask.narrow(axis, 0, 1)?;
        }
    }
    mask.contiguous()
}

fn refused(mask: &Tensor, expected: &str) -> Error {
    let got = format!("{:?} of type {:?} on {:?}", mask.dims(), mask.dtype(), mask.device().location());
    Error::wrap(library::Error::invalid("mask", expected, got))
}
