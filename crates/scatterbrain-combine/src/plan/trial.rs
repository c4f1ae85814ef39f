//! A configuration tried on sampled rows of a head, through the production tiles.

use super::bound::upper_bound;
use super::config::Config;
use super::cost::Spent;
use crate::attend::Call;
use crate::group::{GroupExtent, KeyRows, QueryRows, Summaries};
use crate::method::Parts;
use crate::tile::{Carried, PreparedHead, Scratch, compute};
use scatterbrain_core::kernel::PANEL;
use scatterbrain_core::tile::{KeyHead, Summary};
use scatterbrain_core::{HeadMask, Result, Seed};
use std::ops::Range;

/// What a configuration did on the sampled rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    /// Mean row error.
    pub error: f64,
    /// What the mean over all rows stays under.
    pub bound: f64,
    /// Pairs over visible pairs.
    pub spent: Spent,
    /// Rows that were computed.
    pub rows: usize,
}

impl Outcome {
    /// The worse of two batch entries.
    fn worse(self, other: Self) -> Self {
        Self {
            error: self.error.max(other.error),
            bound: self.bound.max(other.bound),
            rows: self.rows.max(other.rows),
            spent: Spent {
                exact: self.spent.exact.max(other.spent.exact),
                scanned: self.spent.scanned.max(other.spent.scanned),
            },
        }
    }
}

/// The query heads that share a key/value head, in every batch entry.
pub(super) struct Group<'a> {
    entries: Vec<Entry<'a>>,
    scratch: Scratch,
}

/// One batch entry of a group.
struct Entry<'a> {
    rows: &'a KeyRows<'a>,
    keys: KeyHead<'a>,
    summaries: Summaries<'a>,
    heads: Vec<Sample<'a>>,
}

/// A head, its sampled rows, and exact attention of these.
struct Sample<'a> {
    head: QueryRows<'a>,
    rows: Vec<u32>,
    exact: Vec<f32>,
}

impl<'a> Group<'a> {
    /// Samples `count` rows of the heads of key/value head `kv_head`, and computes them exactly. `keys`: its rows, by
    /// batch entry.
    pub(super) fn new(
        call: &'a Call<'a>,
        kv_head: usize,
        keys: &'a [KeyRows<'a>],
        extents: &[GroupExtent],
        count: usize,
        seed: Seed,
    ) -> Self {
        let (kv_heads, group) = (call.sizes.kv_heads, call.group_size());
        let mut scratch = Scratch::default();
        let entry = |(batch, rows): (usize, &'a KeyRows<'a>)| {
            let keys = rows.head(call);
            let extent = &extents[batch * kv_heads + kv_head];
            let heads = (0..group).map(|h| {
                let head = call.query_rows(batch, kv_head * group + h, extent.query[h]);
                let sampled = strata(head.mask(), count, seed.derive((kv_head * group + h) as u64));
                let d_v = keys.value.cols();
                let mut exact = vec![0.0; sampled.len() * d_v];
                let all = Parts::exact();
                run(&head, rows, &keys, Config::Exact, &all, None, &sampled, &mut scratch, |at, output, _| {
                    exact[at.start * d_v..at.end * d_v].copy_from_slice(output);
                    true
                })
                .expect("exact attention takes every head");
                Sample { head, rows: sampled, exact }
            });
            Entry { rows, heads: heads.collect(), keys, summaries: Summaries::with_pairs() }
        };
        let entries = keys.iter().enumerate().map(entry).collect();
        Self { entries, scratch }
    }

    /// Whether what the background of `parts` prepares is there.
    pub(super) fn has(&self, parts: &Parts) -> bool {
        self.entries.iter().all(|entry| entry.summaries.has(parts))
    }

    /// Tries a configuration on the sampled rows of the group's query head `head`. Stops as soon as their mean error is
    /// known to exceed `most`: error and share are then those of the rows so far, and the bound is infinite.
    ///
    /// # Errors
    /// What its parts refuse.
    pub(super) fn evaluate(&mut self, head: usize, config: Config, parts: &'a Parts, most: f64) -> Result<Outcome> {
        let mut worst = Outcome { error: 0.0, bound: 0.0, spent: Spent { exact: 0.0, scanned: 0.0 }, rows: 0 };
        for Entry { rows, keys, summaries, heads } in &mut self.entries {
            let Sample { head, rows: sampled, exact } = &heads[head];
            let summary = summaries.of(keys, parts)?;
            let d_v = keys.value.cols();
            let (mut errors, mut looked, mut visible, mut total) = (Vec::new(), [0u64; 2], 0, 0.0);
            let mut computed = 0;
            run(head, rows, keys, config, parts, summary, sampled, &mut self.scratch, |at, output, carried| {
                let rows = exact[at.start * d_v..].chunks_exact(d_v).zip(output.chunks_exact(d_v));
                errors.extend(rows.filter_map(|(exact, output)| row_error(exact, output)));
                for row in carried {
                    looked = [looked[0] + u64::from(row.pairs), looked[1] + u64::from(row.scanned)];
                }
                computed += at.len();
                visible += sampled[at].iter().map(|&i| head.mask().visible(i as usize)).sum::<usize>();
                total = errors.iter().sum();
                total <= most * sampled.len() as f64
            })?;
            let (error, mut bound) = match errors.is_empty() {
                // A head with no row that tells anything is left to exact attention.
                true => (0.0, f64::INFINITY),
                false => upper_bound(&errors),
            };
            if total > most * sampled.len() as f64 {
                bound = f64::INFINITY;
            }
            let [exact, scanned] = looked.map(|pairs| pairs as f64 / visible.max(1) as f64);
            worst = worst.worse(Outcome { error, bound, spent: Spent { exact, scanned }, rows: computed });
            if worst.bound == f64::INFINITY {
                break;
            }
        }
        Ok(worst)
    }
}

