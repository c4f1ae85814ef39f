//! Collision probabilities against seeded Monte Carlo over draws of the families, at z ≤ 4: a right formula fails
//! with probability below 7e-5 an assertion, and the seeds are fixed.

use scatterbrain_core::{Level, Matrix, Seed};
use scatterbrain_hash::{
    CollisionTable, CrossPolytope, E2lsh, HashFamily, ReformerRotation, Rotation, SignRandomProjection,
    asymptotic_log_collision,
};
use std::f64::consts::PI;

/// How often the two rows meet, over all hashes.
fn met(hash: &dyn HashFamily, x: &[f32], y: &[f32]) -> usize {
    let rows = [x, y].concat();
    let codes = hash.codes(Level::detect(), Matrix::new("rows", &rows, 2, x.len()).unwrap()).unwrap();
    (0..hash.n_hashes()).filter(|&h| codes.hash(h)[0] == codes.hash(h)[1]).count()
}

fn assert_binomial(met: usize, trials: usize, p: f64, what: &str) {
    let (x, n) = (met as f64, trials as f64);
    let z = (x - n * p) / (n * p * (1.0 - p)).sqrt().max(0.5);
    assert!(z.abs() <= 4.0, "{what}: {met} of {trials}, expected {p}, z = {z}");
}

/// Two unit rows at an angle, in general position.
fn pair(d: usize, angle: f64) -> (Vec<f32>, Vec<f32>) {
    let mut rng = Seed(17).stream(d as u64);
    let mut e: Vec<f64> = (0..d).map(|_| rng.normal()).collect();
    let mut f: Vec<f64> = (0..d).map(|_| rng.normal()).collect();
    let unit = |x: &mut [f64]| {
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter_mut().for_each(|x| *x /= norm);
    };
    unit(&mut e);
    let dot: f64 = e.iter().zip(&f).map(|(e, f)| e * f).sum();
    f.iter_mut().zip(&e).for_each(|(f, e)| *f -= dot * e);
    unit(&mut f);
    let y = e.iter().zip(&f).map(|(e, f)| (angle.cos() * e + angle.sin() * f) as f32).collect();
    (e.iter().map(|&x| x as f32).collect(), y)
}

#[test]
fn sign_random_projection() {
    let n = 40_000;
    for (bits, seed) in [(1, 1), (3, 2), (8, 3)] {
        let hash = SignRandomProjection::sample(11, n, bits, Seed(seed)).unwrap();
        for angle in [0.05, 0.4, 1.0, 2.0, 3.0] {
            let (x, mut y) = pair(11, angle);
            y.iter_mut().for_each(|y| *y *= 7.5); // the length must not matter
            let p = hash.collision_probability(angle).unwrap();
            assert_binomial(met(&hash, &x, &y), n, p, &format!("{bits} bits, angle {angle}"));
        }
    }
}

#[test]
fn e2lsh() {
    let n = 40_000;
    for (concatenations, width, seed) in [(1, 1.0, 1), (1, 4.0, 2), (3, 2.5, 3)] {
        let hash = E2lsh::sample(7, n, concatenations, width, Seed(seed)).unwrap();
        for distance in [0.1, 0.7, 1.5, 4.0, 20.0] {
            let (direction, origin) = pair(7, 1.1);
            let x: Vec<f32> = origin.iter().map(|x| 3.0 * x).collect();
            let y: Vec<f32> = x.iter().zip(&direction).map(|(x, u)| x + distance as f32 * u).collect();
            let p = hash.collision_probability(distance).unwrap();
            assert_binomial(met(&hash, &x, &y), n, p, &format!("K {concatenations}, w {width}, distance {distance}"));
        }
    }
}

/// The estimate draws pairs; here whole rotations are drawn and the production path hashes the pair.
#[test]
fn cross_polytope_estimate() {
    for (rotation, concatenations) in [(Rotation::Gaussian, 1), (Rotation::Orthogonal, 1), (Rotation::Orthogonal, 2)] {
        let (n, d) = (20_000, 8);
        let hash = CrossPolytope::sample(d, n, concatenations, rotation, Seed(5)).unwrap();
        for distance in [0.3f64, 0.8, 1.2] {
            let (x, y) = pair(d, 2.0 * (distance / 2.0).asin());
            let estimate = hash.estimate_collision_probability(distance, 200_000, Seed(6)).unwrap();
            let measured = met(&hash, &x, &y) as f64 / n as f64;
            let p = estimate.probability;
            let error = (p * (1.0 - p) / n as f64 + estimate.standard_error.powi(2)).sqrt();
            let z = (measured - p) / error;
            assert!(z.abs() <= 4.0, "{rotation:?}, K {concatenations}, distance {distance}: {measured} {p} z {z}");
        }
    }
}

