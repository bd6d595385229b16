//! From a typed program to tile programs over buffers.
//!
//! Nodes are taken in order. An elementwise or layout operation becomes a [`Lambda`], read through by whoever uses it;
//! what contracts, scans or normalises becomes a tile program, kept open as a [`Producer`] while its one user may still
//! join it as an epilogue. Operators become [`Mix`] values and are consumed by the forms of `apply`. Nothing is stored
//! before somebody needs it stored.

mod conv1d;
mod definition;
mod factors;
mod finish;
pub mod lambda;
mod layout;
mod mix;
mod mixing;
mod program;
mod range;
mod semiseparable;
mod separable;
mod shift_invariant;
mod spectral;
mod tensors;

pub use factors::{BlockFactor, Factors};
pub use lambda::{Lambda, axes, axis, axis_var};
pub use layout::guard_loads;
pub use mix::{Mix, RowStep, Special, batch_index, batched};
pub use mixing::materialise;
pub use program::Scribe;
pub use semiseparable::Semiseparable;
pub use separable::{Diagonal, Separable, separate};
pub use shift_invariant::{Generator, generator, lesser};

use crate::forms;
use mixc_ir::diag::Diagnostic;
use mixc_ir::dim::{Dim, DimBounds, DimError, DimValues};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Expr, Node as ExprNode, SlowId};
use mixc_ir::lowered::{Action, Buffer, BufferId, Lowered, Phase, Place, Step};
use mixc_ir::machine::Machine;
use mixc_ir::program::{Const, Node, NodeKind, Program, ValueId};
use mixc_ir::tile::TileProgram;
use mixc_ir::ty::{TensorType, Type};

/// Growth that is more than that of heads which share a few tensors: all pairs of something.
const PAIRS: f64 = 16.0;
/// Growth that costs more to read than a product does: a few states a channel.
const STATES: f64 = 2.0;

/// What lowering needs to know besides the program.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Typical values of the symbols.
    pub typical: DimValues,
    /// The machine that costs are reckoned for.
    pub machine: Machine,
    /// The form wanted for an `apply`, by the name of its result; the cheapest applicable one otherwise.
    pub force_form: Option<String>,
}

/// Why a program cannot be lowered, at the node where it shows.
pub type Failure = Diagnostic;

/// A tile program that is not written down yet, so that elementwise users can join it.
#[derive(Clone, Debug)]
pub struct Producer {
    /// What makes the elements.
    pub kind: forms::Kind,
    /// Lengths of the axes that the kind produces.
    pub natural: Vec<Dim>,
    /// The stored element as an expression of `Arg(0)`, the produced one, over the natural axes.
    pub epilogue: Expr,
    /// Element type that is stored.
    pub dtype: DType,
    /// Lengths of the axes that are stored.
    pub shape: Vec<Dim>,
    /// The stored index as expressions of the natural axes.
    pub index: Vec<Expr>,
}

/// What has become of a value.
#[derive(Clone, Debug)]
pub enum Lowering {
    /// A function of the index.
    Lambda(Lambda),
    /// A program still open at its end.
    Open(Box<Producer>),
    /// An operator.
    Mix(Box<Mix>),
}

/// The model under construction.
#[derive(Debug)]
pub struct Context<'a> {
    /// The source.
    pub source: &'a Program,
    /// Settings.
    pub settings: &'a Settings,
    /// The result so far.
    pub out: Lowered,
    /// Bounds of the symbols.
    pub bounds: DimBounds,
    values: Vec<Option<Lowering>>,
    uses: Vec<usize>,
    /// Where each buffer's contents come from: only weights and constants, or the call's inputs too.
    at_bind: Vec<bool>,
    has_weights: bool,
    /// The name of the value under construction.
    site: String,
    /// The form that programs under construction are part of, where it borrows the programs of other forms.
    part_of: Option<&'static str>,
    /// Forms that were considered where several apply.
    candidates: Vec<forms::Candidate>,
    span: mixc_ir::diag::Span,
}

/// Lowers a program; layers are expanded as far as forms want them, those too that rules have put in.
pub fn lower(source: &Program, settings: &Settings) -> Result<Lowered, Vec<Failure>> {
    lower_with_candidates(source, settings).map(|(lowered, _)| lowered)
}

