//! T2T-ViT against plain loops, its published names, and checkpoints as PyTorch writes them.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use common::layers::{FullSupport, Mean, Weights, agree_flat, columns, gelu, layer_norm, linear, multi_head, plus};
use common::{Rows, numbers};
use scatterbrain_candle::t2t_vit::{Config, T2tVit, Tokens, read_checkpoint, sinusoid_positions};
use scatterbrain_candle::{Attend, Inputs, ScatterbrainAttention, Site};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

/// A model of 64, 16 and 4 tokens.
fn small(tokens: Tokens) -> Config {
    Config {
        image_size: 32,
        channels: 2,
        classes: 3,
        tokens,
        token_dim: 6,
        embed_dim: 8,
        depth: 2,
        heads: 2,
        mlp_ratio: 2,
    }
}

/// Names and shapes of the authors' checkpoints.
fn shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (t, c, hidden) = (config.token_dim, config.embed_dim, config.mlp_ratio * config.embed_dim);
    let mut shapes = Vec::new();
    let mut add = |name: String, shape: &[usize]| shapes.push((name, shape.to_vec()));
    add("cls_token".into(), &[1, 1, c]);
    add("pos_embed".into(), &[1, config.token_counts()[2] + 1, c]);
    for (stage, from) in [("attention1", config.channels * 49), ("attention2", t * 9)] {
        let name = |part: &str| format!("tokens_to_token.{stage}.{part}");
        add(name("norm1.weight"), &[from]);
        add(name("norm1.bias"), &[from]);
        let (proj, mlp) = match config.tokens {
            Tokens::Transformer => {
                add(name("attn.qkv.weight"), &[3 * t, from]);
                ("attn.proj", ["mlp.fc1", "mlp.fc2"])
            }
            Tokens::Performer => {
                add(name("w"), &[t / 2, t]);
                add(name("kqv.weight"), &[3 * t, from]);
                add(name("kqv.bias"), &[3 * t]);
                ("proj", ["mlp.0", "mlp.2"])
            }
        };
        add(name("norm2.weight"), &[t]);
        add(name("norm2.bias"), &[t]);
        for part in [proj, mlp[0], mlp[1]] {
            add(name(&format!("{part}.weight")), &[t, t]);
            add(name(&format!("{part}.bias")), &[t]);
        }
    }
    add("tokens_to_token.project.weight".into(), &[c, 9 * t]);
    add("tokens_to_token.project.bias".into(), &[c]);
    for i in 0..config.depth {
        let name = |part: &str| format!("blocks.{i}.{part}");
        add(name("attn.qkv.weight"), &[3 * c, c]);
        for (part, out, from) in [("attn.proj", c, c), ("mlp.fc1", hidden, c), ("mlp.fc2", c, hidden)] {
            add(name(&format!("{part}.weight")), &[out, from]);
            add(name(&format!("{part}.bias")), &[out]);
        }
        for norm in ["norm1", "norm2"] {
            add(name(&format!("{norm}.weight")), &[c]);
            add(name(&format!("{norm}.bias")), &[c]);
        }
    }
    add("norm.weight".into(), &[c]);
    add("norm.bias".into(), &[c]);
    add("head.weight".into(), &[config.classes, c]);
    add("head.bias".into(), &[config.classes]);
    shapes
}

/// Patches of a square map `[c][side²]` as rows.
fn unfold(map: &Rows, side: usize, kernel: usize, stride: usize, padding: usize) -> Rows {
    let count = (side + 2 * padding - kernel) / stride + 1;
    let mut rows = Vec::new();
    for y in 0..count {
        for x in 0..count {
            let mut row = Vec::new();
            for channel in map {
                for ky in 0..kernel {
                    for kx in 0..kernel {
                        let (y, x) = (y * stride + ky, x * stride + kx);
                        let inside = |at: usize| at >= padding && at < side + padding;
                        row.push(if inside(y) && inside(x) {
                            channel[(y - padding) * side + x - padding]
                        } else {
                            0.0
                        });
                    }
                }
            }
            rows.push(row);
        }
    }
    rows
}

fn transposed(rows: &Rows) -> Rows {
    (0..rows[0].len()).map(|i| rows.iter().map(|row| row[i]).collect()).collect()
}

