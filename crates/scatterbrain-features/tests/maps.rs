//! Every map against a naive f64 one, at every SIMD level, and at the ends of the range.

use scatterbrain_core::kernel::PANEL;
use scatterbrain_core::{Error, Level, Matrix, Seed};
use scatterbrain_features::{
    Constant, EluFeatures, FeatureMap, HyperbolicFeatures, LogFeatures, OptimalPositiveFeatures, PositiveFeatures,
    Projection, ProjectionKind, ReluFeatures, Role, TrigonometricFeatures,
};

const KIND: ProjectionKind = ProjectionKind::Orthogonal;

fn features(map: &dyn FeatureMap, level: Level, rows: Matrix<'_>, factor: f32) -> LogFeatures {
    let mut out = LogFeatures::default();
    map.log_features(level, rows, factor, Role::Key, &mut out).unwrap();
    assert_eq!((out.rows(), out.n_features), (rows.rows(), map.n_features()));
    assert_eq!(out.negative.is_some(), map.signed());
    panels_agree(map, level, rows, factor, &out);
    out
}

/// Rows in lanes have the same logs, to the bit.
fn panels_agree(map: &dyn FeatureMap, level: Level, rows: Matrix<'_>, factor: f32, logs: &LogFeatures) {
    let mut panels = vec![7.0; 3];
    map.log_panels(level, rows, factor, Role::Key, &mut panels).unwrap();
    assert_eq!(panels.len(), rows.rows().div_ceil(PANEL) * PANEL * map.n_features());
    for i in 0..rows.rows() {
        let lane = panels[i / PANEL * PANEL * map.n_features() + i % PANEL..].iter().step_by(PANEL);
        let same = lane.zip(logs.row(i)).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{map:?} at {}: row {i}", level.name());
    }
}

fn rows(n: usize, d: usize, size: f32) -> Vec<f32> {
    Seed(9).stream(0).normals(n * d).into_iter().map(|x| x * size).collect()
}

fn dot(w: &[f32], x: &[f32], factor: f32) -> f64 {
    w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>() * f64::from(factor)
}

fn half_norm(x: &[f32], factor: f32) -> f64 {
    0.5 * x.iter().map(|&x| (f64::from(x) * f64::from(factor)).powi(2)).sum::<f64>()
}

/// Bound on the rounding of one projection: 2·d·2⁻²⁴·Σ|ω·x|.
fn projection_error(w: &[f32], x: &[f32], factor: f32) -> f64 {
    let sum: f64 = w.iter().zip(x).map(|(&w, &x)| f64::from((w * x).abs())).sum::<f64>() * f64::from(factor.abs());
    2.0 * x.len() as f64 * 2f64.powi(-24) * sum
}

/// Two more roundings of every term that is added.
fn rounding(terms: &[f64]) -> f64 {
    2.0 * 2f64.powi(-24) * terms.iter().map(|t| t.abs()).sum::<f64>() + 1e-7
}

type Expected<'a> = Box<dyn Fn(&[f32], usize) -> (f64, f64) + 'a>;

/// Compares logs with `expected(row, feature) = (log, error)`.
fn check(map: &dyn FeatureMap, x: Matrix<'_>, factor: f32, expected: Expected<'_>) {
    for level in Level::available() {
        let found = features(map, level, x, factor);
        for i in 0..x.rows() {
            for (l, &log) in found.row(i).iter().enumerate() {
                let (expected, error) = expected(x.row(i), l);
                let difference = (f64::from(log) - expected).abs();
                assert!(difference <= error, "{map:?} at {}: row {i}, feature {l}: {log}, {expected}", level.name());
            }
        }
    }
}

