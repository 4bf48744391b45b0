//! A processor in the place of a device: the kernels' sources, built by a host compiler into a shared library, run on host
//! memory.
//!
//! Tests use it, so that all but the driver's own calls is tested where there is no GPU.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::Mutex;

use libloading::Library;
use lmfacts_core::Dtype;

use crate::driver::symbol;
use crate::error::{CudaError, Result};
use crate::program::Program;
use crate::{Launch, Launcher, Limits};

type LaunchFn = unsafe extern "C" fn(*const c_char, *const u32, u32, u32, *const c_void, u64) -> c_int;

/// One built library for each type of values.
#[derive(Debug)]
pub struct Emulator {
    limits: Limits,
    // The library keeps one block's state, so that only one thread may be in it.
    libraries: Mutex<Vec<(Dtype, LaunchFn, Library)>>,
}

impl Emulator {
    /// Opens the libraries, which must have been built from the sources and options that `Program` gives for these limits.
    ///
    /// # Errors
    /// [`CudaError::Unavailable`] if one cannot be opened or is none.
    pub fn open(libraries: &[(Dtype, &Path)], limits: Limits) -> Result<Self> {
        let open = |&(dtype, path): &(Dtype, &Path)| {
            // SAFETY: the caller built the library from this crate's sources; nothing in it runs when it is loaded.
            let library = unsafe { Library::new(path) }.map_err(|error| CudaError::Unavailable { reason: error.to_string() })?;
            // SAFETY: the signature is that of `lmfacts_launch` in the library's source; the library is kept beside the function.
            let function: LaunchFn = unsafe { symbol(&library, "lmfacts_launch") }?;
            Ok((dtype, function, library))
        };
        Ok(Self { limits, libraries: Mutex::new(libraries.iter().map(open).collect::<Result<_>>()?) })
    }
}

impl Launcher for Emulator {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn prepare(&self, _program: Program) -> Result<()> {
        Ok(())
    }

    unsafe fn launch_raw(&self, launch: &Launch<'_, ()>, argument_bytes: usize) -> Result<()> {
        let refused = |code, reason: &str| CudaError::Driver { call: "lmfacts_launch", reason: reason.into(), code };
        let libraries = self.libraries.lock().map_err(|_| refused(-1, "an earlier launch failed halfway"))?;
        let found = libraries.iter().find(|(dtype, ..)| match launch.program {
            Program::Tokens => true,
            Program::Values(wanted) => *dtype == wanted,
        });
        let Some((_, function, _)) = found else { return Err(refused(-1, "no library for values of this type")) };
        let name = CString::new(launch.kernel.name()).unwrap_or_default();
        let arguments = std::ptr::from_ref(launch.arguments).cast::<c_void>();
        // SAFETY: the caller vouches for the arguments, whose size the library compares with its own.
        let code = unsafe {
            function(name.as_ptr(), launch.grid.as_ptr(), launch.n_threads, launch.shared_bytes, arguments, argument_bytes as u64)
        };
        match code {
            0 => Ok(()),
            1 => Err(refused(code, "the library has no such kernel")),
            2 => Err(refused(code, "the arguments have another size than in the kernels' source")),
            _ => Err(refused(code, "no device would take a launch of this shape")),
        }
    }
}
