//! Tile programs as text for people and for tests that compare text. There is no parser.
//!
//! Every tensor, axis, loop and tile has a name of its own: the name it was made with, and where that is taken, with a
//! number. `r` and `c` are the row and column of the element under construction; `n up to 4` is a length of at most
//! four of which `n`, cut to 0 and 4, are present. The text depends on the program alone.

use super::{Axis, Carry, Combine, Extent, Matrix, Role, Stmt, TileOp, TileProgram, TileType};
use crate::dim::{Dim, Symbol};
use crate::expr::{Binary, COL, Expr, Node, Pick, ROW, SlowId, TileId, Unary, Var};
use std::collections::BTreeSet;
use std::fmt;

/// Unique names of everything in a program.
struct Names {
    tensors: Vec<String>,
    tiles: Vec<String>,
    vars: Vec<String>,
}

fn unique(taken: &mut BTreeSet<String>, name: &str) -> String {
    let name = if name.is_empty() { "_" } else { name };
    let mut candidate = name.to_string();
    let mut number = 1;
    while !taken.insert(candidate.clone()) {
        number += 1;
        candidate = format!("{name}_{number}");
    }
    candidate
}

impl Names {
    fn of(program: &TileProgram) -> Names {
        let mut symbols: Vec<Symbol> = Vec::new();
        program.tensors.iter().flat_map(|t| &t.shape).for_each(|d| d.symbols(&mut symbols));
        program.for_each_expr(&mut |e| {
            e.visit(&mut |n| {
                if let Node::Dim(d) = n.node() {
                    d.symbols(&mut symbols);
                }
            });
        });
        let mut taken: BTreeSet<String> = symbols.iter().map(|s| s.to_string()).collect();
        taken.extend(["r".to_string(), "c".to_string()]);
        let tensors = program.tensors.iter().map(|t| unique(&mut taken, &t.name)).collect();
        let mut vars: Vec<String> = (0..program.vars).map(|k| format!("x{k}")).collect();
        let mut name = |v: Var, text: String| {
            if let Some(slot) = vars.get_mut(v.0 as usize) {
                *slot = text;
            }
        };
        name(ROW, "r".into());
        name(COL, "c".into());
        for axis in &program.grid {
            name(axis.var, unique(&mut taken, &axis.name));
        }
        program.for_each_stmt(&mut |s| {
            if let Stmt::For { var, .. } = s {
                name(*var, unique(&mut taken, "block"));
            }
        });
        let tiles = program.tiles.iter().map(|t| unique(&mut taken, &t.name)).collect();
        Names { tensors, tiles, vars }
    }

    fn tile(&self, t: TileId) -> String {
        self.tiles.get(t.0 as usize).cloned().unwrap_or_else(|| format!("t{}", t.0))
    }

    fn tensor(&self, s: SlowId) -> String {
        self.tensors.get(s.0 as usize).cloned().unwrap_or_else(|| format!("m{}", s.0))
    }

    fn var(&self, v: Var) -> String {
        self.vars.get(v.0 as usize).cloned().unwrap_or_else(|| format!("x{}", v.0))
    }

    fn tiles(&self, tiles: impl Iterator<Item = TileId>) -> String {
        tiles.map(|t| self.tile(t)).collect::<Vec<_>>().join(", ")
    }

    fn matrix(&self, m: Matrix) -> String {
        let name = self.tile(m.tile);
        if m.transposed { format!("transpose({name})") } else { name }
    }

    fn list(&self, e: &[Expr]) -> String {
        e.iter().map(|e| self.expr(e, Level::Select)).collect::<Vec<_>>().join(", ")
    }

    fn extent(&self, e: &Extent) -> String {
        if e.is_fixed() {
            return e.cap.to_string();
        }
        format!("{} up to {}", self.expr(clamped(e), Level::Select), e.cap)
    }

    fn shape(&self, rows: &Extent, cols: &Extent) -> String {
        format!("[{}, {}]", self.extent(rows), self.extent(cols))
    }

    /// The expression, in parentheses where it binds less than `least`.
    fn expr(&self, e: &Expr, least: Level) -> String {
        let (level, text) = self.bare(e);
        if level < least { format!("({text})") } else { text }
    }

