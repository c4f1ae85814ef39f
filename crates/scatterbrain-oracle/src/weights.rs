//! A weight for every pair, from the direct formula of each feature map.
//!
//! In the formulas the softmax scale s is absorbed: q ← ±√|s|·q with the sign of s, k ← √|s|·k. A projection ω is `[rows,
//! d]`, row-major.

use crate::{Problem, dot};

/// Weights `value[i][j] * exp(log_scale[i])` of the pairs, `[n, m]`; they may be negative.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// `[n, m]`, in the units of the row.
    pub value: Vec<f64>,
    /// `[n]`; −∞ is a row of zeros.
    pub log_scale: Vec<f64>,
}

impl Weights {
    /// Weights in natural units: every log-scale is 0.
    pub fn natural(value: Vec<f64>, n: usize) -> Self {
        Weights { value, log_scale: vec![0.0; n] }
    }

    /// Non-negative weights from their logarithms, `[n, m]`.
    pub fn from_logs(logs: &[f64], n: usize) -> Self {
        assert!(n > 0 && logs.len().is_multiple_of(n), "{} entries in {n} rows", logs.len());
        let m = logs.len() / n;
        let log_scale: Vec<f64> = logs.chunks(m).map(largest).collect();
        let value = logs.iter().enumerate().map(|(pair, log)| scaled(*log, log_scale[pair / m])).collect();
        Weights { value, log_scale }
    }

    /// No weight at all.
    pub fn zero(problem: &Problem) -> Self {
        Weights { value: vec![0.0; problem.n * problem.m], log_scale: vec![f64::NEG_INFINITY; problem.n] }
    }

    /// The weight 1 for every pair: alone, the mean of the visible values.
    pub fn constant(problem: &Problem) -> Self {
        Self::natural(vec![1.0; problem.n * problem.m], problem.n)
    }

    /// FAVOR+: `1/r Σ_l exp(ω_l·q − |q|²/2) exp(ω_l·k − |k|²/2)`, r the rows of ω.
    pub fn favor_positive(problem: &Problem, projection: &[f64]) -> Self {
        Self::oprf(problem, projection, 0.0)
    }

    /// Hyperbolic pairs (ω, −ω): `1/2r Σ_l Σ_± exp(±ω_l·(q + k)) exp(−(|q|² + |k|²)/2)`.
    pub fn favor_hyperbolic(problem: &Problem, projection: &[f64]) -> Self {
        let both: Vec<f64> = projection.iter().copied().chain(projection.iter().map(|w| -w)).collect();
        Self::favor_positive(problem, &both)
    }

    /// OPRF: features `D exp(a|ω|² + Bω·x − |x|²/2)`, B = √(1 − 4a), D = (1 − 4a)^{d/4}; the mean over the rows
    /// of ω of their products. `a = 0` is FAVOR+.
    pub fn oprf(problem: &Problem, projection: &[f64], a: f64) -> Self {
        let b = (1.0 - 4.0 * a).sqrt();
        let log_d = problem.d as f64 / 4.0 * (1.0 - 4.0 * a).ln();
        let log_feature = |row: &[f64], x: &[f64]| log_d + a * dot(row, row) + b * dot(row, x) - dot(x, x) / 2.0;
        Self::per_pair(problem, |q, k| {
            let rows = projection.chunks(problem.d);
            let terms: Vec<f64> = rows.map(|w| log_feature(w, q) + log_feature(w, k)).collect();
            log_sum_exp(&terms) - (terms.len() as f64).ln()
        })
    }

    /// `φ(q)·φ(k)` with `φ(x) = elu(c·x) + 1`, on the stored vectors times `multiplier` c (1 in the paper; √scale
    /// absorbs the softmax scale).
    pub fn elu(problem: &Problem, multiplier: f64) -> Self {
        let phi = |x: f64| if multiplier * x > 0.0 { multiplier * x + 1.0 } else { (multiplier * x).exp() };
        let logs: Vec<f64> = (0..problem.n * problem.m)
            .map(|pair| {
                let (q, k) = (problem.query_row(pair / problem.m), problem.key_row(pair % problem.m));
                q.iter().zip(k).map(|(a, b)| phi(*a) * phi(*b)).sum::<f64>().ln()
            })
            .collect();
        Self::from_logs(&logs, problem.n)
    }

