//! Broken and absurd programs: rejected with a place, at once, never a panic, never memory without bound.

use super::{ATTENTION, Ended, mixc, mixc_reads, workplace, write};
use std::time::{Duration, Instant};

/// Rejected: exit code 1, a code on standard error, nothing on standard output.
#[track_caller]
fn rejected(ended: Ended, code: &str) {
    ended.with(1).says(code).silent();
}

fn program(ty: &str) -> String {
    format!("func @main(%x: {ty}) -> {ty} {{\n  return %x\n}}\n")
}

#[test]
fn absurd_sizes_are_rejected() {
    let dir = workplace();
    for (ty, code) in [
        ("f32[4611686018427387904]", "E0506"),
        ("f32[9223372036854775807]", "E0506"),
        ("f32[99999999999999999999]", "E0004"),
        ("f32[2147483648, 2147483648, 2147483648]", "E0506"),
        ("f32[4294967296, 4294967296, 4294967296, 4294967296]", "E0506"),
        ("f32[9223372036854775807 * 2]", "E0501"),
        ("f32[9223372036854775807 + 1]", "E0501"),
        ("f32[4 / 0]", "E0501"),
        ("f32[-1]", "E0510"),
    ] {
        let ended = mixc_reads(dir.path(), program(ty).as_bytes(), &["check", "-"]);
        assert_eq!(ended.code, 1, "{ty}: {ended:#?}");
        assert!(ended.err.contains(code), "{ty}: {ended:#?}");
    }
    for n in ["4611686018427387904", "9223372036854775807"] {
        let shape = format!("T={n}");
        let ended = mixc(dir.path(), &["run", "attention.ir", "--random", "1", "--shape", &shape]).with(2).silent();
        ended.says("1..256");
        mixc(dir.path(), &["bench", "attention.ir", "--shape", &shape]).with(2).silent();
        mixc(dir.path(), &["compile", "attention.ir", "-o", "x", "--shape", &shape]).with(2).silent();
    }
    // Within its bounds, and still more than anybody has.
    write(dir.path(), "wide.ir", format!("dim T = 0..1099511627775\n{}", program("f32[T]")));
    mixc(dir.path(), &["check", "wide.ir"]).with(0);
    mixc(dir.path(), &["run", "wide.ir", "--random", "1", "--shape", "T=1099511627775"])
        .with(2)
        .silent()
        .says("elements");
}

#[test]
fn a_million_parentheses_take_no_second() {
    let dir = workplace();
    let n = 1_000_000;
    let deep = format!("dim T = {}1{}\n", "(".repeat(n), ")".repeat(n));
    let lists = format!("func @main() -> f32[] {{\n  const %x = dense {}\n", "[".repeat(n));
    let attributes = format!("func @main(%x: f32[2]) -> f32[2] {{\n  %y = neg %x {{a = {}\n", "[".repeat(n));
    for text in [deep, lists, attributes] {
        write(dir.path(), "deep.ir", &text);
        // The best of three: the machine may be busy.
        let time = || {
            let started = Instant::now();
            rejected(mixc(dir.path(), &["check", "deep.ir"]), "E0007");
            started.elapsed()
        };
        let best = (0..3).map(|_| time()).min().unwrap_or_default();
        assert!(best < Duration::from_secs(1), "{best:?} for {:?}...", &text[..40]);
    }
}

#[test]
fn a_file_above_the_limit_is_not_read() {
    let dir = workplace();
    let limit = mixc::text_size_limit() as usize;
    let mut text = ATTENTION.to_string();
    text.push_str("//");
    text.push_str(&"x".repeat(limit - text.len() - 1));
    text.push('\n');
    assert_eq!(text.len(), limit);
    write(dir.path(), "whole.ir", &text);
    mixc(dir.path(), &["check", "whole.ir"]).with(0);
    text.push('\n');
    write(dir.path(), "above.ir", &text);
    rejected(mixc(dir.path(), &["check", "above.ir"]), "E0008");
    rejected(mixc_reads(dir.path(), text.as_bytes(), &["check", "-"]), "E0008");
    rejected(mixc(dir.path(), &["run", "above.ir", "--random", "1"]), "E0008");
}

#[test]
fn what_is_no_text_is_rejected() {
    let dir = workplace();
    for bytes in [&b"\xff\xfe"[..], b"ir 1\n\x80", &[0xf0, 0x9f], b"\x7fELF\x02\x01\x01\xb7"] {
        write(dir.path(), "bytes.ir", bytes);
        rejected(mixc(dir.path(), &["check", "bytes.ir"]), "E0009");
    }
    mixc(dir.path(), &["check", "."]).with(1);
    mixc(dir.path(), &["check", "nosuch.ir"]).with(1).says("nosuch.ir");
    rejected(mixc_reads(dir.path(), b"", &["check", "-"]), "E0106");
}

#[test]
fn a_program_cut_anywhere_is_rejected_and_never_a_bug() {
    let dir = workplace();
    for cut in (0..ATTENTION.len() - 3).step_by(7) {
        let ended = mixc_reads(dir.path(), &ATTENTION.as_bytes()[..cut], &["check", "-"]);
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "cut at {cut}: {ended:#?}");
    }
}

#[test]
fn control_characters_of_the_input_do_not_reach_the_terminal() {
    let dir = workplace();
    write(dir.path(), "escape.ir", "func @main(%x: f32[2]) -> f32[2] {\n  %y = \u{1b}[2J %x \u{7}\n  return %x\n}\n");
    let ended = mixc(dir.path(), &["check", "escape.ir"]).with(1);
    assert!(!ended.err.contains('\u{1b}') && !ended.err.contains('\u{7}'), "{:?}", ended.err);
}

#[test]
fn an_output_that_cannot_be_written_is_said() {
    let dir = workplace();
    write(dir.path(), "file", "");
    mixc(dir.path(), &["compile", "attention.ir", "-o", "file/out"]).with(1).says("file").silent();
    let run = ["run", "attention.ir", "--random", "1", "--output", "nosuch/out.safetensors"];
    mixc(dir.path(), &run).with(1).says("nosuch").silent();
    mixc(dir.path(), &["import", "hf", "nosuch", "-o", "-"]).with(1).silent();
    assert_eq!(super::read(dir.path(), "attention.ir"), ATTENTION);
}

#[test]
fn a_model_that_cannot_be_imported_is_said_in_full() {
    let dir = workplace();
    let home = dir.path().join("model");
    std::fs::create_dir(&home).expect("it is made");
    let import = ["import", "hf", "model", "-o", "model.ir"];
    for (config, code) in [
        ("", "E0701"),
        ("[]", "E0701"),
        ("{\"model_type\": 3}", "E0702"),
        ("{\"model_type\": \"nosuch\"}", "E0702"),
        ("{\"hidden_size\": 8}", "E0702"),
    ] {
        write(&home, "config.json", config);
        rejected(mixc(dir.path(), &import), code);
    }
    write(&home, "config.json", "{\"model_type\": \"bert\"}");
    mixc(dir.path(), &import).with(1).says("model.safetensors").silent();
    assert!(!dir.path().join("model.ir").exists());
}
