//! The `scatterbrain` program: how far approximate attention is from exact attention, and what it costs.

#![forbid(unsafe_code)]

mod arguments;
mod attend;
mod compare;
mod decompose;
mod errors;
mod eval;
mod input;
mod library;
mod matrix;
mod measure;
mod plan;
mod planning;
mod reference;
mod report;
mod table;

use arguments::{Arguments, Command};
use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;

/// Counts heap bytes for `extra_bytes`.
#[global_allocator]
static HEAP: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Compare(options) => compare::run(&options),
        Command::Attend(options) => attend::run(&options),
        Command::Plan(options) if options.calibrate.model.is_some() => eval::calibrate(&options),
        Command::Plan(options) => plan::run(&options),
        Command::Decompose(options) => decompose::run(&options),
        Command::Eval(options) => eval::eval(&options),
        Command::Capture(options) => eval::capture(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done where stderr is closed.
            let _ = writeln!(io::stderr(), "scatterbrain: {}", one_line(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Whether the reader of stdout has left; files are never written to a pipe.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// A message fit for a terminal: names out of hostile files may hold line ends and escape sequences.
fn one_line(message: &str) -> String {
    const LONGEST: usize = 400;
    // candle writes a backtrace, where there is one, behind what it says: numbered lines.
    let message = message.split("\n   0: ").next().unwrap_or(message).trim_end();
    let mut line: String = message.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if message.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn messages_stay_one_short_line() {
        assert_eq!(one_line("a\nb\u{1b}[31m"), "a b [31m");
        assert_eq!(one_line("no tensor\n   0: candle_core::error::Error::bt\n   1: main"), "no tensor");
        assert_eq!(one_line(&"x".repeat(9999)).chars().count(), 401);
    }
}