#[test]
fn positive_hyperbolic_and_optimal_at_every_level() {
    // Odd sizes: ragged panels, blocks and vectors.
    for (n, d, r) in [(1, 1, 1), (70, 59, 37), (131, 64, 48)] {
        for (size, factor) in [(1.0, 0.35), (30.0, -1.0)] {
            let data = rows(n, d, size);
            let x = Matrix::new("key", &data, n, d).unwrap();
            let projection = Projection::sample(KIND, r, d, Seed(1)).unwrap();
            let w = |l: usize| projection.matrix().row(l).to_vec();
            let half_log = |m: usize| 0.5 * (m as f64).ln();

            let map = PositiveFeatures::from_projection(projection.clone());
            check(
                &map,
                x,
                factor,
                Box::new(|x, l| {
                    let (p, h, c) = (dot(&w(l), x, factor), half_norm(x, factor), half_log(r));
                    (p - h - c, projection_error(&w(l), x, factor) + rounding(&[p, h, c]))
                }),
            );

            let map = HyperbolicFeatures::from_projection(projection.clone());
            check(
                &map,
                x,
                factor,
                Box::new(|x, l| {
                    let sign = if l < r { 1.0 } else { -1.0 };
                    let w = w(l % r);
                    let (p, h, c) = (sign * dot(&w, x, factor), half_norm(x, factor), half_log(2 * r));
                    (p - h - c, projection_error(&w, x, factor) + rounding(&[p, h, c]))
                }),
            );

            let a = -0.3;
            let map = OptimalPositiveFeatures::from_projection(projection.clone(), a).unwrap();
            check(
                &map,
                x,
                factor,
                Box::new(|x, l| {
                    let w = w(l);
                    let b = (1.0 - 4.0 * a).sqrt();
                    let (p, h) = (b * dot(&w, x, factor), half_norm(x, factor));
                    let c = a * dot(&w, &w, 1.0) + 0.25 * d as f64 * (1.0 - 4.0 * a).ln() - half_log(r);
                    (p - h + c, b * projection_error(&w, x, factor) + rounding(&[p, p, h, h, c, c]))
                }),
            );
        }
    }
}

/// The features themselves, since their logarithms are steep at zeros of sine and cosine.
#[test]
fn trigonometric_at_every_level() {
    let (n, d, r, factor) = (70, 21, 37, 0.5);
    let data = rows(n, d, 1.0);
    let x = Matrix::new("key", &data, n, d).unwrap();
    let projection = Projection::sample(KIND, r, d, Seed(1)).unwrap();
    let map = TrigonometricFeatures::from_projection(projection.clone());
    for level in Level::available() {
        let found = features(&map, level, x, factor);
        for i in 0..n {
            let scale = half_norm(x.row(i), factor) - 0.5 * (r as f64).ln();
            for l in 0..2 * r {
                let w = projection.matrix().row(l % r);
                let angle = dot(w, x.row(i), factor);
                let expected = if l < r { angle.cos() } else { angle.sin() };
                let size = (f64::from(found.row(i)[l]) - scale).exp();
                let value = if found.negative_row(i).unwrap()[l] { -size } else { size };
                let error = projection_error(w, x.row(i), factor) + rounding(&[1.0, scale, angle]);
                assert!((value - expected).abs() <= error, "row {i}, feature {l}: {value}, {expected}");
            }
        }
    }
}

#[test]
fn relu_is_the_positive_part() {
    let (n, d, r, factor) = (70, 21, 37, 0.5);
    let data = rows(n, d, 1.0);
    let x = Matrix::new("key", &data, n, d).unwrap();
    let projection = Projection::sample(KIND, r, d, Seed(1)).unwrap();
    let map = ReluFeatures::from_projection(projection.clone());
    for level in Level::available() {
        let found = features(&map, level, x, factor);
        for i in 0..n {
            for l in 0..r {
                let w = projection.matrix().row(l);
                let expected = dot(w, x.row(i), factor).max(0.0) / (r as f64).sqrt();
                let error = projection_error(w, x.row(i), factor) + 1e-6 * expected;
                assert!((f64::from(found.row(i)[l]).exp() - expected).abs() <= error);
            }
        }
    }
}

/// The authors' linear attention maps raw rows: their outputs come out only without the softmax temperature.
#[test]
fn elu_and_constant_ignore_the_scale() {
    let x = Matrix::new("query", &[0.0, -0.0, 2.5, -3.0], 1, 4).unwrap();
    let elu = EluFeatures::new(4).unwrap();
    for factor in [1.0, -0.5] {
        let log = features(&elu, Level::detect(), x, factor).log;
        for (log, expected) in log.into_iter().zip([0.0, 0.0, 3.5f64.ln(), -3.0]) {
            assert!((f64::from(log) - expected).abs() < 2e-7);
        }
        assert_eq!(features(&Constant::new(4).unwrap(), Level::detect(), x, factor).log, [0.0]);
    }
    assert!(EluFeatures::new(0).is_err() && Constant::new(0).is_err());
}

fn all(d: usize, m: usize) -> Vec<Box<dyn FeatureMap>> {
    vec![
        Box::new(PositiveFeatures::sample(d, m, KIND, Seed(1)).unwrap()),
        Box::new(HyperbolicFeatures::sample(d, m, KIND, Seed(1)).unwrap()),
        Box::new(TrigonometricFeatures::sample(d, m, KIND, Seed(1)).unwrap()),
        Box::new(OptimalPositiveFeatures::sample(d, m, KIND, -0.2, Seed(1)).unwrap()),
        Box::new(ReluFeatures::sample(d, m, KIND, Seed(1)).unwrap()),
        Box::new(EluFeatures::new(d).unwrap()),
        Box::new(Constant::new(d).unwrap()),
    ]
}

