//! Fashion-MNIST, as its four `idx` files (plain or `.gz`), enlarged for [`t2t_vit`](crate::t2t_vit).
//!
//! Debian's package `dataset-fashion-mnist` brings the files, under `/usr/share/datasets/fashion-mnist`.
//!
//! Source: Xiao, Rasul, Vollgraf, [Fashion-MNIST](https://arxiv.org/abs/1708.07747), 2017.

use candle_core::{Device, Result, Tensor, bail};
use flate2::read::GzDecoder;
use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Names of the classes, by label.
pub const CLASSES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// Height and width of the stored images.
const SIZE: usize = 28;

/// Mean and standard deviation of the training set's pixels, black 0 and white 1.
const MEAN: f32 = 0.2860;
const DEVIATION: f32 = 0.3530;

/// A part of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// 60 000 images.
    Train,
    /// 10 000 images.
    Test,
}

/// Images and labels of a split, in memory.
#[derive(Debug, Clone)]
pub struct FashionMnist {
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl FashionMnist {
    /// Reads a split from a folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, or `t10k-…`, each plain or
    /// with `.gz`.
    ///
    /// # Errors
    /// A file that is missing, cut short, or no such file; counts that differ; a label beyond 9.
    pub fn open(folder: impl AsRef<Path>, split: Split) -> Result<FashionMnist> {
        let prefix = match split {
            Split::Train => "train",
            Split::Test => "t10k",
        };
        let images = find(folder.as_ref(), &format!("{prefix}-images-idx3-ubyte"))?;
        let labels = find(folder.as_ref(), &format!("{prefix}-labels-idx1-ubyte"))?;
        let (count, pixels) = read_idx(&images, [SIZE, SIZE].as_slice())?;
        let (label_count, label_bytes) = read_idx(&labels, &[])?;
        if count != label_count {
            bail!("{}: expected {count} labels, one an image, got {label_count}", labels.display());
        }
        if let Some(label) = label_bytes.iter().find(|&&label| usize::from(label) >= CLASSES.len()) {
            bail!("{}: expected labels under {}, got {label}", labels.display(), CLASSES.len());
        }
        Ok(FashionMnist { pixels, labels: label_bytes })
    }

    /// Images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Label of an image.
    ///
    /// # Panics
    /// An index of [`FashionMnist::len`] or more.
    pub fn label(&self, index: usize) -> u32 {
        self.labels[index].into()
    }

    /// The given images, enlarged bilinearly to `size` and brought to mean 0 and deviation 1: `[images, 1, size, size]`.
    ///
    /// # Errors
    /// An index of [`FashionMnist::len`] or more.
    pub fn images(&self, indices: &[usize], size: usize) -> Result<Tensor> {
        let mut values = Vec::with_capacity(indices.len() * size * size);
        for &index in indices {
            if index >= self.len() {
                bail!("indices: expected images under {}, got {index}", self.len());
            }
            let pixels = &self.pixels[index * SIZE * SIZE..][..SIZE * SIZE];
            // Before normalisation: `resize` keeps floats within [0, 1].
            let pixels: Vec<f32> = pixels.iter().map(|&p| f32::from(p) / 255.0).collect();
            let Some(image) = ImageBuffer::<Luma<f32>, _>::from_raw(SIZE as u32, SIZE as u32, pixels) else {
                bail!("image {index} is not {SIZE} pixels square");
            };
            let enlarged = resize(&image, size as u32, size as u32, FilterType::Triangle);
            values.extend(enlarged.into_raw().into_iter().map(|x| (x - MEAN) / DEVIATION));
        }
        Tensor::from_vec(values, (indices.len(), 1, size, size), &Device::Cpu)
    }
}

/// The file of a name, or of the name with `.gz`.
fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let plain = folder.join(name);
    let packed = folder.join(format!("{name}.gz"));
    match (plain.exists(), packed.exists()) {
        (true, _) => Ok(plain),
        (false, true) => Ok(packed),
        (false, false) => bail!("{}: expected this file, or the same with .gz", plain.display()),
    }
}

