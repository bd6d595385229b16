//! What holds of every operation: its example runs, and it keeps the laws that it declares.

use super::all;
mod building;

use crate::attr::Attrs;
use crate::dim::{Dim, DimValues};
use crate::expr::{Kind, Scalar};
use crate::op::{Law, Op};
use crate::program::{Builder, Node, NodeKind, Program, ValueId};
use crate::reference::{Operator, RefValue, Row, Weights, step, unflatten, values_of};
use crate::tensor::Tensor;
use crate::ty::{TensorType, Type};
use crate::verify::check;
use std::sync::Arc;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Reals in -1..1, integers 0, 1, 2 (indices and lengths), booleans.
    fn tensor(&mut self, kind: Kind, shape: &[usize]) -> Tensor {
        Tensor::from_fn(kind, shape, |_| match kind {
            Kind::Float => Scalar::Float((self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0),
            Kind::Int => Scalar::Int((self.next() % 3) as i64),
            Kind::Bool => Scalar::Bool(!self.next().is_multiple_of(3)),
        })
    }
}

fn kind(ty: &Type) -> Kind {
    match ty.dtype() {
        d if d.is_float() => Kind::Float,
        d if d.is_int() => Kind::Int,
        _ => Kind::Bool,
    }
}

/// An example with lengths for its symbols and every value for random inputs.
struct Run {
    program: Program,
    dims: DimValues,
    values: Vec<Option<RefValue>>,
}

fn shape_of(ty: &Type, dims: &DimValues) -> Option<Vec<usize>> {
    ty.dims().iter().map(|d| d.eval(dims).ok().and_then(|n| usize::try_from(n).ok())).collect()
}

fn run(example: &str, seed: u64) -> Result<Run, String> {
    let program = check(example).map_err(|found| {
        found
            .iter()
            .map(|d| format!("{d} {:?}", d.span.map(|s| &example[s.start as usize..s.end as usize])))
            .collect::<Vec<_>>()
            .join("; ")
    })?;
    let mut last = String::from("no lengths fit");
    // Odd lengths first; some examples divide theirs. A length that no written dim has tells the tokens from the rest.
    let written = |n: i64| program.params.iter().any(|p| program.ty(*p).dims().iter().any(|d| d.is(n)));
    let lengths = [7, 5, 9, 11, 13, 8, 12, 16, 32, 64];
    let (alone, others): (Vec<i64>, Vec<i64>) = lengths.into_iter().partition(|n| !written(*n));
    for length in alone.into_iter().chain(others) {
        let dims: DimValues =
            program.dims.iter().map(|d| (d.name.clone(), i64::clamp(length, d.low, d.high))).collect();
        let mut random = Random(seed);
        let inputs: Option<Vec<Tensor>> = program
            .params
            .iter()
            .map(|p| Some(random.tensor(kind(program.ty(*p)), &shape_of(program.ty(*p), &dims)?)))
            .collect();
        let Some(inputs) = inputs else { continue };
        match values_of(&program, &dims, &inputs, &Weights::new()) {
            Ok(values) => return Ok(Run { program, dims, values }),
            Err(e) => last = e,
        }
        if program.dims.is_empty() {
            break;
        }
    }
    Err(last)
}

/// The node of `op` in its example.
fn node_of<'a>(op: &Op, program: &'a Program) -> &'a Node {
    let of = |n: &&Node| matches!(n.kind, NodeKind::Op(o) if o == op);
    program.nodes.iter().find(of).unwrap_or_else(|| panic!("the example of `{}` does not use it", op.name))
}

#[test]
fn every_operation_says_what_it_is() {
    let mut names: Vec<&str> = all().map(|op| op.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|w| w[0] != w[1]), "a name occurs twice in {names:?}");
    for op in all() {
        assert!(op.doc.len() > 10, "`{}` has no text", op.name);
        let undocumented = op.attrs.iter().find(|a| a.doc.is_empty());
        assert!(undocumented.is_none(), "`{}`: attribute {undocumented:?} has no text", op.name);
        let required = op.operands.iter().rposition(|o| !o.optional);
        let optional = op.operands.iter().position(|o| o.optional);
        assert!(optional.is_none_or(|o| required.is_none_or(|r| r < o)), "`{}`: optional operands come last", op.name);
    }
}

