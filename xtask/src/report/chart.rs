//! Lines and points over two axes, as SVG.

use super::ink::{GRID, INK, NOTE, PAPER};
use anyhow::{Result, anyhow};
use plotters::chart::ChartContext;
use plotters::coord::ranged1d::{AsRangedCoord, DefaultFormatting, KeyPointHint, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{BackendCoord, DrawingErrorKind};

/// Pixels of a drawing: a phone shows it at nearly its size.
pub(super) const WIDTH: u32 = 420;
const PLOT_HEIGHT: u32 = 310;
pub(super) const LEGEND_LINE: u32 = 17;
/// plotters makes 1.24 of these a pixel.
pub(super) const FONT: (&str, i32) = ("sans-serif", 15);
pub(super) const SMALL: (&str, i32) = ("sans-serif", 14);
/// Half the size of a marker.
const MARK: i32 = 4;

/// A drawing of series.
pub(super) struct Chart {
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
    /// Lines across the drawing.
    pub(super) rules: Vec<Rule>,
}

/// An axis.
pub(super) struct Axis {
    pub(super) name: String,
    pub(super) log: bool,
    /// Shown at least.
    pub(super) least: Option<(f64, f64)>,
    /// Shown at most.
    pub(super) most: Option<(f64, f64)>,
}

impl Axis {
    pub(super) fn linear(name: &str) -> Self {
        Self { name: name.into(), log: false, least: None, most: None }
    }

    pub(super) fn log(name: &str) -> Self {
        Self { name: name.into(), log: true, least: None, most: None }
    }

    pub(super) fn showing(self, from: f64, to: f64) -> Self {
        Self { least: Some((from, to)), ..self }
    }

    /// Nothing beyond these is shown.
    pub(super) fn between(self, from: f64, to: f64) -> Self {
        Self { most: Some((from, to)), ..self }
    }

    fn shows(&self, x: f64) -> bool {
        x.is_finite() && (!self.log || x > 0.0) && self.most.is_none_or(|(from, to)| (from..=to).contains(&x))
    }

    /// From the smallest to the largest value, and a little more.
    fn range(&self, values: impl Iterator<Item = f64>) -> (f64, f64) {
        let wanted = self.least.into_iter().flat_map(|(from, to)| [from, to]);
        let usable = values.chain(wanted).filter(|x| self.shows(*x));
        let forward = |x: f64| if self.log { x.ln() } else { x };
        let back = |x: f64| if self.log { x.exp() } else { x };
        let (from, to) = usable.map(forward).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        match from < to {
            true => (back(from - 0.04 * (to - from)), back(to + 0.04 * (to - from))),
            false if from.is_finite() => (back(from - 0.5), back(from + 0.5)),
            false => (back(0.0), back(1.0)),
        }
    }
}

/// Points of one kind. Those that an axis cannot show are left out.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) color: RGBColor,
    pub(super) points: Vec<(f64, f64)>,
    /// For each point, from where to where it may be.
    pub(super) intervals: Vec<(f64, f64)>,
    pub(super) line: Option<Line>,
    pub(super) marker: Option<Marker>,
}

/// How points are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Solid,
    Strong,
    Dashed,
}

/// The shape of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Dot,
    Ring,
    Square,
    Triangle,
    Cross,
    /// A ring around another marker.
    Halo,
}

impl Marker {
    /// Shapes for series that follow one another.
    pub(super) const CYCLE: [Marker; 5] = [Marker::Dot, Marker::Square, Marker::Triangle, Marker::Ring, Marker::Cross];
}

impl Series {
    pub(super) fn new(name: &str, color: RGBColor, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), color, points, intervals: Vec::new(), line: None, marker: None }
    }

    pub(super) fn line(self, line: Line) -> Self {
        Self { line: Some(line), ..self }
    }

    pub(super) fn marker(self, marker: Marker) -> Self {
        Self { marker: Some(marker), ..self }
    }

    pub(super) fn intervals(self, intervals: Vec<(f64, f64)>) -> Self {
        Self { intervals, ..self }
    }
}

/// A line across the drawing at one value of an axis.
pub(super) struct Rule {
    pub(super) vertical: bool,
    pub(super) at: f64,
    pub(super) name: String,
}

impl Rule {
    pub(super) fn vertical(at: f64, name: &str) -> Self {
        Self { vertical: true, at, name: name.into() }
    }

