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
//! | [`variance_positive()`] | FAVOR+ features |
//! | [`variance_hyperbolic()`] | pairs [ω, −ω] |
//! | [`variance_trigonometric()`] | cosines and sines |
//! | [`second_moment_oprf()`] | optimal positive features |
//! | [`variance_combined`], [`mse_sparse_alone`], [`mse_biased_background`] | sparse + low-rank |
//! | [`amplification()`] | K concatenated hashes, L tables |
//!
//! **Architecture Invariant:** this crate depends on no other crate of the workspace.

#![forbid(unsafe_code)]

mod amplification;
mod check;
mod combined_estimator;
mod error;
mod kurtosis_positive;
mod pair;
mod second_moment_oprf;
#[cfg(test)]
mod simulation;
mod variance_hyperbolic;
mod variance_positive;
mod variance_trigonometric;

pub use amplification::amplification;
pub use check::{Check, CheckReport, Claim, Doubt, Draws, Estimator, Interval, Sample, Tilt, Tilted, Verdict};
pub use combined_estimator::{mse_biased_background, mse_sparse_alone, variance_combined};
pub use error::{Error, Result};
pub use kurtosis_positive::kurtosis_positive;
pub use pair::Pair;
pub use second_moment_oprf::second_moment_oprf;
pub use variance_hyperbolic::variance_hyperbolic;
pub use variance_positive::variance_positive;
pub use variance_trigonometric::variance_trigonometric;
