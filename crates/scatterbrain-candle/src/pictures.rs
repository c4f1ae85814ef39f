//! Photos as models want them: cut or padded to a square, and normalised.

use candle_core::{D, DType, Device, Error, Result, Tensor, bail};
use image::imageops::{self, FilterType};
use image::{ImageReader, RgbImage};
use std::path::{Path, PathBuf};

/// Mean of ImageNet's pixels, by channel, black 0 and white 1.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's pixels, by channel.
pub const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// How a photo becomes a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The longer side is brought to the size, the rest is black: what the saliency model was trained with.
    Pad,
    /// The shorter side is brought to size / 0.9 with a cubic filter, the middle is cut out: what T2T-ViT is tested with.
    Crop,
}

/// A png or jpeg file as `[3, size, size]`, normalised by [`MEAN`] and [`DEVIATION`].
///
/// # Errors
/// A file that cannot be read or is no such picture; a size of zero.
pub fn read(path: impl AsRef<Path>, size: usize, fit: Fit) -> Result<Tensor> {
    let path = path.as_ref();
    let told = |error: &dyn std::fmt::Display| Error::msg(format!("{}: {error}", path.display()));
    // The content says what it is; ImageNet holds a png named .JPEG.
    let file = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(|error| told(&error))?;
    square(&file.decode().map_err(|error| told(&error))?.to_rgb8(), size, fit)
}

/// A picture in memory, as [`read`] does it.
///
/// # Errors
/// A size of zero.
pub fn square(picture: &RgbImage, size: usize, fit: Fit) -> Result<Tensor> {
    if size == 0 || picture.width() == 0 || picture.height() == 0 {
        bail!("size: expected pixels, got {} × {} for {size}", picture.width(), picture.height());
    }
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let (scale, filter) = match fit {
        Fit::Pad => (size as f64 / width.max(height), FilterType::Triangle),
        Fit::Crop => ((size as f64 / 0.9).floor() / width.min(height), FilterType::CatmullRom),
    };
    let scaled = |extent: f64| ((extent * scale).round() as u32).max(1);
    let scaled = imageops::resize(picture, scaled(width), scaled(height), filter);
    // The middle of one lies on the middle of the other.
    let left = (size as i64 - i64::from(scaled.width())).div_euclid(2);
    let top = (size as i64 - i64::from(scaled.height())).div_euclid(2);
    let mut canvas = RgbImage::new(size as u32, size as u32);
    imageops::replace(&mut canvas, &scaled, left, top);
    normalised(&canvas)
}

fn normalised(picture: &RgbImage) -> Result<Tensor> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut values = vec![0f32; 3 * height * width];
    for (x, y, pixel) in picture.enumerate_pixels() {
        for channel in 0..3 {
            let value = f32::from(pixel.0[channel]) / 255.0;
            values[(channel * height + y as usize) * width + x as usize] = (value - MEAN[channel]) / DEVIATION[channel];
        }
    }
    Tensor::from_vec(values, (3, height, width), &Device::Cpu)
}

/// A picture and the number of its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// The file.
    pub path: PathBuf,
    /// The class, by the place of its folder in the order of names: for ImageNet's folders (`n01440764`, …) the model's.
    pub class: usize,
}

/// The pictures of a folder with one folder a class, in the order of their paths, hidden files left out.
///
/// # Errors
/// A folder that cannot be read, or holds no folder with a file.
pub fn class_folders(folder: impl AsRef<Path>) -> Result<Vec<Labelled>> {
    let folder = folder.as_ref();
    let mut pictures = Vec::new();
    for (class, path) in entries(folder)?.into_iter().filter(|path| path.is_dir()).enumerate() {
        let files = entries(&path)?.into_iter().filter(|path| path.is_file());
        pictures.extend(files.map(|path| Labelled { path, class }));
    }
    if pictures.is_empty() {
        bail!("{}: expected a folder a class with pictures in it, found none", folder.display());
    }
    Ok(pictures)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let told = |error: std::io::Error| Error::msg(format!("{}: {error}", folder.display()));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(told)? {
        let entry = entry.map_err(told)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Which of the rows of logits `[batch, classes]` are largest at their label.
///
/// # Errors
/// Not one label a row, or a label beyond the classes.
pub fn top_1(logits: &Tensor, labels: &[usize]) -> Result<Vec<bool>> {
    let (batch, classes) = logits.dims2()?;
    if labels.len() != batch {
        bail!("labels: expected {batch}, one a row, got {}", labels.len());
    }
    if let Some(label) = labels.iter().find(|&&label| label >= classes) {
        bail!("labels: expected numbers under {classes}, got {label}");
    }
    let largest = logits.to_dtype(DType::F32)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
    Ok(largest.iter().zip(labels).map(|(&largest, &label)| largest as usize == label).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn padding_is_black_and_even() -> Result<()> {
        let white = RgbImage::from_pixel(40, 20, Rgb([255; 3]));
        let square = square(&white, 20, Fit::Pad)?.to_vec3::<f32>()?;
        for channel in 0..3 {
            let (black, white) = (-MEAN[channel] / DEVIATION[channel], (1.0 - MEAN[channel]) / DEVIATION[channel]);
            for y in 0..20 {
                let want = if (5..15).contains(&y) { white } else { black };
                assert!(square[channel][y].iter().all(|x| (x - want).abs() < 1e-5), "row {y}");
            }
        }
        Ok(())
    }

    #[test]
    fn cropping_takes_the_middle() -> Result<()> {
        // The left and the right quarter are black, the middle is grey and fills the square.
        let picture =
            RgbImage::from_fn(200, 100, |x, _| if (50..150).contains(&x) { Rgb([128; 3]) } else { Rgb([0; 3]) });
        let square = square(&picture, 90, Fit::Crop)?.to_vec3::<f32>()?;
        let want = (128.0 / 255.0 - MEAN[0]) / DEVIATION[0];
        assert!(square[0].iter().flatten().all(|x| (x - want).abs() < 1e-4));
        Ok(())
    }

    #[test]
    fn folders_are_classes() -> Result<()> {
        let folder = tempfile::tempdir()?;
        for (class, names) in [("b", vec!["2.png", "1.png"]), ("a", vec!["3.png", ".hidden"])] {
            std::fs::create_dir(folder.path().join(class))?;
            for name in names {
                let path = folder.path().join(class).join(name);
                RgbImage::new(4, 3).save_with_format(path, image::ImageFormat::Png).map_err(Error::wrap)?;
            }
        }
        std::fs::write(folder.path().join("README"), "")?;
        let pictures = class_folders(folder.path())?;
        let found: Vec<(usize, String)> = pictures
            .iter()
            .map(|p| (p.class, p.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()))
            .collect();
        assert_eq!(found, [(0, "3.png".into()), (1, "1.png".into()), (1, "2.png".into())]);
        assert_eq!(read(&pictures[0].path, 7, Fit::Crop)?.dims(), [3, 7, 7]);
        assert!(read(folder.path().join("README"), 7, Fit::Pad).unwrap_err().to_string().contains("README"));
        assert!(class_folders(folder.path().join("a")).is_err());
        Ok(())
    }

    #[test]
    fn largest_at_its_label() -> Result<()> {
        let logits = Tensor::new(&[[0f32, 1.0, 0.5], [3.0, 1.0, 2.0]], &Device::Cpu)?;
        assert_eq!(top_1(&logits, &[1, 2])?, [true, false]);
        assert!(top_1(&logits, &[1]).is_err() && top_1(&logits, &[1, 3]).is_err());
        Ok(())
    }
}
