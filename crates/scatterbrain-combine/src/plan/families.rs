//! What a plan may choose from.

use super::Request;
use super::config::Config;
use super::cost::Shape;

/// Sinks of a window.
const SINKS: usize = 4;
/// The narrowest window.
const NARROW: usize = 64;
/// From so many keys on windows are tried without centroids too.
pub(super) const LONG: usize = 16384;
/// From so many keys on inverted files are tried.
const MANY: usize = 4096;
/// Keys a cluster of an inverted file.
const FILED: usize = 32;
/// Keys that a row reads of one, and bounds of errors on the clustered process.
const FILES: [(usize, f64); 4] = [(128, 0.03), (256, 0.025), (1024, 0.015), (4096, 0.008)];
/// Centroids beside a window.
const CENTROIDS: usize = 32;
/// Heavy shares and their steps, from cheap to dear, and bounds of errors as captures mostly have them: where to begin. An
/// error is nearly that of one step, and of two ways to the same step the one with more steps leaves fewer keys exact.
const SCANS: [(usize, u8, f64); 7] = [
    (4, 63, 0.075),
    (4, 127, 0.042),
    (8, 127, 0.025),
    (16, 127, 0.014),
    (32, 127, 0.009),
    (64, 127, 0.0055),
    (256, 127, 0.003),
];
/// One of them.
pub(super) const SCAN: Config = Config::Scan { keys: SCANS[0].0, steps: SCANS[0].1 };

/// Configurations that differ in one parameter, from cheap to dear: their errors fall.
pub(super) struct Family {
    pub configs: Vec<Config>,
    /// Bounds of errors as they mostly are; none: nothing is known of them.
    pub expected: Vec<f64>,
    /// Whether only flat rows have a small error by it.
    pub flat: bool,
}

impl Family {
    fn new(configs: impl IntoIterator<Item = Config>) -> Self {
        Family { configs: configs.into_iter().collect(), expected: Vec::new(), flat: false }
    }

    fn scans() -> Self {
        let expected = SCANS.iter().map(|scan| scan.2).collect();
        Family { expected, ..Self::new(SCANS.map(|(keys, steps, _)| Config::Scan { keys, steps })) }
    }

    fn files(clusters: usize) -> Self {
        let expected = FILES.iter().map(|file| file.1).collect();
        Family { expected, ..Self::new(FILES.map(|(keys, _)| Config::InvertedFile { keys, clusters })) }
    }

    fn flat(configs: impl IntoIterator<Item = Config>) -> Self {
        Family { flat: true, ..Self::new(configs) }
    }
}

/// What may be chosen from.
pub(super) fn families(request: Request, shape: &Shape) -> Vec<Family> {
    let m = shape.m;
    let families = match request {
        Request::Units(units) => within(units.min(m)),
        Request::Error(_) | Request::Time(_) => {
            let part = |share: f64| ((m as f64 * share).round() as usize).max(1);
            // From m/64 to m/4, two steps a factor of two; windows of long inputs from as few keys as those of short ones.
            let keys = || (0..=8).map(|step| part(2f64.powf(f64::from(step) / 2.0) / 64.0));
            let windows = |centroids| {
                let narrower =
                    (1..32).map(|step| (m as f64 / 64.0 / 2f64.powf(f64::from(step) / 2.0)).round() as usize);
                let narrow: Vec<usize> = narrower.take_while(|&keys| keys >= NARROW).collect();
                let keys = narrow.into_iter().rev().chain(keys());
                Family::new(keys.map(move |keys| Config::Window { keys, sinks: SINKS, centroids }))
            };
            let centroids = [CENTROIDS, 4 * CENTROIDS].map(|centroids| Config::Centroids { centroids });
            // A row goes through the keys of a block's ragged end: on long inputs more than a narrow window has.
            let alone = if m >= LONG { Some(windows(0)) } else { None };
            let windows = alone.into_iter().chain([windows(CENTROIDS)]);
            let files = if m >= MANY { Some(Family::files(m / FILED)) } else { None };
            let others = [
                Family::scans(),
                Family::flat([Config::Uniform]),
                Family::flat(centroids),
                Family::new(keys().map(|keys| Config::QuantisedTopK { keys, centroids: CENTROIDS })),
            ];
            windows.chain(files).chain(others).collect()
        }
    };
    // Of families that expect errors, scans and files, all fit, so that `expected` stays beside `configs`.
    let fits = |config: &Config| config.keys().is_some_and(|keys| keys <= m) && config.centroids() <= m / 2;
    let fitting = |family: Family| Family { configs: family.configs.into_iter().filter(fits).collect(), ..family };
    families.into_iter().map(fitting).collect()
}

/// Splits of a budget in units.
fn within(units: usize) -> Vec<Family> {
    let sixteenths = |part: usize| units * part / 16;
    let split = |part: usize| {
        let centroids = sixteenths(part);
        let keys = units - 2 * centroids;
        let window = Config::Window { keys: keys.saturating_sub(SINKS), sinks: SINKS.min(keys - 1), centroids };
        [Config::QuantisedTopK { keys, centroids }, window]
    };
    let splits = [0, 1, 2, 4, 6].into_iter().flat_map(split);
    let alone = [Config::Uniform, Config::Centroids { centroids: units / 2 }];
    // The scan comes first: it mostly errs least, and what comes later may be left out.
    let scan = Config::Scan { keys: units / 2, steps: 127 };
    let all = [scan].into_iter().chain(splits).chain(alone).filter(|config| config.check().is_ok());
    vec![Family::new(all.filter(|config| config.units().is_some_and(|u| u <= units)))]
}
