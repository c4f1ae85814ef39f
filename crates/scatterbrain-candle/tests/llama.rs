//! Llama on small generated files against plain loops, and what the loader says of bad files.

mod common;

use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Error, Result, Tensor};
use common::{Rows, Weights, agree, attention, columns, joined, linear, sum};
use scatterbrain_attention::Method;
use scatterbrain_attention::blocks::Full;
use scatterbrain_attention::features::{FeatureBackground, PositiveFeatures, ProjectionKind};
use scatterbrain_candle::llama::Llama;
use scatterbrain_candle::{ScatterbrainAttention, Seed};
use std::collections::BTreeMap;
use std::io::Cursor;

const VOCAB: usize = 37;
const HIDDEN: usize = 32;
const WIDE: usize = 64;
const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 8;
const CONTEXT: usize = 320;
const LAYERS: usize = 2;
const EPS: f64 = 1e-3;
const THETA: f64 = 500.0;
/// f32 through two layers, logits of some units.
const F32: f64 = 3e-5;

/// What a generated file holds.
#[derive(Clone)]
struct Model {
    metadata: BTreeMap<&'static str, Value>,
    weights: Weights,
    /// Of the matrices.
    dtype: GgmlDType,
}

impl Model {
    fn new() -> Self {
        let count = |x: usize| Value::U32(x as u32);
        let metadata = BTreeMap::from([
            ("general.architecture", Value::String("llama".to_owned())),
            ("llama.block_count", count(LAYERS)),
            ("llama.context_length", count(CONTEXT)),
            ("llama.embedding_length", count(HIDDEN)),
            ("llama.feed_forward_length", count(WIDE)),
            ("llama.attention.head_count", count(HEADS)),
            ("llama.attention.head_count_kv", count(KV_HEADS)),
            ("llama.attention.key_length", count(HEAD_DIM)),
            ("llama.rope.dimension_count", count(HEAD_DIM)),
            ("llama.rope.freq_base", Value::F32(THETA as f32)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(EPS as f32)),
        ]);
        let mut w = Weights::default();
        w.add("token_embd.weight", &[VOCAB, HIDDEN], 0.0, 1.0);
        w.add("output_norm.weight", &[HIDDEN], 1.0, 0.5);
        for layer in 0..LAYERS {
            let mut add = |part: &str, shape: &[usize], centre, size| {
                w.add(&format!("blk.{layer}.{part}.weight"), shape, centre, size);
            };
            add("attn_norm", &[HIDDEN], 1.0, 0.5);
            add("attn_q", &[HEADS * HEAD_DIM, HIDDEN], 0.0, 0.4);
            add("attn_k", &[KV_HEADS * HEAD_DIM, HIDDEN], 0.0, 0.4);
            add("attn_v", &[KV_HEADS * HEAD_DIM, HIDDEN], 0.0, 0.4);
            add("attn_output", &[HIDDEN, HEADS * HEAD_DIM], 0.0, 0.4);
            add("ffn_norm", &[HIDDEN], 1.0, 0.5);
            add("ffn_gate", &[WIDE, HIDDEN], 0.0, 0.4);
            add("ffn_up", &[WIDE, HIDDEN], 0.0, 0.4);
            add("ffn_down", &[HIDDEN, WIDE], 0.0, 0.4);
        }
        Self { metadata, weights: w, dtype: GgmlDType::F32 }
    }

    fn file(&self) -> Result<Vec<u8>> {
        let tensor = |(name, tensor): (String, Tensor)| {
            let dtype = if tensor.rank() == 2 && tensor.dims()[1] % 32 == 0 { self.dtype } else { GgmlDType::F32 };
            Ok((name, QTensor::quantize(&tensor, dtype)?))
        };
        let mut tensors = self.weights.tensors()?.into_iter().map(tensor).collect::<Result<Vec<_>>>()?;
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let metadata: Vec<(&str, &Value)> = self.metadata.iter().map(|(k, v)| (*k, v)).collect();
        let mut file = Cursor::new(Vec::new());
        let named: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(&mut file, &metadata, &named)?;
        Ok(file.into_inner())
    }

    fn load(&self) -> Result<Llama> {
        load(&self.file()?)
    }
}

fn load(bytes: &[u8]) -> Result<Llama> {
    let mut file = Cursor::new(bytes);
    let content = Content::read(&mut file)?;
    Llama::from_gguf(&content, &mut file)
}