fn reference(config: &Config, weights: &Weights, image: &[f32]) -> Vec<f64> {
    let side = config.image_size;
    let map: Rows = image.chunks(side * side).map(|c| c.iter().map(|&x| f64::from(x)).collect()).collect();
    let norm = |x: &Rows, name: &str| {
        layer_norm(x, &weights.flat(&format!("{name}.weight")), &weights.flat(&format!("{name}.bias")), 1e-5)
    };
    let affine = |x: &Rows, name: &str| {
        linear(x, &weights.rows(&format!("{name}.weight")), Some(&weights.flat(&format!("{name}.bias"))))
    };
    let stage = |x: &Rows, name: &str| {
        let name = format!("tokens_to_token.{name}");
        let (from, t) = (x[0].len(), config.token_dim);
        let rows = norm(x, &format!("{name}.norm1"));
        let (attention, v, proj, mlp) = match config.tokens {
            Tokens::Transformer => {
                let qkv = linear(&rows, &weights.rows(&format!("{name}.attn.qkv.weight")), None);
                let [q, k, v] = [0, 1, 2].map(|i| columns(&qkv, i * t, (i + 1) * t));
                (multi_head(&q, &k, &v, 1, 1.0 / (from as f64).sqrt(), false), v, "attn.proj", ["mlp.fc1", "mlp.fc2"])
            }
            Tokens::Performer => {
                let kqv = affine(&rows, &format!("{name}.kqv"));
                let [k, q, v] = [0, 1, 2].map(|i| columns(&kqv, i * t, (i + 1) * t));
                let w = weights.rows(&format!("{name}.w"));
                let feature = |x: &Vec<f64>, w: &Vec<f64>| {
                    let dot: f64 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                    (dot - x.iter().map(|x| x * x).sum::<f64>() / 2.0).exp()
                };
                let m = w.len() as f64;
                let weight =
                    |q: &Vec<f64>, k: &Vec<f64>| w.iter().map(|w| feature(q, w) * feature(k, w)).sum::<f64>() / m;
                let row = |q: &Vec<f64>| {
                    let weights: Vec<f64> = k.iter().map(|k| weight(q, k)).collect();
                    let total = weights.iter().sum::<f64>() + 1e-8;
                    (0..t).map(|c| weights.iter().zip(&v).map(|(a, v)| a * v[c]).sum::<f64>() / total).collect()
                };
                (q.iter().map(row).collect(), v, "proj", ["mlp.0", "mlp.2"])
            }
        };
        let y = plus(&v, &affine(&attention, &format!("{name}.{proj}")));
        let hidden = gelu(&affine(&norm(&y, &format!("{name}.norm2")), &format!("{name}.{}", mlp[0])));
        plus(&y, &affine(&hidden, &format!("{name}.{}", mlp[1])))
    };
    let x = stage(&unfold(&map, 32, 7, 4, 2), "attention1");
    let x = stage(&unfold(&transposed(&x), 8, 3, 2, 1), "attention2");
    let x = affine(&unfold(&transposed(&x), 4, 3, 2, 1), "tokens_to_token.project");
    let mut tokens = vec![weights.flat("cls_token")];
    tokens.extend(x);
    let mut tokens = plus(&tokens, &weights.rows("pos_embed"));
    let c = config.embed_dim;
    for i in 0..config.depth {
        let name = |part: &str| format!("blocks.{i}.{part}");
        let qkv = linear(&norm(&tokens, &name("norm1")), &weights.rows(&name("attn.qkv.weight")), None);
        let [q, k, v] = [0, 1, 2].map(|i| columns(&qkv, i * c, (i + 1) * c));
        let scale = 1.0 / ((c / config.heads) as f64).sqrt();
        let attention = multi_head(&q, &k, &v, config.heads, scale, false);
        tokens = plus(&tokens, &affine(&attention, &name("attn.proj")));
        let hidden = gelu(&affine(&norm(&tokens, &name("norm2")), &name("mlp.fc1")));
        tokens = plus(&tokens, &affine(&hidden, &name("mlp.fc2")));
    }
    affine(&norm(&tokens, "norm"), "head")[0].clone()
}

