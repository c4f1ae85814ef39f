//! Development tasks: `cargo xtask --help`.

#![forbid(unsafe_code)]

use anyhow::Result;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Development tasks of the Scatterbrain workspace.
#[derive(Parser)]
enum Command {
    /// Measures the project beside PyTorch and writes the record: times, growth, memory.
    Bench(xtask::bench::BenchOptions),
    /// Writes what the attention of a model gets, for `compare`; arguments as of `scatterbrain capture`.
    #[command(disable_help_flag = true)]
    Capture {
        /// MODEL --input FILE [--layer NAME]… [--f16] -o OUT.safetensors
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Every check of a submission, in order.
    Ci,
    /// Packages with features, without any and with each alone.
    Features,
    /// Fetches models and data sets into a cache, checked and unpacked.
    Fetch(xtask::fetch::FetchOptions),
    /// Compares the library with stored outputs of the authors' code.
    Reference {
        /// A folder of `*.safetensors` files.
        dir: PathBuf,
    },
    /// Draws every figure of the argument again from measurements made here, as a page.
    Report(xtask::report::ReportOptions),
    /// Checks the arrows between crates, where `unsafe` stands, and paths of machines.
    Tidy,
    /// Plants the faults of `xtask/src/mutate/faults.rs` one at a time; the tests must turn red at each.
    Mutate {
        /// The fault of this name alone.
        #[arg(long)]
        only: Option<String>,
    },
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Bench(options) => return xtask::bench::run(&options),
        Command::Capture { arguments } => xtask::capture::run(&arguments),
        Command::Ci => xtask::ci::run(),
        Command::Features => xtask::features::run(),
        Command::Fetch(options) => xtask::fetch::run(&options),
        Command::Report(options) => return xtask::report::run(&options),
        Command::Reference { dir } => xtask::reference::run(&dir),
        Command::Tidy => xtask::tidy::run(),
        Command::Mutate { only } => xtask::mutate::run(only.as_deref()),
    }
    .map(|()| ExitCode::SUCCESS)
}