/// One row of each of `count` equal strata of the rows that see a key, or all of them.
fn strata(mask: &HeadMask<'_>, count: usize, seed: Seed) -> Vec<u32> {
    let seeing: Vec<u32> = (0..mask.n() as u32).filter(|&i| !mask.range(i as usize).is_empty()).collect();
    seed.stream(0).strata(seeing.len(), count).map(|i| seeing[i]).collect()
}

/// Tiles of the listed rows, the last first: late rows see most keys and err most. `take` gets the places of a tile's
/// rows in the list, their outputs and what they took, and says whether to go on.
#[allow(clippy::too_many_arguments, reason = "a head, what it is computed by, and where to")]
fn run(
    head: &QueryRows<'_>,
    rows: &KeyRows<'_>,
    keys: &KeyHead<'_>,
    config: Config,
    parts: &Parts,
    summary: Option<&dyn Summary>,
    sampled: &[u32],
    scratch: &mut Scratch,
    mut take: impl FnMut(Range<usize>, &[f32], &[Carried]) -> bool,
) -> Result<()> {
    let seen = head.head(keys);
    let select = parts.support.as_ref().map(|s| s.prepare(&seen)).transpose()?;
    let prepared: PreparedHead<'_> = head.prepared(rows, keys, parts, select.as_deref(), summary, false);
    debug_assert_eq!(prepared.visits.count(), 1, "configurations take their queries once");
    // Under a narrow window a panel of rows far from each other would go through all keys between them.
    let widest = || sampled.iter().map(|&i| head.mask().range(i as usize).len()).max().unwrap_or(0);
    let lone = head.mask().window().is_some() && PANEL * widest() < keys.key.rows();
    let alone = (config.wants_neighbours() || lone) && !head.mask().is_dense();
    let size = if alone { 1 } else { PANEL };
    let mut output = vec![0.0; size * keys.value.cols()];
    for start in (0..sampled.len()).step_by(size).rev() {
        let at = start..(start + size).min(sampled.len());
        let output = &mut output[..at.len() * keys.value.cols()];
        let report = compute(&prepared, 0, &sampled[at.clone()], None, output, scratch);
        if !take(at, output, &report.carried) {
            break;
        }
    }
    Ok(())
}

/// |o − ô|/|o| of a row, unless its exact output is zero or not finite.
fn row_error(exact: &[f32], output: &[f32]) -> Option<f64> {
    let square = |x: f32| f64::from(x).powi(2);
    let norm: f64 = exact.iter().map(|&x| square(x)).sum();
    let difference: f64 = exact.iter().zip(output).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    let error = (difference / norm).sqrt();
    (norm.is_finite() && norm > 0.0).then_some(if error.is_nan() { f64::INFINITY } else { error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use scatterbrain_core::Mask;

    #[test]
    fn a_row_of_each_stratum() {
        let lengths = [40];
        let mask = Mask { causal: true, key_lengths: Some(&lengths), ..Mask::default() };
        // 100 queries at positions −60 to 39: rows 60 to 99 see a key.
        let head = mask.head(0, 0, 100, 50);
        let rows = strata(&head, 8, Seed(1));
        assert!(rows.iter().enumerate().all(|(s, &i)| (60 + 5 * s..65 + 5 * s).contains(&(i as usize))), "{rows:?}");
        assert_eq!(strata(&head, 64, Seed(1)), (60..100).collect::<Vec<u32>>());
        let blind = Mask { key_lengths: Some(&[0]), ..Mask::default() };
        assert!(strata(&blind.head(0, 0, 9, 9), 4, Seed(1)).is_empty());
    }

    #[test]
    fn rows_that_tell_nothing_are_left_out() {
        let nan = f32::NAN;
        assert_eq!(row_error(&[3.0, 4.0], &[3.0, 4.5]), Some(0.1));
        assert_eq!(row_error(&[0.0, 0.0], &[1.0, 1.0]), None);
        assert_eq!(row_error(&[nan, 1.0], &[nan, 1.0]), None);
        assert_eq!(row_error(&[1.0], &[nan]), Some(f64::INFINITY));
    }
}
