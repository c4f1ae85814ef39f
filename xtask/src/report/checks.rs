//! Figure 7: a table of checks of the theory, through the library's own maps, hashes and combiner where it is about
//! them.

use super::chart::{Axis, Chart, Marker, Rule, Series, number};
use super::context::Context;
use super::figure::{Figure, Listing, Panel, Story};
use super::ink;
use super::picture::named;
use super::samples::{Family, Hash, HashRule, Map, Vectors, combined};
use anyhow::{Context as _, Result};
use scatterbrain_attention::Seed;
use scatterbrain_attention::features::ProjectionKind::{Gaussian, Orthogonal, Simplex};
use scatterbrain_theory::{
    Check, Claim, Cluster, ClusteredProcess, Doubt, Draws, Estimator, RowEntropy, Sample, Verdict,
    deterministic_certificate, error_of_dropped_mass, far_field_bracket, far_field_bracket_corrected,
    half_width_empirical_bernstein, mass_off_sparse_rows, mse_biased_background, mse_sparse_alone, variance_combined,
};
use serde::{Deserialize, Serialize};

pub(super) struct Checks;

/// A claim with what draws it.
struct Item {
    name: String,
    /// Function of the theory crate.
    formula: &'static str,
    claim: Claim,
    estimator: Estimator,
    sampler: Box<dyn Fn(&mut Draws) -> Sample + Sync>,
}

/// By name: [`items`] has the rest.
#[derive(Serialize)]
pub(super) struct Part {
    name: String,
    claim: Claim,
    estimator: Estimator,
    check: Check,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    name: String,
    formula: String,
    /// `equals` or `at most`.
    claim: String,
    predicted: f64,
    measured: Option<f64>,
    /// An end is blank where the interval has none.
    least: Option<f64>,
    most: Option<f64>,
    z_score: Option<f64>,
    trials: u64,
    tolerance: f64,
    verdict: Verdict,
    doubt: Option<Doubt>,
}

impl Figure for Checks {
    type Part = Part;
    type Row = Row;

    fn number(&self) -> u8 {
        7
    }

    fn title(&self) -> &'static str {
        "Checks of the theory"
    }

    fn parts(&self, context: &Context) -> Result<Vec<Part>> {
        let check = Check {
            seed: 7,
            max_trials: context.pick(32_768, 524_288),
            relative_width: context.pick(0.1, 0.03),
            tolerance: context.pick(0.1, 0.03),
            error_probability: 1e-4,
            ..Check::default()
        };
        let part = |item: Item| Part { name: item.name, claim: item.claim, estimator: item.estimator, check };
        Ok(items()?.into_iter().map(part).collect())
    }

    fn label(&self, part: &Part) -> String {
        part.name.clone()
    }

    fn compute(&self, part: &Part, _: &Context) -> Result<Vec<Row>> {
        let item = items()?.into_iter().find(|item| item.name == part.name).context("a check of this name")?;
        let report = part.check.run(item.claim, item.estimator, &item.sampler)?;
        Ok(vec![Row {
            name: item.name,
            formula: item.formula.into(),
            claim: if matches!(item.claim, Claim::Equals(_)) { "equals" } else { "at most" }.into(),
            predicted: item.claim.prediction(),
            measured: report.value,
            least: Some(report.interval.low).filter(|x| x.is_finite()),
            most: Some(report.interval.high).filter(|x| x.is_finite()),
            z_score: report.z_score,
            trials: report.trials,
            tolerance: part.check.tolerance,
            verdict: report.verdict,
            doubt: report.doubt,
        }])
    }

    fn present(&self, rows: &[Row], context: &Context) -> Result<Story> {
        let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
        let refuted: Vec<&str> =
            rows.iter().filter(|row| row.verdict == Verdict::Refuted).map(|row| row.name.as_str()).collect();
        let named_ones = if refuted.is_empty() { String::new() } else { format!(" Refuted: {}.", refuted.join("; ")) };
        let line = |row: &Row| {
            let cell = |x: Option<f64>| x.map_or("–".into(), figures);
            vec![
                row.name.clone(),
                verdict(row),
                format!("{} {}", row.claim, figures(row.predicted)),
                cell(row.measured),
                format!("{} to {}", cell(row.least), cell(row.most)),
                row.z_score.map_or("–".into(), |z| format!("{z:.1}")),
                row.trials.to_string(),
                row.formula.clone(),
            ]
        };
        let head =
            ["check", "verdict", "prediction", "measured", "interval", "z", "trials", "formula"].map(str::to_owned);
        Ok(Story {
            summary: format!(
                "Of {} checks of the theory {} hold, {} are refuted and {} are undecided.{named_ones}",
                rows.len(),
                count(Verdict::Holds),
                count(Verdict::Refuted),
                count(Verdict::Undecided)
            ),
            caption: vec![
                format!(
                    "Every line is a claim of scatterbrain-theory and a Monte Carlo check that can refute it: fresh draws, {} \
                     trials at most, an interval that fails with probability 10⁻⁴ over all its looks. A claim holds where \
                     the interval lies inside the claim up to a tolerance of {}, is refuted where it lies outside, else it \
                     is undecided: for want of trials, or because of a heavy tail.",
                    context.pick(32_768, 524_288),
                    context.pick("10 %", "3 %")
                ),
                "Means, variances, collisions and the combined estimator are those of the library's own maps, hashes and \
                 combiner; brackets and certificates are checked on keys drawn at random, where the probability of a \
                 violation is claimed to be at most 1/1000, which 0 violations in enough draws confirm. z is the distance \
                 from the prediction in standard errors; it says nothing where the claim is a bound."
                    .into(),
                "The drawing has the claims of equality: measured over predicted, with intervals, in the order of the \
                 table."
                    .into(),
            ],
            panels: vec![panel(rows)?],
            tables: vec![Listing { title: "All checks".into(), head: head.to_vec(), lines: rows.iter().map(line).collect() }],
        })
    }
}

