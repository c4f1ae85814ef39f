//! What every family promises: rows hashed alone, the same codes after storing, on every level and in every
//! company, typed errors, no panic on NaN.

use scatterbrain_core::{Error, Level, Matrix, Result, Seed};
use scatterbrain_hash::{
    CrossPolytope, E2lsh, HashFamily, KeyRows, ReformerRotation, Rotation, SignRandomProjection, Smyrf, Transform,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

const D: usize = 13;
const HASHES: usize = 3;

fn rows(n: usize, seed: u64) -> Vec<f32> {
    Seed(seed).stream(0).normals(n * D)
}

fn view(rows: &[f32]) -> Matrix<'_> {
    Matrix::new("rows", rows, rows.len() / D, D).unwrap()
}

fn families(seed: u64) -> Vec<Box<dyn HashFamily>> {
    let s = Seed(seed);
    vec![
        Box::new(SignRandomProjection::sample(D, HASHES, 9, s).unwrap()),
        Box::new(SignRandomProjection::sample(D, HASHES, 32, s).unwrap()),
        Box::new(CrossPolytope::sample(D, HASHES, 2, Rotation::Gaussian, s).unwrap()),
        Box::new(CrossPolytope::sample(D, HASHES, 6, Rotation::Orthogonal, s).unwrap()),
        Box::new(E2lsh::sample(D, HASHES, 2, 1.5, s).unwrap()),
        Box::new(ReformerRotation::sample(D, HASHES, 6, s).unwrap()),
        Box::new(ReformerRotation::sample(D, HASHES, 2, s).unwrap()),
    ]
}

#[test]
fn a_row_is_hashed_alone() {
    let key = rows(53, 1);
    for hash in families(2) {
        for level in Level::available() {
            let all = hash.codes(level, view(&key)).unwrap();
            assert_eq!((all.n_hashes, all.rows, all.codes.len()), (HASHES, 53, HASHES * 53));
            for n in [1, 15, 16, 17, 48] {
                let query = hash.codes(level, view(&key[..n * D])).unwrap();
                for h in 0..HASHES {
                    assert_eq!(query.hash(h), &all.hash(h)[..n], "{hash:?}");
                }
            }
        }
    }
}

#[test]
fn the_seed_decides() {
    let x = rows(40, 1);
    let codes =
        |seed| -> Vec<_> { families(seed).iter().map(|f| f.codes(Level::detect(), view(&x)).unwrap()).collect() };
    assert_eq!(codes(7), codes(7));
    for (a, b) in codes(7).iter().zip(codes(8)) {
        assert_ne!(*a, b);
        assert_ne!(a.hash(0), a.hash(1), "hashes of one family are independent");
    }
}

/// Levels round differently, so a code may differ where a projection lies within rounding of a boundary. The widest
/// codes make 32 decisions, each within some 1e-5 of its boundary with probability below 2e-5: fewer than one code
/// in a thousand.
#[test]
fn levels_agree_but_for_rounding_at_boundaries() {
    let x = rows(2000, 3);
    for hash in families(4) {
        let scalar = hash.codes(Level::scalar(), view(&x)).unwrap();
        for level in Level::available() {
            let codes = hash.codes(level, view(&x)).unwrap();
            let differ = codes.codes.iter().zip(&scalar.codes).filter(|(a, b)| a != b).count();
            assert!(differ <= codes.codes.len() / 1000, "{} {hash:?}: {differ}", level.name());
        }
    }
}

fn assert_stored<T: HashFamily + Serialize + DeserializeOwned + Clone + PartialEq>(hash: T) {
    let stored: T = serde_json::from_str(&serde_json::to_string(&hash).unwrap()).unwrap();
    assert_eq!(stored, hash.clone());
    let x = rows(30, 5);
    let level = Level::detect();
    assert_eq!(stored.codes(level, view(&x)).unwrap(), hash.codes(level, view(&x)).unwrap());
}

#[test]
fn stored_hashes_give_the_same_codes() {
    assert_stored(SignRandomProjection::sample(D, 2, 5, Seed(1)).unwrap());
    assert_stored(CrossPolytope::sample(D, 2, 2, Rotation::Orthogonal, Seed(1)).unwrap());
    assert_stored(E2lsh::sample(D, 2, 2, 0.7, Seed(1)).unwrap());
    assert_stored(ReformerRotation::sample(D, 2, 6, Seed(1)).unwrap());
    let hash = Smyrf::sample(D, 2, Transform::Uncapped, Seed(1)).unwrap();
    let stored: Smyrf = serde_json::from_str(&serde_json::to_string(&hash).unwrap()).unwrap();
    assert_eq!(stored, hash);
    let (query, key) = (rows(30, 5), rows(20, 6));
    let orders = |hash: &Smyrf| hash.orders(Level::detect(), view(&query), view(&key), KeyRows::all(view(&key)));
    assert_eq!(orders(&stored).unwrap(), orders(&hash).unwrap());
}

