//! NVRTC, NVIDIA's compiler as a library: text to code for a GPU. It needs no GPU itself.
//!
//! It is looked for at run time, first found first taken: `MIXC_NVRTC` (the library, or its directory), the loader's
//! path, an active Python environment's `nvidia` packages, the CUDA toolkit's directory.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

use super::error::CudaError;
use super::{GPU_PRELUDE, cache};

/// What a kernel takes of a multiprocessor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of registers that a thread writes to memory because they do not fit.
    pub spill_bytes: u32,
    /// Bytes of a thread's stack.
    pub stack_bytes: u32,
}

/// A compiled program.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The image that a driver loads.
    pub cubin: Vec<u8>,
    /// What the compiler said.
    pub log: String,
    /// By kernel.
    pub usage: BTreeMap<String, Usage>,
}

type Status = c_int;
type Program = *mut c_void;

/// The functions of NVRTC that are used here, by `nvrtc.h`.
struct Nvrtc {
    version: String,
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    log_size: Size,
    log: Get,
    cubin_size: Size,
    cubin: Get,
    ptx_size: Size,
    ptx: Get,
    explain: unsafe extern "C" fn(Status) -> *const c_char,
    /// Keeps the functions valid; the last is NVRTC.
    _libraries: Vec<Library>,
}

type Size = unsafe extern "C" fn(Program, *mut usize) -> Status;
type Get = unsafe extern "C" fn(Program, *mut c_char) -> Status;

/// Whether NVRTC is here; the error says what was tried.
pub fn find() -> Result<(), CudaError> {
    nvrtc().map(|_| ())
}

/// NVRTC's version, as `13.0`.
pub fn version() -> Result<&'static str, CudaError> {
    Ok(&nvrtc()?.version)
}

/// Compiles a program's text, written against the prelude and without it, for a real architecture such as `sm_90a`.
pub fn compile(text: &str, architecture: &str) -> Result<Compiled, CudaError> {
    let nvrtc = nvrtc()?;
    let (cubin, log) =
        build(nvrtc, text, &[&target(architecture), "--ptxas-options=-v"], nvrtc.cubin_size, nvrtc.cubin)?;
    let usage = usage(&log);
    Ok(Compiled { cubin, log, usage })
}

/// The image alone, from the cache where it is there.
pub fn cubin(text: &str, architecture: &str) -> Result<Vec<u8>, CudaError> {
    let name = format!("{}.cubin", cache::key(&[version()?, architecture, GPU_PRELUDE, text]));
    let write = |path: &Path| {
        let compiled = compile(text, architecture)?;
        std::fs::write(path, compiled.cubin).map_err(|e| CudaError::Cache(format!("{}: {e}", path.display())))
    };
    let path = cache::file("cuda-cubins", &name, &mut { write })?;
    std::fs::read(&path).map_err(|e| CudaError::Cache(format!("{}: {e}", path.display())))
}

/// Text for the driver's own compiler, for a virtual architecture such as `compute_80`: it runs on later GPUs too, where
/// the driver is not older than this NVRTC.
pub fn ptx(text: &str, architecture: &str) -> Result<String, CudaError> {
    let nvrtc = nvrtc()?;
    let (bytes, _) = build(nvrtc, text, &[&target(architecture)], nvrtc.ptx_size, nvrtc.ptx)?;
    let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn target(architecture: &str) -> String {
    format!("--gpu-architecture={architecture}")
}

/// Compiles and takes what `size` and `get` give of the program; with the log.
fn build(nvrtc: &Nvrtc, text: &str, options: &[&str], size: Size, get: Get) -> Result<(Vec<u8>, String), CudaError> {
    let no_nul = |_| CudaError::CompileFailed("the text or an option holds a NUL".to_string());
    let whole = CString::new(format!("{GPU_PRELUDE}\n#line 1 \"program.cu\"\n{text}")).map_err(no_nul)?;
    let mut all = vec!["--std=c++17"];
    all.extend(options);
    let options = all.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>().map_err(no_nul)?;
    let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
    let failed = |status: Status| {
        // SAFETY: NVRTC gives a static string for any number.
        let text = unsafe { CStr::from_ptr((nvrtc.explain)(status)) };
        CudaError::CompileFailed(text.to_string_lossy().into_owned())
    };
    let checked = |status: Status| if status == 0 { Ok(()) } else { Err(failed(status)) };
    let taken = |program: Program, size: Size, get: Get| {
        let mut bytes = 0;
        // SAFETY: the program is alive; NVRTC writes as many bytes as it said.
        checked(unsafe { size(program, &mut bytes) })?;
        let mut buffer = vec![0u8; bytes];
        if bytes > 0 {
            // SAFETY: as above.
            checked(unsafe { get(program, buffer.as_mut_ptr().cast()) })?;
        }
        Ok::<_, CudaError>(buffer)
    };
    let mut program: Program = std::ptr::null_mut();
    // SAFETY: the text is a C string that outlives the call, which keeps a copy; there are no headers.
    let created = unsafe {
        (nvrtc.create)(&mut program, whole.as_ptr(), c"program.cu".as_ptr(), 0, std::ptr::null(), std::ptr::null())
    };
    checked(created)?;
    let count = c_int::try_from(options.len()).expect("there are a handful of options");
    // SAFETY: the program was created above, and the options are C strings that live until the call returns.
    let status = unsafe { (nvrtc.compile)(program, count, options.as_ptr()) };
    let log = taken(program, nvrtc.log_size, nvrtc.log)
        .map(|bytes| String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(&bytes)).into_owned());
    let result = if status == 0 {
        taken(program, size, get)
    } else {
        let CudaError::CompileFailed(reason) = failed(status) else { return Err(failed(status)) };
        Err(CudaError::CompileFailed(format!("{reason}\n{}", log.as_deref().unwrap_or_default())))
    };
    // SAFETY: the program was created above and is not used again.
    unsafe { (nvrtc.destroy)(&mut program) };
    Ok((result?, log?))
}

