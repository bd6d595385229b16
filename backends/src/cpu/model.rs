//! Compiled models: in this process, behind a safe interface, or as the bytes of an object file.

use super::abi::{Failure, Interface, needs_binding, reads_weights};
use super::entry::{self, Emission, Entry, WEIGHTS_HEADER};
use super::module::{CodeError, JitCode, JitModule, object_bytes, object_module};
use super::target::Target;
use mixc_ir::dim::{DimValues, Symbol};
use mixc_ir::lowered::{ALIGNMENT, Buffer, BufferId, Lowered};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// What may be chosen when a model is compiled.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Bound weights to put into an object, as [`BoundWeights::bytes`] gives them: the object then needs no binding.
    pub embed: Option<Vec<u8>>,
}

/// Why a call did not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The generated code answered with a failure.
    Failed(Failure),
    /// It answered with a code that it does not have.
    Unknown(i32),
    /// A dim without a value.
    NoDim(String),
    /// Another number of tensors than the model has.
    Count {
        /// Of the model.
        expected: usize,
        /// As given.
        given: usize,
    },
    /// A tensor of another length.
    Length {
        /// Its name.
        name: String,
        /// Bytes that it must have.
        expected: u64,
        /// As given.
        given: usize,
    },
    /// Weights were not given, or come from another model.
    Weights,
    /// No memory.
    Memory,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Failed(failure) => failure.fmt(f),
            CallError::Unknown(code) => write!(f, "the model answered with the unknown code {code}"),
            CallError::NoDim(name) => write!(f, "the dim `{name}` has no value"),
            CallError::Count { expected, given } => write!(f, "{given} tensors given, the model has {expected}"),
            CallError::Length { name, expected, given } => {
                write!(f, "`{name}` has {expected} bytes at these lengths, {given} were given")
            }
            CallError::Weights => f.write_str("the model's weights are not bound"),
            CallError::Memory => f.write_str("out of memory"),
        }
    }
}

impl std::error::Error for CallError {}

fn outcome(code: i32) -> Result<(), CallError> {
    match (code, Failure::from_code(code)) {
        (0, _) => Ok(()),
        (_, Some(failure)) => Err(CallError::Failed(failure)),
        (code, None) => Err(CallError::Unknown(code)),
    }
}

/// Zeroed memory aligned for workspaces and bound weights.
#[derive(Debug)]
pub struct Memory {
    pointer: *mut u8,
    /// Bytes before `pointer` in the allocation.
    start: usize,
    bytes: usize,
}

// SAFETY: the memory is owned and reached through the value's borrow alone.
unsafe impl Send for Memory {}
// SAFETY: shared borrows only read.
unsafe impl Sync for Memory {}

impl Memory {
    /// `bytes` bytes, aligned to [`ALIGNMENT`].
    pub fn new(bytes: usize) -> Result<Memory, CallError> {
        let layout = Memory::layout(bytes).ok_or(CallError::Memory)?;
        // SAFETY: the layout has a size above 0.
        let allocated = unsafe { alloc_zeroed(layout) };
        if allocated.is_null() {
            return Err(CallError::Memory);
        }
        let start = allocated.align_offset(ALIGNMENT as usize);
        if start > ALIGNMENT as usize {
            // SAFETY: allocated above with this layout.
            unsafe { dealloc(allocated, layout) };
            return Err(CallError::Memory);
        }
        // SAFETY: `start` is within the spare bytes that the layout has.
        let pointer = unsafe { allocated.add(start) };
        ask_for_large_pages(pointer, bytes);
        Ok(Memory { pointer, start, bytes })
    }

    /// Memory of someone else, who keeps it; not to be dropped.
    #[cfg(test)]
    pub(crate) fn borrowed(bytes: &mut [u8]) -> std::mem::ManuallyDrop<Memory> {
        std::mem::ManuallyDrop::new(Memory { pointer: bytes.as_mut_ptr(), start: 0, bytes: bytes.len() })
    }

    /// With bytes to spare for alignment by hand: the system's allocator has pages of zeros for what it aligns by
    /// itself, up to 16 bytes, and writes zeros over all that is aligned further.
    fn layout(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes.checked_add(ALIGNMENT as usize)?, 16).ok()
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the pointer is to `bytes` initialised bytes, owned by this value.
        unsafe { std::slice::from_raw_parts(self.pointer, self.bytes) }
    }
}

