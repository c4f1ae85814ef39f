//! Random and deterministic feature maps of the softmax kernel, and the low-rank background they make.
//!
//! **Should I be using this crate?** Users of attention want `scatterbrain-attention`, which picks a map by
//! name. Come here to draw features for an estimator of your own, or to write a map ([`FeatureMap`]).
//!
//! A map φ turns rows into features with φ(q)·φ(k) ≈ exp(q·k). Features are written as logarithms
//! ([`LogFeatures`]): those of large rows would not fit into f32 otherwise.
//!
//! | map | features | estimates exp(q·k) | sign | scale |
//! |---|---|---|---|---|
//! | [`PositiveFeatures`] | m directions | yes | + | absorbed |
//! | [`HyperbolicFeatures`] | m/2 directions and their negatives | yes | + | absorbed |
//! | [`OptimalPositiveFeatures`] | m directions, parameter A | yes | + | absorbed |
//! | [`TrigonometricFeatures`] | cos and sin of m/2 directions | yes | ± | absorbed |
//! | [`ReluFeatures`] | m directions | no | ≥ 0 | absorbed |
//! | [`EluFeatures`] | the d columns | no | + | ignored |
//! | [`Constant`] | 1 | no | + | ignored |
//!
//! Five backgrounds have no map: [`CentroidBackground`], where a key weighs what the mean of its cluster does;
//! [`EvaBackground`], where a cluster's keys share that weight by a random feature; [`SampledBackground`], where a few keys
//! stand for all; [`SampledRestBackground`], where a few keys off the support stand for all of those; and
//! [`SampledMassBackground`], where those all weigh the same, and together what a sample says. [`KMeans`] clusters rows.
//!
//! **Architecture Invariant:** nothing here knows a support, and no ε is added to a feature or a sum.

#![forbid(unsafe_code)]

mod centroid_tile;
mod centroids;
mod constant;
mod elu;
mod eva;
mod hyperbolic;
mod kmeans;
mod map;
mod oprf;
mod positive;
mod projection;
mod relu;
mod sampled;
mod sampled_mass;
mod sampled_rest;
mod sampled_tile;
mod summary;
mod tile;
mod trigonometric;

pub use centroids::CentroidBackground;
pub use constant::Constant;
pub use elu::EluFeatures;
pub use eva::EvaBackground;
pub use hyperbolic::HyperbolicFeatures;
pub use kmeans::{KMeans, KMeansTree};
pub use map::{FeatureMap, LogFeatures, Role};
pub use oprf::{OptimalPositiveFeatures, optimal_a};
pub use positive::PositiveFeatures;
pub use projection::{Projection, ProjectionKind};
pub use relu::ReluFeatures;
pub use sampled::SampledBackground;
pub use sampled_mass::SampledMassBackground;
pub use sampled_rest::SampledRestBackground;
pub use summary::FeatureBackground;
pub use trigonometric::TrigonometricFeatures;