fn verdict(row: &Row) -> String {
    match (row.verdict, row.doubt) {
        (Verdict::Holds, _) => "holds".into(),
        (Verdict::Refuted, _) => "REFUTED".into(),
        (Verdict::Undecided, Some(Doubt::HeavyTail)) => "undecided: heavy tail".into(),
        (Verdict::Undecided, Some(Doubt::Wide)) => "undecided: wide interval".into(),
        (Verdict::Undecided, _) => "undecided".into(),
    }
}

/// Four significant digits.
fn figures(x: f64) -> String {
    if x == 0.0 {
        return "0".into();
    }
    let digits = (3 - x.abs().log10().floor().clamp(-6.0, 3.0) as i32).max(0) as usize;
    if (1e-3..1e4).contains(&x.abs()) { format!("{x:.digits$}") } else { format!("{x:.2e}") }
}

fn panel(rows: &[Row]) -> Result<Panel> {
    let equalities: Vec<(f64, &Row)> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.claim == "equals" && row.predicted != 0.0)
        .map(|(at, row)| (at as f64 + 1.0, row))
        .collect();
    let of = |wanted: Verdict, name: &str, color, marker| {
        let own: Vec<&(f64, &Row)> =
            equalities.iter().filter(|(_, row)| row.verdict == wanted && row.measured.is_some()).collect();
        let points = own.iter().filter_map(|(at, row)| Some((*at, row.measured? / row.predicted))).collect();
        let end = |x: Option<f64>, row: &Row, else_: f64| x.map_or(else_, |x| x / row.predicted);
        let bars = own.iter().map(|(_, row)| (end(row.least, row, f64::MIN), end(row.most, row, f64::MAX))).collect();
        Series::new(name, color, points).marker(marker).intervals(bars)
    };
    let chart = Chart {
        x: Axis::linear("line of the table"),
        y: Axis::linear("measured / predicted").between(0.5, 1.5),
        series: vec![
            of(Verdict::Holds, "holds", ink::GREEN, Marker::Dot),
            of(Verdict::Refuted, "refuted", ink::RED, Marker::Cross),
            of(Verdict::Undecided, "undecided", ink::ORANGE, Marker::Ring),
        ],
        rules: vec![Rule::horizontal(1.0, "")],
    };
    let worst = equalities.iter().filter_map(|(_, row)| Some((row.measured? / row.predicted - 1.0).abs()));
    let alt = format!(
        "Measured over predicted values of {} claims of equality around 1; the largest distance is {}.",
        equalities.len(),
        number(worst.fold(0.0, f64::max))
    );
    let title = "Measured over predicted";
    Ok(Panel { title: title.into(), svg: named(&chart.svg()?, title, &alt)?, alt })
}

