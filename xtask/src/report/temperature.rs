//! Figure 1: error against the softmax temperature, at equal budget, with the predicted regimes.

use super::captures::{Capture, Source, budget};
use super::chart::{Axis, Chart, Line, Marker, Rule, Series, number};
use super::clustered::Clustered;
use super::context::{Context, Interrupted};
use super::figure::{Figure, Panel, Story, UNCOUNTED};
use super::ink;
use super::judge::Setting;
use super::picture::named;
use anyhow::{Context as _, Result};
use plotters::style::RGBColor;
use scatterbrain_attention::decompose::{DecomposeError, YardstickOptions, best_at_budget};
use scatterbrain_attention::{Method, Preset};
use scatterbrain_core::Matrix;
use scatterbrain_theory::{Regime, predicted_regime, two_level_errors};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

pub(super) struct Temperature;

/// Inverse temperatures of the clustered process.
const BETAS: [f64; 11] = [0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.0];
/// Factors of a capture's own scale.
const FACTORS: [f64; 6] = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0];
const MEMBERS: usize = 8;
const SPREAD: f64 = 0.1;
/// A part suffices where its error is at most this.
const TOLERANCE: f64 = 0.2;
/// What is drawn: below nothing is told apart by eye, and zeros are far away.
const LEAST: f64 = 1e-3;
const MOST: f64 = 3.0;
/// Keys for one unit of the budget.
const KEYS_A_UNIT: usize = 16;
/// Methods that somebody could use.
const METHODS: [Preset; 4] =
    [Preset::Smyrf, Preset::Performer, Preset::ScatterbrainSmyrf, Preset::ScatterbrainQuantised];
/// What bounds them from below, and a heuristic for what both parts can do together.
const SPARSE: &str = "best sparse";
const LOW_RANK: &str = "best low rank";
const ROBUST_PCA: &str = "robust PCA (L + S)";

#[derive(Serialize)]
pub(super) enum Part {
    Process(Clustered),
    /// The first head, from its start, at this factor of its scale.
    Capture {
        source: Source,
        most: usize,
        factor: f64,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    input: String,
    n: usize,
    /// β of the process, or the factor of a capture's scale.
    inverse_temperature: f64,
    budget: usize,
    method: String,
    /// Relative Frobenius error of the normalised matrix; blank where it is no finite number.
    error: Option<f64>,
    /// That of the two-level matrix at the process's mean logits.
    predicted: Option<f64>,
    /// Which part is predicted to suffice.
    regime: Option<String>,
}

const PROCESS: &str = "clustered process";

impl Figure for Temperature {
    type Part = Part;
    type Row = Row;

    fn number(&self) -> u8 {
        1
    }

    fn title(&self) -> &'static str {
        "Error against the softmax temperature at equal budget"
    }

    fn parts(&self, context: &Context) -> Result<Vec<Part>> {
        let clusters = context.pick(24, 64);
        let process = |inverse_temperature| {
            Part::Process(Clustered { clusters, members: MEMBERS, spread: SPREAD, inverse_temperature, seed: 9 })
        };
        let mut parts: Vec<Part> = BETAS.into_iter().map(process).collect();
        let most = context.pick(192, 512);
        // One of each model: rows of one model's heads look alike here, and the yardstick takes its time.
        for source in context.one_a_model().take(context.pick(2, usize::MAX)) {
            parts.extend(FACTORS.map(|factor| Part::Capture { source: source.clone(), most, factor }));
        }
        Ok(parts)
    }

    fn label(&self, part: &Part) -> String {
        match part {
            Part::Process(process) => format!("β = {}", process.inverse_temperature),
            Part::Capture { source, factor, .. } => format!("{}, {factor} × its scale", source.name),
        }
    }

