//! What other programs read: fields by name and kind. Fields may be added, so only those that are promised are looked at.

use super::{ATTENTION, mixc, workplace, write};
use serde_json::Value;

/// The value has these fields of these kinds.
#[track_caller]
fn has(v: &Value, fields: &[(&str, fn(&Value) -> bool)]) {
    for (name, kind) in fields {
        assert!(v.get(name).is_some_and(kind), "`{name}` is missing or of another kind in {v:#}");
    }
}

const TEXT: fn(&Value) -> bool = Value::is_string;
const NUMBER: fn(&Value) -> bool = Value::is_number;
const LIST: fn(&Value) -> bool = Value::is_array;
const OBJECT: fn(&Value) -> bool = Value::is_object;
const TRUTH: fn(&Value) -> bool = Value::is_boolean;

fn list<'v>(v: &'v Value, name: &str) -> &'v [Value] {
    v[name].as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn explain_has_the_promised_fields() {
    let dir = workplace();
    let e = mixc(dir.path(), &["explain", "attention.ir", "--format", "json"]).with(0).json();
    has(&e, &[("model", TEXT), ("target", TEXT), ("approx", LIST), ("rules", LIST), ("kernels", LIST)]);
    has(&e, &[("candidates", LIST), ("memory", OBJECT)]);
    has(&e["memory"], &[("arena_bytes", NUMBER), ("max_live_bytes", NUMBER), ("planner", TEXT)]);
    assert_eq!((&e["model"], &e["target"]), (&Value::from("attention"), &Value::from("native")));
    assert!(!list(&e, "kernels").is_empty());
    for k in list(&e, "kernels") {
        has(k, &[("name", TEXT), ("form", TEXT), ("site", TEXT), ("layers", LIST), ("tile", OBJECT)]);
        has(k, &[("flops", NUMBER), ("bytes", OBJECT), ("bytes_bound", OBJECT), ("cost_us", NUMBER)]);
        assert!(mixc::forms().iter().any(|(f, _)| k["form"] == *f), "{k}");
        assert!(k["site"].as_str().is_some_and(|s| s.starts_with('%')), "{k}");
        assert!(k["cost_us"].as_f64() > Some(0.0) && k["flops"].as_f64() > Some(0.0), "{k}");
    }
    assert_eq!(list(&e, "candidates").iter().filter(|c| c["chosen"] == true).count(), list(&e, "kernels").len());
    for c in list(&e, "candidates") {
        has(c, &[("site", TEXT), ("form", TEXT), ("cost_us", NUMBER), ("chosen", TRUTH)]);
    }
    write(
        dir.path(),
        "products.ir",
        "dim T = 1..9999\nfunc @main(%q: f32[T, 8], %k: f32[T, 8], %v: f32[T, 8]) -> f32[T, 8] {\n  %s = matmul %q, %k {transpose_b}\n  %y = matmul %s, %v\n  return %y\n}\n",
    );
    let e = mixc(dir.path(), &["explain", "products.ir", "--format", "json", "--shape", "T=4096"]).with(0).json();
    assert!(!list(&e, "rules").is_empty(), "{e:#}");
    for r in list(&e, "rules") {
        has(r, &[("name", TEXT), ("exact", TRUTH)]);
        assert_eq!(r["exact"], true, "nothing approximate without leave");
    }
}

#[test]
fn bench_has_the_promised_fields() {
    let dir = workplace();
    let arguments = ["bench", "attention.ir", "--format", "json", "--shape", "T=32", "--threads", "1", "--runs", "3"];
    let b = mixc(dir.path(), &arguments).with(0).json();
    has(&b, &[("model", TEXT), ("target", TEXT), ("shape", OBJECT), ("threads", NUMBER), ("runs", NUMBER)]);
    has(&b, &[("median_ms", NUMBER), ("min_ms", NUMBER), ("mad_ms", NUMBER), ("gflops", NUMBER)]);
    has(&b, &[("peak_gflops", NUMBER), ("gbs", NUMBER), ("kernels", LIST)]);
    assert_eq!((&b["shape"]["T"], &b["threads"]), (&Value::from(32), &Value::from(1)));
    assert!(b["min_ms"].as_f64() <= b["median_ms"].as_f64() && b["min_ms"].as_f64() > Some(0.0), "{b:#}");
    assert!(b["runs"].as_u64() >= Some(3), "{b:#}");
    for k in list(&b, "kernels") {
        has(k, &[("name", TEXT), ("form", TEXT)]);
    }
}

