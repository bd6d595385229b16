//! What other programs link: object, library, header, build files, a Rust crate, and a manifest.

mod archive;
mod build_files;
mod device;
mod dims;
mod header;
mod manifest;
mod names;
mod rust_crate;
mod stub;

use crate::pipeline::Compilation;
use crate::{Error, Model, Target};
use mixc_backends::cpu::abi::Interface;
use mixc_backends::cpu::{self, Options};
use std::path::{Path, PathBuf};

/// A kind of artefact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// `NAME.o`.
    Object,
    /// `libNAME.a`.
    Library,
    /// `NAME.h`.
    Header,
    /// `NAME.pc`.
    PkgConfig,
    /// `NAMEConfig.cmake`.
    CMake,
    /// `NAME-rs/`.
    Crate,
    /// `NAME.json`.
    Manifest,
    /// `NAME.ir`, the rewritten program.
    Ir,
    /// `NAME.cu`, CUDA C++ with its prelude.
    CudaSource,
    /// `NAME.cubin`, machine code of a GPU.
    Cubin,
    /// `NAME.ptx`, for the driver's own compiler.
    Ptx,
    /// `NAME_cuda.c` and `NAME_cuda.h`, a host program's side that opens the driver when it runs.
    Stub,
}

impl Emit {
    /// All there are, in the order they are written.
    pub const ALL: [(&'static str, Emit); 12] = [
        ("obj", Emit::Object),
        ("lib", Emit::Library),
        ("header", Emit::Header),
        ("pc", Emit::PkgConfig),
        ("cmake", Emit::CMake),
        ("crate", Emit::Crate),
        ("cu", Emit::CudaSource),
        ("cubin", Emit::Cubin),
        ("ptx", Emit::Ptx),
        ("stub", Emit::Stub),
        ("manifest", Emit::Manifest),
        ("ir", Emit::Ir),
    ];

    /// Whether a target has it.
    fn is_of(self, target: &Target) -> bool {
        match self {
            Emit::Manifest | Emit::Ir => true,
            Emit::CudaSource | Emit::Cubin | Emit::Ptx | Emit::Stub => matches!(target, Target::Cuda(_)),
            _ => matches!(target, Target::Cpu(_)),
        }
    }

    /// By its name on the command line, if the target has it.
    pub fn parse(name: &str, target: &Target) -> Result<Emit, Error> {
        let known: Vec<&(&str, Emit)> = Emit::ALL.iter().filter(|(_, e)| e.is_of(target)).collect();
        known.iter().find(|(n, _)| *n == name).map(|(_, e)| *e).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(n, _)| *n).collect();
            Error::Usage(format!("--emit {name}: this target has {}", names.join(", ")))
        })
    }
}

/// What is to be written.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Which artefacts; when empty all that the target has, but the rewritten program.
    pub emit: Vec<Emit>,
    /// Put the bound weights into the object.
    pub embed_weights: bool,
    /// The target's name, for the manifest.
    pub target_name: String,
}

/// Compiles and writes the artefacts into `dir`; their paths.
pub fn write(
    model: &Model,
    c: &Compilation,
    target: &Target,
    wanted: &Wanted,
    dir: &Path,
) -> Result<Vec<PathBuf>, Error> {
    match target {
        Target::Reference => {
            Err(Error::Usage("--target ref has no artefacts: it is an interpreter; use `mixc run`".into()))
        }
        Target::Cpu(cpu) => write_objects(model, c, cpu, wanted, dir),
        Target::Cuda(cuda) => device::write(model, c, cuda, wanted, dir),
    }
}

impl Wanted {
    fn has(&self, emit: Emit) -> bool {
        if self.emit.is_empty() { emit != Emit::Ir } else { self.emit.contains(&emit) }
    }
}

/// Files under a directory, in the order they were written.
struct Files<'d> {
    dir: &'d Path,
    written: Vec<PathBuf>,
}

impl Files<'_> {
    fn put(&mut self, relative: String, bytes: &[u8]) -> Result<(), Error> {
        let path = self.dir.join(relative);
        if let Some(home) = path.parent() {
            std::fs::create_dir_all(home).map_err(|e| Error::io(home, e))?;
        }
        std::fs::write(&path, bytes).map_err(|e| Error::io(&path, e))?;
        self.written.push(path);
        Ok(())
    }
}

fn write_objects(
    model: &Model,
    c: &Compilation,
    target: &cpu::target::Target,
    wanted: &Wanted,
    dir: &Path,
) -> Result<Vec<PathBuf>, Error> {
    let lowered = &c.lowered;
    let mut options = Options::default();
    if wanted.embed_weights {
        let here =
            cpu::compile(lowered, &cpu::target::Target::native()).map_err(|e| Error::Unavailable(e.to_string()))?;
        let bound = here.bind(&model.weights.bytes()).map_err(|e| Error::Usage(e.to_string()))?;
        options.embed = Some(bound.bytes().to_vec());
    }
    let object = cpu::compile_object(lowered, target, &options).map_err(|e| Error::Unavailable(e.to_string()))?;
    let interface = cpu::object_interface(lowered, &options);
    let library = archive::library(&interface, &object)?;
    let name = &interface.name;
    let mut files = Files { dir, written: Vec::new() };
    for (_, emit) in Emit::ALL.iter().filter(|(_, e)| wanted.has(*e)) {
        match emit {
            Emit::Object => files.put(format!("{name}.o"), &object)?,
            Emit::Library => files.put(format!("lib{name}.a"), &library)?,
            Emit::Header => files.put(format!("{name}.h"), header::text(&interface, &wanted.target_name).as_bytes())?,
            Emit::PkgConfig => files.put(format!("{name}.pc"), build_files::pkg_config(name).as_bytes())?,
            Emit::CMake => files.put(format!("{name}Config.cmake"), build_files::cmake(name).as_bytes())?,
            Emit::Crate => {
                files.put(format!("{name}-rs/Cargo.toml"), rust_crate::manifest(name).as_bytes())?;
                files.put(format!("{name}-rs/build.rs"), rust_crate::build_script(name).as_bytes())?;
                files.put(format!("{name}-rs/src/lib.rs"), rust_crate::library(&interface).as_bytes())?;
                files.put(format!("{name}-rs/lib{name}.a"), &library)?;
            }
            Emit::Manifest => {
                let text = manifest::text(model, c, &interface, &wanted.target_name);
                files.put(format!("{name}.json"), text.as_bytes())?;
            }
            Emit::Ir => {
                files.put(format!("{name}.ir"), mixc_ir::text::print_program(&c.rewritten.program).as_bytes())?
            }
            Emit::CudaSource | Emit::Cubin | Emit::Ptx | Emit::Stub => {}
        }
    }
    Ok(files.written)
}

/// What is emitted, for `mixc opt --stage emit`: the functions of a model's object as `symbol bytes`, or its CUDA text.
pub fn listing(c: &Compilation, target: &Target) -> Result<String, Error> {
    let Target::Cpu(target) = target else {
        return match target {
            Target::Cuda(_) => Ok(device::source(c).text),
            _ => Err(Error::Usage("--target ref emits nothing".into())),
        };
    };
    let object =
        cpu::compile_object(&c.lowered, target, &Options::default()).map_err(|e| Error::Unavailable(e.to_string()))?;
    archive::symbols(&object)
}

/// The exported functions of a model.
fn exported(i: &Interface) -> Vec<String> {
    let mut names = vec!["run", "workspace_bytes", "strerror"];
    if i.binds {
        names.extend(["bind", "weights_bytes"]);
    }
    names.into_iter().map(|n| format!("{}_{n}", i.name)).collect()
}
