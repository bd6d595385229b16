//! Printing and parsing are inverse to each other on random trees; broken text gives errors, fast, and all at once.

use super::ast::*;
use super::{format, limits, parse, print};
use crate::attr::Real;

/// SplitMix64 (Steele, Lea, Flood 2014), so that every run draws the same trees.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn many<T>(&mut self, most: usize, mut f: impl FnMut(&mut Random) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| f(self)).collect()
    }

    fn some<T>(&mut self, most: usize, mut f: impl FnMut(&mut Random) -> T) -> Vec<T> {
        (0..1 + self.below(most)).map(|_| f(self)).collect()
    }

    fn name(&mut self) -> Name {
        const NAMES: [&str; 12] =
            ["x", "T", "layer.0.q", "a_b", "_1", "P", "W.", "dim", "ir", "func", "a_rather_long_name_of_a_value", "e5"];
        Name { text: NAMES[self.below(NAMES.len())].into(), at: At::default() }
    }

    fn text(&mut self) -> Text {
        const PARTS: [&str; 8] = ["a", "\"", "\\", "\n", ", ", "é", "\u{1}", "// b"];
        let text = self.many(5, |r| PARTS[r.below(PARTS.len())]).concat();
        Text { text, at: At::default() }
    }

    fn real(&mut self) -> f64 {
        match self.below(6) {
            0 => 1.0,
            1 => 1e-5,
            2 => f64::MIN_POSITIVE,
            3 => f64::MAX,
            4 => 0.1,
            _ => Some(f64::from_bits(self.next())).filter(|x| x.is_finite()).unwrap_or(-0.0),
        }
    }

    fn int(&mut self) -> i64 {
        match self.below(5) {
            0 => self.next() as i64,
            1 => i64::MIN,
            _ => self.below(100) as i64 - 20,
        }
    }

    fn expr(&mut self, depth: usize) -> Expr {
        let kind = match if depth == 0 { self.below(2) } else { self.below(9) } {
            0 => ExprKind::Int(self.int()),
            1 => ExprKind::Name(self.name().text),
            2 => ExprKind::Float(Real(self.real())),
            3 => match self.expr(depth - 1) {
                // A minus sign before a number belongs to the number.
                Expr { kind: ExprKind::Int(_) | ExprKind::Float(_), .. } => ExprKind::Int(7),
                x => ExprKind::Neg(Box::new(x)),
            },
            4 => ExprKind::Ceil(Box::new(self.expr(depth - 1))),
            _ => {
                let binary = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div][self.below(4)];
                ExprKind::Binary(binary, Box::new(self.expr(depth - 1)), Box::new(self.expr(depth - 1)))
            }
        };
        Expr { kind, at: At::default() }
    }

    fn value(&mut self, depth: usize) -> Expr {
        let kind = match self.below(5) {
            0 => ExprKind::Text(self.text().text),
            1 if depth > 0 => ExprKind::List(self.many(4, |r| r.value(depth - 1))),
            _ => return self.expr(3),
        };
        Expr { kind, at: At::default() }
    }

    fn ty(&mut self) -> TypeExpr {
        let dtype = Name { text: ["f32", "bool", "q4"][self.below(3)].into(), at: At::default() };
        TypeExpr { mix: self.one_in(4), dtype, dims: self.many(4, |r| r.expr(2)), at: At::default() }
    }

    fn comments(&mut self) -> Vec<Comment> {
        self.many(2, |r| Comment {
            text: ["//", "// why", "// \"a\", {b}"][r.below(3)].into(),
            blank_before: r.one_in(2),
        })
    }

    fn trivia(&mut self) -> Trivia {
        let trail = self.one_in(4).then(|| "// behind".to_string());
        Trivia { lead: self.comments(), blank_before: self.one_in(3), trail }
    }

    fn element(&mut self) -> Element {
        let number = match self.below(4) {
            0 => Number::Int(self.int()),
            1 => Number::Bool(self.one_in(2)),
            2 => Number::Float(Real([f64::INFINITY, f64::NEG_INFINITY, f64::NAN][self.below(3)])),
            _ => Number::Float(Real(self.real())),
        };
        Element { number, at: At::default() }
    }

    fn constant(&mut self) -> Constant {
        match self.below(3) {
            0 => Constant::Weight(self.text()),
            1 => Constant::Splat(self.element()),
            _ => {
                let mut shape = self.many(3, |r| r.below(4));
                // Behind a length of 0 a literal shows nothing.
                if let Some(k) = shape.iter().position(|n| *n == 0) {
                    shape.truncate(k + 1);
                }
                let elements = (0..shape.iter().product()).map(|_| self.element()).collect();
                Constant::Dense { shape, elements, at: At::default() }
            }
        }
    }

    fn stmt(&mut self) -> Stmt {
        let kind = match self.below(5) {
            0 => StmtKind::Const { name: self.name(), value: self.constant(), ty: self.ty() },
            1 => StmtKind::Return(self.some(3, Random::name)),
            2 => StmtKind::Call {
                results: self.some(2, Random::name),
                func: self.name(),
                args: self.many(3, Random::name),
                types: self.many(2, Random::ty),
            },
            _ => {
                let operand =
                    |r: &mut Random| Operand { name: (!r.one_in(4)).then(|| r.name().text), at: At::default() };
                let attr = |r: &mut Random| Attr { name: r.name(), value: (!r.one_in(3)).then(|| r.value(2)) };
                let op = Name { text: ["gram", "dense", "a.b"][self.below(3)].into(), at: At::default() };
                StmtKind::Op {
                    results: self.some(3, Random::name),
                    op,
                    operands: self.many(6, operand),
                    attrs: self.many(4, attr),
                    types: self.many(2, Random::ty),
                }
            }
        };
        Stmt { kind, at: At::default(), trivia: self.trivia() }
    }

    fn item(&mut self) -> Item {
        let kind = match self.below(6) {
            0 => ItemKind::Version(self.below(3) as i64),
            1 => ItemKind::Weights(self.some(3, Random::text)),
            2 => {
                // A name would take the dots of `..` as its own.
                let low = Expr { kind: ExprKind::Int(self.int()), at: At::default() };
                ItemKind::Dim { name: self.name(), low, high: self.expr(1) }
            }
            _ => {
                let param = |r: &mut Random| Param { name: r.name(), ty: Some(r.ty()), trivia: r.trivia() };
                let plain = |r: &mut Random| Param { name: r.name(), ty: Some(r.ty()), trivia: Trivia::default() };
                let params = if self.one_in(2) { self.many(4, param) } else { self.many(5, plain) };
                ItemKind::Func(Func {
                    name: self.name(),
                    params,
                    params_tail: if self.one_in(4) { self.comments() } else { Vec::new() },
                    results: Some(self.some(3, Random::ty)),
                    open: self.one_in(4).then(|| "// open".to_string()),
                    body: self.many(6, Random::stmt),
                    tail: self.comments(),
                    end: At::default(),
                })
            }
        };
        Item { kind, at: At::default(), trivia: self.trivia() }
    }

    fn file(&mut self) -> File {
        File { items: self.many(5, Random::item), tail: self.comments() }
    }
}

