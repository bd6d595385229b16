//! What other programs link: objects, libraries, headers, build files and crates, used by a C program, by C++, by Rust,
//! and under a memory checker. A tool that is missing is said, and its test does nothing.

mod device;
mod models;

use models::{Models, mixc, present, succeeds};
use std::path::Path;
use std::process::Command;

const CALLER: &str = include_str!("caller.c");

/// The C program, built from the objects.
fn build_caller(models: &Models) -> std::path::PathBuf {
    let program = models.home().join("caller");
    std::fs::write(models.home().join("caller.c"), CALLER).expect("the program is written");
    let objects = ["attention", "weighted", "fixed"].map(|n| models.built().join(format!("{n}.o")));
    let flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "caller.c"];
    succeeds(
        Command::new("cc")
            .current_dir(models.home())
            .args(flags)
            .arg("-I")
            .arg(models.built())
            .args(objects)
            .arg("-o")
            .arg(&program),
    );
    program
}

#[test]
fn a_c_program_links_three_models() {
    if !present("cc") {
        return;
    }
    let models = Models::new("native");
    let program = build_caller(&models);
    succeeds(Command::new(program).arg(models.home()));
    models.results_are_right("out");
}

#[test]
fn a_memory_checker_finds_nothing() {
    let target = "x86-64-v3";
    if !present("cc") || !present("valgrind") {
        return;
    }
    if let Err(reason) = ::mixc::runs_here(target) {
        println!("skipped: {target}: {reason}");
        return;
    }
    let models = Models::new(target);
    let program = build_caller(&models);
    let flags = ["-q", "--error-exitcode=99", "--leak-check=full", "--track-origins=no"];
    succeeds(Command::new("valgrind").args(flags).arg(program).arg(models.home()));
    models.results_are_right("out");
}

#[test]
fn headers_stand_alone_in_c_and_cpp() {
    let models = Models::new("native");
    let both = "#include \"weighted.h\"\n#include \"attention.h\"\n#include \"weighted.h\"\n#include \"fixed.h\"\nint main(void) { return attention_strerror(0) == 0; }\n";
    for (compiler, language, standard) in
        [("cc", "c", "-std=c99"), ("cc", "c", "-std=c17"), ("c++", "c++", "-std=c++11"), ("c++", "c++", "-std=c++17")]
    {
        if !present(compiler) {
            continue;
        }
        let source = models.home().join(format!("include.{language}"));
        std::fs::write(&source, both).expect("the source is written");
        let flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-x", language, standard];
        let program = models.home().join("included");
        succeeds(
            Command::new(compiler)
                .args(flags)
                .arg(&source)
                .args(["-x", "none"])
                .arg("-I")
                .arg(models.built())
                .arg("-L")
                .arg(models.built())
                .args(["-lattention", "-o"])
                .arg(&program),
        );
        succeeds(&mut Command::new(&program));
    }
}

/// Every file below a directory, by its path in it.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(&next).expect("the directory is read") {
            let path = entry.expect("the directory is read").path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("it is below").to_string_lossy().into_owned();
                found.push((name, std::fs::read(&path).expect("the file is read")));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn artefacts_are_the_same_bytes_wherever_they_are_made() {
    let models = Models::new("native");
    let once = files(&models.built());
    assert!(once.len() >= 30, "{}", once.len());
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let other = elsewhere.path().join("a longer name");
    std::fs::create_dir(&other).expect("it is made");
    for name in ["attention.ir", "weighted.ir", "fixed.ir", "weights.safetensors"] {
        std::fs::copy(models.home().join(name), other.join(name)).expect("it is copied");
    }
    for name in ["attention.ir", "weighted.ir", "fixed.ir"] {
        let file = other.join(name).display().to_string();
        succeeds(&mut mixc(elsewhere.path(), &["compile", &file, "-o", "made", "--target", "native"]));
    }
    let twice = files(&elsewhere.path().join("made"));
    for ((a, x), (b, y)) in once.iter().zip(&twice) {
        assert_eq!(a, b);
        assert!(x == y, "{a} differs");
    }
    assert_eq!(once.len(), twice.len());
    let home = models.home().display().to_string();
    for (name, bytes) in &once {
        let holds = bytes.windows(home.len()).any(|w| w == home.as_bytes());
        assert!(!holds, "{name} holds the path of the directory it was made in");
    }
}

