//! Brackets and certificates on rows of the library's own centroid background with a support.
//!
//! Centroids are fixed means of whole groups and members on the support are subtracted, so the hypothesis is
//! [`Cluster::with_group_mean`]; [`Cluster::of`] is it for the means of the members off the support.

use super::bounds::{NEVER, event};
use super::checks::{Item, dot};
use anyhow::{Context as _, Result};
use scatterbrain_attention::blocks::WindowSupport;
use scatterbrain_attention::features::CentroidBackground;
use scatterbrain_attention::{Level, Mask, Matrix, Method, Options, Seed, Tensor, attend, dense_matrix};
use scatterbrain_core::tile::KeyHead;
use scatterbrain_theory::{
    Bracket, Claim, Cluster, Concentration, Draws, ResidualSample, RowEstimate, deterministic_certificate,
    error_of_dropped_mass, far_field_bracket, far_field_bracket_corrected, statistical_certificate,
};

const DIM: usize = 4;
const KEYS: usize = 24;
/// The last keys are on the support, and the heaviest.
const SUPPORT: usize = 5;
const CENTROIDS: usize = 4;
/// Keys that a statistical certificate draws.
const SAMPLE: usize = 100;
/// What f32 may add to an output or to the logarithm of a mass.
const ROUNDING: f64 = 1e-4;
/// A trial is two calls of the library.
const TRIALS: u64 = 1 << 16;

pub(super) fn push(items: &mut Vec<Item>) {
    let mut row = |name: &str, formula: &'static str, at_most: f64, violated: fn(&Row, &mut Draws) -> Result<bool>| {
        let item = event(name, formula, Claim::AtMost(at_most), move |draws| {
            let row = Row::draw(draws).ok()?;
            violated(&row, draws).ok()
        });
        items.push(Item { max_trials: TRIALS, ..item });
    };
    row("centroids: a cluster's bracket violated", "far_field_bracket", NEVER, |row, _| {
        row.any(|_, cluster, off| Ok(outside(far_field_bracket(&row.query, cluster)?, row.log_mass(off))))
    });
    row("centroids: a corrected bracket violated", "far_field_bracket_corrected", NEVER, |row, _| {
        row.any(|on, cluster, off| {
            let known: Vec<f64> = on.iter().map(|&j| row.logit(j)).collect();
            Ok(outside(far_field_bracket_corrected(&row.query, cluster, &known)?, row.log_mass(off)))
        })
    });
    row("centroids: a bracket with off-support means violated", "far_field_bracket", NEVER, |row, _| {
        row.any(|_, _, off| {
            let (keys, values) = row.members(off);
            let cluster = Cluster::of(&keys, &values, DIM)?;
            Ok(outside(far_field_bracket(&row.query, &cluster)?, row.log_mass(off)))
        })
    });
    row("centroids: a row's certificate exceeded", "deterministic_certificate", NEVER, |row, _| {
        let clusters: Vec<Cluster> = row.groups()?.into_iter().map(|(_, cluster, _)| cluster).collect();
        let on = row.log_mass(&row.on());
        let bound = deterministic_certificate(&row.query, &clusters, on, &[row.output])?;
        Ok((row.exact() - row.output).abs() > bound + ROUNDING)
    });
    row("support alone: error of dropped mass exceeded", "error_of_dropped_mass", NEVER, |row, _| {
        let (on, off): (Vec<usize>, Vec<usize>) = (0..KEYS).partition(|&j| j >= KEYS - SUPPORT);
        let (least, most) = row.values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let bound = error_of_dropped_mass(row.log_mass(&on), row.log_mass(&off), most - least)?;
        Ok((row.exact() - row.sparse).abs() > bound + ROUNDING)
    });
    row("centroids: sampled certificate missed, CLT at 1/10", "statistical_certificate", 0.1, |row, draws| {
        row.sampled(draws, false)
    });
    row("centroids: sampled certificate missed, Bernstein at 1/10", "statistical_certificate", 0.1, |row, draws| {
        row.sampled(draws, true)
    });
}

