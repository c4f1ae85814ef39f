//! The `scatterbrain` program.

#![forbid(unsafe_code)]

fn main() {}
