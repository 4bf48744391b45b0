//! Tensors from Python, without a copy.
//!
//! `torch.Tensor` and `Parameter` come by DLPack's C exchange API where torch has it: one C call fills a structure whose pointers
//! belong to the tensor, nothing is allocated, and autograd does not notice. Everything else, NumPy arrays included, comes by the
//! capsule protocol, which hands over ownership. Only those two exact classes take the first way: a subclass may have no plain memory.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

use lmfacts_core::dlpack::{DLManagedTensor, DLManagedTensorVersioned, DLPackExchangeAPI, DLTensor, MAJOR_VERSION};
use lmfacts_core::{BufferView, Dtype};
use lmfacts_cuda::DeviceTensor;
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyDict, PyType};

use crate::error::{BufferImportError, cuda_to_py, to_py};

const EXCHANGE_NAME: &CStr = c"dlpack_exchange_api";
const VERSIONED_NAME: &CStr = c"dltensor_versioned";
const UNVERSIONED_NAME: &CStr = c"dltensor";

type ExchangeFn = unsafe extern "C" fn(*mut c_void, *mut DLTensor) -> i32;

/// A Python class and its exchange function, if it has one.
struct Exchange {
    class: Py<PyType>,
    function: Option<ExchangeFn>,
}

/// The classes that may use the exchange API, by module and name.
const EXCHANGED: [(&str, &str); 2] = [("torch", "Tensor"), ("torch.nn.parameter", "Parameter")];
static KNOWN: [PyOnceLock<Exchange>; EXCHANGED.len()] = [PyOnceLock::new(), PyOnceLock::new()];

fn exchange_function(class: &Bound<'_, PyType>) -> PyResult<Option<ExchangeFn>> {
    let py = class.py();
    for known in &KNOWN {
        if let Some(exchange) = known.get(py)
            && exchange.class.is(class)
        {
            return Ok(exchange.function);
        }
    }
    let (module, name) = (class.module()?, class.name()?);
    let Some(index) = EXCHANGED.iter().position(|&(m, n)| module == m && name == n) else { return Ok(None) };
    let exchange = KNOWN[index].get_or_try_init(py, || {
        let function = match class.getattr_opt("__dlpack_c_exchange_api__")? {
            Some(capsule) => find_function(&capsule.cast_into::<PyCapsule>()?)?,
            None => None,
        };
        Ok::<_, PyErr>(Exchange { class: class.clone().unbind(), function })
    })?;
    Ok(if exchange.class.is(class) { exchange.function } else { None })
}

/// The function in the table of the right major version, if the chain has one.
fn find_function(capsule: &Bound<'_, PyCapsule>) -> PyResult<Option<ExchangeFn>> {
    let mut table = capsule_pointer(capsule, EXCHANGE_NAME)?.cast::<DLPackExchangeAPI>().as_ptr();
    while !table.is_null() {
        // SAFETY: by the protocol a capsule of this name points to such a table, which lives as long as the process, and so do those it
        // links to; the header has the same place in every version.
        let header = unsafe { &(*table).header };
        if header.version.major == MAJOR_VERSION {
            // SAFETY: as above, and the major version says that the fields are where we expect them.
            return Ok(unsafe { (*table).dltensor_from_py_object_no_sync });
        }
        table = header.prev_api.cast();
    }
    Ok(None)
}

fn capsule_pointer(capsule: &Bound<'_, PyCapsule>, name: &CStr) -> PyResult<NonNull<c_void>> {
    // SAFETY: the object is a capsule; a wrong name comes back as null with an error set.
    let pointer = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), name.as_ptr()) };
    NonNull::new(pointer).ok_or_else(|| PyErr::fetch(capsule.py()))
}

/// A tensor whose memory stays where it is while this lives.
pub(crate) enum Tensor<'py> {
    /// The pointers belong to the Python object, which is held.
    Borrowed { _owner: Bound<'py, PyAny>, tensor: DLTensor },
    /// Ownership came in a versioned capsule.
    Versioned(NonNull<DLManagedTensorVersioned>),
    /// Ownership came in a capsule of the form before version 1.
    Unversioned(NonNull<DLManagedTensor>),
}

