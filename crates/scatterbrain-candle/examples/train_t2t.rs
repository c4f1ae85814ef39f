//! Trains the small T2T-ViT (`Config::fashion_mnist`) on Fashion-MNIST, in plain candle operations.
//!
//! `cargo run --release --example train_t2t -p scatterbrain-candle -- --data FOLDER --out t2t-fashion-mnist.safetensors`
//!
//! Exact attention over 784 tokens is most of the work of a step.
//! So in the epochs before the last ones a step's first stage attends to a random eighth of its keys, which estimates
//! the same sums; the last ones (`--exact-epochs`) attend to all, as the model does ever after.
//!
//! After every epoch the weights stand in `OUT` with the suffix `.f32`, and the file is the way to resume: the next
//! start goes on with the epoch after (the moments of AdamW start anew).
//! At the end `OUT` has them in f16.

#![allow(clippy::print_stdout, reason = "it is a program")]

use anyhow::{Context, Result, ensure};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap, loss, ops};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use scatterbrain_candle::fashion_mnist::{FashionMnist, Split};
use scatterbrain_candle::t2t_vit::{Config, T2tVit, sinusoid_positions};
use scatterbrain_candle::{Attend, Inputs, Site};
use std::path::{Path, PathBuf};

/// Training of the small T2T-ViT.
#[derive(Parser)]
struct Options {
    /// Folder of the four idx files.
    #[arg(long, default_value = "/usr/share/datasets/fashion-mnist")]
    data: PathBuf,
    /// Where the weights go.
    #[arg(long)]
    out: PathBuf,
    /// Images of an epoch, drawn anew from the training set for each.
    #[arg(long, default_value_t = 10_000)]
    images: usize,
    #[arg(long, default_value_t = 8)]
    epochs: usize,
    /// Epochs at the end in which the first stage attends to every key.
    #[arg(long, default_value_t = 2)]
    exact_epochs: usize,
    #[arg(long, default_value_t = 32)]
    batch: usize,
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// Images of the test set that are looked at after each epoch.
    #[arg(long, default_value_t = 1000)]
    test_images: usize,
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Attention with a gradient: exact, or the first stage over given keys alone.
struct PlainAttention {
    first_stage_keys: Option<Tensor>,
}

const EXACT: PlainAttention = PlainAttention { first_stage_keys: None };

impl PlainAttention {
    fn to_sampled_keys(tokens: usize, random: &mut Xoshiro256PlusPlus) -> Result<PlainAttention> {
        let mut keys: Vec<u32> = (0..tokens as u32).collect();
        keys.shuffle(random);
        keys.truncate(tokens / 8);
        Ok(PlainAttention { first_stage_keys: Some(Tensor::new(keys, &Device::Cpu)?) })
    }
}

impl Attend for PlainAttention {
    fn attend(&self, site: Site, inputs: &Inputs<'_>) -> candle_core::Result<Tensor> {
        let sampled = |rows: &Tensor| match &self.first_stage_keys {
            Some(keys) if site.layer == 0 => rows.contiguous()?.index_select(keys, 2),
            _ => rows.contiguous(),
        };
        let query = (inputs.query * f64::from(inputs.scale))?.contiguous()?;
        let logits = query.matmul(&sampled(inputs.key)?.t()?)?;
        ops::softmax(&logits, D::Minus1)?.matmul(&sampled(inputs.value)?)
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let train = FashionMnist::open(&options.data, Split::Train)?;
    let test = FashionMnist::open(&options.data, Split::Test)?;
    ensure!(options.images <= train.len(), "--images: there are {}", train.len());

    let config = Config::fashion_mnist();
    let (mut variables, model) = fresh_model(config, options.seed)?;
    let first = resume(&mut variables, &options.out)?;
    let trained = trained_variables(&variables);
    let mut optimizer = AdamW::new(trained, ParamsAdamW { weight_decay: 0.05, ..Default::default() })?;
    let steps = options.images / options.batch;
    for epoch in first..options.epochs {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(options.seed + epoch as u64);
        let mut order: Vec<usize> = (0..train.len()).collect();
        order.shuffle(&mut random);
        order.truncate(options.images);
        let exact = epoch + options.exact_epochs >= options.epochs;
        let bar = progress_bar(steps, &format!("epoch {}/{}", epoch + 1, options.epochs))?;
        let (mut loss_sum, mut right) = (0.0, 0);
        for (step, batch) in order.chunks_exact(options.batch).enumerate() {
            optimizer.set_learning_rate(options.learning_rate * schedule(epoch * steps + step, options.epochs * steps));
            let images = train.images(batch, config.image_size)?;
            let images = if random.random() { images } else { mirrored(&images)? };
            let labels = labels(&train, batch)?;
            let attention = match exact {
                true => EXACT,
                false => PlainAttention::to_sampled_keys(config.token_counts()[0], &mut random)?,
            };
            let logits = model.forward(&images, &attention)?;
            right += count_right(&logits, &labels)?;
            let loss = loss::cross_entropy(&logits, &labels)?;
            optimizer.backward_step(&loss)?;
            loss_sum += f64::from(loss.to_scalar::<f32>()?);
            bar.set_message(format!("loss {:.3}", loss_sum / (step + 1) as f64));
            bar.inc(1);
        }
        bar.finish();
        save(&variables, &options.out, epoch + 1)?;
        println!(
            "epoch {}: loss {:.4}, right in training {:.2} %, on {} test images {:.2} %",
            epoch + 1,
            loss_sum / steps as f64,
            100.0 * right as f64 / (steps * options.batch) as f64,
            options.test_images,
            accuracy(&model, &test, options.test_images)?,
        );
    }
    finish(&variables, &options.out)?;
    println!("all {} test images: {:.2} %", test.len(), accuracy(&model, &test, test.len())?);
    Ok(())
}

/// Variables drawn from the seed, and the model that reads them.
fn fresh_model(config: Config, seed: u64) -> Result<(VarMap, T2tVit)> {
    let mut variables = VarMap::new();
    let model = T2tVit::load(config, VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu))?;
    // candle draws its first weights without a seed: they are drawn again here, in the order of their names.
    let mut names: Vec<String> = variables.data().lock().expect("no thread has panicked").keys().cloned().collect();
    names.sort();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x7274);
    for name in names {
        let shape = variables.data().lock().expect("no thread has panicked")[&name].shape().clone();
        if name == "pos_embed" {
            variables.set_one(&name, sinusoid_positions(shape.dims()[1], config.embed_dim)?)?;
        } else if shape.rank() > 1 {
            // Uniform with the variance 1/columns.
            let bound = (3.0 / shape.dims()[shape.rank() - 1] as f32).sqrt();
            let values: Vec<f32> = (0..shape.elem_count()).map(|_| random.random_range(-bound..bound)).collect();
            variables.set_one(&name, Tensor::from_vec(values, shape, &Device::Cpu)?)?;
        } else if name.ends_with("bias") {
            variables.set_one(&name, Tensor::zeros(shape, DType::F32, &Device::Cpu)?)?;
        }
    }
    Ok((variables, model))
}

