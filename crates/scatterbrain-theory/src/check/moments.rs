//! Sums over trials.

use super::Draws;
use super::estimator::Term;
use super::interval::ROUNDING;

/// How many of the largest deviations the tail is read from.
const TAIL: usize = 128;

/// Where terms are and how large, from the first block: what makes sums of fourth powers fit into f64.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    pub(super) centre: f64,
    /// A power of two, so that dividing by it rounds nothing.
    pub(super) scale: f64,
}

impl Unit {
    /// What terms come in before anything is known of them.
    pub(super) const ONE: Self = Self { centre: 0.0, scale: 1.0 };
}

/// Count, mean and central power sums of terms, in units of a scale.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    pub(super) trials: u64,
    pub(super) mean: f64,
    /// Σ(y − ȳ)², Σ(y − ȳ)³, Σ(y − ȳ)⁴.
    pub(super) powers: [f64; 3],
    pub(super) lowest: f64,
    pub(super) highest: f64,
    /// The largest part of a term that may be rounding.
    pub(super) noise: f64,
    /// Whether a term has a weight other than 1.
    pub(super) weighted: bool,
    /// The largest |y − centre|, up to `TAIL` + 1 of them.
    tail: Vec<f64>,
}

impl Default for Moments {
    fn default() -> Self {
        let (lowest, highest) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { trials: 0, mean: 0.0, powers: [0.0; 3], lowest, highest, noise: 0.0, weighted: false, tail: Vec::new() }
    }
}

impl Moments {
    /// Moments of one block's terms in `unit`s, by two passes.
    pub(super) fn of_block(
        seed: u64,
        block: u64,
        trials: u64,
        unit: Unit,
        trial: &impl Fn(&mut Draws) -> Term,
    ) -> Self {
        let mut draws = Draws::of_block(seed, block);
        let mut moments = Self { trials, ..Self::default() };
        let mut terms = Vec::with_capacity(trials as usize);
        for _ in 0..trials {
            let term = trial(&mut draws);
            terms.push(term.value / unit.scale);
            moments.noise = moments.noise.max(term.noise / unit.scale);
            moments.weighted |= term.weighted;
        }
        if trials > 0 {
            moments.mean = terms.iter().sum::<f64>() / trials as f64;
        }
        for &y in &terms {
            let difference = y - moments.mean;
            let square = difference * difference;
            moments.powers[0] += square;
            moments.powers[1] += square * difference;
            moments.powers[2] += square * square;
            moments.lowest = moments.lowest.min(y);
            moments.highest = moments.highest.max(y);
        }
        moments.tail = terms;
        moments.tail.iter_mut().for_each(|y| *y = (*y - unit.centre).abs());
        keep_largest(&mut moments.tail);
        moments
    }

    /// The unit for all blocks, from the first block in [`Unit::ONE`]: its mean, and the power of two next below its
    /// largest |y|.
    pub(super) fn unit(&self) -> Unit {
        let largest = self.largest();
        if self.trials == 0 || self.is_broken() || !largest.is_normal() {
            return Unit::ONE;
        }
        let scale = largest.log2().floor().clamp(-1000.0, 1000.0).exp2();
        Unit { centre: self.mean / scale, scale }
    }

    /// Trials over their kurtosis, 0 where that is not known.
    pub(super) fn effective_trials(&self) -> f64 {
        let [second, _, fourth] = self.powers;
        let effective = second * (second / fourth);
        if effective.is_finite() { effective } else { 0.0 }
    }

    /// Hill's estimate of the tail index ξ of |y − centre|, P[|y − centre| > x] ~ x^(−1/ξ), from the `TAIL` largest
    /// (1 in 32 where there are fewer): the mean of ln(x_i/x_(k+1)).
    pub(super) fn tail_index(&self) -> f64 {
        let k = TAIL.min(self.trials as usize / 32);
        if k == 0 {
            return f64::INFINITY;
        }
        let mut tail = self.tail.clone();
        tail.sort_by(|a, b| b.total_cmp(a));
        let log = |x: f64| if x == tail[k] { 0.0 } else { (x / tail[k]).ln() };
        tail[..k].iter().map(|&x| log(x)).sum::<f64>() / k as f64
    }

    /// max |y|.
    pub(super) fn largest(&self) -> f64 {
        self.lowest.abs().max(self.highest.abs())
    }

    /// max |y − ȳ|.
    pub(super) fn spread(&self) -> f64 {
        (self.mean - self.lowest).max(self.highest - self.mean)
    }

