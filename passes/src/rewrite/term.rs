//! The e-graph's language: one uniform node, a head and arguments, whatever the operation.
//!
//! Attributes are leaf children, one an entry of the operation's list in its order, so that rules can bind and compute
//! them; then come the operands, then the written result type where the types of the operands do not determine it.
//! What is not given is the leaf [`Head::Absent`]. No loops, tiles or sizes: the e-graph chooses algorithms.

use egg::{Id, Language};
use mixc_ir::attr::{AttrKind, AttrSpec, AttrValue, Real};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::op::Op;
use mixc_ir::ty::{Align, MixType, TensorType, Type};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// An operation, compared by name.
#[derive(Clone, Copy)]
pub struct OpKey(pub &'static Op);

impl PartialEq for OpKey {
    fn eq(&self, other: &OpKey) -> bool {
        self.0.name == other.0.name
    }
}
impl Eq for OpKey {}
impl PartialOrd for OpKey {
    fn partial_cmp(&self, other: &OpKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for OpKey {
    fn cmp(&self, other: &OpKey) -> Ordering {
        self.0.name.cmp(other.0.name)
    }
}
impl Hash for OpKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}
impl fmt::Debug for OpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

/// A type as it is written: without the alignment, which only operands give.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Written {
    /// Whether it is an operator's.
    pub mix: bool,
    /// Element type.
    pub dtype: DType,
    /// All dims.
    pub dims: Vec<Dim>,
}

impl Written {
    /// Of a type.
    pub fn of(ty: &Type) -> Written {
        Written { mix: ty.as_mix().is_some(), dtype: ty.dtype(), dims: ty.dims() }
    }

    /// As a type; operators are aligned to the end.
    pub fn to_type(&self) -> Type {
        match (self.mix, self.dims.as_slice()) {
            (true, [batch @ .., rows, cols]) => Type::Mix(MixType {
                dtype: self.dtype,
                batch: batch.to_vec(),
                rows: rows.clone(),
                cols: cols.clone(),
                align: Align::End,
            }),
            _ => Type::Tensor(TensorType::new(self.dtype, self.dims.clone())),
        }
    }
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Head {
    /// An operation over attributes, operands and a written type.
    Op(OpKey),
    /// A value from outside, by its place in the region's list.
    Input(u32),
    /// A constant with one number everywhere; its argument is the written type.
    Splat(Real),
    /// An attribute's value.
    Attr(AttrValue),
    /// A written type.
    Written(Written),
    /// An attribute, operand or type that is not given.
    Absent,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Term {
    /// What it is.
    pub head: Head,
    /// Attributes, operands, written type.
    pub args: Vec<Id>,
}

impl Term {
    /// A node without arguments.
    pub fn leaf(head: Head) -> Term {
        Term { head, args: Vec::new() }
    }

    /// The parts of a call.
    pub fn call(&self) -> Option<CallParts<'_>> {
        let Head::Op(OpKey(op)) = self.head else { return None };
        let (written, rest) = self.args.split_last()?;
        let (attrs, operands) = rest.split_at_checked(op.attrs.len())?;
        Some(CallParts { op, attrs, operands, written: *written })
    }
}

/// The arguments of a call by their parts.
#[derive(Clone, Copy, Debug)]
pub struct CallParts<'a> {
    /// The operation.
    pub op: &'static Op,
    /// One an attribute of the operation.
    pub attrs: &'a [Id],
    /// At least one an operand of the operation.
    pub operands: &'a [Id],
    /// The written type.
    pub written: Id,
}

/// Kinds of heads, for the index of the e-graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An operation of that name.
    Op(&'static str),
    /// Everything without arguments.
    Leaf,
    /// A constant.
    Splat,
}

impl Language for Term {
    type Discriminant = Kind;

    fn discriminant(&self) -> Kind {
        match &self.head {
            Head::Op(op) => Kind::Op(op.0.name),
            Head::Splat(_) => Kind::Splat,
            _ => Kind::Leaf,
        }
    }

    fn matches(&self, other: &Term) -> bool {
        self.head == other.head && self.args.len() == other.args.len()
    }

    fn children(&self) -> &[Id] {
        &self.args
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.args
    }
}

/// An attribute's value in its one spelling: no `false` flags, reals where reals are meant. `None`: as if not given.
pub fn normal_attr(spec: &AttrSpec, value: &AttrValue) -> Option<AttrValue> {
    match (spec.kind, value) {
        (AttrKind::Bool, AttrValue::Bool(false)) => None,
        (AttrKind::Float, AttrValue::Dim(d)) => Some(match d.as_constant() {
            Some(n) => AttrValue::Float(Real(n as f64)),
            None => value.clone(),
        }),
        (AttrKind::Float, AttrValue::Float(x)) => Some(AttrValue::Float(Real(if x.0 == 0.0 { 0.0 } else { x.0 }))),
        _ => Some(value.clone()),
    }
}
