//! What other programs link: object, library, header, build files, a Rust crate, and a manifest.

mod archive;
mod build_files;
mod dims;
mod header;
mod manifest;
mod names;
mod rust_crate;

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
}

impl Emit {
    /// All that a CPU target has, in the order they are written.
    pub const ALL: [(&'static str, Emit); 8] = [
        ("obj", Emit::Object),
        ("lib", Emit::Library),
        ("header", Emit::Header),
        ("pc", Emit::PkgConfig),
        ("cmake", Emit::CMake),
        ("crate", Emit::Crate),
        ("manifest", Emit::Manifest),
        ("ir", Emit::Ir),
    ];

    /// By its name on the command line.
    pub fn parse(name: &str) -> Result<Emit, Error> {
        let known: Vec<&str> = Emit::ALL.iter().map(|(n, _)| *n).collect();
        Emit::ALL
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, e)| *e)
            .ok_or_else(|| Error::Usage(format!("--emit {name}: this target has {}", known.join(", "))))
    }
}

/// What is to be written.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Which artefacts; all when empty.
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
    let Target::Cpu(target) = target else {
        return Err(Error::Usage("--target ref has no artefacts: it is an interpreter; use `mixc run`".into()));
    };
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
    std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
    let mut written = Vec::new();
    let mut put = |relative: String, bytes: &[u8]| -> Result<(), Error> {
        let path = dir.join(relative);
        if let Some(home) = path.parent() {
            std::fs::create_dir_all(home).map_err(|e| Error::io(home, e))?;
        }
        std::fs::write(&path, bytes).map_err(|e| Error::io(&path, e))?;
        written.push(path);
        Ok(())
    };
    for (_, emit) in Emit::ALL.iter().filter(|(_, e)| wanted.emit.is_empty() || wanted.emit.contains(e)) {
        match emit {
            Emit::Object => put(format!("{name}.o"), &object)?,
            Emit::Library => put(format!("lib{name}.a"), &library)?,
            Emit::Header => put(format!("{name}.h"), header::text(&interface, &wanted.target_name).as_bytes())?,
            Emit::PkgConfig => put(format!("{name}.pc"), build_files::pkg_config(name).as_bytes())?,
            Emit::CMake => put(format!("{name}Config.cmake"), build_files::cmake(name).as_bytes())?,
            Emit::Crate => {
                put(format!("{name}-rs/Cargo.toml"), rust_crate::manifest(name).as_bytes())?;
                put(format!("{name}-rs/build.rs"), rust_crate::build_script(name).as_bytes())?;
                put(format!("{name}-rs/src/lib.rs"), rust_crate::library(&interface).as_bytes())?;
                put(format!("{name}-rs/lib{name}.a"), &library)?;
            }
            Emit::Manifest => {
                let text = manifest::text(model, c, &interface, &wanted.target_name);
                put(format!("{name}.json"), text.as_bytes())?;
            }
            Emit::Ir => put(format!("{name}.ir"), mixc_ir::text::print_program(&c.rewritten.program).as_bytes())?,
        }
    }
    Ok(written)
}

/// The functions of a model's object as `symbol bytes`, for `mixc opt --stage emit`.
pub fn listing(c: &Compilation, target: &Target) -> Result<String, Error> {
    let Target::Cpu(target) = target else {
        return Err(Error::Usage("--target ref emits nothing".into()));
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
