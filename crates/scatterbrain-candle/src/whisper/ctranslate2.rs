//! Model files of CTranslate2: `model.bin` of version 6.
//!
//! All numbers are little-endian; a string is its length as u16, its bytes, and a NUL that the length counts.
//!
//! ```text
//! u32 version · string specification · u32 revision
//! u32 variables, each: string name · u8 rank · u32 × rank dimensions · u8 type · u32 bytes · data
//! u32 aliases, each: string alias · string name
//! ```
//!
//! Types: 0 f32, 1 i8, 2 i16, 3 i32, 4 f16, 5 bf16.
//!
//! Source: `ModelSpec` in [CTranslate2](https://github.com/OpenNMT/CTranslate2), `python/ctranslate2/specs/model_spec.py`.

use super::Config;
use candle_core::{DType, Device, Result, Tensor, bail};
use std::collections::HashMap;
use std::path::Path;

/// The version of the format that is read here.
pub const VERSION: u32 = 6;

/// A file's content.
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// What the model is: `WhisperSpec`.
    pub specification: String,
    /// Revision of the specification.
    pub revision: u32,
    /// Tensors by name, aliases among them; i8 comes as i16, which candle has.
    pub tensors: HashMap<String, Tensor>,
}

impl ModelFile {
    /// Reads a file.
    ///
    /// # Errors
    /// What [`ModelFile::parse`] tells, with the path; a file that cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<ModelFile> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| candle_core::Error::msg(format!("{}: {e}", path.display())))?;
        ModelFile::parse(&bytes).map_err(|e| candle_core::Error::msg(format!("{}: {e}", path.display())))
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// Another version, bytes that end too early or too late, a type without a number, a size that is not its shape's, a
    /// name that comes twice, or an alias of nothing; the message names the variable.
    pub fn parse(bytes: &[u8]) -> Result<ModelFile> {
        let mut rest = Reader { bytes, reading: "the header".to_owned() };
        let version = rest.u32()?;
        if version != VERSION {
            bail!("expected version {VERSION} of CTranslate2's format, got {version}");
        }
        let specification = rest.string()?;
        let revision = rest.u32()?;
        let mut tensors = HashMap::new();
        for i in 0..rest.u32()? {
            rest.reading = format!("the name of variable {i}");
            let name = rest.string()?;
            rest.reading = format!("variable {name}");
            let tensor = rest.tensor()?;
            if tensors.insert(name.clone(), tensor).is_some() {
                bail!("variable {name} comes twice");
            }
        }
        rest.reading = "the aliases".to_owned();
        for _ in 0..rest.u32()? {
            let (alias, name) = (rest.string()?, rest.string()?);
            let Some(tensor) = tensors.get(&name).cloned() else {
                bail!("alias {alias}: there is no variable {name}");
            };
            tensors.insert(alias, tensor);
        }
        if !rest.bytes.is_empty() {
            bail!("{} bytes follow after the last alias", rest.bytes.len());
        }
        Ok(ModelFile { specification, revision, tensors })
    }

    /// The shapes of a Whisper model, from those of its tensors.
    ///
    /// # Errors
    /// Another specification, or a tensor that is missing or of another rank; the message names it.
    pub fn whisper_config(&self) -> Result<Config> {
        if self.specification != "WhisperSpec" {
            bail!("expected a model of WhisperSpec, got {}", self.specification);
        }
        let convolution = self.dimensions("encoder/conv1/weight", 3)?;
        let embeddings = self.dimensions("decoder/embeddings/weight", 2)?;
        // One more than the last that any tensor is of: where one of a layer is missing, loading says so.
        let layers = |stack: &str| {
            let layer = |name: &String| {
                let rest = name.strip_prefix(stack)?.strip_prefix("/layer_")?;
                rest.split_once('/')?.0.parse::<usize>().ok()
            };
            self.tensors.keys().filter_map(layer).max().map_or(0, |last| last.saturating_add(1))
        };
        let Some(heads) = self.tensors.get("encoder/num_heads") else {
            bail!("tensor encoder/num_heads is missing");
        };
        Ok(Config {
            mels: convolution[1],
            width: convolution[0],
            hidden: self.dimensions("encoder/layer_0/ffn/linear_0/weight", 2)?[0],
            heads: heads.flatten_all()?.get(0)?.to_dtype(DType::I64)?.to_scalar::<i64>()?.try_into().unwrap_or(0),
            encoder_layers: layers("encoder"),
            decoder_layers: layers("decoder"),
            audio_positions: self.dimensions("encoder/position_encodings/encodings", 2)?[0],
            text_positions: self.dimensions("decoder/position_encodings/encodings", 2)?[0],
            vocabulary: embeddings[0],
        })
    }

    fn dimensions(&self, name: &str, rank: usize) -> Result<&[usize]> {
        match self.tensors.get(name) {
            Some(tensor) if tensor.rank() == rank => Ok(tensor.dims()),
            Some(tensor) => bail!("tensor {name}: expected {rank} dimensions, got {:?}", tensor.dims()),
            None => bail!("tensor {name} is missing"),
        }
    }
}

/// What is left of the bytes, and what is being read from them.
struct Reader<'a> {
    bytes: &'a [u8],
    reading: String,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            bail!("cut short in {}: expected {count} bytes more, got {}", self.reading, self.bytes.len());
        };
        self.bytes = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn string(&mut self) -> Result<String> {
        let length = self.u16()?;
        match self.take(length.into())?.split_last() {
            Some((0, text)) if !text.contains(&0) => match std::str::from_utf8(text) {
                Ok(text) => Ok(text.to_owned()),
                Err(_) => bail!("{}: expected a string in UTF-8", self.reading),
            },
            _ => bail!("{}: expected a string that ends with NUL", self.reading),
        }
    }

    fn tensor(&mut self) -> Result<Tensor> {
        let rank = self.u8()?;
        let shape = (0..rank).map(|_| Ok(self.u32()? as usize)).collect::<Result<Vec<usize>>>()?;
        let kind = self.u8()?;
        let (size, dtype) = match kind {
            0 => (4, DType::F32),
            1 => (1, DType::I16),
            2 => (2, DType::I16),
            3 => (4, DType::I32),
            4 => (2, DType::F16),
            5 => (2, DType::BF16),
            _ => bail!("{}: expected a type of 0 to 5, got {kind}", self.reading),
        };
        let bytes = self.u32()? as usize;
        let expected = shape.iter().try_fold(size, |product: usize, &extent| product.checked_mul(extent));
        if expected != Some(bytes) {
            bail!("{}: {bytes} bytes are not those of shape {shape:?} with {size} bytes an entry", self.reading);
        }
        let data = self.take(bytes)?;
        if kind == 1 {
            let wide = data.iter().map(|&byte| i16::from(byte.cast_signed())).collect();
            return Tensor::from_vec::<_, i16>(wide, shape, &Device::Cpu);
        }
        Tensor::from_raw_buffer(data, dtype, &shape, &Device::Cpu)
    }
}

#[cfg(test)]
mod tests;
