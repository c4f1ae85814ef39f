//! How far the output can be from the exact one, whatever the keys in the clusters are.

use crate::cluster::Cluster;
use crate::error::{Result, finite, suppose};

/// A bound on the error of the output ô of a row that is exact on the support 𝒮 and has cluster weights e^{q·μ_c} off it:
///
/// ```math
/// |o - \hat o| \le \frac{\sum_c n_c e^{q \cdot \mu_c} \bigl[ |\bar v_c - \hat o|
/// (\cosh a_c - 1 + \varepsilon_c \sinh a_c) + s_c \sinh a_c \bigr]}
/// {Z_{\mathcal S} + \sum_c n_c e^{q \cdot \mu_c - \varepsilon_c a_c}}
/// ```
///
/// with a_c = |q| r_c, ε_c = 0 where μ_c is the mean of exactly the members off the support ([`Cluster::of`]), else min(1,
/// h_c/n_c) ([`Cluster::with_group_mean`]). Infinite where it overflows.
///
/// Hypotheses that no argument can show: `clusters` hold every visible key off the support, each once;
/// `log_support_mass` is ln Z_𝒮 = ln Σ_𝒮 e^{q·k}, −∞ for an empty support; and ô is the row
/// (N_𝒮 + Σ_c n_c e^{q·μ_c} v̄_c)/(Z_𝒮 + Σ_c n_c e^{q·μ_c}).
///
/// Derivation, R the pairs off the support, w_k = e^{q·k}, hats the background's: from (Z_𝒮 + Ẑ_R) ô = N_𝒮 + N̂_R and
/// Z o = N_𝒮 + N_R, Z (o − ô) = (N_R − N̂_R) − ô (Z_R − Ẑ_R) = Σ_{k∈R} (w_k − ŵ_k)(v_k − ô).
/// In one cluster, with t_k = q·(k − μ) in \[−a, a\], the sum is e^{q·μ} times
/// (v̄ − ô) Σ(e^{t_k} − 1) + Σ e^{t_k} (v_k − v̄), and in the second sum e^{t_k} may be replaced by
/// e^{t_k} − cosh a, since v_k − v̄ sums to 0.
/// First: n(e^{−εa} − 1) ≤ Σ(e^{t_k} − 1) ≤ n(cosh a − 1 + ε sinh a) by
/// [`far_field_bracket`](crate::far_field_bracket), and 1 − e^{−εa} ≤ εa ≤ ε sinh a.
/// Second: e^t lies in \[e^{−a}, e^a\], whose middle is cosh a and half width sinh a, and
/// Σ|v_k − v̄| ≤ n s by Cauchy–Schwarz. Last, Z = Z_𝒮 + Z_R is at least the denominator, by the same bracket.
///
/// # Errors
/// No clusters, an output or query of another dimension, an infinite mass, or numbers that are not finite, or of which
/// logits or distances are not.
///
/// ```
/// use scatterbrain_theory::{Cluster, deterministic_certificate};
/// // Equal keys: the background is exact, and the certificate says so.
/// let cluster = Cluster::of(&[0.5, 0.5], &[1.0, 3.0], 1)?;
/// assert_eq!(deterministic_certificate(&[1.0], &[cluster], f64::NEG_INFINITY, &[2.0])?, 0.0);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn deterministic_certificate(
    query: &[f64],
    clusters: &[Cluster],
    log_support_mass: f64,
    output: &[f64],
) -> Result<f64> {
    const FORMULA: &str = "the deterministic certificate";
    suppose(FORMULA, "at least one cluster", !clusters.is_empty(), 0.0)?;
    suppose(FORMULA, "a support mass below infinity", log_support_mass < f64::INFINITY, log_support_mass)?;
    for x in output {
        suppose(FORMULA, "a finite output", x.is_finite(), *x)?;
    }
    let terms: Vec<Term> = clusters.iter().map(|c| Term::of(FORMULA, query, c, output)).collect::<Result<_>>()?;
    // Relative to the largest summand of the denominator, which then lies between 1 and its number of summands.
    let reference = terms.iter().map(|t| t.log_least).fold(log_support_mass, f64::max);
    let mass = terms.iter().fold((log_support_mass - reference).exp(), |m, t| m + (t.log_least - reference).exp());
    let error = terms.iter().map(|t| t.error(reference)).sum::<f64>() / mass;
    suppose(FORMULA, "logits whose sums are finite", !error.is_nan(), error)?;
    Ok(error)
}