/// As [`lower`], with the forms that were considered wherever several apply.
pub fn lower_with_candidates(
    source: &Program,
    settings: &Settings,
) -> Result<(Lowered, Vec<forms::Candidate>), Vec<Failure>> {
    let source = &crate::rewrite::expand_layers(source, &|op| forms::lowers_whole(op.name));
    let mut cx = Context {
        source,
        settings,
        out: Lowered { name: source.name.clone(), dims: source.dims.clone(), ..Lowered::default() },
        bounds: source.bounds(),
        values: vec![None; source.values.len()],
        uses: count_uses(source),
        at_bind: Vec::new(),
        has_weights: source.nodes.iter().any(|n| matches!(n.kind, NodeKind::Const(Const::Weight(_)))),
        site: String::new(),
        part_of: None,
        candidates: Vec::new(),
        span: Default::default(),
    };
    for (k, &v) in source.params.iter().enumerate() {
        let Type::Tensor(t) = source.ty(v) else {
            return Err(vec![Diagnostic::global("E0601", "a parameter must be a tensor")]);
        };
        let b = cx.buffer(source.name_of(v), t.dtype, &t.shape, Place::Param(k));
        cx.out.params.push(b);
        cx.set_stored(v, b);
    }
    cx.nodes().map_err(|f| vec![f])?;
    cx.results()?;
    cx.drop_unread();
    cx.bind_weights().map_err(|f| vec![f])?;
    cx.out.steps.sort_by_key(|s| s.phase);
    cx.must_hold();
    Ok((cx.out, cx.candidates))
}

fn count_uses(p: &Program) -> Vec<usize> {
    let mut uses = vec![0; p.values.len()];
    for v in p.nodes.iter().flat_map(|n| n.operands.iter().flatten()).chain(&p.results) {
        uses[v.index()] += 1;
    }
    uses
}

