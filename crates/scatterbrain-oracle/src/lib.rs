//! Naive float64 attention and shared cases that judge every method

#![forbid(unsafe_code)]
