//! What a figure is: parts that are computed and kept, rows that are drawn and written.

use super::cache;
use super::context::Context;
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One figure. The row is flat: its fields are the columns of the CSV file.
pub(super) trait Figure {
    /// What a part is computed from: everything that its rows depend on but the program.
    type Part: Serialize;
    /// One line of the figure's data.
    type Row: Serialize + DeserializeOwned;

    fn number(&self) -> u8;
    fn title(&self) -> &'static str;
    /// What is computed one by one, and kept one by one.
    fn parts(&self, context: &Context) -> Result<Vec<Self::Part>>;
    /// What the progress bar says of a part.
    fn label(&self, part: &Self::Part) -> String;
    fn compute(&self, part: &Self::Part, context: &Context) -> Result<Vec<Self::Row>>;
    /// The drawing of all rows.
    fn present(&self, rows: &[Self::Row], context: &Context) -> Result<Story>;
}

/// What units leave out, for the captions of figures at equal units.
pub(super) const UNCOUNTED: &str = "Units leave out what methods look at only to choose, and under a causal mask the \
                                    ragged ends of centroids: of C blocks of m/C keys a row uses those it sees whole, \
                                    and each key of the one that it sees in part weighs what it is. With few \
                                    centroids that is many keys, so on causal captures centroids do better than \
                                    their units say.";

/// What is told of a figure.
pub(super) struct Story {
    /// One sentence for the top of the page, made of the rows.
    pub(super) summary: String,
    /// Paragraphs: what one sees, in which units, how it was measured.
    pub(super) caption: Vec<String>,
    pub(super) panels: Vec<Panel>,
    pub(super) tables: Vec<Listing>,
}

/// One drawing of a figure.
pub(super) struct Panel {
    pub(super) title: String,
    /// What it shows, for those who cannot see it.
    pub(super) alt: String,
    pub(super) svg: String,
}

/// A table of a figure. Cells of the first column are the names of the lines.
#[derive(Clone)]
pub(super) struct Listing {
    pub(super) title: String,
    pub(super) head: Vec<String>,
    pub(super) lines: Vec<Vec<String>>,
}

/// A figure with everything that is written of it.
pub(super) struct Drawn {
    pub(super) number: u8,
    pub(super) title: &'static str,
    pub(super) story: Story,
    pub(super) csv: Vec<u8>,
    pub(super) json: Vec<u8>,
}

impl Drawn {
    /// The stem of its files.
    pub(super) fn stem(&self) -> String {
        format!("figure-{}", self.number)
    }

    /// The stem of a panel's files.
    pub(super) fn panel_stem(&self, panel: usize) -> String {
        if self.story.panels.len() == 1 { self.stem() } else { format!("{}-{:02}", self.stem(), panel + 1) }
    }
}

/// A [`Figure`] of any type of row.
pub(super) trait Entry {
    fn number(&self) -> u8;
    fn count(&self, context: &Context) -> Result<usize>;
    fn draw(&self, context: &Context) -> Result<Drawn>;
}

impl<F: Figure> Entry for F {
    fn number(&self) -> u8 {
        Figure::number(self)
    }

    fn count(&self, context: &Context) -> Result<usize> {
        Ok(self.parts(context)?.len())
    }

    fn draw(&self, context: &Context) -> Result<Drawn> {
        let number = Figure::number(self);
        let mut rows = Vec::new();
        for part in self.parts(context)? {
            let label = format!("figure {number}: {}", self.label(&part));
            context.begin(&label);
            let key = cache::key(number, &part, context)?;
            let found = cache::rows(context, &key, || self.compute(&part, context)).context(label)?;
            rows.extend(found);
            context.done();
        }
        let story = self.present(&rows, context).with_context(|| format!("figure {number}"))?;
        Ok(Drawn { number, title: self.title(), story, csv: csv(&rows)?, json: serde_json::to_vec(&rows)? })
    }
}

fn csv<R: Serialize>(rows: &[R]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    writer.into_inner().context("cannot write the table")
}
