//! What the verifier accepts, what it says of everything else, and where it says it.

use super::codes::{CODES, Example};
use super::*;
use crate::diag::Span;
use crate::program::{NodeKind, ValueId};
use crate::text::{print_program, source};
use crate::weights::{self, Index, Weights};

fn found(source: &str) -> Vec<Diagnostic> {
    match check(source) {
        Ok(_) => panic!("accepted:\n{}", crate::text::shorten(source)),
        Err(found) => found,
    }
}

fn codes(source: &str) -> Vec<&'static str> {
    found(source).iter().map(|d| d.code).collect()
}

fn at(source: &str, span: Option<Span>) -> &str {
    let span = span.expect("a place");
    &source[span.start as usize..span.end as usize]
}

/// Two programs say the same, whatever the places they were written at.
fn assert_same(a: &Program, b: &Program) {
    assert_eq!((&a.name, &a.dims, &a.weights), (&b.name, &b.dims, &b.weights));
    assert_eq!((&a.params, &a.results), (&b.params, &b.results));
    let value = |p: &Program, k: usize| {
        let v = &p.values[k];
        (v.name.clone(), v.ty.clone(), v.structure.clone())
    };
    assert_eq!(a.values.len(), b.values.len());
    for k in 0..a.values.len() {
        assert_eq!(value(a, k), value(b, k));
    }
    assert_eq!(a.nodes.len(), b.nodes.len());
    for (x, y) in a.nodes.iter().zip(&b.nodes) {
        assert_eq!((&x.operands, &x.attrs, &x.results, x.op_name()), (&y.operands, &y.attrs, &y.results, y.op_name()));
        if let (NodeKind::Const(x), NodeKind::Const(y)) = (&x.kind, &y.kind) {
            // NaN is equal to itself here.
            assert_eq!(format!("{x:?}"), format!("{y:?}"));
        }
    }
}

fn assert_survives(program: &Program) {
    let text = print_program(program);
    let back = check(&text).unwrap_or_else(|e| panic!("{e:#?}\n{text}"));
    assert_same(program, &back);
    assert_eq!(crate::text::format(&text).unwrap(), text);
}

#[test]
fn every_code_is_shown_by_its_example() {
    for (k, code) in CODES.iter().enumerate() {
        assert!(k == 0 || CODES[k - 1].code < code.code, "{} is out of order", code.code);
        let found = match code.example {
            Example::Text(text) => found(text),
            Example::Long(make) => found(&make()),
            Example::Bytes(bytes) => check_bytes(bytes).expect_err("wrong bytes"),
            Example::Weights(text, header, data) => {
                let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
                bytes.extend(header.as_bytes());
                bytes.resize(bytes.len() + data, 0);
                match Weights::read(&[("w.safetensors", &bytes)]) {
                    Err(found) => found,
                    Ok(weights) => weights::check(&check(text).unwrap(), &weights),
                }
            }
            Example::Index(text) => Index::read("index.json", text.as_bytes(), &|_| false).expect_err("wrong index"),
        };
        let codes: Vec<&str> = found.iter().map(|d| d.code).collect();
        assert_eq!(codes, [code.code], "{}: {found:#?}", code.meaning);
    }
}

#[test]
fn every_code_in_use_is_in_the_table() {
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
        codes_of(&file.unwrap().path());
    }
}

fn codes_of(path: &std::path::Path) {
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|file| codes_of(&file.unwrap().path()));
        return;
    }
    let text = std::fs::read_to_string(path).unwrap();
    for (k, _) in text.match_indices("\"E0") {
        let code = &text[k + 1..(k + 6).min(text.len())];
        if !code[1..].bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        assert!(CODES.iter().any(|c| c.code == code), "{code} of {} is not in the table", path.display());
    }
}

#[test]
fn all_errors_come_at_once_in_order_and_none_twice() {
    let text = "\
dim T = 1..8
dim T = 1..9
func @unused(%x: f32[2]) -> f32[2] {
  %y = ad %x, %x
  return %nothing
}
func @twice(%x: f32[T, 2]) -> f32[T, 2] {
  %y = add %x, %missing
  %z = add %y, %y {flag}
  return %z
}
func @main(%x: f32[T, 2], %w: f32[3]) -> f32[T, 2] {
  %a = call @twice(%x)
  %b = call @twice(%a)
  %c = add %x, %w
  %d = add %c, %c
  %e = add %d, %ee
  %f = $
  %g = add %f, %x
  return %g
}
";
    let found = found(text);
    let shown: Vec<(&str, &str)> = found.iter().map(|d| (d.code, at(text, d.span))).collect();
    let expected = [
        ("E0503", "T"),
        ("E0103", "ad"),
        ("E0101", "%nothing"),
        ("E0101", "%missing"),
        ("E0301", "flag"),
        ("E0202", "%w"),
        ("E0101", "%ee"),
        ("E0001", "$"),
    ];
    assert_eq!(shown, expected, "{found:#?}");
}

