//! Monte Carlo that can refute a formula.

mod claim;
mod draws;
mod estimator;
mod interval;
mod moments;
mod number;
mod report;
mod tilt;

pub use claim::{Claim, Verdict};
pub use draws::Draws;
pub use estimator::{Estimator, Sample};
pub use interval::Interval;
pub use report::{CheckReport, Doubt};
pub use tilt::{Tilt, Tilted};

use crate::error::{Result, suppose};
use moments::{Moments, Unit};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Trials that share one stream of random numbers.
const BLOCK: u64 = 4096;

/// Trials of the first stage; each stage doubles what has been drawn.
const FIRST_STAGE: u64 = 2 * BLOCK;

/// Blocks that are in memory at once.
const WAVE: u64 = 256;

/// Compares what a formula predicts with what a sampler gives.
///
/// [`Check::run`] draws in stages, each doubling the number of trials, until the confidence interval is narrow enough
/// and tells, or `max_trials` are drawn, and judges the last interval. What is judged is the claim *up to a slack* of
/// `tolerance`·|prediction| + `absolute_tolerance`. A claim that something random is 0, as a bias, needs the second:
/// no interval lies inside no slack.
///
/// | claim | holds where the interval | refuted where the interval |
/// |---|---|---|
/// | [`Claim::Equals`] p | lies inside p ± slack | lies outside of it altogether |
/// | [`Claim::AtMost`] p | ends at or below p + slack | begins above it |
/// | [`Claim::AtLeast`] p | begins at or above p − slack | ends below it |
///
/// All else is [`Verdict::Undecided`], with the reason in [`CheckReport::doubt`].
///
/// # The interval
/// A trial gives one term y, independent of all others, whose mean is what is estimated (see [`Estimator`]).
/// With N trials, empirical mean ȳ, variance V, t = ln(2/δ) and R = max |y − ȳ|, the interval is
///
/// ```math
/// \bar y \pm \Bigl(\sqrt{\frac{2 V t}{N}} + \frac{R t}{3 N}\Bigr)
/// ```
///
/// which is Bernstein's inequality with V and R taken from the samples.
/// Looking again after every stage would inflate the error: δ = `error_probability`/K, where K, the number of stages
/// that reach `max_trials`, is fixed beforehand; by the union bound all intervals of a run cover at once, so it does
/// not matter at which the run stops.
/// Under Bernstein's inequality with the true V and R a false verdict (refuted though the claim is true, or holds
/// though it is false) has at most `error_probability`. With estimated ones that is a rule, not a theorem;
/// the tests of this module measure it.
/// An [`Estimator::Probability`] has a theorem: all p with N·KL(p̂‖p) ≤ t (Chernoff's bound inverted), which covers for
/// every N and every p, 0 and 1 included.
///
/// # Heavy tails
/// A variance that rests on a handful of trials says nothing of the error of the mean. Two figures tell:
///
/// - the effective number of trials N_eff = (Σ(y − ȳ)²)²/Σ(y − ȳ)⁴, which is N over the empirical kurtosis, so that the
///   relative error of V is about N_eff^(−1/2);
/// - the tail index ξ, P[|y − c| > x] ~ x^(−1/ξ) for the largest terms, by Hill's estimate. The variance is finite for
///   ξ < ½. That of log-normal terms always is, but it is seen only where ξ < ½ at the largest terms drawn:
///   with y = e^{sω} the mass of E y² lies about ω = 2s, and ξ = s/ω there.
///
/// Below [`Check::MIN_EFFECTIVE_TRIALS`] or above [`Check::MAX_TAIL_INDEX`] the only verdict is `Undecided`
/// ([`Doubt::HeavyTail`]). Both limits are measured: no false verdict in 36 000 runs, of 16 384 to 4·10⁶
/// trials, on means, second moments and variances of one positive feature with |q + k|² from ½ to 3, where without the
/// tail index up to 1 in 80 was false.
/// Positive features need it: one has kurtosis about e^{4|q + k|²} ([`crate::kurtosis_positive()`]), 10⁷ at
/// |q + k|² = 4, and the terms of its second moment about e^{16|q + k|²}: with 4·10⁶ trials their variance is checked
/// up to |q + k|² about 1, their mean up to 4.
/// Where ω is Gaussian, [`Tilt`] moves the draws to where the mass is.
///
/// Terms that are all equal (zero variance) are taken for a constant, with an interval that allows for an event never
/// seen: the constant ± its size (1 for 0)·t/N, and all trials are drawn. Terms that are all 0, but for events, agree
/// with a prediction of 0.
/// Samples are taken to be right to 10⁻¹⁰ of themselves: terms that differ by less are equal, an error or a
/// standard deviation that is smaller is 0, and the interval is widened by as much.
/// No test from samples can see a rare event that was never drawn and resembles nothing that was; that there is none is
/// a hypothesis.
///
/// # Randomness
/// Blocks of 4096 trials, each with its own stream from the seed and the index of the block, merged in order:
/// the same bits for any number of threads.
///
/// ```
/// use scatterbrain_theory::{Check, Claim, Estimator, Verdict};
/// // A bound of one's own: the fourth power of a normal number has a mean of at most 3.
/// let check = Check { seed: 1, ..Check::default() };
/// let report = check.run(Claim::AtMost(3.0), Estimator::Mean, |draws| draws.standard_normal().powi(4))?;
/// assert_eq!(report.verdict, Verdict::Holds);
/// // One that is wrong.
/// let report = check.run(Claim::AtMost(2.8), Estimator::Mean, |draws| draws.standard_normal().powi(4))?;
/// assert_eq!(report.verdict, Verdict::Refuted);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Where random numbers come from.
    pub seed: u64,
    /// The limit of trials.
    pub max_trials: u64,
    /// The whole width of the interval that is asked for, as a share of the larger of |value| and |prediction|.
    #[serde(with = "number")]
    pub relative_width: f64,
    /// By what share of the prediction the value may differ from the claim.
    pub tolerance: f64,
    /// By how much more it may differ, in its own units.
    #[serde(default)]
    pub absolute_tolerance: f64,
    /// Probability of a false verdict, over all stages of a run.
    pub error_probability: f64,
}

