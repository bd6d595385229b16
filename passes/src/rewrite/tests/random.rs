//! Random typed terms: instances of patterns, with data.

mod data;

use super::super::emit::{Replacement, emit};
use super::super::facts::{InputFact, Surroundings, TermGraph};
use super::super::pattern::{Binding, Pattern};
use super::super::region::{Region, is_rewritable};
use super::super::term::{Head, OpKey, Term, Written, normal_attr};
use egg::Id;
use mixc_ir::attr::{AttrKind, AttrSpec, AttrValue, Attrs, Real};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::op::Op;
use mixc_ir::program::{Program, Value, ValueId};
use mixc_ir::tensor::Tensor;
use mixc_ir::ty::Type;
use std::collections::BTreeMap;
use std::sync::Arc;

/// SplitMix64 (Steele, Lea, Flood 2014): enough for test data, and the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// In [-1, 1).
    pub fn real(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// What is unusual about the data of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    Plain,
    /// Most is zero, and nothing or everything is seen through masks with data.
    Zeros,
    /// All numbers are so large that a softmax takes one of them.
    Large,
    /// Every tensor has a scale of its own, huge or tiny.
    Scaled,
    /// Biases and log decays are minus infinity in places, as masks and forgetting are written.
    Infinite,
}

/// Terms with data for their inputs, and lengths that shapes are made of.
pub struct Instance {
    /// What is unusual about the data.
    pub kind: Data,
    pub graph: TermGraph,
    pub data: Vec<Tensor>,
    pub dtype: DType,
    pub rng: Rng,
    /// Places that inputs may take that are drawn later, so that no rule sees them in the order of its text.
    early: Vec<usize>,
    /// Whether factors of a product are given the axes of pairs.
    paired: bool,
    /// Whether the second factor has the first axis of a pair.
    reversed: bool,
    /// Whether tensors are alike along an axis.
    steady: bool,
    /// The scale of the tensor that was drawn last.
    scale: f64,
    /// The operation whose operand is drawn, and which one it is.
    place: Option<(&'static str, usize)>,
    tokens: usize,
    keys: usize,
    features: [usize; 2],
    lead: Vec<Vec<usize>>,
}

/// Whether minus infinity in operand `k` of an operation means something: what a bias takes out, or a state forgets.
fn may_be_infinite(op: &str, k: usize) -> bool {
    matches!((op, k), ("add_bias", 1) | ("semiseparable", 2))
}

/// Times that an operation's operands are drawn anew before its place in the pattern is given up.
const TRIES: usize = 24;

impl Instance {
    pub fn new(seed: u64, around: &Surroundings) -> Instance {
        let mut rng = Rng::new(seed);
        let tokens = *rng.pick(&[1, 2, 3, 5, 7]);
        let keys = if rng.chance(60) { tokens } else { *rng.pick(&[1, 2, 4, 6]) };
        let features = [*rng.pick(&[1, 2, 3]), *rng.pick(&[1, 2, 3, 4])];
        let lead = match rng.below(6) {
            0 => vec![vec![]],
            1 => vec![vec![], vec![1], vec![3]],
            2 => vec![vec![2], vec![4], vec![4]],
            3 => vec![vec![2, 3], vec![3], vec![2, 1], vec![2, 3]],
            // The first and the last of several have one length.
            4 => vec![vec![], vec![2], vec![2, 2], vec![2], vec![1, 2]],
            _ => vec![vec![2]],
        };
        let dtype = if rng.chance(85) { DType::F64 } else { DType::F32 };
        let (paired, reversed) = (rng.chance(40), rng.chance(30));
        let mut graph = TermGraph::new(around.clone());
        let early: Vec<usize> = (0..3).collect();
        let ty = Type::tensor(dtype, Vec::new());
        let number = InputFact { ty, positive: false, positions: None, order: 0, alike: 0 };
        graph.around.inputs = Arc::new(vec![number; early.len()]);
        let data = vec![Tensor::floats(&[], vec![0.0]); early.len()];
        let (kind, place, steady) = (Data::Plain, None, rng.chance(20));
        Instance {
            kind,
            graph,
            data,
            dtype,
            rng,
            early,
            paired,
            reversed,
            steady,
            scale: 1.0,
            place,
            tokens,
            keys,
            features,
            lead,
        }
    }

