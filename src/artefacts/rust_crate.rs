//! A Rust crate around a model: the static library, a build script that links it, and safe functions over slices.

use super::{dims, names};
use mixc_backends::cpu::abi::{Argument, Failure, Interface};
use mixc_ir::dtype::DType;

/// `Cargo.toml`.
pub fn manifest(name: &str) -> String {
    format!(
        "[package]\nname = \"{name}-rs\"\nversion = \"{}\"\nedition = \"2021\"\nlinks = \"{name}\"\n\n[lib]\nname = \"{}\"\n",
        env!("CARGO_PKG_VERSION"),
        names::library(name)
    )
}

/// `build.rs`.
pub fn build_script(name: &str) -> String {
    format!(
        "fn main() {{\n    let here = std::env::var(\"CARGO_MANIFEST_DIR\").expect(\"cargo sets it\");\n    \
         println!(\"cargo:rustc-link-search=native={{here}}\");\n    \
         println!(\"cargo:rustc-link-lib=static={name}\");\n    \
         println!(\"cargo:rerun-if-changed=lib{name}.a\");\n}}\n"
    )
}

fn rust_type(d: DType) -> &'static str {
    match d {
        DType::F32 => "f32",
        DType::F64 => "f64",
        DType::F16 | DType::BF16 => "u16",
        DType::I32 => "i32",
        DType::I64 => "i64",
        DType::Bool => "u8",
    }
}

/// `src/lib.rs`.
pub fn library(i: &Interface) -> String {
    let name = &i.name;
    let (params, results) = names::arguments(i);
    let has_dims = !i.dims.is_empty();
    let mut out = format!(
        "//! {name}, compiled by mixc: safe functions over slices.\n#![allow(non_snake_case)]\n\nuse std::ffi::CStr;\n\n"
    );
    if has_dims {
        let fields: Vec<String> =
            i.dims.iter().zip(names::dims(i)).map(|(d, f)| format!("    /// `{d}`.\n    pub {f}: i64,\n")).collect();
        out.push_str(&format!(
            "/// The lengths of a call.\n#[repr(C)]\n#[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub struct Dims {{\n{}}}\n\n",
            fields.join("")
        ));
    }
    let d_type = if has_dims { "Dims" } else { "std::ffi::c_void" };
    let mut raw = vec![format!("d: *const {d_type}")];
    if i.binds {
        raw.push("weights: *const u8".into());
    }
    raw.extend(params.iter().zip(&i.params).map(|(n, a)| format!("{n}: *const {}", rust_type(a.dtype))));
    raw.extend(results.iter().zip(&i.results).map(|(n, a)| format!("{n}: *mut {}", rust_type(a.dtype))));
    raw.extend(["workspace: *mut u8", "workspace_bytes: usize", "par: *const RawParallel"].map(String::from));
    out.push_str(&format!(
        "extern \"C\" {{\n    fn {name}_run({}) -> i32;\n    fn {name}_workspace_bytes(d: *const {d_type}) -> usize;\n    \
         fn {name}_strerror(code: i32) -> *const std::ffi::c_char;\n",
        raw.join(", ")
    ));
    if i.binds {
        out.push_str(&format!(
            "    fn {name}_weights_bytes() -> usize;\n    fn {name}_bind(files: *const RawBlob, count: usize, weights: *mut u8, bytes: usize) -> i32;\n"
        ));
    }
    out.push_str("}\n\n");
    out.push_str(&COMMON.replace("NAME", name));
    if i.binds {
        out.push_str(&BIND.replace("NAME", name));
    }
    out.push_str(&run(i, &params, &results, has_dims));
    let size = Failure::WorkspaceTooSmall.code();
    let length = Failure::BadLength.code();
    let bounds = Failure::DimOutOfBounds.code();
    out.push_str(&format!(
        "const BAD_LENGTH: i32 = {length};\nconst NO_MEMORY: i32 = {size};\nconst OUT_OF_BOUNDS: i32 = {bounds};\n"
    ));
    out
}

