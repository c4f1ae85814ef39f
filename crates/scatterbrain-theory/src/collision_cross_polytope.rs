//! How often a Gaussian matrix sends two vectors to one vertex of the cross-polytope.

use crate::collision_sign_random_projection::check_angle;
use crate::error::{Result, suppose};
use crate::owens_t::{NODES, owens_t};
use crate::quadrature::Rule;
use std::f64::consts::{FRAC_PI_2, PI};

/// Panels of every halved interval of the angle, and of the radius.
const GRID: (usize, usize) = (1, 8);

/// How often the range of the angle is halved towards 0.
const HALVINGS: i32 = 9;

/// Where the radial integrand has fallen to e^{−40} of its maximum, it is left out.
const NEGLIGIBLE: f64 = 40.0;

/// The exact probability that two vectors at angle θ have the same largest |coordinate|, with the same sign, after
/// multiplication with a matrix of `n_directions` independent standard normal rows.
///
/// With x = r sin(δ + a), y = r sin(δ − a), δ = (π − θ)/2 and G(x, y) = P[|X| < x, |Y| < y] for standard normal X, Y
/// of correlation cos θ,
///
/// ```math
/// p = \frac{2D}{\pi} \int_0^\delta da \int_0^\infty r e^{-r^2/2}\, G(x, y)^{D - 1}\, dr, \qquad D = \texttt{n\_directions}
/// ```
///
/// Derivation: the D pairs of coordinates (x_i, y_i) are independent, standard normal, of correlation cos θ. One of
/// D indices and two signs is the common vertex, hence p = 2D ∫∫_{x,y>0} f(x, y) G(x, y)^{D−1} dx dy, f their
/// density. (x, y) = (g·e, g·u), g a standard normal vector of the plane and e, u unit vectors at angle θ; polar
/// coordinates of g around the bisector give x = r cos(a − θ/2), y = r cos(a + θ/2), both positive for |a| < δ,
/// density r e^{−r²/2}/2π, and G is even in a. 1 − G is the mass outside of the parallelogram |g·e| < x,
/// |g·u| < y: of its four sides, cut at the feet of the perpendiculars from 0,
/// 1 − G = 2 \[T(x, −tan β) + T(x, 2 cot θ − tan β) + T(y, tan γ) + T(y, 2 cot θ + tan γ)\], β = a − θ/2,
/// γ = a + θ/2, T Owen's function. With D = 1 this is 1 − θ/π, sign random projection.
///
/// | hash | D | this formula |
/// |---|---|---|
/// | cross-polytope, Gaussian rotation | head dimension | exact |
/// | Reformer's rotation | buckets/2 | exact |
/// | cross-polytope, uniformly random *orthogonal* rotation | head dimension | approximate: coordinates are dependent; at τ = 1 measured 0.259 for 0.317 (D = 4), 0.0926 for 0.0982 (D = 64) |
/// | pseudo-rotations by Hadamard and sign matrices | head dimension | approximate: neither normal nor independent |
/// | SMYRF | – | none: whether two rows share a cluster depends on the order of all rows |
///
/// Relative accuracy, by a grid twice as fine: 1e-10 from D = 8 up to a million, 1e-7 below (1 − θ/π itself at
/// D = 1), where p > 1e-300; p vanishes by underflow near θ = π.
/// K rotations and L tables: [`amplification`](crate::amplification()); growth in D:
/// [`leading_term_cross_polytope`](crate::leading_term_cross_polytope).
/// The hash: Andoni et al. 2015, "Practical and optimal LSH for angular distance".
///
/// # Errors
/// No directions, more than 2³⁰ of them, or an angle outside [0, π].
///
/// # Cost
/// About 26 000 values of G, each four integrals of 20 nodes: some tens of milliseconds.
///
/// ```
/// use scatterbrain_theory::collision_cross_polytope;
/// // Unit vectors at distance 1 in 64 dimensions.
/// let p = collision_cross_polytope(64, std::f64::consts::FRAC_PI_3)?;
/// assert!((p - 0.0982).abs() < 5e-5); // An orthogonal rotation: 0.0926, measured.
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn collision_cross_polytope(n_directions: usize, angle: f64) -> Result<f64> {
    check(n_directions, angle)?;
    Ok(integral(n_directions, angle, GRID))
}

fn check(n_directions: usize, angle: f64) -> Result<()> {
    const FORMULA: &str = "the collision probability of the cross-polytope";
    let count = (1..=1 << 30).contains(&n_directions);
    suppose(FORMULA, "1 to 2^30 directions", count, n_directions as f64)?;
    check_angle(FORMULA, angle)
}

fn integral(n_directions: usize, angle: f64, grid: (usize, usize)) -> f64 {
    if n_directions == 1 || angle == 0.0 {
        return 1.0 - angle / PI;
    }
    let (d, delta) = (n_directions as f64, FRAC_PI_2 - 0.5 * angle);
    if delta <= 0.0 {
        return 0.0;
    }
    let (outer, inner) = (Rule::new(16), Rule::new(NODES));
    // Beyond r² = 2D − 1 the integrand falls at every a, since G(λx, λy) ≤ λ² G(x, y) for λ > 1.
    let last = ((2.0 * d).sqrt() + 10.0).ln();
    let at = |a: f64| {
        let log =
            |u: f64| 2.0 * u - 0.5 * (2.0 * u).exp() + (d - 1.0) * (-outside(&inner, angle, delta, a, u.exp())).ln_1p();
        let (from, to) = window(-30.0, last, log);
        outer.integrate(from, to, grid.1, |u| log(u).exp())
    };
    // At a steep exponent a narrow range above a = 0 counts, so the intervals halve towards it.
    let edge = |i: i32| if i == 0 { 0.0 } else { delta * 0.5f64.powi(HALVINGS - i) };
    let p = 2.0 * d / PI * (0..HALVINGS).map(|i| outer.integrate(edge(i), edge(i + 1), grid.0, at)).sum::<f64>();
    p.clamp(0.0, 1.0)
}

