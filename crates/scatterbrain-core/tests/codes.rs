//! Kernels of scans: rows and weights in bytes, products of bytes, weights of approximate scores. On every SIMD level of
//! this CPU, against plain loops written here.

use proptest::prelude::*;
use scatterbrain_core::kernel::{self, PANEL, Running};
use scatterbrain_core::{Level, Matrix, Seed};

const ULP: f64 = 1.0 / (1u64 << 24) as f64;

/// Codes by the formula, in f64, but for ties between integers. With sums of 16 bits either half of a row has a limit.
fn naive_codes(row: &[f32], most: f64, sixteen: bool) -> (Vec<f64>, f64) {
    let largest = row.iter().fold(0.0f64, |top, x| top.max(f64::from(x.abs())));
    if largest == 0.0 {
        return (vec![0.0; row.len()], 0.0);
    }
    let half = |odd: usize| {
        row.iter().enumerate().filter(move |(c, _)| c / 2 % 2 == odd).map(|(_, x)| f64::from(*x) / largest)
    };
    let norm = |odd: usize| half(odd).map(|x| x * x).sum::<f64>().sqrt();
    let limit = 181.0 - (half(0).count() as f64).sqrt() / 2.0;
    let steps = if sixteen { most.min(limit / norm(0).max(norm(1))) } else { most };
    (row.iter().map(|x| f64::from(*x) / largest * steps).collect(), largest / steps)
}

