//! Naive float64 attention that judges every method.
//!
//! **Should I be using this crate?** Only from tests. It is unpublished, slow on purpose, and shares no code
//! with the crates it judges.
//!
//! * [`Problem`]: one head and what each query may see; [`Problem::exact`] is its attention.
//! * [`Weights`]: a weight for every pair, by the direct formula of each feature map.
//! * [`combine`], [`sparse`], [`background`]: exact on a support, weights off it.
//! * [`support`]: supports by brute force.
//! * [`visible`]: masks by brute force.
//! * [`row_error`], [`mean_error`]: the error of the contract.
//!
//! Everything is computed pair by pair, with a log-scale for each row, so that logits of ±10⁴ are harmless.
//!
//! **Architecture Invariant:** this crate depends on the standard library alone.

#![forbid(unsafe_code)]

mod error;
mod estimate;
mod problem;
pub mod support;
mod visibility;
mod weights;

pub use error::{mean_error, row_error, row_errors, zero_rows};
pub use estimate::{Estimate, background, combine, sparse};
pub use problem::Problem;
pub use visibility::{visibility, visible};
pub use weights::Weights;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
