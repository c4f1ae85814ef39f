//! SMYRF: queries and keys made equally long by two extra columns, projected on a line, and sorted.
//!
//! ```text
//! XBOX+     q̃ = [q, 0, √(M_q² + M_k² − |q|²)]        k̃ = [k, √(M_q² + M_k² − |k|²), 0]
//! uncapped  q' = a·q, k' = k/a, a = √(M_k / M_q), R = √(M_q·M_k)
//!           q̃ = [q', 0, √(R² − |q'|²)]                k̃ = [k', √(R² − |k'|²), 0]
//! hash h    value(x̃) = α_h·x̃ + β_h
//! ```
//!
//! M_q, M_k are the largest norms. Both keep the inner product, q̃·k̃ = q·k, and give all rows of both sides one
//! norm, so that the nearest key is the one of the largest inner product. The transformed rows are never built:
//! α·x̃ is α's first head_dim entries times x, plus one entry times the extra column.

use crate::projections::{Projections, check_rows, size};
use crate::sort::sort_by_value;
use scatterbrain_core::kernel::{dot_rows, square_norms};
use scatterbrain_core::{Error, Level, Matrix, Result, Seed};
use serde::{Deserialize, Serialize};

/// How inner products become distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Transform {
    /// The paper's: norms √(M_q² + M_k²). The cosine of a transformed pair is at most ½, since
    /// |q·k| ≤ M_q·M_k ≤ (M_q² + M_k²) / 2: near pairs are never very near.
    XboxPlus,
    /// After rescaling both sides to equal largest norms: norms R = √(M_q·M_k), and no such cap.
    Uncapped,
}

/// Sampled SMYRF hashes: real values, and the orders that they sort queries and keys in.
///
/// value(x̃) = α·x̃ + β, α standard normal of head_dim + 2 entries, β uniform on [0, 1), x̃ as the
/// [`Transform`] has it. Cutting the orders of queries and keys into equally many chunks pairs them up in clusters
/// of equal size.
/// β moves all values of a hash alike, so no order depends on it; it is kept to reproduce stored values.
///
/// ```
/// use scatterbrain_core::{Level, Matrix, Seed};
/// use scatterbrain_hash::{KeyRows, Smyrf, Transform};
/// let hash = Smyrf::sample(2, 3, Transform::XboxPlus, Seed(1))?;
/// let (query, key) = ([1.0, 0.0, 0.0, 1.0], [2.0, 0.0, 0.0, 2.0, 1.0, 1.0]);
/// let (query, key) = (Matrix::new("query", &query, 2, 2)?, Matrix::new("key", &key, 3, 2)?);
/// let orders = hash.orders(Level::detect(), query, key, KeyRows::all(key))?;
/// assert_eq!((orders.query(0).len(), orders.key(2).len()), (2, 3));
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
///
/// # Collision probability
/// None exists in closed form: whether a pair shares a chunk depends on the ranks of both among all the others,
/// not on the pair alone. So this is no [`HashFamily`](crate::HashFamily), and has no codes.
///
/// # Against the authors' code
/// Positions stored by HazyResearch/scatterbrain are reproduced by [`Transform::XboxPlus`] with M_q and M_k per
/// head, M_k over *all* keys even where fewer are valid ([`KeyRows`]), and queries padded with zero rows to a
/// multiple of the cluster size *before* hashing: these zero rows are sorted among the queries, where their value
/// puts them, whereas padding keys come last. Whether the rows were scaled by √temperature
/// before hashing cannot be told and does not matter: a common factor of queries and keys multiplies every
/// α·x̃ alike, which leaves the orders as they are.
///
/// # Source
/// Daras, Kitaev, Odena and Dimakis, "SMYRF", NeurIPS 2020, §3 (XBOX+ and balanced clusters); the uncapped
/// variant is ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Smyrf {
    transform: Transform,
    /// α without its last two entries, `[n_hashes, head_dim]`.
    directions: Projections,
    /// The last two entries of α: for the extra column of keys, and for that of queries.
    extra: Vec<[f32; 2]>,
    beta: Vec<f32>,
}

/// Which rows of a key matrix count, from the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRows {
    /// Rows 0..`sorted` appear in the orders: the valid keys.
    pub sorted: usize,
    /// Rows 0..`norms` enter M_k; at least `sorted`. The authors take all rows, padding included.
    pub norms: usize,
}

impl KeyRows {
    /// All rows of `key`, for both.
    pub fn all(key: Matrix<'_>) -> Self {
        Self { sorted: key.rows(), norms: key.rows() }
    }
}