impl<'py> Tensor<'py> {
    /// Takes a tensor in.
    ///
    /// # Errors
    /// `BufferImportError` for an object that is no tensor or will not be exported; whatever its own export raises otherwise.
    pub(crate) fn of(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Some(function) = exchange_function(&object.get_type())? {
            // The imaginary part of a conjugate: its memory holds the negated values, which no field of DLPack says.
            if object.call_method0("is_neg")?.is_truthy()? {
                return Err(BufferImportError::new_err(
                    "expected a tensor whose memory holds its values, got one with the negative bit set; call resolve_neg() on it first",
                ));
            }
            let mut tensor = DLTensor::empty();
            // SAFETY: the function comes from this object's own class, and fills the structure or returns an error.
            return match unsafe { function(object.as_ptr().cast(), &raw mut tensor) } {
                0 => Ok(Self::Borrowed { _owner: object.clone(), tensor }),
                _ => Err(refused(object, &PyErr::fetch(object.py()))),
            };
        }
        Self::by_capsule(object)
    }

    fn by_capsule(object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let class = object.get_type().fully_qualified_name()?;
        if !object.hasattr("__dlpack__")? {
            return Err(BufferImportError::new_err(format!(
                "expected a tensor (an object with __dlpack__), got {class}; pass the tensor itself"
            )));
        }
        // Older torch exports the memory of such a tensor all the same, with the wrong signs.
        if object.getattr_opt("is_neg")?.map(|is_neg| is_neg.call0()?.is_truthy()).transpose()?.unwrap_or(false) {
            return Err(BufferImportError::new_err(format!(
                "expected a dense tensor whose memory can be shared, got a {class} with the negative bit set; pass its resolve_neg()"
            )));
        }
        // A tensor that autograd follows exports only its detached twin, which shares the memory.
        let source = match object.getattr_opt("requires_grad")? {
            Some(flag) if flag.is_truthy()? => object.call_method0("detach")?,
            _ => object.clone(),
        };
        let options = PyDict::new(py);
        options.set_item("max_version", (MAJOR_VERSION, 0))?;
        // A GPU's tensor is read on the stream that it was made on: no stream has to wait for another.
        if object.getattr_opt("is_cuda")?.is_some_and(|flag| flag.is_truthy().unwrap_or(false)) {
            options.set_item("stream", -1)?;
        }
        let exported = source.call_method("__dlpack__", (), Some(&options)).or_else(|error| {
            if error.is_instance_of::<PyTypeError>(py) { source.call_method0("__dlpack__") } else { Err(error) }
        });
        let capsule = exported.map_err(|error| refused(object, &error))?;
        let capsule = capsule
            .cast_into::<PyCapsule>()
            .map_err(|_| BufferImportError::new_err(format!("expected a capsule from {class}.__dlpack__, got something else")))?;
        Self::consume(&capsule)
    }

    /// Takes ownership out of a capsule and renames it, as the protocol asks, so that nobody takes it twice.
    fn consume(capsule: &Bound<'py, PyCapsule>) -> PyResult<Self> {
        let is_named = |name: &CStr| {
            // SAFETY: the object is a capsule, the name a C string.
            unsafe { ffi::PyCapsule_IsValid(capsule.as_ptr(), name.as_ptr()) == 1 }
        };
        let (tensor, used) = if is_named(VERSIONED_NAME) {
            let pointer = capsule_pointer(capsule, VERSIONED_NAME)?.cast::<DLManagedTensorVersioned>();
            // SAFETY: by the protocol a capsule of this name holds such a structure; the version has the same place in all of them.
            let version = unsafe { pointer.as_ref() }.version;
            if version.major != MAJOR_VERSION {
                return Err(BufferImportError::new_err(format!(
                    "expected DLPack version {MAJOR_VERSION}, got {}.{}; a newer lmfacts is needed",
                    version.major, version.minor
                )));
            }
            (Self::Versioned(pointer), c"used_dltensor_versioned")
        } else if is_named(UNVERSIONED_NAME) {
            (Self::Unversioned(capsule_pointer(capsule, UNVERSIONED_NAME)?.cast()), c"used_dltensor")
        } else {
            return Err(BufferImportError::new_err("expected a fresh DLPack capsule, got one that was used already"));
        };
        // SAFETY: the object is a capsule, and the name lives as long as the process.
        if unsafe { ffi::PyCapsule_SetName(capsule.as_ptr(), used.as_ptr()) } != 0 {
            std::mem::forget(tensor);
            return Err(PyErr::fetch(capsule.py()));
        }
        Ok(tensor)
    }

    const fn dl_tensor(&self) -> &DLTensor {
        match self {
            Self::Borrowed { tensor, .. } => tensor,
            // SAFETY: the structure is ours until `drop`.
            Self::Versioned(pointer) => unsafe { &pointer.as_ref().dl_tensor },
            // SAFETY: as above.
            Self::Unversioned(pointer) => unsafe { &pointer.as_ref().dl_tensor },
        }
    }

