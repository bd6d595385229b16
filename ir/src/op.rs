//! The single definition of an operation: name, operands, attributes, type rule, meaning, expansion, laws, example.
//!
//! Everything else is derived from it: parsing and printing, diagnostics, the reference interpreter, the catalogue that
//! `mixc forms` prints, property tests, and (through the expansion or the core lowering) every back end.

use crate::attr::{AttrKind, AttrSpec, AttrValue, Attrs};
use crate::diag::{Fault, Place};
use crate::dim::DimBounds;
use crate::expr::Expr;
use crate::program::{Builder, ValueId};
use crate::reference::Eval;
use crate::reference::RefValue;
use crate::support::Structure;
use crate::ty::{MixType, TensorType, Type};

/// What an operand must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperandKind {
    /// A tensor of any element type (the type rule says more).
    Tensor,
    /// A floating-point tensor: the operation's data. All data operands of a call have one element type.
    Data,
    /// A floating-point tensor beside the data (decays, gains, biases, states): f32 is allowed where the data is half.
    Beside,
    /// An integer tensor.
    Int,
    /// A boolean tensor.
    Bool,
    /// A mixing operator.
    Mix,
    /// A tensor or an operator.
    Any,
}

/// An operand of an operation.
#[derive(Clone, Copy, Debug)]
pub struct OperandSpec {
    /// Its name in messages.
    pub name: &'static str,
    /// What it must be.
    pub kind: OperandKind,
    /// Whether it may be left out.
    pub optional: bool,
}

/// A promise about an operation, tested against its meaning on random inputs, and used by the rewriter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// Additive and homogeneous in the operand of that index.
    LinearIn(usize),
    /// Output rows up to t do not depend on input rows after t, along the token axis (the last but one) of the operands.
    Causal,
    /// Evaluating a prefix, then the rest from the carried state, gives the whole (`{state}` and the state operand).
    Streams,
    /// The result holds taps, its last axis lags: the causal filter with these taps over as many tokens, `toeplitz` of it,
    /// is the operator that the function builds, a recurrence.
    Recurs(Build),
    /// Where the operands are alike at all tokens, of which there is at least one, this operator is the causal filter
    /// that the function builds.
    ShiftInvariant(Build),
}

/// What equals a call.
#[derive(Clone, Copy)]
pub struct Build {
    /// Builds it, given what [`Op::expand`] is given.
    pub build: fn(&mut Builder, &Call<'_>) -> Result<ValueId, Vec<Fault>>,
    /// What it builds as a formula of the operands' names.
    pub says: &'static str,
}

impl std::fmt::Debug for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.says)
    }
}

impl PartialEq for Build {
    fn eq(&self, other: &Build) -> bool {
        std::ptr::fn_addr_eq(self.build, other.build)
    }
}
impl Eq for Build {}

/// What an operation computes, in f64.
#[derive(Clone, Copy)]
pub enum Meaning {
    /// An element at a time, as a scalar expression over the operands' elements ([`Expr::arg`]), broadcast as NumPy
    /// does. The reference, the fuser and every back end read the same expression.
    Pointwise(fn(&Attrs, &[Expr]) -> Expr),
    /// The plainest loop that is right.
    Eval(fn(&Eval<'_>) -> Result<Vec<RefValue>, String>),
    /// Whatever the expansion computes.
    Expansion,
}

/// The definition in sections 3 and 5 of the language: builds it and gives the results.
pub type Expand = fn(&mut Builder, &Call<'_>) -> Result<Vec<ValueId>, Vec<Fault>>;

/// An operation.
pub struct Op {
    /// Name in the text.
    pub name: &'static str,
    /// Which part of the catalogue: `tensor`, `operator`, `layer`.
    pub group: Group,
    /// The formula and what a user must know, one paragraph, shapes named.
    pub doc: &'static str,
    /// A whole small program that uses it; run by a test, printed by `mixc forms NAME`.
    pub example: &'static str,
    /// Operands, optional ones last. A variadic operation (`concat`) repeats its last operand.
    pub operands: &'static [OperandSpec],
    /// Whether the last operand may repeat.
    pub variadic: bool,
    /// Attributes.
    pub attrs: &'static [AttrSpec],
    /// The type rule: result types of a call whose operands fit `operands` and whose attributes fit `attrs`.
    pub infer: fn(&Call<'_>) -> Result<Vec<Type>, Vec<Fault>>,
    /// Of an operator: its support and structure.
    pub structure: Option<fn(&Call<'_>) -> Structure>,
    /// What it computes.
    pub meaning: Meaning,
    /// Its definition in smaller operations.
    pub expand: Option<Expand>,
    /// What it promises.
    pub laws: &'static [Law],
}

/// Part of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Builds or changes a mixing operator, or applies one.
    Operator,
    /// A named layer.
    Layer,
    /// A tensor operation.
    Tensor,
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Op {
    fn eq(&self, other: &Op) -> bool {
        self.name == other.name
    }
}
impl Eq for Op {}

/// A call under check.
pub struct Call<'a> {
    /// The operation.
    pub op: &'static Op,
    /// Operand types; an absent optional operand is `None`. May be shorter than the operation's list.
    pub types: Vec<Option<&'a Type>>,
    /// Structures of operator operands.
    pub structures: Vec<Option<&'a Structure>>,
    /// Operand values.
    pub values: Vec<Option<ValueId>>,
    /// Attributes.
    pub attrs: &'a Attrs,
    /// Written result types.
    pub written: &'a [Option<Type>],
    /// Bounds of the symbols.
    pub bounds: &'a DimBounds,
}

impl<'a> Call<'a> {
    /// The type of operand `k`, if present.
    pub fn ty(&self, k: usize) -> Option<&'a Type> {
        self.types.get(k).copied().flatten()
    }

    /// Whether operand `k` is given.
    pub fn has(&self, k: usize) -> bool {
        self.ty(k).is_some()
    }

    /// The value of operand `k`, if present.
    pub fn value(&self, k: usize) -> Option<ValueId> {
        self.values.get(k).copied().flatten()
    }

    /// The tensor type of operand `k`; a fault when it is absent or an operator.
    pub fn tensor(&self, k: usize) -> Result<&'a TensorType, Vec<Fault>> {
        match self.ty(k) {
            Some(Type::Tensor(t)) => Ok(t),
            Some(Type::Mix(_)) => Err(vec![Fault::operand(k, "expected a tensor, found a mixing operator")]),
            None => Err(vec![Fault::operand(k, "this operand is missing")]),
        }
    }

    /// The operator type of operand `k`; a fault when it is absent or a tensor.
    pub fn mix(&self, k: usize) -> Result<&'a MixType, Vec<Fault>> {
        match self.ty(k) {
            Some(Type::Mix(m)) => Ok(m),
            Some(Type::Tensor(_)) => Err(vec![
                Fault::operand(k, "expected a mixing operator, found a tensor")
                    .help("build one with `gram`, `dense`, `toeplitz`, ..."),
            ]),
            None => Err(vec![Fault::operand(k, "this operand is missing")]),
        }
    }

    /// The structure of operator operand `k` (nothing known when absent).
    pub fn structure(&self, k: usize) -> Structure {
        self.structures.get(k).copied().flatten().cloned().unwrap_or_default()
    }

    /// The written type of the first result.
    pub fn written_type(&self) -> Option<&'a Type> {
        self.written.first().and_then(Option::as_ref)
    }

