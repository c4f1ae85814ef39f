//! Plans: stored and read again, applied head by head, and what they promise.

use proptest::prelude::*;
use rayon::ThreadPoolBuilder;
use scatterbrain_blocks::WindowSupport;
use scatterbrain_combine::plan::{Config, HeadPlan, LayerPlan, Plan, PlanOptions, Request, plan};
use scatterbrain_combine::{Attention, InvertedFileSupport, Method, Options, QuantisedTopK, ScanBackground, attend};
use scatterbrain_core::kernel::key_code;
use scatterbrain_core::tile::Causality;
use scatterbrain_core::{Error, Level, Mask, MaskTensor, Seed, Tensor, Window, WindowAlign};
use scatterbrain_features::{CentroidBackground, Constant, FeatureBackground, SampledMassBackground};

const D: usize = 16;
const SEED: Seed = Seed(3);

/// One of every configuration.
const CONFIGS: [Config; 10] = [
    Config::QuantisedTopK { keys: 12, centroids: 5 },
    Config::Exact,
    Config::Window { keys: 9, sinks: 2, centroids: 5 },
    Config::Centroids { centroids: 5 },
    Config::Uniform,
    Config::QuantisedTopK { keys: 20, centroids: 0 },
    Config::Scan { keys: 16, steps: 31 },
    Config::Scan { keys: 64, steps: 127 },
    Config::InvertedFile { keys: 30, clusters: 8 },
    Config::InvertedFile { keys: 12, clusters: 3 },
];

/// A plan that no cost overrules, for n queries and m keys in groups of two heads.
fn layer(configs: &[Config], n: usize, m: usize, causal: bool) -> LayerPlan {
    let head = |&config: &Config| HeadPlan {
        config,
        error: Some(0.1),
        error_bound: Some(0.2),
        cost: 0.5,
        exact_share: 0.0,
        scan_share: 0.5,
    };
    LayerPlan {
        request: Request::Units(m),
        seed: SEED,
        rows: 64,
        causal,
        n,
        m,
        head_dim: D,
        value_dim: D,
        kv_heads: configs.len().div_ceil(2),
        heads: configs.iter().map(head).collect(),
    }
}

/// Random query, key and value of `heads` heads in groups of two.
struct Data {
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    heads: usize,
    n: usize,
    m: usize,
}

impl Data {
    fn new(heads: usize, n: usize, m: usize) -> Self {
        let normals = |part, len| SEED.stream(part).normals(len);
        let kv_heads = heads.div_ceil(2);
        let (query, key) = (normals(0, heads * n * D), normals(1, kv_heads * m * D));
        Self { query, key, value: normals(2, kv_heads * m * D), heads, n, m }
    }

