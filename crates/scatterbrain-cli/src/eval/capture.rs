//! `scatterbrain capture`: what a model's attention gets, as files that `compare` reads.

use super::inputs::AnyModel;
use super::options::CaptureOptions;
use crate::attend::write_whole;
use crate::measure::pool;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor};
use clap::ValueEnum;
use scatterbrain_candle::{Recorder, ScatterbrainAttention, Site};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Runs the model once and writes a file for each layer that is asked for.
///
/// # Errors
/// Layers that the model does not have, files that cannot be used or written.
pub(crate) fn run(options: &CaptureOptions) -> Result<()> {
    let parse = |name: &String| name.parse::<Site>().with_context(|| format!("layer {name:?}"));
    let wanted = options.layers.iter().map(parse).collect::<Result<Vec<_>>>()?;
    let model = AnyModel::load(options.model, &options.common)?;
    let several = wanted.len() != 1;
    let written: Mutex<Vec<Site>> = Mutex::default();
    let exact = ScatterbrainAttention::exact();
    let recorder = Recorder::new(&exact, |site, inputs| {
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = wanted.is_empty() || wanted.contains(&site);
        // A decoder comes by again with every token.
        if asked && !written.contains(&site) {
            let path = if several { named(&options.output, site) } else { options.output.clone() };
            let tensors = [("query", inputs.query), ("key", inputs.key), ("value", inputs.value)];
            let metadata = metadata(options, site, inputs.causal, inputs.scale);
            write(&path, tensors, metadata, options.f16).map_err(|e| candle_core::Error::msg(format!("{e:#}")))?;
            written.push(site);
        }
        Ok(())
    });
    pool(options.common.threads.into())?.install(|| model.run(std::slice::from_ref(&options.input), &recorder))?;
    let written = written.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(site) = wanted.iter().find(|site| !written.contains(site)) {
        let had: Vec<String> = written.iter().map(Site::to_string).collect();
        bail!("layer: the model did not attend at {site} (written: {})", had.join(", "));
    }
    let mut stdout = std::io::stdout().lock();
    for site in &written {
        let path = if several { named(&options.output, *site) } else { options.output.clone() };
        writeln!(stdout, "{site}: {}", path.display())?;
    }
    Ok(())
}

/// `out.safetensors` as `out.encoder.3.safetensors`.
fn named(path: &Path, site: Site) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}.{site}.{ending}"))
}

fn metadata(options: &CaptureOptions, site: Site, causal: bool, scale: f32) -> HashMap<String, String> {
    let model = options.model.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
    let entries = [
        ("model", model),
        ("layer", site.to_string()),
        ("input", options.input.file_name().unwrap_or_default().to_string_lossy().into_owned()),
        ("causal", causal.to_string()),
        ("scale", scale.to_string()),
    ];
    entries.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
}

fn write(
    path: &Path,
    tensors: [(&'static str, &Tensor); 3],
    metadata: HashMap<String, String>,
    half: bool,
) -> Result<()> {
    let stored = |(name, tensor): (&'static str, &Tensor)| -> Result<_> {
        let dtype = if half { DType::F16 } else { DType::F32 };
        Ok((name, tensor.to_dtype(dtype)?.contiguous()?))
    };
    let tensors = tensors.into_iter().map(stored).collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(tensors, Some(metadata))?;
    write_whole(path, &bytes).with_context(|| path.display().to_string())
}
