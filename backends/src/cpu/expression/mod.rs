//! Scalar expressions as Cranelift values, by the rules of [`mixc_ir::expr`].
//!
//! One expression computes all its reals in one precision: f64 when it stands in a tile that is not f32 or reads f64
//! data, else f32. Branches of a selection that read memory or call functions run only when chosen.

mod division;
mod operators;

use crate::cpu::code::Code;
use crate::cpu::element::{Typed, as_bool, as_float, as_int, load_element, round_to, to_precision};
use cranelift_codegen::ir::{Type, Value, types};
pub use division::ceil_div;
use division::floor_div_constant;
use mixc_ir::dim::{Atom, Dim, DimError, Symbol};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Binary, Expr, Kind, Load, Node, Pick, TileId, Unary, Var};
use mixc_ir::tile::TileType;
use std::collections::BTreeMap;

/// A tensor in slow memory, here and now.
#[derive(Clone, Debug)]
pub struct TensorPlace {
    /// Address of the first element.
    pub base: Value,
    /// Element type.
    pub dtype: DType,
    /// Lengths of the axes.
    pub shape: Vec<Value>,
}

/// A tile in fast memory, here and now.
#[derive(Clone, Copy, Debug)]
pub struct TilePlace {
    /// Address of the element (0, 0).
    pub base: Value,
    /// Element type.
    pub ty: TileType,
    /// The type of its elements where it is read in a tensor of half precision.
    pub half: Option<DType>,
    /// Bytes from a row to the next.
    pub row_stride: i64,
    /// Bytes from a column to the next.
    pub col_stride: i64,
    /// Rows present.
    pub rows: Value,
    /// Columns present.
    pub cols: Value,
}

/// What names mean at the place where code is being written.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Variables, by number.
    pub vars: Vec<Option<Value>>,
    /// Symbols of the model.
    pub symbols: BTreeMap<Symbol, Value>,
    /// Dims whose values are already computed.
    pub dims: BTreeMap<Dim, Value>,
    /// Tensors, by number.
    pub tensors: Vec<TensorPlace>,
    /// Tiles that are defined, by number.
    pub tiles: Vec<Option<TilePlace>>,
}

impl Scope {
    /// Gives a variable its value.
    pub fn bind(&mut self, v: Var, value: Value) {
        let k = v.0 as usize;
        if self.vars.len() <= k {
            self.vars.resize(k + 1, None);
        }
        self.vars[k] = Some(value);
    }

    /// Gives a variable back what it was.
    pub fn set(&mut self, v: Var, value: Option<Value>) {
        if let Some(slot) = self.vars.get_mut(v.0 as usize) {
            *slot = value;
        }
    }

    /// The place of a tile that is defined.
    pub fn tile(&self, t: TileId) -> TilePlace {
        self.tiles[t.0 as usize].expect("a verified program defines tiles before use")
    }
}

/// The type that the reals of `e` are computed in, in a place whose elements have the type `ty`.
pub fn precision(e: &Expr, ty: TileType, scope: &Scope, tile_type: &dyn Fn(TileId) -> TileType) -> Type {
    let mut wide = ty != TileType::F32;
    e.visit(&mut |e| match e.node() {
        Node::Load(l) => wide |= scope.tensors[l.tensor.0 as usize].dtype == DType::F64,
        Node::Tile(t, ..) => wide |= tile_type(*t) == TileType::F64,
        _ => {}
    });
    if wide { types::F64 } else { types::F32 }
}

/// The CLIF type of a tile's elements in registers.
pub fn register_type(ty: TileType) -> Type {
    match ty {
        TileType::F32 => types::F32,
        TileType::F64 => types::F64,
        TileType::I64 => types::I64,
        TileType::Bool => types::I8,
    }
}

/// The address of an element of a tile.
pub fn tile_address(f: &mut Code, tile: &TilePlace, row: Option<Value>, col: Option<Value>) -> Value {
    let mut at = tile.base;
    for (index, stride) in [(row, tile.row_stride), (col, tile.col_stride)] {
        if let Some(index) = index {
            let offset = f.imul_imm(index, stride);
            at = f.iadd(at, offset);
        }
    }
    at
}

/// A value as an element of a tile.
pub fn to_tile_type(f: &mut Code, x: Typed, ty: TileType) -> Value {
    match ty {
        TileType::F32 | TileType::F64 => {
            let real = register_type(ty);
            let value = as_float(f, x, real);
            to_precision(f, value, real)
        }
        TileType::I64 => as_int(f, x),
        TileType::Bool => as_bool(f, x),
    }
}

