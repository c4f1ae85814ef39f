//! Captures: real queries, keys and values, in the program's file format.

use super::context::digest;
use crate::stored::File;
use anyhow::{Context as _, Result, ensure};
use scatterbrain_attention::{Error, Mask, MaskTensor, Method, Options, Tensor, attend_into, dense_matrix};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The captures of a run.
pub(super) struct Captures {
    /// By file size, the smallest first.
    pub(super) sources: Vec<Source>,
    /// Where they come from, for the page.
    pub(super) origin: String,
}

/// A file that has been found and not read. Its digest stands for it in the keys of what is kept.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Source {
    /// The name without `.safetensors`.
    pub(super) name: String,
    digest: u64,
    #[serde(skip)]
    path: PathBuf,
}

/// What stands in for captures where there are none.
const BUILT_IN: &str = "crates/scatterbrain-cli/assets/fixture.safetensors";

/// The captures of a folder; without one, of the folder beside the workspace, or the built-in one.
///
/// # Errors
/// A folder that was asked for and holds no capture.
pub(super) fn find(root: &Path, asked: Option<&Path>) -> Result<Captures> {
    let beside = root.join("..").join("shared").join("captures");
    let (folder, origin) = match asked {
        Some(folder) => (folder, folder.display().to_string()),
        None => (beside.as_path(), "../shared/captures".to_owned()),
    };
    let mut files = Vec::new();
    if let Ok(entries) = std::fs::read_dir(folder) {
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "safetensors") {
                files.push((path.metadata()?.len(), path));
            }
        }
    }
    files.sort();
    if files.is_empty() {
        ensure!(asked.is_none(), "--captures: no *.safetensors in {}", folder.display());
        let sources = vec![Source::of(root.join(BUILT_IN))?];
        return Ok(Captures { sources, origin: "the capture built into the program, for want of others".into() });
    }
    let sources = files.into_iter().map(|(_, path)| Source::of(path)).collect::<Result<_>>()?;
    Ok(Captures { sources, origin })
}

impl Source {
    fn of(path: PathBuf) -> Result<Self> {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_stem().context("a capture with a name")?.to_string_lossy().into_owned();
        Ok(Self { name, digest: digest(&bytes), path })
    }

    /// The model, with which a file's name begins.
    pub(super) fn model(&self) -> &str {
        self.name.split(['-', '.']).next().unwrap_or(&self.name)
    }

    /// Reads it. `heads`: at most so many query heads, the first ones.
    ///
    /// # Errors
    /// A file that is no capture.
    pub(super) fn read(&self, heads: Option<usize>) -> Result<Capture> {
        let file = File::read(&self.path).with_context(|| self.path.display().to_string())?;
        Capture::of(&self.name, &file, heads).with_context(|| self.path.display().to_string())
    }
}

/// Units for a head of `m` keys, one for so many keys: at least 4, where there are as many keys.
pub(super) fn budget(m: usize, keys_a_unit: usize) -> usize {
    (m / keys_a_unit).max(4).min(m)
}

/// One call of attention, widened to f32.
pub(super) struct Capture {
    pub(super) name: String,
    /// Query heads.
    pub(super) query_shape: [usize; 4],
    pub(super) key_shape: [usize; 4],
    pub(super) value_shape: [usize; 4],
    pub(super) query: Vec<f32>,
    pub(super) key: Vec<f32>,
    pub(super) value: Vec<f32>,
    pub(super) causal: bool,
    pub(super) scale: f64,
    pub(super) key_lengths: Option<Vec<usize>>,
    /// A boolean mask and its shape.
    allowed: Option<([usize; 4], Vec<u8>)>,
}

impl Capture {
    fn of(name: &str, file: &File, heads: Option<usize>) -> Result<Self> {
        let (query_shape, key_shape) = (file.shape::<4>("query")?, file.shape::<4>("key")?);
        let value_shape = file.shape::<4>("value")?;
        let [batch, _, n, d] = query_shape;
        let allowed = match file.has("mask") {
            false => None,
            true => {
                let shape = file.shape::<4>("mask")?;
                Some((shape, file.flags("mask", &shape)?))
            }
        };
        ensure!(query_shape[1].is_multiple_of(key_shape[1]), "query heads that key heads do not divide");
        ensure!(n > 0 && d > 0 && key_shape[2] > 0, "an empty input");
        let mut capture = Self {
            name: name.to_owned(),
            query_shape,
            key_shape,
            value_shape,
            query: file.widened("query", &query_shape)?,
            key: file.widened("key", &key_shape)?,
            value: file.widened("value", &value_shape)?,
            causal: file.optional("causal")?.unwrap_or(false),
            scale: file.optional("scale")?.unwrap_or(1.0 / (d as f64).sqrt()),
            key_lengths: file.has("key_lengths").then(|| file.key_lengths(batch)).transpose()?,
            allowed,
        };
        if let Some(heads) = heads {
            capture.keep_heads(heads);
        }
        Ok(capture)
    }

