//! Modules of machine code: one in this process's memory, one as an object file, both filled through
//! `&mut dyn Module`.
//!
//! Code in memory is not position independent and calls host functions through symbols given beforehand; an object is
//! position independent, aligned to 64 bytes a function, and the same input gives the same bytes. Raw functions should
//! be leaves without relocations.

use super::target::{Target, TargetError};
use super::vkir::EmitError;
use cranelift_codegen::ir::{AbiParam, Signature, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module, ModuleError, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use std::fmt;

/// Bytes to which raw functions are aligned.
pub const FUNCTION_ALIGNMENT: u64 = 64;

/// Why there is no code.
#[derive(Debug)]
pub enum CodeError {
    /// The target is not available.
    Target(TargetError),
    /// A vector kernel could not be emitted.
    Emit(EmitError),
    /// The code generator refused a function or the module.
    Module(String),
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodeError::Target(error) => error.fmt(f),
            CodeError::Emit(error) => error.fmt(f),
            CodeError::Module(error) => write!(f, "code generation failed: {error}"),
        }
    }
}

impl std::error::Error for CodeError {}

impl From<TargetError> for CodeError {
    fn from(error: TargetError) -> CodeError {
        CodeError::Target(error)
    }
}

impl From<EmitError> for CodeError {
    fn from(error: EmitError) -> CodeError {
        CodeError::Emit(error)
    }
}

impl From<ModuleError> for CodeError {
    fn from(error: ModuleError) -> CodeError {
        CodeError::Module(match error {
            // the plain form of this one names no cause
            ModuleError::Compilation(error) => format!("{error:?}"),
            error => error.to_string(),
        })
    }
}

/// The address of a host function, under the name by which generated code imports it.
#[derive(Clone, Copy, Debug)]
pub struct HostSymbol {
    /// Symbol.
    pub name: &'static str,
    /// Address.
    pub address: *const u8,
}

/// A module under construction, to be run in this process. Dropping it frees what it holds.
pub struct JitModule {
    inner: Option<JITModule>,
}

/// Finished code in executable memory, freed when dropped.
pub struct JitCode {
    inner: Option<JITModule>,
}

// SAFETY: finished code is only read; the addresses in it are plain data.
unsafe impl Send for JitCode {}
// SAFETY: as above; every method takes `&self` and looks up an address in tables that no one writes any more.
unsafe impl Sync for JitCode {}

impl JitModule {
    /// An empty module for `target`, which must be a machine that can run here. Imports resolve to `symbols` first,
    /// then to what the process has loaded; an import that is in neither makes [`JitModule::finish`] panic, so declare
    /// none that is not given here.
    pub fn new(target: &Target, symbols: &[HostSymbol]) -> Result<JitModule, CodeError> {
        if let Some(missing) = target.missing_here()? {
            return Err(TargetError::Unsupported(format!("this CPU lacks {}", missing.name())).into());
        }
        let mut builder = JITBuilder::with_isa(target.cranelift_isa(false)?, default_libcall_names());
        for symbol in symbols {
            builder.symbol(symbol.name, symbol.address);
        }
        Ok(JitModule { inner: Some(JITModule::new(builder)) })
    }

    /// The module to declare and define in.
    pub fn module(&mut self) -> &mut dyn Module {
        self.inner.as_mut().expect("the module is present until it is finished")
    }

    /// Makes everything defined executable. Takes 20 to 50 microseconds however much that is: put many kernels into
    /// one module.
    pub fn finish(mut self) -> Result<JitCode, CodeError> {
        let mut inner = self.inner.take().expect("the module is present until it is finished");
        let finished = inner.finalize_definitions();
        let code = JitCode { inner: Some(inner) };
        finished?;
        Ok(code)
    }
}

impl JitCode {
    /// The address of a function defined in the module; valid while this value lives. Panics on an id that was only
    /// declared, or belongs to another module.
    pub fn address(&self, function: FuncId) -> *const u8 {
        self.inner.as_ref().expect("the code is present until it is dropped").get_finalized_function(function)
    }
}

fn free(module: &mut Option<JITModule>) {
    if let Some(module) = module.take() {
        // SAFETY: addresses handed out are documented to be valid only while their owner lives, and it is going.
        unsafe { module.free_memory() };
    }
}

impl Drop for JitModule {
    fn drop(&mut self) {
        free(&mut self.inner);
    }
}

impl Drop for JitCode {
    fn drop(&mut self) {
        free(&mut self.inner);
    }
}

/// An empty object module for `target`; fill it and give it to [`object_bytes`].
pub fn object_module(target: &Target, name: &str) -> Result<ObjectModule, CodeError> {
    let mut builder = ObjectBuilder::new(target.cranelift_isa(true)?, name, default_libcall_names())?;
    builder.per_function_section(true);
    Ok(ObjectModule::new(builder))
}

/// The finished relocatable object file.
pub fn object_bytes(module: ObjectModule) -> Result<Vec<u8>, CodeError> {
    module.finish().emit().map_err(|error| CodeError::Module(error.to_string()))
}

/// A signature of `parameters` and `returns` 64-bit integers (or pointers) in the platform's C convention.
pub fn integer_signature(module: &dyn Module, parameters: usize, returns: usize) -> Signature {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); parameters];
    signature.returns = vec![AbiParam::new(types::I64); returns];
    signature
}

/// Defines raw machine code as a function of one pointer without result, aligned to [`FUNCTION_ALIGNMENT`].
pub fn define_raw(module: &mut dyn Module, name: &str, linkage: Linkage, bytes: &[u8]) -> Result<FuncId, CodeError> {
    let signature = integer_signature(module, 1, 0);
    let function = module.declare_function(name, linkage, &signature)?;
    module.define_function_bytes(function, FUNCTION_ALIGNMENT, bytes, &[])?;
    Ok(function)
}

/// Defines a Cranelift function. `body` is given a builder placed in the entry block, whose parameters are the
/// function's, and the module for declaring what it calls; it must leave every block filled and sealed.
pub fn define_clif(
    module: &mut dyn Module,
    name: &str,
    linkage: Linkage,
    signature: Signature,
    body: impl FnOnce(&mut FunctionBuilder<'_>, &mut dyn Module) -> Result<(), CodeError>,
) -> Result<FuncId, CodeError> {
    let function = module.declare_function(name, linkage, &signature)?;
    let mut context = module.make_context();
    context.func.signature = signature;
    let mut frontend = FunctionBuilderContext::new();
    let config = module.isa().frontend_config();
    let mut builder = FunctionBuilder::new(&mut context.func, &mut frontend);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    body(&mut builder, module)?;
    builder.finalize(config);
    module.define_function(function, &mut context)?;
    Ok(function)
}