fn images(config: &Config, count: usize) -> Result<Tensor> {
    let shape = (count, config.channels, config.image_size, config.image_size);
    Tensor::from_vec(numbers(count * config.channels * config.image_size.pow(2), 77), shape, &Device::Cpu)
}

#[test]
fn forward_is_the_reference() -> Result<()> {
    for tokens in [Tokens::Transformer, Tokens::Performer] {
        let config = small(tokens);
        assert_eq!(config.token_counts(), [64, 16, 4]);
        let weights = Weights::random(&shapes(&config))?;
        let model = T2tVit::load(config, weights.builder())?;
        let images = images(&config, 2)?;
        let want: Vec<f64> = (0..2)
            .flat_map(|i| {
                let image = images.get(i).and_then(|image| image.flatten_all()?.to_vec1::<f32>());
                reference(&config, &weights, &image.expect("an image"))
            })
            .collect();
        agree_flat(&model.forward(&images, &ScatterbrainAttention::exact())?, &want, 1e-5, "exact");
        agree_flat(&model.forward(&images, &FullSupport)?, &want, 1e-5, "full support");
        let mean = model.forward(&images, &Mean)?.flatten_all()?.to_vec1::<f32>()?;
        assert!(mean.iter().zip(&want).any(|(a, b)| (f64::from(*a) - b).abs() > 1e-3), "attention does not matter");
    }
    Ok(())
}

/// Which sites were asked, and the tokens there.
#[derive(Default)]
struct Asked(Mutex<Vec<(String, usize, f32)>>);

impl Attend for Asked {
    fn attend(&self, site: Site, inputs: &Inputs<'_>) -> Result<Tensor> {
        self.0.lock().unwrap().push((site.to_string(), inputs.query.dim(2)?, inputs.scale));
        Mean.attend(site, inputs)
    }
}

