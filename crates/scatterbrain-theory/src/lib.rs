//! Error bounds and predictors of approximate attention, with their hypotheses checked.
//!
//! **Should I be using this crate?** To predict an error before paying for it, or to test an estimator against
//! its own mathematics. Nothing is computed on tensors here: formulas take numbers and give numbers, in f64,
//! one formula a file. Each states its derivation or its source; constants are never swallowed.
//!
//! Formulas are KaTeX, in blocks called `math`: `katex-header.html` renders them, as on docs.rs.
//! Where that cannot be loaded they stay what they are, TeX.
//!
//! A = exp(q·k) is one unnormalised entry, the softmax scale absorbed in q and k. Variances are of that entry,
//! **not** of the normalised row, which is a ratio and biased.
//!
//! | formula | of |
//! |---|---|
//! | [`variance_combined`], [`mse_sparse_alone`], [`mse_biased_background`] | sparse + low-rank |
//! | [`collision_sign_random_projection`], [`collision_e2lsh`], [`collision_cross_polytope`] | hashes, exactly |
//! | [`leading_term_cross_polytope`] | its growth, asymptotically: no probability |
//! | [`mean_of_reused_directions`] | sparse + low-rank where the features' directions are the hash's |
//! | [`amplification()`] | K concatenated hashes, L tables |
//! | [`features_to_beat_uniform_gaussian`], [`features_to_beat_uniform_sphere`] | features worth having |
//! | [`covariance_positive()`], [`RatioMoments`] | a row's numerator and denominator |
//! | [`ratio_delta_method`] | bias and variance of a normalised row: an approximation |
//! | [`ratio_error_cantelli`], [`ratio_error_bernstein`] | the same: bounds |
//! | [`output_error_from_relative`], [`output_error_from_absolute`] | output from entries: bounds |
//! | [`far_field_bracket`], [`far_field_bracket_corrected`] | attention to a cluster of keys |
//! | [`deterministic_certificate`], [`error_of_dropped_mass`] | the output, whatever the keys are |
//! | [`statistical_certificate()`] | the output, by sampled residuals |
//! | [`half_width_clt`], [`half_width_empirical_bernstein`] | a mean of samples |
//! | [`RowEntropy`], [`effective_support`], [`mass_off_sparse_rows`] | rows of attention, and what sparse ones miss |
//! | [`error_of_best_rank`], [`error_of_best_entries`], [`budget_bounds()`] | lower bounds at a budget |
//! | [`ClusteredProcess`], [`two_level_errors`], [`predicted_regime`] | temperature: which part suffices |
//! | [`incoherence`], [`robust_pca_weight`], [`robust_pca_recovery()`] | robust PCA |
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
//! | `ReluFeatures` | [`variance_relu`] | a bound: [`variance_relu_at_most`] | [`mean_relu()`], biased whatever the directions |
//! | `EluFeatures` | no variance, a fixed error: (elu(q) + 1)·(elu(k) + 1) − A | | [`mse_biased_background`] |
//! | `Constant` | no variance, a fixed error: 1 − A | | [`mse_biased_background`] |
//!
//! Three random parts have no row, as they are backgrounds and no maps: `SampledBackground`, `SampledRestBackground` and
//! `EvaBackground` draw keys, or a proposal for each group of keys, so that what they err by depends on all keys of a row
//! and not on one pair. Their own pages say what each estimates.
//!
//! And of each hash family, amplified over K concatenations and L tables by [`amplification()`]:
//!
//! | family | one hash |
//! |---|---|
//! | `SignRandomProjection` | [`collision_sign_random_projection`], exact |
//! | `E2lsh` | [`collision_e2lsh`], exact |
//! | `CrossPolytope`, Gaussian | [`collision_cross_polytope`] with D = d, exact |
//! | `CrossPolytope`, orthogonal | [`collision_cross_polytope`], *approximate*: 6 % too high at d = 64, distance 1 |
//! | `ReformerRotation` | [`collision_cross_polytope`] with half as many directions as buckets, exact |
//! | `Smyrf` | none: it sorts, so that whether two rows meet depends on all others |
//!
//! [`Check`] draws samples and says whether a formula, of this crate or of one's own, holds.
//!
//! **Architecture Invariant:** this crate depends on no other crate of the workspace.

