//! From a lowered model to the functions of its C interface, in a module for memory or for an object alike.

mod bind;
mod cpu_check;
mod plan;
mod run;
mod safetensors;
mod sizes;

pub use plan::{Plan, WEIGHTS_HEADER};

use super::abi::{Failure, reads_weights};
use super::body::{Body, define_body};
use super::code::{Code, define_data};
use super::functions::Library;
use super::module::{CodeError, define_clif};
use super::target::Target;
use crate::distinct::Distinct;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, InstBuilder, types};
use cranelift_module::{DataId, FuncId, Linkage, Module};
use mixc_ir::dim::DimValues;
use mixc_ir::lowered::{BufferId, Lowered, Phase, Place, aligned};
use mixc_ir::tensor::Tensor;
use std::collections::BTreeMap;

/// What becomes of the functions.
#[derive(Clone, Copy, Debug)]
pub struct Emission<'e> {
    /// Whether they are public symbols, as in an object.
    pub public: bool,
    /// Bound weights to be put into the code, from the start of their memory.
    pub embedded: Option<&'e [u8]>,
}

/// The functions of a model in a module.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `fn(args) -> code`: calls the run function with arguments from memory, words of eight bytes.
    pub call: Option<FuncId>,
    /// `NAME_bind`, if anything is bound at run time.
    pub bind: Option<FuncId>,
    /// `NAME_workspace_bytes`.
    pub workspace_bytes: FuncId,
    /// The layout of bound weights.
    pub plan: Plan,
}

/// The code of all steps, equal programs once.
fn bodies(
    module: &mut dyn Module,
    library: &mut Library,
    target: &Target,
    lowered: &Lowered,
) -> Result<Vec<(Phase, Option<Body>)>, CodeError> {
    let distinct = Distinct::of(lowered);
    let mut made: Vec<Body> = Vec::new();
    for (k, program) in distinct.programs.iter().enumerate() {
        let name = format!("{}_step{k}_{}", lowered.name, symbol_part(&program.name));
        made.push(define_body(module, library, target, &name, &lowered.dims, program)?);
    }
    let all = lowered.steps.iter().zip(&distinct.of_steps).map(|(s, k)| (s.phase, k.map(|k| made[k]))).collect();
    Ok(all)
}

/// A name with everything that a symbol may not have left out.
fn symbol_part(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn constants(module: &mut dyn Module, lowered: &Lowered) -> Result<BTreeMap<BufferId, DataId>, CodeError> {
    let mut all = BTreeMap::new();
    for (k, buffer) in lowered.buffers.iter().enumerate() {
        let Place::Constant(numbers) = &buffer.place else { continue };
        let expected = buffer.bytes(&DimValues::new());
        if expected != Some((numbers.len() * buffer.dtype.bytes()) as u64) {
            return Err(CodeError::Module(format!("constant `{}` has another length than its type", buffer.name)));
        }
        let bytes = Tensor::floats(&[numbers.len()], numbers.clone()).to_blob(buffer.dtype).bytes;
        // An empty section has no address; a byte does no harm.
        let bytes = if bytes.is_empty() { vec![0] } else { bytes };
        let id = define_data(module, &format!("{}_constant{k}", lowered.name), bytes, 64)?;
        all.insert(BufferId(k as u32), id);
    }
    Ok(all)
}

fn weight_data(module: &mut dyn Module, lowered: &Lowered) -> Result<BTreeMap<BufferId, bind::WeightData>, CodeError> {
    let mut all = BTreeMap::new();
    for (k, buffer) in lowered.buffers.iter().enumerate() {
        let Place::Weight(name) = &buffer.place else { continue };
        let lengths: Option<Vec<i64>> = buffer.shape.iter().map(|d| d.as_constant()).collect();
        let elements = buffer.bytes(&DimValues::new()).map(|b| (b / buffer.dtype.bytes() as u64) as i64);
        let (Some(lengths), Some(elements)) = (lengths, elements) else {
            return Err(CodeError::Module(format!("weight `{name}` has no constant shape")));
        };
        if lengths.len() as i64 > safetensors::RANK {
            return Err(CodeError::Module(format!("weight `{name}` has more than {} axes", safetensors::RANK)));
        }
        let rank = lengths.len();
        let mut key = safetensors::json_key(name);
        let key_length = key.len();
        key.push(0);
        let mut words: Vec<u8> = lengths.iter().flat_map(|n| n.to_le_bytes()).collect();
        words.extend([0; 8]);
        let data = bind::WeightData {
            key: define_data(module, &format!("{}_key{k}", lowered.name), key, 1)?,
            key_length,
            shape: define_data(module, &format!("{}_shape{k}", lowered.name), words, 8)?,
            rank,
            elements,
        };
        all.insert(BufferId(k as u32), data);
    }
    Ok(all)
}

/// Defines all functions of `lowered` in `module`.
pub fn define(
    module: &mut dyn Module,
    target: &Target,
    lowered: &Lowered,
    emission: Emission,
) -> Result<Entry, CodeError> {
    let mut library = Library::default();
    let library = &mut library;
    let name = &lowered.name;
    let public = if emission.public { Linkage::Export } else { Linkage::Local };
    let bodies = bodies(module, library, target, lowered)?;
    let of =
        |phase: Phase| -> Vec<Option<Body>> { bodies.iter().filter(|(p, _)| *p == phase).map(|(_, b)| *b).collect() };
    let scratch = |phase: Phase| of(phase).iter().flatten().map(|b| b.scratch).max().unwrap_or(0);
    let run_scratch = aligned(scratch(Phase::Run) as u64) as usize;
    let plan = Plan::new(lowered, run_scratch, scratch(Phase::Bind))?;
    let constants = constants(module, lowered)?;
    let cpu = if emission.public { cpu_check::define(module, target, &format!("{name}_cpu"))? } else { None };
    let embedded = match emission.embedded.filter(|_| plan.binds) {
        Some(bytes) => {
            if bytes.len() as u64 != plan.bound_bytes {
                return Err(CodeError::Module("the bound weights to embed have another length".to_owned()));
            }
            Some(define_data(module, &format!("{name}_bound"), bytes.to_vec(), 64)?)
        }
        None => None,
    };

    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); 2];
    signature.returns = vec![AbiParam::new(types::I32)];
    let sizes = define_clif(module, &format!("{name}_sizes"), Linkage::Local, signature, |b, module| {
        let mut f = Code::new(b, module, library);
        sizes::emit(&mut f, lowered, run_scratch);
        f.finish()
    })?;
    let parts =
        run::Parts { lowered, plan: &plan, bodies: of(Phase::Run), sizes, cpu, embedded, constants: &constants };
    let signature = run::signature(module, &parts);
    let arguments = signature.params.len();
    let run = define_clif(module, &format!("{name}_run"), public, signature, |b, module| {
        let mut f = Code::new(b, module, library);
        run::emit(&mut f, &parts);
        f.finish()
    })?;
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64)];
    signature.returns = vec![AbiParam::new(types::I64)];
    let workspace_bytes = define_clif(module, &format!("{name}_workspace_bytes"), public, signature, |b, module| {
        let mut f = Code::new(b, module, library);
        run::emit_workspace_bytes(&mut f, &parts);
        f.finish()
    })?;
    let bind = if parts.takes_weights() {
        let find = if reads_weights(lowered) { Some(safetensors::define(module, library)?) } else { None };
        let weights = weight_data(module, lowered)?;
        let parts =
            bind::Parts { lowered, plan: &plan, bodies: of(Phase::Bind), find, cpu, weights, constants: &constants };
        let signature = bind::signature(module);
        let bind = define_clif(module, &format!("{name}_bind"), public, signature, |b, module| {
            let mut f = Code::new(b, module, library);
            bind::emit(&mut f, &parts);
            f.finish()
        })?;
        if emission.public {
            define_weights_bytes(module, library, name, plan.total)?;
        }
        Some(bind)
    } else {
        None
    };
    let call = if emission.public {
        define_strerror(module, library, name)?;
        None
    } else {
        Some(define_call(module, library, name, run, arguments)?)
    };
    Ok(Entry { call, bind, workspace_bytes, plan })
}

