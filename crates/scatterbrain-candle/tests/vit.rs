//! The vision transformer against plain loops, its published names, and the real model where the cache holds it.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use common::layers::{FullSupport, Mean, Weights, agree_flat, gelu, layer_norm, linear, multi_head, plus};
use common::{Rows, numbers};
use scatterbrain_candle::ScatterbrainAttention;
use scatterbrain_candle::vit::{Config, Vit, read_onnx};
use std::collections::HashMap;
use std::path::PathBuf;

/// Positions for 12 × 12 pixels.
fn small() -> Config {
    Config { patch: 4, width: 8, hidden: 12, heads: 2, layers: 2, grid: 3, saliency_channels: Some([4, 3, 2]) }
}

fn shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (c, hidden, p) = (config.width, config.hidden, config.patch);
    let mut shapes = Vec::new();
    let mut add = |name: String, shape: &[usize]| shapes.push((name, shape.to_vec()));
    add("backbone.embeddings.cls_token".into(), &[1, 1, c]);
    add("backbone.embeddings.position_embeddings".into(), &[1, config.grid * config.grid + 1, c]);
    add("backbone.embeddings.patch_embeddings.projection.weight".into(), &[c, 3, p, p]);
    add("backbone.embeddings.patch_embeddings.projection.bias".into(), &[c]);
    for i in 0..config.layers {
        let name = |part: &str| format!("backbone.encoder.layer.{i}.{part}");
        for norm in ["norm1", "norm2"] {
            add(name(&format!("{norm}.weight")), &[c]);
            add(name(&format!("{norm}.bias")), &[c]);
        }
        for part in ["attention.query", "attention.key", "attention.value", "output.dense"] {
            add(name(&format!("attention.{part}.weight")), &[c, c]);
            add(name(&format!("attention.{part}.bias")), &[c]);
        }
        add(name("layer_scale1.lambda1"), &[c]);
        add(name("layer_scale2.lambda1"), &[c]);
        for (part, out, from) in [("mlp.fc1", hidden, c), ("mlp.fc2", c, hidden)] {
            add(name(&format!("{part}.weight")), &[out, from]);
            add(name(&format!("{part}.bias")), &[out]);
        }
    }
    add("backbone.layernorm.weight".into(), &[c]);
    add("backbone.layernorm.bias".into(), &[c]);
    let mut from = c;
    for (i, to) in (1..).zip(config.saliency_channels.unwrap_or_default()) {
        add(format!("decoder.upconv{i}.weight"), &[from, to, 4, 4]);
        for part in ["upconv", "bn"] {
            add(format!("decoder.{part}{i}.bias"), &[to]);
        }
        for part in ["weight", "running_mean", "running_var"] {
            add(format!("decoder.bn{i}.{part}"), &[to]);
        }
        from = to;
    }
    add("decoder.final_conv.weight".into(), &[1, from, 1, 1]);
    add("decoder.final_conv.bias".into(), &[1]);
    shapes
}

/// Cubic convolution with a = −3/4 at a point of a map, its ends continued.
fn cubic(at: impl Fn(i64, i64) -> f64, y: f64, x: f64) -> f64 {
    let weight = |t: f64| match t.abs() {
        t if t <= 1.0 => 1.25 * t.powi(3) - 2.25 * t.powi(2) + 1.0,
        t if t < 2.0 => -0.75 * t.powi(3) + 3.75 * t.powi(2) - 6.0 * t + 3.0,
        _ => 0.0,
    };
    let mut sum = 0.0;
    for i in y.floor() as i64 - 2..y.floor() as i64 + 4 {
        for j in x.floor() as i64 - 2..x.floor() as i64 + 4 {
            sum += weight(y - i as f64) * weight(x - j as f64) * at(i, j);
        }
    }
    sum
}

