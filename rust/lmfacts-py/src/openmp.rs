//! The OpenMP runtime that torch's own loops run on.

#![allow(unsafe_code)]

use std::path::PathBuf;

use pyo3::prelude::*;

/// Makes updates use the threads of an OpenMP runtime that this process has loaded, in place of threads of their own.
///
/// Args:
///     path: the library's file.
///
/// Returns:
///     Whether they do. False if a number of threads was asked for (set_num_threads, LMFACTS_NUM_THREADS), if the file is not loaded, or
///     if it does not export what is needed; then nothing has changed.
///
/// Raises:
///     UsageError: if LMFACTS_NUM_THREADS has a value that cannot be meant.
#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "what Python hands over is owned")]
pub(crate) fn share_openmp(path: PathBuf) -> PyResult<bool> {
    match loaded(&path) {
        Some(runtime) => lmfacts_core::Pool::share(runtime).map_err(crate::error::to_py),
        None => Ok(false),
    }
}

#[cfg(target_os = "linux")]
fn loaded(path: &std::path::Path) -> Option<lmfacts_core::openmp::OpenMp> {
    use libloading::os::unix::{Library, RTLD_LAZY};
    use lmfacts_core::openmp::{MaxThreadsFn, OpenMp, ParallelFn};

    /// Only a library that is loaded already (`RTLD_NOLOAD` of glibc and musl).
    const ONLY_LOADED: std::ffi::c_int = 4;

    // SAFETY: nothing is loaded, so that no code of the library runs here.
    let library = unsafe { Library::open(Some(path), RTLD_LAZY | ONLY_LOADED) }.ok()?;
    // SAFETY: these names are part of the OpenMP runtimes' interface, with these types.
    let (parallel, max_threads) = unsafe {
        (*library.get::<ParallelFn>(b"GOMP_parallel\0").ok()?, *library.get::<MaxThreadsFn>(b"omp_get_max_threads\0").ok()?)
    };
    // The handle is never closed, so that the library stays.
    std::mem::forget(library);
    // SAFETY: as above.
    Some(unsafe { OpenMp::new(parallel, max_threads) })
}

#[cfg(not(target_os = "linux"))]
fn loaded(_: &std::path::Path) -> Option<lmfacts_core::openmp::OpenMp> {
    None
}
