//! The ground floor of Scatterbrain: what every other crate of the workspace speaks.
//!
//! **Should I be using this crate?** Users of attention want `scatterbrain-attention`.
//! Come here to write a support or a background of your own (the traits in [`tile`]), or to take the
//! SIMD tile kernels ([`kernel`]) alone.
//!
//! * [`Tensor`], [`Matrix`]: strided views over caller-owned memory, checked once when they are made.
//! * [`Mask`], [`HeadMask`]: which query may see which key.
//! * [`Seed`]: where every random number comes from.
//! * [`tile`]: the traits that carry the composition, called once a query tile.
//! * [`kernel`]: product tile, exp, online softmax, weighted sum; they pick the SIMD level inside.
//! * [`Error`]: one error type, which names the argument, what was expected and what came.
//!
//! **Architecture Invariant:** nothing here knows a hash family, a feature map or an attention method.

#![deny(unsafe_code)]

pub mod arch;
mod error;
pub mod kernel;
mod mask;
mod seed;
pub mod tile;
mod view;

pub use arch::Level;
pub use error::{Error, Result};
pub use mask::{HeadMask, Mask, MaskTensor, Window, WindowAlign};
pub use seed::{Rng, Seed};
pub use view::{Data, Matrix, Rows, Tensor};
