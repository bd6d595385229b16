//! The function that runs a slice of a tile program's grid: `fn(context, slice)`.
//!
//! The grid is flattened and cut into a number of slices that depends on the lengths alone, so that results are the same
//! for every number of threads. A slice has its own scratch memory.

use super::code::Code;
use super::expression::{Emitter, Scope, TensorPlace, dim_value};
use super::functions::Library;
use super::module::{CodeError, define_clif};
use super::storage::Storage;
use super::target::Target;
use super::vector::{self, Forms, Item};
use super::writer::Writer;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, Signature, Value, types};
use cranelift_module::{FuncId, Linkage, Module};
use mixc_ir::dim::{Atom, Dim, Symbol};
use mixc_ir::expr::{Node, TileId};
use mixc_ir::program::DimItem;
use mixc_ir::tile::TileProgram;
use std::collections::BTreeSet;

/// Most slices that a grid is cut into.
pub const SLICES: i64 = 64;

/// The context that a body reads, in words of eight bytes: these, then the values of the model's symbols, then the
/// addresses of the program's tensors.
pub mod context {
    /// Points of the grid.
    pub const POINTS: i32 = 0;
    /// Slices that it is cut into.
    pub const SLICES: i32 = 8;
    /// Address of the scratch memory.
    pub const SCRATCH: i32 = 16;
    /// Bytes from a slice's scratch memory to the next one's; 0 when slices run one after another.
    pub const STRIDE: i32 = 24;
    /// First symbol.
    pub const SYMBOLS: i32 = 32;

    /// Words in all.
    pub fn words(symbols: usize, tensors: usize) -> usize {
        SYMBOLS as usize / 8 + symbols + tensors
    }
}

/// The code of a tile program.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// `fn(context, slice)`.
    pub function: FuncId,
    /// Bytes of scratch memory that a slice needs.
    pub scratch: usize,
}

/// Defines the body of `program` as a local function: of several versions it calls the one for the lengths at hand.
pub fn define_body(
    module: &mut dyn Module,
    library: &mut Library,
    target: &Target,
    name: &str,
    dims: &[DimItem],
    program: &TileProgram,
) -> Result<Body, CodeError> {
    let versions = vector::versions(program, dims, target.isa().lanes());
    let symbols: Vec<Symbol> = dims.iter().map(|d| d.name.clone()).collect();
    if versions.is_empty() {
        return define_version(module, library, target, name, &symbols, program);
    }
    let whole = define_version(module, library, target, &format!("{name}_any"), &symbols, program)?;
    let mut scratch = whole.scratch;
    let mut short = Vec::new();
    for version in &versions {
        let name = format!("{name}_{}_to_{}", version.symbol, version.values.1);
        let body = define_version(module, library, target, &name, &symbols, &version.program)?;
        scratch = scratch.max(body.scratch);
        short.push((version, body.function));
    }
    let signature = signature(module);
    let function = define_clif(module, name, Linkage::Local, signature, |b, module| {
        let mut f = Code::new(b, module, library);
        let (ctx, slice) = (f.param(0), f.param(1));
        for (version, function) in short {
            let Some(k) = symbols.iter().position(|s| *s == version.symbol) else { continue };
            let value = f.load(types::I64, ctx, context::SYMBOLS + 8 * k as i32);
            let (low, high) = version.values;
            let above = f.iadd_imm(value, -low);
            let within = f.icmp_imm(IntCC::UnsignedLessThanOrEqual, above, high - low);
            f.if_(within, |f| {
                f.call_void(function, &[ctx, slice]);
                f.return_(&[]);
            });
        }
        f.call_void(whole.function, &[ctx, slice]);
        f.return_(&[]);
        f.finish()
    })?;
    Ok(Body { function, scratch })
}

/// `fn(context, slice)`.
fn signature(module: &dyn Module) -> Signature {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); 2];
    signature
}

/// Defines one version of a body.
fn define_version(
    module: &mut dyn Module,
    library: &mut Library,
    target: &Target,
    name: &str,
    symbols: &[Symbol],
    program: &TileProgram,
) -> Result<Body, CodeError> {
    let isa = target.isa();
    let (program, mut forms) = vector::prepare(program, isa.lanes());
    let items = vector::schedule(&program, &mut forms, isa);
    let layouts = (0..program.tiles.len()).map(|k| forms.layout(&program, TileId(k as u32))).collect();
    let storage = Storage::plan(&program, &items, layouts);
    let signature = signature(module);
    let function = define_clif(module, name, Linkage::Local, signature, |b, module| {
        let mut f = Code::new(b, module, library);
        emit(&mut f, symbols, target, &program, &forms, &items, &storage);
        f.finish()
    })?;
    Ok(Body { function, scratch: storage.bytes })
}

