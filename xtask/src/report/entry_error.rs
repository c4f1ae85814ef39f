//! Figure 2: mean squared error of one entry against q·k, theory over Monte Carlo, for every feature map and hash.

use super::chart::{Axis, Chart, Line, Marker, Series};
use super::context::Context;
use super::figure::{Figure, Listing, Panel, Story};
use super::ink;
use super::picture::named;
use super::samples::{Family, Hash, HashRule, Map, Vectors, combined};
use anyhow::Result;
use plotters::style::RGBColor;
use scatterbrain_attention::Seed;
use scatterbrain_attention::features::ProjectionKind::{self, Gaussian, Orthogonal, Simplex};
use scatterbrain_theory::{Check, Claim, Draws, Estimator, Verdict, mse_sparse_alone, optimal_a, variance_combined};
use serde::{Deserialize, Serialize};

pub(super) struct EntryError;

/// d of the paper's worked figure, and its features ⌊d ln d⌋, tables and concatenations.
const HEAD_DIM: usize = 16;
const FEATURES: usize = 44;
const TABLES: usize = 4;
const CONCATENATIONS: usize = 23;
/// Errors below it are those of f32, whatever a formula says: it says 0 at the ends of some lines.
const ROUNDING: f64 = 1e-9;

/// The estimators of a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Group {
    Paper,
    Independent,
    Coupled,
    Hashes,
    Inclusion,
}

impl Group {
    const ALL: [Self; 5] = [Self::Paper, Self::Independent, Self::Coupled, Self::Hashes, Self::Inclusion];

    fn title(self) -> &'static str {
        match self {
            Self::Paper => "The paper's figure: apart and together",
            Self::Independent => "Feature maps, independent directions",
            Self::Coupled => "Feature maps, coupled directions",
            Self::Hashes => "Positive features with every hash",
            Self::Inclusion => "Probability that a hash finds the pair",
        }
    }

    fn estimators(self, dot: f64) -> Result<Vec<Kind>> {
        let map = |family, kind: ProjectionKind| Map { family, kind, n_features: FEATURES };
        // The optimum of each pair: |q + k|² of unit vectors.
        let optimum = optimal_a(2.0 + 2.0 * dot, HEAD_DIM)?;
        let oprf = Family::Oprf((1e3 * optimum).round() as i32);
        let hash = |family, concatenations| Hash { family, concatenations, tables: TABLES };
        let hashes = [
            hash(HashRule::SignRandomProjection, CONCATENATIONS),
            hash(HashRule::SignRandomProjection, 4),
            hash(HashRule::E2lsh(1.0), 2),
            hash(HashRule::CrossPolytope, 1),
            hash(HashRule::Reformer(16), 1),
        ];
        let positive = map(Family::Positive, Gaussian);
        Ok(match self {
            Self::Paper => vec![Kind::Sparse(hashes[0]), Kind::Features(positive), Kind::Both(hashes[0], positive)],
            Self::Independent => {
                let families = [Family::Positive, Family::Hyperbolic, Family::Trigonometric, oprf, Family::Relu];
                let drawn = families.map(|family| Kind::Features(map(family, Gaussian)));
                let fixed = [Family::Elu, Family::Constant].map(|family| Kind::Features(map(family, Gaussian)));
                drawn.into_iter().chain(fixed).collect()
            }
            Self::Coupled => {
                let families = [Family::Positive, Family::Hyperbolic, Family::Trigonometric, oprf];
                let orthogonal = families.map(|family| Kind::Features(map(family, Orthogonal)));
                orthogonal.into_iter().chain([Kind::Features(map(Family::Positive, Simplex))]).collect()
            }
            Self::Hashes => hashes.map(|hash| Kind::Both(hash, positive)).to_vec(),
            Self::Inclusion => hashes.map(Kind::Inclusion).to_vec(),
        })
    }
}

/// An estimator of A, or a hash alone.
#[derive(Clone, Copy)]
enum Kind {
    Features(Map),
    Sparse(Hash),
    Both(Hash, Map),
    Inclusion(Hash),
}

