//! The one way from an error of the core to a Python exception. The classes live in `lmfacts.errors`.

use lmfacts_core::Error;
use lmfacts_cuda::CudaError;
use pyo3::PyErr;

mod classes {
    pyo3::import_exception!(lmfacts.errors, BufferImportError);
    pyo3::import_exception!(lmfacts.errors, CudaError);
    pyo3::import_exception!(lmfacts.errors, CudaUnavailableError);
    pyo3::import_exception!(lmfacts.errors, KernelCompileError);
    pyo3::import_exception!(lmfacts.errors, LayoutError);
    pyo3::import_exception!(lmfacts.errors, MergeError);
    pyo3::import_exception!(lmfacts.errors, StateError);
    pyo3::import_exception!(lmfacts.errors, UnsupportedDeviceError);
    pyo3::import_exception!(lmfacts.errors, UnsupportedDtypeError);
    pyo3::import_exception!(lmfacts.errors, UsageError);
}
pub(crate) use classes::{BufferImportError, StateError, UnsupportedDtypeError, UsageError};

/// The exception for an error of the core.
#[allow(clippy::needless_pass_by_value)] // so that it can be given to map_err
pub(crate) fn to_py(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Layout { .. } => classes::LayoutError::new_err(message),
        Error::Dtype { .. } => classes::UnsupportedDtypeError::new_err(message),
        Error::Device { .. } => classes::UnsupportedDeviceError::new_err(message),
        Error::Setting { .. } => classes::UsageError::new_err(message),
        Error::Merge { .. } => classes::MergeError::new_err(message),
        Error::State { .. } | Error::Packing { .. } => classes::StateError::new_err(message),
    }
}

/// The exception for an error of the GPU path.
#[allow(clippy::needless_pass_by_value)] // so that it can be given to map_err
pub(crate) fn cuda_to_py(error: CudaError) -> PyErr {
    let message = error.to_string();
    match error {
        CudaError::Unavailable { .. } => classes::CudaUnavailableError::new_err(message),
        CudaError::Compile { .. } => classes::KernelCompileError::new_err(message),
        CudaError::Driver { .. } | CudaError::Capturing { .. } => classes::CudaError::new_err(message),
        CudaError::Core(error) => to_py(error),
    }
}
