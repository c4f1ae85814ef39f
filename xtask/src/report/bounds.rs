//! Bounds on rows, outputs and samples, on keys drawn at random: events that should have no probability.

use super::checks::{Item, dot};
use scatterbrain_theory::{
    Claim, Draws, Estimator, RowEntropy, effective_support, error_of_best_entries, error_of_dropped_mass,
    half_width_clt, half_width_empirical_bernstein, mass_off_sparse_rows, output_error_from_absolute,
    output_error_from_relative, total_variation_from_factors,
};

/// What is claimed of an event that should not happen.
pub(super) const NEVER: f64 = 1e-3;

/// An event with a probability of at most `at_most`; what cannot be computed is no number, and ends the check undecided.
pub(super) fn event(
    name: &str,
    formula: &'static str,
    claim: Claim,
    happens: impl Fn(&mut Draws) -> Option<bool> + Sync + 'static,
) -> Item {
    Item::new(name, formula, claim, Estimator::Probability, move |draws: &mut Draws| {
        happens(draws).map_or(f64::NAN, |happens| f64::from(u8::from(happens)))
    })
}

pub(super) fn push(items: &mut Vec<Item>) {
    let mut never = |name: &str, formula: &'static str, at_most: f64, violated: fn(&mut Draws) -> Option<bool>| {
        items.push(event(name, formula, Claim::AtMost(at_most), violated));
    };
    never("error of dropped mass exceeded", "error_of_dropped_mass", NEVER, |draws| {
        let head = Keys::draw(draws);
        let bound = error_of_dropped_mass(head.logits()[0], head.mass(1), head.diameter()).ok()?;
        Some((head.output() - head.values[0]).abs() > bound * (1.0 + 1e-9))
    });
    never("mass off the three largest below its bound", "mass_off_sparse_rows", NEVER, |draws| {
        let head = Keys::draw(draws);
        let mut row = head.row();
        let bound = mass_off_sparse_rows(RowEntropy::of(&row).ok()?, KEYS, 3).ok()?;
        row.sort_by(f64::total_cmp);
        Some(row[..KEYS - 3].iter().sum::<f64>() < bound - 1e-9)
    });
    never("mean outside empirical Bernstein at 1/10", "half_width_empirical_bernstein", 0.1, |draws| {
        let samples: Vec<f64> = (0..40).map(|_| draws.uniform()).collect();
        let mean = samples.iter().sum::<f64>() / 40.0;
        Some((mean - 0.5).abs() > half_width_empirical_bernstein(&samples, 1.0, 0.1).ok()?)
    });
    never("output further than entries off by a half allow", "output_error_from_relative", NEVER, |draws| {
        let head = Keys::draw(draws);
        let off: Vec<f64> = (0..KEYS).map(|_| 1.0 + 0.5 * draws.standard_normal().signum()).collect();
        let bound = output_error_from_relative(0.5, head.diameter()).ok()?;
        Some((head.weighted(&off) - head.output()).abs() > bound * (1.0 + 1e-9))
    });
    never("output further than errors of entries allow", "output_error_from_absolute", NEVER, |draws| {
        let head = Keys::draw(draws);
        let off: Vec<f64> = (0..KEYS).map(|_| 2.0 * draws.uniform()).collect();
        let weights: Vec<f64> = head.logits().iter().map(|l| l.exp()).collect();
        let errors: f64 = weights.iter().zip(&off).map(|(w, f)| w * (f - 1.0).abs()).sum();
        let bound = output_error_from_absolute(errors, weights.iter().sum(), head.diameter()).ok()?;
        Some((head.weighted(&off) - head.output()).abs() > bound * (1.0 + 1e-9))
    });
    never("row further than factors of ½ to 3/2 allow", "total_variation_from_factors", NEVER, |draws| {
        let row = Keys::draw(draws).row();
        let off: Vec<f64> = row.iter().map(|p| p * (1.0 + 0.5 * draws.standard_normal().signum())).collect();
        let total: f64 = off.iter().sum();
        let apart: f64 = row.iter().zip(&off).map(|(p, w)| 0.5 * (w / total - p).abs()).sum();
        Some(apart > total_variation_from_factors(0.5, 1.5).ok()? + 1e-9)
    });
    never("effective support of 9/10 below its bound", "effective_support", NEVER, |draws| {
        let row = Keys::draw(draws).row();
        let participation = RowEntropy::of(&row).ok()?.participation;
        Some((effective_support(&row, 0.1).ok()? as f64) < 0.81 * participation * (1.0 - 1e-9))
    });
    never("three entries nearer than the best three", "error_of_best_entries", NEVER, |draws| {
        let row = Keys::draw(draws).row();
        let start = (draws.uniform() * KEYS as f64) as usize;
        let square = |x: &f64| x * x;
        let left: f64 = row.iter().enumerate().filter(|(j, _)| (j + start) % KEYS >= 3).map(|(_, p)| square(p)).sum();
        let error = (left / row.iter().map(square).sum::<f64>()).sqrt();
        Some(error < error_of_best_entries(&row, KEYS, 3).ok()? - 1e-9)
    });
    let claim = Claim::Equals(0.1);
    items.push(event("mean of 500 outside its normal interval at 1/10", "half_width_clt", claim, |draws| {
        let samples: Vec<f64> = (0..500).map(|_| draws.uniform()).collect();
        let mean = samples.iter().sum::<f64>() / 500.0;
        Some((mean - 0.5).abs() > half_width_clt(&samples, 0.1).ok()?)
    }));
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

    /// The weights of exact attention.
    fn row(&self) -> Vec<f64> {
        let total = self.mass(0);
        self.logits().iter().map(|l| (l - total).exp()).collect()
    }

    /// Exact attention.
    fn output(&self) -> f64 {
        dot(&self.row(), &self.values)
    }

    /// Attention with entries that are off by these factors.
    fn weighted(&self, factors: &[f64]) -> f64 {
        let row: Vec<f64> = self.row().iter().zip(factors).map(|(p, f)| p * f).collect();
        dot(&row, &self.values) / row.iter().sum::<f64>()
    }

    /// The largest distance of two values.
    fn diameter(&self) -> f64 {
        let (least, most) = self.values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        most - least
    }
}
