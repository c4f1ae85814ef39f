//! Captures, and errors of methods on them.

use anyhow::{Context as _, Result};
use half::f16;
use safetensors::SafeTensors;
use scatterbrain_attention::{Mask, Method, Options, Tensor, attend};

/// One batch entry in f32.
pub(crate) struct Capture {
    pub(crate) n: usize,
    pub(crate) d: usize,
    pub(crate) d_v: usize,
    pub(crate) group: usize,
    pub(crate) scale: f32,
    pub(crate) causal: bool,
    pub(crate) query: Vec<Vec<f32>>,
    pub(crate) key: Vec<Vec<f32>>,
    pub(crate) value: Vec<Vec<f32>>,
}

/// What is fitted to a head's queries and keys, all of them: more than a strict method may know.
pub(crate) struct Fit {
    pub(crate) query: Vec<f32>,
    pub(crate) key: Vec<f32>,
    /// E z_c² of every axis.
    pub(crate) axes: Vec<f64>,
    /// √s k̄.
    pub(crate) mean: Vec<f64>,
}

impl Fit {
    pub(crate) fn d(&self) -> usize {
        self.axes.len()
    }

    /// Rows turned to the axes of E zzᵀ, z = √s(q + k) with q and k independent, and keys shifted by −(q̄ + k̄) before that
    /// if `centred`; neither changes attention.
    fn new(query: &[f32], key: &[f32], d: usize, scale: f32, centred: bool) -> Self {
        let mean = |rows: &[f32]| -> Vec<f64> {
            let mut sum = vec![0.0; d];
            rows.chunks(d).for_each(|row| sum.iter_mut().zip(row).for_each(|(s, x)| *s += f64::from(*x)));
            sum.iter().map(|s| s / (rows.len() / d) as f64).collect()
        };
        let (q_mean, k_mean) = (mean(query), mean(key));
        let shift: Vec<f64> = q_mean.iter().zip(&k_mean).map(|(q, k)| if centred { q + k } else { 0.0 }).collect();
        let shifted: Vec<f64> = key.iter().enumerate().map(|(x, &k)| f64::from(k) - shift[x % d]).collect();
        let query: Vec<f64> = query.iter().map(|&q| f64::from(q)).collect();
        let k_mean: Vec<f64> = k_mean.iter().zip(&shift).map(|(k, s)| k - s).collect();
        // E zzᵀ = s (E qqᵀ + E kkᵀ + q̄k̄ᵀ + k̄q̄ᵀ).
        let mut second = vec![0.0; d * d];
        for rows in [&query, &shifted] {
            for row in rows.chunks(d) {
                for (a, x) in row.iter().enumerate() {
                    second[a * d..(a + 1) * d]
                        .iter_mut()
                        .zip(row)
                        .for_each(|(s, y)| *s += x * y / (rows.len() / d) as f64);
                }
            }
        }
        for (a, b) in (0..d).flat_map(|a| (0..d).map(move |b| (a, b))) {
            second[a * d + b] += q_mean[a] * k_mean[b] + k_mean[a] * q_mean[b];
            second[a * d + b] *= f64::from(scale);
        }
        let (axes, vectors) = eigen(second, d);
        let turn = |rows: &[f64]| -> Vec<f32> {
            let turned = rows.chunks(d).flat_map(|row| {
                (0..d).map(|c| (0..d).map(|r| row[r] * vectors[r * d + c]).sum::<f64>() as f32).collect::<Vec<_>>()
            });
            turned.collect()
        };
        let mean = turn(&k_mean).iter().map(|&x| f64::from(x) * f64::from(scale).sqrt()).collect();
        Self { query: turn(&query), key: turn(&shifted), mean, axes: axes.iter().map(|x| x.max(0.0)).collect() }
    }
}

