//! Whisper against plain loops, its published names, and the real model where the cache holds it.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use common::layers::{FullSupport, Mean, Weights, agree_flat, columns, gelu, layer_norm, linear, multi_head, plus};
use common::{Rows, numbers};
use scatterbrain_candle::whisper::ctranslate2::ModelFile;
use scatterbrain_candle::whisper::{Config, Transcriber, Whisper, audio};
use scatterbrain_candle::{Attend, ScatterbrainAttention};
use std::path::PathBuf;

fn small() -> Config {
    Config {
        mels: 5,
        width: 8,
        hidden: 12,
        heads: 2,
        encoder_layers: 2,
        decoder_layers: 2,
        audio_positions: 7,
        text_positions: 10,
        vocabulary: 11,
    }
}

/// Names and shapes of CTranslate2's converter.
fn shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (c, hidden) = (config.width, config.hidden);
    let mut shapes = Vec::new();
    let mut add = |name: String, shape: &[usize]| shapes.push((name, shape.to_vec()));
    add("encoder/conv1/weight".into(), &[c, config.mels, 3]);
    add("encoder/conv2/weight".into(), &[c, c, 3]);
    add("encoder/conv1/bias".into(), &[c]);
    add("encoder/conv2/bias".into(), &[c]);
    add("encoder/position_encodings/encodings".into(), &[config.audio_positions, c]);
    add("decoder/position_encodings/encodings".into(), &[config.text_positions, c]);
    add("decoder/embeddings/weight".into(), &[config.vocabulary, c]);
    for (stack, layers) in [("encoder", config.encoder_layers), ("decoder", config.decoder_layers)] {
        let mut norm = |name: String| {
            add(format!("{name}/gamma"), &[c]);
            add(format!("{name}/beta"), &[c]);
        };
        norm(format!("{stack}/layer_norm"));
        for i in 0..layers {
            norm(format!("{stack}/layer_{i}/self_attention/layer_norm"));
            norm(format!("{stack}/layer_{i}/ffn/layer_norm"));
            if stack == "decoder" {
                norm(format!("{stack}/layer_{i}/attention/layer_norm"));
            }
        }
        for i in 0..layers {
            let mut linear = |part: &str, out: usize, from: usize| {
                add(format!("{stack}/layer_{i}/{part}/weight"), &[out, from]);
                add(format!("{stack}/layer_{i}/{part}/bias"), &[out]);
            };
            linear("self_attention/linear_0", 3 * c, c);
            linear("self_attention/linear_1", c, c);
            linear("ffn/linear_0", hidden, c);
            linear("ffn/linear_1", c, hidden);
            if stack == "decoder" {
                linear("attention/linear_0", c, c);
                linear("attention/linear_1", 2 * c, c);
                linear("attention/linear_2", c, c);
            }
        }
    }
    shapes
}

/// The model by its definition, on one input.
struct Reference<'a> {
    config: Config,
    weights: &'a Weights,
}