    pub(super) fn horizontal(at: f64, name: &str) -> Self {
        Self { vertical: false, at, name: name.into() }
    }
}

impl Chart {
    /// The drawing.
    ///
    /// # Errors
    /// What the plotting crate refuses.
    pub(super) fn svg(&self) -> Result<String> {
        let shown = |series: &&Series| series.points.iter().any(|point| self.shows(point));
        let names: Vec<&Series> = self.series.iter().filter(shown).filter(|series| !series.name.is_empty()).collect();
        let legend = Legend::of(&names);
        let mut text = String::new();
        let size = (WIDTH, PLOT_HEIGHT + legend.height());
        {
            let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
            area.fill(&PAPER).map_err(refused)?;
            let (plot, below) = area.split_vertically(PLOT_HEIGHT);
            self.plot(&plot)?;
            legend.draw(&below)?;
            area.present().map_err(refused)?;
        }
        Ok(text)
    }

    /// Whether both axes reach a point.
    fn shows(&self, point: &(f64, f64)) -> bool {
        self.x.shows(point.0) && self.y.shows(point.1)
    }

    fn plot(&self, area: &Area<'_>) -> Result<()> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let rules = |vertical| self.rules.iter().filter(move |rule| rule.vertical == vertical).map(|rule| rule.at);
        let bounds = self.series.iter().flat_map(|series| &series.intervals).flat_map(|&(from, to)| [from, to]);
        let x = self.x.range(points().map(|p| p.0).chain(rules(true)));
        let y = self.y.range(points().map(|p| p.1).chain(bounds).chain(rules(false)));
        let (x_line, y_line) = (x.0..x.1, y.0..y.1);
        match (self.x.log, self.y.log) {
            (false, false) => self.on(area, x_line, y_line, (x, y)),
            (false, true) => self.on(area, x_line, Decades(y), (x, y)),
            (true, false) => self.on(area, Decades(x), y_line, (x, y)),
            (true, true) => self.on(area, Decades(x), Decades(y), (x, y)),
        }
    }

    fn on<X, Y>(&self, area: &Area<'_>, x: X, y: Y, (across, up): (Span, Span)) -> Result<()>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let mut builder = ChartBuilder::on(area);
        builder.margin(8).margin_right(14).x_label_area_size(42).y_label_area_size(58);
        let mut chart = builder.build_cartesian_2d(x, y).map_err(refused)?;
        let text = FONT.into_font().color(&INK);
        chart
            .configure_mesh()
            .x_desc(&self.x.name)
            .y_desc(&self.y.name)
            .axis_desc_style(text.clone())
            .label_style(SMALL.into_font().color(&INK))
            .x_label_formatter(&|x| number(*x))
            .y_label_formatter(&|y| number(*y))
            .x_labels(6)
            .y_labels(7)
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(GRID.mix(0.0))
            .draw()
            .map_err(refused)?;
        self.draw_rules(&mut chart, across, up)?;
        for series in &self.series {
            // A line is broken where a point is left out.
            let runs = series.points.chunk_by(|a, b| self.shows(a) == self.shows(b));
            let runs: Vec<&[(f64, f64)]> = runs.filter(|run| self.shows(&run[0])).collect();
            draw_series(&mut chart, series, &runs, up)?;
        }
        Ok(())
    }

    fn draw_rules<X, Y>(&self, chart: &mut Plot<'_, '_, X, Y>, across: Span, up: Span) -> Result<()>
    where
        X: Ranged<ValueType = f64>,
        Y: Ranged<ValueType = f64>,
    {
        let text = SMALL.into_font().color(&NOTE);
        for rule in &self.rules {
            // Names stand beside the line, not on it.
            let beside = if self.x.log {
                rule.at * (across.1 / across.0).powf(0.01)
            } else {
                rule.at + 0.01 * (across.1 - across.0)
            };
            let (ends, pos) = match rule.vertical {
                // From the bottom up, where drawings of errors have most room.
                true => ([(rule.at, up.0), (rule.at, up.1)], Pos::new(HPos::Left, VPos::Top)),
                false => ([(across.0, rule.at), (across.1, rule.at)], Pos::new(HPos::Right, VPos::Bottom)),
            };
            let dashes = DashedLineSeries::new(ends, 4, 4, NOTE.stroke_width(1));
            chart.draw_series(dashes).map_err(refused)?;
            let turned = if rule.vertical { text.transform(FontTransform::Rotate270) } else { text.clone() };
            let place = if rule.vertical { (beside, up.0) } else { ends[1] };
            let label = Text::new(rule.name.clone(), place, turned.pos(pos));
            chart.draw_series(std::iter::once(label)).map_err(refused)?;
        }
        Ok(())
    }
}

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Plot<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;
type Span = (f64, f64);

