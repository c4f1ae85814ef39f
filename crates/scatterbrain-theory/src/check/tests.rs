use super::*;

fn normal(draws: &mut Draws) -> f64 {
    draws.standard_normal()
}

/// exp(ω·z) with |z| = `length`.
fn positive(length: f64) -> impl Fn(&mut Draws) -> f64 + Sync {
    move |draws| (length * draws.standard_normal()).exp()
}

/// A right claim and two wrong ones about the variance of exp(ω·z).
#[test]
fn tells_right_from_wrong() {
    for square in [0.25f64, 0.5, 1.0] {
        let predicted = square.exp() * square.exp_m1();
        let run = |p| Check::default().run(Claim::Equals(p), Estimator::Variance, positive(square.sqrt())).unwrap();
        let right = run(predicted);
        assert_eq!(right.verdict, Verdict::Holds, "{right:?}");
        assert!(right.interval.contains(predicted) && right.z_score.unwrap().abs() < 4.0);
        assert_eq!(run(1.1 * predicted).verdict, Verdict::Refuted, "{square}");
        assert_eq!(run(predicted / 1.1).verdict, Verdict::Refuted, "{square}");
    }
}

/// Every map at |q + k|² = |q − k|² = 1, at the default limit: right, and wrong by a factor of 1.1.
#[test]
fn refutes_a_tenth_for_every_map() {
    use crate::{Pair, variance_hyperbolic, variance_oprf, variance_positive, variance_trigonometric};
    let pair = Pair { query_square: 0.5, key_square: 0.5, dot: 0.0 };
    let verdicts = |variance: f64, f: &(dyn Fn(&[f64; 4]) -> f64 + Sync)| {
        for seed in 0..3 {
            let check = Check { seed, ..Check::default() };
            let run = |p| check.run(Claim::Equals(p), Estimator::Variance, |d| f(&d.normals())).unwrap().verdict;
            assert_ne!(run(variance), Verdict::Refuted);
            assert_eq!(run(1.1 * variance), Verdict::Refuted);
            assert_eq!(run(variance / 1.1), Verdict::Refuted);
        }
    };
    verdicts(variance_positive(pair, 1).unwrap(), &|w| (w[0] - 0.5).exp());
    verdicts(variance_hyperbolic(pair, 2).unwrap(), &|w| (-0.5f64).exp() * w[0].cosh());
    verdicts(variance_trigonometric(pair, 1).unwrap(), &|w| 0.5f64.exp() * w[0].cos());
    let a = -0.05f64;
    verdicts(variance_oprf(pair, a, 4, 1).unwrap(), &|w| {
        let square: f64 = w.iter().map(|x| x * x).sum();
        (1.0 - 4.0 * a).powi(2) * (2.0 * a * square + (1.0 - 4.0 * a).sqrt() * w[0] - 0.5).exp()
    });
}

#[test]
fn bounds() {
    let run = |claim| Check::default().run(claim, Estimator::SecondMoment, normal).unwrap().verdict;
    assert_eq!(run(Claim::AtMost(1.0)), Verdict::Holds); // Tight: by the tolerance.
    assert_eq!(run(Claim::AtMost(5.0)), Verdict::Holds);
    assert_eq!(run(Claim::AtMost(0.9)), Verdict::Refuted);
    assert_eq!(run(Claim::AtLeast(0.2)), Verdict::Holds);
    assert_eq!(run(Claim::AtLeast(1.1)), Verdict::Refuted);
    assert_eq!(run(Claim::AtLeast(-3.0)), Verdict::Holds);
}

/// 1000 seeds at an error probability of 0.05. A false verdict may come at most 50 times in the mean, 78 at four
/// standard deviations. The score is N(0, 1): beyond 1.96 in 50 ± 4·7 of 1000.
#[test]
fn false_verdicts_are_rare() {
    let (mut refuted, mut held, mut beyond) = (0, 0, 0);
    for seed in 0..1000 {
        // Without tolerance a right claim can only come out refuted or undecided.
        let strict = Check { seed, max_trials: 16_384, tolerance: 0.0, error_probability: 0.05, ..Check::default() };
        let run = |check: &Check, p| check.run(Claim::Equals(p), Estimator::SecondMoment, normal).unwrap();
        let report = run(&strict, 1.0);
        refuted += usize::from(report.verdict == Verdict::Refuted);
        beyond += usize::from(report.z_score.unwrap().abs() > 1.96);
        // The value is just outside of the tolerance.
        let loose = Check { tolerance: 0.05, ..strict };
        held += usize::from(run(&loose, 1.0 / 1.050_001).verdict == Verdict::Holds);
    }
    assert!(refuted <= 78 && held <= 78, "{refuted} refuted, {held} held");
    assert!((22..=78).contains(&beyond), "{beyond}");
}

