//! Expressions for one element: what variables, tiles and tensors hold there.

use super::super::TileType;
use super::{Machine, Rounding, TileFault, flat, kind_of};
use crate::dtype::DType;
use crate::expr::{COL, Expr, Kind, Load, Node, Pick, ROW, Scalar, eval_binary, eval_compare, eval_unary};

impl Machine<'_> {
    pub(super) fn integer(&self, e: &Expr, at: Option<(usize, usize)>) -> Result<i64, TileFault> {
        match self.eval(e, at)? {
            Scalar::Int(n) => Ok(n),
            _ => Err(TileFault::Kinds(format!("`{e}` is not an integer"))),
        }
    }

    pub(super) fn boolean(&self, e: &Expr, at: Option<(usize, usize)>) -> Result<bool, TileFault> {
        match self.eval(e, at)? {
            Scalar::Bool(b) => Ok(b),
            _ => Err(TileFault::Kinds(format!("`{e}` is not a condition"))),
        }
    }

    pub(super) fn index(&self, index: &[Expr], at: Option<(usize, usize)>) -> Result<Vec<i64>, TileFault> {
        index.iter().map(|e| self.integer(e, at)).collect()
    }

    /// The value of `e` for the element `at` of the tile under construction, if one is.
    pub(super) fn eval(&self, e: &Expr, at: Option<(usize, usize)>) -> Result<Scalar, TileFault> {
        Ok(match e.node() {
            Node::Float(x) => Scalar::Float(*x),
            Node::Int(n) => Scalar::Int(*n),
            Node::Bool(b) => Scalar::Bool(*b),
            Node::Arg(k) => return Err(TileFault::Argument(*k)),
            Node::Dim(d) => return Err(TileFault::Dim(format!("dimension {d} has no value"))),
            Node::Var(v) => {
                let place = match *v {
                    ROW => at.map(|(r, _)| r as i64),
                    COL => at.map(|(_, c)| c as i64),
                    v => self.vars.get(v.0 as usize).copied().flatten(),
                };
                Scalar::Int(place.ok_or(TileFault::UnboundVar(*v))?)
            }
            Node::Unary(op, a) => eval_unary(*op, self.eval(a, at)?),
            Node::Binary(op, a, b) => {
                let (a, b) = (self.eval(a, at)?, self.eval(b, at)?);
                same_kind(e, a, b)?;
                eval_binary(*op, a, b)
            }
            Node::Compare(op, a, b) => {
                let (a, b) = (self.eval(a, at)?, self.eval(b, at)?);
                same_kind(e, a, b)?;
                Scalar::Bool(eval_compare(*op, a, b))
            }
            Node::Select(c, a, b) => {
                let (c, a, b) = (self.boolean(c, at)?, self.eval(a, at)?, self.eval(b, at)?);
                same_kind(e, a, b)?;
                if c { a } else { b }
            }
            Node::ToFloat(a) => Scalar::Float(self.eval(a, at)?.as_float()),
            Node::ToInt(a) => Scalar::Int(self.eval(a, at)?.as_int()),
            Node::ToBool(a) => Scalar::Bool(self.eval(a, at)?.as_bool()),
            Node::Round(d, a) => match self.eval(a, at)? {
                Scalar::Float(x) => Scalar::Float(d.round(x)),
                Scalar::Int(n) if *d == DType::I32 => Scalar::Int(n as i32 as i64),
                other => other,
            },
            Node::Load(l) => self.load(l, at)?,
            Node::Tile(t, row, col) => {
                let place = |pick: &Pick| match (pick, at) {
                    (Pick::Zero, _) => Ok(0),
                    (Pick::Row, Some((r, _))) => Ok(r),
                    (Pick::Col, Some((_, c))) => Ok(c),
                    (Pick::Row, None) => Err(TileFault::UnboundVar(ROW)),
                    (Pick::Col, None) => Err(TileFault::UnboundVar(COL)),
                };
                let (row, col) = (place(row)?, place(col)?);
                let value = self.value(*t)?;
                value.get(row, col).ok_or_else(|| TileFault::Absent {
                    name: self.tile_name(*t).to_string(),
                    row,
                    col,
                    counts: value.counts(),
                })?
            }
        })
    }

    fn load(&self, l: &Load, at: Option<(usize, usize)>) -> Result<Scalar, TileFault> {
        let unknown = || TileFault::WrongRole(format!("m{}", l.tensor.0));
        let slow = self.program.tensors.get(l.tensor.0 as usize).ok_or_else(unknown)?;
        let memory = &self.memory[l.tensor.0 as usize];
        let reads = match &l.guard {
            None => true,
            Some(g) => self.boolean(g, at)?,
        };
        // The index is evaluated whatever the guard says: tensor elements inside it carry guards of their own.
        let index = self.index(&l.index, at)?;
        if !reads {
            let fill = Scalar::Float(l.fill);
            return Ok(match kind_of(slow.dtype) {
                Kind::Float => fill,
                Kind::Int => Scalar::Int(fill.as_int()),
                Kind::Bool => Scalar::Bool(fill.as_bool()),
            });
        }
        let Some(place) = flat(&memory.shape, &memory.strides, &index) else {
            return Err(TileFault::LoadOutside { name: slow.name.clone(), index, shape: memory.shape.clone() });
        };
        if let Some(input) = memory.input {
            return Ok(input.get(place));
        }
        // A grid point may read back what it has stored itself, and nothing else of an output.
        match memory.written[place] {
            Some(x) if memory.writer[place] == self.point => Ok(x),
            _ => Err(TileFault::NotOwn { name: slow.name.clone(), index }),
        }
    }

    /// Rounds an element of a tile of type `ty`.
    pub(super) fn rounded(&self, ty: TileType, x: Scalar) -> Scalar {
        match x {
            Scalar::Float(x) if ty == TileType::F32 && self.rounding == Rounding::Tiles => {
                Scalar::Float(DType::F32.round(x))
            }
            other => other,
        }
    }
}

fn same_kind(e: &Expr, a: Scalar, b: Scalar) -> Result<(), TileFault> {
    if a.kind() == b.kind() {
        return Ok(());
    }
    Err(TileFault::Kinds(format!("`{e}` joins values of kinds {:?} and {:?}", a.kind(), b.kind())))
}
