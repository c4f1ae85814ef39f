//! The quantised top-k takes the pairs that plain loops over the codes take.

mod common;

use common::Case;
use scatterbrain_blocks::to_dense_mask;
use scatterbrain_combine::QuantisedTopK;
use scatterbrain_core::Level;
use scatterbrain_core::kernel::key_code;
use scatterbrain_core::tile::Head;
use scatterbrain_hash::QuantisedRows;

/// Pairs of one head by the definition: scores, a sort, and as many as the library took, within what it may.
fn check(case: &Case, bh: usize, budget: usize) {
    let (b, h) = (bh / case.heads(), bh % case.heads());
    case.with_inputs(|query, key, _, mask| {
        let mask = mask.head(b, h, case.n, case.m);
        let (query, key) = (query.head(b, h), key.head(b, h / case.group));
        let (query, key) = (query.matrix(), key.matrix());
        // Levels differ in the codes that they take.
        let mut before = [None, None];
        for level in Level::available() {
            let support = QuantisedTopK::new(budget).unwrap();
            let head = Head { query, key, scale: case.scale, mask: &mask, level };
            let got = to_dense_mask(&support, &head).unwrap();
            let (q, k) = (
                QuantisedRows::new(level, query, 127).unwrap(),
                QuantisedRows::new(level, key, key_code(level)).unwrap(),
            );
            for i in 0..case.n {
                let score = |j: usize| {
                    let codes = q.row(i).iter().zip(k.row(j));
                    let sum: i32 = codes.map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
                    sum as f32 * (q.scales()[i] * case.scale) * k.scales()[j]
                };
                let mut keys: Vec<usize> = (0..case.m).filter(|&j| mask.sees(i, j)).collect();
                keys.sort_by(|&x, &y| score(y).total_cmp(&score(x)).then(x.cmp(&y)));
                let row = |j: &usize| got[i * case.m + j];
                let taken = keys.iter().filter(|j| row(j)).count();
                let least = budget - budget / 16;
                assert!(
                    (keys.len().min(least)..=keys.len().min(budget)).contains(&taken),
                    "{taken} of {} keys at {budget}, row {i} of {case:?}",
                    keys.len()
                );
                assert!(keys[..taken].iter().all(row), "row {i} of {case:?}, {}", level.name());
            }
            let before = &mut before[usize::from(key_code(level) == 127)];
            assert!(before.replace(got.clone()).is_none_or(|b| b == got), "levels differ: {case:?}");
        }
    });
}

#[test]
fn pairs_are_the_largest_products_of_codes() {
    let plain = Case { batch: 2, n: 90, m: 140, d: 9, ..Case::plain() };
    let cases = [
        plain.clone(),
        Case { scale: -0.7, ..plain.clone() },
        Case { causal: true, n: 150, m: 150, ..plain.clone() },
        Case { causal: true, lengths: true, spread: 20.0, ..plain.clone() },
        Case { window: Some((40, 12, false)), ..plain.clone() },
        Case { window: Some((30, 30, true)), causal: true, boolean: true, ..plain.clone() },
        Case { boolean: true, lengths: true, d: 64, ..plain.clone() },
        // Every score a tie: the first keys.
        Case { spread: 0.0, causal: true, ..plain },
    ];
    for (seed, case) in (0..).zip(&cases) {
        let case = Case { seed, ..case.clone() };
        for bh in 0..case.batch * case.heads() {
            for budget in [1, 5, 16, 33, 140.min(case.m)] {
                check(&case, bh, budget);
            }
        }
    }
}

#[test]
fn budgets_that_do_not_fit_are_errors() {
    assert!(QuantisedTopK::new(0).unwrap_err().to_string().starts_with("budget: "));
    let case = Case::plain();
    case.with_inputs(|query, key, _, mask| {
        let mask = mask.head(0, 0, case.n, case.m);
        let (query, key) = (query.head(0, 0), key.head(0, 0));
        let head = Head { query: query.matrix(), key: key.matrix(), scale: 1.0, mask: &mask, level: Level::detect() };
        let error = to_dense_mask(&QuantisedTopK::new(case.m + 1).unwrap(), &head).unwrap_err();
        assert!(error.to_string().starts_with("budget: "));
    });
}
