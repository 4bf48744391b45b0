//! A CUDA device: its kernels, and launches on streams that belong to somebody else.

#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_void};
use std::path::PathBuf;
use std::sync::OnceLock;

use lmfacts_core::Dtype;

use crate::cache::compiled;
use crate::driver::{
    CAPABILITY_MAJOR, CAPABILITY_MINOR, Driver, Handle, MAX_DYNAMIC_SHARED_BYTES, MULTIPROCESSOR_COUNT, SHARED_BYTES_OPTIN,
};
use crate::error::{CudaError, Result};
use crate::nvrtc::Nvrtc;
use crate::program::{Kernel, Program, source};
use crate::{Launch, Launcher, Limits};

/// The oldest architecture that the kernels are meant for: the first with bfloat16 and enough shared memory.
const OLDEST: (i32, i32) = (8, 0);

/// One device, in the context that torch uses (its primary one).
#[derive(Debug)]
pub struct CudaDevice {
    driver: &'static Driver,
    context: usize,
    architecture: (i32, i32),
    limits: Limits,
    folders: Vec<PathBuf>,
    cache: Option<PathBuf>,
    loaded: [OnceLock<Result<Functions>>; 4],
}

/// The functions of a loaded program, by the number of their kernel; 0 for kernels of other programs.
#[derive(Debug, Clone)]
struct Functions(Vec<(Kernel, usize)>);

impl CudaDevice {
    /// The device of this number, as torch counts.
    ///
    /// `folders` are where NVRTC may lie; `cache` is where compiled kernels are kept.
    ///
    /// # Errors
    /// [`CudaError::Unavailable`] without a driver, or for a device that is too old; [`CudaError::Driver`].
    pub fn new(index: i32, folders: Vec<PathBuf>, cache: Option<PathBuf>) -> Result<Self> {
        let driver = Driver::get()?;
        let mut device = 0;
        // SAFETY: the driver writes one number.
        driver.check("cuDeviceGet", unsafe { (driver.device_get)(&raw mut device, index) })?;
        let attribute = |attribute: c_int| {
            let mut value = 0;
            // SAFETY: as above.
            let code = unsafe { (driver.device_get_attribute)(&raw mut value, attribute, device) };
            driver.check("cuDeviceGetAttribute", code).map(|()| value)
        };
        let architecture = (attribute(CAPABILITY_MAJOR)?, attribute(CAPABILITY_MINOR)?);
        if architecture < OLDEST {
            return Err(CudaError::Unavailable {
                reason: format!(
                    "expected a device of compute capability {}.{} or later, got {}.{}",
                    OLDEST.0, OLDEST.1, architecture.0, architecture.1
                ),
            });
        }
        let limits = Limits {
            n_multiprocessors: attribute(MULTIPROCESSOR_COUNT)?.max(1) as u32,
            shared_bytes: attribute(SHARED_BYTES_OPTIN)?.max(0) as u32,
        };
        let mut context: Handle = std::ptr::null_mut();
        // SAFETY: as above. It is never released: kernels may be queued for as long as the process lives.
        let code = unsafe { (driver.primary_context_retain)(&raw mut context, device) };
        driver.check("cuDevicePrimaryCtxRetain", code)?;
        let loaded = Default::default();
        Ok(Self { driver, context: context as usize, architecture, limits, folders, cache, loaded })
    }

    /// Major and minor compute capability.
    pub const fn architecture(&self) -> (i32, i32) {
        self.architecture
    }

