//! Locality-sensitive hash families for attention: rows to codes and orders

#![forbid(unsafe_code)]
