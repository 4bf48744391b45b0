//! The functions of the CUDA driver that are called, found one by one in `libcuda` when first asked for.
//!
//! Signatures: <https://docs.nvidia.com/cuda/cuda-driver-api/>. Those used here exist since CUDA 10 and have kept their form.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use libloading::Library;

use crate::error::{CudaError, Result};

/// A context, module, function or stream of the driver.
pub(crate) type Handle = *mut c_void;

/// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`
pub(crate) const MULTIPROCESSOR_COUNT: c_int = 16;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`
pub(crate) const CAPABILITY_MAJOR: c_int = 75;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR`
pub(crate) const CAPABILITY_MINOR: c_int = 76;
/// `CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN`
pub(crate) const SHARED_BYTES_OPTIN: c_int = 97;
/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`
pub(crate) const MAX_DYNAMIC_SHARED_BYTES: c_int = 8;

/// `cuLaunchKernel`: function, grid, block, shared bytes, stream, arguments, extra.
type LaunchKernel = unsafe extern "C" fn(
    Handle,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    Handle,
    *mut *mut c_void,
    *mut *mut c_void,
) -> c_int;

/// The driver's functions.
#[derive(Debug)]
pub struct Driver {
    version: i32,
    pub(crate) device_get: unsafe extern "C" fn(*mut c_int, c_int) -> c_int,
    pub(crate) device_get_attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int,
    pub(crate) primary_context_retain: unsafe extern "C" fn(*mut Handle, c_int) -> c_int,
    pub(crate) context_get_current: unsafe extern "C" fn(*mut Handle) -> c_int,
    pub(crate) context_set_current: unsafe extern "C" fn(Handle) -> c_int,
    pub(crate) module_load_data: unsafe extern "C" fn(*mut Handle, *const c_void) -> c_int,
    pub(crate) module_get_function: unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> c_int,
    pub(crate) function_set_attribute: unsafe extern "C" fn(Handle, c_int, c_int) -> c_int,
    pub(crate) launch_kernel: LaunchKernel,
    pub(crate) stream_is_capturing: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    get_error_string: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int,
    // Keeps the functions where they are.
    _library: Library,
}

/// One function of a library, as a copy of its address.
///
/// # Safety
/// - `F` must be the function's signature.
/// - The copy must not be called after the library was closed.
pub(crate) unsafe fn symbol<F: Copy>(library: &Library, name: &str) -> Result<F> {
    // SAFETY: the caller vouches for the signature.
    let found = unsafe { library.get::<F>(name.as_bytes()) };
    found.map(|function| *function).map_err(|_| CudaError::Unavailable { reason: format!("the library found has no {name}") })
}

impl Driver {
    /// The driver of this machine, looked for once.
    ///
    /// # Errors
    /// [`CudaError::Unavailable`] with the reason why there is none.
    pub fn get() -> Result<&'static Self> {
        static DRIVER: OnceLock<Result<Driver>> = OnceLock::new();
        DRIVER.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self> {
        let name = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
        // SAFETY: what the driver runs when it is loaded is what every program that uses CUDA relies on.
        let library = unsafe { Library::new(name) }
            .map_err(|error| CudaError::Unavailable { reason: format!("no NVIDIA driver: {error}") })?;
        // SAFETY: the signatures are those of the driver's documentation, and the library is kept as long as the functions.
        let driver = unsafe {
            let initialize: unsafe extern "C" fn(c_uint) -> c_int = symbol(&library, "cuInit")?;
            let get_version: unsafe extern "C" fn(*mut c_int) -> c_int = symbol(&library, "cuDriverGetVersion")?;
            let mut driver = Self {
                version: 0,
                device_get: symbol(&library, "cuDeviceGet")?,
                device_get_attribute: symbol(&library, "cuDeviceGetAttribute")?,
                primary_context_retain: symbol(&library, "cuDevicePrimaryCtxRetain")?,
                context_get_current: symbol(&library, "cuCtxGetCurrent")?,
                context_set_current: symbol(&library, "cuCtxSetCurrent")?,
                module_load_data: symbol(&library, "cuModuleLoadData")?,
                module_get_function: symbol(&library, "cuModuleGetFunction")?,
                function_set_attribute: symbol(&library, "cuFuncSetAttribute")?,
                launch_kernel: symbol(&library, "cuLaunchKernel")?,
                stream_is_capturing: symbol(&library, "cuStreamIsCapturing")?,
                get_error_string: symbol(&library, "cuGetErrorString")?,
                _library: library,
            };
            driver.check("cuInit", initialize(0))?;
            let mut version = 0;
            driver.check("cuDriverGetVersion", get_version(&raw mut version))?;
            driver.version = version;
            driver
        };
        Ok(driver)
    }

    /// The CUDA version that the driver supports, as 1000 x major + 10 x minor.
    pub const fn version(&self) -> i32 {
        self.version
    }

    /// Turns a function's result into an error with the driver's own words.
    pub(crate) fn check(&self, call: &'static str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let mut text: *const c_char = std::ptr::null();
        // SAFETY: the driver writes the address of a string that lives as long as it does, or null.
        let known = unsafe { (self.get_error_string)(code, &raw mut text) } == 0 && !text.is_null();
        let reason = if known {
            // SAFETY: as above.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        } else {
            "an unknown error".into()
        };
        Err(CudaError::Driver { call, reason, code })
    }
}
