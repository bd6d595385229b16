//! NVRTC takes the prelude and every test program, for the GPUs that the back end names.

use super::super::error::CudaError;
use super::super::nvrtc;

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