    /// Trigonometric features: `exp((|q|² + |k|²)/2) · 1/r Σ_l cos(ω_l·(q − k))`, which can be negative.
    pub fn trigonometric(problem: &Problem, projection: &[f64]) -> Self {
        let logs = pairs(problem, |q, k| (dot(q, q) + dot(k, k)) / 2.0);
        let mut weights = Self::from_logs(&logs, problem.n);
        let rows = projection.len() / problem.d;
        let cosines = pairs(problem, |q, k| {
            let difference: Vec<f64> = q.iter().zip(k).map(|(a, b)| a - b).collect();
            projection.chunks(problem.d).map(|w| dot(w, &difference).cos()).sum::<f64>() / rows as f64
        });
        weights.value.iter_mut().zip(&cosines).for_each(|(w, c)| *w *= c);
        weights
    }

    /// Centroids: `exp(q·μ)`, μ the mean of the keys in the key's cluster, for rows that see the whole cluster in `seen`
    /// `[n, m]`; `exp(q·k)` for others, and for keys beyond `cluster`.
    pub fn centroids(problem: &Problem, cluster: &[usize], seen: &[bool]) -> Self {
        let (m, d) = (problem.m, problem.d);
        let members = |j: usize| {
            let own = cluster.get(j).copied();
            (0..cluster.len()).filter(move |&other| Some(cluster[other]) == own)
        };
        let mut logs = Vec::with_capacity(problem.n * m);
        for i in 0..problem.n {
            for j in 0..m {
                let whole = j < cluster.len() && members(j).all(|other| seen[i * m + other]);
                let mut key = problem.key_row(j).to_vec();
                if whole {
                    let count = members(j).count() as f64;
                    for (c, x) in key.iter_mut().enumerate().take(d) {
                        *x = members(j).map(|other| problem.key_row(other)[c]).sum::<f64>() / count;
                    }
                }
                logs.push(problem.scale * dot(problem.query_row(i), &key));
            }
        }
        Self::from_logs(&logs, problem.n)
    }

    /// A pair's own weight so many times: `exp(log_multiple + scale·q·k)`, `log_multiple` `[n, m]`; −∞ leaves it out.
    pub fn multiples(problem: &Problem, log_multiple: &[f64]) -> Self {
        let logits = problem.logits();
        let logs: Vec<f64> = logits.iter().zip(log_multiple).map(|(x, c)| x + c).collect();
        Self::from_logs(&logs, problem.n)
    }

    /// These weights so many times: `exp(log_multiple)` each, `[n, m]`.
    pub fn times(mut self, log_multiple: &[f64]) -> Self {
        self.value.iter_mut().zip(log_multiple).for_each(|(w, log)| *w *= log.exp());
        self
    }

    /// The weight of a pair in natural units; may overflow where the log-scale is large.
    pub fn natural_value(&self, i: usize, j: usize) -> f64 {
        let m = self.value.len() / self.log_scale.len();
        if self.value[i * m + j] == 0.0 { 0.0 } else { self.value[i * m + j] * self.log_scale[i].exp() }
    }

    /// `ln |weight|` of a pair; −∞ where it is zero.
    pub fn log_abs(&self, i: usize, j: usize) -> f64 {
        let m = self.value.len() / self.log_scale.len();
        let value = self.value[i * m + j].abs();
        if value == 0.0 { f64::NEG_INFINITY } else { value.ln() + self.log_scale[i] }
    }

    fn per_pair(problem: &Problem, log_weight: impl Fn(&[f64], &[f64]) -> f64) -> Self {
        Self::from_logs(&pairs(problem, log_weight), problem.n)
    }
}

