//! `cargo xtask report`: every figure of the argument, drawn again from measurements made here.
//!
//! A figure is a file under `report/`: its parts are computed one by one and kept (`cache`), their rows are drawn
//! (`chart`, `heat`), written as CSV, JSON, SVG and PNG (`files`), and put on a page (`page`).

mod bounds;
mod cache;
mod captures;
mod chart;
mod checks;
mod clustered;
mod context;
mod decomposition;
mod entropy;
mod entry_error;
mod equal_units;
mod far_field;
mod figure;
mod files;
mod frontier;
mod growth;
mod heat;
mod ink;
mod judge;
mod page;
mod picture;
mod rows;
mod samples;
mod temperature;

use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::machine::Machine;
use crate::{release, workspace};
use anyhow::{Context as _, Result, ensure};
use context::{Context, Interrupted};
use figure::{Drawn, Entry};
use std::path::PathBuf;
use std::process::ExitCode;

/// What `cargo xtask report` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct ReportOptions {
    /// Small sizes, few captures and few repeats, in under three minutes: the same figures, with less behind them.
    #[arg(long)]
    quick: bool,
    /// A folder of captures, `*.safetensors` as `scatterbrain compare` reads them. Without it `../shared/captures`
    /// beside the workspace, and where that is absent the capture built into the program.
    #[arg(long)]
    captures: Option<PathBuf>,
    /// This figure alone; repeat it for several.
    #[arg(long, value_name = "N")]
    only: Vec<u8>,
    /// The folder that gets `index.html`, `report.md` and a file of each kind for every figure.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs in this build, whatever it is, instead of an optimised one: whether all figures come, with times that say
    /// nothing.
    #[arg(long, requires = "quick")]
    as_built: bool,
}

/// Every figure, in the order of the page.
fn figures() -> Vec<Box<dyn Entry>> {
    vec![
        Box::new(temperature::Temperature),
        Box::new(entry_error::EntryError),
        Box::new(entropy::Entropy),
        Box::new(decomposition::Pictures),
        Box::new(growth::Growth),
        Box::new(frontier::Frontier),
        Box::new(checks::Checks),
        Box::new(equal_units::EqualUnits),
    ]
}

/// Computes what is not kept from an earlier run, and writes the report.
///
/// # Errors
/// Captures that cannot be read, an unknown figure, or files that cannot be written.
pub fn run(options: &ReportOptions) -> Result<ExitCode> {
    if !release::is_optimised() && !options.as_built {
        return release::start_again(release::AVX512);
    }
    let root = workspace::root()?;
    let chosen = chosen(&options.only)?;
    let folder = options.out.clone().unwrap_or_else(|| root.join("target").join("report"));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let captures = captures::find(&root, options.captures.as_deref())?;
    let context = Context::new(captures, options.quick, &folder, Interrupt::listen()?)?;
    match draw(&chosen, &context) {
        Ok(drawn) => {
            let machine = Machine::of_this_run(&root, None)?;
            files::write(&folder, &drawn)?;
            page::write(&folder, &page::Facts::new(&machine, &context), &drawn)?;
            context.finish();
            eprintln!("written: {}", folder.join("index.html").display());
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if error.is::<Interrupted>() => {
            context.finish();
            eprintln!("interrupted; the same command goes on from here");
            Ok(ExitCode::from(INTERRUPTED))
        }
        Err(error) => Err(error),
    }
}

fn chosen(only: &[u8]) -> Result<Vec<Box<dyn Entry>>> {
    let mut figures = figures();
    let numbers: Vec<u8> = figures.iter().map(|f| f.number()).collect();
    for number in only {
        ensure!(numbers.contains(number), "--only: there is no figure {number}; figures are {numbers:?}");
    }
    figures.retain(|figure| only.is_empty() || only.contains(&figure.number()));
    Ok(figures)
}

fn draw(figures: &[Box<dyn Entry>], context: &Context) -> Result<Vec<Drawn>> {
    let mut parts = 0;
    for figure in figures {
        parts += figure.count(context)?;
    }
    context.expect(parts);
    figures.iter().map(|figure| figure.draw(context)).collect()
}
