//! Approximate attention on the CPU: **exact on a few pairs, low-rank everywhere else** (Chen et al.,
//! "Scatterbrain: Unifying Sparse and Low-rank Attention", NeurIPS 2021).
//!
//! **Should I be using this crate?** Yes, if you have query, key and value and want attention. For one part alone go
//! next door: `scatterbrain-hash` (hash families), `scatterbrain-features` (feature maps), `scatterbrain-blocks`
//! (supports), `scatterbrain-core` (SIMD tile kernels), `scatterbrain-theory` (formulas in f64).
//!
//! ```
//! use scatterbrain_attention::{Mask, Options, Preset, Seed, Tensor, attend};
//!
//! // [batch, heads, rows, columns]; any strides, f32, f16 or bf16; two query heads share one key head.
//! let query = vec![0.1f32; 2 * 100 * 16];
//! let key = vec![0.2f32; 120 * 16];
//! let value = vec![1.0f32; 120 * 8];
//! let query = Tensor::f32("query", &query, [1, 2, 100, 16])?;
//! let key = Tensor::f32("key", &key, [1, 1, 120, 16])?;
//! let value = Tensor::f32("value", &value, [1, 1, 120, 8])?;
//!
//! // At most 32 keys a row exactly, all others in 8 bits. Methods are made once and reused over calls.
//! let method = Preset::ScatterbrainScan.method(32, 16, Seed(0))?;
//! let result = attend(&query, &key, &value, &Mask::causal(), &method, &Options::default())?;
//! assert_eq!(result.output.len(), 2 * 100 * 8);
//! assert!((result.output[0] - 1.0).abs() < 0.01); // rows are weighted means, to the steps of the codes
//! # Ok::<(), scatterbrain_attention::Error>(())
//! ```
//!
//! With a request instead of a budget a plan is made, from this input or once for a model ([`plan`]):
//!
//! ```
//! use scatterbrain_attention::plan::{PlanOptions, Request, plan};
//! use scatterbrain_attention::{Mask, Method, Options, Seed, Tensor, attend};
//!
//! let x = Seed(1).stream(0).normals(2 * 2000 * 16);
//! let x = Tensor::f32("x", &x, [1, 2, 2000, 16])?;
//! let mask = Mask::causal();
//! let on_the_fly = PlanOptions::on_the_fly(Request::Error(0.1));
//! let plan = plan(&x, &x, &x, &mask, &on_the_fly, &Options::default())?;
//! let promised = plan.error_bound(); // the mean relative error of a row stays under it
//! let result = attend(&x, &x, &x, &mask, &Method::planned(plan), &Options::default())?;
//! assert!(promised.is_some_and(|bound| bound <= 0.1));
//! # assert_eq!(result.output.len(), 2 * 2000 * 16);
//! # Ok::<(), scatterbrain_attention::Error>(())
//! ```
//!
//! A method of one's own is any support with any background: [`Method::scatterbrain`]; the traits are in [`core::tile`].
//! The masks and their alignment are told at [`Mask`], the cost and the errors at [`attend`].
//!
//! **Architecture Invariant:** no logic lives here; presets only name what the other crates compute.

#![forbid(unsafe_code)]

mod preset;

pub use preset::Preset;
pub use scatterbrain_blocks as blocks;
pub use scatterbrain_combine::{
    Attention, ClusterSupport, ClusteredSupport, DenseHead, HashSupport, HeadReport, InvertedFileSupport, Method,
    Options, Partial, QuantisedTopK, ReformerSupport, Report, ScanBackground, SmyrfSupport, SortedLshSupport, attend,
    attend_into, decompose, dense_matrix, merge, plan,
};
pub use scatterbrain_core as core;
pub use scatterbrain_core::tile::Causality;
pub use scatterbrain_core::{Data, Error, Level, Mask, MaskTensor, Matrix, Result, Seed, Tensor, Window, WindowAlign};
pub use scatterbrain_features as features;
pub use scatterbrain_hash as hash;
