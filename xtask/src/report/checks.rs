//! Figure 7: a table of checks of the theory, through the library's own maps, hashes and combiner where it is about
//! them.

use super::bounds;
use super::chart::{Axis, Chart, Marker, Rule, Series, number};
use super::context::Context;
use super::far_field;
use super::figure::{Figure, Listing, Panel, Story};
use super::ink;
use super::picture::named;
use super::rows;
use super::samples::{Family, Hash, HashRule, Map, Vectors, combined};
use anyhow::{Context as _, Result};
use scatterbrain_attention::Seed;
use scatterbrain_attention::features::ProjectionKind::{Gaussian, Orthogonal, Simplex};
use scatterbrain_theory::{
    Check, Claim, ClusteredProcess, Doubt, Draws, Estimator, Sample, Verdict, mse_biased_background, mse_sparse_alone,
    optimal_a, variance_combined, variance_relu_at_most,
};
use serde::{Deserialize, Serialize};

pub(super) struct Checks;

/// A claim with what draws it.
pub(super) struct Item {
    pub(super) name: String,
    /// Function of the theory crate.
    pub(super) formula: &'static str,
    pub(super) claim: Claim,
    pub(super) estimator: Estimator,
    pub(super) sampler: Box<dyn Fn(&mut Draws) -> Sample + Sync>,
    /// What the claim of a number that is 0 may be off by.
    pub(super) absolute_tolerance: f64,
    /// For samplers that take long.
    pub(super) max_trials: u64,
}

impl Item {
    pub(super) fn new<S: Into<Sample>>(
        name: impl Into<String>,
        formula: &'static str,
        claim: Claim,
        estimator: Estimator,
        sampler: impl Fn(&mut Draws) -> S + Sync + 'static,
    ) -> Self {
        let sampler = Box::new(move |draws: &mut Draws| sampler(draws).into());
        Self { name: name.into(), formula, claim, estimator, sampler, absolute_tolerance: 0.0, max_trials: u64::MAX }
    }
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
        let part = |item: Item| {
            let (max_trials, absolute_tolerance) = (check.max_trials.min(item.max_trials), item.absolute_tolerance);
            let check = Check { max_trials, absolute_tolerance, ..check };
            Part { name: item.name, claim: item.claim, estimator: item.estimator, check }
        };
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
                "Means, variances, collisions, the combined estimator and normalised rows are those of the library's own maps, \
                 hashes and combiner; brackets and certificates are checked on rows of its centroid background with a \
                 support, other bounds on keys drawn at random. The probability of a violation is claimed to be at most \
                 1/1000 (of a sampled bound, the 1/10 that it allows), which few enough violations in enough draws confirm. \
                 z is the distance from the prediction in standard errors; it says nothing where the claim is a \
                 bound, or where nothing is random and rounding is all of the error."
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
    bounds::push(&mut items);
    rows::push(&mut items)?;
    far_field::push(&mut items);
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
    // The optimum of this pair.
    let optimum = (1e3 * optimal_a(near().pair()?.sum_square(), near().query.len())?).round() as i32;
    let coupled = [Gaussian, Orthogonal, Simplex];
    let families = [
        (Family::Positive, "variance_positive_coupled", &coupled[..]),
        (Family::Hyperbolic, "variance_hyperbolic_coupled", &coupled),
        (Family::Trigonometric, "variance_trigonometric_coupled", &coupled),
        (Family::Oprf(optimum), "variance_oprf_coupled", &coupled),
        (Family::Relu, "variance_relu", &coupled),
        (Family::Elu, "mse_biased_background", &[Gaussian]),
        (Family::Constant, "mse_biased_background", &[Gaussian]),
    ];
    for (family, variance, kinds) in families {
        for &kind in kinds {
            // More than a block of coupled directions.
            let map = Map { family, kind, n_features: 18 };
            let product = move |draws: &mut Draws| map.product(&near(), Seed(draws.seed()));
            let mean = match family {
                Family::Relu => "mean_relu",
                Family::Elu | Family::Constant => "the map's definition",
                _ => "Pair::entry (no bias)",
            };
            let name = format!("mean of {} features", map.name());
            items.push(Item::new(name, mean, Claim::Equals(map.mean(&near())?), Estimator::Mean, product));
            if matches!(family, Family::Elu | Family::Constant) {
                let (name, entry) = (format!("squared error of {} features", map.name()), near().pair()?.entry());
                let claim = Claim::Equals(map.squared_error(&near())?);
                items.push(Item::new(name, variance, claim, Estimator::SquaredError { of: entry }, product));
                continue;
            }
            let name = format!("variance of {} features", map.name());
            let item = if family == Family::Relu && kind != Gaussian {
                let bound = variance_relu_at_most(near().pair()?, near().query.len(), map.n_features)?;
                Item::new(name, "variance_relu_at_most", Claim::AtMost(bound), Estimator::Variance, product)
            } else {
                Item::new(name, variance, Claim::Equals(map.variance(&near())?), Estimator::Variance, product)
            };
            items.push(item);
        }
    }
    Ok(())
}

