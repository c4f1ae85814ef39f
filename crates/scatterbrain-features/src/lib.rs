//! Random and deterministic feature maps of the softmax kernel, and the low-rank background they make

#![forbid(unsafe_code)]