/// Those of this CPU, and each with the codes that every CPU takes.
fn levels() -> impl Iterator<Item = Level> {
    Level::available().into_iter().flat_map(|level| [level, level.with_common_codes()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn codes_and_scans_are_their_formulas_at_every_level(
        cols in 1usize..200, keys in 0usize..20, lanes in 1usize..=PANEL, kind in 0usize..5, seed in any::<u64>()
    ) {
        let mut rng = Seed(seed).stream(0);
        let mut draw = |rows: usize| -> Vec<f32> {
            let mut x = match kind {
                // All at the limit: the largest products that there are.
                0 => vec![if seed.is_multiple_of(2) { 1.0 } else { -3.0 }; rows * cols],
                1 => (0..rows * cols).map(|_| [1.0, -1.0][rng.below(2) as usize]).collect(),
                _ => rng.normals(rows * cols),
            };
            for row in x.chunks_exact_mut(cols) {
                match kind {
                    // One element alone, whole rows of zeros, and rows of all magnitudes.
                    2 => row[rng.below(cols as u64) as usize] *= 1e4,
                    3 => row.fill(0.0),
                    4 => {
                        let size = 10f32.powi(rng.below(70) as i32 - 37);
                        row.iter_mut().for_each(|x| *x *= size);
                    }
                    _ => {}
                }
            }
            x
        };
        let (query, key) = (draw(lanes), draw(keys.max(1)));
        let width = cols.next_multiple_of(kernel::QUAD);
        let mut before: [Option<(Vec<i8>, Vec<u32>)>; 2] = [None, None];
        for level in levels() {
            let (most_of_keys, sixteen) = (kernel::key_code(level), kernel::key_code(level) == 63);
            let limit = kernel::product_limit(level, cols);
            let quantise = |rows: &[f32], most: i8| {
                let count = rows.len() / cols;
                let (mut codes, mut scales) = (vec![9; count * width], vec![f32::NAN; count]);
                kernel::quantise_rows(level, Matrix::new("rows", rows, count, cols).unwrap(), most, limit, &mut codes, &mut scales);
                for ((row, codes), scale) in rows.chunks_exact(cols).zip(codes.chunks_exact(width)).zip(&scales) {
                    let (want, want_scale) = naive_codes(row, f64::from(most), sixteen);
                    // A code is rounded: by half, and the f32 arithmetic before it.
                    prop_assert!(codes.iter().zip(&want).all(|(c, w)| (f64::from(*c) - w).abs() < 0.5001));
                    prop_assert!(codes[cols..].iter().all(|c| *c == 0) && codes.iter().all(|c| c.abs() <= most));
                    prop_assert!((f64::from(*scale) - want_scale).abs() <= 1e-5 * want_scale + 1e-44);
                }
                Ok((codes, scales))
            };
            let (q, q_scales) = quantise(&query, i8::MAX)?;
            let (k, k_scales) = quantise(&key, most_of_keys)?;
            let (k, k_scales) = (&k[..keys * width], &k_scales[..keys]);
            let bytes: Vec<u8> = k.iter().map(|c| c.wrapping_add(most_of_keys) as u8).collect();
            let codes = kernel::QueryCodes::new(level, &q, width, &q_scales);
            let (mut out, mut shifted) = (vec![f32::NAN; keys * PANEL], vec![f32::NAN; keys * PANEL]);
            kernel::scan(level, &codes, &bytes, k_scales, &[0.0; PANEL], &mut out);
            let offsets: [f32; PANEL] = std::array::from_fn(|r| (r as f32 - 5.0) * 0.37);
            kernel::scan(level, &codes, &bytes, k_scales, &offsets, &mut shifted);
            for j in 0..keys {
                for r in 0..PANEL {
                    let pair = |c: usize| i64::from(q[r * width + c]) * i64::from(k[j * width + c]);
                    let half = |odd: usize| (0..width).filter(|c| c / 2 % 2 == odd).map(pair).sum::<i64>();
                    let halves = if r < lanes { [half(0), half(1)] } else { [0; 2] };
                    prop_assert!(!sixteen || halves.iter().all(|sum| sum.abs() < 1 << 15), "{:?}", halves);
                    let sum = halves[0] + halves[1];
                    let want = if r < lanes { sum as f32 * q_scales[r] * k_scales[j] } else { 0.0 };
                    prop_assert_eq!(out[j * PANEL + r], want, "{} at {}, {}", level.name(), j, r);
                    // The sum is rounded once or twice.
                    let off = (f64::from(shifted[j * PANEL + r]) - f64::from(want) - f64::from(offsets[r])).abs();
                    prop_assert!(shifted[j * PANEL + r] == want || off <= 1.3e-7 * f64::from(want.abs() + offsets[r].abs()), "{} at {}, {}", level.name(), j, r);
                }
            }
            // A zero has either sign.
            let bits = (q, out.iter().map(|x| (x + 0.0).to_bits()).collect::<Vec<_>>());
            if let Some(before) = before[usize::from(sixteen)].replace(bits.clone()) {
                prop_assert_eq!(before, bits);
            }
        }
    }
}

#[test]
fn rows_of_all_magnitudes_have_finite_scores() {
    let sizes = [f32::MAX, 1e38, 1.0, 1e-38, 1e-42, 1e-44, 1e-45, 0.0];
    for level in levels() {
        let quantise = |size: f32, most: i8| {
            let (mut codes, mut scale) = ([9; 64], [f32::NAN]);
            let row = [size; 64];
            let rows = Matrix::new("row", &row, 1, 64).unwrap();
            kernel::quantise_rows(level, rows, most, kernel::product_limit(level, 64), &mut codes, &mut scale);
            (codes, scale)
        };
        for (query, key) in sizes.iter().flat_map(|q| sizes.map(|k| (*q, k))) {
            let (q, q_scale) = quantise(query, i8::MAX);
            let (k, k_scale) = quantise(key, kernel::key_code(level));
            let mut out = [f32::NAN; PANEL];
            let bytes = k.map(|code| code.wrapping_add(kernel::key_code(level)) as u8);
            let codes = kernel::QueryCodes::new(level, &q, 64, &q_scale);
            kernel::scan(level, &codes, &bytes, &k_scale, &[0.0; PANEL], &mut out);
            assert!(out.iter().all(|x| !x.is_nan()), "{}: {query:e} {key:e} {out:?}", level.name());
        }
    }
    // Where steps are less than one, a scale is more than the largest number of its row.
    let row = vec![f32::MAX; 120_000];
    for level in levels() {
        let (mut codes, mut scale) = (vec![9; row.len()], [f32::NAN]);
        let limit = kernel::product_limit(level, row.len());
        let rows = Matrix::new("row", &row, 1, row.len()).unwrap();
        kernel::quantise_rows(level, rows, i8::MAX, limit, &mut codes, &mut scale);
        assert!(scale[0].is_finite(), "{scale:?}");
    }
    // No limit but an infinite one is none.
    for limit in [0.0, -1.0, f32::NEG_INFINITY, f32::NAN] {
        let (mut codes, mut scale) = ([9; 4], [9.0]);
        let rows = Matrix::new("row", &[1.0, -2.0, 3.0], 1, 3).unwrap();
        kernel::quantise_rows(Level::detect(), rows, i8::MAX, limit, &mut codes, &mut scale);
        assert_eq!((codes, scale), ([0; 4], [0.0]), "{limit}");
    }
}

#[test]
#[should_panic(expected = "out")]
fn scans_into_parts_of_a_panel_row_are_refused() {
    let query = kernel::QueryCodes::new(Level::detect(), &[1; 4], 4, &[1.0]);
    kernel::scan(Level::detect(), &query, &[63; 4], &[1.0], &[0.0; PANEL], &mut [0.0; PANEL + 3]);
}

#[test]
#[should_panic(expected = "keys")]
fn scans_of_parts_of_a_key_are_refused() {
    let query = kernel::QueryCodes::new(Level::detect(), &[1; 4], 4, &[1.0]);
    kernel::scan(Level::detect(), &query, &[63; 6], &[1.0], &[0.0; PANEL], &mut [0.0; PANEL]);
}

#[test]
#[should_panic(expected = "width")]
fn codes_of_no_width_are_refused() {
    kernel::QueryCodes::new(Level::detect(), &[], 0, &[1.0]);
}

#[test]
fn sums_over_as_many_keys_as_promised_fit() {
    let keys = kernel::CODE_KEYS / 4 * 4;
    let (ones, none) = ([1.0; PANEL], [0.0; PANEL]);
    let scales = vec![127.0; keys];
    let coding = kernel::Coding { first: 0, scales: &scales, value_steps: &ones, mass_steps: &none, most: 127 };
    let (weights, rows) = (vec![1.0; keys * PANEL], kernel::CodeRows::new(Level::detect(), &vec![-127; keys], 1, 1));
    let mut codes = kernel::WeightCodes::default();
    let mut heavy = vec![0; keys.div_ceil(kernel::WORD) * PANEL];
    for level in levels() {
        kernel::code_weights(level, &weights, &coding, &mut codes, &mut heavy, &mut [0.0; PANEL]);
        let mut acc = [0; PANEL];
        kernel::weighted_code_sum(level, &codes, &rows, &mut acc);
        assert_eq!(acc, [-127 * 127 * keys as i32; PANEL], "{}", level.name());
    }
}

#[test]
fn partial_sums_may_exceed_sixteen_bits() {
    // With keys of seven bits the sums are at 8·126·127 each after half of the columns; in the end at most at 63·127.
    let query = [127i8; 32];
    for level in levels() {
        let most = kernel::key_code(level) as u8;
        let mut key = [[2 * most; 16], [0; 16]].concat();
        key[31] = most;
        let codes = kernel::QueryCodes::new(level, &query, 32, &[1.0]);
        let mut out = [0.0; PANEL];
        kernel::scan(level, &codes, &key, &[2.0], &[0.0; PANEL], &mut out);
        assert_eq!(out[0], 2.0 * f32::from(most) * 127.0, "{}", level.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Codes through sums over rows that have 127 at one key each, and sums over others against plain loops.
    #[test]
    fn codes_of_weights_are_their_formula_at_every_level(
        groups in 0usize..60, first in 0usize..300, columns in 0usize..20, most in 1u8..=127, spread in 0usize..4, seed in any::<u64>()
    ) {
        let (keys, first) = (groups * 4, first * 4);
        let mut rng = Seed(seed).stream(0);
        // From far under a step to far over the largest; some 0.
        let size = [1e-3, 1.0, 30.0, 1e30][spread];
        let weights: Vec<f32> = rng.normals(keys * PANEL).iter().map(|x| x.max(-0.2).abs() * size - 0.2 * size).map(|x| x.max(0.0)).collect();
        let scales: Vec<f32> = rng.normals(keys).iter().map(|x| if *x > 1.5 { 0.0 } else { x.abs() }).collect();
        let draw = |rng: &mut scatterbrain_core::Rng| std::array::from_fn(|_| rng.uniform() as f32 * 8.0);
        let (value_steps, mass_steps): ([f32; PANEL], [f32; PANEL]) = (draw(&mut rng), draw(&mut rng));
        let values: Vec<i8> = (0..(first + keys) * columns.max(1)).map(|_| rng.below(255) as i8).collect();
        // Fractions that come again after 64 blocks.
        let coding = kernel::Coding { first, scales: &scales, value_steps: &value_steps, mass_steps: &mass_steps, most };
        let steps = |j: usize, r: usize| weights[j * PANEL + r] * scales[j] * value_steps[r];
        let is_heavy = |j: usize, r: usize| steps(j, r).max(weights[j * PANEL + r] * mass_steps[r]) > f32::from(most);
        for level in levels() {
            let (mut codes, mut heavy, mut light) = (kernel::WeightCodes::default(), vec![7; keys.div_ceil(32) * PANEL], [1.0; PANEL]);
            kernel::code_weights(level, &weights, &coding, &mut codes, &mut heavy, &mut light);
            let mut identity = vec![0i8; (first + keys) * keys];
            (0..keys).for_each(|j| identity[(first + j) * keys + j] = 1);
            let mut code = vec![0; keys * PANEL];
            if keys > 0 {
                kernel::weighted_code_sum(level, &codes, &kernel::CodeRows::new(level, &identity, keys, keys), &mut code);
            }
            for r in 0..PANEL {
                let mut sum = 1.0;
                for j in 0..keys {
                    let bit = heavy[j / 32 * PANEL + r] >> (j % 32) & 1 == 1;
                    prop_assert_eq!(bit, is_heavy(j, r), "{} {} {}", level.name(), j, r);
                    let code = f64::from(code[j * PANEL + r]);
                    if bit {
                        prop_assert_eq!(code, 0.0);
                        continue;
                    }
                    sum += f64::from(weights[j * PANEL + r]);
                    let (key, block) = (first + j, (first + j) / 256);
                    let fine = ((block % 64) as f64 * 0.5 * (5f64.sqrt() - 1.0)).fract().max(1e-3);
                    let up = ((157 * (key + 148 * block) % 256) as f64 + fine) / 256.0;
                    let want = f64::from(steps(j, r)) + up;
                    // The floor, but for a sum that rounding moves over a whole number.
                    prop_assert!(code <= want + 2e-5 && want - code < 1.0 + 2e-5, "{}: {} for {}", level.name(), code, want);
                    prop_assert!(code <= f64::from(most));
                }
                // Twice what a plain sum in f32 may be off by.
                prop_assert!((f64::from(light[r]) - sum).abs() <= 2.0 * (keys as f64 + 1.0) * ULP * sum + 1e-37, "{}", level.name());
            }
            if columns == 0 {
                continue;
            }
            let rows = kernel::CodeRows::new(level, &values, columns, columns);
            let mut appended = kernel::CodeRows::with_capacity(1, columns);
            values.chunks(8 * columns).for_each(|rows| appended.append(level, rows, columns));
            prop_assert_eq!(&rows, &appended);
            let mut acc: Vec<i32> = (0..columns * PANEL).map(|x| x as i32).collect();
            kernel::weighted_code_sum(level, &codes, &rows, &mut acc);
            for (at, acc) in acc.iter().enumerate() {
                let (c, r) = (at / PANEL, at % PANEL);
                let value = |j: usize| i32::from(values[(first + j) * columns + c].max(-127));
                let want = at as i32 + (0..keys).map(|j| code[j * PANEL + r] * value(j)).sum::<i32>();
                prop_assert_eq!(*acc, want, "{}", level.name());
            }
        }
    }

    #[test]
    fn coarse_softmax_is_softmax_in_lower_precision(keys in 1usize..40, calls in 1usize..4, spread in 0.0f32..60.0, seed in any::<u64>()) {
        let mut rng = Seed(seed).stream(0);
        let sizes: Vec<f32> = rng.normals(keys).iter().map(|x| x.abs()).collect();
        for level in levels() {
            let (mut running, mut fine, mut sized) = (Running::default(), Running::default(), [0.0; PANEL]);
            let mut want_sized = [0.0f64; PANEL];
            for _ in 0..calls {
                let hide = |x: &f32| if *x > 1.2 { f32::NEG_INFINITY } else { x * spread };
                let mut scores: Vec<f32> = rng.normals(keys * PANEL).iter().map(hide).collect();
                let mut want = scores.clone();
                kernel::softmax(level, &mut want, &mut fine, None);
                kernel::coarse_softmax(level, &mut scores, &sizes, &mut running, &mut sized);
                prop_assert_eq!(running.max, fine.max);
                for (r, sum) in want_sized.iter_mut().enumerate() {
                    *sum *= f64::from(fine.rescale[r]);
                    *sum += sizes.iter().zip(want[r..].iter().step_by(PANEL)).map(|(s, w)| f64::from(s * w)).sum::<f64>();
                }
                for (got, want) in scores.iter().zip(&want) {
                    // From 2^−59.5 down weights are nothing.
                    prop_assert!((got - want).abs() <= 4.6e-4 * want + 1.23e-18 && (*want > 0.0 || *got == 0.0), "{} {} {}", level.name(), got, want);
                    prop_assert!(*got == 0.0 || *got > 1.22e-18);
                }
            }
            for r in 0..PANEL {
                prop_assert!((running.sum[r] - fine.sum[r]).abs() <= 5e-4 * fine.sum[r]);
                prop_assert!((f64::from(sized[r]) - want_sized[r]).abs() <= 5e-4 * want_sized[r] + 1e-16);
            }
        }
    }
}