fn hashes(items: &mut Vec<Item>) -> Result<()> {
    let rules = [
        (HashRule::SignRandomProjection, "collision_sign_random_projection"),
        (HashRule::E2lsh(1.0), "collision_e2lsh"),
        (HashRule::CrossPolytope, "collision_cross_polytope"),
        (HashRule::Reformer(16), "collision_cross_polytope"),
    ];
    let vectors = || Vectors::unit(8, 0.7);
    for (family, formula) in rules {
        // A Reformer hash is one rotation: it has tables and no concatenation.
        let most = if matches!(family, HashRule::Reformer(_)) { (1, 3) } else { (2, 3) };
        for (concatenations, tables) in [(1, 1), most] {
            let hash = Hash { family, concatenations, tables };
            let formula = if tables == 1 { formula } else { "amplification" };
            let claim = Claim::Equals(hash.inclusion(&vectors())?);
            let meets = move |draws: &mut Draws| hash.meets(&vectors(), Seed(draws.seed()));
            items.push(Item::new(format!("collision, {}", hash.name()), formula, claim, Estimator::Probability, meets));
        }
    }
    Ok(())
}

fn combinations(items: &mut Vec<Item>) -> Result<()> {
    let hash = Hash { family: HashRule::SignRandomProjection, concatenations: 3, tables: 3 };
    let inclusion = hash.inclusion(&near())?;
    let entry = near().pair()?.entry();
    let estimate =
        |map: Option<Map>| move |draws: &mut Draws| combined(&hash, map.as_ref(), &near(), Seed(draws.seed()));
    for family in [Family::Positive, Family::Hyperbolic, Family::Trigonometric] {
        let map = Map { family, kind: Gaussian, n_features: 8 };
        let name = format!("mean of the combined entry, {}", map.name());
        let claim = Claim::Equals(entry);
        items.push(Item::new(name, "Pair::entry (no bias)", claim, Estimator::Mean, estimate(Some(map))));
        let name = format!("variance of the combined entry, {}", map.name());
        let claim = Claim::Equals(variance_combined(inclusion, map.variance(&near())?)?);
        items.push(Item::new(name, "variance_combined", claim, Estimator::Variance, estimate(Some(map))));
    }
    let squared = Estimator::SquaredError { of: entry };
    let claim = Claim::Equals(mse_sparse_alone(inclusion, entry)?);
    items.push(Item::new("squared error of a sparse entry", "mse_sparse_alone", claim, squared, estimate(None)));
    let uniform = Map { family: Family::Constant, kind: Gaussian, n_features: 1 };
    let claim = Claim::Equals(mse_biased_background(inclusion, entry, 1.0)?);
    let name = "squared error of sparse + constant";
    items.push(Item::new(name, "mse_biased_background", claim, squared, estimate(Some(uniform))));
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
        let formula = "ClusteredProcess::logit_moments";
        let name = format!("mean logit {place}");
        let mean = Item::new(name, formula, Claim::Equals(moments.mean), Estimator::Mean, logit);
        // Between clusters it is 0, and so is every share of it.
        items.push(Item { absolute_tolerance: if within { 0.0 } else { 0.05 }, ..mean });
        let name = format!("variance of a logit {place}");
        items.push(Item::new(name, formula, Claim::Equals(moments.variance), Estimator::Variance, logit));
        let claim = Claim::Equals(PROCESS.expected_entry(0.25, within)?);
        let name = format!("mean entry {place}, β = 1/4");
        let entry = move |draws: &mut Draws| (0.25 * logit(draws)).exp();
        items.push(Item::new(name, "ClusteredProcess::expected_entry", claim, Estimator::Mean, entry));
    }
    Ok(())
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
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