    /// As [`Instance::new`], with unusual data every other time.
    pub fn unusual(seed: u64, around: &Surroundings) -> Instance {
        let mut instance = Instance::new(seed, around);
        instance.kind = match instance.rng.below(8) {
            0 => Data::Zeros,
            1 => Data::Large,
            2 => Data::Scaled,
            3 => Data::Infinite,
            _ => Data::Plain,
        };
        instance
    }

    /// A term of the form of `pattern`.
    pub fn generate(&mut self, pattern: &Pattern, binding: &mut Binding) -> Option<Id> {
        match pattern {
            Pattern::Variable(_) => None,
            Pattern::Node(Head::Op(OpKey(op)), args) => {
                for _ in 0..TRIES {
                    let saved = binding.clone();
                    if let Some(id) = self.call_of(op, args, binding) {
                        return Some(id);
                    }
                    *binding = saved;
                }
                None
            }
            Pattern::Node(head, _) => self.graph.add(Term::leaf(head.clone())).ok(),
        }
    }

    fn call_of(&mut self, op: &'static Op, patterns: &[Pattern], binding: &mut Binding) -> Option<Id> {
        let mut args = Vec::with_capacity(patterns.len());
        let last = patterns.len() - 1;
        for (k, pattern) in patterns.iter().enumerate() {
            let id = match pattern {
                Pattern::Variable(v) if binding[*v].is_some() => binding[*v]?,
                Pattern::Variable(v) => {
                    let place = k.checked_sub(op.attrs.len());
                    let id = if let Some(id) = self.mask_part(op.name, place) {
                        id
                    } else if k < op.attrs.len() {
                        self.attribute(&op.attrs[k])?
                    } else if k == last {
                        self.written()?
                    } else {
                        let spec = &op.operands[(k - op.attrs.len()).min(op.operands.len() - 1)];
                        if spec.optional && self.rng.chance(50) {
                            self.absent()?
                        } else if self.kind == Data::Infinite && may_be_infinite(op.name, k - op.attrs.len()) {
                            self.partly_infinite()?
                        } else {
                            self.beside(&args[op.attrs.len()..], spec)?
                        }
                    };
                    binding[*v] = Some(id);
                    id
                }
                other => {
                    let outer = self.place.replace((op.name, k.saturating_sub(op.attrs.len())));
                    let id = self.generate(other, binding);
                    self.place = outer;
                    id?
                }
            };
            args.push(id);
        }
        self.graph.add(Term { head: Head::Op(OpKey(op)), args }).ok()
    }

    /// What masks are made of, sometimes: positions where an operation takes marks, factors or biases, and the numbers
    /// that choices leave out.
    fn mask_part(&mut self, op: &str, place: Option<usize>) -> Option<Id> {
        let marks = matches!((op, place), ("mask_with", Some(1)) | ("select" | "not", Some(0)));
        let reals = matches!(
            (op, place),
            ("add_bias" | "pow", Some(1)) | ("dense", Some(0)) | ("matmul", Some(0)) | ("mul", Some(0 | 1))
        );
        match (op, place) {
            // In one of the two places, the same all over.
            ("select", Some(k @ (1 | 2))) if k == 1 + self.tokens % 2 && self.rng.chance(70) => {
                let number = *self.rng.pick(&[f64::NEG_INFINITY, 0.0, 2.0]);
                let ty = Type::tensor(self.dtype, Vec::new());
                super::super::region::splat(&mut self.graph, number, &ty).ok()
            }
            _ if marks && self.rng.chance(40) => self.positional(None),
            _ if reals && self.rng.chance(10) => self.positional(Some(op)),
            _ => None,
        }
    }

    fn absent(&mut self) -> Option<Id> {
        self.graph.add(Term::leaf(Head::Absent)).ok()
    }

