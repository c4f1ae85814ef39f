use super::*;

/// A right claim and a wrong one about the variance of exp(ω·z), |z|² = ½.
#[test]
fn tells_right_from_wrong() {
    let predicted = 0.5f64.exp() * 0.5f64.exp_m1();
    let sampler = |draws: &mut Draws| (0.5f64.sqrt() * draws.standard_normal()).exp();
    let verdict = |p| Check::default().run(Claim::Equals(p), Estimator::Variance, sampler).unwrap().verdict;
    assert_eq!(verdict(predicted), Verdict::Holds);
    assert_eq!(verdict(1.1 * predicted), Verdict::Refuted);
    assert_eq!(verdict(predicted / 1.1), Verdict::Refuted);
}
