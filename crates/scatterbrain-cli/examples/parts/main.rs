//! Errors of supports and far fields that the library does not have, beside those that it has: what was measured before
//! they were left out. `parts [--heads N] FILE…`, the budget a sixteenth of the keys.
//!
//! A support of one's own and a feature map of one's own in some forty lines each.

#![allow(clippy::print_stdout, reason = "it is a program")]

mod best;
mod blocks;
mod capture;
mod per_axis;
mod sketch;
mod threshold;

use anyhow::{Context as _, Result};
use best::Best;
use blocks::{Blocks, Score};
use capture::{Capture, Fit};
use per_axis::PerAxis;
use scatterbrain_attention::blocks::{LocalSupport, TopK, Union};
use scatterbrain_attention::features::{
    CentroidBackground, Constant, FeatureBackground, FeatureMap, HyperbolicFeatures, OptimalPositiveFeatures,
    ProjectionKind, optimal_a,
};
use scatterbrain_attention::{ClusteredSupport, Method, QuantisedTopK, Seed};
use scatterbrain_core::tile::{Background, Support};
use sketch::{Sketch, Sketched};
use std::sync::Arc;
use threshold::{Rule, Threshold, at_count};

fn main() -> Result<()> {
    let mut heads = usize::MAX;
    let mut files = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--heads" => heads = arguments.next().context("--heads wants a number")?.parse()?,
            _ => files.push(argument),
        }
    }
    for file in files {
        let capture = Capture::read(&file, heads)?;
        let budget = capture.key[0].len() / capture.d / 16;
        println!("{file}, {} heads, budget {budget}", capture.query.len());
        for (name, support) in supports(budget)? {
            let far = Arc::new(centroids(budget)?);
            let (error, keys) =
                capture.measure(&|_| Ok(Method::scatterbrain_shared(support.clone(), far.clone())), false)?;
            println!("  {error:.4}  {keys:7.1} keys  {name}");
        }
        for (name, rule) in thresholds() {
            for far in [Some(Arc::new(centroids(budget)?)), None] {
                let with = |support: Arc<dyn Support>| {
                    let method = || match &far {
                        Some(far) => Method::scatterbrain_shared(support.clone(), far.clone()),
                        None => Method::sparse_shared(support.clone()),
                    };
                    capture.measure(&|_| Ok(method()), false)
                };
                let (error, keys) = match rule {
                    None => with(Arc::new(TopK::new(budget / 2)?))?,
                    Some(rule) => at_count(capture.keys_of(budget / 2), |log| with(Arc::new(Threshold { rule, log })))?,
                };
                println!("  {error:.4}  {keys:7.1} keys  {name}{}", if far.is_some() { "" } else { ", alone" });
            }
        }
        for (name, centred, far) in far_fields(budget) {
            let near = QuantisedTopK::new(budget / 2)?;
            let method = |fit: &Fit| Ok(Method::scatterbrain_shared(Arc::new(near), far(fit)?));
            let (error, _) = capture.measure(&method, centred)?;
            println!("  {error:.4}  {name}");
        }
    }
    Ok(())
}

fn centroids(budget: usize) -> Result<CentroidBackground> {
    Ok(CentroidBackground::new((budget / 4).max(1), Seed(0).derive(3))?)
}

