//! What must hold of the sources as a whole: which crate knows which, what libraries may not do, what is named where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const CRATES: [&str; 4] = ["ir", "passes", "backends", "tuner"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Files below a folder whose name ends so, by their paths from the root.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(next) = left.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for path in entries.flatten().map(|e| e.path()) {
            let hidden = path.file_name().is_none_or(|n| n.to_string_lossy().starts_with('.'));
            if path.is_dir() && !path.ends_with("target") && !hidden {
                left.push(path);
            } else if path.is_file() && path.to_string_lossy().ends_with(ending) {
                let relative = path.strip_prefix(root()).expect("it is below the root");
                found.push(relative.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

/// All Rust sources of the workspace.
fn sources() -> Vec<String> {
    ["src", "ir", "passes", "backends", "tuner", "tests", "examples"].iter().flat_map(|f| files(f, ".rs")).collect()
}

/// Whether a file is test or measuring code.
fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "benches" || part == "examples")
}

/// The lines of a source that are library code, with their numbers: no comments, nothing from a test module on.
fn code(path: &str) -> Vec<(usize, String)> {
    let text = read(path);
    let mut lines = Vec::new();
    let mut inside_test = false;
    let all: Vec<&str> = text.lines().collect();
    for (k, line) in all.iter().enumerate() {
        let starts_module =
            all[k..].iter().skip(1).find(|l| !l.starts_with("#[")).is_some_and(|l| l.starts_with("mod "));
        if line.starts_with("#[cfg(test)]") && starts_module {
            inside_test = true;
        }
        if !inside_test && !line.trim_start().starts_with("//") {
            lines.push((k + 1, line.to_string()));
        }
        if inside_test && *line == "}" {
            inside_test = false;
        }
    }
    lines
}

/// Dependencies of a crate outside its tests.
fn dependencies(folder: &str) -> Vec<String> {
    let manifest = read(&format!("{folder}/Cargo.toml"));
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = ["[dependencies]", "[build-dependencies]"].contains(&line)
                || line.starts_with("[target.") && line.ends_with(".dependencies]");
        } else if inside && line.contains('=') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            found.push(name.to_string());
        }
    }
    found
}

#[track_caller]
fn nothing(problems: Vec<String>) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn crates_know_only_what_they_may() {
    for (folder, may_not) in [
        ("ir", &["mixc", "mixc-passes", "mixc-backends", "mixc-tuner", "egg", "cranelift", "iced-x86", "clap"][..]),
        ("passes", &["mixc", "mixc-backends", "mixc-tuner", "cranelift", "iced-x86", "cudarc", "clap"]),
        ("backends", &["mixc", "mixc-passes", "mixc-tuner", "egg", "clap"]),
        ("tuner", &["mixc", "egg", "cranelift", "iced-x86", "cudarc", "clap"]),
        (".", &["egg", "cranelift", "iced-x86", "cudarc"]),
    ] {
        let known = dependencies(folder);
        let wrong = known.iter().filter(|d| may_not.iter().any(|m| *d == m || (*m == "cranelift" && d.starts_with(m))));
        nothing(wrong.map(|d| format!("{folder} may not depend on {d}")).collect());
    }
    assert!(dependencies("passes").contains(&"egg".to_string()), "the list of dependencies is read");
    for (path, word, only) in [
        ("egg::", "egg", "passes/"),
        ("cranelift_", "cranelift", "backends/"),
        ("iced_x86", "iced-x86", "backends/"),
        ("cudarc::", "cudarc", "backends/"),
    ] {
        let users = sources().into_iter().filter(|s| s != "tests/tidy.rs" && !s.starts_with(only));
        nothing(
            users
                .filter(|s| code(s).iter().any(|(_, l)| l.contains(path)))
                .map(|s| format!("{s} names {word}"))
                .collect(),
        );
    }
}

#[test]
fn back_ends_know_no_form() {
    // The names that are no everyday words.
    let telling = |f: &&str| f.contains('_') || ["flash", "gemm"].contains(f);
    let forms: Vec<&str> = mixc::forms().iter().map(|(name, _)| *name).filter(telling).collect();
    assert!(forms.len() > 5, "the catalogue is read");
    let mut problems = Vec::new();
    for path in sources().iter().filter(|p| p.starts_with("backends/src/") && !is_test(p)) {
        for (n, line) in code(path) {
            let words: Vec<&str> = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
            // `top_k` is a tile operation as well.
            if let Some(form) = forms.iter().find(|f| **f != "top_k" && words.contains(f)) {
                problems.push(format!("{path}:{n}: {form}"));
            }
        }
    }
    nothing(problems);
}