#[test]
fn objects_need_nothing_but_memory_functions() {
    if !present("nm") {
        return;
    }
    let models = Models::new("native");
    for name in ["attention", "weighted", "fixed"] {
        let object = models.built().join(format!("{name}.o"));
        let listed = succeeds(Command::new("nm").arg(&object));
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            let (kind, symbol) = line.trim().rsplit_once(' ').expect("a kind and a name");
            match kind.chars().last() {
                Some('U') => assert!(["memcpy", "memset", "memmove"].contains(&symbol), "{name} needs {symbol}"),
                // Exported: only under the model's own name, so that two models meet in one program.
                Some('T' | 'R' | 'D' | 'B') => {
                    assert!(symbol.starts_with(&format!("{name}_")), "{name} exports {symbol}")
                }
                // No data that can be written: no globals.
                Some('d' | 'b' | 'C') => panic!("{name} has the global {symbol}"),
                _ => {}
            }
        }
    }
}

#[test]
fn build_systems_find_the_library() {
    let models = Models::new("native");
    let cmake = std::fs::read_to_string(models.built().join("attentionConfig.cmake")).expect("it is there");
    for part in ["attention::attention", "libattention.a", "INTERFACE_INCLUDE_DIRECTORIES", "CMAKE_CURRENT_LIST_DIR"] {
        assert!(cmake.contains(part), "{part}: {cmake}");
    }
    let source =
        "#include <attention.h>\nint main(void) { return attention_run(0, 0, 0, 0, 0, 0, 0, 0) != MIXC_NULL; }\n";
    std::fs::write(models.home().join("main.c"), source).expect("the source is written");
    if present("pkg-config") && present("cc") {
        let flags = succeeds(
            Command::new("pkg-config").args(["--cflags", "--libs", "attention"]).env("PKG_CONFIG_PATH", models.built()),
        );
        let flags = String::from_utf8_lossy(&flags.stdout).into_owned();
        let program = models.home().join("packaged");
        succeeds(
            Command::new("cc")
                .current_dir(models.home())
                .arg("main.c")
                .args(flags.split_whitespace())
                .arg("-o")
                .arg(&program),
        );
        succeeds(&mut Command::new(&program));
    }
    if present("cmake") && present("cc") {
        let lists = "cmake_minimum_required(VERSION 3.10)\nproject(app C)\nfind_package(attention CONFIG REQUIRED)\n\
                     add_executable(app main.c)\ntarget_link_libraries(app attention::attention)\n";
        std::fs::write(models.home().join("CMakeLists.txt"), lists).expect("it is written");
        let found = format!("-Dattention_DIR={}", models.built().display());
        succeeds(Command::new("cmake").current_dir(models.home()).args([".", "-B", "made", &found]));
        succeeds(Command::new("cmake").current_dir(models.home()).args(["--build", "made"]));
        succeeds(&mut Command::new(models.home().join("made/app")));
    }
}

#[test]
fn the_manifest_says_what_was_made() {
    let models = Models::new("native");
    let text = std::fs::read_to_string(models.built().join("weighted.json")).expect("it is there");
    let m: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!((&m["abi"], &m["name"], &m["target"]), (&1.into(), &"weighted".into(), &"native".into()));
    assert_eq!(m["dims"], serde_json::json!([{ "name": "T", "low": 1, "high": 256 }]));
    assert_eq!(m["params"], serde_json::json!([{ "name": "x", "dtype": "f32", "shape": ["T", "24"] }]));
    assert_eq!(m["results"][0]["shape"], serde_json::json!(["T", "12"]));
    assert!(m["binds_weights"] == true && m["ir_sha256"].as_str().is_some_and(|h| h.len() == 64), "{m:#}");
    assert!(m["kernels"].as_array().is_some_and(|k| !k.is_empty()), "{m:#}");
}

