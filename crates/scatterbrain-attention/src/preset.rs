//! The named methods of the comparison, at a budget in units per query.

use scatterbrain_blocks::{LocalSupport, TopK, Union};
use scatterbrain_combine::{
    ClusteredSupport, InvertedFileSupport, Method, QuantisedTopK, ReformerSupport, ScanBackground, SmyrfSupport,
    SortedLshSupport,
};
use scatterbrain_core::tile::{Background, Support};
use scatterbrain_core::{Error, Result, Seed};
use scatterbrain_features::{
    CentroidBackground, Constant, EluFeatures, EvaBackground, FeatureBackground, HyperbolicFeatures, PositiveFeatures,
    ProjectionKind, SampledBackground, SampledRestBackground,
};
use scatterbrain_hash::{Smyrf, Transform};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::sync::Arc;

/// Hash rounds of every hashed preset.
const N_HASHES: usize = 2;
/// First keys on the support of `scatterbrain-centroid` and `vattention`, where their share of the budget is at least twice
/// that, or four times.
const SINKS: usize = 4;

/// A method by name. A key on the support costs one unit, a random feature two; budgets round down to what a
/// method allows, to no less than 1 key or 2 features, and [`Method::units`] says what is used.
///
/// | name | support | background |
/// |---|---|---|
/// | `exact` | all | – |
/// | `uniform` | – | mean of visible values |
/// | `local` | window of b keys (causal: the b last) | – |
/// | `topk` | the b largest logits | – |
/// | `smyrf` | 2 hashes × clusters of b/2 | – |
/// | `reformer` | 2 hashes × (chunk of b/4 and the one before) | – |
/// | `performer` | – | b/2 positive features |
/// | `linear` | – | elu + 1 |
/// | `average` | smyrf at b/2 | averaged with b/4 positive features |
/// | `scatterbrain-local` | window of b/2 | b/4 hyperbolic features |
/// | `scatterbrain-smyrf` | 2 hashes × clusters of b/4 | b/4 hyperbolic features |
/// | `centroids` | – | b/2 cluster centroids |
/// | `scatterbrain-centroid` | window of b/2, the first 4 keys in it | b/4 cluster centroids |
/// | `quantised-topk` | the b largest logits of keys and queries in 8 bits | – |
/// | `inverted-file` | b keys of the clusters that matter, one cluster for every 32 keys | – |
/// | `scatterbrain-quantised` | those of b/2 | b/4 cluster centroids |
/// | `scatterbrain-scan` | pairs of more than 2/b of their row | all others in 8 bits |
/// | `clustered` | b/2 keys of the clusters with the heaviest centroids | b/4 cluster centroids, the same |
/// | `hyper` | blocks of b/2 keys sorted by hash | b/2 sampled keys |
/// | `kde` | blocks of b/2 keys sorted by hash | b/2 sampled keys, half of them by the norms of their values |
/// | `eva` | window of b/2 | b/4 groups of keys, a random feature each |
/// | `vattention` | 4 first keys, a window and the largest 8-bit logits, b/2 in all | b/2 keys sampled from the rest |
/// | `int8` | – | all pairs: scores, weights and values in 8 bits |
/// | `int8-scores` | – | all pairs: scores in 8 bits |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the table above says each")]
#[non_exhaustive]
pub enum Preset {
    Exact,
    Uniform,
    Local,
    #[serde(rename = "topk")]
    TopK,
    Smyrf,
    Reformer,
    Performer,
    Linear,
    Average,
    ScatterbrainLocal,
    ScatterbrainSmyrf,
    Centroids,
    ScatterbrainCentroid,
    #[serde(rename = "quantised-topk")]
    QuantisedTopK,
    InvertedFile,
    ScatterbrainQuantised,
    ScatterbrainScan,
    Clustered,
    Hyper,
    Kde,
    Eva,
    #[serde(rename = "vattention")]
    VAttention,
    Int8,
    Int8Scores,
}

impl Preset {
    /// All of them, in the order of the table.
    pub const ALL: [Preset; 24] = [
        Preset::Exact,
        Preset::Uniform,
        Preset::Local,
        Preset::TopK,
        Preset::Smyrf,
        Preset::Reformer,
        Preset::Performer,
        Preset::Linear,
        Preset::Average,
        Preset::ScatterbrainLocal,
        Preset::ScatterbrainSmyrf,
        Preset::Centroids,
        Preset::ScatterbrainCentroid,
        Preset::QuantisedTopK,
        Preset::InvertedFile,
        Preset::ScatterbrainQuantised,
        Preset::ScatterbrainScan,
        Preset::Clustered,
        Preset::Hyper,
        Preset::Kde,
        Preset::Eva,
        Preset::VAttention,
        Preset::Int8,
        Preset::Int8Scores,
    ];