/// Every check.
fn items() -> Result<Vec<Item>> {
    let mut items = Vec::new();
    maps(&mut items)?;
    hashes(&mut items)?;
    combinations(&mut items)?;
    process(&mut items)?;
    bounds(&mut items);
    Ok(items)
}

/// |q + k|² below 1: the variance of positive features can be seen.
fn near() -> Vectors {
    Vectors {
        query: vec![0.4, 0.0, -0.3, 0.2, 0.0, 0.1, 0.1, -0.2],
        key: vec![0.1, 0.3, 0.2, 0.3, -0.3, 0.1, 0.0, -0.2],
    }
}

fn maps(items: &mut Vec<Item>) -> Result<()> {
    let families = [
        (Family::Positive, "variance_positive_coupled", &[Gaussian, Orthogonal, Simplex][..]),
        (Family::Hyperbolic, "variance_hyperbolic_coupled", &[Gaussian, Orthogonal]),
        (Family::Trigonometric, "variance_trigonometric_coupled", &[Gaussian, Orthogonal]),
        (Family::Oprf(-100), "variance_oprf_coupled", &[Gaussian, Orthogonal, Simplex]),
        (Family::Relu, "variance_relu", &[Gaussian]),
    ];
    for (family, variance, kinds) in families {
        for &kind in kinds {
            // More than a block of coupled directions.
            let map = Map { family, kind, n_features: 18 };
            let mean = if family == Family::Relu { "mean_relu" } else { "Pair::entry (no bias)" };
            items.push(Item {
                name: format!("mean of {} features", map.name()),
                formula: mean,
                claim: Claim::Equals(map.mean(&near())?),
                estimator: Estimator::Mean,
                sampler: Box::new(move |draws| map.product(&near(), Seed(draws.seed())).into()),
            });
            items.push(Item {
                name: format!("variance of {} features", map.name()),
                formula: variance,
                claim: Claim::Equals(map.variance(&near())?),
                estimator: Estimator::Variance,
                sampler: Box::new(move |draws| map.product(&near(), Seed(draws.seed())).into()),
            });
        }
    }
    Ok(())
}

fn hashes(items: &mut Vec<Item>) -> Result<()> {
    let rules = [
        (HashRule::SignRandomProjection, "collision_sign_random_projection"),
        (HashRule::E2lsh(1.0), "collision_e2lsh"),
        (HashRule::CrossPolytope, "collision_cross_polytope"),
    ];
    for (family, formula) in rules {
        for (concatenations, tables) in [(1, 1), (2, 3)] {
            let hash = Hash { family, concatenations, tables };
            push_hash(items, hash, if tables == 1 { formula } else { "amplification" })?;
        }
    }
    push_hash(items, Hash { family: HashRule::Reformer(16), concatenations: 1, tables: 1 }, "collision_cross_polytope")
}

fn push_hash(items: &mut Vec<Item>, hash: Hash, formula: &'static str) -> Result<()> {
    let vectors = || Vectors::unit(8, 0.7);
    items.push(Item {
        name: format!("collision, {}", hash.name()),
        formula,
        claim: Claim::Equals(hash.inclusion(&vectors())?),
        estimator: Estimator::Probability,
        sampler: Box::new(move |draws| hash.meets(&vectors(), Seed(draws.seed())).into()),
    });
    Ok(())
}

