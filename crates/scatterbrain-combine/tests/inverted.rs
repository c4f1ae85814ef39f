//! The inverted file reads the clusters that matter, no more keys than it may, and depends on nothing that comes later.

mod common;

use common::Case;
use rayon::ThreadPoolBuilder;
use scatterbrain_blocks::to_dense_mask;
use scatterbrain_combine::{InvertedFileSupport, Method, Options, attend};
use scatterbrain_core::tile::Head;
use scatterbrain_core::{HeadMask, Level, Mask, Matrix, Seed, Tensor, Window};
use scatterbrain_features::SampledMassBackground;

const D: usize = 24;

/// Rows of `groups` groups far from each other, one after the other in turn.
fn groups(n: usize, groups: usize, seed: Seed) -> Vec<f32> {
    let centres = seed.stream(0).normals(groups * D);
    let noise = seed.stream(1).normals(n * D);
    (0..n * D).map(|x| 4.0 * centres[x / D % groups * D + x % D] + 0.1 * noise[x]).collect()
}

/// The pairs of a head.
fn pairs(rows: &[f32], mask: &HeadMask<'_>, budget: usize, clusters: usize) -> Vec<bool> {
    let rows = Matrix::new("rows", rows, rows.len() / D, D).unwrap();
    let head = Head { query: rows, key: rows, scale: 0.3, mask, level: Level::detect() };
    to_dense_mask(&InvertedFileSupport::new(budget).unwrap().with_clusters(clusters).unwrap(), &head).unwrap()
}

#[test]
fn a_row_reads_the_keys_of_its_group_and_those_alone() {
    let (n, count) = (600, 10);
    let rows = groups(n, count, Seed(1));
    let own = |i: usize, j: usize| i % count == j % count;
    for (mask, seen) in [(Mask::default(), n), (Mask::causal(), 0)] {
        let mask = mask.head(0, 0, n, n);
        let got = pairs(&rows, &mask, 100, 4 * count);
        for i in 0..n {
            let end = seen.max(i + 1);
            // All that it sees where that is no more than it may take, else its group, which is less.
            let wanted = |j: usize| j < end && (end <= 100 || own(i, j));
            assert!((0..n).all(|j| got[i * n + j] == wanted(j)), "row {i} of {mask:?}");
        }
        // Half of the group, where it may take no more; of one cluster, the latest.
        let (half, one) = (pairs(&rows, &mask, 30, 4 * count), pairs(&rows, &mask, 30, 1));
        for i in (0..n).filter(|&i| seen.max(i + 1) >= n / 2 + 10) {
            let taken = |got: &[bool]| (0..n).filter(|&j| got[i * n + j]).collect::<Vec<_>>();
            let row = taken(&half);
            assert!(row.len() == 30 && row.iter().all(|&j| own(i, j)), "row {i} of {mask:?}: {row:?}");
            let end = seen.max(i + 1);
            assert_eq!(taken(&one), (end - 30..end).collect::<Vec<_>>(), "row {i} of {mask:?}");
        }
    }
}

#[test]
fn nearly_all_of_many_groups_are_found() {
    // More cells than a row looks into.
    let (n, count) = (2400, 300);
    let rows = groups(n, count, Seed(4));
    let mask = Mask::default().head(0, 0, n, n);
    let got = pairs(&rows, &mask, 40, 1100);
    let misses = |i: &usize| (0..n).any(|j| i % count == j % count && !got[i * n + j]);
    // Seeded: 0.6 % of the rows when it was written.
    let missing = (0..n).filter(misses).count();
    assert!(missing < n / 50, "{missing}");
    assert!(got.iter().filter(|&&taken| taken).count() < 20 * n);
}

