//! Packed arrays for Python.

use std::borrow::Cow;

use lmfacts_core::packing::{RawArray, pack, unpack};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::to_py;

/// Name, dtype, shape and bytes of an array.
type Unpacked<'py> = (String, String, Vec<usize>, Bound<'py, PyBytes>);

/// Packs arrays into fewer bytes, without loss.
///
/// Args:
///     arrays: name, dtype (as NumPy writes it, little-endian), shape and bytes of each.
///
/// Raises:
///     StateError: the bytes of an array are not those of its shape and dtype.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // what a Python list is turned into
pub(crate) fn pack_arrays<'py>(
    py: Python<'py>,
    arrays: Vec<(String, String, Vec<usize>, Bound<'py, PyBytes>)>,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut raw = Vec::with_capacity(arrays.len());
    for (name, dtype, shape, bytes) in &arrays {
        let bytes = Cow::Borrowed(bytes.as_bytes());
        raw.push(RawArray { name: name.as_str().into(), dtype: dtype.as_str().into(), shape: shape.clone(), bytes });
    }
    let packed = py.detach(|| pack(&raw)).map_err(to_py)?;
    Ok(PyBytes::new(py, &packed))
}

/// The arrays that were packed.
///
/// Args:
///     packed: what `pack_arrays` gave.
///
/// Returns:
///     Name, dtype, shape and bytes of each.
///
/// Raises:
///     StateError: the bytes are damaged.
#[pyfunction]
pub(crate) fn unpack_arrays<'py>(py: Python<'py>, packed: &[u8]) -> PyResult<Vec<Unpacked<'py>>> {
    let arrays = py.detach(|| unpack(packed)).map_err(to_py)?;
    let to_python =
        |array: RawArray<'_>| (array.name.into_owned(), array.dtype.into_owned(), array.shape, PyBytes::new(py, &array.bytes));
    Ok(arrays.into_iter().map(to_python).collect())
}
