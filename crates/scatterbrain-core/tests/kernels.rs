//! Every kernel on every SIMD level of this CPU, against float64 loops written here.
//!
//! Tolerance: a dot product of length c in f32 is off by at most about c·2⁻²⁴·Σ|x·y|; twice that is allowed.

use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};
use proptest::prelude::*;
use scatterbrain_core::kernel::{self, Extent, PANEL, Running, SLACK, Seen, Subtract, Taken};
use scatterbrain_core::tile::Keys;
use scatterbrain_core::{Data, Level, Matrix, Seed, Tensor};
use std::iter::repeat_n;

const ULP: f64 = 1.0 / (1u64 << 24) as f64;

fn close(got: f32, want: f64, magnitude: f64, terms: usize) -> bool {
    (f64::from(got) - want).abs() <= 2.0 * (terms as f64 + 1.0) * ULP * magnitude + 1e-37
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn product_and_weighted_sum_are_their_formulas(
        cols in prop_oneof![1usize..70, 200usize..300], n_rows in 1usize..60, count in 0usize..50, lanes in 1usize..=PANEL, listed in any::<bool>(), seed in any::<u64>()
    ) {
        let mut rng = Seed(seed).stream(0);
        let rows = rng.normals(n_rows * cols);
        let matrix = Matrix::new("rows", &rows, n_rows, cols).unwrap();
        let keys = if listed {
            Keys::List((0..count).map(|_| rng.below(n_rows as u64) as u32).collect())
        } else {
            let start = rng.below(n_rows as u64) as usize;
            Keys::Range(start..(start + count).min(n_rows))
        };
        let query = rng.normals(lanes * cols);
        let query_matrix = Matrix::new("query", &query, lanes, cols).unwrap();
        let ids: Vec<u32> = (0..lanes as u32).collect();
        let mut panel = vec![f32::NAN; cols * PANEL];
        kernel::pack(Level::detect(), query_matrix, &ids, 0.5, &mut panel);
        let weights = rng.normals(keys.len() * PANEL);
        let start = rng.normals(cols * PANEL);
        for level in Level::available() {
            let mut out = vec![f32::NAN; keys.len() * PANEL];
            kernel::product(level, &panel, matrix, &keys, &mut out);
            for j in 0..keys.len() {
                for r in 0..PANEL {
                    let q = |c: usize| if r < lanes { f64::from(query[r * cols + c]) * 0.5 } else { 0.0 };
                    let k = |c: usize| f64::from(matrix.row(keys.get(j))[c]);
                    let want: f64 = (0..cols).map(|c| q(c) * k(c)).sum();
                    let size: f64 = (0..cols).map(|c| (q(c) * k(c)).abs()).sum();
                    prop_assert!(close(out[j * PANEL + r], want, size, cols), "{} at {j}, {r}: {} {want}", level.name(), out[j * PANEL + r]);
                }
            }
            let mut acc = start.clone();
            kernel::weighted_sum(level, &weights, matrix, &keys, &mut acc);
            for c in 0..cols {
                for r in 0..PANEL {
                    let term = |j: usize| f64::from(weights[j * PANEL + r]) * f64::from(matrix.row(keys.get(j))[c]);
                    let first = f64::from(start[c * PANEL + r]);
                    let want = first + (0..keys.len()).map(term).sum::<f64>();
                    let size = first.abs() + (0..keys.len()).map(|j| term(j).abs()).sum::<f64>();
                    prop_assert!(close(acc[c * PANEL + r], want, size, keys.len()), "{}", level.name());
                }
            }
        }
    }

    /// Whatever panels are around it, to the bit.
    #[test]
    fn several_panels_are_one_after_the_other(
        cols in prop_oneof![1usize..30, 200usize..300], count in 0usize..20, panels in 0usize..10, listed in any::<bool>(), seed in any::<u64>()
    ) {
        let mut rng = Seed(seed).stream(0);
        let rows = rng.normals(20 * cols);
        let matrix = Matrix::new("rows", &rows, 20, cols).unwrap();
        let keys = if listed { Keys::List((0..count as u32).rev().collect()) } else { Keys::Range(20 - count..20) };
        let (size, slot) = (cols * PANEL, count * PANEL);
        let (query, weights, start) = (rng.normals(panels * size), rng.normals(panels * slot), rng.normals(panels * size));
        for level in Level::available() {
            let (mut out, mut acc) = (vec![f32::NAN; panels * slot], start.clone());
            kernel::product(level, &query, matrix, &keys, &mut out);
            kernel::weighted_sum(level, &weights, matrix, &keys, &mut acc);
            for p in 0..panels {
                let (mut own_out, mut own_acc) = (vec![f32::NAN; slot], start[p * size..(p + 1) * size].to_vec());
                kernel::product(level, &query[p * size..(p + 1) * size], matrix, &keys, &mut own_out);
                kernel::weighted_sum(level, &weights[p * slot..(p + 1) * slot], matrix, &keys, &mut own_acc);
                prop_assert_eq!(&out[p * slot..(p + 1) * slot], &own_out[..]);
                prop_assert_eq!(&acc[p * size..(p + 1) * size], &own_acc[..]);
            }
        }
    }

    #[test]
    fn row_kernels_are_their_formulas(cols in 1usize..140, n_rows in 1usize..20, count in 0usize..40, seed in any::<u64>()) {
        let mut rng = Seed(seed).stream(0);
        let rows = rng.normals(n_rows * cols);
        let matrix = Matrix::new("rows", &rows, n_rows, cols).unwrap();
        let keys: Vec<u32> = (0..count).map(|_| rng.below(n_rows as u64) as u32).collect();
        let x = rng.normals(cols);
        let weights = rng.normals(count);
        let start = rng.normals(cols);
        for level in Level::available() {
            let mut out = vec![f32::NAN; count];
            kernel::dot_rows(level, &x, matrix, &keys, &mut out);
            for (o, k) in out.iter().zip(&keys) {
                let term = |c: usize| f64::from(x[c]) * f64::from(matrix.row(*k as usize)[c]);
                let size = (0..cols).map(|c| term(c).abs()).sum();
                prop_assert!(close(*o, (0..cols).map(term).sum(), size, cols));
            }
            let mut acc = start.clone();
            kernel::weighted_sum_rows(level, &weights, matrix, &keys, &mut acc);
            for c in 0..cols {
                let term = |j: usize| f64::from(weights[j]) * f64::from(matrix.row(keys[j] as usize)[c]);
                let first = f64::from(start[c]);
                let size = first.abs() + (0..count).map(|j| term(j).abs()).sum::<f64>();
                prop_assert!(close(acc[c], first + (0..count).map(term).sum::<f64>(), size, count));
            }
        }
    }

    #[test]
    fn online_softmax_in_pieces_is_softmax_at_once(
        pieces in prop::collection::vec(0usize..9, 1..5), seed in any::<u64>(), spread in 0.1f32..60.0, background in any::<bool>()
    ) {
        let mut rng = Seed(seed).stream(0);
        let all: Vec<Vec<f32>> = pieces.iter().map(|p| rng.normals(p * PANEL).iter().map(|x| if *x > 1.5 { f32::NEG_INFINITY } else { x * spread }).collect()).collect();
        let entries: Vec<Vec<f32>> = pieces.iter().map(|p| rng.normals(p * PANEL)).collect();
        let log_scale: [f32; PANEL] = std::array::from_fn(|_| rng.normals(1)[0] * spread);
        for level in Level::available() {
            let (mut running, mut taken) = (Running::default(), Taken::default());
            if background {
                running.max = log_scale;
            }
            // Weights as they came out, with the reference of their time, and how often it has moved since.
            let mut out: Vec<(Vec<f32>, [f32; PANEL])> = Vec::new();
            for (piece, entries) in all.iter().zip(&entries) {
                let mut scores = piece.clone();
                let subtract = background.then_some(Subtract { entries, log_scale: &log_scale, taken: &mut taken });
                let before = running.max;
                let moved = kernel::softmax(level, &mut scores, &mut running, subtract);
                prop_assert_eq!(moved, before != running.max);
                out.push((scores, running.max));
            }
            for r in 0..PANEL {
                let lane = |of: &[Vec<f32>]| -> Vec<f64> { of.iter().flat_map(|p| p.iter().skip(r).step_by(PANEL).map(|x| f64::from(*x))).collect() };
                let (scores, entries) = (lane(&all), lane(&entries));
                let start = if background { f64::from(log_scale[r]) } else { f64::NEG_INFINITY };
                let top = scores.iter().copied().fold(start, f64::max);
                let max = f64::from(running.max[r]);
                prop_assert!(max <= top && top <= max + f64::from(SLACK) || max == top, "{} {max} {top}", level.name());
                let want: f64 = if max.is_finite() { scores.iter().map(|x| (x - max).exp2()).sum() } else { 0.0 };
                // Differences of scores up to 4·spread are rounded to 2⁻²⁴ of themselves, once a move of the reference.
                let loss = 1e-6 * (4.0 + f64::from(spread));
                prop_assert!((f64::from(running.sum[r]) - want).abs() <= want * loss + 1e-36, "{} {want}", running.sum[r]);
                let weights: Vec<(f64, f64)> = out.iter().flat_map(|(p, max)| p.iter().skip(r).step_by(PANEL).map(|x| (f64::from(*x), f64::from(max[r])))).collect();
                for ((w, max), (s, e)) in weights.iter().zip(scores.iter().zip(&entries)) {
                    let exact = if max.is_finite() { (s - max).exp2() } else { 0.0 };
                    let less = if background { (start - max).exp2() * e } else { 0.0 };
                    prop_assert!((w - (exact - less)).abs() <= loss * (exact + less.abs()) + 1e-30, "{w} {exact} {less}");
                }
                let taken_want: f64 = if background { entries.iter().sum() } else { 0.0 };
                let magnitude: f64 = if background { entries.iter().map(|e| e.abs()).sum() } else { 0.0 };
                prop_assert!((f64::from(taken.sum[r]) - taken_want).abs() <= magnitude * 1e-5 + 1e-37);
                prop_assert!((f64::from(taken.magnitude[r]) - magnitude).abs() <= magnitude * 1e-5 + 1e-37);
            }
        }
    }

    #[test]
    fn hide_keeps_what_a_lane_sees(count in 0usize..40, listed in any::<bool>(), codes in any::<bool>(), bounded in any::<bool>(), chosen in any::<bool>(), seed in any::<u64>()) {
        let mut rng = Seed(seed).stream(0);
        let keys = if listed { Keys::List((0..count).map(|_| rng.below(60) as u32).collect()) } else { Keys::Range(7..7 + count) };
        let from: [u32; PANEL] = std::array::from_fn(|_| rng.below(40) as u32);
        let to: [u32; PANEL] = std::array::from_fn(|_| rng.below(60) as u32);
        let lane_codes: [u32; PANEL] = std::array::from_fn(|_| rng.below(3) as u32);
        let key_codes: Vec<u32> = (0..count).map(|_| rng.below(3) as u32).collect();
        let except = if codes { vec![(lane_codes, &*key_codes)] } else { vec![] };
        let bits: Vec<u32> = (0..count).map(|_| rng.below(1 << PANEL) as u32).collect();
        let scores = rng.normals(count * PANEL);
        for level in Level::available() {
            let (mut got, mut entries) = (scores.clone(), scores.clone());
            let ends = [from, to];
            let interval = bounded.then_some(&ends);
            let only = chosen.then_some(&*bits);
            let seen = Seen { interval, only, except: &except };
            let kept = kernel::hide(level, &keys, &seen, &mut got, &mut entries);
            let (mut alone, mut weights) = (scores.clone(), scores.clone());
            prop_assert_eq!(kernel::hide(level, &keys, &seen, &mut alone, &mut []), kept);
            prop_assert_eq!(kernel::hide(level, &keys, &seen, &mut [], &mut weights), kept);
            prop_assert!(alone == got && weights == entries, "{}", level.name());
            for lane in 0..PANEL {
                let mut expected = 0;
                for at in 0..count {
                    let key = keys.get(at) as u32;
                    let inside = !bounded || (from[lane] <= key && key < to[lane]);
                    let taken = !chosen || bits[at] >> lane & 1 == 1;
                    let visible = inside && taken && !(codes && lane_codes[lane] == key_codes[at]);
                    let x = scores[at * PANEL + lane];
                    expected += u32::from(visible);
                    prop_assert_eq!(got[at * PANEL + lane], if visible { x } else { f32::NEG_INFINITY });
                    prop_assert_eq!(entries[at * PANEL + lane], if visible { x } else { 0.0 });
                }
                prop_assert_eq!(kept[lane], expected, "{}", level.name());
            }
        }
    }

    #[test]
    fn packing_is_transposition_and_back(cols in 1usize..70, rows in 1usize..=PANEL, seed in any::<u64>()) {
        let data = Seed(seed).stream(0).normals(rows * cols);
        let matrix = Matrix::new("rows", &data, rows, cols).unwrap();
        let ids: Vec<u32> = (0..rows as u32).rev().collect();
        for level in Level::available() {
            let (mut panel, mut flat) = (vec![f32::NAN; cols * PANEL], vec![f32::NAN; cols * PANEL]);
            kernel::pack(level, matrix, &ids, 2.0, &mut panel);
            kernel::pack_rows(level, &data, cols, &mut flat);
            for c in 0..cols {
                for r in 0..PANEL {
                    let (listed, plain) = if r < rows { (2.0 * data[(rows - 1 - r) * cols + c], data[r * cols + c]) } else { (0.0, 0.0) };
                    prop_assert_eq!((panel[c * PANEL + r], flat[c * PANEL + r]), (listed, plain), "{}", level.name());
                }
            }
            let mut back = vec![f32::NAN; rows * cols];
            kernel::unpack_rows(level, &flat, &mut back);
            prop_assert_eq!(&back, &data);
            let mut one = vec![f32::NAN; cols];
            kernel::unpack(&flat, rows - 1, 1.0, &mut one);
            prop_assert_eq!(&one, &data[(rows - 1) * cols..]);
        }
    }

    #[test]
    fn feature_kernels_are_their_formulas(m in 1usize..40, count in 1usize..20, lanes in 1usize..=PANEL, seed in any::<u64>()) {
        let mut rng = Seed(seed).stream(0);
        let minus_infinity = |x: Vec<f32>| -> Vec<f32> { x.into_iter().map(|x| if x > 1.5 { f32::NEG_INFINITY } else { x }).collect() };
        let rows = minus_infinity(rng.normals(count * m));
        let offset = rng.normals(m);
        let panel = minus_infinity(rng.normals(m * PANEL));
        let scale: [f32; PANEL] = std::array::from_fn(|_| rng.normals(1)[0]);
        let (dots, row_offset) = (rng.normals(count * PANEL), rng.normals(count));
        // Differences reach about 10.
        let near = |got: f32, want: f64| (f64::from(got) - want).abs() <= (2.5e-7 + 10.0 * 1.2e-7) * want.abs() + 1e-37;
        for level in Level::available() {
            let mut top = offset.clone();
            kernel::raise(level, &rows, &mut top);
            let naive: Vec<f32> = (0..m).map(|l| rows.iter().skip(l).step_by(m).copied().fold(offset[l], f32::max)).collect();
            prop_assert_eq!(top, naive);
            let mut below = rows.clone();
            kernel::exp_below(level, &mut below, &offset);
            for (at, (got, x)) in below.iter().zip(&rows).enumerate() {
                prop_assert!(near(*got, f64::from(x - offset[at % m]).exp()), "{got} {x}");
            }
            let tops = kernel::lane_tops(level, &panel, &offset);
            let largest = kernel::lane_argmax(level, &panel, &offset);
            let mut chosen = vec![7; m.div_ceil(32) * PANEL];
            kernel::lanes_from(level, &panel, &offset, &scale, &mut chosen);
            let mut from = Vec::new();
            kernel::for_chosen(&chosen, |l, lanes| from.push((l, lanes)));
            let above = |l: usize| (0..PANEL).filter(|r| panel[l * PANEL + r] + offset[l] >= scale[*r]).fold(0u32, |bits, r| bits | 1 << r);
            let naive: Vec<(usize, u32)> = (0..m).map(|l| (l, above(l))).filter(|(_, lanes)| *lanes != 0).collect();
            prop_assert_eq!(from, naive);
            let mut by_lane = vec![Vec::new(); PANEL];
            kernel::for_chosen_lanes(&chosen, |r, l| by_lane[r].push(l));
            for (r, own) in by_lane.into_iter().enumerate() {
                let naive: Vec<usize> = (0..m).filter(|l| above(*l) >> r & 1 == 1).collect();
                prop_assert_eq!(own, naive);
            }
            let mut weights = panel.clone();
            kernel::exp_lanes(level, &mut weights, &offset, &scale);
            for r in 0..PANEL {
                let sums: Vec<f32> = (0..m).map(|l| panel[l * PANEL + r] + offset[l]).collect();
                prop_assert_eq!(tops[r], sums.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                prop_assert_eq!(sums.iter().position(|&x| x == tops[r]), Some(largest[r] as usize));
                for l in 0..m {
                    prop_assert!(near(weights[l * PANEL + r], f64::from(sums[l] - scale[r]).exp()));
                }
            }
            // With rows in lanes, the same to the bit as with rows one below the other.
            let mut affine = vec![7.0; dots.len()];
            kernel::affine_lanes(level, &dots, (1.5, &scale), &mut affine);
            for r in 0..PANEL {
                let lane: Vec<f32> = dots.iter().skip(r).step_by(PANEL).copied().collect();
                let mut row = vec![0.0; count * PANEL];
                let copies: Vec<f32> = lane.iter().flat_map(|x| [*x; PANEL]).collect();
                kernel::affine_rows(level, &copies, (1.5, &vec![scale[r]; count]), &mut row, (PANEL, 0, PANEL));
                for (at, x) in row.iter().step_by(PANEL).enumerate() {
                    prop_assert_eq!(affine[at * PANEL + r].to_bits(), x.to_bits(), "{}", level.name());
                }
            }
            let (width, first) = (lanes + 3, 2);
            let mut out = vec![7.0; count * width];
            kernel::affine_rows(level, &dots, (1.5, &row_offset), &mut out, (width, first, lanes));
            for (j, row) in out.chunks_exact(width).enumerate() {
                for (c, got) in row.iter().enumerate() {
                    if (first..first + lanes).contains(&c) {
                        let (x, o) = (f64::from(dots[j * PANEL + c - first]), f64::from(row_offset[j]));
                        prop_assert!((f64::from(*got) - (1.5 * x + o)).abs() <= 2.0 * ULP * 2.0 * ((1.5 * x).abs() + o.abs()));
                    } else {
                        prop_assert_eq!(*got, 7.0);
                    }
                }
            }
        }
    }

    #[test]
    fn lane_arithmetic_is_its_formula(cols in 0usize..30, seed in any::<u64>()) {
        let mut rng = Seed(seed).stream(0);
        let (panel, other) = (rng.normals(cols * PANEL), rng.normals(cols * PANEL));
        let [f, g]: [[f32; PANEL]; 2] = [(); 2].map(|()| std::array::from_fn(|_| rng.normals(1)[0]));
        let weights = rng.normals(cols);
        for level in Level::available() {
            let (mut scaled, mut blended, mut sum) = (panel.clone(), panel.clone(), [1.0; PANEL]);
            kernel::scale_lanes(level, &mut scaled, &f);
            kernel::blend_lanes(level, &mut blended, &f, &other, &g);
            kernel::add_lanes(level, &panel, &mut sum);
            let mut tops = [0.5; PANEL];
            kernel::raise_weighted(level, &panel, &weights, &mut tops);
            for at in 0..panel.len() {
                let (a, b) = (f64::from(panel[at]) * f64::from(f[at % PANEL]), f64::from(other[at]) * f64::from(g[at % PANEL]));
                prop_assert!(close(scaled[at], a, a.abs(), 1) && close(blended[at], a + b, a.abs() + b.abs(), 2));
            }
            for r in 0..PANEL {
                let lane = || panel.iter().skip(r).step_by(PANEL).map(|&x| f64::from(x));
                prop_assert!(close(sum[r], 1.0 + lane().sum::<f64>(), 1.0 + lane().map(f64::abs).sum::<f64>(), cols));
                let products = panel.iter().skip(r).step_by(PANEL).zip(&weights).map(|(x, w)| x * w);
                prop_assert_eq!(tops[r], products.fold(0.5, f32::max));
            }
        }
    }

    #[test]
    fn groups_are_added_up(cols in 1usize..70, rows in 1usize..40, groups in 1usize..9, seed in any::<u64>()) {
        let mut rng = Seed(seed).stream(0);
        let data = rng.normals(rows * cols);
        let matrix = Matrix::new("rows", &data, rows, cols).unwrap();
        let group: Vec<u32> = (0..rng.below(rows as u64 + 1)).map(|_| rng.below(groups as u64) as u32).collect();
        let mut want = vec![0.5; groups * cols];
        for (j, g) in group.iter().enumerate() {
            for c in 0..cols {
                want[*g as usize * cols + c] += f64::from(data[j * cols + c]);
            }
        }
        for level in Level::available() {
            let mut sums = vec![0.5; groups * cols];
            kernel::add_to_groups(level, matrix, &group, &mut sums);
            prop_assert_eq!(&sums, &want, "{}", level.name());
        }
    }

    #[test]
    fn extent_and_norms(cols in 1usize..70, rows in 1usize..9, used in 0usize..9, bad in prop::option::of(0usize..600), seed in any::<u64>()) {
        let mut data = Seed(seed).stream(0).normals(rows * cols);
        let used = used.min(rows);
        if let Some(at) = bad.filter(|at| *at < data.len()) {
            data[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][at % 3];
        }
        let matrix = Matrix::new("rows", &data, rows, cols).unwrap();
        let seen = &data[..used * cols];
        let largest = seen.iter().filter(|x| x.is_finite()).fold(0.0f32, |a, x| a.max(x.abs()));
        let want = Extent { largest, finite: seen.iter().all(|x| x.is_finite()) };
        // The same rows as halves, whose largest is the half of the largest; larger ones may stand between them.
        let gap = (seed % 2) as usize;
        let wide = |to: fn(f32) -> u16| -> Vec<u16> {
            data.chunks_exact(cols).flat_map(|row| repeat_n(to(1e4), gap).chain(row.iter().map(|x| to(*x)))).collect()
        };
        let (f16s, bf16s) = (wide(|x| f16::from_f32(x).to_bits()), wide(|x| bf16::from_f32(x).to_bits()));
        let views = [Data::F16(f16s.reinterpret_cast()), Data::Bf16(bf16s.reinterpret_cast())];
        let rounded = [f16::from_f32(largest).to_f32(), bf16::from_f32(largest).to_f32()];
        let strides = [0, 0, cols + gap, 1];
        for level in Level::available() {
            prop_assert_eq!(kernel::extent(level, matrix, used), want, "{}", level.name());
            for (view, largest) in views.iter().zip(rounded) {
                let tensor = match view {
                    Data::F16(x) => Tensor::strided("x", Data::F16(&x[gap..]), [1, 1, rows, cols], strides),
                    Data::Bf16(x) => Tensor::strided("x", Data::Bf16(&x[gap..]), [1, 1, rows, cols], strides),
                    _ => unreachable!("halves"),
                };
                let got = kernel::head_extent(level, &tensor.unwrap(), 0, 0, used);
                prop_assert_eq!(got, Extent { largest, ..want }, "{} {:?}", level.name(), view);
            }
            let mut norms = vec![0.0; used];
            kernel::square_norms(level, matrix, &mut norms);
            for (i, norm) in norms.iter().enumerate() {
                prop_assert_eq!(norm.to_bits(), kernel::square_norm(matrix.row(i)).to_bits());
                let exact: f64 = matrix.row(i).iter().map(|x| f64::from(*x).powi(2)).sum();
                prop_assert!(!exact.is_finite() || (norm - exact).abs() <= 1e-14 * exact);
            }
        }
    }
}

#[test]
#[should_panic(expected = "range end index")]
fn rows_behind_a_slice_are_refused() {
    let data = [1.0; 20];
    let rows = Matrix::new("rows", &data, 5, 4).unwrap().first_rows(2);
    kernel::product(Level::detect(), &[1.0; 4 * PANEL], rows, &Keys::List(vec![2]), &mut [0.0; PANEL]);
}

#[test]
#[should_panic(expected = "rows of 4 columns")]
fn parts_of_a_row_are_not_packed() {
    kernel::pack_rows(Level::detect(), &[1.0; 5], 4, &mut [0.0; 4 * PANEL]);
}

#[test]
fn exp2_of_the_softmax_is_within_its_promise() {
    for level in Level::available() {
        let inputs: Vec<f32> = (1..2_000_000).map(|i| -125.5 + 252.5 * (i as f32 / 2_000_000.0)).collect();
        let mut out = inputs.clone();
        kernel::exp2_slice(level, &mut out);
        let error = |(x, y): (&f32, &f32)| (f64::from(*y) / f64::from(*x).exp2() - 1.0).abs();
        let worst = inputs.iter().zip(&out).map(error).fold(0.0, f64::max);
        assert!(worst <= 2.5e-7, "{}: {worst:e}", level.name());
        let mut small: Vec<f32> = (0..=30_500).map(|i| -156.0 + i as f32 / 1000.0).collect();
        kernel::exp2_slice(level, &mut small);
        assert!(small.iter().all(|y| *y == 0.0), "{}: products of what is subnormal are slow", level.name());
        let mut special = [0.0, -0.0, f32::NEG_INFINITY, -127.0, -1e30, f32::MIN, 1.0, -125.0, 127.0];
        kernel::exp2_slice(level, &mut special);
        assert_eq!(special, [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0, (-125.0f32).exp2(), 127.0f32.exp2()]);
    }
}

#[test]
fn rows_less_a_row() {
    let (rows, row) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.5, -1.0, f32::INFINITY]);
    let rows = Matrix::new("rows", &rows, 2, 3).unwrap();
    for level in Level::available() {
        let mut out = [f32::NAN; 6];
        kernel::subtract_row(level, rows, &row, &mut out);
        assert_eq!(out, [0.5, 3.0, f32::NEG_INFINITY, 3.5, 6.0, f32::NEG_INFINITY]);
    }
}

