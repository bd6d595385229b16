//! A CUDA device: memory, modules, launches. One path for a GPU and for the emulator.
//!
//! All calls of a device are in one order (the default stream). Copies are complete when their call returns; a launch may
//! still run then, and what goes wrong in it is told by the next call that waits.

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{CUdevice_attribute, CUfunction_attribute_enum, CUresult};
use cudarc::driver::{CudaContext, CudaFunction, CudaStream, DriverError, LaunchConfig, PushKernelArg, result, sys};
use cudarc::nvrtc::Ptx;

use super::error::CudaError;
use super::kernel::Kernel;
use super::{emulator, nvrtc};

/// Shared memory that a block gets without asking for more, by the CUDA programming guide.
const SHARED_WITHOUT_ASKING: u32 = 48 << 10;
/// The first compute capability with the tensor core and copy instructions that the prelude uses.
const FIRST_CAPABILITY: (i32, i32) = (8, 0);

/// Which driver this process works with: cudarc holds one for good.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Driver {
    Real,
    Emulated,
}

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// An opened device.
pub struct Device {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// The emulator's order of threads; none on a GPU.
    order: Option<u32>,
    capability: (i32, i32),
    shared_limit: u32,
    multiprocessors: u32,
}

/// Memory of a device, freed when dropped.
pub struct Memory {
    address: u64,
    bytes: usize,
    context: Arc<CudaContext>,
}

/// A compiled program on a device.
pub struct Module {
    kernels: Vec<(CudaFunction, Kernel)>,
}

impl Memory {
    /// Where it starts, as kernels see it.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A context that is broken has lost the memory already, and a drop has nobody to tell.
        let _ = self.context.bind_to_thread();
        // SAFETY: the address came from an allocation of this context and is freed once; launches that use it are in the
        // default stream, which `cuMemFree` waits for.
        let _ = unsafe { result::memory_free(self.address) };
    }
}

impl Module {
    /// Its kernels, in the order that they were loaded with.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        self.kernels.iter().map(|(_, kernel)| kernel)
    }
}

impl Device {
    /// The first GPU of this machine. Errors: no driver, no device of compute capability 8.0 or above, no NVRTC, and a
    /// process that already works with the emulator.
    pub fn open() -> Result<Device, CudaError> {
        {
            let mut driver = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
            if *driver == Some(Driver::Emulated) {
                return Err(CudaError::DriverTaken);
            }
            // SAFETY: this only asks the loader for the driver's library.
            if !unsafe { sys::is_culib_present() } {
                return Err(CudaError::NoDriver);
            }
            // Before the driver is taken: without NVRTC the emulator can still be used.
            nvrtc::find()?;
            *driver = Some(Driver::Real);
        }
        Device::with(None)
    }

    /// The emulator, with the order of threads that `MIXC_EMULATOR_ORDER` says (0 where it is not set).
    pub fn emulated() -> Result<Device, CudaError> {
        let order = std::env::var("MIXC_EMULATOR_ORDER").ok().and_then(|v| v.trim().parse().ok());
        Device::emulated_in_order(order.unwrap_or(0))
    }

    /// The emulator; threads that waited together go on forwards (order 0), backwards (1) or shuffled by the number. A
    /// correct program gives the same results in each.
    pub fn emulated_in_order(order: u32) -> Result<Device, CudaError> {
        {
            let mut driver = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
            if *driver == Some(Driver::Real) {
                return Err(CudaError::DriverTaken);
            }
            emulator::preload()?;
            *driver = Some(Driver::Emulated);
        }
        Device::with(Some(order))
    }

