//! The library's own maps, hashes and combiner as random variables of one query and one key, for the theory to be
//! checked against.

use anyhow::Result;
use scatterbrain_attention::features::{
    Constant, EluFeatures, FeatureBackground, FeatureMap, HyperbolicFeatures, LogFeatures, OptimalPositiveFeatures,
    PositiveFeatures, ProjectionKind, ReluFeatures, Role, TrigonometricFeatures,
};
use scatterbrain_attention::hash::{
    CrossPolytope, E2lsh, HashFamily, ReformerRotation, Rotation, SignRandomProjection,
};
use scatterbrain_attention::{HashSupport, Level, Mask, Method, Options, Seed, Tensor, attend};
use scatterbrain_core::Matrix;
use scatterbrain_theory::{
    Directions, Pair, amplification, collision_cross_polytope, collision_e2lsh, collision_sign_random_projection,
    mean_relu, mse_biased_background, variance_hyperbolic_coupled, variance_oprf_coupled, variance_positive_coupled,
    variance_relu, variance_trigonometric_coupled,
};

/// A query and a key; the softmax scale is 1.
pub(super) struct Vectors {
    pub(super) query: Vec<f32>,
    pub(super) key: Vec<f32>,
}

impl Vectors {
    /// Unit vectors of this product.
    pub(super) fn unit(head_dim: usize, dot: f64) -> Self {
        let (mut query, mut key) = (vec![0.0; head_dim], vec![0.0; head_dim]);
        query[0] = 1.0;
        (key[0], key[1]) = (dot as f32, (1.0 - dot * dot).max(0.0).sqrt() as f32);
        Self { query, key }
    }

    /// # Errors
    /// Vectors that are not finite.
    pub(super) fn pair(&self) -> Result<Pair> {
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        Ok(Pair::of(&wide(&self.query), &wide(&self.key))?)
    }

    /// θ, and |q/|q| − k/|k||.
    pub(super) fn angle(&self) -> Result<f64> {
        let pair = self.pair()?;
        Ok((pair.dot / (pair.query_square * pair.key_square).sqrt()).clamp(-1.0, 1.0).acos())
    }
}

/// A feature map, with the directions it draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Map {
    pub(super) family: Family,
    pub(super) kind: ProjectionKind,
    pub(super) n_features: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Positive,
    Hyperbolic,
    Trigonometric,
    /// At this A, in thousandths.
    Oprf(i32),
    Relu,
    /// elu + 1.
    Elu,
    /// The uniform row.
    Constant,
}

impl Map {
    pub(super) fn name(&self) -> String {
        let family = match self.family {
            Family::Positive => "positive",
            Family::Hyperbolic => "hyperbolic",
            Family::Trigonometric => "trigonometric",
            Family::Oprf(_) => "OPRF",
            Family::Relu => "ReLU",
            Family::Elu => "elu + 1",
            Family::Constant => "constant",
        };
        match self.kind {
            ProjectionKind::Orthogonal => format!("{family}, orthogonal"),
            ProjectionKind::Simplex => format!("{family}, simplex"),
            _ => family.to_owned(),
        }
    }

    pub(super) fn sample(&self, head_dim: usize, seed: Seed) -> Result<Box<dyn FeatureMap>, scatterbrain_core::Error> {
        let Self { family, kind, n_features } = *self;
        Ok(match family {
            Family::Positive => Box::new(PositiveFeatures::sample(head_dim, n_features, kind, seed)?),
            Family::Hyperbolic => Box::new(HyperbolicFeatures::sample(head_dim, n_features, kind, seed)?),
            Family::Trigonometric => Box::new(TrigonometricFeatures::sample(head_dim, n_features, kind, seed)?),
            Family::Oprf(a) => {
                Box::new(OptimalPositiveFeatures::sample(head_dim, n_features, kind, f64::from(a) / 1e3, seed)?)
            }
            Family::Relu => Box::new(ReluFeatures::sample(head_dim, n_features, kind, seed)?),
            Family::Elu => Box::new(EluFeatures::new(head_dim)?),
            Family::Constant => Box::new(Constant::new(head_dim)?),
        })
    }

