//! Kernels in the emulator against the interpreter of tile programs: the language's own examples and random programs, at
//! odd lengths and with every order of threads; and kernels made wrong on purpose.

use crate::cpu::vkir::tests::Rng;
use crate::cuda::device::Device;
use crate::cuda::{CudaModel, RunError};
use crate::cuda::{emit, nvrtc};
use crate::tests::random::random_program;
use crate::tests::{check, model_of, random_inputs, shape_of};
use mixc_ir::dim::DimValues;
use mixc_ir::lowered::Lowered;
use mixc_ir::tensor::Blob;
use mixc_ir::tile::{TileProgram, examples};
use mixc_ir::weights::Weights;

/// The emulator, or why it is not here.
fn emulator(order: u32) -> Option<Device> {
    match Device::emulated_in_order(order) {
        Ok(device) => Some(device),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

fn run(model: &CudaModel, lowered: &Lowered, dims: &DimValues, inputs: &[Blob]) -> Result<Vec<Blob>, RunError> {
    let bound = model.bind(&Weights::read(&[]).expect("no files have no faults"))?;
    let mut results: Vec<Blob> = lowered
        .results
        .iter()
        .map(|r| Blob::zeros(lowered.buffer(*r).dtype, &shape_of(&lowered.buffer(*r).shape, dims)))
        .collect();
    let reads: Vec<&[u8]> = inputs.iter().map(|b| b.bytes.as_slice()).collect();
    let mut writes: Vec<&mut [u8]> = results.iter_mut().map(|b| b.bytes.as_mut_slice()).collect();
    model.run(dims, &bound, &reads, &mut writes)?;
    Ok(results)
}

fn check_at(model: &CudaModel, lowered: &Lowered, program: &TileProgram, dims: &DimValues, rng: &mut Rng) {
    let inputs = random_inputs(lowered, dims, rng);
    let mut run = |blobs: &[Blob]| {
        run(model, lowered, dims, blobs)
            .unwrap_or_else(|e| panic!("{} at {dims:?}: {e}\n{}", program.name, emit::kernel("kernel", program).text))
    };
    check(lowered, program, dims, &inputs, &mut run);
}

#[test]
fn examples_agree_with_the_interpreter() {
    let mut rng = Rng::new(1);
    for (k, program) in examples::all().iter().enumerate() {
        let Some(device) = emulator(k as u32 % 3) else { return };
        let lowered = model_of(program);
        let model = CudaModel::new(&lowered, device).unwrap_or_else(|e| panic!("{}: {e}", program.name));
        for t in [1, 2, 5, 17, 67] {
            let dims = lowered.dims.iter().enumerate().map(|(k, d)| (d.name.clone(), t + 3 * k as i64)).collect();
            check_at(&model, &lowered, program, &dims, &mut rng);
        }
    }
}

#[test]
fn random_programs_agree_with_the_interpreter() {
    let mut rng = Rng::new(7);
    for k in 0..24 {
        let Some(device) = emulator(k % 3) else { return };
        let mut program = random_program(&mut rng);
        program.name = format!("random{k}");
        let lowered = model_of(&program);
        let model = CudaModel::new(&lowered, device).unwrap_or_else(|e| panic!("{}: {e}", program.name));
        for t in [0, 1, 16, 45] {
            check_at(&model, &lowered, &program, &DimValues::from([("T".into(), t)]), &mut rng);
        }
    }
}

/// What the emulator says of an example's kernel after `change` was made to its text.
fn fault(program: &TileProgram, t: i64, change: &dyn Fn(&str) -> String) -> Option<String> {
    let device = emulator(0)?;
    let lowered = model_of(program);
    let emitted = emit::kernel("kernel", program);
    let changed = change(&emitted.text);
    assert_ne!(changed, emitted.text, "nothing was changed");
    let module = device.load(&format!("{}\n{changed}", emit::TILES), &[emitted.kernel]).expect("the text compiles");
    let dims: DimValues = lowered.dims.iter().map(|d| (d.name.clone(), t)).collect();
    let inputs = random_inputs(&lowered, &dims, &mut Rng::new(3));
    let mut memory = Vec::new();
    let mut given = inputs.iter().zip(&lowered.params);
    for buffer in &lowered.buffers {
        let one =
            device.allocate(buffer.bytes(&dims).expect("the lengths are small") as usize).expect("there is memory");
        if matches!(buffer.place, mixc_ir::lowered::Place::Param(_)) {
            let (tensor, id) = given.next().expect("an input for every parameter");
            device.upload(&one, 0, &tensor.to_blob(lowered.buffer(*id).dtype).bytes).expect("it fits");
        }
        memory.push(one);
    }
    let words: Vec<u64> = memory.iter().map(|m| m.address()).chain(dims.values().map(|n| *n as u64)).collect();
    let ended = device.launch(&module, 0, 1, &words).and_then(|()| device.synchronize());
    Some(ended.expect_err("a wrong kernel must be found out").to_string())
}

#[test]
fn kernels_made_wrong_are_found_out() {
    let flash = examples::flash_attention(3, 5, None, [16, 8]);
    let barriers = emit::kernel("kernel", &flash).text.matches("mx_barrier();").count();
    assert!(barriers > 4, "{barriers}");
    // Every barrier is needed: without any one of them there is a race.
    for k in 0..barriers {
        let without = |text: &str| {
            let mut parts: Vec<&str> = text.split("mx_barrier();").collect();
            let (left, right) = (parts[k], parts.remove(k + 1));
            let joined = format!("{left};{right}");
            parts[k] = &joined;
            parts.join("mx_barrier();")
        };
        let Some(said) = fault(&flash, 21, &without) else { return };
        assert!(said.contains("race"), "barrier {k}: {said}");
    }
    let outside = |text: &str| text.replacen("= g0_q[", "= g0_q[100000 + ", 1);
    assert!(fault(&flash, 21, &outside).is_some_and(|said| said.contains("bounds")));
    let stuck = |text: &str| text.replacen("mx_barrier();", "if (mx_thread() != 0) mx_barrier();", 1);
    assert!(fault(&flash, 21, &stuck).is_some());
}

/// Bytes of registers that a thread may write to memory: what the calls of the 64-bit division save around them.
const SAVED_AROUND_CALLS: u32 = 64;

#[test]
fn kernels_assemble_without_spills() {
    if !super::compiles::has_nvrtc() {
        return;
    }
    let mut programs = examples::all();
    let mut rng = Rng::new(11);
    programs.extend((0..6).map(|_| random_program(&mut rng)));
    for (k, program) in programs.iter().enumerate() {
        let emitted = emit::kernel(&emit::kernel_name("test", k, &program.name), program);
        for architecture in ["sm_80", "sm_90a"] {
            let compiled = nvrtc::compile(&format!("{}\n{}", emit::TILES, emitted.text), architecture)
                .unwrap_or_else(|e| panic!("{}: {e}\n{}", program.name, emitted.text));
            let usage = compiled.usage[&emitted.kernel.name];
            // Random programs call f64 functions in the middle of everything.
            let spills = program.name != "random" && usage.spill_bytes > SAVED_AROUND_CALLS;
            assert!(usage.registers > 0 && !spills, "{} for {architecture}: {usage:?}", program.name);
        }
    }
}
