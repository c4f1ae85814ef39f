//! Figure 6: error against time on every capture, all methods at several budgets.

use super::captures::{Capture, Source, budget};
use super::chart::{Axis, Chart, Line, Marker, Rule, Series, number};
use super::context::Context;
use super::figure::{Figure, Listing, Panel, Story, UNCOUNTED};
use super::ink;
use super::judge::{Judge, Setting};
use super::picture::named;
use crate::statistics::{median, ratio};
use anyhow::Result;
use scatterbrain_attention::{Method, Preset};
use serde::{Deserialize, Serialize};
use std::time::Instant;

pub(super) struct Frontier;

/// Keys of a head for one unit of each budget.
const KEYS_A_UNIT: [usize; 4] = [64, 32, 16, 8];

#[derive(Serialize)]
pub(super) struct Part {
    source: Source,
    heads: Option<usize>,
    rows: usize,
    repeats: usize,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    capture: String,
    method: String,
    /// Blank for methods without one.
    budget: Option<usize>,
    units: Option<usize>,
    /// Blank where it is no finite number.
    error: Option<f64>,
    seconds: f64,
    exact_seconds: f64,
    /// The median over repeats of the method's time over exact attention's just before.
    time_of_exact: f64,
    repeats: usize,
    /// No other row of the capture has both a lower error and a lower time.
    on_frontier: bool,
}

impl Figure for Frontier {
    type Part = Part;
    type Row = Row;

    fn number(&self) -> u8 {
        6
    }

    fn title(&self) -> &'static str {
        "Error against time on captures"
    }

    fn parts(&self, context: &Context) -> Result<Vec<Part>> {
        let (heads, rows, repeats) = context.pick((Some(2), 64, 3), (None, 512, 5));
        Ok(context.sources().map(|source| Part { source: source.clone(), heads, rows, repeats }).collect())
    }

    fn label(&self, part: &Part) -> String {
        part.source.name.clone()
    }

    fn compute(&self, part: &Part, context: &Context) -> Result<Vec<Row>> {
        let capture = part.source.read(part.heads)?;
        let settings = settings(capture.m());
        context.steps(2 * settings.len() + 1);
        let judge = Judge::new(&capture, part.rows, context)?;
        context.step()?;
        let mut methods = Vec::new();
        let mut errors = Vec::new();
        for setting in &settings {
            let method = setting.method(&capture)?;
            errors.push(judge.error(&capture, &method)?);
            methods.push(method);
            context.step()?;
        }
        let times = times(&capture, &methods, part.repeats, context)?;
        let rows = settings.iter().zip(&methods).zip(errors).zip(times);
        let mut rows: Vec<Row> = rows
            .map(|(((setting, method), error), (own, exact))| Row {
                capture: capture.name.clone(),
                method: setting.preset.name().into(),
                budget: setting.preset.has_budget().then_some(setting.budget),
                units: method.units(),
                error,
                seconds: median(&own).unwrap_or(f64::NAN),
                exact_seconds: median(&exact).unwrap_or(f64::NAN),
                time_of_exact: ratio(&own, &exact).map_or(f64::NAN, |(_, paired)| paired),
                repeats: own.len(),
                on_frontier: false,
            })
            .collect();
        mark_frontier(&mut rows);
        Ok(rows)
    }

    fn present(&self, rows: &[Row], context: &Context) -> Result<Story> {
        let mut captures: Vec<&str> = rows.iter().map(|row| row.capture.as_str()).collect();
        captures.dedup();
        let approximate = || Preset::ALL.into_iter().filter(|preset| *preset != Preset::Exact);
        let has = |preset: Preset, capture: &str, wanted: &dyn Fn(&Row) -> bool| {
            rows.iter().any(|row| row.capture == capture && row.method == preset.name() && wanted(row))
        };
        let count = |preset: Preset, wanted: &dyn Fn(&Row) -> bool| {
            captures.iter().filter(|capture| has(preset, capture, wanted)).count()
        };
        let lines = approximate().map(|preset| {
            vec![
                preset.name().to_owned(),
                count(preset, &|row| row.on_frontier).to_string(),
                count(preset, &|row| row.on_frontier && row.time_of_exact < 1.0).to_string(),
                count(preset, &|row| row.time_of_exact < 1.0 && row.error.is_some_and(|e| e < 0.1)).to_string(),
            ]
        });
        let table = Listing {
            title: format!("Of {} captures, those where some budget of the method …", captures.len()),
            head: [
                "method",
                "is on the frontier",
                "and faster than exact",
                "is faster than exact with error under 0.1",
            ]
            .map(str::to_owned)
            .to_vec(),
            lines: lines.collect(),
        };
        let mut ranked: Vec<(usize, &str)> =
            approximate().map(|preset| (count(preset, &|row| row.on_frontier), preset.name())).collect();
        ranked.sort_by_key(|&(captures, _)| std::cmp::Reverse(captures));
        let leaders: Vec<String> = ranked.iter().take(4).map(|(count, name)| format!("{name} on {count}")).collect();
        Ok(Story {
            summary: format!(
                "Beaten by no other method in error and time together, at some budget, of {} captures: {}.",
                captures.len(),
                leaders.join(", ")
            ),
            caption: vec![
                format!(
                    "A panel a capture, a line a method, a point a budget: {} of the keys, in units a query. Across: time \
                     of the whole call over that of exact attention, one thread, medians of {} repeats in which exact \
                     attention and the method take turns. Up: mean row error |o − ô|/|o| against exact attention in \
                     float64, over at most {} evenly spaced rows of each head. Lower and further left is better; beyond \
                     the line at 1 exact attention is faster.",
                    KEYS_A_UNIT.map(|keys| format!("1/{keys}")).join(", "),
                    context.pick(3, 5),
                    context.pick(64, 512)
                ),
                "Rings mark the frontier: points that no other point beats in both. topk scores every key to choose; \
                 uniform and linear know no budget."
                    .into(),
                UNCOUNTED.into(),
            ],
            panels: captures.iter().map(|capture| panel(rows, capture)).collect::<Result<_>>()?,
            tables: vec![table],
        })
    }
}

