//! Exact on a support, weights off it.

use crate::{Problem, Weights};

/// What a method answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// `[n, d_v]`; zeros where a row sees nothing.
    pub output: Vec<f64>,
    /// `[n]`: logarithm of the row's denominator; −∞ where a row sees nothing, NaN where the sum is negative.
    pub log_sum_exp: Vec<f64>,
    /// `[n, m]`: entries before normalisation, with a log-scale for each row; hidden pairs are 0.
    pub unnormalised: Weights,
    /// `[n, m]`: entries divided by their row's sum; zeros where a row sees nothing.
    pub normalised: Vec<f64>,
}

/// `exp(scale · q·k)` on visible pairs of the support, `off` on the other visible pairs, normalised.
pub fn combine(problem: &Problem, support: &[bool], off: &Weights) -> Estimate {
    let (n, m) = (problem.n, problem.m);
    assert_eq!((support.len(), off.value.len(), off.log_scale.len()), (n * m, n * m, n), "one entry a pair");
    let logits = problem.logits();
    let mut estimate = Estimate {
        output: Vec::new(),
        log_sum_exp: Vec::new(),
        unnormalised: Weights::zero(problem),
        normalised: Vec::new(),
    };
    for i in 0..n {
        let pairs = i * m..(i + 1) * m;
        let row = Row {
            logits: &logits[pairs.clone()],
            visible: &problem.visible[pairs.clone()],
            support: &support[pairs.clone()],
            off: &off.value[pairs.clone()],
            off_scale: off.log_scale[i],
        };
        let scale = row.log_scale();
        let entries = row.entries(scale);
        estimate.finish_row(problem, &entries, scale);
        estimate.unnormalised.value[pairs].copy_from_slice(&entries);
        estimate.unnormalised.log_scale[i] = scale;
    }
    estimate
}

/// The support alone; everything off it weighs nothing.
pub fn sparse(problem: &Problem, support: &[bool]) -> Estimate {
    combine(problem, support, &Weights::zero(problem))
}

/// The background alone.
pub fn background(problem: &Problem, weights: &Weights) -> Estimate {
    combine(problem, &vec![false; problem.n * problem.m], weights)
}

struct Row<'a> {
    logits: &'a [f64],
    visible: &'a [bool],
    support: &'a [bool],
    off: &'a [f64],
    off_scale: f64,
}

impl Row<'_> {
    fn log_abs(&self, j: usize) -> f64 {
        match (self.visible[j], self.support[j]) {
            (false, _) => f64::NEG_INFINITY,
            (true, true) => self.logits[j],
            (true, false) if self.off[j] == 0.0 => f64::NEG_INFINITY,
            (true, false) => self.off[j].abs().ln() + self.off_scale,
        }
    }

    fn log_scale(&self) -> f64 {
        (0..self.logits.len()).map(|j| self.log_abs(j)).fold(f64::NEG_INFINITY, f64::max)
    }

    fn entries(&self, scale: f64) -> Vec<f64> {
        let entry = |j: usize| {
            let log = self.log_abs(j);
            let sign = if self.support[j] { 1.0 } else { self.off[j].signum() };
            if log == f64::NEG_INFINITY { 0.0 } else { sign * (log - scale).exp() }
        };
        (0..self.logits.len()).map(entry).collect()
    }
}

