//! Between what bounds the attention to a group of keys lies.

use crate::cluster::Cluster;
use crate::error::{Result, suppose};
use std::f64::consts::LN_2;

/// Logarithms of bounds on Σ e^{q·k} over the members of a [`Cluster`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bracket {
    /// ln of the lower bound.
    pub log_lower: f64,
    /// ln of the upper bound.
    pub log_upper: f64,
}

/// Between what bounds the mass of a cluster lies, a = |q| r, up to rounding:
///
/// ```math
/// n e^{q \cdot \mu - \varepsilon a} \le \sum_{k \in c} e^{q \cdot k} \le n \min\Bigl(
/// e^{q \cdot \mu} (\cosh a + \varepsilon \sinh a),\;
/// e^{\sum_l \max(q_l \min_l,\, q_l \max_l)} \Bigr)
/// ```
///
/// with ε = 0 where μ is the mean of exactly the members ([`Cluster::of`]), else ε = min(1, h/n), with h members of the
/// group on the support ([`Cluster::with_group_mean`]).
///
/// Derivation: t_k = q·(k − μ) lies in \[−a, a\] by Cauchy–Schwarz; let t̄ be its mean over the n members.
/// Lower: e^t is convex, so the mean of e^{t_k} is at least e^{t̄} (Jensen).
/// Upper: on \[−a, a\] e^t lies below its chord cosh a + (t/a) sinh a, so the mean is at most cosh a + (t̄/a) sinh a.
/// Where μ is the members' mean, t̄ = 0. Where it is the group's, t sums to 0 over the group, so n t̄ is minus the sum
/// over the h removed, |t̄| ≤ min(1, h/n) a.
/// Box: q·k = Σ_l q_l k_l, each term at most its larger end; no mean enters.
/// With a group's mean and ε = 0 the lower bound is *false*, in 70 % of the draws of a test: the keys
/// removed are the heavy ones, and t̄ < 0.
///
/// # Errors
/// A query of another dimension than the keys', or not finite.
///
/// ```
/// use scatterbrain_theory::{Cluster, far_field_bracket};
/// let cluster = Cluster::of(&[0.5, 1.5], &[0.0, 1.0], 1)?;
/// let bracket = far_field_bracket(&[1.0], &cluster)?;
/// let exact = (0.5f64.exp() + 1.5f64.exp()).ln();
/// assert!(bracket.log_lower < exact && exact <= bracket.log_upper + 1e-15); // Two keys at the ends: the chord.
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn far_field_bracket(query: &[f64], cluster: &Cluster) -> Result<Bracket> {
    let (logit, reach) = cluster.logit_and_reach("the far-field bracket", query)?;
    let (log_count, drift) = ((cluster.count() as f64).ln(), cluster.drift());
    let chord = logit + log_chord(reach, drift);
    Ok(Bracket {
        log_lower: log_count + logit - drift * reach,
        log_upper: log_count + chord.min(cluster.box_logit(query)),
    })
}

/// The bracket where the logits q·k of the h members on the support are known, as they are to whoever computed the
/// support:
///
/// ```math
/// n e^{q \cdot \mu + \bar t} \le \sum_{k \in c} e^{q \cdot k} \le
/// n e^{q \cdot \mu} \Bigl(\cosh a + \frac{\bar t}{a} \sinh a\Bigr), \qquad
/// \bar t = -\frac{1}{n} \sum_{k\ \text{removed}} (q \cdot k - q \cdot \mu)
/// ```
///
/// This corrects the mean without computing it anew, and is never wider than [`far_field_bracket`] by the radius.
///
/// Derivation: that of [`far_field_bracket`], with t̄ known.
///
/// # Errors
/// A query of another dimension or not finite; a number of logits other than h; a logit that no member of the group
/// has, |q·k − q·μ| > a.
///
/// ```
/// use scatterbrain_theory::{Cluster, far_field_bracket_corrected};
/// let group = Cluster::with_group_mean(&[0.0, 0.0, 3.0], &[0.0; 3], 1, &[2])?;
/// let bracket = far_field_bracket_corrected(&[1.0], &group, &[3.0])?;
/// assert!((bracket.log_lower - 2f64.ln()).abs() < 1e-15); // Two keys with logit 0.
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
pub fn far_field_bracket_corrected(query: &[f64], cluster: &Cluster, removed_logits: &[f64]) -> Result<Bracket> {
    const FORMULA: &str = "the corrected far-field bracket";
    let (logit, reach) = cluster.logit_and_reach(FORMULA, query)?;
    let count = removed_logits.len() == cluster.removed();
    suppose(FORMULA, "a logit for each removed member", count, removed_logits.len() as f64)?;
    let slack = 1e-12 * (1.0 + logit.abs() + reach);
    for removed in removed_logits {
        suppose(FORMULA, "logits of members", (removed - logit).abs() <= reach + slack, *removed)?;
    }
    let n = cluster.count() as f64;
    let mean = (-removed_logits.iter().map(|l| l - logit).sum::<f64>() / n).clamp(-reach, reach);
    let share = if reach > 0.0 { mean / reach } else { 0.0 };
    let chord = logit + log_chord(reach, share);
    Ok(Bracket { log_lower: n.ln() + logit + mean, log_upper: n.ln() + chord.min(cluster.box_logit(query)) })
}

