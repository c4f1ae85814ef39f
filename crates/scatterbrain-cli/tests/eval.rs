//! `eval`, `plan --model` and `capture` on a small BERT of random weights, which takes no network and no cache.
#![cfg(feature = "models")]

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const HIDDEN: usize = 32;
const WORDS: usize = 40;

/// A folder with a model in `model` and film reviews in `data`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, data) = (folder.path().join("model"), folder.path().join("data"));
    fs::create_dir(&model).expect("a folder");
    fs::create_dir(&data).expect("a folder");
    write_model(&model);
    write_reviews(&data.join("imdb-long-train.tsv"), 12);
    write_reviews(&data.join("imdb-long-test.tsv"), 6);
    fs::write(data.join("sst2-test.tsv"), "w1 w2 w3\t1\nw7 w7\t0\nw9\t1\n").expect("a file");
    folder
}

/// Numbers in [−1, 1) that look random.
fn noise(count: usize, salt: usize) -> impl Iterator<Item = f32> {
    (0..count).map(move |i| {
        let x = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ (salt as u64) << 17);
        ((x ^ x >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

fn write_model(folder: &Path) {
    let config = json!({
        "vocab_size": WORDS, "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
    });
    fs::write(folder.join("config.json"), config.to_string()).expect("a file");
    let vocabulary: Value = (0..WORDS).map(|i| (format!("w{i}"), json!(i))).collect::<serde_json::Map<_, _>>().into();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).expect("a file");
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".into(), vec![WORDS, HIDDEN]),
        ("embeddings.position_embeddings.weight".into(), vec![512, HIDDEN]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, HIDDEN]),
        ("embeddings.LayerNorm.weight".into(), vec![HIDDEN]),
        ("embeddings.LayerNorm.bias".into(), vec![HIDDEN]),
    ];
    for layer in 0..2 {
        let mut linear = |name: &str, out: usize, columns: usize| {
            shapes.push((format!("encoder.layer.{layer}.{name}.weight"), vec![out, columns]));
            shapes.push((format!("encoder.layer.{layer}.{name}.bias"), vec![out]));
        };
        for name in ["query", "key", "value"] {
            linear(&format!("attention.self.{name}"), HIDDEN, HIDDEN);
        }
        linear("attention.output.dense", HIDDEN, HIDDEN);
        linear("intermediate.dense", 64, HIDDEN);
        linear("output.dense", HIDDEN, 64);
        for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
            for part in ["weight", "bias"] {
                shapes.push((format!("encoder.layer.{layer}.{name}.{part}"), vec![HIDDEN]));
            }
        }
    }
    write_safetensors(&folder.join("model.safetensors"), shapes);
}

/// Random weights; those of norms are one.
fn write_safetensors(path: &Path, shapes: Vec<(String, Vec<usize>)>) {
    let bytes: Vec<Vec<u8>> = shapes
        .iter()
        .enumerate()
        .map(|(salt, (name, shape))| {
            let norm = name.contains("Norm.weight");
            let values = noise(shape.iter().product(), salt + 1).map(|x| if norm { 1.0 } else { 0.4 * x });
            values.flat_map(f32::to_le_bytes).collect()
        })
        .collect();
    let views = shapes.into_iter().zip(&bytes).map(|((name, shape), bytes)| {
        (name, TensorView::new(Dtype::F32, shape, bytes).expect("as many bytes as numbers"))
    });
    fs::write(path, safetensors::serialize(views, None).expect("a file")).expect("a file");
}

/// Reviews of 330 words and more, the words of a good one from the first half of the vocabulary.
fn write_reviews(path: &Path, count: usize) {
    let review = |i: usize| {
        let from = if i % 2 == 1 { 0 } else { WORDS / 2 };
        let word = |x: f32| format!("w{}", from + ((x + 1.0) / 2.0 * (WORDS / 2) as f32) as usize);
        format!("{}\t{}\n", i % 2, noise(330 + i, i + 50).map(word).collect::<Vec<_>>().join(" "))
    };
    fs::write(path, (0..count).map(review).collect::<String>()).expect("a file");
}

