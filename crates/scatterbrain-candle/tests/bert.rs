//! BERT on small generated weights against plain loops, and what the loader says of bad files.

mod common;

use candle_core::{DType, Device, Error, Result, Tensor};
use candle_nn::{Activation, VarBuilder};
use common::{Rows, Weights, agree, attention, columns, joined, linear, sum};
use scatterbrain_attention::Method;
use scatterbrain_attention::blocks::{Full, WindowSupport};
use scatterbrain_attention::features::{FeatureBackground, PositiveFeatures, ProjectionKind};
use scatterbrain_candle::bert::{Bert, Config, PositionEmbedding};
use scatterbrain_candle::{ScatterbrainAttention, Seed, Tally, weights};

/// f32 through two layers, rows of norm about 4.
const F32: f64 = 1e-5;

fn config() -> Config {
    Config {
        vocab_size: 23,
        hidden_size: 12,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        intermediate_size: 20,
        hidden_act: Activation::Gelu,
        max_position_embeddings: 40,
        type_vocab_size: 2,
        layer_norm_eps: 1e-3,
        position_embedding_type: PositionEmbedding::Absolute,
    }
}

fn generated() -> Weights {
    let mut w = Weights::default();
    w.add("embeddings.word_embeddings.weight", &[23, 12], 0.0, 1.0);
    w.add("embeddings.position_embeddings.weight", &[40, 12], 0.0, 0.5);
    w.add("embeddings.token_type_embeddings.weight", &[2, 12], 0.0, 0.5);
    let norm = |w: &mut Weights, name: &str| {
        w.add(&format!("{name}.weight"), &[12], 1.0, 0.5);
        w.add(&format!("{name}.bias"), &[12], 0.0, 0.5);
    };
    norm(&mut w, "embeddings.LayerNorm");
    for layer in 0..2 {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let dense = |w: &mut Weights, part: &str, rows, cols| {
            w.add(&format!("{}.weight", name(part)), &[rows, cols], 0.0, 0.7);
            w.add(&format!("{}.bias", name(part)), &[rows], 0.0, 0.3);
        };
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            dense(&mut w, part, 12, 12);
        }
        dense(&mut w, "intermediate.dense", 20, 12);
        dense(&mut w, "output.dense", 12, 20);
        norm(&mut w, &name("attention.output.LayerNorm"));
        norm(&mut w, &name("output.LayerNorm"));
    }
    w
}

fn layer_norm(x: &Rows, w: &Weights, name: &str) -> Rows {
    let (weight, bias) = (w.row(&format!("{name}.weight")), w.row(&format!("{name}.bias")));
    let row = |x: &Vec<f64>| {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (variance + 1e-3).sqrt();
        x.iter().enumerate().map(|(c, x)| (x - mean) * scale * weight[c] + bias[c]).collect()
    };
    x.iter().map(row).collect()
}

/// The model on one text, in f64.
fn reference(w: &Weights, tokens: &[u32]) -> Rows {
    let (words, places) =
        (w.rows("embeddings.word_embeddings.weight"), w.rows("embeddings.position_embeddings.weight"));
    let kind = &w.rows("embeddings.token_type_embeddings.weight")[0];
    let row = |(i, &t): (usize, &u32)| (0..12).map(|c| words[t as usize][c] + places[i][c] + kind[c]).collect();
    let mut x = layer_norm(&tokens.iter().enumerate().map(row).collect(), w, "embeddings.LayerNorm");
    for layer in 0..2 {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let dense = |x: &Rows, part: &str| {
            let bias = w.row(&format!("{}.bias", name(part)));
            linear(x, &w.rows(&format!("{}.weight", name(part))), Some(&bias))
        };
        let [q, k, v] = ["query", "key", "value"].map(|part| dense(&x, &format!("attention.self.{part}")));
        let head = |h| attention(&columns(&q, h, 4), &columns(&k, h, 4), &columns(&v, h, 4), 0.5, |_, _| true);
        let attended = dense(&joined(&[head(0), head(1), head(2)]), "attention.output.dense");
        x = layer_norm(&sum(&attended, &x), w, &name("attention.output.LayerNorm"));
        let gelu = |x: &f64| 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()));
        let wide = dense(&x, "intermediate.dense").iter().map(|row| row.iter().map(gelu).collect()).collect();
        x = layer_norm(&sum(&dense(&wide, "output.dense"), &x), w, &name("output.LayerNorm"));
    }
    x
}

fn load(w: &Weights) -> Result<Bert> {
    Bert::load(config(), VarBuilder::from_tensors(w.tensors()?, DType::F32, &Device::Cpu))
}

/// Two texts, the second padded.
fn texts() -> Result<(Vec<u32>, Vec<u32>, Tensor)> {
    let first: Vec<u32> = (0..31).map(|i| (i * 7 + 3) % 23).collect();
    let second: Vec<u32> = (0..18).map(|i| (i * 5 + 1) % 23).collect();
    let mut all = first.clone();
    all.extend(&second);
    all.extend([0; 13]);
    let tokens = Tensor::from_vec(all, (2, 31), &Device::Cpu)?;
    Ok((first, second, tokens))
}