    /// Makes the device's context that of this thread while `work` is done. Threads of autograd may have none.
    fn in_context<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let driver = self.driver;
        let mut before: Handle = std::ptr::null_mut();
        // SAFETY: the driver writes one handle.
        driver.check("cuCtxGetCurrent", unsafe { (driver.context_get_current)(&raw mut before) })?;
        if before as usize == self.context {
            return work();
        }
        // SAFETY: the context was retained and is never released.
        driver.check("cuCtxSetCurrent", unsafe { (driver.context_set_current)(self.context as Handle) })?;
        let result = work();
        if !before.is_null() {
            // SAFETY: it was this thread's context a moment ago.
            driver.check("cuCtxSetCurrent", unsafe { (driver.context_set_current)(before) })?;
        }
        result
    }

    const fn slot(&self, program: Program) -> &OnceLock<Result<Functions>> {
        &self.loaded[match program {
            Program::Values(Dtype::F32) => 0,
            Program::Values(Dtype::Bf16) => 1,
            Program::Values(_) => 2,
            Program::Tokens => 3,
        }]
    }

    fn functions(&self, program: Program) -> Result<&Functions> {
        self.slot(program).get_or_init(|| self.load(program)).as_ref().map_err(Clone::clone)
    }

    fn load(&self, program: Program) -> Result<Functions> {
        let nvrtc = Nvrtc::get(&self.folders)?;
        let (text, options) = (source(program, true), program.options(self.architecture, self.limits));
        let image = compiled(self.cache.as_deref(), &text, &options, nvrtc.version(), || nvrtc.compile(&text, &options))?;
        let driver = self.driver;
        let mut module: Handle = std::ptr::null_mut();
        // SAFETY: the image is a whole cubin, which the driver copies.
        driver.check("cuModuleLoadData", unsafe { (driver.module_load_data)(&raw mut module, image.as_ptr().cast()) })?;
        let mut functions = Vec::new();
        for kernel in Kernel::of(program) {
            let name = CString::new(kernel.name()).unwrap_or_default();
            let mut function: Handle = std::ptr::null_mut();
            // SAFETY: the module is loaded and never unloaded, the name ends with a null.
            let code = unsafe { (driver.module_get_function)(&raw mut function, module, name.as_ptr()) };
            driver.check("cuModuleGetFunction", code)?;
            if kernel == Kernel::CODES {
                let n_bytes = program.table_bytes(self.limits) as c_int;
                // SAFETY: the function was just found.
                let code = unsafe { (driver.function_set_attribute)(function, MAX_DYNAMIC_SHARED_BYTES, n_bytes) };
                driver.check("cuFuncSetAttribute", code)?;
            }
            functions.push((kernel, function as usize));
        }
        Ok(Functions(functions))
    }
}

impl Launcher for CudaDevice {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn prepare(&self, program: Program) -> Result<()> {
        self.in_context(|| self.functions(program).map(drop))
    }

    unsafe fn launch_raw(&self, launch: &Launch<'_, ()>, _argument_bytes: usize) -> Result<()> {
        let driver = self.driver;
        let stream = launch.stream as Handle;
        self.in_context(|| {
            if self.slot(launch.program).get().is_none() {
                let mut capturing = 0;
                // SAFETY: the caller's stream is alive; the driver writes one number.
                let code = unsafe { (driver.stream_is_capturing)(stream, &raw mut capturing) };
                driver.check("cuStreamIsCapturing", code)?;
                if capturing != 0 {
                    return Err(CudaError::Capturing { program: launch.program.to_string() });
                }
            }
            let functions = &self.functions(launch.program)?.0;
            let found = functions.iter().find(|(kernel, _)| *kernel == launch.kernel);
            let Some((_, function)) = found else { unreachable!("a launch names a kernel of its program") };
            let mut arguments = [std::ptr::from_ref(launch.arguments).cast_mut().cast::<c_void>()];
            let [x, y, z] = launch.grid;
            // SAFETY: the function takes one argument, of the type that the caller vouches for; the driver copies it before it
            // returns.
            let code = unsafe {
                (driver.launch_kernel)(
                    *function as Handle,
                    x,
                    y,
                    z,
                    launch.n_threads,
                    1,
                    1,
                    launch.shared_bytes,
                    stream,
                    arguments.as_mut_ptr(),
                    std::ptr::null_mut(),
                )
            };
            driver.check("cuLaunchKernel", code)
        })
    }
}
