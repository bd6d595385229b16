//! Scalar expressions as CUDA C++ text, by the rules of [`mixc_ir::expr`].
//!
//! One expression computes all its reals in one precision: f64 when it stands in a tile that is not f32 or reads f64
//! data, else f32. Arithmetic of positions is written plainly; arithmetic of integer data wraps and goes through the
//! prelude.

use super::storage::Storage;
use mixc_ir::dim::{Atom, Dim};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Binary, COL, Expr, Kind, Load, Node, Pick, ROW, TileId, Unary, Var};
use mixc_ir::tile::{TileProgram, TileType};

/// The precision of an expression's reals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Real {
    /// `float`.
    Single,
    /// `double`.
    Double,
}

impl Real {
    /// Its name in C++.
    pub fn name(self) -> &'static str {
        match self {
            Real::Single => "float",
            Real::Double => "double",
        }
    }
}

/// Names of the program's parts in the text.
pub struct Names<'p> {
    /// The program.
    pub program: &'p TileProgram,
    /// Where its tiles lie.
    pub storage: &'p Storage,
}

/// A name with everything that C does not allow in one replaced.
pub fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The parameter that holds a symbol of dims.
pub fn symbol(name: &str) -> String {
    format!("dim_{}", identifier(name))
}

/// A real constant.
pub fn real_constant(x: f64, real: Real) -> String {
    let text = match real {
        _ if x.is_nan() => return format!("mx_nan<{}>()", real.name()),
        _ if x.is_infinite() => {
            let sign = if x < 0.0 { "-" } else { "" };
            return format!("({sign}mx_infinity<{}>())", real.name());
        }
        Real::Single if (x as f32).is_infinite() => return real_constant(f64::INFINITY.copysign(x), real),
        Real::Single => format!("{:?}f", x as f32),
        Real::Double => format!("{x:?}"),
    };
    if x.is_sign_negative() { format!("({text})") } else { text }
}

/// An integer constant.
pub fn integer_constant(n: i64) -> String {
    match n {
        i64::MIN => "(-9223372036854775807LL - 1)".to_owned(),
        n if n < 0 => format!("({n}LL)"),
        n if n > i64::from(i32::MAX) => format!("{n}LL"),
        // Short enough for the literal to be an `int`: the other operand widens it.
        n => n.to_string(),
    }
}

/// A dim whose divisions are known to come out.
pub fn dim(d: &Dim) -> String {
    let mut sum = String::new();
    for (product, c) in d.terms() {
        let mut factors: Vec<String> = product
            .iter()
            .map(|atom| match atom {
                Atom::Symbol(s) => symbol(s),
                Atom::Exact(inner, n) => format!("mx_floor_div({}, {n}LL)", dim(inner)),
                Atom::Ceil(inner, n) => format!("mx_floor_div({} + {}, {n}LL)", dim(inner), n - 1),
            })
            .collect();
        if c != 1 || factors.is_empty() {
            factors.insert(0, integer_constant(c));
        }
        if !sum.is_empty() {
            sum.push_str(" + ");
        }
        sum.push_str(&factors.join(" * "));
    }
    match d.terms().count() {
        0 => "0".to_owned(),
        1 if !sum.contains(' ') => sum,
        _ => format!("({sum})"),
    }
}

/// Whether `e` is made of positions and lengths alone: no data that may be anything.
fn positional(e: &Expr) -> bool {
    let mut all = true;
    e.visit(&mut |e| all &= !matches!(e.node(), Node::Load(_) | Node::Tile(..) | Node::ToInt(_)));
    all
}