#![forbid(unsafe_code)]

mod amplification;
mod best_approximation;
mod check;
mod cluster;
mod clustered_process;
mod collision_cross_polytope;
mod collision_e2lsh;
mod collision_sign_random_projection;
mod combined_estimator;
mod confidence;
mod coupled_moment;
mod covariance_positive;
mod deterministic_certificate;
mod dropped_mass;
mod error;
mod far_field_bracket;
mod features_to_beat_uniform;
mod kurtosis_positive;
mod leading_term_cross_polytope;
mod mean_relu;
mod output_error;
mod owens_t;
mod pair;
mod quadrature;
mod ratio_error;
mod reused_directions;
mod robust_pca_recovery;
mod row_entropy;
mod second_moment_oprf;
#[cfg(test)]
mod simulation;
mod sparse_lower_bounds;
mod statistical_certificate;
mod temperature_regime;
mod variance_coupled;
mod variance_hyperbolic;
mod variance_oprf;
mod variance_positive;
mod variance_trigonometric;

pub use amplification::amplification;
pub use best_approximation::{BudgetBounds, budget_bounds, error_of_best_entries, error_of_best_rank};
pub use check::{Check, CheckReport, Claim, Doubt, Draws, Estimator, Interval, Sample, Tilt, Tilted, Verdict};
pub use cluster::Cluster;
pub use clustered_process::{ClusteredProcess, ClusteredRows, LogitMoments};
pub use collision_cross_polytope::collision_cross_polytope;
pub use collision_e2lsh::collision_e2lsh;
pub use collision_sign_random_projection::collision_sign_random_projection;
pub use combined_estimator::{mse_biased_background, mse_sparse_alone, variance_combined};
pub use confidence::{half_width_clt, half_width_empirical_bernstein};
pub use coupled_moment::Directions;
pub use covariance_positive::covariance_positive;
pub use deterministic_certificate::deterministic_certificate;
pub use dropped_mass::error_of_dropped_mass;
pub use error::{Error, Result};
pub use far_field_bracket::{Bracket, far_field_bracket, far_field_bracket_corrected};
pub use features_to_beat_uniform::{
    features_to_beat_uniform_gaussian, features_to_beat_uniform_normal_logits, features_to_beat_uniform_sphere,
};
pub use kurtosis_positive::kurtosis_positive;
pub use leading_term_cross_polytope::leading_term_cross_polytope;
pub use mean_relu::{mean_relu, variance_relu, variance_relu_at_most};
pub use output_error::{output_error_from_absolute, output_error_from_relative, total_variation_from_factors};
pub use pair::Pair;
pub use ratio_error::{DeltaMethod, RatioMoments, ratio_delta_method, ratio_error_bernstein, ratio_error_cantelli};
pub use reused_directions::mean_of_reused_directions;
pub use robust_pca_recovery::{
    RecoveryConditions, RecoveryConstants, incoherence, robust_pca_recovery, robust_pca_weight,
};
pub use row_entropy::{RowEntropy, effective_support};
pub use second_moment_oprf::second_moment_oprf;
pub use sparse_lower_bounds::mass_off_sparse_rows;
pub use statistical_certificate::{
    Concentration, ResidualSample, RowEstimate, StatisticalCertificate, statistical_certificate,
};
pub use temperature_regime::{Regime, TwoLevelErrors, predicted_regime, two_level_errors};
pub use variance_coupled::{
    variance_hyperbolic_coupled, variance_oprf_coupled, variance_positive_coupled, variance_trigonometric_coupled,
};
pub use variance_hyperbolic::variance_hyperbolic;
pub use variance_oprf::{optimal_a, variance_oprf};
pub use variance_positive::variance_positive;
pub use variance_trigonometric::variance_trigonometric;