/// Stored parts that do not fit together are found when the hash is used.
#[test]
fn tampered_hashes_are_refused() {
    let x = rows(3, 5);
    let tamper = |json: &str, from: &str, to: &str| {
        assert!(json.contains(from), "{json}");
        json.replacen(from, to, 1)
    };
    let refused = |r: Result<scatterbrain_hash::Codes>| assert!(matches!(r, Err(Error::Invalid { .. })), "{r:?}");
    let level = Level::detect();

    let json = serde_json::to_string(&SignRandomProjection::sample(D, 2, 5, Seed(1)).unwrap()).unwrap();
    for (from, to) in [("\"bits\":5", "\"bits\":6"), ("\"bits\":5", "\"bits\":0"), ("\"n_hashes\":2", "\"n_hashes\":0")]
    {
        let hash: SignRandomProjection = serde_json::from_str(&tamper(&json, from, to)).unwrap();
        refused(hash.codes(level, view(&x)));
    }
    let json = serde_json::to_string(&E2lsh::sample(D, 2, 2, 1.0, Seed(1)).unwrap()).unwrap();
    for (from, to) in [("\"width\":1.0", "\"width\":-1.0"), ("\"offsets\":[", "\"offsets\":[0.5,")] {
        let hash: E2lsh = serde_json::from_str(&tamper(&json, from, to)).unwrap();
        refused(hash.codes(level, view(&x)));
    }
    let json = serde_json::to_string(&CrossPolytope::sample(D, 2, 2, Rotation::Gaussian, Seed(1)).unwrap()).unwrap();
    for to in ["\"concatenations\":3", "\"concatenations\":0", "\"concatenations\":40"] {
        let hash: CrossPolytope = serde_json::from_str(&tamper(&json, "\"concatenations\":2", to)).unwrap();
        refused(hash.codes(level, view(&x)));
    }
    let json = serde_json::to_string(&ReformerRotation::sample(D, 2, 6, Seed(1)).unwrap()).unwrap();
    for to in ["\"n_buckets\":8", "\"n_buckets\":5", "\"n_buckets\":0"] {
        let hash: ReformerRotation = serde_json::from_str(&tamper(&json, "\"n_buckets\":6", to)).unwrap();
        refused(hash.codes(level, view(&x)));
    }
    let json = serde_json::to_string(&Smyrf::sample(D, 2, Transform::XboxPlus, Seed(1)).unwrap()).unwrap();
    for (from, to) in [("\"beta\":[", "\"beta\":[0.5,"), ("\"extra\":[", "\"extra\":[[0.0,0.0],")] {
        let hash: Smyrf = serde_json::from_str(&tamper(&json, from, to)).unwrap();
        assert!(hash.orders(level, view(&x), view(&x), KeyRows::all(view(&x))).is_err());
    }
}

fn assert_argument<T: std::fmt::Debug>(result: Result<T>, expected: &str) {
    match result {
        Err(Error::Invalid { argument, .. }) => assert_eq!(argument, expected),
        other => panic!("{other:?}, expected an error about {expected}"),
    }
}

#[test]
fn errors_name_the_argument() {
    let s = Seed(1);
    assert_argument(SignRandomProjection::sample(0, 1, 1, s), "head_dim");
    assert_argument(SignRandomProjection::sample(1, 0, 1, s), "n_hashes");
    assert_argument(SignRandomProjection::sample(1, 1, 0, s), "bits");
    assert_argument(SignRandomProjection::sample(1, 1, 33, s), "bits");
    assert_argument(SignRandomProjection::sample(usize::MAX, usize::MAX, 1, s), "head_dim");
    assert_argument(SignRandomProjection::sample(1 << 20, 1 << 20, 1, s), "n_hashes");
    assert_argument(CrossPolytope::sample(0, 1, 1, Rotation::Gaussian, s), "head_dim");
    assert_argument(CrossPolytope::sample(4, 0, 1, Rotation::Gaussian, s), "n_hashes");
    assert_argument(CrossPolytope::sample(4, 1, 0, Rotation::Gaussian, s), "concatenations");
    assert_argument(CrossPolytope::sample(4, 1, 11, Rotation::Gaussian, s), "concatenations");
    assert_argument(E2lsh::sample(0, 1, 1, 1.0, s), "head_dim");
    assert_argument(E2lsh::sample(1, 0, 1, 1.0, s), "n_hashes");
    assert_argument(E2lsh::sample(1, 1, 0, 1.0, s), "concatenations");
    for width in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_argument(E2lsh::sample(1, 1, 1, width, s), "width");
    }
    assert_argument(ReformerRotation::sample(0, 1, 2, s), "head_dim");
    assert_argument(ReformerRotation::sample(1, 0, 2, s), "n_hashes");
    for n_buckets in [0, 1, 7] {
        assert_argument(ReformerRotation::sample(1, 1, n_buckets, s), "n_buckets");
    }
    assert_argument(ReformerRotation::from_parts(2, 1, 4, &[0.0; 5]), "rotations");
    assert_argument(Smyrf::sample(0, 1, Transform::XboxPlus, s), "head_dim");
    assert_argument(Smyrf::sample(1, 0, Transform::XboxPlus, s), "n_hashes");
    assert_argument(Smyrf::from_parts(Transform::XboxPlus, 2, &[0.0; 5], vec![0.0]), "alpha");
    assert_argument(Smyrf::from_parts(Transform::XboxPlus, 2, &[], vec![]), "beta");

    let narrow = [0.0; 2 * (D - 1)];
    let narrow = Matrix::new("narrow", &narrow, 2, D - 1).unwrap();
    for hash in families(1) {
        assert_argument(hash.codes(Level::detect(), narrow), "rows");
    }
    let right = rows(4, 1);
    let smyrf = Smyrf::sample(D, 1, Transform::XboxPlus, s).unwrap();
    let orders = |query, key, sorted, norms| smyrf.orders(Level::detect(), query, key, KeyRows { sorted, norms });
    assert_argument(orders(narrow, view(&right), 4, 4), "query");
    assert_argument(orders(view(&right), narrow, 2, 2), "key");
    assert_argument(orders(view(&right), view(&right), 4, 3), "rows");
    assert_argument(orders(view(&right), view(&right), 4, 5), "rows");
}