impl Default for Check {
    /// Seed 0, 4·10⁶ trials, width and tolerance 0.03, no absolute tolerance, error probability 10⁻⁴.
    ///
    /// With a width of at most the tolerance, an interval that is narrow enough and covers the prediction lies inside
    /// the tolerance: a claim that is exactly right comes out as `Holds`, not `Undecided`.
    fn default() -> Self {
        Self {
            seed: 0,
            max_trials: 4_000_000,
            relative_width: 0.03,
            tolerance: 0.03,
            absolute_tolerance: 0.0,
            error_probability: 1e-4,
        }
    }
}

impl Check {
    /// Fewest trials for a verdict from empirical variances.
    pub const MIN_TRIALS: u64 = 1000;

    /// Fewest effective trials for a verdict from empirical variances.
    pub const MIN_EFFECTIVE_TRIALS: f64 = 12.0;

    /// Largest tail index for a verdict from empirical variances.
    pub const MAX_TAIL_INDEX: f64 = 0.6;

    /// Draws trials of `sampler` and judges `claim` about what `estimator` makes of them.
    ///
    /// The sampler gives a number, a `bool` for an event, or a weighted [`Sample`]; all that is random in it has to
    /// come from its [`Draws`].
    /// Samples that are NaN or infinite end the run, `Undecided`.
    /// Cost: as many calls of the sampler as there are trials (twice that for [`Estimator::Variance`]), on all threads.
    ///
    /// # Errors
    /// A prediction that is NaN, `relative_width` not above 0, negative or infinite tolerances, an error probability
    /// outside (0, 1), or an estimator whose number is not finite.
    ///
    /// ```
    /// use scatterbrain_theory::{Check, Claim, Estimator, Pair, Verdict, variance_positive};
    /// // Three directions, averaged: the variance of three independent positive features.
    /// let (q, k) = ([0.5, 0.0], [0.0, 0.5]);
    /// let pair = Pair::of(&q, &k)?;
    /// let predicted = variance_positive(pair, 3)?;
    /// let check = Check { relative_width: 0.1, tolerance: 0.1, ..Check::default() };
    /// let report = check.run(Claim::Equals(predicted), Estimator::Variance, |draws| {
    ///     let feature = |w: [f64; 2]| (w[0] * (q[0] + k[0]) + w[1] * (q[1] + k[1]) - 0.25).exp();
    ///     (0..3).map(|_| feature(draws.normals())).sum::<f64>() / 3.0
    /// })?;
    /// assert_eq!(report.verdict, Verdict::Holds);
    /// assert!(report.interval.contains(predicted));
    /// # Ok::<(), scatterbrain_theory::Error>(())
    /// ```
    pub fn run<S: Into<Sample>>(
        &self,
        claim: Claim,
        estimator: Estimator,
        sampler: impl Fn(&mut Draws) -> S + Sync,
    ) -> Result<CheckReport> {
        self.suppose(claim, estimator)?;
        let trial = |draws: &mut Draws| estimator.term(|| sampler(draws).into());
        let stages = stages(self.max_trials);
        let t = (2.0 * stages.len() as f64 / self.error_probability).ln();
        let unit = Moments::of_block(self.seed, 0, self.max_trials.min(BLOCK), Unit::ONE, &trial).unit();
        let mut moments = Moments::default();
        let mut report = CheckReport::judge(self, claim, estimator, &moments, unit.scale, t);
        for target in stages {
            moments = self.extend(moments, target, unit, &trial);
            report = CheckReport::judge(self, claim, estimator, &moments, unit.scale, t);
            // A constant so far may be a rare event not yet seen.
            if (report.is_finished() && !moments.is_constant()) || moments.is_broken() {
                break;
            }
        }
        Ok(report)
    }