impl Smyrf {
    /// Samples α and β of `n_hashes` hashes.
    ///
    /// # Errors
    /// A zero size, or more than 2³⁰ numbers in all.
    pub fn sample(head_dim: usize, n_hashes: usize, transform: Transform, seed: Seed) -> Result<Self> {
        size(&[("head_dim", head_dim), ("n_hashes", n_hashes)])?;
        let (mut normal, mut uniform) = (seed.stream(0), seed.stream(1));
        let directions = Projections::normal(head_dim, n_hashes, &mut normal);
        let extra = (0..n_hashes).map(|_| [normal.normal() as f32, normal.normal() as f32]).collect();
        let beta = (0..n_hashes).map(|_| uniform.uniform() as f32).collect();
        Ok(Self { transform, directions, extra, beta })
    }

    /// Takes stored hashes: `alpha` `[n_hashes, head_dim + 2]` row-major, `beta` of n_hashes.
    ///
    /// The authors store α as `[head_dim + 2, n_hashes]`: transpose it.
    ///
    /// # Errors
    /// A zero size, or an `alpha` of another length.
    pub fn from_parts(transform: Transform, head_dim: usize, alpha: &[f32], beta: Vec<f32>) -> Result<Self> {
        size(&[("head_dim", head_dim), ("beta", beta.len())])?;
        if beta.len().checked_mul(head_dim + 2) != Some(alpha.len()) {
            return Err(Error::invalid("alpha", format!("{} x {} numbers", beta.len(), head_dim + 2), alpha.len()));
        }
        let rows = || alpha.chunks_exact(head_dim + 2);
        let directions = Projections::new(head_dim, rows().flat_map(|row| &row[..head_dim]).copied().collect());
        let extra = rows().map(|row| [row[head_dim], row[head_dim + 1]]).collect();
        Ok(Self { transform, directions, extra, beta })
    }

    /// α as [`from_parts`](Self::from_parts) takes it, `[n_hashes, head_dim + 2]`.
    pub fn alpha(&self) -> Vec<f32> {
        self.directions.rows().zip(&self.extra).flat_map(|(row, extra)| row.iter().chain(extra)).copied().collect()
    }

    /// β, one a hash.
    pub fn beta(&self) -> &[f32] {
        &self.beta
    }

    /// How inner products become distances.
    pub fn transform(&self) -> Transform {
        self.transform
    }

    /// Columns of queries and keys.
    pub fn head_dim(&self) -> usize {
        self.directions.head_dim()
    }

    /// Number of hashes.
    pub fn n_hashes(&self) -> usize {
        self.beta.len()
    }

    /// The orders of queries and keys under every hash: the argsort of [`values`](Self::values), ascending by
    /// [`f32::total_cmp`], equal values by position.
    ///
    /// # Errors
    /// As [`values`](Self::values).
    ///
    /// # Cost
    /// That of [`values`](Self::values) and a sort of queries and of keys per hash.
    pub fn orders(&self, level: Level, query: Matrix<'_>, key: Matrix<'_>, rows: KeyRows) -> Result<SmyrfOrders> {
        let values = self.values(level, query, key, rows)?;
        let argsort = |side: fn(&SmyrfValues, usize) -> &[f32]| {
            (0..self.n_hashes()).map(|h| sort_by_value(side(&values, h))).collect::<Vec<_>>().concat()
        };
        Ok(SmyrfOrders {
            n_hashes: self.n_hashes(),
            query: argsort(SmyrfValues::query),
            key: argsort(SmyrfValues::key),
        })
    }

    /// The hash values of all queries and of the first `rows.sorted` keys.
    ///
    /// A row that holds a NaN or an infinity has the value NaN, which sorts last, and does not enter M_q or M_k.
    ///
    /// # Shapes
    /// `query` `[n, head_dim]`, `key` `[m, head_dim]`; n and m may differ.
    ///
    /// # Errors
    /// Another number of columns, `rows` other than sorted ≤ norms ≤ m, a stored hash whose parts do not fit
    /// together, or finite rows whose squared norms, or the ratio of whose norms, overflow f32.
    ///
    /// # Cost
    /// `(n + m) · head_dim · (n_hashes + 1)` multiplications; memory for the values and a tile.
    pub fn values(&self, level: Level, query: Matrix<'_>, key: Matrix<'_>, rows: KeyRows) -> Result<SmyrfValues> {
        check_rows("query", query, self.head_dim())?;
        check_rows("key", key, self.head_dim())?;
        if !(rows.sorted <= rows.norms && rows.norms <= key.rows()) {
            return Err(Error::invalid("rows", format!("sorted <= norms <= {}", key.rows()), format!("{rows:?}")));
        }
        self.check_parts()?;
        let (query_norms, key_norms) =
            (squared_norms(level, query, query.rows()), squared_norms(level, key, rows.norms));
        let equal = Equal::new(self.transform, largest(&query_norms), largest(&key_norms))?;
        Ok(SmyrfValues {
            n_hashes: self.n_hashes(),
            query: self.side(level, query, &query_norms, equal.query_factor, equal.bound, 1)?,
            key: self.side(level, key, &key_norms[..rows.sorted], equal.key_factor, equal.bound, 0)?,
        })
    }

