//! How far the output is likely to be from the exact one, by a sample of the keys off the support.

use crate::confidence::{half_width_clt, half_width_empirical_bernstein};
use crate::error::{Result, suppose};

/// A row's estimate before the sample is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowEstimate<'a> {
    /// Z_𝒮 + Ẑ_R: the denominator, in any scale that is also the residuals'.
    pub mass: f64,
    /// ô, `[d_v]`.
    pub output: &'a [f64],
}

/// N keys drawn uniformly, with replacement, from the M visible keys off the support. N must be fixed before drawing:
/// sampling until a bound looks good is not covered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResidualSample<'a> {
    /// M.
    pub population: usize,
    /// e = w_k − ŵ_k, w_k = e^{q·k} and ŵ_k the background's weight, `[N]`.
    pub residuals: &'a [f64],
    /// Their values, `[N, d_v]`, row-major.
    pub values: &'a [f64],
}

/// What makes intervals of the samples' means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Concentration<'a> {
    /// [`half_width_clt`]: asymptotic.
    CentralLimit,
    /// [`half_width_empirical_bernstein`]: for every N, given ranges that hold for *all* M keys.
    EmpiricalBernstein {
        /// (least, largest) residual. e^{q·k} lies between 0 and the box bound of
        /// [`far_field_bracket`](crate::far_field_bracket).
        residuals: (f64, f64),
        /// (least, largest) value of each column, `[d_v]`.
        values: &'a [(f64, f64)],
    },
}

/// Bounds that hold together with probability 1 − δ (about, under [`Concentration::CentralLimit`]).
#[derive(Debug, Clone, PartialEq)]
pub struct StatisticalCertificate {
    /// A bound on |o − ô|, infinite where the interval of Z reaches 0.
    pub bound: f64,
    /// Z_𝒮 + Ẑ_R + M ē: an unbiased estimate of Z; it may come out negative.
    pub corrected_mass: f64,
    /// ô + M ȳ/(corrected mass): the row with both sums corrected by the sample; where that mass is not positive, ô.
    pub corrected_output: Vec<f64>,
    /// A bound on |o − corrected output|.
    pub corrected_bound: f64,
}

