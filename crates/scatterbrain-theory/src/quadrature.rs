//! Gauss–Legendre integration, for formulas that end in an integral of a smooth function.
//!
//! Own code, twenty lines: the kept crates bring a linear algebra library along.

use std::f64::consts::PI;

/// A Gauss–Legendre rule: exact for polynomials of degree below twice its number of nodes.
pub(crate) struct Rule {
    /// (node, weight) on [−1, 1].
    nodes: Vec<(f64, f64)>,
}

impl Rule {
    /// The roots x of the Legendre polynomial P_n by Newton's method, weights 2/((1 − x²) P_n'(x)²).
    pub(crate) fn new(n: usize) -> Self {
        let root = |i: usize| {
            let mut x = (PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
            // Quadratic convergence from an error below 1/n²; the fifth step is rounding.
            for _ in 0..5 {
                let (p, slope) = legendre(n, x);
                x -= p / slope;
            }
            let slope = legendre(n, x).1;
            (x, 2.0 / ((1.0 - x * x) * slope * slope))
        };
        Self { nodes: (0..n).map(root).collect() }
    }

    /// ∫ f over [from, to], cut in `panels` equal parts.
    pub(crate) fn integrate(&self, from: f64, to: f64, panels: usize, mut f: impl FnMut(f64) -> f64) -> f64 {
        let half = 0.5 * (to - from) / panels as f64;
        let middle = |panel: usize| from + (2 * panel + 1) as f64 * half;
        let mut panel = |at: f64| self.nodes.iter().map(|(x, weight)| weight * f(at + half * x)).sum::<f64>();
        half * (0..panels).map(|i| panel(middle(i))).sum::<f64>()
    }
}

/// P_n(x) and its derivative, by the three-term recurrence.
fn legendre(n: usize, x: f64) -> (f64, f64) {
    let (mut last, mut p) = (0.0, 1.0);
    for k in 0..n {
        let k = k as f64;
        (last, p) = (p, ((2.0 * k + 1.0) * x * p - k * last) / (k + 1.0));
    }
    (p, n as f64 * (x * p - last) / (x * x - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_for_polynomials() {
        for n in [1, 2, 5, 16, 20] {
            let rule = Rule::new(n);
            for power in 0..2 * n as i32 {
                // A monomial of this degree has rounding of about its number of factors.
                let got = rule.integrate(-1.0, 3.0, 2, |x| x.powi(power));
                let p = f64::from(power + 1);
                let exact = (3f64.powf(p) - (-1f64).powi(power + 1)) / p;
                assert!((got / exact - 1.0).abs() < 1e-13, "{n} {power}: {got} {exact}");
            }
        }
    }
}