#[test]
fn cross_polytope_at_64_is_far_from_the_asymptotic_term() {
    let hash = CrossPolytope::sample(64, 1, 1, Rotation::Gaussian, Seed(1)).unwrap();
    let p = hash.estimate_collision_probability(1.0, 40_000, Seed(2)).unwrap();
    assert!((p.probability - 0.0982).abs() < 0.00005 + 4.0 * p.standard_error, "{p:?}");
    let log = asymptotic_log_collision(64, 1.0).unwrap();
    assert!((log.exp() - 0.25).abs() < 1e-12);
    assert!(asymptotic_log_collision(64, 2.0).is_err() && asymptotic_log_collision(0, 1.0).is_err());
}

#[test]
fn collision_table_joins_the_estimates() {
    let hash = CrossPolytope::sample(16, 1, 2, Rotation::Orthogonal, Seed(1)).unwrap();
    let table = CollisionTable::calibrate(&hash, 10, 4000, Seed(3)).unwrap();
    let at = |d| hash.estimate_collision_probability(d, 4000, Seed(3)).unwrap().probability;
    let close = |d: f64, p: f64| (table.collision_probability(d).unwrap() - p).abs() < 1e-12;
    assert!(close(0.0, 1.0) && close(2.0, 0.0) && close(0.6, at(0.6)));
    assert!(close(0.7, 0.5 * (at(0.6) + at(0.8))));
    assert!(table.collision_probability(2.1).is_err() && table.collision_probability(f64::NAN).is_err());
    let stored: CollisionTable = serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
    assert_eq!(stored, table);
    let empty: CollisionTable = serde_json::from_str(r#"{"probabilities":[1.0]}"#).unwrap();
    assert!(empty.collision_probability(1.0).is_err());
    assert!(CollisionTable::calibrate(&hash, 0, 10, Seed(3)).is_err());
}

/// With as many projections as columns, Reformer's rotation is one Gaussian cross-polytope.
#[test]
fn reformer_collides_as_a_gaussian_cross_polytope() {
    let (n, d) = (20_000, 6);
    let hash = ReformerRotation::sample(d, n, 2 * d, Seed(9)).unwrap();
    let polytope = CrossPolytope::sample(d, 1, 1, Rotation::Gaussian, Seed(9)).unwrap();
    let p = polytope.estimate_collision_probability(0.9, 400_000, Seed(10)).unwrap().probability;
    let (x, y) = pair(d, 2.0 * (0.45f64).asin());
    assert_binomial(met(&hash, &x, &y), n, p, "reformer");
}

#[test]
fn probabilities_refuse_what_is_no_angle_or_distance() {
    let srp = SignRandomProjection::sample(3, 1, 1, Seed(1)).unwrap();
    assert!(srp.collision_probability(-0.1).is_err() && srp.collision_probability(PI + 0.1).is_err());
    assert!(srp.collision_probability(f64::NAN).is_err());
    let e2lsh = E2lsh::sample(3, 1, 1, 1.0, Seed(1)).unwrap();
    assert!(e2lsh.collision_probability(-0.1).is_err() && e2lsh.collision_probability(f64::NAN).is_err());
    assert_eq!(e2lsh.collision_probability(0.0).unwrap(), 1.0);
    assert_eq!(e2lsh.collision_probability(f64::INFINITY).unwrap(), 0.0);
    let polytope = CrossPolytope::sample(3, 1, 1, Rotation::Gaussian, Seed(1)).unwrap();
    assert!(polytope.estimate_collision_probability(2.5, 10, Seed(1)).is_err());
    assert!(polytope.estimate_collision_probability(1.0, 0, Seed(1)).is_err());
    let line = CrossPolytope::sample(1, 1, 1, Rotation::Gaussian, Seed(1)).unwrap();
    assert!(line.estimate_collision_probability(1.0, 10, Seed(1)).is_err());
}