    fn with<T>(&self, f: impl FnOnce(&Tensor<'_>, &Tensor<'_>, &Tensor<'_>) -> T) -> T {
        let kv_heads = self.heads.div_ceil(2);
        let query = Tensor::f32("query", &self.query, [1, self.heads, self.n, D]).unwrap();
        let key = Tensor::f32("key", &self.key, [1, kv_heads, self.m, D]).unwrap();
        let value = Tensor::f32("value", &self.value, [1, kv_heads, self.m, D]).unwrap();
        f(&query, &key, &value)
    }

    fn attend(&self, mask: &Mask<'_>, method: &Method) -> Result<Attention, Error> {
        self.with(|q, k, v| attend(q, k, v, mask, method, &Options { log_sum_exp: true, ..Options::default() }))
    }

    fn plan(&self, mask: &Mask<'_>, request: Request) -> LayerPlan {
        let options = PlanOptions { request, seed: Some(SEED), margin: Some(1.0), ..PlanOptions::default() };
        self.with(|q, k, v| plan(q, k, v, mask, &options, &Options::default())).unwrap()
    }

    /// Heads whose logits fall with distance, a different slope each: on the first ones few keys matter, on the last all.
    fn of_positions(heads: usize, n: usize, step: usize, first: usize, m: usize) -> Self {
        let wave = |x: usize, c: usize| {
            let angle = x as f32 * 2f32.powi(-(c as i32) / 2);
            if c.is_multiple_of(2) { angle.sin() } else { angle.cos() }
        };
        // Pairs of columns with one frequency: a product is Σ cos((i − j)·ω).
        let row = move |x: usize, gain: f32| (0..D).map(move |c| gain * wave(x, c));
        let gain = |h: usize| 12.0 / 8f32.powi(h as i32);
        let query = (0..heads).flat_map(|h| (0..n).flat_map(move |i| row(first + step * i, gain(h)))).collect();
        let key = (0..heads.div_ceil(2)).flat_map(|_| (0..m).flat_map(move |j| row(j, 1.0))).collect();
        Self { query, key, ..Self::new(heads, n, m) }
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// The method that a configuration stands for, built by hand.
fn by_hand(config: Config, causal: bool) -> Method {
    let far = |count| CentroidBackground::new(count, SEED).unwrap();
    let window = |keys| if causal { WindowSupport::last(keys) } else { WindowSupport::around(keys) }.unwrap();
    match config {
        Config::Exact => Method::exact(),
        Config::Uniform => Method::low_rank(FeatureBackground::new(Constant::new(D).unwrap())),
        Config::Centroids { centroids } => Method::low_rank(far(centroids)),
        Config::Window { keys, sinks, centroids } => {
            let blocks = CentroidBackground::of_blocks(centroids).unwrap();
            Method::scatterbrain(window(keys).with_sinks(sinks), blocks)
        }
        Config::QuantisedTopK { keys, centroids: 0 } => Method::sparse(QuantisedTopK::new(keys).unwrap()),
        Config::QuantisedTopK { keys, centroids } => {
            Method::scatterbrain(QuantisedTopK::new(keys).unwrap(), far(centroids))
        }
        Config::InvertedFile { keys, clusters } => {
            let file = InvertedFileSupport::new(keys).unwrap().with_clusters(clusters).unwrap().with_seed(SEED);
            Method::scatterbrain(file, SampledMassBackground::new(128, SEED).unwrap())
        }
        Config::Scan { keys, steps } => {
            Method::low_rank(ScanBackground::new(1.0 / keys as f32).unwrap().with_steps(steps).unwrap())
        }
        other => unreachable!("{other:?} is not here"),
    }
}

fn masks() -> Vec<(Mask<'static>, bool)> {
    let window = Window { left: 40, right: 30, align: WindowAlign::End };
    let lengths: &[usize] = &[97];
    vec![
        (Mask::default(), false),
        (Mask::causal(), true),
        (Mask { key_lengths: Some(lengths), ..Mask::default() }, false),
        (Mask { key_lengths: Some(lengths), window: Some(window), ..Mask::causal() }, true),
    ]
}

#[test]
fn every_head_is_what_its_method_gives_alone() {
    let data = Data::new(CONFIGS.len(), 150, 130);
    // On one thread heads use each other's memory.
    let pools = [1, 2].map(|threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    for ((mask, causal), pool) in masks().into_iter().flat_map(|mask| pools.iter().map(move |pool| (mask, pool))) {
        let method = Method::planned(layer(&CONFIGS, 150, 130, causal));
        let planned = pool.install(|| data.attend(&mask, &method)).unwrap();
        for (h, config) in CONFIGS.into_iter().enumerate() {
            let alone = data.attend(&mask, &by_hand(config, causal)).unwrap();
            let (rows, all) = (h * 150..(h + 1) * 150, h * 150 * D..(h + 1) * 150 * D);
            assert_eq!(bits(&planned.output[all.clone()]), bits(&alone.output[all]), "{config:?}, {mask:?}");
            let lse = |a: &Attention| bits(&a.log_sum_exp.as_ref().unwrap()[rows.clone()]);
            assert_eq!(lse(&planned), lse(&alone), "{config:?}, {mask:?}");
            let (report, expected) = (planned.report.heads[h], alone.report.heads[h]);
            assert_eq!(report.fallback, config == Config::Exact);
            assert_eq!((report.exact_pairs, report.share), (expected.exact_pairs, expected.share), "{config:?}");
        }
    }
}

#[test]
fn plans_are_strictly_causal() {
    let (n, cut) = (200, 137);
    let method = Method::planned(layer(&CONFIGS, n, n, true));
    assert_eq!(method.causality(), Causality::Strict);
    let before = Data::new(CONFIGS.len(), n, n);
    let mut after = Data::new(CONFIGS.len(), n, n);
    for (rows, factor) in [(&mut after.query, -7.0), (&mut after.key, 50.0), (&mut after.value, 3.0)] {
        rows.chunks_exact_mut(n * D).flat_map(|head| &mut head[cut * D..]).for_each(|x| *x *= factor);
    }
    let [a, b] = [before, after].map(|data| data.attend(&Mask::causal(), &method).unwrap().output);
    for h in 0..CONFIGS.len() {
        let early = h * n * D..(h * n + cut) * D;
        assert_eq!(bits(&a[early.clone()]), bits(&b[early]), "{:?}", CONFIGS[h]);
    }
}

#[test]
fn keys_grow_with_what_rows_see_and_clusters_with_all_keys() {
    let (n, m) = (100, 400);
    let data = Data::new(2, n, m);
    let grown = |config, causal: bool| {
        let mask = if causal { Mask::causal() } else { Mask::default() };
        let method = Method::planned(layer(&[config, config], 200, 200, causal));
        bits(&data.attend(&mask, &method).unwrap().output)
    };
    let hand = |config, causal: bool| {
        let mask = if causal { Mask::causal() } else { Mask::default() };
        bits(&data.attend(&mask, &by_hand(config, causal)).unwrap().output)
    };
    let window = |keys, centroids| Config::Window { keys, sinks: 2, centroids };
    // The last 100 rows of 400 see 350.5 keys on average, those of 200 see 100.5.
    assert_eq!(grown(window(20, 8), true), hand(window(70, 16), true));
    assert_eq!(grown(window(20, 8), false), hand(window(40, 16), false));
    let largest = |keys| Config::QuantisedTopK { keys, centroids: 0 };
    assert_eq!(grown(largest(20), true), hand(largest(70), true));
    let file = |keys, clusters| Config::InvertedFile { keys, clusters };
    assert_eq!(grown(file(20, 8), true), hand(file(70, 16), true));
}

#[test]
fn a_margin_is_kept() {
    let data = Data::of_positions(4, 2000, 1, 0, 2000);
    let with = |margin| {
        let options = PlanOptions { request: Request::Error(0.1), seed: Some(SEED), margin, ..PlanOptions::default() };
        data.with(|q, k, v| plan(q, k, v, &Mask::causal(), &options, &Options::default()))
    };
    assert_eq!(with(None), with(Some(1.5)));
    let mut before = 0.0;
    for margin in [4.0, 1.5, 1.0] {
        let planned = with(Some(margin)).unwrap();
        assert_eq!(planned.request, Request::Error(0.1));
        let keeps = |head: &HeadPlan| head.error_bound.unwrap() * margin <= 0.1;
        assert!(planned.heads.iter().all(keeps), "{margin}: {planned:?}");
        assert!(planned.error_bound().unwrap() > before, "{margin}: {planned:?}");
        before = planned.error_bound().unwrap();
    }
    for margin in [0.9, f64::NAN, f64::INFINITY] {
        assert!(matches!(with(Some(margin)), Err(Error::Invalid { argument: "margin", .. })), "{margin}");
    }
}

#[test]
fn short_inputs_are_left_to_exact_attention() {
    let data = Data::new(4, 300, 300);
    let planned = data.plan(&Mask::causal(), Request::Error(0.01));
    assert!(planned.heads.iter().all(HeadPlan::is_fallback));
    assert_eq!((planned.error_bound(), planned.cost(), planned.units()), (Some(0.0), 1.0, None));
    let planned = data.attend(&Mask::causal(), &Method::planned(planned)).unwrap();
    let exact = data.attend(&Mask::causal(), &Method::exact()).unwrap();
    assert_eq!(bits(&planned.output), bits(&exact.output));
    assert!(planned.report.heads.iter().all(|head| head.fallback && head.share == 1.0));
}

#[test]
fn a_plan_for_long_inputs_does_not_slow_short_ones() {
    let config = Config::Window { keys: 100, sinks: 4, centroids: 32 };
    let plan = LayerPlan { request: Request::Error(0.05), ..layer(&[config], 4096, 4096, true) };
    assert!(plan.costs(4096, 4096, &Mask::causal())[0] < 0.5);
    let data = Data::new(1, 100, 100);
    let out = data.attend(&Mask::causal(), &Method::planned(plan)).unwrap();
    assert!(out.report.heads[0].fallback);
    assert_eq!(bits(&out.output), bits(&data.attend(&Mask::causal(), &Method::exact()).unwrap().output));
}

/// Mean row error of each head against exact attention.
fn errors(data: &Data, mask: &Mask<'_>, method: &Method) -> Vec<f64> {
    let [exact, output] = [&Method::exact(), method].map(|m| data.attend(mask, m).unwrap().output);
    let norm = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let row = |(o, e): (&[f32], &[f32])| norm(&o.iter().zip(e).map(|(o, e)| o - e).collect::<Vec<_>>()) / norm(o);
    let rows: Vec<f64> = exact.chunks_exact(D).zip(output.chunks_exact(D)).map(row).collect();
    rows.chunks_exact(data.n).map(|rows| rows.iter().sum::<f64>() / rows.len() as f64).collect()
}

#[test]
fn a_plan_of_even_rows_keeps_its_promise_on_odd_ones() {
    let (heads, n, m) = (4, 1000, 2000);
    let [even, odd] = [0, 1].map(|first| Data::of_positions(heads, n, 2, first, m));
    let mask = Mask::default();
    for error in [0.05, 0.2] {
        let planned = even.plan(&mask, Request::Error(error));
        let cheap = planned.heads.iter().filter(|head| !head.is_fallback()).count();
        assert!(cheap >= 2, "something must be promised: {planned:?}");
        assert!(planned.heads.iter().all(|head| head.error <= head.error_bound && head.error_bound <= Some(error)));
        // Each bound holds with a confidence of 95 %; twice the request is what no head may exceed.
        let kept = errors(&odd, &mask, &Method::planned(planned));
        assert!(kept.iter().all(|&e| e <= 2.0 * error), "{kept:?}");
        assert!(kept.iter().filter(|&&e| e <= error).count() + 1 >= heads, "{kept:?}");
    }
}

#[test]
fn a_plan_on_the_fly_keeps_its_promise() {
    let error = 0.1;
    let request = PlanOptions { seed: Some(SEED), ..PlanOptions::on_the_fly(Request::Error(error)) };
    for mask in [Mask::default(), Mask::causal()] {
        let data = Data::of_positions(4, 3000, 1, 0, 3000);
        let planned = data.with(|q, k, v| plan(q, k, v, &mask, &request, &Options::default())).unwrap();
        assert!(planned.rows <= 48);
        assert!(planned.heads.iter().filter(|head| !head.is_fallback()).count() >= 2, "{planned:?}");
        let kept = errors(&data, &mask, &Method::planned(planned));
        assert!(kept.iter().all(|&e| e <= 2.0 * error), "{kept:?}");
    }
}

#[test]
fn on_the_fly_with_little_to_look_at() {
    let exact = |data: &Data, mask: &Mask<'_>| {
        let options = PlanOptions::on_the_fly(Request::Error(0.05));
        let planned = data.with(|q, k, v| plan(q, k, v, mask, &options, &Options::default())).unwrap();
        assert!(planned.heads.iter().all(HeadPlan::is_fallback), "{planned:?}");
        let [a, b] = [Method::planned(planned), Method::exact()].map(|m| data.attend(mask, &m).unwrap().output);
        assert_eq!(bits(&a), bits(&b));
    };
    exact(&Data::new(2, 1, 1), &Mask::default());
    exact(&Data::new(2, 1500, 1), &Mask::causal());
    exact(&Data::new(2, 1, 1500), &Mask::causal());
    exact(&Data::new(2, 1500, 1500), &Mask { key_lengths: Some(&[0]), ..Mask::default() });
    let mut data = Data::new(2, 1500, 1500);
    data.key[7 * D] = f32::NAN;
    exact(&data, &Mask::default());
    // Logits of 10⁴ and more: what is promised is kept, or the head is exact.
    let mut data = Data::of_positions(2, 2000, 1, 0, 2000);
    data.query.iter_mut().for_each(|x| *x *= 1e3);
    let options = PlanOptions::on_the_fly(Request::Error(0.05));
    let planned = data.with(|q, k, v| plan(q, k, v, &Mask::causal(), &options, &Options::default())).unwrap();
    assert!(errors(&data, &Mask::causal(), &Method::planned(planned)).iter().all(|&e| e <= 0.1));
}

#[test]
fn without_effort_heads_are_left_to_exact_attention_unseen() {
    let data = Data::of_positions(4, 2000, 1, 0, 2000);
    let with = |effort, request| {
        let options = PlanOptions { effort: Some(effort), seed: Some(SEED), ..PlanOptions::on_the_fly(request) };
        data.with(|q, k, v| plan(q, k, v, &Mask::causal(), &options, &Options::default()))
    };
    let unseen = with(0.0, Request::Error(0.1)).unwrap();
    assert!(unseen.rows == 0 && unseen.heads.iter().all(HeadPlan::is_fallback));
    // It can be applied and stored as any other.
    assert!(data.attend(&Mask::causal(), &Method::planned(unseen)).is_ok());
    // More effort than a search takes is no limit.
    let [limited, free] = [Some(100.0), None].map(|effort| {
        let options = PlanOptions { effort, rows: Some(64), ..PlanOptions::on_the_fly(Request::Error(0.1)) };
        data.with(|q, k, v| plan(q, k, v, &Mask::causal(), &options, &Options::default())).unwrap()
    });
    assert_eq!(limited, free);
    for effort in [-0.1, f64::NAN] {
        let refused = with(effort, Request::Error(0.1));
        assert!(matches!(refused, Err(Error::Invalid { argument: "effort", .. })), "{refused:?}");
    }
}

#[test]
fn more_effort_keeps_what_less_has_found() {
    // Spread logits: of the scans only a dear one keeps the error, and the cheapest misses it by far.
    let shape = [1, 1, 1500, 64];
    let data = [0, 1, 2].map(|part| SEED.stream(part).normals(shape.iter().product()));
    let [query, key, value] = data.each_ref().map(|data| Tensor::f32("input", data, shape).unwrap());
    let kept = [0.1, 0.3, 1.0, 100.0].map(|effort| {
        let options = PlanOptions { effort: Some(effort), ..PlanOptions::on_the_fly(Request::Error(0.05)) };
        let planned = plan(&query, &key, &value, &Mask::default(), &options, &Options::default()).unwrap();
        planned.heads.iter().filter(|head| !head.is_fallback()).count()
    });
    assert!(kept[3] > 0 && kept.windows(2).all(|two| two[0] <= two[1]), "{kept:?}");
}

#[test]
fn narrow_windows_leave_no_effort_for_a_look() {
    // A row far from all others takes a panel of its own, sixteen times what it costs among neighbours.
    let data = Data::new(2, 3000, 3000);
    let mask = |left| Mask { window: Some(Window { left, right: 0, align: WindowAlign::End }), ..Mask::default() };
    let options = PlanOptions::on_the_fly(Request::Error(0.05));
    let on_the_fly = |left| data.with(|q, k, v| plan(q, k, v, &mask(left), &options, &Options::default())).unwrap();
    let planned = on_the_fly(64);
    assert!(planned.rows == 0 && planned.heads.iter().all(HeadPlan::is_fallback), "{planned:?}");
    assert!(data.plan(&mask(64), Request::Error(0.05)).rows > 0);
    // Rows of a wide one have most of their keys in common.
    assert!(on_the_fly(2000).rows > 0);
}

#[test]
fn the_same_plan_on_any_number_of_threads() {
    let data = Data::of_positions(4, 1200, 1, 0, 1200);
    for mask in [Mask::default(), Mask::causal()] {
        let plans = [1, 2, 5].map(|threads| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| data.plan(&mask, Request::Error(0.1)))
        });
        assert!(plans.iter().all(|p| *p == plans[0]));
    }
}

/// Elsewhere errors may not be larger: a CPU with finer codes plans as those without.
#[test]
fn stored_plans_are_the_same_at_every_kind_of_codes() {
    let data = Data::of_positions(4, 1200, 1, 0, 1200);
    let at = |level, plan_options: &PlanOptions| {
        let options = Options { level: Some(level), ..Options::default() };
        data.with(|q, k, v| plan(q, k, v, &Mask::causal(), plan_options, &options)).unwrap()
    };
    let (fine, common) = (Level::detect(), Level::detect().with_common_codes());
    let stored = PlanOptions { request: Request::Units(50), ..PlanOptions::default() };
    assert_eq!(at(fine, &stored), at(common, &stored));
    let used_here = PlanOptions { own_codes: true, ..stored };
    assert_eq!(at(fine, &used_here) == at(common, &used_here), key_code(fine) == key_code(common));
}

#[test]
fn budgets_are_looked_at_as_far_as_the_effort_goes() {
    let data = Data::of_positions(4, 1500, 1, 0, 1500);
    let with = |effort, rows, request| {
        let options = PlanOptions { effort, rows, seed: Some(SEED), ..PlanOptions::on_the_fly(request) };
        data.with(|q, k, v| plan(q, k, v, &Mask::causal(), &options, &Options::default())).unwrap()
    };
    let sum = |plan: &LayerPlan| plan.heads.iter().map(|head| head.error.unwrap()).sum::<f64>();
    for request in [Request::Units(50), Request::Time(0.6)] {
        let errors = [0.3, 1.0, 100.0].map(|e| sum(&with(Some(e), Some(64), request)));
        let free = sum(&with(None, Some(64), request));
        assert!(errors.windows(2).all(|two| two[1] <= two[0]) && free < errors[0], "{request:?}: {errors:?}");
        assert_eq!(errors[2], free);
    }
}

#[test]
fn without_effort_budgets_are_planned_unseen() {
    let data = Data::of_positions(4, 1500, 1, 0, 1500);
    let with = |request| {
        let options = PlanOptions { effort: Some(0.0), ..PlanOptions::on_the_fly(request) };
        data.with(|q, k, v| plan(q, k, v, &Mask::causal(), &options, &Options::default())).unwrap()
    };
    for request in [Request::Units(2), Request::Units(50), Request::Time(0.6), Request::Time(1e-3)] {
        let unseen = with(request);
        assert_eq!((unseen.rows, unseen.error_bound()), (0, None), "{request:?}");
        // The cheapest, where nothing is as cheap as was asked.
        assert!(unseen.heads.iter().all(|head| !head.is_fallback() && head.error.is_none()), "{unseen:?}");
        match request {
            Request::Units(units) => assert!(unseen.units().is_some_and(|used| used <= units), "{unseen:?}"),
            Request::Time(time) => assert!(unseen.cost() <= time.max(0.25), "{unseen:?}"),
            other => unreachable!("{other}"),
        }
        let stored = Plan::new([("a".to_string(), unseen.clone())].into());
        let read: Plan = serde_json::from_str(&serde_json::to_string(&stored).unwrap()).unwrap();
        assert!(read == stored && read.check().is_ok());
        assert!(data.attend(&Mask::causal(), &Method::planned(unseen)).is_ok());
    }
    // Exact attention is within its own time, and for some of the heads within a little less.
    assert!(with(Request::Time(1.0)).heads.iter().all(HeadPlan::is_fallback));
    let most = with(Request::Time(0.9));
    assert!(most.heads.iter().any(HeadPlan::is_fallback) && most.cost() <= 0.9, "{most:?}");
    // A look is not begun where there is effort for exact rows, but for no trial.
    let short = Data::of_positions(4, 700, 1, 0, 700);
    for request in [Request::Units(20), Request::Time(0.5), Request::Error(0.1)] {
        let options = PlanOptions::on_the_fly(request);
        let planned = short.with(|q, k, v| plan(q, k, v, &Mask::causal(), &options, &Options::default())).unwrap();
        assert_eq!(planned.rows, 0, "{planned:?}");
    }
}

/// Rows whose errors tell nothing, as a single one, leave a choice that keeps the units, and the time.
#[test]
fn budgets_are_kept_where_nothing_bounds_an_error() {
    let one_row = Data::new(2, 1, 1500);
    let mut zeros = Data::new(2, 1500, 1500);
    zeros.value.fill(0.0);
    for data in [one_row, zeros] {
        let with = |request| data.plan(&Mask::default(), request);
        let planned = with(Request::Units(20));
        assert!(planned.units().is_some_and(|units| units <= 20), "{planned:?}");
        // For a single row exact attention is the cheapest.
        let time = if data.query.len() == 2 * D { 1.0 } else { 0.7 };
        let planned = with(Request::Time(0.7));
        assert!(planned.cost() <= time && planned.error_bound().is_none() == (time < 1.0), "{planned:?}");
        // Nor is an error supposed that no row has shown.
        assert!(planned.heads.iter().all(|head| head.error.is_some() == head.error_bound.is_some()), "{planned:?}");
    }
}

/// Of a window around a row half of the keys may be behind the last.
#[test]
fn a_window_of_more_keys_than_there_are_sees_all() {
    let (n, config) = (20, Config::Window { keys: 60, sinks: 0, centroids: 4 });
    let data = Data::new(2, n, n);
    let planned = Method::planned(layer(&[config; 2], n, n, false));
    assert!(errors(&data, &Mask::default(), &planned).iter().all(|&error| error < 1e-5));
}

/// Padding costs exact attention nothing, so that it makes no configuration worth its cost.
#[test]
fn padding_pays_for_nothing() {
    let data = Data::of_positions(4, 3000, 1, 0, 3000);
    let options = PlanOptions::on_the_fly(Request::Error(0.1));
    let exact = |lengths: &[usize]| {
        let mask = Mask { key_lengths: Some(lengths), ..Mask::default() };
        let planned = data.with(|q, k, v| plan(q, k, v, &mask, &options, &Options::default())).unwrap();
        planned.heads.iter().all(HeadPlan::is_fallback)
    };
    assert!(!exact(&[3000]) && exact(&[100]));
}

/// What a scan prepares is for all heads of a group, and the first does not fall back for its price.
#[test]
fn the_first_head_of_a_group_does_not_pay_for_all() {
    let (n, d) = (1500, 64);
    let one = |part| SEED.stream(part).normals(n * d);
    let (query, key, value) = (one(0).repeat(2), one(1), one(2));
    let query = Tensor::f32("query", &query, [1, 2, n, d]).unwrap();
    let [key, value] = [&key, &value].map(|data| Tensor::f32("key", data, [1, 1, n, d]).unwrap());
    let both = |effort: &i32| {
        let effort = Some(f64::from(*effort) / 100.0);
        let options = PlanOptions { effort, ..PlanOptions::on_the_fly(Request::Error(0.2)) };
        let planned = plan(&query, &key, &value, &Mask::causal(), &options, &Options::default()).unwrap();
        planned.heads.iter().all(|head| !head.is_fallback())
    };
    // 17 of these efforts plan both, and 11 where the first pays for the scan alone.
    let planned: Vec<i32> = (5..30).filter(both).collect();
    assert!(planned.len() >= 15, "{planned:?}");
}

#[test]
fn budgets_in_units_and_in_time() {
    let data = Data::of_positions(4, 1500, 1, 0, 1500);
    for units in [1, 2, 7, 100] {
        let plan = data.plan(&Mask::causal(), Request::Units(units));
        assert!(plan.units().is_some_and(|used| used <= units), "{units}: {plan:?}");
    }
    let mut before = f64::INFINITY;
    for time in [0.3, 0.6, 1.0] {
        let plan = data.plan(&Mask::causal(), Request::Time(time));
        let error = plan.heads.iter().map(|h| h.error.unwrap()).sum::<f64>();
        assert!(plan.cost() <= time && error <= before, "{time}: {plan:?}");
        before = error;
    }
    assert_eq!(before, 0.0);
}

#[test]
fn inputs_with_little_to_look_at() {
    let request = Request::Error(0.05);
    let exact = |data: &Data, mask: &Mask<'_>| {
        let plan = data.plan(mask, request);
        assert!(plan.heads.iter().all(HeadPlan::is_fallback), "{plan:?}");
        let [a, b] = [Method::planned(plan), Method::exact()].map(|m| data.attend(mask, &m).unwrap().output);
        assert_eq!(bits(&a), bits(&b));
    };
    exact(&Data::new(2, 1, 1), &Mask::default());
    exact(&Data::new(2, 700, 1), &Mask::causal());
    exact(&Data::new(2, 1, 700), &Mask::causal());
    exact(&Data::new(2, 1500, 1500), &Mask { key_lengths: Some(&[0]), ..Mask::default() });
    let mut data = Data::new(2, 1500, 1500);
    data.key[7 * D] = f32::NAN; // every row of the first group is NaN
    exact(&data, &Mask::default());
    let mut zeros = Data::new(2, 1500, 1500);
    zeros.value.fill(0.0);
    exact(&zeros, &Mask::default());
}

