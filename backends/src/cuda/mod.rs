//! CUDA: text for NVIDIA GPUs, and all that is needed to run it with or without one.
//!
//! Kernels are CUDA C++ against a small prelude of our own (`prelude/gpu.cuh` says what it promises). NVRTC compiles it
//! for a GPU. The same text also compiles with g++ against a second prelude and then runs on the processor behind the
//! driver's own interface: every thread is a fiber, every access is checked for bounds and races, copies land as late as
//! they may. The host's side ([`device`]) is one and the same for both.
//!
//! Nothing here links against CUDA. A machine without a driver, NVRTC or g++ gets an error that says so, never a panic.

pub mod cache;
pub mod device;
pub mod emit;
pub mod emulator;
pub mod error;
pub mod kernel;
mod model;
pub mod nvrtc;
mod target;
#[cfg(test)]
mod tests;

pub use error::CudaError;
pub use model::{BLOCKS_WITH_SCRATCH, BoundWeights, CudaModel, RunError, Source, source};
pub use target::{ARCHITECTURES, CudaTarget};

/// The prelude that generated text is compiled with for a GPU; a self-contained `.cu` is this and the text after it.
pub const GPU_PRELUDE: &str = concat!(include_str!("prelude/gpu.cuh"), "\n", include_str!("prelude/arithmetic.cuh"));

/// Opens the device of a target.
pub fn open(target: &CudaTarget) -> Result<device::Device, CudaError> {
    match target {
        CudaTarget::Emulated => device::Device::emulated(),
        CudaTarget::Here | CudaTarget::Architecture(_) => device::Device::open(),
    }
}
