//! The tables of a record, for people.

use super::plan::Plan;
use super::row::{Figure, Met, Row};
use crate::machine::Machine;
use crate::table::Table;
use scatterbrain_attention::Preset;

/// The page beside the CSV file.
pub(super) fn page(machine: &Machine, rows: &[Row], plan: &Plan) -> String {
    let sections = [format!("# Benchmark of {}", machine.date), summary(machine, rows, plan), small_inputs(rows)];
    sections.iter().map(|section| section.trim()).filter(|s| !s.is_empty()).collect::<Vec<_>>().join("\n\n") + "\n"
}

/// What the README shows: everything but small inputs, method by method.
pub(super) fn summary(machine: &Machine, rows: &[Row], plan: &Plan) -> String {
    let sections =
        [facts(machine, rows, plan), against_peer(rows), fma_share(rows), growth(rows), memory(rows), small_peer(rows)];
    sections.iter().map(|section| section.trim()).filter(|s| !s.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn facts(machine: &Machine, rows: &[Row], plan: &Plan) -> String {
    let dirty = if machine.dirty { ", with changes" } else { "" };
    let peer = if machine.torch.is_empty() { "no peers".into() } else { format!("PyTorch {}", machine.torch) };
    // That outputs agree is no target but a condition.
    let targets = || rows.iter().filter(|row| row.figure != Some(Figure::MaxDifference));
    let verdicts = |met| targets().filter(|row| row.met == Some(met)).count();
    let (yes, no) = (verdicts(Met::Yes), verdicts(Met::No));
    let judged = if yes + no == 0 { String::new() } else { format!("\n{yes} of {} targets are met.", yes + no) };
    format!(
        "Measured on {} by `cargo xtask bench`: {}, {} cores; this library at {}; {peer}; {}; commit {}{dirty}.\n\
         f32, d = d_v = 64, one batch entry, standard normal inputs, budget 128.\n\
         Medians of {} repeats; each repeat calls everything once in turn, PyTorch on the same tensors and threads.\n\
         Hashes and projections are drawn beforehand, all else is in the time.{}{judged}",
        machine.date,
        machine.cpu,
        machine.cores,
        machine.simd,
        machine.rustc,
        machine.commit,
        plan.repeats,
        steadiness(rows),
    )
}

/// How steady the machine was: the least and the most that one core's multiply-adds came to.
fn steadiness(rows: &[Row]) -> String {
    let peaks = || rows.iter().filter(|row| row.figure == Some(Figure::GflopPerSecond) && row.threads == 1);
    let rate = |row: &Row, seconds: Option<f64>| Some(row.value? * row.median_seconds? / seconds?);
    let least = peaks().filter_map(|row| rate(row, row.max_seconds)).reduce(f64::min);
    let most = peaks().filter_map(|row| rate(row, row.min_seconds)).reduce(f64::max);
    let Some((least, most)) = least.zip(most) else {
        return String::new();
    };
    format!("\nA core's peak was between {least:.0} and {most:.0} GFLOP/s over the run: so steady was the machine.")
}

/// Speed-ups over PyTorch and of two threads over one.
fn against_peer(rows: &[Row]) -> String {
    let calls = Calls::of(rows, |row| row.part == "speed" && preset(row).is_some());
    let head = ["method", "mask", "n × heads", "SDPA", "time", "speed-up", "on two threads", "at least", "met"];
    let head = [&head[..], &["two threads / one", "met"]].concat();
    let mut table = Table::new(2, head.iter().map(text).collect());
    for call in calls.0 {
        let speed = |threads| call.figure(Figure::SpeedUp, threads);
        let scaling = call.figure(Figure::ThreadSpeedUp, 2);
        let one = call.rows.iter().find(|row| row.threads == 1 && row.median_seconds.is_some());
        table.line(vec![
            format!("`{}`", call.method),
            mask(call.causal),
            format!("{} × {}", call.n, call.rows[0].heads),
            or_blank(speed(1).and_then(|row| row.against_median_seconds), seconds),
            or_blank(one.and_then(|row| row.median_seconds), seconds),
            ratio_cell(speed(1)),
            ratio_cell(speed(2)),
            or_blank(speed(1).and_then(|row| row.at_least), times),
            verdict([speed(1), speed(2)]),
            ratio_cell(scaling),
            verdict([scaling]),
        ]);
    }
    section(
        "Against PyTorch",
        "SDPA is PyTorch's `scaled_dot_product_attention`; times are of one thread.\n\
         In brackets the median of the ratios repeat by repeat, beside the ratio of the medians.\n\
         Two threads are to be 1.85 times as fast as one from n = 4096 on.",
        &table,
    )
}

/// Exact attention as a part of what the cores can do.
fn fma_share(rows: &[Row]) -> String {
    let head = ["n × heads", "threads", "peak", "exact", "share", "at least", "met"];
    let mut table = Table::new(0, head.iter().map(text).collect());
    for row in rows.iter().filter(|row| row.figure == Some(Figure::FmaShare)) {
        let peak = rows
            .iter()
            .find(|peak| peak.figure == Some(Figure::GflopPerSecond) && (peak.n, peak.threads) == (row.n, row.threads));
        let peak = peak.and_then(|peak| peak.value);
        let gflops = |value: f64| format!("{value:.1} GFLOP/s");
        table.line(vec![
            format!("{} × {}", row.n, row.heads),
            row.threads.to_string(),
            or_blank(peak, gflops),
            or_blank(peak.zip(row.value).map(|(peak, share)| peak * share), gflops),
            or_blank(row.value, percent),
            or_blank(row.at_least, percent),
            verdict([Some(row)]),
        ]);
    }
    let words =
        "The peak is a loop of multiply-adds, measured in turn with exact attention; 4·n·m·d operations a head.";
    section("Share of the FMA peak", words, &table)
}

/// Time at every length.
fn growth(rows: &[Row]) -> String {
    let rows: Vec<Row> = rows.iter().filter(|row| row.part == "growth").cloned().collect();
    let lengths = lengths(&rows);
    let mut head: Vec<String> = ["method", "mask"].iter().map(text).collect();
    head.extend(lengths.iter().map(|n| format!("n = {n}")));
    head.extend(["most per doubling", "at most", "met"].iter().map(text));
    let mut table = Table::new(2, head);
    for call in Calls::by_method(&rows).0 {
        let doubling = call.all(Figure::TimePerDoubling);
        let mut cells = vec![format!("`{}`", call.method), mask(call.causal)];
        let at = |n: &usize| call.rows.iter().find(|row| row.n == *n).and_then(|row| row.median_seconds);
        cells.extend(lengths.iter().map(|n| or_blank(at(n), seconds)));
        cells.extend([most(&doubling, times), bound(&doubling), verdict(doubling.into_iter().map(Some))]);
        table.line(cells);
    }
    section("Growth of time", "One head, one thread.", &table)
}

/// Extra and resident bytes.
fn memory(rows: &[Row]) -> String {
    let rows: Vec<Row> = rows.iter().filter(|row| row.part == "memory").cloned().collect();
    let lengths = lengths(&rows);
    let (Some(first), Some(last)) = (lengths.first(), lengths.last()) else {
        return String::new();
    };
    let mut head: Vec<String> = ["method", "mask"].iter().map(text).collect();
    head.extend(lengths.iter().map(|n| format!("n = {n}")));
    head.push(format!("of the matrix, n = {first}"));
    head.push("most per doubling".into());
    head.push(format!("whole process, n = {last}"));
    head.push("met".into());
    let mut table = Table::new(2, head);
    for call in Calls::by_method(&rows).0 {
        let doubling = call.all(Figure::ExtraBytesPerDoubling);
        let at = |figure, n: usize| call.all(figure).into_iter().find(|row| row.n == n);
        let mut cells = vec![format!("`{}`", call.method), mask(call.causal)];
        cells.extend(lengths.iter().map(|&n| or_blank(at(Figure::ExtraBytes, n).and_then(|row| row.value), bytes)));
        cells.push(or_blank(at(Figure::ShareOfMatrix, *first).and_then(|row| row.value), percent));
        cells.push(most(&doubling, times));
        cells.push(or_blank(at(Figure::PeakResidentBytes, *last).and_then(|row| row.value), bytes));
        cells.push(verdict(call.rows.iter().copied().map(Some)));
        table.line(cells);
    }
    section(
        "Memory",
        &format!(
            "Heap of one call on one head and one thread, its output left out; the n × m matrix would take {} at n = {first}.\n\
             Exact attention in tiles stores no such matrix either: its own row is here for comparison.\n\
             Targets: under 2 % of the matrix at n = 16384, at most 2.1× per doubling, a process with one head of 131072 \
             rows under 1 GiB in all (inputs and output included).",
            bytes(4.0 * (*first as f64).powi(2)),
        ),
        &table,
    )
}

/// Exact attention beside PyTorch on few rows.
fn small_peer(rows: &[Row]) -> String {
    let rows: Vec<Row> =
        rows.iter().filter(|row| row.part == "small" && row.figure == Some(Figure::SpeedUp)).cloned().collect();
    let lengths = lengths(&rows);
    let mut head: Vec<String> = ["mask", "threads"].iter().map(text).collect();
    head.extend(lengths.iter().map(|n| format!("n = {n}")));
    let mut table = Table::new(1, head);
    for (causal, threads) in [(false, 1), (false, 2), (true, 1), (true, 2)] {
        let at = |n: &usize| rows.iter().find(|row| (row.n, row.causal, row.threads) == (*n, causal, threads));
        if lengths.iter().any(|n| at(n).is_some()) {
            let mut cells = vec![mask(causal), threads.to_string()];
            cells.extend(lengths.iter().map(|n| ratio_cell(at(n))));
            table.line(cells);
        }
    }
    let words = "Speed-up of exact attention over SDPA, 8 heads; at n = 128 the target is 1×.";
    section("Small inputs", words, &table)
}

/// Every method's time in exact attention's, the worst of masks and threads.
fn small_inputs(rows: &[Row]) -> String {
    let rows: Vec<Row> = rows.iter().filter(|row| row.figure == Some(Figure::TimeOfExact)).cloned().collect();
    let lengths = lengths(&rows);
    let mut head = vec!["method".to_owned()];
    head.extend(lengths.iter().map(|n| format!("n = {n}")));
    head.push("met".into());
    let mut table = Table::new(1, head);
    for preset in Preset::ALL.iter().filter(|p| rows.iter().any(|row| row.method == p.name())) {
        let of = |n: usize| rows.iter().filter(move |row| row.method == preset.name() && row.n == n);
        let mut cells = vec![format!("`{}`", preset.name())];
        cells.extend(lengths.iter().map(|&n| most(&of(n).collect::<Vec<_>>(), times)));
        cells.push(verdict(lengths.iter().flat_map(|&n| of(n)).map(Some)));
        table.line(cells);
    }
    let words = "Time of a method in times of exact attention's: the worst of both masks and numbers of threads, 8 heads, \
                 budget min(128, n/2).\nThe target is at most 2×; `topk` scores every key before it chooses.";
    section("Small inputs, method by method", words, &table)
}

/// Rows of one method under one mask, and at one length where they are told apart by it.
struct Call<'a> {
    method: &'a str,
    causal: bool,
    n: usize,
    rows: Vec<&'a Row>,
}

impl<'a> Call<'a> {
    fn figure(&self, figure: Figure, threads: usize) -> Option<&'a Row> {
        self.rows.iter().copied().find(|row| row.figure == Some(figure) && row.threads == threads)
    }

    fn all(&self, figure: Figure) -> Vec<&'a Row> {
        self.rows.iter().copied().filter(|row| row.figure == Some(figure)).collect()
    }
}