impl Reference<'_> {
    fn affine(&self, x: &Rows, name: &str) -> Rows {
        let bias = self.weights.flat(&format!("{name}/bias"));
        linear(x, &self.weights.rows(&format!("{name}/weight")), Some(&bias))
    }

    fn norm(&self, x: &Rows, name: &str) -> Rows {
        let [gamma, beta] = ["gamma", "beta"].map(|part| self.weights.flat(&format!("{name}/layer_norm/{part}")));
        layer_norm(x, &gamma, &beta, 1e-5)
    }

    fn attention(&self, q: &Rows, k: &Rows, v: &Rows, causal: bool) -> Rows {
        let heads = self.config.heads;
        multi_head(q, k, v, heads, 1.0 / ((self.config.width / heads) as f64).sqrt(), causal)
    }

    fn self_attention(&self, x: &Rows, name: &str, causal: bool) -> Rows {
        let qkv = self.affine(&self.norm(x, name), &format!("{name}/linear_0"));
        let c = self.config.width;
        let [q, k, v] = [0, 1, 2].map(|i| columns(&qkv, i * c, (i + 1) * c));
        plus(x, &self.affine(&self.attention(&q, &k, &v, causal), &format!("{name}/linear_1")))
    }

    fn feed_forward(&self, x: &Rows, name: &str) -> Rows {
        let hidden = gelu(&self.affine(&self.norm(x, name), &format!("{name}/linear_0")));
        plus(x, &self.affine(&hidden, &format!("{name}/linear_1")))
    }

    /// Frames `[count][channels]` by a kernel of three, a zero before and after.
    fn convolution(&self, frames: &Rows, name: &str, stride: usize) -> Rows {
        let kernel = self.weights.flat(&format!("encoder/{name}/weight"));
        let bias = self.weights.flat(&format!("encoder/{name}/bias"));
        let channels = frames[0].len();
        let row = |centre: usize| {
            let entry = |out: usize| {
                let mut sum = bias[out];
                for k in 0..3 {
                    if let Some(frame) = (centre + k).checked_sub(1).and_then(|at| frames.get(at)) {
                        for (c, x) in frame.iter().enumerate() {
                            sum += x * kernel[(out * channels + c) * 3 + k];
                        }
                    }
                }
                sum
            };
            (0..bias.len()).map(entry).collect()
        };
        (0..frames.len()).step_by(stride).map(row).collect()
    }

    fn encode(&self, frames: &Rows) -> Rows {
        let x = gelu(&self.convolution(&gelu(&self.convolution(frames, "conv1", 1)), "conv2", 2));
        let positions = self.weights.rows("encoder/position_encodings/encodings");
        let mut x = plus(&x, &positions[..x.len()].to_vec());
        for i in 0..self.config.encoder_layers {
            x = self.self_attention(&x, &format!("encoder/layer_{i}/self_attention"), false);
            x = self.feed_forward(&x, &format!("encoder/layer_{i}/ffn"));
        }
        self.norm(&x, "encoder")
    }

    fn decode(&self, tokens: &[usize], memory: &Rows) -> Rows {
        let embeddings = self.weights.rows("decoder/embeddings/weight");
        let positions = self.weights.rows("decoder/position_encodings/encodings");
        let c = self.config.width;
        let x: Rows = tokens.iter().map(|&token| embeddings[token].clone()).collect();
        let mut x = plus(&x, &positions[..tokens.len()].to_vec());
        for i in 0..self.config.decoder_layers {
            let name = |part: &str| format!("decoder/layer_{i}/{part}");
            x = self.self_attention(&x, &name("self_attention"), true);
            let q = self.affine(&self.norm(&x, &name("attention")), &name("attention/linear_0"));
            let kv = self.affine(memory, &name("attention/linear_1"));
            let cross = self.attention(&q, &columns(&kv, 0, c), &columns(&kv, c, 2 * c), false);
            x = plus(&x, &self.affine(&cross, &name("attention/linear_2")));
            x = self.feed_forward(&x, &name("ffn"));
        }
        linear(&self.norm(&x, "decoder"), &embeddings, None)
    }
}

fn flat(rows: &Rows) -> Vec<f64> {
    rows.iter().flatten().copied().collect()
}

#[test]
fn forward_is_the_reference_and_the_cache_changes_nothing() -> Result<()> {
    let config = small();
    let weights = Weights::random(&shapes(&config))?;
    let model = Whisper::load(config, &weights.builder())?;
    let reference = Reference { config, weights: &weights };
    // An odd number of frames, in the order [mels, frames].
    let frames = numbers(5 * 13, 3);
    let by_frame: Rows = (0..13).map(|t| (0..5).map(|m| f64::from(frames[m * 13 + t])).collect()).collect();
    let frames = Tensor::from_vec(frames, (1, 5, 13), &Device::Cpu)?;
    let tokens = [7u32, 0, 3, 10, 3];
    let memory = reference.encode(&by_frame);
    let logits = flat(&reference.decode(&tokens.map(|t| t as usize), &memory));
    let exact = ScatterbrainAttention::exact();
    for attend in [&exact as &dyn Attend, &FullSupport] {
        let got = model.encode(&frames, attend)?;
        assert_eq!(got.dims(), [1, 7, 8]);
        agree_flat(&got, &flat(&memory), 1e-5, "memory");
        for pieces in [vec![5], vec![3, 1, 1], vec![1, 4]] {
            let mut state = model.start(&got)?;
            let (mut rows, mut at) = (Vec::new(), 0);
            for piece in pieces {
                let input = Tensor::new(&tokens[at..at + piece], &Device::Cpu)?.unsqueeze(0)?;
                rows.push(model.decode(&input, &mut state, attend)?);
                at += piece;
            }
            agree_flat(&Tensor::cat(&rows, 1)?, &logits, 1e-5, "logits");
        }
    }
    let mean = model.encode(&frames, &Mean)?.flatten_all()?.to_vec1::<f32>()?;
    let differs = mean.iter().zip(flat(&memory)).any(|(a, b)| (f64::from(*a) - b).abs() > 1e-3);
    assert!(differs, "attention does not matter");
    Ok(())
}