fn draw_series<X, Y>(chart: &mut Plot<'_, '_, X, Y>, series: &Series, runs: &[&[(f64, f64)]], up: Span) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let color = series.color;
    for run in runs {
        let path = run.iter().copied();
        match series.line {
            Some(Line::Solid) => chart.draw_series(LineSeries::new(path, color.stroke_width(1))).map(drop),
            Some(Line::Strong) => chart.draw_series(LineSeries::new(path, color.stroke_width(2))).map(drop),
            Some(Line::Dashed) => chart.draw_series(DashedLineSeries::new(path, 6, 3, color.stroke_width(1))).map(drop),
            None => Ok(()),
        }
        .map_err(refused)?;
    }
    let points = runs.concat();
    let bars = series.points.iter().zip(&series.intervals);
    let bars = bars.filter(|(point, _)| points.contains(point)).map(|(&(x, y), &(from, to))| {
        // An end that the axis cannot show is the axis's end.
        ErrorBar::new_vertical(x, from.max(up.0), y, to.min(up.1), color.stroke_width(1), 5)
    });
    chart.draw_series(bars).map_err(refused)?;
    if let Some(marker) = series.marker {
        let marks = points.iter().map(|&at| Mark { marker, at, color });
        chart.draw_series(marks).map_err(refused)?;
    }
    Ok(())
}

/// A marker at a point of the drawing.
struct Mark<C> {
    marker: Marker,
    at: C,
    color: RGBColor,
}

impl<'a, C> PointCollection<'a, C> for &'a Mark<C> {
    type Point = &'a C;
    type IntoIter = std::iter::Once<&'a C>;

    fn point_iter(self) -> Self::IntoIter {
        std::iter::once(&self.at)
    }
}

impl<C, B: DrawingBackend> Drawable<B> for Mark<C> {
    fn draw<I: Iterator<Item = BackendCoord>>(
        &self,
        mut points: I,
        backend: &mut B,
        _: (u32, u32),
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        let Some((x, y)) = points.next() else { return Ok(()) };
        let (radius, thin, thick) = (MARK as u32 - 1, self.color.stroke_width(1), self.color.stroke_width(2));
        match self.marker {
            Marker::Dot => backend.draw_circle((x, y), radius, &thin, true),
            Marker::Ring => backend.draw_circle((x, y), radius, &thin, false),
            Marker::Halo => backend.draw_circle((x, y), radius + 4, &thin, false),
            Marker::Square => backend.draw_rect((x - 3, y - 3), (x + 3, y + 3), &thin, true),
            Marker::Triangle => backend.fill_polygon([(x, y - 4), (x + 4, y + 3), (x - 4, y + 3)], &thin),
            Marker::Cross => {
                backend.draw_line((x - 3, y - 3), (x + 3, y + 3), &thick)?;
                backend.draw_line((x - 3, y + 3), (x + 3, y - 3), &thick)
            }
        }
    }
}

/// A logarithmic axis with labels at 1, 2 and 5 of every decade, or at fewer.
struct Decades(Span);

impl AsRangedCoord for Decades {
    type CoordDescType = DecadeCoord;
    type Value = f64;
}

impl From<Decades> for DecadeCoord {
    fn from(Decades((from, to)): Decades) -> Self {
        Self { from, to, logs: (from.ln()..to.ln()).into() }
    }
}

struct DecadeCoord {
    from: f64,
    to: f64,
    logs: RangedCoordf64,
}

