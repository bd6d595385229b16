//! What is known of every class: types by the operations' own rules, structure and support of operators, constants.

use super::alike::{self, Axes};
use super::positions::Positions;
use super::term::{Head, Term, Written};
use egg::Id;
use mixc_ir::attr::{AttrValue, Attrs};
use mixc_ir::diag::Fault;
use mixc_ir::dim::DimBounds;
use mixc_ir::op::Call;
use mixc_ir::program::ValueId;
use mixc_ir::support::Structure;
use mixc_ir::ty::{TensorType, Type};
use std::sync::Arc;

/// What is known of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueFact {
    /// Its type.
    pub ty: Type,
    /// Of an operator: support and structure.
    pub structure: Option<Structure>,
    /// The number that every element is.
    pub splat: Option<f64>,
    /// Its rank among the inputs, if it is one.
    pub input: Option<u32>,
    /// Whether every element is known to be greater than 0.
    pub positive: bool,
    /// Which positions it marks, of an input that is a mask.
    pub positions: Option<Positions>,
    /// Axes along which all elements are alike, as [`super::alike`] counts them.
    pub alike: Axes,
}

/// What is known of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// A value.
    Value(ValueFact),
    /// An attribute.
    Attr(AttrValue),
    /// A written type.
    Written(Written),
    /// Nothing is given here.
    Absent,
    /// The node has no type; only a wrong rule makes one, and the region is then left as written.
    Fault(String),
}

impl Fact {
    /// The value's facts.
    pub fn value(&self) -> Option<&ValueFact> {
        match self {
            Fact::Value(v) => Some(v),
            _ => None,
        }
    }

    /// The value's type.
    pub fn ty(&self) -> Option<&Type> {
        self.value().map(|v| &v.ty)
    }

    /// The tensor type.
    pub fn tensor(&self) -> Option<&TensorType> {
        self.ty().and_then(Type::as_tensor)
    }

    /// The structure, of an operator.
    pub fn structure(&self) -> Option<&Structure> {
        self.value().and_then(|v| v.structure.as_ref())
    }
}

/// What a region reads from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct InputFact {
    /// Type of the value.
    pub ty: Type,
    /// Whether every element is known to be greater than 0 (an exponential, a sigmoid).
    pub positive: bool,
    /// Which positions it marks, if it is a mask written as a comparison of positions.
    pub positions: Option<Positions>,
    /// Its rank in an order of the inputs that spellings, and regions that differ in names, share.
    pub order: u32,
    /// Axes along which all elements are alike.
    pub alike: Axes,
}

/// What types depend on besides the terms.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Bounds of the symbols.
    pub bounds: Arc<DimBounds>,
    /// The inputs.
    pub inputs: Arc<Vec<InputFact>>,
    /// Parameters of the approximate rules that are allowed.
    pub approximations: Arc<std::collections::BTreeMap<String, Attrs>>,
}

/// The fact of `term`, whose arguments' facts are looked up by `fact`; in types and supports, an argument is the value
/// of its id's number. The error says what the type rule found.
pub fn infer<'a>(around: &Surroundings, term: &Term, fact: &dyn Fn(Id) -> &'a Fact) -> Result<Fact, String> {
    let plain = |ty: Type| {
        let alike = alike::trivially(&ty);
        ValueFact { ty, structure: None, splat: None, input: None, positive: false, positions: None, alike }
    };
    match &term.head {
        Head::Attr(value) => Ok(Fact::Attr(value.clone())),
        Head::Written(ty) => Ok(Fact::Written(ty.clone())),
        Head::Absent => Ok(Fact::Absent),
        Head::Input(k) => {
            let input = around.inputs.get(*k as usize).ok_or_else(|| format!("no input {k}"))?;
            let plain = plain(input.ty.clone());
            let (positive, positions, alike) = (input.positive, input.positions.clone(), input.alike | plain.alike);
            Ok(Fact::Value(ValueFact { input: Some(input.order), positive, positions, alike, ..plain }))
        }
        Head::Splat(x) => match term.args.first().map(|&id| fact(id)) {
            Some(Fact::Written(ty)) => {
                let alike = Axes::MAX;
                Ok(Fact::Value(ValueFact { splat: Some(x.0), positive: x.0 > 0.0, alike, ..plain(ty.to_type()) }))
            }
            other => Err(format!("a constant of type {other:?}")),
        },
        Head::Op(_) => infer_call(around, term, fact).map(Fact::Value),
    }
}

