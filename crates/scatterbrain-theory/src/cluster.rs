//! A group of keys off the support, by what bounds need of it.

use crate::error::{Result, finite, suppose};

/// The members of one group of keys that a query sees and that are *not* on its support: their number n, a centre μ,
/// the radius r = max |k − μ|, the box of their coordinates, and of their values the mean and the root-mean-square
/// radius s.
///
/// Whether μ is the mean of exactly these members decides which bounds hold. So it is no argument:
/// [`Cluster::of`] computes everything from the members themselves, [`Cluster::with_group_mean`] from the whole group
/// and a list of members that are on the support, and bounds widen for the second.
///
/// ```
/// use scatterbrain_theory::Cluster;
/// let (keys, values) = ([0.0, 0.0, 2.0, 0.0], [1.0, 3.0]);
/// let cluster = Cluster::of(&keys, &values, 2)?;
/// assert_eq!((cluster.centre(), cluster.radius()), ([1.0, 0.0].as_slice(), 1.0));
/// let without_last = Cluster::with_group_mean(&keys, &values, 2, &[1])?;
/// assert_eq!((without_last.count(), without_last.centre()), (1, [1.0, 0.0].as_slice()));
/// assert_eq!(without_last.mean_value(), [1.0]);
/// # Ok::<(), scatterbrain_theory::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    count: usize,
    removed: usize,
    centre: Vec<f64>,
    radius: f64,
    lowest: Vec<f64>,
    highest: Vec<f64>,
    mean_value: Vec<f64>,
    value_radius: f64,
}

impl Cluster {
    /// Exactly the members: `keys` `[n, head_dim]`, `values` `[n, d_v]`, row-major. μ is their mean.
    ///
    /// # Errors
    /// No members, no columns, lengths that do not fit together, numbers that are not finite, or of which distances
    /// overflow.
    pub fn of(keys: &[f64], values: &[f64], head_dim: usize) -> Result<Self> {
        Self::with_group_mean(keys, values, head_dim, &[])
    }

    /// A group of which the members `removed` (positions, each once) are on the support: μ, r and box are those of the
    /// *whole* group, as a background with fixed centroids has them; n, mean value and s those of the members left,
    /// since counts and value sums are subtracted exactly.
    ///
    /// # Errors
    /// Those of [`Cluster::of`]; a position that is outside or twice; no member left.
    pub fn with_group_mean(keys: &[f64], values: &[f64], head_dim: usize, removed: &[usize]) -> Result<Self> {
        const CLUSTER: &str = "a cluster";
        suppose(CLUSTER, "at least one key column", head_dim >= 1, 0.0)?;
        let size = keys.len() / head_dim;
        let rows = size >= 1 && size * head_dim == keys.len();
        suppose(CLUSTER, "rows of keys, at least one", rows, keys.len() as f64)?;
        let value_dim = values.len() / size;
        let fits = value_dim >= 1 && value_dim * size == values.len();
        suppose(CLUSTER, "a row of values for each key", fits, values.len() as f64)?;
        for x in keys.iter().chain(values) {
            suppose(CLUSTER, "finite keys and values", x.is_finite(), *x)?;
        }
        let mut left = vec![true; size];
        for &at in removed {
            suppose(CLUSTER, "removed members of the group, each once", left.get(at) == Some(&true), at as f64)?;
            left[at] = false;
        }
        let count = size - removed.len();
        suppose(CLUSTER, "a member off the support", count >= 1, 0.0)?;

        let group: Vec<&[f64]> = keys.chunks_exact(head_dim).collect();
        let off: Vec<&[f64]> = values.chunks_exact(value_dim).zip(&left).filter(|(_, l)| **l).map(|(v, _)| v).collect();
        let (centre, mean_value) = (mean(&group), mean(&off));
        let largest = group.iter().map(|k| distance(k, &centre)).fold(0.0, f64::max);
        let spread = off.iter().map(|v| distance(v, &mean_value).powi(2)).sum::<f64>() / count as f64;
        finite(CLUSTER, "finite distances of keys from their mean", largest)?;
        finite(CLUSTER, "finite square distances of values from their mean", spread)?;
        let extreme = |pick: fn(f64, f64) -> f64| {
            (0..head_dim).map(|c| group.iter().map(|k| k[c]).reduce(pick).unwrap_or(f64::NAN)).collect()
        };
        Ok(Self {
            count,
            removed: removed.len(),
            radius: largest,
            lowest: extreme(f64::min),
            highest: extreme(f64::max),
            value_radius: spread.sqrt(),
            centre,
            mean_value,
        })
    }

