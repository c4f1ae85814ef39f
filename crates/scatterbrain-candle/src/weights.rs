//! Weights from files, with errors that name the tensor.

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// All tensors of a safetensors file, as [`builder`] gives them.
///
/// # Errors
/// A file that cannot be read, is no safetensors file or ends early: the path and, where the header is whole, the first
/// tensor that is not.
pub fn safetensors(path: &Path) -> Result<VarBuilder<'static>> {
    let named = |error: Error| error.with_path(path);
    let bytes = std::fs::read(path).map_err(|error| named(error.into()))?;
    if let Some(missing) = unsound(&bytes) {
        return Err(named(Error::msg(missing)));
    }
    let file = BufferedSafetensors::new(bytes).map_err(named)?;
    // One of a type that candle does not have is missed where a model asks for it, and nowhere else.
    let names = file.tensors().into_iter().map(|(name, _)| name);
    let tensors = names.filter_map(|name| Some((file.load(&name, &Device::Cpu).ok()?, name)));
    Ok(builder(tensors.map(|(tensor, name)| (name, tensor)).collect()))
}

/// A builder of weights in f32 on the CPU. Where a model asks for a tensor that is missing, of another shape, of integers,
/// or not finite, that is an error with its name.
pub fn builder(tensors: HashMap<String, Tensor>) -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(Checked(tensors)), DType::F32, Device::Cpu)
}

struct Checked(HashMap<String, Tensor>);

impl SimpleBackend for Checked {
    fn get(&self, shape: Shape, name: &str, _: candle_nn::Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor = self.get_unchecked(name, dtype, device)?;
        if tensor.shape() != &shape {
            let (expected, got) = (shape.dims(), tensor.dims());
            return Err(Error::msg(format!("tensor {name}: expected shape {expected:?}, got {got:?}")));
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let told = |what: &str| Error::msg(format!("tensor {name}: {what}"));
        let tensor = self.0.get(name).ok_or_else(|| told("there is none of this name"))?;
        if !tensor.dtype().is_float() {
            return Err(told(&format!("expected floats, got {}", tensor.dtype().as_str())));
        }
        let tensor = tensor.to_dtype(dtype)?.to_device(device)?;
        check_finite(name, &tensor)?;
        Ok(tensor)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Refuses a tensor of f32 with an entry that is infinite or no number: all that a model says would be.
pub(crate) fn check_finite(name: &str, tensor: &Tensor) -> Result<()> {
    let entries = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    match entries.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::msg(format!("tensor {name}: entry {at} is {}, expected a finite number", entries[at]))),
    }
}

/// The extents of a tensor of so many dimensions.
pub(crate) fn extents<'a>(tensors: &'a HashMap<String, Tensor>, name: &str, rank: usize) -> Result<&'a [usize]> {
    match tensors.get(name).map(Tensor::dims) {
        Some(extents) if extents.len() == rank => Ok(extents),
        Some(extents) => Err(Error::msg(format!("tensor {name}: expected {rank} dimensions, got {extents:?}"))),
        None => Err(Error::msg(format!("tensor {name} is missing"))),
    }
}

/// Refuses weights that have a layer after the last: those of a larger model, whose rest would be left out silently.
/// `tensor(i)` is the name of one that every layer i has.
pub(crate) fn check_last_layer(
    weights: &VarBuilder<'_>,
    layers: usize,
    tensor: impl Fn(usize) -> String,
) -> Result<()> {
    let beyond = tensor(layers);
    // A builder that has this has every name, as `VarBuilder::zeros`.
    let any = weights.contains_tensor("a name that no model has");
    if weights.contains_tensor(&beyond) && !any {
        let prefix = weights.prefix();
        let dot = if prefix.is_empty() { "" } else { "." };
        return Err(Error::msg(format!("tensor {prefix}{dot}{beyond}: expected {layers} layers, there are more")));
    }
    Ok(())
}

/// What a tensor is, and where it lies after the header.
#[derive(Deserialize)]
struct Entry {
    dtype: Option<String>,
    shape: Option<Vec<u64>>,
    data_offsets: Option<(u64, u64)>,
}

impl Entry {
    /// What is wrong, where its bytes are not those of its shape and its type.
    fn complaint(&self) -> Option<String> {
        let (dtype, shape, (start, end)) = (self.dtype.as_ref()?, self.shape.as_ref()?, self.data_offsets?);
        let size = match dtype.as_str() {
            "F64" | "I64" | "U64" => 8,
            "F32" | "I32" | "U32" => 4,
            "F16" | "BF16" | "I16" | "U16" => 2,
            "I8" | "U8" | "BOOL" => 1,
            _ => return None,
        };
        let needed = shape.iter().try_fold(size, |product: u64, &extent| product.checked_mul(extent));
        let held = end.checked_sub(start);
        (needed.is_none() || needed != held)
            .then(|| format!("bytes {start} to {end} are not those of shape {shape:?} in {dtype}"))
    }
}

/// The first tensor that contradicts itself, or that the file does not hold whole. What else is wrong with a header, the
/// safetensors crate says.
fn unsound(bytes: &[u8]) -> Option<String> {
    let (length, rest) = bytes.split_at_checked(8)?;
    let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let Some((header, data)) = rest.split_at_checked(length) else {
        return Some(format!("a header of {length} bytes, of which the file holds {}", rest.len()));
    };
    let entries: BTreeMap<String, Entry> = serde_json::from_slice(header).ok()?;
    if let Some((name, what)) = entries.iter().find_map(|(name, entry)| Some((name, entry.complaint()?))) {
        return Some(format!("{name}: {what}"));
    }
    let ends = entries.into_iter().filter_map(|(name, entry)| Some((entry.data_offsets?.1, name)));
    let (end, name) = ends.filter(|&(end, _)| end > data.len() as u64).min()?;
    Some(format!("{name}: ends at byte {end} of the tensors, of which the file holds {}: it is truncated", data.len()))
}