impl Estimate {
    fn finish_row(&mut self, problem: &Problem, entries: &[f64], scale: f64) {
        let total: f64 = entries.iter().sum();
        let empty = entries.iter().all(|e| *e == 0.0);
        let normalised: Vec<f64> = entries.iter().map(|e| if empty { 0.0 } else { e / total }).collect();
        for c in 0..problem.d_v {
            // A hidden value is not multiplied by 0: it may be NaN.
            let seen = (0..problem.m).filter(|&j| entries[j] != 0.0);
            let mean: f64 = seen.map(|j| normalised[j] * problem.value_row(j)[c]).sum();
            // An empty sum is −0.
            self.output.push(mean + 0.0);
        }
        self.log_sum_exp.push(if empty { f64::NEG_INFINITY } else { scale + total.ln() });
        self.normalised.extend(normalised);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support;

    fn close(a: &[f64], b: &[f64]) {
        assert_eq!(a.len(), b.len());
        for (x, y) in a.iter().zip(b) {
            assert!((x - y).abs() <= 1e-12 * (1.0 + y.abs()), "{x} against {y}");
        }
    }

    /// One query 1; keys 0, ln 2, ln 3; values 1, 10, 100.
    fn three_keys() -> Problem {
        Problem {
            n: 1,
            m: 3,
            d: 1,
            d_v: 1,
            scale: 1.0,
            query: vec![1.0],
            key: vec![0.0, 2f64.ln(), 3f64.ln()],
            value: vec![1.0, 10.0, 100.0],
            visible: vec![true; 3],
        }
    }

    #[test]
    fn by_hand() {
        let p = three_keys();
        close(&p.exact().output, &[321.0 / 6.0]);
        close(&p.exact().log_sum_exp, &[6f64.ln()]);
        let e = combine(&p, &[false, true, false], &Weights::natural(vec![5.0, 9.0, 1.0], 1));
        close(&e.output, &[125.0 / 8.0]);
        close(&e.normalised, &[5.0 / 8.0, 0.25, 0.125]);
        close(&sparse(&p, &[true, true, false]).output, &[7.0]);
        close(&background(&p, &Weights::constant(&p)).output, &[37.0]);
    }

    #[test]
    fn hidden_pairs_take_no_part() {
        let mut p = three_keys().seeing(vec![true, true, false]);
        p.value[2] = f64::NAN;
        close(&p.exact().output, &[7.0]);
        let blind = p.seeing(vec![false; 3]).exact();
        assert_eq!((blind.output[0], blind.log_sum_exp[0]), (0.0, f64::NEG_INFINITY));
        assert_eq!(blind.normalised, [0.0; 3]);
    }

    #[test]
    fn a_nan_taints_the_row_that_sees_it() {
        let mut p = three_keys();
        p.key[1] = f64::NAN;
        assert!(p.exact().output[0].is_nan());
        close(&p.seeing(vec![true, false, true]).exact().output, &[301.0 / 4.0]);
    }

    #[test]
    fn signed_weights() {
        let p = three_keys();
        let e = combine(&p, &[false, false, true], &Weights::natural(vec![-1.0, 0.0, 7.0], 1));
        close(&e.output, &[299.0 / 2.0]);
        close(&e.log_sum_exp, &[2f64.ln()]);
    }

    #[test]
    fn huge_logits() {
        let mut p = three_keys();
        p.query[0] = 1e4;
        let e = p.exact();
        close(&e.output, &[100.0]);
        close(&e.log_sum_exp, &[1e4 * 3f64.ln()]);
        p.query[0] = -1e4;
        close(&p.exact().output, &[1.0]);
        let off = Weights { value: vec![1.0; 3], log_scale: vec![-1e4] };
        close(&combine(&p, &[false; 3], &off).output, &[37.0]);
    }

    #[test]
    fn identities() {
        let p = Problem::random(5, 7, 3, 2, 1.0, 1);
        let omega = Problem::random(4, 1, 3, 1, 1.0, 2).query;
        let weights = Weights::favor_positive(&p, &omega);
        close(&combine(&p, &[true; 35], &weights).output, &p.exact().output);
        close(&combine(&p, &[false; 35], &weights).output, &background(&p, &weights).output);
        let window = support::window(5, 7, 7, 1, 1, false);
        let e = combine(&p, &window, &weights);
        let logits = p.logits();
        for pair in 0..35 {
            let (i, j) = (pair / 7, pair % 7);
            let expected = if window[pair] { logits[pair].exp() } else { weights.natural_value(i, j) };
            close(&[e.unnormalised.natural_value(i, j)], &[expected]);
        }
        e.normalised.chunks(7).for_each(|row| close(&[row.iter().sum()], &[1.0]));
    }
}