    fn with(order: Option<u32>) -> Result<Device, CudaError> {
        let refused = |e: DriverError| CudaError::NoDevice(message(e));
        let context = CudaContext::new(0).map_err(refused)?;
        let capability = context.compute_capability().map_err(refused)?;
        if capability < FIRST_CAPABILITY {
            let (major, minor) = capability;
            return Err(CudaError::NoDevice(format!("its compute capability is {major}.{minor}, 8.0 is the least")));
        }
        let number = |attribute| {
            let value = context.attribute(attribute).map_err(refused)?;
            u32::try_from(value).map_err(|_| CudaError::NoDevice("the driver gives a negative size".to_string()))
        };
        let shared_limit = number(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let multiprocessors = number(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let stream = context.default_stream();
        Ok(Device { context, stream, order, capability, shared_limit, multiprocessors })
    }

    /// What the driver calls it.
    pub fn name(&self) -> Result<String, CudaError> {
        self.context.name().map_err(driver)
    }

    /// Whether it is the emulator.
    pub fn is_emulated(&self) -> bool {
        self.order.is_some()
    }

    /// The most dynamic shared memory of a block, in bytes.
    pub fn shared_limit(&self) -> u32 {
        self.shared_limit
    }

    /// How many multiprocessors work beside each other.
    pub fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// The target to compile for, as NVRTC names it. `sm_90a` has what later GPUs lack, hence its own name.
    pub fn architecture(&self) -> String {
        match self.capability {
            (9, 0) => "sm_90a".to_string(),
            (major, minor) => format!("sm_{major}{minor}"),
        }
    }

    /// Compiles `text`, which is written against the prelude and does not hold it, and loads its kernels.
    pub fn load(&self, text: &str, kernels: &[Kernel]) -> Result<Module, CudaError> {
        for k in kernels {
            let shape = k.threads > 0 && k.threads <= 1024 && k.threads.is_multiple_of(32);
            if !shape || k.shared_bytes > self.shared_limit {
                return Err(CudaError::Launch(format!(
                    "kernel {}: {} threads and {} bytes of shared memory for a block; a block is whole warps of 32, at \
                     most 1024 threads, with at most {} bytes",
                    k.name, k.threads, k.shared_bytes, self.shared_limit
                )));
            }
        }
        let image = match self.order {
            Some(order) => emulator::image(text, kernels, order)?,
            None => nvrtc::cubin(text, &self.architecture())?,
        };
        let module = self.context.load_module(Ptx::from_binary(image)).map_err(driver)?;
        let mut loaded = Vec::with_capacity(kernels.len());
        for kernel in kernels {
            if kernel.name.contains('\0') {
                return Err(CudaError::Driver("a kernel's name holds a NUL".to_string()));
            }
            let function = module
                .load_function(&kernel.name)
                .map_err(|e| CudaError::Driver(format!("kernel {}: {}", kernel.name, message(e))))?;
            if kernel.shared_bytes > SHARED_WITHOUT_ASKING {
                let bytes = i32::try_from(kernel.shared_bytes).expect("it is below the device's limit, an i32");
                let attribute = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                function.set_attribute(attribute, bytes).map_err(driver)?;
            }
            loaded.push((function, kernel.clone()));
        }
        Ok(Module { kernels: loaded })
    }

    /// Memory of `bytes` bytes (none are one), aligned to 256, with whatever was there.
    pub fn allocate(&self, bytes: usize) -> Result<Memory, CudaError> {
        self.context.bind_to_thread().map_err(driver)?;
        // SAFETY: the memory is raw bytes; nothing is read from it as a type before it was written.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(|e| match e.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => CudaError::OutOfMemory(bytes),
            _ => driver(e),
        })?;
        Ok(Memory { address, bytes, context: self.context.clone() })
    }

    /// Copies to the device, from byte `offset` of `memory` on.
    pub fn upload(&self, memory: &Memory, offset: usize, bytes: &[u8]) -> Result<(), CudaError> {
        let Some(to) = within(memory, offset, bytes.len())? else { return Ok(()) };
        self.context.bind_to_thread().map_err(driver)?;
        // SAFETY: the destination lies within the allocation, and `bytes` lives until the copy is complete.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream.cu_stream()) }.map_err(driver)?;
        self.synchronize()
    }

    /// Copies from the device, from byte `offset` of `memory` on. It waits for the launches before it.
    pub fn download(&self, memory: &Memory, offset: usize, bytes: &mut [u8]) -> Result<(), CudaError> {
        let Some(from) = within(memory, offset, bytes.len())? else { return Ok(()) };
        self.context.bind_to_thread().map_err(driver)?;
        // SAFETY: the source lies within the allocation, and `bytes` lives until the copy is complete.
        unsafe { result::memcpy_dtoh_async(bytes, from, self.stream.cu_stream()) }.map_err(launch)?;
        self.synchronize()
    }

    /// Starts a kernel of `module` on `blocks` blocks (none: nothing happens). `words` are its arguments: addresses within
    /// memory of this device, and numbers.
    pub fn launch(&self, module: &Module, kernel: usize, blocks: u32, words: &[u64]) -> Result<(), CudaError> {
        let Some((function, kernel)) = module.kernels.get(kernel) else {
            return Err(CudaError::Launch(format!("the module has no kernel number {kernel}")));
        };
        if words.len() != kernel.words {
            let (given, wanted) = (words.len(), kernel.words);
            return Err(CudaError::Launch(format!("kernel {} has {wanted} parameters, not {given}", kernel.name)));
        }
        if blocks == 0 {
            return Ok(());
        }
        let mut arguments = self.stream.launch_builder(function);
        for word in words {
            arguments.arg(word);
        }
        let (grid_dim, block_dim) = ((blocks, 1, 1), (kernel.threads, 1, 1));
        let shape = LaunchConfig { grid_dim, block_dim, shared_mem_bytes: kernel.shared_bytes };
        // SAFETY: the kernel takes as many words of 8 bytes as are given. What it does with wrong ones stays within the
        // device, which reports it.
        unsafe { arguments.launch(shape) }.map_err(launch)?;
        Ok(())
    }

    /// Waits until all that was started is done.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.stream.synchronize().map_err(launch)
    }
}

/// The address of `bytes` bytes at `offset`; none for no bytes.
fn within(memory: &Memory, offset: usize, bytes: usize) -> Result<Option<u64>, CudaError> {
    if offset.checked_add(bytes).is_none_or(|end| end > memory.bytes) {
        return Err(CudaError::OutOfBounds { offset, bytes, size: memory.bytes });
    }
    Ok((bytes > 0).then_some(memory.address + offset as u64))
}

/// What the driver says of an error.
fn message(e: DriverError) -> String {
    match e.error_string() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => format!("{:?}", e.0),
    }
}

fn driver(e: DriverError) -> CudaError {
    CudaError::Driver(message(e))
}

fn launch(e: DriverError) -> CudaError {
    CudaError::Launch(message(e))
}