impl Kind {
    fn name(&self) -> String {
        match self {
            Kind::Features(map) => map.name(),
            Kind::Sparse(hash) => format!("sparse alone: {}", hash.name()),
            Kind::Both(hash, map) => format!("{} + {}", hash.name(), map.name()),
            Kind::Inclusion(hash) => hash.name(),
        }
    }

    /// What the theory says.
    fn prediction(&self, vectors: &Vectors) -> Result<f64> {
        Ok(match self {
            Kind::Features(map) => map.squared_error(vectors)?,
            Kind::Sparse(hash) => mse_sparse_alone(hash.inclusion(vectors)?, vectors.pair()?.entry())?,
            Kind::Both(hash, map) => variance_combined(hash.inclusion(vectors)?, map.variance(vectors)?)?,
            Kind::Inclusion(hash) => hash.inclusion(vectors)?,
        })
    }

    fn estimator(&self, entry: f64) -> Estimator {
        match self {
            Kind::Inclusion(_) => Estimator::Probability,
            _ => Estimator::SquaredError { of: entry },
        }
    }

    fn sample(&self, vectors: &Vectors, draws: &mut Draws) -> f64 {
        let seed = Seed(draws.seed());
        match self {
            Kind::Features(map) => map.product(vectors, seed),
            Kind::Sparse(hash) => combined(hash, None, vectors, seed),
            Kind::Both(hash, map) => combined(hash, Some(map), vectors, seed),
            Kind::Inclusion(hash) => hash.meets(vectors, seed),
        }
    }
}

/// One product q·k, all estimators of a panel.
#[derive(Serialize)]
pub(super) struct Part {
    group: Group,
    dot: f64,
    check: Check,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    group: Group,
    estimator: String,
    dot: f64,
    /// Mean squared error, or the probability of inclusion.
    predicted: f64,
    measured: Option<f64>,
    /// An end is blank where the interval has none.
    least: Option<f64>,
    most: Option<f64>,
    trials: u64,
    verdict: Verdict,
}

impl Figure for EntryError {
    type Part = Part;
    type Row = Row;

    fn number(&self) -> u8 {
        2
    }