#[test]
fn places_are_the_smallest_that_are_wrong() {
    for (line, code, place) in [
        ("%y = gram %q, %k {scale = [1]}", "E0302", "[1]"),
        ("%y = gram %q, %k {scal = 1.0}", "E0301", "scal"),
        ("%y = gram %q, %v", "E0202", "%v"),
        ("%y = gram %q, _", "E0105", "gram"),
        ("%y = gram %q, %k : mix f32[T, 9]", "E0203", "mix f32[T, 9]"),
        ("%y = gram %q, %k : mix f32[T, U]", "E0502", "U"),
        ("%y = gram %q, %k : mix f32[T/0, T]", "E0501", "T/0"),
        ("const %y = dense [[1.0, 2.0], [3.0, true]] : f32[2, 2]", "E0210", "true"),
        ("const %y = dense [[1.0, 2.0], [3.0]] : f32[2, 2]", "E0209", "[3.0]"),
        ("const %y = splat 0.5 : i32[2, T]", "E0210", "0.5"),
        ("%y = call @man(%q)", "E0104", "@man"),
        ("%q = add %k, %k", "E0102", "%q"),
    ] {
        let text = format!(
            "dim T = 1..8\nfunc @main(%q: f32[T, 4], %k: f32[T, 4], %v: f32[T, 5]) -> f32[T, 4] {{\n  {line}\n  return %q\n}}\n"
        );
        let found = found(&text);
        assert_eq!((found.len(), found[0].code, at(&text, found[0].span)), (1, code, place), "{line}: {found:#?}");
    }
}

#[test]
fn wrong_names_get_the_nearest_right_one() {
    for (line, help) in [
        ("%y = gramm %query, %key", "did you mean `gram`?"),
        ("%y = gram %qury, %key", "did you mean `%query`?"),
        ("%y = call @hepler(%query)", "did you mean `@helper`?"),
        ("%y = helper %query", "a function is called: `call @helper(...)`"),
        ("%y = gram %query, %key {scal = 1.0}", "did you mean `scale`?"),
        ("%y = gram %query, %key : mix f32[Tokn, Token]", "did you mean `Token`?"),
        ("const %y = splat 1.0 : f31[2]", "did you mean `f32`?"),
    ] {
        let text = format!(
            "dim Token = 1..8\nfunc @helper(%x: f32[2]) -> f32[2] {{\n  return %x\n}}\n\
             func @main(%query: f32[Token, 4], %key: f32[Token, 4]) -> f32[Token, 4] {{\n  {line}\n  return %query\n}}\n"
        );
        assert_eq!(found(&text)[0].help.as_deref(), Some(help), "{line}");
    }
    let later = "func @f(%x: f32[2]) -> f32[2] {\n  %a = add %x, %b\n  %b = add %x, %x\n  return %a\n}\n";
    assert!(found(later)[0].message.contains("before it is defined"));
}

#[test]
fn calls_are_inlined_under_names_of_their_own() {
    let text = "\
dim T = 1..8
func @inner(%x: f32[T]) -> f32[T] {
  %h = add %x, %x
  %r = add %h, %x
  return %r
}
func @layer(%x: f32[T]) -> (f32[T], f32[T]) {
  %h = call @inner(%x)
  return %h, %x
}
func @main(%x: f32[T]) -> f32[T] {
  %a, %same = call @layer(%x)
  %b, %a1 = call @layer(%a)
  %inner.h = add %b, %a1
  return %inner.h
}
";
    let program = check(text).unwrap();
    let names: Vec<&str> = program.values.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["x", "inner.h.2", "a", "inner.h.3", "b", "inner.h"]);
    assert_eq!(program.nodes[4].operands, [Some(ValueId(4)), Some(ValueId(2))]);
    assert_survives(&program);
}

