//! Feature maps.
#![forbid(unsafe_code)]
pub mod map;
mod summary;
pub use summary::FeatureBackground;
