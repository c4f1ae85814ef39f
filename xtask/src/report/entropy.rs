//! Figure 3: error against row entropy, one point a head, on captures.

use super::captures::Source;
use super::chart::{Axis, Chart, Marker, Series, number};
use super::context::Context;
use super::figure::{Figure, Listing, Panel, Story, UNCOUNTED};
use super::ink;
use super::judge::{Judge, Setting};
use super::picture::named;
use crate::statistics::median;
use anyhow::Result;
use scatterbrain_attention::Preset;
use serde::{Deserialize, Serialize};

pub(super) struct Entropy;

const METHODS: [Preset; 6] = [
    Preset::Smyrf,
    Preset::Performer,
    Preset::ScatterbrainSmyrf,
    Preset::TopK,
    Preset::Centroids,
    Preset::ScatterbrainQuantised,
];
/// Keys of a head for one unit of the budget.
const KEYS_A_UNIT: usize = 16;
/// Heads below it are called concentrated, the others diffuse.
const MIDDLE: f64 = 0.6;

#[derive(Serialize)]
pub(super) struct Part {
    source: Source,
    heads: Option<usize>,
    rows: usize,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    capture: String,
    model: String,
    head: usize,
    /// Mean row entropy over the logarithm of the number of visible keys.
    entropy: f64,
    method: String,
    budget: usize,
    /// Blank where it is no finite number.
    error: Option<f64>,
}

impl Figure for Entropy {
    type Part = Part;
    type Row = Row;

    fn number(&self) -> u8 {
        3
    }

    fn title(&self) -> &'static str {
        "Error against row entropy, a point a head"
    }

    fn parts(&self, context: &Context) -> Result<Vec<Part>> {
        let (heads, rows) = context.pick((Some(4), 64), (None, 512));
        Ok(context.sources().map(|source| Part { source: source.clone(), heads, rows }).collect())
    }

    fn label(&self, part: &Part) -> String {
        part.source.name.clone()
    }

    fn compute(&self, part: &Part, context: &Context) -> Result<Vec<Row>> {
        let capture = part.source.read(part.heads)?;
        context.steps(METHODS.len() + 1);
        let judge = Judge::new(&capture, part.rows, context)?;
        context.step()?;
        let budget = (capture.m() / KEYS_A_UNIT).max(1);
        let mut rows = Vec::new();
        for preset in METHODS {
            let method = Setting { preset, budget, seed: 0 }.method(&capture)?;
            let errors = judge.head_errors(&capture, &method)?;
            for (head, (error, entropy)) in errors.into_iter().zip(judge.entropies()).enumerate() {
                rows.push(Row {
                    capture: capture.name.clone(),
                    model: part.source.model().to_owned(),
                    head,
                    entropy,
                    method: preset.name().into(),
                    budget,
                    error,
                });
            }
            context.step()?;
        }
        Ok(rows)
    }

    fn present(&self, rows: &[Row], context: &Context) -> Result<Story> {
        let heads = rows.len() / METHODS.len();
        let middle = |preset: Preset, diffuse: bool| {
            let wanted = of(rows, preset).filter(|row| (row.entropy >= MIDDLE) == diffuse);
            median(&wanted.filter_map(|row| row.error).collect::<Vec<f64>>())
        };
        let cell = |x: Option<f64>| x.map_or("–".into(), number);
        let line = |preset: Preset| vec![preset.name().into(), cell(middle(preset, false)), cell(middle(preset, true))];
        let diffuse = of(rows, METHODS[0]).filter(|row| row.entropy >= MIDDLE).count();
        let table = Listing {
            title: format!(
                "Median error over the {} heads below entropy {MIDDLE}, and the {diffuse} from there on",
                heads - diffuse
            ),
            head: vec!["method".into(), format!("below {MIDDLE}"), format!("from {MIDDLE} on")],
            lines: METHODS.into_iter().map(line).collect(),
        };
        let told = |preset: Preset| {
            format!("{} {} and {}", preset.name(), cell(middle(preset, false)), cell(middle(preset, true)))
        };
        Ok(Story {
            summary: format!(
                "Median error over concentrated heads (relative entropy below {MIDDLE}) and over diffuse ones, {heads} \
                 heads in all: {}.",
                METHODS.map(told).join("; ")
            ),
            caption: vec![
                format!(
                    "Every point is one head of one capture. Across: the mean entropy of its attention rows over that of \
                     a uniform row on the keys the row sees, 0 for a spike and 1 for a flat row. Up: the mean of \
                     |o − ô|/|o| over rows, exact attention o in float64 from the stored inputs. The budget is a \
                     {KEYS_A_UNIT}th of the keys, in units a query: a key costs 1, a feature 2.",
                ),
                format!(
                    "At most {} rows of a head are judged, evenly spaced. An error of 1 is that of answering zero. topk \
                     looks at every key to choose, and so shows what a perfect choice would give, not what it would cost.",
                    context.pick(64, 512)
                ),
                UNCOUNTED.into(),
            ],
            panels: METHODS.into_iter().map(|preset| panel(rows, preset)).collect::<Result<_>>()?,
            tables: vec![table],
        })
    }
}

fn of(rows: &[Row], preset: Preset) -> impl Iterator<Item = &Row> {
    rows.iter().filter(move |row| row.method == preset.name())
}

fn panel(rows: &[Row], preset: Preset) -> Result<Panel> {
    let mut models: Vec<&str> = rows.iter().map(|row| row.model.as_str()).collect();
    models.sort_unstable();
    models.dedup();
    let series = models.iter().enumerate().map(|(at, model)| {
        let kept = of(rows, preset).filter(|row| row.model == *model);
        let points = kept.filter_map(|row| Some((row.entropy, row.error?))).collect();
        let shape = Marker::CYCLE[at % Marker::CYCLE.len()];
        Series::new(model, ink::CYCLE[at % ink::CYCLE.len()], points).marker(shape)
    });
    // One scale for all panels, so that they can be compared by eye.
    let errors = || rows.iter().filter_map(|row| row.error).filter(|error| *error > 0.0);
    let (least, most) = (errors().fold(f64::INFINITY, f64::min), errors().fold(0.0, f64::max));
    let chart = Chart {
        x: Axis::linear("row entropy, relative").showing(0.0, 1.0),
        y: Axis::log("mean row error").showing(least, most),
        series: series.collect(),
        rules: vec![super::chart::Rule::horizontal(1.0, "answering zero")],
    };
    let errors: Vec<f64> = of(rows, preset).filter_map(|row| row.error).collect();
    let alt = format!(
        "Error of {} against row entropy, {} heads coloured by model ({}); the median error is {}.",
        preset.name(),
        errors.len(),
        models.join(", "),
        median(&errors).map_or("–".into(), number)
    );
    let title = preset.name().to_owned();
    Ok(Panel { svg: named(&chart.svg()?, &title, &alt)?, title, alt })
}