fn norm(x: &Rows, weight: &[f64]) -> Rows {
    let row = |x: &Vec<f64>| {
        let scale = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + EPS).sqrt();
        x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
    };
    x.iter().map(row).collect()
}

/// Neighbouring columns turned by position · θ^(−2i/d) / divisor, as files hold them.
fn rope(x: &Rows, divisors: &[f64]) -> Rows {
    let mut x = x.clone();
    for (position, row) in x.iter_mut().enumerate() {
        for (i, pair) in row.chunks_mut(2).enumerate() {
            let angle = position as f64 * THETA.powf(-2.0 * i as f64 / HEAD_DIM as f64) / divisors[i];
            let [a, b] = [pair[0], pair[1]];
            (pair[0], pair[1]) = (a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos());
        }
    }
    x
}

/// Logits of all tokens, in f64.
fn reference(w: &Weights, tokens: &[u32]) -> Rows {
    let embeddings = w.rows("token_embd.weight");
    let divisors =
        if w.0.contains_key("rope_freqs.weight") { w.row("rope_freqs.weight") } else { vec![1.0; HEAD_DIM / 2] };
    let mut x: Rows = tokens.iter().map(|&t| embeddings[t as usize].clone()).collect();
    for layer in 0..LAYERS {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let product = |x: &Rows, part: &str| linear(x, &w.rows(&name(part)), None);
        let normed = norm(&x, &w.row(&name("attn_norm")));
        let [q, k, v] = ["attn_q", "attn_k", "attn_v"].map(|part| product(&normed, part));
        let heads: Vec<Rows> = (0..HEADS)
            .map(|h| {
                let kv = h / (HEADS / KV_HEADS);
                let q = rope(&columns(&q, h, HEAD_DIM), &divisors);
                let k = rope(&columns(&k, kv, HEAD_DIM), &divisors);
                let scale = 1.0 / (HEAD_DIM as f64).sqrt();
                attention(&q, &k, &columns(&v, kv, HEAD_DIM), scale, |i, j| j <= i)
            })
            .collect();
        x = sum(&product(&joined(&heads), "attn_output"), &x);
        let normed = norm(&x, &w.row(&name("ffn_norm")));
        let (gate, up) = (product(&normed, "ffn_gate"), product(&normed, "ffn_up"));
        let wide = |(gate, up): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
            gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect()
        };
        let wide = gate.iter().zip(&up).map(wide).collect();
        x = sum(&product(&wide, "ffn_down"), &x);
    }
    let output = if w.0.contains_key("output.weight") { w.rows("output.weight") } else { embeddings };
    linear(&norm(&x, &w.row("output_norm.weight")), &output, None)
}

fn text(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i + 5 * i + 3) % VOCAB as u32).collect()
}

fn input(tokens: &[u32]) -> Result<Tensor> {
    Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)
}

fn logits(llama: &Llama, tokens: &[u32], attend: &dyn scatterbrain_candle::Attend) -> Result<Rows> {
    let hidden = llama.hidden(&input(tokens)?, &mut llama.cache(tokens.len()), attend)?;
    llama.logits(&hidden)?.get(0)?.to_dtype(DType::F64)?.to_vec2()
}

#[test]
fn as_the_reference() -> Result<()> {
    let exact = ScatterbrainAttention::exact();
    let tied = Model::new();
    let mut own_output = tied.clone();
    own_output.weights.add("output.weight", &[VOCAB, HIDDEN], 0.0, 1.0);
    let mut divided = tied.clone();
    divided.weights.add("rope_freqs.weight", &[HEAD_DIM / 2], 3.0, 1.0);
    for (what, model) in [("tied", tied), ("an output of its own", own_output), ("frequencies divided", divided)] {
        let tokens = text(50);
        agree(&logits(&model.load()?, &tokens, &exact)?, &reference(&model.weights, &tokens), F32, what);
    }
    Ok(())
}

#[test]
fn quantised_weights() -> Result<()> {
    for dtype in [GgmlDType::Q4_1, GgmlDType::Q8_0, GgmlDType::F16] {
        let model = Model { dtype, ..Model::new() };
        // The reference takes what the file holds.
        let mut rounded = model.clone();
        for (shape, numbers) in
            rounded.weights.0.values_mut().filter(|(shape, _)| shape.len() == 2 && shape[1] % 32 == 0)
        {
            let tensor = Tensor::from_slice(numbers, &shape[..], &Device::Cpu)?;
            *numbers = QTensor::quantize(&tensor, dtype)?.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        }
        assert_ne!(rounded.weights.rows("token_embd.weight"), model.weights.rows("token_embd.weight"));
        let tokens = text(20);
        let exact = ScatterbrainAttention::exact();
        let what = format!("{dtype:?}");
        agree(&logits(&model.load()?, &tokens, &exact)?, &reference(&rounded.weights, &tokens), F32, &what);
    }
    Ok(())
}