    /// φ(q)·φ(k) of a map drawn afresh. NaN where the map cannot be drawn, which ends a check undecided.
    pub(super) fn product(&self, vectors: &Vectors, seed: Seed) -> f64 {
        let product = || {
            let map = self.sample(vectors.query.len(), seed)?;
            let (level, mut query, mut key) = (Level::detect(), LogFeatures::default(), LogFeatures::default());
            let row = |x| Matrix::new("row", x, 1, vectors.query.len());
            map.log_features(level, row(&vectors.query)?, 1.0, Role::Query, &mut query)?;
            map.log_features(level, row(&vectors.key)?, 1.0, Role::Key, &mut key)?;
            Ok::<_, scatterbrain_core::Error>(dot(&query, &key))
        };
        product().unwrap_or(f64::NAN)
    }

    /// What the theory says of the mean.
    pub(super) fn mean(&self, vectors: &Vectors) -> Result<f64> {
        let pair = vectors.pair()?;
        let elu = |x: f32| if x > 0.0 { 1.0 + f64::from(x) } else { f64::from(x).exp() };
        Ok(match self.family {
            Family::Relu => mean_relu(pair)?,
            Family::Elu => vectors.query.iter().zip(&vectors.key).map(|(&q, &k)| elu(q) * elu(k)).sum(),
            Family::Constant => 1.0,
            _ => pair.entry(),
        })
    }

    /// What the theory says of the variance.
    pub(super) fn variance(&self, vectors: &Vectors) -> Result<f64> {
        let (pair, head_dim) = (vectors.pair()?, vectors.query.len());
        let directions = match self.kind {
            ProjectionKind::Orthogonal => Directions::HaarOrthogonal,
            ProjectionKind::Simplex => Directions::HaarSimplex,
            _ => Directions::Independent,
        };
        let m = self.n_features;
        Ok(match self.family {
            Family::Positive => variance_positive_coupled(pair, directions, head_dim, m)?,
            Family::Hyperbolic => variance_hyperbolic_coupled(pair, directions, head_dim, m)?,
            Family::Trigonometric => variance_trigonometric_coupled(pair, directions, head_dim, m / 2)?,
            Family::Oprf(a) => variance_oprf_coupled(pair, f64::from(a) / 1e3, directions, head_dim, m)?,
            Family::Relu => variance_relu(pair, m)?,
            Family::Elu | Family::Constant => 0.0,
        })
    }

    /// What the theory says of E(φ(q)·φ(k) − A)².
    pub(super) fn squared_error(&self, vectors: &Vectors) -> Result<f64> {
        let bias = mse_biased_background(0.0, vectors.pair()?.entry(), self.mean(vectors)?)?;
        Ok(self.variance(vectors)? + bias)
    }
}

fn dot(query: &LogFeatures, key: &LogFeatures) -> f64 {
    let negative = |features: &LogFeatures, l: usize| features.negative_row(0).is_some_and(|n| n[l]);
    let sign = |l: usize| if negative(query, l) == negative(key, l) { 1.0 } else { -1.0 };
    (0..query.n_features).map(|l| sign(l) * (f64::from(query.log[l]) + f64::from(key.log[l])).exp()).sum()
}

/// A hash family with K concatenations and L tables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hash {
    pub(super) family: HashRule,
    pub(super) concatenations: usize,
    pub(super) tables: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum HashRule {
    SignRandomProjection,
    /// Of this width.
    E2lsh(f32),
    /// Gaussian rotations, for which the formula is.
    CrossPolytope,
    /// Buckets.
    Reformer(usize),
}

impl Hash {
    pub(super) fn name(&self) -> String {
        let (k, l) = (self.concatenations, self.tables);
        match self.family {
            HashRule::SignRandomProjection => format!("SRP, K = {k}, L = {l}"),
            HashRule::E2lsh(width) => format!("E2LSH, w = {width}, K = {k}, L = {l}"),
            HashRule::CrossPolytope => format!("cross-polytope, K = {k}, L = {l}"),
            HashRule::Reformer(buckets) => format!("Reformer, {buckets} buckets, L = {l}"),
        }
    }