#[test]
fn check_lists_findings_with_places() {
    let dir = workplace();
    let none = mixc(dir.path(), &["check", "attention.ir", "--format", "json"]).with(0);
    assert_eq!((none.json(), none.err.as_str()), (serde_json::json!({ "errors": [] }), ""));
    write(dir.path(), "a.ir", ATTENTION.replace("= softmax", "= sofmax"));
    write(dir.path(), "b.ir", ATTENTION.replace("%q, %k {", "%q, %zz {"));
    let found = mixc(dir.path(), &["check", "a.ir", "b.ir", "--format", "json"]).with(1);
    assert_eq!(found.err, "", "the findings are on standard output");
    let errors = found.json();
    let errors = list(&errors, "errors");
    assert_eq!(errors.len(), 2, "{errors:#?}");
    for e in errors {
        has(e, &[("code", TEXT), ("message", TEXT), ("file", TEXT), ("line", NUMBER), ("column", NUMBER)]);
        has(e, &[("length", NUMBER), ("help", |h| h.is_string() || h.is_null())]);
    }
    let place = |e: &Value| (e["file"].clone(), e["line"].clone(), e["column"].clone(), e["length"].clone());
    assert_eq!(place(&errors[0]), ("a.ir".into(), 7.into(), 8.into(), 6.into()));
    assert_eq!(place(&errors[1]), ("b.ir".into(), 5.into(), 17.into(), 3.into()));
}

#[test]
fn info_has_targets_peaks_caches_and_devices() {
    let dir = workplace();
    let i = mixc(dir.path(), &["info", "--format", "json"]).with(0).json();
    has(&i, &[("targets", LIST), ("peaks", OBJECT), ("caches", LIST), ("devices", LIST), ("version", TEXT)]);
    for d in list(&i, "devices") {
        has(d, &[("name", TEXT), ("available", TRUTH)]);
        assert!(d["available"] == true || d["reason"].is_string(), "{d}");
    }
    for t in list(&i, "targets") {
        has(t, &[("name", TEXT), ("runs_here", TRUTH)]);
        assert!(t["runs_here"] == true || t["reason"].is_string(), "{t}");
    }
    let text = mixc(dir.path(), &["info"]).with(0);
    assert!(text.out.contains("native") && text.out.contains("cuda"), "{}", text.out);
}

#[test]
fn the_catalogue_is_readable_by_programs() {
    let dir = workplace();
    let all = mixc(dir.path(), &["forms", "--format", "json"]).with(0).json();
    assert_eq!(list(&all, "operations").len(), mixc::ir::ops::all().count());
    assert_eq!(list(&all, "forms").len(), mixc::forms().len());
    let one = mixc(dir.path(), &["forms", "gram", "--format", "json"]).with(0).json();
    has(&one, &[("name", TEXT), ("doc", TEXT), ("operands", LIST), ("attrs", LIST), ("example", TEXT)]);
}

#[test]
fn files_that_cannot_be_read_are_findings() {
    let dir = workplace();
    let value = mixc(dir.path(), &["check", "attention.ir", "nosuch.ir", "--format", "json"]).with(1).json();
    assert_eq!(value["errors"][0]["file"], "nosuch.ir", "{value}");
    assert_eq!(value["errors"][0]["code"], "E0000", "{value}");
}

#[test]
fn an_operator_and_a_form_of_one_name_are_both_shown() {
    let dir = workplace();
    let value = mixc(dir.path(), &["forms", "block_diagonal", "--format", "json"]).with(0).json();
    assert_eq!((&value["name"], &value["form"]["form"]), (&"block_diagonal".into(), &"block_diagonal".into()));
    let text = mixc(dir.path(), &["forms", "monarch"]).with(0).out;
    assert!(text.contains("form monarch: "), "{text}");
}
