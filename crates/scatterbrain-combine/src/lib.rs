//! Scatterbrain attention: exact on a support, low-rank off it.
//!
//! **Should I be using this crate?** For attention with ready presets, take `scatterbrain-attention`, which
//! re-exports all of this. Come here to combine a support and a background of your own.
//!
//! With a support 𝒮 and background weights φ(q)·φ(k) (Chen et al., "Scatterbrain", NeurIPS 2021, §4),
//!
//! ```text
//! A_ij = exp(scale · q_i·k_j)
//! Â_ij = A_ij            if (i, j) ∈ 𝒮
//!        φ(q_i)·φ(k_j)   else
//! o_i  = Σ_j Â_ij v_j / Σ_j Â_ij                 over the keys j that row i sees
//! ```
//!
//! is computed tile by tile as totals over all keys plus corrections A − φ·φ on 𝒮; nothing of size n × m is
//! built outside [`dense_matrix`] and [`decompose`], the robust PCA of such a matrix.
//!
//! **Architecture Invariant:** this is the only crate that introduces hashes, features and blocks to each other.

#![forbid(unsafe_code)]

mod attend;
mod check;
mod clustered;
pub mod decompose;
mod dense;
mod group;
mod hashed;
mod inverted;
mod merge;
mod method;
pub mod plan;
mod quantised;
mod scan;
mod sorted_lsh;
mod tile;

pub use attend::{Attention, HeadReport, Options, Report, attend, attend_into};
pub use clustered::ClusteredSupport;
pub use dense::{DenseHead, dense_matrix};
pub use hashed::{ClusterSupport, HashSupport, MOST_BUCKETS, QuantisedTopK, ReformerSupport, SmyrfSupport};
pub use inverted::InvertedFileSupport;
pub use merge::{Partial, merge};
pub use method::Method;
pub use scan::ScanBackground;
pub use sorted_lsh::SortedLshSupport;