fn rows(hidden: &Tensor, entry: usize, length: usize) -> Result<Rows> {
    hidden.get(entry)?.narrow(0, 0, length)?.to_dtype(DType::F64)?.to_vec2()
}

#[test]
fn as_the_reference() -> Result<()> {
    let w = generated();
    let (first, second, tokens) = texts()?;
    let exact = ScatterbrainAttention::exact();
    let bert = load(&w)?;
    let hidden = bert.forward(&tokens, &[31, 18], &exact)?;
    let expected = [reference(&w, &first), reference(&w, &second)];
    agree(&rows(&hidden, 0, 31)?, &expected[0], F32, "the longer");
    agree(&rows(&hidden, 1, 18)?, &expected[1], F32, "the shorter");

    let embeddings = bert.embed(&tokens, &[31, 18], &exact)?.to_dtype(DType::F64)?.to_vec2()?;
    let embedding = |rows: &Rows| -> Vec<f64> {
        let mean: Vec<f64> = (0..12).map(|c| rows.iter().map(|r| r[c]).sum::<f64>() / rows.len() as f64).collect();
        let norm = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
        mean.iter().map(|x| x / norm).collect()
    };
    agree(&embeddings, &expected.iter().map(embedding).collect(), F32, "embeddings");

    // Under the name of the whole model, too.
    let named = Weights(w.0.into_iter().map(|(name, tensor)| (format!("bert.{name}"), tensor)).collect());
    let again = load(&named)?.forward(&tokens, &[31, 18], &exact)?;
    assert_eq!(again.flatten_all()?.to_vec1::<f32>()?, hidden.flatten_all()?.to_vec1::<f32>()?);
    Ok(())
}

#[test]
fn a_full_support_is_exact() -> Result<()> {
    let bert = load(&generated())?;
    let (_, _, tokens) = texts()?;
    let map = PositiveFeatures::sample(4, 8, ProjectionKind::Orthogonal, Seed(0)).map_err(Error::wrap)?;
    let full = ScatterbrainAttention::new(Method::scatterbrain(Full, FeatureBackground::new(map)));
    let (exact, full) = (Tally::new(&full), ScatterbrainAttention::exact());
    let of = |attend| rows(&bert.forward(&tokens, &[31, 31], attend)?, 1, 31);
    agree(&of(&exact)?, &of(&full)?, F32, "full support");
    assert_eq!(exact.sites().into_keys().collect::<Vec<_>>(), bert.sites());
    Ok(())
}

/// A window stands where it stands in the text alone, however much padding others bring.
#[test]
fn padding_moves_no_window() -> Result<()> {
    let bert = load(&generated())?;
    let (_, second, tokens) = texts()?;
    let window = ScatterbrainAttention::new(Method::sparse(WindowSupport::around(3).map_err(Error::wrap)?));
    let among = bert.forward(&tokens, &[31, 18], &window)?;
    let alone = bert.forward(&Tensor::new(&second[..], &Device::Cpu)?.unsqueeze(0)?, &[18], &window)?;
    agree(&rows(&among, 1, 18)?, &rows(&alone, 0, 18)?, F32, "padded");
    let exact = bert.forward(&tokens, &[31, 18], &ScatterbrainAttention::exact())?;
    assert!(common::largest_difference(&rows(&among, 1, 18)?, &rows(&exact, 1, 18)?) > 0.1, "the window hides nothing");
    Ok(())
}

/// The last norm of a layer is no place where a gradient ends.
#[test]
fn a_gradient_is_an_error() -> Result<()> {
    let variable = |(name, tensor)| Ok((name, candle_core::Var::from_tensor(&tensor)?.into_inner()));
    let variables = generated().tensors()?.into_iter().map(variable).collect::<Result<_>>()?;
    let bert = Bert::load(config(), VarBuilder::from_tensors(variables, DType::F32, &Device::Cpu))?;
    let (_, _, tokens) = texts()?;
    let loss = bert.embed(&tokens, &[31, 18], &ScatterbrainAttention::exact())?.sum_all()?;
    let error = loss.backward().map(drop).expect_err("a gradient was lost").to_string();
    assert!(error.contains("gradients do not exist yet"), "{error}");
    Ok(())
}

#[test]
fn inputs_that_cannot_be_taken() -> Result<()> {
    let bert = load(&generated())?;
    let (_, _, tokens) = texts()?;
    let exact = ScatterbrainAttention::exact();
    let says = |tokens: &Tensor, lengths: &[usize], words: &str| {
        let error = bert.embed(tokens, lengths, &exact).map(drop).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    };
    says(&tokens, &[31], "lengths: expected 2 numbers from 1 to 31");
    says(&tokens, &[31, 0], "lengths: expected 2 numbers from 1 to 31");
    says(&tokens, &[31, 32], "lengths: expected 2 numbers from 1 to 31");
    says(&Tensor::zeros((1, 41), DType::U32, &Device::Cpu)?, &[41], "tokens: expected at most 40 a text, got 41");
    assert!(bert.embed(&Tensor::full(23u32, (1, 2), &Device::Cpu)?, &[2], &exact).is_err());
    Ok(())
}