fn run(i: &Interface, params: &[String], results: &[String], has_dims: bool) -> String {
    let name = &i.name;
    let field = |s: &str| format!("dims.{}", names::field(i, s));
    let mut arguments = Vec::new();
    if has_dims {
        arguments.push("dims: &Dims".to_string());
    }
    if i.binds {
        arguments.push("weights: &Weights".into());
    }
    arguments.extend(params.iter().zip(&i.params).map(|(n, a)| format!("{n}: &[{}]", rust_type(a.dtype))));
    arguments.extend(results.iter().zip(&i.results).map(|(n, a)| format!("{n}: &mut [{}]", rust_type(a.dtype))));
    arguments.push("parallel: Option<&dyn Parallel>".into());
    let check = |n: &String, a: &Argument| {
        let wide = dims::elements(&a.shape, &|s| format!("({} as i128)", field(s)));
        let wide = wide.replace(" as i128) as i128", " as i128)");
        format!("    if {n}.len() as i128 != {wide} {{\n        return Err(Error(BAD_LENGTH));\n    }}\n")
    };
    let checks: String =
        params.iter().zip(&i.params).chain(results.iter().zip(&i.results)).map(|(n, a)| check(n, a)).collect();
    let d = if has_dims { "dims" } else { "std::ptr::null()" };
    let mut call = vec![d.to_string()];
    if i.binds {
        call.push("weights.0.as_ptr()".into());
    }
    call.extend(params.iter().map(|n| format!("{n}.as_ptr()")));
    call.extend(results.iter().map(|n| format!("{n}.as_mut_ptr()")));
    call.extend(["workspace.as_mut_ptr()", "workspace.len()", "par"].map(String::from));
    let bounds: String = i
        .dims
        .iter()
        .map(|s| {
            format!("    if !(0..1 << 40).contains(&{}) {{\n        return Err(Error(BAD_LENGTH));\n    }}\n", field(s))
        })
        .collect();
    format!(
        "/// Runs the model; lengths of slices are checked against the dims. Without `parallel` on this thread alone.\n\
         pub fn run({}) -> Result<(), Error> {{\n{bounds}{checks}    \
         // SAFETY: the pointer is to valid dims, or null for a model without any.\n    \
         let bytes = unsafe {{ {name}_workspace_bytes({d}) }};\n    \
         // The answer to dims that are out of bounds.\n    \
         if bytes == usize::MAX {{\n        return Err(Error(OUT_OF_BOUNDS));\n    }}\n    \
         let mut workspace = Aligned::new(bytes).ok_or(Error(NO_MEMORY))?;\n    \
         let owner = parallel;\n    \
         let table = owner.as_ref().map(|p| RawParallel {{ ctx: (p as *const &dyn Parallel).cast(), parallel_for: call_parallel }});\n    \
         let par = table.as_ref().map_or(std::ptr::null(), |t| t as *const RawParallel);\n    \
         // SAFETY: every slice has the length that the model reads or writes at these dims; the rest is checked by the code.\n    \
         check(unsafe {{ {name}_run({}) }})\n}}\n\n",
        arguments.join(", "),
        call.join(", ")
    )
}

const COMMON: &str = "/// A call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(pub i32);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: the function returns a static string for every number.
        let text = unsafe { CStr::from_ptr(NAME_strerror(self.0)) };
        f.write_str(&text.to_string_lossy())
    }
}

impl std::error::Error for Error {}

fn check(code: i32) -> Result<(), Error> {
    if code == 0 { Ok(()) } else { Err(Error(code)) }
}

/// Threads of the application, over rayon for example: calls `body` for every index below `n`, in any order.
pub trait Parallel: Sync {
    /// Returns when all are done.
    fn parallel_for(&self, n: usize, body: &(dyn Fn(usize) + Sync));
}

#[repr(C)]
struct RawParallel {
    ctx: *const std::ffi::c_void,
    parallel_for: unsafe extern \"C\" fn(*const std::ffi::c_void, usize, unsafe extern \"C\" fn(*mut u8, usize), *mut u8),
}

struct Argument(*mut u8);
// SAFETY: the address goes back to generated code alone, which shares what its parts may share.
unsafe impl Sync for Argument {}
impl Argument {
    fn get(&self) -> *mut u8 {
        self.0
    }
}

unsafe extern \"C\" fn call_parallel(
    ctx: *const std::ffi::c_void,
    n: usize,
    body: unsafe extern \"C\" fn(*mut u8, usize),
    arg: *mut u8,
) {
    // SAFETY: `run` made the context from a reference that outlives the call.
    let owner: &&dyn Parallel = unsafe { &*ctx.cast() };
    let arg = Argument(arg);
    owner.parallel_for(n, &|k| {
        // SAFETY: generated code gives a function of its own together with that function's argument.
        unsafe { body(arg.get(), k) }
    });
}

#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line(#[allow(dead_code)] [u8; 64]);

/// Bytes aligned to 64.
struct Aligned(Vec<Line>);

impl Aligned {
    fn new(bytes: usize) -> Option<Aligned> {
        let mut lines = Vec::new();
        lines.try_reserve_exact(bytes.checked_add(63)? / 64).ok()?;
        lines.resize(bytes.div_ceil(64), Line([0; 64]));
        Some(Aligned(lines))
    }
    #[allow(dead_code)]
    fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
    fn len(&self) -> usize {
        self.0.len() * 64
    }
}

";

const BIND: &str = "/// Bound weights.
pub struct Weights(Aligned);

#[repr(C)]
struct RawBlob {
    data: *const u8,
    size: usize,
}

/// Binds the weights from the contents of safetensors files, once.
pub fn bind(files: &[&[u8]]) -> Result<Weights, Error> {
    let blobs: Vec<RawBlob> = files.iter().map(|f| RawBlob { data: f.as_ptr(), size: f.len() }).collect();
    // SAFETY: no arguments.
    let mut memory = Aligned::new(unsafe { NAME_weights_bytes() }).ok_or(Error(NO_MEMORY))?;
    // SAFETY: the blobs are slices, the memory has the length that is passed.
    check(unsafe { NAME_bind(blobs.as_ptr(), blobs.len(), memory.as_mut_ptr(), memory.len()) })?;
    Ok(Weights(memory))
}

";
