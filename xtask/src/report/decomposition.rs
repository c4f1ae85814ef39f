//! Figure 4: robust PCA of the attention matrices of real heads.

use super::captures::Source;
use super::chart::{number, refused};
use super::context::{Context, Interrupted};
use super::figure::{Figure, Listing, Panel, Story};
use super::ink::{BLUE, GRID, INK, PAPER};
use super::picture::named;
use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use scatterbrain_attention::Method;
use scatterbrain_attention::decompose::{DecomposeError, Progress, PursuitOptions, principal_component_pursuit};
use scatterbrain_core::Matrix;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

pub(super) struct Pictures;

/// Cells of a picture, across and down.
const CELLS: usize = 40;
/// Shades of a picture.
const SHADES: u32 = 12;
/// An entry of S below this part of the largest of A is not counted.
const NOTICED: f64 = 1e-3;

/// The first head of a capture, from its start.
#[derive(Serialize)]
pub(super) struct Part {
    source: Source,
    most: usize,
}

/// A cell of the three pictures: the largest magnitude of the block of entries that it stands for.
#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    capture: String,
    n: usize,
    row: usize,
    column: usize,
    a: f32,
    l: f32,
    s: f32,
    /// Of the whole decomposition, the same in all rows of a capture.
    rank: usize,
    entries_a_row: f32,
    residual: f32,
    converged: bool,
}

impl Figure for Pictures {
    type Part = Part;
    type Row = Row;

    fn number(&self) -> u8 {
        4
    }

    fn title(&self) -> &'static str {
        "Robust PCA of real heads"
    }

    fn parts(&self, context: &Context) -> Result<Vec<Part>> {
        let most = context.pick(160, 512);
        let sources = context.one_a_model().take(context.pick(3, 6));
        Ok(sources.map(|source| Part { source: source.clone(), most }).collect())
    }

    fn label(&self, part: &Part) -> String {
        part.source.name.clone()
    }

    fn compute(&self, part: &Part, context: &Context) -> Result<Vec<Row>> {
        let capture = part.source.read(Some(1))?.corner(part.most);
        let (n, m) = (capture.query_shape[2], capture.m());
        let exact = &capture.matrices(&Method::exact())?[0];
        let matrix = Matrix::new("matrix", exact, n, m)?;
        let options = PursuitOptions::default();
        context.steps(options.max_iterations);
        let mut count = |_: &Progress| match context.step() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        let (found, converged) = match principal_component_pursuit(&matrix, &options, &mut count) {
            Ok(found) => (found, true),
            Err(DecomposeError::NotConverged(found)) => (*found, false),
            Err(DecomposeError::Cancelled(_)) => return Err(Interrupted.into()),
            Err(error) => return Err(error.into()),
        };
        let low_rank = found.low_rank.to_dense();
        let sparse: Vec<f64> = found.to_dense().iter().zip(&low_rank).map(|(both, l)| both - l).collect();
        let wide: Vec<f64> = exact.iter().map(|&x| f64::from(x)).collect();
        let largest = wide.iter().copied().fold(0.0, f64::max);
        let noticed = sparse.iter().filter(|x| x.abs() > NOTICED * largest).count();
        let [a, l, s] = [&wide, &low_rank, &sparse].map(|matrix| shrink(matrix, n, m));
        let cells = (0..CELLS * CELLS).map(|at| Row {
            capture: part.source.name.clone(),
            n,
            row: at / CELLS,
            column: at % CELLS,
            a: a[at],
            l: l[at],
            s: s[at],
            rank: found.report.rank,
            entries_a_row: (noticed as f64 / n as f64) as f32,
            residual: found.report.residual() as f32,
            converged,
        });
        Ok(cells.collect())
    }

    fn present(&self, rows: &[Row], context: &Context) -> Result<Story> {
        let heads: Vec<&[Row]> = rows.chunks(CELLS * CELLS).collect();
        let lines = heads.iter().map(|head| {
            let first = &head[0];
            vec![
                first.capture.clone(),
                first.n.to_string(),
                first.rank.to_string(),
                number(f64::from(first.entries_a_row)),
                format!("{:.0e}", first.residual),
                if first.converged { "yes".into() } else { "no, best iterate".into() },
            ]
        });
        let told: Vec<String> = heads
            .iter()
            .map(|head| {
                let first = &head[0];
                format!(
                    "{}, {} tokens, rank {} and {} entries a row",
                    first.capture,
                    first.n,
                    first.rank,
                    number(first.entries_a_row.into())
                )
            })
            .collect();
        Ok(Story {
            summary: format!(
                "Principal component pursuit, to a residual of {}, splits attention into: {}.",
                number(PursuitOptions::default().tolerance),
                told.join("; ")
            ),
            caption: vec![
                format!(
                    "A is the normalised attention matrix of the first head of a capture, of at most {} tokens from its \
                     start; rows are queries. L + S = A by principal component pursuit, min |L|_* + λ|S|_1 with λ = 1/√max(n, m): \
                     L of low rank, S sparse. It stops where primal and dual residual are below {}: a smaller \
                     tolerance finds more components.",
                    context.pick(160, 512),
                    number(PursuitOptions::default().tolerance)
                ),
                format!(
                    "A cell of a picture is the largest magnitude in its block of entries; shades go with the square root \
                     of it, one scale for the three pictures of a head. Entries of S are counted where they exceed {NOTICED} \
                     of the largest entry of A."
                ),
            ],
            panels: heads.iter().map(|head| panel(head)).collect::<Result<_>>()?,
            tables: vec![Listing {
                title: "The decompositions".into(),
                head: ["capture", "n", "rank of L", "entries of S a row", "|A − L − S|/|A|", "converged"]
                    .map(str::to_owned)
                    .to_vec(),
                lines: lines.collect(),
            }],
        })
    }
}