    /// One head of the clustered process, or of anything else that was drawn: everything visible.
    pub(super) fn drawn(name: String, d: usize, scale: f64, query: Vec<f32>, key: Vec<f32>, value: Vec<f32>) -> Self {
        let (n, m) = (query.len() / d, key.len() / d);
        let d_v = value.len() / m;
        Self {
            name,
            query_shape: [1, 1, n, d],
            key_shape: [1, 1, m, d],
            value_shape: [1, 1, m, d_v],
            query,
            key,
            value,
            causal: false,
            scale,
            key_lengths: None,
            allowed: None,
        }
    }

    /// The first head alone, of at most `most` queries and keys: the first that see a key, and under causality the last
    /// keys that these see, so that every query stays at its position.
    pub(super) fn corner(mut self, most: usize) -> Self {
        self.keep_heads(1);
        let allowed = self.allowed.take();
        let ([_, _, n, d], m, d_v) = (self.query_shape, self.m(), self.d_v());
        let length = self.key_lengths.as_ref().map_or(m, |lengths| lengths[0]);
        // Query i stands at key i + length − n.
        let (first, seen) = match self.causal {
            true => {
                let first = n.saturating_sub(length).min(n.saturating_sub(1));
                (first, (first + length + (n - first).min(most)).saturating_sub(n))
            }
            false => (0, length),
        };
        let (rows, keys) = ((n - first).min(most), seen.min(most).max(1));
        let from = if self.causal { seen.saturating_sub(keys) } else { 0 };
        let cut =
            |data: &[f32], first: usize, count: usize, width: usize| data[first * width..][..count * width].to_vec();
        self.query = cut(&self.query, first, rows, d);
        self.key = cut(&self.key, from, keys, d);
        self.value = cut(&self.value, from, keys, d_v);
        (self.query_shape, self.key_shape, self.value_shape) = ([1, 1, rows, d], [1, 1, keys, d], [1, 1, keys, d_v]);
        self.key_lengths = self.key_lengths.map(|_| vec![seen.min(keys)]);
        self.allowed = allowed.map(|([_, _, _, m], flags)| {
            let cut = (first..first + rows).flat_map(|i| flags[i * m + from..][..keys].iter().copied());
            ([1, 1, rows, keys], cut.collect())
        });
        self
    }

    /// Leaves the first query heads, whole groups of them, of every batch entry.
    fn keep_heads(&mut self, heads: usize) {
        let all = self.query_shape[1];
        let group = all / self.key_shape[1];
        let groups = heads.div_ceil(group).min(self.key_shape[1]);
        if let Some((shape, flags)) = self.allowed.as_mut().filter(|(shape, _)| shape[1] > 1) {
            *flags = first(flags, *shape, groups * group);
            shape[1] = groups * group;
        }
        for (data, shape, kept) in [
            (&mut self.query, &mut self.query_shape, groups * group),
            (&mut self.key, &mut self.key_shape, groups),
            (&mut self.value, &mut self.value_shape, groups),
        ] {
            *data = first(data, *shape, kept);
            shape[1] = kept;
        }
    }

    /// Keys of a head.
    pub(super) fn m(&self) -> usize {
        self.key_shape[2]
    }

    /// Columns of query and key.
    pub(super) fn d(&self) -> usize {
        self.query_shape[3]
    }

    /// Columns of the output.
    pub(super) fn d_v(&self) -> usize {
        self.value_shape[3]
    }

    /// Whether a boolean mask lets a pair take part.
    pub(super) fn allows(&self, batch: usize, head: usize, query_idx: usize, key_idx: usize) -> bool {
        let Some(([b, h, n, m], flags)) = &self.allowed else { return true };
        let entry = if *b == 1 { 0 } else { batch };
        let head = if *h == 1 { 0 } else { head };
        flags[((entry * h + head) * n + query_idx) * m + key_idx] != 0
    }

