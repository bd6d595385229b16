//! Every command does what its help says, on the stream where it belongs.

use super::{ATTENTION, command, mixc, mixc_reads, read, workplace, write};
use std::io::Read;
use std::process::Stdio;

#[test]
fn help_shows_examples_and_exit_codes() {
    let dir = workplace();
    let help = mixc(dir.path(), &["--help"]).with(0);
    assert_eq!(help.err, "");
    for part in ["Examples:", "mixc run ", "Exit codes:", "3 a numeric check failed"] {
        assert!(help.out.contains(part), "{part:?}: {}", help.out);
    }
    for name in ["check", "fmt", "run", "compile", "bench", "explain", "opt", "import", "forms", "info"] {
        assert!(help.out.contains(&format!("\n  {name} ")), "{name}: {}", help.out);
        let own = mixc(dir.path(), &[name, "--help"]).with(0);
        assert!(own.out.contains("Usage: mixc"), "{own:#?}");
    }
    let version = mixc(dir.path(), &["--version"]).with(0);
    assert_eq!(version.out, concat!("mixc ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn usage_errors_exit_with_2_and_print_nothing() {
    let dir = workplace();
    for arguments in [
        &[][..],
        &["nosuch"],
        &["check"],
        &["run", "attention.ir", "--nosuch"],
        &["run", "attention.ir", "--shape", "T"],
        &["run", "attention.ir", "--shape", "T=3..2"],
        &["run", "attention.ir", "--random", "1", "--shape", "Q=4"],
        &["run", "attention.ir", "--random", "x"],
        &["run", "attention.ir"],
        &["run", "attention.ir", "--random", "1", "--target", "pentium"],
        &["opt", "attention.ir", "--stage", "nosuch"],
        &["compile", "attention.ir"],
        &["compile", "attention.ir", "-o", "x", "--emit", "wasm"],
        &["compile", "attention.ir", "-o", "x", "--target", "ref"],
        &["explain", "attention.ir", "--approx", "hip:k"],
        &["explain", "attention.ir", "--approx", "hip"],
        &["explain", "attention.ir", "--approx", "hpi:k=4"],
        &["explain", "attention.ir", "--approx", "hip:k=4,j=4"],
        &["bench", "attention.ir", "--target", "ref"],
        &["forms", "grm"],
    ] {
        let ended = mixc(dir.path(), arguments);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{arguments:?}: {ended:#?}");
        assert!(!ended.err.is_empty(), "{arguments:?}");
    }
    assert!(!dir.path().join("x").exists(), "nothing is written");
}

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    let dir = workplace();
    mixc(dir.path(), &["forms", "retentoin"]).with(2).says("did you mean `retention`?");
    mixc(dir.path(), &["chek", "attention.ir"]).with(2).says("check");
    write(dir.path(), "near.ir", ATTENTION.replace("= softmax", "= sofmax"));
    mixc(dir.path(), &["check", "near.ir"]).with(1).says("softmax").says("near.ir:7:").silent();
    let bad_dim = mixc(dir.path(), &["run", "attention.ir", "--random", "1", "--shape", "S=4"]).with(2);
    bad_dim.says("it has T");
}

#[test]
fn a_dim_is_given_once() {
    let dir = workplace();
    for command in [&["explain", "attention.ir"][..], &["run", "attention.ir", "--random", "1"]] {
        let given = |shapes: [&str; 2]| {
            let shapes = shapes.iter().flat_map(|s| ["--shape", s]);
            let arguments: Vec<&str> = command.iter().copied().chain(shapes).collect();
            mixc(dir.path(), &arguments)
        };
        given(["T=4", "T=5"]).with(2).says("T=4").says("T=5").silent();
        given(["T=1..64:8", "T=8"]).with(2).says("T=1..64:8").says("T=8").silent();
        given(["T=4", "T=4"]).with(0);
    }
}

#[test]
fn weight_files_are_read_for_a_model_without_weights_too() {
    let dir = workplace();
    for command in [&["explain", "attention.ir"][..], &["run", "attention.ir", "--random", "1"]] {
        let arguments = [command, &["--weights", "missing.safetensors"]].concat();
        mixc(dir.path(), &arguments).with(1).says("missing.safetensors").silent();
    }
}

/// The greatest keys of many, which `hip` searches instead.
const GREATEST: &str = "\
ir 1
dim T = 1..32768
func @main(%q: f32[T, 16], %k: f32[T, 16], %v: f32[T, 16]) -> f32[T, 16] {
  %s = gram %q, %k
  %m = mask %s {causal}
  %t = top_k %m {k = 16}
  %w = softmax %t
  %y = apply %w, %v
  return %y
}
";

#[test]
fn approximations_are_named_and_their_error_is_measured() {
    let dir = workplace();
    write(dir.path(), "greatest.ir", GREATEST);
    let run = ["run", "greatest.ir", "--random", "1", "--shape", "T=200", "--check"];
    mixc(dir.path(), &run).with(0).says("agrees with the reference");
    let allowed: Vec<&str> = run.iter().copied().chain(["--approx", "hip:k=16"]).collect();
    let ended = mixc(dir.path(), &allowed).with(0).says("approximate by hip: differs from the reference by");
    assert!(!ended.err.contains("agrees"), "{ended:#?}");
    let explained = mixc(dir.path(), &["explain", "greatest.ir", "--approx", "hip:k=16", "--format", "json"]).with(0);
    let json: serde_json::Value = serde_json::from_str(&explained.out).expect("explain prints JSON");
    assert_eq!(json["approx"], serde_json::json!(["hip"]));
    let rules = json["rules"].as_array().expect("rules are listed");
    assert!(rules.iter().any(|r| r["name"] == "found-keys" && r["exact"] == false), "{rules:?}");
    // What is allowed and not used is not said to be in use.
    let unused = mixc(dir.path(), &["explain", "attention.ir", "--approx", "hip:k=16", "--format", "json"]).with(0);
    let json: serde_json::Value = serde_json::from_str(&unused.out).expect("explain prints JSON");
    assert_eq!(json["approx"], serde_json::json!([]));
}

#[test]
fn check_reports_every_mistake_of_every_file() {
    let dir = workplace();
    mixc(dir.path(), &["check", "attention.ir"]).with(0).silent();
    write(dir.path(), "a.ir", ATTENTION.replace("%q, %k", "%q, %z").replace("= apply", "= aply"));
    write(dir.path(), "b.ir", ATTENTION.replace("causal", "casual"));
    let ended = mixc(dir.path(), &["check", "a.ir", "attention.ir", "b.ir"]).with(1).silent();
    let ended = ended.says("a.ir:5:").says("a.ir:8:").says("b.ir:6:").says("E0101").says("E0103").says("E0301");
    ended.says("^^");
    // No file's being missing hides another one's mistakes.
    mixc(dir.path(), &["check", "missing.ir", "b.ir"]).with(1).says("missing.ir").says("b.ir:6:");
}

#[test]
fn standard_input_is_a_file_named_minus() {
    let dir = workplace();
    let input = ATTENTION.as_bytes();
    mixc_reads(dir.path(), input, &["check", "-"]).with(0).silent();
    mixc_reads(dir.path(), b"func", &["check", "-"]).with(1).says("<stdin>:1:");
    assert_eq!(mixc_reads(dir.path(), input, &["fmt", "-"]).with(0).out, ATTENTION);
    assert!(mixc_reads(dir.path(), input, &["explain", "-"]).with(0).out.contains("flash"));
    assert!(mixc_reads(dir.path(), input, &["opt", "-", "--stage", "lower"]).with(0).out.contains("tile flash"));
    let run = mixc_reads(dir.path(), input, &["run", "-", "--random", "1", "--shape", "T=3"]).with(0);
    assert!(run.out.starts_with("out0: f32[2, 3, 8] ["), "{}", run.out);
    mixc_reads(dir.path(), input, &["compile", "-", "-o", "out", "-q"]).with(0).silent();
    assert!(dir.path().join("out/main.o").is_file());
}

#[test]
fn fmt_is_idempotent_and_checks_without_writing() {
    let dir = workplace();
    let rough =
        "// why\nir 1\ndim T=1..256\n\n\n\nfunc @main(%x:f32[T,8])->f32[T,8]{\n%y=relu %x // after\n return %y\n}\n";
    write(dir.path(), "rough.ir", rough);
    mixc(dir.path(), &["fmt", "--check", "attention.ir"]).with(0).silent();
    mixc(dir.path(), &["fmt", "--check", "attention.ir", "rough.ir"]).with(1).says("rough.ir").silent();
    assert_eq!(read(dir.path(), "rough.ir"), rough, "--check writes nothing");
    mixc(dir.path(), &["fmt", "rough.ir"]).with(0).silent();
    let once = read(dir.path(), "rough.ir");
    assert!(once.contains("// why") && once.contains("%y = relu %x") && once.contains("// after"), "{once}");
    mixc(dir.path(), &["fmt", "rough.ir"]).with(0);
    assert_eq!(read(dir.path(), "rough.ir"), once);
    mixc(dir.path(), &["fmt", "--check", "rough.ir"]).with(0);
    // What does not parse stays as it is.
    write(dir.path(), "broken.ir", "func @main(");
    mixc(dir.path(), &["fmt", "broken.ir"]).with(1).says("broken.ir");
    assert_eq!(read(dir.path(), "broken.ir"), "func @main(");
}

#[test]
fn every_stage_can_be_printed() {
    let dir = workplace();
    for (stage, part) in [
        ("parse", "func @"),
        ("expand", "func @"),
        ("rewrite", "func @"),
        ("lower", "tile flash"),
        ("fuse", "tile flash"),
        ("tile", "tile flash"),
        ("plan", ""),
        ("emit", "attention_run"),
    ] {
        let ended = mixc(dir.path(), &["opt", "attention.ir", "--stage", stage]).with(0);
        assert!(ended.out.contains(part) && ended.err.is_empty(), "{stage}: {ended:#?}");
    }
    // A printed program is a program.
    let printed = mixc(dir.path(), &["opt", "attention.ir", "--stage", "rewrite"]).with(0);
    mixc_reads(dir.path(), printed.out.as_bytes(), &["check", "-"]).with(0);
}

#[test]
fn what_is_not_here_exits_with_5() {
    let dir = workplace();
    // A machine that has a GPU has what this asks for.
    if mixc::runs_here("cuda").is_ok() {
        return;
    }
    let run: &[&str] = &["run", "attention.ir", "--random", "1"];
    let compile: &[&str] = &["compile", "attention.ir", "-o", "x"];
    for (target, arguments) in [("cuda", run), ("cuda", compile), ("cuda:sm_90a", run)] {
        let with_target: Vec<&str> = arguments.iter().copied().chain(["--target", target]).collect();
        mixc(dir.path(), &with_target).with(5).says("CUDA").silent();
    }
    let foreign = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86-64-v3" };
    mixc(dir.path(), &["run", "attention.ir", "--random", "1", "--target", foreign]).with(5).silent();
    let from_environment = command(dir.path(), &["run", "attention.ir", "--random", "1"])
        .env("MIXC_TARGET", "cuda")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    assert_eq!(from_environment.status.code(), Some(5));
}

#[test]
fn cuda_source_needs_no_gpu() {
    let dir = workplace();
    for target in ["cuda", "cuda:emu", "cuda:sm_80"] {
        let arguments = ["compile", "attention.ir", "-o", "x", "--target", target, "--emit", "cu,manifest"];
        mixc(dir.path(), &arguments).with(0);
        let text = std::fs::read_to_string(dir.path().join("x/attention.cu")).expect("it was written");
        assert!(text.contains("MX_KERNEL(attention_step0_flash, 128)") && text.contains("mx_barrier();"));
        let manifest = std::fs::read_to_string(dir.path().join("x/attention.json")).expect("it was written");
        assert!(manifest.contains("\"kernel\": \"attention_step0_flash\""), "{manifest}");
    }
    mixc(dir.path(), &["compile", "attention.ir", "-o", "x", "--target", "cuda:sm_80"]).with(0);
    mixc(dir.path(), &["compile", "attention.ir", "-o", "x", "--target", "cuda:sm_80", "--emit", "obj"]).with(2);
    mixc(dir.path(), &["compile", "attention.ir", "-o", "x", "--target", "cuda:sm_12", "--emit", "cu"]).with(2);
}

#[test]
fn the_catalogue_lists_every_operation_and_form() {
    let dir = workplace();
    let all = mixc(dir.path(), &["forms"]).with(0);
    for op in mixc::ir::ops::all() {
        assert!(all.out.contains(&format!("\n  {} ", op.name)), "{}", op.name);
        let one = mixc(dir.path(), &["forms", op.name]).with(0);
        assert!(one.out.contains(op.name) && one.out.contains("func @"), "{}", one.out);
    }
    for (form, _) in mixc::forms() {
        assert!(all.out.contains(&format!("\n  {form}: ")), "{form}");
        mixc(dir.path(), &["forms", form]).with(0);
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let dir = workplace();
    let long: String = (0..20_000).map(|k| format!("  %y{k} = neg %x\n")).collect();
    write(dir.path(), "long.ir", format!("func @main(%x: f32[2]) -> f32[2] {{\n{long}  return %x\n}}\n"));
    for arguments in [&["forms"][..], &["forms", "--format", "json"], &["opt", "long.ir", "--stage", "parse"]] {
        let mut child = command(dir.path(), arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut out = child.stdout.take().expect("it is piped");
        let mut first = [0; 16];
        out.read_exact(&mut first).expect("something is printed");
        drop(out);
        let ended = child.wait_with_output().expect("the binary ends");
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{arguments:?}");
    }
}

#[test]
fn streams_that_are_no_terminal_have_no_colour_or_progress() {
    let dir = workplace();
    for no_color in [false, true] {
        for arguments in
            [&["check", "bad.ir"][..], &["run", "attention.ir", "--random", "1"], &["bench", "attention.ir"]]
        {
            write(dir.path(), "bad.ir", "func @main(");
            let mut c = command(dir.path(), arguments);
            if no_color {
                c.env("NO_COLOR", "1");
            }
            let ended = c.stdin(Stdio::null()).output().expect("the binary runs");
            assert!(!ended.stdout.contains(&0x1b) && !ended.stderr.contains(&0x1b), "{arguments:?}");
            assert!(!ended.stderr.contains(&b'\r'), "{arguments:?}");
        }
    }
}

#[test]
fn quiet_says_nothing_but_errors() {
    let dir = workplace();
    let quiet = mixc(dir.path(), &["-q", "run", "attention.ir", "--random", "1", "--check"]).with(0);
    assert_eq!(quiet.err, "");
    let loud = mixc(dir.path(), &["run", "attention.ir", "--random", "1", "--check"]).with(0);
    loud.says("compiled in").says("agrees with the reference");
    let compile = mixc(dir.path(), &["compile", "attention.ir", "-o", "out", "-q"]).with(0);
    assert_eq!((compile.out, compile.err), (String::new(), String::new()));
    mixc(dir.path(), &["-q", "check", "missing.ir"]).with(1).says("missing.ir");
}
