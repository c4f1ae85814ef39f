//! The page: `index.html`, which needs nothing beside it, and the same as `report.md`.

use super::cache::replace;
use super::context::Context;
use super::figure::{Drawn, Listing};
use crate::machine::Machine;
use crate::table::Table;
use anyhow::Result;
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;

/// Chromium follows addresses of up to 2 MiB; data that does not fit is linked beside the page alone.
const LONGEST_ADDRESS: usize = 1_900_000;

/// What the page says of the run.
pub(super) struct Facts {
    date: String,
    machine: String,
    versions: String,
    captures: String,
    command: String,
    quick: bool,
}

impl Facts {
    pub(super) fn new(machine: &Machine, context: &Context) -> Self {
        let dirty = if machine.dirty { " with changes" } else { "" };
        let names: Vec<&str> = context.sources().map(|source| source.name.as_str()).collect();
        Self {
            date: machine.date.clone(),
            machine: format!("{}, {} cores, {}", machine.cpu, machine.cores, machine.simd),
            versions: format!(
                "scatterbrain {}, commit {}{dirty}; {}",
                env!("CARGO_PKG_VERSION"),
                machine.commit,
                machine.rustc
            ),
            captures: format!("{}: {}", context.captures.origin, names.join(", ")),
            command: format!("cargo xtask {}", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
            quick: context.quick,
        }
    }
}

#[derive(Template)]
#[template(path = "report.html")]
struct Html<'a> {
    facts: &'a Facts,
    figures: Vec<Section<'a>>,
}

#[derive(Template)]
#[template(path = "report.md")]
struct Markdown<'a> {
    facts: &'a Facts,
    figures: Vec<Section<'a>>,
}

/// A figure as the templates want it.
struct Section<'a> {
    number: u8,
    title: &'a str,
    summary: &'a str,
    caption: &'a [String],
    panels: Vec<Drawing<'a>>,
    tables: &'a [Listing],
    downloads: Vec<Download>,
}

struct Drawing<'a> {
    title: &'a str,
    alt: &'a str,
    svg: &'a str,
    file: String,
}

struct Download {
    kind: &'static str,
    file: String,
    /// Where the data is: in the page, or beside it.
    address: String,
}

/// Writes the page in both forms.
///
/// # Errors
/// A folder that cannot be written.
pub(super) fn write(folder: &Path, facts: &Facts, figures: &[Drawn]) -> Result<()> {
    let sections = || figures.iter().map(Section::of).collect();
    replace(&folder.join("index.html"), Html { facts, figures: sections() }.render()?.as_bytes())?;
    replace(&folder.join("report.md"), Markdown { facts, figures: sections() }.render()?.as_bytes())
}

impl<'a> Section<'a> {
    fn of(figure: &'a Drawn) -> Self {
        let drawing = |(at, panel): (usize, &'a super::figure::Panel)| Drawing {
            title: &panel.title,
            alt: &panel.alt,
            svg: &panel.svg,
            file: figure.panel_stem(at),
        };
        Self {
            number: figure.number,
            title: figure.title,
            summary: &figure.story.summary,
            caption: &figure.story.caption,
            panels: figure.story.panels.iter().enumerate().map(drawing).collect(),
            tables: &figure.story.tables,
            downloads: vec![
                Download::of("CSV", &figure.stem(), "csv", "text/csv", &figure.csv),
                Download::of("JSON", &figure.stem(), "json", "application/json", &figure.json),
            ],
        }
    }
}

impl Download {
    fn of(kind: &'static str, stem: &str, extension: &str, mime: &str, data: &[u8]) -> Self {
        let file = format!("{stem}.{extension}");
        let inside = format!("data:{mime};base64,{}", STANDARD.encode(data));
        let address = if inside.len() <= LONGEST_ADDRESS { inside } else { file.clone() };
        Self { kind, file, address }
    }
}

impl Listing {
    /// The same in Markdown.
    fn markdown(&self) -> String {
        let cell = |text: &String| text.replace('|', "\\|");
        let mut table = Table::new(1, self.head.iter().map(cell).collect());
        for line in &self.lines {
            table.line(line.iter().map(cell).collect());
        }
        table.render()
    }
}
