//! Scatterbrain attention in [candle](https://docs.rs/candle-core): an op, a module, and models that take their attention as
//! a parameter.
//!
//! **Should I be using this crate?** Yes, if your model runs in candle on the CPU. Without candle, take
//! `scatterbrain-attention`.
//!
//! **Architecture Invariant:** no crate of the workspace but the program and the tools depends on this one.

#![forbid(unsafe_code)]

mod attend;

pub use attend::{Attend, Inputs, Site, Stack};
