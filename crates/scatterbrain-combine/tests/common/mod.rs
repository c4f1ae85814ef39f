//! Random cases, and the oracle's answer to each.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use proptest::prelude::*;
use scatterbrain_blocks::{BlockShape, Full, Layout, LocalSupport, TopK, Union, WindowSupport, to_dense_mask};
use scatterbrain_combine::{
    ClusteredSupport, HashSupport, InvertedFileSupport, Method, QuantisedTopK, ReformerSupport, ScanBackground,
    SmyrfSupport, SortedLshSupport,
};
use scatterbrain_core::tile::{Background, Head, KeyHead, Support};
use scatterbrain_core::{Level, Mask, MaskTensor, Seed, Tensor, Window, WindowAlign};
use scatterbrain_features::{
    CentroidBackground, Constant, EluFeatures, EvaBackground, FeatureBackground, FeatureMap, HyperbolicFeatures,
    LogFeatures, OptimalPositiveFeatures, PositiveFeatures, Projection, ProjectionKind, ReluFeatures, Role,
    SampledBackground, SampledMassBackground, SampledRestBackground, TrigonometricFeatures,
};
use scatterbrain_hash::{ReformerRotation, SignRandomProjection, Smyrf, Transform};
use scatterbrain_oracle::{Estimate, Problem, Weights, background, combine, sparse, visibility};
use std::sync::Arc;

/// Supports 0..SUPPORTS; the first is none.
pub const SUPPORTS: usize = 16;
/// The support of all keys.
pub const FULL: usize = 9;
/// Backgrounds 0..BACKGROUNDS; the first is none.
pub const BACKGROUNDS: usize = 14;
/// The background whose weights change sign.
pub const SIGNED: usize = 6;
/// The background of rectified features.
pub const RELU: usize = 7;
/// The background of centroids, which has no feature map.
pub const CENTROIDS: usize = 8;
/// Sampled keys, which have no feature map either.
pub const SAMPLED: usize = 9;
/// Keys sampled by the norms of their values.
pub const BY_NORM: usize = 10;
/// Groups that share the weight of their mean by a random feature.
pub const EVA: usize = 11;
/// Keys sampled off the support.
pub const REST: usize = 12;
/// The mean of the values, with a sampled mass.
pub const MASS: usize = 13;

/// The background of scans, which the oracle does not know: its rounding decides by the last bits of f32.
pub const SCAN: usize = 14;

const FEATURES: usize = 12;
/// A row whose denominator is less of its terms may be answered by exact attention: the library's limit is 1/4096 of
/// a bound that is at most π/2 times the magnitudes here (|cos a cos b| + |sin a sin b| against 1, on average), and the
/// figure here is rounded itself.
const UNDETERMINED: f64 = 1.0 / 512.0;
const ROUNDING: f64 = 1.0 / (1u64 << 24) as f64;

/// One call.
#[derive(Debug, Clone)]
pub struct Case {
    pub batch: usize,
    pub kv_heads: usize,
    pub group: usize,
    pub n: usize,
    pub m: usize,
    pub d: usize,
    pub d_v: usize,
    pub scale: f32,
    pub spread: f32,
    pub causal: bool,
    pub lengths: bool,
    pub window: Option<(usize, usize, bool)>,
    pub boolean: bool,
    pub seed: u64,
}

impl Case {
    /// No mask, one batch entry, grouped heads.
    pub fn plain() -> Self {
        Case {
            batch: 1,
            kv_heads: 2,
            group: 2,
            n: 64,
            m: 64,
            d: 7,
            d_v: 5,
            scale: 0.4,
            spread: 1.0,
            causal: false,
            lengths: false,
            window: None,
            boolean: false,
            seed: 0,
        }
    }

    pub fn heads(&self) -> usize {
        self.kv_heads * self.group
    }

    fn data(&self, part: u64, len: usize, spread: f32) -> Vec<f32> {
        Seed(self.seed).stream(part).normals(len).iter().map(|x| x * spread).collect()
    }

    fn query(&self) -> Vec<f32> {
        self.data(0, self.batch * self.heads() * self.n * self.d, self.spread)
    }

    fn key(&self) -> Vec<f32> {
        self.data(1, self.batch * self.kv_heads * self.m * self.d, self.spread)
    }

    fn value(&self) -> Vec<f32> {
        self.data(2, self.batch * self.kv_heads * self.m * self.d_v, 1.0)
    }

    fn key_lengths(&self) -> Vec<usize> {
        let mut rng = Seed(self.seed).stream(3);
        (0..self.batch).map(|_| if self.lengths { rng.below(self.m as u64 + 1) as usize } else { self.m }).collect()
    }

    /// `[batch, 1, n, m]` or `[1, heads, n, m]`, by seed.
    fn boolean_mask(&self) -> (Vec<u8>, [usize; 4]) {
        let mut rng = Seed(self.seed).stream(4);
        let shape = if self.seed.is_multiple_of(2) {
            [self.batch, 1, self.n, self.m]
        } else {
            [1, self.heads(), self.n, self.m]
        };
        ((0..shape.iter().product()).map(|_| u8::from(rng.below(3) > 0)).collect(), shape)
    }