    /// The name, as the program takes it.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Exact => "exact",
            Preset::Uniform => "uniform",
            Preset::Local => "local",
            Preset::TopK => "topk",
            Preset::Smyrf => "smyrf",
            Preset::Reformer => "reformer",
            Preset::Performer => "performer",
            Preset::Linear => "linear",
            Preset::Average => "average",
            Preset::ScatterbrainLocal => "scatterbrain-local",
            Preset::ScatterbrainSmyrf => "scatterbrain-smyrf",
            Preset::Centroids => "centroids",
            Preset::ScatterbrainCentroid => "scatterbrain-centroid",
            Preset::QuantisedTopK => "quantised-topk",
            Preset::InvertedFile => "inverted-file",
            Preset::ScatterbrainQuantised => "scatterbrain-quantised",
            Preset::ScatterbrainScan => "scatterbrain-scan",
            Preset::Clustered => "clustered",
            Preset::Hyper => "hyper",
            Preset::Kde => "kde",
            Preset::Eva => "eva",
            Preset::VAttention => "vattention",
            Preset::Int8 => "int8",
            Preset::Int8Scores => "int8-scores",
        }
    }

    /// The preset of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    /// Whether the budget means anything to it.
    pub fn has_budget(self) -> bool {
        !matches!(self, Preset::Exact | Preset::Uniform | Preset::Linear | Preset::Int8 | Preset::Int8Scores)
    }

    /// Samples the method's hashes and projections. The method takes any mask: windows hold the last keys where later ones are
    /// hidden, and else those around a row ([`LocalSupport`]).
    ///
    /// # Errors
    /// A budget or head dimension of 0. A call with fewer keys than the budget is refused by
    /// [`attend`](crate::attend).
    ///
    /// ```
    /// use scatterbrain_attention::{Preset, Seed};
    /// let method = Preset::ScatterbrainSmyrf.method(64, 32, Seed(0))?;
    /// assert_eq!(method.units(), Some(64)); // 2 · 16 keys and 16 features
    /// # Ok::<(), scatterbrain_attention::Error>(())
    /// ```
    pub fn method(self, budget: usize, head_dim: usize, seed: Seed) -> Result<Method> {
        if head_dim == 0 {
            return Err(Error::invalid("head_dim", "at least 1", 0));
        }
        if budget == 0 && self.has_budget() {
            return Err(Error::invalid("budget", "at least 1", 0));
        }
        let keys = |share: usize| (budget / share).max(1);
        let (method, units) = match self {
            Preset::Exact => return Ok(Method::exact()),
            Preset::Uniform => return fixed(FeatureBackground::new(Constant::new(head_dim)?)),
            Preset::Linear => return fixed(FeatureBackground::new(EluFeatures::new(head_dim)?)),
            Preset::Int8 => return Ok(Method::low_rank(ScanBackground::eight_bits())),
            Preset::Int8Scores => return Ok(Method::low_rank(ScanBackground::eight_bit_scores())),
            Preset::Local => (Method::sparse(LocalSupport::new(keys(1))?), keys(1)),
            Preset::TopK => (Method::sparse(TopK::new(keys(1))?), keys(1)),
            Preset::Smyrf => (Method::sparse(smyrf(head_dim, keys(2), seed)?), N_HASHES * keys(2)),
            Preset::Reformer => {
                let support = ReformerSupport::sample(head_dim, N_HASHES, keys(4), seed.derive(HASH))?;
                (Method::sparse(support), 2 * N_HASHES * keys(4))
            }
            Preset::Performer => {
                let count = (budget / 2).max(2);
                (Method::low_rank(positive(head_dim, count, seed)?), 2 * count)
            }
            Preset::Average => {
                let count = (budget / 4).max(2);
                let method = Method::average(smyrf(head_dim, keys(4), seed)?, positive(head_dim, count, seed)?);
                (method, N_HASHES * keys(4) + 2 * count)
            }
            Preset::ScatterbrainLocal => {
                let (far, units) = hyperbolic(head_dim, budget / 4, seed)?;
                (Method::scatterbrain(LocalSupport::new(keys(2))?, far), keys(2) + units)
            }
            Preset::ScatterbrainSmyrf => {
                let (far, units) = hyperbolic(head_dim, budget / 4, seed)?;
                (Method::scatterbrain(smyrf(head_dim, keys(4), seed)?, far), N_HASHES * keys(4) + units)
            }
            Preset::Centroids => {
                let far = centroids(budget / 2, seed)?;
                (Method::low_rank(far), far.units())
            }
            Preset::ScatterbrainCentroid => {
                let sinks = if keys(2) < 2 * SINKS { 0 } else { SINKS };
                let near = LocalSupport::new(keys(2) - sinks)?.with_sinks(sinks);
                let far = centroids(budget / 4, seed)?;
                (Method::scatterbrain(near, far), keys(2) + far.units())
            }
            Preset::QuantisedTopK => (Method::sparse(QuantisedTopK::new(keys(1))?), keys(1)),
            Preset::InvertedFile => (Method::sparse(InvertedFileSupport::new(keys(1))?.with_seed(seed)), keys(1)),
            Preset::ScatterbrainQuantised => {
                let far = centroids(budget / 4, seed)?;
                (Method::scatterbrain(QuantisedTopK::new(keys(2))?, far), keys(2) + far.units())
            }
            Preset::Clustered => {
                let far = centroids(budget / 4, seed)?;
                (Method::scatterbrain(ClusteredSupport::new(keys(2), far)?, far), keys(2) + far.units())
            }
            Preset::Hyper => {
                let near = SortedLshSupport::sample(head_dim, keys(2), seed.derive(HASH))?;
                let far = SampledBackground::new(keys(2), seed.derive(SAMPLES))?;
                (Method::scatterbrain(near, far), 2 * keys(2))
            }
            Preset::Kde => {
                let near = SortedLshSupport::sample(head_dim, keys(2), seed.derive(HASH))?;
                let far = SampledBackground::by_value_norm(keys(2), seed.derive(SAMPLES))?;
                (Method::scatterbrain(near, far), 2 * keys(2))
            }
            Preset::Eva => {
                let far = EvaBackground::new((budget / 4).max(1), seed.derive(FEATURES))?;
                (Method::scatterbrain(LocalSupport::new(keys(2))?, far), keys(2) + far.units())
            }
            Preset::VAttention => {
                let far = SampledRestBackground::new(keys(2), seed.derive(SAMPLES))?;
                (Method::scatterbrain(sinks_window_and_largest(keys(2))?, far), 2 * keys(2))
            }
            Preset::ScatterbrainScan => {
                // At most 2/share keys are heavy.
                let share = (2.0 / budget as f32).clamp(2f32.powi(-16), 1.0);
                (Method::low_rank(ScanBackground::new(share)?), keys(1))
            }
        };
        method.with_budget(budget, units)
    }
}

