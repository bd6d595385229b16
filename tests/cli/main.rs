//! The command line from outside: the binary in a temporary directory, its two streams and its exit code.

mod broken;
mod commands;
mod json;
mod run;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A program that every command can take.
const ATTENTION: &str = "\
ir 1
dim T = 1..256

func @main(%q: f32[2, T, 8], %k: f32[2, T, 8], %v: f32[2, T, 8]) -> f32[2, T, 8] {
  %s = gram %q, %k {scale = 0.5}
  %m = mask %s {causal}
  %w = softmax %m
  %y = apply %w, %v
  return %y
}
";

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    /// The code is as expected; what was printed, for looking further.
    #[track_caller]
    fn with(self, code: i32) -> Ended {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Standard error says this, in one of its lines.
    #[track_caller]
    fn says(self, text: &str) -> Ended {
        assert!(self.err.contains(text), "{text:?} is not said: {self:#?}");
        self
    }

    /// Nothing on standard output.
    #[track_caller]
    fn silent(self) -> Ended {
        assert_eq!(self.out, "", "{self:#?}");
        self
    }

    #[track_caller]
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

impl From<Output> for Ended {
    fn from(o: Output) -> Ended {
        Ended {
            code: o.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&o.stdout).into_owned(),
            err: String::from_utf8_lossy(&o.stderr).into_owned(),
        }
    }
}

/// The binary in a directory, with nothing of this process's environment that it reads.
fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_mixc"));
    c.current_dir(dir).args(arguments);
    for name in ["MIXC_TARGET", "MIXC_THREADS", "MIXC_CACHE_DIR", "MIXC_LOG", "NO_COLOR", "RUST_BACKTRACE"] {
        c.env_remove(name);
    }
    c
}

/// Runs the binary.
fn mixc(dir: &Path, arguments: &[&str]) -> Ended {
    command(dir, arguments).stdin(Stdio::null()).output().expect("the binary runs").into()
}

/// Runs the binary with text on standard input.
fn mixc_reads(dir: &Path, input: &[u8], arguments: &[&str]) -> Ended {
    let mut child = command(dir, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // A command may end before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the binary ends");
    writer.join().expect("the writer does not panic");
    output.into()
}

/// A temporary directory that holds `attention.ir`.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    write(dir.path(), "attention.ir", ATTENTION);
    dir
}

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(dir.join(name), text).expect("the file is written");
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).expect("the file is read")
}
