//! Queries and keys that come in clusters.

use crate::check::Draws;
use crate::error::{Result, finite, suppose};

/// The clustered process: centres c ~ N(0, I/√d), and around each `members` queries and as many keys c + N(0, Δ² I/√d),
/// all independent. Row i belongs to cluster i/`members`. Chen et al. 2021, "Scatterbrain".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClusteredProcess {
    /// C, clusters.
    pub clusters: usize,
    /// Queries of a cluster, and keys of a cluster.
    pub members: usize,
    /// d.
    pub head_dim: usize,
    /// Δ, the spread of a cluster as a share of that of the centres.
    pub spread: f64,
}

/// A sample of [`ClusteredProcess`]; rows are C·`members`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusteredRows {
    /// `[rows, head_dim]`, row-major.
    pub query: Vec<f64>,
    /// `[rows, head_dim]`, row-major.
    pub key: Vec<f64>,
}

/// Mean and variance of a logit β q·k.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitMoments {
    /// E β q·k.
    pub mean: f64,
    /// Var β q·k.
    pub variance: f64,
}

impl ClusteredProcess {
    /// Draws queries and keys; the same seed gives the same rows.
    ///
    /// ```
    /// use scatterbrain_theory::ClusteredProcess;
    /// let process = ClusteredProcess { clusters: 2, members: 3, head_dim: 4, spread: 0.1 };
    /// let rows = process.sample(1)?;
    /// assert_eq!((rows.query.len(), rows.key.len()), (24, 24));
    /// # Ok::<(), scatterbrain_theory::Error>(())
    /// ```
    ///
    /// # Errors
    /// A size of 0, more than 2³⁰ numbers, or a spread that is negative or not finite.
    pub fn sample(&self, seed: u64) -> Result<ClusteredRows> {
        self.check("a clustered process")?;
        let mut draws = Draws::new(seed);
        let size = (self.head_dim as f64).powf(-0.25);
        let mut rows = ClusteredRows { query: Vec::new(), key: Vec::new() };
        for _ in 0..self.clusters {
            let centre = draws.normal_vec(self.head_dim);
            for side in [&mut rows.query, &mut rows.key] {
                for _ in 0..self.members {
                    side.extend(centre.iter().map(|c| size * (c + self.spread * draws.standard_normal())));
                }
            }
        }
        Ok(rows)
    }

    /// Of a logit x = β q·k, exactly, over draws of the process: within a cluster, and between two.
    ///
    /// ```math
    /// \begin{aligned}
    /// \mathbb E\,x &= \beta \sqrt d, & \operatorname{Var} x &= \beta^2 \bigl(1 + (1 + \Delta^2)^2\bigr) \\
    /// \mathbb E\,x &= 0, & \operatorname{Var} x &= \beta^2 (1 + \Delta^2)^2
    /// \end{aligned}
    /// ```
    ///
    /// Derivation: q·k is a sum of d independent products of normals of variance v = (1 + Δ²)/√d and covariance
    /// w = 1/√d within a cluster, 0 between two; a product has mean w and variance v² + w².
    ///
    /// ```
    /// use scatterbrain_theory::{ClusteredProcess, LogitMoments};
    /// let process = ClusteredProcess { clusters: 2, members: 3, head_dim: 16, spread: 0.0 };
    /// assert_eq!(process.logit_moments(0.5, true)?, LogitMoments { mean: 2.0, variance: 0.5 });
    /// assert_eq!(process.logit_moments(0.5, false)?, LogitMoments { mean: 0.0, variance: 0.25 });
    /// # Ok::<(), scatterbrain_theory::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`sample`](Self::sample), β negative or not finite, or a variance that overflows.
    pub fn logit_moments(&self, beta: f64, within: bool) -> Result<LogitMoments> {
        const FORMULA: &str = "the moments of a logit";
        self.check_beta(FORMULA, beta)?;
        let own = self.own(beta);
        let mean = if within { beta * (self.head_dim as f64).sqrt() } else { 0.0 };
        let common = if within { beta } else { 0.0 };
        let variance = finite(FORMULA, "a finite variance", own * own + common * common)?;
        Ok(LogitMoments { mean, variance })
    }