    /// Calls `f` with query, key, value and mask.
    pub fn with_inputs<T>(&self, f: impl FnOnce(&Tensor<'_>, &Tensor<'_>, &Tensor<'_>, &Mask<'_>) -> T) -> T {
        let (query, key, value) = (self.query(), self.key(), self.value());
        let lengths = self.key_lengths();
        let (boolean, shape) = self.boolean_mask();
        let align = |start| if start { WindowAlign::Start } else { WindowAlign::End };
        let mask = Mask {
            causal: self.causal,
            key_lengths: self.lengths.then_some(&lengths[..]),
            window: self.window.map(|(left, right, start)| Window { left, right, align: align(start) }),
            allowed: self.boolean.then(|| MaskTensor::new(&boolean, shape).unwrap()),
        };
        let query = Tensor::f32("query", &query, [self.batch, self.heads(), self.n, self.d]).unwrap();
        let key = Tensor::f32("key", &key, [self.batch, self.kv_heads, self.m, self.d]).unwrap();
        let value = Tensor::f32("value", &value, [self.batch, self.kv_heads, self.m, self.d_v]).unwrap();
        f(&query, &key, &value, &mask)
    }

    pub fn support(&self, which: usize) -> Option<Arc<dyn Support>> {
        let seed = Seed(self.seed).derive(11);
        let smyrf =
            |size| SmyrfSupport::new(Smyrf::sample(self.d, 2, Transform::XboxPlus, seed).unwrap(), size).unwrap();
        // Sizes here are those of one block a tile; half of the cases take passes in spite of it.
        let in_passes = self.seed & 2 == 0;
        let shape = BlockShape { queries: 9, keys: 6 };
        Some(match which {
            0 => return None,
            1 => Arc::new(WindowSupport::around(13).unwrap()),
            2 => Arc::new(WindowSupport::last(70).unwrap()),
            3 => Arc::new(TopK::new(6.min(self.m)).unwrap()),
            4 => {
                let smyrf = smyrf(7.min(self.m));
                Arc::new(if in_passes { smyrf.in_passes() } else { smyrf })
            }
            5 => {
                let hash = ReformerRotation::sample(self.d, 2, 6, seed).unwrap();
                let reformer = ReformerSupport::new(hash, 5.min(self.m)).unwrap();
                Arc::new(if in_passes { reformer.in_passes() } else { reformer })
            }
            6 => Arc::new(HashSupport::new(SignRandomProjection::sample(self.d, 2, 3, seed).unwrap())),
            7 => Arc::new(Layout::BigBird { shape, window: 1, global: 1, random: 1, seed }),
            8 => {
                let parts: [Arc<dyn Support>; 3] = [
                    Arc::new(smyrf(9.min(self.m))),
                    Arc::new(WindowSupport::around(8).unwrap()),
                    Arc::new(TopK::new(4.min(self.m)).unwrap()),
                ];
                Arc::new(Union::new(parts.to_vec()).unwrap())
            }
            10 => Arc::new(QuantisedTopK::new(10.min(self.m)).unwrap()),
            11 => Arc::new(SortedLshSupport::sample(self.d, 8.min(self.m), seed).unwrap()),
            // With the clusters of the background of centroids.
            12 => Arc::new(ClusteredSupport::new(9.min(self.m), self.centroids()).unwrap()),
            13 => {
                let near = WindowSupport::last(6).unwrap().with_sinks(3);
                let parts: [Arc<dyn Support>; 2] =
                    [Arc::new(near), Arc::new(QuantisedTopK::new(8.min(self.m)).unwrap())];
                Arc::new(Union::new(parts.to_vec()).unwrap())
            }
            14 => Arc::new(InvertedFileSupport::new(9.min(self.m)).unwrap().with_clusters(6).unwrap()),
            15 => Arc::new(LocalSupport::new(11).unwrap().with_sinks(2)),
            _ => Arc::new(Full),
        })
    }

    fn projection(&self, rows: usize) -> Projection {
        Projection::sample(ProjectionKind::Orthogonal, rows, self.d, Seed(self.seed).derive(12)).unwrap()
    }

    fn map(&self, which: usize) -> Option<Arc<dyn FeatureMap>> {
        Some(match which {
            0 | CENTROIDS | SAMPLED | BY_NORM | EVA | REST | MASS => return None,
            1 => Arc::new(PositiveFeatures::from_projection(self.projection(FEATURES))),
            2 => Arc::new(HyperbolicFeatures::from_projection(self.projection(FEATURES / 2))),
            3 => Arc::new(OptimalPositiveFeatures::from_projection(self.projection(FEATURES), -0.1).unwrap()),
            4 => Arc::new(EluFeatures::new(self.d).unwrap()),
            5 => Arc::new(Constant::new(self.d).unwrap()),
            6 => Arc::new(TrigonometricFeatures::from_projection(self.projection(FEATURES / 2))),
            _ => Arc::new(ReluFeatures::from_projection(self.projection(FEATURES))),
        })
    }

    /// 1 to 12 of them, by seed: 6 for seed 0.
    fn centroids(&self) -> CentroidBackground {
        let count = 1 + (self.seed % 12 + 5) as usize % 12;
        match self.seed.is_multiple_of(3) {
            true => CentroidBackground::of_blocks(count).unwrap(),
            false => CentroidBackground::new(count, Seed(self.seed).derive(13)).unwrap(),
        }
    }