#[test]
fn a_nan_in_a_query_is_left_out_of_the_plan() {
    // The last head is so flat that any rows give it the same configuration.
    let mut data = Data::of_positions(4, 2000, 1, 0, 2000);
    let clean = data.plan(&Mask::default(), Request::Error(0.2));
    assert!(!clean.heads[3].is_fallback());
    for i in (3 * 2000..4 * 2000).step_by(2) {
        data.query[i * D] = f32::NAN;
    }
    let half = data.plan(&Mask::default(), Request::Error(0.2));
    assert_eq!(half.heads[..3], clean.heads[..3]);
    assert_eq!(half.heads[3].config, clean.heads[3].config);
    let bound = half.heads[3].error_bound;
    assert!(bound.is_some_and(f64::is_finite) && bound != clean.heads[3].error_bound);
}

#[test]
fn groups_far_apart_in_a_long_input_get_an_inverted_file() {
    // Row i is of group i mod 256: no window sees its own.
    let (n, groups) = (16384, 256);
    let (centres, noise) = (SEED.stream(3).normals(groups * D), SEED.stream(4).normals(n * D));
    let row = |i: usize| (0..D).map(move |c| (i, c));
    let rows: Vec<f32> =
        (0..n).flat_map(row).map(|(i, c)| 2.0 * centres[i % groups * D + c] + 0.2 * noise[i * D + c]).collect();
    let data = Data { query: rows.clone(), key: rows.clone(), ..Data::new(1, n, n) };
    let options = PlanOptions { request: Request::Error(0.05), seed: Some(SEED), ..PlanOptions::default() };
    let options_of_call = Options { scale: Some(1.0), ..Options::default() };
    let mask = Mask::causal();
    let (planned, output) = data.with(|q, k, v| {
        let planned = plan(q, k, v, &mask, &options, &options_of_call).unwrap();
        let output = attend(q, k, v, &mask, &Method::planned(planned.clone()), &options_of_call).unwrap().output;
        (planned, output)
    });
    let head = planned.heads[0];
    assert!(matches!(head.config, Config::InvertedFile { .. }) && head.error_bound <= Some(0.05), "{head:?}");
    let error = |i: usize| {
        let row = |x: usize| rows[x * D..(x + 1) * D].iter().map(|x| f64::from(*x));
        let logit = |j: usize| row(i).zip(row(j)).map(|(x, y)| x * y).sum::<f64>();
        let logits: Vec<f64> = (0..=i).map(logit).collect();
        let top = logits.iter().copied().fold(f64::MIN, f64::max);
        let (mut sum, mut exact) = (0.0, [0.0; D]);
        for (j, logit) in logits.iter().enumerate() {
            let weight = (logit - top).exp();
            sum += weight;
            (0..D).for_each(|c| exact[c] += weight * f64::from(data.value[j * D + c]));
        }
        let square = |of: &dyn Fn(usize) -> f64| (0..D).map(|c| of(c).powi(2)).sum::<f64>();
        let difference = square(&|c| exact[c] / sum - f64::from(output[i * D + c]));
        (difference / square(&|c| exact[c] / sum)).sqrt()
    };
    let errors: Vec<f64> = (0..n).step_by(61).map(error).collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert!(mean <= 0.05, "{mean}");
}