    fn mask(&self) -> Result<Mask<'_>, Error> {
        let allowed = self.allowed.as_ref().map(|(shape, flags)| MaskTensor::new(flags, *shape)).transpose()?;
        Ok(Mask { causal: self.causal, key_lengths: self.key_lengths.as_deref(), allowed, ..Mask::default() })
    }

    fn options(&self) -> Options {
        Options { scale: Some(self.scale as f32), ..Options::default() }
    }

    /// The library's call.
    ///
    /// # Errors
    /// What the library refuses.
    pub(super) fn attend(&self, method: &Method, output: &mut [f32]) -> Result<(), Error> {
        let query = Tensor::f32("query", &self.query, self.query_shape)?;
        let key = Tensor::f32("key", &self.key, self.key_shape)?;
        let value = Tensor::f32("value", &self.value, self.value_shape)?;
        attend_into(&query, &key, &value, &self.mask()?, method, &self.options(), output, None).map(drop)
    }

    /// An output to be written.
    pub(super) fn output(&self) -> Vec<f32> {
        let [batch, heads, n, _] = self.query_shape;
        vec![0.0; batch * heads * n * self.d_v()]
    }

    /// The normalised matrix of every head, `[n, m]`.
    ///
    /// # Errors
    /// What the library refuses.
    pub(super) fn matrices(&self, method: &Method) -> Result<Vec<Vec<f32>>, Error> {
        let query = Tensor::f32("query", &self.query, self.query_shape)?;
        let key = Tensor::f32("key", &self.key, self.key_shape)?;
        let heads = dense_matrix(&query, &key, &self.mask()?, method, &self.options())?;
        Ok(heads.into_iter().map(|head| head.normalised).collect())
    }
}

/// The first heads of `[batch, heads, rows, columns]`.
fn first<T: Copy>(data: &[T], shape: [usize; 4], heads: usize) -> Vec<T> {
    let size = shape[2] * shape[3];
    data.chunks(shape[1] * size).flat_map(|entry| &entry[..heads * size]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_built_in_capture_is_read_and_cut() {
        let root = workspace::root().unwrap();
        let source = Source::of(root.join(BUILT_IN)).unwrap();
        let whole = source.read(None).unwrap();
        let two = source.read(Some(2)).unwrap();
        assert_eq!((whole.query_shape, two.query_shape), ([1, 4, 512, 32], [1, 2, 512, 32]));
        assert_eq!(two.key[..], whole.key[..two.key.len()]);
    }

    #[test]
    fn a_corner_keeps_positions() {
        // Key and value j are the number j, so that exact attention of the last visible key can be told.
        let capture = |n: usize, m: usize, length: usize| {
            let numbers = |count: usize| (0..count).map(|x| x as f32).collect::<Vec<_>>();
            let drawn = Capture::drawn("numbers".into(), 1, 1.0, numbers(n), numbers(m), numbers(m));
            Capture { causal: true, key_lengths: Some(vec![length]), ..drawn }
        };
        for (n, m, length, most) in [(9, 9, 9, 4), (300, 120, 120, 160), (5, 40, 30, 8), (50, 40, 30, 8), (7, 7, 0, 3)]
        {
            let (whole, cut) = (capture(n, m, length), capture(n, m, length).corner(most));
            let (rows, keys) = (cut.query_shape[2], cut.m());
            assert!((1..=most).contains(&rows) && (1..=most).contains(&keys));
            let new_length = cut.key_lengths.as_ref().unwrap()[0];
            for i in 0..rows {
                // The last key that the row sees, by its number, or none.
                let old = cut.query[i] as usize + length;
                let want = (old >= n && length > 0).then(|| old - n);
                let at = i + new_length;
                let got = (at >= rows && new_length > 0).then(|| cut.key[at - rows] as usize);
                assert_eq!(got, want, "{n} × {m}, {length} of them, row {i} of {rows} × {keys}");
            }
            assert!(whole.query.len() >= cut.query.len());
        }
    }

    #[test]
    fn budgets_fit_the_keys() {
        assert_eq!([(4096, 16), (40, 16), (3, 16), (1, 8)].map(|(m, keys)| budget(m, keys)), [256, 4, 3, 1]);
    }

    #[test]
    fn a_folder_without_captures_is_an_error_where_it_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        assert!(find(folder.path(), Some(folder.path())).is_err());
    }
}
