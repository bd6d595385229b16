//! One tile program as a model, run by generated code and by the interpreter.

use super::guarded::Guarded;
use crate::cpu::vkir::tests::Rng;
use crate::cpu::{CompiledModel, Memory, Parallel};
use mixc_ir::dim::{Atom, Dim, DimValues};
use mixc_ir::dtype::DType;
use mixc_ir::expr::Kind;
use mixc_ir::lowered::{Action, Buffer, BufferId, Lowered, Phase, Place, Step};
use mixc_ir::program::DimItem;
use mixc_ir::tensor::{Blob, Tensor};
use mixc_ir::tile::{Role, Rounding, TileProgram, TileType, interpret};
use std::collections::BTreeSet;

fn symbols(dim: &Dim, found: &mut BTreeSet<mixc_ir::dim::Symbol>) {
    for (product, _) in dim.terms() {
        for atom in product {
            match atom {
                Atom::Symbol(s) => {
                    found.insert(s.clone());
                }
                Atom::Exact(d, _) | Atom::Ceil(d, _) => symbols(d, found),
            }
        }
    }
}

/// A model whose parameters and results are the program's tensors.
pub fn model_of(program: &TileProgram) -> Lowered {
    let mut lowered = Lowered { name: "test".to_owned(), ..Lowered::default() };
    let mut found = BTreeSet::new();
    for (k, tensor) in program.tensors.iter().enumerate() {
        tensor.shape.iter().for_each(|d| symbols(d, &mut found));
        let id = BufferId(k as u32);
        let place = match tensor.role {
            Role::Input => {
                lowered.params.push(id);
                Place::Param(lowered.params.len() - 1)
            }
            Role::Output => {
                lowered.results.push(id);
                Place::Result(lowered.results.len() - 1)
            }
        };
        let buffer = Buffer { name: tensor.name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone(), place };
        lowered.buffers.push(buffer);
    }
    lowered.dims = found.into_iter().map(|name| DimItem { name, low: 0, high: 1 << 20 }).collect();
    let buffers = (0..program.tensors.len() as u32).map(BufferId).collect();
    let action = Action::Run { program: program.clone(), buffers, form: String::new(), site: String::new() };
    lowered.steps.push(Step { phase: Phase::Run, action });
    lowered
}

/// Random elements: reals of -1 to 1, integers of 0 to 2.
pub fn random_tensor(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Tensor {
    let kind = match dtype {
        d if d.is_float() => Kind::Float,
        d if d.is_int() => Kind::Int,
        _ => Kind::Bool,
    };
    Tensor::from_fn(kind, shape, |_| match kind {
        Kind::Float => mixc_ir::expr::Scalar::Float(f64::from(rng.unit()) * 2.0 - 1.0),
        Kind::Int => mixc_ir::expr::Scalar::Int(rng.below(3) as i64),
        Kind::Bool => mixc_ir::expr::Scalar::Bool(rng.below(2) == 1),
    })
    .rounded(dtype)
}

pub fn shape_of(shape: &[Dim], dims: &DimValues) -> Vec<usize> {
    shape.iter().map(|d| d.eval(dims).unwrap() as usize).collect()
}

/// Two threads a grid, in no fixed order.
pub struct TwoThreads;

impl Parallel for TwoThreads {
    fn parallel_for(&self, count: i64, body: &(dyn Fn(i64) + Sync)) {
        std::thread::scope(|s| {
            s.spawn(|| (0..count).filter(|k| k % 2 == 1).for_each(body));
            (0..count).rev().filter(|k| k % 2 == 0).for_each(body);
        });
    }
}

/// Runs a model with every tensor between guard pages.
pub fn run_guarded(
    model: &CompiledModel,
    lowered: &Lowered,
    dims: &DimValues,
    inputs: &[Blob],
    at_end: bool,
    parallel: bool,
) -> Vec<Blob> {
    let inputs: Vec<Guarded> = inputs.iter().map(|b| Guarded::holding(&b.bytes, at_end)).collect();
    let mut outputs: Vec<Guarded> = lowered
        .results
        .iter()
        .map(|r| Guarded::new(lowered.buffer(*r).bytes(dims).unwrap() as usize, at_end))
        .collect();
    for output in &mut outputs {
        output.bytes_mut().fill(0xa5);
    }
    let input_bytes: Vec<&[u8]> = inputs.iter().map(|g| g.bytes()).collect();
    let mut output_bytes: Vec<&mut [u8]> = outputs.iter_mut().map(|g| g.bytes_mut()).collect();
    let threads: Option<&dyn Parallel> = if parallel { Some(&TwoThreads) } else { None };
    // The workspace ends at a forbidden page as well, and is full of NaN.
    let bytes = model.workspace_bytes(dims).unwrap_or_else(|e| panic!("{e}"));
    let mut workspace = Guarded::new(bytes, true);
    workspace.bytes_mut().fill(0xff);
    let mut memory = Memory::borrowed(workspace.bytes_mut());
    model.run_in(dims, None, &input_bytes, &mut output_bytes, &mut memory, threads).unwrap_or_else(|e| panic!("{e}"));
    lowered
        .results
        .iter()
        .zip(&outputs)
        .map(|(r, g)| {
            let buffer = lowered.buffer(*r);
            Blob { dtype: buffer.dtype, shape: shape_of(&buffer.shape, dims), bytes: g.bytes().to_vec() }
        })
        .collect()
}

/// The greatest difference allowed, relative to 1 plus the greatest value.
pub fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 2e-5,
        DType::F16 => 2e-3,
        DType::BF16 => 1.6e-2,
        DType::F64 => 1e-11,
        _ => 0.0,
    }
}