#[test]
fn plans_of_other_inputs_are_refused() {
    let data = Data::new(4, 20, 20);
    let plan = layer(&CONFIGS[..4], 20, 20, true);
    let refused = |plan: LayerPlan, mask: &Mask<'_>, name: &str| {
        let error = data.attend(mask, &Method::planned(plan)).unwrap_err();
        assert!(matches!(error, Error::Invalid { argument, .. } if argument == name), "{error}");
    };
    assert!(data.attend(&Mask::causal(), &Method::planned(plan.clone())).is_ok());
    refused(plan.clone(), &Mask::default(), "plan.causal");
    refused(layer(&CONFIGS[..2], 20, 20, true), &Mask::causal(), "plan.heads");
    refused(LayerPlan { kv_heads: 4, ..plan.clone() }, &Mask::causal(), "plan.kv_heads");
    refused(LayerPlan { head_dim: 8, ..plan.clone() }, &Mask::causal(), "plan.head_dim");
    let keys = Config::QuantisedTopK { keys: 0, centroids: 4 };
    refused(layer(&[keys; 4], 20, 20, true), &Mask::causal(), "plan.keys");
    let clusters = Config::InvertedFile { keys: 4, clusters: 0 };
    refused(layer(&[clusters; 4], 20, 20, true), &Mask::causal(), "plan.clusters");
    refused(layer(&[Config::Centroids { centroids: 0 }; 4], 20, 20, true), &Mask::causal(), "plan.centroids");
    // More keys than there are: as many as there are.
    let keys = Config::QuantisedTopK { keys: 10_000, centroids: 400 };
    assert!(data.attend(&Mask::causal(), &Method::planned(layer(&[keys; 4], 20, 20, true))).is_ok());
}