    /// α·x̃ + β of the first `norms.len()` rows times `factor`, `[n_hashes, rows]`; `column` of `extra` is theirs.
    fn side(
        &self,
        level: Level,
        rows: Matrix<'_>,
        norms: &[f64],
        factor: f64,
        bound: f64,
        column: usize,
    ) -> Result<Vec<f32>> {
        let n = norms.len();
        let mut values = vec![f32::NAN; self.n_hashes() * n];
        if n == 0 {
            return Ok(values);
        }
        let directions = self.directions.checked(&[self.n_hashes()])?;
        // The unrounded factor: the root would blow up its rounding for the longest rows, whose extra is 0.
        let square = factor * factor;
        let lengths: Vec<f64> = norms.iter().map(|norm| (bound - square * norm).max(0.0).sqrt()).collect();
        let (all, mut dots): (Vec<u32>, Vec<f32>) = ((0..n as u32).collect(), vec![0.0; n]);
        // Hashes are few: one direction after the other costs less than moving rows to lanes for all of them.
        for (h, values) in values.chunks_exact_mut(n).enumerate() {
            dot_rows(level, directions.row(h), rows, &all, &mut dots);
            let (extra, beta) = (f64::from(self.extra[h][column]), f64::from(self.beta[h]));
            for (i, value) in values.iter_mut().enumerate() {
                if norms[i].is_finite() {
                    *value = (f64::from(dots[i]) * factor + extra * lengths[i] + beta) as f32;
                }
            }
        }
        Ok(values)
    }

    fn check_parts(&self) -> Result<()> {
        self.directions.checked(&[self.n_hashes()])?;
        if self.extra.len() != self.n_hashes() {
            return Err(Error::invalid("extra", format!("{} pairs", self.n_hashes()), self.extra.len()));
        }
        Ok(())
    }
}

/// Hash values of queries and keys, hash by hash; what [`Smyrf::orders`] sorts.
#[derive(Debug, Clone, PartialEq)]
pub struct SmyrfValues {
    n_hashes: usize,
    query: Vec<f32>,
    key: Vec<f32>,
}

impl SmyrfValues {
    /// Of every query under hash `h`.
    ///
    /// # Panics
    /// If `h` is not below the number of hashes.
    pub fn query(&self, h: usize) -> &[f32] {
        part(&self.query, self.n_hashes, h)
    }

    /// Of every sorted key under hash `h`.
    ///
    /// # Panics
    /// If `h` is not below the number of hashes.
    pub fn key(&self, h: usize) -> &[f32] {
        part(&self.key, self.n_hashes, h)
    }
}

/// Positions of queries and keys in ascending order of hash value, hash by hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmyrfOrders {
    n_hashes: usize,
    query: Vec<u32>,
    key: Vec<u32>,
}

impl SmyrfOrders {
    /// Number of hashes.
    pub fn n_hashes(&self) -> usize {
        self.n_hashes
    }

    /// A permutation of all queries under hash `h`.
    ///
    /// # Panics
    /// If `h >= n_hashes`.
    pub fn query(&self, h: usize) -> &[u32] {
        part(&self.query, self.n_hashes, h)
    }

    /// A permutation of the sorted keys under hash `h`.
    ///
    /// # Panics
    /// If `h >= n_hashes`.
    pub fn key(&self, h: usize) -> &[u32] {
        part(&self.key, self.n_hashes, h)
    }
}

fn part<T>(all: &[T], parts: usize, h: usize) -> &[T] {
    assert!(h < parts, "hash {h} of {parts}");
    let len = all.len() / parts;
    &all[h * len..(h + 1) * len]
}

/// What makes both sides equally long: factors of the rows, and the squared norm of every transformed row.
struct Equal {
    query_factor: f64,
    key_factor: f64,
    bound: f64,
}

