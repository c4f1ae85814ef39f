//! Which methods of the library reproduce which variant of the authors' code.

use super::call::Call;
use crate::stored::File;
use anyhow::{Context, Result, bail, ensure};
use scatterbrain_blocks::{Clusters, Round, WindowSupport};
use scatterbrain_combine::{ClusterSupport, Method};
use scatterbrain_core::WindowAlign;
use scatterbrain_core::tile::Causality;
use scatterbrain_features::{EluFeatures, FeatureBackground, HyperbolicFeatures, PositiveFeatures, Projection};

/// Methods for one stored call, or for one head of it.
#[derive(Default)]
pub(crate) struct Plan {
    /// What the file's output is; several methods are joined.
    pub(crate) parts: Vec<Method>,
    /// Its support alone.
    pub(crate) support: Option<Method>,
    /// The support of each hash alone.
    pub(crate) rounds: Vec<Method>,
    /// Its background alone.
    pub(crate) background: Option<Method>,
}

/// A call and the plan for it.
pub(crate) type Step = (Call, Plan);

/// Steps whose results, one after the other, are the file's tensors.
pub(crate) fn steps(file: &File) -> Result<Vec<Step>> {
    let call = Call::read(file)?;
    match file.parameter::<String>("variant")?.as_str() {
        "local" => Ok(vec![(call, window(file, None)?)]),
        "sblocal" => {
            let features = features(file, &call)?;
            Ok(vec![(call, window(file, Some(features))?)])
        }
        "performer" => {
            let features = features(file, &call)?;
            Ok(vec![(call, low_rank(features))])
        }
        "linear" => {
            let features = FeatureBackground::new(EluFeatures::new(call.d)?);
            Ok(vec![(call, low_rank(features))])
        }
        "smyrf" => by_head(&call, |head| smyrf(file, &call, head, None)),
        "sbsmyrf" => {
            let features = features(file, &call)?;
            by_head(&call, |head| smyrf(file, &call, head, Some(&features)))
        }
        "reformer" => {
            let call = reformer_inputs(call)?;
            by_head(&call, |head| reformer(file, &call, head))
        }
        other => bail!("unknown variant `{other}`"),
    }
}

/// Positions differ by head, and a [`ClusterSupport`] is for one.
fn by_head(call: &Call, plan: impl Fn(usize) -> Result<Plan>) -> Result<Vec<Step>> {
    (0..call.batch * call.heads).map(|head| Ok((call.head(head), plan(head)?))).collect()
}

fn window(file: &File, background: Option<FeatureBackground>) -> Result<Plan> {
    let support = WindowSupport::around(file.parameter("local_context")?)?.align(WindowAlign::Start);
    let alone = Method::sparse(support);
    let method = background.clone().map_or(alone.clone(), |b| Method::scatterbrain(support, b));
    Ok(Plan {
        parts: vec![method],
        support: Some(alone),
        rounds: Vec::new(),
        background: background.map(Method::low_rank),
    })
}

fn low_rank(background: FeatureBackground) -> Plan {
    let method = Method::low_rank(background);
    Plan { parts: vec![method.clone()], background: Some(method), ..Plan::default() }
}

fn features(file: &File, call: &Call) -> Result<FeatureBackground> {
    let [rows, columns] = file.shape("projection_matrix")?;
    ensure!(columns == call.d, "`projection_matrix` has {columns} columns for rows of {}", call.d);
    let projection = Projection::from_parts(file.floats("projection_matrix", &[rows, columns])?, rows, columns)?;
    let stated: usize = file.parameter("nb_features")?;
    let cosh: bool = file.parameter("cosh")?;
    let stored = if cosh { 2 * rows } else { rows };
    ensure!(stated == stored, "{stated} features are stated, {stored} projections stored");
    Ok(match cosh {
        true => FeatureBackground::new(HyperbolicFeatures::from_projection(projection)),
        false => FeatureBackground::new(PositiveFeatures::from_projection(projection)),
    })
}

/// A hash's positions of one head.
fn positions(file: &File, name: &str, heads: usize, hashes: usize, head: usize) -> Result<Vec<Vec<u32>>> {
    let [stored_hashes, stored_heads, padded] = file.shape(name)?;
    ensure!(
        stored_hashes == hashes && stored_heads == heads,
        "`{name}` is for {stored_hashes} hashes of {stored_heads} heads"
    );
    let all = file.indices(name, &[hashes, heads, padded])?;
    Ok((0..hashes).map(|h| all[(h * heads + head) * padded..][..padded].to_vec()).collect())
}

/// SMYRF's clusters. With a background a pair that meets in several hashes counts once, without it as often.
fn smyrf(file: &File, call: &Call, head: usize, background: Option<&FeatureBackground>) -> Result<Plan> {
    let (heads, hashes) = (call.batch * call.heads, file.parameter("n_hashes")?);
    let query = positions(file, "q_positions", heads, hashes, head)?;
    let key = positions(file, "k_positions", heads, hashes, head)?;
    let (query_size, key_size) = (file.parameter("q_cluster_size")?, file.parameter("k_cluster_size")?);
    let round = |(q, k): (&Vec<u32>, &Vec<u32>)| Round::from_orders(q, query_size, call.n, k, key_size, call.m);
    let rounds = query.iter().zip(&key).map(round).collect::<Result<Vec<_>, _>>()?;
    hashed(rounds, false, background)
}

/// Reformer's chunks; a pair counts as often as it meets.
fn reformer(file: &File, call: &Call, head: usize) -> Result<Plan> {
    let (heads, hashes) = (call.batch * call.heads, file.parameter("n_hashes")?);
    let size = file.parameter("bucket_size")?;
    let orders = positions(file, "perm", heads, hashes, head)?;
    let round = |order: &Vec<u32>| Round::from_orders(order, size, call.n, order, size, call.m);
    hashed(orders.iter().map(round).collect::<Result<Vec<_>, _>>()?, true, None)
}

fn hashed(rounds: Vec<Round>, lookback: bool, background: Option<&FeatureBackground>) -> Result<Plan> {
    let support = |rounds: Vec<Round>| -> Result<ClusterSupport> {
        Ok(ClusterSupport::new(Clusters::new(rounds, lookback)?, Causality::SelectionSeesFuture))
    };
    let alone: Vec<Method> =
        rounds.iter().map(|r| Ok(Method::sparse(support(vec![r.clone()])?))).collect::<Result<_>>()?;
    let all = support(rounds)?;
    let parts = match background {
        Some(b) => vec![Method::scatterbrain(all.clone(), b.clone())],
        None => alone.clone(),
    };
    let background = background.map(|b| Method::low_rank(b.clone()));
    Ok(Plan { parts, support: Some(Method::sparse(all)), rounds: alone, background })
}

/// Queries are the keys, keys have length one, and nobody attends to itself.
fn reformer_inputs(mut call: Call) -> Result<Call> {
    ensure!(call.n == call.m, "reformer has {} queries for {} keys", call.n, call.m);
    for row in call.key.chunks_exact_mut(call.d) {
        let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
    let size = call.n.checked_mul(call.m).context("too many pairs")?;
    call.allowed = Some((0..size).map(|at| u8::from(at / call.m != at % call.m)).collect());
    Ok(call)
}
