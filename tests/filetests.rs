//! Runs every program under `tests/filetests` against what its comments expect; one trial a file, so that
//! `cargo test --test filetests retention` runs those whose path has that word. `tests/filetest/directive.rs` says what
//! the comments may be; `MIXC_BLESS=1` accepts the printed stages as they are.

#[path = "filetest/bless.rs"]
mod bless;
#[path = "filetest/directive.rs"]
mod directive;
#[path = "filetest/runner_tests.rs"]
mod runner_tests;
#[path = "filetest/stage.rs"]
mod stage;
#[path = "filetest/verdict.rs"]
mod verdict;

use libtest_mimic::{Arguments, Completion, Trial};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use verdict::Verdict;

/// Every program below a folder, in order.
fn programs(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("the folder is read").path()).collect();
    paths.sort();
    let one = |p: PathBuf| if p.is_dir() { programs(&p) } else { vec![p] };
    paths.into_iter().flat_map(one).filter(|p| p.extension().is_some_and(|e| e == "ir")).collect()
}

fn trial(folder: &Path, path: PathBuf) -> Trial {
    let relative = path.strip_prefix(folder).unwrap_or(&path).with_extension("");
    let name = relative.to_string_lossy().replace('\\', "/");
    Trial::ignorable_test(name, move || {
        let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
        match verdict::judge(&text, &bless::Wish::from_environment()?)? {
            Verdict::Passed => Ok(Completion::Completed),
            Verdict::Ignored(reason) => Ok(Completion::ignored_with(reason)),
            Verdict::Blessed(text) => {
                std::fs::write(&path, text).map_err(|e| e.to_string())?;
                Ok(Completion::Completed)
            }
        }
    })
}

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests");
    let mut trials: Vec<Trial> = programs(&folder).into_iter().map(|p| trial(&folder, p)).collect();
    trials.extend(runner_tests::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