impl Names<'_> {
    /// The name of a tensor's view.
    pub fn tensor(&self, k: usize) -> String {
        format!("g{k}_{}", identifier(&self.program.tensors[k].name))
    }

    /// The name of a tile's view.
    pub fn tile(&self, t: TileId) -> String {
        format!("t{}_{}", t.0, identifier(&self.program.tile(t).name))
    }

    /// The name of a variable.
    pub fn var(&self, v: Var) -> String {
        match v {
            ROW => "(mx_i64)r".to_owned(),
            COL => "(mx_i64)c".to_owned(),
            v => match self.program.grid.iter().find(|a| a.var == v) {
                Some(axis) => format!("x{}_{}", v.0, identifier(&axis.name)),
                None => format!("x{}", v.0),
            },
        }
    }

    /// The kind of an expression of a verified program.
    pub fn kind(&self, e: &Expr) -> Kind {
        e.kind(&|n| match n {
            Node::Load(l) => TileType::of(self.program.slow(l.tensor).dtype).kind(),
            Node::Tile(t, ..) => self.program.tile(*t).ty.kind(),
            _ => Kind::Int,
        })
    }

    /// The precision of the reals of `e` in a place of type `ty`.
    pub fn precision(&self, e: &Expr, ty: TileType) -> Real {
        let mut wide = ty != TileType::F32;
        e.visit(&mut |e| match e.node() {
            Node::Load(l) => wide |= self.program.slow(l.tensor).dtype == DType::F64,
            Node::Tile(t, ..) => wide |= self.program.tile(*t).ty == TileType::F64,
            _ => {}
        });
        if wide { Real::Double } else { Real::Single }
    }

    /// An integer expression over positions: an index, a bound, a count.
    pub fn integer(&self, e: &Expr) -> String {
        self.text(e, Real::Double)
    }

    /// The value of `e` as an element of a tile of type `ty`.
    pub fn element(&self, e: &Expr, ty: TileType) -> String {
        let real = self.precision(e, ty);
        let text = self.text(e, real);
        match (ty, real) {
            (TileType::F32, Real::Double) => format!("(float){text}"),
            (TileType::Bool, _) => format!("(mx_bool)({text})"),
            _ => text,
        }
    }

    /// The value of `e` as an element of a tensor of type `dtype`.
    pub fn stored(&self, e: &Expr, dtype: DType) -> String {
        let text = self.element(e, TileType::of(dtype));
        match dtype {
            DType::BF16 => format!("mx_to_bf16({text})"),
            DType::F16 => format!("mx_to_f16({text})"),
            DType::I32 => format!("(mx_i32)({text})"),
            DType::F32 | DType::F64 | DType::I64 | DType::Bool => text,
        }
    }

    /// An index into a dense row-major tensor.
    pub fn place(&self, tensor: usize, index: &[Expr]) -> String {
        let shape = &self.program.tensors[tensor].shape;
        let mut at: Option<String> = None;
        for (e, d) in index.iter().zip(shape) {
            let now = if d.is(1) { "0".to_owned() } else { self.text(e, Real::Double) };
            at = Some(match at {
                None => now,
                Some(before) if before == "0" => now,
                Some(before) if d.is(1) => before,
                Some(before) if now == "0" => format!("{before} * {}", dim(d)),
                Some(before) => format!("({before} * {} + {now})", dim(d)),
            });
        }
        at.unwrap_or_else(|| "0".to_owned())
    }

    fn load(&self, l: &Load, real: Real) -> String {
        let k = l.tensor.0 as usize;
        let dtype = self.program.tensors[k].dtype;
        let raw = format!("{}[{}]", self.tensor(k), self.place(k, &l.index));
        let value = match (dtype, real) {
            (DType::F32, Real::Single) | (DType::F64, _) | (DType::I64, _) => raw,
            (DType::F32, Real::Double) => format!("(double){raw}"),
            (DType::BF16 | DType::F16, Real::Single) => format!("mx_to_float({raw})"),
            (DType::BF16 | DType::F16, Real::Double) => format!("(double)mx_to_float({raw})"),
            (DType::I32, _) => format!("(mx_i64){raw}"),
            (DType::Bool, _) => format!("({raw} != 0)"),
        };
        let Some(guard) = &l.guard else { return value };
        let fill = match TileType::of(dtype).kind() {
            Kind::Float => real_constant(l.fill, real),
            Kind::Int => format!("(mx_i64){}", integer_constant(l.fill as i64)),
            Kind::Bool => (l.fill != 0.0).to_string(),
        };
        format!("({} ? {value} : {fill})", self.text(guard, real))
    }

    fn tile_element(&self, t: TileId, row: Pick, col: Pick, real: Real) -> String {
        let tile = self.program.tile(t);
        let pick = |p| match p {
            Pick::Row => Some("r"),
            Pick::Col => Some("c"),
            Pick::Zero => None,
        };
        let at = match (pick(row), pick(col), self.storage.pitch(t)) {
            (None, None, _) => "0".to_owned(),
            (None, Some(c), _) => c.to_owned(),
            (Some(r), None, 1) => r.to_owned(),
            (Some(r), None, pitch) => format!("{r} * {pitch}"),
            (Some(r), Some(c), pitch) => format!("{r} * {pitch} + {c}"),
        };
        let raw = format!("{}[{at}]", self.tile(t));
        match (tile.ty, real) {
            (TileType::F32, Real::Double) => format!("(double){raw}"),
            (TileType::Bool, _) => format!("({raw} != 0)"),
            _ => raw,
        }
    }

    /// An expression with its reals in the given precision.
    pub fn text(&self, e: &Expr, real: Real) -> String {
        match e.node() {
            Node::Float(x) => real_constant(*x, real),
            Node::Int(n) => integer_constant(*n),
            Node::Bool(b) => b.to_string(),
            // Replaced before a program is made.
            Node::Arg(_) => unreachable!("a verified program has no arguments in its expressions"),
            Node::Var(v) => self.var(*v),
            Node::Dim(d) => dim(d),
            Node::Unary(op, a) => self.unary(*op, a, real),
            Node::Binary(op, a, b) => self.binary(*op, a, b, real),
            Node::Compare(op, a, b) => {
                let sign = op.sign();
                format!("({} {sign} {})", self.text(a, real), self.text(b, real))
            }
            Node::Select(c, a, b) => {
                let (mut yes, no) = (self.text(a, real), self.text(b, real));
                if self.kind(a) == Kind::Int {
                    yes = format!("(mx_i64){yes}");
                }
                format!("({} ? {yes} : {no})", self.text(c, real))
            }
            Node::ToFloat(a) => match self.kind(a) {
                Kind::Float => self.text(a, real),
                Kind::Int | Kind::Bool => format!("({})({})", real.name(), self.text(a, real)),
            },
            Node::ToInt(a) => match self.kind(a) {
                Kind::Float => format!("mx_to_i64({})", self.text(a, real)),
                Kind::Int => self.text(a, real),
                Kind::Bool => format!("(mx_i64)({})", self.text(a, real)),
            },
            Node::ToBool(a) => match self.kind(a) {
                Kind::Bool => self.text(a, real),
                Kind::Int | Kind::Float => format!("({} != 0)", self.text(a, real)),
            },
            Node::Round(dtype, a) => {
                let text = self.text(a, real);
                let cast = |inner: String| if real == Real::Double { format!("(double){inner}") } else { inner };
                match dtype {
                    DType::BF16 => cast(format!("mx_round_bf16((float){text})")),
                    DType::F16 => cast(format!("mx_round_f16((float){text})")),
                    DType::F32 if real == Real::Double => format!("(double)(float){text}"),
                    DType::I32 => format!("mx_wrap_i32({text})"),
                    DType::F32 | DType::F64 | DType::I64 | DType::Bool => text,
                }
            }
            Node::Load(l) => self.load(l, real),
            Node::Tile(t, row, col) => self.tile_element(*t, *row, *col, real),
        }
    }

    fn unary(&self, op: Unary, a: &Expr, real: Real) -> String {
        let kind = self.kind(a);
        let text = self.text(a, real);
        // Overloads are chosen by the argument: literals of integers are made as wide as the rest.
        let call = |name: &str| match kind {
            Kind::Int => format!("mx_{name}((mx_i64){text})"),
            _ => format!("mx_{name}({text})"),
        };
        match op {
            Unary::Neg if kind == Kind::Int => call("neg"),
            Unary::Neg => format!("(-{text})"),
            Unary::Abs => call("abs"),
            Unary::Exp => call("exp"),
            Unary::Expm1 => call("expm1"),
            Unary::Log => call("log"),
            Unary::Log1p => call("log1p"),
            Unary::Sqrt => call("sqrt"),
            Unary::Rsqrt => call("rsqrt"),
            Unary::Recip => call("recip"),
            Unary::Tanh => call("tanh"),
            Unary::Sigmoid => call("sigmoid"),
            Unary::Erf => call("erf"),
            Unary::Sin => call("sin"),
            Unary::Cos => call("cos"),
            Unary::Sign => call("sign"),
            Unary::Floor => call("floor"),
            Unary::Ceil => call("ceil"),
            Unary::Trunc => call("trunc"),
            Unary::RoundEven => call("round_even"),
            Unary::IsNan => call("isnan"),
            Unary::Not => format!("(!{text})"),
        }
    }

    fn binary(&self, op: Binary, a: &Expr, b: &Expr, real: Real) -> String {
        let (x, y) = (self.text(a, real), self.text(b, real));
        let infix = |sign: &str| format!("({x} {sign} {y})");
        match self.kind(a) {
            Kind::Bool => match op {
                Binary::And | Binary::Min | Binary::Mul => infix("&&"),
                Binary::Or | Binary::Max | Binary::Add => infix("||"),
                Binary::Sub | Binary::Mod => infix("!="),
                Binary::Div | Binary::Pow => x,
            },
            Kind::Int => {
                // Overloads are chosen by the arguments: a literal is made as wide as the rest.
                let wide = |e: &Expr, text: &str| match e.as_int() {
                    Some(n) if (0..=i64::from(i32::MAX)).contains(&n) => format!("{text}LL"),
                    _ => text.to_owned(),
                };
                let call = |name: &str| format!("mx_{name}({}, {})", wide(a, &x), wide(b, &y));
                let plain = positional(a) && positional(b);
                match op {
                    Binary::Add if plain => infix("+"),
                    Binary::Sub if plain => infix("-"),
                    Binary::Mul if plain => infix("*"),
                    Binary::Add => call("add"),
                    Binary::Sub => call("sub"),
                    Binary::Mul => call("mul"),
                    Binary::Div => call("floor_div"),
                    Binary::Mod => call("floor_mod"),
                    Binary::Max => call("max"),
                    Binary::Min => call("min"),
                    Binary::Pow => call("pow"),
                    Binary::And | Binary::Or => unreachable!("a verified program joins booleans with `and` and `or`"),
                }
            }
            Kind::Float => match op {
                Binary::Add => infix("+"),
                Binary::Sub => infix("-"),
                Binary::Mul => infix("*"),
                Binary::Div => infix("/"),
                Binary::Mod => format!("mx_mod({x}, {y})"),
                Binary::Max => format!("mx_max({x}, {y})"),
                Binary::Min => format!("mx_min({x}, {y})"),
                Binary::Pow => format!("mx_pow({x}, {y})"),
                Binary::And | Binary::Or => unreachable!("a verified program joins booleans with `and` and `or`"),
            },
        }
    }
}