#[test]
fn each_missing_or_misshapen_tensor_is_named() -> Result<()> {
    let whole = generated();
    for name in whole.0.keys() {
        let mut renamed = whole.clone();
        let tensor = renamed.0.remove(name).unwrap();
        renamed.0.insert(format!("{name}_"), tensor);
        let error = load(&renamed).map(drop).expect_err(name).to_string();
        assert!(error.contains(name.as_str()), "{name}: {error}");

        let mut misshapen = whole.clone();
        let (shape, numbers) = misshapen.0.get_mut(name).unwrap();
        shape[0] += 1;
        numbers.extend(vec![0.0; numbers.len() / (shape[0] - 1)]);
        let error = load(&misshapen).map(drop).expect_err(name).to_string();
        assert!(error.contains(name.as_str()) && error.contains("shape"), "{name}: {error}");
    }
    let odd = Config { num_attention_heads: 5, ..config() };
    let tensors = VarBuilder::from_tensors(whole.tensors()?, DType::F32, &Device::Cpu);
    assert!(Bert::load(odd, tensors).unwrap_err().to_string().contains("num_attention_heads"));
    Ok(())
}

#[test]
fn weights_of_a_deeper_model_are_refused() -> Result<()> {
    let one_layer = Config { num_hidden_layers: 1, ..config() };
    for prefix in ["", "bert."] {
        let tensors =
            generated().tensors()?.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect();
        let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let error = Bert::load(one_layer.clone(), weights).unwrap_err().to_string();
        let name = format!("{prefix}encoder.layer.1.attention.self.query.weight");
        assert!(error.contains(&format!("tensor {name}: expected 1 layers, there are more")), "{error}");
    }
    Ok(())
}

#[test]
fn files() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.safetensors");
    let w = generated();
    candle_core::safetensors::save(&w.tensors()?, &path)?;
    let json = r#"{"vocab_size": 23, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 20, "hidden_act": "gelu", "max_position_embeddings": 40, "type_vocab_size": 2,
        "layer_norm_eps": 1e-3, "position_embedding_type": "absolute", "model_type": "bert"}"#;
    std::fs::write(folder.path().join("config.json"), json)?;
    let bert = Bert::from_directory(folder.path())?;
    assert_eq!(*bert.config(), config());
    let (_, _, tokens) = texts()?;
    let exact = ScatterbrainAttention::exact();
    let of = |bert: &Bert| bert.embed(&tokens, &[31, 18], &exact)?.to_vec2::<f32>();
    assert_eq!(of(&bert)?, of(&load(&w)?)?);

    let bytes = std::fs::read(&path)?;
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for length in [0, 7, 8, 100, header - 1, header, header + 1, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length])?;
        let error = weights::safetensors(&path).map(drop).expect_err("a part of a file").to_string();
        assert!(error.contains("model.safetensors"), "{length}: {error}");
        if length >= header {
            assert!(w.0.keys().any(|name| error.contains(&format!("{name}: ends at"))), "{length}: {error}");
        }
    }
    // What contradicts itself, is no float or no number is named.
    let tensors = |value: &Tensor| -> Result<_> {
        let mut tensors = w.tensors()?;
        tensors.insert("encoder.layer.1.output.dense.bias".to_owned(), value.clone());
        Ok(tensors)
    };
    let not_a_number = Tensor::new(&[0f32, 1.0, f32::NAN, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &Device::Cpu)?;
    for (value, what) in [
        (Tensor::zeros(12, DType::U32, &Device::Cpu)?, "expected floats, got u32"),
        (not_a_number, "entry 2 is NaN"),
        (Tensor::zeros(11, DType::F16, &Device::Cpu)?, "expected shape [12], got [11]"),
    ] {
        candle_core::safetensors::save(&tensors(&value)?, &path)?;
        let error = Bert::from_directory(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("tensor encoder.layer.1.output.dense.bias: {what}")), "{error}");
    }
    let name = "embeddings.word_embeddings.weight";
    let header = String::from_utf8_lossy(&bytes[8..header]).into_owned();
    let other = header.replace("[23,12]", "[23,11]");
    assert_ne!(header, other);
    std::fs::write(&path, [&bytes[..8], other.as_bytes(), &bytes[8 + header.len()..]].concat())?;
    let error = weights::safetensors(&path).map(drop).unwrap_err().to_string();
    assert!(error.contains(&format!("{name}: bytes")) && error.contains("shape [23, 11] in F32"), "{error}");

    let relative = json.replace("absolute", "relative_key");
    std::fs::write(folder.path().join("config.json"), relative)?;
    let error = Bert::from_directory(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("relative_key"), "{error}");
    Ok(())
}