#[test]
fn stages_come_before_blocks() -> Result<()> {
    let config = small(Tokens::Transformer);
    let model = T2tVit::load(config, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
    let asked = Asked::default();
    model.forward(&images(&config, 1)?, &asked)?;
    let want = [("encoder.0", 64, 98f32), ("encoder.1", 16, 54.0), ("encoder.2", 5, 4.0), ("encoder.3", 5, 4.0)];
    let want: Vec<_> = want.iter().map(|&(site, n, d)| (site.to_owned(), n, d.powf(-0.5))).collect();
    assert_eq!(*asked.0.lock().unwrap(), want);
    Ok(())
}

#[test]
fn tokens_of_the_papers_models() {
    assert_eq!(Config::t_14().token_counts(), [3136, 784, 196]);
    assert_eq!(Config::fashion_mnist().token_counts(), [784, 196, 49]);
    let weights: usize = shapes(&Config::t_14()).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    // The authors' table says 21.5 million.
    assert_eq!(weights / 100_000, 215);
}

#[test]
fn errors_name_tensors_and_shapes() -> Result<()> {
    for tokens in [Tokens::Transformer, Tokens::Performer] {
        let config = small(tokens);
        let weights = Weights::random(&shapes(&config))?;
        weights.check_names(|weights| T2tVit::load(config, weights))?;
        // T2T-ViT-7 and -12 differ in their depth alone.
        let shallow = Config { depth: config.depth - 1, ..config };
        let error = T2tVit::load(shallow, weights.builder()).unwrap_err().to_string();
        let beyond = format!("tensor blocks.{}.attn.qkv.weight", shallow.depth);
        assert!(error.contains(&beyond) && error.contains("there are more"), "{error}");
    }
    let config = small(Tokens::Transformer);
    let zeros = || VarBuilder::zeros(DType::F32, &Device::Cpu);
    let model = T2tVit::load(config, zeros())?;
    let wrong = Tensor::zeros((1, 2, 16, 32), DType::F32, &Device::Cpu)?;
    let error = model.forward(&wrong, &Mean).unwrap_err().to_string();
    assert!(error.contains("expected [batch, 2, 32, 32]"), "{error}");
    let error = T2tVit::load(Config { heads: 3, ..config }, zeros()).unwrap_err().to_string();
    assert!(error.contains("embed_dim"), "{error}");
    Ok(())
}

#[test]
fn a_checkpoint_tells_its_shapes() -> Result<()> {
    for config in [Config::t_7(), Config::t_12(), Config::t_14().with_performer()] {
        let zeros = |(name, shape): (String, Vec<usize>)| Ok((name, Tensor::zeros(shape, DType::F16, &Device::Cpu)?));
        let mut tensors: HashMap<String, Tensor> = shapes(&config).into_iter().map(zeros).collect::<Result<_>>()?;
        assert_eq!(Config::of_checkpoint(&tensors)?, config);
        for name in ["pos_embed", "head.weight", "blocks.0.mlp.fc1.weight", "tokens_to_token.attention1.norm1.weight"] {
            let tensor = tensors.remove(name).expect("a tensor");
            let error = Config::of_checkpoint(&tensors).unwrap_err().to_string();
            assert!(error.contains(&format!("tensor {name} is missing")), "{error}");
            tensors.insert(name.to_owned(), tensor.flatten_all()?.unsqueeze(0)?.unsqueeze(0)?.unsqueeze(0)?);
            let error = Config::of_checkpoint(&tensors).unwrap_err().to_string();
            assert!(error.contains(&format!("tensor {name}: expected")), "{error}");
            tensors.insert(name.to_owned(), tensor);
        }
    }
    Ok(())
}

#[test]
fn positions_of_a_new_model() -> Result<()> {
    let table = sinusoid_positions(5, 6)?.get(0)?.to_vec2::<f32>()?;
    assert_eq!(table[0], [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    let angle = 3.0 / 10000f64.powf(2.0 / 6.0);
    assert!((f64::from(table[3][2]) - angle.sin()).abs() < 1e-6);
    assert!((f64::from(table[3][3]) - angle.cos()).abs() < 1e-6);
    Ok(())
}

/// Files of `tests/fixtures/checkpoints.py`, which says what is in them.
fn checkpoint(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[test]
fn checkpoints_of_pytorch() -> Result<()> {
    // The averaged weights are 1, those of the last step 2.
    for (name, want) in [("ema.pth.tar", 1.0), ("module.pth.tar", 2.0), ("bare.pth", 2.0)] {
        let tensors = read_checkpoint(checkpoint(name))?;
        let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["blocks.0.attn.qkv.weight", "cls_token"], "{name}");
        assert_eq!(tensors["cls_token"].dims(), [1, 1, 4]);
        assert_eq!(tensors["cls_token"].flatten_all()?.to_vec1::<f32>()?, [want; 4]);
        let ramp: Vec<f32> = (0..12).map(|i| want + i as f32).collect();
        assert_eq!(tensors["blocks.0.attn.qkv.weight"].flatten_all()?.to_vec1::<f32>()?, ramp);
    }
    Ok(())
}

#[test]
fn a_checkpoint_of_the_papers_model() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("81.7_T2T_ViTt_14.pth.tar");
    let packed = std::fs::File::open(checkpoint("t_14.pth.tar.gz"))?;
    std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut std::fs::File::create(&path)?)?;
    let tensors = read_checkpoint(&path)?;
    let config = Config::t_14();
    assert_eq!(tensors.len(), shapes(&config).len());
    assert_eq!(Config::of_checkpoint(&tensors)?, config);
    // The last of the file's tensors, `head.bias`, is its number over 1024 throughout.
    let last = (tensors.len() - 1) as f32 / 1024.0;
    assert_eq!(tensors["head.bias"].to_vec1::<f32>()?, [last; 1000]);
    let load = |tensors, config| T2tVit::load(config, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu));
    load(tensors.clone(), config)?;
    let error = load(tensors, Config::t_14().with_performer()).unwrap_err().to_string();
    assert!(error.contains("tokens_to_token.attention1."), "{error}");
    Ok(())
}

#[test]
fn files_that_are_no_checkpoints() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("cut.pth.tar");
    let whole = std::fs::read(checkpoint("ema.pth.tar"))?;
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length])?;
        let error = read_checkpoint(&path).unwrap_err().to_string();
        assert!(error.contains("cut.pth.tar"), "at {length}: {error}");
    }
    let error = read_checkpoint(folder.path().join("none.pth")).unwrap_err().to_string();
    assert!(error.contains("none.pth"), "{error}");
    Ok(())
}