/// Products of subnormal weights and values take an x86 core a hundred cycles each.
#[test]
fn no_weight_is_subnormal() {
    let mut rng = Seed(11).stream(0);
    for level in Level::available() {
        let wide: Vec<f32> = rng.normals(500 * PANEL).iter().map(|x| x * 60.0).collect();
        let entries: Vec<f32> = rng.normals(500 * PANEL).iter().map(|x| (x * 6.0 - 20.0).exp2()).collect();
        for background in [None, Some(0.0f32), Some(100.0)] {
            let (mut scores, mut running, mut taken) = (wide.clone(), Running::default(), Taken::default());
            let log_scale = background.map(|below| [180.0 - below; PANEL]);
            let subtract = log_scale.as_ref().map(|log_scale| {
                running.max = *log_scale;
                Subtract { entries: &entries, log_scale, taken: &mut taken }
            });
            kernel::softmax(level, &mut scores, &mut running, subtract);
            assert!(!scores.iter().any(|w| w.is_subnormal()), "{}", level.name());
            let tiny = scores.iter().any(|w| *w != 0.0 && w.abs() < 1e-30);
            assert!(tiny || background == Some(0.0), "{}: nothing so small", level.name());
        }
    }
}

#[test]
fn exp_is_within_one_and_a_half_ulp() {
    for level in Level::available() {
        let mut worst = 0.0f64;
        let mut inputs: Vec<f32> = (0..2_000_000).map(|i| -87.3 + 176.0 * (i as f32 / 2_000_000.0)).collect();
        inputs.extend((0..100_000).map(|i| (i as f32 - 50_000.0) * 1e-7));
        // All whose result is subnormal, or rounds to 0.
        inputs.extend(((-87.3f32).to_bits()..(-106.0f32).to_bits()).step_by(3).map(f32::from_bits));
        let mut out = inputs.clone();
        kernel::exp_slice(level, &mut out);
        for (x, y) in inputs.iter().zip(&out) {
            let want = f64::from(*x).exp();
            if want < f64::from(f32::MAX) {
                let ulp = f64::from((want as f32).next_up()) - f64::from(want as f32);
                worst = worst.max((f64::from(*y) - want).abs() / ulp);
            }
        }
        assert!(worst <= 1.5, "{}: {worst} ulp", level.name());
    }
}

