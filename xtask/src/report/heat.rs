//! A field of cells, each with a number and the colour of its verdict, as SVG.

use super::chart::{Area, FONT, LEGEND_LINE, SMALL, WIDTH, refused};
use super::ink::{INK, PAPER};
use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Pixels from one line of cells to the next, where there are many.
const CELL_HEIGHT: u32 = 21;
/// The least height of all cells.
const LEAST_HEIGHT: u32 = 120;

/// A drawing of cells.
pub(super) struct Heat {
    /// What the columns are.
    pub(super) x: String,
    /// What the lines are.
    pub(super) y: String,
    pub(super) columns: Vec<String>,
    pub(super) lines: Vec<String>,
    /// Line by line.
    pub(super) cells: Vec<Option<Cell>>,
    /// Colours and what they mean.
    pub(super) legend: Vec<(RGBColor, String)>,
}

/// A cell.
#[derive(Clone)]
pub(super) struct Cell {
    pub(super) color: RGBColor,
    pub(super) text: String,
}

impl Heat {
    /// The drawing.
    ///
    /// # Errors
    /// What the plotting crate refuses.
    pub(super) fn svg(&self) -> Result<String> {
        let mut text = String::new();
        let field = (CELL_HEIGHT * self.lines.len() as u32).max(LEAST_HEIGHT);
        let size = (WIDTH, 46 + field + LEGEND_LINE * self.legend.len() as u32 + 12);
        {
            let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
            area.fill(&PAPER).map_err(refused)?;
            self.draw(&area, field as i32)?;
            area.present().map_err(refused)?;
        }
        Ok(text)
    }

    fn draw(&self, area: &Area<'_>, field: i32) -> Result<()> {
        let longest = self.lines.iter().map(|name| name.chars().count()).max().unwrap_or(0) as i32;
        let (left, top) = ((7 * longest + 14).max(7 * self.y.chars().count() as i32 + 14), 40);
        let width = WIDTH as i32 - left - 10;
        let text = |font: (&'static str, i32), h, v| font.into_font().color(&INK).pos(Pos::new(h, v));
        let write = |words: &str, at: (i32, i32), style: &TextStyle<'_>| {
            area.draw(&Text::new(words.to_owned(), at, style.clone())).map_err(refused)
        };
        let centred = text(SMALL, HPos::Center, VPos::Center);
        let right = text(SMALL, HPos::Right, VPos::Center);
        write(&self.x, (left + width / 2, 12), &text(FONT, HPos::Center, VPos::Center))?;
        write(&self.y, (left - 6, 30), &right)?;
        let x = |at: usize| left + width * at as i32 / self.columns.len() as i32;
        let y = |at: usize| top + field * at as i32 / self.lines.len() as i32;
        for (at, name) in self.columns.iter().enumerate() {
            write(name, ((x(at) + x(at + 1)) / 2, 30), &centred)?;
        }
        for (line, name) in self.lines.iter().enumerate() {
            let middle = (y(line) + y(line + 1)) / 2;
            write(name, (left - 6, middle), &right)?;
            let cells = &self.cells[line * self.columns.len()..(line + 1) * self.columns.len()];
            for (column, cell) in cells.iter().enumerate() {
                let Some(cell) = cell else { continue };
                let corners = [(x(column) + 1, y(line) + 1), (x(column + 1) - 1, y(line + 1) - 1)];
                area.draw(&Rectangle::new(corners, cell.color.filled())).map_err(refused)?;
                write(&cell.text, ((x(column) + x(column + 1)) / 2, middle), &centred)?;
            }
        }
        let left_centred = text(FONT, HPos::Left, VPos::Center);
        for (at, (color, words)) in self.legend.iter().enumerate() {
            let y = top + field + 14 + at as i32 * LEGEND_LINE as i32;
            area.draw(&Rectangle::new([(14, y - 6), (30, y + 6)], color.filled())).map_err(refused)?;
            write(words, (38, y), &left_centred)?;
        }
        Ok(())
    }
}