/// What one cluster adds.
struct Term {
    /// ln(n e^{q·μ − εa}).
    log_least: f64,
    /// ln(n e^{q·μ + a}).
    log_most: f64,
    /// e^{−a} times the bracket of the formula.
    deviation: f64,
}

impl Term {
    fn of(formula: &'static str, query: &[f64], cluster: &Cluster, output: &[f64]) -> Result<Self> {
        let value = cluster.mean_value();
        suppose(formula, "an output of the values' dimension", output.len() == value.len(), output.len() as f64)?;
        let (logit, reach) = cluster.logit_and_reach(formula, query)?;
        let (log_weight, drift) = ((cluster.count() as f64).ln() + logit, cluster.drift());
        // cosh a − 1 = e^a (1 − e^{−a})²/2 and sinh a = e^a (1 − e^{−2a})/2.
        let (cosh, sinh) = (0.5 * (-reach).exp_m1().powi(2), -0.5 * (-2.0 * reach).exp_m1());
        let apart = value.iter().zip(output).map(|(v, o)| (v - o).powi(2)).sum::<f64>().sqrt();
        finite(formula, "a finite distance of output and mean value", apart)?;
        Ok(Self {
            log_least: log_weight - drift * reach,
            log_most: log_weight + reach,
            deviation: apart * (cosh + drift * sinh) + cluster.value_radius() * sinh,
        })
    }