#[test]
fn exp_of_special_values() {
    for level in Level::available() {
        let mut x = [0.0, -0.0, f32::NEG_INFINITY, f32::INFINITY, 1e30, -1e30, 88.9, -104.5, f32::NAN, 1.0, -100.0];
        kernel::exp_slice(level, &mut x);
        assert_eq!(
            &x[..8],
            &[1.0, 1.0, 0.0, f32::INFINITY, f32::INFINITY, 0.0, f32::INFINITY, 0.0],
            "{}",
            level.name()
        );
        assert!(x[8].is_nan());
        assert!((x[9] - std::f32::consts::E).abs() < 3e-7);
        assert!((f64::from(x[10]) / (-100.0f64).exp() - 1.0).abs() < 0.02, "subnormal: {}", x[10]);
    }
}

/// |got − want| in units of the last place of `want`.
fn ulps(got: f32, want: f64) -> f64 {
    let near = (want as f32).abs();
    (f64::from(got) - want).abs() / (f64::from(near.next_up()) - f64::from(near))
}

#[test]
fn ln_is_within_one_ulp() {
    for level in Level::available() {
        // Every 509th bit pattern of a positive number, subnormals included, and all near 1.
        let mut inputs: Vec<f32> = (1..f32::INFINITY.to_bits()).step_by(509).map(f32::from_bits).collect();
        let one = 1.0f32.to_bits();
        inputs.extend((one - 200_000..one + 200_000).map(f32::from_bits));
        let mut out = inputs.clone();
        kernel::ln_slice(level, &mut out);
        let worst = inputs.iter().zip(&out).map(|(x, y)| ulps(*y, f64::from(*x).ln())).fold(0.0, f64::max);
        assert!(worst <= 1.0, "{}: {worst} ulp", level.name());
    }
}

