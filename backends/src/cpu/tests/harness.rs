//! One tile program as a model, run by generated code between guard pages and by the interpreter.

use super::guarded::Guarded;
use crate::cpu::vkir::tests::Rng;
use crate::cpu::{CompiledModel, Memory, Parallel};
pub use crate::tests::model_of;
use crate::tests::{check, random_inputs, shape_of};
use mixc_ir::dim::DimValues;
use mixc_ir::lowered::Lowered;
use mixc_ir::tensor::{Blob, Tensor};
use mixc_ir::tile::TileProgram;

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

/// Compares a compiled program with the interpreter on random inputs of these lengths.
pub fn check_model(model: &CompiledModel, lowered: &Lowered, program: &TileProgram, dims: &DimValues, rng: &mut Rng) {
    check_inputs(model, lowered, program, dims, &random_inputs(lowered, dims, rng));
}

pub fn check_inputs(
    model: &CompiledModel,
    lowered: &Lowered,
    program: &TileProgram,
    dims: &DimValues,
    inputs: &[Tensor],
) {
    for (at_end, parallel) in [(true, false), (false, true)] {
        let mut run = |blobs: &[Blob]| run_guarded(model, lowered, dims, blobs, at_end, parallel);
        check(lowered, program, dims, inputs, &mut run);
    }
}
