//! `lmfacts-cuda` for Python: devices, the buffers that torch allocates, and what is queued on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lmfacts_core::Dtype;
use lmfacts_cuda::{
    CudaDevice, DeviceTensor, Driver, Emulator, Launcher, Limits, MAX_K, Nvrtc, Program, SiteLayout, SiteUpdate, TokensCall,
    source,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::accumulator::{config, state_dict};
use crate::error::{UnsupportedDtypeError, UsageError, cuda_to_py};
use crate::tensor::Tensor;

fn dtype_named(name: &str) -> PyResult<Dtype> {
    Dtype::from_name(name).filter(|&dtype| Program::counts(dtype)).ok_or_else(|| {
        UnsupportedDtypeError::new_err(format!("expected float32, bfloat16 or float16, which kernels count, got {name}"))
    })
}

/// A device that runs kernels.
#[pyclass(name = "Device", module = "lmfacts._native", frozen)]
pub(crate) struct PyDevice {
    launcher: Arc<dyn Launcher>,
    architecture: Option<(i32, i32)>,
}

#[pymethods]
impl PyDevice {
    /// A CUDA device, as torch counts them.
    ///
    /// Args:
    ///     index: its number.
    ///     folders: where NVRTC may lie, if torch has not loaded it.
    ///     cache: folder for compiled kernels; None keeps none.
    ///
    /// Raises:
    ///     CudaUnavailableError: there is no driver, or the device is too old.
    ///     CudaError: the driver refuses.
    #[staticmethod]
    #[pyo3(signature = (index, folders, cache = None))]
    fn cuda(py: Python<'_>, index: i32, folders: Vec<PathBuf>, cache: Option<PathBuf>) -> PyResult<Self> {
        let device = py.detach(|| CudaDevice::new(index, folders, cache)).map_err(cuda_to_py)?;
        let architecture = Some(device.architecture());
        Ok(Self { launcher: Arc::new(device), architecture })
    }

    /// The processor in the place of a device, for tests without a GPU.
    ///
    /// Args:
    ///     libraries: for each dtype, the shared library built from `kernel_source` with the definitions of `kernel_options`.
    ///     n_multiprocessors: how many the device is to have.
    ///     shared_bytes: shared memory that a block can have.
    ///
    /// Raises:
    ///     CudaUnavailableError: a library cannot be opened.
    #[staticmethod]
    fn emulated(libraries: &Bound<'_, PyDict>, n_multiprocessors: u32, shared_bytes: u32) -> PyResult<Self> {
        let mut opened = Vec::new();
        for (name, path) in libraries {
            opened.push((dtype_named(&name.extract::<String>()?)?, path.extract::<PathBuf>()?));
        }
        let opened: Vec<(Dtype, &Path)> = opened.iter().map(|(dtype, path)| (*dtype, path.as_path())).collect();
        let emulator = Emulator::open(&opened, Limits { n_multiprocessors, shared_bytes }).map_err(cuda_to_py)?;
        Ok(Self { launcher: Arc::new(emulator), architecture: None })
    }

    /// Compiles and loads the kernels for a dtype, and those for tokens, so that nothing has to be loaded later.
    ///
    /// Raises:
    ///     UnsupportedDtypeError: kernels do not count this dtype.
    ///     KernelCompileError, CudaUnavailableError, CudaError: as their messages say.
    fn prepare(&self, py: Python<'_>, dtype: &str) -> PyResult<()> {
        let dtype = dtype_named(dtype)?;
        py.detach(|| {
            self.launcher.prepare(Program::Tokens)?;
            self.launcher.prepare(Program::Values(dtype))
        })
        .map_err(cuda_to_py)
    }

    /// Multiprocessors, shared bytes of a block, and compute capability, which an emulated device has none of.
    fn limits(&self) -> (u32, u32, Option<(i32, i32)>) {
        let limits = self.launcher.limits();
        (limits.n_multiprocessors, limits.shared_bytes, self.architecture)
    }
}

/// Memory of a device that a tensor owns; the tensor lives as long as this.
#[pyclass(name = "DeviceBuffer", module = "lmfacts._native", frozen)]
pub(crate) struct PyDeviceBuffer {
    _owner: Py<PyAny>,
    address: usize,
    n_bytes: usize,
}

#[pymethods]
impl PyDeviceBuffer {
    /// The memory of a contiguous tensor of bytes.
    #[new]
    fn new(tensor: &Bound<'_, PyAny>) -> PyResult<Self> {
        let held = device_tensor(tensor)?;
        let [n_bytes] = held.shape() else {
            return Err(UsageError::new_err(format!("expected a tensor of one axis, got shape {:?}", held.shape())));
        };
        if held.kind.1 != 8 || held.strides() != [1] {
            return Err(UsageError::new_err("expected contiguous bytes (torch.uint8)"));
        }
        Ok(Self { _owner: tensor.clone().unbind(), address: held.address, n_bytes: *n_bytes as usize })
    }
}

/// What DLPack says of a tensor on whatever device. The address is the tensor's own, and good while the tensor lives.
fn device_tensor(tensor: &Bound<'_, PyAny>) -> PyResult<DeviceTensor> {
    Tensor::of(tensor)?.on_device()
}

/// All statistics of one site, kept in a buffer on a device.
///
/// Args:
///     device: where.
///     dtype: of the values: float32, bfloat16 or float16.
///     n_dims: of each token.
///     k, threshold, statistics: as `SiteAccumulator` has them.
///
/// Raises:
///     UnsupportedDtypeError: kernels do not count this dtype.
///     UsageError: more outliers than the kernels keep, or no such statistic.
#[pyclass(name = "DeviceSite", module = "lmfacts._native", frozen)]
pub(crate) struct PyDeviceSite {
    launcher: Arc<dyn Launcher>,
    layout: SiteLayout,
    dtype: Dtype,
}

#[pymethods]
impl PyDeviceSite {
    #[new]
    #[pyo3(signature = (device, dtype, n_dims, *, k = 64, threshold = 6.0, statistics = Vec::new()))]
    #[allow(clippy::needless_pass_by_value)] // what a Python sequence is turned into
    fn new(
        device: &Bound<'_, PyDevice>,
        dtype: &str,
        n_dims: usize,
        k: usize,
        threshold: f64,
        statistics: Vec<String>,
    ) -> PyResult<Self> {
        let dtype = dtype_named(dtype)?;
        if k > MAX_K {
            return Err(UsageError::new_err(format!("k: expected at most {MAX_K} outliers on a device, got {k}")));
        }
        let config = config(k, threshold, &statistics)?;
        let launcher = Arc::clone(&device.get().launcher);
        Ok(Self { launcher, layout: SiteLayout::new(config, dtype, n_dims), dtype })
    }

    /// Bytes of the state, whose buffer must be zeros at first.
    #[getter]
    fn state_bytes(&self) -> usize {
        self.layout.state_bytes()
    }

    /// Bytes of scratch memory that an update with so many rows works in.
    fn scratch_bytes(&self, n_rows: usize) -> usize {
        self.layout.scratch_bytes(n_rows, self.launcher.limits())
    }

    /// Queues an update on a stream and returns.
    ///
    /// The caller answers for the stream being alive and for the buffers lying on the device, being as large as they have to be,
    /// and being used by nothing else until the stream has come past the update.
    ///
    /// Args:
    ///     tensor: on the device; its leading axes are the tokens.
    ///     n_tokens: how many the description has.
    ///     tokens: the description that `describe_tokens` queued on the same stream.
    ///     state: the site's state.
    ///     scratch: memory to work in; updates on one stream may share it.
    ///     stream: the stream's handle, as torch's `cuda_stream` gives it.
    ///
    /// Returns:
    ///     Whether it was queued; False if the tensor has to be made contiguous first.
    ///
    /// Raises:
    ///     LayoutError: the shape does not fit the tokens, or the dims.
    ///     UnsupportedDtypeError: another dtype than the site's.
    ///     CudaError: the driver refuses, or a graph is being captured before the kernels were loaded.
    #[allow(clippy::too_many_arguments)] // one for each buffer
    fn update(
        &self,
        tensor: &Bound<'_, PyAny>,
        n_tokens: usize,
        tokens: &Bound<'_, PyDeviceBuffer>,
        state: &Bound<'_, PyDeviceBuffer>,
        scratch: &Bound<'_, PyDeviceBuffer>,
        stream: usize,
    ) -> PyResult<bool> {
        let held = Tensor::of(tensor)?;
        let found = held.dtype()?;
        if found != self.dtype {
            return Err(UnsupportedDtypeError::new_err(format!("expected {}, as before, got {found}", self.dtype)));
        }
        let Some(rows) = held.on_device()?.rows(n_tokens, self.dtype).map_err(cuda_to_py)? else { return Ok(false) };
        let (tokens, state, scratch) = (tokens.get(), state.get(), scratch.get());
        let needed = [(tokens.n_bytes, TokensCall::tokens_bytes(n_tokens)), (state.n_bytes, self.layout.state_bytes())];
        if needed.iter().any(|(found, needed)| found < needed) {
            return Err(UsageError::new_err(format!("expected larger buffers; found and needed are {needed:?} bytes")));
        }
        let update = SiteUpdate {
            layout: &self.layout,
            rows,
            tokens: tokens.address,
            state: state.address,
            scratch: (scratch.address, scratch.n_bytes),
            stream,
        };
        // SAFETY: the sizes were compared above, the buffers hold their tensors, and `tensor` is alive in the caller's hands;
        // that the work is ordered by the stream is what the method's documentation asks of the caller.
        #[allow(unsafe_code)]
        unsafe { update.queue(&*self.launcher) }.map_err(cuda_to_py)?;
        Ok(true)
    }

    /// The part of the state that says where the outliers stand: its first byte and how many there are.
    #[getter]
    fn places_section(&self) -> (usize, usize) {
        self.layout.places_section()
    }

    /// Sequence and position of each outlier, from the bytes of that part.
    fn places(&self, section: &[u8]) -> PyResult<Vec<(i64, i64)>> {
        let n_bytes = self.layout.places_section().1;
        if section.len() < n_bytes {
            return Err(UsageError::new_err(format!("expected {n_bytes} bytes, got {}", section.len())));
        }
        Ok(self.layout.places(section))
    }

    /// The state in these bytes, as `SiteAccumulator.state` gives it, and how many updates it has seen.
    fn decode<'py>(&self, py: Python<'py>, state: &[u8]) -> PyResult<(Bound<'py, PyDict>, u64)> {
        if state.len() < self.layout.state_bytes() {
            return Err(UsageError::new_err(format!("expected {} bytes, got {}", self.layout.state_bytes(), state.len())));
        }
        let (decoded, n_calls) = py.detach(|| (self.layout.decode(state), self.layout.n_calls(state)));
        Ok((state_dict(py, &decoded)?, n_calls))
    }
}

