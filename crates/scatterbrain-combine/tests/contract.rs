//! What the contract promises beyond the estimator: bits, causality, non-finite values, extremes, errors.

mod common;

use common::{BACKGROUNDS, Case, SCAN, SUPPORTS};
use half::{bf16, f16};
use rayon::ThreadPoolBuilder;
use scatterbrain_blocks::{Clusters, Round, TopK};
use scatterbrain_combine::{
    Attention, ClusterSupport, Method, Options, ScanBackground, SmyrfSupport, attend, attend_into,
};
use scatterbrain_core::tile::{Causality, Head, Select, Selection, Support, Tile};
use scatterbrain_core::{Data, Error, Mask, MaskTensor, Seed, Tensor};
use scatterbrain_features::{Constant, FeatureBackground, HyperbolicFeatures, ProjectionKind};
use scatterbrain_hash::{Smyrf, Transform};

const D: usize = 8;
const D_V: usize = 6;

fn options() -> Options {
    Options { log_sum_exp: true, ..Options::default() }
}

/// Attention of one batch entry with two heads on one key head.
fn run(data: &[Vec<f32>; 3], n: usize, m: usize, mask: &Mask<'_>, method: &Method) -> Attention {
    let query = Tensor::f32("query", &data[0], [1, 2, n, D]).unwrap();
    let key = Tensor::f32("key", &data[1], [1, 1, m, D]).unwrap();
    let value = Tensor::f32("value", &data[2], [1, 1, m, D_V]).unwrap();
    attend(&query, &key, &value, mask, method, &options()).unwrap()
}

