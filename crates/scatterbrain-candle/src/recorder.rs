//! The inputs of a model's attention, for captures and for planning.

use crate::{Attend, Inputs, Mask, Site, Spent, op};
use candle_core::{Error, Result, Storage, Tensor};
use scatterbrain_attention::Options;
use scatterbrain_attention::plan::{self, LayerPlan, PlanOptions};
use std::fmt;

/// Runs another attention and shows its inputs to a closure before, which keeps, writes or plans from what it wants.
///
/// Tensors are shared: to keep one is to clone a pointer, and costs the memory that the model would have freed.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use scatterbrain_candle::{Attend, Inputs, Recorder, ScatterbrainAttention, Site, Stack};
/// use std::sync::Mutex;
/// # fn main() -> candle_core::Result<()> {
/// # let x = Tensor::zeros((1, 1, 3, 2), candle_core::DType::F32, &Device::Cpu)?;
/// # let inputs = Inputs { query: &x, key: &x, value: &x, scale: 1.0, causal: true, key_lengths: None };
/// # let site = |layer| Site { stack: Stack::Decoder, layer };
/// let kept = Mutex::new(Vec::new());
/// let exact = ScatterbrainAttention::exact();
/// let recorder = Recorder::new(&exact, |site, inputs| {
///     if site.layer == 8 {
///         kept.lock().unwrap().push((site, inputs.query.clone(), inputs.key.clone(), inputs.value.clone()));
///     }
///     Ok(())
/// });
/// // … a model runs with &recorder …
/// # (0..10).try_for_each(|layer| recorder.attend(site(layer), &inputs).map(drop))?;
/// assert_eq!(kept.lock().unwrap().len(), 1);
/// # Ok(())
/// # }
/// ```
pub struct Recorder<'a, F> {
    attend: &'a dyn Attend,
    see: F,
}

impl<F> fmt::Debug for Recorder<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl<'a, F: Fn(Site, &Inputs<'_>) -> Result<()> + Send + Sync> Recorder<'a, F> {
    /// `see` gets the inputs of every site; an error of it is an error of the model's call.
    pub fn new(attend: &'a dyn Attend, see: F) -> Self {
        Self { attend, see }
    }
}

impl<F: Fn(Site, &Inputs<'_>) -> Result<()> + Send + Sync> Attend for Recorder<'_, F> {
    fn attend(&self, site: Site, inputs: &Inputs<'_>) -> Result<Tensor> {
        Ok(self.attend_reported(site, inputs)?.0)
    }

    fn attend_reported(&self, site: Site, inputs: &Inputs<'_>) -> Result<(Tensor, Option<Spent>)> {
        (self.see)(site, inputs)?;
        self.attend.attend_reported(site, inputs)
    }
}

impl Inputs<'_> {
    /// The mask of the call.
    pub fn mask(&self) -> Mask {
        Mask { causal: self.causal, key_lengths: self.key_lengths.map(<[usize]>::to_vec), ..Mask::default() }
    }

    /// A plan for the heads of a site, by [`scatterbrain_attention::plan::plan`].
    ///
    /// # Errors
    /// As there, and tensors that [`attend`](crate::attend) does not take.
    pub fn plan(&self, options: &PlanOptions) -> Result<LayerPlan> {
        let tensors = [("query", self.query), ("key", self.key), ("value", self.value)];
        for (argument, tensor) in tensors {
            op::check_device(argument, tensor.device())?;
        }
        let stored = tensors.map(|(_, tensor)| tensor.storage_and_layout());
        let view = |i: usize| match &*stored[i].0 {
            Storage::Cpu(storage) => op::view(tensors[i].0, storage, stored[i].1),
            Storage::Cuda(_) | Storage::Metal(_) => Err(Error::msg("a tensor left the CPU")),
        };
        let (query, key, value) = (view(0)?, view(1)?, view(2)?);
        let call = Options { scale: Some(self.scale), ..Options::default() };
        self.mask().with(|mask| plan::plan(&query, &key, &value, mask, options, &call).map_err(Error::wrap))
    }
}
