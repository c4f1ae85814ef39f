//! Error bounds and predictors of approximate attention, with their hypotheses checked.
//!
//! **Should I be using this crate?** To predict an error before paying for it, or to test an estimator against
//! its own mathematics. Nothing is computed on tensors here: formulas take numbers and give numbers, in f64,
//! one formula a file. Each states its derivation or its source; constants are never swallowed.
//!
//! A = exp(q·k) is one unnormalised entry, the softmax scale absorbed in q and k. Variances are of that entry,
//! **not** of the normalised row, which is a ratio and biased.
//!
//! | formula | of |
//! |---|---|
//! | [`variance_combined`], [`mse_sparse_alone`], [`mse_biased_background`] | sparse + low-rank |
//! | [`amplification()`] | K concatenated hashes, L tables |
//! | [`features_to_beat_uniform_gaussian`], [`features_to_beat_uniform_sphere`] | features worth having |
//! | [`covariance_positive()`], [`RatioMoments`] | a row's numerator and denominator |
//! | [`ratio_delta_method`] | bias and variance of a normalised row: an approximation |
//! | [`ratio_error_cantelli`], [`ratio_error_bernstein`] | the same: bounds |
//! | [`output_error_from_relative`], [`output_error_from_absolute`] | output from entries: bounds |
//!
//! Where the formula of each feature map of the library is. The first four are unbiased for A on directions that are
//! each N(0, I), coupled or not ([`Directions`]):
//!
//! | map | independent directions | orthogonal, simplex | else |
//! |---|---|---|---|
//! | `PositiveFeatures` | [`variance_positive()`] | [`variance_positive_coupled`] | [`kurtosis_positive()`] |
//! | `HyperbolicFeatures` | [`variance_hyperbolic()`] | [`variance_hyperbolic_coupled`] | |
//! | `OptimalPositiveFeatures` | [`variance_oprf()`], [`second_moment_oprf()`] | [`variance_oprf_coupled`] | [`optimal_a`] |
//! | `TrigonometricFeatures` | [`variance_trigonometric()`] | [`variance_trigonometric_coupled`] | |
//! | `ReluFeatures` | [`variance_relu`] | biased whatever the directions | [`mean_relu()`] |
//! | `EluFeatures` | no variance, a fixed error: (elu(q) + 1)·(elu(k) + 1) − A | | [`mse_biased_background`] |
//! | `Constant` | no variance, a fixed error: 1 − A | | [`mse_biased_background`] |
//!
//! [`Check`] draws samples and says whether a formula, of this crate or of one's own, holds.
//!
//! **Architecture Invariant:** this crate depends on no other crate of the workspace.

#![forbid(unsafe_code)]

mod amplification;
mod check;
mod combined_estimator;
mod coupled_moment;
mod covariance_positive;
mod error;
mod features_to_beat_uniform;
mod kurtosis_positive;
mod mean_relu;
mod output_error;
mod pair;
mod ratio_error;
mod second_moment_oprf;
#[cfg(test)]
mod simulation;
mod variance_coupled;
mod variance_hyperbolic;
mod variance_oprf;
mod variance_positive;
mod variance_trigonometric;

pub use amplification::amplification;
pub use check::{Check, CheckReport, Claim, Doubt, Draws, Estimator, Interval, Sample, Tilt, Tilted, Verdict};
pub use combined_estimator::{mse_biased_background, mse_sparse_alone, variance_combined};
pub use coupled_moment::Directions;
pub use covariance_positive::covariance_positive;
pub use error::{Error, Result};
pub use features_to_beat_uniform::{
    features_to_beat_uniform_gaussian, features_to_beat_uniform_normal_logits, features_to_beat_uniform_sphere,
};
pub use kurtosis_positive::kurtosis_positive;
pub use mean_relu::{mean_relu, variance_relu};
pub use output_error::{output_error_from_absolute, output_error_from_relative, total_variation_from_factors};
pub use pair::Pair;
pub use ratio_error::{DeltaMethod, RatioMoments, ratio_delta_method, ratio_error_bernstein, ratio_error_cantelli};
pub use second_moment_oprf::second_moment_oprf;
pub use variance_coupled::{
    variance_hyperbolic_coupled, variance_oprf_coupled, variance_positive_coupled, variance_trigonometric_coupled,
};
pub use variance_hyperbolic::variance_hyperbolic;
pub use variance_oprf::{optimal_a, variance_oprf};
pub use variance_positive::variance_positive;
pub use variance_trigonometric::variance_trigonometric;
