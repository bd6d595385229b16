//! Compiled images on disk, by the hash of all that they are made from.
//!
//! A file is written under another name and then renamed, so processes and threads that make the same one at the same
//! time are harmless. Files are never changed; a folder that grows beyond its limit loses its older half.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::error::CudaError;

/// Files that a folder keeps; a compiled program is some 30 KB.
const MOST_FILES: usize = 4000;

/// The cache's directory by the environment: `MIXC_CACHE_DIR`, else `XDG_CACHE_HOME/mixc`, else `HOME/.cache/mixc`. Empty
/// values and a relative `XDG_CACHE_HOME` count as absent.
pub fn directory() -> Result<PathBuf, CudaError> {
    directory_by(&|name| std::env::var_os(name))
        .ok_or_else(|| CudaError::Cache("none of MIXC_CACHE_DIR, XDG_CACHE_HOME and HOME is set".to_string()))
}

pub(super) fn directory_by(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    path("MIXC_CACHE_DIR")
        .or_else(|| Some(path("XDG_CACHE_HOME").filter(|p| p.is_absolute())?.join("mixc")))
        .or_else(|| Some(path("HOME")?.join(".cache/mixc")))
}

/// The name for what is made from `parts`.
pub fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

/// The file `folder/name` of the cache; where it is missing, `make` writes it to the path that it is given.
pub fn file(
    folder: &str,
    name: &str,
    make: &mut dyn FnMut(&Path) -> Result<(), CudaError>,
) -> Result<PathBuf, CudaError> {
    file_in(&directory()?.join(folder), name, make)
}

pub(super) fn file_in(
    folder: &Path,
    name: &str,
    make: &mut dyn FnMut(&Path) -> Result<(), CudaError>,
) -> Result<PathBuf, CudaError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let failed = |what: &Path, e: std::io::Error| CudaError::Cache(format!("{}: {e}", what.display()));
    fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
    thin_out(folder, MOST_FILES);
    let unique = format!(".{}-{}-{name}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let part = folder.join(unique);
    let made = make(&part).and_then(|()| fs::rename(&part, &path).map_err(|e| failed(&path, e)));
    if let Err(e) = made {
        // What was half written is of no use; that it may not even exist is no second error.
        let _ = fs::remove_file(&part);
        return Err(e);
    }
    Ok(path)
}

/// Removes the older half of the files where there are more than `most`. What cannot be removed stays.
pub(super) fn thin_out(folder: &Path, most: usize) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let entries: Vec<_> = entries.flatten().collect();
    if entries.len() <= most {
        return;
    }
    let mut files: Vec<_> = entries
        .iter()
        .filter_map(|e| Some((e.metadata().ok().filter(fs::Metadata::is_file)?.modified().ok()?, e.path())))
        .collect();
    files.sort();
    for (_, path) in files.iter().take(files.len() / 2) {
        let _ = fs::remove_file(path);
    }
}