    /// The tensor's memory, readable while this lives.
    ///
    /// # Errors
    /// `BufferImportError` for a tensor without memory; `UnsupportedDeviceError`, `UnsupportedDtypeError` or `LayoutError`.
    pub(crate) fn view(&self) -> PyResult<BufferView<'_>> {
        let tensor = self.dl_tensor();
        // SAFETY: shape belongs to the owner that `self` holds, and counts `ndim` axes.
        let is_empty = (0..tensor.ndim.max(0) as usize).any(|axis| unsafe { *tensor.shape.add(axis) } == 0);
        if tensor.data.is_null() && !is_empty {
            return Err(BufferImportError::new_err(
                "expected a tensor that holds values, got one without memory, as fake and symbolic tensors are",
            ));
        }
        // SAFETY: shape and strides belong to the owner that `self` holds, and so does the memory. That nobody writes to it meanwhile is
        // for the caller of the Python method to see to, as with any two threads that share a tensor.
        unsafe { tensor.view() }.map_err(to_py)
    }

    /// What the tensor is, on whatever device.
    ///
    /// # Errors
    /// `LayoutError` for too many axes.
    pub(crate) fn on_device(&self) -> PyResult<DeviceTensor> {
        // SAFETY: shape and strides belong to the owner that `self` holds, and count `ndim` axes.
        unsafe { DeviceTensor::of(self.dl_tensor()) }.map_err(cuda_to_py)
    }

    /// The type of the values.
    ///
    /// # Errors
    /// `UnsupportedDtypeError` if it is none that can be counted.
    pub(crate) fn dtype(&self) -> PyResult<Dtype> {
        self.dl_tensor().dtype().map_err(to_py)
    }

    /// Lets unsigned integers stand for the bits of a dtype.
    ///
    /// # Errors
    /// `UnsupportedDtypeError` if these are not unsigned integers of that size.
    pub(crate) fn read_bits_as(&mut self, dtype: Dtype) -> PyResult<()> {
        let tensor = match self {
            Self::Borrowed { tensor, .. } => tensor,
            // SAFETY: the structure is ours until `drop`, and nobody else sees it.
            Self::Versioned(pointer) => unsafe { &mut pointer.as_mut().dl_tensor },
            // SAFETY: as above.
            Self::Unversioned(pointer) => unsafe { &mut pointer.as_mut().dl_tensor },
        };
        tensor.read_bits_as(dtype).map_err(to_py)
    }

    const fn way(&self) -> &'static str {
        match self {
            Self::Borrowed { .. } => "exchange",
            Self::Versioned(_) => "capsule",
            Self::Unversioned(_) => "unversioned capsule",
        }
    }
}

impl Drop for Tensor<'_> {
    fn drop(&mut self) {
        match self {
            Self::Borrowed { .. } => {}
            Self::Versioned(pointer) => {
                // SAFETY: ownership was taken in `consume`, and this is the only place that gives it back.
                if let Some(deleter) = unsafe { pointer.as_ref() }.deleter {
                    // SAFETY: as above.
                    unsafe { deleter(pointer.as_ptr()) }
                }
            }
            Self::Unversioned(pointer) => {
                // SAFETY: as above.
                if let Some(deleter) = unsafe { pointer.as_ref() }.deleter {
                    // SAFETY: as above.
                    unsafe { deleter(pointer.as_ptr()) }
                }
            }
        }
    }
}

fn refused(object: &Bound<'_, PyAny>, cause: &PyErr) -> PyErr {
    if !cause.is_instance_of::<PyException>(object.py()) {
        return cause.clone_ref(object.py()); // a KeyboardInterrupt says nothing about the tensor
    }
    let class = object.get_type().fully_qualified_name().map_or_else(|_| "the tensor".into(), |name| name.to_string());
    let error = BufferImportError::new_err(format!(
        "expected a dense tensor whose memory can be shared, got a {class} that cannot: {}",
        // The first line: torch adds where in its own sources the error was made.
        cause.value(object.py()).to_string().lines().next().unwrap_or_default()
    ));
    error.set_cause(object.py(), Some(cause.clone_ref(object.py())));
    error
}

/// What Rust sees of a tensor: pointer, shape, strides (in elements), dtype, and the way it came ("exchange" or "capsule").
#[pyfunction]
pub(crate) fn buffer_info<'py>(tensor: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let held = Tensor::of(tensor)?;
    let view = held.view()?;
    let info = PyDict::new(tensor.py());
    info.set_item("pointer", view.pointer() as usize)?;
    info.set_item("shape", view.shape())?;
    info.set_item("strides", view.strides())?;
    info.set_item("dtype", view.dtype().name())?;
    info.set_item("way", held.way())?;
    Ok(info)
}