/// Where the terms are heavy-tailed, no verdict is false and the heaviest are not judged: 200 seeds each.
#[test]
fn heavy_tails_are_not_judged() {
    for square in [1.0f64, 2.0, 3.0, 4.0, 6.0, 16.0] {
        let second = (2.0 * square).exp();
        for seed in 0..200 {
            let check = Check { seed, max_trials: 65_536, ..Check::default() };
            let run = |p| check.run(Claim::Equals(p), Estimator::SecondMoment, positive(square.sqrt())).unwrap();
            let right = run(second);
            assert_ne!(right.verdict, Verdict::Refuted, "|z|² = {square}, seed {seed}: {right:?}");
            // 10 % too much is too little to be seen as right, and the empirical value is much too small.
            assert_ne!(run(1.1 * second).verdict, Verdict::Holds, "|z|² = {square}, seed {seed}");
            if square >= 4.0 {
                assert_eq!(right.doubt, Some(Doubt::HeavyTail), "|z|² = {square}, seed {seed}: {right:?}");
            }
        }
    }
}

/// At the default limit too: variance at |z|² = 4, right, and wrong by 1.1 and by as much as samples miss.
#[test]
fn heavy_tails_with_many_trials() {
    for seed in 0..2 {
        let check = Check { seed, ..Check::default() };
        let variance = 4f64.exp() * 4f64.exp_m1();
        for factor in [1.0, 1.1, 0.85, 0.5] {
            let report = check.run(Claim::Equals(factor * variance), Estimator::Variance, positive(2.0)).unwrap();
            assert_eq!(report.doubt, Some(Doubt::HeavyTail), "{report:?}");
        }
    }
}

/// A spike that a few trials show.
#[test]
fn spikes_are_not_judged() {
    let spiky = |draws: &mut Draws| if draws.uniform() < 2e-5 { 1e4 } else { draws.standard_normal() };
    let check = Check { max_trials: 200_000, ..Check::default() };
    let report = check.run(Claim::Equals(0.2), Estimator::Mean, spiky).unwrap();
    assert_eq!(report.doubt, Some(Doubt::HeavyTail));
}

/// Tilted, the second moment of exp(ω·z) at |z|² = 4 is a constant, right or wrong; half as much tilt leaves a
/// variance, and gives the same.
#[test]
fn tilting_decides() {
    let z = [2.0, 0.0, 0.0];
    for share in [2.0, 1.6] {
        let tilt = Tilt::new(z.map(|x| share * x).to_vec()).unwrap();
        let sampler = |draws: &mut Draws| {
            let tilted = tilt.draw(draws);
            tilted.sample((tilted.omega[0] * z[0]).exp())
        };
        let run = |p| Check::default().run(Claim::Equals(p), Estimator::SecondMoment, sampler).unwrap().verdict;
        assert_eq!(run(8f64.exp()), Verdict::Holds, "{share}");
        assert_eq!(run(1.1 * 8f64.exp()), Verdict::Refuted, "{share}");
        assert_eq!(run(0.96 * 8f64.exp()), Verdict::Refuted, "{share}");
    }
    assert!(Tilt::new(vec![f64::INFINITY]).is_err() && Tilt::new(vec![f64::NAN]).is_err());
}

/// Weights keep every estimator where it was: N(0, 1) drawn from N(½, 1).
#[test]
fn weights() {
    let tilt = Tilt::new(vec![0.5]).unwrap();
    let tilted = |draws: &mut Draws| {
        let tilted = tilt.draw(draws);
        tilted.sample(1.0 + tilted.omega[0])
    };
    let event = |draws: &mut Draws| {
        let tilted = tilt.draw(draws);
        tilted.sample(f64::from(u8::from(tilted.omega[0] > 0.0)))
    };
    let check = Check::default();
    for (estimator, value) in [
        (Estimator::Mean, 1.0),
        (Estimator::Variance, 1.0),
        (Estimator::SecondMoment, 2.0),
        (Estimator::SquaredError { of: -1.0 }, 5.0),
    ] {
        let report = check.run(Claim::Equals(value), estimator, tilted).unwrap();
        assert_eq!(report.verdict, Verdict::Holds, "{report:?}");
    }
    let report = check.run(Claim::Equals(0.5), Estimator::Probability, event).unwrap();
    assert_eq!(report.verdict, Verdict::Holds, "{report:?}");
}

