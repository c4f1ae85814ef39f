//! Development tasks, one module a command.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "these are programs for a terminal")]

pub mod bench;
pub mod ci;
pub mod features;
pub mod mutate;
pub mod reference;
pub mod tidy;
mod workspace;