/// Without what the canonical form drops: empty lines at the start of a block or list.
fn settled(file: &File) -> File {
    let mut file = file.clone();
    let first = |trivia: &mut Trivia| match trivia.lead.first_mut() {
        Some(comment) => comment.blank_before = false,
        None => trivia.blank_before = false,
    };
    match file.items.first_mut() {
        Some(item) => first(&mut item.trivia),
        None => file.tail.iter_mut().take(1).for_each(|c| c.blank_before = false),
    }
    for item in &mut file.items {
        let ItemKind::Func(f) = &mut item.kind else { continue };
        match f.params.first_mut() {
            Some(param) => first(&mut param.trivia),
            None => f.params_tail.iter_mut().take(1).for_each(|c| c.blank_before = false),
        }
        // Parameters on one line have no empty lines between them.
        let plain =
            f.params_tail.is_empty() && f.params.iter().all(|p| p.trivia.lead.is_empty() && p.trivia.trail.is_none());
        if plain {
            f.params.iter_mut().for_each(|p| p.trivia.blank_before = false);
        }
        match f.body.first_mut() {
            Some(stmt) => first(&mut stmt.trivia),
            None => f.tail.iter_mut().take(1).for_each(|c| c.blank_before = false),
        }
    }
    file
}

#[test]
fn random_trees_survive_printing_and_parsing() {
    let mut random = Random(1);
    for round in 0..3000 {
        let file = random.file();
        let text = print(&file);
        let (back, diagnostics) = parse(&text);
        assert!(diagnostics.is_empty(), "round {round}: {diagnostics:?}\n{text}");
        assert_eq!(print(&back), text, "round {round}: printing again differs");
        let (settled_back, settled) = (settled(&back), settled(&file));
        assert_eq!(settled_back, settled, "round {round}\n{text}");
    }
}

