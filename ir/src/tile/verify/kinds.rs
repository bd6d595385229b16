//! Kinds of expressions, and what may occur in an expression where it stands.

use super::{Extent, Place, TileType, Verifier};
use crate::dtype::DType;
use crate::expr::{Binary, COL, Expr, Kind, Load, Node, Pick, ROW, Unary};

impl Verifier<'_> {
    /// Checks that `e` is of the kind `expected` and may stand here.
    pub(super) fn expect(&mut self, e: &Expr, expected: Kind, place: Place<'_>, what: &str) {
        if let Some(kind) = self.kind(e, place).filter(|&k| k != expected) {
            self.report(format!("{what} `{e}` is of kind {kind:?}, not {expected:?}"));
        }
    }

    /// The kind of `e`; `None` where a problem inside it, which is reported, leaves it open.
    fn kind(&mut self, e: &Expr, place: Place<'_>) -> Option<Kind> {
        match e.node() {
            Node::Float(_) => Some(Kind::Float),
            Node::Int(_) | Node::Dim(_) => Some(Kind::Int),
            Node::Bool(_) => Some(Kind::Bool),
            Node::Arg(k) => {
                self.report(format!("arg{k} stands outside an elementwise operation"));
                None
            }
            Node::Var(v) => {
                let allowed = match *v {
                    ROW | COL => matches!(place, Place::Element(..)),
                    v => place != Place::Grid && self.scope.contains(&v),
                };
                if !allowed {
                    self.report(format!("variable {e} has no value here"));
                }
                Some(Kind::Int)
            }
            Node::Unary(op, a) => {
                let kind = self.kind(a, place)?;
                let (takes, gives) = match op {
                    Unary::Not => (kind == Kind::Bool, Kind::Bool),
                    Unary::IsNan => (kind == Kind::Float, Kind::Bool),
                    Unary::Neg | Unary::Abs | Unary::Sign => (kind != Kind::Bool, kind),
                    _ => (kind == Kind::Float, Kind::Float),
                };
                self.taken(takes, e, kind);
                Some(gives)
            }
            Node::Binary(op, a, b) => {
                let kind = self.joined(e, [a, b], place)?;
                self.taken(kind == Kind::Bool || !matches!(op, Binary::And | Binary::Or), e, kind);
                Some(kind)
            }
            Node::Compare(_, a, b) => {
                self.joined(e, [a, b], place);
                Some(Kind::Bool)
            }
            Node::Select(c, a, b) => {
                self.expect(c, Kind::Bool, place, "a condition");
                self.joined(e, [a, b], place)
            }
            Node::ToFloat(a) => self.kind(a, place).map(|_| Kind::Float),
            Node::ToInt(a) => self.kind(a, place).map(|_| Kind::Int),
            Node::ToBool(a) => self.kind(a, place).map(|_| Kind::Bool),
            Node::Round(dtype, a) => {
                let kind = self.kind(a, place)?;
                let takes = match kind {
                    Kind::Float => dtype.is_float(),
                    Kind::Int => *dtype == DType::I32,
                    Kind::Bool => false,
                };
                self.taken(takes, e, kind);
                Some(kind)
            }
            Node::Load(l) => self.load(l, place),
            Node::Tile(t, row, col) => {
                let Place::Element(rows, cols) = place else {
                    let name = self.name(*t);
                    self.report(format!("tile `{name}` is read outside maps and stores"));
                    return None;
                };
                let tile = self.read(*t)?;
                for (pick, axis) in [(row, &tile.rows), (col, &tile.cols)] {
                    match pick {
                        Pick::Row => self.covers(&tile.name, axis, rows),
                        Pick::Col => self.covers(&tile.name, axis, cols),
                        Pick::Zero if axis.cap == 1 => {}
                        Pick::Zero => {
                            self.report(format!("tile `{}` is broadcast along an axis of {}", tile.name, axis.cap));
                        }
                    }
                }
                Some(tile.ty.kind())
            }
        }
    }

    fn covers(&mut self, name: &str, axis: &Extent, over: &Extent) {
        if axis.cap < over.cap || !self.samples.covers(axis, over) {
            self.report(format!(
                "tile `{name}` has {} of {} elements where {} of {} are read",
                axis.count, axis.cap, over.count, over.cap
            ));
        }
    }

    fn load(&mut self, l: &Load, place: Place<'_>) -> Option<Kind> {
        if matches!(place, Place::Grid | Place::Count) {
            self.report("a tensor is read in a count or grid extent");
        }
        let Some(slow) = self.program.tensors.get(l.tensor.0 as usize) else {
            self.report(format!("there is no tensor m{}", l.tensor.0));
            return None;
        };
        self.index(&l.index, slow.shape.len(), place);
        if let Some(g) = &l.guard {
            self.expect(g, Kind::Bool, place, "a guard");
        }
        Some(TileType::of(slow.dtype).kind())
    }

    /// The one kind of two operands.
    fn joined(&mut self, e: &Expr, operands: [&Expr; 2], place: Place<'_>) -> Option<Kind> {
        let [a, b] = operands.map(|o| self.kind(o, place));
        if let (Some(a), Some(b)) = (a, b)
            && a != b
        {
            self.report(format!("`{e}` joins values of kinds {a:?} and {b:?}"));
        }
        a.or(b)
    }

    fn taken(&mut self, takes: bool, e: &Expr, kind: Kind) {
        if !takes {
            self.report(format!("`{e}` is applied to a value of kind {kind:?}"));
        }
    }
}
