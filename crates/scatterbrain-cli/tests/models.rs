//! A slice of each evaluation on the real models, where `cargo xtask fetch` has put them into the cache.
#![cfg(feature = "models")]

use serde_json::Value;
use std::process::Command;

/// The evaluation, or nothing where the cache lacks something.
fn eval(arguments: &[&str]) -> Option<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scatterbrain"));
    let out = command.args(["eval", "--json"]).args(arguments).output().expect("the program starts");
    let complaint = String::from_utf8_lossy(&out.stderr);
    if complaint.contains("cargo xtask fetch") {
        eprintln!("left out: {complaint}");
        return None;
    }
    assert_eq!(out.status.code(), Some(0), "{arguments:?}: {complaint}");
    Some(serde_json::from_slice(&out.stdout).expect("one JSON value"))
}

fn measure(evaluation: &Value, method: &str, at: usize) -> f64 {
    let results = evaluation["results"].as_array().expect("results");
    let result = results.iter().find(|result| result["method"] == method).expect("the method");
    result["measures"][at]["value"].as_f64().expect("a number")
}

#[test]
fn perplexity_of_smollm2() {
    let arguments = ["smollm2", "--task", "wikitext", "--length", "512", "--limit", "1", "--method", "auto"];
    let Some(evaluation) = eval(&[&arguments[..], &["--max-error", "0.05"]].concat()) else { return };
    let exact = measure(&evaluation, "exact", 0);
    // What another program found with exact attention on the first 512 tokens.
    assert!((exact / 20.31 - 1.0).abs() < 0.01, "{exact}");
    let auto = measure(&evaluation, "auto", 0);
    assert!((auto / exact - 1.0).abs() < 0.05, "{auto} {exact}");
}

#[test]
fn short_sentences_of_minilm_do_not_change() {
    let Some(evaluation) = eval(&["minilm", "--task", "stsb", "--limit", "100"]) else { return };
    assert_eq!(measure(&evaluation, "auto", 1), 0.0);
    assert_eq!(measure(&evaluation, "auto", 0), measure(&evaluation, "exact", 0));
    // 0.934 on the first hundred pairs, by this program.
    assert!(measure(&evaluation, "exact", 0) > 0.75);
}

/// The first of the cached reviews: on all thousand the probe takes minutes of a build that is not optimised.
fn some_reviews(train: usize, test: usize) -> Option<tempfile::TempDir> {
    let all = scatterbrain_candle::cache::fetched("imdb").ok()?;
    let some = tempfile::tempdir().expect("a folder");
    for (part, count) in [("train", train), ("test", test)] {
        let file = format!("imdb-long-{part}.tsv");
        let text = std::fs::read_to_string(all.join(&file)).ok()?;
        let first: String = text.split_inclusive('\n').take(count).collect();
        std::fs::write(some.path().join(file), first).expect("a file");
    }
    Some(some)
}

#[test]
fn sentiment_of_long_reviews() {
    let Some(reviews) = some_reviews(400, 40) else {
        eprintln!("left out: no cached reviews");
        return;
    };
    let data = reviews.path().to_str().expect("a path");
    let arguments = ["minilm", "--task", "imdb", "--data", data, "--threads", "2", "--method", "auto"];
    let Some(evaluation) = eval(&arguments) else { return };
    let [exact, auto] = ["exact", "auto"].map(|method| measure(&evaluation, method, 0));
    // By this program and a probe of these 400 reviews: 72.5 %.
    assert!(exact >= 0.65 && (auto - exact).abs() <= 0.05, "{evaluation}");
    assert!(measure(&evaluation, "auto", 1) >= 0.99, "{evaluation}");
}

#[test]
fn text_of_smollm2_after_an_approximate_prefill() {
    let arguments = ["smollm2", "--task", "generate", "--length", "512", "--limit", "1", "--method", "auto"];
    let Some(evaluation) = eval(&[&arguments[..], &["--budget", "10%"]].concat()) else { return };
    assert_eq!(measure(&evaluation, "exact", 0), 1.0);
    // Once two tokens are nearly as likely, texts part.
    assert!(measure(&evaluation, "auto", 1) >= 8.0, "{evaluation}");
}

#[test]
fn saliency_by_the_vit() {
    let arguments = ["vit", "--length", "257", "--limit", "2", "--method", "auto", "--budget", "10%"];
    let Some(evaluation) = eval(&arguments) else { return };
    assert!(measure(&evaluation, "auto", 0) >= 0.99, "{evaluation}");
    assert!(measure(&evaluation, "auto", 1) >= 0.98, "{evaluation}");
}

#[test]
fn prompts_by_whisper() {
    let arguments = ["whisper-tiny", "--limit", "3", "--method", "auto", "--max-error", "0.05"];
    let Some(evaluation) = eval(&arguments) else { return };
    // Few words: one wrong is some per cent.
    assert!(measure(&evaluation, "auto", 0) <= measure(&evaluation, "exact", 0) + 0.2, "{evaluation}");
}

#[test]
fn clothes_by_the_t2t_vit() {
    let Some(evaluation) = eval(&["t2t-fashion", "--limit", "100", "--method", "auto"]) else { return };
    let [exact, auto] = ["exact", "auto"].map(|method| measure(&evaluation, method, 0));
    assert!(exact >= 0.75 && (auto - exact).abs() <= 0.03, "{evaluation}");
}
