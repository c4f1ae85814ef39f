//! `cargo xtask tidy`: what the layout promises and a compiler does not check.

use crate::workspace;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The crate whose `arch` holds all `unsafe`.
const CORE: &str = "scatterbrain-core";
/// What each crate may name among its dependencies. A crate that is not here may name any that is.
const ARROWS: &[(&str, &[&str])] = &[
    (CORE, &[]),
    ("scatterbrain-theory", &[]),
    ("scatterbrain-oracle", &[]),
    ("scatterbrain-hash", &[CORE]),
    ("scatterbrain-features", &[CORE]),
    ("scatterbrain-blocks", &[CORE]),
    (
        "scatterbrain-combine",
        &[CORE, "scatterbrain-hash", "scatterbrain-features", "scatterbrain-blocks", "scatterbrain-theory"],
    ),
    (
        "scatterbrain-attention",
        &[
            CORE,
            "scatterbrain-hash",
            "scatterbrain-features",
            "scatterbrain-blocks",
            "scatterbrain-combine",
            "scatterbrain-theory",
        ],
    ),
    // Not in the list of any other: the program, the benches and these tasks name it.
    ("scatterbrain-candle", &["scatterbrain-attention"]),
];
/// What tests of a crate in [`ARROWS`] may name besides.
const JUDGES: &[&str] = &["scatterbrain-oracle", "scatterbrain-theory"];

/// Checks all of it and prints what is wrong.
///
/// # Errors
/// Something wrong.
pub fn run() -> Result<()> {
    let root = workspace::root()?;
    let members = members(&workspace::metadata(&root)?)?;
    let mut wrong: Vec<String> = members.iter().flat_map(|m| m.arrows(&members)).collect();
    wrong.extend(members.iter().flat_map(|m| m.unforbidden(&root)));
    for path in workspace::files(&root)? {
        if let Ok(text) = std::fs::read_to_string(root.join(&path)) {
            wrong.extend(unsafe_lines(&path, &text));
            wrong.extend(machine_paths(&path, &text));
        }
    }
    wrong.iter().for_each(|w| println!("{w}"));
    ensure!(wrong.is_empty(), "{} things are wrong", wrong.len());
    println!("tidy: {} crates", members.len());
    Ok(())
}

/// A workspace member, with its dependencies inside the workspace or not.
struct Member {
    name: String,
    /// Root files of its targets.
    roots: Vec<PathBuf>,
    /// (name, whether for tests alone).
    dependencies: Vec<(String, bool)>,
}

fn members(metadata: &Value) -> Result<Vec<Member>> {
    list(metadata, "packages")?.iter().map(member).collect()
}

fn member(package: &Value) -> Result<Member> {
    let dependency = |d: &Value| -> Result<_> { Ok((text(d, "name")?, d["kind"] == "dev")) };
    let root = |t: &Value| -> Result<_> { Ok(PathBuf::from(text(t, "src_path")?)) };
    Ok(Member {
        name: text(package, "name")?,
        roots: list(package, "targets")?.iter().map(root).collect::<Result<_>>()?,
        dependencies: list(package, "dependencies")?.iter().map(dependency).collect::<Result<_>>()?,
    })
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    value[name].as_array().with_context(|| format!("no {name}"))
}

fn text(value: &Value, name: &str) -> Result<String> {
    Ok(value[name].as_str().with_context(|| format!("no {name}"))?.to_owned())
}

impl Member {
    /// Forbidden arrows.
    fn arrows(&self, members: &[Self]) -> Vec<String> {
        let inside = self.dependencies.iter().filter(|(name, _)| members.iter().any(|m| m.name == *name));
        let forbidden = inside.filter(|(name, test)| !may_name(&self.name, name, *test));
        forbidden
            .map(|(name, test)| {
                let kind = if *test { "tests of " } else { "" };
                format!("arrow: {kind}{} must not know {name}", self.name)
            })
            .collect()
    }

