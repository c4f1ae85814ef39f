//! The files beside the page: data as CSV and JSON, drawings as SVG and PNG.

use super::cache::replace;
use super::figure::Drawn;
use super::picture;
use anyhow::Result;
use std::path::Path;

/// Writes all of them.
///
/// # Errors
/// A drawing that is none, or a folder that cannot be written.
pub(super) fn write(folder: &Path, figures: &[Drawn]) -> Result<()> {
    for figure in figures {
        replace(&folder.join(figure.stem()).with_extension("csv"), &figure.csv)?;
        replace(&folder.join(figure.stem()).with_extension("json"), &figure.json)?;
        for (at, panel) in figure.story.panels.iter().enumerate() {
            let path = folder.join(figure.panel_stem(at));
            replace(&path.with_extension("svg"), panel.svg.as_bytes())?;
            replace(&path.with_extension("png"), &picture::png(&panel.svg)?)?;
        }
    }
    Ok(())
}