    /// 1 to 20 of them, by seed.
    fn sampled(&self) -> SampledBackground {
        SampledBackground::new(1 + (self.seed % 20 + 7) as usize % 20, Seed(self.seed).derive(14)).unwrap()
    }

    fn by_norm(&self) -> SampledBackground {
        SampledBackground::by_value_norm(self.sampled().units(), Seed(self.seed).derive(15)).unwrap()
    }

    /// 1 to 12 groups, by seed.
    fn eva(&self) -> EvaBackground {
        EvaBackground::new(self.centroids().units() / 2, Seed(self.seed).derive(16)).unwrap()
    }

    fn rest(&self) -> SampledRestBackground {
        SampledRestBackground::new(self.sampled().units(), Seed(self.seed).derive(17)).unwrap()
    }

    fn mass(&self) -> SampledMassBackground {
        SampledMassBackground::new(self.sampled().units(), Seed(self.seed).derive(18)).unwrap()
    }

    fn background(&self, which: usize) -> Option<Arc<dyn Background>> {
        Some(match which {
            CENTROIDS => Arc::new(self.centroids()),
            SAMPLED => Arc::new(self.sampled()),
            BY_NORM => Arc::new(self.by_norm()),
            EVA => Arc::new(self.eva()),
            REST => Arc::new(self.rest()),
            MASS => Arc::new(self.mass()),
            SCAN => Arc::new(ScanBackground::new(1.0 / 16.0).unwrap().with_steps(1 + (self.seed % 127) as u8).unwrap()),
            _ => Arc::new(FeatureBackground::shared(self.map(which)?)),
        })
    }

    pub fn method(&self, support: usize, background: usize) -> Method {
        match (self.support(support), self.background(background)) {
            (None, None) => Method::exact(),
            (Some(s), None) => Method::sparse_shared(s),
            (None, Some(b)) => Method::low_rank_shared(b),
            (Some(s), Some(b)) => Method::scatterbrain_shared(s, b),
        }
    }

    /// The definition of sampled keys by plain loops: ln of how many keys each pair's key stands for, `[n, m]`.
    fn sample_logs(&self, problem: &Problem, far: &SampledBackground, by_norm: bool, length: usize) -> Vec<f64> {
        let count = far.units().min(length);
        let norm = |j: usize| problem.value_row(j).iter().map(|v| v * v).sum::<f64>().sqrt();
        let time = |j: usize| -(((far.rank(j) >> 11) as f64 + 0.5) / (1u64 << 53) as f64).ln() / norm(j);
        let mut logs = vec![f64::NEG_INFINITY; self.n * self.m];
        for (row, logs) in problem.visible.chunks(self.m).zip(logs.chunks_mut(self.m)) {
            for g in 0..count {
                let seen: Vec<usize> = (g * length / count..(g + 1) * length / count).filter(|&j| row[j]).collect();
                let lowest = seen.iter().min_by_key(|&&j| far.rank(j)).copied();
                let winner = seen.iter().min_by(|&&a, &&b| time(a).total_cmp(&time(b))).copied();
                let Some(key) = (if far.coin(g) { winner } else { lowest }) else { continue };
                let share = norm(key) / seen.iter().map(|&j| norm(j)).sum::<f64>();
                let chance = 1.0 / seen.len() as f64;
                logs[key] = -(if by_norm { 0.5 * (chance + share) } else { chance }).ln();
            }
        }
        logs
    }

    /// The definition of keys sampled off the support by plain loops.
    fn rest_logs(&self, problem: &Problem, support: Option<&[bool]>) -> Vec<f64> {
        let far = self.rest();
        let mut logs = vec![f64::NEG_INFINITY; self.n * self.m];
        for i in 0..self.n {
            let at = |j: usize| i * self.m + j;
            let off = |&j: &usize| problem.visible[at(j)] && support.is_none_or(|s| !s[at(j)]);
            let mut rest: Vec<usize> = (0..self.m).filter(off).collect();
            let all = rest.len() as f64;
            rest.sort_by_key(|&j| far.rank(j));
            rest.truncate(far.units());
            rest.iter().for_each(|&j| logs[at(j)] = (all / rest.len() as f64).ln());
        }
        logs
    }

    /// The sampled keys of every row of a head.
    fn mass_samples(&self, b: usize, h: usize) -> Vec<Vec<usize>> {
        self.with_inputs(|_, _, _, mask| {
            let mask = mask.head(b, h, self.n, self.m);
            (0..self.n).map(|i| self.mass().sample(&mask, i)).collect()
        })
    }

