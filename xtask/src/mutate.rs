//! `cargo xtask mutate`: plants known faults one at a time, in a copy; the tests must see each.

mod faults;

use crate::workspace;
use anyhow::{Context, Result, ensure};
use faults::{FAULTS, Fault};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Random cases of each property test: a fault worth its name shows at once.
const CASES: &str = "100";

/// Plants all faults, or the one called `only`, and prints what the tests say.
///
/// # Errors
/// A fault that stays unseen, does not build, or whose text is not found once; tests that fail without any.
pub fn run(only: Option<&str>) -> Result<()> {
    let root = workspace::root()?;
    let chosen: Vec<&Fault> = FAULTS.iter().filter(|f| only.is_none_or(|o| o == f.name)).collect();
    ensure!(!chosen.is_empty(), "no fault of that name");
    let below = |name| root.join("target").join(name);
    let copy = Copy { target: below("mutate-builds"), folder: below("mutate") };
    copy.refresh(&root)?;
    chosen.iter().try_for_each(|f| f.planted(&copy).map(drop))?;
    for package in chosen.iter().map(|f| f.package).collect::<BTreeSet<_>>() {
        ensure!(copy.builds(package)? && copy.passes(package)?, "{package} fails without any fault");
        println!("green   {package} as it is");
    }
    let mut unseen = 0;
    for fault in chosen {
        let verdict = fault.try_on(&copy)?;
        println!("{verdict} {} ({})", fault.name, fault.package);
        unseen += usize::from(verdict != RED);
    }
    ensure!(unseen == 0, "{unseen} faults are not seen by the tests");
    Ok(())
}

const RED: &str = "red    ";
const GREEN: &str = "GREEN  ";
const BROKEN: &str = "BROKEN ";

impl Fault {
    /// The file with the fault in it.
    fn planted(&self, copy: &Copy) -> Result<String> {
        let text = fs::read_to_string(copy.folder.join(self.file)).with_context(|| self.file)?;
        let count = text.matches(self.find).count();
        ensure!(count == 1, "{}: {:?} stands {count} times in {}", self.name, self.find, self.file);
        Ok(text.replace(self.find, self.replace))
    }

    /// Plants the fault, tests, and takes it out again.
    fn try_on(&self, copy: &Copy) -> Result<&'static str> {
        let path = copy.folder.join(self.file);
        let (sound, planted) = (fs::read(&path)?, self.planted(copy)?);
        fs::write(&path, planted)?;
        let verdict = match copy.builds(self.package) {
            Ok(true) => copy.passes(self.package).map(|passes| if passes { GREEN } else { RED }),
            other => other.map(|_| BROKEN),
        };
        fs::write(&path, sound)?;
        verdict
    }
}

/// A copy of the workspace.
struct Copy {
    folder: PathBuf,
    /// Its own: cargo calls what it builds by a package's path in its workspace, so that in a common folder the copy's
    /// builds would pass for those of the original.
    target: PathBuf,
}

impl Copy {
    /// Brings the copy up to date. Files that did not change keep their times, so that little is built again.
    fn refresh(&self, root: &Path) -> Result<()> {
        let files: BTreeSet<PathBuf> = workspace::files(root)?.into_iter().collect();
        fs::create_dir_all(&self.folder)?;
        remove_others(&self.folder, &self.folder, &files)?;
        for file in &files {
            let (from, to) = (fs::read(root.join(file))?, self.folder.join(file));
            if fs::read(&to).ok().as_ref() != Some(&from) {
                fs::create_dir_all(to.parent().context("a file has a folder")?)?;
                fs::write(to, from)?;
            }
        }
        Ok(())
    }

    fn test(&self, package: &str) -> Command {
        let mut command = workspace::cargo(&self.folder);
        command.args(["test", "--quiet", "--lib", "--tests", "--package", package]);
        command.env("CARGO_TARGET_DIR", &self.target).env("PROPTEST_CASES", CASES);
        // Failing cases are expected here and not worth keeping.
        command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true").env("PROPTEST_MAX_SHRINK_ITERS", "0");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn builds(&self, package: &str) -> Result<bool> {
        Ok(self.test(package).arg("--no-run").status()?.success())
    }

    fn passes(&self, package: &str) -> Result<bool> {
        Ok(self.test(package).status()?.success())
    }
}

/// Removes files of the copy that the workspace no longer has.
fn remove_others(folder: &Path, base: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, base, files)?;
        } else if !files.contains(path.strip_prefix(base)?) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