fn reference(config: &Config, weights: &Weights, image: &[f32], height: usize, width: usize) -> Rows {
    let (p, grid) = (config.patch, config.grid as i64);
    let (rows, cells) = (height / p, width / p);
    let kernels = weights.flat("backbone.embeddings.patch_embeddings.projection.weight");
    let kernels: Rows = kernels.chunks(3 * p * p).map(<[f64]>::to_vec).collect();
    let bias = weights.flat("backbone.embeddings.patch_embeddings.projection.bias");
    let stored = weights.rows("backbone.embeddings.position_embeddings");
    let mut tokens = plus(&weights.rows("backbone.embeddings.cls_token"), &vec![stored[0].clone()]);
    for y in 0..rows {
        for x in 0..cells {
            let mut patch = Vec::new();
            for channel in 0..3 {
                for i in 0..p * p {
                    let (y, x) = (y * p + i / p, x * p + i % p);
                    patch.push(f64::from(image[(channel * height + y) * width + x]));
                }
            }
            let centre = |i: usize, count: usize| (i as f64 + 0.5) * grid as f64 / count as f64 - 0.5;
            let position = (0..config.width)
                .map(|c| {
                    let at =
                        |i: i64, j: i64| stored[1 + (i.clamp(0, grid - 1) * grid + j.clamp(0, grid - 1)) as usize][c];
                    cubic(at, centre(y, rows), centre(x, cells))
                })
                .collect();
            tokens.extend(plus(&linear(&vec![patch], &kernels, Some(&bias)), &vec![position]));
        }
    }
    let norm = |x: &Rows, name: &str| {
        layer_norm(x, &weights.flat(&format!("{name}.weight")), &weights.flat(&format!("{name}.bias")), 1e-6)
    };
    let affine = |x: &Rows, name: &str| {
        linear(x, &weights.rows(&format!("{name}.weight")), Some(&weights.flat(&format!("{name}.bias"))))
    };
    let scaled = |x: &Rows, name: &str| -> Rows {
        let scale = weights.flat(name);
        x.iter().map(|row| row.iter().zip(&scale).map(|(x, s)| x * s).collect()).collect()
    };
    for i in 0..config.layers {
        let name = |part: &str| format!("backbone.encoder.layer.{i}.{part}");
        let x = norm(&tokens, &name("norm1"));
        let [q, k, v] = ["query", "key", "value"].map(|part| affine(&x, &name(&format!("attention.attention.{part}"))));
        let scale = 1.0 / ((config.width / config.heads) as f64).sqrt();
        let attention = affine(&multi_head(&q, &k, &v, config.heads, scale, false), &name("attention.output.dense"));
        tokens = plus(&tokens, &scaled(&attention, &name("layer_scale1.lambda1")));
        let hidden = gelu(&affine(&norm(&tokens, &name("norm2")), &name("mlp.fc1")));
        tokens = plus(&tokens, &scaled(&affine(&hidden, &name("mlp.fc2")), &name("layer_scale2.lambda1")));
    }
    norm(&tokens, "backbone.layernorm")
}

/// The saliency map of features, by the definitions of its layers.
fn reference_saliency(weights: &Weights, features: &Rows, rows: usize, height: usize, width: usize) -> Vec<f64> {
    let (mut h, mut w) = (rows, (features.len() - 1) / rows);
    let mut map: Rows = (0..features[0].len()).map(|c| features[1..].iter().map(|f| f[c]).collect()).collect();
    for i in 1..=3 {
        let of = |part: &str| weights.flat(&format!("decoder.{part}"));
        let (kernel, bias) = (of(&format!("upconv{i}.weight")), of(&format!("upconv{i}.bias")));
        let to = bias.len();
        let mut up: Rows = bias.iter().map(|&b| vec![b; 4 * h * w]).collect();
        for (c, channel) in map.iter().enumerate() {
            for (at, value) in channel.iter().enumerate() {
                for out in 0..to {
                    for k in 0..16 {
                        // Entry (y, x) adds to (2y + ky − 1, 2x + kx − 1).
                        let (y, x) = (2 * (at / w) + k / 4, 2 * (at % w) + k % 4);
                        if (1..=2 * h).contains(&y) && (1..=2 * w).contains(&x) {
                            up[out][(y - 1) * 2 * w + x - 1] += value * kernel[(c * to + out) * 16 + k];
                        }
                    }
                }
            }
        }
        let [gain, offset, mean, variance] =
            ["weight", "bias", "running_mean", "running_var"].map(|part| of(&format!("bn{i}.{part}")));
        for (out, channel) in up.iter_mut().enumerate() {
            for value in channel {
                let x = (*value - mean[out]) / (variance[out] + 1e-5).sqrt() * gain[out] + offset[out];
                *value = x.max(0.0);
            }
        }
        (map, h, w) = (up, 2 * h, 2 * w);
    }
    let (last, bias) = (weights.flat("decoder.final_conv.weight"), weights.flat("decoder.final_conv.bias")[0]);
    let one: Vec<f64> =
        (0..h * w).map(|at| bias + last.iter().zip(&map).map(|(l, m)| l * m[at]).sum::<f64>()).collect();
    let mut output = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let centre = |i: usize, from: usize, to: usize| {
                ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, from as f64 - 1.0)
            };
            let (y, x) = (centre(y, h, height), centre(x, w, width));
            let (y0, x0) = (y.floor() as usize, x.floor() as usize);
            let (y1, x1) = ((y0 + 1).min(h - 1), (x0 + 1).min(w - 1));
            let (fy, fx) = (y.fract(), x.fract());
            let top = one[y0 * w + x0] * (1.0 - fx) + one[y0 * w + x1] * fx;
            let low = one[y1 * w + x0] * (1.0 - fx) + one[y1 * w + x1] * fx;
            output.push(1.0 / (1.0 + (-(top * (1.0 - fy) + low * fy)).exp()));
        }
    }
    output
}

