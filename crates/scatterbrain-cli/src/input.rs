//! The input file: tensors, masks and metadata, each checked.

use crate::arguments::{CommonOptions, parse_scale};
use crate::library::{self, Data, Mask, MaskTensor, Tensor, Window};
use anyhow::{Context, Result, anyhow, bail, ensure};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::Path;

/// What `compare` runs on without a file.
const EMBEDDED: &[u8] = include_bytes!("../assets/fixture.safetensors");

/// Queries, keys, values and what may be seen.
#[derive(Debug)]
pub(crate) struct Input {
    /// The path as given, or what is built in.
    pub(crate) file: String,
    /// The model a capture comes from, where the file says so.
    pub(crate) model: Option<String>,
    /// The layer of the model, the same.
    pub(crate) layer: Option<String>,
    /// All sizes.
    pub(crate) sizes: Sizes,
    /// `[batch, heads, n, d]`.
    pub(crate) query: Array,
    /// `[batch, kv_heads, m, d]`.
    pub(crate) key: Array,
    /// `[batch, kv_heads, m, d_v]`.
    pub(crate) value: Array,
    /// Valid keys of each batch entry.
    pub(crate) key_lengths: Option<Vec<usize>>,
    /// The boolean mask.
    pub(crate) allowed: Option<Allowed>,
    /// Whether later keys are hidden.
    pub(crate) causal: bool,
    /// The window of the command line.
    pub(crate) window: Option<Window>,
    /// The softmax scale.
    pub(crate) scale: f64,
}

/// All sizes of an attention call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) n: usize,
    pub(crate) m: usize,
    pub(crate) d: usize,
    pub(crate) d_v: usize,
}

/// A tensor of the file, in its own type.
#[derive(Debug)]
pub(crate) struct Array {
    name: &'static str,
    shape: [usize; 4],
    elements: Elements,
}

#[derive(Debug)]
enum Elements {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

/// A boolean mask of the file, `[batch or 1, heads or 1, n, m]`.
#[derive(Debug)]
pub(crate) struct Allowed {
    pub(crate) shape: [usize; 4],
    pub(crate) data: Vec<u8>,
}

impl Input {
    /// Reads a file, or what is built in, under the command line's wishes.
    ///
    /// # Errors
    /// An unreadable file, or contents that are no attention input.
    pub(crate) fn read(path: Option<&Path>, options: &CommonOptions) -> Result<Self> {
        match path {
            None => Self::parse("fixture.safetensors (built in)".into(), EMBEDDED, options),
            Some(path) => {
                let name = path.display().to_string();
                let bytes = std::fs::read(path).with_context(|| name.clone())?;
                Self::parse(name.clone(), &bytes, options).context(name)
            }
        }
    }

    fn parse(file: String, bytes: &[u8], options: &CommonOptions) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_safetensors)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(not_safetensors)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let array = |name| Array::read(name, &tensors);
        let (query, key, value) = (array("query")?, array("key")?, array("value")?);
        let sizes = Sizes::check(query.shape, key.shape, value.shape)?;
        Ok(Input {
            file,
            model: metadata.get("model").cloned(),
            layer: metadata.get("layer").cloned(),
            sizes,
            key_lengths: read_key_lengths(&tensors, &sizes)?,
            allowed: Allowed::read(&tensors, &sizes)?,
            causal: options.causal().map_or_else(|| read_causal(&metadata), Ok)?,
            window: options.window,
            scale: options.scale.map_or_else(|| read_scale(&metadata, sizes.d), Ok)?,
            query,
            key,
            value,
        })
    }

    /// The masks of the whole call.
    ///
    /// # Errors
    /// None that [`Input::read`] lets through.
    pub(crate) fn mask(&self) -> Result<Mask<'_>, library::Error> {
        let allowed = self.allowed.as_ref().map(|a| MaskTensor::new(&a.data, a.shape)).transpose()?;
        let key_lengths = self.key_lengths.as_deref();
        Ok(Mask { causal: self.causal, key_lengths, window: self.window, allowed })
    }

    /// The masks of one batch entry alone.
    ///
    /// # Errors
    /// None that [`Input::read`] lets through.
    pub(crate) fn mask_of(&self, batch: usize) -> Result<Mask<'_>, library::Error> {
        let allowed = match &self.allowed {
            None => None,
            Some(a) => {
                let [b, h, n, m] = a.shape;
                let start = if b == 1 { 0 } else { batch * h * n * m };
                Some(MaskTensor::new(&a.data[start..start + h * n * m], [1, h, n, m])?)
            }
        };
        let key_lengths = self.key_lengths.as_deref().map(|l| &l[batch..=batch]);
        Ok(Mask { causal: self.causal, key_lengths, window: self.window, allowed })
    }

    /// Elements of the output, `[batch, heads, n, d_v]`.
    ///
    /// # Errors
    /// Where they cannot be counted or allocated.
    pub(crate) fn output_len(&self) -> Result<usize> {
        let Sizes { batch, heads, n, d_v, .. } = self.sizes;
        let len = [batch, heads, n, d_v].into_iter().try_fold(1usize, usize::checked_mul);
        let fits = |len: &usize| Vec::<f64>::new().try_reserve_exact(*len).is_ok();
        len.filter(fits).ok_or_else(|| anyhow!("an output of [{batch}, {heads}, {n}, {d_v}] does not fit into memory"))
    }
}

