//! Rank correlation.

use super::cosine::correlation;

/// Spearman's ρ: Pearson's correlation of the ranks, equal values having the mean of theirs.
pub(crate) fn spearman(a: &[f64], b: &[f64]) -> f64 {
    correlation(&ranks(a), &ranks(b))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    for equal in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let smaller = order.partition_point(|&i| values[i] < values[equal[0]]);
        let rank = smaller as f64 + (equal.len() - 1) as f64 / 2.0;
        equal.iter().for_each(|&i| ranks[i] = rank);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_ties_are_their_mean() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
    }

    #[test]
    fn only_order_counts() {
        let a = [0.1, 0.5, 0.2, 9.0];
        assert!((spearman(&a, &a.map(|x: f64| x.exp())) - 1.0).abs() < 1e-12);
        // 1 − 6·Σd²/(n(n² − 1)) with d = 0, 1, 1, 0.
        assert!((spearman(&a, &[1.0, 2.0, 3.0, 4.0]) - 0.8).abs() < 1e-12);
    }
}