fn define_weights_bytes(
    module: &mut dyn Module,
    library: &mut Library,
    name: &str,
    total: u64,
) -> Result<FuncId, CodeError> {
    let mut signature = module.make_signature();
    signature.returns = vec![AbiParam::new(types::I64)];
    define_clif(module, &format!("{name}_weights_bytes"), Linkage::Export, signature, |b, module| {
        let mut f = Code::new(b, module, library);
        let total = f.int(total as i64);
        f.return_(&[total]);
        f.finish()
    })
}

/// `const char *NAME_strerror(int32_t code)`.
fn define_strerror(module: &mut dyn Module, library: &mut Library, name: &str) -> Result<FuncId, CodeError> {
    let mut texts = vec![(0, "no error")];
    texts.extend(Failure::ALL.iter().map(|f| (f.code(), f.message())));
    let mut bytes = Vec::new();
    let mut starts = Vec::new();
    for (code, text) in texts {
        starts.push((code, bytes.len() as i64));
        bytes.extend(text.bytes());
        bytes.push(0);
    }
    let unknown = bytes.len() as i64;
    bytes.extend(b"unknown code\0");
    let data = define_data(module, &format!("{name}_messages"), bytes, 1)?;
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I32)];
    signature.returns = vec![AbiParam::new(types::I64)];
    define_clif(module, &format!("{name}_strerror"), Linkage::Export, signature, |b, module| {
        let mut f = Code::new(b, module, library);
        let code = f.param(0);
        let base = f.data(data);
        let mut offset = f.int(unknown);
        for (value, start) in starts {
            let this = f.icmp_imm(IntCC::Equal, code, i64::from(value));
            let start = f.int(start);
            offset = f.select(this, start, offset);
        }
        let at = f.iadd(base, offset);
        f.return_(&[at]);
        f.finish()
    })
}

/// The run function with its arguments in memory.
fn define_call(
    module: &mut dyn Module,
    library: &mut Library,
    name: &str,
    run: FuncId,
    arguments: usize,
) -> Result<FuncId, CodeError> {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64)];
    signature.returns = vec![AbiParam::new(types::I32)];
    define_clif(module, &format!("{name}_call"), Linkage::Local, signature, |b, module| {
        let mut f = Code::new(b, module, library);
        let memory = f.param(0);
        let args: Vec<_> = (0..arguments).map(|k| f.load(types::I64, memory, 8 * k as i32)).collect();
        let reference = f.import(run);
        let call = f.b.ins().call(reference, &args);
        let code = f.b.inst_results(call)[0];
        f.return_(&[code]);
        f.finish()
    })
}
