//! Blocks of queries and keys sorted by hash code: HyperAttention's and KDEformer's support.

use crate::hashed::{CodePair, check_fits, check_size, codes};
use scatterbrain_blocks::{Clusters, Round};
use scatterbrain_core::tile::{Causality, Head, Select, Support};
use scatterbrain_core::{Result, Seed};
use scatterbrain_hash::{SignRandomProjection, hamming_rank, sort_by_code};
use serde::{Deserialize, Serialize};

/// Hyperplanes of a sampled [`SortedLshSupport`], the number in the authors' code.
const BITS: usize = 7;

/// sortLSH (Zandieh et al. 2023, arXiv 2302.02451; Han et al. 2023, arXiv 2310.05869): queries and keys are sorted by
/// [`hamming_rank`] of their sign random projections, equal ones by position, and cut in equally many blocks; a query meets
/// the keys of the block at its place.
///
/// ```text
/// rank(x)      = hamming_rank(Σ_b 2^b [a_b·x ≥ 0])
/// key block    = place among sorted keys / block_size
/// query block  = place among sorted queries / ⌈n / blocks⌉
/// ```
///
/// The number of blocks is ⌈L / block_size⌉, L the key length; nothing needs to divide anything. The global order sees the
/// future: [`Causality::SelectionSeesFuture`]. Under a causal mask a query keeps the keys of its block that it sees; the
/// paper instead halves the sequence recursively and sorts each unmasked half anew.
///
/// # Cost
/// `head_dim · 7` multiplications a row, two sorts, and block_size keys a query.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SortedLshSupport {
    hash: SignRandomProjection,
    block_size: usize,
}

impl SortedLshSupport {
    /// Blocks of `block_size` keys; a hash of several tables gives as many rounds.
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(hash: SignRandomProjection, block_size: usize) -> Result<Self> {
        check_size("block_size", block_size)?;
        Ok(Self { hash, block_size })
    }

    /// Samples one table of seven hyperplanes, the number in the authors' code.
    ///
    /// # Errors
    /// A size of 0.
    pub fn sample(head_dim: usize, block_size: usize, seed: Seed) -> Result<Self> {
        Self::new(SignRandomProjection::sample(head_dim, 1, BITS, seed)?, block_size)
    }
}

impl Support for SortedLshSupport {
    fn prepare<'a>(&'a self, head: &Head<'a>) -> Result<Box<dyn Select + 'a>> {
        let (n, m, length) = (head.mask.n(), head.mask.m(), head.mask.length());
        check_fits("block_size", self.block_size, m)?;
        let query_size = n.div_ceil(length.div_ceil(self.block_size).max(1));
        let order = |codes: &[u32]| sort_by_code(&codes.iter().map(|&c| hamming_rank(c)).collect::<Vec<_>>());
        let rounds = codes(&self.hash, head)?;
        let round = |(q, k): &CodePair| Round::from_orders(&order(q), query_size, n, &order(k), self.block_size, m);
        Ok(Box::new(Clusters::new(rounds.iter().map(round).collect::<Result<_>>()?, false)?))
    }

    fn causality(&self) -> Causality {
        Causality::SelectionSeesFuture
    }
}
