//! NVRTC takes the prelude and every test program, for the GPUs that the back end names.

use super::super::error::CudaError;
use super::super::nvrtc;
use super::harness::Program;
use super::{math, storage, transfers, warps};

/// Whether NVRTC is here; says so where it is not.
pub(super) fn has_nvrtc() -> bool {
    match nvrtc::find() {
        Ok(()) => true,
        Err(CudaError::NoNvrtc(why)) => {
            println!("skipped: {why}");
            false
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn the_prelude_assembles() {
    if !has_nvrtc() {
        return;
    }
    let text = "MX_KERNEL(nothing, 32)(float *out) { MX_GLOBAL(float, g, out); g[mx_thread()] = 1.0f; }";
    for architecture in ["sm_80", "sm_90a"] {
        let compiled = nvrtc::compile(text, architecture).unwrap();
        assert!(compiled.cubin.starts_with(b"\x7fELF"));
        let usage = compiled.usage["nothing"];
        assert!(usage.registers > 0 && usage.spill_bytes == 0, "{usage:?}");
    }
    assert!(nvrtc::ptx(text, "compute_80").unwrap().contains(".entry nothing"));
    let error = nvrtc::compile("MX_KERNEL(nothing, 32)(float *out) { missing(); }", "sm_80").unwrap_err();
    assert!(matches!(&error, CudaError::CompileFailed(log) if log.contains("program.cu(1)")), "{error}");
}

#[test]
fn every_test_program_assembles() {
    if !has_nvrtc() {
        return;
    }
    let (copies, hopper) = transfers::programs();
    let all: Vec<Program> =
        [math::programs(), storage::programs(), warps::programs(), copies].into_iter().flatten().collect();
    for (architecture, programs) in [("sm_80", &all), ("sm_90a", &all), ("sm_90a", &hopper)] {
        for program in programs {
            let name = &program.kernel.name;
            let compiled = nvrtc::compile(&program.text, architecture).unwrap_or_else(|e| panic!("{name}: {e}"));
            let usage = compiled.usage[name];
            assert!(usage.registers > 0 && usage.spill_bytes == 0, "{name} for {architecture}: {usage:?}");
        }
    }
    assert!(nvrtc::compile(&hopper[0].text, "sm_80").is_err(), "what sm_90 added is not there before");
}