#[test]
fn token_by_token_as_all_at_once() -> Result<()> {
    let llama = Model::new().load()?;
    let exact = ScatterbrainAttention::exact();
    let tokens = text(40);
    let whole = logits(&llama, &tokens, &exact)?;
    // Room for 7: the cache grows.
    let mut cache = llama.cache(7);
    let mut rows = Rows::new();
    for part in [&tokens[..13], &tokens[13..14], &tokens[14..15], &tokens[15..]] {
        let hidden = llama.hidden(&input(part)?, &mut cache, &exact)?;
        rows.extend(llama.logits(&hidden)?.get(0)?.to_dtype(DType::F64)?.to_vec2()?);
    }
    assert_eq!(cache.len(), 40);
    agree(&rows, &whole, F32, "in parts");
    Ok(())
}

/// More rows than the logits of one block.
#[test]
fn likelihoods() -> Result<()> {
    let model = Model::new();
    let tokens = text(300);
    let logs = model.load()?.log_likelihoods(&tokens, &ScatterbrainAttention::exact())?;
    let expected = reference(&model.weights, &tokens[..299]);
    let expected = expected.iter().zip(&tokens[1..]).map(|(row, &next)| {
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row[next as usize] - top - row.iter().map(|x| (x - top).exp()).sum::<f64>().ln()
    });
    agree(&vec![logs], &vec![expected.collect()], F32, "log-likelihoods");
    Ok(())
}

#[test]
fn a_full_support_is_exact() -> Result<()> {
    let llama = Model::new().load()?;
    let map = PositiveFeatures::sample(HEAD_DIM, 8, ProjectionKind::Orthogonal, Seed(0)).map_err(Error::wrap)?;
    let full = ScatterbrainAttention::new(Method::scatterbrain(Full, FeatureBackground::new(map)));
    let exact = ScatterbrainAttention::exact();
    let tokens = text(60);
    agree(&logits(&llama, &tokens, &full)?, &logits(&llama, &tokens, &exact)?, F32, "full support");
    // Whose prefill is exact, that generates the likeliest token each time.
    let mut so_far = tokens[..20].to_vec();
    for _ in 0..6 {
        let rows = logits(&llama, &so_far, &exact)?;
        let last = rows.last().unwrap();
        so_far.push((0..VOCAB).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap() as u32);
    }
    assert_eq!(llama.generate(&tokens[..20], 6, None, &full)?, so_far[20..]);
    let stop = so_far[23];
    let before = so_far[20..].iter().position(|&t| t == stop).unwrap();
    assert_eq!(llama.generate(&tokens[..20], 6, Some(stop), &full)?, so_far[20..20 + before]);
    Ok(())
}

#[test]
fn the_context_is_the_end() -> Result<()> {
    let llama = Model::new().load()?;
    let exact = ScatterbrainAttention::exact();
    let mut cache = llama.cache(CONTEXT);
    let error = llama.hidden(&input(&text(CONTEXT + 1))?, &mut cache, &exact).unwrap_err().to_string();
    assert!(error.contains("tokens: expected 1 to 320 after 0, got 321"), "{error}");
    // An error on the way leaves no half of a cache.
    llama.hidden(&input(&[1, 2, 3])?, &mut cache, &exact)?;
    assert!(llama.hidden(&input(&[VOCAB as u32])?, &mut cache, &exact).is_err());
    assert!(cache.is_empty());
    for most in [5, usize::MAX] {
        assert_eq!(llama.generate(&text(CONTEXT - 1), most, None, &exact)?.len(), 2);
    }
    assert!(llama.log_likelihoods(&[1], &exact).is_err());
    Ok(())
}