#[test]
fn no_row_has_more_keys_than_it_may_and_none_that_sees_some_has_none() {
    let plain = Case { batch: 2, n: 210, m: 210, d: 9, ..Case::plain() };
    let cases = [
        plain.clone(),
        Case { causal: true, ..plain.clone() },
        Case { causal: true, lengths: true, n: 100, ..plain.clone() },
        Case { window: Some((80, 12, false)), ..plain.clone() },
        Case { window: Some((90, 9, true)), causal: true, boolean: true, ..plain.clone() },
        Case { boolean: true, lengths: true, ..plain.clone() },
        Case { spread: 0.0, causal: true, ..plain.clone() },
        Case { spread: 1e4, scale: -2.0, ..plain },
    ];
    for (seed, case) in (0..).zip(&cases) {
        let case = Case { seed, ..case.clone() };
        case.with_inputs(|query, key, _, mask| {
            for (b, h) in (0..case.batch).flat_map(|b| (0..case.heads()).map(move |h| (b, h))) {
                let mask = mask.head(b, h, case.n, case.m);
                let (query, key) = (query.head(b, h), key.head(b, h / case.group));
                let (query, key) = (query.matrix(), key.matrix());
                let head = Head { query, key, scale: case.scale, mask: &mask, level: Level::detect() };
                for (budget, clusters) in [(1, 1), (7, 30), (70, 5), (100, 1000)] {
                    let got = to_dense_mask(
                        &InvertedFileSupport::new(budget).unwrap().with_clusters(clusters).unwrap(),
                        &head,
                    )
                    .unwrap();
                    for i in 0..case.n {
                        let taken = (0..case.m).filter(|&j| got[i * case.m + j] && mask.sees(i, j)).count();
                        let visible = mask.visible(i);
                        assert!(
                            taken <= budget && (visible == 0 || taken > 0),
                            "{taken} of {visible}, row {i}, {case:?}"
                        );
                        assert!(visible > budget || taken == visible || case.boolean, "{taken} of {visible}, {case:?}");
                    }
                }
            }
        });
    }
}

#[test]
fn earlier_rows_of_a_long_input_do_not_see_later_tokens_to_the_bit() {
    // Several epochs, lists longer than a chunk, rows visited by cluster.
    let n = 1500;
    let before = groups(n, 3, Seed(2));
    let value = Seed(3).stream(0).normals(n * D);
    for method in [12, 1000].into_iter().flat_map(|clusters| alone_and_beside(400, clusters)) {
        check_earlier_rows(n, &before, &value, &method);
    }
}

/// Without a background, and with one that follows the support.
fn alone_and_beside(budget: usize, clusters: usize) -> [Method; 2] {
    let file = InvertedFileSupport::new(budget).unwrap().with_clusters(clusters).unwrap();
    [Method::sparse(file), Method::scatterbrain(file, SampledMassBackground::new(32, Seed(4)).unwrap())]
}

fn check_earlier_rows(n: usize, before: &[f32], value: &[f32], method: &Method) {
    let run = |rows: &[f32], value: &[f32]| {
        let rows = Tensor::f32("rows", rows, [1, 1, n, D]).unwrap();
        let value = Tensor::f32("value", value, [1, 1, n, D]).unwrap();
        attend(&rows, &rows, &value, &Mask::causal(), method, &Options::default()).unwrap()
    };
    let first = run(before, value);
    for cut in [1499, 1300, 1024, 700, 513] {
        let (mut after, mut later) = (before.to_vec(), value.to_vec());
        after[cut * D..].iter_mut().enumerate().for_each(|(x, to)| *to = before[x % (7 * D)] * 1.5);
        later[cut * D..].iter_mut().for_each(|x| *x += 1.0);
        let second = run(&after, &later);
        let bits = |x: &[f32]| x[..cut * D].iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&first.output), bits(&second.output), "cut {cut}");
        assert_ne!(first.output[cut * D..], second.output[cut * D..]);
    }
    assert!(first.report.heads[0].share < 0.9);
}

#[test]
fn what_is_off_the_lists_weighs_what_it_does() {
    // A row's group has logits near ln n, and all others e^{σ²/2} times their number of its weight.
    let (n, budget) = (4096, 128);
    let rows = groups(n, 64, Seed(10));
    let value = Seed(11).stream(0).normals(n * D);
    let options = Options { scale: Some((n as f32).ln() / (16 * D) as f32), ..Options::default() };
    let run = |method: &Method| {
        let rows = Tensor::f32("rows", &rows, [1, 1, n, D]).unwrap();
        let value = Tensor::f32("value", &value, [1, 1, n, D]).unwrap();
        attend(&rows, &rows, &value, &Mask::causal(), method, &options).unwrap().output
    };
    let exact = run(&Method::exact());
    let [alone, beside] = alone_and_beside(budget, n / 32).map(|method| {
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let output = run(&method);
        let rows = output.chunks_exact(D).zip(exact.chunks_exact(D));
        let error =
            |(a, b): (&[f32], &[f32])| norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied());
        rows.map(error).sum::<f64>() / n as f64
    });
    assert!(alone > 0.05 && beside < 0.4 * alone, "{alone} {beside}");
}

