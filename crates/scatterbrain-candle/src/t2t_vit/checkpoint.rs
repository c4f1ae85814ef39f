//! Checkpoints of the authors: zip files of a pickle and tensors, as PyTorch writes them.

use candle_core::pickle::PthTensors;
use candle_core::{Result, Tensor, bail};
use std::collections::HashMap;
use std::path::Path;

/// Where a checkpoint keeps the weights: averaged over training, of the last step, or at its top.
const KEYS: [Option<&str>; 3] = [Some("state_dict_ema"), Some("state_dict"), None];

/// Reads the tensors of a checkpoint (`81.7_T2T_ViTt_14.pth.tar`) under the names of [`T2tVit::load`](super::T2tVit::load).
///
/// Averaged weights are preferred, and the prefix `module.` of distributed training is dropped.
/// The result goes to [`weights::builder`](crate::weights::builder).
///
/// # Errors
/// A file that is no such checkpoint, one of PyTorch's form before 1.6 (no zip file), or a tensor that is cut short.
pub fn read_checkpoint(path: impl AsRef<Path>) -> Result<HashMap<String, Tensor>> {
    let path = path.as_ref();
    for key in KEYS {
        let Some(file) = open(path, key)? else { continue };
        let mut tensors = HashMap::new();
        for name in file.tensor_infos().keys() {
            let tensor = match file.get(name) {
                Ok(Some(tensor)) => tensor,
                Ok(None) => bail!("{}: tensor {name} is listed and not there", path.display()),
                Err(error) => bail!("{}: tensor {name}: {error}", path.display()),
            };
            tensors.insert(name.strip_prefix("module.").unwrap_or(name).to_owned(), tensor);
        }
        if !tensors.is_empty() {
            return Ok(tensors);
        }
    }
    bail!("{}: expected tensors at the top or under state_dict, found none", path.display())
}

/// The tensors under a key; none where the key is missing.
fn open(path: &Path, key: Option<&str>) -> Result<Option<PthTensors>> {
    match PthTensors::new(path, key) {
        Ok(file) => Ok(Some(file)),
        Err(error) if key.is_some() && error.to_string().contains("not found") => Ok(None),
        Err(error) => bail!("{}: expected a zip file that PyTorch (1.6 or later) wrote: {error}", path.display()),
    }
}