    /// The definition of a sampled mass by plain loops: for every pair what ln of the mean of e^x is over the sampled keys that
    /// the row sees off the support, `mean_exp` of their logits; −∞ off whole blocks of 64 keys.
    fn mass_logs<T: Copy>(
        &self,
        samples: &[Vec<usize>],
        (interval, visible): (&[bool], &[bool]),
        support: Option<&[bool]>,
        logits: &[T],
        mean_exp: impl Fn(&[T]) -> f64,
    ) -> Vec<f64> {
        let mut logs = vec![f64::NEG_INFINITY; self.n * self.m];
        let dense = !self.causal && self.window.is_none();
        for (i, sample) in samples.iter().enumerate() {
            let row = i * self.m..(i + 1) * self.m;
            let seen: Vec<usize> = (0..self.m).filter(|&j| interval[row.start + j]).collect();
            let (Some(&first), Some(&last)) = (seen.first(), seen.last()) else { continue };
            let off = |&j: &usize| visible[row.start + j] && support.is_none_or(|s| !s[row.start + j]);
            let sampled: Vec<T> = sample.iter().copied().filter(off).map(|j| logits[row.start + j]).collect();
            if !sampled.is_empty() {
                let far = first.div_ceil(64) * 64..if dense { last + 1 } else { (last + 1) / 64 * 64 };
                far.for_each(|j| logs[row.start + j] = mean_exp(&sampled));
            }
        }
        logs
    }

    /// The definition of EVA's shares by plain loops: the group of every valid key, and ln(n_c ξ_j/Σ ξ) where a row sees
    /// all of the group, else 0, `[n, m]`.
    fn eva_logs(&self, problem: &Problem, seen: &[bool], length: usize) -> (Vec<usize>, Vec<f64>) {
        let far = self.eva();
        let size = length.div_ceil(far.units() / 2).max(1);
        let groups: Vec<usize> = (0..length).map(|j| j / size).collect();
        let root = problem.scale.abs().sqrt();
        let mut shares = vec![0.0; self.m];
        for group in groups.chunk_by(|a, b| a == b) {
            let members: Vec<usize> = (group[0] * size..group[0] * size + group.len()).collect();
            let noise = far.noise(group[0], self.d);
            let mean = |c: usize| members.iter().map(|&j| problem.key_row(j)[c]).sum::<f64>() / members.len() as f64;
            let feature = |j: usize| {
                let key = problem.key_row(j).iter().map(|k| root * k);
                key.enumerate().map(|(c, k)| (root * mean(c) + noise[c]) * k - 0.5 * k * k).sum::<f64>()
            };
            let features: Vec<f64> = members.iter().map(|&j| feature(j)).collect();
            let all = log_sum_exp(&features);
            for (&j, x) in members.iter().zip(&features) {
                shares[j] = (members.len() as f64).ln() + (x - all).max(-60.0);
            }
        }
        let mut logs = vec![0.0; self.n * self.m];
        for (row, logs) in seen.chunks(self.m).zip(logs.chunks_mut(self.m)) {
            for (j, &group) in groups.iter().enumerate() {
                if (0..length).filter(|&other| groups[other] == group).all(|other| row[other]) {
                    logs[j] = shares[j];
                }
            }
        }
        (groups, logs)
    }

    /// The cluster of every valid key of a head.
    fn clusters(&self, bh: usize) -> Vec<usize> {
        let (b, h) = (bh / self.heads(), bh % self.heads());
        self.with_inputs(|_, key, value, mask| {
            let (key, value) = (key.head(b, h / self.group), value.head(b, h / self.group));
            let keys = KeyHead {
                key: key.matrix(),
                value: value.matrix(),
                scale: self.scale,
                mask: mask.head(b, h, self.n, self.m).without_boolean(),
                boolean: self.boolean,
                pairs: true,
                level: Level::detect(),
            };
            self.centroids().clusters(&keys).into_iter().map(|c| c as usize).collect()
        })
    }

    /// The oracle's answer for one head, and how far f32 may be from it.
    pub fn judge(&self, bh: usize, support: usize, background_idx: usize) -> Judge {
        let (b, h) = (bh / self.heads(), bh % self.heads());
        let kv = b * self.kv_heads + h / self.group;
        let part = |data: Vec<f32>, index: usize, len: usize| data[index * len..(index + 1) * len].to_vec();
        let query = part(self.query(), bh, self.n * self.d);
        let key = part(self.key(), kv, self.m * self.d);
        let value = part(self.value(), kv, self.m * self.d_v);
        let length = self.key_lengths()[b];
        let mut visible = visibility(self.n, self.m, length, self.causal, self.window);
        let interval = visible.clone();
        if self.boolean {
            let (mask, shape) = self.boolean_mask();
            let start =
                (if shape[0] == 1 { 0 } else { b } * shape[1] + if shape[1] == 1 { 0 } else { h }) * self.n * self.m;
            visible.iter_mut().zip(&mask[start..]).for_each(|(v, &a)| *v &= a != 0);
        }
        let shape = [self.n, self.m, self.d, self.d_v];
        let problem = Problem::from_f32(shape, f64::from(self.scale), &query, &key, &value).seeing(visible);
        let dense = self.support(support).map(|s| self.dense_support(&*s, bh));
        let (weights, stand_ins) = match background_idx {
            CENTROIDS => {
                let clusters = self.clusters(bh);
                let weights = Weights::centroids(&problem, &clusters, &interval);
                (Some(weights), Some(StandIns::means(&problem, &clusters, &interval)))
            }
            SAMPLED | BY_NORM | REST => {
                let logs = match background_idx {
                    SAMPLED => self.sample_logs(&problem, &self.sampled(), false, length),
                    BY_NORM => self.sample_logs(&problem, &self.by_norm(), true, length),
                    _ => self.rest_logs(&problem, dense.as_deref()),
                };
                (Some(Weights::multiples(&problem, &logs)), Some(StandIns::multiples(&problem, &logs)))
            }
            MASS => {
                let samples = self.mass_samples(b, h);
                let mean_exp = |x: &[f64]| log_sum_exp(x) - (x.len() as f64).ln();
                let logs = self.mass_logs(
                    &samples,
                    (&interval, &problem.visible),
                    dense.as_deref(),
                    &problem.logits(),
                    mean_exp,
                );
                (
                    Some(Weights::from_logs(&logs, self.n)),
                    Some(StandIns::sampled_mass(self, &problem, &samples, &interval, dense.as_deref())),
                )
            }
            EVA => {
                let (groups, logs) = self.eva_logs(&problem, &interval, length);
                let weights = Weights::centroids(&problem, &groups, &interval).times(&logs);
                let mut stand_ins = StandIns::means(&problem, &groups, &interval);
                stand_ins.logs = logs.iter().map(|&log| log as f32).collect();
                (Some(weights), Some(stand_ins))
            }
            _ => (self.weights(&problem, background_idx), None),
        };
        let estimate = match (&dense, &weights) {
            (None, None) => problem.exact(),
            (Some(s), None) => sparse(&problem, s),
            (None, Some(w)) => background(&problem, w),
            (Some(s), Some(w)) => combine(&problem, s, w),
        };
        let off = weights.map(|_| Off { which: background_idx, stand_ins });
        Judge::new(self, problem, estimate, dense, off)
    }

