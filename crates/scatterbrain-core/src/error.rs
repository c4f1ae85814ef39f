//! The error of every public function: which argument, what was expected, what came.

use std::fmt::Display;

/// Why an input was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument has a shape, size or value that the operation cannot take.
    #[error("{argument}: expected {expected}, got {got}")]
    Invalid {
        /// Name of the argument as the caller knows it.
        argument: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What was passed.
        got: String,
    },
    /// Finite inputs whose logits or norms do not fit into f32.
    #[error("{argument}: {quantity} is about {magnitude}, which overflows f32; scale the input down")]
    Overflow {
        /// Name of the argument as the caller knows it.
        argument: &'static str,
        /// Which quantity overflows.
        quantity: &'static str,
        /// Its magnitude, printed.
        magnitude: String,
    },
    /// The operation is not defined for this combination.
    #[error("{operation} is not defined: {reason}")]
    Undefined {
        /// What was asked for.
        operation: &'static str,
        /// Why it has no answer.
        reason: String,
    },
}

/// Result with the workspace's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Invalid`] from anything printable.
    ///
    /// ```
    /// use scatterbrain_core::Error;
    /// let e = Error::invalid("budget", "1 to 512", 0);
    /// assert_eq!(e.to_string(), "budget: expected 1 to 512, got 0");
    /// ```
    pub fn invalid(argument: &'static str, expected: impl Display, got: impl Display) -> Self {
        Self::Invalid { argument, expected: expected.to_string(), got: got.to_string() }
    }
}