#[test]
fn forward_is_the_reference() -> Result<()> {
    let config = small();
    let weights = Weights::random(&shapes(&config))?;
    let model = Vit::load(config, weights.builder())?;
    // The stored size, a larger and wider one, and one with a rest of pixels.
    for (height, width) in [(12, 12), (8, 20), (17, 14)] {
        let image = numbers(3 * height * width, 5);
        let want = reference(&config, &weights, &image, height, width);
        let flat: Vec<f64> = want.iter().flatten().copied().collect();
        let images = Tensor::from_vec(image, (1, 3, height, width), &Device::Cpu)?;
        let features = model.features(&images, &ScatterbrainAttention::exact())?;
        agree_flat(&features, &flat, 1e-5, "features");
        agree_flat(&model.features(&images, &FullSupport)?, &flat, 1e-5, "full support");
        let mean = model.features(&images, &Mean)?.flatten_all()?.to_vec1::<f32>()?;
        assert!(mean.iter().zip(&flat).any(|(a, b)| (f64::from(*a) - b).abs() > 1e-3), "attention does not matter");
        let map = reference_saliency(&weights, &want, height / 4, height, width);
        let got = model.saliency(&features, height, width)?;
        assert_eq!(got.dims(), [1, 1, height, width]);
        agree_flat(&got, &map, 1e-5, "saliency");
    }
    Ok(())
}

#[test]
fn a_batch_is_its_images() -> Result<()> {
    let config = small();
    let model = Vit::load(config, Weights::random(&shapes(&config))?.builder())?;
    let images = Tensor::from_vec(numbers(2 * 3 * 12 * 12, 9), (2, 3, 12, 12), &Device::Cpu)?;
    let exact = ScatterbrainAttention::exact();
    let both = model.saliency(&model.features(&images, &exact)?, 12, 12)?;
    for i in 0..2 {
        let one = model.saliency(&model.features(&images.narrow(0, i, 1)?, &exact)?, 12, 12)?;
        let one: Vec<f64> = one.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
        agree_flat(&both.get(i)?, &one, 1e-6, "one of two");
    }
    Ok(())
}