    fn dense_support(&self, support: &dyn Support, bh: usize) -> Vec<bool> {
        let (b, h) = (bh / self.heads(), bh % self.heads());
        self.with_inputs(|query, key, _, mask| {
            let mask = mask.head(b, h, self.n, self.m);
            let (query, key) = (query.head(b, h), key.head(b, h / self.group));
            let (query, key) = (query.matrix(), key.matrix());
            to_dense_mask(support, &Head { query, key, scale: self.scale, mask: &mask, level: Level::detect() })
                .unwrap()
        })
    }

    fn weights(&self, problem: &Problem, which: usize) -> Option<Weights> {
        let rows = |count| self.projection(count).matrix().iter().flatten().map(|&x| f64::from(x)).collect::<Vec<_>>();
        Some(match which {
            0 => return None,
            1 => Weights::favor_positive(problem, &rows(FEATURES)),
            2 => Weights::favor_hyperbolic(problem, &rows(FEATURES / 2)),
            3 => Weights::oprf(problem, &rows(FEATURES), -0.1),
            4 => Weights::elu(problem, 1.0),
            5 => Weights::constant(problem),
            6 => Weights::trigonometric(problem, &rows(FEATURES / 2)),
            _ => self.relu_weights(problem, &rows(FEATURES)),
        })
    }

    /// relu(ω·x)·relu(ω·y) with x, y scaled by √|s|, s's sign on the query.
    fn relu_weights(&self, problem: &Problem, projection: &[f64]) -> Weights {
        let root = problem.scale.abs().sqrt();
        let dot = |w: &[f64], x: &[f64]| w.iter().zip(x).map(|(a, b)| a * b * root).sum::<f64>();
        let count = FEATURES as f64;
        let pair = |q: &[f64], k: &[f64]| {
            let each = projection.chunks_exact(self.d);
            each.map(|w| (dot(w, q) * problem.scale.signum()).max(0.0) * dot(w, k).max(0.0) / count).sum::<f64>()
        };
        let value = (0..self.n).flat_map(|i| (0..self.m).map(move |j| (i, j)));
        let value = value.map(|(i, j)| pair(problem.query_row(i), problem.key_row(j))).collect();
        Weights::natural(value, self.n)
    }
}

/// What stands off the support.
struct Off {
    which: usize,
    /// Where there is no map.
    stand_ins: Option<StandIns>,
}

/// For every pair a key whose weight it has, and how many times.
struct StandIns {
    /// `[n, m, d]`.
    keys: Vec<f32>,
    /// ln of it, `[n, m]`.
    logs: Vec<f32>,
}

impl StandIns {
    /// The mean of the key's cluster where the row sees all of it, by plain f32 sums; else the key itself.
    fn means(problem: &Problem, clusters: &[usize], seen: &[bool]) -> Self {
        let (m, d) = (problem.m, problem.d);
        let count = clusters.iter().max().map_or(0, |c| c + 1);
        let mut means = vec![0.0f32; count * d];
        for (j, c) in clusters.iter().enumerate() {
            means[c * d..(c + 1) * d].iter_mut().zip(problem.key_row(j)).for_each(|(mean, &x)| *mean += x as f32);
        }
        for (c, mean) in means.chunks_mut(d).enumerate() {
            let members = clusters.iter().filter(|&&other| other == c).count() as f32;
            mean.iter_mut().for_each(|x| *x /= members);
        }
        let mut keys = Vec::with_capacity(problem.n * m * d);
        for row in seen.chunks(m) {
            let mut whole = vec![true; count];
            clusters.iter().zip(row).filter(|(_, seen)| !**seen).for_each(|(&c, _)| whole[c] = false);
            for j in 0..m {
                match clusters.get(j).filter(|c| whole[**c]) {
                    Some(c) => keys.extend(&means[c * d..(c + 1) * d]),
                    None => keys.extend(problem.key_row(j).iter().map(|&x| x as f32)),
                }
            }
        }
        Self { keys, logs: vec![0.0; problem.n * m] }
    }

