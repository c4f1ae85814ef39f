//! `scatterbrain decompose`.

use crate::arguments::{Algorithm, DecomposeOptions};
use crate::attend::{little_endian, write_whole};
use crate::input::Input;
use crate::library::decompose::{self, Decomposition, Heuristic, LowRank, Progress, SparseRows, Yardstick};
use crate::library::{Matrix, Seed};
use crate::measure::pool;
use crate::reference::Head;
use crate::report::{EndResult, HeadDecomposition, OptimalityResult, SplitRun};
use crate::table;
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Instant;

/// Decomposes the matrix of one head and prints what was found.
///
/// # Errors
/// An input or an option that cannot be used, no convergence, an output that cannot be written, or a closed stdout.
pub(crate) fn run(options: &DecomposeOptions) -> Result<()> {
    let pursues = options.method == Algorithm::Pcp;
    ensure!(!(pursues && options.common.has_budget()), "budget: expected without --method pcp, which has none");
    ensure!(pursues || options.lambda.is_none(), "lambda: expected with --method pcp alone");
    ensure!(options.iterations != Some(0), "iterations: expected at least 1, got 0");
    let input = Input::read(options.file.as_deref(), &options.common)?;
    let s = input.sizes;
    ensure!(options.batch < s.batch, "batch: expected 0 to {}, got {}", s.batch - 1, options.batch);
    ensure!(options.head < s.heads, "head: expected 0 to {}, got {}", s.heads - 1, options.head);
    let budget = options.common.budget(s.m)?;
    let pool = pool(options.common.threads_or_all())?;
    let (low_rank, sparse, result) = pool.install(|| decompose_head(&input, options, budget))?;
    if let Some(path) = &options.output {
        let bytes = serialize(&low_rank, &sparse, metadata(&result))?;
        write_whole(path, &bytes).with_context(|| path.display().to_string())?;
    }
    let text = match options.json {
        true => serde_json::to_string_pretty(&result)? + "\n",
        false => table::render_decomposition(&result, &input),
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

fn decompose_head(
    input: &Input,
    options: &DecomposeOptions,
    budget: usize,
) -> Result<(LowRank, SparseRows, HeadDecomposition)> {
    let (n, m) = (input.sizes.n, input.sizes.m);
    let kv_head = input.sizes.kv_head(options.head);
    let data = attention_matrix(input, options)?;
    let matrix = Matrix::new("matrix", &data, n, m)?;
    let value: Vec<f32> = input.value.head_f64(options.batch, kv_head).iter().map(|&v| v as f32).collect();
    let value = Matrix::new("value", &value, m, input.sizes.d_v)?;
    let bar = Bar::new();
    let start = Instant::now();
    let found = match options.method {
        Algorithm::Pcp => Answer::of_pursuit(pursue(&matrix, options, &bar)?),
        method => Answer::of_yardstick(yardstick(&matrix, &value, method, budget, options, &bar)?),
    };
    let seconds = start.elapsed().as_secs_f64();
    drop(bar);
    let (low_rank, sparse) = (found.low_rank, found.sparse);
    let output_error = match found.output_error {
        Some(error) => error,
        None => decompose::relative_output_error(&matrix, &low_rank, &sparse, &value)?,
    };
    let singular_values = match found.singular_values {
        Some(values) => values,
        None => decompose::singular_values(&matrix)?,
    };
    let coherence = low_rank.coherence();
    let result = HeadDecomposition {
        file: input.file.clone(),
        batch: options.batch,
        head: options.head,
        n,
        m,
        causal: input.causal,
        scale: input.scale,
        normalised: !options.unnormalised,
        threads: options.common.threads_or_all(),
        seed: options.common.seed,
        method: found.method,
        budget: (options.method != Algorithm::Pcp).then_some(budget),
        rank: low_rank.rank(),
        nonzeros: sparse.nonzeros(),
        nonzero_share: sparse.nonzeros() as f64 / (n as f64 * m as f64),
        largest_row: (0..n).map(|i| sparse.row(i).0.len()).max().unwrap_or(0),
        residual: found.residual,
        output_error,
        left_coherence: coherence.map(|c| c.0),
        right_coherence: coherence.map(|c| c.1),
        iterations: found.iterations,
        seconds,
        singular_values,
        low_rank_singular_values: low_rank.singular_values.clone(),
        sparse_alone: found.sparse_alone,
        low_rank_alone: found.low_rank_alone,
        splits: found.splits,
        optimality: found.optimality,
    };
    Ok((low_rank, sparse, result))
}

/// The matrix of the head, computed in f64: softmax rows, or e^logit over its largest value anywhere in the matrix.
fn attention_matrix(input: &Input, options: &DecomposeOptions) -> Result<Vec<f32>> {
    let (n, m) = (input.sizes.n, input.sizes.m);
    let len = n.checked_mul(m).filter(|len| Vec::<f64>::new().try_reserve_exact(*len).is_ok());
    let mut data = vec![0.0f32; len.with_context(|| format!("a matrix of {n} x {m} does not fit into memory"))?];
    let head = Head::new(input, options.batch, options.head);
    let rows: Vec<_> = (0..n).map(|i| head.row(i)).collect();
    let top = |row: &crate::reference::Row| row.log_normaliser + row.weights.iter().copied().fold(0.0, f64::max).ln();
    let largest = rows.iter().map(top).fold(f64::NEG_INFINITY, f64::max);
    for (out, row) in data.chunks_exact_mut(m).zip(rows) {
        let factor = if options.unnormalised { (row.log_normaliser - largest).exp() } else { 1.0 };
        for (j, weight) in row.keys.zip(row.weights) {
            out[j] = (weight * factor) as f32;
        }
    }
    if let Some(at) = data.iter().position(|x| !x.is_finite()) {
        let kv_head = input.sizes.kv_head(options.head);
        let parts = [
            ("query", input.query.head_f64(options.batch, options.head)),
            ("key", input.key.head_f64(options.batch, kv_head)),
        ];
        for (name, rows) in parts {
            if let Some(at) = rows.iter().position(|x| !x.is_finite()) {
                bail!("{name}: expected finite numbers, got {} in row {}", rows[at], at / input.sizes.d);
            }
        }
        bail!("query, key: expected finite rows, got a weight of {} for query {} and key {}", data[at], at / m, at % m);
    }
    Ok(data)
}

fn pursue(matrix: &Matrix<'_>, options: &DecomposeOptions, bar: &Bar) -> Result<Decomposition> {
    let mut settings = decompose::PursuitOptions {
        normalised: !options.unnormalised,
        seed: Seed(options.common.seed),
        lambda: options.lambda,
        ..Default::default()
    };
    settings.tolerance = options.tolerance.unwrap_or(settings.tolerance);
    settings.max_iterations = options.iterations.unwrap_or(settings.max_iterations);
    decompose::principal_component_pursuit(matrix, &settings, &mut |p| bar.tell(p)).context("pcp")
}

fn yardstick(
    matrix: &Matrix<'_>,
    value: &Matrix<'_>,
    method: Algorithm,
    budget: usize,
    options: &DecomposeOptions,
    bar: &Bar,
) -> Result<Yardstick> {
    let mut settings = decompose::YardstickOptions {
        heuristic: match method {
            Algorithm::Godec => Some(Heuristic::GoDec),
            Algorithm::Altproj => Some(Heuristic::AlternatingProjections),
            _ => None,
        },
        ..Default::default()
    };
    settings.split.normalised = !options.unnormalised;
    settings.split.seed = Seed(options.common.seed);
    settings.split.tolerance = options.tolerance.unwrap_or(settings.split.tolerance);
    settings.split.max_iterations = options.iterations.unwrap_or(settings.split.max_iterations);
    Ok(decompose::best_at_budget(matrix, Some(value), budget, &settings, &mut |p| bar.tell(p))?)
}

/// What either way of decomposing answers.
struct Answer {
    method: &'static str,
    low_rank: LowRank,
    sparse: SparseRows,
    residual: f64,
    output_error: Option<f64>,
    iterations: usize,
    singular_values: Option<Vec<f64>>,
    sparse_alone: Option<EndResult>,
    low_rank_alone: Option<EndResult>,
    splits: Vec<SplitRun>,
    optimality: Option<OptimalityResult>,
}

impl Answer {
    fn of_pursuit(found: Decomposition) -> Self {
        let report = found.report;
        Self {
            method: "pcp",
            low_rank: found.low_rank,
            sparse: found.sparse,
            residual: report.residuals.last().copied().unwrap_or(0.0),
            output_error: None,
            iterations: report.iterations,
            singular_values: None,
            sparse_alone: None,
            low_rank_alone: None,
            splits: Vec::new(),
            optimality: report.optimality.map(|o| OptimalityResult {
                primal: o.primal,
                dual: o.dual,
                tangent: o.tangent,
                certified: o.certified,
            }),
        }
    }

    fn of_yardstick(found: Yardstick) -> Self {
        let end = |e: decompose::End| EndResult {
            rank: e.split.rank,
            per_row: e.split.per_row,
            residual: e.error,
            output_error: e.output_error,
        };
        let splits: Vec<SplitRun> = found.splits.iter().map(split_run).collect();
        Self {
            method: name(found.heuristic),
            low_rank: found.low_rank,
            sparse: found.sparse,
            residual: found.error,
            output_error: found.output_error,
            iterations: splits.iter().map(|s| s.iterations).sum(),
            singular_values: Some(found.singular_values),
            sparse_alone: Some(end(found.sparse_alone)),
            low_rank_alone: Some(end(found.low_rank_alone)),
            splits,
            optimality: None,
        }
    }
}

fn split_run(s: &decompose::SplitResult) -> SplitRun {
    let (rank, per_row) = (s.split.rank, s.split.per_row);
    let method = name(s.heuristic);
    SplitRun { method, rank, per_row, residual: s.error, iterations: s.iterations, settled: s.settled }
}

fn name(heuristic: Heuristic) -> &'static str {
    match heuristic {
        Heuristic::GoDec => "godec",
        Heuristic::AlternatingProjections => "altproj",
    }
}

/// A bar on stderr, hidden where that is no terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a valid template");
        Self(ProgressBar::new_spinner().with_style(style).with_finish(ProgressFinish::AndClear))
    }

    fn tell(&self, p: &Progress) -> ControlFlow<()> {
        let run = if p.runs > 1 { format!("run {} of at most {}, ", p.run + 1, p.runs) } else { String::new() };
        let (iteration, rank, residual) = (p.iteration, p.rank, p.residual);
        self.0.set_message(format!("{run}iteration {iteration}, rank {rank}, residual {residual:.2e}"));
        self.0.tick();
        ControlFlow::Continue(())
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn metadata(result: &HeadDecomposition) -> HashMap<String, String> {
    let entries = [
        ("method", result.method.to_string()),
        ("batch", result.batch.to_string()),
        ("head", result.head.to_string()),
        ("normalised", result.normalised.to_string()),
        ("residual", result.residual.to_string()),
        ("seed", result.seed.to_string()),
    ];
    entries.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

fn serialize(low_rank: &LowRank, sparse: &SparseRows, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let ((n, m), rank, nonzeros) = (low_rank.shape(), low_rank.rank(), sparse.nonzeros());
    let narrow = |x: &[f64]| little_endian(&x.iter().map(|&v| v as f32).collect::<Vec<_>>());
    let offsets: Vec<u8> = sparse.offsets.iter().flat_map(|&o| (o as i64).to_le_bytes()).collect();
    let columns: Vec<u8> = sparse.columns.iter().flat_map(|&c| (c as i32).to_le_bytes()).collect();
    let (left, right, values) = (narrow(&low_rank.scaled_left()), narrow(&low_rank.right), narrow(&sparse.values));
    let tensors = [
        ("left", TensorView::new(Dtype::F32, vec![n, rank], &left)?),
        ("right", TensorView::new(Dtype::F32, vec![m, rank], &right)?),
        ("sparse_offsets", TensorView::new(Dtype::I64, vec![n + 1], &offsets)?),
        ("sparse_columns", TensorView::new(Dtype::I32, vec![nonzeros], &columns)?),
        ("sparse_values", TensorView::new(Dtype::F32, vec![nonzeros], &values)?),
    ];
    Ok(safetensors::serialize(tensors, Some(metadata))?)
}
