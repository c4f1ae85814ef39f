//! Weights from files, with errors that name the tensor.

use candle_core::{DType, Device, Error, Result};
use candle_nn::VarBuilder;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// All tensors of a safetensors file, in f32 on the CPU.
///
/// # Errors
/// A file that cannot be read, is no safetensors file or ends early: the path and, where the header is whole, the first
/// tensor that is not.
pub fn safetensors(path: &Path) -> Result<VarBuilder<'static>> {
    let named = |error: Error| error.with_path(path);
    let bytes = std::fs::read(path).map_err(|error| named(error.into()))?;
    if let Some(missing) = beyond_the_end(&bytes) {
        return Err(named(Error::msg(missing)));
    }
    VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).map_err(named)
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

/// Where a tensor lies after the header.
#[derive(Deserialize)]
struct Entry {
    data_offsets: Option<(u64, u64)>,
}

/// The first tensor that the file does not hold whole. What else is wrong with a header, the safetensors crate says.
fn beyond_the_end(bytes: &[u8]) -> Option<String> {
    let (length, rest) = bytes.split_at_checked(8)?;
    let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let Some((header, data)) = rest.split_at_checked(length) else {
        return Some(format!("a header of {length} bytes, of which the file holds {}", rest.len()));
    };
    let entries: BTreeMap<String, Entry> = serde_json::from_slice(header).ok()?;
    let ends = entries.into_iter().filter_map(|(name, entry)| Some((entry.data_offsets?.1, name)));
    let (end, name) = ends.filter(|&(end, _)| end > data.len() as u64).min()?;
    Some(format!("{name}: ends at byte {end} of the tensors, of which the file holds {}: it is truncated", data.len()))
}