/// In the order of the presets.
struct Calls<'a>(Vec<Call<'a>>);

impl<'a> Calls<'a> {
    fn of(rows: &'a [Row], wanted: impl Fn(&Row) -> bool) -> Self {
        Self::grouped(rows, wanted, |row| row.n)
    }

    fn by_method(rows: &'a [Row]) -> Self {
        Self::grouped(rows, |_| true, |_| 0)
    }

    fn grouped(rows: &'a [Row], wanted: impl Fn(&Row) -> bool, length: impl Fn(&Row) -> usize) -> Self {
        let mut calls: Vec<Call<'a>> = Vec::new();
        for row in rows.iter().filter(|row| wanted(row)) {
            let key = (row.method.as_str(), row.causal, length(row));
            match calls.iter_mut().find(|call| (call.method, call.causal, call.n) == key) {
                Some(call) => call.rows.push(row),
                None => calls.push(Call { method: key.0, causal: key.1, n: key.2, rows: vec![row] }),
            }
        }
        let place = |method: &str| Preset::ALL.iter().position(|p| p.name() == method);
        calls.sort_by_key(|call| (place(call.method), call.causal, call.n));
        Self(calls)
    }
}

fn preset(row: &Row) -> Option<Preset> {
    Preset::from_name(&row.method)
}

