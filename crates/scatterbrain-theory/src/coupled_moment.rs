//! Two directions of one block of coupled directions.
//!
//! A block has d directions ω_i = χ_i g_i in d dimensions, the norms χ_i independent from χ(d), the unit vectors g_i a
//! fixed figure in a *Haar-distributed* position: orthogonal (g_i·g_j = 0), or a regular simplex
//! (g_i·g_j = −c, c = 1/(d − 1)).
//!
//! # Derivation
//! ω_i ± ω_j has a direction uniform on the sphere and the squared norm T (1 ± x), with T = χ_i² + χ_j² from χ² of 2d
//! degrees and x = 2 g_i·g_j χ_i χ_j/T independent of it. Along a uniform direction g, E e^{t g·z} =
//! Σ_j (t²|z|²/4)^j/(j! (d/2)_j), (a)_j = a(a + 1)…(a + j − 1), and E T^j = 2^j (d)_j. With λ = |z|²:
//!
//! ```text
//! E e^{(ω_i ± ω_j)·z} = Σ_j λ^j/j! ρ_j E(1 ± x)^j,   ρ_j = (d)_j/(2^j (d/2)_j) = Π_{i<j} (d + i)/(d + 2i)
//! ```
//!
//! Independent directions have 1 in place of ρ_j E(1 ± x)^j, as the sum is then e^λ. So, J from Poisson(λ),
//! E e^{(ω_i ± ω_j)·z} − e^λ = e^λ E(ρ_J (1 ± x)^J − 1). ρ_j ≤ 1: orthogonal directions never raise it.
//! In the simplex x = −c sin ψ with a density of ψ on (0, π) proportional to sin^{d−1} ψ: with χ_i = √T cos φ,
//! χ_j = √T sin φ, φ has the density (cos φ sin φ)^{d−1}, and ψ = 2φ.
//!
//! For cosines λ changes its sign: E cos((ω_i ± ω_j)·u) = Σ_j (−λ)^j/j! ρ_j E(1 ± x)^j = E K(λ(1 ± x)), with
//! K(μ) = ₁F₁(d; d/2; −μ/2) = e^{−μ/2} ₁F₁(−d/2; d/2; μ/2) by Kummer's transformation: the mean over J from Poisson(μ/2)
//! of Π_{i<J} (i − d/2)/(i + d/2), all of at most 1 in size, so that nothing cancels but what is as small.

use crate::error::{Result, suppose};
use serde::{Deserialize, Serialize};

/// How the directions of a block of d are coupled; blocks are independent. Each alone is N(0, I).
///
/// The hypothesis is the *Haar distribution*: a block Q of G = QR, G Gaussian, has it only with the signs of R's
/// diagonal made positive (Q·diag(sign R_ii); Mezzadri 2007, "How to generate random matrices from the classical
/// compact groups"). What a QR routine returns follows the signs of the routine, and the features are biased: at
/// z = ±e₁ and d = 4 Householder's gives means of 0.83 A and 1.17 A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Directions {
    /// All independent.
    Independent,
    /// Orthogonal within a block, norms independent from χ(d).
    HaarOrthogonal,
    /// At the vertices of a regular simplex around 0 within a block, norms independent from χ(d). Not in one dimension.
    HaarSimplex,
}

/// Largest |z|² for which the series are summed: their length grows with it.
const LARGEST: f64 = 1e4;

/// Two directions of one block: values of x, from 1 ± x above, with their probabilities.
pub(crate) struct Coupled {
    half_dim: f64,
    nodes: Vec<(f64, f64)>,
}

