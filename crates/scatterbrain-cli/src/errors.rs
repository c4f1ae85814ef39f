//! Row errors and their averages: rows → heads → batch, each level evenly.

use crate::input::Sizes;
use crate::report::ErrorSummary;

/// The errors of one method.
pub(crate) struct RowErrors {
    /// Mean over everything, and median, 90 % quantile and maximum over all rows.
    pub(crate) summary: ErrorSummary,
    /// Mean of each head, `[batch, heads]`; none where every row is a zero row.
    pub(crate) heads: Vec<Option<f64>>,
    /// Rows whose exact output is zero and whose estimate is not; left out of all figures above.
    pub(crate) zero_rows: usize,
}

/// Compares an output of `[batch, heads, n, d_v]` with the exact one of some rows, `[batch, heads, rows, d_v]`.
pub(crate) fn row_errors(exact: &[f64], estimate: &[f32], rows: &[usize], sizes: &Sizes) -> RowErrors {
    let (n, d_v) = (sizes.n, sizes.d_v);
    let estimates = estimate.chunks(n * d_v).flat_map(|head| rows.iter().map(|i| &head[i * d_v..(i + 1) * d_v]));
    let errors: Vec<f64> = exact.chunks(d_v).zip(estimates).map(|(o, e)| row_error(o, e)).collect();
    let heads: Vec<Option<f64>> =
        errors.chunks(rows.len()).map(|rows| mean(rows.iter().copied().filter(counts))).collect();
    let batch = heads.chunks(sizes.heads).filter_map(|h| mean(h.iter().copied().flatten()));
    let mut kept: Vec<f64> = errors.iter().copied().filter(counts).collect();
    kept.sort_by(f64::total_cmp);
    let summary = ErrorSummary {
        mean: mean(batch),
        median: quantile(&kept, 0.5),
        p90: quantile(&kept, 0.9),
        max: kept.last().copied(),
    };
    RowErrors { summary, heads, zero_rows: errors.len() - kept.len() }
}

/// |o − ô|/|o|; 0 where both are zero, infinite where o alone is. An estimate that is not finite has the error NaN.
fn row_error(exact: &[f64], estimate: &[f32]) -> f64 {
    let norm = exact.iter().map(|o| o * o).sum::<f64>();
    let difference = exact.iter().zip(estimate).map(|(o, e)| (o - f64::from(*e)).powi(2)).sum::<f64>();
    match (norm == 0.0, difference == 0.0) {
        (true, true) => 0.0,
        (true, false) => f64::INFINITY,
        _ if difference.is_finite() => (difference / norm).sqrt(),
        _ => f64::NAN,
    }
}

/// Whether a row error enters the averages; a NaN does, and spoils them.
fn counts(error: &f64) -> bool {
    *error != f64::INFINITY
}

/// The mean, if there is anything.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// The quantile of sorted values, interpolated between neighbours.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_by_level() {
        let sizes = Sizes { batch: 2, heads: 1, kv_heads: 1, n: 2, m: 1, d: 1, d_v: 1 };
        let e = row_errors(&[1.0, 2.0, 0.0, 4.0], &[1.0, 1.0, 5.0, 1.0], &[0, 1], &sizes);
        assert_eq!(e.heads, [Some(0.25), Some(0.75)]);
        assert_eq!((e.summary.mean, e.summary.median, e.summary.max), (Some(0.5), Some(0.5), Some(0.75)));
        assert_eq!(e.zero_rows, 1);
        let second = row_errors(&[2.0, 4.0], &[1.0, 1.0, 5.0, 1.0], &[1], &sizes);
        assert_eq!((second.heads, second.zero_rows), (vec![Some(0.5), Some(0.75)], 0));
    }

    #[test]
    fn nothing_but_zero_rows() {
        let sizes = Sizes { batch: 1, heads: 1, kv_heads: 1, n: 1, m: 1, d: 1, d_v: 1 };
        let e = row_errors(&[0.0], &[1.0], &[0], &sizes);
        assert_eq!((e.summary.mean, e.heads[0], e.zero_rows), (None, None, 1));
        assert_eq!(row_errors(&[0.0], &[0.0], &[0], &sizes).summary.max, Some(0.0));
        // An infinite estimate of a row that is not zero is no zero row.
        let lost = row_errors(&[1.0], &[f32::INFINITY], &[0], &sizes);
        assert!(lost.summary.max.unwrap().is_nan() && lost.zero_rows == 0);
    }

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0], 0.5), Some(1.5));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