/// Whether a mass lies outside of its bracket, beyond rounding.
fn outside(bracket: Bracket, log_mass: f64) -> bool {
    log_mass < bracket.log_lower - 1e-9 || log_mass > bracket.log_upper + 1e-9
}

/// One row by the library, and what it is made of.
struct Row {
    query: Vec<f64>,
    keys: Vec<f64>,
    values: Vec<f64>,
    /// The cluster of every key.
    cluster: Vec<u32>,
    /// ô, and Z_𝒮 + Ẑ_R.
    output: f64,
    mass: f64,
    /// Attention to the support alone.
    sparse: f64,
    /// Â of every key.
    estimates: Vec<f64>,
}

/// The members of a cluster on the support, the cluster as the theory has it, and the members off the support.
type Group = (Vec<usize>, Cluster, Vec<usize>);

impl Row {
    /// Keys in bunches, in the order of their logits.
    fn draw(draws: &mut Draws) -> Result<Self> {
        let narrow = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        let query = narrow(draws.normal_vec(DIM));
        let centres = draws.normal_vec(CENTROIDS * DIM);
        let key = |draws: &mut Draws, j: usize| -> Vec<f32> {
            let centre = &centres[j % CENTROIDS * DIM..][..DIM];
            centre.iter().map(|c| (c + 0.3 * draws.standard_normal()) as f32).collect()
        };
        let mut rows: Vec<Vec<f32>> = (0..KEYS).map(|j| key(draws, j)).collect();
        let logit = |row: &[f32]| row.iter().zip(&query).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum::<f64>();
        rows.sort_by(|a, b| logit(a).total_cmp(&logit(b)));
        Self::of(query, rows.concat(), narrow(draws.normal_vec(KEYS)), Seed(draws.seed()))
    }