#[test]
fn errors_name_tensors_and_shapes() -> Result<()> {
    let config = small();
    let weights = Weights::random(&shapes(&config))?;
    weights.check_names(|weights| Whisper::load(config, &weights))?;
    let shallow = Config { decoder_layers: config.decoder_layers - 1, ..config };
    let error = Whisper::load(shallow, &weights.builder()).unwrap_err().to_string();
    let beyond = format!("tensor decoder/layer_{}/self_attention/linear_0/weight", shallow.decoder_layers);
    assert!(error.contains(&beyond) && error.contains("there are more"), "{error}");
    // What a file says of its layers, any of their tensors tells.
    let file = |missing: &str| {
        let mut tensors = weights.0.clone();
        tensors.insert("encoder/num_heads".to_owned(), Tensor::new(config.heads as i64, &Device::Cpu)?);
        tensors.remove(missing);
        Ok::<_, candle_core::Error>(ModelFile { specification: "WhisperSpec".to_owned(), revision: 3, tensors })
    };
    assert_eq!(file("")?.whisper_config()?, config);
    for stack in ["encoder", "decoder"] {
        for layer in 0..2 {
            let missing = format!("{stack}/layer_{layer}/self_attention/linear_0/weight");
            let file = file(&missing)?;
            let weights = VarBuilder::from_tensors(file.tensors.clone(), DType::F32, &Device::Cpu);
            let error = Whisper::load(file.whisper_config()?, &weights).unwrap_err().to_string();
            assert!(error.contains(&missing), "{missing}: {error}");
        }
    }
    let model = Whisper::load(config, &VarBuilder::zeros(DType::F32, &Device::Cpu))?;
    for shape in [(1, 4, 14), (1, 5, 15)] {
        let error = model.encode(&Tensor::zeros(shape, DType::F32, &Device::Cpu)?, &Mean).unwrap_err().to_string();
        assert!(error.contains("frames: expected [batch, 5, 1 to 14]"), "{error}");
    }
    let memory = Tensor::zeros((1, 7, 8), DType::F32, &Device::Cpu)?;
    let mut state = model.start(&memory)?;
    let tokens = |count: usize| Tensor::zeros((1, count), DType::U32, &Device::Cpu);
    model.decode(&tokens(9)?, &mut state, &Mean)?;
    let error = model.decode(&tokens(2)?, &mut state, &Mean).unwrap_err().to_string();
    assert!(error.contains("expected 1 to 1 after the 9 seen, got 2"), "{error}");
    assert!(model.start(&Tensor::zeros((1, 7, 6), DType::F32, &Device::Cpu)?).is_err());
    Ok(())
}

/// A prompt of Debian's `asterisk-core-sounds-en-wav`, where `cargo xtask fetch whisper-tiny sounds` puts it.
#[test]
fn the_real_model_understands_a_prompt() -> Result<()> {
    let cache = std::env::var_os("SCATTERBRAIN_CACHE").map(PathBuf::from).unwrap_or_default();
    let (folder, prompt) = (cache.join("whisper-tiny"), cache.join("sounds/asterisk/vm-intro.wav"));
    for file in [&folder.join("model.bin"), &prompt] {
        if !file.exists() {
            eprintln!("skipped: $SCATTERBRAIN_CACHE has no {}", file.display());
            return Ok(());
        }
    }
    let transcriber = Transcriber::open(&folder)?;
    assert_eq!(*transcriber.model().config(), Config::tiny_en());
    let samples = audio::read_wav(&prompt)?;
    let heard = transcriber.transcribe(&samples, &ScatterbrainAttention::exact())?;
    let words: Vec<String> = heard
        .text
        .split_whitespace()
        .map(|word| word.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase())
        .collect();
    eprintln!("{}", heard.text);
    let want = "please leave your message after the tone when done hang up or press the pound key";
    assert_eq!(words.join(" "), want);
    Ok(())
}
