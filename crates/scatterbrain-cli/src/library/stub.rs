//! Until the facade lands: every preset is exact attention, but `uniform`, which is the mean.

use super::{Error, Level, Mask, Seed, Tensor};
use scatterbrain_core::tile::Causality;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Preset {
    Exact,
    Uniform,
    Local,
    TopK,
    Smyrf,
    Reformer,
    Performer,
    Linear,
    Average,
    ScatterbrainLocal,
    ScatterbrainSmyrf,
}

impl Preset {
    pub(crate) const ALL: [Preset; 11] = [
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
    ];

    pub(crate) fn name(self) -> &'static str {
        const NAMES: [&str; 11] = [
            "exact",
            "uniform",
            "local",
            "topk",
            "smyrf",
            "reformer",
            "performer",
            "linear",
            "average",
            "scatterbrain-local",
            "scatterbrain-smyrf",
        ];
        NAMES[self as usize]
    }

    pub(crate) fn from_name(name: &str) -> Option<Preset> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    pub(crate) fn method(self, budget: usize, _: usize, _: Seed, _: bool) -> Result<Method, Error> {
        Ok(Method { preset: self, budget })
    }
}

pub(crate) struct Method {
    preset: Preset,
    budget: usize,
}

impl Method {
    pub(crate) fn units(&self) -> Option<usize> {
        (self.preset != Preset::Exact).then_some(self.budget)
    }

    pub(crate) fn causality(&self) -> Causality {
        match self.preset {
            Preset::Smyrf | Preset::Reformer | Preset::Average | Preset::ScatterbrainSmyrf => {
                Causality::SelectionSeesFuture
            }
            _ => Causality::Strict,
        }
    }
}

#[derive(Default)]
pub(crate) struct Options {
    pub(crate) scale: Option<f32>,
    pub(crate) log_sum_exp: bool,
    #[allow(dead_code, reason = "as in the facade")]
    pub(crate) level: Option<Level>,
}

pub(crate) struct Attention {
    pub(crate) output: Vec<f32>,
    pub(crate) log_sum_exp: Option<Vec<f32>>,
}

pub(crate) struct Report {
    pub(crate) setup_seconds: f64,
    pub(crate) share: f64,
}

pub(crate) fn attend(
    query: &Tensor<'_>,
    key: &Tensor<'_>,
    value: &Tensor<'_>,
    mask: &Mask<'_>,
    method: &Method,
    options: &Options,
) -> Result<Attention, Error> {
    let [b, h, n, _] = query.shape();
    let mut output = vec![0.0; b * h * n * value.shape()[3]];
    let mut lse = vec![f32::NEG_INFINITY; b * h * n];
    run(query, key, value, mask, method, options, &mut output, &mut lse)?;
    Ok(Attention { output, log_sum_exp: options.log_sum_exp.then_some(lse) })
}

pub(crate) fn attend_into(
    query: &Tensor<'_>,
    key: &Tensor<'_>,
    value: &Tensor<'_>,
    mask: &Mask<'_>,
    method: &Method,
    options: &Options,
    output: &mut [f32],
) -> Result<Report, Error> {
    let [b, h, n, _] = query.shape();
    let mut lse = vec![0.0; b * h * n];
    run(query, key, value, mask, method, options, output, &mut lse)?;
    Ok(Report { setup_seconds: 0.0, share: 1.0 })
}

#[allow(clippy::too_many_arguments, reason = "a stub")]
fn run(
    query: &Tensor<'_>,
    key: &Tensor<'_>,
    value: &Tensor<'_>,
    mask: &Mask<'_>,
    method: &Method,
    options: &Options,
    output: &mut [f32],
    lse: &mut [f32],
) -> Result<(), Error> {
    let ([b, h, n, d], [_, kv, m, _], [_, _, _, d_v]) = (query.shape(), key.shape(), value.shape());
    mask.check(b, h, n, m)?;
    let scale = options.scale.unwrap_or(1.0 / (d as f32).sqrt());
    for (head, out) in output.chunks_exact_mut(n * d_v).enumerate() {
        let (bi, hi) = (head / h, head % h);
        let (q, k, v) = (query.head(bi, hi), key.head(bi, hi / (h / kv)), value.head(bi, hi / (h / kv)));
        let visible = mask.head(bi, hi, n, m);
        for i in 0..n {
            let logit = |j: usize| -> f32 {
                let dot: f32 = q.matrix().row(i).iter().zip(k.matrix().row(j)).map(|(a, b)| a * b).sum();
                if method.preset == Preset::Uniform { 0.0 } else { scale * dot }
            };
            let keys: Vec<usize> = visible.range(i).filter(|&j| visible.sees(i, j)).collect();
            let logits: Vec<f32> = keys.iter().map(|&j| logit(j)).collect();
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f32 = logits.iter().map(|l| (l - top).exp()).sum();
            let row = &mut out[i * d_v..(i + 1) * d_v];
            row.fill(0.0);
            for (&j, l) in keys.iter().zip(&logits) {
                let w = (l - top).exp() / total;
                row.iter_mut().zip(v.matrix().row(j)).for_each(|(o, v)| *o += w * v);
            }
            lse[head * n + i] = if keys.is_empty() { f32::NEG_INFINITY } else { top + total.ln() };
        }
    }
    Ok(())
}