fn lengths(rows: &[Row]) -> Vec<usize> {
    let mut lengths: Vec<usize> = rows.iter().map(|row| row.n).collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

/// "no" where one is missed, "yes" where all that are judged are met.
fn verdict<'a>(rows: impl IntoIterator<Item = Option<&'a Row>>) -> String {
    let met: Vec<Met> = rows.into_iter().flatten().filter_map(|row| row.met).collect();
    match met.contains(&Met::No) {
        true => "**no**".into(),
        false if met.is_empty() => String::new(),
        false => "yes".into(),
    }
}

/// The largest value.
fn most(rows: &[&Row], shown: impl Fn(f64) -> String) -> String {
    or_blank(rows.iter().filter_map(|row| row.value).reduce(f64::max), shown)
}

fn bound(rows: &[&Row]) -> String {
    or_blank(rows.iter().find_map(|row| row.at_most), times)
}

fn ratio_cell(row: Option<&Row>) -> String {
    let Some((value, paired)) = row.and_then(|row| row.value.zip(row.value_of_pairs)) else {
        return String::new();
    };
    format!("{} ({})", times(value), times(paired))
}

fn section(title: &str, words: &str, table: &Table) -> String {
    let table = table.render();
    if table.is_empty() { table } else { format!("**{title}.** {words}\n\n{table}") }
}

