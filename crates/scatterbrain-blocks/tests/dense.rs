//! Every support against its brute-force definition, through `to_dense_mask`, which also refuses a pair named twice.

use proptest::prelude::*;
use scatterbrain_blocks::{
    BlockLayout, BlockShape, Clusters, Full, Layout, LocalSupport, Round, TopK, Union, WindowSupport, to_dense_mask,
};
use scatterbrain_core::tile::{Causality, Head, Select, Support};
use scatterbrain_core::{HeadMask, Level, Mask, Matrix, Result, Seed, Window, WindowAlign};
use scatterbrain_oracle as oracle;
use std::sync::Arc;

#[derive(Debug)]
struct Given(Clusters);

impl Support for Given {
    fn prepare<'a>(&'a self, _: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        Ok(Box::new(self.0.clone()))
    }

    fn causality(&self) -> Causality {
        Causality::SelectionSeesFuture
    }
}

/// Sizes, length and masks of a case.
#[derive(Debug, Clone)]
struct Case {
    n: usize,
    m: usize,
    length: usize,
    causal: bool,
    window: Option<(usize, usize, bool)>,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let window = prop::option::of((0usize..40, 0usize..40, any::<bool>()));
    (1usize..150, 1usize..150, 0.0f64..1.2, any::<bool>(), window, any::<u64>()).prop_map(
        |(n, m, part, causal, window, seed)| Case {
            n,
            m,
            length: ((m as f64 * part) as usize).min(m),
            causal,
            window,
            seed,
        },
    )
}

const D: usize = 3;