/// With y = e (v − ô), bars for means of the sample, and half widths ε_0 of ē and ε_l of the columns of ȳ, each at
/// δ/(d_v + 1):
///
/// ```math
/// \begin{aligned}
/// |o - \hat o| &\le \frac{M \,\bigl\| |\bar y| + \varepsilon \bigr\|}{Z_{\text{low}}},
/// & Z_{\text{low}} &= Z_{\mathcal S} + \hat Z_R + M (\bar e - \varepsilon_0) \\
/// \hat o' &= \hat o + \frac{M \bar y}{Z'}, & Z' &= Z_{\mathcal S} + \hat Z_R + M \bar e \\
/// |o - \hat o'| &\le \frac{M \bigl(\|\varepsilon\| + |\hat o' - \hat o|\, \varepsilon_0\bigr)}{Z_{\text{low}}}
/// \end{aligned}
/// ```
///
/// Derivation: Z (o − ô) = Σ_{k∈R} (w_k − ŵ_k)(v_k − ô) = M y*, y* the mean of y over all M keys (see
/// [`deterministic_certificate`](crate::deterministic_certificate); no cluster is needed for that line), and
/// Z = Z_𝒮 + Ẑ_R + M e*. A uniformly drawn key has residual e with mean e* and y with mean y*, so ē and ȳ are
/// unbiased, and by the union bound all d_v + 1 intervals cover with probability 1 − δ. Then |y*| ≤ |ȳ| + ε column by
/// column and Z ≥ Z_low, the first line. For the third, o − ô′ = M (y*/Z − ȳ/Z′) =
/// M ((y* − ȳ) − (ȳ/Z′)(Z − Z′))/Z with |Z − Z′| ≤ M ε_0 and M ȳ/Z′ = ô′ − ô.
/// ô′ is the ratio of the unbiased estimates of numerator and denominator; a ratio of them is not unbiased.
///
/// ô must not depend on the sample.
///
/// # Errors
/// No keys off the support, fewer than two samples, lengths that do not fit together, numbers that are not finite, a
/// mass that is not positive, samples outside of the ranges, or δ outside (0, 1).
///
/// ```
/// use scatterbrain_theory::{Concentration, ResidualSample, RowEstimate, statistical_certificate};
/// // Residuals that are all ½ and values that are all 1: nothing is uncertain.
/// let row = RowEstimate { mass: 2.0, output: &[0.0] };
/// let sample = ResidualSample { population: 4, residuals: &[0.5; 8], values: &[1.0; 8] };
/// let certificate = statistical_certificate(row, sample, Concentration::CentralLimit, 0.05)?;
/// assert_eq!(certificate.corrected_output, [0.5]);
/// assert_eq!((certificate.bound, certificate.corrected_bound), (0.5, 0.0));
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn statistical_certificate(
    row: RowEstimate<'_>,
    sample: ResidualSample<'_>,
    concentration: Concentration<'_>,
    error_probability: f64,
) -> Result<StatisticalCertificate> {
    check(row, sample, concentration)?;
    let d_v = row.output.len();
    let delta = error_probability / (d_v + 1) as f64;
    let population = sample.population as f64;

    let (mean, half) = interval(sample.residuals, concentration.residual_range(), delta)?;
    let (mut shift, mut halves) = (Vec::with_capacity(d_v), Vec::with_capacity(d_v));
    for (l, output) in row.output.iter().enumerate() {
        let column = sample.values.iter().skip(l).step_by(d_v);
        let terms: Vec<f64> = sample.residuals.iter().zip(column).map(|(e, v)| e * (v - output)).collect();
        let (mean, half) = interval(&terms, concentration.term_range(l, *output), delta)?;
        shift.push(mean);
        halves.push(half);
    }

    let (corrected_mass, least) = (row.mass + population * mean, row.mass + population * (mean - half));
    let largest: Vec<f64> = shift.iter().zip(&halves).map(|(y, e)| y.abs() + e).collect();
    let factor = if corrected_mass > 0.0 { population / corrected_mass } else { 0.0 };
    let moved = factor * norm(&shift);
    let over = |error: f64| if least > 0.0 { error / least } else { f64::INFINITY };
    Ok(StatisticalCertificate {
        bound: over(population * norm(&largest)),
        corrected_mass,
        corrected_output: row.output.iter().zip(&shift).map(|(o, y)| o + factor * y).collect(),
        corrected_bound: over(population * (norm(&halves) + moved * half)),
    })
}

impl Concentration<'_> {
    fn residual_range(&self) -> Option<(f64, f64)> {
        match self {
            Concentration::CentralLimit => None,
            Concentration::EmpiricalBernstein { residuals, .. } => Some(*residuals),
        }
    }

    /// Of e (v − ô) in one column: the ends are products of ends.
    fn term_range(&self, column: usize, output: f64) -> Option<(f64, f64)> {
        let Concentration::EmpiricalBernstein { residuals: (low, high), values } = self else { return None };
        let (least, largest) = (values[column].0 - output, values[column].1 - output);
        let ends = [low * least, low * largest, high * least, high * largest];
        Some((ends.into_iter().fold(f64::INFINITY, f64::min), ends.into_iter().fold(f64::NEG_INFINITY, f64::max)))
    }
}

/// The mean of samples and the half width around it.
fn interval(samples: &[f64], range: Option<(f64, f64)>, delta: f64) -> Result<(f64, f64)> {
    let half = match range {
        None => half_width_clt(samples, delta)?,
        Some((low, high)) => {
            for x in samples {
                let slack = 1e-12 * (low.abs() + high.abs());
                let inside = *x >= low - slack && *x <= high + slack;
                suppose("the statistical certificate", "samples within their ranges", inside, *x)?;
            }
            half_width_empirical_bernstein(samples, high - low, delta)?
        }
    };
    Ok((samples.iter().sum::<f64>() / samples.len() as f64, half))
}

