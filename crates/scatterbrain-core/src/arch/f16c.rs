//! F16C: eight halves to f32 by one instruction. pulp has no token for it, so this is one.
#![allow(unsafe_code)]

use std::arch::x86_64::_mm256_cvtph_ps;

/// Halves converted at once.
pub(crate) const EIGHT: usize = 8;

/// A CPU that has AVX and F16C.
#[derive(Debug, Clone, Copy)]
pub(crate) struct F16c {
    // Private, so that `try_new` alone makes one.
    _seen: (),
}

impl F16c {
    /// The token, where the CPU has the instructions.
    pub(crate) fn try_new() -> Option<Self> {
        let has = std::arch::is_x86_feature_detected!("avx") && std::arch::is_x86_feature_detected!("f16c");
        has.then_some(Self { _seen: () })
    }

    /// The numbers that these bits of f16 are, as many as there are of both.
    #[inline]
    pub(crate) fn widen(self, bits: &[[u16; EIGHT]], out: &mut [[f32; EIGHT]]) {
        #[target_feature(enable = "avx,f16c")]
        fn compiled(bits: &[[u16; EIGHT]], out: &mut [[f32; EIGHT]]) {
            for (bits, out) in bits.iter().zip(out) {
                *out = pulp::cast(_mm256_cvtph_ps(pulp::cast(*bits)));
            }
        }
        // SAFETY: the CPU has AVX and F16C, as `try_new` has seen, which alone makes an `F16c`.
        unsafe { compiled(bits, out) }
    }
}