/// Asks the system for large pages, where memory has many: strides of a transform touch one a line, and more of them than
/// the processor remembers. It may decline.
fn ask_for_large_pages(pointer: *mut u8, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        const MANY: usize = 4 << 20;
        let skipped = pointer.align_offset(PAGE);
        if bytes >= MANY && skipped < PAGE {
            let whole = (bytes - skipped) / PAGE * PAGE;
            // SAFETY: whole pages within memory that this process has just been given; the advice changes no contents.
            unsafe { libc::madvise(pointer.add(skipped).cast(), whole, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (pointer, bytes);
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(layout) = Memory::layout(self.bytes) {
            // SAFETY: allocated in `new` with the same layout, `start` bytes before.
            unsafe { dealloc(self.pointer.sub(self.start), layout) };
        }
    }
}

/// What the bind phase made: the weights in the form that runs read.
#[derive(Debug)]
pub struct BoundWeights {
    memory: Memory,
    kept: usize,
}

impl BoundWeights {
    /// What runs read; the same for every target. [`Options::embed`] takes it.
    pub fn bytes(&self) -> &[u8] {
        &self.memory.bytes()[..self.kept]
    }
}

/// Runs the slices of a grid; what generated code is given as `mixc_parallel`.
pub trait Parallel: Sync {
    /// Calls `body(k)` for every k below `count`, in any order, on any threads, and returns when all are done.
    fn parallel_for(&self, count: i64, body: &(dyn Fn(i64) + Sync));
}

impl Parallel for super::pool::Pool {
    fn parallel_for(&self, count: i64, body: &(dyn Fn(i64) + Sync)) {
        let count = usize::try_from(count).unwrap_or(0);
        super::pool::Pool::parallel_for(self, count, &|k| body(k as i64));
    }
}

/// The callback table as generated code reads it.
#[repr(C)]
struct Table<'p> {
    owner: *const &'p dyn Parallel,
    parallel_for: unsafe extern "C" fn(*const &'p dyn Parallel, i64, SliceBody, *const u8),
}

type SliceBody = unsafe extern "C" fn(*const u8, i64);

/// An address that generated code passes through to its own slices.
struct Argument(*const u8);

// SAFETY: the address is read by generated code alone, which shares only what its slices may share.
unsafe impl Sync for Argument {}

impl Argument {
    /// The address; a method, so that closures capture the whole value.
    fn get(&self) -> *const u8 {
        self.0
    }
}

unsafe extern "C" fn parallel_for(owner: *const &dyn Parallel, count: i64, body: SliceBody, argument: *const u8) {
    // SAFETY: the table that generated code was given holds a live reference.
    let owner = unsafe { *owner };
    let argument = Argument(argument);
    owner.parallel_for(count, &|k| {
        // SAFETY: generated code gives a function of its own together with that function's argument.
        unsafe { body(argument.get(), k) }
    });
}

/// A model in this process's memory.
pub struct CompiledModel {
    code: JitCode,
    entry: Entry,
    interface: Interface,
    params: Vec<Buffer>,
    results: Vec<Buffer>,
    reads_weights: bool,
    /// What is bound without any weight file.
    constant: Option<BoundWeights>,
    /// Workspaces of finished runs: fresh memory would be mapped page by page again at every call.
    idle: Mutex<Vec<Memory>>,
}

impl fmt::Debug for CompiledModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledModel").field("interface", &self.interface).finish_non_exhaustive()
    }
}

/// Compiles `lowered` for this process. `target` must be able to run here.
pub fn compile(lowered: &Lowered, target: &Target) -> Result<CompiledModel, CodeError> {
    let mut jit = JitModule::new(target, &[])?;
    let entry = entry::define(jit.module(), target, lowered, Emission { public: false, embedded: None })?;
    let code = jit.finish()?;
    let buffers = |ids: &[BufferId]| ids.iter().map(|b| lowered.buffer(*b).clone()).collect();
    let mut model = CompiledModel {
        code,
        entry,
        interface: Interface::of(lowered, false),
        params: buffers(&lowered.params),
        results: buffers(&lowered.results),
        reads_weights: reads_weights(lowered),
        constant: None,
        idle: Mutex::new(Vec::new()),
    };
    if needs_binding(lowered) && !model.reads_weights {
        let bound = model.bind(&[]).map_err(|error| CodeError::Module(error.to_string()))?;
        model.constant = Some(bound);
    }
    Ok(model)
}

/// Compiles `lowered` to a relocatable object; the same input gives the same bytes. A model whose bind phase reads no
/// weight file has its bound data put in, so that it needs no binding.
pub fn compile_object(lowered: &Lowered, target: &Target, options: &Options) -> Result<Vec<u8>, CodeError> {
    let mut embed = options.embed.clone();
    if embed.is_none() && needs_binding(lowered) && !reads_weights(lowered) {
        let here = compile(lowered, &Target::native())?;
        embed = here.constant.map(|bound| bound.bytes().to_vec());
    }
    let mut module = object_module(target, &lowered.name)?;
    let emission = Emission { public: true, embedded: embed.as_deref() };
    entry::define(&mut module, target, lowered, emission)?;
    object_bytes(module)
}

/// The interface of the object that [`compile_object`] makes with these options.
pub fn object_interface(lowered: &Lowered, options: &Options) -> Interface {
    Interface::of(lowered, options.embed.is_some() || !reads_weights(lowered))
}