/// All with half of the budget in keys, beside a quarter in centroids.
fn supports(budget: usize) -> Result<Vec<(String, Arc<dyn Support>)>> {
    let keys = budget / 2;
    let mut list: Vec<(String, Arc<dyn Support>)> = vec![
        ("largest quantised logits".into(), Arc::new(QuantisedTopK::new(keys)?)),
        ("clusters by centroid".into(), Arc::new(ClusteredSupport::new(keys, centroids(budget)?)?)),
    ];
    for (score, name) in [(Score::Mean, "mean"), (Score::Box, "box")] {
        for size in [16, 32, 64] {
            list.push((format!("blocks of {size} by {name}"), Arc::new(Blocks { score, size, keys, coarse: None })));
        }
        for factor in [2, 4, 8] {
            let blocks = Blocks { score, size: 16, keys: factor * keys, coarse: None };
            list.push((
                format!("{factor} times the keys in blocks of 16 by {name}, the best of them"),
                Arc::new(Best { of: Arc::new(blocks), keys }),
            ));
        }
        let blocks = Blocks { score, size: 16, keys: 4 * keys, coarse: Some((64, 8 * keys)) };
        list.push((
            format!("8 times the keys in blocks of 64 by {name}, 4 times in blocks of 16, the best of them"),
            Arc::new(Best { of: Arc::new(blocks), keys }),
        ));
    }
    for (name, kind) in
        [("4 bits", Sketched::FourBits), ("64 signs", Sketched::Signs(64)), ("256 signs", Sketched::Signs(256))]
    {
        for factor in [1, 2, 4, 8] {
            let sketch = Sketch { kind, keys: factor * keys };
            list.push((
                format!("{factor} times the keys by {name}, the best of them"),
                Arc::new(Best { of: Arc::new(sketch), keys }),
            ));
        }
    }
    for factor in [2, 4, 8] {
        let clusters = ClusteredSupport::new(factor * keys, centroids(budget)?)?;
        list.push((
            format!("{factor} times the keys in clusters by centroid, the best of them"),
            Arc::new(Best { of: Arc::new(clusters), keys }),
        ));
    }
    for (sinks, share) in [(4, 8), (4, 4), (4, 2), (0, 8)] {
        let near = keys / share;
        let parts: Vec<Arc<dyn Support>> = vec![
            Arc::new(LocalSupport::new(near)?.with_sinks(sinks)),
            Arc::new(QuantisedTopK::new(keys - near - sinks)?),
        ];
        list.push((
            format!("{sinks} first keys, a window of {near}, the largest others"),
            Arc::new(Union::new(parts)?),
        ));
    }
    Ok(list)
}

/// Exact logits; all with as many keys on average.
fn thresholds() -> [(&'static str, Option<Rule>); 3] {
    [
        ("the largest logits", None),
        ("the fewest keys of a mass", Some(Rule::Mass)),
        ("keys of more than a share of their row", Some(Rule::Share)),
    ]
}

type Far = Box<dyn Fn(&Fit) -> Result<Arc<dyn Background>>>;

/// All beside the largest quantised logits, with half of the budget; whether keys are centred and axes turned.
fn far_fields(budget: usize) -> Vec<(String, bool, Far)> {
    let count = (budget / 4 / 2 * 2).max(2);
    let map = |map: Arc<dyn FeatureMap>| -> Arc<dyn Background> { Arc::new(FeatureBackground::shared(map)) };
    let mut list: Vec<(String, bool, Far)> = vec![
        ("centroids".into(), false, Box::new(move |_| Ok(Arc::new(centroids(budget)?)))),
        ("the mean value".into(), false, Box::new(move |fit| Ok(map(Arc::new(Constant::new(fit.d())?))))),
    ];
    let kind = ProjectionKind::Orthogonal;
    for (name, centred) in [("", false), (", centred", true)] {
        let hyperbolic = move |fit: &Fit| Ok(map(Arc::new(HyperbolicFeatures::sample(fit.d(), count, kind, Seed(2))?)));
        let oprf = move |fit: &Fit| {
            let a = optimal_a(fit.axes.iter().sum(), fit.d())?;
            Ok(map(Arc::new(OptimalPositiveFeatures::sample(fit.d(), count, kind, a, Seed(2))?)))
        };
        list.push((format!("{count} hyperbolic features{name}"), centred, Box::new(hyperbolic)));
        list.push((format!("{count} OPRF{name}"), centred, Box::new(oprf)));
        let sderf = move |fit: &Fit| Ok(map(Arc::new(PerAxis::sample(fit, count, None)?)));
        list.push((format!("{count} SDERF{name}"), centred, Box::new(sderf)));
    }
    for share in [0.25, 0.5, 0.75, 0.9] {
        let shrunk = move |fit: &Fit| Ok(map(Arc::new(PerAxis::sample(fit, count, Some(share))?)));
        list.push((format!("{count} SDERF, centred, {share} of the way to one centroid"), true, Box::new(shrunk)));
    }
    list.push(("one centroid".into(), false, Box::new(|_| Ok(Arc::new(CentroidBackground::new(1, Seed(0))?)))));
    list
}
