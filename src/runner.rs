//! A model compiled in memory.

use crate::pipeline::{self, Compilation, Request};
use crate::{Error, Model, Target, shapes};
use mixc_backends::cpu::pool::Pool;
use mixc_backends::cpu::{self, BoundWeights, CallError, CompiledModel, Parallel};
use mixc_backends::cuda::{self, CudaModel};
use mixc_ir::dim::DimValues;
use mixc_ir::dtype::DType;
use mixc_ir::program::Program;
use mixc_ir::reference::{self, Rows, Weights};
use mixc_ir::tensor::{Blob, Tensor};
use mixc_passes::rewrite::Exactness;

/// A model that can be run.
pub struct Runner {
    program: Program,
    engine: Engine,
    weights: Weights,
}

enum Engine {
    Reference,
    Native { code: Box<CompiledModel>, bound: Option<BoundWeights>, compilation: Box<Compilation> },
    Device { code: Box<CudaModel>, bound: cuda::BoundWeights, compilation: Box<Compilation> },
}

/// The pool as generated code uses it.
pub(crate) struct OnPool<'p>(pub(crate) &'p Pool);

impl Parallel for OnPool<'_> {
    fn parallel_for(&self, count: i64, body: &(dyn Fn(i64) + Sync)) {
        self.0.parallel_for(usize::try_from(count).unwrap_or(0), &|k| body(k as i64));
    }
}

fn call_error(e: &CallError) -> Error {
    match e {
        CallError::Failed(cpu::abi::Failure::CpuUnsupported) => Error::Unavailable(e.to_string()),
        _ => Error::Usage(e.to_string()),
    }
}

fn device_error(e: cuda::RunError) -> Error {
    use cuda::CudaError::{DriverTaken, NoCompiler, NoDevice, NoDriver, NoNvrtc};
    match e {
        cuda::RunError::Device(e @ (NoDriver | NoDevice(_) | NoNvrtc(_) | NoCompiler(_) | DriverTaken)) => {
            Error::Unavailable(e.to_string())
        }
        cuda::RunError::Device(e) => Error::Bug(e.to_string()),
        e => Error::Usage(e.to_string()),
    }
}

impl Runner {
    /// Compiles `model`.
    pub fn new(model: &Model, target: &Target, request: &Request) -> Result<Runner, Error> {
        let view = model.weights.view().map_err(|d| model.rejected(d))?;
        match target {
            Target::Reference => {
                let mut program = model.program.clone();
                shapes::narrow(&mut program, &request.shapes)?;
                let weights = mixc_ir::weights::to_reference(&program, &view).map_err(|d| model.rejected(d))?;
                Ok(Runner { program, engine: Engine::Reference, weights })
            }
            Target::Cpu(target) => {
                let compilation = Box::new(pipeline::compile(model, request, &target.machine())?);
                let code = Box::new(
                    cpu::compile(&compilation.lowered, target).map_err(|e| Error::Unavailable(e.to_string()))?,
                );
                let files = model.weights.bytes();
                let bound = if files.is_empty() { None } else { Some(code.bind(&files).map_err(|e| call_error(&e))?) };
                let program = compilation.program.clone();
                Ok(Runner { program, engine: Engine::Native { code, bound, compilation }, weights: Weights::new() })
            }
            Target::Cuda(target) => {
                // A machine without a device says so before anything is worked out.
                let device = cuda::open(target).map_err(|e| device_error(e.into()))?;
                let compilation = Box::new(pipeline::compile(model, request, &target.machine())?);
                let code = Box::new(CudaModel::new(&compilation.lowered, device).map_err(device_error)?);
                let bound = code.bind(&view).map_err(device_error)?;
                let program = compilation.program.clone();
                Ok(Runner { program, engine: Engine::Device { code, bound, compilation }, weights: Weights::new() })
            }
        }
    }