fn or_blank(value: Option<f64>, shown: impl Fn(f64) -> String) -> String {
    value.map_or_else(String::new, shown)
}

fn text(cell: &&str) -> String {
    (*cell).to_owned()
}

fn mask(causal: bool) -> String {
    if causal { "causal" } else { "–" }.into()
}

fn times(value: f64) -> String {
    if value >= 10.0 { format!("{value:.1}×") } else { format!("{value:.2}×") }
}

fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

fn seconds(value: f64) -> String {
    match value {
        v if v >= 1.0 => format!("{v:.2} s"),
        v if v >= 1e-3 => format!("{:.2} ms", v * 1e3),
        v => format!("{:.1} µs", v * 1e6),
    }
}

fn bytes(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} GB", v / 1e9),
        v if v >= 1e6 => format!("{:.1} MB", v / 1e6),
        v => format!("{:.1} kB", v / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::targets::Target;

    fn speed(threads: usize, value: f64) -> Row {
        let row = Row {
            part: "speed".into(),
            method: "exact".into(),
            n: 4096,
            heads: 8,
            threads,
            repeats: Some(9),
            median_seconds: Some(0.5),
            against_median_seconds: Some(0.7),
            value_of_pairs: Some(value),
            ..Row::default()
        };
        row.with(Figure::SpeedUp, value).judged(Some(Target::AtLeast(1.25)))
    }

    #[test]
    fn one_line_a_call_and_the_worst_verdict() {
        let text = against_peer(&[speed(1, 1.4), speed(2, 1.2)]);
        let line =
            "| `exact` | – | 4096 × 8 | 700.00 ms | 500.00 ms | 1.40× (1.40×) | 1.20× (1.20×) | 1.25× | **no** |  |  |";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn nothing_measured_gives_no_tables() {
        let plan = Plan::quick(false).unwrap();
        let text = page(&Machine::default(), &[], &plan);
        assert!(text.starts_with("# Benchmark of") && !text.contains('|'), "{text}");
    }

    #[test]
    fn numbers_have_units() {
        assert_eq!([seconds(2.0), seconds(2e-3), seconds(2e-6)], ["2.00 s", "2.00 ms", "2.0 µs"]);
        assert_eq!([bytes(2e9), bytes(2e6), bytes(2e3)], ["2.00 GB", "2.0 MB", "2.0 kB"]);
        assert_eq!([times(1.256), times(22.04)], ["1.26×", "22.0×"]);
    }
}