/// Runs `f` with the case's head, its visibility and its problem.
fn with_head(case: &Case, f: impl FnOnce(&Head<'_>, &oracle::Problem)) {
    let mut rng = Seed(case.seed).stream(0);
    let (query, key) = (rng.normals(case.n * D), rng.normals(case.m * D));
    let align = |start| if start { WindowAlign::Start } else { WindowAlign::End };
    let lengths = [case.length];
    let mask = Mask {
        causal: case.causal,
        key_lengths: Some(&lengths),
        window: case.window.map(|(left, right, start)| Window { left, right, align: align(start) }),
        allowed: None,
    };
    let mask: HeadMask<'_> = mask.head(0, 0, case.n, case.m);
    let visible = oracle::visibility(case.n, case.m, case.length, case.causal, case.window);
    for i in 0..case.n {
        for j in 0..case.m {
            assert_eq!(mask.sees(i, j), visible[i * case.m + j], "({i}, {j}) of {case:?}");
        }
    }
    let value = vec![0.0; case.m];
    let problem = oracle::Problem::from_f32([case.n, case.m, D, 1], 1.0, &query, &key, &value).seeing(visible);
    let head = Head {
        query: Matrix::new("query", &query, case.n, D).unwrap(),
        key: Matrix::new("key", &key, case.m, D).unwrap(),
        scale: 1.0,
        mask: &mask,
        level: Level::detect(),
    };
    f(&head, &problem);
}

fn check(support: &dyn Support, head: &Head<'_>, problem: &oracle::Problem, want: &[bool]) {
    let got = to_dense_mask(support, head).unwrap();
    let want: Vec<bool> = want.iter().zip(&problem.visible).map(|(a, b)| *a && *b).collect();
    assert_eq!(got, want, "{support:?}");
}

fn random_clusters(n: usize, length: usize, m: usize, seed: u64) -> (Vec<u32>, Vec<u32>, Vec<usize>, Vec<usize>) {
    let mut rng = Seed(seed).stream(9);
    let count = 1 + rng.below(8);
    let query: Vec<u32> = (0..n).map(|_| rng.below(count) as u32).collect();
    let key: Vec<u32> = (0..length).map(|_| rng.below(count) as u32).collect();
    let oracle_query = query.iter().map(|&c| c as usize).collect();
    let oracle_key = (0..m).map(|j| key.get(j).map_or(usize::MAX - 7, |&c| c as usize)).collect();
    (query, key, oracle_query, oracle_key)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn windows(case in case(), left in 0usize..60, right in 0usize..60, start in any::<bool>(), sinks in 0usize..9) {
        with_head(&case, |head, problem| {
            let align = if start { WindowAlign::Start } else { WindowAlign::End };
            let support = WindowSupport { window: Window { left, right, align }, sinks: 0 };
            let want = oracle::support::window(case.n, case.m, case.length, left, right, start);
            check(&support, head, problem, &want);
            let first: Vec<bool> = (0..case.n * case.m).map(|pair| pair % case.m < sinks).collect();
            check(&support.with_sinks(sinks), head, problem, &oracle::support::union(&want, &first));
            check(&Full, head, problem, &vec![true; case.n * case.m]);
        });
    }

    /// A causal row sees as many keys as the budget has, as soon as there are so many.
    #[test]
    fn local_windows(case in case(), budget in 1usize..60, sinks in 0usize..9) {
        with_head(&case, |head, problem| {
            let support = LocalSupport::new(budget).unwrap();
            let last = case.causal || case.window.is_some_and(|(_, right, start)| right == 0 && !start);
            let (left, right) = if last { (budget - 1, 0) } else { (budget / 2, budget.div_ceil(2) - 1) };
            let want = oracle::support::window(case.n, case.m, case.length, left, right, false);
            check(&support, head, problem, &want);
            let first: Vec<bool> = (0..case.n * case.m).map(|pair| pair % case.m < sinks).collect();
            check(&support.with_sinks(sinks), head, problem, &oracle::support::union(&want, &first));
        });
    }

    #[test]
    fn top_k(case in case(), k in 1usize..30) {
        let k = k.min(case.m);
        with_head(&case, |head, problem| {
            // Random normals: ties and near-ties of f32 against f64 do not occur at these sizes.
            check(&TopK::new(k).unwrap(), head, problem, &oracle::support::top_k(problem, k));
        });
    }

    #[test]
    fn clusters_and_unions(case in case(), rounds in 1usize..4, lookback in any::<bool>(), left in 0usize..20) {
        with_head(&case, |head, problem| {
            let mut want = vec![false; case.n * case.m];
            let rounds: Vec<Round> = (0..rounds).map(|r| {
                let (q, k, oq, ok) = random_clusters(case.n, case.length, case.m, case.seed ^ r as u64);
                let round = Round::from_clusters(q, &k, case.m).unwrap();
                // Looking back goes round the corner: renumber so that the oracle's clusters do so too.
                let count = oq.iter().copied().chain(ok.iter().copied().filter(|&c| c < usize::MAX - 7)).max().unwrap() + 1;
                let mut here = oracle::support::clusters(&oq, &ok, 0);
                if lookback && count > 1 {
                    let before: Vec<usize> = oq.iter().map(|c| (c + count - 1) % count).collect();
                    here = oracle::support::union(&here, &oracle::support::clusters(&before, &ok, 0));
                }
                want = oracle::support::union(&want, &here);
                round
            }).collect();
            let clusters = Clusters::new(rounds, lookback).unwrap();
            check(&Given(clusters.clone()), head, problem, &want);
            let near = WindowSupport { window: Window { left, right: 3, align: WindowAlign::End }, sinks: 0 };
            let both = Union::new(vec![Arc::new(Given(clusters)), Arc::new(near), Arc::new(TopK::new(5.min(case.m)).unwrap())]).unwrap();
            let want = oracle::support::union(&want, &oracle::support::window(case.n, case.m, case.length, left, 3, false));
            check(&both, head, problem, &oracle::support::union(&want, &oracle::support::top_k(problem, 5.min(case.m))));
        });
    }

    #[test]
    fn layouts_decode_as_documented(case in case(), queries in 1usize..20, keys in 1usize..20, kind in 0usize..3, a in 0usize..3, b in 0usize..3) {
        with_head(&case, |head, problem| {
            let shape = BlockShape { queries, keys };
            let layout = match kind {
                0 => Layout::Fixed { shape, stride: 2 + a, summary: 1 + b.min(1) },
                1 => Layout::BigBird { shape, window: a, global: b, random: 2, seed: Seed(case.seed) },
                _ => Layout::Longformer { shape, window: a, global: b },
            };
            let built: BlockLayout = layout.build(head.mask).unwrap();
            let mut want = vec![false; case.n * case.m];
            for (row, columns) in built.rows().iter().enumerate() {
                for &column in columns {
                    for i in row * queries..((row + 1) * queries).min(case.n) {
                        for j in column as usize * keys..((column as usize + 1) * keys).min(case.m) {
                            want[i * case.m + j] = true;
                        }
                    }
                }
            }
            check(&layout, head, problem, &want);
            check(&built, head, problem, &want);
        });
    }

    #[test]
    fn balanced_clusters_from_orders(n in 1usize..60, m in 1usize..60, size in 1usize..20) {
        let query: Vec<u32> = (0..n as u32).rev().collect();
        let key: Vec<u32> = (0..m as u32).rev().collect();
        let round = Round::from_orders(&query, size, n, &key, size, m).unwrap();
        let case = Case { n, m, length: m, causal: false, window: None, seed: 1 };
        with_head(&case, |head, problem| {
            let cluster = |count: usize| (0..count).map(|x| (count - 1 - x) / size).collect::<Vec<_>>();
            let clusters = Given(Clusters::new(vec![round.clone()], false).unwrap());
            check(&clusters, head, problem, &oracle::support::clusters(&cluster(n), &cluster(m), 0));
        });
    }
}

#[test]
fn wrong_arguments_are_named() {
    assert!(TopK::new(0).unwrap_err().to_string().starts_with("budget: "));
    assert!(LocalSupport::new(0).unwrap_err().to_string().starts_with("budget: "));
    assert!(WindowSupport::around(0).unwrap_err().to_string().starts_with("budget: "));
    assert!(Round::from_orders(&[0, 0], 1, 2, &[0], 1, 1).unwrap_err().to_string().starts_with("query_order: "));
    assert!(Round::from_orders(&[0], 0, 1, &[0], 1, 1).unwrap_err().to_string().starts_with("query_order: "));
    assert!(Round::from_clusters(vec![0], &[0, 1], 1).unwrap_err().to_string().starts_with("key_cluster: "));
    assert!(Clusters::new(vec![], false).unwrap_err().to_string().starts_with("n_hashes: "));
    let shape = BlockShape { queries: 2, keys: 2 };
    assert!(BlockLayout::new(shape, 4, 4, vec![vec![0]]).unwrap_err().to_string().starts_with("rows: "));
    assert!(BlockLayout::new(shape, 4, 4, vec![vec![0], vec![2]]).unwrap_err().to_string().starts_with("rows: "));
    assert!(Union::new(vec![]).unwrap_err().to_string().starts_with("parts: "));
}

#[test]
fn what_is_read_from_a_file_is_checked() {
    let round = Round::from_clusters(vec![0, 1, 1], &[1, 0], 4).unwrap();
    let clusters = Clusters::new(vec![round.clone(), round], true).unwrap();
    let json = serde_json::to_string(&clusters).unwrap();
    assert_eq!(serde_json::from_str::<Clusters>(&json).unwrap(), clusters);
    for lie in [
        r#"{"rounds":[],"lookback":true}"#,
        r#"{"rounds":[{"query_cluster":[0],"key_cluster":[4000000000]}],"lookback":true}"#,
        r#"{"rounds":[{"query_cluster":[0],"key_cluster":[0]},{"query_cluster":[0,0],"key_cluster":[0]}],"lookback":true}"#,
    ] {
        assert!(serde_json::from_str::<Clusters>(lie).is_err(), "{lie}");
    }
    let lie = r#"{"shape":{"queries":2,"keys":0},"n":3,"m":3,"rows":[[7],[0]]}"#;
    let layout: BlockLayout = serde_json::from_str(lie).unwrap();
    let case = Case { n: 3, m: 3, length: 3, causal: false, window: None, seed: 1 };
    with_head(&case, |head, _| assert!(to_dense_mask(&layout, head).is_err()));
}