#[test]
fn each_missing_or_misshapen_tensor_is_named() -> Result<()> {
    let whole = Model::new();
    for name in whole.weights.0.keys() {
        let mut renamed = whole.clone();
        let tensor = renamed.weights.0.remove(name).unwrap();
        renamed.weights.0.insert(format!("{name}_"), tensor);
        let error = renamed.load().map(drop).expect_err(name).to_string();
        assert!(error.contains(&format!("{name}: the file has no tensor")), "{name}: {error}");

        let mut misshapen = whole.clone();
        let (shape, numbers) = misshapen.weights.0.get_mut(name).unwrap();
        shape[0] += 1;
        numbers.extend(vec![0.0; numbers.len() / (shape[0] - 1)]);
        if name == "token_embd.weight" {
            misshapen.metadata.insert("llama.vocab_size", Value::U32(VOCAB as u32));
        }
        let error = misshapen.load().map(drop).expect_err(name).to_string();
        assert!(error.contains(&format!("{name}: expected shape")), "{name}: {error}");
    }
    let mut broken = whole.clone();
    broken.weights.0.get_mut("blk.1.attn_norm.weight").unwrap().1[3] = f32::INFINITY;
    let error = broken.load().unwrap_err().to_string();
    assert!(error.contains("tensor blk.1.attn_norm.weight: entry 3 is inf"), "{error}");
    // One that the architecture does not know would be left out silently.
    let mut biased = whole.clone();
    biased.weights.add("blk.1.attn_q.bias", &[HEADS * HEAD_DIM], 0.0, 1.0);
    let error = biased.load().unwrap_err().to_string();
    assert!(error.contains("blk.1.attn_q.bias: a llama has no tensor"), "{error}");
    Ok(())
}

#[test]
fn a_truncated_file_is_an_error() -> Result<()> {
    let bytes = Model::new().file()?;
    let start = Content::read(&mut Cursor::new(&bytes))?.tensor_data_offset as usize;
    for length in (0..start).step_by(41) {
        assert!(load(&bytes[..length]).is_err(), "{length}");
    }
    // Padding ends the file: 31 bytes at most.
    for length in (start..bytes.len() - 32).step_by(997).chain([bytes.len() - 32]) {
        let error = load(&bytes[..length]).map(drop).expect_err("a part of a file").to_string();
        let named = Model::new().weights.0.keys().any(|name| error.contains(&format!("{name}: tensor needs")));
        assert!(named, "{length}: {error}");
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("part.gguf");
    std::fs::write(&path, &bytes[..start / 2])?;
    let error = Llama::from_file(&path).map(drop).unwrap_err().to_string();
    assert!(error.contains("part.gguf") && error.contains("header of a GGUF file"), "{error}");
    std::fs::write(&path, &bytes)?;
    assert_eq!(Llama::from_file(&path)?.0.config().vocab, VOCAB);
    Ok(())
}

/// Nothing is laid out for a context that a header merely claims.
#[test]
fn a_context_without_end_takes_no_room() -> Result<()> {
    let (tokens, exact) = (text(20), ScatterbrainAttention::exact());
    let mut model = Model::new();
    let before = logits(&model.load()?, &tokens, &exact)?;
    model.metadata.insert("llama.context_length", Value::U64(1 << 60));
    agree(&logits(&model.load()?, &tokens, &exact)?, &before, 0.0, "the same");
    Ok(())
}

#[test]
fn metadata_that_does_not_fit() {
    let says = |key: &'static str, value: Option<Value>, words: &str| {
        let mut model = Model::new();
        match value {
            Some(value) => model.metadata.insert(key, value),
            None => model.metadata.remove(key),
        };
        let error = model.load().map(drop).expect_err(key).to_string();
        assert!(error.contains(key) && error.contains(words), "{key}: {error}");
    };
    let text = |text: &str| Some(Value::String(text.to_owned()));
    says("general.architecture", text("qwen2"), "expected llama, got qwen2");
    for key in ["llama.block_count", "llama.context_length", "llama.embedding_length", "llama.attention.head_count"] {
        says(key, None, "expected a count, got nothing");
        says(key, Some(Value::U32(0)), "expected at least 1, got 0");
        says(key, text("2"), "expected a count, got String");
    }
    says("llama.attention.layer_norm_rms_epsilon", None, "expected a number");
    says("llama.attention.layer_norm_rms_epsilon", Some(Value::F32(f32::NAN)), "finite");
    says("llama.rope.freq_base", Some(Value::F32(-1.0)), "finite number above 0");
    says("llama.attention.head_count_kv", Some(Value::U32(4)), "a divisor of 6 heads, got 4");
    says("llama.rope.dimension_count", Some(Value::U32(4)), "expected 8");
    says("llama.rope.scaling.type", text("yarn"), "expected none, got yarn");
    says("llama.attention.key_length", Some(Value::U32(7)), "an even number, got 7");
}
