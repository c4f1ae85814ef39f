//! Writes an input of the clustered process for `compare`: one head, causal, cluster after cluster or in random order.
//!
//! `clustered N OUT.safetensors [--members M] [--spread D] [--beta B] [--seed S] [--shuffle]`; a logit is β·q·k,
//! β = 2 ln(n)/√d where not given.

use anyhow::{Context as _, Result, bail, ensure};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use scatterbrain_attention::Seed;
use scatterbrain_theory::ClusteredProcess;
use std::collections::HashMap;

const HEAD_DIM: usize = 64;

fn main() -> Result<()> {
    let (mut members, mut spread, mut beta, mut seed) = (64usize, 0.3f64, None, 0u64);
    let (mut plain, mut shuffle) = (Vec::new(), false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--members" => members = value()?.parse()?,
            "--spread" => spread = value()?.parse()?,
            "--beta" => beta = Some(value()?.parse()?),
            "--seed" => seed = value()?.parse()?,
            "--shuffle" => shuffle = true,
            _ => plain.push(argument),
        }
    }
    let [n, out] = &plain[..] else { bail!("clustered N OUT.safetensors") };
    let n: usize = n.parse().context("N")?;
    ensure!(members > 0 && n.is_multiple_of(members), "N must be a multiple of --members");
    let beta: f64 = beta.unwrap_or(2.0 * (n as f64).ln() / (HEAD_DIM as f64).sqrt());
    let process = ClusteredProcess { clusters: n / members, members, head_dim: HEAD_DIM, spread };
    let rows = process.sample(seed)?;
    let order = if shuffle { shuffled(n, Seed(seed).derive(1)) } else { (0..n).collect() };
    let in_order = |rows: &[f64]| -> Vec<u8> {
        order
            .iter()
            .flat_map(|&i| &rows[i * HEAD_DIM..(i + 1) * HEAD_DIM])
            .flat_map(|&x| (x as f32).to_le_bytes())
            .collect()
    };
    let (query, key) = (in_order(&rows.query), in_order(&rows.key));
    let value: Vec<u8> =
        Seed(seed).derive(2).stream(0).normals(n * HEAD_DIM).iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = |data| TensorView::new(Dtype::F32, vec![1, 1, n, HEAD_DIM], data);
    let tensors = [("query", view(&query)?), ("key", view(&key)?), ("value", view(&value)?)];
    let metadata = [("causal", "true".to_string()), ("scale", beta.to_string())];
    let metadata: HashMap<String, String> = metadata.map(|(name, text)| (name.to_string(), text)).into();
    std::fs::write(out, safetensors::serialize(tensors, Some(metadata))?).with_context(|| out.clone())
}

/// Places in random order, by Fisher and Yates.
fn shuffled(n: usize, seed: Seed) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut rng = seed.stream(0);
    for last in (1..n).rev() {
        order.swap(last, rng.below(last as u64 + 1) as usize);
    }
    order
}
