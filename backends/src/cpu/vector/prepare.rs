//! The first pass over expressions: whether they fit, and what they need outside the loops.

use super::call::{Argument, FloatArgument, SLOTS};
use super::values::{Values, has_tiles, key};
use crate::cpu::vkir::Builder;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Binary, Expr, Kind, Node, Pick, TileId, Unary};
use mixc_ir::tile::TileType;

impl Values<'_> {
    /// Claims what a real expression needs; `None` if it does not fit.
    pub fn prepare(&mut self, b: &mut Builder, e: &Expr, made: &[TileId]) -> Option<()> {
        if self.arguments.ints.len() > SLOTS - 8 {
            return None;
        }
        if self.kind(e) != Kind::Float {
            return None;
        }
        if !matches!(e.node(), Node::Float(_)) && self.frame.is_fixed(e) && !has_tiles(e) {
            let float = self.arguments.float(FloatArgument::Real(e.clone()));
            self.arguments.int(b, Argument::Floats);
            self.float_of.insert(key(e), float);
            return Some(());
        }
        match e.node() {
            Node::Float(_) => Some(()),
            Node::Tile(t, Pick::Row, Pick::Col) if made.contains(t) => Some(()),
            Node::Tile(t, ..) if made.contains(t) => None,
            Node::Tile(t, row, col) => self.tile_operand(b, *t, (*row, *col)).map(|_| ()),
            Node::Load(load) => {
                let id = (key(e), 0);
                if !self.operand_of.contains_key(&id) {
                    let operand = self.tensor_operand(b, load.tensor, &load.index)?;
                    if let Some(guard) = &load.guard {
                        self.limit(b, operand, guard)?;
                        self.operands[operand].fill = load.fill;
                    }
                    self.operand_of.insert(id, operand);
                }
                Some(())
            }
            Node::Unary(op, a) => match op {
                Unary::IsNan | Unary::Not => None,
                _ => self.prepare(b, a, made),
            },
            Node::Binary(op, x, y) => match op {
                Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Max | Binary::Min | Binary::Pow => {
                    self.prepare(b, x, made)?;
                    self.prepare(b, y, made)
                }
                Binary::Mod | Binary::And | Binary::Or => None,
            },
            Node::Select(c, x, y) => {
                self.prepare_condition(b, c, made)?;
                self.prepare(b, x, made)?;
                self.prepare(b, y, made)
            }
            Node::ToFloat(a) => match self.kind(a) {
                Kind::Float => self.prepare(b, a, made),
                Kind::Bool => self.prepare_condition(b, a, made),
                Kind::Int => {
                    self.arguments.int(b, Argument::Floats);
                    let affine = self.frame.affine(a)?;
                    self.position(b, key(e), affine, false)
                }
            },
            Node::Round(DType::F32 | DType::F16 | DType::BF16, a) => self.prepare(b, a, made),
            _ => None,
        }
    }

    fn prepare_condition(&mut self, b: &mut Builder, e: &Expr, made: &[TileId]) -> Option<()> {
        if self.frame.is_fixed(e) && !has_tiles(e) {
            let float = self.arguments.float(FloatArgument::Condition(e.clone()));
            self.arguments.int(b, Argument::Floats);
            self.float_of.insert(key(e), float);
            return Some(());
        }
        match e.node() {
            Node::Compare(_, x, y) => match (self.kind(x), self.kind(y)) {
                (Kind::Int, Kind::Int) => {
                    self.arguments.int(b, Argument::Floats);
                    let affine = self.frame.affine(&(x.clone() - y.clone()))?;
                    self.position(b, key(e), affine, true)
                }
                (Kind::Float, Kind::Float) => {
                    self.prepare(b, x, made)?;
                    self.prepare(b, y, made)
                }
                _ => None,
            },
            Node::Binary(Binary::And | Binary::Or, x, y) => {
                self.prepare_condition(b, x, made)?;
                self.prepare_condition(b, y, made)
            }
            Node::Unary(Unary::Not, a) => self.prepare_condition(b, a, made),
            Node::Unary(Unary::IsNan, a) => self.prepare(b, a, made),
            Node::ToBool(a) => match self.kind(a) {
                Kind::Float => self.prepare(b, a, made),
                Kind::Bool => self.prepare_condition(b, a, made),
                Kind::Int => None,
            },
            Node::Load(_) if self.operand_of.contains_key(&(key(e), 0)) => Some(()),
            Node::Load(load) if self.program.slow(load.tensor).dtype == DType::Bool => {
                let operand = self.tensor_operand(b, load.tensor, &load.index)?;
                if let Some(guard) = &load.guard {
                    self.limit(b, operand, guard)?;
                    self.operands[operand].fill = load.fill;
                }
                self.operand_of.insert((key(e), 0), operand);
                Some(())
            }
            Node::Tile(t, row, col) if self.program.tile(*t).ty == TileType::Bool => {
                self.tile_operand(b, *t, (*row, *col)).map(|_| ())
            }
            _ => None,
        }
    }
}
