//! What holds for every preset.

use scatterbrain_attention::{Causality, Mask, Options, Preset, Seed, Tensor, attend};

const BUDGET: usize = 8;

#[test]
fn names_come_back() {
    for preset in Preset::ALL {
        assert_eq!(preset.to_string().parse::<Preset>().unwrap(), preset);
    }
    let error = "scatterbrian".parse::<Preset>().unwrap_err().to_string();
    assert!(error.starts_with("preset: ") && error.contains("scatterbrain-smyrf"), "{error}");
}

/// A decoder must not take those of which this sentence warns.
#[test]
fn the_readme_names_what_sees_the_future() {
    let readme = include_str!("../../../README.md");
    let sentence = readme.lines().find(|line| line.contains("do not use them in a decoder")).expect("a sentence");
    for preset in Preset::ALL {
        let method = preset.method(BUDGET, 4, Seed(0)).unwrap();
        let named = sentence.contains(&format!("`{preset}`"));
        assert_eq!(named, method.causality() == Causality::SelectionSeesFuture, "{preset}");
    }
}

/// Keys behind the valid ones may hold anything, at every length of the last vector.
#[test]
fn padding_may_hold_anything() {
    let (n, m, d) = (20, 40, 6);
    let [query, key, value] = [(0, n), (1, m), (2, m)].map(|(part, rows)| Seed(7).stream(part).normals(rows * d));
    for (preset, length) in Preset::ALL.into_iter().flat_map(|preset| (33..=36).map(move |length| (preset, length))) {
        let lengths = [length];
        for mask in [Mask::default(), Mask::causal()] {
            let mask = Mask { key_lengths: Some(&lengths), ..mask };
            let method = preset.method(BUDGET, d, Seed(0)).unwrap();
            let run = |padding: f32| {
                let pad = |x: &[f32]| {
                    let mut x = x.to_vec();
                    x[length * d..].fill(padding);
                    x
                };
                let (key, value) = (pad(&key), pad(&value));
                let query = Tensor::f32("query", &query, [1, 1, n, d]).unwrap();
                let key = Tensor::f32("key", &key, [1, 1, m, d]).unwrap();
                let value = Tensor::f32("value", &value, [1, 1, m, d]).unwrap();
                let output = attend(&query, &key, &value, &mask, &method, &Options::default()).unwrap().output;
                output.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            let clean = run(0.0);
            assert!(clean.iter().all(|bits| f32::from_bits(*bits).is_finite()), "{preset} {length}");
            for padding in [f32::NAN, f32::INFINITY, 1e30] {
                assert_eq!(run(padding), clean, "{preset} {length} {padding}");
            }
        }
    }
}
