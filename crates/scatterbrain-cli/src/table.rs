//! Comparisons and decompositions as a person reads them.

use crate::arguments::CompareOptions;
use crate::input::Input;
use crate::library::plan::{LayerPlan, Plan};
use crate::report::{Comparison, HeadDecomposition, MethodResult};
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, TableComponent, presets};
use std::fmt::Write;

/// The table with a line above it that says what was run, and notes below it.
pub(crate) fn render(comparison: &Comparison, input: &Input, options: &CompareOptions) -> String {
    format!("{}\n\n{}\n\n{}", heading(comparison, input, options), table(comparison).trim_fmt(), notes(comparison))
}

fn heading(comparison: &Comparison, input: &Input, options: &CompareOptions) -> String {
    let i = &comparison.input;
    let mut text = i.file.clone();
    if let Some(model) = &input.model {
        let _ = write!(text, ": {model}");
    }
    let _ = write!(text, "\n{} × {} heads", i.batch, i.heads);
    if i.kv_heads != i.heads {
        let _ = write!(text, " ({} of keys)", i.kv_heads);
    }
    let _ = write!(text, ", {} queries × {} keys, d = {}", i.n, i.m, i.d);
    if i.d_v != i.d {
        let _ = write!(text, ", d_v = {}", i.d_v);
    }
    let _ = write!(text, ", {}, scale {:.4}", if i.causal { "causal" } else { "not causal" }, i.scale);
    if let Some(window) = input.window {
        let _ = write!(text, ", window {},{}", window.left, window.right);
    }
    let threads = if comparison.threads == 1 { "1 thread".into() } else { format!("{} threads", comparison.threads) };
    let budget = comparison.results.iter().find_map(|r| r.budget).map(|b| format!("budget {b}, ")).unwrap_or_default();
    let _ = write!(
        text,
        "\n{budget}seed {}, {threads} ({}), median time of {}",
        comparison.seed,
        options.simd.level().name(),
        options.repeat
    );
    printable(&text)
}

fn table(comparison: &Comparison) -> Table {
    let header = [
        "method",
        "units",
        "error\nmean",
        "\nmedian",
        "\np90",
        "\nmax",
        "\nmatrix",
        "time",
        "speed-up",
        "memory",
        "share",
    ];
    let mut table = empty_table(&header);
    let best = best(&comparison.results);
    for (index, result) in comparison.results.iter().enumerate() {
        let cells = cells(result, comparison.input.causal).map(Cell::new);
        let bold = |c: Cell| if Some(index) == best { c.add_attribute(Attribute::Bold) } else { c };
        table.add_row(cells.map(bold));
    }
    table
}

/// A table with this header and no rows; figures to the right of the first column.
pub(crate) fn empty_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    table.set_header(header.iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)));
    table.column_iter_mut().for_each(|c| _ = c.set_padding((0, 1)));
    table.column_iter_mut().skip(1).for_each(|c| c.set_cell_alignment(CellAlignment::Right));
    table
}

/// The smallest mean error among methods that do not look at every logit.
fn best(results: &[MethodResult]) -> Option<usize> {
    let contends = |r: &MethodResult| !matches!(r.method, "exact" | "topk") && r.fallback_heads != Some(r.heads.len());
    let error = |i: &usize| results[*i].error.mean.filter(|e| !e.is_nan()).unwrap_or(f64::INFINITY);
    (0..results.len()).filter(|&i| contends(&results[i])).min_by(|a, b| error(a).total_cmp(&error(b)))
}

fn cells(result: &MethodResult, causal: bool) -> [String; 11] {
    let sees_future = causal && result.causality != "Strict";
    let mark = match result.method {
        "topk" => " (oracle)",
        _ if sees_future => " †",
        _ => "",
    };
    [
        format!("{}{mark}", result.method),
        result.units.map_or("–".into(), |u| u.to_string()),
        error(result.error.mean),
        error(result.error.median),
        error(result.error.p90),
        error(result.error.max),
        error(result.matrix_error),
        seconds(result.seconds),
        format!("{:.2}×", result.speedup),
        bytes(result.extra_bytes),
        format!("{:.1} %", 100.0 * result.share),
    ]
}

