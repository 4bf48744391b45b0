//! How this build was made and what it uses.

use lmfacts_core::{Level, Pool};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::to_py;

/// Version, build profile, target, SIMD level in use and levels that this processor has, and number of threads.
#[pyfunction]
pub(crate) fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item("profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
    info.set_item("target", format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS))?;
    info.set_item("simd", Level::selected().map_err(to_py)?.name())?;
    let available = Level::ALL.into_iter().filter(|level| level.is_available());
    info.set_item("simd_available", available.map(Level::name).collect::<Vec<_>>())?;
    info.set_item("n_threads", Pool::global().map_err(to_py)?.n_threads())?;
    Ok(info)
}

/// Sets how many threads an update may use; at least 1.
#[pyfunction]
pub(crate) fn set_num_threads(n_threads: usize) -> PyResult<()> {
    Pool::set_global(n_threads).map(drop).map_err(to_py)
}
