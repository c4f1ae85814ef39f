//! Against outputs stored by the authors' code; the files and what is in them are described beside them.

use safetensors::SafeTensors;
use scatterbrain_core::{Level, Matrix, Tensor};
use scatterbrain_hash::{HashFamily, KeyRows, ReformerRotation, Smyrf, Transform};

fn read(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../scatterbrain-combine/tests/reference/");
    let path = format!("{folder}{name}.safetensors");
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn shape<const N: usize>(file: &SafeTensors<'_>, name: &str) -> [usize; N] {
    file.tensor(name).unwrap().shape().try_into().unwrap()
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    words(file, name).map(f32::from_le_bytes).collect()
}

fn integers(file: &SafeTensors<'_>, name: &str) -> Vec<i32> {
    words(file, name).map(i32::from_le_bytes).collect()
}

fn words<'a>(file: &SafeTensors<'a>, name: &str) -> impl Iterator<Item = [u8; 4]> + use<'a> {
    file.tensor(name).unwrap().data().chunks_exact(4).map(|w| w.try_into().unwrap())
}

fn key_lengths(file: &SafeTensors<'_>) -> Vec<usize> {
    let data = file.tensor("key_lengths").unwrap().data();
    data.chunks_exact(8).map(|w| i64::from_le_bytes(w.try_into().unwrap()) as usize).collect()
}

/// α as we lay it out, `[n_hashes, head_dim + 2]`; stored transposed.
fn stored_hash(file: &SafeTensors<'_>) -> Smyrf {
    let (alpha, [columns, n_hashes]) = (floats(file, "hash_alpha"), shape(file, "hash_alpha"));
    let alpha: Vec<f32> =
        (0..n_hashes).flat_map(|h| (0..columns).map(move |c| (h, c))).map(|(h, c)| alpha[c * n_hashes + h]).collect();
    Smyrf::from_parts(Transform::XboxPlus, columns - 2, &alpha, floats(file, "hash_beta")).unwrap()
}

/// Positions where the stored order differs from ours although the values there differ by more than `tolerance`,
/// relative to the larger; ties aside, none.
fn wrong(order: &[u32], stored: &[u32], values: &[f32], tolerance: f32) -> usize {
    assert_eq!(order.len(), stored.len());
    let value = |i: u32| values[i as usize];
    let differ = |a: f32, b: f32| (a - b).abs() > tolerance * a.abs().max(b.abs());
    order.iter().zip(stored).filter(|&(&a, &b)| a != b && differ(value(a), value(b))).count()
}

/// Wrong positions of queries and of keys, summed over heads and hashes; M_k over all keys, or the valid ones.
fn compare(name: &str, level: Level, factor: impl Fn(f32) -> f32, all_norms: bool) -> (usize, usize) {
    let bytes = read(name);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let temperature: f32 = metadata.metadata().as_ref().unwrap()["softmax_temp"].parse().unwrap();
    let factor = factor(temperature);
    let scaled = |name| floats(&file, name).iter().map(|x| x * factor).collect::<Vec<_>>();
    let (key_shape, key) = (shape(&file, "key"), scaled("key"));
    let key = Tensor::f32("key", &key, key_shape).unwrap();
    let (hash, lengths) = (stored_hash(&file), key_lengths(&file));
    let [batch, heads, n, d] = shape(&file, "query");
    // The authors pad both sides with zero rows. Of the queries these are hashed and sorted like all others.
    let ([_, _, q_padded], [_, _, k_padded]) = (shape(&file, "q_positions"), shape(&file, "k_positions"));
    let query: Vec<f32> = scaled("query")
        .chunks_exact(n * d)
        .flat_map(|head| head.iter().copied().chain(std::iter::repeat_n(0.0, (q_padded - n) * d)))
        .collect();
    let query = Tensor::f32("query", &query, [batch, heads, q_padded, d]).unwrap();
    let (q_stored, k_stored) = (integers(&file, "q_positions"), integers(&file, "k_positions"));

    let mut counts = (0, 0);
    for b in 0..batch {
        for head in 0..heads {
            let (q, k) = (query.head(b, head), key.head(b, head));
            let (q, k) = (q.matrix(), k.matrix());
            let rows = KeyRows { sorted: lengths[b], norms: if all_norms { k.rows() } else { lengths[b] } };
            let orders = hash.orders(level, q, k, rows).unwrap();
            let values = hash.values(level, q, k, rows).unwrap();
            for h in 0..hash.n_hashes() {
                let at = h * batch * heads + b * heads + head;
                let q_stored = positions(&q_stored[at * q_padded..][..q_padded]);
                counts.0 += wrong(orders.query(h), &q_stored, values.query(h), 1e-4);
                let k_stored = positions(&k_stored[at * k_padded..][..k_padded]);
                let (k_stored, padding) = k_stored.split_at(rows.sorted);
                assert!(padding.iter().all(|&p| p as usize >= rows.sorted), "padding keys are last");
                counts.1 += wrong(orders.key(h), k_stored, values.key(h), 1e-4);
            }
        }
    }
    counts
}

fn positions(stored: &[i32]) -> Vec<u32> {
    stored.iter().map(|&p| u32::try_from(p).unwrap()).collect()
}

const FILES: [&str; 6] = [
    "sbsmyrf_causal_h2_c6",
    "sbsmyrf_h1_c4_m26",
    "sbsmyrf_h2_c6_m26_lengths",
    "sbsmyrf_h2_c6_m73_t0.235",
    "sbsmyrf_h3_c8_m26_t1",
    "smyrf_h2_c6",
];

#[test]
fn smyrf_positions() {
    for name in FILES {
        for level in Level::available() {
            assert_eq!(compare(name, level, |_| 1.0, true), (0, 0), "{name}, {}", level.name());
        }
    }
}

/// Hashing rows times √temperature gives the same positions, as it must: a common factor changes no order.
#[test]
fn smyrf_positions_of_scaled_rows() {
    for name in FILES {
        assert_eq!(compare(name, Level::detect(), f32::sqrt, true), (0, 0), "{name}");
    }
}

/// The authors take M_k over padding keys too; the one file with short keys tells.
#[test]
fn smyrf_norms_are_over_all_keys() {
    let (query, key) = compare("sbsmyrf_h2_c6_m26_lengths", Level::detect(), |_| 1.0, false);
    assert!(query + key > 0);
}

#[test]
fn reformer_buckets() {
    let bytes = read("reformer_b8_h2");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let [_, d, n_hashes, half] = shape(&file, "random_rotations");
    let hash = ReformerRotation::from_parts(d, n_hashes, 2 * half, &floats(&file, "random_rotations")).unwrap();
    let (query, [batch, heads, n, _]) = (floats(&file, "query"), shape(&file, "query"));
    let (buckets, [_, _, padded]) = (integers(&file, "buckets"), shape(&file, "buckets"));
    for level in Level::available() {
        for (head, rows) in query.chunks_exact(n * d).enumerate() {
            let codes = hash.codes(level, Matrix::new("query", rows, n, d).unwrap()).unwrap();
            for h in 0..n_hashes {
                let stored = &buckets[(head * n_hashes + h) * padded..][..n];
                assert!(codes.hash(h).iter().map(|&c| c as i32).eq(stored.iter().copied()), "head {head}, hash {h}");
            }
        }
    }
    assert_eq!(buckets.len(), batch * heads * n_hashes * padded);
}