#[test]
fn a_rust_program_uses_the_crates() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    if !present(&cargo) || !present("cc") {
        return;
    }
    let models = Models::new("native");
    let app = models.home().join("app");
    std::fs::create_dir_all(app.join("src")).expect("it is made");
    std::fs::write(app.join("src/main.rs"), include_str!("caller.rs")).expect("the program is written");
    let dependency = |n: &str| format!("{n}-rs = {{ path = \"../built/{n}-rs\" }}\n");
    let dependencies: String = ["attention", "weighted", "fixed"].map(dependency).concat();
    let manifest = format!(
        "[package]\nname = \"app\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependencies}\n[workspace]\n"
    );
    std::fs::write(app.join("Cargo.toml"), manifest).expect("the manifest is written");
    succeeds(
        Command::new(&cargo)
            .current_dir(&app)
            .args(["build", "--offline", "--target-dir", "target"])
            .env("RUSTFLAGS", "-D warnings")
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    );
    succeeds(Command::new(app.join("target/debug/app")).arg(models.home()));
    models.results_are_right("rust");
}

#[test]
fn embedded_weights_need_no_binding() {
    if !present("cc") {
        return;
    }
    let models = Models::new("native");
    succeeds(&mut mixc(models.home(), &["compile", "weighted.ir", "-o", "embedded", "--embed-weights"]));
    let header = std::fs::read_to_string(models.home().join("embedded/weighted.h")).expect("it is there");
    assert!(!header.contains("weighted_bind") && !header.contains("const void *weights"), "{header}");
    let source = format!(
        "#include \"weighted.h\"\n#include <stdio.h>\n#include <stdlib.h>\nint main(void) {{\n  \
         static float x[37 * 24], y[37 * 12];\n  FILE *f = fopen(\"{0}/weighted.x\", \"rb\");\n  \
         if (!f || fread(x, sizeof x, 1, f) != 1) return 100;\n  weighted_dims d = {{37}};\n  \
         size_t bytes = weighted_workspace_bytes(&d);\n  void *w = NULL;\n  if (posix_memalign(&w, 64, bytes)) return 100;\n  \
         int32_t code = weighted_run(&d, x, y, w, bytes, NULL);\n  FILE *g = fopen(\"{0}/weighted.embedded\", \"wb\");\n  \
         if (!g || fwrite(y, sizeof y, 1, g) != 1 || fclose(g)) return 100;\n  return -code;\n}}\n",
        models.home().display()
    );
    std::fs::write(models.home().join("embedded.c"), source).expect("it is written");
    let program = models.home().join("embedded_caller");
    succeeds(
        Command::new("cc")
            .current_dir(models.home())
            .args(["embedded.c", "embedded/weighted.o", "-Iembedded", "-o"])
            .arg(&program),
    );
    succeeds(&mut Command::new(&program));
    models.result_is_right("weighted", "embedded");
}

#[test]
fn names_that_c_and_rust_have_for_themselves_are_changed() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let text = "dim for = 1..64\ndim a.b = 1..64\n\nfunc @main(%int: f32[for, 4], %fn: f32[a.b, 4], %x.y: f32[4], %x_y: f32[4], %weights: f32[4], %out0: f32[4], %par: f32[4], %NULL: f32[4], %main: f32[4]) -> (f32[for, 4], f32[a.b, 4]) {\n  %p = add %int, %x.y\n  %q = add %fn, %weights\n  %r = add %q, %out0\n  %s = mul %r, %x_y\n  %t = add %s, %par\n  %u = add %t, %NULL\n  %v = add %u, %main\n  return %p, %v\n}\n";
    std::fs::write(home.path().join("match.ir"), text).expect("it is written");
    succeeds(&mut mixc(home.path(), &["compile", "match.ir", "-o", "built"]));
    if present("cc") {
        let source = "#include \"built/match.h\"\nint main(void) { return match_strerror(-1) == 0; }\n";
        std::fs::write(home.path().join("main.c"), source).expect("it is written");
        succeeds(Command::new("cc").current_dir(home.path()).args([
            "-std=c99",
            "-Werror",
            "main.c",
            "built/match.o",
            "-o",
            "main",
        ]));
        if present("c++") {
            succeeds(Command::new("c++").current_dir(home.path()).args([
                "-x",
                "c++",
                "-Werror",
                "-fsyntax-only",
                "main.c",
            ]));
        }
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    if present(&rustc) {
        let source = "built/match-rs/src/lib.rs";
        succeeds(Command::new(&rustc).current_dir(home.path()).args([
            "--crate-type",
            "rlib",
            "--edition",
            "2021",
            "-D",
            "warnings",
            "--emit",
            "metadata",
            "--crate-name",
            "checked",
            source,
        ]));
    }
}