impl CompiledModel {
    /// Parameters, results, dims.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    fn dims(&self, values: &DimValues) -> Result<Vec<i64>, CallError> {
        let value = |d: &Symbol| values.get(d).copied().ok_or_else(|| CallError::NoDim(d.to_string()));
        self.interface.dims.iter().map(value).collect()
    }

    /// Bytes of workspace that a run at these lengths needs, with threads.
    pub fn workspace_bytes(&self, values: &DimValues) -> Result<usize, CallError> {
        let dims = self.dims(values)?;
        let address = self.code.address(self.entry.workspace_bytes);
        // SAFETY: the function was compiled with this signature, and `dims` has the words that it reads.
        let bytes = unsafe {
            let function: extern "C" fn(*const i64) -> u64 = std::mem::transmute(address);
            function(dims.as_ptr())
        };
        if bytes == u64::MAX {
            return Err(CallError::Failed(Failure::DimOutOfBounds));
        }
        usize::try_from(bytes).map_err(|_| CallError::Memory)
    }

    /// Binds weights from the contents of safetensors files.
    pub fn bind(&self, files: &[&[u8]]) -> Result<BoundWeights, CallError> {
        let Some(bind) = self.entry.bind else {
            return Ok(BoundWeights { memory: Memory::new(0)?, kept: 0 });
        };
        let memory = Memory::new(self.entry.plan.total as usize)?;
        let blobs: Vec<(*const u8, usize)> = files.iter().map(|f| (f.as_ptr(), f.len())).collect();
        let words: Vec<u64> = blobs.iter().flat_map(|(p, n)| [*p as u64, *n as u64]).collect();
        let address = self.code.address(bind);
        // SAFETY: the function was compiled with this signature; it reads the files within their lengths and writes
        // the memory within its own.
        let code = unsafe {
            let function: extern "C" fn(*const u64, u64, *mut u8, u64) -> i32 = std::mem::transmute(address);
            function(words.as_ptr(), blobs.len() as u64, memory.pointer, memory.bytes as u64)
        };
        outcome(code)?;
        Ok(BoundWeights { memory, kept: self.entry.plan.bound_bytes.max(WEIGHTS_HEADER) as usize })
    }

    /// Runs the model: `inputs` and `outputs` are the parameters and results in order, dense and row-major, their
    /// lengths checked. Without `parallel` everything runs on this thread. Workspaces are kept for later calls.
    pub fn run(
        &self,
        values: &DimValues,
        weights: Option<&BoundWeights>,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        parallel: Option<&dyn Parallel>,
    ) -> Result<(), CallError> {
        let bytes = self.workspace_bytes(values)?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut workspace = match idle {
            Some(memory) if memory.bytes >= bytes => memory,
            _ => Memory::new(bytes)?,
        };
        let outcome = self.run_in(values, weights, inputs, outputs, &mut workspace, parallel);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
        outcome
    }

    /// As [`CompiledModel::run`], in a workspace of [`CompiledModel::workspace_bytes`] that is kept between calls.
    pub fn run_in(
        &self,
        values: &DimValues,
        weights: Option<&BoundWeights>,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        workspace: &mut Memory,
        parallel: Option<&dyn Parallel>,
    ) -> Result<(), CallError> {
        let dims = self.dims(values)?;
        let input_lengths: Vec<usize> = inputs.iter().map(|b| b.len()).collect();
        let output_lengths: Vec<usize> = outputs.iter().map(|b| b.len()).collect();
        check_lengths(&self.params, &input_lengths, values)?;
        check_lengths(&self.results, &output_lengths, values)?;
        let mut args = vec![dims.as_ptr() as u64];
        if self.entry.bind.is_some() {
            let bound = weights.or(self.constant.as_ref()).ok_or(CallError::Weights)?;
            if (bound.memory.bytes as u64) < self.entry.plan.bound_bytes {
                return Err(CallError::Weights);
            }
            args.push(bound.memory.pointer as u64);
        }
        args.extend(inputs.iter().map(|b| b.as_ptr() as u64));
        args.extend(outputs.iter_mut().map(|b| b.as_mut_ptr() as u64));
        args.extend([workspace.pointer as u64, workspace.bytes as u64]);
        let table = parallel.as_ref().map(|owner| Table { owner, parallel_for });
        args.push(table.as_ref().map_or(0, |t| std::ptr::from_ref(t) as u64));
        let Some(call) = self.entry.call else { return Err(CallError::Weights) };
        let address = self.code.address(call);
        // SAFETY: the function reads exactly these arguments; the tensors' lengths were checked against the model's, the
        // workspace's is checked by the code, and everything outlives the call.
        let code = unsafe {
            let function: extern "C" fn(*const u64) -> i32 = std::mem::transmute(address);
            function(args.as_ptr())
        };
        outcome(code)
    }
}

fn check_lengths(buffers: &[Buffer], given: &[usize], values: &DimValues) -> Result<(), CallError> {
    if buffers.len() != given.len() {
        return Err(CallError::Count { expected: buffers.len(), given: given.len() });
    }
    for (buffer, &given) in buffers.iter().zip(given) {
        let expected = buffer.bytes(values).ok_or(CallError::Failed(Failure::BadLength))?;
        if expected != given as u64 {
            return Err(CallError::Length { name: buffer.name.clone(), expected, given });
        }
    }
    Ok(())
}