impl Display for Preset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::from_name(name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::invalid("preset", format!("one of {names}"), name)
        })
    }
}

/// Streams of a method's seed: hash and features must be independent (mathematics of the paper's theorem).
const HASH: u64 = 1;
const FEATURES: u64 = 2;
const CENTROIDS: u64 = 3;
const SAMPLES: u64 = 4;

/// A background whose units no budget decides.
fn fixed(background: FeatureBackground) -> Result<Method> {
    let units = background.units();
    Ok(Method::low_rank(background).with_units(units))
}

/// At most `budget` keys: the first ones and a window, an eighth of it, and the largest quantised logits.
fn sinks_window_and_largest(budget: usize) -> Result<Union> {
    let near = (budget / 8).max(1);
    let sinks = if budget < 4 * SINKS { 0 } else { SINKS };
    let mut parts: Vec<Arc<dyn Support>> = vec![Arc::new(LocalSupport::new(near)?.with_sinks(sinks))];
    if budget > near + sinks {
        parts.push(Arc::new(QuantisedTopK::new(budget - near - sinks)?));
    }
    Union::new(parts)
}

fn smyrf(head_dim: usize, cluster: usize, seed: Seed) -> Result<SmyrfSupport> {
    SmyrfSupport::new(Smyrf::sample(head_dim, N_HASHES, Transform::XboxPlus, seed.derive(HASH))?, cluster)
}

fn positive(head_dim: usize, count: usize, seed: Seed) -> Result<FeatureBackground> {
    let map = PositiveFeatures::sample(head_dim, count, ProjectionKind::Orthogonal, seed.derive(FEATURES))?;
    Ok(FeatureBackground::new(map))
}

fn hyperbolic(head_dim: usize, count: usize, seed: Seed) -> Result<(FeatureBackground, usize)> {
    let count = (count / 2 * 2).max(2);
    let map = HyperbolicFeatures::sample(head_dim, count, ProjectionKind::Orthogonal, seed.derive(FEATURES))?;
    Ok((FeatureBackground::new(map), 2 * count))
}

fn centroids(count: usize, seed: Seed) -> Result<CentroidBackground> {
    CentroidBackground::new(count.max(1), seed.derive(CENTROIDS))
}
