//! Exponential tilting of Gaussian directions.

use super::{Draws, Sample};
use crate::error::{Result, suppose};

/// Draws ω from N(θ, I) in place of N(0, I), with the likelihood ratio w = exp(−θ·ω + |θ|²/2) that makes up for it:
/// E_0 f(ω) = E_θ w(ω) f(ω).
///
/// The second moment of exp(ω·z) rests on ω near 2z, where N(0, I) hardly ever goes: at |z|² = 4 its terms have a
/// kurtosis of about e^{64}. With θ = 2z they are w e^{2ω·z} = e^{2|z|²}, all equal: the moment is computed, not
/// estimated, and a wrong prediction is refuted. The mean E e^{ω·z} is computed so with θ = z.
///
/// Derivation: the ratio of the densities of N(0, I) and N(θ, I) is exp(−|ω|²/2 + |ω − θ|²/2).
///
/// ```
/// use scatterbrain_theory::{Check, Claim, Estimator, Pair, Tilt, Verdict, variance_positive};
/// let (q, k) = ([1.0, 0.0], [1.0, 0.0]); // |q + k|² = 4.
/// let pair = Pair::of(&q, &k)?;
/// let second_moment = variance_positive(pair, 1)? + pair.entry().powi(2);
/// let tilt = Tilt::new(vec![4.0, 0.0])?; // 2(q + k)
/// let feature = |draws: &mut _| {
///     let tilted = tilt.draw(draws);
///     tilted.sample((tilted.omega[0] * (q[0] + k[0]) - 1.0).exp())
/// };
/// let check = Check::default();
/// let right = check.run(Claim::Equals(second_moment), Estimator::SecondMoment, feature)?;
/// let wrong = check.run(Claim::Equals(1.1 * second_moment), Estimator::SecondMoment, feature)?;
/// assert_eq!((right.verdict, wrong.verdict), (Verdict::Holds, Verdict::Refuted));
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Tilt {
    theta: Vec<f64>,
    half_square: f64,
}

/// A tilted direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Tilted {
    /// ω ~ N(θ, I).
    pub omega: Vec<f64>,
    /// ln w = −θ·ω + |θ|²/2.
    pub log_weight: f64,
}

impl Tilt {
    /// A tilt by θ, whose length is the dimension of ω.
    ///
    /// # Errors
    /// A θ without a finite squared norm.
    pub fn new(theta: Vec<f64>) -> Result<Self> {
        let half_square = 0.5 * theta.iter().map(|x| x * x).sum::<f64>();
        suppose("a tilt", "a finite squared norm", half_square.is_finite(), half_square)?;
        Ok(Self { theta, half_square })
    }

    /// One direction.
    pub fn draw(&self, draws: &mut Draws) -> Tilted {
        let omega: Vec<f64> = self.theta.iter().map(|x| x + draws.standard_normal()).collect();
        let dot: f64 = self.theta.iter().zip(&omega).map(|(a, b)| a * b).sum();
        Tilted { omega, log_weight: self.half_square - dot }
    }
}

impl Tilted {
    /// The sample `value`, a function of ω, with the weight of this draw.
    pub fn sample(&self, value: f64) -> Sample {
        Sample { value, log_weight: self.log_weight }
    }
}