fn program(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scatterbrain"));
    command.current_dir(folder.path()).env("SCATTERBRAIN_CACHE", folder.path().join("cache"));
    command.args(arguments).output().expect("the program starts")
}

fn stdout(out: &Output) -> String {
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout.clone()).expect("UTF-8")
}

const PLACES: [&str; 4] = ["--weights", "model", "--data", "data"];

fn eval(folder: &TempDir, arguments: &[&str]) -> Value {
    let all = [&["eval", "minilm", "--json"], &PLACES[..], arguments].concat();
    serde_json::from_str(&stdout(&program(folder, &all))).expect("one JSON value")
}

fn result<'a>(evaluation: &'a Value, method: &str) -> &'a Value {
    let results = evaluation["results"].as_array().expect("results");
    results.iter().find(|result| result["method"] == method).unwrap_or_else(|| panic!("no {method}"))
}

#[test]
fn every_method_on_the_same_inputs() {
    let folder = folder();
    let evaluation = eval(&folder, &[]);
    assert_eq!((&evaluation["task"], &evaluation["inputs"]), (&json!("imdb"), &json!(6)));
    assert_eq!(evaluation["lengths"], json!([330, 335]));
    let names: Vec<&str> =
        evaluation["results"].as_array().unwrap().iter().map(|result| result["method"].as_str().unwrap()).collect();
    let methods = ["local", "smyrf", "performer", "average", "scatterbrain-local", "scatterbrain-smyrf", "auto"];
    assert_eq!(names, [&["exact"], &methods[..]].concat());
    let exact = result(&evaluation, "exact");
    assert_eq!((exact["share"].as_f64(), exact["scan_share"].as_f64()), (Some(1.0), Some(0.0)));
    assert_eq!(exact["measures"][0]["value"], 1.0, "classes that differ by their words are told apart");
    assert_eq!(exact["measures"][1]["difference"], 0.0);
    for method in methods {
        let result = result(&evaluation, method);
        let share = result["share"].as_f64().unwrap();
        assert!(share > 0.0 && share <= 0.13, "{method}: {share}");
        let cosine = result["measures"][1]["value"].as_f64().unwrap();
        assert!(cosine < 1.0 && cosine > 0.3, "{method}: {cosine}");
        assert!(result["seconds"].as_f64() >= result["attention_seconds"].as_f64(), "{method}");
        assert!(result["extra_bytes"].as_u64() > Some(0), "{method}");
        assert_eq!(result["heads"], 6 * 2 * 2, "{method}");
    }
    // Nothing is left of the state that was kept under the cache.
    assert_eq!(fs::read_dir(folder.path().join("cache").join("eval")).unwrap().count(), 0);
}

#[test]
fn a_state_is_gone_on_from() {
    let folder = folder();
    let arguments = ["--method", "local,performer", "--resume", "state.jsonl"];
    let whole = eval(&folder, &arguments);
    let path = folder.path().join("state.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    // Heading, 12 to train on, 6 by 3 methods.
    assert_eq!(text.lines().count(), 1 + 12 + 18);
    // As a kill in the middle of a line leaves it.
    fs::write(&path, &text[..text.len() * 3 / 4]).unwrap();
    let resumed = eval(&folder, &arguments);
    for method in ["exact", "local", "performer"] {
        assert_eq!(result(&whole, method)["measures"], result(&resumed, method)["measures"], "{method}");
    }
    // More methods go on in the same file, another budget does not.
    eval(&folder, &["--method", "smyrf", "--resume", "state.jsonl"]);
    let other = [&["eval", "minilm", "--budget", "7"], &PLACES[..], &arguments].concat();
    let out = program(&folder, &other);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("state.jsonl: expected measurements of"));
}

#[test]
fn short_inputs_are_left_to_exact_attention() {
    let folder = folder();
    let evaluation = eval(&folder, &["--task", "sst2"]);
    let auto = result(&evaluation, "auto");
    assert_eq!((&auto["share"], &auto["fallback_heads"]), (&json!(1.0), &auto["heads"]));
    assert_eq!(auto["measures"][1]["value"], 0.0);
}