    /// Keys of zeros, whose weight is e^0, and the mass as f32 has it.
    fn sampled_mass(
        case: &Case,
        problem: &Problem,
        samples: &[Vec<usize>],
        interval: &[bool],
        support: Option<&[bool]>,
    ) -> Self {
        let scaled = |i: usize| problem.query_row(i).iter().map(|&q| q as f32 * case.scale).collect::<Vec<_>>();
        let dot = |q: &[f32], j: usize| q.iter().zip(problem.key_row(j)).map(|(q, &k)| q * k as f32).sum::<f32>();
        let row = |i: usize| (0..problem.m).map(|j| dot(&scaled(i), j)).collect::<Vec<_>>();
        let logits: Vec<f32> = (0..problem.n).flat_map(row).collect();
        let mean_exp = |x: &[f32]| {
            let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            f64::from(top + (x.iter().map(|x| (x - top).exp()).sum::<f32>() / x.len() as f32).ln())
        };
        let logs = case.mass_logs(samples, (interval, &problem.visible), support, &logits, mean_exp);
        let keys = vec![0.0; problem.n * problem.m * problem.d];
        Self { keys, logs: logs.iter().map(|&l| l as f32).collect() }
    }

    /// The keys themselves.
    fn multiples(problem: &Problem, logs: &[f64]) -> Self {
        let keys = (0..problem.n).flat_map(|_| problem.key.iter().map(|&x| x as f32)).collect();
        Self { keys, logs: logs.iter().map(|&l| l as f32).collect() }
    }
}

/// What the oracle says of one head.
pub struct Judge {
    pub estimate: Estimate,
    pub tolerance: f64,
    pub lse_tolerance: f64,
    pub entry_tolerance: f64,
    problem: Problem,
    /// Σ of signed terms over Σ of their magnitudes, per row.
    conditioned: Vec<f64>,
    /// By how much rounding of terms grows, per row.
    grown: Vec<f64>,
    exact: Option<Vec<f64>>,
}

impl Judge {
    fn new(case: &Case, problem: Problem, estimate: Estimate, dense: Option<Vec<bool>>, off: Option<Off>) -> Self {
        let signed = off.as_ref().is_some_and(|off| off.which == SIGNED).then(|| feature_magnitudes(case, &problem));
        let conditioned: Vec<f64> = (0..case.n)
            .map(|i| {
                let by_entries = conditioned(&problem, &estimate, i);
                signed
                    .as_ref()
                    .map_or(by_entries, |s| by_entries.min(by_features(&problem, &estimate, s, dense.as_deref(), i)))
            })
            .collect();
        let relu = off.as_ref().is_some_and(|off| off.which == RELU);
        let grown = (0..case.n).map(|i| match relu {
            true => relu_growth(case, &problem, &estimate, dense.as_deref(), i),
            false if signed.is_some() && conditioned[i] > 0.0 => 1.0 / conditioned[i],
            false => 1.0,
        });
        let grown = grown.collect();
        let exact = off.is_some().then(|| problem.exact().output);
        // Errors of signed rows are counted relative to their terms.
        let relative_to: Vec<f64> =
            conditioned.iter().map(|c| if signed.is_some() { c.clamp(0.0, 1.0) } else { 1.0 }).collect();
        let plain = plain_error(case, &problem, &estimate, dense.as_deref(), off.as_ref(), &relative_to);
        let bound = derived_bound(case, &problem);
        assert!(plain <= bound, "plain f32 is off by {plain:e}, beyond {bound:e}: {case:?}");
        let largest = problem.value.iter().fold(1.0f64, |a, v| a.max(v.abs()));
        let relative = 2.0 * plain + ALLOWED * ROUNDING;
        Judge {
            tolerance: relative * largest * 2.0,
            lse_tolerance: relative * 2.0 + 64.0 * ROUNDING,
            entry_tolerance: relative * 2.0,
            estimate,
            problem,
            conditioned,
            grown,
            exact,
        }
    }

    /// Exact attention's row, where the features of all visible keys vanish: the definition has no answer there, and the
    /// library promises this one.
    pub fn vanished(&self, i: usize) -> Option<&[f64]> {
        let sees = (0..self.problem.m).any(|j| self.visible(i, j));
        let lost = sees && self.conditioned[i] == f64::NEG_INFINITY;
        self.exact.as_ref().filter(|_| lost).map(|e| &e[i * self.problem.d_v..(i + 1) * self.problem.d_v])
    }

    pub fn visible(&self, i: usize, j: usize) -> bool {
        self.problem.visible[i * self.problem.m + j]
    }

    /// Whether the definition has no usable denominator in this row: the library then answers exact attention.
    pub fn undetermined(&self, i: usize) -> bool {
        let sees = (0..self.problem.m).any(|j| self.visible(i, j));
        sees && self.conditioned[i] < UNDETERMINED && self.conditioned[i] != f64::NEG_INFINITY
    }