/// Eigenvalues and eigenvectors (columns) of a symmetric matrix, by Jacobi's rotations.
fn eigen(mut a: Vec<f64>, d: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors: Vec<f64> = (0..d * d).map(|x| f64::from(u8::from(x / d == x % d))).collect();
    for _ in 0..30 {
        for p in 0..d {
            for q in p + 1..d {
                let off = a[p * d + q];
                if off.abs() < 1e-14 * (a[p * d + p].abs() + a[q * d + q].abs()) {
                    continue;
                }
                let theta = (a[q * d + q] - a[p * d + p]) / (2.0 * off);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for x in 0..d {
                    let (u, v) = (a[x * d + p], a[x * d + q]);
                    (a[x * d + p], a[x * d + q]) = (c * u - s * v, s * u + c * v);
                    let (u, v) = (vectors[x * d + p], vectors[x * d + q]);
                    (vectors[x * d + p], vectors[x * d + q]) = (c * u - s * v, s * u + c * v);
                }
                for x in 0..d {
                    let (u, v) = (a[p * d + x], a[q * d + x]);
                    (a[p * d + x], a[q * d + x]) = (c * u - s * v, s * u + c * v);
                }
            }
        }
    }
    ((0..d).map(|x| a[x * d + x]).collect(), vectors)
}

impl Capture {
    pub(crate) fn read(file: &str, heads: usize) -> Result<Self> {
        let bytes = std::fs::read(file).context(file.to_owned())?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let tensors = SafeTensors::deserialize(&bytes)?;
        let part = |name: &str| -> Result<(Vec<usize>, Vec<Vec<f32>>)> {
            let tensor = tensors.tensor(name)?;
            let shape = tensor.shape().to_vec();
            let halves = tensor.data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
            let all: Vec<f32> = halves.collect();
            let rows = all.chunks(shape[2] * shape[3]).take(shape[1]).map(<[f32]>::to_vec);
            Ok((shape, rows.collect()))
        };
        let ((query, mut queries), (key, keys), (value, values)) = (part("query")?, part("key")?, part("value")?);
        queries.truncate(heads);
        let scale = match metadata.get("scale") {
            Some(scale) => scale.parse()?,
            None => 1.0 / (query[3] as f32).sqrt(),
        };
        let causal = metadata.get("causal").is_some_and(|c| c == "true");
        let (n, d, d_v, group) = (query[2], query[3], value[3], query[1] / key[1]);
        Ok(Self { n, d, d_v, group, scale, causal, query: queries, key: keys, value: values })
    }

    /// Keys that a row takes on average, of at most so many.
    pub(crate) fn keys_of(&self, most: usize) -> f64 {
        let mask = Mask { causal: self.causal, ..Mask::default() };
        let mask = mask.head(0, 0, self.n, self.key[0].len() / self.d);
        (0..self.n).map(|i| mask.visible(i).min(most) as f64).sum::<f64>() / self.n as f64
    }

    /// The mean error over rows and heads, and the mean count of exact pairs of a row.
    pub(crate) fn measure(&self, method: &dyn Fn(&Fit) -> Result<Method>, centred: bool) -> Result<(f64, f64)> {
        let mask = Mask { causal: self.causal, ..Mask::default() };
        let options = Options { scale: Some(self.scale), ..Options::default() };
        let (mut error, mut pairs) = (0.0, 0.0);
        for (h, query) in self.query.iter().enumerate() {
            let (key, value) = (&self.key[h / self.group], &self.value[h / self.group]);
            let m = key.len() / self.d;
            let run = |query: &[f32], key: &[f32], method: &Method| -> Result<_> {
                let query = Tensor::f32("query", query, [1, 1, self.n, self.d])?;
                let key = Tensor::f32("key", key, [1, 1, m, self.d])?;
                let value = Tensor::f32("value", value, [1, 1, m, self.d_v])?;
                Ok(attend(&query, &key, &value, &mask, method, &options)?)
            };
            let fit = Fit::new(query, key, self.d, self.scale, centred);
            let (exact, got) = (run(query, key, &Method::exact())?, run(&fit.query, &fit.key, &method(&fit)?)?);
            let norm = |row: &mut dyn Iterator<Item = f32>| row.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            for (want, got) in exact.output.chunks(self.d_v).zip(got.output.chunks(self.d_v)) {
                let off = norm(&mut want.iter().zip(got).map(|(a, b)| a - b));
                error += off / norm(&mut want.iter().copied()) / (self.n * self.query.len()) as f64;
            }
            pairs += got.report.heads.iter().map(|head| head.exact_pairs as f64).sum::<f64>()
                / (self.n * self.query.len()) as f64;
        }
        Ok((error, pairs))
    }
}