#[test]
fn a_plan_from_texts_is_kept_on_others() {
    let folder = folder();
    for (name, salt) in [("a.txt", 90), ("b.txt", 91)] {
        let words = noise(400, salt).map(|x| format!("w{}", ((x + 1.0) * 19.0) as usize)).collect::<Vec<_>>();
        fs::write(folder.path().join(name), words.join(" ")).unwrap();
    }
    let plan = ["plan", "--model", "minilm", "--weights", "model", "--calibrate", "a.txt", "b.txt"];
    let out = program(&folder, &[&plan[..], &["--budget", "40", "-o", "plan.json"]].concat());
    assert!(stdout(&out).contains("encoder.1"));
    let stored: Value = serde_json::from_slice(&fs::read(folder.path().join("plan.json")).unwrap()).unwrap();
    assert_eq!(stored["layers"].as_object().unwrap().keys().collect::<Vec<_>>(), ["encoder.0", "encoder.1"]);
    let evaluation = eval(&folder, &["--method", "auto", "--plan", "plan.json", "--limit", "2"]);
    let auto = result(&evaluation, "auto");
    assert_eq!(auto["planning_seconds"].as_f64().map(|s| s < 1e-3), Some(true));
    assert!(auto["share"].as_f64().unwrap() <= 0.13);
}

#[test]
fn a_capture_is_what_compare_reads() {
    let folder = folder();
    fs::write(folder.path().join("a.txt"), "w1 w2 w3 w4 w5 w6 w7").unwrap();
    let capture = ["capture", "minilm", "--weights", "model", "--input", "a.txt", "-o", "out.safetensors"];
    let all = stdout(&program(&folder, &capture));
    assert_eq!(all, "encoder.0: out.encoder.0.safetensors\nencoder.1: out.encoder.1.safetensors\n");
    stdout(&program(&folder, &[&capture[..], &["--layer", "encoder.1", "--f16"]].concat()));
    let compare = ["compare", "out.safetensors", "--json", "--method", "exact", "--repeat", "1"];
    let compared: Value = serde_json::from_str(&stdout(&program(&folder, &compare))).unwrap();
    let input = &compared["input"];
    assert_eq!((&input["heads"], &input["n"], &input["d"]), (&json!(2), &json!(7), &json!(16)));
    assert_eq!(input["causal"], false);
    assert!((input["scale"].as_f64().unwrap() - 0.25).abs() < 1e-7);
    let out = program(&folder, &[&capture[..], &["--layer", "encoder.2"]].concat());
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("did not attend at encoder.2"));
}

#[test]
fn auto_goes_on_with_the_plan_that_it_had() {
    let folder = folder();
    let arguments = ["--method", "auto", "--max-error", "0.2", "--resume", "state.jsonl"];
    let whole = eval(&folder, &arguments);
    let path = folder.path().join("state.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    // Heading, 12 to train on, the first input twice; plans of the next would differ.
    let kept: Vec<&str> = text.lines().take(1 + 12 + 2).collect();
    fs::write(&path, kept.join("\n") + "\n").unwrap();
    let resumed = eval(&folder, &arguments);
    let [whole, resumed] = [&whole, &resumed].map(|evaluation| result(evaluation, "auto"));
    assert_eq!((&whole["measures"], &whole["share"]), (&resumed["measures"], &resumed["share"]));
}

#[test]
fn other_data_of_the_same_name_begin_anew() {
    let folder = folder();
    let arguments = [&["eval", "minilm", "--task", "sst2", "--resume", "state.jsonl"], &PLACES[..]].concat();
    stdout(&program(&folder, &arguments));
    stdout(&program(&folder, &arguments));
    fs::write(folder.path().join("data").join("sst2-test.tsv"), "w4 w5 w6 w7\t1\n").unwrap();
    let out = program(&folder, &arguments);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("state.jsonl: expected measurements of"));
}

#[test]
fn files_may_be_named_themselves() {
    let folder = folder();
    let by_folder = eval(&folder, &["--task", "sst2"]);
    let places = ["--weights", "model/model.safetensors", "--data", "data/sst2-test.tsv"];
    let out = program(&folder, &[&["eval", "minilm", "--json", "--task", "sst2"], &places[..]].concat());
    let by_file: Value = serde_json::from_str(&stdout(&out)).unwrap();
    assert_eq!((&by_file["inputs"], &by_file["lengths"]), (&by_folder["inputs"], &by_folder["lengths"]));
}