    fn attribute(&mut self, spec: &AttrSpec) -> Option<Id> {
        if !spec.required && self.rng.chance(60) {
            return self.absent();
        }
        let int = |n: i64| AttrValue::Dim(Dim::constant(n));
        let value = match spec.kind {
            AttrKind::Int | AttrKind::Dim => int(*self.rng.pick(&[1, 2, 3, 0, -1, -2])),
            AttrKind::Float => AttrValue::Float(Real(*self.rng.pick(&[0.5, 2.0, 1.0, 0.25, -3.0, 0.0]))),
            AttrKind::Bool => AttrValue::Bool(true),
            AttrKind::Name(words) => AttrValue::Name(self.rng.pick(words).to_string()),
            AttrKind::DType => AttrValue::Name("f64".into()),
            AttrKind::Ints => {
                let mut perm: Vec<i64> = (0..*self.rng.pick(&[2, 3, 3, 4])).collect();
                if self.rng.chance(40) {
                    let n = perm.len();
                    perm.swap(n - 2, n - 1);
                } else {
                    for k in (1..perm.len()).rev() {
                        let j = self.rng.below(k + 1);
                        perm.swap(k, j);
                    }
                }
                AttrValue::List(perm.into_iter().map(int).collect())
            }
            AttrKind::Dims if self.paired && self.rng.chance(80) => {
                let r = self.features[0] as i64;
                let tail: &[i64] = match self.place {
                    Some(("mul", k)) if (k == 0) != self.reversed => &[-1, 1, r],
                    Some(("mul", _)) => &[1, -1, r],
                    _ => &[-1, r],
                };
                let all = self.batch().into_iter().map(|n| n as i64).chain(tail.iter().copied());
                AttrValue::List(all.map(int).collect())
            }
            AttrKind::Dims => {
                let shapes: [&[i64]; 5] = [&[-1], &[-1, 1], &[-1, 2], &[2, -1], &[1, -1]];
                AttrValue::List(self.rng.pick(&shapes).iter().map(|n| int(*n)).collect())
            }
        };
        let value = normal_attr(spec, &value);
        self.graph.add(Term::leaf(value.map_or(Head::Absent, Head::Attr))).ok()
    }

    fn written(&mut self) -> Option<Id> {
        let (batch, n) = (self.batch(), self.length());
        let dims = batch.into_iter().chain([n, n]).map(Dim::from).collect();
        self.graph.add(Term::leaf(Head::Written(Written { mix: true, dtype: self.dtype, dims }))).ok()
    }

    fn batch(&mut self) -> Vec<usize> {
        // Of pairs that are all laid out in their own way nothing is to be learnt.
        let k = if self.paired && self.rng.chance(75) { 0 } else { self.rng.below(self.lead.len()) };
        self.lead[k].clone()
    }

    fn length(&mut self) -> usize {
        if self.rng.chance(65) { self.tokens } else { self.keys }
    }

    /// A call with only operands and attributes that are given.
    pub fn call(&mut self, name: &str, operands: &[Id], attrs: &Attrs) -> Option<Id> {
        let op = mixc_ir::ops::find(name)?;
        let absent = self.absent()?;
        let mut args = Vec::new();
        for spec in op.attrs {
            let value = attrs.get(spec.name).and_then(|v| normal_attr(spec, v));
            args.push(self.graph.add(Term::leaf(value.map_or(Head::Absent, Head::Attr))).ok()?);
        }
        args.extend(operands);
        args.extend(vec![absent; op.operands.len().saturating_sub(operands.len()) + 1]);
        self.graph.add(Term { head: Head::Op(OpKey(op)), args }).ok()
    }