#[test]
fn tainted_rows_taint_no_other() {
    let clean = rows(35, 1);
    let mut tainted = clean.clone();
    for (row, bad) in [(0, f32::NAN), (7, f32::INFINITY), (20, f32::NEG_INFINITY), (34, -f32::NAN)] {
        tainted[row * D + row % D] = bad;
    }
    tainted[9 * D..10 * D].fill(f32::MAX); // projections overflow
    let skip = |i: usize| [0, 7, 9, 20, 34].contains(&i);
    for hash in families(3) {
        let (a, b) = (hash.codes(Level::detect(), view(&clean)), hash.codes(Level::detect(), view(&tainted)));
        let (a, b) = (a.unwrap(), b.unwrap());
        for h in 0..HASHES {
            for i in (0..35).filter(|&i| !skip(i)) {
                assert_eq!(a.hash(h)[i], b.hash(h)[i], "{hash:?}");
            }
        }
    }
}

fn assert_permutation(order: &[u32], n: usize) {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..n as u32), "{order:?}");
}

#[test]
fn smyrf_orders_of_tainted_zero_and_few_rows() {
    let (mut query, key) = (rows(35, 1), rows(19, 2));
    query[3 * D] = f32::NAN;
    query[8 * D] = f32::INFINITY;
    let zeros = vec![0.0; 4 * D];
    for transform in [Transform::XboxPlus, Transform::Uncapped] {
        let smyrf = Smyrf::sample(D, HASHES, transform, Seed(3)).unwrap();
        for level in Level::available() {
            for (sorted, norms) in [(19, 19), (5, 19), (5, 5), (0, 19), (0, 0)] {
                let rows = KeyRows { sorted, norms };
                let orders = smyrf.orders(level, view(&query), view(&key), rows).unwrap();
                for h in 0..HASHES {
                    assert_permutation(orders.query(h), 35);
                    assert_eq!(orders.query(h)[33..], [3, 8], "NaN sorts last, by position");
                    assert_permutation(orders.key(h), sorted);
                }
            }
            for (q, k) in [(&zeros, &key), (&query, &zeros), (&zeros, &zeros)] {
                let orders = smyrf.orders(level, view(q), view(k), KeyRows::all(view(k))).unwrap();
                assert_permutation(orders.key(0), k.len() / D);
                if std::ptr::eq(k, &zeros) {
                    assert_eq!(orders.key(0), [0, 1, 2, 3], "equal values by position");
                }
            }
        }
    }
}

#[test]
fn smyrf_norms_that_overflow() {
    let (small, mut large) = (rows(5, 1), rows(5, 2));
    large[0] = 1e30;
    let overflows = |smyrf: &Smyrf, q: &[f32], k: &[f32]| {
        let r = smyrf.orders(Level::detect(), view(q), view(k), KeyRows::all(view(k)));
        matches!(r, Err(Error::Overflow { .. }))
    };
    for transform in [Transform::XboxPlus, Transform::Uncapped] {
        let smyrf = Smyrf::sample(D, 1, transform, Seed(3)).unwrap();
        assert!(overflows(&smyrf, &large, &small) && overflows(&smyrf, &small, &large));
        assert!(!overflows(&smyrf, &small, &small));
    }
}

/// A common factor of queries and keys changes no order: why the scale of the logits need not be known here.
#[test]
fn smyrf_orders_ignore_a_common_factor() {
    let (query, key) = (rows(64, 1), rows(48, 2));
    let quarter = |x: &[f32]| x.iter().map(|x| 0.25 * x).collect::<Vec<_>>(); // exact
    let (q, k) = (quarter(&query), quarter(&key));
    let smyrf = Smyrf::sample(D, 2, Transform::XboxPlus, Seed(3)).unwrap();
    let smyrf = Smyrf::from_parts(Transform::XboxPlus, D, &smyrf.alpha(), vec![0.0; 2]).unwrap();
    let orders = |q, k| smyrf.orders(Level::detect(), view(q), view(k), KeyRows::all(view(k))).unwrap();
    assert_eq!(orders(&query, &key), orders(&q, &k));
}