fn combinations(items: &mut Vec<Item>) -> Result<()> {
    let hash = Hash { family: HashRule::SignRandomProjection, concatenations: 3, tables: 3 };
    let inclusion = hash.inclusion(&near())?;
    let entry = near().pair()?.entry();
    for family in [Family::Positive, Family::Hyperbolic] {
        let map = Map { family, kind: Gaussian, n_features: 8 };
        let sampler = move |draws: &mut Draws| combined(&hash, Some(&map), &near(), Seed(draws.seed())).into();
        items.push(Item {
            name: format!("mean of the combined entry, {}", map.name()),
            formula: "Pair::entry (no bias)",
            claim: Claim::Equals(entry),
            estimator: Estimator::Mean,
            sampler: Box::new(sampler),
        });
        items.push(Item {
            name: format!("variance of the combined entry, {}", map.name()),
            formula: "variance_combined",
            claim: Claim::Equals(variance_combined(inclusion, map.variance(&near())?)?),
            estimator: Estimator::Variance,
            sampler: Box::new(sampler),
        });
    }
    items.push(Item {
        name: "squared error of a sparse entry".into(),
        formula: "mse_sparse_alone",
        claim: Claim::Equals(mse_sparse_alone(inclusion, entry)?),
        estimator: Estimator::SquaredError { of: entry },
        sampler: Box::new(move |draws| combined(&hash, None, &near(), Seed(draws.seed())).into()),
    });
    let uniform = Map { family: Family::Constant, kind: Gaussian, n_features: 1 };
    items.push(Item {
        name: "squared error of sparse + constant".into(),
        formula: "mse_biased_background",
        claim: Claim::Equals(mse_biased_background(inclusion, entry, 1.0)?),
        estimator: Estimator::SquaredError { of: entry },
        sampler: Box::new(move |draws| combined(&hash, Some(&uniform), &near(), Seed(draws.seed())).into()),
    });
    Ok(())
}

fn process(items: &mut Vec<Item>) -> Result<()> {
    const PROCESS: ClusteredProcess = ClusteredProcess { clusters: 2, members: 1, head_dim: 16, spread: 0.5 };
    for within in [true, false] {
        let place = if within { "within a cluster" } else { "between clusters" };
        let logit = move |draws: &mut Draws| {
            PROCESS.sample(draws.seed()).map_or(f64::NAN, |rows| {
                let key = if within { &rows.key[..16] } else { &rows.key[16..] };
                dot(&rows.query[..16], key)
            })
        };
        let moments = PROCESS.logit_moments(1.0, within)?;
        items.push(Item {
            name: format!("variance of a logit {place}"),
            formula: "ClusteredProcess::logit_moments",
            claim: Claim::Equals(moments.variance),
            estimator: Estimator::Variance,
            sampler: Box::new(move |draws| logit(draws).into()),
        });
        items.push(Item {
            name: format!("mean entry {place}, β = 1/4"),
            formula: "ClusteredProcess::expected_entry",
            claim: Claim::Equals(PROCESS.expected_entry(0.25, within)?),
            estimator: Estimator::Mean,
            sampler: Box::new(move |draws| (0.25 * logit(draws)).exp().into()),
        });
    }
    Ok(())
}

