//! Figure 8: Scatterbrain against sparse alone and low-rank alone at equal units, on a grid fixed before looking.

use super::captures::{Capture, Source, budget};
use super::clustered::Clustered;
use super::context::Context;
use super::figure::{Figure, Listing, Panel, Story, UNCOUNTED};
use super::heat::{Cell, Heat};
use super::ink;
use super::judge::{Judge, Setting};
use super::picture::named;
use anyhow::Result;
use scatterbrain_attention::blocks::TopK;
use scatterbrain_attention::features::{FeatureBackground, HyperbolicFeatures, ProjectionKind};
use scatterbrain_attention::{Method, Preset, Seed};
use serde::{Deserialize, Serialize};

pub(super) struct EqualUnits;

/// The paper's headline: this many times lower error than either part alone.
const HEADLINE: f64 = 2.1;
/// The grid of the clustered process: inverse temperatures, spreads within clusters, keys for one unit of the budget.
const INVERSE_TEMPERATURES: [f64; 6] = [0.125, 0.25, 0.5, 1.0, 2.0, 4.0];
const SPREADS: [f64; 5] = [0.05, 0.1, 0.25, 0.5, 1.0];
const KEYS_A_UNIT: [usize; 3] = [32, 16, 8];
/// Queries of a cluster, and keys.
const MEMBERS: usize = 32;

/// A support and a background, together and each alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Combination {
    /// Two hashes of SMYRF, hyperbolic features: the paper's.
    Smyrf,
    /// A window, hyperbolic features: the paper's.
    Local,
    /// The largest logits, which costs a look at every key, and hyperbolic features.
    TopK,
    /// A window and centroids.
    LocalCentroids,
    /// The largest logits of quantised rows, and centroids.
    QuantisedCentroids,
}

impl Combination {
    const ALL: [Self; 5] = [Self::Smyrf, Self::Local, Self::TopK, Self::LocalCentroids, Self::QuantisedCentroids];
    /// Rows of the clustered process have no position that a window could use.
    const ON_PROCESS: [Self; 3] = [Self::Smyrf, Self::TopK, Self::QuantisedCentroids];

    fn name(self) -> &'static str {
        match self {
            Self::Smyrf => "smyrf + features",
            Self::Local => "local + features",
            Self::TopK => "topk + features",
            Self::LocalCentroids => "local + centroids",
            Self::QuantisedCentroids => "quantised + centroids",
        }
    }

    /// Whether it costs more than its units on a causal capture: a row goes through the keys of its ragged block too.
    fn is_ragged(self, capture: &Capture) -> bool {
        capture.causal && matches!(self, Self::LocalCentroids | Self::QuantisedCentroids)
    }

    /// Whether it is one of the paper's.
    fn is_the_papers(self) -> bool {
        matches!(self, Self::Smyrf | Self::Local)
    }

    /// The whole budget on the support.
    fn sparse(self, capture: &Capture, budget: usize, seed: u64) -> Result<Method> {
        let preset = match self {
            Self::Smyrf => Preset::Smyrf,
            Self::Local | Self::LocalCentroids => Preset::Local,
            Self::TopK => Preset::TopK,
            Self::QuantisedCentroids => Preset::QuantisedTopK,
        };
        Setting { preset, budget, seed }.method(capture)
    }

    /// The whole budget on the background.
    fn low_rank(self, capture: &Capture, budget: usize, seed: u64) -> Result<Method> {
        match self {
            Self::LocalCentroids | Self::QuantisedCentroids => {
                Setting { preset: Preset::Centroids, budget, seed }.method(capture)
            }
            _ => Ok(Method::low_rank(features(capture, budget / 2, seed)?)),
        }
    }

    /// Half of the budget on each.
    fn combined(self, capture: &Capture, budget: usize, seed: u64) -> Result<Method> {
        let preset = match self {
            Self::Smyrf => Preset::ScatterbrainSmyrf,
            Self::Local => Preset::ScatterbrainLocal,
            Self::LocalCentroids => Preset::ScatterbrainCentroid,
            Self::QuantisedCentroids => Preset::ScatterbrainQuantised,
            Self::TopK => {
                let support = TopK::new((budget / 2).max(1))?;
                return Ok(Method::scatterbrain(support, features(capture, budget / 4, seed)?));
            }
        };
        Setting { preset, budget, seed }.method(capture)
    }
}

/// Hyperbolic features, an even number of them; each costs two units.
fn features(capture: &Capture, count: usize, seed: u64) -> Result<FeatureBackground> {
    let count = (count / 2 * 2).max(2);
    let map = HyperbolicFeatures::sample(capture.d(), count, ProjectionKind::Orthogonal, Seed(seed))?;
    Ok(FeatureBackground::new(map))
}

