//! How a head may be computed, as a value to store: what a planner chooses from.

use super::cost::Shape;
use crate::hashed::QuantisedTopK;
use crate::inverted::InvertedFileSupport;
use crate::method::Parts;
use crate::scan::ScanBackground;
use scatterbrain_blocks::LocalSupport;
use scatterbrain_core::tile::{Background, Support};
use scatterbrain_core::{Error, Result, Seed};
use scatterbrain_features::{CentroidBackground, Constant, FeatureBackground, SampledMassBackground};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Keys that know the mass of what an inverted file leaves: with twice as many, errors were a tenth less.
pub(crate) const MASS_SAMPLES: usize = 128;

/// A method of one head with its parameters. All are strictly causal.
///
/// | configuration | exact on | background | units |
/// |---|---|---|---|
/// | `Exact` | every visible pair | – | – |
/// | `Uniform` | – | mean of visible values | 2 |
/// | `Centroids` | – | C cluster centroids | 2C |
/// | `Window` | a window of b keys, the first s keys | centroids of C blocks of keys, if any | b + s + 2C |
/// | `QuantisedTopK` | the b largest logits of quantised rows | C centroids, if any | b + 2C |
/// | `InvertedFile` | b keys of the clusters that matter most to a row | mean of the values, its mass by 128 sampled keys | b + 130 |
/// | `Scan` | pairs of more than 1/b of their row | all other pairs in 8 bits | 2b |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Config {
    /// Exact attention.
    Exact,
    /// The mean of the visible values.
    Uniform,
    /// Centroids of keys alone ([`CentroidBackground`]).
    Centroids {
        /// Clusters of keys.
        centroids: usize,
    },
    /// A sliding window with sinks ([`LocalSupport`]).
    Window {
        /// Keys of the window.
        keys: usize,
        /// First keys beside it.
        sinks: usize,
        /// Blocks of consecutive keys for the others; 0: none.
        centroids: usize,
    },
    /// The largest logits by a scan of quantised keys ([`QuantisedTopK`]).
    #[serde(rename = "quantised-topk")]
    QuantisedTopK {
        /// Keys of a row.
        keys: usize,
        /// Clusters of keys for the others; 0: none.
        centroids: usize,
    },
    /// Keys of the clusters that matter to a row ([`InvertedFileSupport`]), and the sampled mass of the others
    /// ([`SampledMassBackground`]).
    InvertedFile {
        /// Keys of a row, at most.
        keys: usize,
        /// Clusters of keys.
        clusters: usize,
    },
    /// All pairs in 8 bits, the heavy ones exactly ([`ScanBackground`]).
    Scan {
        /// A pair of more than 1/keys of its row is heavy; so at most twice as many are, and mostly far fewer.
        keys: usize,
        /// Steps of a share.
        steps: u8,
    },
}

/// Rows, keys and clusters of a call are fewer.
pub(super) const MOST_COUNT: usize = u32::MAX as usize / 2;

/// What of a call decides how a configuration is built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub head_dim: usize,
    pub seed: Seed,
}

/// What stands for the keys off the support. Equal ones are shared by the heads of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
enum FarField {
    Mean,
    Centroids(usize),
    Blocks(usize),
    Mass,
    Scan { keys: usize, steps: u8 },
}