    /// Operands, attributes and type rule: the result types, or everything that is wrong with the call.
    pub fn check(&self) -> Result<Vec<Type>, Vec<Fault>> {
        let mut faults = self.check_operands();
        faults.extend(self.check_attrs());
        if !faults.is_empty() {
            return Err(faults);
        }
        let types = (self.op.infer)(self)?;
        for (k, (written, found)) in self.written.iter().zip(&types).enumerate() {
            if let Some(written) = written.as_ref().filter(|w| w.dims() != found.dims() || w.dtype() != found.dtype()) {
                let which = if types.len() > 1 { format!("result {k}") } else { "the result".into() };
                return Err(vec![
                    Fault::result(format!("{which} is {found}, but {written} is written"))
                        .help(format!("write `{found}`, or leave the type out")),
                ]);
            }
        }
        Ok(types)
    }

    fn check_operands(&self) -> Vec<Fault> {
        let specs = self.op.operands;
        let mut faults = Vec::new();
        let required = specs.iter().filter(|s| !s.optional).count();
        if !self.op.variadic && self.types.len() > specs.len() {
            let most = specs.len();
            let found = self.types.len();
            faults.push(Fault {
                code: "E0105",
                place: Place::Call,
                message: format!("`{}` takes at most {most} operands, found {found}", self.op.name),
                help: Some(format!("its operands are {}", self.op.signature())),
            });
            return faults;
        }
        for k in 0..specs.len().max(self.types.len()) {
            let spec = &specs[k.min(specs.len() - 1)];
            let Some(ty) = self.ty(k) else {
                if k < required {
                    faults.push(Fault {
                        code: "E0105",
                        place: Place::Call,
                        message: format!("`{}` needs operand `{}`", self.op.name, spec.name),
                        help: Some(format!("its operands are {}", self.op.signature())),
                    });
                }
                continue;
            };
            let dtype = ty.dtype();
            let (fits, expected) = match spec.kind {
                OperandKind::Any => (true, ""),
                OperandKind::Tensor => (ty.as_tensor().is_some(), "a tensor"),
                OperandKind::Data | OperandKind::Beside => {
                    (ty.as_tensor().is_some() && dtype.is_float(), "a floating-point tensor")
                }
                OperandKind::Int => (ty.as_tensor().is_some() && dtype.is_int(), "an integer tensor"),
                OperandKind::Bool => {
                    (ty.as_tensor().is_some() && dtype == crate::dtype::DType::Bool, "a boolean tensor")
                }
                OperandKind::Mix => (ty.as_mix().is_some(), "a mixing operator"),
            };
            if !fits {
                faults.push(Fault::operand(k, format!("`{}` must be {expected}, found {ty}", spec.name)));
            }
        }
        if faults.is_empty() {
            faults.extend(self.check_element_types());
        }
        faults
    }

