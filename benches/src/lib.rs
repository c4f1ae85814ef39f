//! Criterion benches, one file per operation.
