//! Layers of the reference, and weights for it: plain loops in f64.

use super::{Rows, attention, numbers};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use scatterbrain_attention::{Method, blocks::Full, features::Constant, features::FeatureBackground};
use scatterbrain_candle::{Attend, Inputs, ScatterbrainAttention, Site};
use std::collections::HashMap;

/// Weights of a model by published name.
pub struct Weights(pub HashMap<String, Tensor>);

impl Weights {
    /// Random weights; what scales or normalises is around one, so that nothing vanishes.
    pub fn random(shapes: &[(String, Vec<usize>)]) -> Result<Weights> {
        let tensor = |i: usize, (name, shape): &(String, Vec<usize>)| -> Result<(String, Tensor)> {
            let count = shape.iter().product();
            let near_one =
                ["norm1.weight", "norm2.weight", "norm.weight", "gamma", "running_var", "lambda1", "bn1.weight"];
            let one = near_one.iter().any(|end| name.ends_with(end));
            let value = |x: f32| if one { 1.0 + 0.3 * x } else { 0.6 * x };
            let values: Vec<f32> = numbers(count, i as u64 + 1).into_iter().map(value).collect();
            Ok((name.clone(), Tensor::from_vec(values, shape.clone(), &Device::Cpu)?))
        };
        Ok(Weights(shapes.iter().enumerate().map(|(i, shape)| tensor(i, shape)).collect::<Result<_>>()?))
    }

    pub fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_tensors(self.0.clone(), DType::F32, &Device::Cpu)
    }

    /// A tensor as rows of its last dimension.
    pub fn rows(&self, name: &str) -> Rows {
        let tensor = &self.0[name];
        let columns = *tensor.dims().last().unwrap();
        tensor.to_dtype(DType::F64).unwrap().reshape(((), columns)).unwrap().to_vec2().unwrap()
    }

    pub fn flat(&self, name: &str) -> Vec<f64> {
        self.0[name].to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Fails unless a model refuses each tensor that is missing or of another shape, by name.
    pub fn check_names<M>(&self, load: impl Fn(VarBuilder<'static>) -> Result<M>) -> Result<()> {
        for name in self.0.keys() {
            let mut missing = self.0.clone();
            missing.remove(name);
            let mut reshaped = self.0.clone();
            let longer = Tensor::cat(&[&self.0[name], &self.0[name]], 0)?;
            reshaped.insert(name.clone(), longer);
            for tensors in [missing, reshaped] {
                match load(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)) {
                    Ok(_) => panic!("{name} was not missed"),
                    Err(error) => assert!(error.to_string().contains(name.as_str()), "{name}: {error}"),
                }
            }
        }
        Ok(())
    }
}

/// `x wᵀ + b`.
pub fn linear(x: &Rows, weight: &Rows, bias: Option<&[f64]>) -> Rows {
    let entry = |row: &Vec<f64>, i: usize| {
        bias.map_or(0.0, |b| b[i]) + row.iter().zip(&weight[i]).map(|(x, w)| x * w).sum::<f64>()
    };
    x.iter().map(|row| (0..weight.len()).map(|i| entry(row, i)).collect()).collect()
}

pub fn layer_norm(x: &Rows, weight: &[f64], bias: &[f64], epsilon: f64) -> Rows {
    let normalise = |row: &Vec<f64>| {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / row.len() as f64;
        let entry = |i: usize| (row[i] - mean) / (variance + epsilon).sqrt() * weight[i] + bias[i];
        (0..row.len()).map(entry).collect()
    };
    x.iter().map(normalise).collect()
}

/// `x Φ(x)`.
pub fn gelu(x: &Rows) -> Rows {
    let one = |x: &f64| 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()));
    x.iter().map(|row| row.iter().map(one).collect()).collect()
}

pub fn plus(a: &Rows, b: &Rows) -> Rows {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

/// Attention of heads that lie side by side in the columns; the last query stands at the last key.
pub fn multi_head(q: &Rows, k: &Rows, v: &Rows, heads: usize, scale: f64, causal: bool) -> Rows {
    let part = |x: &Rows, h: usize| -> Rows {
        let d = x[0].len() / heads;
        x.iter().map(|row| row[h * d..(h + 1) * d].to_vec()).collect()
    };
    let mut output = vec![Vec::new(); q.len()];
    let shift = k.len() - q.len().min(k.len());
    for h in 0..heads {
        let head = attention(&part(q, h), &part(k, h), &part(v, h), scale, |i, j| !causal || j <= i + shift);
        output.iter_mut().zip(head).for_each(|(row, part)| row.extend(part));
    }
    output
}

/// Columns `from..to`.
pub fn columns(x: &Rows, from: usize, to: usize) -> Rows {
    x.iter().map(|row| row[from..to].to_vec()).collect()
}

/// Exact attention by way of a support of all pairs over a background, which all is subtracted from.
pub struct FullSupport;

impl Attend for FullSupport {
    fn attend(&self, site: Site, inputs: &Inputs<'_>) -> Result<Tensor> {
        let constant = Constant::new(inputs.query.dim(3)?).map_err(candle_core::Error::wrap)?;
        let method = Method::scatterbrain(Full, FeatureBackground::new(constant));
        ScatterbrainAttention::new(method).attend(site, inputs)
    }
}

/// The mean of the values, whatever the query: what a model must not be indifferent to.
pub struct Mean;

impl Attend for Mean {
    fn attend(&self, _: Site, inputs: &Inputs<'_>) -> Result<Tensor> {
        let (batch, heads, n, _) = inputs.query.dims4()?;
        let mean = inputs.value.mean_keepdim(2)?;
        mean.broadcast_as((batch, heads, n, mean.dim(3)?))?.contiguous()
    }
}

/// Fails unless two lists of numbers agree within a part of the largest.
pub fn agree_flat(got: &Tensor, want: &[f64], tolerance: f64, what: &str) {
    let got: Vec<f64> = got.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0f64, |most, x| most.max(x.abs()));
    assert!(largest > 1e-3, "{what}: nothing to compare");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance * largest, "{what}: entry {i}: {got} for {want}");
    }
}