impl Sizes {
    fn check(query: [usize; 4], key: [usize; 4], value: [usize; 4]) -> Result<Self> {
        let ([batch, heads, n, d], [b_k, kv_heads, m, d_k], [b_v, h_v, m_v, d_v]) = (query, key, value);
        ensure!(b_k == batch && d_k == d, "key: expected [{batch}, kv_heads, m, {d}] to go with query, got {key:?}");
        ensure!(
            (b_v, h_v, m_v) == (batch, kv_heads, m),
            "value: expected [{batch}, {kv_heads}, {m}, d_v] to go with key, got {value:?}"
        );
        ensure!(
            heads.is_multiple_of(kv_heads),
            "query: expected a multiple of the {kv_heads} key heads, got {heads} heads"
        );
        Ok(Sizes { batch, heads, kv_heads, n, m, d, d_v })
    }

    /// The key/value head of a query head.
    pub(crate) fn kv_head(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }
}

impl Array {
    fn read(name: &'static str, tensors: &SafeTensors<'_>) -> Result<Self> {
        let view = tensors.tensor(name).map_err(|_| anyhow!("{name}: no such tensor in the file"))?;
        let shape = rank_four(name, &view)?;
        ensure!(!shape.contains(&0), "{name}: expected sizes of at least 1, got {shape:?}");
        let elements = match view.dtype() {
            Dtype::F32 => Elements::F32(read_elements(&view, f32::from_le_bytes)),
            Dtype::F16 => Elements::F16(read_elements(&view, f16::from_le_bytes)),
            Dtype::BF16 => Elements::Bf16(read_elements(&view, bf16::from_le_bytes)),
            other => bail!("{name}: expected f32, f16 or bf16, got {other}"),
        };
        Ok(Array { name, shape, elements })
    }

    /// The whole tensor.
    ///
    /// # Errors
    /// None that [`Input::read`] lets through.
    pub(crate) fn tensor(&self) -> Result<Tensor<'_>, library::Error> {
        Tensor::contiguous(self.name, self.data(0, self.shape[0]), self.shape)
    }

    /// One batch entry, with a batch of 1.
    ///
    /// # Errors
    /// None that [`Input::read`] lets through.
    pub(crate) fn entry(&self, batch: usize) -> Result<Tensor<'_>, library::Error> {
        let [_, h, n, d] = self.shape;
        Tensor::contiguous(self.name, self.data(batch, batch + 1), [1, h, n, d])
    }

    fn data(&self, from: usize, to: usize) -> Data<'_> {
        let entry = self.shape[1..].iter().product::<usize>();
        let range = from * entry..to * entry;
        match &self.elements {
            Elements::F32(x) => Data::F32(&x[range]),
            Elements::F16(x) => Data::F16(&x[range]),
            Elements::Bf16(x) => Data::Bf16(&x[range]),
        }
    }

    /// One head in f64, row-major.
    pub(crate) fn head_f64(&self, batch: usize, head: usize) -> Vec<f64> {
        let [_, h, n, d] = self.shape;
        let start = (batch * h + head) * n * d;
        let range = start..start + n * d;
        match &self.elements {
            Elements::F32(x) => x[range].iter().map(|&v| f64::from(v)).collect(),
            Elements::F16(x) => x[range].iter().map(|&v| f64::from(v)).collect(),
            Elements::Bf16(x) => x[range].iter().map(|&v| f64::from(v)).collect(),
        }
    }
}

