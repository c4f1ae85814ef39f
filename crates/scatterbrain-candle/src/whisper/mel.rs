//! Log-mel frames: what Whisper hears.
//!
//! ```text
//! power_t[f] = |Σ_i hann[i] x[160 t + i − 200] e^(−2πi f i / 400)|²      x mirrored at its ends
//! mel_t[b]   = log10 max(Σ_f filter_b[f] power_t[f], 1e-10)
//! frame_t[b] = (max(mel_t[b], max mel − 8) + 4) / 4
//! ```
//!
//! The filters are triangles on Slaney's scale (linear to 1000 Hz, logarithmic above), each of area one.

use candle_core::{Device, Result, Tensor, bail};
use realfft::{RealFftPlanner, RealToComplex};
use std::f64::consts::PI;
use std::sync::Arc;

/// Samples a second.
pub const RATE: usize = 16_000;
/// Samples of a window.
pub const WINDOW: usize = 400;
/// Samples from one frame to the next.
pub const HOP: usize = 160;

/// Frequencies of a window's transform.
const BINS: usize = WINDOW / 2 + 1;

/// Log-mel frames of audio; holds window, filters and the plan of the transform.
#[derive(Clone)]
pub struct LogMel {
    window: Vec<f64>,
    filters: Vec<Vec<f64>>,
    transform: Arc<dyn RealToComplex<f64>>,
}

impl LogMel {
    /// With the given number of mel bands between 0 and 8000 Hz.
    ///
    /// # Errors
    /// No band.
    pub fn new(bands: usize) -> Result<LogMel> {
        if bands == 0 {
            bail!("bands: expected at least 1, got 0");
        }
        Ok(LogMel {
            window: (0..WINDOW).map(|i| 0.5 - 0.5 * (2.0 * PI * i as f64 / WINDOW as f64).cos()).collect(),
            filters: filters(bands),
            transform: RealFftPlanner::new().plan_fft_forward(WINDOW),
        })
    }

    /// Frames `[1, bands, ⌊samples / 160⌋]` of samples in [−1, 1] at [`RATE`].
    ///
    /// # Errors
    /// Fewer samples than a window.
    pub fn frames(&self, samples: &[f32]) -> Result<Tensor> {
        if samples.len() < WINDOW {
            bail!("samples: expected at least {WINDOW}, got {}", samples.len());
        }
        let (bands, count) = (self.filters.len(), samples.len() / HOP);
        let mut logs = vec![0.0; bands * count];
        let mut input = self.transform.make_input_vec();
        let mut spectrum = self.transform.make_output_vec();
        for frame in 0..count {
            for (i, x) in input.iter_mut().enumerate() {
                *x = self.window[i] * f64::from(samples[mirrored(frame * HOP + i, samples.len())]);
            }
            if let Err(error) = self.transform.process(&mut input, &mut spectrum) {
                bail!("transform of frame {frame}: {error}");
            }
            for (band, filter) in self.filters.iter().enumerate() {
                let power: f64 = filter.iter().zip(&spectrum).map(|(weight, bin)| weight * bin.norm_sqr()).sum();
                logs[band * count + frame] = power.max(1e-10).log10();
            }
        }
        let floor = logs.iter().fold(f64::NEG_INFINITY, |most, &log| most.max(log)) - 8.0;
        let frames = logs.iter().map(|log| ((log.max(floor) + 4.0) / 4.0) as f32).collect();
        Tensor::from_vec::<_, f32>(frames, (1, bands, count), &Device::Cpu)
    }
}

/// The sample at a position of the signal that starts half a window early and is mirrored at its ends.
fn mirrored(position: usize, length: usize) -> usize {
    let (half, last) = (WINDOW / 2, length - 1);
    let index = position.abs_diff(half);
    if position > half && index > last { 2 * last - index } else { index }
}

