//! What can go wrong, each with a reason in words.

/// An error of the GPU path.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CudaError {
    /// There is no driver, compiler or device that can be used.
    #[error("{reason}")]
    Unavailable {
        /// What was looked for and what was found.
        reason: String,
    },
    /// A kernel does not compile.
    #[error("the kernels do not compile with {options}: {log}")]
    Compile {
        /// The compiler's options.
        options: String,
        /// What it said.
        log: String,
    },
    /// The driver refused a call.
    #[error("{call} failed: {reason} (error {code})")]
    Driver {
        /// The driver's function.
        call: &'static str,
        /// Its own words.
        reason: String,
        /// Its number.
        code: i32,
    },
    /// The stream is being captured, and something has to be loaded that cannot be loaded meanwhile.
    #[error(
        "the kernels for {program} are not loaded yet, and a CUDA graph is being captured; run the model once before capturing, as \
         torch asks for too"
    )]
    Capturing {
        /// What is missing.
        program: String,
    },
    /// The tensor or a buffer is not what is needed.
    #[error(transparent)]
    Core(#[from] lmfacts_core::Error),
}

/// A result with a [`CudaError`].
pub type Result<T, E = CudaError> = std::result::Result<T, E>;