/// The largest magnitudes of blocks, `[CELLS, CELLS]`, to four digits.
fn shrink(matrix: &[f64], n: usize, m: usize) -> Vec<f32> {
    let mut cells = vec![0.0f32; CELLS * CELLS];
    for (at, x) in matrix.iter().enumerate() {
        let cell = &mut cells[at / m * CELLS / n * CELLS + at % m * CELLS / m];
        *cell = cell.max(x.abs() as f32);
    }
    cells.iter().map(|x| format!("{x:.3e}").parse().unwrap_or(*x)).collect()
}

/// One of a cell's three magnitudes.
type Value = fn(&Row) -> f32;

fn panel(head: &[Row]) -> Result<Panel> {
    const SIDE: i32 = 128;
    const TOP: i32 = 26;
    let first = &head[0];
    let mut text = String::new();
    let largest = head.iter().map(|row| row.a.max(row.l).max(row.s)).fold(0.0, f32::max);
    {
        let area = SVGBackend::with_string(&mut text, (420, (SIDE + TOP + 10) as u32)).into_drawing_area();
        area.fill(&PAPER).map_err(refused)?;
        let style = super::chart::FONT.into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Center));
        let parts: [(&str, Value); 3] = [("A", |r| r.a), ("L", |r| r.l), ("S", |r| r.s)];
        for (at, (name, value)) in parts.into_iter().enumerate() {
            let left = 9 + at as i32 * (SIDE + 9);
            area.draw(&Text::new(name, (left + SIDE / 2, 12), style.clone())).map_err(refused)?;
            let edge = |cell: usize| SIDE * cell as i32 / CELLS as i32;
            for line in head.chunks(CELLS) {
                let y = TOP + edge(line[0].row);
                let shade = |row: &Row| ((value(row) / largest).sqrt() * SHADES as f32).round() as u32;
                // Neighbours of one shade are one rectangle.
                for run in line.chunk_by(|a, b| shade(a) == shade(b)).filter(|run| shade(&run[0]) > 0) {
                    let (from, to) = (left + edge(run[0].column), left + edge(run[run.len() - 1].column + 1));
                    let color = BLUE.mix(f64::from(shade(&run[0])) / f64::from(SHADES));
                    let corners = [(from, y), (to, TOP + edge(line[0].row + 1))];
                    area.draw(&Rectangle::new(corners, color.filled())).map_err(refused)?;
                }
            }
            let frame = [(left, TOP), (left + SIDE, TOP + SIDE)];
            area.draw(&Rectangle::new(frame, GRID.stroke_width(1))).map_err(refused)?;
        }
        area.present().map_err(refused)?;
    }
    let alt = format!(
        "Pictures of A, L and S of {}: L has rank {}, S {} entries a row above {NOTICED} of the largest.",
        first.capture,
        first.rank,
        number(first.entries_a_row.into())
    );
    Ok(Panel { title: first.capture.clone(), svg: named(&text, &first.capture, &alt)?, alt })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_largest_entry() {
        let n = 2 * CELLS;
        let mut matrix = vec![0.0; n * n];
        matrix[n + 1] = -0.5;
        matrix[n * n - 1] = 0.25;
        let cells = shrink(&matrix, n, n);
        assert_eq!((cells[0], cells[1], cells[CELLS * CELLS - 1]), (0.5, 0.0, 0.25));
    }
}