#[test]
fn requests_that_nothing_could_keep() {
    let data = Data::new(2, 20, 20);
    for (request, name) in [
        (Request::Error(0.0), "max_error"),
        (Request::Error(f64::NAN), "max_error"),
        (Request::Time(-1.0), "max_time"),
        (Request::Units(0), "units"),
    ] {
        let options = PlanOptions { request, ..PlanOptions::default() };
        let refused = data.with(|q, k, v| plan(q, k, v, &Mask::default(), &options, &Options::default()));
        assert!(matches!(refused, Err(Error::Invalid { argument, .. }) if argument == name), "{request:?}");
    }
    let options = PlanOptions { rows: Some(1), ..PlanOptions::default() };
    assert!(data.with(|q, k, v| plan(q, k, v, &Mask::default(), &options, &Options::default())).is_err());
}

#[test]
fn boolean_masks() {
    let data = Data::of_positions(2, 600, 1, 0, 600);
    let allowed: Vec<u8> = (0..600 * 600).map(|at| u8::from(at % 7 != 0)).collect();
    let mask = Mask { allowed: Some(MaskTensor::new(&allowed, [1, 1, 600, 600]).unwrap()), ..Mask::default() };
    let planned = data.plan(&mask, Request::Error(0.2));
    assert!(errors(&data, &mask, &Method::planned(planned)).iter().all(|&e| e <= 0.4));
}