    fn suppose(&self, claim: Claim, estimator: Estimator) -> Result<()> {
        const CHECK: &str = "a check";
        let prediction = claim.prediction();
        suppose(CHECK, "a prediction that is a number", !prediction.is_nan(), prediction)?;
        suppose(CHECK, "a relative width above 0", self.relative_width > 0.0, self.relative_width)?;
        for tolerance in [self.tolerance, self.absolute_tolerance] {
            suppose(CHECK, "a finite tolerance of at least 0", tolerance.is_finite() && tolerance >= 0.0, tolerance)?;
        }
        let error = self.error_probability;
        suppose(CHECK, "an error probability in (0, 1)", error > 0.0 && error < 1.0, error)?;
        if let Estimator::SquaredError { of } = estimator {
            suppose(CHECK, "an error about a finite number", of.is_finite(), of)?;
        }
        Ok(())
    }

    /// `moments` with trials added until there are `target`.
    fn extend(
        &self,
        mut moments: Moments,
        target: u64,
        unit: Unit,
        trial: &(impl Fn(&mut Draws) -> estimator::Term + Sync),
    ) -> Moments {
        let last = target.div_ceil(BLOCK);
        let mut first = moments.trials.div_ceil(BLOCK);
        while first < last && !moments.is_broken() {
            let end = last.min(first + WAVE);
            let of_block = |block: u64| {
                let trials = BLOCK.min(target - block * BLOCK);
                Moments::of_block(self.seed, block, trials, unit, trial)
            };
            let blocks: Vec<Moments> = (first..end).into_par_iter().map(of_block).collect();
            moments = blocks.iter().fold(moments, Moments::merge);
            first = end;
        }
        moments
    }
}

/// Numbers of trials after each stage.
fn stages(max_trials: u64) -> Vec<u64> {
    let doubled = std::iter::successors(Some(FIRST_STAGE), |n| n.checked_mul(2));
    let mut stages: Vec<u64> = doubled.take_while(|n| *n < max_trials).collect();
    stages.push(max_trials);
    stages
}

#[cfg(test)]
mod tests;