#[test]
fn probabilities() {
    let run = |claim, p: f64, max_trials| {
        let check = Check { max_trials, ..Check::default() };
        check.run(claim, Estimator::Probability, move |draws| draws.uniform() < p).unwrap()
    };
    for p in [1.0 / 64.0, 0.5, 1.0 - 1.0 / 64.0] {
        assert_eq!(run(Claim::Equals(p), p, 16_000_000).verdict, Verdict::Holds);
        assert_eq!(run(Claim::Equals(1.1 * p), p, 4_000_000).verdict, Verdict::Refuted);
        assert_eq!(run(Claim::AtMost(0.9 * p), p, 4_000_000).verdict, Verdict::Refuted);
    }
    // Never and always, in ten thousand trials: what is nearer to the end than 1/N is not judged.
    for (p, near, far) in [(0.0, 1e-6, 0.01), (1.0, 1.0 - 1e-6, 0.9)] {
        assert_ne!(run(Claim::Equals(near), p, 10_000).verdict, Verdict::Refuted);
        assert_eq!(run(Claim::Equals(far), p, 10_000).verdict, Verdict::Refuted);
    }
    assert_eq!(run(Claim::AtMost(1e-9), 0.0, 10_000).verdict, Verdict::Undecided);
    // The theorem behind it needs no number of trials.
    assert_eq!(run(Claim::AtMost(0.9), 0.0, 20).verdict, Verdict::Holds);
}

#[test]
fn constants() {
    let run = |claim, estimator, c: f64, max_trials| {
        Check { max_trials, ..Check::default() }.run(claim, estimator, move |_| c).unwrap()
    };
    let report = run(Claim::Equals(2.0), Estimator::Mean, 2.0, 10_000);
    assert_eq!((report.verdict, report.value, report.z_score), (Verdict::Holds, Some(2.0), None));
    assert_eq!(report.standard_error, Some(0.0));
    assert_eq!(run(Claim::Equals(2.2), Estimator::Mean, 2.0, 10_000).verdict, Verdict::Refuted);
    assert_eq!(run(Claim::Equals(0.0), Estimator::Variance, 2.0, 10_000).verdict, Verdict::Holds);
    assert_eq!(run(Claim::Equals(0.1), Estimator::Variance, 2.0, 10_000).verdict, Verdict::Refuted);
    assert_eq!(run(Claim::Equals(0.0), Estimator::Mean, 0.0, 10_000).verdict, Verdict::Holds);
    // An event of probability 10⁻⁹ would not have shown.
    assert_eq!(run(Claim::Equals(1e-9), Estimator::Mean, 0.0, 10_000).verdict, Verdict::Undecided);
    assert_eq!(run(Claim::AtMost(1e-9), Estimator::Mean, 0.0, 10_000).verdict, Verdict::Undecided);
    // Equal up to rounding.
    let rounded = |draws: &mut Draws| 1.0 + f64::EPSILON * draws.standard_normal();
    let report = Check::default().run(Claim::Equals(1.0), Estimator::Mean, rounded).unwrap();
    assert_eq!(report.verdict, Verdict::Holds);
}

/// Magnitudes whose fourth powers overflow or vanish are judged as others are.
#[test]
fn any_scale() {
    for scale in [1e-150, 1e-100, 1e100, 1e150] {
        let sampler = move |draws: &mut Draws| scale * draws.standard_normal();
        let run = |p| Check::default().run(Claim::Equals(p), Estimator::Variance, sampler).unwrap().verdict;
        assert_eq!(run(scale * scale), Verdict::Holds, "{scale}");
        assert_eq!(run(1.1 * scale * scale), Verdict::Refuted, "{scale}");
    }
}

#[test]
fn broken_samples() {
    let check = Check::default();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e200] {
        let sampler = move |draws: &mut Draws| if draws.uniform() < 1e-4 { bad } else { 1.0 };
        for claim in [Claim::Equals(1.0), Claim::AtMost(f64::INFINITY), Claim::AtLeast(2.0)] {
            let report = check.run(claim, Estimator::SecondMoment, sampler).unwrap();
            assert_eq!((report.verdict, report.doubt), (Verdict::Undecided, Some(Doubt::NotFinite)), "{bad}");
            assert_eq!((report.value, report.interval), (None, Interval::LINE));
        }
    }
    let report = check.run(Claim::Equals(0.5), Estimator::Probability, |_| f64::NAN).unwrap();
    assert_eq!(report.doubt, Some(Doubt::NotFinite));
}