    /// Libraries and programs without `#![forbid(unsafe_code)]`.
    fn unforbidden(&self, root: &Path) -> Vec<String> {
        let sources = self.roots.iter().filter(|p| self.name != CORE && p.parent().is_some_and(|d| d.ends_with("src")));
        let lacks = |p: &&PathBuf| !std::fs::read_to_string(p).is_ok_and(|t| t.contains("#![forbid(unsafe_code)]"));
        let shown = |p: &PathBuf| p.strip_prefix(root).unwrap_or(p).display().to_string();
        sources.filter(lacks).map(|p| format!("unsafe: {} lacks #![forbid(unsafe_code)]", shown(p))).collect()
    }
}

/// Whether an arrow is allowed.
fn may_name(from: &str, to: &str, test: bool) -> bool {
    let layer = |name: &str| ARROWS.iter().find(|(n, _)| *n == name);
    let Some((_, allowed)) = layer(from) else {
        return layer(to).is_some();
    };
    allowed.contains(&to) || (test && JUDGES.contains(&to))
}

/// Lines with the keyword where it may not stand.
fn unsafe_lines(path: &Path, text: &str) -> Vec<String> {
    let rust = path.extension().is_some_and(|e| e == "rs");
    if !rust || path.starts_with(format!("crates/{CORE}/src/arch")) {
        return Vec::new();
    }
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    let keyword = |line: &str| {
        let code = code(line);
        let quoted = code.contains(['"', '`']);
        !quoted && code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    };
    let lines = text.lines().enumerate().filter(|(_, line)| keyword(line));
    lines.map(|(at, _)| format!("unsafe: {}:{} is outside arch", path.display(), at + 1)).collect()
}

/// Lines with an absolute path of a machine.
fn machine_paths(path: &Path, text: &str) -> Vec<String> {
    // In two pieces, so that this file passes.
    let folders = ["work", "tmp", "root", "home"].map(|f| format!("/{f}"));
    let starts = |line: &str, at: usize| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/}>)*".contains(c))
    };
    let ends = |line: &str, at: usize| line[at..].starts_with('/');
    let names = |line: &str| {
        folders
            .iter()
            .any(|f| line.match_indices(f.as_str()).any(|(at, _)| starts(line, at) && ends(line, at + f.len())))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| names(line));
    lines.map(|(at, _)| format!("path: {}:{} names a folder of one machine", path.display(), at + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows() {
        assert!(may_name("scatterbrain-combine", "scatterbrain-hash", false));
        assert!(!may_name("scatterbrain-hash", "scatterbrain-blocks", false));
        assert!(!may_name("scatterbrain-hash", "scatterbrain-blocks", true));
        assert!(!may_name(CORE, "scatterbrain-theory", false));
        assert!(may_name("scatterbrain-blocks", "scatterbrain-oracle", true));
        assert!(!may_name("scatterbrain-blocks", "scatterbrain-oracle", false));
        assert!(may_name("scatterbrain-cli", "scatterbrain-attention", false));
        assert!(!may_name("scatterbrain-attention", "scatterbrain-cli", false));
        assert!(!may_name("xtask", "scatterbrain-cli", false));
        assert!(may_name("scatterbrain-cli", "scatterbrain-candle", false));
        assert!(!may_name("scatterbrain-attention", "scatterbrain-candle", true));
    }

    #[test]
    fn keyword() {
        let found = |path: &str, line: &str| unsafe_lines(Path::new(path), line).len();
        let block = ["    un", "safe { x }"].concat();
        assert_eq!(found("crates/scatterbrain-blocks/src/lib.rs", &block), 1);
        assert_eq!(found("crates/scatterbrain-core/src/arch/mod.rs", &block), 0);
        assert_eq!(found("crates/scatterbrain-core/src/lib.rs", "#![forbid(unsafe_code)] // unsafe"), 0);
    }

    #[test]
    fn paths() {
        let found = |line: &str| machine_paths(Path::new("a.md"), line).len();
        assert_eq!(found(&["read /wo", "rk/x"].concat()), 1);
        assert_eq!(found("a/work/x, ./tmp/x, /working"), 0);
    }
}
