//! Why something on a CUDA device did not work.

use std::fmt;

/// An error of the CUDA back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CudaError {
    /// This machine has no CUDA driver.
    NoDriver,
    /// There is a driver, but no device that can be used; with the reason.
    NoDevice(String),
    /// The process holds one driver for good: the emulator was asked for after a GPU was opened, or the other way round.
    DriverTaken,
    /// NVRTC was not found, or what was found is not usable; with the reason.
    NoNvrtc(String),
    /// There is no g++ for the emulator; with the reason.
    NoCompiler(String),
    /// The text does not compile; with the compiler's log.
    CompileFailed(String),
    /// The device does not have this many bytes left.
    OutOfMemory(usize),
    /// A copy does not fit into the device memory it names.
    OutOfBounds {
        /// First byte of the copy.
        offset: usize,
        /// Bytes to copy.
        bytes: usize,
        /// Bytes of the memory.
        size: usize,
    },
    /// A launch was refused or went wrong; with what the driver or the emulator says of it.
    Launch(String),
    /// Another error of the driver.
    Driver(String),
    /// A file of the cache could not be read or written, or no directory for it is known.
    Cache(String),
}

impl fmt::Display for CudaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CudaError::NoDriver => f.write_str("no CUDA driver on this machine"),
            CudaError::NoDevice(why) => write!(f, "no usable CUDA device: {why}"),
            CudaError::DriverTaken => {
                f.write_str("this process already uses another CUDA driver: a GPU and the emulator exclude each other")
            }
            CudaError::NoNvrtc(why) => write!(f, "no NVRTC: {why}"),
            CudaError::NoCompiler(why) => write!(f, "the CUDA emulator needs g++: {why}"),
            CudaError::CompileFailed(log) => write!(f, "CUDA text does not compile:\n{log}"),
            CudaError::OutOfMemory(bytes) => write!(f, "the CUDA device has no {bytes} bytes left"),
            CudaError::OutOfBounds { offset, bytes, size } => {
                write!(f, "a copy of {bytes} bytes at {offset} does not fit into {size} bytes of device memory")
            }
            CudaError::Launch(why) => write!(f, "CUDA launch: {why}"),
            CudaError::Driver(why) => write!(f, "CUDA driver: {why}"),
            CudaError::Cache(why) => write!(f, "cache: {why}"),
        }
    }
}

impl std::error::Error for CudaError {}