fn notes(comparison: &Comparison) -> String {
    let mut text = String::from(
        "error    |o − ô|/|o| of a row against exact attention in float64; matrix: relative Frobenius error\n\
         units    what a query spends: 1 a key computed exactly, 2 a feature of the background\n\
         speed-up against this program's exact attention, timed in turn with the method; set-up included\n\
         memory   heap of one call on one thread, output left out",
    );
    if let Some(rows) = comparison.input.rows {
        text = text.replacen("in float64;", &format!("in float64, of {rows} sampled rows a head;"), 1);
    }
    let dense = comparison.results.first().map_or(0, |r| r.dense_bytes);
    let _ = writeln!(text, "; a stored n × m matrix would take {} a head", bytes(dense));
    text.push_str(
        "share    of the visible pairs: pairs computed exactly + units of the background\n         \
         (exact attention in tiles stores no matrix either)\n",
    );
    let scans: Vec<&str> = comparison.results.iter().filter(|r| r.scan_share.is_some()).map(|r| r.method).collect();
    if !scans.is_empty() {
        let _ = writeln!(text, "scans    all visible pairs are looked at in 8 bits besides: {}", scans.join(", "));
    }
    if comparison.input.causal && comparison.results.iter().any(|r| r.causality != "Strict") {
        text.push_str("†        values are causal, but the choice of pairs has seen later tokens\n");
    }
    if let Some(auto) = comparison.results.iter().find(|r| r.fallback_heads.is_some()) {
        let _ = writeln!(text, "auto     {}", planned(auto));
    }
    let zero_rows = comparison.results.iter().map(|r| r.zero_rows).max().unwrap_or(0);
    if zero_rows > 0 {
        let _ = writeln!(text, "up to {zero_rows} rows whose exact output is zero are left out of the errors");
    }
    text
}

/// What `auto` promised, and at what price.
fn planned(auto: &MethodResult) -> String {
    let (exact, all) = (auto.fallback_heads.unwrap_or(0), auto.heads.len());
    let time = auto.planning_seconds.map_or("a stored plan".into(), |s| {
        format!("planned in {} ({:.1} % of exact attention)", seconds(s), 100.0 * s / auto.exact_seconds)
    });
    let bound = match auto.planned_error {
        Some(bound) => format!("mean error at most {}", error(Some(bound))),
        None => "unseen, so without a bound on the error (a greater --effort looks)".into(),
    };
    format!("{time}: {bound}; {exact} of {all} heads left to exact attention")
}

/// A layer that was planned.
pub(crate) struct PlannedLayer {
    /// Its name in the plan.
    pub(crate) name: String,
    /// Where it comes from.
    pub(crate) file: String,
    /// What planning took.
    pub(crate) seconds: f64,
}

/// What the heads of each layer got.
pub(crate) fn render_plan(plan: &Plan, layers: &[PlannedLayer]) -> String {
    let mut table = empty_table(&["layer", "asked", "error at most", "speed-up", "planned in", "heads"]);
    for PlannedLayer { name, seconds: time, .. } in layers {
        let layer = &plan.layers[name];
        let asked = layer.request.to_string();
        let speedup = format!("{:.2}×", 1.0 / layer.cost());
        table.add_row([name.clone(), asked, error(layer.error_bound()), speedup, seconds(*time), counts(layer)]);
    }
    let text = format!(
        "{}\n\nerror    mean of the heads' bounds, from sampled rows\nspeed-up predicted from counts of operations\n",
        table.trim_fmt()
    );
    printable(&text)
}