#[test]
fn comments_and_empty_lines_are_kept() {
    let written = "\
// the file
ir 1 // first


dim T = 1..8192
func @main(%x : f32[T,4], // tokens
  %y: f32[  T, 4 ]) -> f32[T,4] {
  // why
  %z = gram %x, // inside
     %y {scale=1e-5,
       causal}
      : mix f32[T, T] // behind

  return %z
  // end
}
// tail
";
    let expected = "\
// the file
ir 1  // first

dim T = 1..8192
func @main(
  %x: f32[T, 4],  // tokens
  %y: f32[T, 4]
) -> f32[T, 4] {
  // why
  // inside
  %z = gram %x, %y {scale = 1e-5, causal} : mix f32[T, T]  // behind

  return %z
  // end
}
// tail
";
    let text = format(written).unwrap();
    assert_eq!(text, expected);
    assert_eq!(format(&text).unwrap(), expected);
    assert_eq!(format(&written.replace('\n', "\r\n")).unwrap(), expected);
}

#[test]
fn long_statements_are_cut_behind_commas() {
    let operands: Vec<String> = (0..60).map(|k| format!("%operand_{k}")).collect();
    let text = format!("func @main() -> f32[] {{\n  %y = concat {}\n}}\n", operands.join(", "));
    let printed = format(&text).unwrap();
    assert!(printed.lines().all(|l| l.len() <= 120) && printed.lines().count() > 5, "{printed}");
    assert_eq!(format(&printed).unwrap(), printed);
}

#[test]
fn every_error_of_a_text_is_found_at_once() {
    let (file, diagnostics) = parse(
        "ir one\nfunc @f(%x: f32[T], y: f32[2], %z f32[3]) -> f32[T] {\n  %a = add %x %x\n  $$\n  %b = \"c\n  \
         %d = f %x {a = , b}\n  return %d\n}\ndim T = 1..\nfunc @g() -> f32[] {\n",
    );
    let lines: Vec<&str> = diagnostics.iter().map(|d| d.code).collect();
    let expected = ["E0005", "E0005", "E0005", "E0005", "E0001", "E0002", "E0005", "E0005", "E0006"];
    assert_eq!(lines, expected, "{diagnostics:#?}");
    let ItemKind::Func(f) = &file.items[1].kind else { panic!("the function is lost") };
    assert_eq!((f.body.len(), f.params.len()), (4, 2));
    assert!(matches!(f.body[3].kind, StmtKind::Return(_)));
}

