//! `lmfacts._native`: what Python sees of `lmfacts-core`. It converts and computes nothing.

mod accumulator;
mod build_info;
mod cuda;
mod detached_lock;
mod error;
mod matrix;
mod openmp;
mod packing;
mod tensor;
mod tokens;

use pyo3::prelude::*;

/// The native part of lmfacts: accumulators that read tensors where they lie.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::accumulator::PySiteAccumulator;
    #[pymodule_export]
    use super::build_info::{build_info, set_num_threads};
    #[pymodule_export]
    use super::cuda::{
        PyDevice, PyDeviceBuffer, PyDeviceSite, compile_kernels, cuda_info, describe_tokens, kernel_options, kernel_source,
        tokens_bytes, tokens_memory_bytes,
    };
    #[pymodule_export]
    use super::matrix::measure_matrix;
    #[pymodule_export]
    use super::openmp::share_openmp;
    #[pymodule_export]
    use super::packing::{pack_arrays, unpack_arrays};
    #[pymodule_export]
    use super::tensor::buffer_info;
    #[pymodule_export]
    use super::tokens::PyTokenBatch;
}
