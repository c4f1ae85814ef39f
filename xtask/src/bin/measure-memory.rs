//! Memory of one call, as a line of JSON; `cargo xtask bench` starts it.
//!
//! A program of its own: its allocator counts, which costs time, and its peak is of one call alone.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the line is for the program that started this one")]

use anyhow::Result;
use clap::Parser;
use xtask::bench::memory::{MemoryOptions, measure};

/// Counts heap bytes.
#[global_allocator]
static HEAP: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

fn main() -> Result<()> {
    println!("{}", serde_json::to_string(&measure(&MemoryOptions::parse())?)?);
    Ok(())
}
