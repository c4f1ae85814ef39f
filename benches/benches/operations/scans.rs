//! Kernels of scans: scores of rows in bytes, weights of such scores, their codes, and sums of value rows in bytes.

use super::{HEAD_DIM, KEYS, at_every_level, in_place, matrix, normals};
use criterion::Criterion;
use scatterbrain_core::Level;
use scatterbrain_core::kernel::{self, CodeRows, Coding, PANEL, Running, WeightCodes};
use std::hint::black_box;

/// Codes of rows with their scales, small enough for [`kernel::scan`].
fn quantise(level: Level, rows: &[f32], most: i8) -> (Vec<i8>, Vec<f32>) {
    let rows = matrix(rows, HEAD_DIM);
    let (mut codes, mut scales) = (vec![0; rows.rows() * HEAD_DIM], vec![0.0; rows.rows()]);
    kernel::quantise_rows(level, rows, most, kernel::product_limit(level, HEAD_DIM), &mut codes, &mut scales);
    (codes, scales)
}

/// Products of codes.
pub(crate) fn codes(criterion: &mut Criterion) {
    let (query, key) = (normals(0, HEAD_DIM * PANEL), normals(2, KEYS * HEAD_DIM));
    let sizes = format!("keys={KEYS},d={HEAD_DIM}");
    at_every_level(criterion, "quantise_rows", &sizes, key.len(), |level| {
        black_box(quantise(level, black_box(&key), kernel::key_code(level)));
    });
    // Levels take codes of seven bits or of eight: no time depends on what they are, so all are given the first.
    let (codes, scales) = quantise(Level::detect(), &key, 63);
    let (query, query_scales) = quantise(Level::detect(), &query, i8::MAX);
    let bytes: Vec<u8> = codes.iter().map(|code| (code + 63) as u8).collect();
    let mut out = vec![0.0; KEYS * PANEL];
    at_every_level(criterion, "scan", &sizes, PANEL * KEYS * HEAD_DIM, |level| {
        let query = kernel::QueryCodes::new(level, black_box(&query), HEAD_DIM, &query_scales);
        kernel::scan(level, &query, &bytes, &scales, &[0.0; PANEL], &mut out);
        black_box(&mut out);
    });
}

/// From scores to sums of values.
pub(crate) fn weights(criterion: &mut Criterion) {
    let (scores, key_sizes) = (normals(3, KEYS * PANEL), vec![0.5; KEYS]);
    in_place(criterion, "coarse_softmax", &format!("keys={KEYS}"), &scores, |level, scores| {
        let (mut running, mut sized) = (Running::default(), [0.0; PANEL]);
        kernel::coarse_softmax(level, scores, &key_sizes, &mut running, &mut sized);
        black_box((running, sized));
    });
    let weights: Vec<f32> = scores.iter().map(|x| (x - 4.0).exp2()).collect();
    let value = normals(4, KEYS * HEAD_DIM);
    let (value, _) = quantise(Level::detect(), &value, i8::MAX);
    let value = CodeRows::new(Level::detect(), &value, HEAD_DIM, HEAD_DIM);
    let (mut heavy, mut acc) = (vec![0; KEYS.div_ceil(kernel::WORD) * PANEL], vec![0; HEAD_DIM * PANEL]);
    // With few steps most codes are 0, and their groups are left out.
    for steps in [2.0, 127.0] {
        let coding = Coding {
            first: 0,
            scales: &key_sizes,
            value_steps: &[2.0 * steps; PANEL],
            mass_steps: &[steps; PANEL],
            most: 127,
        };
        let mut codes = WeightCodes::default();
        at_every_level(criterion, "code_weights", &format!("keys={KEYS},steps={steps}"), weights.len(), |level| {
            let mut light = [0.0; PANEL];
            kernel::code_weights(level, black_box(&weights), &coding, &mut codes, &mut heavy, &mut light);
            black_box((&mut codes, light));
        });
        let sizes = format!("keys={KEYS},d={HEAD_DIM},steps={steps}");
        at_every_level(criterion, "weighted_code_sum", &sizes, PANEL * KEYS * HEAD_DIM, |level| {
            acc.fill(0);
            kernel::weighted_code_sum(level, black_box(&codes), &value, &mut acc);
            black_box(&mut acc);
        });
    }
}