#[test]
fn recursion_is_named_and_its_callers_are_still_checked() {
    let text = "\
func @main(%x: f32[2]) -> f32[2] {
  %y = call @a(%x)
  %z = add %x, %q
  return %y
}
func @a(%x: f32[2]) -> f32[2] {
  %y = call @b(%x)
  return %y
}
func @b(%x: f32[2]) -> f32[2] {
  %y = call @c(%x)
  %z = call @a(%x)
  return %z
}
func @c(%x: f32[2]) -> f32[2] {
  return %x
}
";
    let found = found(text);
    let shown: Vec<(&str, &str)> = found.iter().map(|d| (d.code, at(text, d.span))).collect();
    assert_eq!(shown, [("E0101", "%q"), ("E0108", "@b")], "{found:#?}");
    assert!(found[1].message.contains("@a -> @b -> @a"), "{}", found[1].message);
}

#[test]
fn long_chains_of_calls_need_no_deep_stack() {
    let n = 10_000;
    let mut text = String::new();
    for k in 0..n {
        text.push_str(&format!("func @f{k}(%x: f32[2]) -> f32[2] {{\n  %y = call @f{}(%x)\n  return %y\n}}\n", k + 1));
    }
    text.push_str(&format!("func @f{n}(%x: f32[2]) -> f32[2] {{\n  %y = add %x, %x\n  return %y\n}}\n"));
    let main = text.replace("@f0(", "@main(");
    assert_eq!(check(&main).unwrap().nodes.len(), 1);
    let cycle = main.replace("%y = add %x, %x", "%y = call @main(%x)");
    assert_eq!(codes(&cycle), ["E0108"]);
}

#[test]
fn programs_survive_printing_and_verifying() {
    let text = "\
ir 1
weights \"a.safetensors\", \"b \\\"c\\\"\"
dim T = 16..8192
dim P = 0..99
func @main(%x: f32[2*T+P, 4], %p: f32[P], %n: f32[T/16], %m: f32[ceil((T+3)/8), 2*(T/16)*P]) -> (f32[2*T+P, 4], f32[P]) {
  const %w = weight \"w.0\" : f32[4, 4]
  const %inf = splat -inf : f32[T, 2]
  const %nan = splat nan : f64[]
  const %i = dense [[1, -2], [3, 9007199254740992]] : i64[2, 2]
  const %b = dense [true, false] : bool[2]
  const %none = dense [[], []] : f16[2, 0, 3]
  const %tiny = dense [1e-45, 0.1, -0.0, 3.4028234663852886e38] : f32[4]
  %g = gram %x, %x {scale = 1e-5}
  %s = softmax %g, _
  %y = apply %s, %x : f32[P+2*T, 4]
  return %y, %p
}
";
    let program = check(text).unwrap_or_else(|e| panic!("{e:#?}"));
    assert_survives(&program);
    assert_eq!(program.nodes[8].operands.len(), 1);
}

#[test]
fn examples_of_all_operations_survive() {
    for op in crate::ops::all() {
        match check(op.example) {
            Ok(program) => assert_survives(&program),
            Err(found) => panic!("{}: {found:#?}", op.name),
        }
    }
}

#[test]
fn dims_follow_from_shapes() {
    let text = "\
dim T = 1..64
dim P = 0..9
dim K = 1..99
func @main(%x: f32[T, 2], %y: f32[P+T], %z: f32[(K+P)/3, T]) -> f32[T, 2] {
  return %x
}
";
    let program = check(text).unwrap();
    let order: Vec<String> = dim_sources(&program).iter().map(|s| s.symbol.to_string()).collect();
    assert_eq!(order, ["T", "P", "K"]);
    let values = bind_dims(&program, &[&[5, 2], &[7], &[4, 5]]).unwrap();
    assert_eq!(values.into_values().collect::<Vec<_>>(), [10, 2, 5]);
    for (shapes, message) in [
        ([&[5, 2][..], &[4], &[4, 5]], "outside its bounds"),
        ([&[5, 3], &[7], &[4, 5]], "expected `2`"),
        ([&[5, 2], &[7], &[4, 6]], "expected `T`"),
        ([&[5], &[7], &[4, 5]], "has shape [5]"),
        ([&[65, 2], &[65], &[4, 65]], "outside its bounds 1..64"),
    ] {
        let wrong = bind_dims(&program, &shapes).unwrap_err();
        assert!(wrong.iter().any(|w| w.contains(message)), "{message}: {wrong:?}");
    }
    assert_eq!(
        codes("dim T = 1..2\ndim P = 1..2\nfunc @f(%x: f32[P+T]) -> f32[P+T] {\n  return %x\n}\n"),
        ["E0505", "E0505"]
    );
}

