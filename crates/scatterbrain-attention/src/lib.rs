//! Approximate attention on the CPU: exact on a few pairs, low-rank everywhere else

#![forbid(unsafe_code)]
