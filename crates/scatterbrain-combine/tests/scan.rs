//! The background of scans against its definition, in plain loops over the codes.
//!
//! Whether a product lies over or under a step is up to the last bits of f32, so a rounded product is compared with the
//! definition to one step, and which keys are heavy only where they are clearly so.

mod common;

use common::Case;
use proptest::prelude::*;
use scatterbrain_blocks::{WindowSupport, to_dense_mask};
use scatterbrain_combine::{Method, Options, ScanBackground, attend, dense_matrix};
use scatterbrain_core::kernel::key_code;
use scatterbrain_core::tile::Head;
use scatterbrain_core::{HeadMask, Level, Mask, MaskTensor, Matrix, Seed, Tensor, Window};
use scatterbrain_hash::QuantisedRows;

/// Weights of 2^x in lower precision, and sums in f32.
const RELATIVE: f64 = 1e-3;

/// c_j of every key.
fn centres(key: Matrix<'_>, mask: &HeadMask<'_>) -> Vec<Vec<f32>> {
    let mean = |count: usize| {
        // Of every so manyth key.
        let keys: Vec<usize> = (0..count).step_by(count.div_ceil(64).max(1)).collect();
        let sum = |c: usize| keys.iter().map(|&j| f64::from(key.row(j)[c])).sum::<f64>();
        let mean: Vec<f32> =
            (0..key.cols()).map(|c| if count > 0 { (sum(c) / keys.len() as f64) as f32 } else { 0.0 }).collect();
        let largest = |from: &[f32]| {
            let of = |j: &usize| key.row(*j).iter().zip(from).fold(0.0f32, |top, (x, c)| top.max((x - c).abs()));
            keys.iter().map(|j| f64::from(of(j))).sum::<f64>()
        };
        let none = vec![0.0; key.cols()];
        if largest(&mean) < largest(&none) { mean } else { none }
    };
    let length = mask.length();
    (0..key.rows())
        .map(|j| match () {
            () if mask.is_dense() => mean(length),
            // The largest of 96, 192, 384, … that is at most j.
            () if mask.is_causal() && !mask.has_window() && !mask.has_boolean() => {
                mean(if j < 96 { 0 } else { 96 << (j / 96).ilog2() })
            }
            () => mean(0),
        })
        .collect()
}

/// w_ij of one head, 0 where hidden, each row over its largest.
fn weights(level: Level, query: Matrix<'_>, key: Matrix<'_>, scale: f32, mask: &HeadMask<'_>) -> Vec<f64> {
    let centres = centres(key, mask);
    let centred: Vec<f32> =
        (0..key.rows()).flat_map(|j| key.row(j).iter().zip(&centres[j]).map(|(k, c)| k - c)).collect();
    let centred = Matrix::new("centred", &centred, key.rows(), key.cols()).unwrap();
    let most = key_code(level);
    let (q, k) = (QuantisedRows::new(level, query, 127).unwrap(), QuantisedRows::new(level, centred, most).unwrap());
    let mut weights = Vec::new();
    for i in 0..mask.n() {
        let logit_of = |j: usize| {
            let products = q.row(i).iter().zip(k.row(j)).map(|(a, b)| f64::from(*a) * f64::from(*b));
            products.sum::<f64>() * f64::from(q.scales()[i]) * f64::from(k.scales()[j]) * f64::from(scale)
                + logit(query.row(i), &centres[j], scale)
        };
        let logits: Vec<_> = (0..mask.m()).map(|j| mask.sees(i, j).then(|| logit_of(j))).collect();
        let top = logits.iter().flatten().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        weights.extend(logits.iter().map(|x| x.map_or(0.0, |x| (x - top).exp())));
    }
    weights
}

/// The best level for each kind of codes.
fn levels() -> impl Iterator<Item = Level> {
    let best = |most: i8| Level::available().into_iter().rfind(|level| key_code(*level) == most);
    [63, 127].into_iter().filter_map(best)
}

/// Every entry of the matrix of a case: a heavy or supported one exact, a light one within a step of its weight.
fn check(case: &Case, share: f32, most: u8, window: Option<usize>) {
    levels().for_each(|level| check_at(level, case, share, most, window));
}

