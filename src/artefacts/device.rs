//! What a CUDA target has: source that compiles by itself, and what NVRTC makes of it where that is present.

use super::{Emit, Files, Wanted, manifest, stub};
use crate::{Compilation, Error, Model};
use mixc_backends::cpu::abi::Interface;
use mixc_backends::cuda::{self, CudaError, CudaTarget, GPU_PRELUDE, Source, nvrtc};
use mixc_ir::lowered::Action;
use std::path::{Path, PathBuf};

/// The virtual architecture of PTX: what later GPUs of every kind run.
const PTX_ARCHITECTURE: &str = "compute_80";

/// The kernels of a compilation.
pub fn source(c: &Compilation) -> Source {
    cuda::source(&c.lowered)
}

fn failed(e: CudaError) -> Error {
    match e {
        CudaError::CompileFailed(log) => Error::Bug(format!("CUDA text does not compile:\n{log}")),
        e => Error::Unavailable(e.to_string()),
    }
}

/// The architecture of a target: this machine's device where none is named.
fn architecture(target: &CudaTarget) -> Result<String, Error> {
    match target {
        CudaTarget::Architecture(name) => Ok((*name).to_string()),
        CudaTarget::Here => cuda::open(target).map(|d| d.architecture()).map_err(failed),
        CudaTarget::Emulated => {
            Err(Error::Usage("cuda:emu has no machine code: name an architecture, as cuda:sm_80".into()))
        }
    }
}

/// Writes the artefacts; their paths. Without a wish, machine code is left out where NVRTC is not present.
pub fn write(
    model: &Model,
    c: &Compilation,
    target: &CudaTarget,
    wanted: &Wanted,
    dir: &Path,
) -> Result<Vec<PathBuf>, Error> {
    let source = source(c);
    let name = &c.lowered.name;
    let asked = |e: Emit| wanted.emit.contains(&e);
    let compiles = match target {
        // Nothing is said of an architecture: only a device can say which.
        CudaTarget::Here => wanted.emit.is_empty() || asked(Emit::Cubin),
        CudaTarget::Architecture(_) => asked(Emit::Cubin) || (wanted.has(Emit::Cubin) && nvrtc::find().is_ok()),
        CudaTarget::Emulated => asked(Emit::Cubin),
    };
    let compiled = match compiles {
        true => Some(nvrtc::compile(&source.text, &architecture(target)?).map_err(failed)?),
        false => None,
    };
    let ptx = match asked(Emit::Ptx) || (compiles && wanted.has(Emit::Ptx)) {
        true => Some(nvrtc::ptx(&source.text, PTX_ARCHITECTURE).map_err(failed)?),
        false => None,
    };
    let mut files = Files { dir, written: Vec::new() };
    if wanted.has(Emit::CudaSource) {
        let text = format!("// {name}: made by mixc {}.\n{GPU_PRELUDE}\n{}", env!("CARGO_PKG_VERSION"), source.text);
        files.put(format!("{name}.cu"), text.as_bytes())?;
    }
    if let Some(compiled) = &compiled {
        files.put(format!("{name}.cubin"), &compiled.cubin)?;
    }
    if let Some(ptx) = ptx {
        files.put(format!("{name}.ptx"), ptx.as_bytes())?;
    }
    if wanted.has(Emit::Stub) {
        let (header, program) = stub::texts(c, &source);
        files.put(format!("{name}_cuda.h"), header.as_bytes())?;
        files.put(format!("{name}_cuda.c"), program.as_bytes())?;
    }
    if wanted.has(Emit::Manifest) {
        let interface = Interface::of(&c.lowered, false);
        let mut value = manifest::value(model, c, &interface, &wanted.target_name);
        let launches = c.lowered.steps.iter().zip(&source.of_steps).filter_map(|(step, kernel)| {
            let Action::Run { program, buffers, .. } = &step.action else { return None };
            let emitted = &source.kernels[(*kernel)?];
            let usage = compiled.as_ref().and_then(|k| k.usage.get(&emitted.kernel.name));
            let buffers: Vec<&str> = buffers.iter().map(|b| c.lowered.buffer(*b).name.as_str()).collect();
            let grid: Vec<String> = program.grid.iter().map(|a| a.extent.to_string()).collect();
            let dims: Vec<&str> = emitted.symbols.iter().map(|s| &**s).collect();
            Some(serde_json::json!({
                "kernel": emitted.kernel.name,
                "phase": format!("{:?}", step.phase).to_lowercase(),
                "grid": grid,
                "threads": emitted.kernel.threads,
                "shared_bytes": emitted.kernel.shared_bytes,
                "scratch_bytes_per_block": emitted.scratch_bytes,
                "buffers": buffers,
                "dims": dims,
                "registers": usage.map(|u| u.registers),
                "spill_bytes": usage.map(|u| u.spill_bytes),
            }))
        });
        value["launches"] = launches.collect();
        files.put(format!("{name}.json"), manifest::pretty(&value).as_bytes())?;
    }
    if wanted.has(Emit::Ir) {
        files.put(format!("{name}.ir"), mixc_ir::text::print_program(&c.rewritten.program).as_bytes())?;
    }
    Ok(files.written)
}
