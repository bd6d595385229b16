//! Tile programs as models of one step, random inputs for them, and what the interpreter says they give: what every
//! back end's tests compare with.

pub mod random;

use crate::cpu::vkir::tests::Rng;
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

/// Random inputs of a model at these lengths.
pub fn random_inputs(lowered: &Lowered, dims: &DimValues, rng: &mut Rng) -> Vec<Tensor> {
    let one = |p: &BufferId| {
        let buffer = lowered.buffer(*p);
        random_tensor(rng, buffer.dtype, &shape_of(&buffer.shape, dims))
    };
    lowered.params.iter().map(one).collect()
}

/// Compares what `run` gives with what the interpreter gives.
pub fn check(
    lowered: &Lowered,
    program: &TileProgram,
    dims: &DimValues,
    inputs: &[Tensor],
    run: &mut dyn FnMut(&[Blob]) -> Vec<Blob>,
) {
    let references: Vec<&Tensor> = inputs.iter().collect();
    let expected = interpret(program, dims, &references, Rounding::Tiles)
        .unwrap_or_else(|e| panic!("{} at {dims:?}: {e}", program.name));
    let exact = interpret(program, dims, &references, Rounding::Nowhere).unwrap_or_else(|e| panic!("{e}"));
    let blobs: Vec<Blob> =
        inputs.iter().zip(&lowered.params).map(|(t, p)| t.to_blob(lowered.buffer(*p).dtype)).collect();
    let got = run(&blobs);
    for ((expected, exact), got) in expected.iter().zip(&exact).zip(&got) {
        // How much rounding matters to this program at all.
        let spread = (0..exact.len()).map(|k| (exact.at(k) - expected.at(k)).abs()).fold(0.0, f64::max);
        // What went through an f32 tile is no better than that.
        let narrow = program.tiles.iter().any(|t| t.ty == TileType::F32) && got.dtype == DType::F64;
        let tolerance = if narrow { tolerance(DType::F32) } else { tolerance(got.dtype) } + 20.0 * spread;
        assert_close(&format!("{} at {dims:?}", program.name), expected, got, tolerance);
    }
}
