//! Weight files on disk, mapped into memory.

use crate::Error;
use memmap2::{Mmap, MmapMut};
use mixc_ir::diag::Diagnostic;
use mixc_ir::program::Program;
use mixc_ir::tensor::Blob;
use mixc_ir::weights::{Weights, check};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Opened weight files.
#[derive(Debug, Default)]
pub struct WeightFiles {
    files: Vec<(PathBuf, Mmap)>,
}

impl WeightFiles {
    /// Opens safetensors files; a path that ends in `.json` is an index that names them.
    pub fn open(paths: &[PathBuf]) -> Result<WeightFiles, Error> {
        let mut files = Vec::new();
        for path in paths {
            if path.extension().is_some_and(|e| e == "json") {
                for shard in shards(path)? {
                    files.push((shard.clone(), map(&shard)?));
                }
            } else {
                files.push((path.clone(), map(path)?));
            }
        }
        let opened = WeightFiles { files };
        // What is wrong inside a file is said now, not when a tensor is first looked up.
        let first = paths.first().cloned().unwrap_or_default();
        opened.view().map_err(|d| Error::rejected(&first, d))?;
        Ok(opened)
    }

    /// The weights of a model directory: `model.safetensors`, or the shards of its index.
    pub fn open_directory(dir: &Path) -> Result<WeightFiles, Error> {
        let index = dir.join("model.safetensors.index.json");
        let path = if index.exists() { index } else { dir.join("model.safetensors") };
        WeightFiles::open(&[path])
    }

    /// The files.
    pub fn paths(&self) -> Vec<&Path> {
        self.files.iter().map(|(p, _)| p.as_path()).collect()
    }

    /// The files' contents.
    pub fn bytes(&self) -> Vec<&[u8]> {
        self.files.iter().map(|(_, m)| &m[..]).collect()
    }

    /// The tensors in them.
    pub fn view(&self) -> Result<Weights<'_>, Vec<Diagnostic>> {
        let names: Vec<String> = self.files.iter().map(|(p, _)| p.display().to_string()).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(self.bytes()).collect();
        Weights::read(&files)
    }

    /// Every tensor's shape.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let Ok(view) = self.view() else { return BTreeMap::new() };
        view.iter().map(|(name, t)| (name.to_string(), t.shape.clone())).collect()
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Option<Blob> {
        self.view().ok()?.find(name)?.to_blob()
    }

    /// What a program's weights lack in these files.
    pub fn check(&self, program: &Program) -> Vec<Diagnostic> {
        match self.view() {
            Ok(view) => check(program, &view),
            Err(found) => found,
        }
    }
}

fn map(path: &Path) -> Result<Mmap, Error> {
    if path == Path::new("-") {
        return standard_input().map_err(|e| Error::io(path, e));
    }
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    // SAFETY: the mapping is read only. A file that another process truncates meanwhile would fault; weights are not
    // written while a model loads, as with every program that maps them.
    unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))
}

/// What standard input holds, as a mapping like those of files.
fn standard_input() -> std::io::Result<Mmap> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    // No mapping is empty; a file of one zero is as little a safetensors file as an empty one.
    let mut copy = MmapMut::map_anon(bytes.len().max(1))?;
    copy[..bytes.len()].copy_from_slice(&bytes);
    copy.make_read_only()
}

/// The files that an index names, beside it.
fn shards(index: &Path) -> Result<Vec<PathBuf>, Error> {
    let bytes = std::fs::read(index).map_err(|e| Error::io(index, e))?;
    let home = index.parent().unwrap_or(Path::new("."));
    let exists = |name: &str| home.join(name).is_file();
    let read = mixc_ir::weights::Index::read(&index.display().to_string(), &bytes, &exists);
    let read = read.map_err(|d| Error::rejected(index, d))?;
    Ok(read.files().into_iter().map(|f| home.join(f)).collect())
}