    fn bare(&self, e: &Expr) -> (Level, String) {
        let all = Level::Select;
        match e.node() {
            Node::Float(x) if *x < 0.0 => (Level::Sign, format!("{x:?}")),
            Node::Float(x) => (Level::Atom, format!("{x:?}")),
            Node::Int(n) if *n < 0 => (Level::Sign, n.to_string()),
            Node::Int(n) => (Level::Atom, n.to_string()),
            Node::Bool(b) => (Level::Atom, b.to_string()),
            Node::Arg(k) => (Level::Atom, format!("arg{k}")),
            Node::Var(v) => (Level::Atom, self.var(*v)),
            Node::Dim(d) => (if d.as_symbol().is_some() { Level::Atom } else { Level::Select }, d.to_string()),
            Node::Unary(Unary::Neg, a) => (Level::Sign, format!("-{}", self.expr(a, Level::Atom))),
            Node::Unary(Unary::Not, a) => (Level::Sign, format!("not {}", self.expr(a, Level::Atom))),
            Node::Unary(op, a) => (Level::Atom, format!("{}({})", unary_name(*op), self.expr(a, all))),
            Node::Binary(op, a, b) => {
                let (level, sign, next) = match op {
                    Binary::Or => (Level::Or, "or", Level::Or),
                    Binary::And => (Level::And, "and", Level::And),
                    Binary::Add => (Level::Sum, "+", Level::Product),
                    Binary::Sub => (Level::Sum, "-", Level::Product),
                    Binary::Mul => (Level::Product, "*", Level::Sign),
                    Binary::Div => (Level::Product, "/", Level::Sign),
                    Binary::Mod => (Level::Product, "%", Level::Sign),
                    Binary::Max | Binary::Min | Binary::Pow => {
                        let name = match op {
                            Binary::Max => "max",
                            Binary::Min => "min",
                            _ => "pow",
                        };
                        return (Level::Atom, format!("{name}({}, {})", self.expr(a, all), self.expr(b, all)));
                    }
                };
                let space = if level == Level::Product { "" } else { " " };
                (level, format!("{}{space}{sign}{space}{}", self.expr(a, level), self.expr(b, next)))
            }
            Node::Compare(op, a, b) => {
                let sign = op.sign();
                (Level::Compare, format!("{} {sign} {}", self.expr(a, Level::Sum), self.expr(b, Level::Sum)))
            }
            Node::Select(c, a, b) => {
                let [c, a] = [c, a].map(|e| self.expr(e, Level::Or));
                (Level::Select, format!("{c} ? {a} : {}", self.expr(b, Level::Select)))
            }
            Node::ToFloat(a) => (Level::Atom, format!("real({})", self.expr(a, all))),
            Node::ToInt(a) => (Level::Atom, format!("integer({})", self.expr(a, all))),
            Node::ToBool(a) => (Level::Atom, format!("boolean({})", self.expr(a, all))),
            Node::Round(d, a) => (Level::Atom, format!("{d}({})", self.expr(a, all))),
            Node::Load(l) => {
                let element = format!("{}[{}]", self.tensor(l.tensor), self.list(&l.index));
                match &l.guard {
                    None => (Level::Atom, element),
                    Some(g) => (Level::Atom, format!("({element} if {} else {:?})", self.expr(g, Level::Or), l.fill)),
                }
            }
            Node::Tile(t, Pick::Row, Pick::Col) => (Level::Atom, self.tile(*t)),
            Node::Tile(t, row, col) => {
                let pick = |p: &Pick| match p {
                    Pick::Row => "r",
                    Pick::Col => "c",
                    Pick::Zero => "0",
                };
                (Level::Atom, format!("{}[{}, {}]", self.tile(*t), pick(row), pick(col)))
            }
        }
    }
}

/// How strongly an expression holds together, weakest first.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Level {
    Select,
    Or,
    And,
    Compare,
    Sum,
    Product,
    Sign,
    Atom,
}

/// What a count is cut to 0 and its cap from, as blocks of a length are.
fn clamped(e: &Extent) -> &Expr {
    if let Node::Binary(Binary::Max, inner, zero) = e.count.node()
        && let Node::Binary(Binary::Min, length, cap) = inner.node()
        && zero.as_int() == Some(0)
        && cap.as_int() == Some(e.cap as i64)
    {
        return length;
    }
    &e.count
}

fn unary_name(op: Unary) -> &'static str {
    match op {
        Unary::Neg => "neg",
        Unary::Abs => "abs",
        Unary::Exp => "exp",
        Unary::Expm1 => "expm1",
        Unary::Log => "log",
        Unary::Log1p => "log1p",
        Unary::Sqrt => "sqrt",
        Unary::Rsqrt => "rsqrt",
        Unary::Recip => "recip",
        Unary::Tanh => "tanh",
        Unary::Sigmoid => "sigmoid",
        Unary::Erf => "erf",
        Unary::Sin => "sin",
        Unary::Cos => "cos",
        Unary::Sign => "sign",
        Unary::Floor => "floor",
        Unary::Ceil => "ceil",
        Unary::Trunc => "trunc",
        Unary::RoundEven => "round",
        Unary::IsNan => "is_nan",
        Unary::Not => "not",
    }
}

