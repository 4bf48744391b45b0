//! `measure_matrix` for Python.

use lmfacts_core::matrix::{Orientation, measure_matrix as measure};
use lmfacts_core::{Dtype, Pool};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::accumulator::{array_tuple, state_dict};
use crate::error::{UnsupportedDtypeError, to_py};
use crate::tensor::Tensor;

/// Measures a weight matrix, reading it where it lies, detached from the interpreter.
///
/// Args:
///     matrix: a tensor in host memory whose leading axes count the rows; what is left of a row is its columns. Any strides.
///     n_rows: number of rows.
///     dtype: if given, `matrix` holds unsigned integers that are the bits of this dtype (bfloat16, float8_e4m3fn, float8_e5m2).
///     transposed: whether the stored rows are the columns of the matrix that the sketch is of.
///     k: how many of the largest values to keep.
///
/// Returns:
///     A dict: `values`, the state of the values as `SiteAccumulator.state` gives it (all in `rest`; the position is the row plus 1,
///     the dim the column); each as its dtype, shape and bytes, `row_means` and `row_rms` f8[n_rows], `scaled_codes` u2, `scaled_counts` u8 (float32 codes of the
///     values divided by their column's RMS, then by their row's), `scaled_moments` f8[7]: n, mean, m2, m3, m4, min, max;
///     `sketch` f8[4096].
///
/// Raises:
///     LayoutError, UnsupportedDtypeError, UnsupportedDeviceError, BufferImportError: as `SiteAccumulator.update`.
#[pyfunction]
#[pyo3(signature = (matrix, n_rows, *, dtype = None, transposed = false, k = 16))]
pub(crate) fn measure_matrix<'py>(
    py: Python<'py>,
    matrix: &Bound<'py, PyAny>,
    n_rows: usize,
    dtype: Option<&str>,
    transposed: bool,
    k: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let mut held = Tensor::of(matrix)?;
    if let Some(name) = dtype {
        let names = Dtype::ALL.map(Dtype::name).join(", ");
        let unknown = || UnsupportedDtypeError::new_err(format!("expected dtype {names}, got {name}"));
        held.read_bits_as(Dtype::from_name(name).ok_or_else(unknown)?)?;
    }
    let view = held.view()?;
    let pool = Pool::global().map_err(to_py)?;
    let stored = if transposed { Orientation::Columns } else { Orientation::Rows };
    let state = py.detach(|| measure(&view, n_rows, stored, k, &pool)).map_err(to_py)?;
    let dict = PyDict::new(py);
    dict.set_item("values", state_dict(py, &state.values)?)?;
    for array in state.arrays().iter() {
        dict.set_item(array.name(), array_tuple(py, array)?)?;
    }
    Ok(dict)
}
