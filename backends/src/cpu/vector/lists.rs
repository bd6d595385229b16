//! Rows that a tile of integers names: a pointer to each, made before the loop over its lanes.

use super::affine::Listed;
use super::call::Argument;
use super::values::{Order, Step, Values};
use crate::cpu::vkir::{Addr, Builder, IReg, IntOp, IntSource, Op};
use mixc_ir::expr::Pick;
use mixc_ir::tile::Axis;

/// A tile whose integers say where rows lie: one for each index of the other axis, in a register while that is done.
#[derive(Clone, Debug)]
pub(super) struct List {
    of: Listed,
    /// Where the integer is.
    at: IReg,
    /// The integer.
    pub now: IReg,
}

/// A pointer to a row that a list names.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// To the row of number 0.
    from: IReg,
    list: usize,
    /// Bytes from a row to the next.
    stride: Step,
    now: IReg,
}

impl Values<'_> {
    /// The number of a list of rows, where the loops can follow it.
    pub(super) fn list(&mut self, b: &mut Builder, of: Listed) -> Option<usize> {
        if self.order != Order::LanesInside || self.reverse.is_some() {
            return None;
        }
        if let Some(known) = self.lists.iter().position(|l| l.of == of) {
            return Some(known);
        }
        let (row, col) = self.forms.strides(self.program, of.tile);
        let pick = if self.frame.lane == Axis::Rows { Pick::Col } else { Pick::Row };
        let along = |p: Pick, bytes: i64| if p == pick { bytes } else { 0 };
        let stride = i32::try_from(along(of.picks.0, row) + along(of.picks.1, col)).ok()?;
        let start = self.arguments.int(b, Argument::Tile(of.tile));
        let at = self.base(b, start, Step::Fixed(stride));
        let now = b.int(0);
        self.lists.push(List { of, at, now });
        Some(self.lists.len() - 1)
    }

    /// The pointer to the row of `start` that a list names, `stride` bytes for each of its integers.
    pub(super) fn listed_row(
        &mut self,
        b: &mut Builder,
        start: IReg,
        outer: Step,
        of: Listed,
        stride: Step,
    ) -> Option<IReg> {
        let (list, from) = (self.list(b, of)?, self.base(b, start, outer));
        let known = self.rows.iter().find(|r| (r.from, r.list, r.stride) == (from, list, stride));
        if let Some(known) = known {
            return Some(known.now);
        }
        let now = b.int(0);
        self.rows.push(Row { from, list, stride, now });
        Some(now)
    }

    /// Reads the lists and makes their pointers, before the loop over lanes.
    pub(super) fn enter_lists(&self, b: &mut Builder) {
        for list in &self.lists {
            b.push(Op::LoadInt { dst: list.now, addr: Addr::new(list.at), wide: true });
        }
        for row in &self.rows {
            let stride = match row.stride {
                Step::Fixed(n) => IntSource::Imm(n),
                Step::Register(n) => IntSource::Reg(n),
            };
            b.push(Op::Int { op: IntOp::Mul, dst: row.now, a: self.lists[row.list].now, b: stride });
            b.push(Op::Int { op: IntOp::Add, dst: row.now, a: row.now, b: IntSource::Reg(row.from) });
        }
    }
}