fn combine_name(c: Combine) -> &'static str {
    match c {
        Combine::Sum => "sum",
        Combine::Product => "product",
        Combine::Max => "max",
        Combine::Min => "min",
        Combine::LogSumExp => "log_sum_exp",
    }
}

fn axis_name(a: Axis) -> &'static str {
    match a {
        Axis::Rows => "rows",
        Axis::Cols => "columns",
    }
}

fn type_name(ty: TileType) -> &'static str {
    match ty {
        TileType::F32 => "f32",
        TileType::F64 => "f64",
        TileType::I64 => "i64",
        TileType::Bool => "bool",
    }
}

/// Lengths as in the text format.
fn shape_text(shape: &[Dim]) -> String {
    shape.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")
}

struct Printer<'a> {
    program: &'a TileProgram,
    names: Names,
    text: String,
}

impl Printer<'_> {
    fn line(&mut self, depth: usize, text: fmt::Arguments<'_>) {
        self.text.push_str(&format!("{:width$}{text}\n", "", width = 2 * depth));
    }

    fn op(&self, op: &TileOp) -> String {
        let n = &self.names;
        match op {
            TileOp::Map(e) => n.expr(e, Level::Select),
            TileOp::Dot { a, b, acc } => {
                let product = format!("dot({}, {})", n.matrix(*a), n.matrix(*b));
                acc.map_or(product.clone(), |acc| format!("{} + {product}", n.tile(acc)))
            }
            TileOp::Reduce { combine, axis, of } => {
                format!("{}({}) along {}", combine_name(*combine), n.tile(*of), axis_name(*axis))
            }
            TileOp::Scan { combine, axis, reverse, of } => {
                let back = if *reverse { ", reversed" } else { "" };
                format!("running {}({}) along {}{back}", combine_name(*combine), n.tile(*of), axis_name(*axis))
            }
            TileOp::Recurrence { decay, input, start } => {
                format!("recurrence({})", n.tiles([*decay, *input].into_iter().chain(*start)))
            }
            TileOp::Solve { lower, rhs } => format!("solve({})", n.tiles([*lower, *rhs].into_iter())),
            TileOp::TopK { of } => format!("top_k({})", n.tile(*of)),
        }
    }

    fn body(&mut self, body: &[Stmt], depth: usize) {
        for stmt in body {
            match stmt {
                Stmt::Let { results, op } => {
                    let declared: Vec<String> = results.iter().map(|t| self.declaration(*t)).collect();
                    let op = self.op(op);
                    self.line(depth, format_args!("{} = {op}", declared.join(", ")));
                }
                Stmt::For { var, from, to, step, when, carry, body } => {
                    let n = &self.names;
                    let mut head = String::new();
                    if !carry.is_empty() {
                        head = format!("{} = ", n.tiles(carry.iter().map(|c| c.result)));
                    }
                    head.push_str(&format!("for {} in {}", n.var(*var), n.expr(from, Level::Sum)));
                    head.push_str(&format!("..{} step {step}", n.expr(to, Level::Sum)));
                    if let Some(e) = when {
                        head.push_str(&format!(" when {}", n.expr(e, Level::Select)));
                    }
                    if !carry.is_empty() {
                        let pair = |c: &Carry| format!("{} = {}", n.tile(c.inside), n.tile(c.init));
                        head.push_str(&format!(" carry {}", carry.iter().map(pair).collect::<Vec<_>>().join(", ")));
                    }
                    let next = n.tiles(carry.iter().map(|c| c.next));
                    self.line(depth, format_args!("{head}"));
                    self.body(body, depth + 1);
                    if !carry.is_empty() {
                        self.line(depth + 1, format_args!("next {next}"));
                    }
                }
                Stmt::Store { tensor, index, value, rows, cols, guard } => {
                    let n = &self.names;
                    let mut text = format!("store {}[{}]", n.tensor(*tensor), n.list(index));
                    text.push_str(&format!(" = {} over {}", n.expr(value, Level::Select), n.shape(rows, cols)));
                    if let Some(g) = guard {
                        text.push_str(&format!(" where {}", n.expr(g, Level::Select)));
                    }
                    self.line(depth, format_args!("{text}"));
                }
            }
        }
    }

    fn declaration(&self, t: TileId) -> String {
        match self.program.tiles.get(t.0 as usize) {
            None => self.names.tile(t),
            Some(tile) => {
                let shape = self.names.shape(&tile.rows, &tile.cols);
                format!("{}: {}{shape}", self.names.tile(t), type_name(tile.ty))
            }
        }
    }

    fn head(&mut self) {
        let p = self.program;
        let tensors = |role: Role, names: &Names| {
            let all = p.tensors.iter().enumerate().filter(|(_, t)| t.role == role);
            let text =
                |(k, t): (usize, &super::Slow)| format!("{}: {}[{}]", names.tensors[k], t.dtype, shape_text(&t.shape));
            all.map(text).collect::<Vec<_>>().join(", ")
        };
        let inputs = tensors(Role::Input, &self.names);
        let outputs = tensors(Role::Output, &self.names);
        let knobs: Vec<String> = p.knobs.iter().map(|(name, n)| format!("{name} = {n}")).collect();
        let knobs = if knobs.is_empty() { String::new() } else { format!(" knobs {}", knobs.join(", ")) };
        self.line(0, format_args!("tile {}({inputs}) -> ({outputs}){knobs}", p.name));
        if !p.grid.is_empty() {
            let n = &self.names;
            let axis = |a: &super::GridAxis| format!("{} < {}", n.var(a.var), n.expr(&a.extent, Level::Sum));
            let axes = p.grid.iter().map(axis).collect::<Vec<_>>().join(", ");
            self.line(1, format_args!("grid {axes}"));
        }
    }
}