#[test]
fn large_rows_have_finite_logs_and_bounded_values() {
    let d = 8;
    let mut data = rows(5, d, 1.0);
    for row in data.chunks_exact_mut(d) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x *= 1e4 / norm);
    }
    let x = Matrix::new("key", &data, 5, d).unwrap();
    for map in all(d, 16) {
        let out = features(map.as_ref(), Level::detect(), x, 1.0);
        let zero_allowed = format!("{map:?}").starts_with("Relu");
        for i in 0..5 {
            assert!(out.row(i).iter().all(|l| l.is_finite() || (zero_allowed && *l == f32::NEG_INFINITY)), "{map:?}");
            let (scale, values) = out.values(i);
            assert!(scale.is_finite());
            assert!(values.iter().all(|v| v.abs() <= 1.0) && values.iter().any(|v| v.abs() == 1.0), "{map:?}");
        }
    }
}

#[test]
fn zero_rows() {
    let x = Matrix::new("key", &[0.0; 8], 1, 8).unwrap();
    let log = |map: &dyn FeatureMap| features(map, Level::detect(), x, 1.0);
    let [positive, hyperbolic, trigonometric, _, relu, elu, constant] = all(8, 16).try_into().unwrap();
    for map in [positive, hyperbolic] {
        assert_eq!(log(map.as_ref()).log, [-(4.0f32.ln()); 16]);
    }
    let (scale, values) = log(trigonometric.as_ref()).values(0);
    assert!((scale + 0.5 * 8.0f32.ln()).abs() < 1e-6);
    assert_eq!(values, [[1.0; 8], [0.0; 8]].concat());
    assert_eq!(log(relu.as_ref()).values(0), (f32::NEG_INFINITY, vec![0.0; 16]));
    assert_eq!(log(elu.as_ref()).log, [0.0; 8]);
    assert_eq!(log(constant.as_ref()).log, [0.0]);
}

#[test]
fn not_a_number_taints_its_own_row() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut data = rows(3, 8, 1.0);
        let clean = data.clone();
        data[8 + 3] = bad;
        let (x, clean) = (Matrix::new("key", &data, 3, 8).unwrap(), Matrix::new("key", &clean, 3, 8).unwrap());
        for map in all(8, 16) {
            let (found, expected) =
                (features(map.as_ref(), Level::detect(), x, 1.0), features(map.as_ref(), Level::detect(), clean, 1.0));
            assert_eq!(found.row(0), expected.row(0));
            assert_eq!(found.row(2), expected.row(2));
            let constant = map.n_features() == 1;
            assert!(constant || found.row(1).iter().any(|l| l.is_nan() || *l == f32::INFINITY), "{map:?}");
            assert!(bad == f32::INFINITY || constant || found.values(1).0.is_nan(), "{map:?}");
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let data = rows(131, 8, 1.0);
    let x = Matrix::new("key", &data, 131, 8).unwrap();
    for level in Level::available() {
        for map in all(8, 40) {
            let together = features(map.as_ref(), level, x, 0.7);
            for i in [0, 63, 64, 130] {
                let alone = Matrix::new("key", x.row(i), 1, 8).unwrap();
                assert_eq!(features(map.as_ref(), level, alone, 0.7).row(0), together.row(i), "{map:?}");
            }
        }
    }
}

#[test]
fn refuses() {
    let mut out = LogFeatures::default();
    let level = Level::detect();
    let narrow = Matrix::new("key", &[0.0; 7], 1, 7).unwrap();
    let row = Matrix::new("key", &[0.0; 8], 1, 8).unwrap();
    let huge = Matrix::new("key", &[1e20; 8], 1, 8).unwrap();
    for map in all(8, 16) {
        let error = map.log_features(level, narrow, 1.0, Role::Key, &mut out).unwrap_err();
        assert_eq!(error.to_string(), "key: expected rows of 8 columns, got 7");
        let error = map.log_features(level, row, f32::NAN, Role::Query, &mut out).unwrap_err();
        assert!(matches!(error, Error::Invalid { argument: "factor", .. }));
        if map.uses_scale() {
            let error = map.log_features(level, huge, 1.0, Role::Query, &mut out).unwrap_err();
            assert!(matches!(error, Error::Overflow { argument: "query", .. }));
        }
    }
    for m in [0, 15] {
        assert!(HyperbolicFeatures::sample(8, m, KIND, Seed(1)).is_err());
        assert!(TrigonometricFeatures::sample(8, m, KIND, Seed(1)).is_err());
    }
}