#[derive(Serialize)]
pub(super) enum Part {
    /// One temperature and one spread of the process.
    Process {
        process: Clustered,
        draws: u64,
    },
    Capture {
        source: Source,
        heads: Option<usize>,
        rows: usize,
        draws: u64,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    /// `clustered`, or a capture.
    input: String,
    /// Of the clustered process.
    inverse_temperature: Option<f64>,
    spread: Option<f64>,
    combination: Combination,
    budget: usize,
    /// For one unit of the budget.
    keys_a_unit: usize,
    /// Means over draws of hashes and features; blank where one is no finite number.
    sparse_error: Option<f64>,
    low_rank_error: Option<f64>,
    scatterbrain_error: Option<f64>,
    /// Of the mean of all values, for comparison.
    uniform_error: Option<f64>,
    /// The lower of the first two over the third.
    times_lower: Option<f64>,
    verdict: Verdict,
}

impl Row {
    fn is_worse_than_uniform(&self) -> bool {
        self.scatterbrain_error.zip(self.uniform_error).is_some_and(|(own, uniform)| own > uniform)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// By the paper's factor, against either.
    Headline,
    Lower,
    NotLower,
    /// Of another cost than its units say.
    Uncounted,
}

impl Verdict {
    const COUNTED: [Self; 3] = [Self::Headline, Self::Lower, Self::NotLower];

    fn of(times: Option<f64>) -> Self {
        match times {
            Some(times) if times >= HEADLINE => Self::Headline,
            Some(times) if times > 1.0 => Self::Lower,
            _ => Self::NotLower,
        }
    }

    fn color(self) -> plotters::style::RGBColor {
        match self {
            Self::Headline => ink::BEST,
            Self::Lower => ink::BETTER,
            Self::NotLower => ink::WORSE,
            Self::Uncounted => ink::GRID,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Headline => format!("error at least {HEADLINE} times lower than either alone"),
            Self::Lower => "lower than either alone".into(),
            Self::NotLower => "not lower".into(),
            Self::Uncounted => "not counted: ragged ends have no units".into(),
        }
    }
}

impl Figure for EqualUnits {
    type Part = Part;
    type Row = Row;

    fn number(&self) -> u8 {
        8
    }

    fn title(&self) -> &'static str {
        "Scatterbrain against its parts at equal units"
    }

    fn parts(&self, context: &Context) -> Result<Vec<Part>> {
        let (n, draws) = context.pick((256, 1), (1024, 3));
        let clusters = n / MEMBERS;
        let process = |inverse_temperature: f64, spread: f64| Clustered {
            clusters,
            members: MEMBERS,
            spread,
            inverse_temperature,
            seed: 0,
        };
        let grid = SPREADS.into_iter().flat_map(|s| INVERSE_TEMPERATURES.map(|t| (t, s)));
        let mut parts: Vec<Part> = grid.map(|(t, s)| Part::Process { process: process(t, s), draws }).collect();
        let (heads, rows) = context.pick((Some(2), 64), (None, 512));
        parts.extend(context.sources().map(|source| Part::Capture { source: source.clone(), heads, rows, draws }));
        Ok(parts)
    }

    fn label(&self, part: &Part) -> String {
        match part {
            Part::Process { process, .. } => format!("β = {}, Δ = {}", process.inverse_temperature, process.spread),
            Part::Capture { source, .. } => source.name.clone(),
        }
    }

    fn compute(&self, part: &Part, context: &Context) -> Result<Vec<Row>> {
        match part {
            Part::Process { process, draws } => {
                let found = compare(&process.draw()?, process.n(), *draws, &Combination::ON_PROCESS, context)?;
                let of_process = |row| Row {
                    inverse_temperature: Some(process.inverse_temperature),
                    spread: Some(process.spread),
                    ..row
                };
                Ok(found.into_iter().map(of_process).collect())
            }
            Part::Capture { source, heads, rows, draws } => {
                compare(&source.read(*heads)?, *rows, *draws, &Combination::ALL, context)
            }
        }
    }

