//! What a check found.

use super::moments::Moments;
use super::{Check, Claim, Estimator, Interval, Verdict};
use serde::{Deserialize, Serialize};

/// What a [`Check`] found.
///
/// ```
/// use scatterbrain_theory::{Check, Claim, Doubt, Estimator, Verdict};
/// let check = Check { max_trials: 10_000, ..Check::default() };
/// // A Cauchy number has no mean: no verdict about one.
/// let report = check.run(Claim::Equals(0.1), Estimator::Mean, |draws| {
///     draws.standard_normal() / draws.standard_normal()
/// })?;
/// assert_eq!((report.verdict, report.doubt), (Verdict::Undecided, Some(Doubt::HeavyTail)));
/// assert_eq!(report.trials, 10_000);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// What was claimed.
    pub claim: Claim,
    /// Which quantity it is about.
    pub estimator: Estimator,
    /// How it was checked.
    pub check: Check,
    /// The empirical value; `None` without trials or where a sample is not finite.
    pub value: Option<f64>,
    /// The empirical standard error of the value; `None` as above.
    pub standard_error: Option<f64>,
    /// The confidence interval of the last stage; the whole line where nothing is known.
    pub interval: Interval,
    /// (value − prediction)/standard error; `None` where that is no finite number.
    pub z_score: Option<f64>,
    /// Trials drawn.
    pub trials: u64,
    /// Trials over their empirical kurtosis; `trials` where all terms are equal.
    pub effective_trials: f64,
    /// Hill's estimate of the tail index of the terms; `None` where it has none.
    pub tail_index: Option<f64>,
    /// What came of the claim.
    pub verdict: Verdict,
    /// Why it is undecided.
    pub doubt: Option<Doubt>,
}

/// Why a claim is undecided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Doubt {
    /// The interval reaches from inside the tolerance to outside of it.
    Wide,
    /// Fewer than [`Check::MIN_TRIALS`] trials.
    FewTrials,
    /// Fewer than [`Check::MIN_EFFECTIVE_TRIALS`] effective trials, or a tail index above [`Check::MAX_TAIL_INDEX`]:
    /// the interval is not to be trusted.
    HeavyTail,
    /// A sample, or its square, is NaN or infinite.
    NotFinite,
    /// No finite number of finite samples shows an infinite value.
    InfinitePrediction,
}

impl CheckReport {
    /// Judges moments of terms divided by `scale`; each side of the interval may fail with e^{−t}.
    pub(super) fn judge(
        check: &Check,
        claim: Claim,
        estimator: Estimator,
        moments: &Moments,
        scale: f64,
        t: f64,
    ) -> Self {
        let (n, prediction) = (moments.trials as f64, claim.prediction());
        let is_known = moments.trials > 0 && !moments.is_broken();
        let is_event = estimator == Estimator::Probability && !moments.weighted;
        let is_constant = is_known && moments.is_constant();
        let interval = match () {
            _ if !is_known => Interval::LINE,
            _ if is_event => Interval::chernoff((moments.mean * scale * n).round(), n, t),
            _ if is_constant => Interval::constant(moments, t, 1.0 / scale).scaled(scale),
            _ => Interval::bernstein(moments, t).scaled(scale),
        };
        let value = Some(moments.mean * scale).filter(|_| is_known);
        let standard_error = value.map(|_| (moments.powers[0] / n / (n - 1.0).max(1.0)).sqrt() * scale);
        let z_score = value.zip(standard_error).map(|(v, e)| (v - prediction) / e).filter(|z| z.is_finite());
        let mut report = Self {
            claim,
            estimator,
            check: *check,
            value,
            standard_error,
            interval,
            z_score,
            trials: moments.trials,
            effective_trials: if is_constant { n } else { moments.effective_trials() },
            tail_index: Some(if is_constant { 0.0 } else { moments.tail_index() }).filter(|x| x.is_finite()),
            verdict: Verdict::Undecided,
            doubt: None,
        };
        // No interval lies inside the tolerance of 0, which is what a variance of 0 is predicted to be: terms that are
        // all 0, but for rounding, agree with it.
        let is_exact = !is_event && is_known && moments.is_zero() && prediction == 0.0;
        match report.verdict(moments.is_broken(), is_event, is_exact) {
            Ok(verdict) => report.verdict = verdict,
            Err(doubt) => report.doubt = Some(doubt),
        }
        report
    }

    /// The verdict, or why there is none.
    fn verdict(&self, is_broken: bool, is_event: bool, is_exact: bool) -> Result<Verdict, Doubt> {
        let prediction = self.claim.prediction();
        let relative = if prediction.is_finite() { self.check.tolerance * prediction.abs() } else { 0.0 };
        let band = self.claim.band(relative + self.check.absolute_tolerance);
        match () {
            _ if is_broken => Err(Doubt::NotFinite),
            _ if self.trials == 0 => Err(Doubt::FewTrials),
            _ if self.claim.is_trivial() => Ok(Verdict::Holds),
            _ if prediction.is_infinite() => Err(Doubt::InfinitePrediction),
            _ if !is_event && self.trials < Check::MIN_TRIALS => Err(Doubt::FewTrials),
            _ if !is_event && self.is_heavy() => Err(Doubt::HeavyTail),
            _ if self.interval.outside(&band) => Ok(Verdict::Refuted),
            _ if self.interval.inside(&band) || is_exact => Ok(Verdict::Holds),
            _ => Err(Doubt::Wide),
        }
    }

    /// Whether empirical variances are not to be trusted.
    fn is_heavy(&self) -> bool {
        let has_light_tail = self.tail_index.is_some_and(|index| index <= Check::MAX_TAIL_INDEX);
        self.effective_trials < Check::MIN_EFFECTIVE_TRIALS || !has_light_tail
    }

    /// Whether the interval is as narrow as was asked for, and more trials would not help to a verdict.
    pub(super) fn is_finished(&self) -> bool {
        let is_settled = matches!(self.doubt, None | Some(Doubt::InfinitePrediction));
        let prediction = self.claim.prediction().abs();
        let size = self.value.map_or(0.0, f64::abs).max(if prediction.is_finite() { prediction } else { 0.0 });
        let width = (self.check.relative_width * size).max(self.check.absolute_tolerance);
        is_settled && self.interval.width() <= width
    }
}