/// `[bands][BINS]`: triangles between neighbours of bands + 2 points that lie evenly on Slaney's scale.
fn filters(bands: usize) -> Vec<Vec<f64>> {
    let top = hertz_to_mel(RATE as f64 / 2.0);
    let points: Vec<f64> = (0..bands + 2).map(|i| mel_to_hertz(top * i as f64 / (bands + 1) as f64)).collect();
    let triangle = |band: usize| {
        let (low, mid, high) = (points[band], points[band + 1], points[band + 2]);
        let height = 2.0 / (high - low);
        let at = move |bin: usize| {
            let f = (bin * RATE) as f64 / WINDOW as f64;
            height * ((f - low) / (mid - low)).min((high - f) / (high - mid)).max(0.0)
        };
        (0..BINS).map(at).collect()
    };
    (0..bands).map(triangle).collect()
}

/// Where Slaney's scale turns logarithmic: 1000 Hz, 15 mel; from there 27 steps lead to 6400 Hz.
const BREAK_HERTZ: f64 = 1000.0;
const BREAK_MEL: f64 = 15.0;

fn mel_step() -> f64 {
    6.4f64.ln() / 27.0
}

fn hertz_to_mel(hertz: f64) -> f64 {
    if hertz < BREAK_HERTZ {
        hertz * BREAK_MEL / BREAK_HERTZ
    } else {
        BREAK_MEL + (hertz / BREAK_HERTZ).ln() / mel_step()
    }
}

fn mel_to_hertz(mel: f64) -> f64 {
    if mel < BREAK_MEL { mel * BREAK_HERTZ / BREAK_MEL } else { BREAK_HERTZ * ((mel - BREAK_MEL) * mel_step()).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_by_the_definition() -> Result<()> {
        let samples: Vec<f32> = (0..1500).map(|i| ((i * i) as f32 * 0.001).sin() * 0.3).collect();
        let got = LogMel::new(20)?.frames(&samples)?;
        assert_eq!(got.dims(), [1, 20, 9]);
        let got = got.to_vec3::<f32>()?;
        // The mirrored signal is written out, and the transform is the sum.
        let padded: Vec<f64> = samples[1..=200]
            .iter()
            .rev()
            .chain(&samples)
            .chain(samples[samples.len() - 201..samples.len() - 1].iter().rev())
            .map(|&x| f64::from(x))
            .collect();
        let filters = filters(20);
        let mut logs = vec![[0.0; 9]; 20];
        for frame in 0..9 {
            for band in 0..20 {
                let mut sum = 0.0;
                for (bin, weight) in filters[band].iter().enumerate() {
                    let (mut re, mut im) = (0.0, 0.0);
                    for i in 0..400 {
                        let x = padded[frame * 160 + i] * (0.5 - 0.5 * (PI * i as f64 / 200.0).cos());
                        let angle = -2.0 * PI * (bin * i) as f64 / 400.0;
                        re += x * angle.cos();
                        im += x * angle.sin();
                    }
                    sum += weight * (re * re + im * im);
                }
                logs[band][frame] = f64::max(sum, 1e-10).log10();
            }
        }
        let most = logs.iter().flatten().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        for band in 0..20 {
            for frame in 0..9 {
                let want = (logs[band][frame].max(most - 8.0) + 4.0) / 4.0;
                assert!((f64::from(got[0][band][frame]) - want).abs() < 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn triangles_have_area_one_where_bins_are_many() {
        // The widest band spans some 20 bins of 40 Hz.
        let filters = filters(20);
        let area = filters[19].iter().sum::<f64>() * RATE as f64 / WINDOW as f64;
        assert!((area - 1.0).abs() < 0.01, "{area}");
    }

    #[test]
    fn the_scale_and_its_inverse() {
        // Values of Slaney's Auditory Toolbox: 200/3 Hz a mel below 1000 Hz, 6400 Hz at 42.
        assert!((hertz_to_mel(400.0) - 6.0).abs() < 1e-12);
        assert!((hertz_to_mel(6400.0) - 42.0).abs() < 1e-12);
        for hertz in [0.0, 10.0, 999.0, 1000.0, 3000.0, 8000.0] {
            assert!((mel_to_hertz(hertz_to_mel(hertz)) - hertz).abs() < 1e-9);
        }
    }

    #[test]
    fn short_audio_is_an_error() -> Result<()> {
        assert!(LogMel::new(80)?.frames(&[0.0; 399]).is_err());
        Ok(())
    }
}