    /// The mean of an entry over draws of the process, v = (1 + Δ²)/√d, w = 1/√d within a cluster and 0 between two;
    /// infinite where β(v + w) ≥ 1, and ruled by rare large entries where β is near that end:
    ///
    /// ```math
    /// \mathbb E\, e^{\beta q \cdot k} = \bigl((1 - \beta w)^2 - \beta^2 v^2\bigr)^{-d/2}
    /// ```
    ///
    /// Derivation: E e^{βxy} of a pair of normals of variance v and covariance w is ((1 − βw)² − β²v²)^{−1/2}: given x,
    /// y is normal of mean wx/v and variance v − w²/v, which leaves the integral of a normal density in x with
    /// 1/v − 2βw/v − β²(v − w²/v) for 1/v.
    ///
    /// # Errors
    /// As [`sample`](Self::sample), or β negative or not finite.
    pub fn expected_entry(&self, beta: f64, within: bool) -> Result<f64> {
        self.check_beta("the expected entry of a clustered process", beta)?;
        let d = self.head_dim as f64;
        let variance = self.own(beta) / d.sqrt();
        let covariance = if within { beta / d.sqrt() } else { 0.0 };
        // (1 − βw − βv)(1 − βw + βv), the first of which decides.
        let factors = (1.0 - covariance - variance, 1.0 - covariance + variance);
        Ok(if factors.0 <= 0.0 { f64::INFINITY } else { (-0.5 * d * (factors.0.ln() + factors.1.ln())).exp() })
    }

    /// β(1 + Δ²), which is 0 at β = 0 even where Δ² overflows.
    fn own(&self, beta: f64) -> f64 {
        beta + beta * self.spread * self.spread
    }

    fn check_beta(&self, formula: &'static str, beta: f64) -> Result<()> {
        self.check(formula)?;
        suppose(formula, "a finite inverse temperature of at least 0", beta.is_finite() && beta >= 0.0, beta)
    }

    pub(crate) fn check(&self, formula: &'static str) -> Result<()> {
        let numbers = self.clusters.checked_mul(self.members).and_then(|n| n.checked_mul(self.head_dim));
        let fits = numbers.is_some_and(|n| (1..=1 << 30).contains(&n));
        suppose(formula, "1 to 2^30 numbers", fits, numbers.map_or(f64::INFINITY, |n| n as f64))?;
        suppose(formula, "a finite spread of at least 0", self.spread.is_finite() && self.spread >= 0.0, self.spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Check, Claim, Estimator, Verdict};

    const PROCESS: ClusteredProcess = ClusteredProcess { clusters: 2, members: 1, head_dim: 16, spread: 0.7 };

    /// One logit of a fresh sample.
    fn logit(draws: &mut Draws, within: bool) -> f64 {
        let rows = PROCESS.sample(draws.seed()).unwrap();
        let key = if within { &rows.key[..16] } else { &rows.key[16..] };
        rows.query[..16].iter().zip(key).map(|(q, k)| q * k).sum()
    }

    /// A false verdict has probability 10⁻⁴.
    #[test]
    fn moments_and_entries() {
        let (beta, check) = (0.25, Check { tolerance: 0.05, relative_width: 0.05, ..Check::default() });
        for within in [true, false] {
            let exact = PROCESS.logit_moments(beta, within).unwrap();
            let variance = |draws: &mut Draws| beta * logit(draws, within);
            let report = check.run(Claim::Equals(exact.variance), Estimator::Variance, variance).unwrap();
            assert_eq!(report.verdict, Verdict::Holds, "{report:?}");
            let exact = PROCESS.expected_entry(beta, within).unwrap();
            let entry = |draws: &mut Draws| (beta * logit(draws, within)).exp();
            let report = check.run(Claim::Equals(exact), Estimator::Mean, entry).unwrap();
            assert_eq!(report.verdict, Verdict::Holds, "{report:?}");
        }
        let mean = PROCESS.logit_moments(1.0, true).unwrap().mean;
        let report = check.run(Claim::Equals(mean), Estimator::Mean, |draws| logit(draws, true)).unwrap();
        assert_eq!(report.verdict, Verdict::Holds, "{report:?}");
    }

    #[test]
    fn ends() {
        // β(2 + Δ²)/√d = 1 at Δ = 0, d = 16, β = 2.
        let process = ClusteredProcess { spread: 0.0, ..PROCESS };
        assert!(process.expected_entry(2.0, true).unwrap().is_infinite());
        assert!(process.expected_entry(2.0, false).unwrap().is_finite());
        assert!(process.expected_entry(-1.0, true).is_err());
        // At β = 0 every logit is 0 and every entry 1, however wide the clusters.
        let wide = ClusteredProcess { spread: 1e155, ..PROCESS };
        for within in [true, false] {
            assert_eq!(wide.logit_moments(0.0, within).unwrap(), LogitMoments { mean: 0.0, variance: 0.0 });
            assert_eq!(wide.expected_entry(0.0, within).unwrap(), 1.0);
            assert!(
                wide.logit_moments(1.0, within).is_err() && wide.expected_entry(1.0, within).unwrap().is_infinite()
            );
        }
        assert!(ClusteredProcess { clusters: 0, ..PROCESS }.sample(1).is_err());
        assert!(ClusteredProcess { members: usize::MAX, ..PROCESS }.sample(1).is_err());
        assert!(ClusteredProcess { spread: f64::NAN, ..PROCESS }.sample(1).is_err());
    }
}