#[test]
fn layers_that_a_plan_does_not_name_are_exact() {
    let folder = folder();
    fs::write(folder.path().join("a.txt"), noise(400, 90).map(|_| "w7").collect::<Vec<_>>().join(" ")).unwrap();
    let plan = ["plan", "--model", "minilm", "--weights", "model", "--calibrate", "a.txt", "--budget", "20"];
    let mut plan: Value = serde_json::from_str(&stdout(&program(&folder, &plan))).unwrap();
    let layers = plan["layers"].as_object_mut().unwrap();
    let first = layers.remove("encoder.0").unwrap();
    layers.remove("encoder.1").unwrap();
    for (name, share) in [("encoder.0", Some(0.5..0.6)), ("decoder.0", None), ("encoder.x", None)] {
        let mut plan = plan.clone();
        plan["layers"][name] = first.clone();
        fs::write(folder.path().join("plan.json"), plan.to_string()).unwrap();
        let arguments = ["--method", "auto", "--plan", "plan.json", "--limit", "2"];
        if let Some(share) = share {
            let found = result(&eval(&folder, &arguments), "auto")["share"].as_f64().unwrap();
            assert!(share.contains(&found), "{found}");
        } else {
            let out = program(&folder, &[&["eval", "minilm"], &PLACES[..], &arguments].concat());
            assert_eq!(out.status.code(), Some(1));
            assert!(String::from_utf8_lossy(&out.stderr).contains(name), "{out:?}");
        }
    }
}

/// A Llama of random weights whose tokens are letters and the space.
fn write_llama(path: &Path) {
    use candle_core::quantized::gguf_file::{Value, write};
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};
    let text = |text: &str| Value::String(text.to_owned());
    let tokens: Vec<Value> = ('a'..='z').chain(['Ġ']).map(|c| text(&c.to_string())).collect();
    let vocabulary = tokens.len();
    let metadata = [
        ("general.architecture", text("llama")),
        ("llama.block_count", Value::U32(1)),
        ("llama.context_length", Value::U32(512)),
        ("llama.embedding_length", Value::U32(16)),
        ("llama.feed_forward_length", Value::U32(16)),
        ("llama.attention.head_count", Value::U32(2)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("gpt-2")),
        ("tokenizer.ggml.tokens", Value::Array(tokens)),
        ("tokenizer.ggml.merges", Value::Array(Vec::new())),
    ];
    let matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    let mut shapes = vec![("token_embd".to_owned(), vec![vocabulary, 16]), ("output_norm".to_owned(), vec![16])];
    shapes.extend(matrices.map(|name| (format!("blk.0.{name}"), vec![16, 16])));
    shapes.extend(["attn_norm", "ffn_norm"].map(|name| (format!("blk.0.{name}"), vec![16])));
    let tensors: Vec<(String, QTensor)> = shapes
        .into_iter()
        .enumerate()
        .map(|(salt, (name, shape))| {
            let values: Vec<f32> = noise(shape.iter().product(), salt + 1).collect();
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor");
            (format!("{name}.weight"), QTensor::quantize(&tensor, GgmlDType::F32).expect("a tensor"))
        })
        .collect();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(name, value)| (*name, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write(&mut fs::File::create(path).expect("a file"), &metadata, &tensors).expect("a file");
}

