//! Model directories that are refused: what is said, and that all of it is said at once.

use crate::encoder::{Encoder, encoder, import, safetensors};
use mixc::{Blob, Error};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::{TempDir, tempdir};

/// The messages of a rejected directory, help included.
fn findings(dir: &Path) -> Vec<String> {
    match import(dir) {
        Err(Error::Rejected { diagnostics, .. }) => {
            assert!(!diagnostics.is_empty());
            diagnostics
                .iter()
                .map(|d| format!("{} {} {}", d.code, d.message, d.help.clone().unwrap_or_default()))
                .collect()
        }
        other => panic!("expected a rejection, found {:?}", other.map(|m| m.file)),
    }
}

fn written(e: &Encoder) -> TempDir {
    let dir = tempdir().expect("a directory");
    e.write(dir.path());
    dir
}

#[track_caller]
fn refused(e: &Encoder, words: &[&str]) {
    let found = findings(written(e).path());
    for word in words {
        assert!(found.iter().any(|m| m.contains(word)), "{word:?} is not in {found:#?}");
    }
    assert_eq!(found.len(), words.len(), "{found:#?}");
}

#[test]
fn missing_files_are_named() {
    let dir = tempdir().expect("a directory");
    for (path, needed) in [("nowhere", "config.json"), ("", "config.json")] {
        match import(&dir.path().join(path)) {
            Err(e @ Error::Io { .. }) => {
                assert!(e.to_string().contains(needed), "{e}");
                assert_eq!(e.exit_code(), 1);
            }
            other => panic!("{:?}", other.map(|m| m.file)),
        }
    }
    encoder().write_config(dir.path());
    match import(dir.path()) {
        Err(e @ Error::Io { .. }) => assert!(e.to_string().contains("model.safetensors"), "{e}"),
        other => panic!("{:?}", other.map(|m| m.file)),
    }
}

#[test]
fn a_configuration_that_is_none_is_refused() {
    let dir = written(&encoder());
    let huge = " ".repeat((16 << 20) + 1);
    let deep = "[".repeat(100_000);
    for text in ["", "{", "[]", "7", "null", "\"bert\"", "{\"model_type\": \"bert\"", "\u{feff}{}", &huge, &deep] {
        std::fs::write(dir.path().join("config.json"), text).expect("writing");
        assert_eq!(findings(dir.path()).len(), 1);
    }
    std::fs::write(dir.path().join("config.json"), b"{\"model_type\": \"\xff\"}").expect("writing");
    assert_eq!(findings(dir.path()).len(), 1);
}

#[test]
fn an_unknown_architecture_is_refused_with_the_known_ones() {
    for kind in [json!("gpt2"), json!(""), json!(3), Value::Null, json!("x".repeat(10_000))] {
        let found = findings(written(&encoder().with("model_type", kind)).path());
        assert!(found.len() == 1 && found[0].starts_with("E0702") && found[0].contains("supported: bert"), "{found:?}");
        assert!(found[0].len() < 200);
    }
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let mut e = encoder()
        .with("hidden_act", "swiglu")
        .with("layer_norm_eps", "small")
        .with("position_embedding_type", "relative_key")
        .with("is_decoder", true);
    e.tensors.remove("encoder.layer.1.output.dense.bias");
    e.tensors.insert("encoder.layer.0.output.dense.bias".into(), Blob::from_f32(&[3], &[1.0; 3]));
    refused(
        &e,
        &[
            "hidden_act",
            "layer_norm_eps",
            "position_embedding_type",
            "is_decoder",
            "`encoder.layer.1.output.dense.bias` is not in",
            "`encoder.layer.0.output.dense.bias` has shape [3], the configuration says [10]",
        ],
    );
}

#[test]
fn sizes_that_are_none_are_refused() {
    for value in [json!(0), json!(-3), json!(1.5), json!("10"), Value::Null, json!(u64::MAX), json!([10])] {
        let found = findings(written(&encoder().with("vocab_size", value.clone())).path());
        assert!(found.iter().any(|m| m.contains("`vocab_size` must be")), "{value}: {found:?}");
    }
    refused(&encoder().with("num_attention_heads", 3), &["hidden_size 10 is not a multiple of num_attention_heads 3"]);
}

