//! What a hash family is, and the codes it gives.

use scatterbrain_core::{Level, Matrix, Result};
use std::fmt::Debug;

/// A sampled family of hashes that maps rows to codes: near rows collide more often than far ones.
///
/// Rows are hashed alone: a code depends on its own row only, not on how many rows came with it, so queries
/// and keys of different lengths are hashed by two calls.
///
/// ```
/// use scatterbrain_core::{Level, Matrix, Result, Seed};
/// use scatterbrain_hash::{E2lsh, HashFamily};
/// fn collisions(hash: &dyn HashFamily, query: Matrix<'_>, key: Matrix<'_>) -> Result<usize> {
///     let level = Level::detect();
///     let (q, k) = (hash.codes(level, query)?, hash.codes(level, key)?);
///     Ok((0..hash.n_hashes()).flat_map(|h| q.hash(h).iter().map(move |c| (h, c)))
///         .map(|(h, c)| k.hash(h).iter().filter(|&k| k == c).count()).sum())
/// }
/// let hash = E2lsh::sample(2, 4, 1, 4.0, Seed(1))?;
/// let (query, key) = ([0.5, 0.5], [0.5, 0.5, 90.0, 90.0]);
/// let n = collisions(&hash, Matrix::new("query", &query, 1, 2)?, Matrix::new("key", &key, 2, 2)?)?;
/// assert!((4..8).contains(&n));
/// # Ok::<(), scatterbrain_core::Error>(())
/// ```
pub trait HashFamily: Send + Sync + Debug {
    /// Columns of the rows that it hashes.
    fn head_dim(&self) -> usize;

    /// Number of hashes (tables); each gives every row one code.
    fn n_hashes(&self) -> usize;

    /// The codes of `rows` [any number, `head_dim`] under every hash.
    ///
    /// A row that holds a NaN or an infinity, or whose projections overflow f32, gets some code; the codes of
    /// the other rows do not change.
    ///
    /// # Errors
    /// `rows` with other than `head_dim` columns, or a stored hash whose parts do not fit together.
    ///
    /// # Cost
    /// One matrix product of the rows with the projections of the family.
    fn codes(&self, level: Level, rows: Matrix<'_>) -> Result<Codes>;
}

/// Codes of some rows under some hashes, hash by hash.
///
/// ```
/// use scatterbrain_hash::Codes;
/// let codes = Codes { n_hashes: 2, rows: 3, codes: vec![5, 6, 5, 0, 0, 1] };
/// assert_eq!(codes.hash(1), &[0, 0, 1]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codes {
    /// Number of hashes.
    pub n_hashes: usize,
    /// Number of rows.
    pub rows: usize,
    /// `[n_hashes, rows]`, row-major.
    pub codes: Vec<u32>,
}

impl Codes {
    /// The code of every row under hash `h`; its length is `rows`.
    ///
    /// # Panics
    /// If `h >= n_hashes`.
    pub fn hash(&self, h: usize) -> &[u32] {
        assert!(h < self.n_hashes, "hash {h} of {}", self.n_hashes);
        &self.codes[h * self.rows..(h + 1) * self.rows]
    }
}