    fn present(&self, rows: &[Row], context: &Context) -> Result<Story> {
        let counted = || rows.iter().filter(|row| row.verdict != Verdict::Uncounted);
        let on_process = || counted().filter(|row| row.inverse_temperature.is_some());
        let on_captures = || counted().filter(|row| row.inverse_temperature.is_none());
        let mut lines = Vec::new();
        for rule in Combination::ALL {
            let process: Vec<&Row> = on_process().filter(|row| row.combination == rule).collect();
            let captures: Vec<&Row> = on_captures().filter(|row| row.combination == rule).collect();
            for (place, rows) in [("clustered process", process), ("captures", captures)] {
                if !rows.is_empty() {
                    let share = |v: Verdict| percent(rows.iter().filter(|row| row.verdict == v).count(), rows.len());
                    let mut line = vec![format!("{}, {place}", rule.name()), rows.len().to_string()];
                    line.extend(Verdict::COUNTED.map(share));
                    lines.push(line);
                }
            }
        }
        let told = |place: &str, rows: Vec<&Row>| {
            if rows.is_empty() {
                return format!("on {place} nothing that counts");
            }
            let count = |v: Verdict| percent(rows.iter().filter(|row| row.verdict == v).count(), rows.len());
            let idle = rows.iter().filter(|row| row.verdict != Verdict::NotLower && row.is_worse_than_uniform());
            format!(
                "on {place} ({} cases) at least {HEADLINE} times lower error than either in {}, merely lower in {}, not \
                 lower in {} (in {} lower than either and yet above that of the uniform row)",
                rows.len(),
                count(Verdict::Headline),
                count(Verdict::Lower),
                count(Verdict::NotLower),
                percent(idle.count(), rows.len())
            )
        };
        let papers = |row: &&Row| row.combination.is_the_papers();
        let centroids = |row: &&Row| row.combination == Combination::QuantisedCentroids;
        Ok(Story {
            summary: format!(
                "At equal units, the paper's combinations (smyrf or a window, with random features) against their parts: \
                 {}; {}. Quantised top-k with centroids: {}; {}.",
                told("the clustered process", on_process().filter(papers).collect()),
                told("captures", on_captures().filter(papers).collect()),
                told("the process", on_process().filter(centroids).collect()),
                told("captures", on_captures().filter(centroids).collect())
            ),
            caption: vec![
                format!(
                    "Each cell is the mean row error of the better of sparse alone and low-rank alone over that of both \
                     together, at the same units a query: {HEADLINE} or more is the paper's headline, 1 is a draw. \
                     Sparse alone spends all units on the support, low-rank alone all on the background (2 units a \
                     hyperbolic feature or a centroid), the combination half on each.",
                ),
                format!(
                    "The grid was fixed before looking: inverse temperature β, spread Δ within clusters, and budgets of \
                     {} of the keys. The clustered process: {} queries and as many keys of d = 64 in clusters of \
                     {MEMBERS}, centres N(0, I/√d), members N(centre, Δ²I/√d), logits β q·k, values N(0, I). Errors are \
                     means over {} of hashes and features; on captures at most {} rows of a head are judged.",
                    KEYS_A_UNIT.map(|keys| format!("1/{keys}")).join(", "),
                    context.pick(256, 1024),
                    context.pick("one draw", "three draws"),
                    context.pick(64, 512)
                ),
                "The first two combinations are the paper's. topk scores every key: it shows what features add to a \
                 support that is found for nothing. A lower error than both parts' need not be a small one: the data has \
                 the errors themselves, and that of the uniform row."
                    .into(),
                UNCOUNTED.into(),
                "Such cells are drawn, and counted nowhere.".into(),
            ],
            panels: panels(rows)?,
            tables: vec![Listing {
                title: "Share of the cases".into(),
                head: ["combination, input", "cases", &format!("at least {HEADLINE} times lower"), "merely lower", "not lower"]
                    .map(str::to_owned)
                    .to_vec(),
                lines,
            }],
        })
    }
}

/// All budgets and supports on one input.
fn compare(
    capture: &Capture,
    rows: usize,
    draws: u64,
    combinations: &[Combination],
    context: &Context,
) -> Result<Vec<Row>> {
    context.steps(KEYS_A_UNIT.len() * combinations.len() + 1);
    let judge = Judge::new(capture, rows, context)?;
    context.step()?;
    let uniform = judge.error(capture, &Setting { preset: Preset::Uniform, budget: 1, seed: 0 }.method(capture)?)?;
    let over_draws = |method: &dyn Fn(u64) -> Result<Method>| -> Result<Option<f64>> {
        let errors: Vec<Option<f64>> =
            (0..draws).map(|seed| judge.error(capture, &method(seed)?)).collect::<Result<_>>()?;
        let errors: Option<Vec<f64>> = errors.into_iter().collect();
        Ok(errors.map(|errors| errors.iter().sum::<f64>() / draws as f64))
    };
    let mut found = Vec::new();
    for keys_a_unit in KEYS_A_UNIT {
        let budget = budget(capture.m(), keys_a_unit);
        for &combination in combinations {
            let sparse = over_draws(&|seed| combination.sparse(capture, budget, seed))?;
            let low_rank = over_draws(&|seed| combination.low_rank(capture, budget, seed))?;
            let combined = over_draws(&|seed| combination.combined(capture, budget, seed))?;
            // A part without a finite error is beaten by one that has it.
            let least = [sparse, low_rank].into_iter().flatten().reduce(f64::min);
            let times_lower = least.zip(combined).map(|(least, combined)| least / combined).filter(|t| t.is_finite());
            found.push(Row {
                input: capture.name.clone(),
                inverse_temperature: None,
                spread: None,
                combination,
                budget,
                keys_a_unit,
                sparse_error: sparse,
                low_rank_error: low_rank,
                scatterbrain_error: combined,
                uniform_error: uniform,
                times_lower,
                verdict: if combination.is_ragged(capture) { Verdict::Uncounted } else { Verdict::of(times_lower) },
            });
            context.step()?;
        }
    }
    Ok(found)
}

/// A panel for each support and budget on the process, and for each support on captures.
fn panels(rows: &[Row]) -> Result<Vec<Panel>> {
    let mut panels = Vec::new();
    for rule in Combination::ALL {
        for keys in KEYS_A_UNIT {
            let cells: Vec<&Row> = rows
                .iter()
                .filter(|row| row.combination == rule && row.keys_a_unit == keys && row.inverse_temperature.is_some())
                .collect();
            if cells.is_empty() {
                continue;
            }
            let at = |t: f64, s: f64| {
                let found = cells.iter().find(|row| row.inverse_temperature == Some(t) && row.spread == Some(s));
                found.map(|row| cell(row))
            };
            let heat = Heat {
                x: "inverse temperature β".into(),
                y: "spread Δ".into(),
                columns: INVERSE_TEMPERATURES.map(|t| t.to_string()).to_vec(),
                lines: SPREADS.map(|s| s.to_string()).to_vec(),
                cells: SPREADS.into_iter().flat_map(|s| INVERSE_TEMPERATURES.map(|t| at(t, s))).collect(),
                legend: legend(&cells),
            };
            let title = format!("Clustered process, {}, budget 1/{keys}", rule.name());
            panels.push(panel(title, &heat, &cells)?);
        }
    }
    for rule in Combination::ALL {
        let cells: Vec<&Row> =
            rows.iter().filter(|row| row.combination == rule && row.inverse_temperature.is_none()).collect();
        let mut inputs: Vec<&str> = cells.iter().map(|row| row.input.as_str()).collect();
        inputs.dedup();
        let at = |input: &str, keys: usize| {
            cells.iter().find(|row| row.input == input && row.keys_a_unit == keys).map(|row| cell(row))
        };
        let heat = Heat {
            x: "budget, of the keys".into(),
            y: String::new(),
            columns: KEYS_A_UNIT.map(|keys| format!("1/{keys}")).to_vec(),
            lines: inputs.iter().map(|input| (*input).to_owned()).collect(),
            cells: inputs.iter().flat_map(|input| KEYS_A_UNIT.map(|keys| at(input, keys))).collect(),
            legend: legend(&cells),
        };
        panels.push(panel(format!("Captures, {}", rule.name()), &heat, &cells)?);
    }
    Ok(panels)
}

fn panel(title: String, heat: &Heat, rows: &[&Row]) -> Result<Panel> {
    let count = |v: Verdict| rows.iter().filter(|row| row.verdict == v).count();
    let mut alt = format!(
        "Of {} cells {} show an error at least {HEADLINE} times lower than either part's, {} a lower one, {} none lower",
        rows.len(),
        count(Verdict::Headline),
        count(Verdict::Lower),
        count(Verdict::NotLower)
    );
    alt += &match count(Verdict::Uncounted) {
        0 => ".".to_owned(),
        uncounted => format!("; {uncounted} are not counted."),
    };
    Ok(Panel { svg: named(&heat.svg()?, &title, &alt)?, title, alt })
}

fn cell(row: &Row) -> Cell {
    // Two places, cut off: a draw is no win, and the headline begins at its own number.
    let text = row.times_lower.map_or("–".into(), |times| format!("{:.2}", (times * 100.0).floor() / 100.0));
    Cell { color: row.verdict.color(), text }
}

/// Of all verdicts that are counted, and of the other where it is there.
fn legend(rows: &[&Row]) -> Vec<(plotters::style::RGBColor, String)> {
    let uncounted = rows.iter().any(|row| row.verdict == Verdict::Uncounted).then_some(Verdict::Uncounted);
    Verdict::COUNTED.into_iter().chain(uncounted).map(|verdict| (verdict.color(), verdict.name())).collect()
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.0} %", 100.0 * part as f64 / whole.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let of = |times| Verdict::of(times);
        assert_eq!(
            [of(Some(2.1)), of(Some(2.0)), of(Some(1.0)), of(None)],
            [Verdict::Headline, Verdict::Lower, Verdict::NotLower, Verdict::NotLower]
        );
    }
}
