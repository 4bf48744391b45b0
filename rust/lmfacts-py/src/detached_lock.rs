//! The only lock of this crate. It can be waited for only while detached from the interpreter, so that "never wait for a lock that a
//! thread without the interpreter holds, while holding the interpreter" is a property of the types.

#![allow(clippy::disallowed_types)] // here and nowhere else: this wraps the lock that others may not use

use std::sync::Mutex;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

#[derive(Debug)]
pub(crate) struct DetachedLock<T>(Mutex<T>);

impl<T: Send> DetachedLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Runs `work` on the value, detached from the interpreter.
    ///
    /// # Errors
    /// `RuntimeError` if an earlier call panicked halfway and left the value in an unknown state.
    pub(crate) fn with<R: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut T) -> R + Send) -> PyResult<R> {
        py.detach(|| self.0.lock().map(|mut value| work(&mut value)).map_err(|_| ()))
            .map_err(|()| PyRuntimeError::new_err("an earlier call failed halfway; this accumulator cannot be used any more"))
    }
}
