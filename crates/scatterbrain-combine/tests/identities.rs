//! The identities of the estimator for every support × background, every mask, through the production path,
//! against the float64 oracle.
//!
//! Tolerance of an output row: twice the largest error of a plain f32 evaluation of the same estimator (no tiles, no
//! subtraction) over the head, plus what the stated cancellation rule may lose: 32 · 8 roundings, times max |v|. The
//! plain evaluation itself must stay under a bound derived from the norms, so that a wrong map cannot widen it.

mod common;

use common::{BACKGROUNDS, Case, SUPPORTS, case};
use proptest::prelude::*;
use rayon::prelude::*;
use scatterbrain_combine::{Method, Options, attend, dense_matrix};

const ROUNDING: f64 = 1.0 / (1u64 << 24) as f64;

fn check_case(case: &Case, support: usize, background: usize) {
    let method = case.method(support, background);
    let options = Options { scale: Some(case.scale), log_sum_exp: true, ..Options::default() };
    let got = case.with_inputs(|q, k, v, mask| attend(q, k, v, mask, &method, &options).unwrap());
    let lse = got.log_sum_exp.unwrap();
    let matrices = case.with_inputs(|q, k, _, mask| dense_matrix(q, k, mask, &method, &options).unwrap());
    for bh in 0..case.batch * case.heads() {
        let judge = case.judge(bh, support, background);
        let width = case.d_v;
        for i in 0..case.n {
            let at = bh * case.n + i;
            let want = &judge.estimate.output[i * width..(i + 1) * width];
            let row = &got.output[at * width..(at + 1) * width];
            if judge.undetermined(i) {
                assert!(row.iter().all(|x| x.is_finite()), "row {i} of {case:?}");
                continue;
            }
            if let Some(exact) = judge.vanished(i) {
                let close = row.iter().zip(exact).all(|(g, w)| (f64::from(*g) - w).abs() <= judge.tolerance);
                assert!(close, "row {i} of {case:?}: {row:?} for {exact:?}");
                continue;
            }
            let grown = judge.amplified(i);
            let context = format!("support {support}, background {background}, head {bh}, row {i}, {case:?}");
            for (g, w) in row.iter().zip(want) {
                let off = (f64::from(*g) - w).abs();
                assert!(
                    off <= judge.tolerance * grown,
                    "output {g} for {w}, tolerance {:.1e}: {context}",
                    judge.tolerance
                );
            }
            let want_lse = judge.estimate.log_sum_exp[i];
            if want_lse == f64::NEG_INFINITY {
                assert_eq!(lse[at], f32::NEG_INFINITY, "{context}");
                assert!(row.iter().all(|&x| x == 0.0), "{context}");
                continue;
            }
            assert!(
                (f64::from(lse[at]) - want_lse).abs() <= judge.lse_tolerance * grown,
                "lse {} for {want_lse}: {context}",
                lse[at]
            );
            let matrix = &matrices[bh];
            let mut sum = 0.0;
            for j in 0..case.m {
                let entry = f64::from(matrix.normalised[i * case.m + j]);
                sum += entry;
                let want = judge.estimate.normalised[i * case.m + j];
                // Of a background that looks at values, the matrix is that of unit vectors.
                assert!(
                    background == common::BY_NORM || (entry - want).abs() <= judge.entry_tolerance * grown,
                    "entry {j}: {entry} for {want}: {context}"
                );
                if background != common::SIGNED {
                    // Off the support entries are what subtraction left of nothing: rounding may show.
                    assert!(entry >= -judge.entry_tolerance, "{context}");
                }
                if !judge.visible(i, j) {
                    assert_eq!(entry, 0.0, "a hidden key: {context}");
                }
            }
            assert!((sum - 1.0).abs() <= 32.0 * ROUNDING * (case.m as f64 + 8.0) * grown, "row sum {sum}: {context}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn every_support_with_every_background(case in case(), support in 0..SUPPORTS, background in 0..BACKGROUNDS) {
        check_case(&case, support, background);
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(1500)
}

/// Rows of signed features whose terms cancel within the features, alone and beside a support; features near 0.
#[test]
fn cases_that_once_failed() {
    let odd = Case {
        batch: 1,
        kv_heads: 1,
        group: 2,
        n: 53,
        m: 29,
        d: 7,
        d_v: 9,
        scale: 1.0,
        spread: 2.0,
        causal: true,
        ..Case::plain()
    };
    check_case(&Case { window: Some((46, 50, false)), seed: 17703961518147146330, ..odd }, 4, 2);
    let case = Case { kv_heads: 1, d_v: 6, spread: 2.0, ..Case::plain() };
    let alone = Case { n: 112, m: 42, d: 9, scale: -0.5, causal: true, seed: 2377073313364477538, ..case.clone() };
    check_case(&alone, 0, common::SIGNED);
    let few =
        Case { n: 133, m: 6, d: 3, d_v: 1, scale: 0.3, spread: 0.5, causal: true, lengths: true, ..Case::plain() };
    check_case(&Case { batch: 2, kv_heads: 2, group: 1, seed: 3147969671857458236, ..few }, 4, 7);
    let window = Some((21, 30, false));
    let masked = Case { n: 92, m: 95, d: 6, d_v: 8, scale: 1.0, lengths: true, window, boolean: true, ..case };
    check_case(&Case { seed: 8983324307059940981, ..masked }, 6, common::SIGNED);
    // A row whose one feature comes from a product that nearly cancels.
    let lone = Case { n: 149, m: 1, spread: 0.5, seed: 12970861403355481890, ..Case::plain() };
    check_case(&Case { batch: 2, d: 5, scale: 0.3, ..lone.clone() }, 6, common::RELU);
    check_case(&Case { group: 1, d: 7, scale: 0.3, ..lone }, 6, common::RELU);
}

#[test]
fn each_pair_of_support_and_background_at_least_once() {
    let pairs = (0..SUPPORTS * BACKGROUNDS).into_par_iter();
    pairs.map(|pair| (pair / BACKGROUNDS, pair % BACKGROUNDS)).for_each(|(support, background)| {
        for (n, m, causal) in [(97, 97, true), (33, 130, false), (150, 70, true)] {
            let seed = (support * 31 + background) as u64;
            check_case(&Case { n, m, causal, seed, ..Case::plain() }, support, background);
        }
    });
}

#[test]
fn full_support_is_exact_attention() {
    for background in 0..BACKGROUNDS {
        let case = Case { n: 70, m: 90, ..Case::plain() };
        let options = Options { scale: Some(case.scale), ..Options::default() };
        let combined = case.method(common::FULL, background);
        let a = case.with_inputs(|q, k, v, mask| attend(q, k, v, mask, &combined, &options).unwrap().output);
        let b = case.with_inputs(|q, k, v, mask| attend(q, k, v, mask, &Method::exact(), &options).unwrap().output);
        let worst = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(worst < 4e-6, "{worst}");
    }
}