#[test]
#[ignore = "minutes: every positive f32"]
fn ln_of_all_numbers() {
    for level in Level::available() {
        let (mut worst, mut at) = (0.0, 0.0);
        for start in (1..f32::INFINITY.to_bits()).step_by(1 << 20) {
            let inputs: Vec<f32> =
                (start..(start + (1 << 20)).min(f32::INFINITY.to_bits())).map(f32::from_bits).collect();
            let mut out = inputs.clone();
            kernel::ln_slice(level, &mut out);
            for (x, y) in inputs.iter().zip(&out) {
                let error = ulps(*y, f64::from(*x).ln());
                if error > worst {
                    (worst, at) = (error, *x);
                }
            }
        }
        assert!(worst <= 1.0, "{}: {worst} ulp at {at:e}", level.name());
    }
}

#[test]
fn ln_of_special_values() {
    for level in Level::available() {
        // In every lane of a vector, and in the tail.
        for at in 0..11 {
            for (x, want) in
                [(1.0, 0.0), (0.0, f32::NEG_INFINITY), (-0.0, f32::NEG_INFINITY), (f32::INFINITY, f32::INFINITY)]
            {
                let mut y = [2.0; 11];
                y[at] = x;
                kernel::ln_slice(level, &mut y);
                assert_eq!(y[at], want, "{} {x}", level.name());
            }
            for x in [-1.0, -1e-45, f32::NEG_INFINITY, f32::MIN, f32::NAN, -f32::NAN] {
                let mut y = [2.0; 11];
                y[at] = x;
                kernel::ln_slice(level, &mut y);
                assert!(y[at].is_nan() && y[(at + 1) % 11] == 2.0f32.ln(), "{} {x}", level.name());
            }
        }
    }
}

