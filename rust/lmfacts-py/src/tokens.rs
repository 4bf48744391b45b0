//! `TokenBatch` for Python.

use lmfacts_core::TokenBatch;
use pyo3::buffer::{Element, PyBuffer};
use pyo3::prelude::*;

use crate::error::to_py;

/// The tokens behind the rows of a batch, shared by every site of a forward pass.
///
/// Args:
///     sequence: int64 buffer [n_tokens]: index of the sequence that each token belongs to.
///     position: int64 buffer [n_tokens]: index within the sequence; 0 makes the token one of the population `first`.
///     token_id: int64 buffer [n_tokens]: the vocabulary's id, or -1 where it is not known.
///     real: uint8 buffer [n_tokens]: 0 marks padding, which is never counted.
///
/// Raises:
///     LayoutError: if the lengths differ, or a real token has a negative sequence or position.
#[pyclass(name = "TokenBatch", module = "lmfacts._native", frozen)]
#[derive(Debug)]
pub(crate) struct PyTokenBatch(pub(crate) TokenBatch);

fn list<T: Element + Copy>(py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<Vec<T>> {
    PyBuffer::<T>::get(buffer)?.to_vec(py)
}

#[pymethods]
impl PyTokenBatch {
    #[new]
    fn new(
        py: Python<'_>,
        sequence: &Bound<'_, PyAny>,
        position: &Bound<'_, PyAny>,
        token_id: &Bound<'_, PyAny>,
        real: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let real = list::<u8>(py, real)?.into_iter().map(|flag| flag != 0).collect::<Vec<_>>();
        TokenBatch::new(list(py, sequence)?, list(py, position)?, list(py, token_id)?, &real).map(Self).map_err(to_py)
    }

    /// Tokens of which nothing is known but that they are real: of the population `rest`, with a sequence, a position and an id of -1.
    #[staticmethod]
    fn without_places(n_tokens: usize) -> Self {
        Self(TokenBatch::without_places(n_tokens))
    }

    /// Number of tokens, padding included.
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Number of tokens that are not padding.
    #[getter]
    fn n_real(&self) -> usize {
        self.0.n_real()
    }
}
