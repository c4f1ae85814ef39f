//! SIMD levels: availability is a value.
//!
//! A [`Level`] can only be made on a CPU that has it, so kernels that take one are safe functions.
//! pulp's tokens carry the proof; this folder is where instructions live that pulp does not wrap (`vnni.rs`, `vnni512.rs`, `f16c.rs`),
//! and the only one in the workspace where `unsafe` may be written.
//!
//! With the feature `avx512` there is a level more, where one vector holds a whole panel. Kernels that are right at that
//! width ask for it (`run_wide`), and those of bytes get it (`run_quads`); all others run there with AVX2, which it contains.

#[cfg(target_arch = "x86_64")]
pub(crate) mod f16c;
pub(crate) mod quads;
pub(crate) mod transpose;
#[cfg(target_arch = "x86_64")]
pub(crate) mod vnni;
#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
pub(crate) mod vnni512;

use crate::{Error, Result};
use pulp::{Scalar, Simd, WithSimd};
use quads::WithQuads;
use transpose::{Plain, Run, WithTranspose};

#[cfg(target_arch = "aarch64")]
use pulp::aarch64::Neon as Native;
#[cfg(target_arch = "x86_64")]
use pulp::x86::V3 as Native;
#[cfg(all(target_arch = "x86_64", feature = "avx512"))]
use pulp::x86::V4 as Wide;

/// The instruction set that kernels run with. Levels are equal where their names are.
#[derive(Debug, Clone, Copy)]
pub struct Level(Kind);

impl PartialEq for Level {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Level {}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Level {
    type Err = Error;

    /// The level of a name, if this CPU has it.
    fn from_str(name: &str) -> Result<Self> {
        let levels = Self::available();
        let names = || levels.iter().map(|level| level.name()).collect::<Vec<_>>().join(", ");
        let level = levels.iter().copied().find(|level| level.name() == name);
        level.ok_or_else(|| Error::invalid("level", format!("one that this CPU has: {}", names()), name))
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Scalar(Scalar),
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Native(Native),
    #[cfg(target_arch = "x86_64")]
    Vnni(vnni::Vnni),
    #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
    Wide(Wide, Option<vnni512::Vnni512>),
}

impl Level {
    /// The best level of this CPU.
    pub fn detect() -> Self {
        *Self::available().last().expect("the scalar level is always there")
    }

    /// The portable fallback.
    pub fn scalar() -> Self {
        Level(Kind::Scalar(Scalar))
    }

    /// All levels of this CPU, the scalar one first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "other architectures have the scalar level alone")]
        let mut levels = vec![Self::scalar()];
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if let Some(native) = Native::try_new() {
            levels.push(Level(Kind::Native(native)));
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(vnni) = vnni::Vnni::try_new() {
            levels.push(Level(Kind::Vnni(vnni)));
        }
        #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
        if let Some(wide) = Wide::try_new() {
            levels.push(Level(Kind::Wide(wide, vnni512::Vnni512::try_new())));
        }
        levels
    }

    /// `"scalar"`, `"avx2+fma"`, `"avx2+fma+vnni"` or `"neon"`; with the feature `avx512` also `"avx512"`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar(_) => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Native(_) => "avx2+fma",
            #[cfg(target_arch = "aarch64")]
            Kind::Native(_) => "neon",
            #[cfg(target_arch = "x86_64")]
            Kind::Vnni(_) => "avx2+fma+vnni",
            #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
            Kind::Wide(..) => "avx512",
        }
    }

    /// Whether it is more than the portable fallback.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_native(self) -> bool {
        !matches!(self.0, Kind::Scalar(_))
    }

    /// Whether a vector holds a whole panel.
    pub(crate) fn is_wide(self) -> bool {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
            Kind::Wide(..) => true,
            _ => false,
        }
    }

    /// Whether products of bytes are added in 32 bits at no cost, so that codes of rows may be finer
    /// ([`key_code`](crate::kernel::key_code)).
    pub(crate) fn has_fine_codes(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Vnni(_) => true,
            #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
            Kind::Wide(_, vnni) => vnni.is_some(),
            _ => false,
        }
    }

    /// The level without VNNI: its scans have the codes that every CPU takes, so that what they err by here they err by
    /// elsewhere.
    #[must_use]
    pub fn with_common_codes(self) -> Self {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Vnni(s) => Level(Kind::Native(s.avx2())),
            #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
            Kind::Wide(s, _) => Level(Kind::Wide(s, None)),
            _ => self,
        }
    }

    /// Runs an operation compiled for this level, on vectors of at most half a panel: AVX-512 contains AVX2, and runs
    /// what takes lanes two vectors at a time, or eight by eight, with that.
    #[inline]
    pub(crate) fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self.0 {
            Kind::Scalar(s) => Simd::vectorize(s, op),
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Kind::Native(s) => Simd::vectorize(s, op),
            #[cfg(target_arch = "x86_64")]
            Kind::Vnni(s) => Simd::vectorize(s.avx2(), op),
            #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
            Kind::Wide(s, _) => Simd::vectorize(*s, op),
        }
    }

    /// Runs an operation that is right where one vector holds a whole panel, on the widest vectors of this level.
    #[inline]
    pub(crate) fn run_wide<Op: WithSimd>(self, op: Op) -> Op::Output {
        #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
        if let Kind::Wide(wide, _) = self.0 {
            return Simd::vectorize(wide, op);
        }
        self.run(op)
    }

    /// Runs an operation that transposes, compiled for this level.
    #[inline]
    pub(crate) fn run_transposing(self, op: impl WithTranspose) {
        match self.0 {
            Kind::Scalar(s) => Simd::vectorize(s, Run(op, Plain)),
            #[cfg(target_arch = "x86_64")]
            Kind::Native(s) => Simd::vectorize(s, Run(op, s)),
            #[cfg(target_arch = "aarch64")]
            Kind::Native(s) => Simd::vectorize(s, Run(op, Plain)),
            #[cfg(target_arch = "x86_64")]
            Kind::Vnni(s) => Simd::vectorize(s.avx2(), Run(op, s.avx2())),
            #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
            Kind::Wide(s, _) => Simd::vectorize(*s, Run(op, *s)),
        }
    }

    /// Runs an operation that multiplies bytes, compiled for this level.
    #[inline]
    pub(crate) fn run_quads(self, op: impl WithQuads) {
        match self.0 {
            Kind::Scalar(s) => Simd::vectorize(s, quads::Run(op, quads::Plain)),
            #[cfg(target_arch = "x86_64")]
            Kind::Native(s) => Simd::vectorize(s, quads::Run(op, s)),
            #[cfg(target_arch = "aarch64")]
            Kind::Native(s) => Simd::vectorize(s, quads::Run(op, quads::Plain)),
            #[cfg(target_arch = "x86_64")]
            Kind::Vnni(s) => s.run(op),
            #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
            Kind::Wide(_, Some(s)) => s.run(op),
            #[cfg(all(target_arch = "x86_64", feature = "avx512"))]
            Kind::Wide(s, None) => Simd::vectorize(*s, quads::Run(op, *s)),
        }
    }
}
