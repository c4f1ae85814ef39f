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
//! // Hashes and projections are drawn once and reused over calls.
//! let method = Preset::ScatterbrainLocal.method(32, 16, Seed(0), true)?;
//! let result = attend(&query, &key, &value, &Mask::causal(), &method, &Options::default())?;
//! assert_eq!(result.output.len(), 2 * 100 * 8);
//! assert!((result.output[0] - 1.0).abs() < 1e-5); // rows are weighted means
//! # Ok::<(), scatterbrain_attention::Error>(())
//! ```
//!
//! A method of one's own is any support with any background: [`Method::scatterbrain`]. The masks and their
//! alignment are told at [`Mask`], the cost and the errors at [`attend`].
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
pub use scatterbrain_core::tile::Causality;
pub use scatterbrain_core::{Data, Error, Level, Mask, MaskTensor, Matrix, Result, Seed, Tensor, Window, WindowAlign};
pub use scatterbrain_features as features;
pub use scatterbrain_hash as hash;
