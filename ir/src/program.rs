//! A verified, typed program: the entry function with every call inlined, one node an operation.
//!
//! Values are numbered in the order of definition; a node's operands come before it. The builder is the one way to make
//! a program: it infers types with the operations' own rules, so an ill-typed program cannot be built.

use crate::attr::Attrs;
use crate::diag::{Fault, Span};
use crate::dim::{DimBounds, Symbol};
use crate::op::{Call, Op};
use crate::support::Structure;
use crate::ty::Type;
use std::fmt;

/// A value of a [`Program`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl fmt::Debug for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl ValueId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is known of a value.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its name in the text, without `%`; unique in the program.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Of an operator: support and algebraic structure.
    pub structure: Option<Structure>,
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Const {
    /// A stored tensor, by name.
    Weight(String),
    /// One number everywhere.
    Splat(f64),
    /// Written numbers, row-major.
    Dense(Vec<f64>),
}

/// What a node does.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// An operation.
    Op(&'static Op),
    /// A constant.
    Const(Const),
}

/// One step of a program.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub kind: NodeKind,
    /// Operands; an absent optional one is `None`.
    pub operands: Vec<Option<ValueId>>,
    /// Attributes.
    pub attrs: Attrs,
    /// Results.
    pub results: Vec<ValueId>,
    /// Where it was written.
    pub span: Span,
}

impl Node {
    /// The operation's name, if the node is one.
    pub fn op_name(&self) -> Option<&'static str> {
        match self.kind {
            NodeKind::Op(op) => Some(op.name),
            NodeKind::Const(_) => None,
        }
    }
}

/// A `dim` item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DimItem {
    /// The symbol.
    pub name: Symbol,
    /// Least value.
    pub low: i64,
    /// Greatest value.
    pub high: i64,
}

/// A whole model.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The entry function's name.
    pub name: String,
    /// Symbols with their bounds, in the order written.
    pub dims: Vec<DimItem>,
    /// Paths of weight files as written.
    pub weights: Vec<String>,
    /// All values.
    pub values: Vec<Value>,
    /// Parameters, in order.
    pub params: Vec<ValueId>,
    /// Steps, in order of execution.
    pub nodes: Vec<Node>,
    /// Results, in order.
    pub results: Vec<ValueId>,
}

impl Program {
    /// The type of a value.
    pub fn ty(&self, v: ValueId) -> &Type {
        &self.values[v.index()].ty
    }

    /// The name of a value.
    pub fn name_of(&self, v: ValueId) -> &str {
        &self.values[v.index()].name
    }

    /// The bounds of the symbols.
    pub fn bounds(&self) -> DimBounds {
        self.dims.iter().map(|d| (d.name.clone(), (d.low, d.high))).collect()
    }

    /// The node that defines each value (`None` for parameters).
    pub fn definitions(&self) -> Vec<Option<usize>> {
        let mut defs = vec![None; self.values.len()];
        for (n, node) in self.nodes.iter().enumerate() {
            for r in &node.results {
                defs[r.index()] = Some(n);
            }
        }
        defs
    }
}

/// Makes a program step by step.
#[derive(Debug)]
pub struct Builder {
    /// The program so far.
    pub program: Program,
    /// The place that new nodes are attributed to.
    pub span: Span,
    bounds: DimBounds,
}

impl Builder {
    /// A program with these symbols and nothing else.
    pub fn new(name: &str, dims: Vec<DimItem>) -> Builder {
        let program = Program { name: name.to_string(), dims, ..Program::default() };
        Builder { bounds: program.bounds(), program, span: Span::default() }
    }

    /// Goes on with `program`, whose results may be changed.
    pub fn resume(program: Program) -> Builder {
        Builder { bounds: program.bounds(), program, span: Span::default() }
    }

    /// The type of a value.
    pub fn ty(&self, v: ValueId) -> &Type {
        self.program.ty(v)
    }

    /// Bounds of the symbols.
    pub fn bounds(&self) -> &DimBounds {
        &self.bounds
    }

    fn value(&mut self, name: Option<&str>, ty: Type, structure: Option<Structure>) -> ValueId {
        let id = ValueId(self.program.values.len() as u32);
        // A dot cannot start a written name's suffix twice: `x.3` made here never meets another `x.3`, since ids differ
        // and written names are made unique by the caller.
        let name = match name {
            Some(name) => name.to_string(),
            None => format!("_{}", id.0),
        };
        self.program.values.push(Value { name, ty, structure });
        id
    }

    /// A new parameter.
    pub fn param(&mut self, name: &str, ty: Type) -> ValueId {
        let v = self.value(Some(name), ty, None);
        self.program.params.push(v);
        v
    }

    /// A constant of a tensor type.
    pub fn constant(&mut self, name: Option<&str>, constant: Const, ty: Type) -> ValueId {
        let v = self.value(name, ty, None);
        self.program.nodes.push(Node {
            kind: NodeKind::Const(constant),
            operands: Vec::new(),
            attrs: Attrs::new(),
            results: vec![v],
            span: self.span,
        });
        v
    }

    /// An operation with all that the text can give: absent operands, result names and written types.
    pub fn call(
        &mut self,
        op: &'static Op,
        operands: &[Option<ValueId>],
        attrs: Attrs,
        written: &[Option<Type>],
        names: &[Option<&str>],
    ) -> Result<Vec<ValueId>, Vec<Fault>> {
        let call = Call {
            op,
            types: operands.iter().map(|o| o.map(|v| self.program.ty(v))).collect(),
            structures: operands
                .iter()
                .map(|o| o.and_then(|v| self.program.values[v.index()].structure.as_ref()))
                .collect(),
            values: operands.to_vec(),
            attrs: &attrs,
            written,
            bounds: &self.bounds,
        };
        let types = call.check()?;
        let structure = op.structure.filter(|_| matches!(types.first(), Some(Type::Mix(_)))).map(|f| f(&call));
        let results: Vec<ValueId> = types
            .into_iter()
            .enumerate()
            .map(|(k, ty)| self.value(names.get(k).copied().flatten(), ty, structure.clone()))
            .collect();
        self.program.nodes.push(Node {
            kind: NodeKind::Op(op),
            operands: operands.to_vec(),
            attrs,
            results: results.clone(),
            span: self.span,
        });
        Ok(results)
    }

    /// The single result of a well-typed call, for expansions: the operation `name` of the catalogue.
    pub fn op(&mut self, name: &str, operands: &[ValueId], attrs: Attrs) -> Result<ValueId, Vec<Fault>> {
        self.op_typed(name, operands, attrs, None)
    }

    /// As [`Builder::op`], with the result type written.
    pub fn op_typed(
        &mut self,
        name: &str,
        operands: &[ValueId],
        attrs: Attrs,
        written: Option<Type>,
    ) -> Result<ValueId, Vec<Fault>> {
        let op = crate::ops::find(name).ok_or_else(|| vec![Fault::call(format!("no operation `{name}`"))])?;
        let operands: Vec<Option<ValueId>> = operands.iter().copied().map(Some).collect();
        Ok(self.call(op, &operands, attrs, &[written], &[])?[0])
    }

    /// Ends the program with these results.
    pub fn finish(mut self, results: Vec<ValueId>) -> Program {
        self.program.results = results;
        self.program
    }
}