impl Coupled {
    /// Two directions, added (`symmetric` false) or added and subtracted, each half of the time.
    ///
    /// # Errors
    /// d = 0, a simplex with d < 2, or `square` above 10⁴.
    pub(crate) fn new(
        formula: &'static str,
        directions: Directions,
        head_dim: usize,
        square: f64,
        symmetric: bool,
    ) -> Result<Self> {
        suppose(formula, "a dimension of at least 1", head_dim >= 1, 0.0)?;
        suppose(formula, "a squared norm of at most 10⁴ for coupled directions", square <= LARGEST, square)?;
        let d = head_dim as f64;
        let nodes = if directions == Directions::HaarSimplex {
            suppose(formula, "a dimension of at least 2 for a simplex", head_dim >= 2, d)?;
            let half = if symmetric { 0.5 } else { 1.0 };
            let added = mean_of_sines(d).map(move |(sine, weight)| (-sine / (d - 1.0), half * weight));
            if symmetric { added.flat_map(|(x, w)| [(x, w), (-x, w)]).collect() } else { added.collect() }
        } else {
            vec![(0.0, 1.0)]
        };
        Ok(Self { half_dim: 0.5 * d, nodes })
    }

    /// e^{`log_scale`}(E e^{(ω_i ± ω_j)·z} − e^λ), λ = |z|².
    pub(crate) fn exponential(&self, square: f64, log_scale: f64) -> f64 {
        let logs: Vec<f64> = self.nodes.iter().map(|(x, _)| x.ln_1p()).collect();
        let largest = self.nodes.iter().fold(1.0, |a: f64, (x, _)| a.max(1.0 + x));
        let (mut log_power, mut log_rho, mut total) = (log_scale, 0.0, 0.0);
        for j in 1..terms(square * largest) {
            log_power += (square / j as f64).ln();
            log_rho += self.log_ratio(j - 1);
            for (log, (_, weight)) in logs.iter().zip(&self.nodes) {
                let x = log_rho + j as f64 * log;
                // e^{log_power}(e^x − 1), whose factors may overflow where the product does not.
                let term = if x > 1.0 { (log_power + x).exp() - log_power.exp() } else { log_power.exp() * x.exp_m1() };
                total += weight * term;
            }
        }
        total
    }

    /// E cos((ω_i ± ω_j)·u) − e^{−λ}, λ = |u|².
    pub(crate) fn cosine(&self, square: f64) -> f64 {
        let term = |&(x, weight): &(f64, f64)| {
            let excess = if square <= 1.0 {
                self.small_cosine(square, x)
            } else {
                self.kummer(square * (1.0 + x)) - (-square).exp()
            };
            weight * excess
        };
        self.nodes.iter().map(term).sum()
    }

    /// Σ_{j ≥ 1} (−λ)^j/j! (ρ_j (1 + x)^j − 1), which keeps its digits for small λ.
    fn small_cosine(&self, square: f64, x: f64) -> f64 {
        let (mut power, mut log_rho, mut total) = (1.0, 0.0, 0.0);
        for j in 1..40 {
            power *= -square / j as f64;
            log_rho += self.log_ratio(j - 1);
            total += power * (log_rho + j as f64 * x.ln_1p()).exp_m1();
        }
        total
    }

    /// K(μ).
    fn kummer(&self, square: f64) -> f64 {
        let mean = 0.5 * square;
        let (mut log_mass, mut ratio, mut total) = (-mean, 1.0, 0.0);
        for j in 0..terms(mean) {
            if j > 0 {
                log_mass += (mean / j as f64).ln();
                let i = (j - 1) as f64;
                ratio *= (i - self.half_dim) / (i + self.half_dim);
            }
            total += log_mass.exp() * ratio;
        }
        total
    }

    /// ln((d + i)/(d + 2i)).
    fn log_ratio(&self, i: usize) -> f64 {
        let i = i as f64;
        (-0.5 * i / (self.half_dim + i)).ln_1p()
    }
}

/// How many terms λ^j/j! hold e^λ, up to 10⁻²⁰ of it.
fn terms(mean: f64) -> usize {
    (mean + 12.0 * mean.sqrt() + 40.0) as usize
}