/// Where `log` is within [`NEGLIGIBLE`] of its maximum. It is concave: with u = ln r the radial integrand is
/// e^{2u − r²/2} G^{D−1}, and the normal mass of a symmetric convex body is log-concave in the logarithm of its
/// scale (the B-theorem, Cordero-Erausquin, Fradelizi and Maurey 2004).
fn window(first: f64, last: f64, log: impl Fn(f64) -> f64) -> (f64, f64) {
    let (mut from, mut to) = (first, last);
    // Thirds of an interval, down to 1/3000 of it; a tie of two −∞ is left of the maximum, where G has rounded to 0.
    for _ in 0..20 {
        let third = (to - from) / 3.0;
        let left = log(from + third);
        if left < log(to - third) || left == f64::NEG_INFINITY {
            from += third;
        } else {
            to -= third;
        }
    }
    let top = 0.5 * (from + to);
    let least = log(top) - NEGLIGIBLE;
    // From the top outwards: the nearest end, within 1/1000 of the way, that is negligible.
    let end = |mut far: f64| {
        let mut near = top;
        for _ in 0..10 {
            let half = 0.5 * (near + far);
            if log(half) > least { near = half } else { far = half }
        }
        far
    };
    (end(first), end(last))
}

/// 1 − G.
fn outside(rule: &Rule, angle: f64, delta: f64, a: f64, r: f64) -> f64 {
    let (x, y) = (r * (delta + a).sin(), r * (delta - a).sin());
    let (beta, gamma) = ((a - 0.5 * angle).tan(), (a + 0.5 * angle).tan());
    let cotangent = 2.0 / angle.tan();
    let sides = owens_t(rule, x, -beta)
        + owens_t(rule, x, cotangent - beta)
        + owens_t(rule, y, gamma)
        + owens_t(rule, y, cotangent + gamma);
    (2.0 * sides).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collision_sign_random_projection;
    use rand_distr::{Distribution, StandardNormal};
    use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};

    /// Frequencies of collision over draws of the whole matrix, within four standard errors (99.99 % each).
    #[test]
    fn agrees_with_simulation() {
        const TRIALS: usize = 60_000;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        for (d, angle) in [(2, 0.3f64), (2, 1.9), (3, 1.0), (8, 0.6), (8, 2.6), (64, 1.0), (200, 0.2)] {
            let p = collision_cross_polytope(d, angle).unwrap();
            let met = (0..TRIALS).filter(|_| {
                let mut largest = [(0.0f64, 0, false); 2];
                for i in 0..d {
                    let e: f64 = StandardNormal.sample(&mut rng);
                    let f: f64 = StandardNormal.sample(&mut rng);
                    for (best, value) in largest.iter_mut().zip([e, angle.cos() * e + angle.sin() * f]) {
                        if value.abs() > best.0 {
                            *best = (value.abs(), i, value > 0.0);
                        }
                    }
                }
                (largest[0].1, largest[0].2) == (largest[1].1, largest[1].2)
            });
            let n = TRIALS as f64;
            let z = (met.count() as f64 - n * p) / (n * p * (1.0 - p)).sqrt();
            assert!(z.abs() <= 4.0, "{d} {angle}: p = {p}, z = {z}");
        }
    }

    #[test]
    fn one_direction_is_sign_random_projection() {
        for angle in [1e-6, 0.4, 1.5, FRAC_PI_2, 3.0, PI] {
            let (got, exact) = (collision_cross_polytope(1, angle), collision_sign_random_projection(angle));
            assert!((got.unwrap() - exact.unwrap()).abs() < 1e-13, "{angle}");
        }
    }

    /// At a right angle the two are independent: one vertex of 2D.
    #[test]
    fn right_angles_meet_by_chance() {
        for d in [1, 2, 7, 64, 1024, 1_000_000] {
            let p = 2.0 * d as f64 * collision_cross_polytope(d, FRAC_PI_2).unwrap();
            assert!((p - 1.0).abs() < 1e-11, "{d}: {p}");
        }
    }

    #[test]
    fn accuracy_and_ends() {
        for (d, tolerance) in [(2, 1e-7), (8, 1e-10), (64, 1e-10), (4096, 1e-10), (1_000_000, 1e-10)] {
            for angle in [1e-4, 0.02, 0.5, 1.3, 2.2, 2.9, 3.1] {
                let (p, fine) = (integral(d, angle, GRID), integral(d, angle, (2 * GRID.0, 2 * GRID.1)));
                assert!(fine < 1e-300 || (p / fine - 1.0).abs() < tolerance, "{d} {angle}: {p} {fine}");
            }
        }
        let p = collision_cross_polytope(64, 1e-9).unwrap();
        assert!((0.999_999..=1.0).contains(&p), "{p}");
        assert_eq!(collision_cross_polytope(64, 0.0).unwrap(), 1.0);
        assert_eq!(collision_cross_polytope(64, PI).unwrap(), 0.0);
        assert!(collision_cross_polytope(0, 1.0).is_err() && collision_cross_polytope(4, 3.2).is_err());
        assert!(collision_cross_polytope(4, f64::NAN).is_err());
    }
}