#[test]
fn any_text_has_a_perplexity() {
    let folder = tempfile::tempdir().unwrap();
    write_llama(&folder.path().join("small.gguf"));
    fs::write(folder.path().join("book.txt"), "it was a dark and stormy night ".repeat(20)).unwrap();
    let arguments = ["eval", "smollm2", "--weights", "small.gguf", "--data", "book.txt", "--length", "200"];
    let out = program(&folder, &[&arguments[..], &["--json", "--method", "local"]].concat());
    let evaluation: Value = serde_json::from_str(&stdout(&out)).unwrap();
    assert_eq!((&evaluation["inputs"], &evaluation["lengths"]), (&json!(3), &json!([200, 200])));
    assert!(evaluation["description"].as_str().unwrap().contains("book.txt"), "{evaluation}");
    let out = program(&folder, &[&arguments[..7], &["512"]].concat());
    stdout(&program(&folder, &[&arguments[..7], &["400", "--task", "generate", "--method", "local"]].concat()));
    assert_eq!(out.status.code(), Some(0));
    fs::write(folder.path().join("book.txt"), "short").unwrap();
    let out = program(&folder, &arguments);
    assert!(String::from_utf8_lossy(&out.stderr).contains("expected 200 tokens, got 5: --length takes fewer"));
}

/// A T2T-ViT with the authors' names for photos of 32 pixels in two classes.
fn write_t2t(path: &Path) {
    let mut shapes: Vec<(String, Vec<usize>)> =
        vec![("cls_token".into(), vec![1, 1, 64]), ("pos_embed".into(), vec![1, 5, 64])];
    let mut add = |name: &str, shape: &[usize], bias: bool| {
        shapes.push((format!("{name}.weight"), shape.to_vec()));
        if bias {
            shapes.push((format!("{name}.bias"), shape[..1].to_vec()));
        }
    };
    let parts = [
        ("tokens_to_token.attention1", 147, 8, 8),
        ("tokens_to_token.attention2", 72, 8, 8),
        ("blocks.0", 64, 64, 128),
    ];
    for (name, columns, out, hidden) in parts {
        add(&format!("{name}.norm1"), &[columns], true);
        add(&format!("{name}.attn.qkv"), &[3 * out, columns], false);
        add(&format!("{name}.attn.proj"), &[out, out], true);
        add(&format!("{name}.norm2"), &[out], true);
        add(&format!("{name}.mlp.fc1"), &[hidden, out], true);
        add(&format!("{name}.mlp.fc2"), &[out, hidden], true);
    }
    add("tokens_to_token.project", &[64, 72], true);
    add("norm", &[64], true);
    add("head", &[2, 64], true);
    write_safetensors(path, shapes);
}

/// Two by two pixels.
const PHOTO: &[u8] = &[
    137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 2, 0, 0, 0, 2, 8, 2, 0, 0, 0, 253, 212, 154,
    115, 0, 0, 0, 18, 73, 68, 65, 84, 120, 156, 99, 248, 207, 192, 192, 0, 194, 12, 255, 129, 0, 0, 31, 238, 5, 251,
    11, 217, 104, 139, 0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96, 130,
];

/// A model of DINOv2's names without a head, for patches of 7 pixels.
fn write_vit(path: &Path) {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.cls_token".into(), vec![1, 1, 64]),
        ("embeddings.position_embeddings".into(), vec![1, 5, 64]),
        ("embeddings.patch_embeddings.projection.weight".into(), vec![64, 3, 7, 7]),
        ("embeddings.patch_embeddings.projection.bias".into(), vec![64]),
        ("encoder.layer.0.layer_scale1.lambda1".into(), vec![64]),
        ("encoder.layer.0.layer_scale2.lambda1".into(), vec![64]),
    ];
    let mut add = |name: &str, shape: &[usize]| {
        shapes.push((format!("{name}.weight"), shape.to_vec()));
        shapes.push((format!("{name}.bias"), shape[..1].to_vec()));
    };
    for name in ["attention.query", "attention.key", "attention.value", "output.dense"] {
        add(&format!("encoder.layer.0.attention.{name}"), &[64, 64]);
    }
    add("encoder.layer.0.mlp.fc1", &[80, 64]);
    add("encoder.layer.0.mlp.fc2", &[64, 80]);
    for name in ["encoder.layer.0.norm1", "encoder.layer.0.norm2", "layernorm"] {
        add(name, &[64]);
    }
    write_safetensors(path, shapes);
}