/// Values of sin ψ with probabilities, for a density proportional to sin^{d−1} ψ on (0, π/2): the trapezoidal rule
/// after ψ = (π/4)(1 + tanh(½π sinh t)) (Takahasi and Mori 1974, "Double exponential formulas").
fn mean_of_sines(d: f64) -> impl Iterator<Item = (f64, f64)> {
    use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};
    let node = |step: i32| {
        let t = f64::from(step) / 32.0;
        let u = FRAC_PI_2 * t.sinh();
        let sine = (FRAC_PI_4 * (1.0 + u.tanh())).sin();
        (sine, sine.powf(d - 1.0) * t.cosh() / u.cosh().powi(2))
    };
    let nodes: Vec<(f64, f64)> = (-128..=128).map(node).collect();
    let total: f64 = nodes.iter().map(|(_, w)| w).sum();
    nodes.into_iter().filter(move |(_, w)| w / total > 1e-20).map(move |(s, w)| (s, w / total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::{block, dot, orthogonal, simplex};
    use crate::{Check, Claim, Draws, Estimator, Verdict};

    /// Householder's QR without the sign fix: every reflection turns its column to the negative axis where the first
    /// entry is positive, so that the signs of Q depend on those of G. The rows of Q are the directions.
    fn raw_rows(draws: &mut Draws) -> [[f64; 4]; 4] {
        let mut g: [[f64; 4]; 4] = std::array::from_fn(|_| draws.normals());
        let mut q: [[f64; 4]; 4] = std::array::from_fn(|i| std::array::from_fn(|j| f64::from(u8::from(i == j))));
        for step in 0..4 {
            let mut v: [f64; 4] = std::array::from_fn(|i| if i < step { 0.0 } else { g[i][step] });
            v[step] += dot(&v, &v).sqrt().copysign(v[step]);
            let square = dot(&v, &v);
            for c in 0..4 {
                let along = 2.0 * (0..4).map(|i| v[i] * g[i][c]).sum::<f64>() / square;
                (0..4).for_each(|i| g[i][c] -= along * v[i]);
                let along = 2.0 * dot(&v, &q[c]) / square;
                q[c] = std::array::from_fn(|i| q[c][i] - along * v[i]);
            }
        }
        q
    }

    /// Each kind of directions is unbiased but raw QR, whose mean is 0.83 A at z = e₁ and 1.17 A at −e₁.
    #[test]
    fn raw_qr_is_refuted() {
        let mean = |rows: [[f64; 4]; 4], sign: f64| rows.iter().map(|w| (sign * w[0] - 0.5).exp()).sum::<f64>() / 4.0;
        for (sign, expected) in [(1.0, 0.83), (-1.0, 1.17)] {
            let raw = |draws: &mut Draws| {
                let rows = raw_rows(draws);
                mean(block(draws, |directions| *directions = rows), sign)
            };
            let fixed = |draws: &mut Draws| mean(block(draws, |_| ()), sign);
            let claim = Claim::Equals(1.0);
            let report = Check::default().run(claim, Estimator::Mean, raw).unwrap();
            assert_eq!(report.verdict, Verdict::Refuted, "{report:?}");
            assert!((report.value.unwrap() - expected).abs() < 0.01, "{report:?}");
            assert_eq!(Check::default().run(claim, Estimator::Mean, fixed).unwrap().verdict, Verdict::Holds);
        }
    }

    /// Exponentials and cosines of two directions, within 1 %, at |z|² = 1 and 4, where coupled and independent
    /// directions differ by more; in an odd dimension the series of the cosine does not end.
    #[test]
    fn two_directions() {
        use Directions::{HaarOrthogonal, HaarSimplex};
        fn pair<const D: usize>(draws: &mut Draws, directions: Directions, sign: f64) -> f64 {
            let shape = if directions == HaarSimplex { simplex::<D> } else { orthogonal };
            let rows = block(draws, shape);
            rows[0][0] + sign * rows[1][0]
        }
        let check = Check { tolerance: 0.01, relative_width: 0.01, max_trials: 8_000_000, ..Check::default() };
        let holds = |value, sampler: &(dyn Fn(&mut Draws) -> f64 + Sync), of: &str| {
            let report = check.run(Claim::Equals(value), Estimator::Mean, sampler).unwrap();
            assert_eq!(report.verdict, Verdict::Holds, "{of}: {report:?}");
        };
        for directions in [HaarOrthogonal, HaarSimplex] {
            let of = |d, symmetric| Coupled::new("", directions, d, 1.0, symmetric).unwrap();
            holds(
                1f64.exp() + of(3, false).exponential(1.0, 0.0),
                &|draws| pair::<3>(draws, directions, 1.0).exp(),
                "sum",
            );
            holds(
                1f64.exp() + of(4, true).exponential(1.0, 0.0),
                &|draws| (pair::<4>(draws, directions, 1.0).exp() + pair::<4>(draws, directions, -1.0).exp()) / 2.0,
                "sum and difference",
            );
            let cosine = |x: f64, y: f64| (2.0 * x).cos() / 2.0 + (2.0 * y).cos() / 2.0 + 1.0;
            holds(
                1.0 + (-4f64).exp() + of(3, true).cosine(4.0),
                &|draws| cosine(pair::<3>(draws, directions, 1.0), pair::<3>(draws, directions, -1.0)),
                "cosine, d = 3",
            );
            holds(
                1.0 + (-4f64).exp() + of(4, true).cosine(4.0),
                &|draws| cosine(pair::<4>(draws, directions, 1.0), pair::<4>(draws, directions, -1.0)),
                "cosine, d = 4",
            );
        }
    }

    /// Two simplex directions in two dimensions are opposite: (ω_1 + ω_2)·z = (χ_1 − χ_2) g·z.
    #[test]
    fn opposite_directions() {
        let coupled = Coupled::new("", Directions::HaarSimplex, 2, 1.0, false).unwrap();
        let sampler = |draws: &mut Draws| {
            let [a, b, c, d, x, y] = draws.normals();
            ((a.hypot(b) - c.hypot(d)) * x / x.hypot(y)).exp()
        };
        let expected = 1f64.exp() + coupled.exponential(1.0, 0.0);
        let report = Check::default().run(Claim::Equals(expected), Estimator::Mean, sampler).unwrap();
        assert_eq!(report.verdict, Verdict::Holds, "{report:?}");
    }

    /// E sin ψ = W_d/W_{d−1} with Wallis's integrals W_n = ∫ sin^n: W_0 = π/2, W_1 = 1, W_n = W_{n−2}(n − 1)/n.
    #[test]
    fn sines() {
        for d in [2usize, 3, 4, 7, 64, 128, 1024] {
            let wallis = |n: usize| {
                let start = if n.is_multiple_of(2) { std::f64::consts::FRAC_PI_2 } else { 1.0 };
                (2..=n).rev().step_by(2).fold(start, |w, i| w * (i as f64 - 1.0) / i as f64)
            };
            let found: f64 = mean_of_sines(d as f64).map(|(s, w)| s * w).sum();
            let expected = wallis(d) / wallis(d - 1);
            assert!((found / expected - 1.0).abs() < 1e-12, "{d}: {found} {expected}");
        }
    }

    /// The two forms of the cosine agree where one takes over.
    #[test]
    fn cosines_meet() {
        for directions in [Directions::HaarOrthogonal, Directions::HaarSimplex] {
            for d in [2, 3, 4, 64] {
                let coupled = Coupled::new("", directions, d, 1.0, true).unwrap();
                let (below, above) = (coupled.cosine(1.0), coupled.cosine(1.0 + 1e-13));
                assert!((below - above).abs() < 1e-12, "{directions:?} {d}: {below} {above}");
            }
        }
    }
}
