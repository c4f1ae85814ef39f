//! Rows that were computed before: a file a part, named after everything that it depends on.

use super::context::{Context, digest};
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::path::Path;

/// The name of a part's file: figure, settings (digests of captures among them) and program.
pub(super) fn key(number: u8, part: &impl Serialize, context: &Context) -> Result<String> {
    let part = serde_json::to_vec(&(context.program, part))?;
    Ok(format!("figure-{number}-{:016x}.json", digest(&part)))
}

/// The rows of a key: those kept, or those of `compute`, kept from now on.
pub(super) fn rows<R, F>(context: &Context, key: &str, compute: F) -> Result<Vec<R>>
where
    R: Serialize + DeserializeOwned,
    F: FnOnce() -> Result<Vec<R>>,
{
    let path = context.kept.join(key);
    // A file that cannot be read as rows is one that another version wrote.
    let kept = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(rows) = kept {
        return Ok(rows);
    }
    context.go_on()?;
    let rows = compute()?;
    context.go_on()?;
    replace(&path, &serde_json::to_vec(&rows)?)?;
    Ok(rows)
}

/// Writes a file as a whole: it is the old one or the new one at every moment.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file in a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let name = path.file_name().context("a file with a name")?.to_string_lossy();
    // Of this process alone, so that two runs at once do not write into each other's.
    let unfinished = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file = std::fs::File::create(&unfinished).with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept").join("a.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
