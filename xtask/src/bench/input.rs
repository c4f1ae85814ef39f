//! The tensors of a case: independent standard normal numbers, the same on every machine.

use anyhow::Result;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use scatterbrain_attention::{Error, Mask, Method, Options, Seed, Tensor, attend, attend_into};
use std::path::Path;
use std::time::{Duration, Instant};

/// d and d_v of every case.
pub(crate) const HEAD_DIM: usize = 64;

/// Queries, keys and values of one batch entry.
pub(crate) struct Input {
    shape: [usize; 4],
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
}

impl Input {
    pub(crate) fn draw(n: usize, heads: usize) -> Self {
        let [query, key, value] = [0, 1, 2].map(|part| Seed(n as u64).stream(part).normals(heads * n * HEAD_DIM));
        Self { shape: [1, heads, n, HEAD_DIM], query, key, value }
    }

    /// Elements of an output.
    pub(crate) fn len(&self) -> usize {
        self.query.len()
    }

    /// One call as a user makes it: the output is allocated in it, as PyTorch's is.
    pub(crate) fn attend(&self, method: &Method, causal: bool) -> Result<Vec<f32>, Error> {
        let [query, key, value] = self.tensors()?;
        Ok(attend(&query, &key, &value, &mask(causal), method, &Options::default())?.output)
    }

    /// Calls of some method for some time.
    pub(crate) fn attend_for(&self, time: Duration, method: &Method) -> Result<(), Error> {
        let start = Instant::now();
        while start.elapsed() < time {
            self.attend(method, false)?;
        }
        Ok(())
    }

    /// One call into memory that is there.
    pub(crate) fn attend_into(&self, method: &Method, causal: bool, output: &mut [f32]) -> Result<(), Error> {
        let [query, key, value] = self.tensors()?;
        attend_into(&query, &key, &value, &mask(causal), method, &Options::default(), output, None).map(drop)
    }

    fn tensors(&self) -> Result<[Tensor<'_>; 3], Error> {
        let tensor = |name, data| Tensor::f32(name, data, self.shape);
        Ok([tensor("query", &self.query)?, tensor("key", &self.key)?, tensor("value", &self.value)?])
    }

    /// Writes the three as safetensors, for a peer to read.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let data = [("query", &self.query), ("key", &self.key), ("value", &self.value)];
        let bytes = data.map(|(name, data)| (name, data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()));
        let view = |(name, bytes)| Ok((name, TensorView::new(Dtype::F32, self.shape.to_vec(), bytes)?));
        let views = bytes.iter().map(|(name, bytes)| view((*name, bytes))).collect::<Result<Vec<_>>>()?;
        Ok(safetensors::serialize_to_file(views, None, path)?)
    }
}

fn mask(causal: bool) -> Mask<'static> {
    Mask { causal, ..Mask::default() }
}