    /// By how much rounding of terms grows in this row: their magnitudes over the denominator, for signed features; what
    /// their products ω·x cancel, for rectified ones.
    pub fn amplified(&self, i: usize) -> f64 {
        self.grown[i]
    }
}

/// A dot product of d terms is off by (d + 2)/2 roundings of Σ|ω_c x_c|, so a rectified feature by that over ω·x, and a term
/// of a weight by that of its two features: Σ of terms times this, over the denominator, in what is allowed anyway.
fn relu_growth(case: &Case, problem: &Problem, estimate: &Estimate, dense: Option<&[bool]>, i: usize) -> f64 {
    let root = problem.scale.abs().sqrt();
    let projection = case.projection(FEATURES);
    // The feature, and Σ|ω_c x_c| over ω·x.
    let feature = |w: &[f32], x: &[f64], sign: f64| {
        let terms = || w.iter().zip(x).map(|(&a, b)| f64::from(a) * b);
        let dot = (sign * terms().sum::<f64>()).max(0.0);
        (dot * root, terms().map(f64::abs).sum::<f64>() / dot)
    };
    let off =
        (0..problem.m).filter(|&j| problem.visible[i * problem.m + j] && !dense.is_some_and(|d| d[i * problem.m + j]));
    let pairs = off.flat_map(|j| projection.matrix().iter().map(move |w| (j, w)).collect::<Vec<_>>());
    let lost = pairs.map(|(j, w)| {
        let (q, lost_q) = feature(w, problem.query_row(i), problem.scale.signum());
        let (k, lost_k) = feature(w, problem.key_row(j), 1.0);
        if q * k > 0.0 { q * k / FEATURES as f64 * (lost_q + lost_k) } else { 0.0 }
    });
    let lost = lost.sum::<f64>() / estimate.log_sum_exp[i].exp();
    1.0 + if lost.is_finite() { lost * (case.d as f64 + 2.0) / 2.0 / ALLOWED } else { 0.0 }
}

/// Denominator over Σ |terms|; −∞ for a row of zeros, 1 for positive terms.
fn conditioned(problem: &Problem, estimate: &Estimate, i: usize) -> f64 {
    let row = &estimate.unnormalised.value[i * problem.m..(i + 1) * problem.m];
    let magnitude: f64 = row.iter().map(|x| x.abs()).sum();
    if magnitude == 0.0 {
        if estimate.log_sum_exp[i] == f64::NEG_INFINITY { f64::NEG_INFINITY } else { 1.0 }
    } else {
        row.iter().sum::<f64>() / magnitude
    }
}

/// Σ_l |φ_l(q_i)||φ_l(k_j)| of the trigonometric features, times e^{−(|q_i|² + |k_j|²)/2}: what an entry is the small
/// difference of.
fn feature_magnitudes(case: &Case, problem: &Problem) -> Vec<f64> {
    let projection = case.projection(FEATURES / 2);
    let root = problem.scale.abs().sqrt();
    let angle = |w: &[f32], x: &[f64]| w.iter().zip(x).map(|(&a, b)| f64::from(a) * b * root).sum::<f64>();
    let pair = |q: &[f64], k: &[f64]| {
        let each = projection.matrix().iter().map(|w| {
            let (a, b) = (angle(w, q), angle(w, k));
            (a.cos() * b.cos()).abs() + (a.sin() * b.sin()).abs()
        });
        each.sum::<f64>() / (FEATURES / 2) as f64
    };
    (0..case.n * case.m).map(|p| pair(problem.query_row(p / case.m), problem.key_row(p % case.m))).collect()
}

/// The denominator over Σ |terms| for trigonometric features, a term being one feature's product: entries off the
/// support are e^{…} times a mean of cosines, so their magnitudes are too.
fn by_features(problem: &Problem, estimate: &Estimate, magnitudes: &[f64], dense: Option<&[bool]>, i: usize) -> f64 {
    let m = problem.m;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let half = |x: &[f64]| 0.5 * problem.scale.abs() * dot(x, x);
    let log = |j: usize| {
        let (q, k) = (problem.query_row(i), problem.key_row(j));
        let on = dense.is_some_and(|d| d[i * m + j]);
        if on { problem.scale * dot(q, k) } else { half(q) + half(k) + magnitudes[i * m + j].ln() }
    };
    let logs: Vec<f64> = (0..m).filter(|&j| problem.visible[i * m + j]).map(log).collect();
    let (lse, all) = (estimate.log_sum_exp[i], log_sum_exp(&logs));
    if lse.is_nan() {
        -1.0
    } else if lse == f64::NEG_INFINITY {
        lse
    } else {
        (lse - all).exp().min(1.0)
    }
}

/// Roundings that a figure may be off by in any case.
const ALLOWED: f64 = 256.0;

fn log_sum_exp(logs: &[f64]) -> f64 {
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY { top } else { top + logs.iter().map(|l| (l - top).exp()).sum::<f64>().ln() }
}

