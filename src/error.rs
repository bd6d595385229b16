//! Everything that can go wrong, by whose fault it is; the command line turns it into an exit code.

use mixc_ir::diag::Diagnostic;
use std::fmt;
use std::path::{Path, PathBuf};

/// An error of the library.
#[derive(Debug)]
pub enum Error {
    /// The input is rejected: everything that is wrong with it.
    Rejected {
        /// The file, or a name for text that is in no file.
        file: String,
        /// Its text, for showing the places.
        source: String,
        /// What is wrong.
        diagnostics: Vec<Diagnostic>,
    },
    /// A file cannot be read or written.
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The request makes no sense: what is expected instead.
    Usage(String),
    /// Results differ from the reference.
    CheckFailed(String),
    /// The target or device is not available here.
    Unavailable(String),
    /// A broken promise inside the compiler.
    Bug(String),
}

impl Error {
    /// The exit code of the command line.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Rejected { .. } | Error::Io { .. } => 1,
            Error::Usage(_) => 2,
            Error::CheckFailed(_) => 3,
            Error::Unavailable(_) => 5,
            Error::Bug(_) => 101,
        }
    }

    /// An input that is rejected as a whole.
    pub fn rejected(file: &Path, diagnostics: Vec<Diagnostic>) -> Error {
        Error::Rejected { file: file.display().to_string(), source: String::new(), diagnostics }
    }

    /// A failed read or write.
    pub fn io(path: &Path, error: std::io::Error) -> Error {
        Error::Io { path: path.to_path_buf(), error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Rejected { file, diagnostics, .. } => {
                for (k, d) in diagnostics.iter().enumerate() {
                    if k > 0 {
                        f.write_str("\n")?;
                    }
                    write!(f, "{file}: {d}")?;
                }
                Ok(())
            }
            Error::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Error::Usage(m) | Error::CheckFailed(m) | Error::Unavailable(m) => f.write_str(m),
            Error::Bug(m) => write!(f, "internal error: {m}"),
        }
    }
}

impl std::error::Error for Error {}