    fn title(&self) -> &'static str {
        "Mean squared error of one entry against q·k"
    }

    fn parts(&self, context: &Context) -> Result<Vec<Part>> {
        let steps = context.pick(8, 20);
        let check = Check {
            seed: 1,
            max_trials: context.pick(8_192, 65_536),
            relative_width: 0.05,
            tolerance: context.pick(0.2, 0.1),
            error_probability: 1e-4,
            ..Check::default()
        };
        let dot = |at: i32| f64::from(2 * at - steps) / f64::from(steps);
        let all = Group::ALL.into_iter().flat_map(|group| (0..=steps).map(move |at| (group, dot(at))));
        Ok(all.map(|(group, dot)| Part { group, dot, check }).collect())
    }

    fn label(&self, part: &Part) -> String {
        format!("{}, q·k = {}", part.group.title(), part.dot)
    }

    fn compute(&self, part: &Part, context: &Context) -> Result<Vec<Row>> {
        let vectors = Vectors::unit(HEAD_DIM, part.dot);
        let kinds = part.group.estimators(part.dot)?;
        context.steps(kinds.len());
        let mut rows = Vec::new();
        for kind in kinds {
            let predicted = kind.prediction(&vectors)?;
            if predicted < ROUNDING {
                context.step()?;
                continue;
            }
            let estimator = kind.estimator(vectors.pair()?.entry());
            let report = part.check.run(Claim::Equals(predicted), estimator, |draws| kind.sample(&vectors, draws))?;
            rows.push(Row {
                group: part.group,
                estimator: kind.name(),
                dot: part.dot,
                predicted,
                measured: report.value,
                least: Some(report.interval.low).filter(|x| x.is_finite()),
                most: Some(report.interval.high).filter(|x| x.is_finite()),
                trials: report.trials,
                verdict: report.verdict,
            });
            context.step()?;
        }
        Ok(rows)
    }

    fn present(&self, rows: &[Row], context: &Context) -> Result<Story> {
        let count = |rows: &[&Row], verdict| rows.iter().filter(|row| row.verdict == verdict).count().to_string();
        let lines = Group::ALL.map(|group| {
            let own: Vec<&Row> = rows.iter().filter(|row| row.group == group).collect();
            let mut line = vec![group.title().to_owned(), own.len().to_string()];
            line.extend([Verdict::Holds, Verdict::Refuted, Verdict::Undecided].map(|verdict| count(&own, verdict)));
            line
        });
        let all: Vec<&Row> = rows.iter().collect();
        Ok(Story {
            summary: format!(
                "Of {} points of the theory's lines, Monte Carlo through the library confirms {}, refutes {} and leaves {} \
                 undecided.",
                rows.len(),
                count(&all, Verdict::Holds),
                count(&all, Verdict::Refuted),
                count(&all, Verdict::Undecided)
            ),
            caption: vec![
                format!(
                    "Unit vectors q and k of d = {HEAD_DIM}, {FEATURES} = ⌊d ln d⌋ features; the paper's worked figure has \
                     sign random projections with K = {CONCATENATIONS} bits and L = {TABLES} tables. Across: q·k. Up: \
                     E(Â − A)² for A = exp(q·k), before any row is normalised; in the last panel the probability that some \
                     table puts both into one bucket.",
                ),
                format!(
                    "Lines are formulas of the theory, points are means over fresh draws of the library's own maps and \
                     hashes, through the combiner where both are together; bars are intervals that fail with probability \
                     10⁻⁴, {} draws at most. ReLU and elu + 1 features and the constant 1 (the uniform row) estimate \
                     something else than A: their error is nearly all bias. OPRF is at the best A of each pair.",
                    context.pick(8_192, 65_536)
                ),
                "Near q·k = 1 positive features have so heavy a tail that draws do not show the mean of the square: the \
                 check says undecided, and the points lie under the line. Where the formula says 0, at the ends of some lines \
                 and where the constant 1 is right, rounding is all that is left, and no point is drawn."
                    .into(),
            ],
            panels: Group::ALL.into_iter().map(|group| panel(rows, group)).collect::<Result<_>>()?,
            tables: vec![Listing {
                title: "Points of each panel".into(),
                head: ["panel", "points", "hold", "refuted", "undecided"].map(str::to_owned).to_vec(),
                lines: lines.to_vec(),
            }],
        })
    }
}

fn panel(rows: &[Row], group: Group) -> Result<Panel> {
    let own: Vec<&Row> = rows.iter().filter(|row| row.group == group).collect();
    let mut names: Vec<&str> = Vec::new();
    for row in &own {
        if !names.contains(&row.estimator.as_str()) {
            names.push(&row.estimator);
        }
    }
    let mut series = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let color: RGBColor = ink::CYCLE[at % ink::CYCLE.len()];
        let of = || own.iter().filter(|row| row.estimator == *name);
        let measured: Vec<&&Row> = of().filter(|row| row.measured.is_some()).collect();
        let points = measured.iter().filter_map(|row| Some((row.dot, row.measured?))).collect();
        let bars = measured.iter().map(|row| (row.least.unwrap_or(0.0), row.most.unwrap_or(f64::MAX))).collect();
        let marker = Marker::CYCLE[at % Marker::CYCLE.len()];
        series.push(Series::new("", color, of().map(|row| (row.dot, row.predicted)).collect()).line(Line::Solid));
        series.push(Series::new(name, color, points).marker(marker).intervals(bars));
    }
    let what = if group == Group::Inclusion { "probability" } else { "mean squared error" };
    let y =
        if group == Group::Inclusion { Axis::log(what).between(1e-5, 1.0) } else { Axis::log(what).between(1e-5, 1e3) };
    let chart = Chart { x: Axis::linear("q·k"), y, series, rules: vec![] };
    let holds = own.iter().filter(|row| row.verdict == Verdict::Holds).count();
    let alt = format!(
        "{}: {what} against q·k from -1 to 1 for {}. {holds} of {} points agree with the formula's line.",
        group.title(),
        names.join("; "),
        own.len()
    );
    Ok(Panel { title: group.title().into(), svg: named(&chart.svg()?, group.title(), &alt)?, alt })
}
