//! Figure 5: time and memory against the number of rows, with fitted exponents.

use super::chart::{Axis, Chart, Line, Marker, Series, number};
use super::context::{Context, Interrupted};
use super::figure::{Figure, Listing, Panel, Story};
use super::ink;
use super::picture::named;
use crate::bench::plan::{Entry, Group, Part as Purpose, Plan, Probe, Side, Size};
use crate::bench::stage::Stage;
use crate::statistics::{median, slope};
use anyhow::{Context as _, Result};
use scatterbrain_attention::Preset;
use serde::{Deserialize, Serialize};

pub(super) struct Growth;

const METHODS: [Preset; 9] = [
    Preset::Exact,
    Preset::TopK,
    Preset::Local,
    Preset::Smyrf,
    Preset::Performer,
    Preset::ScatterbrainLocal,
    Preset::ScatterbrainSmyrf,
    Preset::ScatterbrainCentroid,
    Preset::ScatterbrainQuantised,
];
const BUDGET: usize = 128;

/// Times and memory of all methods, measured in turn.
#[derive(Serialize)]
pub(super) struct Part {
    lengths: Vec<usize>,
    repeats: usize,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    /// `seconds` or `extra_bytes`.
    quantity: String,
    method: String,
    n: usize,
    budget: usize,
    value: f64,
    /// The least and the most over the repeats.
    least: f64,
    most: f64,
    repeats: usize,
}

impl Figure for Growth {
    type Part = Part;
    type Row = Row;

    fn number(&self) -> u8 {
        5
    }

    fn title(&self) -> &'static str {
        "Time and memory against the number of rows"
    }

    fn parts(&self, context: &Context) -> Result<Vec<Part>> {
        let lengths = context.pick(vec![512, 1024, 2048, 4096], vec![1024, 2048, 4096, 8192, 16384]);
        Ok(vec![Part { lengths, repeats: context.pick(3, 7) }])
    }

    fn label(&self, _: &Part) -> String {
        "time and memory".into()
    }

    fn compute(&self, part: &Part, context: &Context) -> Result<Vec<Row>> {
        let plan = plan(part)?;
        context.steps(plan.steps());
        let mut stage = Stage::new(None, &plan, context.interrupt.clone(), context.bar())?;
        let mut rows = Vec::new();
        for group in &plan.groups {
            let outcome = stage.group(group, part.repeats)?;
            for (entry, samples) in group.entries.iter().zip(&outcome.samples) {
                let seconds = &samples.seconds;
                rows.push(Row {
                    quantity: "seconds".into(),
                    method: entry.side.name().into(),
                    n: group.size(entry).n,
                    budget: BUDGET,
                    value: median(seconds).ok_or(Interrupted)?,
                    least: seconds.iter().copied().fold(f64::INFINITY, f64::min),
                    most: seconds.iter().copied().fold(0.0, f64::max),
                    repeats: seconds.len(),
                });
            }
        }
        for probe in &plan.probes {
            for found in stage.probe(probe)? {
                let bytes = found.memory.extra_bytes as f64;
                let method = probe.preset.name().into();
                let quantity = "extra_bytes".into();
                let n = found.n;
                rows.push(Row {
                    quantity,
                    method,
                    n,
                    budget: BUDGET,
                    value: bytes,
                    least: bytes,
                    most: bytes,
                    repeats: 1,
                });
            }
        }
        Ok(rows)
    }

    fn present(&self, rows: &[Row], _: &Context) -> Result<Story> {
        let mut fits = Listing {
            title: "Exponents p of n^p: slopes of logarithms by least squares, with 95 % intervals".into(),
            head: ["method", "time", "memory"].map(str::to_owned).to_vec(),
            lines: Vec::new(),
        };
        let mut slopes = Vec::new();
        for preset in METHODS {
            let fit = |quantity| slope(&logarithms(rows, quantity, preset));
            let (time, memory) = (fit("seconds"), fit("extra_bytes"));
            let cell = |s: Option<crate::statistics::Slope>| {
                s.map_or("–".into(), |s| format!("{:.2} ± {:.2}", s.value, s.half_width))
            };
            fits.lines.push(vec![preset.name().into(), cell(time), cell(memory)]);
            slopes.push((preset, time.context("three lengths")?.value));
        }
        let of = |wanted: Preset| slopes.iter().find(|(preset, _)| *preset == wanted).map_or(f64::NAN, |s| s.1);
        let longest = rows.iter().map(|row| row.n).max().unwrap_or(0);
        let at = |preset: Preset| {
            let row = rows.iter().find(|r| r.quantity == "seconds" && r.n == longest && r.method == preset.name());
            row.map_or(f64::NAN, |row| row.value)
        };
        let times = at(Preset::Exact) / at(Preset::ScatterbrainSmyrf);
        let lengths: Vec<String> = {
            let mut all: Vec<usize> = rows.iter().map(|row| row.n).collect();
            all.sort_unstable();
            all.dedup();
            all.iter().map(usize::to_string).collect()
        };
        Ok(Story {
            summary: format!(
                "Time grows like n^{:.2} for exact attention and like n^{:.2} for scatterbrain-smyrf, n^{:.2} for \
                 scatterbrain-local; at {longest} rows scatterbrain-smyrf is {} times as fast as exact attention.",
                of(Preset::Exact),
                of(Preset::ScatterbrainSmyrf),
                of(Preset::ScatterbrainLocal),
                number(times)
            ),
            caption: vec![
                format!(
                    "One head of standard normal queries, keys and values, d = 64, not causal, budget {BUDGET} units a \
                     query, one thread, n = {} rows of queries and of keys. Both axes are logarithmic: a straight line \
                     is a power of n, and its slope is the exponent.",
                    lengths.join(", ")
                ),
                "Left: seconds of a call, medians of repeats in which all methods take turns; bars reach from the \
                 fastest to the slowest. Right: bytes of heap that one call takes beside its output, counted by an \
                 allocator in a process of its own. The exact method works in tiles and stores no n × n matrix."
                    .into(),
                "The interval of an exponent is Student's, over the lengths measured; where a power of n is not the \
                 law, as for short inputs, it says how far from one the points are."
                    .into(),
            ],
            panels: vec![
                panel(rows, "seconds", "Time of a call", "seconds")?,
                panel(rows, "extra_bytes", "Memory of a call", "bytes of heap")?,
            ],
            tables: vec![fits],
        })
    }
}