/// The value of a dim whose divisions are known to come out and whose value fits.
pub fn dim_value(f: &mut Code, scope: &Scope, dim: &Dim) -> Value {
    if let Some(value) = scope.dims.get(dim) {
        return *value;
    }
    let mut sum = f.int(0);
    for (product, c) in dim.terms() {
        let mut value = f.int(c);
        for atom in product {
            let factor = match atom {
                Atom::Symbol(s) => match scope.symbols.get(s) {
                    Some(value) => *value,
                    None => {
                        let what = DimError::Unbound(s.clone()).to_string();
                        f.fail(crate::cpu::module::CodeError::Module(what));
                        f.int(0)
                    }
                },
                Atom::Exact(d, n) => {
                    let d = dim_value(f, scope, d);
                    let n = f.int(*n);
                    f.sdiv(d, n)
                }
                Atom::Ceil(d, n) => {
                    let d = dim_value(f, scope, d);
                    ceil_div(f, d, *n)
                }
            };
            value = f.imul(value, factor);
        }
        sum = f.iadd(sum, value);
    }
    sum
}

/// Writes expressions in one place. Equal shared nodes are computed once along a straight line of code.
pub struct Emitter<'s> {
    scope: &'s Scope,
    real: Type,
    row: Option<Value>,
    col: Option<Value>,
    known: BTreeMap<usize, Typed>,
}

