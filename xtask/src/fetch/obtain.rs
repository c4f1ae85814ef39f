//! The files of a data set: copies at hand, and else the way each is published.

use super::cache::VARIABLE;
use super::digest;
use super::download::{Wanted, download};
use super::sources::{DataSet, From, Item};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where files may be.
pub(super) struct Places<'a> {
    /// Folders of copies, which are only read.
    pub(super) copies: &'a [PathBuf],
    /// Where downloads go.
    pub(super) downloads: &'a Path,
}

/// A file whose contents were checked.
pub(super) struct Obtained {
    pub(super) item: &'static Item,
    pub(super) path: PathBuf,
}

impl Places<'_> {
    /// All files of the first recipe that copies or earlier downloads have, or else of the first that can be downloaded.
    ///
    /// # Errors
    /// None can be had; the error says what to do.
    pub(super) fn obtain(&self, set: &DataSet) -> Result<Vec<Obtained>> {
        for recipe in set.recipes {
            let files: Option<Vec<Obtained>> = recipe.iter().map(|item| self.at_hand(item)).collect();
            if let Some(files) = files {
                return Ok(files);
            }
        }
        let mut complaints = Vec::new();
        for recipe in set.recipes {
            match recipe.iter().map(|item| self.one(item)).collect() {
                Ok(files) => return Ok(files),
                Err(error) => complaints.push(format!("{error:#}")),
            }
        }
        let files = |recipe: &&[Item]| recipe.iter().map(|item| item.file).collect::<Vec<_>>().join(", ");
        let choices: Vec<String> = set.recipes.iter().map(files).collect();
        bail!(
            "{}\nwithout a network, put {} into a folder and name it by --from, or let {VARIABLE} name a cache that has {}",
            complaints.join("; "),
            choices.join(", or "),
            set.name
        )
    }

    /// A copy, or what an earlier run has downloaded.
    fn at_hand(&self, item: &'static Item) -> Option<Obtained> {
        let folders = self.copies.iter().map(PathBuf::as_path).chain([self.downloads]);
        let paths = folders.map(|folder| folder.join(item.file)).filter(|path| path.is_file());
        let right = |path: &PathBuf| match digest::check(path, item.sha256) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("passed over: {error:#}");
                false
            }
        };
        paths.into_iter().find(right).map(|path| Obtained { item, path })
    }

    fn one(&self, item: &'static Item) -> Result<Obtained> {
        if let Some(found) = self.at_hand(item) {
            return Ok(found);
        }
        fs::create_dir_all(self.downloads)?;
        let path = match item.from {
            From::Copies => bail!("{}: no address is known", item.file),
            From::Pip(arguments) => self.pip(item, arguments)?,
            From::Apt(package) => return Ok(Obtained { item, path: self.apt(item, package)? }),
            From::Https(urls) => self.https(item, urls)?,
        };
        digest::check(&path, item.sha256)?;
        Ok(Obtained { item, path })
    }

    fn pip(&self, item: &Item, arguments: &[&str]) -> Result<PathBuf> {
        let python = if cfg!(windows) { "python" } else { "python3" };
        let mut command = Command::new(python);
        command.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"]);
        quiet(command.arg(self.downloads).args(arguments))?;
        let path = self.downloads.join(item.file);
        ensure!(path.is_file(), "pip brought no {}", item.file);
        Ok(path)
    }

    /// Another release of Debian has another version, which only apt has checked.
    fn apt(&self, item: &Item, package: &str) -> Result<PathBuf> {
        quiet(Command::new("apt-get").current_dir(self.downloads).args(["--quiet", "download", package]))?;
        let path = self.downloads.join(item.file);
        if path.is_file() {
            digest::check(&path, item.sha256)?;
            return Ok(path);
        }
        let ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
        };
        let entries = fs::read_dir(self.downloads)?.map(|entry| Ok(entry?.path()));
        let other = entries.collect::<Result<Vec<_>>>()?.into_iter().find(ours);
        let other = other.with_context(|| format!("apt-get brought no {}", item.file))?;
        eprintln!("not {} but {}, which apt alone has checked", item.file, other.display());
        Ok(other)
    }

    fn https(&self, item: &Item, urls: &[&str]) -> Result<PathBuf> {
        let path = self.downloads.join(item.file);
        let mut complaints = Vec::new();
        for url in urls {
            let wanted = Wanted { url, sha256: item.sha256, bytes: item.bytes };
            match download(&wanted, &path) {
                Ok(()) => return Ok(path),
                Err(error) => complaints.push(format!("{error:#}")),
            }
        }
        bail!("{}", complaints.join("; "))
    }
}

/// Runs a command whose output only matters where it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let result = command.output().with_context(|| format!("cannot run {shown}"))?;
    let complaint = String::from_utf8_lossy(&result.stderr);
    let last = complaint.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    ensure!(result.status.success(), "{shown} failed: {last}");
    Ok(())
}