fn plan(part: &Part) -> Result<Plan> {
    let group = |&n: &usize| {
        let entry = |preset| Ok(Entry { side: Side::project(preset, BUDGET)?, size: 0, causal: false, threads: 1 });
        Ok(Group {
            part: Purpose::Growth,
            name: format!("{n} rows"),
            sizes: vec![Size { n, heads: 1 }],
            entries: METHODS.into_iter().map(entry).collect::<Result<_>>()?,
        })
    };
    let probe = |preset| Probe { preset, causal: false, budget: BUDGET, lengths: part.lengths.clone() };
    Ok(Plan {
        groups: part.lengths.iter().map(group).collect::<Result<_>>()?,
        probes: METHODS.into_iter().map(probe).collect(),
        repeats: part.repeats,
        judged: false,
    })
}

fn of<'a>(rows: &'a [Row], quantity: &'a str, preset: Preset) -> impl Iterator<Item = &'a Row> {
    rows.iter().filter(move |row| row.quantity == quantity && row.method == preset.name())
}

fn logarithms(rows: &[Row], quantity: &str, preset: Preset) -> Vec<(f64, f64)> {
    of(rows, quantity, preset).map(|row| ((row.n as f64).ln(), row.value.ln())).collect()
}

fn panel(rows: &[Row], quantity: &str, title: &str, unit: &str) -> Result<Panel> {
    let series = METHODS.into_iter().zip(Marker::CYCLE.into_iter().cycle()).map(|(preset, marker)| {
        let points = of(rows, quantity, preset).map(|row| (row.n as f64, row.value)).collect();
        let bars = of(rows, quantity, preset).filter(|row| row.repeats > 1).map(|row| (row.least, row.most)).collect();
        Series::new(preset.name(), ink::method(preset), points).line(Line::Solid).marker(marker).intervals(bars)
    });
    let chart = Chart { x: Axis::log("n, rows"), y: Axis::log(unit), series: series.collect(), rules: vec![] };
    let longest = rows.iter().map(|row| row.n).max().unwrap_or(0);
    let last = |preset: Preset| of(rows, quantity, preset).find(|row| row.n == longest).map(|row| row.value);
    let said: Vec<String> =
        METHODS.into_iter().filter_map(|preset| Some(format!("{} {}", preset.name(), number(last(preset)?)))).collect();
    let alt = format!("{unit} against n on logarithmic axes; at n = {longest}: {}.", said.join(", "));
    Ok(Panel { title: title.into(), svg: named(&chart.svg()?, title, &alt)?, alt })
}