#[test]
fn the_choice_among_forms_names_none() {
    let path = "passes/src/forms/choice.rs";
    let forms = files("passes/src/forms", ".rs").into_iter().filter(|p| read(p).contains(": ApplyForm = "));
    let modules = forms.map(|p| p.rsplit('/').next().and_then(|f| f.strip_suffix(".rs")).unwrap_or("").to_string());
    // Iterators have a `map` too.
    let catalogue = mixc::forms().iter().map(|(name, _)| name.to_string()).filter(|n| n != "map");
    let names: Vec<String> = modules.chain(catalogue).collect();
    assert!(names.iter().filter(|n| *n == "block_sparse").count() == 2, "the forms are read");
    let words = |line: &str| -> Vec<String> {
        line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_string).collect()
    };
    let named = |(n, line): (usize, String)| {
        let form = words(&line).into_iter().find(|w| names.contains(w))?;
        Some(format!("{path}:{n}: {form}"))
    };
    nothing(code(path).into_iter().filter_map(named).collect());
}

#[test]
fn versions_are_pinned() {
    let manifest = read("Cargo.toml");
    let start = manifest.find("[workspace.dependencies]").expect("the versions stand in one place");
    let section = manifest[start..].lines().skip(1).take_while(|l| !l.starts_with('['));
    let mut problems = Vec::new();
    for line in section.filter(|l| l.contains('=') && !l.starts_with('#') && !l.contains("path =")) {
        // Two follow the compiler family and the C library by their own promises.
        let free = ["libc", "target-lexicon"].iter().any(|n| line.starts_with(n));
        if !free && !line.contains("\"=") {
            problems.push(format!("not pinned: {line}"));
        }
    }
    for folder in CRATES.iter().chain(&["."]) {
        let text = read(&format!("{folder}/Cargo.toml"));
        let own = text.lines().skip_while(|l| *l != "[dependencies]").skip(1);
        for line in own.filter(|l| l.contains("version =") || l.contains("= \"=")) {
            problems.push(format!("{folder}: a version beside the workspace's: {line}"));
        }
    }
    nothing(problems);
    assert!(root().join("Cargo.lock").is_file());
}

/// What a library may not do: print, read the command line, read clocks.
const OUTWARD: [&str; 5] = ["println!(", "print!(", "env::args", "Instant::now", "SystemTime"];
/// What no code may hold.
const UNFINISHED: [&str; 3] = ["dbg!(", "todo!(", "unimplemented!("];

fn may(path: &str, word: &str) -> bool {
    match word {
        // The tuner measures; a thread that waits spins for a while before it sleeps.
        "Instant::now" => {
            path.starts_with("tuner/") || path == "backends/src/cpu/pool.rs" || path.starts_with("src/cli/")
        }
        _ => path.starts_with("src/cli/") || path == "src/main.rs",
    }
}

#[test]
fn libraries_do_not_print_or_look_around() {
    let mut problems = Vec::new();
    for path in sources().iter().filter(|p| !is_test(p)) {
        for (n, line) in code(path) {
            // Text for another language is no code of this one: its quotation marks are escaped.
            let foreign = |w: &str| line.contains(&format!("{w}\\\""));
            let outward = OUTWARD.iter().filter(|w| !may(path, w) && !foreign(w));
            for word in outward.chain(&UNFINISHED).filter(|w| line.contains(**w)) {
                problems.push(format!("{path}:{n}: {word}"));
            }
        }
    }
    nothing(problems);
}

#[test]
fn what_can_fail_says_what_was_promised() {
    let mut problems = Vec::new();
    for path in sources().iter().filter(|p| !is_test(p)) {
        for (n, line) in code(path) {
            for word in [".unwrap()", ".expect(\"\")", "panic!()", "unreachable!()"] {
                if line.contains(word) {
                    problems.push(format!("{path}:{n}: {word}"));
                }
            }
        }
    }
    nothing(problems);
}

#[test]
fn no_file_is_too_long_to_be_read() {
    const MOST: usize = 700;
    let lines = sources().into_iter().map(|s| (read(&s).lines().count(), s));
    let long = lines.filter(|(n, _)| *n > MOST);
    nothing(long.map(|(n, s)| format!("{s} has {n} lines, at most {MOST} are allowed: split it by meaning")).collect());
}

