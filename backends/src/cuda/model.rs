//! A lowered model on a device: its kernels as one text, its buffers in the device's memory, its steps as launches in
//! order. The same code drives a GPU and the emulator.

use super::device::{Device, Memory, Module};
use super::emit::{self, Emitted};
use super::error::CudaError;
use crate::cpu::abi::Failure;
use crate::distinct::Distinct;
use mixc_ir::dim::DimValues;
use mixc_ir::expr::{Expr, Scalar};
use mixc_ir::lowered::{self, Action, BufferId, Lowered, Phase, aligned};
use mixc_ir::tensor::{Blob, Tensor};
use mixc_ir::weights::{StoredType, Weights, readable};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// Blocks of threads for each multiprocessor where blocks have scratch memory: two, so that one computes while the other
/// waits for memory.
pub const BLOCKS_WITH_SCRATCH: u32 = 2;

/// Why a call did not run.
#[derive(Debug)]
pub enum RunError {
    /// The arguments are not what the model takes.
    Failed(Failure),
    /// A dim without a value.
    NoDim(String),
    /// Another number of tensors than the model has, or one of another length.
    Argument(String),
    /// A weight is not given, or is of another type or shape.
    Weight(String),
    /// The device or its compiler.
    Device(CudaError),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Failed(failure) => failure.fmt(f),
            RunError::NoDim(name) => write!(f, "the dim `{name}` has no value"),
            RunError::Argument(text) | RunError::Weight(text) => f.write_str(text),
            RunError::Device(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RunError {}

impl From<CudaError> for RunError {
    fn from(error: CudaError) -> RunError {
        RunError::Device(error)
    }
}

/// The kernels of a model.
#[derive(Clone, Debug)]
pub struct Source {
    /// Their text with the block-wide operations that they call, without the prelude.
    pub text: String,
    /// The kernels, in the order of the text.
    pub kernels: Vec<Emitted>,
    /// Which kernel each step launches; nothing for checks.
    pub of_steps: Vec<Option<usize>>,
}

/// The kernels of `lowered`: readable text, a function of the model alone.
pub fn source(lowered: &Lowered) -> Source {
    let distinct = Distinct::of(lowered);
    let named = distinct.programs.iter().enumerate();
    let kernels: Vec<Emitted> =
        named.map(|(k, p)| emit::kernel(&emit::kernel_name(&lowered.name, k, &p.name), p)).collect();
    let text = [emit::TILES].into_iter().chain(kernels.iter().map(|k| k.text.as_str())).collect::<Vec<_>>().join("\n");
    Source { text, kernels, of_steps: distinct.of_steps }
}

/// Where a buffer lies.
#[derive(Clone)]
struct Place {
    memory: Rc<Memory>,
    offset: usize,
}

impl Place {
    fn all_of(memory: Memory) -> Place {
        Place { memory: Rc::new(memory), offset: 0 }
    }

    fn address(&self) -> u64 {
        self.memory.address() + self.offset as u64
    }
}

/// Where the buffers of a phase lie.
type Places = BTreeMap<BufferId, Place>;

/// What the bind phase leaves on the device.
pub struct BoundWeights {
    places: Places,
}

/// A model on a device.
pub struct CudaModel {
    device: Device,
    module: Module,
    source: Source,
    lowered: Lowered,
    constants: Places,
}

fn evaluated(dims: &DimValues, e: &Expr) -> i64 {
    match e.eval(dims, &mut |_| Scalar::Int(0)) {
        Scalar::Int(n) => n,
        _ => 0,
    }
}

/// The bytes of a stored weight as its buffer holds it: halves are widened where f32 is declared.
fn weight<'w>(name: &str, buffer: &lowered::Buffer, weights: &'w Weights<'_>) -> Result<Cow<'w, [u8]>, RunError> {
    let wrong = |what: &str| RunError::Weight(format!("weight `{name}` {what}"));
    let stored = weights.find(name).ok_or_else(|| wrong("is not given"))?;
    let lengths = stored.shape.iter().map(|n| i64::try_from(*n).ok());
    if !lengths.eq(buffer.shape.iter().map(|d| d.as_constant())) {
        return Err(wrong("has another shape than declared"));
    }
    if stored.dtype == StoredType::Known(buffer.dtype) {
        return Ok(Cow::Borrowed(stored.bytes));
    }
    match stored.to_blob().filter(|_| readable(stored.dtype, buffer.dtype)) {
        Some(blob) => Ok(Cow::Owned(blob.to_tensor().to_blob(buffer.dtype).bytes)),
        None => Err(wrong("has another element type than declared")),
    }
}

impl CudaModel {
    /// Compiles `lowered` for `device`.
    pub fn new(lowered: &Lowered, device: Device) -> Result<CudaModel, RunError> {
        let source = source(lowered);
        let kernels: Vec<_> = source.kernels.iter().map(|k| k.kernel.clone()).collect();
        let module = device.load(&source.text, &kernels)?;
        let mut constants = Places::new();
        for (k, buffer) in lowered.buffers.iter().enumerate() {
            let lowered::Place::Constant(numbers) = &buffer.place else { continue };
            let bytes = Tensor::floats(&[numbers.len()], numbers.clone()).to_blob(buffer.dtype).bytes;
            let memory = device.allocate(bytes.len())?;
            device.upload(&memory, 0, &bytes)?;
            constants.insert(BufferId(k as u32), Place::all_of(memory));
        }
        Ok(CudaModel { device, module, source, lowered: lowered.clone(), constants })
    }

    /// The kernels.
    pub fn source(&self) -> &Source {
        &self.source
    }

    fn bytes(&self, id: BufferId, dims: &DimValues) -> Result<u64, RunError> {
        self.lowered.buffer(id).bytes(dims).ok_or(RunError::Failed(Failure::BadLength))
    }

    /// Places of the temporaries of a phase, as the memory plan lays them out, and of the constants.
    fn places(&self, dims: &DimValues, slots: &[Vec<BufferId>]) -> Result<Places, RunError> {
        let mut offsets = Vec::new();
        let mut total = 0u64;
        for slot in slots {
            let mut longest = 0;
            for b in slot {
                offsets.push((*b, total));
                longest = longest.max(self.bytes(*b, dims)?);
            }
            total += aligned(longest);
        }
        let memory = Rc::new(self.device.allocate(usize::try_from(total).unwrap_or(usize::MAX))?);
        let temporaries = offsets.into_iter().map(|(b, at)| (b, Place { memory: memory.clone(), offset: at as usize }));
        Ok(self.constants.iter().map(|(b, p)| (*b, p.clone())).chain(temporaries).collect())
    }

    fn uploaded(&self, bytes: &[u8]) -> Result<Place, RunError> {
        let memory = self.device.allocate(bytes.len())?;
        self.device.upload(&memory, 0, bytes)?;
        Ok(Place::all_of(memory))
    }

    /// Binds weights: every tensor that the program names, of its type and shape.
    pub fn bind(&self, weights: &Weights<'_>) -> Result<BoundWeights, RunError> {
        let none = DimValues::new();
        let mut places = self.places(&none, &self.lowered.plan.bind)?;
        let mut kept = Places::new();
        for (k, buffer) in self.lowered.buffers.iter().enumerate() {
            let id = BufferId(k as u32);
            match &buffer.place {
                lowered::Place::Weight(name) => {
                    places.insert(id, self.uploaded(&weight(name, buffer, weights)?)?);
                }
                lowered::Place::Bound => {
                    let bytes = usize::try_from(self.bytes(id, &none)?).unwrap_or(usize::MAX);
                    let place = Place::all_of(self.device.allocate(bytes)?);
                    places.insert(id, place.clone());
                    kept.insert(id, place);
                }
                _ => {}
            }
        }
        self.steps(Phase::Bind, &none, &places)?;
        self.device.synchronize()?;
        Ok(BoundWeights { places: kept })
    }

    /// Runs the model: inputs and results in order, dense and row-major, their lengths checked.
    pub fn run(
        &self,
        dims: &DimValues,
        bound: &BoundWeights,
        inputs: &[&[u8]],
        results: &mut [&mut [u8]],
    ) -> Result<(), RunError> {
        self.check_dims(dims)?;
        self.check_lengths(&self.lowered.params, inputs.iter().map(|b| b.len()), dims)?;
        self.check_lengths(&self.lowered.results, results.iter().map(|b| b.len()), dims)?;
        let mut places = self.places(dims, &self.lowered.plan.run)?;
        places.extend(bound.places.iter().map(|(b, p)| (*b, p.clone())));
        for (id, bytes) in self.lowered.params.iter().zip(inputs) {
            places.insert(*id, self.uploaded(bytes)?);
        }
        for (id, bytes) in self.lowered.results.iter().zip(results.iter()) {
            places.insert(*id, Place::all_of(self.device.allocate(bytes.len())?));
        }
        self.steps(Phase::Run, dims, &places)?;
        for (id, bytes) in self.lowered.results.iter().zip(results.iter_mut()) {
            self.device.download(&places[id].memory, 0, bytes)?;
        }
        self.device.synchronize()?;
        Ok(())
    }

    fn check_dims(&self, dims: &DimValues) -> Result<(), RunError> {
        for d in &self.lowered.dims {
            let n = dims.get(&d.name).ok_or_else(|| RunError::NoDim(d.name.to_string()))?;
            if !(d.low..=d.high).contains(n) {
                return Err(RunError::Failed(Failure::DimOutOfBounds));
            }
        }
        let fine = self.lowered.must_hold.iter().all(|d| d.eval(dims).is_ok_and(|n| n >= 0));
        if fine { Ok(()) } else { Err(RunError::Failed(Failure::BadLength)) }
    }

    fn check_lengths(
        &self,
        buffers: &[BufferId],
        given: impl ExactSizeIterator<Item = usize>,
        dims: &DimValues,
    ) -> Result<(), RunError> {
        if buffers.len() != given.len() {
            let text = format!("{} tensors given, the model has {}", given.len(), buffers.len());
            return Err(RunError::Argument(text));
        }
        for (id, given) in buffers.iter().zip(given) {
            let expected = self.bytes(*id, dims)?;
            if expected != given as u64 {
                let name = &self.lowered.buffer(*id).name;
                let text = format!("`{name}` has {expected} bytes at these lengths, {given} were given");
                return Err(RunError::Argument(text));
            }
        }
        Ok(())
    }

    fn steps(&self, phase: Phase, dims: &DimValues, places: &Places) -> Result<(), RunError> {
        for (step, kernel) in self.lowered.steps.iter().zip(&self.source.of_steps) {
            if step.phase != phase {
                continue;
            }
            match (&step.action, kernel) {
                (Action::Run { program, buffers, .. }, Some(k)) => {
                    let extents = program.grid.iter().map(|a| evaluated(dims, &a.extent).max(0));
                    let points = extents.fold(1i64, i64::saturating_mul);
                    if points > 0 {
                        self.launch(*k, points, buffers, dims, places)?;
                    }
                }
                (Action::CheckIds { ids, below }, _) => {
                    let below = below.eval(dims).map_err(|_| RunError::Failed(Failure::BadLength))?;
                    self.check_ids(*ids, below, dims, places)?;
                }
                (Action::Run { .. }, None) => {}
            }
        }
        Ok(())
    }

    fn launch(
        &self,
        k: usize,
        points: i64,
        buffers: &[BufferId],
        dims: &DimValues,
        places: &Places,
    ) -> Result<(), RunError> {
        let emitted = &self.source.kernels[k];
        let mut words = Vec::with_capacity(emitted.kernel.words);
        for b in buffers {
            let missing =
                || RunError::Argument(format!("`{}` has no memory in its phase", self.lowered.buffer(*b).name));
            words.push(places.get(b).ok_or_else(missing)?.address());
        }
        let mut blocks = u32::try_from(points).unwrap_or(i32::MAX as u32).min(i32::MAX as u32);
        let scratch = if emitted.scratch_bytes > 0 {
            blocks = blocks.min(self.device.multiprocessors() * BLOCKS_WITH_SCRATCH);
            let memory = self.device.allocate(emitted.scratch_bytes * blocks as usize)?;
            words.push(memory.address());
            Some(memory)
        } else {
            None
        };
        for s in &emitted.symbols {
            words.push(dims.get(s).copied().ok_or_else(|| RunError::NoDim(s.to_string()))? as u64);
        }
        self.device.launch(&self.module, k, blocks, &words)?;
        // Given back only when the kernel has ended.
        if scratch.is_some() {
            self.device.synchronize()?;
        }
        Ok(())
    }

    /// Ids are looked at on this side: the kernels that follow would read past their tables.
    fn check_ids(&self, ids: BufferId, below: i64, dims: &DimValues, places: &Places) -> Result<(), RunError> {
        let buffer = self.lowered.buffer(ids);
        let length = usize::try_from(self.bytes(ids, dims)?).unwrap_or(usize::MAX);
        let missing = || RunError::Argument(format!("`{}` has no memory in its phase", buffer.name));
        let place = places.get(&ids).ok_or_else(missing)?;
        let mut bytes = vec![0; length];
        self.device.download(&place.memory, place.offset, &mut bytes)?;
        let elements = length / buffer.dtype.bytes();
        let tensor = Blob { dtype: buffer.dtype, shape: vec![elements], bytes }.to_tensor();
        let fine = (0..elements).all(|n| (0..below).contains(&tensor.get(n).as_int()));
        if fine { Ok(()) } else { Err(RunError::Failed(Failure::IdOutOfRange)) }
    }
}