impl Equal {
    /// From M_q² and M_k².
    fn new(transform: Transform, query: f64, key: f64) -> Result<Self> {
        for (argument, square) in [("query", query), ("key", key)] {
            if square > f64::from(f32::MAX) {
                return overflow(argument, "the largest squared norm", square);
            }
        }
        // Where one side is zero, all inner products are, and no factor could make the norms equal.
        if transform == Transform::XboxPlus || query == 0.0 || key == 0.0 {
            return Ok(Self { query_factor: 1.0, key_factor: 1.0, bound: query + key });
        }
        let factor = (key / query).sqrt().sqrt();
        for (argument, factor) in [("query", factor), ("key", factor.recip())] {
            if factor > f64::from(f32::MAX) {
                return overflow(argument, "the factor to equal norms", factor);
            }
        }
        Ok(Self { query_factor: factor, key_factor: factor.recip(), bound: query.sqrt() * key.sqrt() })
    }
}

fn overflow<T>(argument: &'static str, quantity: &'static str, magnitude: f64) -> Result<T> {
    Err(Error::Overflow { argument, quantity, magnitude: format!("{magnitude:e}") })
}

/// |x|² of the first `count` rows.
fn squared_norms(level: Level, rows: Matrix<'_>, count: usize) -> Vec<f64> {
    let mut norms = vec![0.0; count];
    square_norms(level, rows, &mut norms);
    norms
}

/// The largest finite one, or 0.
fn largest(squared_norms: &[f64]) -> f64 {
    squared_norms.iter().copied().filter(|s| s.is_finite()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transformed rows, as the module's documentation defines them.
    fn transformed(transform: Transform, query: &[Vec<f64>], key: &[Vec<f64>]) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let most = |rows: &[Vec<f64>]| rows.iter().map(|x| norm(x)).fold(0.0, f64::max);
        let (m_q, m_k) = (most(query), most(key));
        let (a, square) = match transform {
            Transform::XboxPlus => (1.0, m_q * m_q + m_k * m_k),
            Transform::Uncapped => ((m_k / m_q).sqrt(), m_q * m_k),
        };
        let extended = |rows: &[Vec<f64>], factor: f64, extra: usize| {
            let extend = |x: &Vec<f64>| {
                let mut x: Vec<f64> = x.iter().map(|x| x * factor).collect();
                let rest = (square - norm(&x).powi(2)).max(0.0).sqrt();
                x.extend([[rest, 0.0], [0.0, rest]][extra]);
                x
            };
            rows.iter().map(extend).collect()
        };
        (extended(query, a, 1), extended(key, 1.0 / a, 0))
    }

    fn dot(x: &[f64], y: &[f64]) -> f64 {
        x.iter().zip(y).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn values_are_projections_of_the_transformed_rows() {
        let (n, m, d, hashes) = (37, 21, 9, 3);
        let mut rng = Seed(5).stream(0);
        let query: Vec<f32> = rng.normals(n * d).iter().map(|x| 3.0 * x).collect();
        let key = rng.normals(m * d);
        let wide = |x: &[f32]| x.chunks(d).map(|r| r.iter().map(|&x| f64::from(x)).collect()).collect::<Vec<_>>();
        for transform in [Transform::XboxPlus, Transform::Uncapped] {
            let hash = Smyrf::sample(d, hashes, transform, Seed(6)).unwrap();
            let (q, k) = transformed(transform, &wide(&query), &wide(&key));
            for (x, row) in q.iter().zip(wide(&query)) {
                assert!((dot(x, x) - dot(&q[0], &q[0])).abs() < 1e-9);
                for (y, column) in k.iter().zip(wide(&key)) {
                    assert!((dot(x, y) - dot(&row, &column)).abs() < 1e-9);
                    assert!((dot(y, y) - dot(x, x)).abs() < 1e-9);
                    let cap = if transform == Transform::XboxPlus { 0.5 } else { 1.0 };
                    assert!(dot(x, y) / dot(x, x) <= cap + 1e-12);
                }
            }
            let (query, key) = (Matrix::new("query", &query, n, d).unwrap(), Matrix::new("key", &key, m, d).unwrap());
            let values = hash.values(Level::detect(), query, key, KeyRows::all(key)).unwrap();
            let alpha = hash.alpha();
            for h in 0..hashes {
                let alpha: Vec<f64> = alpha[h * (d + 2)..][..d + 2].iter().map(|&x| f64::from(x)).collect();
                let expect = |x: &[f64]| dot(x, &alpha) + f64::from(hash.beta()[h]);
                for (x, value) in q.iter().zip(values.query(h)).chain(k.iter().zip(values.key(h))) {
                    assert!((expect(x) - f64::from(*value)).abs() < 2e-5, "{transform:?}: {} {value}", expect(x));
                }
            }
        }
    }

    #[test]
    fn parts_there_and_back() {
        let hash = Smyrf::sample(5, 2, Transform::Uncapped, Seed(4)).unwrap();
        let again = Smyrf::from_parts(Transform::Uncapped, 5, &hash.alpha(), hash.beta().to_vec()).unwrap();
        assert_eq!(again, hash);
    }
}
