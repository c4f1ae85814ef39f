//! Locality-sensitive hash families for attention: rows to codes and orders.
//!
//! **Should I be using this crate?** Users of attention want `scatterbrain-attention`, which picks and samples
//! its hashes itself.
//! Come here to find pairs of near rows with a hash of your own choice, or to compute how often a family
//! collides: nearest neighbours, clustering and deduplication need no more than this crate.
//!
//! | family | file | near means | collision probability |
//! |---|---|---|---|
//! | [`SignRandomProjection`] | `srp.rs` | small angle | (1 − θ/π)^K |
//! | [`CrossPolytope`] | `cross_polytope.rs` | small angle | Monte Carlo ([`CollisionTable`]); Gaussian: an integral in `scatterbrain-theory` |
//! | [`E2lsh`] | `e2lsh.rs` | small distance | closed form, to the power K |
//! | [`ReformerRotation`] | `rotation.rs` | small angle | an integral in `scatterbrain-theory` |
//! | [`Smyrf`] | `smyrf.rs` | large inner product | none exists: it sorts, and has orders in place of codes |
//!
//! [`QuantisedRows`] (`quantised.rs`) are no hash but approximate rows: codes of 8 bits with a scale a row, whose products
//! rank keys.
//!
//! The first four implement [`HashFamily`]: every row gets one [`u32`] per hash ([`Codes`]), and
//! [`sort_by_code`] brings equal codes together.
//! [`amplify()`] turns the probability of one hash into that of K concatenations and L tables.
//!
//! Sampled hashes are plain values: cloned, sent and stored with serde, and checked again when they are used.
//! The same [`Seed`](scatterbrain_core::Seed) samples the same hash on every machine.
//!
//! ```
//! use scatterbrain_core::{Level, Matrix, Seed};
//! use scatterbrain_hash::{HashFamily, SignRandomProjection, sort_by_code};
//! let hash = SignRandomProjection::sample(2, 1, 8, Seed(7))?;
//! let rows = [1.0, 0.2, -1.0, 0.5, 2.0, 0.4];
//! let codes = hash.codes(Level::detect(), Matrix::new("rows", &rows, 3, 2)?)?;
//! // The third row is twice the first: same direction, same code.
//! assert_eq!(codes.hash(0)[0], codes.hash(0)[2]);
//! assert_eq!(sort_by_code(codes.hash(0)).len(), 3);
//! # Ok::<(), scatterbrain_core::Error>(())
//! ```
//!
//! **Architecture Invariant:** nothing here has heard of blocks, features or attention; codes and orders leave
//! as plain slices.

#![forbid(unsafe_code)]

mod amplify;
mod codes;
mod cross_polytope;
mod e2lsh;
mod hamming;
mod projections;
mod quantised;
mod rotation;
mod smyrf;
mod sort;
mod srp;

pub use amplify::amplify;
pub use codes::{Codes, HashFamily};
pub use cross_polytope::{CollisionTable, CrossPolytope, Estimate, Rotation, asymptotic_log_collision};
pub use e2lsh::E2lsh;
pub use hamming::hamming_rank;
pub use quantised::QuantisedRows;
pub use rotation::ReformerRotation;
pub use smyrf::{KeyRows, Smyrf, SmyrfOrders, SmyrfValues, Transform};
pub use sort::sort_by_code;
pub use srp::SignRandomProjection;
