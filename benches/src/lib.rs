//! Criterion benches, one file per operation.

#![forbid(unsafe_code)]