#[test]
fn every_operation_is_documented_with_an_example_that_is_right() {
    let mut problems = Vec::new();
    for op in mixc::ir::ops::all() {
        if op.doc.trim().is_empty() {
            problems.push(format!("`{}` has no documentation", op.name));
        }
        if !op.example.contains(op.name) {
            problems.push(format!("the example of `{}` does not use it", op.name));
        }
        if let Err(e) = mixc::check(op.example, op.name) {
            problems.push(format!("the example of `{}`: {e}", op.name));
        }
        for a in op.attrs.iter().filter(|a| a.doc.trim().is_empty()) {
            problems.push(format!("`{}` does not say what {{{}}} is", op.name, a.name));
        }
    }
    nothing(problems);
}

/// All test programs as one text.
fn test_programs() -> String {
    files("tests/filetests", ".ir").iter().map(|p| read(p)).collect()
}

#[test]
fn every_form_is_shown_by_a_test_program() {
    let text = test_programs();
    let shown = |form: &str| text.lines().any(|l| l == format!("// form: {form}"));
    nothing(
        mixc::forms()
            .iter()
            .filter(|(f, _)| !shown(f))
            .map(|(f, _)| format!("no test program has `form: {f}`"))
            .collect(),
    );
}

#[test]
fn every_operation_occurs_in_a_test_program() {
    let mut text = test_programs();
    text.extend(files("examples", ".ir").iter().map(|p| read(p)));
    let used = |op: &str| text.contains(&format!("= {op} ")) || text.contains(&format!("= {op}\n"));
    let unused: Vec<&str> = mixc::ir::ops::all().map(|o| o.name).filter(|o| !used(o)).collect();
    // Each of these has its own example, laws and rules tested where it is defined.
    const MOST: usize = 45;
    assert!(unused.len() <= MOST, "{} operations are in no test program: {}", unused.len(), unused.join(", "));
}

#[test]
fn every_diagnostic_code_is_tested() {
    let mut used: BTreeMap<String, String> = BTreeMap::new();
    let mut tested = test_programs();
    for path in sources() {
        let text = read(&path);
        if is_test(&path) || path == "ir/src/verify/codes.rs" {
            tested.push_str(&text);
        }
        for (at, _) in text.match_indices("\"E0") {
            let code = &text[at + 1..text.len().min(at + 6)];
            if code.len() == 5 && code[1..].bytes().all(|b| b.is_ascii_digit()) && !is_test(&path) {
                used.entry(code.to_string()).or_insert(path.clone());
            }
        }
    }
    assert!(used.len() > 40, "{}", used.len());
    let table: Vec<&str> = mixc::ir::verify::codes::CODES.iter().map(|c| c.code).collect();
    // E0601 guards the stages behind the verifier, which has ruled it out (E0206).
    let is_tested = |code: &str| code == "E0601" || table.contains(&code) || tested.contains(code);
    nothing(used.iter().filter(|(c, _)| !is_tested(c)).map(|(c, p)| format!("{c} ({p}) is in no test")).collect());
}

#[test]
fn tracked_files_name_no_machine() {
    let listed = Command::new("git").current_dir(root()).args(["ls-files", "-z"]).output();
    let Some(listed) = listed.ok().filter(|l| l.status.success() && !l.stdout.is_empty()) else {
        println!("skipped: not a checkout");
        return;
    };
    // Put together here, so that this file does not hold them itself.
    let words: Vec<String> =
        [("/ho", "me/"), ("/ro", "ot/"), ("/wo", "rk/"), ("/Use", "rs/"), ("C:", "\\Users"), ("/mnt", "/")]
            .iter()
            .map(|(a, b)| format!("{a}{b}"))
            .collect();
    let hosts: Vec<String> =
        [("index.crates", ".io"), ("static.crates", ".io"), ("artifactory", "."), ("pypi", ".org")]
            .iter()
            .map(|(a, b)| format!("{a}{b}"))
            .collect();
    let mut problems = Vec::new();
    for name in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|n| !n.is_empty()) {
        let Ok(text) = std::fs::read_to_string(root().join(name)) else { continue };
        for (n, line) in text.lines().enumerate() {
            // Cargo.lock names the public index as every lock file does.
            for word in words.iter().chain(&hosts).filter(|w| line.contains(w.as_str())) {
                problems.push(format!("{name}:{}: {word}", n + 1));
            }
        }
    }
    nothing(problems);
}