    fn compute(&self, part: &Part, context: &Context) -> Result<Vec<Row>> {
        match part {
            Part::Process(clustered) => {
                let budget = clustered.n() / KEYS_A_UNIT;
                let beta = clustered.inverse_temperature;
                let process = clustered.process();
                let ratio = process.logit_moments(beta, true)?.mean.exp();
                let model = two_level_errors(process.clusters, process.members, ratio, budget)?;
                let regime = name(predicted_regime(process, beta, budget, TOLERANCE)?);
                let mut rows = rows(&clustered.draw()?, PROCESS, beta, budget, context)?;
                for row in &mut rows {
                    row.regime = Some(regime.into());
                    row.predicted = match row.method.as_str() {
                        SPARSE => Some(model.sparse),
                        LOW_RANK => Some(model.low_rank),
                        ROBUST_PCA => Some(model.both),
                        _ => None,
                    };
                }
                Ok(rows)
            }
            Part::Capture { source, most, factor } => {
                let mut capture = source.read(Some(1))?.corner(*most);
                capture.scale *= factor;
                let budget = budget(capture.m(), KEYS_A_UNIT);
                rows(&capture, &source.name, *factor, budget, context)
            }
        }
    }

    fn present(&self, rows: &[Row], context: &Context) -> Result<Story> {
        let mut inputs: Vec<&str> = rows.iter().map(|row| row.input.as_str()).collect();
        inputs.dedup();
        let process: Vec<&Row> = rows.iter().filter(|row| row.input == PROCESS).collect();
        let at = |beta: f64, method: &str| {
            let found = process.iter().find(|row| row.inverse_temperature == beta && row.method == method);
            found.and_then(|row| row.error).map_or("–".into(), number)
        };
        let told = |beta: f64| {
            format!(
                "at β = {beta} best sparse {}, best low-rank {}, robust PCA {}, scatterbrain-smyrf {}",
                at(beta, SPARSE),
                at(beta, LOW_RANK),
                at(beta, ROBUST_PCA),
                at(beta, Preset::ScatterbrainSmyrf.name())
            )
        };
        Ok(Story {
            summary: format!(
                "Errors of the normalised matrix on the clustered process: {}; {}; {}.",
                told(BETAS[0]),
                told(BETAS[6]),
                told(BETAS[BETAS.len() - 1])
            ),
            caption: vec![
                format!(
                    "Across: inverse temperature, cold to the right; on a capture the factor of its own softmax scale. Up: \
                     relative Frobenius error of the row-normalised attention matrix. All lines of a panel have one \
                     budget, a {KEYS_A_UNIT}th of the keys in units a query (an entry 1, a rank or a feature 2).",
                ),
                "Best sparse keeps the largest entries of each row, best low rank is the truncated singular value \
                 decomposition: no method that is only sparse, or only low-rank, does better at that budget. Robust PCA is \
                 a good L + S at the budget, found by a heuristic: an upper bound of the best."
                    .into(),
                format!(
                    "The process: {} queries and as many keys of d = 64 in clusters of {MEMBERS}, Δ = {SPREAD}. Dashed \
                     lines are the predictions of the two-level model, and each name beside a rule says that from there on sparse, low \
                     rank, either or only both together are predicted to reach an error of {TOLERANCE} (none known: none of them is). \
                     The model puts every logit at its mean: of both together it predicts no error at all, which no line shows, \
                     and where a drawn line reaches {TOLERANCE} at another temperature than the rule says, it is the rule that is \
                     off. Errors above {MOST} or below {LEAST} are not drawn. Of captures the \
                     first head of the smallest file of each model is taken, at most {} tokens from its start; for these \
                     nothing is predicted.",
                    context.pick(24, 64) * MEMBERS,
                    context.pick(192, 512)
                ),
                UNCOUNTED.into(),
            ],
            panels: inputs.iter().map(|input| panel(rows, input)).collect::<Result<_>>()?,
            tables: Vec::new(),
        })
    }
}