impl Config {
    /// What kind it is, without its numbers, as in a stored plan.
    ///
    /// ```
    /// use scatterbrain_combine::plan::Config;
    /// assert_eq!(Config::Scan { keys: 8, steps: 127 }.name(), "scan");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Config::Exact => "exact",
            Config::Uniform => "uniform",
            Config::Centroids { .. } => "centroids",
            Config::Window { .. } => "window",
            Config::QuantisedTopK { .. } => "quantised-topk",
            Config::InvertedFile { .. } => "inverted-file",
            Config::Scan { .. } => "scan",
        }
    }

    /// The most that a query may pay; `None`: every key that it sees.
    pub fn units(self) -> Option<usize> {
        let far = match self.far_field() {
            None => 0,
            Some(FarField::Mean) => 2,
            Some(FarField::Mass) => MASS_SAMPLES + 2,
            Some(FarField::Scan { keys, .. }) => keys.saturating_mul(2),
            Some(FarField::Centroids(count) | FarField::Blocks(count)) => count.saturating_mul(2),
        };
        Some(far.saturating_add(self.keys()?))
    }

    /// Keys on the support; `None`: all.
    pub(crate) fn keys(self) -> Option<usize> {
        match self {
            Config::Exact => None,
            Config::Uniform | Config::Centroids { .. } | Config::Scan { .. } => Some(0),
            Config::Window { keys, sinks, .. } => Some(keys.saturating_add(sinks)),
            Config::QuantisedTopK { keys, .. } | Config::InvertedFile { keys, .. } => Some(keys),
        }
    }

    /// Whether every pair is looked at in 8 bits.
    pub(super) fn is_scan(self) -> bool {
        matches!(self, Config::Scan { .. })
    }

    /// Clusters of keys.
    pub(crate) fn centroids(self) -> usize {
        match self {
            Config::Exact | Config::Uniform | Config::Scan { .. } | Config::InvertedFile { .. } => 0,
            Config::Centroids { centroids }
            | Config::Window { centroids, .. }
            | Config::QuantisedTopK { centroids, .. } => centroids,
        }
    }

    /// Whether the background's totals ask that the rows of a tile be neighbours.
    pub(crate) fn wants_neighbours(self) -> bool {
        self.far_field() == Some(FarField::Mean)
    }

    fn far_field(self) -> Option<FarField> {
        match self {
            Config::Uniform => Some(FarField::Mean),
            Config::InvertedFile { .. } => Some(FarField::Mass),
            Config::Scan { keys, steps } => Some(FarField::Scan { keys, steps }),
            _ if self.centroids() == 0 => None,
            Config::Window { centroids, .. } => Some(FarField::Blocks(centroids)),
            _ => Some(FarField::Centroids(self.centroids())),
        }
    }

    /// Refuses what no planner writes.
    pub(crate) fn check(self) -> Result<()> {
        let checked = |name, least, count| match (least..=MOST_COUNT).contains(&count) {
            true => Ok(()),
            false => Err(Error::invalid(name, format!("{least} to {MOST_COUNT}"), count)),
        };
        match self {
            Config::Exact | Config::Uniform => Ok(()),
            Config::Centroids { centroids } => checked("plan.centroids", 1, centroids),
            Config::Scan { keys, steps } => scan(keys, steps).map(drop),
            Config::Window { keys, sinks, centroids } => checked("plan.keys", 1, keys)
                .and(checked("plan.sinks", 0, sinks))
                .and(checked("plan.centroids", 0, centroids)),
            Config::QuantisedTopK { keys, centroids } => {
                checked("plan.keys", 1, keys).and(checked("plan.centroids", 0, centroids))
            }
            Config::InvertedFile { keys, clusters } => {
                checked("plan.keys", 1, keys).and(checked("plan.clusters", 1, clusters))
            }
        }
    }

    /// The configuration for one shape, where it was chosen for another: with more keys in proportion more clusters, where
    /// rows see more keys in proportion more of them, and with fewer as many, as far as they are there.
    pub(crate) fn at(self, shape: &Shape, planned: &Shape) -> Self {
        let grown =
            |count: usize, factor: f64, most: usize| ((count as f64 * factor.max(1.0)).round() as usize).min(most);
        let fit = |count| grown(count, shape.m as f64 / planned.m as f64, shape.m);
        let fit_keys = |keys| grown(keys, shape.seen() / planned.seen(), shape.m);
        match self {
            // A share of the row is what it is, however many keys there are.
            Config::Exact | Config::Uniform | Config::Scan { .. } => self,
            Config::Centroids { centroids } => Config::Centroids { centroids: fit(centroids) },
            Config::Window { keys, sinks, centroids } => {
                // Of a window around a row half of the keys may be behind the last.
                let keys = grown(keys, shape.seen() / planned.seen(), 2 * shape.m);
                Config::Window { keys, sinks: sinks.min(shape.m), centroids: fit(centroids) }
            }
            Config::QuantisedTopK { keys, centroids } => {
                Config::QuantisedTopK { keys: fit_keys(keys), centroids: fit(centroids) }
            }
            Config::InvertedFile { keys, clusters } => {
                Config::InvertedFile { keys: fit_keys(keys), clusters: fit(clusters) }
            }
        }
    }

    fn support(self, setting: &Setting) -> Result<Option<Arc<dyn Support>>> {
        Ok(match self {
            Config::Exact => Parts::exact().support,
            Config::Uniform | Config::Centroids { .. } | Config::Scan { .. } => None,
            Config::Window { keys, sinks, .. } => Some(Arc::new(LocalSupport::new(keys)?.with_sinks(sinks))),
            Config::QuantisedTopK { keys, .. } => Some(Arc::new(QuantisedTopK::new(keys)?)),
            Config::InvertedFile { keys, clusters } => {
                Some(Arc::new(InvertedFileSupport::new(keys)?.with_clusters(clusters)?.with_seed(setting.seed)))
            }
        })
    }
}

impl FarField {
    fn background(self, setting: &Setting) -> Result<Arc<dyn Background>> {
        Ok(match self {
            FarField::Mean => Arc::new(FeatureBackground::new(Constant::new(setting.head_dim)?)),
            FarField::Centroids(count) => Arc::new(CentroidBackground::new(count, setting.seed)?),
            FarField::Blocks(count) => Arc::new(CentroidBackground::of_blocks(count)?),
            FarField::Mass => Arc::new(SampledMassBackground::new(MASS_SAMPLES, setting.seed)?),
            FarField::Scan { keys, steps } => Arc::new(scan(keys, steps)?),
        })
    }
}

fn scan(keys: usize, steps: u8) -> Result<ScanBackground> {
    let named = |error: Error| match error {
        Error::Invalid { expected, got, .. } => Error::invalid("plan.scan", expected, got),
        other => other,
    };
    ScanBackground::new(1.0 / keys as f32).and_then(|scan| scan.with_steps(steps)).map_err(named)
}

/// Supports and backgrounds of configurations, equal backgrounds being one.
///
/// # Errors
/// Counts of 0.
pub(crate) fn parts(configs: &[Config], setting: &Setting) -> Result<Vec<Parts>> {
    let mut known: Vec<(FarField, Arc<dyn Background>)> = Vec::new();
    let mut background = |far: FarField| {
        if let Some((_, background)) = known.iter().find(|(f, _)| *f == far) {
            return Ok(background.clone());
        }
        let background = far.background(setting)?;
        known.push((far, background.clone()));
        Ok(background)
    };
    let one = |config: &Config| {
        let background = config.far_field().map(&mut background).transpose()?;
        Ok(Parts { support: config.support(setting)?, background })
    };
    configs.iter().map(one).collect()
}
