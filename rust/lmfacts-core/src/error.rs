//! The one error type of this crate.

/// What can go wrong. Every variant says what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    // ---- tensors ----
    /// The shape or strides of a tensor do not fit what is asked of it.
    #[error("expected {expected}, got {got}")]
    Layout {
        /// The shape or layout that would have been right.
        expected: String,
        /// The shape or layout that was found.
        got: String,
    },
    /// The values have a type that cannot be counted, or not the type seen before.
    #[error("expected dtype {expected}, got {got}")]
    Dtype {
        /// The dtypes that would have been right.
        expected: String,
        /// The dtype that was found.
        got: String,
    },
    /// The memory is not readable from the host.
    #[error("expected a tensor in host memory, got {got}; copy it to the CPU first")]
    Device {
        /// The device that was found.
        got: String,
    },

    // ---- settings and states ----
    /// A setting has an invalid value.
    #[error("{setting}: expected {expected}, got {got}")]
    Setting {
        /// The name of the setting.
        setting: &'static str,
        /// The values that would have been right.
        expected: String,
        /// The value that was found.
        got: String,
    },
    /// Two accumulators recorded different things.
    #[error("cannot merge accumulators with different {what}: {expected} and {got}")]
    Merge {
        /// The property that differs.
        what: &'static str,
        /// Its value on the receiving side.
        expected: String,
        /// Its value on the other side.
        got: String,
    },
    /// A stored state cannot be restored.
    #[error("cannot restore the state: {field} should be {expected}, got {got}")]
    State {
        /// The field that is wrong.
        field: String,
        /// What it should have been.
        expected: String,
        /// What was found.
        got: String,
    },
    /// Arrays cannot be packed, or packed ones are damaged.
    #[error("{what}: expected {expected}, got {got}")]
    Packing {
        /// The array, or all of them.
        what: String,
        /// What would have been right.
        expected: String,
        /// What was found.
        got: String,
    },
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The same of an array of a population.
    pub(crate) fn in_population(self, population: &str) -> Self {
        match self {
            Self::State { field, expected, got } => Self::State { field: format!("{population}/{field}"), expected, got },
            other => other,
        }
    }
}