fn check_at(level: Level, case: &Case, share: f32, most: u8, window: Option<usize>) {
    let far = ScanBackground::new(share).unwrap().with_steps(most).unwrap();
    let method = match window {
        Some(window) => Method::scatterbrain(WindowSupport::around(window).unwrap(), far),
        None => Method::low_rank(far),
    };
    let options = Options { scale: Some(case.scale), level: Some(level), ..Options::default() };
    case.with_inputs(|query, key, _, mask| {
        let matrices = dense_matrix(query, key, mask, &method, &options).unwrap();
        for (bh, matrix) in matrices.iter().enumerate() {
            let (b, h) = (bh / case.heads(), bh % case.heads());
            let mask = mask.head(b, h, case.n, case.m);
            let (query, key) = (query.head(b, h), key.head(b, h / case.group));
            let (query, key) = (query.matrix(), key.matrix());
            let weights = weights(level, query, key, case.scale, &mask);
            let head = Head { query, key, scale: case.scale, mask: &mask, level: Level::scalar() };
            let near = window.map(|w| to_dense_mask(&WindowSupport::around(w).unwrap(), &head).unwrap());
            for i in 0..case.n {
                let near = |j: usize| near.as_ref().is_some_and(|near| near[i * case.m + j]);
                let row = &weights[i * case.m..(i + 1) * case.m];
                let entries = &matrix.normalised[i * case.m..(i + 1) * case.m];
                let exact: Vec<f64> = (0..case.m).map(|j| logit(query.row(i), key.row(j), case.scale)).collect();
                check_row(
                    row,
                    entries,
                    &exact,
                    &near,
                    f64::from(share),
                    f64::from(most),
                    f64::from(matrix.log_sum_exp[i]),
                );
            }
        }
    });
}

fn logit(q: &[f32], k: &[f32], scale: f32) -> f64 {
    q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() * f64::from(scale)
}

/// `row`: w of the scan over its largest; `entries` over the denominator e^lse.
fn check_row(
    row: &[f64],
    entries: &[f32],
    exact: &[f64],
    near: &impl Fn(usize) -> bool,
    share: f64,
    most: f64,
    lse: f64,
) {
    let total: f64 = row.iter().sum();
    if total == 0.0 {
        assert!(entries.iter().all(|x| *x == 0.0) && lse == f64::NEG_INFINITY);
        return;
    }
    // The scan's weights in units of the denominator: light entries say it, as their sum is known only through them.
    let shares: Vec<f64> = row.iter().map(|w| w / total).collect();
    let mut light = Vec::new();
    for (j, entry) in entries.iter().enumerate() {
        let (entry, want) = (f64::from(*entry), (exact[j] - lse).exp());
        if row[j] == 0.0 && !near(j) {
            assert!(entry.abs() < 1e-30, "a hidden key has {entry}");
        } else if near(j) && row[j] > 0.0 || shares[j] > share * (1.0 + RELATIVE) {
            // The rounding of a logit, which may be some hundred.
            assert!(
                (entry - want).abs() <= (1e-5 + 1e-6 * exact[j].abs()) * want + 1e-7,
                "key {j}: {entry} for exactly {want}"
            );
        } else if shares[j] < share * (1.0 - RELATIVE) {
            light.push((shares[j], entry));
        }
    }
    // A light entry is its weight but for a step: entry = factor · (share_j ± step), the factor total/denominator.
    let step = share / most;
    let (low, high) = light.iter().fold((0.0f64, f64::INFINITY), |(low, high), (s, entry)| {
        (
            low.max((entry - 1e-7) / (s * (1.0 + RELATIVE) + step)),
            high.min((entry + 1e-7) / (s * (1.0 - RELATIVE) - step).max(1e-30)),
        )
    });
    assert!(low <= high * (1.0 + RELATIVE), "no factor between {low} and {high} fits the light entries");
    // A product is rounded up as often as its fraction says: variances of at most a fourth of a squared step, by seven
    // deviations (weights and where keys round are unrelated here).
    let sum: f64 = entries.iter().map(|x| f64::from(*x)).sum();
    let keys = light.len() as f64;
    assert!(
        (sum - 1.0).abs() <= low.max(1.0) * step * (1.0 + 3.5 * keys.sqrt()) + RELATIVE,
        "a row sums to {sum}, {keys} light keys, a step {step}, factor from {low} to {high}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn entries_are_exact_or_within_a_step(
        mut case in common::case(), share in 2usize..200, most in 1u8..=127, window in proptest::option::of(1usize..40)
    ) {
        case.spread = case.spread.min(3.0);
        check(&case, 1.0 / share as f32, most, window);
    }
}

