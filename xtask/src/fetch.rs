//! `cargo xtask fetch`: models and data sets, from copies at hand or from where they are published, checked and unpacked.

#[path = "../../crates/scatterbrain-candle/src/cache.rs"]
// xtask does not build candle for the sake of one path.
pub mod cache;
mod digest;
pub mod download;
mod obtain;
pub mod sources;
mod unpack;

use crate::table::Table;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use obtain::Places;
use sources::{DATA_SETS, DataSet};
use std::fs;
use std::path::{Path, PathBuf};

/// `cargo xtask fetch`.
#[derive(Debug, clap::Args)]
pub struct FetchOptions {
    /// What to fetch; `--list` names all
    #[arg(value_name = "NAME", required_unless_present_any = ["all", "list"])]
    names: Vec<String>,

    /// Everything
    #[arg(long, conflicts_with = "names")]
    all: bool,

    /// Print names, sizes, licences and whether they are here, and fetch nothing
    #[arg(long, conflicts_with_all = ["names", "all"])]
    list: bool,

    /// A folder of copies to look in before anything is downloaded, repeatable. `../shared/data` beside the workspace is
    /// looked at as well, where it exists
    #[arg(long, value_name = "DIR")]
    from: Vec<PathBuf>,
}

/// Fetches what is asked for and not there, and says where it is and under which licence.
///
/// # Errors
/// An unknown name, or one that could not be fetched; the others are fetched nevertheless.
pub fn run(options: &FetchOptions) -> Result<()> {
    let cache = cache::folder()?;
    if options.list {
        print!("{}", list(&cache));
        return Ok(());
    }
    let wanted = wanted(options)?;
    for folder in &options.from {
        ensure!(folder.is_dir(), "--from: expected a folder, {} is none", folder.display());
    }
    let mut copies = options.from.clone();
    copies.extend(workspace::root()?.parent().map(|beside| beside.join("shared").join("data")));
    let mut failed = 0;
    for set in wanted {
        match fetch(set, &cache, &copies) {
            Ok(folder) => println!("{}: {}\n  {}\n  licence: {}", set.name, folder.display(), set.what, set.licence),
            Err(error) => {
                failed += 1;
                eprintln!("{}: {error:#}", set.name);
            }
        }
    }
    ensure!(failed == 0, "{failed} could not be fetched");
    Ok(())
}

fn wanted(options: &FetchOptions) -> Result<Vec<&'static DataSet>> {
    if options.all {
        return Ok(DATA_SETS.iter().collect());
    }
    let find = |name: &String| {
        DATA_SETS.iter().find(|set| set.name == name).with_context(|| {
            let names: Vec<&str> = DATA_SETS.iter().map(|set| set.name).collect();
            format!("no {name:?} to fetch, only {}", names.join(", "))
        })
    };
    options.names.iter().map(find).collect()
}

/// Makes `cache/NAME` complete, from the first folder of copies that has all files of a recipe, or else from where they are
/// published. What was downloaded or unpacked in part before is gone on with.
///
/// # Errors
/// Nothing has it, a file is not what it should be, or a folder that cannot be written.
pub fn fetch(set: &DataSet, cache: &Path, copies: &[PathBuf]) -> Result<PathBuf> {
    let folder = cache.join(set.name);
    if folder.join(cache::COMPLETE).is_file() {
        return Ok(folder);
    }
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}: set {}", cache.display(), cache::VARIABLE))?;
    let places = Places { copies, downloads: &cache.join("downloads") };
    let files = places.obtain(set)?;
    // Unpacked beside its place and renamed, so that what stands there is whole.
    let beside = cache.join(format!("{}.unpacking", set.name));
    for old in [&beside, &folder] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    fs::create_dir_all(&beside)?;
    for file in &files {
        unpack::unpack(&file.path, file.item, &beside).with_context(|| file.path.display().to_string())?;
    }
    if fs::read_dir(&beside)?.next().is_none() {
        bail!("nothing in {}", files.iter().map(|file| file.item.file).collect::<Vec<_>>().join(", "));
    }
    fs::write(beside.join(cache::COMPLETE), format!("{}\nlicence: {}\n", set.what, set.licence))?;
    fs::rename(&beside, &folder)?;
    for file in files.iter().filter(|file| file.path.starts_with(places.downloads)) {
        fs::remove_file(&file.path)?;
    }
    Ok(folder)
}

fn list(cache: &Path) -> String {
    let head = ["name", "what", "licence", "MB", "here"].map(String::from);
    let mut table = Table::new(3, head.to_vec());
    for set in DATA_SETS {
        let bytes: u64 = set.recipes.last().into_iter().flat_map(|recipe| recipe.iter()).map(|item| item.bytes).sum();
        let here = if cache.join(set.name).join(cache::COMPLETE).is_file() { "yes" } else { "–" };
        let megabytes = format!("{:.1}", bytes as f64 / 1e6);
        table.line(vec![set.name.into(), set.what.into(), set.licence.into(), megabytes, here.into()]);
    }
    format!("{}in {} ({} moves it)\n", table.render(), cache.display(), cache::VARIABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_that_are_nowhere_are_not_passed_over() {
        let from = vec![PathBuf::from("nowhere")];
        let options = FetchOptions { names: vec!["stsb".to_owned()], all: false, list: false, from };
        assert_eq!(run(&options).unwrap_err().to_string(), "--from: expected a folder, nowhere is none");
    }
}