/// All dims that the program's code mentions, small ones first.
fn dims_of(program: &TileProgram) -> Vec<Dim> {
    fn parts(d: &Dim, all: &mut BTreeSet<Dim>) {
        for (product, _) in d.terms() {
            for atom in product {
                if let Atom::Exact(inner, _) | Atom::Ceil(inner, _) = atom {
                    parts(inner, all);
                }
            }
        }
        all.insert(d.clone());
    }
    let mut all = BTreeSet::new();
    let mut order = Vec::new();
    let mut take = |d: &Dim, order: &mut Vec<Dim>| {
        let mut found = BTreeSet::new();
        parts(d, &mut found);
        for d in found {
            if all.insert(d.clone()) {
                order.push(d);
            }
        }
    };
    for tensor in &program.tensors {
        for d in &tensor.shape {
            take(d, &mut order);
        }
    }
    program.for_each_expr(&mut |e| {
        e.visit(&mut |e| {
            if let Node::Dim(d) = e.node() {
                take(d, &mut order);
            }
        });
    });
    order
}

fn emit(
    f: &mut Code,
    symbols: &[Symbol],
    target: &Target,
    program: &TileProgram,
    forms: &Forms,
    items: &[Item],
    storage: &Storage,
) {
    let (ctx, slice) = (f.param(0), f.param(1));
    let mut scope = Scope { tiles: vec![None; program.tiles.len()], ..Scope::default() };
    for (k, symbol) in symbols.iter().enumerate() {
        let value = f.load(types::I64, ctx, context::SYMBOLS + 8 * k as i32);
        scope.symbols.insert(symbol.clone(), value);
    }
    // Dims are computed once, before all loops: their divisions are not moved out of loops otherwise.
    for dim in dims_of(program) {
        let value = dim_value(f, &scope, &dim);
        scope.dims.insert(dim, value);
    }
    let first_tensor = context::SYMBOLS + 8 * symbols.len() as i32;
    for (k, tensor) in program.tensors.iter().enumerate() {
        let base = f.load(types::I64, ctx, first_tensor + 8 * k as i32);
        let shape = tensor.shape.iter().map(|d| dim_value(f, &scope, d)).collect();
        scope.tensors.push(TensorPlace { base, dtype: tensor.dtype, shape });
    }
    let (arguments, floats) = (f.stack(vector::ARGUMENTS), f.stack(vector::ARGUMENTS));
    let points = f.load(types::I64, ctx, context::POINTS);
    let slices = f.load(types::I64, ctx, context::SLICES);
    let scratch = f.load(types::I64, ctx, context::SCRATCH);
    let stride = f.load(types::I64, ctx, context::STRIDE);
    let own = f.imul(slice, stride);
    let scratch = f.iadd(scratch, own);
    let extents: Vec<Value> =
        program.grid.iter().map(|axis| Emitter::new(&scope, types::F64).int(f, &axis.extent)).collect();
    // Slice s has the points from s * points / slices; the product is formed without leaving the range by splitting
    // points into a quotient and a rest.
    let quotient = f.sdiv(points, slices);
    let rest = f.srem(points, slices);
    let start_of = |f: &mut Code, s: Value| {
        let whole = f.imul(s, quotient);
        let part = f.imul(s, rest);
        let part = f.sdiv(part, slices);
        f.iadd(whole, part)
    };
    let begin = start_of(f, slice);
    let next_slice = f.iadd_imm(slice, 1);
    let end = start_of(f, next_slice);
    f.for_step(begin, end, 1, |f, point| {
        let mut left = point;
        for (axis, extent) in program.grid.iter().zip(&extents).rev() {
            let quotient = f.sdiv(left, *extent);
            let back = f.imul(quotient, *extent);
            let here = f.isub(left, back);
            scope.bind(axis.var, here);
            left = quotient;
        }
        let mut writer = Writer { target, program, forms, storage, scratch, arguments, floats };
        writer.items(f, &mut scope, items);
    });
    f.return_(&[]);
}
