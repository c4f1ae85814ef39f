//! Supports: which query-key pairs of attention are computed exactly

#![forbid(unsafe_code)]