#[test]
fn rows_are_what_they_were_when_tokens_are_appended() {
    let rows = groups(1500, 40, Seed(6));
    let value = Seed(7).stream(0).normals(1500 * D);
    let window = |left: usize| Some(Window { left, right: 0, align: Default::default() });
    for (method, window) in
        alone_and_beside(90, 300).iter().flat_map(|m| [None, window(400), window(900)].map(|w| (m, w)))
    {
        let run = |n: usize| {
            let rows = Tensor::f32("rows", &rows[..n * D], [1, 1, n, D]).unwrap();
            let value = Tensor::f32("value", &value[..n * D], [1, 1, n, D]).unwrap();
            let mask = Mask { window, ..Mask::causal() };
            attend(&rows, &rows, &value, &mask, method, &Options::default()).unwrap().output
        };
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let all = run(1500);
        for n in [100, 128, 700, 1024, 1025] {
            assert_eq!(bits(&run(n)), bits(&all[..n * D]), "{n} tokens, {window:?}");
        }
    }
}

#[test]
fn finite_rows_of_any_size_give_finite_outputs_on_any_number_of_threads() {
    let n = 1500;
    let plain = groups(n, 40, Seed(8));
    let value = Seed(9).stream(0).normals(n * D);
    let times = |factor: f32| plain.iter().map(|x| x * factor).collect::<Vec<_>>();
    // A later key beside which all others are nothing, and one of the first.
    let lone = |at: usize| {
        let mut key = plain.clone();
        key[at * D..(at + 1) * D].fill(1e17);
        key
    };
    let keys =
        [times(0.0), times(1e-41), times(1e-30), times(100.0), times(1e15), vec![1.0; n * D], lone(5), lone(1200)];
    for (case, key) in keys.iter().enumerate() {
        for (mask, m) in [(Mask::causal(), n), (Mask::default(), n), (Mask::causal(), 900), (Mask::default(), 1)] {
            let budget = 60.min(m);
            let [alone, beside] = alone_and_beside(budget, 1000);
            let run = |method: &Method, threads: usize| {
                let query = Tensor::f32("query", &plain, [1, 1, n, D]).unwrap();
                let key = Tensor::f32("key", &key[..m * D], [1, 1, m, D]).unwrap();
                let value = Tensor::f32("value", &value[..m * D], [1, 1, m, D]).unwrap();
                let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let options = Options { scale: Some(3.0), ..Options::default() };
                pool.install(|| attend(&query, &key, &value, &mask, method, &options).unwrap().output)
            };
            for method in [alone, beside] {
                let output = run(&method, 1);
                assert!(output.iter().all(|x| x.is_finite() && x.abs() < 10.0), "keys {case}, m = {m}");
                let equal = output.iter().zip(run(&method, 3)).all(|(x, y)| x.to_bits() == y.to_bits());
                assert!(equal, "keys {case}, m = {m}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let file = InvertedFileSupport::new;
    assert!(file(0).unwrap_err().to_string().starts_with("budget: "));
    assert!(file(1).unwrap().with_clusters(0).unwrap_err().to_string().starts_with("clusters: "));
    let rows = vec![1.0; 20 * D];
    let matrix = Matrix::new("rows", &rows, 20, D).unwrap();
    let mask = Mask::default().head(0, 0, 20, 20);
    let head = Head { query: matrix, key: matrix, scale: 1.0, mask: &mask, level: Level::detect() };
    let error = to_dense_mask(&InvertedFileSupport::new(21).unwrap().with_clusters(4).unwrap(), &head).unwrap_err();
    assert!(error.to_string().starts_with("budget: "), "{error}");
}