impl Allowed {
    fn read(tensors: &SafeTensors<'_>, sizes: &Sizes) -> Result<Option<Self>> {
        let Ok(view) = tensors.tensor("mask") else { return Ok(None) };
        let dtype = view.dtype();
        ensure!(matches!(dtype, Dtype::U8 | Dtype::BOOL), "mask: expected u8 or bool, got {dtype}");
        let shape @ [b, h, n, m] = rank_four("mask", &view)?;
        let Sizes { batch, heads, .. } = *sizes;
        ensure!(
            (b == 1 || b == batch) && (h == 1 || h == heads) && (n, m) == (sizes.n, sizes.m),
            "mask: expected [{batch} or 1, {heads} or 1, {}, {}], got {shape:?}",
            sizes.n,
            sizes.m
        );
        Ok(Some(Allowed { shape, data: view.data().to_vec() }))
    }

    /// The mask row of a query.
    pub(crate) fn row(&self, batch: usize, head: usize, query_idx: usize) -> &[u8] {
        let [b, h, n, m] = self.shape;
        let (b, head) = (if b == 1 { 0 } else { batch }, if h == 1 { 0 } else { head });
        let start = ((b * h + head) * n + query_idx) * m;
        &self.data[start..start + m]
    }
}

fn not_safetensors(error: safetensors::SafeTensorError) -> anyhow::Error {
    anyhow!("not a complete safetensors file: {error}")
}

fn rank_four(name: &str, view: &TensorView<'_>) -> Result<[usize; 4]> {
    view.shape()
        .try_into()
        .map_err(|_| anyhow!("{name}: expected 4 axes [batch, heads, rows, columns], got shape {:?}", view.shape()))
}

fn read_elements<T, const SIZE: usize>(view: &TensorView<'_>, convert: fn([u8; SIZE]) -> T) -> Vec<T> {
    view.data().as_chunks::<SIZE>().0.iter().map(|bytes| convert(*bytes)).collect()
}

fn read_key_lengths(tensors: &SafeTensors<'_>, sizes: &Sizes) -> Result<Option<Vec<usize>>> {
    let Ok(view) = tensors.tensor("key_lengths") else { return Ok(None) };
    ensure!(
        view.shape() == [sizes.batch],
        "key_lengths: expected shape [{}], one length a batch entry, got {:?}",
        sizes.batch,
        view.shape()
    );
    let lengths: Vec<i128> = match view.dtype() {
        Dtype::U8 => read_elements(&view, |b| u8::from_le_bytes(b).into()),
        Dtype::I8 => read_elements(&view, |b| i8::from_le_bytes(b).into()),
        Dtype::U16 => read_elements(&view, |b| u16::from_le_bytes(b).into()),
        Dtype::I16 => read_elements(&view, |b| i16::from_le_bytes(b).into()),
        Dtype::U32 => read_elements(&view, |b| u32::from_le_bytes(b).into()),
        Dtype::I32 => read_elements(&view, |b| i32::from_le_bytes(b).into()),
        Dtype::U64 => read_elements(&view, |b| u64::from_le_bytes(b).into()),
        Dtype::I64 => read_elements(&view, |b| i64::from_le_bytes(b).into()),
        other => bail!("key_lengths: expected an integer type, got {other}"),
    };
    let length = |l: i128| usize::try_from(l).ok().filter(|l| *l <= sizes.m);
    let check = |l| length(l).ok_or_else(|| anyhow!("key_lengths: expected lengths of 0 to {}, got {l}", sizes.m));
    lengths.into_iter().map(check).collect::<Result<_>>().map(Some)
}

fn read_causal(metadata: &HashMap<String, String>) -> Result<bool> {
    match metadata.get("causal").map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => bail!("metadata causal: expected \"true\" or \"false\", got {other:?}"),
    }
}

fn read_scale(metadata: &HashMap<String, String>, d: usize) -> Result<f64> {
    let Some(text) = metadata.get("scale") else { return Ok(1.0 / (d as f64).sqrt()) };
    parse_scale(text).ok_or_else(|| anyhow!("metadata scale: expected a finite decimal number, got {text:?}"))
}
