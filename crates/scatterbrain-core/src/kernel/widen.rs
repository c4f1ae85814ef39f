//! Halves to f32. With F16C by one instruction for eight of them, in one loop: the `half` crate makes a call for every
//! eight.

use crate::Level;
#[cfg(target_arch = "x86_64")]
use crate::arch::f16c::{EIGHT, F16c};
use crate::view::Halves;
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use pulp::{Simd, WithSimd};

/// `out`: the first rows as f32, one below the other; exact.
///
/// # Panics
/// If `out` has more rows, or part of one.
pub(crate) fn widen(level: Level, halves: Halves<'_>, out: &mut [f32]) {
    let cols = halves.cols;
    assert!(out.len().is_multiple_of(cols), "whole rows");
    match halves.row_stride == cols {
        true => widen_run(level, &halves.bits[..out.len()], halves.brain, out),
        false => out
            .chunks_exact_mut(cols)
            .enumerate()
            .for_each(|(i, out)| widen_run(level, halves.row(i), halves.brain, out)),
    }
}

fn widen_run(level: Level, bits: &[u16], brain: bool, out: &mut [f32]) {
    if brain {
        return level.run(WidenBrain { bits, out });
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(f16c) = F16c::try_new().filter(|_| level.is_native()) {
        let ((bits, last_bits), (out, last)) = (bits.as_chunks::<EIGHT>(), out.as_chunks_mut::<EIGHT>());
        f16c.widen(bits, out);
        return plain(last_bits, last);
    }
    plain(bits, out);
}

fn plain(bits: &[u16], out: &mut [f32]) {
    bits.reinterpret_cast::<f16>().convert_to_f32_slice(out);
}

struct WidenBrain<'a> {
    bits: &'a [u16],
    out: &'a mut [f32],
}

impl WithSimd for WidenBrain<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (o, x) in self.out.iter_mut().zip(self.bits) {
            // A bfloat16 is the upper half of a f32.
            *o = f32::from_bits(u32::from(*x) << 16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn every_half_at_every_level() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        for (brain, row_stride) in [(false, 13), (false, 15), (true, 13), (true, 15)] {
            let (cols, rows) = (13, (all.len() - 13) / row_stride + 1);
            let halves = Halves { bits: &all, cols, row_stride, brain };
            for level in Level::available() {
                let mut out = vec![1.0; rows * cols];
                widen(level, halves, &mut out);
                for (at, got) in out.iter().enumerate() {
                    let bits = (at / cols * row_stride + at % cols) as u16;
                    let want = if brain { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() };
                    assert!(same(*got, want), "{}: {bits:#x} is {got}", level.name());
                }
            }
        }
    }
}