#[test]
fn few_trials() {
    for max_trials in [0, 1, 2, 31, 33, 999] {
        let check = Check { max_trials, ..Check::default() };
        for estimator in [Estimator::Mean, Estimator::Variance, Estimator::SecondMoment] {
            for sampler in [normal, |_: &mut Draws| 1.0] {
                let report = check.run(Claim::Equals(1.0), estimator, sampler).unwrap();
                assert_eq!((report.trials, report.doubt), (max_trials, Some(Doubt::FewTrials)));
                assert_eq!(report.value.is_some(), max_trials > 0);
            }
        }
        let report = check.run(Claim::Equals(0.5), Estimator::Probability, |d| d.uniform() < 0.5).unwrap();
        assert_eq!(report.verdict, Verdict::Undecided);
    }
    // Trials beyond what a u64 can double to.
    let check = Check { max_trials: u64::MAX, ..Check::default() };
    assert_eq!(check.run(Claim::Equals(1.0), Estimator::SecondMoment, normal).unwrap().verdict, Verdict::Holds);
}

#[test]
fn infinite_predictions() {
    let run = |claim| Check::default().run(claim, Estimator::Mean, normal).unwrap();
    for claim in [Claim::AtMost(f64::INFINITY), Claim::AtLeast(f64::NEG_INFINITY)] {
        assert_eq!(run(claim).verdict, Verdict::Holds);
    }
    for claim in [Claim::Equals(f64::INFINITY), Claim::AtLeast(f64::INFINITY), Claim::AtMost(f64::NEG_INFINITY)] {
        assert_eq!(run(claim).doubt, Some(Doubt::InfinitePrediction));
    }
}

#[test]
fn refuses() {
    let good = Check { max_trials: 10, ..Check::default() };
    let run = |check: Check, claim, estimator| check.run(claim, estimator, normal);
    assert!(run(good, Claim::Equals(f64::NAN), Estimator::Mean).is_err());
    assert!(run(good, Claim::Equals(1.0), Estimator::SquaredError { of: f64::NAN }).is_err());
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(run(Check { tolerance: bad, ..good }, Claim::Equals(1.0), Estimator::Mean).is_err());
    }
    for bad in [0.0, -1.0, f64::NAN] {
        assert!(run(Check { relative_width: bad, ..good }, Claim::Equals(1.0), Estimator::Mean).is_err());
    }
    for bad in [0.0, 1.0, f64::NAN, -0.1] {
        assert!(run(Check { error_probability: bad, ..good }, Claim::Equals(1.0), Estimator::Mean).is_err());
    }
}

/// The same bits for any number of threads, other bits for another seed.
#[test]
fn threads_do_not_matter() {
    let check = Check { max_trials: 300_001, relative_width: 1e-9, ..Check::default() };
    let run = |check: Check| check.run(Claim::Equals(1.0), Estimator::Mean, positive(0.7)).unwrap();
    let with = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(|| run(check));
    let one = with(1);
    assert_eq!(one.trials, 300_001);
    assert_eq!(one, with(3));
    assert_ne!(one.value, run(Check { seed: 1, ..check }).value);
}

/// Blocks of neighbouring seeds are other numbers.
#[test]
fn streams_are_distinct() {
    let first = |seed, block| Draws::of_block(seed, block).seed();
    let mut all: Vec<u64> = (0..20).flat_map(|seed| (0..20).map(move |block| first(seed, block))).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 400);
}

