//! `scatterbrain attend`.

use crate::arguments::{AttendOptions, Choice};
use crate::input::{Input, Sizes};
use crate::library::{self, Seed};
use crate::measure::{Call, pool};
use crate::planning::Planning;
use anyhow::{Context, Result};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// Runs one method and writes what it answers.
///
/// # Errors
/// An input or an option that cannot be used, or an output that cannot be written; an old file is then as it was.
pub(crate) fn run(options: &AttendOptions) -> Result<()> {
    let input = Input::read(Some(&options.file), &options.common)?;
    let budget = options.common.budget(input.sizes.m)?;
    input.output_len()?;
    let call = Call::new(&input, options.simd.level(), true)?;
    let pool = pool(options.common.threads())?;
    let method = match options.method {
        Choice::Preset(preset) => preset.method(budget, input.sizes.d, Seed(options.common.seed))?,
        Choice::Auto => {
            let planning = Planning::new(&options.source, &options.common, &input)?;
            pool.install(|| planning.method(&call))?
        }
    };
    let attention = pool
        .install(|| library::attend(&call.query, &call.key, &call.value, &call.mask, &method, &call.options))
        .with_context(|| options.method.name())?;
    let log_sum_exp = attention.log_sum_exp.context("the library gave no log_sum_exp")?;
    let bytes = serialize(&attention.output, &log_sum_exp, &input.sizes, metadata(options, &input, budget))?;
    write_whole(&options.output, &bytes).with_context(|| options.output.display().to_string())
}

fn metadata(options: &AttendOptions, input: &Input, budget: usize) -> HashMap<String, String> {
    let entries = [
        ("method", options.method.name().to_string()),
        ("budget", budget.to_string()),
        ("seed", options.common.seed.to_string()),
        ("causal", input.causal.to_string()),
        ("scale", input.scale.to_string()),
    ];
    entries.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

fn serialize(output: &[f32], log_sum_exp: &[f32], sizes: &Sizes, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let Sizes { batch, heads, n, d_v, .. } = *sizes;
    let (output, log_sum_exp) = (little_endian(output), little_endian(log_sum_exp));
    let tensors = [
        ("output", TensorView::new(Dtype::F32, vec![batch, heads, n, d_v], &output)?),
        ("log_sum_exp", TensorView::new(Dtype::F32, vec![batch, heads, n], &log_sum_exp)?),
    ];
    Ok(safetensors::serialize(tensors, Some(metadata))?)
}

pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Writes beside the target and renames, so that the target is old or new but never half. A link is followed, an old
/// file keeps its mode, and what is no regular file (a pipe, a device) is written to as it stands.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let old = std::fs::metadata(path).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        std::fs::OpenOptions::new().write(true).open(path)?.write_all(bytes)?;
        return Ok(());
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any new file: the umask takes its share.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.prefix(".scatterbrain-").tempfile_in(folder).map_err(without_path)?;
    if let Some(old) = old {
        file.as_file().set_permissions(old.permissions())?;
    }
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// The temporary name means nothing to the user.
fn without_path(error: std::io::Error) -> std::io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), std::io::Error::from_raw_os_error)
}