fn check(row: RowEstimate<'_>, sample: ResidualSample<'_>, concentration: Concentration<'_>) -> Result<()> {
    const FORMULA: &str = "the statistical certificate";
    suppose(FORMULA, "a positive finite mass", row.mass.is_finite() && row.mass > 0.0, row.mass)?;
    suppose(FORMULA, "a key off the support", sample.population >= 1, 0.0)?;
    let d_v = row.output.len();
    suppose(FORMULA, "at least one value column", d_v >= 1, 0.0)?;
    let fits = sample.residuals.len().checked_mul(d_v) == Some(sample.values.len());
    suppose(FORMULA, "a row of values for each residual", fits, sample.values.len() as f64)?;
    for x in row.output.iter().chain(sample.residuals).chain(sample.values) {
        suppose(FORMULA, "finite outputs, residuals and values", x.is_finite(), *x)?;
    }
    if let Concentration::EmpiricalBernstein { residuals, values } = concentration {
        suppose(FORMULA, "a range for each value column", values.len() == d_v, values.len() as f64)?;
        for (low, high) in values.iter().chain([&residuals]) {
            let ordered = low.is_finite() && high.is_finite() && low <= high;
            suppose(FORMULA, "finite ranges, least before largest", ordered, high - low)?;
        }
    }
    Ok(())
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Check, Claim, Draws, Estimator, Verdict};

    const DELTA: f64 = 0.1;
    const D_V: usize = 2;

    /// A row of 300 keys, ten of them on the support, with one background weight for all the others.
    struct Row {
        weights: Vec<f64>,
        values: Vec<f64>,
        background: f64,
        mass: f64,
        output: Vec<f64>,
        exact_mass: f64,
        exact: Vec<f64>,
    }

    const SUPPORT: usize = 10;
    const KEYS: usize = 300;

    fn row() -> Row {
        let mut draws = Draws::new(6);
        let weights: Vec<f64> = (0..KEYS).map(|_| (0.7 * draws.standard_normal()).exp()).collect();
        let values: Vec<f64> = (0..KEYS * D_V).map(|_| draws.uniform() - 0.3).collect();
        // Too small on purpose: ô is biased, and correcting it is worth while.
        let background = 0.8;
        let sums = |weight: &dyn Fn(usize) -> f64| {
            let mass: f64 = (0..KEYS).map(weight).sum();
            let column = |l: usize| (0..KEYS).map(|k| weight(k) * values[k * D_V + l]).sum::<f64>() / mass;
            (mass, (0..D_V).map(column).collect::<Vec<f64>>())
        };
        let (exact_mass, exact) = sums(&|k| weights[k]);
        let (mass, output) = sums(&|k| if k < SUPPORT { weights[k] } else { background });
        Row { background, mass, output, exact_mass, exact, weights, values }
    }

    impl Row {
        fn certificate(&self, draws: &mut Draws, n: usize, bernstein: bool) -> StatisticalCertificate {
            let off = KEYS - SUPPORT;
            let drawn: Vec<usize> = (0..n).map(|_| SUPPORT + (draws.uniform() * off as f64) as usize).collect();
            let residuals: Vec<f64> = drawn.iter().map(|&k| self.weights[k] - self.background).collect();
            let values: Vec<f64> = drawn.iter().flat_map(|k| &self.values[k * D_V..][..D_V]).copied().collect();
            let most = self.weights.iter().fold(0.0f64, |m, w| m.max(*w));
            let concentration = if bernstein {
                let residuals = (-self.background, most - self.background);
                Concentration::EmpiricalBernstein { residuals, values: &[(-0.3, 0.7); D_V] }
            } else {
                Concentration::CentralLimit
            };
            let sample = ResidualSample { population: off, residuals: &residuals, values: &values };
            let row = RowEstimate { mass: self.mass, output: &self.output };
            statistical_certificate(row, sample, concentration, DELTA).unwrap()
        }

        fn error(&self, output: &[f64]) -> f64 {
            norm(&self.exact.iter().zip(output).map(|(a, b)| a - b).collect::<Vec<_>>())
        }
    }

    fn quick() -> Check {
        Check { max_trials: 100_000, relative_width: 0.05, tolerance: 0.05, ..Check::default() }
    }

    /// At most δ of the samples give a bound that is exceeded, of either output; a false verdict has probability 10⁻⁴.
    /// And the bounds say something: with 2000 samples they are finite and below the spread of values.
    #[test]
    fn coverage() {
        let row = row();
        for (n, bernstein) in [(40, false), (200, false), (40, true), (400, true)] {
            let exceeded = |draws: &mut Draws| {
                let c = row.certificate(draws, n, bernstein);
                row.error(&row.output) > c.bound || row.error(&c.corrected_output) > c.corrected_bound
            };
            let report = quick().run(Claim::AtMost(DELTA), Estimator::Probability, exceeded).unwrap();
            assert_eq!(report.verdict, Verdict::Holds, "{n} {bernstein}: {report:?}");
        }
        for bernstein in [false, true] {
            let c = row.certificate(&mut Draws::new(1), 2000, bernstein);
            assert!(c.corrected_bound < 0.3 && c.bound < 0.4, "{bernstein}: {c:?}");
        }
    }

    /// A bound without its half widths is exceeded: the test above can fail.
    #[test]
    fn half_widths_are_needed() {
        let row = row();
        let exceeded = |draws: &mut Draws| {
            let c = row.certificate(draws, 1000, false);
            let moved = norm(&row.output.iter().zip(&c.corrected_output).map(|(a, b)| a - b).collect::<Vec<_>>());
            row.error(&row.output) > moved
        };
        let report = quick().run(Claim::AtMost(DELTA), Estimator::Probability, exceeded).unwrap();
        assert_eq!(report.verdict, Verdict::Refuted, "{report:?}");
    }

    #[test]
    fn the_corrected_mass_is_unbiased() {
        let row = row();
        let mass = |draws: &mut Draws| row.certificate(draws, 20, false).corrected_mass;
        let check = Check { relative_width: 0.01, tolerance: 0.01, ..quick() };
        let verdict = |mass_claimed| check.run(Claim::Equals(mass_claimed), Estimator::Mean, mass).unwrap().verdict;
        assert_eq!(verdict(row.exact_mass), Verdict::Holds);
        assert_eq!(verdict(row.mass), Verdict::Refuted);
    }

    #[test]
    fn ends_and_refusals() {
        let row = RowEstimate { mass: 1.0, output: &[0.0] };
        let sample = ResidualSample { population: 100, residuals: &[-1.0, -0.5, -1.0], values: &[1.0, 1.0, -1.0] };
        let clt = Concentration::CentralLimit;
        // A denominator that may vanish bounds nothing.
        let c = statistical_certificate(row, sample, clt, 0.1).unwrap();
        assert!(c.bound.is_infinite() && c.corrected_mass < 0.0 && c.corrected_output == [0.0]);
        assert!(statistical_certificate(RowEstimate { mass: 0.0, ..row }, sample, clt, 0.1).is_err());
        assert!(statistical_certificate(row, ResidualSample { population: 0, ..sample }, clt, 0.1).is_err());
        assert!(statistical_certificate(row, ResidualSample { values: &[1.0], ..sample }, clt, 0.1).is_err());
        let narrow = Concentration::EmpiricalBernstein { residuals: (-0.9, 0.0), values: &[(-1.0, 1.0)] };
        assert!(statistical_certificate(row, sample, narrow, 0.1).is_err());
        let missing = Concentration::EmpiricalBernstein { residuals: (-1.0, 0.0), values: &[] };
        assert!(statistical_certificate(row, sample, missing, 0.1).is_err());
    }
}
