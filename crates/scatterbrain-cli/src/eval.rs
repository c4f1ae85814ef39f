//! Whole models with their attention swapped: `scatterbrain eval`, `scatterbrain capture`, `scatterbrain plan --model`.

mod options;

#[cfg(feature = "models")]
mod calibrate;
#[cfg(feature = "models")]
mod capture;
#[cfg(feature = "models")]
mod imagenet;
#[cfg(feature = "models")]
mod inputs;
#[cfg(feature = "models")]
mod metrics;
#[cfg(feature = "models")]
mod minilm;
#[cfg(feature = "models")]
mod places;
#[cfg(feature = "models")]
mod report;
#[cfg(feature = "models")]
mod run;
#[cfg(feature = "models")]
mod smollm2;
#[cfg(feature = "models")]
mod state;
#[cfg(feature = "models")]
mod swap;
#[cfg(feature = "models")]
mod t2t;
#[cfg(feature = "models")]
mod task;
#[cfg(feature = "models")]
mod vit;
#[cfg(feature = "models")]
mod whisper;

#[cfg(feature = "models")]
pub(crate) use calibrate::run as calibrate;
#[cfg(feature = "models")]
pub(crate) use capture::run as capture;
pub(crate) use options::{CalibrateOptions, CaptureOptions, EvalOptions};
#[cfg(feature = "models")]
pub(crate) use run::run as eval;

#[cfg(not(feature = "models"))]
pub(crate) use missing::{calibrate, capture, eval};

/// What stands here in a program that was built without models.
#[cfg(not(feature = "models"))]
mod missing {
    use super::{CaptureOptions, EvalOptions};
    use crate::arguments::PlanOptions;
    use anyhow::{Result, bail};

    pub(crate) fn eval(_: &EvalOptions) -> Result<()> {
        missing()
    }

    pub(crate) fn capture(_: &CaptureOptions) -> Result<()> {
        missing()
    }

    pub(crate) fn calibrate(_: &PlanOptions) -> Result<()> {
        missing()
    }

    fn missing() -> Result<()> {
        bail!(
            "this program was built without models: cargo run --release -p scatterbrain-cli --features models -- {}",
            std::env::args().skip(1).collect::<Vec<_>>().join(" ")
        )
    }
}