    /// Whether a term was NaN or infinite.
    pub(super) fn is_broken(&self) -> bool {
        !self.mean.is_finite()
    }

    /// Whether all terms are equal, up to the rounding of their formula.
    pub(super) fn is_constant(&self) -> bool {
        self.spread() <= (ROUNDING * self.largest()).max(self.noise)
    }

    /// Whether all terms are 0, up to the rounding of samples.
    pub(super) fn is_zero(&self) -> bool {
        self.largest() <= self.noise
    }

    /// Moments of both (Pébay 2008, "Formulas for robust, one-pass parallel computation of covariances and
    /// arbitrary-order statistical moments").
    pub(super) fn merge(mut self, other: &Self) -> Self {
        if self.trials == 0 {
            return other.clone();
        }
        let (a, b) = (self.trials as f64, other.trials as f64);
        let n = a + b;
        let difference = other.mean - self.mean;
        let step = difference / n;
        let ([a2, a3, a4], [b2, b3, b4]) = (self.powers, other.powers);
        let second = a2 + b2 + difference * step * a * b;
        let third = a3 + b3 + difference * step * step * a * b * (a - b) + 3.0 * step * (a * b2 - b * a2);
        let fourth = a4
            + b4
            + difference * step.powi(3) * a * b * (a * a - a * b + b * b)
            + 6.0 * step * step * (a * a * b2 + b * b * a2)
            + 4.0 * step * (a * b3 - b * a3);
        self.tail.extend_from_slice(&other.tail);
        let mut tail = self.tail;
        keep_largest(&mut tail);
        Self {
            trials: self.trials + other.trials,
            mean: self.mean + step * b,
            powers: [second, third, fourth],
            lowest: self.lowest.min(other.lowest),
            highest: self.highest.max(other.highest),
            noise: self.noise.max(other.noise),
            weighted: self.weighted || other.weighted,
            tail,
        }
    }
}

/// Leaves the `TAIL` + 1 largest.
fn keep_largest(tail: &mut Vec<f64>) {
    if tail.len() > TAIL + 1 {
        tail.select_nth_unstable_by(TAIL, |a, b| b.total_cmp(a));
        tail.truncate(TAIL + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of unequal size merge to what one pass over all terms gives.
    #[test]
    fn merging_is_one_pass() {
        let trial = |draws: &mut Draws| Term { value: draws.standard_normal().exp(), noise: 0.0, weighted: false };
        let unit = Unit { centre: 0.5, scale: 2.0 };
        let sizes = [1, 7, 300, 2];
        let blocks = sizes.iter().enumerate().map(|(b, &n)| Moments::of_block(3, b as u64, n, unit, &trial));
        let merged = blocks.fold(Moments::default(), |a, b| a.merge(&b));
        let mut terms = Vec::new();
        for (b, &n) in sizes.iter().enumerate() {
            let mut draws = Draws::of_block(3, b as u64);
            terms.extend((0..n).map(|_| draws.standard_normal().exp() / 2.0));
        }
        let mean = terms.iter().sum::<f64>() / terms.len() as f64;
        assert!((merged.mean - mean).abs() < 1e-13);
        for (power, found) in (2..).zip(merged.powers) {
            let expected: f64 = terms.iter().map(|y| (y - mean).powi(power)).sum();
            assert!((found / expected - 1.0).abs() < 1e-11, "power {power}: {found}, expected {expected}");
        }
        assert_eq!(merged.highest, terms.iter().copied().fold(0.0, f64::max));
        assert_eq!(merged.trials, 310);

        let mut deviations: Vec<f64> = terms.iter().map(|y| (y - 0.5).abs()).collect();
        deviations.sort_by(|a, b| b.total_cmp(a));
        let hill = (0..9).map(|i| (deviations[i] / deviations[9]).ln()).sum::<f64>() / 9.0; // 310/32.
        assert!((merged.tail_index() - hill).abs() < 1e-12);
    }

    /// U^(−ξ) has tail index ξ; Hill's estimate has a standard error of ξ/√128.
    #[test]
    fn tail_index_of_a_power() {
        for index in [0.2, 0.5, 1.0] {
            let trial =
                |draws: &mut Draws| Term { value: (1.0 - draws.uniform()).powf(-index), noise: 0.0, weighted: false };
            let blocks = (0..20).map(|b| Moments::of_block(1, b, 4096, Unit::ONE, &trial));
            let found = blocks.fold(Moments::default(), |a, b| a.merge(&b)).tail_index();
            assert!((found / index - 1.0).abs() < 4.0 / 128f64.sqrt(), "{index}: {found}");
        }
    }
}