impl Context<'_> {
    fn buffer(&mut self, name: &str, dtype: DType, shape: &[Dim], place: Place) -> BufferId {
        // Without weights there is nothing to bind: constants are then part of every call.
        let at_bind = self.has_weights && matches!(place, Place::Weight(_) | Place::Constant(_) | Place::Bound);
        self.out.buffers.push(Buffer { name: name.to_string(), dtype, shape: shape.to_vec(), place });
        self.at_bind.push(at_bind);
        BufferId(self.out.buffers.len() as u32 - 1)
    }

    /// A table that is part of the code, row-major.
    pub fn constant(&mut self, name: &str, dtype: DType, shape: &[Dim], numbers: Vec<f64>) -> Lambda {
        let b = self.buffer(name, dtype, shape, Place::Constant(numbers));
        self.stored(b)
    }

    fn set_stored(&mut self, v: ValueId, b: BufferId) {
        let lambda = self.stored(b);
        self.values[v.index()] = Some(Lowering::Lambda(lambda));
    }

    /// A stored tensor as a function of its index.
    pub fn stored(&self, b: BufferId) -> Lambda {
        let buffer = self.out.buffer(b);
        let body = Expr::load(SlowId(b.0), axes(buffer.shape.len()));
        Lambda { dtype: buffer.dtype, shape: buffer.shape.clone(), body }
    }

    /// A failure at the node under construction.
    pub fn fail(&self, message: impl Into<String>) -> Failure {
        Diagnostic::at("E0602", self.span, message)
    }

    /// A failure of dim arithmetic at the node under construction.
    pub fn dim_failure(&self, e: DimError) -> Failure {
        Diagnostic::at("E0501", self.span, e.to_string())
    }

    /// The tensor type of a value.
    pub fn tensor_type(&self, v: ValueId) -> Result<&TensorType, Failure> {
        self.source.ty(v).as_tensor().ok_or_else(|| self.fail("an operator stands where a tensor is needed"))
    }

    /// The value of a dim at the typical lengths, at least 1.
    pub fn typical(&self, d: &Dim) -> i64 {
        d.eval(&self.settings.typical).unwrap_or(1).max(1)
    }

    /// The greatest value of a dim.
    pub fn most(&self, d: &Dim) -> i64 {
        d.bounds(&self.bounds).map_or(i64::MAX, |(_, high)| high)
    }

    /// Whether `a` is never less than `b`, whatever the lengths of a call.
    pub fn reaches(&self, a: &Dim, b: &Dim) -> bool {
        a.sub(b).and_then(|d| d.bounds(&self.bounds)).is_ok_and(|(low, _)| low >= 0)
    }

    /// Lowers all nodes in order.
    fn nodes(&mut self) -> Result<(), Failure> {
        let source = self.source;
        for node in &source.nodes {
            self.site = node.results.first().map(|r| source.name_of(*r).to_string()).unwrap_or_default();
            self.span = node.span;
            self.node(node)?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result<(), Failure> {
        match &node.kind {
            NodeKind::Const(c) => {
                let v = node.results[0];
                let t = self.tensor_type(v)?.clone();
                let lambda = match c {
                    Const::Splat(x) => Lambda { body: constant_of(t.dtype, *x), dtype: t.dtype, shape: t.shape },
                    Const::Dense(numbers) => {
                        let b =
                            self.buffer(self.source.name_of(v), t.dtype, &t.shape, Place::Constant(numbers.clone()));
                        self.stored(b)
                    }
                    Const::Weight(name) => {
                        let b = self.buffer(self.source.name_of(v), t.dtype, &t.shape, Place::Weight(name.clone()));
                        self.stored(b)
                    }
                };
                self.values[v.index()] = Some(Lowering::Lambda(lambda));
                Ok(())
            }
            NodeKind::Op(op) => {
                let results = match op.group {
                    mixc_ir::op::Group::Operator
                        if op.name != "apply" && self.source.ty(node.results[0]).as_mix().is_some() =>
                    {
                        vec![Lowering::Mix(Box::new(mixing::operator(self, node)?))]
                    }
                    _ => tensors::lower(self, node)?,
                };
                for (r, value) in node.results.iter().zip(results) {
                    let value = self.settle(*r, value)?;
                    self.values[r.index()] = Some(value);
                }
                Ok(())
            }
        }
    }

    /// Stores what would be computed again and again: a costly function of the index with several readers, or with none
    /// but the results.
    fn settle(&mut self, v: ValueId, value: Lowering) -> Result<Lowering, Failure> {
        // Above this an element costs more to compute than to store and load again.
        const RECOMPUTE_LIMIT: usize = 8;
        // An expression tree grows by substitution; past this it is cut whatever it costs.
        const TREE_LIMIT: usize = 400;
        match value {
            Lowering::Lambda(l) => {
                let cost = l.cost();
                if (self.uses[v.index()] > 1 && cost > RECOMPUTE_LIMIT) || cost > TREE_LIMIT {
                    let b = self.store_lambda(&l)?;
                    return Ok(Lowering::Lambda(self.stored(b)));
                }
                Ok(Lowering::Lambda(l))
            }
            Lowering::Open(p) if self.uses[v.index()] != 1 => Ok(Lowering::Lambda(self.close(*p)?)),
            other => Ok(other),
        }
    }

    /// How often a value is read.
    pub fn uses(&self, v: ValueId) -> usize {
        self.uses[v.index()]
    }

    /// The operand k of a node.
    pub fn operand(&self, node: &Node, k: usize) -> Result<ValueId, Failure> {
        node.operands.get(k).copied().flatten().ok_or_else(|| self.fail(format!("operand {k} is missing")))
    }

    /// A value as a function of its index; an open program is closed.
    pub fn read(&mut self, v: ValueId) -> Result<Lambda, Failure> {
        match self.values[v.index()].clone() {
            Some(Lowering::Lambda(l)) => Ok(l),
            Some(Lowering::Open(p)) => {
                let l = self.close(*p)?;
                self.values[v.index()] = Some(Lowering::Lambda(l.clone()));
                Ok(l)
            }
            Some(Lowering::Mix(_)) => Err(self.fail("an operator stands where a tensor is needed")),
            None => Err(self.fail("a value is used before it is defined")),
        }
    }

    /// A value's open program, if it has one; taking it makes the caller responsible for storing.
    pub fn take_open(&mut self, v: ValueId) -> Option<Producer> {
        match self.values[v.index()].take() {
            Some(Lowering::Open(p)) => Some(*p),
            other => {
                self.values[v.index()] = other;
                None
            }
        }
    }

    /// Whether a value is an open program.
    pub fn is_open(&self, v: ValueId) -> bool {
        matches!(self.values[v.index()], Some(Lowering::Open(_)))
    }

    /// Gives an open program back.
    pub fn put_open(&mut self, v: ValueId, p: Producer) {
        self.values[v.index()] = Some(Lowering::Open(Box::new(p)));
    }

    /// Whether an expression reads weights and constants alone.
    pub fn known_at_bind(&self, e: &Expr) -> bool {
        let reads = forms::buffers_of(e);
        !reads.is_empty() && reads.iter().all(|b| self.at_bind[b.index()])
    }

    /// Tokens for a form that reads each element a few times: as they are when cheap, stored when costly.
    pub fn stored_or_generated(&mut self, l: &Lambda) -> Result<Lambda, Failure> {
        if l.cost() <= 8 || self.is_outgrown(l, PAIRS) { Ok(l.clone()) } else { self.stored_lambda(l) }
    }

    /// A value for inner products, whose elements are read many times: in memory, but where it is all pairs of something
    /// much smaller, which are made as they are read.
    pub fn read_factor(&mut self, v: ValueId) -> Result<Lambda, Failure> {
        let l = self.read(v)?;
        if self.is_outgrown(&l, PAIRS) { Ok(l) } else { self.read_stored(v) }
    }

    /// A value for a scan, whose elements are read a few times: in memory, but where it is made of something smaller, as
    /// the decays of all states are of a step size a channel. Where what is read is 0, so is the value.
    pub fn read_decay(&mut self, v: ValueId) -> Result<Lambda, Failure> {
        let l = self.read(v)?;
        let nothing = |e: &Expr| matches!(e.node(), ExprNode::Load(_)).then(|| Expr::float(0.0));
        let vanishes = l.body.rewrite(&mut |e| nothing(e)).as_float() == Some(0.0);
        if vanishes && self.is_outgrown(&l, STATES) { Ok(l) } else { self.read_stored(v) }
    }

    /// Whether a function of the index takes many times (more than `growth`) the memory of what it is made of and little
    /// work an element: pairs of tokens, T^2 of T.
    fn is_outgrown(&self, l: &Lambda, growth: f64) -> bool {
        // Work of some products with their index arithmetic, little beside an inner product.
        const WORK: usize = 24;
        let bytes = |dtype: DType, shape: &[Dim]| {
            shape.iter().map(|d| self.typical(d) as f64).product::<f64>() * dtype.bytes() as f64
        };
        let mut reads = forms::buffers_of(&l.body);
        reads.sort();
        reads.dedup();
        let sources = reads.iter().map(|b| self.out.buffer(*b)).map(|b| bytes(b.dtype, &b.shape)).sum::<f64>();
        !reads.is_empty() && l.cost() <= WORK && bytes(l.dtype, &l.shape) > growth * sources
    }

    /// A value as an operator.
    pub fn mix(&self, v: ValueId) -> Result<Mix, Failure> {
        match &self.values[v.index()] {
            Some(Lowering::Mix(m)) => Ok((**m).clone()),
            _ => Err(self.fail("a tensor stands where an operator is needed")),
        }
    }

    /// A value in memory as it is, or moved into a buffer: for readers that go over it many times. Later readers find it
    /// in the buffer, so that a mask that every layer reads is stored once.
    pub fn read_stored(&mut self, v: ValueId) -> Result<Lambda, Failure> {
        let l = self.read(v)?;
        let stored = self.stored_lambda(&l)?;
        self.values[v.index()] = Some(Lowering::Lambda(stored.clone()));
        Ok(stored)
    }

    /// A function of the index that costs next to nothing, stored if need be.
    pub fn stored_lambda(&mut self, l: &Lambda) -> Result<Lambda, Failure> {
        if l.is_layout() {
            return Ok(l.clone());
        }
        let b = self.store_lambda(l)?;
        Ok(self.stored(b))
    }

    /// Stores a function of the index by a map program.
    pub fn store_lambda(&mut self, l: &Lambda) -> Result<BufferId, Failure> {
        forms::map::store(self, l)
    }

    /// A new buffer for a result of a program that reads `inputs`: kept from bind time when they all are.
    pub fn target(&mut self, dtype: DType, shape: &[Dim], inputs: &[BufferId]) -> BufferId {
        let at_bind = self.has_weights
            && inputs.iter().all(|b| self.at_bind[b.index()])
            && shape.iter().all(|d| d.as_constant().is_some());
        let place = if at_bind { Place::Bound } else { Place::Temporary };
        let name = self.site.clone();
        self.buffer(&name, dtype, shape, place)
    }

    /// Appends a program that writes `written`.
    pub fn emit(&mut self, program: TileProgram, buffers: Vec<BufferId>, written: &[BufferId], form: &str) {
        let bound = !reads_lengths(&program) && written.iter().all(|b| self.at_bind[b.index()]);
        let phase = if bound { Phase::Bind } else { Phase::Run };
        if !bound {
            // What looked as if it came from constants alone depends on the call (counts up to a length, a partner that
            // has one in its shape): it is made by every call.
            for b in written {
                self.at_bind[b.index()] = false;
                let place = &mut self.out.buffers[b.index()].place;
                if *place == Place::Bound {
                    *place = Place::Temporary;
                }
            }
        }
        let site = self.site.clone();
        let form = self.part_of.unwrap_or(form).to_string();
        self.out.steps.push(Step { phase, action: Action::Run { program, buffers, form, site } });
    }

    /// Programs that `f` appends are part of `form`, whichever form writes them.
    pub fn as_part_of<T>(&mut self, form: &'static str, f: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.part_of.replace(form);
        let made = f(self);
        self.part_of = outer;
        made
    }

    /// Steps that `f` appends, all traces of it taken back; `None` when it fails.
    pub fn trial<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Option<Vec<Step>> {
        let (buffers, steps, candidates) = (self.out.buffers.len(), self.out.steps.len(), self.candidates.len());
        let part_of = self.part_of;
        let made = f(self);
        let appended = self.out.steps.split_off(steps);
        self.out.buffers.truncate(buffers);
        self.at_bind.truncate(buffers);
        self.candidates.truncate(candidates);
        self.part_of = part_of;
        made.ok().map(|_| appended)
    }

    /// Records a form that was considered for the value under construction.
    pub fn consider(&mut self, candidate: forms::Candidate) {
        self.candidates.push(forms::Candidate { site: self.site.clone(), ..candidate });
    }

    /// Appends a check of ids.
    pub fn check_ids(&mut self, ids: BufferId, below: Dim) {
        let phase = if self.at_bind[ids.index()] { Phase::Bind } else { Phase::Run };
        self.out.steps.push(Step { phase, action: Action::CheckIds { ids, below } });
    }

    /// Ends an open program: it is written down and its result stored.
    pub fn close(&mut self, p: Producer) -> Result<Lambda, Failure> {
        let b = forms::emit(self, p)?;
        Ok(self.stored(b))
    }
}

/// Whether a program depends on a symbol's value, which only a call has.
fn reads_lengths(program: &TileProgram) -> bool {
    let mut found = false;
    program.for_each_expr(&mut |e| {
        e.visit(&mut |n| {
            found |= matches!(n.node(), mixc_ir::expr::Node::Dim(d) if d.as_constant().is_none());
        });
    });
    found
}

/// The buffer that a function of the index is, when it is one as a whole.
pub fn whole_buffer(l: &Lambda) -> Option<BufferId> {
    match l.body.node() {
        mixc_ir::expr::Node::Load(load) if load.guard.is_none() && load.index == axes(l.shape.len()) => {
            Some(BufferId(load.tensor.0))
        }
        _ => None,
    }
}

/// The constant `x` as an element of `dtype`.
pub fn constant_of(dtype: DType, x: f64) -> Expr {
    match dtype {
        DType::Bool => Expr::bool(x != 0.0),
        d if d.is_int() => Expr::int(x as i64),
        d => Expr::float(d.round(x)),
    }
}