/// Epochs of a causal mask, of which small cases have the first alone.
#[test]
fn entries_of_long_inputs() {
    for (n, m, window) in [(700, 800, None), (390, 390, Some(20))] {
        let case = Case { n, m, d: 8, scale: 0.5, causal: true, ..Case::plain() };
        check(&case, 1.0 / 64.0, 127, window);
    }
}

/// What all keys have in common takes no range of their codes; under a causal mask from the second epoch on.
#[test]
fn a_common_part_of_keys_costs_nothing() {
    let (n, d) = (768, 32);
    let normals = |part| Seed(8).stream(part).normals(n * d);
    let (query, key, value) = (normals(0), normals(1), normals(2));
    let error = |level: Level, shift: f32, causal: bool, far: ScanBackground| {
        let key: Vec<f32> = key.iter().enumerate().map(|(at, x)| x + shift * (at % d) as f32 / d as f32).collect();
        let [q, k, v] = [&query, &key, &value].map(|data| Tensor::f32("input", data, [1, 1, n, d]).unwrap());
        let mask = Mask { causal, ..Mask::default() };
        let options = Options { level: Some(level), ..Options::default() };
        let run = |method: &Method| attend(&q, &k, &v, &mask, method, &options).unwrap().output;
        let (got, want) = (run(&Method::low_rank(far)), run(&Method::exact()));
        let square = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>();
        let off = square(&mut got[192 * d..].iter().zip(&want[192 * d..]).map(|(a, b)| a - b));
        (off / square(&mut want[192 * d..].iter().copied())).sqrt()
    };
    let far = ScanBackground::new(1.0 / 64.0).unwrap();
    for (level, causal) in levels().flat_map(|level| [(level, false), (level, true)]) {
        // Finer codes suffer less from the same.
        let shift = if key_code(level) == 63 { 30.0 } else { 50.0 };
        let (plain, shifted) = (error(level, 0.0, causal, far), error(level, shift, causal, far));
        // Early keys of a causal input have the common part in their codes.
        let few = if causal { 5.0 } else { 1.2 };
        assert!(shifted < few * plain, "{causal} {shifted} {plain}");
    }
}