/// Bytes of the description of a pass's tokens.
#[pyfunction]
pub(crate) fn tokens_bytes(n_tokens: usize) -> usize {
    TokensCall::tokens_bytes(n_tokens)
}

/// Bytes to remember from pass to pass, for up to so many sequences side by side. The first three int64 are the sequences, tokens
/// and passes so far.
#[pyfunction]
pub(crate) fn tokens_memory_bytes(n_rows: usize) -> usize {
    TokensCall::memory_bytes(n_rows)
}

/// Queues the description of a pass's tokens, with which updates on the same stream then work. What the caller answers for is as
/// for `DeviceSite.update`.
///
/// Args:
///     device: where.
///     shape: sequences and columns.
///     ids: token ids of this shape, int32 or int64, or None.
///     real: not zero for real tokens, of this shape; None if all are.
///     starts: integers of this shape or with one row for all, 0 where a sequence begins inside a row; or None.
///     earlier: int32 or int64 [rows, 1]: real tokens of each row that earlier passes have read; or None.
///     n_earlier: the same for all rows, where `earlier` is None.
///     length: one number; if it is 0, the pass does not go on with anything; or None.
///     continues: whether the pass goes on with the sequences of the one before.
///     tokens: buffer for the description.
///     memory: what is remembered from pass to pass; zeros at first.
///     stream: the stream's handle.
///
/// Raises:
///     LayoutError: a shape does not fit, or a buffer is too small.
///     CudaError: the driver refuses, or a graph is being captured before the kernels were loaded.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // one for each argument of the model's call and each buffer
pub(crate) fn describe_tokens(
    device: &Bound<'_, PyDevice>,
    shape: (usize, usize),
    ids: Option<&Bound<'_, PyAny>>,
    real: Option<&Bound<'_, PyAny>>,
    starts: Option<&Bound<'_, PyAny>>,
    earlier: Option<&Bound<'_, PyAny>>,
    n_earlier: usize,
    length: Option<&Bound<'_, PyAny>>,
    continues: bool,
    tokens: &Bound<'_, PyDeviceBuffer>,
    memory: &Bound<'_, PyDeviceBuffer>,
    stream: usize,
) -> PyResult<()> {
    let given = |tensor: Option<&Bound<'_, PyAny>>| tensor.map(device_tensor).transpose();
    let call = TokensCall {
        shape,
        ids: given(ids)?,
        real: given(real)?,
        starts: given(starts)?,
        earlier: given(earlier)?,
        n_earlier,
        length: given(length)?,
        continues,
        tokens: (tokens.get().address, tokens.get().n_bytes),
        memory: (memory.get().address, memory.get().n_bytes),
        stream,
    };
    // SAFETY: the buffers hold their tensors and their sizes are compared there; the rest is for the caller to see to, as
    // documented.
    #[allow(unsafe_code)]
    unsafe { call.queue(&*device.get().launcher) }.map_err(cuda_to_py)
}

