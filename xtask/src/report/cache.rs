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
    use crate::interrupt::Interrupt;
    use crate::report::captures::Captures;
    use crate::report::context::Interrupted;

    fn context(folder: &Path, interrupt: Interrupt) -> Context {
        let captures = Captures { sources: Vec::new(), origin: String::new() };
        Context::new(captures, true, folder, interrupt).unwrap()
    }

    #[test]
    fn what_is_kept_is_not_computed_again() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(folder.path(), Interrupt::default());
        let first = key(3, &("part", 1), &context).unwrap();
        assert_ne!(first, key(3, &("part", 2), &context).unwrap());
        assert_eq!(rows(&context, &first, || Ok(vec![1, 2])).unwrap(), [1, 2]);
        assert_eq!(rows(&context, &first, || -> Result<Vec<i32>> { panic!("computed again") }).unwrap(), [1, 2]);
        // Half a file, as another program may leave it.
        std::fs::write(context.kept.join(&first), "[1,").unwrap();
        assert_eq!(rows(&context, &first, || Ok(vec![3])).unwrap(), [3]);
    }

    #[test]
    fn what_was_interrupted_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let interrupt = Interrupt::default();
        let context = context(folder.path(), interrupt.clone());
        let key = key(3, &"part", &context).unwrap();
        let stopped = rows(&context, &key, || {
            interrupt.ask();
            Ok(vec![1])
        });
        assert!(stopped.unwrap_err().is::<Interrupted>());
        assert!(!context.kept.join(key).exists());
    }

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
