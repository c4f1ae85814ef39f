//! `cargo xtask reference DIR`: stored outputs of the authors' code, reproduced through the public API.

mod call;
mod plan;

use crate::stored::File;
use anyhow::{Context, Result, bail, ensure};
use call::{Call, Computed};
use scatterbrain_combine::Method;
use std::fmt;
use std::path::Path;

/// Allowed in an output, absolute.
pub const OUTPUT: f64 = 5e-5;
/// Allowed in an entry of the normalised matrix, absolute.
pub const ATTENTION: f64 = 1e-5;
/// Allowed in an entry before normalisation, relative; the authors' own float32 entries are up to 5e-5 away.
pub const UNNORMALISED: f64 = 2e-4;

/// How far a file is from the library. Absent: the file does not store it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Deviation {
    /// Worst output, absolute.
    pub output: f64,
    /// Worst entry of the normalised matrix, absolute.
    pub attention: Option<f64>,
    /// Worst entry before normalisation, relative.
    pub unnormalised: Option<f64>,
    /// Worst entry of the background alone, relative.
    pub background: Option<f64>,
    /// Pairs that are in one support and not in the other, or met another number of times.
    pub pairs: Option<usize>,
}

impl Deviation {
    /// Whether all is within tolerance. NaN is not.
    pub fn passes(&self) -> bool {
        let within = |x: Option<f64>, limit| x.is_none_or(|x| x <= limit);
        self.output <= OUTPUT
            && within(self.attention, ATTENTION)
            && within(self.unnormalised, UNNORMALISED)
            && within(self.background, UNNORMALISED)
            && self.pairs.is_none_or(|p| p == 0)
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "output {:.1e}", self.output)?;
        let numbers =
            [("attention", self.attention), ("unnormalised", self.unnormalised), ("background", self.background)];
        for (name, x) in numbers.iter().filter_map(|(name, x)| Some((name, (*x)?))) {
            write!(f, ", {name} {x:.1e}")?;
        }
        match self.pairs {
            Some(0) => write!(f, ", support equal"),
            Some(p) => write!(f, ", support differs in {p} pairs"),
            None => Ok(()),
        }
    }
}

/// Compares every file of a folder, prints a line for each, and fails where one does not pass.
///
/// # Errors
/// No file, a file that cannot be used, or a deviation beyond tolerance.
pub fn run(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|p| p.extension().is_some_and(|e| e == "safetensors"));
    paths.sort();
    ensure!(!paths.is_empty(), "no *.safetensors in {}", folder.display());
    let failed = paths.iter().filter(|path| !report(path)).count();
    ensure!(failed == 0, "{failed} of {} files failed", paths.len());
    Ok(())
}

/// One line about a file; whether it passes.
fn report(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let (verdict, line) = match compare(path) {
        Ok(deviation) => (deviation.passes(), deviation.to_string()),
        Err(error) => (false, format!("{error:#}")),
    };
    println!("{} {name}: {line}", if verdict { "ok    " } else { "FAILED" });
    verdict
}

/// Compares one file.
///
/// # Errors
/// A file that cannot be read, an unknown variant, missing or ill-shaped tensors, inputs the library refuses.
pub fn compare(path: &Path) -> Result<Deviation> {
    let file = File::read(path)?;
    let target = match file.parameter::<String>("variant")?.as_str() {
        "performer" => "output_eps_free",
        "linear" => "output",
        _ => "output_f64",
    };
    let found = Found::compute(&file)?;
    let [batch, heads, n, _] = file.shape("query")?;
    let [_, _, m, d_v] = file.shape("value")?;
    let matrix = [batch, heads, n, m];
    let wanted = |name: &str| file.has(name).then(|| file.doubles(name, &matrix)).transpose();
    let mut deviation = Deviation {
        output: absolute(&found.all.output, &file.doubles(target, &[batch, heads, n, d_v])?)?,
        pairs: found.pairs(&file, &matrix)?,
        ..Deviation::default()
    };
    if let Some(attention) = wanted("attn")? {
        deviation.attention = Some(absolute(&found.all.attention, &attention)?);
    }
    if let Some(entries) = wanted("attn_unnormalized")? {
        deviation.unnormalised = Some(relative(&found.all.unnormalised(), &entries)?);
    }
    // The authors' ε is in the entries they store of performer.
    if let (Some(entries), true) =
        (wanted("attn_lowrank_unnormalized")?, file.parameter("softmax_eps").ok() == Some(0.0))
    {
        deviation.background = Some(relative(&found.background.unnormalised(), &entries)?);
    }
    Ok(deviation)
}

/// All that the library computes for a file.
#[derive(Default)]
struct Found {
    all: Computed,
    background: Computed,
    /// How many of the support's methods, and of the hashes', reach each pair.
    support: Vec<u8>,
    count: Vec<u8>,
}

impl Found {
    fn compute(file: &File) -> Result<Self> {
        let mut found = Self::default();
        for (call, plan) in plan::steps(file)? {
            found.all.append(call.compute(&plan.parts)?);
            if let Some(background) = plan.background {
                found.background.append(call.compute(&[background])?);
            }
            found.support.append(&mut reached(&call, plan.support.as_slice())?);
            found.count.append(&mut reached(&call, &plan.rounds)?);
        }
        Ok(found)
    }

    fn pairs(&self, file: &File, shape: &[usize]) -> Result<Option<usize>> {
        let mut wrong = None;
        for (name, found) in [("support", &self.support), ("support_count", &self.count)] {
            if file.has(name) {
                let stored = file.flags(name, shape)?;
                let differ = stored.iter().zip(found).filter(|(a, b)| a != b).count();
                wrong = Some(wrong.unwrap_or(0) + differ);
            }
        }
        Ok(wrong)
    }
}

/// How many methods reach each pair. Reformer's own pair, which we hide, counts in the stored support.
fn reached(call: &Call, methods: &[Method]) -> Result<Vec<u8>> {
    let call = call.without_boolean();
    let mut count = vec![0; call.batch * call.heads * call.n * call.m];
    for method in methods {
        let matrix = call.compute(std::slice::from_ref(method))?.attention;
        count.iter_mut().zip(matrix).for_each(|(c, a)| *c += u8::from(a != 0.0));
    }
    Ok(count)
}

/// max |a − b|; NaN where one is.
fn absolute(a: &[f32], b: &[f64]) -> Result<f64> {
    worst(a.iter().map(|&x| f64::from(x)), b, |a, b| (a - b).abs())
}

/// max |a − b| / |b|; where b is zero, a must be.
fn relative(a: &[f64], b: &[f64]) -> Result<f64> {
    worst(a.iter().copied(), b, |a, b| if a == b { 0.0 } else { (a - b).abs() / b.abs() })
}

fn worst(a: impl ExactSizeIterator<Item = f64>, b: &[f64], distance: impl Fn(f64, f64) -> f64) -> Result<f64> {
    if a.len() != b.len() {
        bail!("{} numbers are stored, {} computed", b.len(), a.len());
    }
    let larger = |x: f64, y: f64| if x.is_nan() || x > y { x } else { y };
    Ok(a.zip(b)
        .map(|(a, &b)| distance(a, b))
        .fold(0.0, |worst, x| if f64::is_nan(worst) { worst } else { larger(x, worst) }))
}
