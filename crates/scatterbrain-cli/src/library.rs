//! Everything the program takes from the library, in one place.

pub(crate) use scatterbrain_attention::{
    Data, Error, HeadReport, Level, Mask, MaskTensor, Matrix, Method, Options, Preset, Report, Seed, Tensor, Window,
    WindowAlign, attend, attend_into, decompose, plan,
};

/// Whether a row may depend on later tokens, in the contract's words.
pub(crate) fn causality_name(method: &Method) -> String {
    format!("{:?}", method.causality())
}