/// Errors of every method on one head.
fn rows(
    capture: &Capture,
    input: &str,
    inverse_temperature: f64,
    budget: usize,
    context: &Context,
) -> Result<Vec<Row>> {
    let (n, m) = (capture.query_shape[2], capture.m());
    context.steps(METHODS.len() + 1);
    let exact = &capture.matrices(&Method::exact())?[0];
    let matrix = Matrix::new("matrix", exact, n, m)?;
    let mut wait = |_: &scatterbrain_attention::decompose::Progress| match context.go_on() {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let found = match best_at_budget(&matrix, None, budget, &YardstickOptions::default(), &mut wait) {
        Err(DecomposeError::Cancelled(_)) => return Err(Interrupted.into()),
        found => found.context("the yardstick")?,
    };
    context.step()?;
    let row = |method: &str, error: Option<f64>| Row {
        input: input.to_owned(),
        n,
        inverse_temperature,
        budget,
        method: method.to_owned(),
        error,
        predicted: None,
        regime: None,
    };
    let mut rows = vec![
        row(SPARSE, Some(found.sparse_alone.error)),
        row(LOW_RANK, Some(found.low_rank_alone.error)),
        row(ROBUST_PCA, Some(found.error)),
    ];
    for preset in METHODS {
        let method = Setting { preset, budget, seed: 0 }.method(capture)?;
        rows.push(row(preset.name(), relative(&capture.matrices(&method)?[0], exact)));
        context.step()?;
    }
    Ok(rows)
}

/// Relative Frobenius error.
fn relative(estimate: &[f32], exact: &[f32]) -> Option<f64> {
    let square = |x: f64| x * x;
    let difference: f64 = estimate.iter().zip(exact).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let norm: f64 = exact.iter().map(|&x| square(f64::from(x))).sum();
    Some((difference / norm).sqrt()).filter(|error| error.is_finite())
}

fn name(regime: Regime) -> &'static str {
    match regime {
        Regime::LowRank => "low rank",
        Regime::Sparse => "sparse",
        Regime::Either => "either",
        Regime::Both => "both together",
        Regime::Unknown => "none known",
    }
}

fn color(method: &str) -> RGBColor {
    match method {
        SPARSE => ink::ORANGE,
        LOW_RANK => ink::VIOLET,
        ROBUST_PCA => ink::INK,
        _ => Preset::from_name(method).map_or(ink::GREY, ink::method),
    }
}

fn panel(rows: &[Row], input: &str) -> Result<Panel> {
    let own: Vec<&Row> = rows.iter().filter(|row| row.input == input).collect();
    let mut methods: Vec<&str> = own.iter().map(|row| row.method.as_str()).collect();
    methods.truncate(METHODS.len() + 3);
    let points = |method: &str, of: &dyn Fn(&Row) -> Option<f64>| -> Vec<(f64, f64)> {
        let kept = own.iter().filter(|row| row.method == method);
        kept.filter_map(|row| Some((row.inverse_temperature, of(row)?))).collect()
    };
    let mut series = Vec::new();
    for (at, method) in methods.iter().enumerate() {
        let line = if at < 3 { Line::Solid } else { Line::Strong };
        let marker = Marker::CYCLE[at % Marker::CYCLE.len()];
        series.push(Series::new(method, color(method), points(method, &|row| row.error)).line(line).marker(marker));
        // The prediction of the same thing, without a name of its own in the legend.
        series.push(Series::new("", color(method), points(method, &|row| row.predicted)).line(Line::Dashed));
    }
    let chart = Chart {
        x: Axis::log(if input == PROCESS { "inverse temperature β" } else { "factor of the capture's scale" }),
        y: Axis::log("relative Frobenius error").between(LEAST, MOST),
        series,
        rules: regimes(&own),
    };
    let said: Vec<String> = methods
        .iter()
        .map(|method| {
            let errors = points(method, &|row| row.error);
            let ends = [errors.first(), errors.last()].map(|p| p.map_or("–".into(), |p| number(p.1)));
            format!("{method} {} to {}", ends[0], ends[1])
        })
        .collect();
    let alt = format!("Error from the warmest to the coldest softmax on {input}: {}.", said.join(", "));
    Ok(Panel { title: input.to_owned(), svg: named(&chart.svg()?, input, &alt)?, alt })
}

/// Rules where one predicted regime begins.
fn regimes(rows: &[&Row]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for row in rows {
        let Some(regime) = &row.regime else { continue };
        if rules.last().is_none_or(|rule| rule.name != *regime) {
            rules.push(Rule::vertical(row.inverse_temperature, regime));
        }
    }
    rules
}
