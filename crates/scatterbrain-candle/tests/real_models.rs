//! The models with their published weights, where the folder `$SCATTERBRAIN_CACHE` holds them (`minilm`, `smollm2`, and
//! the text in `wikitext`).

use candle_core::{Device, Error, Result, Tensor};
use scatterbrain_candle::bert::Bert;
use scatterbrain_candle::llama::Llama;
use scatterbrain_candle::tokenizer::Tokenizer;
use scatterbrain_candle::{Budget, Preset, ScatterbrainAttention, Seed, Tally};
use std::path::PathBuf;

/// What the cache holds under a name.
#[allow(clippy::print_stdout, reason = "a test that did not run must say so")]
fn cached(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("SCATTERBRAIN_CACHE").map(|folder| PathBuf::from(folder).join(name));
    let path = path.filter(|path| path.exists());
    if path.is_none() {
        println!("skipped: $SCATTERBRAIN_CACHE/{name} is not there");
    }
    path
}

fn smollm2() -> Option<Result<(Llama, Tokenizer)>> {
    let folder = cached("smollm2")?;
    let load = || {
        let mut files = std::fs::read_dir(&folder)?.collect::<std::io::Result<Vec<_>>>()?.into_iter();
        let file = files.find(|file| file.path().extension().is_some_and(|e| e == "gguf"));
        let file = file.ok_or_else(|| Error::msg("no GGUF file"))?;
        let (llama, content) = Llama::from_file(&file.path())?;
        Ok((llama, Tokenizer::from_gguf(&content)?))
    };
    Some(load())
}

fn perplexity(logs: &[f64]) -> f64 {
    (-logs.iter().sum::<f64>() / logs.len() as f64).exp()
}

#[test]
fn smollm2_has_its_perplexity() -> Result<()> {
    let (Some(model), Some(text)) = (smollm2(), cached("wikitext")) else { return Ok(()) };
    let (llama, tokenizer) = model?;
    // Some copies end their lines as Windows does; the reference was made without.
    let text = std::fs::read_to_string(text.join("wiki.test.raw"))?.replace("\r\n", "\n");
    let tokens = tokenizer.encode(&text, false)?;
    // As transformers' tokenizer of this model counts them.
    assert_eq!(tokens.len(), 301_948);
    let exact = ScatterbrainAttention::exact();
    let logs = llama.log_likelihoods(&tokens[..512], &exact)?;
    // Reference: the dequantised weights in transformers.
    assert!((perplexity(&logs) - 20.31).abs() < 0.005, "{}", perplexity(&logs));
    let scan = ScatterbrainAttention::preset(Preset::ScatterbrainScan, Budget::Units(64), Seed(0))?;
    let tally = Tally::new(&scan);
    let swapped = perplexity(&llama.log_likelihoods(&tokens[..512], &tally)?);
    assert!((swapped / perplexity(&logs) - 1.0).abs() < 0.01, "{swapped}");
    assert_eq!(tally.sites().len(), llama.sites().len());
    Ok(())
}

#[test]
fn minilm_embeds_as_sentence_transformers() -> Result<()> {
    let Some(folder) = cached("minilm") else { return Ok(()) };
    let bert = Bert::from_directory(&folder)?;
    let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json"))?;
    let texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."];
    let tokens = texts.map(|text| tokenizer.encode(text, true));
    let tokens: Vec<Vec<u32>> = tokens.into_iter().collect::<Result<_>>()?;
    let lengths: Vec<usize> = tokens.iter().map(Vec::len).collect();
    let n = lengths.iter().copied().max().unwrap();
    let padded = tokens.iter().flat_map(|t| t.iter().copied().chain([0; 64]).take(n)).collect();
    let padded = Tensor::from_vec(padded, (3, n), &Device::Cpu)?;
    let embeddings = bert.embed(&padded, &lengths, &ScatterbrainAttention::exact())?;
    let similarities = embeddings.matmul(&embeddings.t()?)?.to_vec2::<f32>()?;
    // Printed in the documentation of sentence-transformers (quickstart), to four digits.
    let printed = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]];
    for (row, printed) in similarities.iter().zip(printed) {
        assert!(row.iter().zip(printed).all(|(x, y)| (x - y).abs() < 1e-4), "{similarities:?}");
    }
    Ok(())
}

/// A long text with and without truncation: the file of the tokenizer asks for 128 tokens, padded.
#[test]
fn minilm_takes_long_texts() -> Result<()> {
    let Some(folder) = cached("minilm") else { return Ok(()) };
    let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json"))?;
    let text = "attention ".repeat(700);
    assert_eq!(tokenizer.encode(&text, true)?.len(), 702);
    assert_eq!(tokenizer.encode("attention", true)?.len(), 3);
    let limited = tokenizer.limited(512)?;
    let tokens = limited.encode(&text, true)?;
    assert_eq!((tokens.len(), tokens[0], tokens[511]), (512, 101, 102));
    Ok(())
}

#[test]
fn smollm2_answers() -> Result<()> {
    let Some(model) = smollm2() else { return Ok(()) };
    let (llama, tokenizer) = model?;
    let prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n";
    let prompt = tokenizer.encode(prompt, false)?;
    // The marks are tokens of their own.
    assert_eq!(prompt[0], 1);
    let end = prompt[prompt.iter().position(|&t| t == 2).unwrap()];
    let answer = llama.generate(&prompt, 30, Some(end), &ScatterbrainAttention::exact())?;
    let answer = tokenizer.decode(&answer)?;
    assert!(answer.contains("Paris"), "{answer}");
    Ok(())
}
