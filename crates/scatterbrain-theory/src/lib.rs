//! Error bounds and predictors of approximate attention, with their hypotheses checked

#![forbid(unsafe_code)]