#[test]
fn logs_of_elu_and_relu() {
    let mut rng = Seed(3).stream(0);
    let (rows, cols) = (41, 21);
    // All magnitudes, so that small numbers keep their digits.
    let mut data: Vec<f32> =
        rng.normals(rows * cols).iter().map(|x| x * (40.0 * rng.uniform() as f32 - 32.0).exp2()).collect();
    data[..7].copy_from_slice(&[0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e38, 1e-45]);
    let matrix = Matrix::new("rows", &data, rows, cols).unwrap();
    for level in Level::available() {
        let mut out = vec![7.0; rows * cols];
        kernel::elu_logs(level, matrix, &mut out);
        for (x, y) in data.iter().zip(&out) {
            let want = if *x > 0.0 { f64::from(*x).ln_1p() } else { f64::from(*x) };
            let special = x.is_nan() && y.is_nan() || !x.is_finite() && x == y;
            assert!(special || ulps(*y, want) <= 2.0, "{} {x}: {y} {want}", level.name());
        }
        let (width, first, lanes) = (19, 2, 13);
        let mut out = vec![7.0; 11 * width];
        kernel::relu_logs(level, &data[..11 * PANEL], (1.5, -0.25), &mut out, (width, first, lanes));
        for (j, row) in out.chunks_exact(width).enumerate() {
            for (c, y) in row.iter().enumerate() {
                if !(first..first + lanes).contains(&c) {
                    assert_eq!(*y, 7.0);
                    continue;
                }
                let x = data[j * PANEL + c - first];
                let want = f64::from((x * 1.5).max(0.0)).ln() - 0.25;
                let near = (f64::from(*y) - want).abs() <= 3.0 * ULP * (want.abs() + 0.25);
                assert!(
                    near || want.is_infinite() && f64::from(*y) == want || x.is_nan() && y.is_nan(),
                    "{x} {y} {want}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn select_is_the_head_of_a_sort(
        count in 0usize..150, budget in 0u32..160, slack in 0u32..20, kind in 0usize..5, hidden in 0.0f64..1.0, seed in any::<u64>()
    ) {
        let mut rng = Seed(seed).stream(0);
        let mut scores: Vec<f32> = (0..count * PANEL).map(|_| match kind {
            0 => rng.normal() as f32,
            // Few values: ties everywhere.
            1 => rng.below(4) as f32 - 1.0,
            2 => [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0, f32::MAX, f32::MIN][rng.below(8) as usize],
            3 => f32::from_bits(rng.below(u64::from(u32::MAX)) as u32),
            _ => (rng.normal() * 30.0).exp() as f32,
        }).collect();
        for score in &mut scores {
            if rng.uniform() < hidden * hidden {
                *score = kernel::HIDDEN;
            }
        }
        for level in Level::available() {
            let mut chosen = vec![7; count.div_ceil(kernel::WORD) * PANEL];
            let least = budget.saturating_sub(slack);
            kernel::select(level, &mut scores.clone(), least..=budget, &mut chosen);
            for r in 0..PANEL {
                let score = |j: &usize| scores[j * PANEL + r];
                let mut order: Vec<usize> = (0..count).filter(|j| score(j).to_bits() != kernel::HIDDEN.to_bits()).collect();
                order.sort_by(|a, b| score(b).total_cmp(&score(a)));
                let bit = |j: usize| chosen[j / kernel::WORD * PANEL + r] >> (j % kernel::WORD) & 1 == 1;
                let got: Vec<usize> = (0..count.div_ceil(kernel::WORD) * kernel::WORD).filter(|j| bit(*j)).collect();
                let few = order.len().min(least as usize)..=order.len().min(budget as usize);
                prop_assert!(few.contains(&got.len()), "{} lane {}: {} of {:?}", level.name(), r, got.len(), few);
                order.truncate(got.len());
                order.sort_unstable();
                prop_assert_eq!(got, order, "{} lane {}", level.name(), r);
            }
        }
    }
}

#[test]
fn codes_of_lanes() {
    let mut rng = Seed(5).stream(0);
    for count in 0..=32 {
        let special = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0, -1.0];
        let draw = |_| if rng.below(3) == 0 { special[rng.below(7) as usize] } else { rng.normal() as f32 };
        let panel: Vec<f32> = (0..count * PANEL).map(draw).collect();
        for level in Level::available() {
            let (bits, largest) = (kernel::sign_bits(level, &panel), kernel::largest_signed(level, &panel));
            for r in 0..PANEL {
                let lane = || panel.iter().skip(r).step_by(PANEL).copied();
                assert_eq!(bits[r], lane().enumerate().map(|(j, x)| u32::from(x >= 0.0) << j).sum::<u32>());
                let (mut best, mut at) = (f32::NEG_INFINITY, 0);
                for (i, y) in lane().chain(lane().map(|x| -x)).enumerate() {
                    if y > best {
                        (best, at) = (y, i as u32);
                    }
                }
                assert_eq!(largest[r], at, "{} {:?}", level.name(), lane().collect::<Vec<_>>());
            }
        }
    }
}
