//! The emulated driver: C++ of our own (`prelude/`), compiled by g++ into one library that stands in for the driver's,
//! and programs compiled against it.
//!
//! cudarc opens the driver by its bare name. The emulator's library carries that name inside and is opened by its full
//! path before, so that the loader answers with it: the host's code does not know the difference. Both kinds of library
//! are kept in the cache by the hash of their text and the compiler's version.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::cache;
use super::error::CudaError;
use super::kernel::Kernel;

const HEADER: &str = concat!(include_str!("prelude/emulator.hpp"), "\n", include_str!("prelude/arithmetic.cuh"));

/// The runtime's parts, compiled as one text in this order.
const RUNTIME: [(&str, &str); 6] = [
    ("runtime.hpp", include_str!("prelude/runtime.hpp")),
    ("runtime.cpp", include_str!("prelude/runtime.cpp")),
    ("shadow.cpp", include_str!("prelude/shadow.cpp")),
    ("collectives.cpp", include_str!("prelude/collectives.cpp")),
    ("transfer.cpp", include_str!("prelude/transfer.cpp")),
    ("driver.cpp", include_str!("prelude/driver.cpp")),
];

/// The first name that cudarc asks the loader for: a machine with a real driver must not answer it.
const LIBRARY: &str = "libcuda.so";

/// A program is compiled while somebody waits for it: little optimisation, and line tables for the reports.
const PROGRAM_FLAGS: [&str; 7] = ["-std=c++17", "-O1", "-g1", "-fPIC", "-fno-exceptions", "-ffp-contract=off", "-w"];
/// Every access asks for the current thread, hence the cheap way to find it; two pointers fit into the room that the
/// loader keeps for libraries opened late.
const RUNTIME_FLAGS: [&str; 6] =
    ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-ftls-model=initial-exec"];

/// Makes the emulator's library the one that the driver's name stands for in this process; it stays so.
pub fn preload() -> Result<(), CudaError> {
    static LOADED: OnceLock<Result<libloading::Library, CudaError>> = OnceLock::new();
    let open = || {
        let path = library()?;
        // SAFETY: the library is the one made from our own text; it has no initialisers beyond those of C++ containers.
        unsafe { libloading::Library::new(&path) }
            .map_err(|e| CudaError::NoCompiler(format!("{}: {e}", path.display())))
    };
    LOADED.get_or_init(open).as_ref().map(|_| ()).map_err(Clone::clone)
}

/// The image of a program for the emulated driver's `cuModuleLoadData`. Threads that wait together go on forwards (order
/// 0), backwards (1) or shuffled by the number.
pub fn image(text: &str, kernels: &[Kernel], order: u32) -> Result<Vec<u8>, CudaError> {
    let path = program(text, kernels)?;
    let path = path.to_str().ok_or_else(|| CudaError::Cache(format!("{}: no UTF-8", path.display())))?;
    Ok(format!("mixc-emulator\n{path}\n{order}\0").into_bytes())
}

/// The compiler's version, once asked.
fn compiler() -> Result<&'static str, CudaError> {
    static VERSION: OnceLock<Result<String, CudaError>> = OnceLock::new();
    let ask = || {
        let output = Command::new("g++").args(["--version"]).stdin(Stdio::null()).output();
        match output {
            Ok(o) if o.status.success() => Ok(String::from_utf8_lossy(&o.stdout).into_owned()),
            Ok(o) => Err(CudaError::NoCompiler(format!("g++ --version: {}", o.status))),
            Err(e) => Err(CudaError::NoCompiler(e.to_string())),
        }
    };
    VERSION.get_or_init(ask).as_deref().map_err(Clone::clone)
}

/// The emulator's library, compiled at first need: a program that opens its driver by name finds it where the loader
/// looks in its directory first.
pub fn library() -> Result<PathBuf, CudaError> {
    let mut text = String::new();
    for (name, part) in RUNTIME {
        text.push_str(&format!("#line 1 \"{name}\"\n"));
        for line in part.lines() {
            // The parts are one text here: `runtime.hpp` is already in it.
            text.push_str(if line == "#include \"runtime.hpp\"" { "" } else { line });
            text.push('\n');
        }
    }
    let soname = format!("-Wl,-soname,{LIBRARY}");
    let mut flags = RUNTIME_FLAGS.to_vec();
    flags.push(&soname);
    let name = format!("{}.so", cache::key(&[compiler()?, &flags.join(" "), &text]));
    cache::file("cuda-emulator", &name, &mut |path| compile(&text, &flags, &["-ldl", "-pthread"], path))
}

/// The library of a program, compiled at first need.
fn program(text: &str, kernels: &[Kernel]) -> Result<PathBuf, CudaError> {
    let mut whole =
        format!("#line 1 \"emulator.hpp\"\n{HEADER}\n#line 1 \"program.cu\"\n{text}\n#line 1 \"records\"\n");
    for kernel in kernels {
        whole.push_str(&format!("MX_RECORD({})\n", kernel.name));
    }
    let runtime = library()?;
    let link = runtime.to_str().ok_or_else(|| CudaError::Cache(format!("{}: no UTF-8", runtime.display())))?;
    let built_from = runtime.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let name = format!("{}.so", cache::key(&[compiler()?, built_from, &PROGRAM_FLAGS.join(" "), &whole]));
    cache::file("cuda-programs", &name, &mut |path| compile(&whole, &PROGRAM_FLAGS, &[link, "-lm"], path))
}

/// g++ on a text, into the shared library `output`.
fn compile(text: &str, flags: &[&str], link: &[&str], output: &Path) -> Result<(), CudaError> {
    compiler()?;
    let failed = |e: std::io::Error| CudaError::NoCompiler(e.to_string());
    let mut child = Command::new("g++")
        .args(flags)
        .args(["-shared", "-x", "c++", "-", "-x", "none"])
        .args(link)
        .arg("-o")
        .arg(output)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // g++ reads all of its input before it reports anything, so this cannot block on both ends. A compiler that ends
    // early breaks the pipe; its log says why.
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let done = child.wait_with_output().map_err(failed)?;
    if !done.status.success() {
        return Err(CudaError::CompileFailed(String::from_utf8_lossy(&done.stderr).into_owned()));
    }
    written.map_err(failed)
}
