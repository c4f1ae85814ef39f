//! Sums over trials.

use super::Draws;
use super::estimator::Term;

/// Count, mean and central power sums of terms, in units of a scale.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    pub(super) trials: u64,
    pub(super) mean: f64,
    /// Σ(y − ȳ)², Σ(y − ȳ)³, Σ(y − ȳ)⁴.
    pub(super) powers: [f64; 3],
    pub(super) lowest: f64,
    pub(super) highest: f64,
    /// Whether a term has a weight other than 1.
    pub(super) weighted: bool,
}

impl Default for Moments {
    fn default() -> Self {
        let (lowest, highest) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { trials: 0, mean: 0.0, powers: [0.0; 3], lowest, highest, weighted: false }
    }
}

impl Moments {
    /// Moments of one block's terms over `scale`, by two passes.
    pub(super) fn of_block(
        seed: u64,
        block: u64,
        trials: u64,
        scale: f64,
        trial: &impl Fn(&mut Draws) -> Term,
    ) -> Self {
        let mut draws = Draws::of_block(seed, block);
        let mut moments = Self { trials, ..Self::default() };
        let mut terms = Vec::with_capacity(trials as usize);
        for _ in 0..trials {
            let term = trial(&mut draws);
            terms.push(term.value / scale);
            moments.weighted |= term.weighted;
        }
        if trials > 0 {
            moments.mean = terms.iter().sum::<f64>() / trials as f64;
        }
        for y in terms {
            let difference = y - moments.mean;
            let square = difference * difference;
            moments.powers[0] += square;
            moments.powers[1] += square * difference;
            moments.powers[2] += square * square;
            moments.lowest = moments.lowest.min(y);
            moments.highest = moments.highest.max(y);
        }
        moments
    }

    /// The power of two next below the largest |y|, by which terms are divided lest their fourth powers overflow;
    /// 1 where there is none.
    pub(super) fn scale(&self) -> f64 {
        let largest = self.largest();
        let is_normal = self.trials > 0 && largest.is_normal();
        if is_normal { largest.log2().floor().clamp(-1000.0, 1000.0).exp2() } else { 1.0 }
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

    /// Moments of both (Pébay 2008, "Formulas for robust, one-pass parallel computation of covariances and
    /// arbitrary-order statistical moments").
    pub(super) fn merge(self, other: &Self) -> Self {
        if self.trials == 0 {
            return *other;
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
        Self {
            trials: self.trials + other.trials,
            mean: self.mean + step * b,
            powers: [second, third, fourth],
            lowest: self.lowest.min(other.lowest),
            highest: self.highest.max(other.highest),
            weighted: self.weighted || other.weighted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of unequal size merge to what one pass over all terms gives.
    #[test]
    fn merging_is_one_pass() {
        let trial = |draws: &mut Draws| Term { value: draws.standard_normal().exp(), weighted: false };
        let sizes = [1, 7, 300, 2];
        let blocks = sizes.iter().enumerate().map(|(b, &n)| Moments::of_block(3, b as u64, n, 2.0, &trial));
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
    }
}