/// A figure of every pair (√|s|·q, √|s|·k), the sign of s on the query.
fn pairs(problem: &Problem, figure: impl Fn(&[f64], &[f64]) -> f64) -> Vec<f64> {
    let root = problem.scale.abs().sqrt();
    let scaled = |x: &[f64], factor: f64| x.iter().map(|v| factor * v).collect::<Vec<_>>();
    let on_query = if problem.scale < 0.0 { -root } else { root };
    (0..problem.n * problem.m)
        .map(|pair| {
            let (query, key) = (problem.query_row(pair / problem.m), problem.key_row(pair % problem.m));
            figure(&scaled(query, on_query), &scaled(key, root))
        })
        .collect()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// `exp(log − scale)`, and 0 for the logarithm of 0.
fn scaled(log: f64, scale: f64) -> f64 {
    if log == f64::NEG_INFINITY { 0.0 } else { (log - scale).exp() }
}

fn log_sum_exp(terms: &[f64]) -> f64 {
    let scale = largest(terms);
    scale + terms.iter().map(|t| scaled(*t, scale)).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// q = 1, k = 2, scale 1, one projection ω = ½.
    fn one_pair() -> Problem {
        let ones = |x: f64| vec![x];
        Problem {
            n: 1,
            m: 1,
            d: 1,
            d_v: 1,
            scale: 1.0,
            query: ones(1.0),
            key: ones(2.0),
            value: ones(1.0),
            visible: vec![true],
        }
    }

    fn check(weights: Weights, expected: f64) {
        let got = weights.natural_value(0, 0);
        assert!((got - expected).abs() <= 1e-12 * expected.abs(), "{got} against {expected}");
    }

    #[test]
    fn formulas_by_hand() {
        let p = one_pair();
        check(Weights::favor_positive(&p, &[0.5]), (1.5f64 - 2.5).exp());
        check(Weights::favor_hyperbolic(&p, &[0.5]), (-2.5f64).exp() * 1.5f64.cosh());
        check(Weights::trigonometric(&p, &[0.5]), 2.5f64.exp() * 0.5f64.cos());
        check(Weights::elu(&p, 1.0), 6.0);
        check(Weights::elu(&p, -1.0), (-3.0f64).exp());
        check(Weights::constant(&p), 1.0);
        // a = −¾: B = 2, D² = 2; exponent −1.5·¼ + 2·½·3 − 2.5.
        check(Weights::oprf(&p, &[0.5], -0.75), 2.0 * (0.125f64).exp());
    }

    #[test]
    fn centroids_by_hand() {
        let mut p = Problem::random(1, 4, 1, 1, 1.0, 0);
        (p.scale, p.query, p.key) = (1.0, vec![2.0], vec![1.0, 4.0, 3.0, 7.0]);
        let weights = |seen: [bool; 4]| {
            let w = Weights::centroids(&p, &[0, 1, 0], &seen);
            (0..4).map(|j| w.natural_value(0, j).ln()).collect::<Vec<_>>()
        };
        let near = |a: Vec<f64>, b: [f64; 4]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?}");
        near(weights([true; 4]), [4.0, 8.0, 4.0, 14.0]);
        near(weights([false, true, true, true]), [2.0, 8.0, 6.0, 14.0]);
    }

    #[test]
    fn unbiased() {
        let p = Problem::random(1, 1, 2, 1, 0.7, 3);
        let omega = Problem::random(200_000, 1, 2, 1, 1.0, 4).query;
        let exact = p.logits()[0].exp();
        for weights in [
            Weights::favor_positive(&p, &omega),
            Weights::favor_hyperbolic(&p, &omega),
            Weights::oprf(&p, &omega, -0.2),
            Weights::trigonometric(&p, &omega),
        ] {
            assert!((weights.natural_value(0, 0) / exact - 1.0).abs() < 0.02);
        }
    }
}
