//! One stored call: tensors and parameters, checked as they are read.

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

/// A stored call.
pub(crate) struct File {
    bytes: Vec<u8>,
    parameters: HashMap<String, String>,
}

impl File {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).context("not a safetensors file")?;
        let parameters = metadata.metadata().clone().unwrap_or_default();
        SafeTensors::deserialize(&bytes).context("not a safetensors file")?;
        Ok(Self { bytes, parameters })
    }

    /// A parameter.
    pub(crate) fn parameter<T: FromStr>(&self, name: &str) -> Result<T> {
        let text = self.parameters.get(name).with_context(|| format!("no parameter `{name}`"))?;
        text.parse().ok().with_context(|| format!("parameter `{name}` = `{text}` does not parse"))
    }

    /// Whether a tensor is stored.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.view(name).is_ok()
    }

    /// The shape of a tensor of N axes.
    pub(crate) fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let shape = self.view(name)?.shape().to_vec();
        shape.try_into().map_err(|s| anyhow::anyhow!("`{name}` has shape {s:?}, not {N} axes"))
    }

    /// A parameter that may be missing.
    pub(crate) fn optional<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        self.parameters.contains_key(name).then(|| self.parameter(name)).transpose()
    }

    /// A tensor of f32, f16 or bf16 in the given shape, widened.
    pub(crate) fn widened(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        match self.view(name)?.dtype() {
            Dtype::F16 => self.elements(name, Dtype::F16, shape, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => self.elements(name, Dtype::BF16, shape, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            _ => self.floats(name, shape),
        }
    }

    /// A tensor of f32 in the given shape.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.elements(name, Dtype::F32, shape, f32::from_le_bytes)
    }

    /// A tensor of i32 in the given shape, all entries at least 0.
    pub(crate) fn indices(&self, name: &str, shape: &[usize]) -> Result<Vec<u32>> {
        let signed = self.elements(name, Dtype::I32, shape, i32::from_le_bytes)?;
        let index = |&x: &i32| u32::try_from(x).with_context(|| format!("`{name}` holds {x}"));
        signed.iter().map(index).collect()
    }

    /// A tensor of u8 in the given shape.
    pub(crate) fn flags(&self, name: &str, shape: &[usize]) -> Result<Vec<u8>> {
        self.elements(name, Dtype::U8, shape, |[x]: [u8; 1]| x)
    }

    /// A tensor of f32 or f64 in the given shape, as f64.
    pub(crate) fn doubles(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        match self.view(name)?.dtype() {
            Dtype::F64 => self.elements(name, Dtype::F64, shape, f64::from_le_bytes),
            _ => Ok(self.floats(name, shape)?.into_iter().map(f64::from).collect()),
        }
    }

    /// Valid keys of each batch entry.
    pub(crate) fn key_lengths(&self, batch: usize) -> Result<Vec<usize>> {
        let lengths = match self.view("key_lengths")?.dtype() {
            Dtype::I32 => {
                self.elements("key_lengths", Dtype::I32, &[batch], |bytes| i32::from_le_bytes(bytes).into())?
            }
            _ => self.elements("key_lengths", Dtype::I64, &[batch], i64::from_le_bytes)?,
        };
        let length = |&x: &i64| usize::try_from(x).with_context(|| format!("`key_lengths` holds {x}"));
        lengths.iter().map(length).collect()
    }

    fn view(&self, name: &str) -> Result<safetensors::tensor::TensorView<'_>> {
        let tensors = SafeTensors::deserialize(&self.bytes)?;
        tensors.tensor(name).with_context(|| format!("no tensor `{name}`"))
    }

    fn elements<T, const N: usize>(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        read: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>> {
        let view = self.view(name)?;
        if view.dtype() != dtype {
            bail!("`{name}` is {:?}, not {dtype:?}", view.dtype());
        }
        ensure!(view.shape() == shape, "`{name}` has shape {:?}, not {shape:?}", view.shape());
        let (words, _) = view.data().as_chunks::<N>();
        Ok(words.iter().map(|&w| read(w)).collect())
    }
}