    fn of(query: Vec<f32>, keys: Vec<f32>, values: Vec<f32>, seed: Seed) -> Result<Self> {
        let far = CentroidBackground::new(CENTROIDS, seed)?;
        let mask = Mask::default();
        let head = KeyHead {
            key: Matrix::new("key", &keys, KEYS, DIM)?,
            value: Matrix::new("value", &values, KEYS, 1)?,
            scale: 1.0,
            mask: mask.head(0, 0, 1, KEYS),
            boolean: false,
            pairs: true,
            level: Level::detect(),
        };
        let cluster = far.clusters(&head);
        let (q, k) = (Tensor::f32("query", &query, [1, 1, 1, DIM])?, Tensor::f32("key", &keys, [1, 1, KEYS, DIM])?);
        let v = Tensor::f32("value", &values, [1, 1, KEYS, 1])?;
        let options = Options { scale: Some(1.0), log_sum_exp: true, ..Options::default() };
        let window = WindowSupport::last(SUPPORT)?;
        let sparse = attend(&q, &k, &v, &mask, &Method::sparse(window), &options)?;
        let method = Method::scatterbrain(window, far);
        let result = attend(&q, &k, &v, &mask, &method, &options)?;
        let dense = dense_matrix(&q, &k, &mask, &method, &options)?;
        let log_mass = result.log_sum_exp.context("a log-sum-exp")?;
        let (mass, wide) =
            (f64::from(log_mass[0]).exp(), |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        Ok(Self {
            output: f64::from(result.output[0]),
            mass,
            sparse: f64::from(sparse.output[0]),
            estimates: dense[0].normalised.iter().map(|&p| f64::from(p) * mass).collect(),
            query: wide(&query),
            keys: wide(&keys),
            values: wide(&values),
            cluster,
        })
    }

    fn logit(&self, key: usize) -> f64 {
        dot(&self.query, &self.keys[key * DIM..][..DIM])
    }

    /// ln Σ e^{q·k} over some keys.
    fn log_mass(&self, keys: &[usize]) -> f64 {
        keys.iter().map(|&j| self.logit(j).exp()).sum::<f64>().ln()
    }

    fn on(&self) -> Vec<usize> {
        (KEYS - SUPPORT..KEYS).collect()
    }

    /// Exact attention.
    fn exact(&self) -> f64 {
        let all: Vec<usize> = (0..KEYS).collect();
        let total = self.log_mass(&all);
        all.iter().map(|&j| (self.logit(j) - total).exp() * self.values[j]).sum()
    }

    fn members(&self, at: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let keys = at.iter().flat_map(|&j| self.keys[j * DIM..][..DIM].iter().copied()).collect();
        (keys, at.iter().map(|&j| self.values[j]).collect())
    }

    /// Each cluster with members off the support.
    fn groups(&self) -> Result<Vec<Group>> {
        let mut groups = Vec::new();
        for c in 0..CENTROIDS as u32 {
            let members: Vec<usize> = (0..KEYS).filter(|&j| self.cluster[j] == c).collect();
            let (off, on): (Vec<usize>, Vec<usize>) = members.iter().partition(|&&j| j < KEYS - SUPPORT);
            if off.is_empty() {
                continue;
            }
            // The last keys are the last members.
            let removed: Vec<usize> = (off.len()..members.len()).collect();
            let (keys, values) = self.members(&members);
            groups.push((on, Cluster::with_group_mean(&keys, &values, DIM, &removed)?, off));
        }
        Ok(groups)
    }

    fn any(&self, violated: impl Fn(&[usize], &Cluster, &[usize]) -> Result<bool>) -> Result<bool> {
        let found: Vec<bool> =
            self.groups()?.iter().map(|(on, cluster, off)| violated(on, cluster, off)).collect::<Result<_>>()?;
        Ok(found.contains(&true))
    }

    /// Whether a bound of a certificate by sampled keys is exceeded.
    fn sampled(&self, draws: &mut Draws, bernstein: bool) -> Result<bool> {
        let population = KEYS - SUPPORT;
        let residual = |j: usize| self.logit(j).exp() - self.estimates[j];
        let ends = |x: &mut dyn Iterator<Item = f64>| x.fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(x), b.max(x)));
        let range = ends(&mut (0..population).map(residual));
        let values = [ends(&mut self.values[..population].iter().copied())];
        let concentration = if bernstein {
            Concentration::EmpiricalBernstein { residuals: range, values: &values }
        } else {
            Concentration::CentralLimit
        };
        let drawn: Vec<usize> = (0..SAMPLE).map(|_| (draws.uniform() * population as f64) as usize).collect();
        let residuals: Vec<f64> = drawn.iter().map(|&j| residual(j)).collect();
        let (_, values) = self.members(&drawn);
        let sample = ResidualSample { population, residuals: &residuals, values: &values };
        let estimate = RowEstimate { mass: self.mass, output: &[self.output] };
        let found = statistical_certificate(estimate, sample, concentration, 0.1)?;
        let error = |output: f64| (self.exact() - output).abs();
        Ok(error(self.output) > found.bound + ROUNDING
            || error(found.corrected_output[0]) > found.corrected_bound + ROUNDING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row of the theory is the library's: mass and output from the clusters.
    #[test]
    fn rows_are_those_of_the_hypothesis() {
        let mut draws = Draws::new(1);
        for _ in 0..50 {
            let row = Row::draw(&mut draws).unwrap();
            let on = row.on();
            let mut mass = row.log_mass(&on).exp();
            let mut sum: f64 = on.iter().map(|&j| row.logit(j).exp() * row.values[j]).sum();
            for (_, cluster, _) in row.groups().unwrap() {
                let weight = cluster.count() as f64 * dot(&row.query, cluster.centre()).exp();
                mass += weight;
                sum += weight * cluster.mean_value()[0];
            }
            assert!((mass / row.mass).ln().abs() < ROUNDING && (sum / mass - row.output).abs() < ROUNDING);
        }
    }
}
