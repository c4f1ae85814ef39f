//! Results of an evaluation, as JSON and as a person reads them.

use super::metrics::{Item, bootstrap};
use super::run::Settings;
use super::state::{Costs, Record, State};
use super::task::{Measure, Part, Task, Unit};
use crate::arguments::Choice;
use crate::library::{Level, Seed};
use crate::table::{bytes, empty_table, seconds};
use serde::Serialize;
use std::fmt::Write;

/// A task of a model by exact attention and by methods.
#[derive(Debug, Serialize)]
pub(crate) struct Evaluation {
    model: String,
    task: String,
    description: String,
    inputs: usize,
    /// Tokens of the shortest and of the longest input.
    lengths: [usize; 2],
    threads: usize,
    seed: u64,
    budget: String,
    results: Vec<MethodResult>,
}

#[derive(Debug, Serialize)]
struct MethodResult {
    method: &'static str,
    measures: Vec<Figure>,
    /// Of all inputs: the whole model, planning left out.
    seconds: f64,
    attention_seconds: f64,
    planning_seconds: f64,
    share: f64,
    scan_share: f64,
    fallback_heads: usize,
    heads: usize,
    extra_bytes: usize,
    sees_future: bool,
}

#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    #[serde(skip)]
    unit: Unit,
    value: f64,
    /// From exact attention.
    difference: f64,
    /// Of the difference, 95 %.
    interval: Option<[f64; 2]>,
}

impl Evaluation {
    /// From all records of the inputs and methods that were asked for.
    pub(crate) fn new(task: &dyn Task, settings: &Settings, state: &State, threads: usize) -> Self {
        let records = |method: &str| -> Vec<&Record> {
            (0..settings.inputs).filter_map(|input| state.get(Part::Test, input, method)).collect()
        };
        let exact = records("exact");
        let names = std::iter::once("exact").chain(settings.methods.iter().map(|choice| Choice::name(*choice)));
        let seed = Seed(settings.seed);
        let results = names.map(|name| MethodResult::new(name, task, &exact, &records(name), seed)).collect();
        let lengths = || exact.iter().map(|record| record.costs.length);
        Self {
            model: settings.model.clone(),
            task: settings.task.clone(),
            description: task.describe(),
            inputs: exact.len(),
            lengths: [lengths().min().unwrap_or(0), lengths().max().unwrap_or(0)],
            threads,
            seed: settings.seed,
            budget: match (settings.planned, settings.request) {
                (true, _) => format!("{}; auto by a stored plan", settings.budget),
                (false, Some(request)) => format!("{}; auto by {request:?}", settings.budget).to_lowercase(),
                (false, None) => settings.budget.to_string(),
            },
            results,
        }
    }
}

impl MethodResult {
    fn new(method: &'static str, task: &dyn Task, exact: &[&Record], records: &[&Record], seed: Seed) -> Self {
        let items = |records: &[&Record]| records.iter().flat_map(|r| r.items.clone()).collect::<Vec<Item>>();
        let (exact, own) = (items(exact), items(records));
        let figure = |measure: &Measure| {
            let of = |items: &[Item]| (measure.of)(&items.iter().collect::<Vec<_>>());
            let value = of(&own);
            Figure {
                name: measure.name,
                unit: measure.unit,
                value,
                difference: value - of(&exact),
                interval: bootstrap::difference(&exact, &own, measure.of, seed),
            }
        };
        let sum = |of: fn(&Costs) -> f64| records.iter().map(|record| of(&record.costs)).sum::<f64>();
        // An input of one token asks for no method.
        let count = records.iter().filter(|record| record.costs.heads > 0).count().max(1) as f64;
        let costs = || records.iter().map(|record| &record.costs);
        Self {
            method,
            measures: task.measures().iter().map(figure).collect(),
            seconds: sum(|costs| costs.seconds),
            attention_seconds: sum(|costs| costs.attention_seconds),
            planning_seconds: sum(|costs| costs.planning_seconds),
            share: sum(|costs| costs.share) / count,
            scan_share: sum(|costs| costs.scan_share) / count,
            fallback_heads: costs().map(|costs| costs.fallback_heads).sum(),
            heads: costs().map(|costs| costs.heads).sum(),
            extra_bytes: costs().map(|costs| costs.extra_bytes).max().unwrap_or(0),
            sees_future: costs().any(|costs| costs.sees_future),
        }
    }
}

