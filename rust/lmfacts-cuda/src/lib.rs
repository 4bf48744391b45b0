//! The statistics of `lmfacts-core` on a CUDA device.
//!
//! Nothing of CUDA is needed to build this crate or to load it. The driver (`libcuda`) and the compiler (NVRTC) are looked for
//! when they are first asked for; what is missing is a reason in words. Kernels are CUDA C++ without headers (`kernels/*.cu`),
//! compiled for the architecture at hand and kept on disk.
//!
//! The caller owns all memory: a site's state, scratch memory and a description of the tokens are buffers on the device that it
//! allocates, and it says on which stream the work is to be queued. Nothing here allocates on the device, copies to the host or
//! waits for it, so that an update can be captured into a CUDA graph and replayed. [`SiteLayout::decode`] turns the bytes of a
//! state into the `SiteState` that the CPU's accumulators are restored from and merged with.
//!
//! Precision: float32 values are summed in float64 throughout. The moments of dims of 16-bit values are summed in float32 over at
//! most 32 rows about a pivot; they agree with float64 to about 1e-6 (`kernels/dims.cu` says why). Counts, codes, extremes and
//! outliers are exact. All sums are combined in a fixed order, so that the same calls on the same kind of device give the same
//! bits.

mod cache;
mod cuda;
mod driver;
mod emulator;
mod error;
mod layout;
mod nvrtc;
mod own_kernels;
mod program;
mod site;
mod state;
mod tensor;
mod tokens;
mod twins;

pub use cuda::CudaDevice;
pub use driver::Driver;
pub use emulator::Emulator;
pub use error::{CudaError, Result};
pub use layout::SiteLayout;
pub use nvrtc::Nvrtc;
pub use program::{Kernel, Program, source};
pub use site::{MAX_K, SiteUpdate};
pub use tensor::{DeviceRows, DeviceTensor};
pub use tokens::TokensCall;

/// What the shape of a launch depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Multiprocessors of the device.
    pub n_multiprocessors: u32,
    /// Bytes of shared memory that a block can have.
    pub shared_bytes: u32,
}

/// One launch of a kernel.
#[derive(Debug)]
pub struct Launch<'a, A> {
    /// The kernel, and the program it belongs to.
    pub kernel: Kernel,
    /// The program compiled for the values' type.
    pub program: Program,
    /// Blocks along three axes.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub n_threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
    /// The kernel's only argument.
    pub arguments: &'a A,
    /// The stream's handle; null is the default one.
    pub stream: usize,
}

/// Something that runs kernels: a CUDA device, or the processor in its place.
pub trait Launcher: Send + Sync {
    /// What the shape of a launch depends on.
    fn limits(&self) -> Limits;

    /// Compiles and loads a program, so that launches of it need nothing more.
    ///
    /// # Errors
    /// [`CudaError::Compile`] or [`CudaError::Driver`].
    fn prepare(&self, program: Program) -> Result<()>;

    /// Queues work on a stream and returns.
    ///
    /// # Errors
    /// [`CudaError::Capturing`] if the program is not loaded yet and the stream is being captured; else as `prepare`, and
    /// [`CudaError::Driver`] if the launch is refused.
    ///
    /// # Safety
    /// - The arguments must be of the type that the kernel takes.
    /// - Every pointer in them must point to memory of the device, as large as the kernel's source says, and live until the work
    ///   is done.
    #[allow(unsafe_code)]
    unsafe fn launch_raw(&self, launch: &Launch<'_, ()>, argument_bytes: usize) -> Result<()>;
}