/// Number of items and bytes of an `idx` file of bytes whose items have the given dimensions.
///
/// The header is `0, 0, 8 (bytes), rank`, then each dimension as a big-endian u32.
fn read_idx(path: &Path, item: &[usize]) -> Result<(usize, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut file = File::open(path)?;
    let read = if path.extension().is_some_and(|end| end == "gz") {
        GzDecoder::new(file).read_to_end(&mut bytes)
    } else {
        file.read_to_end(&mut bytes)
    };
    if let Err(error) = read {
        bail!("{}: {error}", path.display());
    }
    let rank = item.len() + 1;
    if bytes.len() < 4 * (rank + 1) || bytes[..4] != [0, 0, 8, rank as u8] {
        bail!("{}: expected an idx file of bytes with {rank} dimensions", path.display());
    }
    let data = bytes.split_off(4 * (rank + 1));
    let dimensions: Vec<usize> =
        bytes[4..].chunks_exact(4).map(|d| u32::from_be_bytes([d[0], d[1], d[2], d[3]]) as usize).collect();
    if dimensions[1..] != *item {
        bail!("{}: expected items {item:?}, got {:?}", path.display(), &dimensions[1..]);
    }
    let expected = dimensions.iter().product::<usize>();
    if data.len() != expected {
        bail!("{}: expected {expected} bytes after the header, got {}", path.display(), data.len());
    }
    Ok((dimensions[0], data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn files(images: &[u8], labels: &[u8], packed: bool) -> Result<Result<FashionMnist>> {
        let folder = tempfile::tempdir()?;
        for (name, bytes) in [("t10k-images-idx3-ubyte", images), ("t10k-labels-idx1-ubyte", labels)] {
            if packed {
                let mut file =
                    GzEncoder::new(File::create(folder.path().join(format!("{name}.gz")))?, Compression::fast());
                file.write_all(bytes)?;
                file.finish()?;
            } else {
                std::fs::write(folder.path().join(name), bytes)?;
            }
        }
        Ok(FashionMnist::open(folder.path(), Split::Test))
    }

    fn two_images() -> (Vec<u8>, Vec<u8>) {
        let mut images = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28];
        images.extend([0; 28 * 28].iter().chain(&[255; 28 * 28]));
        (images, vec![0, 0, 8, 1, 0, 0, 0, 2, 9, 3])
    }

    #[test]
    fn plain_and_packed_files_are_read() -> Result<()> {
        let (images, labels) = two_images();
        for packed in [false, true] {
            let data = files(&images, &labels, packed)??;
            assert_eq!((data.len(), data.label(0), data.label(1)), (2, 9, 3));
            let enlarged = data.images(&[1, 0], 112)?;
            assert_eq!(enlarged.dims(), [2, 1, 112, 112]);
            let rows = enlarged.flatten_from(1)?.to_vec2::<f32>()?;
            assert!(rows[0].iter().all(|x| (x - (1.0 - MEAN) / DEVIATION).abs() < 1e-5));
            assert!(rows[1].iter().all(|x| (x + MEAN / DEVIATION).abs() < 1e-5));
            assert!(data.images(&[2], 112).is_err());
        }
        Ok(())
    }

    #[test]
    fn files_cut_short_are_errors() -> Result<()> {
        let (images, labels) = two_images();
        for length in [0, 3, 15, 16, images.len() - 1] {
            let error = files(&images[..length], &labels, false)?.unwrap_err().to_string();
            assert!(error.contains("t10k-images-idx3-ubyte"), "{error}");
        }
        for length in 0..labels.len() {
            let error = files(&images, &labels[..length], true)?.unwrap_err().to_string();
            assert!(error.contains("t10k-labels-idx1-ubyte"), "{error}");
        }
        Ok(())
    }
}