impl fmt::Display for TileProgram {
    /// Several lines, the last one ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut p = Printer { program: self, names: Names::of(self), text: String::new() };
        p.head();
        p.body(&self.body, 1);
        f.write_str(&p.text)
    }
}

#[cfg(test)]
mod tests {
    use crate::tile::examples;

    #[test]
    fn a_program_reads_like_its_algorithm() {
        let text = examples::flash_attention(2, 64, None, [8, 16]).to_string();
        let expected = "\
tile flash_attention(q: f32[2, T, 64], k: f32[2, T, 64], v: f32[2, T, 64]) -> (o: f32[2, T, 64]) knobs BQ = 8, BK = 16
  grid h < 2, i < (T + 7)/8
  qs: f32[T - i*8 up to 8, 64] = q[h, i*8 + r, c]
  top: f32[T - i*8 up to 8, 1] = -inf
  sum: f32[T - i*8 up to 8, 1] = 0.0
  acc: f32[T - i*8 up to 8, 64] = 0.0
  top_4, sum_4, acc_4 = for block in 0..min(i*8 + 8, T) step 16 carry top_2 = top, sum_2 = sum, acc_2 = acc
    ks: f32[T - block up to 16, 64] = k[h, block + r, c]
    vs: f32[T - block up to 16, 64] = v[h, block + r, c]
    s: f32[T - i*8 up to 8, T - block up to 16] = dot(qs, transpose(ks))
    masked: f32[T - i*8 up to 8, T - block up to 16] = block + c <= i*8 + r ? s*0.125 : -inf
    here: f32[T - i*8 up to 8, 1] = max(masked) along columns
    top_3: f32[T - i*8 up to 8, 1] = max(top_2, here)
    p: f32[T - i*8 up to 8, T - block up to 16] = exp(masked - (top_3[r, 0] == -inf ? 0.0 : top_3[r, 0]))
    scale: f32[T - i*8 up to 8, 1] = exp(top_2 - (top_3 == -inf ? 0.0 : top_3))
    part: f32[T - i*8 up to 8, 1] = sum(p) along columns
    sum_3: f32[T - i*8 up to 8, 1] = sum_2*scale + part
    old: f32[T - i*8 up to 8, 64] = acc_2*scale[r, 0]
    acc_3: f32[T - i*8 up to 8, 64] = old + dot(p, vs)
    next top_3, sum_3, acc_3
  store o[h, i*8 + r, c] = acc_4/sum_4[r, 0] over [T - i*8 up to 8, 64]
";
        assert_eq!(text, expected);
    }

    #[test]
    fn every_example_prints_with_names_of_its_own() {
        for p in examples::all() {
            let text = p.to_string();
            assert_eq!(text, p.to_string());
            // Every defined name stands once before a colon or in front of a loop.
            let mut names: Vec<&str> = text
                .lines()
                .skip(1)
                .filter_map(|l| l.split_once(": ").map(|(name, _)| name.trim()))
                .filter(|name| !name.contains(' '))
                .collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{text}");
        }
    }
}
