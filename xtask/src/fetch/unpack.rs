//! Archives to the files that are wanted of them.

use super::sources::{Item, Member, Unpack};
use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// Writes the members of `archive` into `folder`; what ends in `.gz` without that compression.
///
/// # Errors
/// An archive that is broken, or has none of a member's files.
pub(super) fn unpack(archive: &Path, item: &Item, folder: &Path) -> Result<()> {
    match item.unpack {
        Unpack::Keep => keep(archive, &folder.join(item.file)),
        Unpack::Zip(members) => zip(archive, members, folder),
        Unpack::TarGz(members) => tar(GzDecoder::new(File::open(archive)?), members, folder),
        Unpack::Deb(members) => deb(archive, members, folder),
    }
}

fn keep(file: &Path, target: &Path) -> Result<()> {
    fs::copy(file, target)?;
    Ok(())
}

fn zip(archive: &Path, members: &[Member], folder: &Path) -> Result<()> {
    let mut archive = zip::ZipArchive::new(File::open(archive)?)?;
    let mut found = Found::new(members);
    for at in 0..archive.len() {
        let mut file = archive.by_index(at)?;
        let name = file.name()?.into_owned();
        if let Some(target) = found.target(&name, file.is_file()) {
            write(&mut file, &name, &folder.join(target))?;
        }
    }
    found.all()
}

fn tar(archive: impl Read, members: &[Member], folder: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(archive);
    let mut found = Found::new(members);
    for file in archive.entries()? {
        let mut file = file?;
        let name = file.path()?.to_string_lossy().into_owned();
        if let Some(target) = found.target(&name, file.header().entry_type().is_file()) {
            write(&mut file, &name, &folder.join(target))?;
        }
    }
    found.all()
}

/// `dpkg-deb` knows the compressions of Debian's packages, and is wherever apt is.
fn deb(archive: &Path, members: &[Member], folder: &Path) -> Result<()> {
    let mut command = Command::new("dpkg-deb");
    let output = command.arg("--fsys-tarfile").arg(archive).output().context("cannot run dpkg-deb")?;
    ensure!(output.status.success(), "dpkg-deb: {}", String::from_utf8_lossy(&output.stderr).trim());
    tar(output.stdout.as_slice(), members, folder)
}

fn write(file: &mut impl Read, name: &str, target: &Path) -> Result<()> {
    let parent = target.parent().context("a member without a folder")?;
    fs::create_dir_all(parent)?;
    let result = match name.ends_with(".gz") {
        true => io::copy(&mut GzDecoder::new(file), &mut File::create(target.with_extension(""))?),
        false => io::copy(file, &mut File::create(target)?),
    };
    result.with_context(|| name.to_owned())?;
    Ok(())
}

/// Which members have had a file.
struct Found<'a> {
    members: &'a [Member],
    seen: Vec<bool>,
}

impl<'a> Found<'a> {
    fn new(members: &'a [Member]) -> Self {
        Self { members, seen: vec![false; members.len()] }
    }

    /// Where a file of the archive is to be written, if anywhere; never outside of the folder.
    fn target(&mut self, name: &str, is_file: bool) -> Option<PathBuf> {
        let name = name.strip_prefix("./").unwrap_or(name);
        let (at, rest) = self.members.iter().enumerate().find_map(|(at, member)| {
            let rest = name.strip_prefix(member.prefix)?;
            (member.only.is_empty() || member.only.contains(&rest)).then_some((at, rest))
        })?;
        let inside = Path::new(rest).components().all(|part| matches!(part, Component::Normal(_)));
        if !is_file || rest.is_empty() || !inside {
            return None;
        }
        self.seen[at] = true;
        Some(Path::new(self.members[at].into).join(rest))
    }

    fn all(&self) -> Result<()> {
        let missing: Vec<&str> =
            self.members.iter().zip(&self.seen).filter(|(_, seen)| !**seen).map(|(member, _)| member.prefix).collect();
        ensure!(missing.is_empty(), "the archive has no {}", missing.join(", "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_outside() {
        let members = [Member { prefix: "a/", into: "", only: &[] }];
        let mut found = Found::new(&members);
        for name in ["a/../../x", "a//etc/x", "b/x", "a/", "../a/x"] {
            assert_eq!(found.target(name, true), None, "{name}");
        }
        assert!(found.all().is_err());
        assert_eq!(found.target("a/folder", false), None);
        assert_eq!(found.target("./a/b/c.txt", true), Some("b/c.txt".into()));
        assert!(found.all().is_ok());
    }

    #[test]
    fn only_what_is_named() {
        let members = [Member { prefix: "a/", into: "photos", only: &["x.png"] }];
        let mut found = Found::new(&members);
        assert_eq!(found.target("a/y.png", true), None);
        assert_eq!(found.target("a/x.png", true), Some("photos/x.png".into()));
    }
}
