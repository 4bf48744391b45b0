//! CUDA's run-time compiler, as far as it is needed: source in, machine code for one architecture out. It needs no GPU.
//!
//! Interface: <https://docs.nvidia.com/cuda/nvrtc/>.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

use crate::driver::symbol;
use crate::error::{CudaError, Result};

type Handle = *mut c_void;
type SizeFn = unsafe extern "C" fn(Handle, *mut usize) -> c_int;
type TextFn = unsafe extern "C" fn(Handle, *mut c_char) -> c_int;

/// The compiler's functions.
#[derive(Debug)]
pub struct Nvrtc {
    version: (i32, i32),
    origin: String,
    create_program: unsafe extern "C" fn(
        *mut Handle,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int,
    destroy_program: unsafe extern "C" fn(*mut Handle) -> c_int,
    compile_program: unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> c_int,
    log_size: SizeFn,
    log: TextFn,
    cubin_size: SizeFn,
    cubin: TextFn,
    // Keeps the functions where they are.
    _library: Library,
}

/// Newest first.
const NAMES: [&str; 2] = ["libnvrtc.so.13", "libnvrtc.so.12"];

/// Loads what the compiler calls its builtins from where a wheel has put them, for everybody to see: the compiler opens them by
/// their bare name, which no search path leads to. Those of another version do no harm.
#[cfg(unix)]
fn load_builtins(folder: &Path) {
    use libloading::os::unix;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("libnvrtc-builtins.so") {
            // SAFETY: loading CUDA's compiler runs nothing but its own initialization.
            if let Ok(library) = unsafe { unix::Library::open(Some(entry.path()), unix::RTLD_NOW | unix::RTLD_GLOBAL) } {
                std::mem::forget(library); // stays for as long as the compiler, which is as long as the process
            }
        }
    }
}

#[cfg(not(unix))]
fn load_builtins(_folder: &Path) {}

impl Nvrtc {
    /// The compiler, looked for once: one that is loaded already or that the system knows, then in the folders given with the
    /// first call.
    ///
    /// # Errors
    /// [`CudaError::Unavailable`] with all that was tried.
    pub fn get(folders: &[PathBuf]) -> Result<&'static Self> {
        static NVRTC: OnceLock<Result<Nvrtc>> = OnceLock::new();
        NVRTC.get_or_init(|| Self::load(folders)).as_ref().map_err(Clone::clone)
    }

    fn load(folders: &[PathBuf]) -> Result<Self> {
        let mut tried = Vec::new();
        for folder in folders {
            load_builtins(folder);
        }
        for name in NAMES {
            // SAFETY: loading CUDA's compiler runs nothing but its own initialization.
            match unsafe { Library::new(name) } {
                Ok(library) => return Self::of(library, name.into()),
                Err(error) => tried.push(error.to_string()),
            }
        }
        for folder in folders {
            for name in NAMES {
                let path = folder.join(name);
                if path.exists() {
                    // SAFETY: as above.
                    match unsafe { Library::new(&path) } {
                        Ok(library) => return Self::of(library, path.display().to_string()),
                        Err(error) => tried.push(error.to_string()),
                    }
                }
            }
        }
        Err(CudaError::Unavailable {
            reason: format!("no NVRTC, the compiler that torch's CUDA builds bring along: {}", tried.join("; ")),
        })
    }

    fn of(library: Library, origin: String) -> Result<Self> {
        // SAFETY: the signatures are those of the compiler's documentation, and the library is kept as long as the functions.
        unsafe {
            let get_version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int = symbol(&library, "nvrtcVersion")?;
            let mut version = (0, 0);
            if get_version(&raw mut version.0, &raw mut version.1) != 0 {
                return Err(CudaError::Unavailable { reason: format!("{origin} does not tell its version") });
            }
            Ok(Self {
                version,
                origin,
                create_program: symbol(&library, "nvrtcCreateProgram")?,
                destroy_program: symbol(&library, "nvrtcDestroyProgram")?,
                compile_program: symbol(&library, "nvrtcCompileProgram")?,
                log_size: symbol(&library, "nvrtcGetProgramLogSize")?,
                log: symbol(&library, "nvrtcGetProgramLog")?,
                cubin_size: symbol(&library, "nvrtcGetCUBINSize")?,
                cubin: symbol(&library, "nvrtcGetCUBIN")?,
                _library: library,
            })
        }
    }

    /// Major and minor version.
    pub const fn version(&self) -> (i32, i32) {
        self.version
    }

    /// The library's name or path.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Compiles a source.
    ///
    /// # Errors
    /// [`CudaError::Compile`] with the compiler's log.
    pub fn compile(&self, source: &str, options: &[String]) -> Result<Vec<u8>> {
        let text = |text: &str| CString::new(text).unwrap_or_default();
        let (source, name) = (text(source), text("lmfacts.cu"));
        let owned: Vec<_> = options.iter().map(|option| text(option)).collect();
        let pointers: Vec<_> = owned.iter().map(|option| option.as_ptr()).collect();
        let failed = |log: String| CudaError::Compile { options: options.join(" "), log };
        let mut program = std::ptr::null_mut();
        // SAFETY: the strings end with a null and live through the calls; no header is given. The program is destroyed below.
        unsafe {
            let code =
                (self.create_program)(&raw mut program, source.as_ptr(), name.as_ptr(), 0, std::ptr::null(), std::ptr::null());
            if code != 0 {
                return Err(failed(format!("nvrtcCreateProgram gave error {code}")));
            }
            let code = (self.compile_program)(program, pointers.len() as c_int, pointers.as_ptr());
            let result = if code == 0 {
                Self::bytes(program, self.cubin_size, self.cubin)
            } else {
                let log = Self::bytes(program, self.log_size, self.log).unwrap_or_default();
                Err(format!("error {code}: {}", String::from_utf8_lossy(&log).trim_end_matches('\0')))
            };
            (self.destroy_program)(&raw mut program);
            result.map_err(failed)
        }
    }

    /// What a pair of functions, one for the size and one for the content, has to say of a program.
    ///
    /// # Safety
    /// The program must be alive, and the functions must belong together.
    unsafe fn bytes(program: Handle, size: SizeFn, content: TextFn) -> std::result::Result<Vec<u8>, String> {
        let mut n_bytes = 0;
        // SAFETY: the caller vouches for the program.
        let code = unsafe { size(program, &raw mut n_bytes) };
        let mut bytes = vec![0u8; n_bytes];
        if code == 0 && n_bytes > 0 {
            // SAFETY: as above, and the buffer has the size that was asked for.
            let code = unsafe { content(program, bytes.as_mut_ptr().cast()) };
            if code == 0 {
                return Ok(bytes);
            }
        }
        Err(format!("the compiler gives nothing back (error {code}, {n_bytes} bytes)"))
    }
}