    /// All data operands have one element type; what stands beside them has it too, or f32 where it is half.
    fn check_element_types(&self) -> Vec<Fault> {
        let specs = self.op.operands;
        let kind_of = |k: usize| specs.get(k.min(specs.len().saturating_sub(1))).map(|s| s.kind);
        let mut data = None;
        let mut faults = Vec::new();
        for (k, ty) in self.types.iter().enumerate().filter_map(|(k, t)| t.map(|t| (k, t.dtype()))) {
            if kind_of(k) == Some(OperandKind::Data) {
                match data {
                    None => data = Some(ty),
                    Some(first) if first != ty => faults.push(
                        Fault::operand(k, format!("element types differ: {first} and {ty}"))
                            .help(format!("convert one with `cast %x {{to = {first}}}`")),
                    ),
                    Some(_) => {}
                }
            }
        }
        let Some(data) = data else { return faults };
        for (k, ty) in self.types.iter().enumerate().filter_map(|(k, t)| t.map(|t| (k, t.dtype()))) {
            let fits = ty == data || (data.is_half() && ty == crate::dtype::DType::F32);
            if kind_of(k) == Some(OperandKind::Beside) && !fits {
                faults.push(
                    Fault::operand(k, format!("element type {ty} beside data of {data}"))
                        .help(format!("convert it with `cast %x {{to = {data}}}`")),
                );
            }
        }
        faults
    }

    fn check_attrs(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (name, value) in self.attrs.iter() {
            let Some(spec) = self.op.attrs.iter().find(|s| s.name == name) else {
                let known: Vec<&str> = self.op.attrs.iter().map(|s| s.name).collect();
                let help = match nearest(name, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => format!("`{}` takes no attributes", self.op.name),
                    None => format!("it takes {}", known.join(", ")),
                };
                faults.push(Fault {
                    code: "E0301",
                    place: Place::Call,
                    message: format!("`{}` has no attribute `{name}`", self.op.name),
                    help: Some(help),
                });
                continue;
            };
            if let Some(expected) = spec.kind.mismatch(value) {
                faults.push(Fault {
                    code: "E0302",
                    place: Place::Attr(spec.name),
                    message: format!("attribute `{name}` must be {expected}, found `{value}`"),
                    help: Some(spec.doc.to_string()),
                });
            }
        }
        for spec in self.op.attrs.iter().filter(|s| s.required && !self.attrs.has(s.name)) {
            faults.push(Fault {
                code: "E0304",
                place: Place::Call,
                message: format!("`{}` needs attribute `{}`", self.op.name, spec.name),
                help: Some(spec.doc.to_string()),
            });
        }
        faults
    }
}

impl Op {
    /// `%x, %w, %bias?`
    pub fn signature(&self) -> String {
        let mut parts: Vec<String> =
            self.operands.iter().map(|o| format!("%{}{}", o.name, if o.optional { "?" } else { "" })).collect();
        if self.variadic {
            parts.push("...".into());
        }
        if parts.is_empty() { "none".into() } else { parts.join(", ") }
    }
}

impl AttrKind {
    /// What is expected, when `value` is not of this kind.
    pub fn mismatch(self, value: &AttrValue) -> Option<String> {
        let is_int = |v: &AttrValue| matches!(v, AttrValue::Dim(d) if d.as_constant().is_some());
        let fits = match self {
            AttrKind::Int => is_int(value),
            AttrKind::Dim => matches!(value, AttrValue::Dim(_)),
            AttrKind::Float => matches!(value, AttrValue::Float(x) if x.0.is_finite()) || is_int(value),
            AttrKind::Bool => matches!(value, AttrValue::Bool(_)),
            AttrKind::Name(words) => matches!(value, AttrValue::Name(s) if words.contains(&s.as_str())),
            AttrKind::DType => matches!(value, AttrValue::Name(s) if crate::dtype::DType::parse(s).is_some()),
            AttrKind::Ints => matches!(value, AttrValue::List(items) if items.iter().all(is_int)),
            AttrKind::Dims => {
                matches!(value, AttrValue::List(items) if items.iter().all(|v| matches!(v, AttrValue::Dim(_))))
            }
        };
        if fits {
            return None;
        }
        Some(match self {
            AttrKind::Int => "an integer".into(),
            AttrKind::Dim => "an integer or a dim expression".into(),
            AttrKind::Float => "a finite number".into(),
            AttrKind::Bool => "a flag (`true` or `false`)".into(),
            AttrKind::Name(words) => format!("one of {}", words.join(", ")),
            AttrKind::DType => "an element type (f32, bf16, ...)".into(),
            AttrKind::Ints => "a list of integers".into(),
            AttrKind::Dims => "a list of dims".into(),
        })
    }
}

/// The word of `known` nearest to `word`, when it is near enough to be meant (at most a third of its letters changed).
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|k| (edit_distance(word, k), *k))
        .filter(|(d, k)| *d <= 1 + k.chars().count().max(word.chars().count()) / 3)
        .min()
        .map(|(_, k)| k)
}

/// Levenshtein distance in characters, of the first 64 of each.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for j in 0..b.len() {
            let change = diagonal + usize::from(a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