/// ln(cosh a + ε sinh a), |ε| ≤ 1: a + ln(½(1 + ε) + ½(1 − ε) e^{−2a}).
fn log_chord(reach: f64, share: f64) -> f64 {
    // The first form loses no digits where the sum is small, the second none where it is near 1.
    if share < 0.0 {
        reach + ((1.0 + share) + (1.0 - share) * (-2.0 * reach).exp()).ln() - LN_2
    } else {
        reach + (0.5 * (1.0 - share) * (-2.0 * reach).exp_m1()).ln_1p()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draws;

    /// A group of random size, spread, and distance from the query; its heaviest keys come last.
    struct Case {
        query: Vec<f64>,
        keys: Vec<f64>,
        values: Vec<f64>,
        logits: Vec<f64>,
    }

    fn case(draws: &mut Draws) -> Case {
        let d = 3;
        let (size, spread) = (5 + (draws.uniform() * 20.0) as usize, 0.1 + 1.4 * draws.uniform());
        let query: Vec<f64> = draws.normal_vec(d);
        let centre = draws.normal_vec(d);
        let logit = |k: &[f64]| k.iter().zip(&query).map(|(k, q)| k * q).sum::<f64>();
        let mut rows: Vec<Vec<f64>> =
            (0..size).map(|_| centre.iter().map(|c| c + spread * draws.standard_normal()).collect()).collect();
        rows.sort_by(|a, b| logit(a).total_cmp(&logit(b)));
        let logits = rows.iter().map(|k| logit(k)).collect();
        Case { keys: rows.concat(), values: draws.normal_vec(2 * size), logits, query }
    }

    fn log_sum(logits: &[f64]) -> f64 {
        logits.iter().map(|l| l.exp()).sum::<f64>().ln()
    }

    fn holds(bracket: Bracket, exact: f64) -> bool {
        bracket.log_lower <= exact + 1e-12 && exact <= bracket.log_upper + 1e-12
    }

    /// The keys on the support are the three heaviest. Off-support means: no violation in 5000 draws, nor with the
    /// drift or the correction. The same formula with the group's mean: 70 % of the draws violate it.
    #[test]
    fn which_mean_decides() {
        const TRIALS: usize = 5000;
        let (mut draws, mut violated) = (Draws::new(3), 0);
        for _ in 0..TRIALS {
            let Case { query, keys, values, logits } = case(&mut draws);
            let (size, left) = (logits.len(), logits.len() - 3);
            let removed = [size - 3, size - 2, size - 1];
            let exact = log_sum(&logits[..left]);

            let off = Cluster::of(&keys[..3 * left], &values[..2 * left], 3).unwrap();
            let tight = far_field_bracket(&query, &off).unwrap();
            assert!(holds(tight, exact), "{tight:?} {exact}");

            let group = Cluster::with_group_mean(&keys, &values, 3, &removed).unwrap();
            let loose = far_field_bracket(&query, &group).unwrap();
            assert!(holds(loose, exact), "{loose:?} {exact}");
            let corrected = far_field_bracket_corrected(&query, &group, &logits[left..]).unwrap();
            assert!(holds(corrected, exact), "{corrected:?} {exact}");
            assert!(corrected.log_lower >= loose.log_lower - 1e-12 && corrected.log_upper <= loose.log_upper + 1e-12);

            // The centroid of the whole group, and the count of what is left.
            let whole = Cluster::of(&keys, &values, 3).unwrap();
            let naive = far_field_bracket(&query, &whole).unwrap().log_lower + (left as f64 / size as f64).ln();
            violated += usize::from(naive > exact + 1e-12);
        }
        let share = violated as f64 / TRIALS as f64;
        assert!(share > 0.6, "{share}");
    }

    /// Removed members that are not the heavy ones, and most of the group: |t̄| reaches its bounds.
    #[test]
    fn drift_of_any_removed_members() {
        let mut draws = Draws::new(4);
        for _ in 0..5000 {
            let Case { query, keys, values, logits } = case(&mut draws);
            let size = logits.len();
            let keep = 1 + (draws.uniform() * (size - 1) as f64) as usize;
            let first = (draws.uniform() * (size - keep + 1) as f64) as usize;
            let stays = first..first + keep;
            let removed: Vec<usize> = (0..size).filter(|i| !stays.contains(i)).collect();
            let group = Cluster::with_group_mean(&keys, &values, 3, &removed).unwrap();
            let exact = log_sum(&logits[stays]);
            let known: Vec<f64> = removed.iter().map(|&i| logits[i]).collect();
            let loose = far_field_bracket(&query, &group).unwrap();
            let corrected = far_field_bracket_corrected(&query, &group, &known).unwrap();
            assert!(holds(loose, exact) && holds(corrected, exact), "{loose:?} {corrected:?} {exact}");
        }
    }

    #[test]
    fn bounds_are_attained() {
        // Equal keys: both; two opposite keys: the chord; a group whose other half is removed: the drift.
        let same = Cluster::of(&[0.7, 0.7, 0.7], &[0.0; 3], 1).unwrap();
        let bracket = far_field_bracket(&[2.0], &same).unwrap();
        assert!((bracket.log_lower - 3f64.ln() - 1.4).abs() < 1e-14 && (bracket.log_upper - bracket.log_lower) < 1e-14);
        let two = Cluster::with_group_mean(&[-1.0, 1.0], &[0.0; 2], 1, &[1]).unwrap();
        assert!((far_field_bracket(&[2.0], &two).unwrap().log_lower + 2.0).abs() < 1e-15);
        let corrected = far_field_bracket_corrected(&[2.0], &two, &[2.0]).unwrap();
        assert!((corrected.log_lower + 2.0).abs() < 1e-15 && (corrected.log_upper + 2.0).abs() < 1e-15);
        // No overflow at a = 2000.
        let far = far_field_bracket(&[2000.0], &Cluster::of(&[-1.0, 1.0], &[0.0; 2], 1).unwrap()).unwrap();
        assert!((far.log_upper - 2000.0).abs() < 1e-12);
        assert!(far_field_bracket_corrected(&[2.0], &two, &[]).is_err());
        assert!(far_field_bracket_corrected(&[2.0], &two, &[2.1]).is_err());
    }
}