fn data(n: usize, m: usize, seed: u64) -> [Vec<f32>; 3] {
    let mut rng = Seed(seed).stream(0);
    [rng.normals(2 * n * D), rng.normals(m * D), rng.normals(m * D_V)]
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn methods() -> impl Iterator<Item = (usize, usize, Method)> {
    let case = Case { d: D, ..Case::plain() };
    (0..SUPPORTS).flat_map(move |s| {
        let case = case.clone();
        (0..BACKGROUNDS).chain([SCAN]).map(move |b| (s, b, case.method(s, b)))
    })
}

#[test]
fn strict_methods_do_not_see_later_tokens_to_the_bit() {
    for (n, m) in [(200, 200), (150, 200), (200, 150)] {
        let before = data(n, m, 1);
        for (support, background, method) in methods().filter(|m| m.2.causality() == Causality::Strict) {
            let first = run(&before, n, m, &Mask::causal(), &method);
            // Keys from `cut` on are changed, mildly and beyond every reference.
            for (cut, factor) in [(m - 1, -1.0f32), (m / 2, 1.5), (70, 30.0), (m / 2 + 3, 1e6), (1, 100.0)] {
                let mut after = before.clone();
                after[1][cut * D..].iter_mut().for_each(|x| *x *= factor);
                after[2][cut * D_V..].iter_mut().for_each(|x| *x += 1.0);
                // Queries at those positions change too.
                for h in 0..2 {
                    for i in (0..n).filter(|i| i + m >= n + cut) {
                        after[0][(h * n + i) * D..(h * n + i + 1) * D].iter_mut().for_each(|x| *x *= -0.5);
                    }
                }
                let second = run(&after, n, m, &Mask::causal(), &method);
                for h in 0..2 {
                    for i in (0..n).filter(|i| i + m < n + cut) {
                        let row = |a: &Attention| bits(&a.output[(h * n + i) * D_V..(h * n + i + 1) * D_V]);
                        assert_eq!(
                            row(&first),
                            row(&second),
                            "row {i} of {n}, {m}; support {support}, background {background}, cut {cut} x {factor}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn strict_methods_do_not_see_how_later_queries_are_grouped() {
    // Later tokens all become one vector, so that their hash buckets and the sizes of groups change.
    let (n, m) = (150, 150);
    for seed in 0..4 {
        let before = data(n, m, 40 + seed);
        for (support, background, method) in methods().filter(|m| m.2.causality() == Causality::Strict) {
            let first = run(&before, n, m, &Mask::causal(), &method);
            for cut in [130, 147] {
                for fill in [1e4f32, -30.0, 0.0] {
                    let mut after = before.clone();
                    after[1][cut * D..].fill(fill);
                    for h in 0..2 {
                        after[0][(h * n + cut) * D..(h + 1) * n * D].fill(fill);
                    }
                    let second = run(&after, n, m, &Mask::causal(), &method);
                    for h in 0..2 {
                        let rows = |a: &Attention| bits(&a.output[h * n * D_V..(h * n + cut) * D_V]);
                        assert_eq!(
                            rows(&first),
                            rows(&second),
                            "support {support}, background {background}, {cut}, {fill}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn methods_that_see_the_future_say_so() {
    let case = Case { d: D, ..Case::plain() };
    assert_eq!(case.method(4, 1).causality(), Causality::SelectionSeesFuture);
    assert_eq!(case.method(8, 0).causality(), Causality::SelectionSeesFuture);
    // And they do: an order over the whole sequence moves.
    let before = data(200, 200, 2);
    let mut after = before.clone();
    after[1][150 * D..].iter_mut().for_each(|x| *x *= 3.0);
    let method = case.method(4, 1);
    let (a, b) = (run(&before, 200, 200, &Mask::causal(), &method), run(&after, 200, 200, &Mask::causal(), &method));
    assert_ne!(bits(&a.output[..100 * D_V]), bits(&b.output[..100 * D_V]));
}

#[test]
fn bits_do_not_depend_on_threads_or_batch_mates() {
    let case = Case { batch: 2, n: 190, m: 170, d: D, lengths: true, seed: 5, ..Case::plain() };
    for (support, background) in
        [(1, 2), (4, 1), (5, 0), (8, 3), (3, 6), (0, 1), (9, 0), (11, 9), (3, 9), (12, 8), (14, 0), (14, 5)]
    {
        for causal in [false, true] {
            let case = Case { causal, ..case.clone() };
            let method = case.method(support, background);
            let outputs: Vec<Vec<u32>> = [1, 2, 5]
                .iter()
                .map(|&threads| {
                    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let call = || case.with_inputs(|q, k, v, mask| attend(q, k, v, mask, &method, &options()).unwrap());
                    bits(&pool.install(call).output)
                })
                .collect();
            assert!(outputs.iter().all(|o| *o == outputs[0]), "threads, support {support}, background {background}");
            // The first batch entry alone: the same tensors, cut.
            let first = case.with_inputs(|q, k, v, mask| {
                let lengths = &mask.key_lengths.unwrap()[..1];
                let mask = Mask { key_lengths: Some(lengths), ..*mask };
                let cut = |t: &Tensor<'_>| -> Vec<f32> {
                    let head = |h| t.head(0, h).matrix().iter().flatten().copied().collect::<Vec<_>>();
                    (0..t.shape()[1]).flat_map(head).collect()
                };
                let shape = |t: &Tensor<'_>| [1, t.shape()[1], t.shape()[2], t.shape()[3]];
                let (qd, kd, vd) = (cut(q), cut(k), cut(v));
                let q = Tensor::f32("query", &qd, shape(q)).unwrap();
                let k = Tensor::f32("key", &kd, shape(k)).unwrap();
                let v = Tensor::f32("value", &vd, shape(v)).unwrap();
                bits(&attend(&q, &k, &v, &mask, &method, &options()).unwrap().output)
            });
            assert_eq!(first[..], outputs[0][..first.len()], "batch, support {support}, background {background}");
        }
    }
}

#[test]
fn half_precision_and_strides_are_conversions() {
    let (n, m) = (50, 40);
    let [q, k, v] = data(n, m, 3);
    let method = Case { d: D, ..Case::plain() }.method(1, 2);
    let halves: Vec<f16> = q.iter().map(|&x| f16::from_f32(x)).collect();
    let brains: Vec<bf16> = k.iter().map(|&x| bf16::from_f32(x)).collect();
    // Values stored transposed, [d_v, m], behind one foreign element.
    let mut transposed = vec![9.0; 1 + m * D_V];
    for j in 0..m {
        for c in 0..D_V {
            transposed[1 + c * m + j] = v[j * D_V + c];
        }
    }
    let query = Tensor::contiguous("query", Data::F16(&halves), [1, 2, n, D]).unwrap();
    let key = Tensor::contiguous("key", Data::Bf16(&brains), [1, 1, m, D]).unwrap();
    let value = Tensor::strided("value", Data::F32(&transposed[1..]), [1, 1, m, D_V], [0, 0, 1, m]).unwrap();
    let got = attend(&query, &key, &value, &Mask::default(), &method, &options()).unwrap();
    let converted = [halves.iter().map(|x| x.to_f32()).collect(), brains.iter().map(|x| x.to_f32()).collect(), v];
    let want = run(&converted, n, m, &Mask::default(), &method);
    assert_eq!(bits(&got.output), bits(&want.output));
}

#[test]
fn non_finite_values_taint_the_rows_that_use_them_alone() {
    let (n, m) = (90, 90);
    let clean = data(n, m, 4);
    for (support, background, method) in methods() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let strict = method.causality() == Causality::Strict;
            let reference = run(&clean, n, m, &Mask::causal(), &method);
            for tensor in 0..3 {
                let mut data = clean.clone();
                let width = if tensor == 2 { D_V } else { D };
                data[tensor][50 * width + 1] = bad;
                let got = run(&data, n, m, &Mask::causal(), &method);
                for i in 0..n {
                    let row = &got.output[i * D_V..(i + 1) * D_V];
                    let clean_row = &reference.output[i * D_V..(i + 1) * D_V];
                    let uses = if tensor == 0 { i == 50 } else { i >= 50 };
                    let context = format!("row {i}, tensor {tensor}, support {support}, background {background}");
                    if !uses {
                        assert!(row.iter().all(|x| x.is_finite()), "{context}");
                        if strict {
                            assert_eq!(bits(row), bits(clean_row), "{context}");
                        }
                    } else if (background > 0 || support == 3) && tensor > 0 || (tensor == 0 && support == 9) {
                        assert!(row.iter().all(|x| x.is_nan()), "{context}");
                    }
                }
            }
            // Padding may hold anything, also where it shares a vector with the last key.
            let mut data = clean.clone();
            data[1][57 * D..].fill(bad);
            data[2][57 * D_V..].fill(bad);
            let mask = Mask { key_lengths: Some(&[57]), ..Mask::default() };
            assert!(run(&data, n, m, &mask, &method).output.iter().all(|x| x.is_finite()), "{support} {background}");
        }
    }
}

#[test]
fn extremes_stay_finite() {
    let (n, m) = (70, 80);
    for (support, background, method) in methods() {
        // Logits of about ±1e4, zero keys, anti-aligned keys.
        for kind in 0..3 {
            let mut data = data(n, m, 5);
            match kind {
                0 => data[..2].iter_mut().for_each(|t| t.iter_mut().for_each(|x| *x *= 100.0)),
                1 => data[1].fill(0.0),
                _ => {
                    let direction: Vec<f32> = data[0][..D].iter().map(|x| x * 20.0).collect();
                    data[0].chunks_exact_mut(D).for_each(|r| r.copy_from_slice(&direction));
                    data[1]
                        .chunks_exact_mut(D)
                        .for_each(|r| r.iter_mut().zip(&direction).for_each(|(x, d)| *x = 0.01 * *x - d));
                }
            }
            for mask in [Mask::default(), Mask::causal()] {
                let got = run(&data, n, m, &mask, &method);
                let context = format!("kind {kind}, support {support}, background {background}");
                assert!(got.output.iter().all(|x| x.is_finite()), "{context}");
                assert!(got.log_sum_exp.unwrap().iter().all(|x| !x.is_nan()), "{context}");
                // Rows are weighted means of values, but for signed features.
                if background != common::SIGNED {
                    let top = data[2].iter().fold(0.0f32, |a, v| a.max(v.abs()));
                    assert!(got.output.iter().all(|x| x.abs() <= top * 1.001), "{context}");
                }
            }
        }
    }
}

#[test]
fn exact_attention_of_large_logits_is_right() {
    // Two keys, logits 1e4 and 1e4 − 1: weights 1/(1 + 1/e).
    let q = Tensor::f32("query", &[100.0], [1, 1, 1, 1]).unwrap();
    let k = Tensor::f32("key", &[100.0, 99.99, -100.0], [1, 1, 3, 1]).unwrap();
    let v = Tensor::f32("value", &[1.0, 0.0, 7.0], [1, 1, 3, 1]).unwrap();
    let options = Options { scale: Some(1.0), ..options() };
    let got = attend(&q, &k, &v, &Mask::default(), &Method::exact(), &options).unwrap();
    let gap = 10_000.0 - f64::from(99.99f32) * 100.0;
    // Logits of 1e4 have an f32 spacing of 2⁻¹⁰.
    assert!((f64::from(got.output[0]) - 1.0 / (1.0 + (-gap).exp())).abs() < 1.0 / 1024.0, "{}", got.output[0]);
}

#[test]
fn rows_with_nothing_to_attend_to_are_zeros() {
    let (n, m) = (14, 10);
    let data = data(n, m, 6);
    let nothing = vec![0u8; n * m];
    for (support, background, method) in methods() {
        let context = format!("support {support}, background {background}");
        let causal = run(&data, n, m, &Mask::causal(), &method);
        assert!(causal.output[..4 * D_V].iter().all(|&x| x == 0.0), "{context}");
        assert!(causal.log_sum_exp.unwrap()[..4].iter().all(|&x| x == f32::NEG_INFINITY), "{context}");
        let empty = run(&data, n, m, &Mask { key_lengths: Some(&[0]), ..Mask::default() }, &method);
        assert!(empty.output.iter().all(|&x| x == 0.0), "{context}");
        let mask = Mask { allowed: Some(MaskTensor::new(&nothing, [1, 1, n, m]).unwrap()), ..Mask::default() };
        assert!(run(&data, n, m, &mask, &method).output.iter().all(|&x| x == 0.0), "{context}");
    }
}

#[test]
fn distant_windows_do_not_underflow() {
    // The window shows keys that are far below the largest: their features vanish against the global reference.
    let (n, m) = (130, 130);
    let mut data = data(n, m, 7);
    data[1][..D].iter_mut().for_each(|x| *x *= 0.01);
    data[1][D..].iter_mut().for_each(|x| *x *= 12.0);
    let window = scatterbrain_core::Window { left: 2, right: 0, align: Default::default() };
    let mask = Mask { window: Some(window), ..Mask::default() };
    for background in 1..BACKGROUNDS {
        let method = Case { d: D, ..Case::plain() }.method(0, background);
        let got = run(&data, n, m, &mask, &method);
        assert!(got.output.iter().all(|x| x.is_finite()), "{background}");
        if background != common::SIGNED {
            let nonzero = got.output.chunks(D_V).all(|r| r.iter().any(|&x| x != 0.0));
            assert!(nonzero, "a row that sees keys is never zero: {background}");
        }
    }
}

#[test]
fn values_that_a_window_hides_leave_no_trace() {
    // A sum of values that is the difference of two others would have lost what is beside 1e10.
    let (n, window) = (600, scatterbrain_core::Window { left: 254, right: 0, align: Default::default() });
    let mut data = data(n, n, 8);
    data[2].fill(1.0);
    data[2][0] = 1e10;
    let mask = Mask { causal: true, window: Some(window), ..Mask::default() };
    for background in (1..BACKGROUNDS).filter(|b| *b != common::SIGNED) {
        let method = Case { d: D, ..Case::plain() }.method(0, background);
        let got = run(&data, n, n, &mask, &method);
        let late = got.output.chunks(n * D_V).flat_map(|head| &head[300 * D_V..]);
        assert!(late.clone().all(|x| (x - 1.0).abs() < 1e-5), "background {background}");
        // Most rows have a background that knows something of them.
        assert!(background != common::MASS || got.report.heads.iter().all(|head| head.recomputed_rows < n / 4));
    }
}

/// The argument that an error names.
fn named(result: Result<Attention, Error>) -> &'static str {
    match result.unwrap_err() {
        Error::Invalid { argument, .. } | Error::Overflow { argument, .. } => argument,
        other => panic!("{other}"),
    }
}

#[test]
fn errors_name_the_argument() {
    let zeros = vec![0.0f32; 4096];
    let tensor = |shape: [usize; 4]| Tensor::f32("x", &zeros[..shape.iter().product()], shape).unwrap();
    let call = |q, k, v, mask: &Mask<'_>| {
        attend(&tensor(q), &tensor(k), &tensor(v), mask, &Method::exact(), &Options::default())
    };
    let none = Mask::default();
    assert_eq!(named(call([1, 2, 3, 4], [1, 2, 5, 3], [1, 2, 5, 4], &none)), "key");
    assert_eq!(named(call([2, 2, 3, 4], [1, 2, 5, 4], [1, 2, 5, 4], &none)), "key");
    assert_eq!(named(call([1, 3, 3, 4], [1, 2, 5, 4], [1, 2, 5, 4], &none)), "kv_heads");
    assert_eq!(named(call([1, 2, 3, 4], [1, 2, 5, 4], [1, 2, 6, 4], &none)), "value");
    assert_eq!(named(call([1, 2, 3, 4], [1, 2, 5, 4], [1, 1, 5, 4], &none)), "value");
    let good = ([1, 2, 3, 4], [1, 2, 5, 4], [1, 2, 5, 4]);
    let lengths = |l: &[usize]| named(call(good.0, good.1, good.2, &Mask { key_lengths: Some(l), ..none }));
    assert_eq!((lengths(&[6]), lengths(&[1, 1]), lengths(&[])), ("key_lengths", "key_lengths", "key_lengths"));
    let mask = MaskTensor::new(&[1; 12], [1, 1, 3, 4]).unwrap();
    assert_eq!(named(call(good.0, good.1, good.2, &Mask { allowed: Some(mask), ..none })), "mask");
    assert!(Tensor::f32("query", &zeros[..7], [1, 1, 2, 4]).unwrap_err().to_string().starts_with("query: "));
    assert!(Tensor::f32("query", &[], [1, 1, 0, 4]).unwrap_err().to_string().starts_with("query: "));
    assert!(Tensor::strided("key", Data::F32(&zeros), [1, 1, 2, 4], [0, 0, usize::MAX, 1]).is_err());
    assert!(Tensor::f32("key", &zeros, [usize::MAX, 2, 2, 2]).is_err());
    assert!(Tensor::f32("key", &[], [0, usize::MAX, 2, 2]).is_err());
    for scale in [f32::NAN, f32::INFINITY, f32::MAX] {
        let options = Options { scale: Some(scale), ..Options::default() };
        let (q, k) = (tensor(good.0), tensor(good.1));
        assert_eq!(named(attend(&q, &k, &k, &none, &Method::exact(), &options)), "scale");
    }
    let budget = Method::exact().with_budget(6, 6).unwrap();
    assert_eq!(
        named(attend(&tensor(good.0), &tensor(good.1), &tensor(good.2), &none, &budget, &Options::default())),
        "budget"
    );
    assert!(Method::exact().with_budget(0, 0).is_err());
}

#[test]
fn overflow_is_a_typed_error_and_nothing_of_its_group_is_written() {
    let (small, big) = ([0.5f32; 8], [3e19f32; 8]);
    for background in 0..BACKGROUNDS {
        let method = Case { d: 4, ..Case::plain() }.method(0, background);
        let call = |query: &[f32], key: &[f32]| {
            let tensor = |x| Tensor::f32("x", x, [1, x.len() / 8, 2, 4]).unwrap();
            let (query, key) = (tensor(query), tensor(key));
            let mut output = vec![7.0; query.shape()[1] * 8];
            let options = Options::default();
            let result = attend_into(&query, &key, &key, &Mask::default(), &method, &options, &mut output, None);
            (result.expect_err("an overflow"), output)
        };
        // Of three heads with one key head the last one's queries are too large, or the keys of all.
        for (query, key) in [([small, small, big].concat(), small), ([small; 3].concat(), big)] {
            let (error, output) = call(&query, &key);
            assert!(matches!(error, Error::Overflow { .. }), "{error}");
            assert!(output.iter().all(|&x| x == 7.0), "{output:?}");
        }
        // Of several groups the first one's error is reported, whichever is found first.
        let all = [small, small, small, small, big, [6e19; 8]].concat();
        let pool = ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        assert_eq!(pool.install(|| call(&all, &all)).0, call(&big, &big).0);
    }
}

#[test]
fn sums_of_values_that_overflow_are_a_typed_error() {
    let (q, v) = ([0.5f32; 8], [3e38f32; 8]);
    let tensor = |data| Tensor::f32("x", data, [1, 1, 2, 4]).unwrap();
    let call = |v: &[f32]| {
        let v = Tensor::f32("value", v, [1, 1, 2, 4]).unwrap();
        attend(&tensor(&q), &tensor(&q), &v, &Mask::default(), &Method::exact(), &options())
    };
    assert_eq!(named(call(&v)), "value");
    let large = call(&[1e33; 8]).unwrap().output;
    assert!(large.iter().all(|x| (x / 1e33 - 1.0).abs() < 1e-6), "{large:?}");
    // A background's weights may be in a scale e^32 below them.
    let far = |v: &[f32]| {
        let v = Tensor::f32("value", v, [1, 1, 2, 4]).unwrap();
        let method = Case { d: 4, ..Case::plain() }.method(0, 1);
        attend(&tensor(&q), &tensor(&q), &v, &Mask::default(), &method, &options())
    };
    assert_eq!(named(far(&[1e33; 8])), "value");
    let large = far(&[1e22; 8]).unwrap().output;
    assert!(large.iter().all(|x| (x / 1e22 - 1.0).abs() < 1e-5), "{large:?}");
}

/// Rows of one cluster stand anywhere among the keys, yet the sums of the background are those of blocks of neighbours:
/// no row has to be summed again.
#[test]
fn clusters_under_a_causal_mask_take_totals_from_sums() {
    let (n, m) = (300, 300);
    let hash = Smyrf::sample(D, 2, Transform::XboxPlus, Seed(3)).unwrap();
    let map = HyperbolicFeatures::sample(D, 8, ProjectionKind::Orthogonal, Seed(4)).unwrap();
    let method = Method::scatterbrain(SmyrfSupport::new(hash, 16).unwrap(), FeatureBackground::new(map));
    let report = run(&data(n, m, 9), n, m, &Mask::causal(), &method).report;
    assert_eq!(report.recomputed_rows, 0);
    assert!(report.heads.iter().all(|h| h.exact_pairs > 0));
}

/// Logits of −20 under background weights of 1: off the support stands one key of m, and the denominator is 1 of 2m − 1.
#[test]
fn rows_that_lost_digits_are_computed_again() {
    let (n, m) = (20, 64);
    let data = [vec![1.0; 2 * n * D], vec![-7.0; m * D], data(n, m, 6)[2].clone()];
    let far = || FeatureBackground::new(Constant::new(D).unwrap());
    let again = |budget| {
        let method = Method::scatterbrain(TopK::new(budget).unwrap(), far());
        run(&data, n, m, &Mask::default(), &method).report.recomputed_rows
    };
    // 1/127 is under the limit of 1/32, 61/67 is not.
    assert_eq!((again(m - 1), again(3)), (2 * n, 0));
}

#[test]
fn clusters_may_name_padded_keys() {
    let (n, m, length) = (70, 80, 61);
    let data = data(n, m, 4);
    let cluster = |count: usize| (0..count).map(|i| (i % 4) as u32).collect::<Vec<_>>();
    let shifted = |count: usize| (0..count).map(|i| (i / 5 % 3) as u32).collect::<Vec<_>>();
    let rounds = vec![
        Round::from_clusters(cluster(n), &cluster(m), m).unwrap(),
        Round::from_clusters(shifted(n), &shifted(m), m).unwrap(),
    ];
    let support = ClusterSupport::new(Clusters::new(rounds, false).unwrap(), Causality::Strict);
    let features = HyperbolicFeatures::sample(D, 8, ProjectionKind::Gaussian, Seed(2)).unwrap();
    let method = Method::scatterbrain(support.clone(), FeatureBackground::new(features.clone()));
    let mask = Mask { key_lengths: Some(&[length]), ..Mask::default() };
    let got = run(&data, n, m, &mask, &method);
    // The same keys with nothing behind them.
    let cut = [data[0].clone(), data[1][..length * D].to_vec(), data[2][..length * D_V].to_vec()];
    let rounds = vec![
        Round::from_clusters(cluster(n), &cluster(length), length).unwrap(),
        Round::from_clusters(shifted(n), &shifted(length), length).unwrap(),
    ];
    let support = ClusterSupport::new(Clusters::new(rounds, false).unwrap(), Causality::Strict);
    let method = Method::scatterbrain(support, FeatureBackground::new(features));
    let want = run(&cut, n, length, &Mask::default(), &method);
    assert_eq!(got.report.heads[0].exact_pairs, want.report.heads[0].exact_pairs);
    for (a, b) in got.output.iter().zip(&want.output) {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{a} {b}");
    }
}

/// The first key, for the first `rows` of each tile.
#[derive(Debug, Clone)]
struct FirstKey {
    rows: usize,
    /// Lists of each tile; its rows where absent.
    lists: Option<usize>,
}

impl Support for FirstKey {
    fn prepare<'a>(&'a self, _: &Head<'a>) -> Result<Box<dyn Select + 'a>, Error> {
        Ok(Box::new(self.clone()))
    }

    fn causality(&self) -> Causality {
        Causality::Strict
    }
}

impl Select for FirstKey {
    fn select(&self, tile: &Tile<'_>, selection: &mut Selection) {
        let count = self.lists.unwrap_or(tile.rows.len());
        selection.lists = (0..count).map(|row| if row < self.rows { vec![0] } else { Vec::new() }).collect();
    }
}

#[test]
fn a_tile_may_have_fewer_or_more_lists_than_rows() {
    let (n, m) = (70, 80);
    let data = data(n, m, 9);
    let rows = 3;
    let method = |lists, background: usize| {
        let support = FirstKey { rows, lists };
        match background {
            0 => Method::sparse(support),
            1 => Method::scatterbrain(support, FeatureBackground::new(Constant::new(D).unwrap())),
            _ => Method::scatterbrain(support, ScanBackground::new(0.1).unwrap()),
        }
    };
    for background in 0..3 {
        let want = run(&data, n, m, &Mask::default(), &method(None, background));
        for lists in [rows, 100] {
            let got = run(&data, n, m, &Mask::default(), &method(Some(lists), background));
            assert_eq!(bits(&got.output), bits(&want.output), "{lists} {background}");
        }
    }
}

#[test]
fn shapes_that_no_memory_holds_are_refused() {
    let one = [0.0f32];
    let huge = Tensor::strided("query", Data::F32(&one), [1 << 32, 1 << 32, 1, 1], [0; 4]).unwrap();
    assert_eq!(named(attend(&huge, &huge, &huge, &Mask::default(), &Method::exact(), &options())), "query");
}

#[test]
fn budgets_beyond_the_keys_are_refused() {
    let data = data(10, 10, 8);
    let query = Tensor::f32("query", &data[0], [1, 2, 10, D]).unwrap();
    let key = Tensor::f32("key", &data[1], [1, 1, 10, D]).unwrap();
    let value = Tensor::f32("value", &data[2], [1, 1, 10, D_V]).unwrap();
    let call = |method| named(attend(&query, &key, &value, &Mask::default(), &method, &options()));
    assert_eq!(call(Method::sparse(TopK::new(11).unwrap())), "budget");
    let smyrf = Smyrf::sample(D, 1, Transform::XboxPlus, Seed(1)).unwrap();
    assert_eq!(call(Method::sparse(SmyrfSupport::new(smyrf, 11).unwrap())), "cluster_size");
}

#[test]
fn values_may_be_large_and_outputs_supplied() {
    let case = Case { n: 20, m: 30, ..Case::plain() };
    let method = case.method(1, 2);
    case.with_inputs(|q, k, v, mask| {
        let want = attend(q, k, v, mask, &method, &options()).unwrap();
        let mut output = vec![f32::NAN; want.output.len()];
        let mut lse = vec![f32::NAN; case.heads() * case.n];
        attend_into(q, k, v, mask, &method, &options(), &mut output, Some(&mut lse)).unwrap();
        assert_eq!(bits(&output), bits(&want.output));
        assert_eq!(bits(&lse), bits(&want.log_sum_exp.unwrap()));
        let mut short = vec![0.0; 3];
        let error = attend_into(q, k, v, mask, &method, &options(), &mut short, None).unwrap_err();
        assert!(error.to_string().starts_with("output: "));
    });
}
