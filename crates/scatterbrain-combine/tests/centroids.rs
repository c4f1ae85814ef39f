//! What centroids promise beyond the identities: the limits of one cluster and of one a key, and range.

use scatterbrain_blocks::WindowSupport;
use scatterbrain_combine::{Attention, Method, Options, attend};
use scatterbrain_core::{Mask, Seed, Tensor, Window};
use scatterbrain_features::CentroidBackground;

const D: usize = 8;

/// One head, scale 1.
fn run(data: &[Vec<f32>; 3], d_v: usize, mask: &Mask<'_>, method: &Method) -> Attention {
    let rows = |x: &[f32], width| x.len() / width;
    let query = Tensor::f32("query", &data[0], [1, 1, rows(&data[0], D), D]).unwrap();
    let key = Tensor::f32("key", &data[1], [1, 1, rows(&data[1], D), D]).unwrap();
    let value = Tensor::f32("value", &data[2], [1, 1, rows(&data[2], d_v), d_v]).unwrap();
    let options = Options { scale: Some(1.0), log_sum_exp: true, ..Options::default() };
    attend(&query, &key, &value, mask, method, &options).unwrap()
}

fn data(n: usize, m: usize, d_v: usize, seed: u64) -> [Vec<f32>; 3] {
    let mut rng = Seed(seed).stream(0);
    [rng.normals(n * D), rng.normals(m * D), rng.normals(m * d_v)]
}

fn far(count: usize) -> CentroidBackground {
    CentroidBackground::new(count, Seed(5)).unwrap()
}

fn masks() -> [Mask<'static>; 4] {
    let window = Some(Window { left: 40, right: 20, align: Default::default() });
    [
        Mask::default(),
        Mask::causal(),
        Mask { window, ..Mask::default() },
        Mask { key_lengths: Some(&[61]), ..Mask::causal() },
    ]
}

#[test]
fn a_centroid_a_key_is_exact_attention() {
    for mask in masks() {
        for count in [90, 4000] {
            let data = data(70, 90, 5, 1);
            let (got, want) =
                (run(&data, 5, &mask, &Method::low_rank(far(count))), run(&data, 5, &mask, &Method::exact()));
            for (g, w) in got.output.iter().zip(&want.output) {
                assert!((g - w).abs() < 2e-5, "{g} for {w}");
            }
            for (g, w) in got.log_sum_exp.unwrap().iter().zip(&want.log_sum_exp.unwrap()) {
                assert!(g == w || (g - w).abs() < 2e-5, "{g} for {w}");
            }
        }
    }
}

#[test]
fn one_centroid_is_the_mean_of_the_values() {
    let data = data(33, 90, 5, 2);
    let got = run(&data, 5, &Mask::default(), &Method::low_rank(far(1)));
    let mean: Vec<f32> = (0..5).map(|c| data[2].iter().skip(c).step_by(5).sum::<f32>() / 90.0).collect();
    for (i, row) in got.output.chunks(5).enumerate() {
        assert!(row.iter().zip(&mean).all(|(g, w)| (g - w).abs() < 1e-5));
        // ln Σ = q·μ + ln m.
        let key = |c: usize| data[1].iter().skip(c).step_by(D).sum::<f32>() / 90.0;
        let want = (0..D).map(|c| data[0][i * D + c] * key(c)).sum::<f32>() + 90f32.ln();
        assert!((got.log_sum_exp.as_ref().unwrap()[i] - want).abs() < 1e-5);
    }
}

/// Keys come in groups of equal ones, a multiple of the block's size each: any clusters that find them are exact.
#[test]
fn clusters_of_equal_keys_are_exact() {
    let (n, m) = (96, 96);
    for mask in [Mask::default(), Mask::causal()] {
        let mut data = data(n, m, 5, 3);
        for j in 0..m {
            let first = j / 16 * 16;
            data[1].copy_within(first * D..(first + 1) * D, j * D);
        }
        let method = Method::scatterbrain(WindowSupport::last(7).unwrap(), far(6));
        let (got, want) = (run(&data, 5, &mask, &method), run(&data, 5, &mask, &Method::exact()));
        for (g, w) in got.output.iter().zip(&want.output) {
            assert!((g - w).abs() < 2e-5, "{g} for {w}");
        }
    }
}

/// Logits up to ±300 and beyond, in both orders of size along the keys.
#[test]
fn large_logits_keep_rows_inside_the_values() {
    for (factor, reversed) in [(10.0, false), (10.0, true), (300.0, false), (300.0, true)] {
        let (n, m, d_v) = (130, 130, 4);
        let mut data = data(n, m, d_v, 4);
        for (j, row) in data[1].chunks_mut(D).enumerate() {
            let rank = if reversed { m - j } else { j };
            row.iter_mut().for_each(|x| *x *= factor * rank as f32 / m as f32);
        }
        data[0].iter_mut().for_each(|x| *x *= 3.0);
        for mask in masks() {
            for count in [1, 2, 7, 40] {
                for method in [
                    Method::low_rank(far(count)),
                    Method::scatterbrain(WindowSupport::last(20).unwrap().with_sinks(2), far(count)),
                ] {
                    let got = run(&data, d_v, &mask, &method);
                    let top = data[2].iter().fold(0.0f32, |a, v| a.max(v.abs()));
                    assert!(got.output.iter().all(|x| x.abs() <= top * 1.001), "{factor} {reversed} {count}");
                    for (i, lse) in got.log_sum_exp.unwrap().iter().enumerate() {
                        let sees = mask.head(0, 0, n, m).visible(i) > 0;
                        assert_eq!(lse.is_finite(), sees, "row {i}: {lse}");
                    }
                }
            }
        }
    }
}

#[test]
fn no_centroid_is_refused() {
    assert!(CentroidBackground::of_blocks(0).unwrap_err().to_string().starts_with("n_centroids: "));
    assert!(CentroidBackground::new(0, Seed(1)).unwrap_err().to_string().starts_with("n_centroids: "));
}