    fn error(&self, reference: f64) -> f64 {
        // Nothing times an overflow is nothing.
        if self.deviation == 0.0 { 0.0 } else { self.deviation * (self.log_most - reference).exp() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draws;

    /// Exact and approximate rows by their definitions: groups of keys, the `removed` heaviest of each on the support.
    struct Row {
        exact: Vec<f64>,
        output: Vec<f64>,
        log_support_mass: f64,
        clusters: Vec<Cluster>,
        query: Vec<f64>,
    }

    fn row(draws: &mut Draws, removed: usize, group_means: bool) -> Row {
        let (d, d_v, size) = (3, 2, 8);
        let spread = 0.02 + 0.5 * draws.uniform();
        let query = draws.normal_vec(d);
        let weight = |k: &[f64]| k.iter().zip(&query).map(|(k, q)| k * q).sum::<f64>().exp();
        let (mut mass, mut support, mut estimate) = (0.0, 0.0, 0.0);
        let (mut sum, mut estimated) = (vec![0.0; d_v], vec![0.0; d_v]);
        let add = |to: &mut [f64], w: f64, v: &[f64]| to.iter_mut().zip(v).for_each(|(t, v)| *t += w * v);
        let mut clusters = Vec::new();
        for _ in 0..4 {
            let centre = draws.normal_vec(d);
            let mut keys: Vec<Vec<f64>> =
                (0..size).map(|_| centre.iter().map(|c| c + spread * draws.standard_normal()).collect()).collect();
            keys.sort_by(|a, b| weight(a).total_cmp(&weight(b)));
            let values: Vec<Vec<f64>> = (0..size).map(|_| draws.normal_vec(d_v)).collect();
            let left = size - removed;
            for (i, (k, v)) in keys.iter().zip(&values).enumerate() {
                mass += weight(k);
                add(&mut sum, weight(k), v);
                if i >= left {
                    support += weight(k);
                    add(&mut estimated, weight(k), v);
                }
            }
            let cluster = if group_means {
                let removed: Vec<usize> = (left..size).collect();
                Cluster::with_group_mean(&keys.concat(), &values.concat(), d, &removed).unwrap()
            } else {
                Cluster::of(&keys[..left].concat(), &values[..left].concat(), d).unwrap()
            };
            // The background's own weight, at the mean over the keys it was made of.
            let members = if group_means { &keys[..] } else { &keys[..left] };
            let mean: Vec<f64> =
                (0..d).map(|c| members.iter().map(|k| k[c]).sum::<f64>() / members.len() as f64).collect();
            for v in &values[..left] {
                estimate += weight(&mean);
                add(&mut estimated, weight(&mean), v);
            }
            clusters.push(cluster);
        }
        let exact = sum.iter().map(|n| n / mass).collect();
        let output = estimated.iter().map(|n| n / (support + estimate)).collect();
        Row { exact, output, log_support_mass: support.ln(), clusters, query }
    }

    /// No violation in 4 × 3000 draws; and a bound that is of use: in the median 15 to 29 times the error.
    #[test]
    fn never_exceeded() {
        let mut draws = Draws::new(8);
        for (removed, group_means) in [(0, false), (2, false), (2, true), (6, true)] {
            let mut ratios = Vec::new();
            for _ in 0..3000 {
                let row = row(&mut draws, removed, group_means);
                let bound =
                    deterministic_certificate(&row.query, &row.clusters, row.log_support_mass, &row.output).unwrap();
                let error = row.exact.iter().zip(&row.output).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                assert!(error <= bound * (1.0 + 1e-9) + 1e-13, "{removed} {group_means}: {error} {bound}");
                ratios.push(bound / error);
            }
            ratios.sort_by(f64::total_cmp);
            assert!(ratios[1500] < 30.0, "{removed} {group_means}: {}", ratios[1500]);
        }
    }

    #[test]
    fn ends() {
        let cluster = |keys: &[f64]| Cluster::of(keys, &[1.0, 3.0], 1).unwrap();
        let bound = |q: f64, log_mass: f64| {
            deterministic_certificate(&[q], &[cluster(&[-1.0, 1.0])], log_mass, &[2.0]).unwrap()
        };
        // v̄ = ô, so only s sinh a is left.
        assert!((bound(1.5, f64::NEG_INFINITY) - 1.5f64.sinh()).abs() < 1e-12);
        // A heavy support hides the cluster; a far query overflows honestly.
        assert!(bound(1.5, 1000.0) == 0.0 && bound(1000.0, 0.0).is_infinite());
        let (clusters, none) = ([cluster(&[-1.0, 1.0])], f64::NEG_INFINITY);
        assert!(deterministic_certificate(&[1.0], &[], 0.0, &[2.0]).is_err());
        assert!(deterministic_certificate(&[1.0], &clusters, f64::NAN, &[2.0]).is_err());
        assert!(deterministic_certificate(&[1.0], &clusters, f64::INFINITY, &[2.0]).is_err());
        assert!(deterministic_certificate(&[1.0], &clusters, none, &[2.0, 0.0]).is_err());
        assert!(deterministic_certificate(&[1.0], &clusters, none, &[f64::NAN]).is_err());
        // An output so far that its distance overflows, beside a query that weighs all keys alike.
        assert!(deterministic_certificate(&[0.0], &clusters, none, &[1e200]).is_err());
        // Logits at the end of what is finite.
        let far = [Cluster::with_group_mean(&[1e150, -1e150], &[1.0, 2.0], 1, &[0]).unwrap()];
        for query in [1e154, 1e158, 1e160] {
            let bound = deterministic_certificate(&[query], &far, none, &[2.0]);
            assert!(bound.is_err() || bound.is_ok_and(|b| b >= 0.0), "{query}");
        }
    }
}
