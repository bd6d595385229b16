//! Unpacks one folder of a wheel, which is a zip archive.
//!
//! The archive is not trusted: names that could leave the destination are rejected, and what is written is counted as
//! it is written, whatever sizes the archive declares. The reader checks each file's CRC-32.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path};

use zip::ZipArchive;

use super::FetchError;

/// How much an archive may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the archive, and of everything unpacked.
    pub bytes: u64,
    /// Entries of the archive.
    pub entries: usize,
}

/// Three times the size and fifty times the entries of the wheel in use.
pub const LIMITS: Limits = Limits { bytes: 256 << 20, entries: 1000 };

/// Writes every file below `folder` (with a slash at its end) of the archive to the new directory `destination`.
pub fn unpack(archive: &Path, folder: &str, destination: &Path, limits: Limits) -> Result<(), FetchError> {
    let rejected = |detail: String| FetchError::Wheel(archive.to_path_buf(), detail);
    let file = File::open(archive).map_err(|error| FetchError::Io(archive.to_path_buf(), error))?;
    let size = file.metadata().map_err(|error| FetchError::Io(archive.to_path_buf(), error))?.len();
    if size > limits.bytes {
        return Err(rejected(format!("{size} bytes are more than {}", limits.bytes)));
    }
    let mut zip = ZipArchive::new(file).map_err(|error| rejected(error.to_string()))?;
    if zip.len() > limits.entries {
        return Err(rejected(format!("{} entries are more than {}", zip.len(), limits.entries)));
    }
    fs::create_dir(destination).map_err(|error| FetchError::Io(destination.to_path_buf(), error))?;
    let mut left = limits.bytes;
    for index in 0..zip.len() {
        let entry = zip.by_index(index).map_err(|error| rejected(error.to_string()))?;
        let name = entry.name().map_err(|error| rejected(error.to_string()))?.into_owned();
        let Some(inner) = name.strip_prefix(folder) else { continue };
        if entry.is_dir() {
            continue;
        }
        if !entry.is_file() || !stays_inside(inner) {
            return Err(rejected(format!("the entry {name:?} is not a plain file below {folder}")));
        }
        let path = destination.join(inner);
        let failed = |error| FetchError::Io(path.clone(), error);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        // `create_new`: a second entry of the same name is an error, not an overwritten file
        let mut output = File::create_new(&path).map_err(failed)?;
        // one byte past what is left tells a file that just fits from one that does not
        let written = io::copy(&mut entry.take(left.saturating_add(1)), &mut output)
            .map_err(|error| rejected(format!("the entry {name:?}: {error}")))?;
        left = left
            .checked_sub(written)
            .ok_or_else(|| rejected(format!("it unpacks to more than {} bytes", limits.bytes)))?;
    }
    Ok(())
}

/// Whether a name, joined to a directory, stays in it on every system: no root, drive, `..`, backslash or colon.
fn stays_inside(name: &str) -> bool {
    !name.contains(['\\', ':', '\0'])
        && !name.is_empty()
        && Path::new(name).components().all(|component| matches!(component, Component::Normal(_)))
}