/// How many heads got which method.
fn counts(layer: &LayerPlan) -> String {
    let mut counts = std::collections::BTreeMap::new();
    layer.heads.iter().for_each(|head| *counts.entry(head.config.name()).or_insert(0) += 1);
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

/// A decomposition: what was run, the parts beside each other, singular values, splits tried.
pub(crate) fn render_decomposition(d: &HeadDecomposition, input: &Input) -> String {
    let mut text = d.file.clone();
    if let Some(model) = &input.model {
        let _ = write!(text, ": {model}");
    }
    let rows = if d.normalised { "softmax rows" } else { "e^logit over its largest" };
    let causal = if d.causal { ", causal" } else { "" };
    let _ = write!(text, "\nbatch entry {}, head {}: {} × {}, {rows}{causal}\n", d.batch, d.head, d.n, d.m);
    let budget = d.budget.map(|b| format!(", budget {b} units a query")).unwrap_or_default();
    let _ =
        write!(text, "{}{budget}, seed {}: {} iterations, {}\n\n", d.method, d.seed, d.iterations, seconds(d.seconds));
    let mut table = empty_table(&["", "rank", "entries a row", "residual", "output error"]);
    let share = 100.0 * d.nonzero_share;
    let entries = format!("{:.1} ({share:.1} %)", d.nonzeros as f64 / d.n as f64);
    table.add_row(["L + S".into(), d.rank.to_string(), entries, error(Some(d.residual)), error(Some(d.output_error))]);
    for (name, end) in [("S alone", &d.sparse_alone), ("L alone", &d.low_rank_alone)] {
        if let Some(e) = end {
            let (rank, per_row) = (e.rank.to_string(), e.per_row.to_string());
            table.add_row([name.into(), rank, per_row, error(Some(e.residual)), error(e.output_error)]);
        }
    }
    let _ = write!(text, "{}\n\n", table.trim_fmt());
    let _ = writeln!(text, "singular values of A  {}", some_values(&d.singular_values));
    let _ = writeln!(text, "singular values of L  {}", some_values(&d.low_rank_singular_values));
    if let (Some(left), Some(right)) = (d.left_coherence, d.right_coherence) {
        let _ = writeln!(text, "coherence of L        {left:.1} of rows, {right:.1} of columns (1: spread evenly)");
    }
    if let Some(o) = &d.optimality {
        let (primal, dual, tangent) = (error(Some(o.primal)), error(Some(o.dual)), error(o.tangent));
        let proved = if o.certified { "proved" } else { "not proved" };
        let _ = writeln!(text, "optimality            primal {primal}, dual {dual}, tangent {tangent}; norm {proved}");
    }
    if !d.splits.is_empty() {
        let mut table = empty_table(&["split tried", "rank", "entries a row", "residual", "iterations"]);
        for s in &d.splits {
            let iterations = format!("{}{}", s.iterations, if s.settled { "" } else { " (not settled)" });
            let (rank, per_row) = (s.rank.to_string(), s.per_row.to_string());
            table.add_row([s.method.into(), rank, per_row, error(Some(s.residual)), iterations]);
        }
        let _ = write!(text, "\n{}\n", table.trim_fmt());
    }
    text.push_str(
        "\nresidual     |A − L − S|/|A| (Frobenius); of S alone and L alone the smallest possible\n\
         output error mean over rows of |o − ô|/|o|, rows of L + S not normalised again\n",
    );
    if d.budget.is_some() {
        text.push_str("budget       a rank costs 2, an entry 1; L + S is a heuristic's: better ones may exist\n");
    }
    printable(&text)
}

/// The first values and the last.
fn some_values(values: &[f64]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = values.iter().take(SHOWN).map(|&v| error(Some(v))).collect();
    match values.len() {
        0 => "none".into(),
        len if len <= SHOWN => shown.join("  "),
        len => format!("{}  …  {} ({len})", shown.join("  "), error(Some(values[len - 1]))),
    }
}

fn error(value: Option<f64>) -> String {
    match value {
        None => "–".into(),
        Some(e) if e.is_nan() => "NaN".into(),
        Some(0.0) => "0".into(),
        Some(e) if e < 1e-3 => format!("{e:.1e}"),
        Some(e) if e < 100.0 => format!("{e:.3}"),
        Some(e) => format!("{e:.2e}"),
    }
}

/// A time with its unit.
pub(crate) fn seconds(value: f64) -> String {
    match value {
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// A size with its unit.
pub(crate) fn bytes(value: usize) -> String {
    match value as f64 {
        b if b < 1e3 => format!("{b} B"),
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

/// Metadata of a file may hold escape sequences.
fn printable(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        assert_eq!(error(Some(0.12345)), "0.123");
        assert_eq!(error(Some(3.2e-7)), "3.2e-7");
        assert_eq!(error(Some(1234.5)), "1.23e3");
        assert_eq!([seconds(2.5e-5), seconds(0.0123), seconds(61.0)], ["25.0 µs", "12.30 ms", "61.00 s"]);
        assert_eq!([bytes(999), bytes(1_048_576)], ["999 B", "1.0 MB"]);
    }
}