impl<'s> Emitter<'s> {
    /// Reals in the type `real`; ROW and COL are those of `scope`.
    pub fn new(scope: &'s Scope, real: Type) -> Emitter<'s> {
        let at = |k: usize| scope.vars.get(k).copied().flatten();
        Emitter { scope, real, row: at(0), col: at(1), known: BTreeMap::new() }
    }

    /// The same place with another row and column.
    pub fn at(scope: &'s Scope, real: Type, row: Option<Value>, col: Option<Value>) -> Emitter<'s> {
        Emitter { scope, real, row, col, known: BTreeMap::new() }
    }

    /// Code for an expression.
    pub fn emit(&mut self, f: &mut Code, e: &Expr) -> Typed {
        let key = std::ptr::from_ref(e.node()) as usize;
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let value = self.node(f, e);
        self.known.insert(key, value);
        value
    }

    /// Code for an integer expression.
    pub fn int(&mut self, f: &mut Code, e: &Expr) -> Value {
        let x = self.emit(f, e);
        as_int(f, x)
    }

    /// Code for a condition.
    pub fn bool(&mut self, f: &mut Code, e: &Expr) -> Value {
        let x = self.emit(f, e);
        as_bool(f, x)
    }

    fn node(&mut self, f: &mut Code, e: &Expr) -> Typed {
        let typed = |kind: Kind, value: Value| Typed { value, kind };
        match e.node() {
            Node::Float(x) => typed(Kind::Float, f.float(self.real, *x)),
            Node::Int(n) => typed(Kind::Int, f.int(*n)),
            Node::Bool(b) => typed(Kind::Bool, f.bool(*b)),
            // Operands stand in the meaning of operations only; a tile program has none.
            Node::Arg(_) => typed(Kind::Float, f.float(self.real, 0.0)),
            Node::Var(Var(0)) => typed(Kind::Int, self.row.unwrap_or_else(|| f.int(0))),
            Node::Var(Var(1)) => typed(Kind::Int, self.col.unwrap_or_else(|| f.int(0))),
            Node::Var(v) => {
                let value = self.scope.vars.get(v.0 as usize).copied().flatten();
                typed(Kind::Int, value.unwrap_or_else(|| f.int(0)))
            }
            Node::Dim(d) => typed(Kind::Int, dim_value(f, self.scope, d)),
            Node::Unary(op, a) => {
                let a = self.emit(f, a);
                self.unary(f, *op, a)
            }
            Node::Binary(op, a, b) => {
                let constant = b.as_int();
                let a = self.emit(f, a);
                if let (Kind::Int, Some(n), Binary::Div | Binary::Mod) = (a.kind, constant.filter(|&n| n > 0), *op) {
                    let (quotient, rest) = floor_div_constant(f, a.value, n);
                    return typed(Kind::Int, if *op == Binary::Div { quotient } else { rest });
                }
                let b = self.emit(f, b);
                self.binary(f, *op, a, b)
            }
            Node::Compare(op, a, b) => {
                let (a, b) = (self.emit(f, a), self.emit(f, b));
                typed(Kind::Bool, self.compare(f, *op, a, b))
            }
            Node::Select(c, a, b) => {
                let c = self.bool(f, c);
                if costly(a) || costly(b) {
                    self.branch(f, c, a, b)
                } else {
                    let (a, b) = (self.emit(f, a), self.emit(f, b));
                    let b = self.convert(f, b, a.kind);
                    typed(a.kind, f.select(c, a.value, b))
                }
            }
            Node::ToFloat(a) => {
                let a = self.emit(f, a);
                typed(Kind::Float, as_float(f, a, self.real))
            }
            Node::ToInt(a) => typed(Kind::Int, self.int(f, a)),
            Node::ToBool(a) => typed(Kind::Bool, self.bool(f, a)),
            Node::Round(dtype, a) => {
                let a = self.emit(f, a);
                match (a.kind, dtype) {
                    (Kind::Float, _) => typed(Kind::Float, round_to(f, *dtype, a.value)),
                    (Kind::Int, DType::I32) => {
                        let low = f.ireduce(types::I32, a.value);
                        typed(Kind::Int, f.sextend(types::I64, low))
                    }
                    _ => a,
                }
            }
            Node::Load(load) => self.load(f, load),
            Node::Tile(t, row, col) => {
                let tile = self.scope.tile(*t);
                let pick = |p: &Pick| match p {
                    Pick::Row => self.row,
                    Pick::Col => self.col,
                    Pick::Zero => None,
                };
                let at = tile_address(f, &tile, pick(row), pick(col));
                let value = f.load(register_type(tile.ty), at, 0);
                let kind = tile.ty.kind();
                let value = if kind == Kind::Float { to_precision(f, value, self.real) } else { value };
                typed(kind, value)
            }
        }
    }

    /// What is computed inside a branch is not known after it.
    fn inside<R>(&mut self, emit: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.known.clone();
        let result = emit(self);
        self.known = before;
        result
    }

    fn branch(&mut self, f: &mut Code, c: Value, a: &Expr, b: &Expr) -> Typed {
        let kind = a.kind(&|n| self.leaf_kind(n));
        let ty = match kind {
            Kind::Float => self.real,
            Kind::Int => types::I64,
            Kind::Bool => types::I8,
        };
        let (yes, no) = (f.b.create_block(), f.b.create_block());
        let after = f.b.create_block();
        let result = f.b.append_block_param(after, ty);
        use cranelift_codegen::ir::{BlockArg, InstBuilder};
        f.b.ins().brif(c, yes, &[], no, &[]);
        for (block, e) in [(yes, a), (no, b)] {
            f.b.switch_to_block(block);
            let value = self.inside(|s| {
                let x = s.emit(f, e);
                s.convert(f, x, kind)
            });
            f.b.ins().jump(after, &[BlockArg::Value(value)]);
        }
        f.b.switch_to_block(after);
        Typed { value: result, kind }
    }

    fn leaf_kind(&self, n: &Node) -> Kind {
        match n {
            Node::Load(l) => crate::cpu::element::kind_of(self.scope.tensors[l.tensor.0 as usize].dtype),
            Node::Tile(t, ..) => self.scope.tile(*t).ty.kind(),
            _ => Kind::Float,
        }
    }

    fn convert(&mut self, f: &mut Code, x: Typed, kind: Kind) -> Value {
        match kind {
            Kind::Float => as_float(f, x, self.real),
            Kind::Int => as_int(f, x),
            Kind::Bool => as_bool(f, x),
        }
    }

    /// The address of a tensor's element.
    pub fn address(&mut self, f: &mut Code, tensor: &TensorPlace, index: &[Expr]) -> Value {
        let mut flat = None;
        for (k, e) in index.iter().enumerate() {
            let i = self.int(f, e);
            flat = Some(match flat {
                None => i,
                Some(so_far) => {
                    let scaled = f.imul(so_far, tensor.shape[k]);
                    f.iadd(scaled, i)
                }
            });
        }
        match flat {
            None => tensor.base,
            Some(flat) => {
                let offset = f.imul_imm(flat, tensor.dtype.bytes() as i64);
                f.iadd(tensor.base, offset)
            }
        }
    }

    fn load(&mut self, f: &mut Code, load: &Load) -> Typed {
        let tensor = &self.scope.tensors[load.tensor.0 as usize];
        let (dtype, kind) = (tensor.dtype, crate::cpu::element::kind_of(tensor.dtype));
        let Some(guard) = &load.guard else {
            let at = self.address(f, tensor, &load.index);
            return load_element(f, dtype, at, self.real);
        };
        let guard = self.bool(f, guard);
        let ty = match kind {
            Kind::Float => self.real,
            Kind::Int => types::I64,
            Kind::Bool => types::I8,
        };
        let real = self.real;
        let value = f.choose(
            guard,
            ty,
            |f| {
                self.inside(|s| {
                    let at = s.address(f, tensor, &load.index);
                    load_element(f, dtype, at, real).value
                })
            },
            |f| match kind {
                Kind::Float => f.float(real, load.fill),
                Kind::Int => f.int(load.fill as i64),
                Kind::Bool => f.bool(load.fill != 0.0),
            },
        );
        Typed { value, kind }
    }
}

/// Whether an expression is worth a branch to avoid: it reads a tensor or calls a function.
fn costly(e: &Expr) -> bool {
    let mut found = false;
    e.visit(&mut |e| {
        found |= matches!(
            e.node(),
            Node::Load(_)
                | Node::Unary(
                    Unary::Exp
                        | Unary::Expm1
                        | Unary::Log
                        | Unary::Log1p
                        | Unary::Tanh
                        | Unary::Sigmoid
                        | Unary::Erf
                        | Unary::Sin
                        | Unary::Cos,
                    _
                )
                | Node::Binary(Binary::Pow, ..)
        );
    });
    found
}