#[test]
fn every_example_runs() {
    let mut failures = Vec::new();
    for op in all() {
        match run(op.example, 1) {
            Err(e) => failures.push(format!("{}: {e}", op.name)),
            Ok(run) => {
                node_of(op, &run.program);
                for r in &run.program.results {
                    let ty = run.program.ty(*r);
                    let shape = shape_of(ty, &run.dims);
                    match &run.values[r.index()] {
                        Some(RefValue::Tensor(t)) if Some(&t.shape) == shape.as_ref() && t.kind() == kind(ty) => {}
                        other => failures.push(format!("{}: the result is {ty}, but {other:?}", op.name)),
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The values of the node's results where its operands are `operands`.
fn again(run: &Run, node: &Node, operands: &[Option<RefValue>]) -> Vec<RefValue> {
    let mut values = run.values.clone();
    for (v, x) in node.operands.iter().zip(operands) {
        if let Some(v) = v {
            values[v.index()] = x.clone();
        }
    }
    step(&run.program, node, &run.dims, &Weights::new(), &values).unwrap()
}

fn operands(run: &Run, node: &Node) -> Vec<Option<RefValue>> {
    node.operands.iter().map(|o| o.and_then(|v| run.values[v.index()].clone())).collect()
}

/// a x + b y; operators with equal supports only.
fn combine(a: f64, x: &RefValue, b: f64, y: &RefValue) -> RefValue {
    match (x, y) {
        (RefValue::Tensor(x), RefValue::Tensor(y)) => {
            let sum = |k: usize| a * x.at(k) + b * y.at(k);
            Tensor::floats(&x.shape, (0..x.len()).map(sum).collect()).into()
        }
        (RefValue::Operator(x), RefValue::Operator(y)) => {
            let (own, other) = (x.row.clone(), y.row.clone());
            let row = move |at: &[usize], i: usize| -> Row {
                let (x, y) = (own(at, i), other(at, i));
                assert_eq!(x.present, y.present, "supports differ");
                x.map(|j, v| a * v + b * y.values[j])
            };
            RefValue::Operator(Operator { row: Arc::new(row), ..x.clone() })
        }
        _ => panic!("a tensor and an operator"),
    }
}

/// Where two values differ by more than rounding.
fn difference(x: &RefValue, y: &RefValue) -> Option<String> {
    let near = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * (1.0 + b.abs());
    match (x, y) {
        (RefValue::Tensor(x), RefValue::Tensor(y)) => {
            if x.shape != y.shape {
                return Some(format!("{:?} {:?}", x.shape, y.shape));
            }
            let k = (0..x.len()).find(|&k| !near(x.at(k), y.at(k)))?;
            Some(format!("{} and {} at {:?}", x.at(k), y.at(k), unflatten(k, &x.shape)))
        }
        (RefValue::Operator(x), RefValue::Operator(y)) => {
            let count: usize = x.batch.iter().product();
            for at in (0..count).map(|k| unflatten(k, &x.batch)) {
                for i in 0..x.rows {
                    let (a, b) = ((x.row)(&at, i), (y.row)(&at, i));
                    if a.present != b.present || !a.values.iter().zip(&b.values).all(|(a, b)| near(*a, *b)) {
                        return Some(format!("{a:?} and {b:?} at {at:?} {i}"));
                    }
                }
            }
            None
        }
        _ => Some("a tensor and an operator".into()),
    }
}

fn linear(op: &Op, k: usize) -> Result<(), String> {
    let (one, two) = (run(op.example, 2)?, run(op.example, 3)?);
    let node = node_of(op, &one.program);
    let (x, y) = (operands(&one, node), operands(&two, node));
    let (Some(xk), Some(yk)) = (x.get(k).cloned().flatten(), y.get(k).cloned().flatten()) else {
        return Err(format!("the example gives no operand {k}"));
    };
    let with = |value: RefValue| {
        let mut all = x.clone();
        all[k] = Some(value);
        again(&one, node, &all)
    };
    let (a, b) = (1.5, -0.25);
    let of_sum = with(combine(a, &xk, b, &yk));
    let (fx, fy) = (with(xk), with(yk));
    for (r, z) in of_sum.iter().enumerate() {
        if let Some(d) = difference(z, &combine(a, &fx[r], b, &fy[r])) {
            return Err(format!("result {r}: {d}"));
        }
    }
    Ok(())
}

/// The tokens of the result, and the token axis of each operand: the last but one, or the last of one axis less.
fn token_axes(result: &RefValue, operands: &[Option<RefValue>]) -> (usize, Vec<Option<usize>>) {
    let RefValue::Tensor(y) = result else { panic!("the result is no tensor") };
    let tokens = y.shape[y.shape.len() - 2];
    let axis = |o: &Option<RefValue>| match o {
        Some(RefValue::Tensor(t)) => {
            let n = t.shape.len();
            let fits = |k: usize| n >= k && t.shape[n - k] == tokens;
            if fits(2) { Some(n - 2) } else { fits(1).then(|| n - 1) }
        }
        _ => None,
    };
    (tokens, operands.iter().map(axis).collect())
}

fn causal(op: &Op, example: &str) -> Result<(), String> {
    let run = run(example, 2)?;
    let node = node_of(op, &run.program);
    let before = operands(&run, node);
    let y = again(&run, node, &before);
    let (tokens, axes) = token_axes(&y[0], &before);
    if axes.iter().all(Option::is_none) {
        return Err("no operand of the example has the result's tokens".into());
    }
    for t in 0..tokens {
        // New values for all tokens after t, in every operand that has tokens and is not of integers or booleans.
        let mut random = Random(t as u64);
        let changed = |(o, axis): (&Option<RefValue>, &Option<usize>)| match (o, axis) {
            (Some(RefValue::Tensor(x)), Some(axis)) if x.kind() == Kind::Float => {
                let new = random.tensor(Kind::Float, &x.shape);
                let pick = |k: usize| if unflatten(k, &x.shape)[*axis] > t { new.at(k) } else { x.at(k) };
                Some(Tensor::floats(&x.shape, (0..x.len()).map(pick).collect()).into())
            }
            _ => o.clone(),
        };
        let after: Vec<Option<RefValue>> = before.iter().zip(&axes).map(changed).collect();
        let z = again(&run, node, &after);
        let (RefValue::Tensor(y), RefValue::Tensor(z)) = (&y[0], &z[0]) else { panic!("no tensors") };
        let n = y.shape.len();
        let (y, z) = (cut(y, n - 2, 0, t + 1), cut(z, n - 2, 0, t + 1));
        if let Some(d) = difference(&z.into(), &y.into()) {
            return Err(format!("tokens after {t} are felt: {d}"));
        }
    }
    Ok(())
}

/// Elements `from..to` along an axis.
fn cut(t: &Tensor, axis: usize, from: usize, to: usize) -> Tensor {
    let mut shape = t.shape.clone();
    shape[axis] = to - from;
    let place = |k: usize| {
        let mut index = unflatten(k, &shape);
        index[axis] += from;
        index.iter().zip(&t.shape).fold(0, |sum, (i, n)| sum * n + i)
    };
    Tensor::from_fn(t.kind(), &shape, |k| t.get(place(k)))
}

/// The call on values, in a program of its own with lengths as they are.
fn call(op: &'static Op, attrs: &Attrs, operands: &[Option<(RefValue, Type)>]) -> Result<Vec<RefValue>, String> {
    let mut b = Builder::new("main", Vec::new());
    let mut inputs = Vec::new();
    let mut params: Vec<Option<ValueId>> = Vec::new();
    for (k, o) in operands.iter().enumerate() {
        params.push(match o {
            Some((RefValue::Tensor(t), ty)) => {
                inputs.push((**t).clone());
                let shape = t.shape.iter().map(|&n| Dim::from(n)).collect();
                Some(b.param(&format!("p{k}"), Type::Tensor(TensorType::new(ty.dtype(), shape))))
            }
            Some(_) => return Err("operators do not stream".into()),
            None => None,
        });
    }
    let results = b.call(op, &params, attrs.clone(), &[], &[]).map_err(|f| format!("{f:?}"))?;
    let program = b.finish(results.clone());
    let values = values_of(&program, &DimValues::new(), &inputs, &Weights::new())?;
    Ok(results.iter().filter_map(|r| values[r.index()].clone()).collect())
}

fn streams(op: &'static Op) -> Result<(), String> {
    let run = run(op.example, 2)?;
    let node = node_of(op, &run.program);
    let values = operands(&run, node);
    let first = again(&run, node, &values);
    let (tokens, axes) = token_axes(&first[0], &values);
    let attrs = node.attrs.clone().with_flag("state", true);
    let state = op.operands.len() - 1;
    let mut all: Vec<Option<(RefValue, Type)>> =
        values.iter().zip(&node.operands).map(|(x, v)| x.clone().zip(v.map(|v| run.program.ty(v).clone()))).collect();
    all.resize(state + 1, None);
    let slice = |from: usize, to: usize, s0: Option<(RefValue, Type)>| {
        let part = |(k, o): (usize, &Option<(RefValue, Type)>)| match (o, axes.get(k).copied().flatten()) {
            (Some((RefValue::Tensor(t), ty)), Some(axis)) => Some((cut(t, axis, from, to).into(), ty.clone())),
            (o, _) => o.clone(),
        };
        let mut parts: Vec<_> = all.iter().enumerate().map(part).collect();
        parts[state] = s0;
        call(op, &attrs, &parts)
    };
    let s0 = all[state].clone();
    let whole = slice(0, tokens, s0.clone())?;
    for t in [0, 1, tokens / 2, tokens] {
        let head = slice(0, t, s0.clone())?;
        let f64_state = Type::tensor(crate::dtype::DType::F32, Vec::new());
        let tail = slice(t, tokens, Some((head[1].clone(), f64_state)))?;
        let (RefValue::Tensor(y), RefValue::Tensor(y1), RefValue::Tensor(y2)) = (&whole[0], &head[0], &tail[0]) else {
            return Err("the results are no tensors".into());
        };
        let axis = y.shape.len() - 2;
        for (part, from, to) in [(y1, 0, t), (y2, t, tokens)] {
            if let Some(d) = difference(&RefValue::Tensor(part.clone()), &cut(y, axis, from, to).into()) {
                return Err(format!("cut at {t}, tokens {from}..{to}: {d}"));
            }
        }
        if let Some(d) = difference(&tail[1], &whole[1]) {
            return Err(format!("cut at {t}, the state: {d}"));
        }
    }
    Ok(())
}

#[test]
fn every_operation_keeps_its_laws() {
    let mut failures = Vec::new();
    for op in all() {
        for law in op.laws {
            let kept = match law {
                Law::LinearIn(k) => linear(op, *k),
                Law::Causal => causal(op, op.example),
                Law::Streams => streams(op),
                Law::Recurs(build) => building::recurs(op, *build),
                Law::ShiftInvariant(build) => building::shift_invariant(op, *build),
            };
            if let Err(e) = kept {
                failures.push(format!("{} {law:?}: {e}", op.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn broken_laws_are_noticed() {
    let op = |name: &str| super::find(name).unwrap();
    assert!(linear(op("softmax"), 0).is_err());
    assert!(linear(op("outer_sum"), 0).is_err());
    assert!(linear(op("soft_cap"), 0).is_err());
    let attention = op("attention");
    assert!(causal(attention, &attention.example.replace("{causal}", "")).is_err());
}

#[test]
fn rows_that_are_asked_for_are_those_of_the_whole() {
    let text = "\
dim T = 1..64
func @main(%x: f32[T, 8], %w: f32[8, 8], %g: f32[8]) -> (f32[T, 8], f32[T, 8]) {
  %q = linear %x, %w
  %h = split_heads %q {heads = 2}
  %a = attention %h, %h, %h {causal}
  %m = merge_heads %a
  %r = add %m, %x
  %n = rms_norm %r, %g
  %y = linear %n, %w
  %s = reduce %a {op = sum, axis = 0}
  %t = reshape %s {shape = [T, 4]}
  %c = concat %t, %t {axis = 1}
  return %y, %c
}
";
    let program = check(text).unwrap();
    let dims = DimValues::from([("T".into(), 37)]);
    let number = |k: usize| ((k * 7919 % 101) as f64 - 50.0) / 40.0;
    let inputs: Vec<Tensor> = [vec![37, 8], vec![8, 8], vec![8]]
        .iter()
        .map(|s| Tensor::floats(s, (0..s.iter().product()).map(number).collect()))
        .collect();
    let whole = crate::reference::interpret(&program, &dims, &inputs, &Weights::new()).unwrap();
    let rows: Arc<[usize]> = [0, 5, 36].into();
    for asked in [[Some(rows.clone()), None], [Some(rows.clone()), Some(rows.clone())]] {
        let some = crate::reference::interpret_rows(&program, &dims, &inputs, &Weights::new(), &asked).unwrap();
        for (k, (some, whole)) in some.iter().zip(&whole).enumerate() {
            let counts = |n: &usize| asked[k].is_none() || rows.contains(&(n / 8));
            assert!((0..whole.len()).filter(counts).all(|n| some.at(n) == whole.at(n)), "result {k}");
        }
    }
    // Alone, the first result leaves the other rows of the attention out.
    let alone = Program { results: vec![program.results[0]], ..program.clone() };
    let nodes =
        program.nodes.iter().filter(|n| n.results.iter().all(|r| !["s", "t", "c"].contains(&program.name_of(*r))));
    let alone = Program { nodes: nodes.cloned().collect(), ..alone };
    let some =
        crate::reference::interpret_rows(&alone, &dims, &inputs, &Weights::new(), &[Some(rows.clone())]).unwrap();
    let differs = |n: usize| some[0].at(n) != whole[0].at(n);
    assert!((0..some[0].len()).all(|n| !rows.contains(&(n / 8)) || !differs(n)));
    assert!((0..some[0].len()).any(differs), "nothing was left out");
}
