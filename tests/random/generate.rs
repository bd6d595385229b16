//! Programs built statement by statement: an operation is drawn, operands of fitting types are found or made parameters,
//! and what the verifier rejects is taken back.

use crate::source::{Param, Role, Source, Statement, dims_text};
use crate::{layers, operators, tensors};
use mixc::inputs::Random;
use mixc::ir::dim::{Dim, DimValues};
use mixc::ir::dtype::DType;
use mixc::ir::op::Group;
use mixc::ir::program::Program;
use mixc::ir::ty::{MixType, TensorType, Type};
use mixc::ir::verify;
use std::collections::BTreeMap;

/// A program under construction.
pub struct Maker {
    pub random: Random,
    pub source: Source,
    /// Values that later statements may use, besides parameters.
    values: Vec<(String, Type)>,
    next: usize,
    /// The element type of data.
    pub float: DType,
    /// Feature counts that this program uses.
    features: Vec<i64>,
}

/// A statement before it is checked: what stands right of `=`, and how many results it has.
pub struct Proposal {
    pub text: String,
    pub results: usize,
}

pub fn one(text: String) -> Option<Proposal> {
    Some(Proposal { text, results: 1 })
}

pub fn several(results: usize, text: String) -> Option<Proposal> {
    Some(Proposal { text, results })
}