    /// An operator, with or without a support that cuts it.
    fn operator(&mut self) -> Option<Id> {
        let (t, s, batch) = (self.length(), self.length(), self.batch());
        let shape = |tail: &[usize]| batch.iter().chain(tail).copied().collect::<Vec<_>>();
        let [r, _] = self.features;
        let none = Attrs::new();
        let m = match self.rng.below(8) {
            0 => {
                let (q, k) = (self.real_input(&shape(&[t, r]), false)?, self.real_input(&shape(&[s, r]), false)?);
                self.call("gram", &[q, k], &none)?
            }
            1 => {
                let d = self.real_input(&shape(&[t]), false)?;
                self.call("diagonal", &[d], &none)?
            }
            2 => {
                let (c, b) = (self.real_input(&shape(&[t, r]), false)?, self.real_input(&shape(&[t, r]), false)?);
                let a = self.real_input(&shape(&[t, 1]), false)?;
                self.call("semiseparable", &[c, b, a], &none)?
            }
            3 => {
                let h = self.real_input(&shape(&[t]), false)?;
                self.call("toeplitz", &[h], &none)?
            }
            _ => {
                let positive = self.rng.chance(30);
                let w = self.real_input(&shape(&[t, s]), positive)?;
                self.call("dense", &[w], &none)?
            }
        };
        if self.rng.chance(50) {
            return Some(m);
        }
        let attrs = match self.rng.below(6) {
            0 => Attrs::new().with_int("left", 1).with_int("right", 2),
            1 => Attrs::new().with_int("window", 2).with_int("sink", 1),
            // The first rows see nothing; at length 1 no row does.
            2 => Attrs::new().with_int("right", -1),
            3 if self.kind == Data::Zeros => Attrs::new().with_int("right", -9),
            _ => Attrs::new().with_flag("causal", true),
        };
        self.call("mask", &[m], &attrs)
    }

    /// The terms of `roots` as a program over all inputs.
    pub fn program(&self, roots: &[Id]) -> Result<Program, String> {
        let mut alone = Program { name: "main".into(), ..Program::default() };
        let mut place = |name: String, ty: Type| {
            alone.values.push(Value { name, ty, structure: None });
            ValueId(alone.values.len() as u32 - 1)
        };
        let inputs: Vec<ValueId> = self
            .graph
            .around
            .inputs
            .iter()
            .enumerate()
            .map(|(k, input)| place(format!("in{k}"), input.ty.clone()))
            .collect();
        let ty = |id: &Id| self.graph.fact(*id).ty().cloned().expect("roots are values");
        let outputs: Vec<ValueId> = roots.iter().enumerate().map(|(k, id)| place(format!("out{k}"), ty(id))).collect();
        (alone.params, alone.results) = (inputs.clone(), outputs.clone());
        let region = Region { nodes: Vec::new(), inputs, roots: outputs };
        let origins = BTreeMap::new();
        emit(&alone, &[Replacement { region: &region, graph: &self.graph, roots, origins: &origins }])
    }

    /// Operations over one another, at random: the terms of those that are tensors.
    pub fn grow(&mut self, steps: usize) -> Vec<Id> {
        let ops: Vec<&'static Op> = mixc_ir::ops::all()
            .filter(|op| is_rewritable(op) && !op.variadic && op.name != "reduce" && op.name != "inverse")
            .collect();
        let mut values: Vec<Id> = (0..4).filter_map(|_| self.tensor()).collect();
        let mut tensors = Vec::new();
        for _ in 0..steps {
            // Operators are there to be applied.
            let op = if self.rng.chance(25) { mixc_ir::ops::find("apply") } else { None };
            let op = op.unwrap_or(ops[self.rng.below(ops.len())]);
            for _ in 0..TRIES {
                let Some(id) = self.random_call(op, &values) else { continue };
                if self.graph.fact(id).tensor().is_some() {
                    tensors.push(id);
                }
                values.push(id);
                break;
            }
        }
        tensors
    }

    fn random_call(&mut self, op: &'static Op, values: &[Id]) -> Option<Id> {
        let mut args = Vec::new();
        for spec in op.attrs {
            args.push(self.attribute(spec)?);
        }
        for spec in op.operands {
            let old = *self.rng.pick(values);
            args.push(if spec.optional && self.rng.chance(70) {
                self.absent()?
            } else if self.rng.chance(75) {
                old
            } else {
                self.operand(spec.kind)?
            });
        }
        let written = if op.operands.is_empty() { self.written()? } else { self.absent()? };
        args.push(written);
        self.graph.add(Term { head: Head::Op(OpKey(op)), args }).ok()
    }
}
