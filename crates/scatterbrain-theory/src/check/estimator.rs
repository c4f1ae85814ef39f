//! Which quantity of the samples is estimated.

use super::interval::ROUNDING;
use super::number;
use serde::{Deserialize, Serialize};

/// A quantity of a random variable X, as the mean of independent terms; w is the weight of a sample, 1 unless tilted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Estimator {
    /// E X, by w X.
    Mean,
    /// Var X, by ½ w w′ (X − X′)² of two samples a trial, so that no mean has to be known.
    Variance,
    /// E X², by w X².
    SecondMoment,
    /// E(X − a)², by w (X − a)²: the mean squared error against a known value.
    SquaredError {
        /// The known value a.
        #[serde(with = "number")]
        of: f64,
    },
    /// P[X ≠ 0], by w·1[X ≠ 0]; samplers of events give a `bool`.
    Probability,
}

/// One sample, with the logarithm of its likelihood ratio where it was drawn from another distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// X.
    pub value: f64,
    /// ln w, w the density that is meant over the density drawn from; 0 where they are the same.
    pub log_weight: f64,
}

impl From<f64> for Sample {
    fn from(value: f64) -> Self {
        Self { value, log_weight: 0.0 }
    }
}

impl From<bool> for Sample {
    fn from(event: bool) -> Self {
        f64::from(u8::from(event)).into()
    }
}

/// What one trial adds to the mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    pub(super) value: f64,
    /// What of it the rounding of samples may be: of a square of a difference, the square of [`ROUNDING`] of the larger.
    pub(super) noise: f64,
    /// Whether a weight other than 1 is in it.
    pub(super) weighted: bool,
}

impl Estimator {
    /// The term of one trial.
    pub(super) fn term(self, mut sample: impl FnMut() -> Sample) -> Term {
        let Sample { value: x, log_weight } = sample();
        let (term, size, log_weight) = match self {
            Estimator::Mean => (x, 0.0, log_weight),
            Estimator::SecondMoment => (x * x, 0.0, log_weight),
            Estimator::SquaredError { of } => ((x - of).powi(2), x.abs().max(of.abs()), log_weight),
            Estimator::Probability if x.is_nan() => (x, 0.0, log_weight),
            Estimator::Probability => (f64::from(u8::from(x != 0.0)), 0.0, log_weight),
            Estimator::Variance => {
                let Sample { value: y, log_weight: other } = sample();
                (0.5 * (x - y).powi(2), x.abs().max(y.abs()), log_weight + other)
            }
        };
        let (weighted, noise) = (log_weight != 0.0, (ROUNDING * size).powi(2));
        let weight = if weighted { log_weight.exp() } else { 1.0 };
        Term { value: term * weight, noise: noise * weight, weighted }
    }
}