#[test]
fn a_vit_of_another_size_has_features() {
    let folder = tempfile::tempdir().unwrap();
    write_vit(&folder.path().join("vit.safetensors"));
    fs::write(folder.path().join("A.PNG"), PHOTO).unwrap();
    let arguments = ["eval", "vit", "--weights", "vit.safetensors", "--length", "101", "--json", "--method", "local"];
    for data in [".", "A.PNG"] {
        let out = program(&folder, &[&arguments[..], &["--data", data]].concat());
        let evaluation: Value = serde_json::from_str(&stdout(&out)).unwrap();
        assert_eq!((&evaluation["inputs"], &evaluation["lengths"]), (&json!(1), &json!([101, 101])));
        let local = result(&evaluation, "local");
        assert_eq!((local["measures"].as_array().unwrap().len(), &local["measures"][0]["name"]), (1, &json!("cosine")));
        let cosine = local["measures"][0]["value"].as_f64().unwrap();
        assert!(cosine < 1.0 && cosine > 0.3, "{cosine}");
    }
}

#[test]
fn photos_in_class_folders() {
    let folder = tempfile::tempdir().unwrap();
    write_t2t(&folder.path().join("t2t.safetensors"));
    for (class, photos) in [("n01", 3), ("n02", 2)] {
        fs::create_dir_all(folder.path().join("val").join(class)).unwrap();
        for i in 0..photos {
            fs::write(folder.path().join("val").join(class).join(format!("{i}.JPEG")), PHOTO).unwrap();
        }
    }
    let places = ["--weights", "t2t.safetensors", "--data", "val"];
    let all = [&["eval", "t2t-imagenet", "--json", "--method", "local"], &places[..]].concat();
    let evaluation: Value = serde_json::from_str(&stdout(&program(&folder, &all))).unwrap();
    assert_eq!((&evaluation["inputs"], &evaluation["lengths"]), (&json!(5), &json!([64, 64])));
    // All photos are alike: one of the two classes is right throughout.
    let top_1 = result(&evaluation, "exact")["measures"][0]["value"].as_f64().unwrap();
    assert!([0.4, 0.6].iter().any(|right| (top_1 - right).abs() < 1e-12), "{top_1}");
    // Two stages of one head, five photos.
    assert_eq!(result(&evaluation, "local")["heads"], 10);
    // The first two are of both classes.
    let two: Value = serde_json::from_str(&stdout(&program(&folder, &[&all[..], &["--limit", "2"]].concat()))).unwrap();
    assert_eq!(result(&two, "exact")["measures"][0]["value"], 0.5);
    let capture =
        ["capture", "t2t-imagenet", "--weights", "t2t.safetensors", "--input", "val/n01/0.JPEG", "-o", "c.safetensors"];
    assert_eq!(stdout(&program(&folder, &capture)).lines().count(), 3);
    fs::remove_dir_all(folder.path().join("val").join("n02")).unwrap();
    for (arguments, needle) in [
        (&all[..], "val: expected 2 folders, one a class, got 1"),
        (&all[..7], "--data: expected a folder"),
        (&["eval", "t2t-imagenet", "--data", "val"], "README"),
    ] {
        let out = program(&folder, arguments);
        assert_eq!(out.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains(needle), "{needle}: {out:?}");
    }
}

#[test]
fn refusals() {
    let folder = folder();
    for (arguments, needle) in [
        (vec!["eval", "minilm"], "run `cargo xtask fetch minilm`"),
        (vec!["eval", "minilm", "--task", "wer"], "task: expected imdb, stsb, sst2"),
        (vec!["eval", "minilm", "--weights", "model", "--data", "nowhere"], "nowhere"),
        (vec!["eval", "smollm2", "--weights", "model/config.json"], "config.json"),
        (vec!["capture", "minilm", "--input", "a.txt", "-o", "x", "--layer", "3"], "layer \"3\""),
    ] {
        let out = program(&folder, &arguments);
        let line = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{arguments:?}: {line}");
        assert!(line.contains(needle) && line.lines().count() == 1, "{arguments:?}: {line}");
    }
    for arguments in [vec!["eval"], vec!["eval", "bert"], vec!["eval", "vit", "--budget", "0%"]] {
        assert_eq!(program(&folder, &arguments).status.code(), Some(2), "{arguments:?}");
    }
}