/// What there is of CUDA: the driver's version and NVRTC's, each with the reason if there is none.
///
/// Args:
///     folders: where NVRTC may lie, if torch has not loaded it.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // what a Python list is turned into
pub(crate) fn cuda_info(py: Python<'_>, folders: Vec<PathBuf>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    let (driver, nvrtc) = py.detach(|| (Driver::get(), Nvrtc::get(&folders)));
    match driver {
        Ok(driver) => info.set_item("driver", (driver.version() / 1000, driver.version() % 1000 / 10))?,
        Err(error) => info.set_item("driver_reason", error.to_string())?,
    }
    match nvrtc {
        Ok(nvrtc) => {
            info.set_item("nvrtc", nvrtc.version())?;
            info.set_item("nvrtc_origin", nvrtc.origin())?;
        }
        Err(error) => info.set_item("nvrtc_reason", error.to_string())?,
    }
    Ok(info)
}

/// The kernels that describe tokens (dtype None) or count values of a dtype, as source for another prelude.
#[pyfunction]
#[pyo3(signature = (dtype = None))]
pub(crate) fn kernel_source(dtype: Option<&str>) -> PyResult<String> {
    Ok(source(program_of(dtype)?, false))
}

/// The compiler's options for a device of this compute capability and shared memory.
#[pyfunction]
pub(crate) fn kernel_options(dtype: Option<&str>, architecture: (i32, i32), shared_bytes: u32) -> PyResult<Vec<String>> {
    Ok(program_of(dtype)?.options(architecture, Limits { n_multiprocessors: 1, shared_bytes }))
}

/// Machine code for a compute capability, by NVRTC, which needs no GPU.
///
/// Raises:
///     KernelCompileError: with the compiler's log.
///     CudaUnavailableError: there is no NVRTC.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // as above
pub(crate) fn compile_kernels<'py>(
    py: Python<'py>,
    dtype: Option<&str>,
    architecture: (i32, i32),
    shared_bytes: u32,
    folders: Vec<PathBuf>,
) -> PyResult<Bound<'py, PyBytes>> {
    let program = program_of(dtype)?;
    let options = program.options(architecture, Limits { n_multiprocessors: 1, shared_bytes });
    let compiled = py.detach(|| Nvrtc::get(&folders)?.compile(&source(program, true), &options)).map_err(cuda_to_py)?;
    Ok(PyBytes::new(py, &compiled))
}

fn program_of(dtype: Option<&str>) -> PyResult<Program> {
    dtype.map_or(Ok(Program::Tokens), |name| dtype_named(name).map(Program::Values))
}