/// The largest relative error that rounding logs and logits can make, from the norms: a dot product of d terms is off
/// by (d + 2)/2 roundings of Σ|x·y| ≤ |x||y|, and an exponential turns an absolute error into a relative one.
fn derived_bound(case: &Case, problem: &Problem) -> f64 {
    let norm = |rows: &[f64], width: usize| {
        rows.chunks(width).map(|r| r.iter().map(|x| x * x).sum::<f64>().sqrt()).fold(0.0, f64::max)
    };
    let root = problem.scale.abs().sqrt();
    let (q, k) = (norm(&problem.query, case.d) * root, norm(&problem.key, case.d) * root);
    let projection = case.projection(FEATURES);
    let w = projection.matrix().iter().map(|r| r.iter().map(|x| x * x).sum::<f32>().sqrt()).fold(0.0, f32::max);
    let exponent = (case.d as f64 + 4.0) * (q * k + f64::from(w) * (q + k)) + 4.0 * (q * q + k * k) + f64::from(w * w);
    2.0 * ROUNDING * (2.0 * exponent + case.m as f64 + 64.0)
}

/// The largest error of normalised entries when the estimator is evaluated in f32 without tiles or subtraction.
fn plain_error(
    case: &Case,
    problem: &Problem,
    estimate: &Estimate,
    dense: Option<&[bool]>,
    off: Option<&Off>,
    relative_to: &[f64],
) -> f64 {
    let (n, m) = (case.n, case.m);
    let map = off.and_then(|off| case.map(off.which));
    let features = |rows: &[f64], role: Role| {
        let rows: Vec<f32> = rows.iter().map(|&x| x as f32).collect();
        let mut out = LogFeatures::default();
        let matrix = scatterbrain_core::Matrix::new("rows", &rows, rows.len() / case.d, case.d).unwrap();
        map.as_ref().unwrap().log_features(Level::scalar(), matrix, role.factor(case.scale), role, &mut out).unwrap();
        out
    };
    let mapped = map.as_ref().map(|_| (features(&problem.query, Role::Query), features(&problem.key, Role::Key)));
    let dot = |i: usize, k: &mut dyn Iterator<Item = f32>| {
        problem.query_row(i).iter().zip(k).map(|(&a, b)| a as f32 * case.scale * b).sum::<f32>()
    };
    let logit = |i: usize, j: usize| dot(i, &mut problem.key_row(j).iter().map(|&x| x as f32));
    let stand_ins = off.and_then(|off| off.stand_ins.as_ref());
    let mut worst = 0.0f64;
    for i in 0..n {
        let on = |j: usize| dense.map_or(off.is_none(), |d| d[i * m + j]);
        // (log, sign·factor) of each entry.
        let entry = |j: usize| -> Vec<(f32, f32)> {
            if !problem.visible[i * m + j] {
                vec![]
            } else if on(j) {
                vec![(logit(i, j), 1.0)]
            } else if let Some((q, k)) = &mapped {
                let sign = |l: usize| {
                    if q.negative_row(i).is_some_and(|s| s[l]) != k.negative_row(j).is_some_and(|s| s[l]) {
                        -1.0
                    } else {
                        1.0
                    }
                };
                (0..q.n_features).map(|l| (q.row(i)[l] + k.row(j)[l], sign(l))).collect()
            } else if let Some(StandIns { keys, logs }) = stand_ins {
                let key = &keys[(i * m + j) * case.d..(i * m + j + 1) * case.d];
                vec![(dot(i, &mut key.iter().copied()) + logs[i * m + j], 1.0)]
            } else {
                vec![]
            }
        };
        let entries: Vec<Vec<(f32, f32)>> = (0..m).map(entry).collect();
        let top = entries.iter().flatten().map(|e| e.0).fold(f32::NEG_INFINITY, f32::max);
        if top == f32::NEG_INFINITY {
            continue;
        }
        let weights: Vec<f32> = entries.iter().map(|e| e.iter().map(|(l, s)| s * (l - top).exp()).sum()).collect();
        let sum: f32 = weights.iter().sum();
        let difference: f64 =
            (0..m).map(|j| (f64::from(weights[j] / sum) - estimate.normalised[i * m + j]).abs()).sum();
        worst = if relative_to[i] < UNDETERMINED { worst } else { worst.max(difference * relative_to[i]) };
    }
    worst
}

/// Odd shapes, groups, scales, all masks.
pub fn case() -> impl Strategy<Value = Case> {
    let sizes = (1usize..3, 1usize..3, 1usize..3, 1usize..150, 1usize..150, 1usize..12, 1usize..10);
    let numbers =
        (prop_oneof![Just(0.3f32), Just(1.0), Just(-0.5), Just(0.0)], prop_oneof![Just(0.5f32), Just(1.0), Just(2.0)]);
    let masks = (
        any::<bool>(),
        any::<bool>(),
        prop::option::of((0usize..90, 0usize..90, any::<bool>())),
        prop::bool::weighted(0.3),
    );
    (sizes, numbers, masks, any::<u64>()).prop_map(|(s, (scale, spread), (causal, lengths, window, boolean), seed)| {
        Case {
            batch: s.0,
            kv_heads: s.1,
            group: s.2,
            n: s.3,
            m: s.4,
            d: s.5,
            d_v: s.6,
            scale,
            spread,
            causal,
            lengths,
            window,
            boolean,
            seed,
        }
    })
}