/// Means are of keys that every row with their codes sees.
#[test]
fn later_tokens_change_no_mean() {
    let (n, d, kept) = (900, 16, 770);
    let normals = |part| Seed(9).stream(part).normals(n * d);
    let data = [0, 1, 2].map(normals);
    let run = |later: f32| {
        let changed = data.each_ref().map(|data| {
            data.iter().enumerate().map(|(at, x)| if at < kept * d { *x } else { later * x }).collect::<Vec<f32>>()
        });
        let [q, k, v] = changed.each_ref().map(|data| Tensor::f32("input", data, [1, 1, n, d]).unwrap());
        let method = Method::low_rank(ScanBackground::new(1.0 / 32.0).unwrap());
        attend(&q, &k, &v, &Mask::causal(), &method, &Options::default()).unwrap().output
    };
    let (before, after) = (run(1.0), run(-7.0));
    assert!(before[..kept * d].iter().zip(&after).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_ne!(before[kept * d..], after[kept * d..]);
}

/// A key that no row sees has no part in a mean, however large it is.
#[test]
fn hidden_keys_change_nothing() {
    let (n, d, hidden) = (400, 16, 3);
    let data = [0, 1, 2].map(|part| Seed(10).stream(part).normals(n * d));
    let seen: Vec<u8> = (0..n * n).map(|at| u8::from(at % n != hidden)).collect();
    let window = Some(Window { left: 200, right: 0, align: Default::default() });
    let boolean = Some(MaskTensor::new(&seen, [1, 1, n, n]).unwrap());
    for (mask, first) in [
        (Mask { causal: true, window, ..Mask::default() }, hidden + 201),
        (Mask { window, ..Mask::default() }, hidden + 201),
        (Mask { causal: true, allowed: boolean, ..Mask::default() }, 0),
        (Mask { allowed: boolean, ..Mask::default() }, 0),
    ] {
        let run = |size: f32| {
            let mut key = data[1].clone();
            key[hidden * d..(hidden + 1) * d].iter_mut().for_each(|x| *x *= size);
            let [q, k, v] = [&data[0], &key, &data[2]].map(|data| Tensor::f32("input", data, [1, 1, n, d]).unwrap());
            let method = Method::low_rank(ScanBackground::new(1.0 / 32.0).unwrap());
            attend(&q, &k, &v, &mask, &method, &Options::default()).unwrap().output[first * d..].to_vec()
        };
        let (before, after) = (run(1.0), run(1e4));
        assert!(before.iter().zip(&after).all(|(a, b)| a.to_bits() == b.to_bits()), "{mask:?}");
    }
}

/// One key far from all others moves their mean; what moves it is left where it is.
#[test]
fn an_outlier_spoils_no_mean() {
    let (n, d) = (600, 32);
    let data = [0, 1, 2].map(|part| Seed(11).stream(part).normals(n * d));
    let error = |far: f32, causal: bool| {
        // Queries know nothing of the last column, in which the first key lies far away.
        let [mut query, mut key, value] = data.clone();
        query.iter_mut().skip(d - 1).step_by(d).for_each(|x| *x = 0.0);
        // It is nothing else: what its own codes lose is another matter.
        key[..d].fill(0.0);
        key[d - 1] = far;
        let [q, k, v] = [&query, &key, &value].map(|data| Tensor::f32("input", data, [1, 1, n, d]).unwrap());
        let mask = Mask { causal, ..Mask::default() };
        let run = |method: &Method| attend(&q, &k, &v, &mask, method, &Options::default()).unwrap().output;
        let (got, want) = (run(&Method::low_rank(ScanBackground::eight_bit_scores())), run(&Method::exact()));
        let square = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>();
        (square(&mut got.iter().zip(&want).map(|(a, b)| a - b)) / square(&mut want.iter().copied())).sqrt()
    };
    for causal in [false, true] {
        let (plain, spoiled) = (error(0.0, causal), error(1e4, causal));
        assert!(spoiled < 1.5 * plain, "{causal} {spoiled} {plain}");
    }
}

/// At a small share the output is that of exact attention but for codes of the scan.
#[test]
fn small_shares_come_near_exact_attention() {
    let case = Case { n: 256, m: 256, d: 32, d_v: 16, scale: 0.3, causal: true, ..Case::plain() };
    let options = Options { scale: Some(case.scale), ..Options::default() };
    let error = |method: &Method| {
        case.with_inputs(|q, k, v, mask| {
            let got = attend(q, k, v, mask, method, &options).unwrap().output;
            let want = attend(q, k, v, mask, &Method::exact(), &options).unwrap().output;
            let square = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            let off: Vec<f32> = got.iter().zip(&want).map(|(a, b)| a - b).collect();
            (square(&off) / square(&want)).sqrt()
        })
    };
    let far = |share: usize, most| {
        Method::low_rank(ScanBackground::new(1.0 / share as f32).unwrap().with_steps(most).unwrap())
    };
    let (coarse, fine) = (error(&far(8, 15)), error(&far(128, 127)));
    // Measured: 0.100 and 0.0020; twice that.
    assert!(coarse < 0.2 && fine < 0.004, "{coarse} {fine}");
}

/// Thousands of keys under one step are not lost.
#[test]
fn what_is_under_a_step_adds_up() {
    let (n, m, d) = (16, 4096, 8);
    let mut rng = Seed(3).stream(0);
    let (query, key) = (vec![0.0; n * d], rng.normals(m * d));
    let value: Vec<f32> = (0..m).flat_map(|j| [1.0, (j % 2) as f32, rng.normal() as f32]).collect();
    let query = Tensor::f32("query", &query, [1, 1, n, d]).unwrap();
    let key = Tensor::f32("key", &key, [1, 1, m, d]).unwrap();
    let value = Tensor::f32("value", &value, [1, 1, m, 3]).unwrap();
    let method = Method::low_rank(ScanBackground::new(0.5).unwrap().with_steps(20).unwrap());
    let got = attend(&query, &key, &value, &Mask::default(), &method, &Options::default()).unwrap().output;
    for row in got.chunks(3) {
        // 4096 weights of a hundredth of a step each; even fractions leave less than three steps of 1/40.
        assert!((row[0] - 1.0).abs() < 0.075 && (row[1] - 0.5).abs() < 0.075, "{row:?}");
    }
}

/// What a file says is checked where it is used.
#[test]
fn scans_from_files_are_checked() {
    let x = Tensor::f32("x", &[0.5; 24], [1, 1, 6, 4]).unwrap();
    for (text, argument) in [
        (r#"{"products":{"Shares":{"share":0.1,"most":200}}}"#, "steps: "),
        (r#"{"products":{"Shares":{"share":0.1,"most":0}}}"#, "steps: "),
        (r#"{"products":{"Shares":{"share":-1.0,"most":9}}}"#, "share: "),
    ] {
        let method = Method::low_rank(serde_json::from_str::<ScanBackground>(text).unwrap());
        let error = attend(&x, &x, &x, &Mask::default(), &method, &Options::default()).unwrap_err();
        assert!(error.to_string().starts_with(argument), "{error}");
    }
    let far = ScanBackground::new(0.25).unwrap();
    let text = serde_json::to_string(&far).unwrap();
    assert_eq!(serde_json::from_str::<ScanBackground>(&text).unwrap(), far);
}

/// The rivals: 8-bit scores with f32 values are nearer than 8-bit everything, and no pair of either is exact.
#[test]
fn dense_rivals_are_as_coarse_as_they_say() {
    let case = Case { n: 200, m: 300, d: 64, d_v: 16, scale: 0.2, ..Case::plain() };
    let options = Options { scale: Some(case.scale), ..Options::default() };
    let run = |method: &Method| case.with_inputs(|q, k, v, mask| attend(q, k, v, mask, method, &options).unwrap());
    let exact = run(&Method::exact()).output;
    let error = |far| {
        let got = run(&Method::low_rank(far));
        assert!(got.report.heads.iter().all(|head| head.exact_pairs == 0));
        assert_eq!((got.report.scan_share, got.report.share), (1.0, 0.0));
        let square = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>();
        let off = square(&mut got.output.iter().zip(&exact).map(|(a, b)| a - b));
        (off / square(&mut exact.iter().copied())).sqrt()
    };
    let (scores, all) = (error(ScanBackground::eight_bit_scores()), error(ScanBackground::eight_bits()));
    assert!(scores < all && all < 0.1 && scores > 1e-4, "{scores} {all}");
}

/// Equal keys all have the largest weight of the row, and so the largest code.
#[test]
fn equal_keys_beyond_sums_of_32_bits() {
    let m = scatterbrain_core::kernel::CODE_KEYS + 5000;
    let (query, key, value) = (vec![0.0; 4], vec![0.0; 4 * m], vec![1.0; m]);
    let tensor = |name, data, shape| Tensor::f32(name, data, shape).unwrap();
    let (query, key) = (tensor("query", &query, [1, 1, 1, 4]), tensor("key", &key, [1, 1, m, 4]));
    let value = tensor("value", &value, [1, 1, m, 1]);
    for far in [ScanBackground::eight_bits(), ScanBackground::new(0.01).unwrap()] {
        let method = Method::low_rank(far);
        let got = attend(&query, &key, &value, &Mask::default(), &method, &Options::default()).unwrap().output;
        assert!((got[0] - 1.0).abs() < 0.01, "{got:?}");
    }
}

#[test]
fn shares_and_steps_are_checked() {
    for share in [0.0, -1.0, 1.5, f32::NAN, f32::INFINITY, 1e-6] {
        assert!(ScanBackground::new(share).unwrap_err().to_string().starts_with("share: "), "{share}");
    }
    for most in [0, 128, 255] {
        let error = ScanBackground::new(0.1).unwrap().with_steps(most).unwrap_err();
        assert!(error.to_string().starts_with("steps: "));
    }
}