/// Reads `ptxas -v`: a line that names the kernel, one on its stack and spills, one on its registers.
pub(super) fn usage(log: &str) -> BTreeMap<String, Usage> {
    let before = |line: &str, word: &str| -> Option<u32> {
        let head = &line[..line.find(word)?];
        head.split_whitespace().last()?.parse().ok()
    };
    let mut found: BTreeMap<String, Usage> = BTreeMap::new();
    let mut kernel: Option<&str> = None;
    for line in log.lines() {
        if line.contains("Compiling entry function") {
            kernel = line.split('\'').nth(1);
        }
        let Some(name) = kernel else { continue };
        let usage = found.entry(name.to_string()).or_default();
        if let Some(n) = before(line, " bytes stack frame") {
            usage.stack_bytes = n;
        }
        let spilled = (before(line, " bytes spill stores"), before(line, " bytes spill loads"));
        if let (Some(stores), Some(loads)) = spilled {
            usage.spill_bytes = stores.max(loads);
        }
        if let Some(n) = before(line, " registers") {
            usage.registers = n;
        }
    }
    found
}

fn nvrtc() -> Result<&'static Nvrtc, CudaError> {
    static FOUND: OnceLock<Result<Nvrtc, CudaError>> = OnceLock::new();
    FOUND.get_or_init(|| first_of(&candidates(&|name| std::env::var_os(name)))).as_ref().map_err(Clone::clone)
}

/// The first of `paths` that opens and has all functions.
fn first_of(paths: &[PathBuf]) -> Result<Nvrtc, CudaError> {
    let mut reasons = Vec::new();
    for path in paths {
        match open(path) {
            Ok(found) => return Ok(found),
            Err(e) => reasons.push(e.to_string()),
        }
    }
    Err(CudaError::NoNvrtc(reasons.join("; ")))
}

/// Where to look, in order.
pub(super) fn candidates(variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut found = Vec::new();
    if let Some(given) = path("MIXC_NVRTC") {
        // What was asked for is taken or missed, and nothing else stands in for it.
        return if given.is_dir() { libraries(&given) } else { vec![given] };
    }
    found.extend(["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"].map(PathBuf::from));
    if let Some(environment) = path("VIRTUAL_ENV") {
        for python in folders(&environment.join("lib")) {
            for package in ["cu13", "cuda_nvrtc"] {
                found.extend(libraries(&python.join("site-packages/nvidia").join(package).join("lib")));
            }
        }
    }
    for toolkit in [path("CUDA_HOME"), path("CUDA_PATH"), Some(PathBuf::from("/usr/local/cuda"))].into_iter().flatten()
    {
        found.extend(libraries(&toolkit.join("lib64")));
    }
    found
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(of) else { return Vec::new() };
    let mut found: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    found.sort();
    found
}

/// The NVRTC libraries of a folder; `libnvrtc-builtins` and `libnvrtc.alt` are other things.
fn libraries(folder: &Path) -> Vec<PathBuf> {
    files(folder, "libnvrtc.so")
}

fn files(folder: &Path, start: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let named = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(start));
    let mut found: Vec<_> = entries.flatten().map(|e| e.path()).filter(named).collect();
    found.sort();
    found
}

fn open(path: &Path) -> Result<Nvrtc, CudaError> {
    let missed = |e: libloading::Error| CudaError::NoNvrtc(format!("{}: {e}", path.display()));
    // SAFETY: a file of this name is NVRTC, whose initialisers only set up itself.
    let library = unsafe { Library::new(path) }.map_err(missed)?;
    // NVRTC opens the library of its built-in functions by name alone, which fails outside the loader's path unless it is
    // already there. It need not exist: a static NVRTC has none.
    let beside = path.parent().filter(|p| !p.as_os_str().is_empty());
    let builtins = beside.map(|folder| files(folder, "libnvrtc-builtins.so")).unwrap_or_default();
    // SAFETY: as above.
    let builtins = builtins.iter().filter_map(|p| unsafe { Library::new(p) }.ok());
    // SAFETY: the types are those that nvrtc.h declares for these names, and the library is kept beside the functions.
    unsafe {
        let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status =
            *library.get(b"nvrtcVersion\0").map_err(missed)?;
        let (mut major, mut minor) = (0, 0);
        version(&mut major, &mut minor);
        Ok(Nvrtc {
            version: format!("{major}.{minor}"),
            create: *library.get(b"nvrtcCreateProgram\0").map_err(missed)?,
            destroy: *library.get(b"nvrtcDestroyProgram\0").map_err(missed)?,
            compile: *library.get(b"nvrtcCompileProgram\0").map_err(missed)?,
            log_size: *library.get(b"nvrtcGetProgramLogSize\0").map_err(missed)?,
            log: *library.get(b"nvrtcGetProgramLog\0").map_err(missed)?,
            cubin_size: *library.get(b"nvrtcGetCUBINSize\0").map_err(missed)?,
            cubin: *library.get(b"nvrtcGetCUBIN\0").map_err(missed)?,
            ptx_size: *library.get(b"nvrtcGetPTXSize\0").map_err(missed)?,
            ptx: *library.get(b"nvrtcGetPTX\0").map_err(missed)?,
            explain: *library.get(b"nvrtcGetErrorString\0").map_err(missed)?,
            _libraries: builtins.chain([library]).collect(),
        })
    }
}
