//! Everything the program takes from the library, in one place.

mod stub;

pub(crate) use scatterbrain_core::{Data, Error, Level, Mask, MaskTensor, Seed, Tensor, Window, WindowAlign};
pub(crate) use stub::{Method, Options, Preset, Report, attend, attend_into};

/// Whether a row may depend on later tokens, in the contract's words.
pub(crate) fn causality_name(method: &Method) -> String {
    format!("{:?}", method.causality())
}