    /// What each stage made; nothing for the reference.
    pub fn compilation(&self) -> Option<&Compilation> {
        match &self.engine {
            Engine::Reference => None,
            Engine::Native { compilation, .. } | Engine::Device { compilation, .. } => Some(compilation),
        }
    }

    /// The errors that were allowed and are made, by name.
    pub fn approximations(&self) -> Vec<String> {
        let Some(compilation) = self.compilation() else { return Vec::new() };
        let mut names: Vec<String> = Vec::new();
        for rule in &compilation.rewritten.rules {
            if let Exactness::Approximate(name) = &rule.exactness
                && !names.iter().any(|n| n == name)
            {
                names.push(name.to_string());
            }
        }
        names
    }

    /// The values of the dims for these inputs.
    pub fn dims(&self, inputs: &[Blob]) -> Result<DimValues, Error> {
        if inputs.len() != self.program.params.len() {
            let wanted = self.program.params.len();
            return Err(Error::Usage(format!("the model has {wanted} inputs, {} are given", inputs.len())));
        }
        let given: Vec<Vec<usize>> = inputs.iter().map(|b| b.shape.clone()).collect();
        for (v, b) in self.program.params.iter().zip(inputs) {
            let (name, wanted) = (self.program.name_of(*v), self.program.ty(*v).dtype());
            if b.dtype != wanted {
                return Err(Error::Usage(format!("input `{name}` must be {wanted}, found {}", b.dtype)));
            }
        }
        shapes::from_inputs(&self.program, &given)
    }

    /// Runs on `inputs`, one a parameter, with that many threads (0: all).
    pub fn run(&self, inputs: &[Blob], threads: usize) -> Result<Vec<Blob>, Error> {
        let dims = self.dims(inputs)?;
        match &self.engine {
            Engine::Reference => {
                let all = vec![None; self.program.results.len()];
                let results = self.reference(&dims, inputs, &self.weights, &all)?;
                let types = self.program.results.iter().map(|v| self.program.ty(*v).dtype());
                Ok(results.iter().zip(types).map(|(t, d)| t.to_blob(d)).collect())
            }
            Engine::Native { .. } | Engine::Device { .. } => {
                let mut results = self.result_blobs(&dims);
                let pool = pool(threads);
                self.run_into(&dims, inputs, &mut results, pool.as_ref())?;
                Ok(results)
            }
        }
    }

    /// Zeros of the results' types and lengths.
    pub fn result_blobs(&self, dims: &DimValues) -> Vec<Blob> {
        let blob = |v: &mixc_ir::program::ValueId| {
            let ty = self.program.ty(*v);
            Blob::zeros(ty.dtype(), &shapes::lengths(&ty.dims(), dims))
        };
        self.program.results.iter().map(blob).collect()
    }

    /// Runs into results of the right lengths; for compiled models.
    pub fn run_into(
        &self,
        dims: &DimValues,
        inputs: &[Blob],
        results: &mut [Blob],
        pool: Option<&Pool>,
    ) -> Result<(), Error> {
        let reads: Vec<&[u8]> = inputs.iter().map(|b| b.bytes.as_slice()).collect();
        let mut writes: Vec<&mut [u8]> = results.iter_mut().map(|b| b.bytes.as_mut_slice()).collect();
        self.run_bytes(dims, &reads, &mut writes, pool)
    }

    /// As [`Runner::run_into`], from and into memory of the caller, which may lie better than that of vectors.
    pub fn run_bytes(
        &self,
        dims: &DimValues,
        inputs: &[&[u8]],
        results: &mut [&mut [u8]],
        pool: Option<&Pool>,
    ) -> Result<(), Error> {
        match &self.engine {
            Engine::Reference => Err(Error::Usage("the reference has no compiled code".into())),
            Engine::Native { code, bound, .. } => {
                let on_pool = pool.map(OnPool);
                let parallel = on_pool.as_ref().map(|p| p as &dyn Parallel);
                code.run(dims, bound.as_ref(), inputs, results, parallel).map_err(|e| call_error(&e))
            }
            Engine::Device { code, bound, .. } => code.run(dims, bound, inputs, results).map_err(device_error),
        }
    }