impl Maker {
    pub fn below(&mut self, n: usize) -> usize {
        self.random.below(n as i64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// A number of features.
    pub fn feature(&mut self) -> Dim {
        let k = self.below(self.features.len());
        Dim::constant(self.features[k])
    }

    /// A number of tokens.
    pub fn tokens(&mut self) -> Dim {
        match self.below(10) {
            0..=4 => Dim::symbol("T"),
            5..=7 => Dim::symbol("S"),
            _ => {
                let n = self.pick(&[&1, &4, &6, &9, &12]);
                Dim::constant(*n)
            }
        }
    }

    /// Leading dims: none mostly, a batch, heads, or both.
    pub fn batch(&mut self) -> Vec<Dim> {
        match self.below(8) {
            0..=3 => vec![],
            4 => vec![Dim::constant(2)],
            5 => vec![Dim::constant(4)],
            6 => vec![Dim::symbol("B"), Dim::constant(2)],
            _ => vec![Dim::constant(3), Dim::constant(4)],
        }
    }

    /// The same batch as seen by another operand: whole, grouped, missing or 1.
    pub fn narrowed(&mut self, batch: &[Dim]) -> Vec<Dim> {
        let mut out = batch.to_vec();
        match self.below(6) {
            0 => {
                if let Some(last) = out.last_mut() {
                    *last = Dim::constant(1);
                }
            }
            1 => {
                if let Some(last) = out.last_mut().filter(|d| d.is(4)) {
                    *last = Dim::constant(2);
                }
            }
            2 => {
                if let Some(first) = out.first_mut() {
                    *first = Dim::constant(1);
                }
            }
            3 => out.clear(),
            _ => {}
        }
        out
    }

    /// Appends dims.
    pub fn with(&self, batch: &[Dim], tail: &[&Dim]) -> Vec<Dim> {
        batch.iter().chain(tail.iter().copied()).cloned().collect()
    }

    /// A new parameter.
    pub fn param(&mut self, dtype: DType, shape: &[Dim], role: Role) -> String {
        let name = format!("p{}", self.next);
        self.next += 1;
        self.source.params.push(Param { name: name.clone(), ty: TensorType::new(dtype, shape.to_vec()), role });
        format!("%{name}")
    }

    /// A value of that type: one that is there, a constant or a new parameter.
    pub fn value(&mut self, dtype: DType, shape: &[Dim]) -> String {
        let fits = |t: &TensorType| t.dtype == dtype && t.shape == shape;
        let mut there: Vec<String> =
            self.source.params.iter().filter(|p| fits(&p.ty)).map(|p| p.name.clone()).collect();
        for (name, ty) in &self.values {
            if ty.as_tensor().is_some_and(&fits) {
                there.push(name.clone());
            }
        }
        if !there.is_empty() && self.chance(75) {
            let k = self.below(there.len());
            return format!("%{}", there[k]);
        }
        let role = match dtype {
            DType::Bool => Role::Mask,
            d if d.is_int() => Role::Segments,
            _ if self.chance(3) => Role::Large,
            _ => Role::Data,
        };
        if dtype.is_float() && self.chance(8) {
            let number = self.pick(&[&1.0, &0.5, &-2.0, &0.0]);
            let text = format!("splat {number:?} : {dtype}[{}]", dims_text(shape));
            let name = format!("c{}", self.next);
            self.next += 1;
            let ty = Type::Tensor(TensorType::new(dtype, shape.to_vec()));
            self.source.statements.push(Statement { results: vec![(name.clone(), ty)], text });
            return format!("%{name}");
        }
        self.param(dtype, shape, role)
    }

    /// Data of that shape.
    pub fn data(&mut self, shape: &[Dim]) -> String {
        self.value(self.float, shape)
    }

    /// Data that stands beside other data: f32 at times where that is half.
    pub fn beside(&mut self, shape: &[Dim], role: Role) -> String {
        let half = matches!(self.float, DType::F16 | DType::BF16);
        let dtype = if half && self.chance(50) { DType::F32 } else { self.float };
        if role == Role::Data { self.value(dtype, shape) } else { self.param(dtype, shape, role) }
    }

    /// Any tensor that is there, of a type that `fits`.
    pub fn any(&mut self, fits: impl Fn(&TensorType) -> bool) -> Option<(String, TensorType)> {
        let mut there: Vec<(String, TensorType)> = Vec::new();
        for p in &self.source.params {
            if fits(&p.ty) {
                there.push((p.name.clone(), p.ty.clone()));
            }
        }
        for (name, ty) in &self.values {
            // Later values are likelier, so that programs grow deep.
            if let Some(t) = ty.as_tensor().filter(|t| fits(t)) {
                there.extend([(name.clone(), t.clone()), (name.clone(), t.clone())]);
            }
        }
        if there.is_empty() {
            return None;
        }
        let k = self.below(there.len());
        Some((format!("%{}", there[k].0), there[k].1.clone()))
    }

    /// A tensor of data, there or made.
    pub fn some_data(&mut self, least_rank: usize) -> (String, TensorType) {
        let float = self.float;
        if self.chance(80)
            && let Some(found) = self.any(|t| t.dtype == float && t.shape.len() >= least_rank)
        {
            return found;
        }
        let (batch, t, d) = (self.batch(), self.tokens(), self.feature());
        let shape = self.with(&batch, &[&t, &d]);
        (self.data(&shape), TensorType::new(float, shape))
    }

    /// An operator that is there.
    pub fn operator(&mut self, fits: impl Fn(&MixType) -> bool) -> Option<(String, MixType)> {
        let mut there: Vec<(String, MixType)> = Vec::new();
        for (name, ty) in &self.values {
            if let Some(m) = ty.as_mix().filter(|m| fits(m)) {
                there.push((name.clone(), m.clone()));
            }
        }
        if there.is_empty() {
            return None;
        }
        // The latest half of the time.
        let k = if self.chance(60) { there.len() - 1 } else { self.below(there.len()) };
        Some((format!("%{}", there[k].0), there[k].1.clone()))
    }

    /// The type of an operator by name.
    pub fn mix_named(&self, name: &str) -> Option<MixType> {
        self.values.iter().find(|(n, _)| n == name).and_then(|(_, ty)| ty.as_mix().cloned())
    }

    /// A statement that a proposal needs before it; its result.
    pub fn statement(&mut self, text: String) -> Option<String> {
        let name = format!("v{}", self.next);
        self.accept(Proposal { text, results: 1 }).then(|| format!("%{name}"))
    }

    /// Checks and keeps a proposal.
    fn accept(&mut self, proposal: Proposal) -> bool {
        let names: Vec<String> = (0..proposal.results).map(|k| format!("v{}", self.next + k)).collect();
        let placeholder = Type::Tensor(TensorType::new(DType::F32, vec![]));
        self.source.statements.push(Statement {
            results: names.iter().map(|n| (n.clone(), placeholder.clone())).collect(),
            text: proposal.text,
        });
        let Some(program) = typed(&self.source) else { return false };
        let mut found = Vec::new();
        for name in names {
            let Some(v) = program.values.iter().find(|v| v.name == name) else { return false };
            found.push((name, v.ty.clone()));
        }
        // Elements are bounded so that the reference stays fast.
        const MOST: i64 = 60_000;
        for (_, ty) in &found {
            let size = ty
                .dims()
                .iter()
                .map(|d| d.eval(&self.source.lengths).unwrap_or(i64::MAX))
                .try_fold(1i64, |a, b| a.checked_mul(b));
            if ty.as_tensor().is_some() && size.is_none_or(|n| n > MOST) {
                return false;
            }
        }
        self.next += found.len();
        self.values.extend(found.iter().cloned());
        if let Some(s) = self.source.statements.last_mut() {
            s.results = found;
        }
        true
    }
}

/// The program so far, with some result, when it is well typed.
fn typed(source: &Source) -> Option<Program> {
    let mut source = source.clone();
    let param = source.params.first().map(|p| (p.name.clone(), p.ty.clone()));
    source.results = match param {
        Some(p) => vec![p],
        None => vec![("length_T".into(), TensorType::new(DType::F32, vec![Dim::symbol("T")]))],
    };
    verify::check(&source.text()).ok()
}

const LENGTHS: [i64; 16] = [0, 1, 2, 3, 5, 7, 8, 12, 17, 33, 37, 64, 65, 130, 257, 300];

/// The program of a seed; `covered` counts proposals and acceptances of every operation.
pub fn program(seed: u64, covered: &mut BTreeMap<&'static str, [usize; 2]>) -> Source {
    let mut random = Random::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
    let mut lengths = DimValues::new();
    let mut dims = Vec::new();
    let same = random.below(4) == 0;
    let mut last = 0;
    for name in ["T", "S"] {
        let n = LENGTHS[random.below(LENGTHS.len() as i64) as usize];
        last = if same && name == "S" { last } else { n };
        lengths.insert(Dim::symbol(name).as_symbol().expect("a symbol").clone(), last);
        dims.push((name.to_string(), 0, if random.below(3) == 0 { 8192 } else { 300 }));
    }
    lengths.insert(Dim::symbol("B").as_symbol().expect("a symbol").clone(), random.below(4));
    dims.push(("B".to_string(), 0, 8));
    let float = match random.below(12) {
        0 => DType::BF16,
        1 => DType::F16,
        2 => DType::F64,
        _ => DType::F32,
    };
    let all = [1, 2, 3, 4, 5, 8, 16, 20, 64, 65];
    let features = (0..3).map(|_| all[random.below(all.len() as i64) as usize]).collect();
    let source = Source { seed, dims, lengths, params: vec![], statements: vec![], results: vec![], weights: false };
    let mut m = Maker { random, source, values: vec![], next: 0, float, features };
    let only = std::env::var("MIXC_ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|w| !w.is_empty()).collect();
    let wanted = |name: &str| only.is_empty() || only.contains(&name);
    let catalogue: Vec<_> = mixc::ir::ops::all().filter(|op| wanted(op.name)).collect();
    let steps = 2 + m.below(8);
    let mut kept = 0;
    // Some programs are mostly of one group, so that its members meet each other.
    let group = [None, Some(Group::Operator), Some(Group::Operator), Some(Group::Tensor)][m.below(4)];
    for _ in 0..steps * 8 {
        if kept == steps {
            break;
        }
        let op = catalogue[m.below(catalogue.len())];
        if group.is_some_and(|g| g != op.group) && m.chance(80) {
            continue;
        }
        // What combines and masks operators has fewer names than its share.
        let name = if op.group == Group::Operator && m.chance(50) && only.is_empty() {
            operators::MODIFIERS[m.below(operators::MODIFIERS.len())]
        } else {
            op.name
        };
        kept += usize::from(attempt(&mut m, name, covered));
    }
    // Operators that nothing applies are applied.
    let unused: Vec<String> = m
        .values
        .iter()
        .filter(|(name, ty)| {
            ty.as_mix().is_some() && !m.source.statements.iter().any(|s| crate::source::mentions(&s.text, name))
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in unused.iter().rev().take(2) {
        if let Some(p) = operators::application(&mut m, Some(name)) {
            keep(&mut m, "apply", p, covered);
        }
    }
    // Results: what nothing reads first, a parameter or a value twice at times.
    let tensors: Vec<(String, TensorType)> =
        m.values.iter().filter_map(|(n, ty)| ty.as_tensor().map(|t| (n.clone(), t.clone()))).collect();
    let (used, unused): (Vec<_>, Vec<_>) =
        tensors.into_iter().partition(|(n, _)| m.source.statements.iter().any(|s| crate::source::mentions(&s.text, n)));
    let mut results: Vec<(String, TensorType)> = unused.into_iter().rev().take(4).collect();
    if (results.is_empty() || m.chance(30)) && !used.is_empty() {
        results.push(used[m.below(used.len())].clone());
    }
    if (results.is_empty() || m.chance(5)) && !m.source.params.is_empty() {
        let p = m.source.params[0].clone();
        results.push((p.name, p.ty));
    }
    if results.is_empty() {
        let shape = [Dim::symbol("T"), Dim::constant(3)];
        let name = m.param(DType::F32, &shape, Role::Data);
        results.push((name[1..].to_string(), TensorType::new(DType::F32, shape.to_vec())));
    }
    if m.chance(5) {
        results.push(results[0].clone());
    }
    m.source.results = results;
    m.source.weights = m.chance(30);
    m.source
}

fn attempt(m: &mut Maker, name: &'static str, covered: &mut BTreeMap<&'static str, [usize; 2]>) -> bool {
    let (params, statements, values) = (m.source.params.len(), m.source.statements.len(), m.values.len());
    let proposal =
        tensors::propose(m, name).or_else(|| operators::propose(m, name)).or_else(|| layers::propose(m, name));
    let Some(p) = proposal else {
        m.source.params.truncate(params);
        m.source.statements.truncate(statements);
        m.values.truncate(values);
        return false;
    };
    let kept = keep(m, name, p, covered);
    if !kept {
        m.source.params.truncate(params);
        m.source.statements.truncate(statements);
        m.values.truncate(values);
    }
    kept
}

fn keep(m: &mut Maker, name: &'static str, p: Proposal, covered: &mut BTreeMap<&'static str, [usize; 2]>) -> bool {
    let text = p.text.clone();
    let count = covered.entry(name).or_default();
    count[0] += 1;
    let statements = m.source.statements.len();
    let kept = m.accept(p);
    if kept {
        covered.entry(name).or_default()[1] += 1;
    } else {
        if std::env::var("MIXC_REJECTED").is_ok() {
            eprintln!("rejected: {text}");
        }
        m.source.statements.truncate(statements);
    }
    kept
}
