//! Supports by brute force: `n * m` booleans, masks not applied unless said.

use crate::{Problem, visible};

/// Keys from `left` before to `right` after the query's position; see [`visible`].
pub fn window(n: usize, m: usize, length: usize, left: usize, right: usize, align_start: bool) -> Vec<bool> {
    let window = Some((left, right, align_start));
    (0..n * m).map(|pair| visible(n, m, length, false, window, pair / m, pair % m)).collect()
}

/// The `k` largest logits of each row among its visible keys; of equal logits the lower index comes first.
pub fn top_k(problem: &Problem, k: usize) -> Vec<bool> {
    let logits = problem.logits();
    let mut support = vec![false; logits.len()];
    for i in 0..problem.n {
        let pairs = i * problem.m..(i + 1) * problem.m;
        let mut order: Vec<usize> = pairs.filter(|&pair| problem.visible[pair]).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        order.iter().take(k).for_each(|&pair| support[pair] = true);
    }
    support
}

/// Pairs whose key lies in the query's cluster, or in one of the `lookback` clusters numbered before it (cluster 0
/// has none before it: nothing wraps around).
pub fn clusters(query_cluster: &[usize], key_cluster: &[usize], lookback: usize) -> Vec<bool> {
    let near = |q: usize, k: usize| k <= q && q - k <= lookback;
    query_cluster.iter().flat_map(|&q| key_cluster.iter().map(move |&k| near(q, k))).collect()
}

/// Pairs on either support.
pub fn union(a: &[bool], b: &[bool]) -> Vec<bool> {
    assert_eq!(a.len(), b.len(), "supports of one shape");
    a.iter().zip(b).map(|(x, y)| *x || *y).collect()
}

/// How many pairs of a support are visible.
pub fn visible_pairs(problem: &Problem, support: &[bool]) -> usize {
    support.iter().zip(&problem.visible).filter(|(s, v)| **s && **v).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_index_and_hidden_keys_do_not_count() {
        let mut p = Problem::random(1, 4, 1, 1, 1.0, 0);
        (p.query, p.key) = (vec![1.0], vec![1.0, 2.0, 2.0, 2.0]);
        assert_eq!(top_k(&p, 2), [false, true, true, false]);
        p.visible[1] = false;
        assert_eq!(top_k(&p, 2), [false, false, true, true]);
        assert_eq!(top_k(&p, 9), p.visible);
        assert_eq!(visible_pairs(&p, &[true; 4]), 3);
    }

    #[test]
    fn clusters_and_the_one_before() {
        assert_eq!(clusters(&[1], &[0, 1, 2], 0), [false, true, false]);
        let (a, b) = (clusters(&[1, 0], &[0, 1, 2], 1), [true, true, false, true, false, false]);
        assert_eq!(a, b);
        assert!(union(&a, &[false, false, true, false, false, false])[2]);
    }

    #[test]
    fn windows() {
        assert_eq!(window(1, 3, 3, 1, 0, false), [false, true, true]);
        assert_eq!(window(1, 3, 2, 1, 5, false), [true, true, false]);
    }
}
