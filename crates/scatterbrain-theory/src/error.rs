//! The hypothesis that failed.

/// A formula was asked for outside its hypotheses.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{formula} needs {hypothesis}, got {got}")]
pub struct Error {
    /// Which formula.
    pub formula: &'static str,
    /// What it supposes.
    pub hypothesis: &'static str,
    /// The number that breaks it.
    pub got: f64,
}

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// `Ok` where `holds`.
pub(crate) fn suppose(formula: &'static str, hypothesis: &'static str, holds: bool, got: f64) -> Result<()> {
    if holds { Ok(()) } else { Err(Error { formula, hypothesis, got }) }
}

/// `number` where it is finite: what finite arguments overflow to is an error, and never NaN.
pub(crate) fn finite(formula: &'static str, hypothesis: &'static str, number: f64) -> Result<f64> {
    suppose(formula, hypothesis, number.is_finite(), number)?;
    Ok(number)
}
