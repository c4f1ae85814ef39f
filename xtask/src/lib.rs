//! Development tasks, one module a command.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "these are programs for a terminal")]

pub mod bench;
pub mod capture;
pub mod ci;
mod date;
pub mod features;
pub mod fetch;
mod interrupt;
mod machine;
pub mod mutate;
mod progress;
pub mod reference;
mod release;
pub mod report;
mod statistics;
mod stored;
mod table;
pub mod tidy;
mod workspace;