/// A table with what was run above it and notes below it.
pub(crate) fn render(evaluation: &Evaluation) -> String {
    let Evaluation { inputs, lengths: [shortest, longest], budget, seed, threads, .. } = evaluation;
    let tokens = if shortest == longest { longest.to_string() } else { format!("{shortest} to {longest}") };
    let mut text = format!("{}\n{inputs} inputs of {tokens} tokens\n", evaluation.description);
    let threads = if *threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
    let _ = writeln!(text, "budget {budget}, seed {seed}, {threads} ({})\n", Level::detect().name());
    let figures = evaluation.results.first().map_or(&[][..], |result| &result.measures);
    let names = figures.iter().flat_map(|figure| [figure.name, "against exact [95 %]"]);
    let head: Vec<&str> = std::iter::once("method")
        .chain(names)
        .chain(["time", "attention", "planning", "share", "scanned", "exact heads", "memory"])
        .collect();
    let mut table = empty_table(&head);
    for result in &evaluation.results {
        table.add_row(row(result));
    }
    let _ = write!(text, "{}\n\n", table.trim_fmt());
    text.push_str(
        "time       of the whole model, all inputs; attention: of that, where methods stand; planning apart\n\
         share      of the visible pairs: pairs computed exactly + units of the background, over rows, heads, layers\n\
         scanned    of the visible pairs: looked at in 8 bits besides\n\
         exact heads that a plan left to exact attention, in per cent; they count 1 in share\n\
         memory     heap of one call of attention at most, output left out\n",
    );
    if evaluation.results.iter().any(|result| result.sees_future) {
        text.push_str("†          the choice of pairs has seen the whole sequence: no method for a decoder\n");
    }
    text
}

fn row(result: &MethodResult) -> Vec<String> {
    let mark = if result.sees_future { " †" } else { "" };
    let mut cells = vec![format!("{}{mark}", result.method)];
    for figure in &result.measures {
        cells.push(number(figure.value, figure.unit));
        cells.push(match (result.method, figure.interval) {
            ("exact", _) => "–".into(),
            (_, None) => signed(figure.difference, figure.unit),
            (_, Some([low, high])) => {
                let end = |x| signed(x, figure.unit);
                format!("{} [{}, {}]", end(figure.difference), end(low), end(high))
            }
        });
    }
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    let planning = if result.planning_seconds > 0.0 { seconds(result.planning_seconds) } else { "–".into() };
    let exact_heads = if result.fallback_heads > 0 {
        percent(result.fallback_heads as f64 / result.heads as f64)
    } else {
        "–".into()
    };
    cells.extend([
        seconds(result.seconds),
        seconds(result.attention_seconds),
        planning,
        percent(result.share),
        percent(result.scan_share),
        exact_heads,
        bytes(result.extra_bytes),
    ]);
    cells
}

fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Percent => format!("{:.2} %", 100.0 * value),
        Unit::Number if value != 0.0 && value.abs() < 1e-3 => format!("{value:.1e}"),
        Unit::Number => format!("{value:.4}"),
    }
}

fn signed(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Percent => format!("{:+.2}", 100.0 * value),
        Unit::Number if value != 0.0 && value.abs() < 1e-3 => format!("{value:+.1e}"),
        Unit::Number => format!("{value:+.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!([number(0.93456, Unit::Percent), signed(-0.01, Unit::Percent)], ["93.46 %", "-1.00"]);
        assert_eq!([number(18.1123, Unit::Number), signed(2e-5, Unit::Number)], ["18.1123", "+2.0e-5"]);
        assert_eq!(number(0.0, Unit::Number), "0.0000");
    }
}
