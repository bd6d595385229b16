//! The second pass over expressions: the steps of one iteration.

use super::steps::{round_bits, round_f16, strict, unary};
use super::values::{Here, Values, key, pick_number};
use crate::cpu::vkir::{BinaryOp, Builder, Condition, MReg, UnaryOp, VReg};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Binary, Compare, Expr, Kind, Node, Pick, TileId, Unary};

impl Values<'_> {
    /// A tile's element in this iteration.
    pub fn tile(&mut self, b: &mut Builder, t: TileId, picks: (Pick, Pick), here: Here) -> VReg {
        if picks == (Pick::Row, Pick::Col)
            && let Some(value) = self.local.get(&t)
        {
            return *value;
        }
        let id = (t.0 as usize, 1 + 3 * pick_number(picks.0) + pick_number(picks.1));
        if let Some(value) = self.now.get(&id) {
            return *value;
        }
        let operand = self.operand_of[&id];
        let value = self.read(b, operand, here);
        self.now.insert(id, value);
        value
    }

    /// The steps of a prepared real expression.
    pub fn real(&mut self, b: &mut Builder, e: &Expr, here: Here) -> VReg {
        let id = (key(e), 0);
        if let Some(value) = self.now.get(&id) {
            return *value;
        }
        let value = self.real_node(b, e, here);
        self.now.insert(id, value);
        value
    }

    fn real_node(&mut self, b: &mut Builder, e: &Expr, here: Here) -> VReg {
        if let Some(float) = self.float_of.get(&key(e)) {
            return self.arguments.broadcast(b, *float);
        }
        match e.node() {
            Node::Float(x) => b.constant(*x as f32),
            Node::Tile(t, row, col) => self.tile(b, *t, (*row, *col), here),
            Node::Load(_) => {
                let operand = self.operand_of[&(key(e), 0)];
                self.read(b, operand, here)
            }
            Node::Unary(op, a) => {
                let x = self.real(b, a, here);
                unary(b, *op, x)
            }
            Node::Binary(Binary::Add, x, y) => {
                // A product and a sum in one step.
                for (product, addend) in [(x, y), (y, x)] {
                    if let Node::Binary(Binary::Mul, p, q) = product.node()
                        && !self.float_of.contains_key(&key(product))
                    {
                        let (p, q) = (self.real(b, p, here), self.real(b, q, here));
                        let addend = self.real(b, addend, here);
                        let sum = b.copy(addend);
                        b.fma(sum, p, q);
                        return sum;
                    }
                }
                let (x, y) = (self.real(b, x, here), self.real(b, y, here));
                b.add(x, y)
            }
            Node::Binary(op, x, y) => {
                let (x, y) = (self.real(b, x, here), self.real(b, y, here));
                match op {
                    Binary::Sub => b.sub(x, y),
                    Binary::Mul => b.mul(x, y),
                    Binary::Div => b.div(x, y),
                    Binary::Max => strict(b, BinaryOp::Max, x, y),
                    Binary::Min => strict(b, BinaryOp::Min, x, y),
                    Binary::Pow => b.pow(x, y),
                    _ => b.add(x, y),
                }
            }
            Node::Select(c, x, y) => {
                let mask = self.condition(b, c, here);
                let (x, y) = (self.real(b, x, here), self.real(b, y, here));
                b.select(mask, x, y)
            }
            Node::ToFloat(a) => match self.position_of.get(&key(e)) {
                Some(k) => self.positions[*k].now,
                None if self.kind(a) == Kind::Bool => {
                    let mask = self.condition(b, a, here);
                    let (one, zero) = (b.constant(1.0), b.constant(0.0));
                    b.select(mask, one, zero)
                }
                None => self.real(b, a, here),
            },
            Node::Round(dtype, a) => {
                let x = self.real(b, a, here);
                match dtype {
                    DType::BF16 => round_bits(b, x, 16),
                    DType::F16 => round_f16(b, x),
                    _ => x,
                }
            }
            // `prepare` lets nothing else pass.
            _ => b.constant(0.0),
        }
    }

    fn condition(&mut self, b: &mut Builder, e: &Expr, here: Here) -> MReg {
        if let Some(float) = self.float_of.get(&key(e)) {
            let value = self.arguments.broadcast(b, *float);
            return b.compare(Condition::Ne, value, 0.0);
        }
        match e.node() {
            Node::Compare(op, x, y) => {
                let condition = match op {
                    Compare::Eq => Condition::Eq,
                    Compare::Ne => Condition::Ne,
                    Compare::Lt => Condition::Lt,
                    Compare::Le => Condition::Le,
                    Compare::Gt => Condition::Gt,
                    Compare::Ge => Condition::Ge,
                };
                match self.position_of.get(&key(e)) {
                    Some(k) => b.compare(condition, self.positions[*k].now, 0.0),
                    None => {
                        let (x, y) = (self.real(b, x, here), self.real(b, y, here));
                        b.compare(condition, x, y)
                    }
                }
            }
            Node::Binary(op, x, y) => {
                let (x, y) = (self.condition(b, x, here), self.condition(b, y, here));
                if *op == Binary::And { b.mask_and(x, y) } else { b.mask_or(x, y) }
            }
            Node::Unary(Unary::IsNan, a) => {
                let x = self.real(b, a, here);
                b.compare(Condition::Ne, x, x)
            }
            Node::Unary(_, a) => {
                let x = self.condition(b, a, here);
                b.mask_not(x)
            }
            Node::ToBool(a) if self.kind(a) == Kind::Bool => self.condition(b, a, here),
            Node::ToBool(a) => {
                let x = self.real(b, a, here);
                b.compare(Condition::Ne, x, 0.0)
            }
            Node::Tile(t, row, col) => {
                let byte = self.tile(b, *t, (*row, *col), here);
                let value = b.unary(UnaryOp::ToFloat, byte);
                b.compare(Condition::Ne, value, 0.0)
            }
            _ => {
                let operand = self.operand_of[&(key(e), 0)];
                // The fill of a boolean is the integer that it stands for.
                let fill = std::mem::replace(&mut self.operands[operand].fill, 0.0);
                let byte = self.read(b, operand, here);
                let value = b.unary(UnaryOp::ToFloat, byte);
                let value = if fill != 0.0 {
                    let described = self.operands[operand].clone();
                    match self.lanes_of(b, &described, here) {
                        Some(tail) => {
                            let one = b.constant(1.0);
                            b.select(tail.mask, value, one)
                        }
                        None => value,
                    }
                } else {
                    value
                };
                self.operands[operand].fill = fill;
                b.compare(Condition::Ne, value, 0.0)
            }
        }
    }
}