    /// n, members off the support.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Members on the support, which μ still contains; 0 where μ is the mean of the members off it.
    pub fn removed(&self) -> usize {
        self.removed
    }

    /// μ.
    pub fn centre(&self) -> &[f64] {
        &self.centre
    }

    /// r.
    pub fn radius(&self) -> f64 {
        self.radius
    }

    /// The mean value of the members off the support.
    pub fn mean_value(&self) -> &[f64] {
        &self.mean_value
    }

    /// s, the root-mean-square distance of values from their mean.
    pub fn value_radius(&self) -> f64 {
        self.value_radius
    }

    /// q·μ, and a = |q| r, which |q·(k − μ)| does not exceed.
    pub(crate) fn logit_and_reach(&self, formula: &'static str, query: &[f64]) -> Result<(f64, f64)> {
        let fits = query.len() == self.centre.len();
        suppose(formula, "a query of the keys' dimension", fits, query.len() as f64)?;
        let logit = query.iter().zip(&self.centre).map(|(q, c)| q * c).sum::<f64>();
        let reach = query.iter().map(|q| q * q).sum::<f64>().sqrt() * self.radius;
        suppose(formula, "a finite query and logits", logit.is_finite() && reach.is_finite(), logit)?;
        Ok((logit, reach))
    }

    /// max over the box of q·k: Σ_l max(q_l·min_l, q_l·max_l).
    pub(crate) fn box_logit(&self, query: &[f64]) -> f64 {
        query.iter().zip(self.lowest.iter().zip(&self.highest)).map(|(q, (l, h))| (q * l).max(q * h)).sum()
    }

    /// How far the mean of t = q·(k − μ) over the members off the support may be from 0, as a share of a. Over the
    /// whole group t sums to 0, so over the n members left to minus the sum over the h removed, at most h·a; and no
    /// mean exceeds a.
    pub(crate) fn drift(&self) -> f64 {
        (self.removed as f64 / self.count as f64).min(1.0)
    }
}

fn mean(rows: &[&[f64]]) -> Vec<f64> {
    (0..rows[0].len()).map(|c| rows.iter().map(|r| r[c]).sum::<f64>() / rows.len() as f64).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses() {
        let (keys, values) = ([0.0, 1.0, 2.0, 3.0], [1.0, 2.0]);
        assert!(Cluster::of(&keys, &values, 2).is_ok());
        for (keys, values, d) in [(&keys[..0], &values[..], 2), (&keys, &values, 0), (&keys, &values, 3)] {
            assert!(Cluster::of(keys, values, d).is_err());
        }
        assert!(Cluster::of(&keys, &values[..1], 2).is_err() && Cluster::of(&keys, &[], 2).is_err());
        assert!(Cluster::of(&[f64::NAN, 0.0], &[0.0], 2).is_err());
        // Squares that overflow.
        assert!(Cluster::of(&[1e200, -1e200], &[0.0, 0.0], 1).is_err());
        assert!(Cluster::of(&[0.0, 0.0], &[1e200, -1e200], 1).is_err());
        for removed in [&[2][..], &[0, 0], &[0, 1]] {
            assert!(Cluster::with_group_mean(&keys, &values, 2, removed).is_err());
        }
        let cluster = Cluster::of(&keys, &values, 2).unwrap();
        assert!(cluster.logit_and_reach("a test", &[1.0]).is_err());
        assert!(cluster.logit_and_reach("a test", &[f64::INFINITY, 0.0]).is_err());
    }
}
