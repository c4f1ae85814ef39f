//! Scatterbrain attention: exact on a support, low-rank off it

#![forbid(unsafe_code)]