#[test]
fn expressions_that_blow_up_are_refused() {
    let started = std::time::Instant::now();
    let dims: String = (0..40).map(|k| format!("dim D{k} = 1..2\n")).collect();
    let sum: Vec<String> = (0..40).map(|k| format!("D{k}")).collect();
    let power = format!("({})", sum[..8].join("+"));
    let powers = vec![power.clone(); 20].join("*");
    let nested = (0..30).fold("D0".to_string(), |d, _| format!("ceil({d}/2)"));
    for dim in [sum.join("+"), powers, nested, format!("{power}, {power}, {power}, {power}")] {
        let text = format!("{dims}func @f(%x: f32[{dim}]) -> f32[2] {{\n  return %x\n}}\n");
        assert!(codes(&text).contains(&"E0508"), "{dim}");
    }
    assert!(started.elapsed().as_secs() < 10);
}

#[test]
fn large_files_and_large_expansions_end_soon() {
    let started = std::time::Instant::now();
    let n = 100_000;
    let long: String = (0..n).map(|k| format!("  %y{} = add %y{k}, %y{k}\n", k + 1)).collect();
    let text = format!("func @main(%y0: f32[2]) -> f32[2] {{\n{long}  return %y{n}\n}}\n");
    assert_eq!(check(&text).unwrap().nodes.len(), n);
    let undefined = text.replace("%y0:", "%z0:").replace("add %y", "add %missing");
    assert!(found(&undefined).len() <= limits::MAX_DIAGNOSTICS);

    // Functions that call each other twice, with many arguments, large literals, long lists.
    let twice = |params: usize, body: &str| {
        let list = |prefix: &str, suffix: &str| -> String {
            let names: Vec<String> = (0..params).map(|k| format!("%{prefix}{k}{suffix}")).collect();
            names.join(", ")
        };
        let (declared, args) = (list("x", ": f32[2]"), list("x", ""));
        let level = |k: usize| {
            format!(
                "func @f{k}({declared}) -> f32[2] {{\n  %a = call @f{0}({args})\n  %b = call @f{0}({args})\n  return %a\n}}\n",
                k + 1
            )
        };
        let levels: String = (0..30).map(level).collect();
        format!("{levels}func @f30({declared}) -> f32[2] {{\n{body}  return %x0\n}}\n").replace("@f0(", "@main(")
    };
    let numbers = "1.0, ".repeat(100_000);
    let entries = "2*T, ".repeat(4000);
    for (params, body) in [
        (1, String::new()),
        (3000, String::new()),
        (1, format!("  const %c = dense [{numbers}] : f32[100000]\n")),
        (1, format!("  %c = reshape %x0 {{shape = [{entries}]}}\n")),
        (1, format!("  %c = add %x0, %x0 : f32[{}]\n", vec!["2"; 100].join("*"))),
        (1, "  %c = ad %x0, %missing {wrong}\n".repeat(100)),
    ] {
        let text = twice(params, &body);
        let found = found(&format!("dim T = 1..2\n{text}"));
        assert!(found.iter().any(|d| d.code == "E0509"), "{:?}", &found[..found.len().min(5)]);
    }
    assert!(started.elapsed().as_secs() < 120, "{:?}", started.elapsed());
}

#[test]
fn combining_large_supports_over_and_over_is_refused() {
    let started = std::time::Instant::now();
    let masks: String = (0..6).map(|k| format!(", %b{k}: bool[4, 4]")).collect();
    let mut text = format!("func @f(%x: f32[4, 4]{masks}) -> f32[4, 4] {{\n  %g = gram %x, %x\n  %t0 = gram %x, %x\n");
    for k in 0..3 {
        text.push_str(&format!("  %m{k} = mask_with %g, %b{}\n  %n{k} = mask_with %g, %b{}\n", 2 * k, 2 * k + 1));
        text.push_str(&format!("  %s{k} = sum %m{k}, %n{k}\n  %t{} = times %s{k}, %t{k}\n", k + 1));
    }
    (0..3000).for_each(|k| text.push_str(&format!("  %z{k} = times %t3, %t2\n")));
    text.push_str("  %y = apply %t3, %x\n  return %y\n}\n");
    assert!(codes(&text).iter().all(|c| matches!(*c, "E0508" | "E0509")));
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn bytes_are_checked_before_they_are_a_text() {
    assert_eq!(source(b"\xff").unwrap_err().code, "E0009");
    let text = "\u{feff}ir 1\r\nfunc @f(%x: f32[2]) -> f32[2] {\r\n  return %x\r\n}";
    assert!(check_bytes(text.as_bytes()).is_ok());
}