#[test]
fn survives_storage() {
    let cases = [
        (Claim::Equals(1.0), 1000),
        (Claim::AtMost(f64::INFINITY), 0),
        (Claim::AtLeast(f64::NEG_INFINITY), 5000),
        (Claim::Equals(f64::INFINITY), 2),
    ];
    for (claim, max_trials) in cases {
        let check = Check { max_trials, relative_width: f64::INFINITY, ..Check::default() };
        for report in [
            check.run(claim, Estimator::SquaredError { of: 1.0 / 3.0 }, normal).unwrap(),
            check.run(claim, Estimator::Mean, |_| f64::NAN).unwrap(),
        ] {
            let json = serde_json::to_string(&report).unwrap();
            assert_eq!(serde_json::from_str::<CheckReport>(&json).unwrap(), report, "{json}");
        }
    }
    assert!(serde_json::from_str::<Claim>(r#"{"Equals": "much"}"#).is_err());
}

/// That something is 0 can be said, shown and refuted with a slack in its own units.
#[test]
fn zero_within_an_absolute_tolerance() {
    let check = Check { absolute_tolerance: 0.01, ..Check::default() };
    let judge = |shift: f64| {
        let report = check.run(Claim::Equals(0.0), Estimator::Mean, |draws| draws.standard_normal() + shift).unwrap();
        report.verdict
    };
    assert_eq!((judge(0.0), judge(0.02)), (Verdict::Holds, Verdict::Refuted));

    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        let check = Check { absolute_tolerance: bad, ..check };
        assert!(check.run(Claim::AtMost(1.0), Estimator::Mean, normal).is_err());
    }
    // Without the slack, a bias of 0 is neither shown nor refuted.
    let report = Check::default().run(Claim::Equals(0.0), Estimator::Mean, normal).unwrap();
    assert_eq!((report.verdict, report.doubt), (Verdict::Undecided, Some(Doubt::Wide)));
}

/// A variance and an error that are 0 but for rounding agree with 0 and with nothing else, whatever the size of samples
/// and the tolerance; what is larger than rounding does not.
#[test]
fn zero_up_to_rounding() {
    for size in [1e-140, 1.0, 1e8, 1e140] {
        let around = move |spread: f64| move |draws: &mut Draws| size * (1.0 + spread * draws.standard_normal());
        for estimator in [Estimator::Variance, Estimator::SquaredError { of: size }] {
            for tolerance in [0.0, 0.03] {
                let check = Check { max_trials: 20_000, tolerance, ..Check::default() };
                let run = |claim, spread| check.run(claim, estimator, around(spread)).unwrap().verdict;
                for spread in [0.0, 1e-16, 1e-13] {
                    assert_eq!(run(Claim::Equals(0.0), spread), Verdict::Holds, "{size} {estimator:?} {spread}");
                    assert_eq!(run(Claim::AtMost(0.0), spread), Verdict::Holds, "{size} {estimator:?} {spread}");
                    let far = 10.0 * (size * size).max(1.0);
                    assert_eq!(run(Claim::Equals(far), spread), Verdict::Refuted, "{size} {estimator:?} {spread}");
                }
                assert_eq!(run(Claim::Equals(0.0), 1e-6), Verdict::Refuted, "{size} {estimator:?}");
            }
            let check = Check { max_trials: 200_000, ..Check::default() };
            let run = |claim, spread| check.run(claim, estimator, around(spread)).unwrap().verdict;
            assert_eq!(run(Claim::Equals((1e-6 * size).powi(2)), 1e-6), Verdict::Holds, "{size} {estimator:?}");
        }
    }
}

/// A constant so far is drawn to the limit, and an infinity of one in ten thousand shows behind it.
#[test]
fn constants_are_drawn_to_the_limit() {
    let check = Check { max_trials: 40_000, ..Check::default() };
    assert_eq!(check.run(Claim::Equals(1.0), Estimator::Mean, |_: &mut Draws| 1.0).unwrap().trials, 40_000);
    let rare = |draws: &mut Draws| if draws.uniform() < 1e-4 { f64::INFINITY } else { 1.0 };
    let report = check.run(Claim::Equals(1.0), Estimator::Mean, rare).unwrap();
    assert_eq!(report.doubt, Some(Doubt::NotFinite));
    // At the default limit one of a million shows, far behind the first stage.
    let rare = |draws: &mut Draws| if draws.uniform() < 1e-6 { f64::INFINITY } else { 1.0 };
    for (estimator, claim) in [
        (Estimator::Mean, Claim::Equals(1.0)),
        (Estimator::SecondMoment, Claim::AtMost(2.0)),
        (Estimator::Variance, Claim::Equals(0.0)),
    ] {
        let report = Check { seed: 1, ..Check::default() }.run(claim, estimator, rare).unwrap();
        assert_eq!((report.verdict, report.doubt), (Verdict::Undecided, Some(Doubt::NotFinite)), "{report:?}");
        assert!(report.trials > FIRST_STAGE, "{report:?}");
    }
}