#[test]
fn an_error_in_a_parameter_leaves_the_others() {
    let (file, diagnostics) =
        parse("func @f(%x: f32[2, $, (3 4)], %y: f32[2], %z: f32[1 2, 3], %w: q[2 {\n  return %y\n}\n");
    assert_eq!(diagnostics.len(), 3, "{diagnostics:#?}");
    let ItemKind::Func(f) = &file.items[0].kind else { panic!("the function is lost") };
    let known: Vec<(&str, bool)> = f.params.iter().map(|p| (p.name.text.as_str(), p.ty.is_some())).collect();
    assert_eq!(known, [("x", false), ("y", true), ("z", false)]);
    assert_eq!(f.body.len(), 1);
}

#[test]
fn canonical_text_is_within_the_limits_that_the_written_one_kept() {
    let deepest =
        |inner: &str| format!("{}{inner}{}", "ceil(".repeat(limits::MAX_DEPTH), ")".repeat(limits::MAX_DEPTH));
    for inner in ["T--3", "-T*P", "--T*P", "-T/-P", "2*-T", "P+-3*T", "-(-T)*-2", "---T", "-2*T"] {
        let text = format!("dim T = 1..{}\n", deepest(inner));
        let printed = format(&text).unwrap_or_else(|e| panic!("{inner}: {e:?}"));
        assert_eq!(format(&printed).as_ref(), Ok(&printed), "{inner}");
        assert_eq!(parse(&printed).0, parse(&text).0, "{inner}");
    }
    for (c, most) in [("\u{1}", limits::MAX_STRING), ("\"", limits::MAX_STRING), ("é", limits::MAX_STRING / 2)] {
        let literal = |n: usize| format!("weights {}\n", super::quote(&c.repeat(n)));
        assert!(format(&literal(most)).is_ok());
        assert_eq!(format(&literal(most + 1)).unwrap_err()[0].code, "E0508");
    }
    // Commas grow by a space each, which here is too much for a file.
    let line = format!("%y=a {}\n", vec!["%x"; 170].join(","));
    let tight = format!("func @f(%x:f32[2])->f32[2]{{\n{}return %x\n}}\n", line.repeat(30_000));
    assert!(tight.len() < limits::MAX_FILE_BYTES && parse(&tight).1.is_empty());
    assert_eq!(format(&tight).unwrap_err()[0].code, "E0008");
}

#[test]
fn deep_and_long_inputs_are_refused_fast() {
    let started = std::time::Instant::now();
    let n = 1_000_000;
    for (open, code) in
        [("(", "E0007"), ("[", "E0007"), ("-", "E0508"), ("(-", "E0508"), ("ceil(", "E0007"), ("1+", "E0508")]
    {
        let deep = open.repeat(n);
        for text in [
            format!("dim T = {deep}"),
            format!("func @f(%x: f32[{deep}"),
            format!("func @f() -> f32[] {{\n %x = f {{a = {deep}"),
            format!("func @f() -> f32[] {{\n const %x = dense {deep}"),
        ] {
            let (_, diagnostics) = parse(&text);
            assert!(!diagnostics.is_empty() && diagnostics.len() < 5, "{diagnostics:?}");
            let expected = |d: &crate::diag::Diagnostic| d.code == code || d.code == "E0005";
            assert!(diagnostics.iter().any(expected), "{open}: {diagnostics:?}");
        }
    }
    let many = "dim T = 1..2\n".repeat(n);
    assert!(parse(&many).1.iter().any(|d| d.code == "E0508"));
    let many = format!("func @f() -> f32[] {{\n{}", "  %x = f\n".repeat(n));
    assert!(parse(&many).1.iter().any(|d| d.code == "E0508"));
    let many = format!("func @f() -> f32[] {{\n const %x = dense [{}", "1,".repeat(2 * n));
    assert!(parse(&many).1.iter().any(|d| d.code == "E0508"));
    let long = " ".repeat(limits::MAX_FILE_BYTES + 1);
    assert_eq!(parse(&long).1[0].code, "E0008");
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
