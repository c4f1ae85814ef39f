//! Supports: which query-key pairs of attention are computed exactly.
//!
//! **Should I be using this crate?** For attention, take `scatterbrain-attention`. Come here for the support
//! rules alone: windows, clusters, block layouts, top-k and their unions, each decodable to a dense mask
//! ([`to_dense_mask`]).
//!
//! Every rule implements [`Support`](scatterbrain_core::tile::Support) and works a tile of queries at a time;
//! no list for the whole n × m is ever held.
//!
//! **Architecture Invariant:** this crate has never heard of hashes, features or values. Clusters arrive as
//! plain slices.

#![forbid(unsafe_code)]

mod clusters;
mod dense;
mod full;
mod largest;
mod layout;
mod local;
mod topk;
mod union;
mod window;

pub use clusters::{Clusters, Round, by_cluster};
pub use dense::to_dense_mask;
pub use full::Full;
pub use largest::{Largest, Score};
pub use layout::{BlockLayout, BlockShape, Layout};
pub use local::LocalSupport;
pub use topk::TopK;
pub use union::Union;
pub use window::WindowSupport;