/// Bounds that nothing may violate: events that should have no probability.
fn bounds(items: &mut Vec<Item>) {
    let mut never = |name: &str, formula: &'static str, at_most: f64, violated: fn(&mut Draws) -> Option<bool>| {
        items.push(Item {
            name: name.into(),
            formula,
            claim: Claim::AtMost(at_most),
            estimator: Estimator::Probability,
            // What cannot be computed is no number, and ends the check undecided.
            sampler: Box::new(move |draws| violated(draws).map_or(f64::NAN.into(), Into::into)),
        });
    };
    never("bracket of a cluster's mass violated", "far_field_bracket", 1e-3, |draws| {
        let head = Keys::draw(draws);
        let cluster = Cluster::of(&head.keys, &head.values, DIM).ok()?;
        let bracket = far_field_bracket(&head.query, &cluster).ok()?;
        Some(outside(head.mass(0), bracket.log_lower, bracket.log_upper))
    });
    never("bracket with the group's mean violated", "far_field_bracket", 1e-3, |draws| {
        let head = Keys::draw(draws);
        let cluster = Cluster::with_group_mean(&head.keys, &head.values, DIM, &[0]).ok()?;
        let bracket = far_field_bracket(&head.query, &cluster).ok()?;
        Some(outside(head.mass(1), bracket.log_lower, bracket.log_upper))
    });
    never("corrected bracket violated", "far_field_bracket_corrected", 1e-3, |draws| {
        let head = Keys::draw(draws);
        let cluster = Cluster::with_group_mean(&head.keys, &head.values, DIM, &[0]).ok()?;
        let bracket = far_field_bracket_corrected(&head.query, &cluster, &[head.logits()[0]]).ok()?;
        Some(outside(head.mass(1), bracket.log_lower, bracket.log_upper))
    });
    never("certificate of a row violated", "deterministic_certificate", 1e-3, |draws| {
        let head = Keys::draw(draws);
        let (logits, values) = (head.logits(), &head.values);
        let off = Cluster::of(&head.keys[DIM..], &values[1..], DIM).ok()?;
        let weight = (KEYS - 1) as f64 * dot(&head.query, off.centre()).exp();
        let mass = logits[0].exp();
        let output = (mass * values[0] + weight * off.mean_value()[0]) / (mass + weight);
        let bound = deterministic_certificate(&head.query, &[off], logits[0], &[output]).ok()?;
        Some((head.output() - output).abs() > bound * (1.0 + 1e-9))
    });
    never("error of dropped mass exceeded", "error_of_dropped_mass", 1e-3, |draws| {
        let head = Keys::draw(draws);
        let (least, most) = head.values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let bound = error_of_dropped_mass(head.logits()[0], head.mass(1), most - least).ok()?;
        Some((head.output() - head.values[0]).abs() > bound * (1.0 + 1e-9))
    });
    never("mass off the three largest below its bound", "mass_off_sparse_rows", 1e-3, |draws| {
        let head = Keys::draw(draws);
        let total = head.mass(0);
        let mut row: Vec<f64> = head.logits().iter().map(|l| (l - total).exp()).collect();
        let bound = mass_off_sparse_rows(RowEntropy::of(&row).ok()?, KEYS, 3).ok()?;
        row.sort_by(f64::total_cmp);
        Some(row[..KEYS - 3].iter().sum::<f64>() < bound - 1e-9)
    });
    never("mean outside empirical Bernstein at 1/10", "half_width_empirical_bernstein", 0.1, |draws| {
        let samples: Vec<f64> = (0..40).map(|_| draws.uniform()).collect();
        let mean = samples.iter().sum::<f64>() / 40.0;
        Some((mean - 0.5).abs() > half_width_empirical_bernstein(&samples, 1.0, 0.1).ok()?)
    });
}

const DIM: usize = 4;
const KEYS: usize = 12;

/// One query, and keys with a value each.
struct Keys {
    query: Vec<f64>,
    keys: Vec<f64>,
    values: Vec<f64>,
}

impl Keys {
    fn draw(draws: &mut Draws) -> Self {
        Self { query: draws.normal_vec(DIM), keys: draws.normal_vec(KEYS * DIM), values: draws.normal_vec(KEYS) }
    }

    fn logits(&self) -> Vec<f64> {
        self.keys.chunks(DIM).map(|key| dot(&self.query, key)).collect()
    }

    /// ln Σ e^{q·k} from this key on.
    fn mass(&self, from: usize) -> f64 {
        self.logits()[from..].iter().map(|l| l.exp()).sum::<f64>().ln()
    }

    /// Exact attention.
    fn output(&self) -> f64 {
        let weighted = self.logits().iter().zip(&self.values).map(|(l, v)| l.exp() * v).sum::<f64>();
        weighted / self.mass(0).exp()
    }
}

/// Beyond rounding.
fn outside(x: f64, low: f64, high: f64) -> bool {
    x < low - 1e-9 || x > high + 1e-9
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<String> = items().unwrap().into_iter().map(|item| item.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn four_digits() {
        assert_eq!([1.0, 0.012341, 1234.4, 2e-5, 0.0].map(figures), ["1.000", "0.01234", "1234", "2.00e-5", "0"]);
    }
}