impl Ranged for DecadeCoord {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.logs.map(&value.ln(), limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let decades = self.from.log10().floor() as i32..=self.to.log10().ceil() as i32;
        let at = |steps: &[f64]| -> Vec<f64> {
            let all = decades.clone().flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
            all.filter(|x| (self.from..=self.to).contains(x)).collect()
        };
        let most = hint.max_num_points().clamp(2, 8);
        let choices: [&[f64]; 3] = [&[1.0, 1.5, 2.0, 3.0, 5.0, 7.0], &[1.0, 2.0, 5.0], &[1.0]];
        let found = choices.into_iter().map(at).find(|points| points.len() <= most);
        // Many decades: every second, third, …
        found.unwrap_or_else(|| {
            let points = at(&[1.0]);
            let step = points.len().div_ceil(most);
            points.into_iter().step_by(step).collect()
        })
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

/// Names and marks of series, in columns.
struct Legend<'a> {
    series: &'a [&'a Series],
    columns: usize,
}

impl<'a> Legend<'a> {
    fn of(series: &'a [&'a Series]) -> Self {
        let longest = series.iter().map(|series| series.name.chars().count()).max().unwrap_or(0);
        // About seven pixels a letter, and the mark.
        let columns = (WIDTH as usize / (7 * longest + 40)).clamp(1, 4);
        Self { series, columns }
    }

    fn height(&self) -> u32 {
        self.series.len().div_ceil(self.columns) as u32 * LEGEND_LINE + 6
    }

    fn draw(&self, area: &Area<'_>) -> Result<()> {
        let text = FONT.into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        let width = (WIDTH as usize - 20) / self.columns;
        for (at, series) in self.series.iter().enumerate() {
            let x = 14 + (at % self.columns * width) as i32;
            let y = (at / self.columns) as i32 * LEGEND_LINE as i32 + 9;
            let stroke = match series.line {
                None => None,
                Some(Line::Strong) => Some((series.color.stroke_width(2), 22)),
                Some(Line::Solid) => Some((series.color.stroke_width(1), 22)),
                // Two dashes are drawn as one short one and another.
                Some(Line::Dashed) => Some((series.color.stroke_width(1), 9)),
            };
            if let Some((style, length)) = stroke {
                area.draw(&PathElement::new([(x, y), (x + length, y)], style)).map_err(refused)?;
                if length < 22 {
                    area.draw(&PathElement::new([(x + 13, y), (x + 22, y)], style)).map_err(refused)?;
                }
            }
            if let Some(marker) = series.marker {
                area.draw(&Mark { marker, at: (x + 11, y), color: series.color }).map_err(refused)?;
            }
            area.draw(&Text::new(series.name.clone(), (x + 28, y), text.clone())).map_err(refused)?;
        }
        Ok(())
    }
}

/// A number as an axis shows it.
pub(super) fn number(x: f64) -> String {
    let size = x.abs();
    if size == 0.0 {
        "0".into()
    } else if (1e-3..1e5).contains(&size) {
        let digits = (2 - size.log10().floor() as i32).clamp(0, 5) as usize;
        let text = format!("{x:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    } else {
        format!("{x:.0e}")
    }
}

/// Errors of drawing hold types of the backend.
pub(super) fn refused(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_axes() {
        let shown = [0.0, 1.0, 0.05, 0.25, 1234.5, 100_000.0, 2e-5, -0.5].map(number);
        assert_eq!(shown, ["0", "1", "0.05", "0.25", "1234", "1e5", "2e-5", "-0.5"]);
    }

    #[test]
    fn what_an_axis_cannot_show_is_left_out() {
        let axis = Axis::log("x");
        let (from, to) = axis.range([0.0, 1.0, 10.0, f64::INFINITY, f64::NAN].into_iter());
        assert!(from > 0.5 && from < 1.0 && to > 10.0 && to < 20.0);
        let series = Series::new("a", INK, vec![(1.0, 0.0), (2.0, 1.0), (3.0, 10.0)]).marker(Marker::Dot);
        let chart = Chart { x: Axis::linear("x"), y: Axis::log("y"), series: vec![series], rules: vec![] };
        // Two points and the legend's.
        assert_eq!(chart.svg().unwrap().matches("<circle").count(), 3);
    }

    #[test]
    fn decades_have_few_labels() {
        for (from, to) in [(1.0, 2.0), (0.3, 40.0), (1e-9, 1e9)] {
            let coord: DecadeCoord = Decades((from, to)).into();
            let points = coord.key_points(7);
            assert!((2..=8).contains(&points.len()), "{points:?}");
            assert!(points.iter().all(|x| (from..=to).contains(x)));
        }
    }
}