#[test]
fn more_layers_than_are_stored_are_one_problem() {
    for layers in [3u32, (1 << 31) - 1] {
        refused(&encoder().with("num_hidden_layers", layers), &["the files hold nothing of layer 2"]);
    }
}

#[test]
fn element_types_without_a_reading_are_refused() {
    let mut e = encoder();
    let name = "encoder.layer.0.output.dense.bias";
    e.tensors.insert(name.into(), e.tensors[name].to_tensor().to_blob(mixc::ir::dtype::DType::F64));
    refused(&e, &["`encoder.layer.0.output.dense.bias` holds f64"]);
}

/// A file of weights cut at any place, or with a header that lies about what follows, is refused and never read past.
#[test]
fn damaged_weights_are_refused() {
    let dir = written(&encoder());
    let path = dir.path().join("model.safetensors");
    let whole = std::fs::read(&path).expect("the weights");
    let header = u64::from_le_bytes(whole[..8].try_into().expect("eight bytes")) as usize;
    for length in [0, 1, 7, 8, 9, 8 + header / 2, 8 + header - 1, 8 + header, 8 + header + 1, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).expect("writing");
        assert!(findings(dir.path())[0].starts_with("E04"), "{length} bytes");
    }
    let mut longer = whole.clone();
    longer.push(0);
    std::fs::write(&path, &longer).expect("writing");
    findings(dir.path());
    for length in [u64::MAX, 1 << 40, header as u64 + 1, header as u64 - 1, 0] {
        let mut lying = whole.clone();
        lying[..8].copy_from_slice(&length.to_le_bytes());
        std::fs::write(&path, &lying).expect("writing");
        findings(dir.path());
    }
    let text = std::str::from_utf8(&whole[8..8 + header]).expect("a header is text");
    for (from, to) in
        [("\"shape\":[10]", "\"shape\":[11]"), ("\"F32\"", "\"F99\""), ("\"data_offsets\":[0,", "\"data_offsets\":[4,")]
    {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let mut lying = (changed.len() as u64).to_le_bytes().to_vec();
        lying.extend(changed.bytes());
        lying.extend(&whole[8 + header..]);
        std::fs::write(&path, &lying).expect("writing");
        findings(dir.path());
    }
}

/// Damaged weights do not hide what is wrong with the configuration.
#[test]
fn damaged_weights_and_a_wrong_configuration_are_reported_together() {
    let dir = written(&encoder().with("hidden_act", "swiglu").with("num_hidden_layers", 1u32 << 30));
    std::fs::write(dir.path().join("model.safetensors"), b"short").expect("writing");
    let found = findings(dir.path());
    assert!(found.iter().any(|m| m.contains("no safetensors file")), "{found:?}");
    assert!(found.iter().any(|m| m.contains("hidden_act")), "{found:?}");
    assert!(found.len() < 5, "{found:?}");
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_refused() {
    let dir = tempdir().expect("a directory");
    let e = encoder();
    e.write_config(dir.path());
    let index = |map: Value| {
        let text = json!({ "weight_map": map }).to_string();
        std::fs::write(dir.path().join("model.safetensors.index.json"), text).expect("writing");
    };
    std::fs::write(dir.path().join("a.safetensors"), safetensors(&e.tensors)).expect("writing");
    std::fs::write(dir.path().join("b.safetensors"), safetensors(&e.tensors)).expect("writing");
    for (map, word) in [
        (json!({ "x": "missing.safetensors" }), "missing"),
        (json!({ "x": "../a.safetensors" }), "not the name of a file beside it"),
        (json!({ "x": "/a.safetensors" }), "not the name of a file beside it"),
        (json!({ "x": 3 }), "does not parse"),
        (json!({ "x": "a.safetensors", "y": "b.safetensors" }), "is in another file too"),
        (json!({}), "embeddings.word_embeddings.weight"),
    ] {
        index(map.clone());
        let found = findings(dir.path());
        assert!(found.iter().any(|m| m.contains(word)), "{map}: {found:?}");
    }
}
