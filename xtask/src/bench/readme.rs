//! The part of README.md that a full run writes.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// In the root of the workspace.
pub(super) const FILE: &str = "README.md";
const START: &str = "<!-- bench -->";
const END: &str = "<!-- /bench -->";

/// Whether the file has a place for the tables, asked before the run.
///
/// # Errors
/// It has not.
pub(super) fn check(path: &Path) -> Result<()> {
    update_text(&fs::read_to_string(path)?, "").with_context(|| path.display().to_string()).map(drop)
}

/// Puts the tables there.
///
/// # Errors
/// No place for them, or a file that cannot be written.
pub(super) fn update(path: &Path, tables: &str) -> Result<()> {
    let text = update_text(&fs::read_to_string(path)?, tables)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn update_text(text: &str, tables: &str) -> Result<String> {
    let once = |marker: &str| text.matches(marker).count() == 1;
    ensure!(once(START) && once(END), "needs `{START}` and `{END}` once each, where the tables go");
    let (before, rest) = text.split_once(START).context("no start")?;
    let (_, after) = rest.split_once(END).context("the end comes before the start")?;
    Ok(format!("{before}{START}\n\n{}\n\n{END}{after}", tables.trim()))
}

#[cfg(test)]
mod tests {
    use super::{END, FILE, START, update_text};
    use crate::workspace;
    use std::fs;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = "a\n<!-- bench -->\nold\n<!-- /bench -->\nb\n";
        let once = update_text(text, "| new |\n").unwrap();
        assert_eq!(once, "a\n<!-- bench -->\n\n| new |\n\n<!-- /bench -->\nb\n");
        assert_eq!(update_text(&once, "| new |\n").unwrap(), once);
    }

    #[test]
    fn missing_doubled_or_swapped_markers_are_errors() {
        assert!(update_text("a\n", "").is_err());
        assert!(update_text("<!-- bench -->\n", "").is_err());
        assert!(update_text("<!-- /bench --> <!-- bench -->", "").is_err());
        assert!(update_text("<!-- bench --> <!-- bench --> <!-- /bench -->", "").is_err());
    }

    /// Nothing but this command writes there: the README's other tables are kept by hand, and hands slip.
    #[test]
    fn the_tables_are_those_of_a_record() {
        let root = workspace::root().unwrap();
        let text = fs::read_to_string(root.join(FILE)).unwrap();
        let (_, rest) = text.split_once(START).unwrap();
        let (tables, _) = rest.split_once(END).unwrap();
        let folders = fs::read_dir(root.join("benches").join("record")).unwrap().map(|entry| entry.unwrap().path());
        let files = folders.filter(|path| path.is_dir()).flat_map(|folder| fs::read_dir(folder).unwrap());
        let pages = files.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "md"));
        let mut pages = pages.map(|path| fs::read_to_string(path).unwrap());
        assert!(pages.any(|page| page.contains(tables.trim())), "no record under benches/record has these tables");
    }
}