fn config() -> impl Strategy<Value = Config> {
    let count = 1usize..5000;
    prop_oneof![
        Just(Config::Exact),
        Just(Config::Uniform),
        count.clone().prop_map(|centroids| Config::Centroids { centroids }),
        (count.clone(), 0usize..9, 0usize..99).prop_map(|(keys, sinks, centroids)| Config::Window {
            keys,
            sinks,
            centroids
        }),
        (count.clone(), 0usize..99).prop_map(|(keys, centroids)| Config::QuantisedTopK { keys, centroids }),
        (count.clone(), count).prop_map(|(keys, clusters)| Config::InvertedFile { keys, clusters }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let positive = 1e-9f64..1e9;
    let units = (1usize..1000).prop_map(Request::Units);
    prop_oneof![positive.clone().prop_map(Request::Error), positive.prop_map(Request::Time), units]
}

proptest! {
    #[test]
    fn a_plan_comes_back_from_json(
        configs in prop::collection::vec(config(), 1..40),
        figures in prop::collection::vec(0.0f64..1e6, 4),
        request in request(),
        seed in any::<u64>(),
        causal in any::<bool>(),
        names in prop::collection::vec("[a-z0-9 \"]{0,9}", 0..4),
    ) {
        let mut layer = LayerPlan { request, seed: Seed(seed), ..layer(&configs, 77, 99, causal) };
        for head in &mut layer.heads {
            (head.error, head.error_bound) = (Some(figures[0]), (figures[1] < 5e5).then_some(figures[1]));
            (head.cost, head.exact_share) = (figures[2], figures[3]);
        }
        let plan = Plan::new(names.into_iter().map(|name| (name, layer.clone())).collect());
        prop_assert!(plan.check().is_ok());
        let json = serde_json::to_string_pretty(&plan).unwrap();
        for head in plan.layers.values().flat_map(|layer| &layer.heads) {
            prop_assert!(json.contains(&format!("\"{}\"", head.config.name())), "{:?}", head.config);
        }
        prop_assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
    }
}

#[test]
fn a_layer_of_many_heads_is_small() {
    // 160 heads, figures of as many digits as the planner writes.
    let third = 0.005_208_34;
    let mut layer = layer(&[Config::Window { keys: 123_456, sinks: 4, centroids: 4096 }; 160], 1 << 20, 1 << 20, true);
    for head in &mut layer.heads {
        (head.error, head.error_bound, head.cost) = (Some(third), Some(third), third);
        (head.exact_share, head.scan_share) = (third, third);
    }
    let plan = Plan::new([("17".to_string(), layer)].into());
    assert!(serde_json::to_string_pretty(&plan).unwrap().len() <= 64_000);
}

#[test]
fn what_is_no_plan_is_refused() {
    let plan = Plan::new([("0".into(), layer(&CONFIGS[..1], 9, 9, false))].into());
    let json = serde_json::to_string(&plan).unwrap();
    for field in ["\"version\"", "\"rows\"", "\"cost\"", "\"keys\""] {
        let unknown = json.replacen(field, &format!("\"unknown\":1,{field}"), 1);
        assert!(unknown != json && serde_json::from_str::<Plan>(&unknown).is_err(), "{field}");
    }
    let read = |from: &str, to: &str| serde_json::from_str::<Plan>(&json.replacen(from, to, 1));
    assert!(read("\"cost\":0.5", "\"cost\":0.5").is_ok());
    let changes = [
        ("\"version\":1", "\"version\":2", "plan.version"),
        ("\"cost\":0.5", "\"cost\":-0.5", "plan.cost"),
        ("\"m\":9", "\"m\":0", "plan.m"),
        ("\"keys\":12", "\"keys\":0", "plan.keys"),
        ("\"centroids\":5", "\"centroids\":18446744073709551615", "plan.centroids"),
        ("\"units\":9", "\"units\":0", "units"),
    ];
    for (from, to, name) in changes {
        let error = read(from, to).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
}