/// Asserts that two tensors agree: NaN and infinities at the same places, integers exactly.
pub fn assert_close(what: &str, expected: &Tensor, got: &Blob, tolerance: f64) {
    let got_tensor = got.to_tensor();
    assert_eq!(expected.shape, got_tensor.shape, "{what}");
    let scale = (0..expected.len()).map(|k| expected.at(k).abs()).filter(|x| x.is_finite()).fold(1.0, f64::max);
    for k in 0..expected.len() {
        let (x, y) = (expected.at(k), got_tensor.at(k));
        let same = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= tolerance * scale;
        assert!(same, "{what}: element {k} is {y}, expected {x}");
    }
}

/// Compares a compiled program with the interpreter on random inputs of these lengths.
pub fn check_model(model: &CompiledModel, lowered: &Lowered, program: &TileProgram, dims: &DimValues, rng: &mut Rng) {
    let inputs: Vec<Tensor> = lowered
        .params
        .iter()
        .map(|p| {
            let buffer = lowered.buffer(*p);
            random_tensor(rng, buffer.dtype, &shape_of(&buffer.shape, dims))
        })
        .collect();
    check_inputs(model, lowered, program, dims, &inputs);
}

pub fn check_inputs(
    model: &CompiledModel,
    lowered: &Lowered,
    program: &TileProgram,
    dims: &DimValues,
    inputs: &[Tensor],
) {
    let references: Vec<&Tensor> = inputs.iter().collect();
    let expected = interpret(program, dims, &references, Rounding::Tiles)
        .unwrap_or_else(|e| panic!("{} at {dims:?}: {e}", program.name));
    let exact = interpret(program, dims, &references, Rounding::Nowhere).unwrap_or_else(|e| panic!("{e}"));
    let blobs: Vec<Blob> =
        inputs.iter().zip(&lowered.params).map(|(t, p)| t.to_blob(lowered.buffer(*p).dtype)).collect();
    for (at_end, parallel) in [(true, false), (false, true)] {
        let got = run_guarded(model, lowered, dims, &blobs, at_end, parallel);
        for ((expected, exact), got) in expected.iter().zip(&exact).zip(&got) {
            // How much rounding matters to this program at all.
            let spread = (0..exact.len()).map(|k| (exact.at(k) - expected.at(k)).abs()).fold(0.0, f64::max);
            // What went through an f32 tile is no better than that.
            let narrow = program.tiles.iter().any(|t| t.ty == TileType::F32) && got.dtype == DType::F64;
            let tolerance = if narrow { tolerance(DType::F32) } else { tolerance(got.dtype) } + 20.0 * spread;
            assert_close(&format!("{} at {dims:?}", program.name), expected, got, tolerance);
        }
    }
}