/// Every method at every budget, each once.
fn settings(m: usize) -> Vec<Setting> {
    let mut settings = Vec::new();
    for preset in Preset::ALL.into_iter().filter(|preset| *preset != Preset::Exact) {
        let mut budgets: Vec<usize> = KEYS_A_UNIT.iter().map(|keys| budget(m, *keys)).collect();
        budgets.dedup();
        budgets.truncate(if preset.has_budget() { KEYS_A_UNIT.len() } else { 1 });
        settings.extend(budgets.into_iter().map(|budget| Setting { preset, budget, seed: 0 }));
    }
    settings
}

/// Seconds of each method and of exact attention just before it, repeat by repeat. A sample takes at least a few
/// milliseconds.
fn times(
    capture: &Capture,
    methods: &[Method],
    repeats: usize,
    context: &Context,
) -> Result<Vec<(Vec<f64>, Vec<f64>)>> {
    const SHORTEST: f64 = 4e-3;
    let exact = Method::exact();
    let mut output = capture.output();
    let mut time = |method: &Method, calls: usize| -> Result<f64> {
        let output = &mut output;
        context.alone(|| {
            let start = Instant::now();
            for _ in 0..calls {
                capture.attend(method, output)?;
            }
            Ok(start.elapsed().as_secs_f64() / calls as f64)
        })
    };
    let calls = |seconds: f64| (SHORTEST / seconds).ceil().clamp(1.0, 1e4) as usize;
    let exact_calls = calls(time(&exact, 1)?);
    let mut found = Vec::new();
    for method in methods {
        let own_calls = calls(time(method, 1)?);
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for _ in 0..repeats {
            other.push(time(&exact, exact_calls)?);
            own.push(time(method, own_calls)?);
            context.go_on()?;
        }
        found.push((own, other));
        context.step()?;
    }
    Ok(found)
}

/// A row is on the frontier where no other has both a lower error and a lower time.
fn mark_frontier(rows: &mut [Row]) {
    let points: Vec<Option<(f64, f64)>> = rows.iter().map(|row| Some((row.time_of_exact, row.error?))).collect();
    for (row, point) in rows.iter_mut().zip(&points) {
        let Some((time, error)) = point else { continue };
        row.on_frontier = !points.iter().flatten().any(|(t, e)| t < time && e < error);
    }
}

fn panel(rows: &[Row], capture: &str) -> Result<Panel> {
    let of = |row: &&Row| row.capture == capture;
    let point = |row: &Row| Some((row.time_of_exact, row.error?));
    let mut series: Vec<Series> = Vec::new();
    for (at, preset) in Preset::ALL.into_iter().filter(|preset| *preset != Preset::Exact).enumerate() {
        let own = rows.iter().filter(of).filter(|row| row.method == preset.name());
        let shape = [Marker::Dot, Marker::Square, Marker::Triangle, Marker::Cross][at % 4];
        let line = if preset.name().starts_with("scatterbrain") { Line::Strong } else { Line::Solid };
        series.push(
            Series::new(preset.name(), ink::method(preset), own.filter_map(point).collect()).line(line).marker(shape),
        );
    }
    let frontier: Vec<(f64, f64)> = rows.iter().filter(of).filter(|row| row.on_frontier).filter_map(point).collect();
    let best = frontier.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
    series.push(Series::new("frontier", ink::INK, frontier).marker(Marker::Halo));
    let chart = Chart {
        x: Axis::log("time, of exact attention's").showing(0.5, 1.5),
        y: Axis::log("mean row error"),
        series,
        rules: vec![Rule::vertical(1.0, "exact")],
    };
    let on: Vec<&str> = {
        let mut names: Vec<&str> =
            rows.iter().filter(of).filter(|row| row.on_frontier).map(|row| row.method.as_str()).collect();
        names.dedup();
        names
    };
    let lowest = best.map_or(String::new(), |(time, error)| {
        format!(" The lowest error is {}, at {} of exact attention's time.", number(error), number(time))
    });
    let alt = format!("Error against time on {capture}. On the frontier: {}.{lowest}", on.join(", "));
    Ok(Panel { title: capture.to_owned(), svg: named(&chart.svg()?, capture, &alt)?, alt })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(time: f64, error: Option<f64>) -> Row {
        Row {
            capture: "a".into(),
            method: "local".into(),
            budget: Some(4),
            units: Some(4),
            error,
            seconds: time,
            exact_seconds: 1.0,
            time_of_exact: time,
            repeats: 1,
            on_frontier: false,
        }
    }

    #[test]
    fn the_frontier_is_what_nothing_beats() {
        let mut rows =
            vec![row(0.1, Some(1.0)), row(0.2, Some(0.5)), row(0.3, Some(0.7)), row(0.4, None), row(0.5, Some(0.1))];
        mark_frontier(&mut rows);
        assert_eq!(rows.iter().map(|row| row.on_frontier).collect::<Vec<_>>(), [true, true, false, false, true]);
    }
}