#[test]
fn tensors_tell_the_shapes_of_a_model() -> Result<()> {
    let saliency =
        Config { patch: 7, width: 128, hidden: 48, heads: 2, layers: 3, grid: 3, saliency_channels: Some([9, 6, 5]) };
    let plain = Config { saliency_channels: None, ..saliency };
    let encoder = |config: &Config| {
        let mut shapes = shapes(config);
        shapes.retain(|(name, _)| config.saliency_channels.is_some() || name.starts_with("backbone."));
        Weights::random(&shapes)
    };
    for config in [saliency, plain] {
        let weights = encoder(&config)?;
        assert_eq!(Config::of_tensors(&weights.0)?, config);
        for name in ["embeddings.position_embeddings", "embeddings.patch_embeddings.projection.weight"] {
            let mut tensors = weights.0.clone();
            tensors.remove(&format!("backbone.{name}"));
            let error = Config::of_tensors(&tensors).unwrap_err().to_string();
            assert!(error.contains(&format!("tensor backbone.{name} is missing")), "{error}");
        }
    }
    // As published, without a head.
    let weights = encoder(&plain)?;
    let short = |(name, tensor): (&String, &Tensor)| (name.replacen("backbone.", "", 1), tensor.clone());
    let published: HashMap<String, Tensor> = weights.0.iter().map(short).collect();
    assert_eq!(Config::of_tensors(&published)?, plain);
    let image = Tensor::from_vec(numbers(3 * 21 * 21, 3), (1, 3, 21, 21), &Device::Cpu)?;
    let features = |tensors: &HashMap<String, Tensor>| {
        let weights = VarBuilder::from_tensors(tensors.clone(), DType::F32, &Device::Cpu);
        Vit::load(plain, weights)?.features(&image, &Mean)?.flatten_all()?.to_vec1::<f32>()
    };
    assert_eq!(features(&published)?, features(&weights.0)?);
    Ok(())
}

#[test]
fn errors_name_tensors_and_shapes() -> Result<()> {
    let config = small();
    let weights = Weights::random(&shapes(&config))?;
    weights.check_names(|weights| Vit::load(config, weights))?;
    let shallow = Config { layers: config.layers - 1, ..config };
    let error = Vit::load(shallow, weights.builder()).unwrap_err().to_string();
    let beyond = format!("tensor backbone.encoder.layer.{}.attention.attention.query.weight", shallow.layers);
    assert!(error.contains(&beyond) && error.contains("there are more"), "{error}");
    let zeros = || VarBuilder::zeros(DType::F32, &Device::Cpu);
    let model = Vit::load(Config { saliency_channels: None, ..config }, zeros())?;
    let images = |shape: (usize, usize, usize, usize)| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let error = model.features(&images((1, 3, 12, 3))?, &Mean).unwrap_err().to_string();
    assert!(error.contains("images: expected"), "{error}");
    let features = model.features(&images((1, 3, 12, 12))?, &Mean)?;
    let error = model.saliency(&features, 12, 12).unwrap_err().to_string();
    assert!(error.contains("without its head"), "{error}");
    Ok(())
}

/// Features and saliency of ONNX Runtime for a picture, made by `tests/fixtures/vit.py` in the cache.
#[test]
fn the_real_model_is_onnx_runtimes() -> Result<()> {
    let folder = std::env::var_os("SCATTERBRAIN_CACHE").map(|cache| PathBuf::from(cache).join("vit"));
    let Some(folder) = folder.filter(|folder| folder.join("vit_s_focus.onnx").exists()) else {
        eprintln!("skipped: $SCATTERBRAIN_CACHE/vit/vit_s_focus.onnx is not there");
        return Ok(());
    };
    let tensors = read_onnx(folder.join("vit_s_focus.onnx"))?;
    let model = Vit::load(Config::small_14(), VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))?;
    for size in [224, 518] {
        let reference = folder.join(format!("reference-{size}.safetensors"));
        if !reference.exists() {
            eprintln!("skipped: there is no {} to compare with", reference.display());
            continue;
        }
        let reference = candle_core::safetensors::load(reference, &Device::Cpu)?;
        let features = model.features(&reference["image"], &ScatterbrainAttention::exact())?;
        let map = model.saliency(&features, size, size)?;
        for (got, name) in [(&features, "features"), (&map, "saliency")] {
            let want: Vec<f64> = reference[name].flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
            let entries: Vec<f64> = got.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
            let largest = want.iter().fold(0f64, |most, x| most.max(x.abs()));
            let worst = want.iter().zip(&entries).fold(0f64, |most, (a, b)| most.max((a - b).abs()));
            eprintln!("{name} at {size} pixels: largest difference {:e} of the largest entry", worst / largest);
            agree_flat(got, &want, 1e-3, name);
        }
    }
    Ok(())
}