    fn sample(&self, head_dim: usize, seed: Seed) -> Result<Drawn, scatterbrain_core::Error> {
        let (k, l) = (self.concatenations, self.tables);
        Ok(match self.family {
            HashRule::SignRandomProjection => Drawn::Srp(SignRandomProjection::sample(head_dim, l, k, seed)?),
            HashRule::E2lsh(width) => Drawn::E2lsh(E2lsh::sample(head_dim, l, k, width, seed)?),
            HashRule::CrossPolytope => Drawn::Cross(CrossPolytope::sample(head_dim, l, k, Rotation::Gaussian, seed)?),
            HashRule::Reformer(buckets) => Drawn::Reformer(ReformerRotation::sample(head_dim, l, buckets, seed)?),
        })
    }

    /// Whether the two meet in a table, drawn afresh.
    pub(super) fn meets(&self, vectors: &Vectors, seed: Seed) -> f64 {
        let meets = || {
            let d = vectors.query.len();
            let rows = [&vectors.query[..], &vectors.key[..]].concat();
            let codes = self.sample(d, seed)?.family().codes(Level::detect(), Matrix::new("rows", &rows, 2, d)?)?;
            let met = (0..self.tables).any(|table| codes.hash(table)[0] == codes.hash(table)[1]);
            Ok::<_, scatterbrain_core::Error>(f64::from(u8::from(met)))
        };
        meets().unwrap_or(f64::NAN)
    }

    /// What the theory says of the probability that they meet: p̂.
    pub(super) fn inclusion(&self, vectors: &Vectors) -> Result<f64> {
        let pair = vectors.pair()?;
        let one = match self.family {
            HashRule::SignRandomProjection => collision_sign_random_projection(vectors.angle()?)?,
            HashRule::E2lsh(width) => collision_e2lsh(f64::from(width), pair.difference_square().sqrt())?,
            HashRule::CrossPolytope => collision_cross_polytope(vectors.query.len(), vectors.angle()?)?,
            HashRule::Reformer(buckets) => collision_cross_polytope(buckets / 2, vectors.angle()?)?,
        };
        Ok(amplification(one, self.concatenations as u32, self.tables as u32)?)
    }
}

/// A hash that has been drawn.
enum Drawn {
    Srp(SignRandomProjection),
    E2lsh(E2lsh),
    Cross(CrossPolytope),
    Reformer(ReformerRotation),
}

impl Drawn {
    fn family(&self) -> &dyn HashFamily {
        match self {
            Drawn::Srp(hash) => hash,
            Drawn::E2lsh(hash) => hash,
            Drawn::Cross(hash) => hash,
            Drawn::Reformer(hash) => hash,
        }
    }

    fn support(self) -> HashSupport {
        match self {
            Drawn::Srp(hash) => HashSupport::new(hash),
            Drawn::E2lsh(hash) => HashSupport::new(hash),
            Drawn::Cross(hash) => HashSupport::new(hash),
            Drawn::Reformer(hash) => HashSupport::new(hash),
        }
    }
}

/// Â of the combiner: A where the hash meets, the map's product where it does not, 0 without a map. Hash and map draw
/// from streams of their own.
pub(super) fn combined(hash: &Hash, map: Option<&Map>, vectors: &Vectors, seed: Seed) -> f64 {
    let entry = || {
        let d = vectors.query.len();
        let support = hash.sample(d, seed.derive(1))?.support();
        let method = match map {
            None => Method::sparse(support),
            Some(map) => {
                let features = map.sample(d, seed.derive(2))?;
                Method::scatterbrain(support, FeatureBackground::shared(features.into()))
            }
        };
        let query = Tensor::f32("query", &vectors.query, [1, 1, 1, d])?;
        let key = Tensor::f32("key", &vectors.key, [1, 1, 1, d])?;
        let options = Options { scale: Some(1.0), log_sum_exp: true, ..Options::default() };
        let result = attend(&query, &key, &key, &Mask::default(), &method, &options)?;
        Ok::<_, scatterbrain_core::Error>(result.log_sum_exp.map_or(f64::NAN, |lse| f64::from(lse[0]).exp()))
    };
    entry().unwrap_or(f64::NAN)
}