    /// The reference's results, of which only these rows count.
    fn reference(
        &self,
        dims: &DimValues,
        inputs: &[Blob],
        weights: &Weights,
        rows: &[Rows],
    ) -> Result<Vec<Tensor>, Error> {
        let inputs: Vec<Tensor> = inputs.iter().map(Blob::to_tensor).collect();
        reference::interpret_rows(&self.program, dims, &inputs, weights, rows).map_err(Error::Usage)
    }

    /// Compares results with the reference: the largest difference as a share of the largest value, or the error that
    /// says which result differs and by how much. Of results with more than 2048 rows a sample is compared, and the
    /// reference makes no others where the program allows it (what leads to an earlier layer is made as a whole). Where
    /// approximations are in use, any finite difference is what they cost, and no error.
    pub fn check(&self, model: &Model, inputs: &[Blob], results: &[Blob]) -> Result<f64, Error> {
        let dims = self.dims(inputs)?;
        let view = model.weights.view().map_err(|d| model.rejected(d))?;
        let weights = mixc_ir::weights::to_reference(&self.program, &view).map_err(|d| model.rejected(d))?;
        let samples: Vec<Rows> = results.iter().map(|b| sample(&b.shape)).collect();
        let wanted = self.reference(&dims, inputs, &weights, &samples)?;
        let types = self.program.params.iter().chain(&self.program.results).map(|v| self.program.ty(*v).dtype());
        let approximate = !self.approximations().is_empty();
        let allowed = if approximate { f64::MAX } else { types.map(tolerance).fold(0.0, f64::max) };
        let mut worst: f64 = 0.0;
        for (k, (got, want)) in results.iter().zip(&wanted).enumerate() {
            let got = got.to_f64();
            let (rows, width) = match want.shape.as_slice() {
                [.., rows, width] => (*rows, *width),
                _ => (1, 1),
            };
            let counts = |n: &usize| match &samples[k] {
                Some(sample) => sample.binary_search(&(n / width.max(1) % rows.max(1))).is_ok(),
                None => true,
            };
            let values = (0..want.len()).filter(counts).map(|n| want.at(n).abs());
            let scale = values.filter(|x| x.is_finite()).fold(0.0, f64::max);
            for (n, got) in got.iter().enumerate().filter(|(n, _)| counts(n)) {
                let want = want.at(n);
                // Equal values, infinities among them, and NaN where NaN is meant, do not differ.
                if *got == want || (got.is_nan() && want.is_nan()) {
                    continue;
                }
                let difference = (got - want).abs() / scale.max(f64::MIN_POSITIVE);
                if difference.is_nan() || difference > allowed {
                    return Err(Error::CheckFailed(format!(
                        "out{k}[{n}] is {got}, the reference has {want}: {difference:.1e} of the largest value, allowed \
                         {allowed:.0e}"
                    )));
                }
                worst = worst.max(difference);
            }
        }
        Ok(worst)
    }
}

/// Rows of a result that are compared, in order: all of up to 2048 (section 7 of the language reference), else evenly
/// spread ones, the first and the last among them.
fn sample(shape: &[usize]) -> Rows {
    const ALL: usize = 2048;
    const SAMPLED: usize = 256;
    match shape {
        [.., rows, _] if *rows > ALL => Some((0..SAMPLED).map(|k| k * (rows - 1) / (SAMPLED - 1)).collect()),
        _ => None,
    }
}

/// The share of the largest value by which results may differ (the language reference, section 7).
fn tolerance(d: DType) -> f64 {
    match d {
        DType::BF16 => 2e-2,
        DType::F16 => 4e-3,
        _ => 1e-5,
    }
}

/// A pool of that many threads (0: all); none for one thread.
pub fn pool(threads: usize) -> Option<Pool> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if threads == 0 { all } else { threads };
    (threads > 1).then(|| Pool::new(threads))
}