/// All variables but the positions, which stay a sinusoid table.
fn trained_variables(variables: &VarMap) -> Vec<candle_core::Var> {
    let data = variables.data().lock().expect("no thread has panicked");
    let mut named: Vec<_> = data.iter().filter(|(name, _)| *name != "pos_embed").collect();
    named.sort_by_key(|(name, _)| name.as_str());
    named.into_iter().map(|(_, variable)| variable.clone()).collect()
}

/// Linear warm-up over a twentieth of the steps, then a cosine down to a hundredth.
fn schedule(step: usize, steps: usize) -> f64 {
    let warm_up = (steps / 20).max(1);
    if step < warm_up {
        return (step + 1) as f64 / warm_up as f64;
    }
    let part = (step - warm_up) as f64 / (steps - warm_up).max(1) as f64;
    0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
}

fn mirrored(images: &Tensor) -> Result<Tensor> {
    let width = images.dim(3)? as u32;
    let columns = Tensor::from_vec((0..width).rev().collect::<Vec<u32>>(), width as usize, &Device::Cpu)?;
    Ok(images.index_select(&columns, 3)?)
}

fn labels(data: &FashionMnist, indices: &[usize]) -> Result<Tensor> {
    let labels: Vec<u32> = indices.iter().map(|&i| data.label(i)).collect();
    Ok(Tensor::from_vec(labels, indices.len(), &Device::Cpu)?)
}

fn count_right(logits: &Tensor, labels: &Tensor) -> Result<usize> {
    let equal = logits.argmax(D::Minus1)?.eq(labels)?;
    Ok(equal.to_vec1::<u8>()?.into_iter().map(usize::from).sum())
}

/// In per cent, of the first images.
fn accuracy(model: &T2tVit, data: &FashionMnist, images: usize) -> Result<f64> {
    let indices: Vec<usize> = (0..images.min(data.len())).collect();
    let mut right = 0;
    for batch in indices.chunks(50) {
        let logits = model.forward(&data.images(batch, model.config().image_size)?, &EXACT)?;
        right += count_right(&logits, &labels(data, batch)?)?;
    }
    Ok(100.0 * right as f64 / indices.len() as f64)
}

fn progress_bar(steps: usize, name: &str) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} {eta}")?;
    Ok(ProgressBar::new(steps as u64).with_style(style).with_prefix(name.to_owned()))
}

/// The file with which a training goes on.
fn state_file(out: &Path) -> PathBuf {
    out.with_extension("f32")
}

fn save(variables: &VarMap, out: &Path, epochs: usize) -> Result<()> {
    let mut tensors = variables
        .data()
        .lock()
        .expect("no thread has panicked")
        .iter()
        .map(|(name, variable)| (name.clone(), variable.as_tensor().clone()))
        .collect::<std::collections::HashMap<_, _>>();
    tensors.insert("epochs".to_owned(), Tensor::new(epochs as u32, &Device::Cpu)?);
    Ok(candle_core::safetensors::save(&tensors, state_file(out))?)
}

/// Reads what an earlier run left, and says how many epochs it had done.
fn resume(variables: &mut VarMap, out: &Path) -> Result<usize> {
    let path = state_file(out);
    if !path.exists() {
        return Ok(0);
    }
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu)?;
    let epochs = tensors.remove("epochs").with_context(|| format!("{}: no `epochs`", path.display()))?;
    variables.set(tensors.iter())?;
    println!("going on from {}", path.display());
    Ok(epochs.to_scalar::<u32>()? as usize)
}

fn finish(variables: &VarMap, out: &Path) -> Result<()> {
    let data = variables.data().lock().expect("no thread has panicked");
    let halves = data
        .iter()
        .map(|(name, variable)| Ok((name.clone(), variable.to_dtype(DType::F16)?)))
        .collect::<Result<std::collections::HashMap<_, _>>>()?;
    Ok(candle_core::safetensors::save(&halves, out)?)
}
