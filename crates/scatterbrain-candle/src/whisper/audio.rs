//! Audio from WAV files, at the rate that Whisper was trained with.

use super::mel::RATE;
use candle_core::{Error, Result, bail};
use hound::{SampleFormat, WavReader};
use realfft::RealFftPlanner;
use std::path::Path;

/// Samples of a WAV file in [−1, 1], channels averaged, brought to 16 kHz by [`resample`].
///
/// # Errors
/// A file that cannot be read or is no WAV file of integers or floats; more than an hour at another rate.
pub fn read_wav(path: impl AsRef<Path>) -> Result<Vec<f32>> {
    let path = path.as_ref();
    let told = |error: hound::Error| Error::msg(format!("{}: {error}", path.display()));
    let mut file = WavReader::open(path).map_err(told)?;
    let form = file.spec();
    let samples: Vec<f32> = match form.sample_format {
        SampleFormat::Float => file.samples::<f32>().collect::<std::result::Result<_, _>>().map_err(told)?,
        SampleFormat::Int => {
            let one = (1i64 << (form.bits_per_sample - 1)) as f32;
            let scaled = file.samples::<i32>().map(|sample| Ok(sample? as f32 / one));
            scaled.collect::<std::result::Result<_, _>>().map_err(told)?
        }
    };
    let channels = usize::from(form.channels.max(1));
    let mono: Vec<f32> =
        samples.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32).collect();
    resample(&mono, form.sample_rate as usize, RATE).map_err(|error| error.with_path(path))
}

/// Seconds that are resampled at once.
const LONGEST: usize = 3600;
/// Samples a second, in which the highest rates of audio have room; a header may claim four thousand million.
const HIGHEST: usize = 1_000_000;

/// The band-limited signal through the samples, at another rate: the spectrum cut, or continued with zeros.
///
/// The signal is thought to be periodic; a tenth of a second of zeros at the end keeps its ends apart.
///
/// # Errors
/// A rate of zero or beyond a million, or more than an hour.
pub fn resample(samples: &[f32], from: usize, to: usize) -> Result<Vec<f32>> {
    if let Some(rate) = [from, to].iter().find(|rate| !(1..=HIGHEST).contains(*rate)) {
        bail!("rate: expected 1 to {HIGHEST} samples a second, got {rate}");
    }
    if from == to || samples.is_empty() {
        return Ok(samples.to_vec());
    }
    if samples.len() / from >= LONGEST {
        bail!("samples: expected at most {LONGEST} seconds, got {}", samples.len() / from);
    }
    // A whole number of tenths of a second, or of seconds where the rates have no tenths.
    let part = if from.is_multiple_of(10) && to.is_multiple_of(10) { 10 } else { 1 };
    let parts = samples.len().div_ceil(from / part) + 1;
    let (long, short) = (parts * from / part, parts * to / part);
    let mut planner = RealFftPlanner::<f32>::new();
    let mut input = samples.to_vec();
    input.resize(long, 0.0);
    let (forward, inverse) = (planner.plan_fft_forward(long), planner.plan_fft_inverse(short));
    let (mut spectrum, mut output) = (forward.make_output_vec(), inverse.make_output_vec());
    forward.process(&mut input, &mut spectrum).map_err(Error::wrap)?;
    let mut spectrum_out = inverse.make_input_vec();
    // The highest frequency of either rate is left out: its phase is not in a real spectrum.
    let shared = spectrum.len().min(spectrum_out.len()) - 1;
    spectrum_out[..shared].copy_from_slice(&spectrum[..shared]);
    inverse.process(&mut spectrum_out, &mut output).map_err(Error::wrap)?;
    output.truncate((samples.len() * to).div_ceil(from));
    Ok(output.into_iter().map(|x| x / long as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hound::{WavSpec, WavWriter};
    use std::f64::consts::PI;

    /// In f64, since phases grow to 1e5.
    fn tone(rate: usize, hertz: f64, count: usize) -> Vec<f32> {
        // It swells and fades, so that its ends do not ring.
        let swell = |i: usize| (PI * i as f64 / count as f64).sin().powi(4);
        (0..count).map(|i| (swell(i) * (2.0 * PI * hertz * i as f64 / rate as f64).sin()) as f32).collect()
    }

    #[test]
    fn a_tone_is_the_same_tone() -> Result<()> {
        for (from, to) in [(8000, 16000), (44100, 16000), (22050, 16000), (11025, 16000), (48000, 16000)] {
            let count = 2 * from;
            let got = resample(&tone(from, 440.0, count), from, to)?;
            let want = tone(to, 440.0, count * to / from);
            assert_eq!(got.len(), want.len());
            for (x, y) in got.iter().zip(&want) {
                assert!((x - y).abs() < 1e-4, "{from}: {x} {y}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_the_new_rate_cannot_hold_is_gone() -> Result<()> {
        let got = resample(&tone(48000, 15000.0, 48000), 48000, 16000)?;
        assert!(got.iter().all(|x| x.abs() < 1e-4));
        for rate in [0, 1_000_000_000] {
            let error = resample(&[0.0], rate, 16000).unwrap_err().to_string();
            assert!(error.contains(&format!("rate: expected 1 to 1000000 samples a second, got {rate}")), "{error}");
        }
        assert!(resample(&[], 8000, 16000)?.is_empty());
        Ok(())
    }

    #[test]
    fn files_of_every_form() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.wav");
        for (bits, sample_format) in
            [(8, SampleFormat::Int), (16, SampleFormat::Int), (24, SampleFormat::Int), (32, SampleFormat::Float)]
        {
            let form = WavSpec { channels: 2, sample_rate: 16000, bits_per_sample: bits, sample_format };
            let mut file = WavWriter::create(&path, form).map_err(Error::wrap)?;
            for value in [0.5, 0.0, -0.5, -0.5] {
                match sample_format {
                    SampleFormat::Float => file.write_sample(value).map_err(Error::wrap)?,
                    SampleFormat::Int => {
                        file.write_sample((value * 2f32.powi(i32::from(bits) - 1)) as i32).map_err(Error::wrap)?
                    }
                }
            }
            file.finalize().map_err(Error::wrap)?;
            assert_eq!(read_wav(&path)?, [0.25, -0.5]);
        }
        std::fs::write(&path, b"RIFF")?;
        assert!(read_wav(&path).unwrap_err().to_string().contains("a.wav"));
        Ok(())
    }
}