fn infer_call<'a>(around: &Surroundings, term: &Term, fact: &dyn Fn(Id) -> &'a Fact) -> Result<ValueFact, String> {
    let parts = term.call().ok_or_else(|| format!("{:?} has too few arguments", term.head))?;
    let mut attrs = Attrs::new();
    for (spec, id) in parts.op.attrs.iter().zip(parts.attrs) {
        match fact(*id) {
            Fact::Attr(value) => attrs = attrs.with(spec.name, value.clone()),
            Fact::Absent => {}
            other => return Err(format!("attribute {} of {} is {other:?}", spec.name, parts.op.name)),
        }
    }
    let given = parts.operands.iter().rposition(|id| !matches!(fact(*id), Fact::Absent)).map_or(0, |k| k + 1);
    let operands = &parts.operands[..given];
    for id in operands {
        match fact(*id) {
            Fact::Value(_) | Fact::Absent => {}
            other => return Err(format!("operand of {} is {other:?}", parts.op.name)),
        }
    }
    let written = match fact(parts.written) {
        Fact::Written(w) => vec![Some(w.to_type())],
        _ => Vec::new(),
    };
    let values = operands
        .iter()
        .map(|id| fact(*id).value().map(|_| ValueId(u32::try_from(usize::from(*id)).unwrap_or(u32::MAX))))
        .collect();
    let call = Call {
        op: parts.op,
        types: operands.iter().map(|id| fact(*id).ty()).collect(),
        structures: operands.iter().map(|id| fact(*id).structure()).collect(),
        values,
        attrs: &attrs,
        written: &written,
        bounds: &around.bounds,
    };
    let mut types = call.check().map_err(|faults| describe(parts.op.name, &faults))?;
    if types.len() != 1 {
        return Err(format!("`{}` has {} results", parts.op.name, types.len()));
    }
    let ty = types.remove(0);
    let structure = parts.op.structure.filter(|_| ty.as_mix().is_some()).map(|f| f(&call));
    let positive = ALWAYS_POSITIVE.contains(&parts.op.name)
        || (KEEPS_POSITIVE.contains(&parts.op.name)
            && operands.iter().all(|id| fact(*id).value().is_none_or(|v| v.positive)));
    let known: Vec<Option<(&Type, Axes)>> =
        operands.iter().map(|id| fact(*id).value().map(|v| (&v.ty, v.alike))).collect();
    let alike = alike::of_call(parts.op, &attrs, &known, &ty);
    Ok(ValueFact { ty, structure, splat: None, input: None, positive, positions: None, alike })
}

/// Operations whose results are greater than 0 in real arithmetic.
pub const ALWAYS_POSITIVE: [&str; 3] = ["exp", "sigmoid", "softplus"];

/// Operations whose results are greater than 0 when all operands are.
const KEEPS_POSITIVE: [&str; 8] =
    ["reshape", "transpose", "mul", "add", "reverse", "broadcast", "split_heads", "merge_heads"];

/// Faults in one line.
pub fn describe(op: &str, faults: &[Fault]) -> String {
    let all: Vec<&str> = faults.iter().map(|f| f.message.as_str()).collect();
    format!("`{op}`: {}", all.join("; "))
}

/// Terms with sharing: equal terms have one id. Everything in it is well-typed.
#[derive(Clone, Debug, Default)]
pub struct TermGraph {
    /// What types depend on.
    pub around: Surroundings,
    terms: Vec<Term>,
    facts: Vec<Fact>,
    ids: std::collections::HashMap<Term, Id>,
}

impl TermGraph {
    /// Without terms.
    pub fn new(around: Surroundings) -> TermGraph {
        TermGraph { around, ..TermGraph::default() }
    }

    /// The id of `term`, or why it has no type.
    pub fn add(&mut self, term: Term) -> Result<Id, String> {
        if let Some(id) = self.ids.get(&term) {
            return Ok(*id);
        }
        let fact = infer(&self.around, &term, &|id| &self.facts[usize::from(id)])?;
        let id = Id::from(self.terms.len());
        self.terms.push(term.clone());
        self.facts.push(fact);
        self.ids.insert(term, id);
        Ok(id)
    }

    /// A term.
    pub fn term(&self, id: Id) -> &Term {
        &self.terms[usize::from(id)]
    }

    /// Its fact.
    pub fn fact(&self, id: Id) -> &Fact {
        &self.facts[usize::from(id)]
    }

    /// The terms that `roots` are made of, arguments before what they are arguments of.
    pub fn reachable(&self, roots: &[Id]) -> Vec<Id> {
        let mut seen = vec![false; self.terms.len()];
        let mut stack: Vec<Id> = roots.to_vec();
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut seen[usize::from(id)], true) {
                stack.extend(self.term(id).args.iter().copied());
            }
        }
        // Arguments are added before their users, so ids are in order.
        (0..self.terms.len()).filter(|&k| seen[k]).map(Id::from).collect()
    }
}
