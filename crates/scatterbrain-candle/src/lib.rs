//! Scatterbrain attention in [candle](https://docs.rs/candle-core): an op, a module, and models that take their attention as
//! a parameter.
//!
//! **Should I be using this crate?** Yes, if your model runs in candle on the CPU. Without candle, take
//! `scatterbrain-attention`.
//!
//! In a model of yours, where attention is `softmax(q kᵀ / √d + mask) v`:
//!
//! ```
//! use candle_core::{Device, Result, Tensor};
//! use scatterbrain_candle::{Budget, Mask, Preset, ScatterbrainAttention, Seed};
//!
//! # fn main() -> Result<()> {
//! // [batch, heads, n, d], as after `.transpose(1, 2)`; four query heads share two key/value heads.
//! let q = Tensor::randn(0f32, 1.0, (1, 1024, 4, 64), &Device::Cpu)?.transpose(1, 2)?;
//! let k = Tensor::randn(0f32, 1.0, (1, 1024, 2, 64), &Device::Cpu)?.transpose(1, 2)?;
//! let v = k.clone();
//!
//! let attention = ScatterbrainAttention::preset(Preset::ScatterbrainScan, Budget::Units(64), Seed(0))?;
//! let output = attention.forward(&q, &k, &v, &Mask::causal())?; // where the model had its three lines
//! assert_eq!(output.dims(), [1, 4, 1024, 64]);
//! # Ok(())
//! # }
//! ```
//!
//! A model whose attention is a parameter takes a `&dyn` [`Attend`]:
//!
//! | what | by |
//! |---|---|
//! | one method everywhere, exact attention | [`ScatterbrainAttention`] |
//! | a plan, or some layers alone | [`BySite`] |
//! | captures, plans of a model's own inputs | [`Recorder`] around another, [`Inputs::plan`] |
//! | what it took: `share`, `scan_share`, seconds | [`Tally`] around another |
//!
//! Models that do: [`bert`], [`llama`], [`whisper`], [`vit`], [`t2t_vit`].
//!
//! **Architecture Invariant:** no crate of the workspace but the program and the tools depends on this one.

#![forbid(unsafe_code)]

mod attend;
pub mod bert;
mod by_site;
pub mod cache;
pub mod fashion_mnist;
mod layers;
pub mod llama;
mod mask;
mod module;
pub mod onnx;
mod op;
pub mod pictures;
mod recorder;
pub mod t2t_vit;
mod tally;
pub mod tokenizer;
pub mod vit;
pub mod weights;
pub mod whisper;

pub use attend::{Attend, Inputs, Site, Stack};
pub use by_site::BySite;
pub use mask::Mask;
pub use module::{Budget, ScatterbrainAttention};
pub use op::{Attention, Spent, attend};
pub use recorder::Recorder;
pub use scatterbrain_attention::{Causality, Method, Preset, Report, Seed, Window, WindowAlign, plan};
pub use tally::{SiteTally, Tally};

/// The examples of the README, compiled and run by `cargo test`.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ReadmeDoctests;
