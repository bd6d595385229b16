//! Every layer's expansion against its own loop, and what the layers promise, on random inputs over odd shapes.

use crate::attr::Attrs;
use crate::dim::{Dim, DimValues};
use crate::dtype::DType;
use crate::op::{Call, Law, Meaning, Op};
use crate::program::{Builder, DimItem, Program, ValueId};
use crate::reference::{Weights, interpret};
use crate::tensor::Tensor;
use crate::ty::Type;

mod agreement;
mod attention;
mod examples;
mod faults;
mod ot_route;
mod promises;
mod ptd;

/// A small deterministic generator (a multiplicative congruence with output mixing).
pub struct Random(u64);

impl Random {
    /// A stream of its own for every seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58476d1ce4e5b9);
        ((mixed ^ (mixed >> 32)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// An operand of a case: its shape, its range of values, and which axis from the end holds tokens (0: none).
#[derive(Clone)]
pub struct Input {
    pub shape: Vec<Dim>,
    pub range: (f64, f64),
    pub tokens: usize,
}

/// Data in [-1, 1] whose last axis but one is tokens.
pub fn data(shape: &[Dim]) -> Option<Input> {
    Some(Input { shape: shape.to_vec(), range: (-1.0, 1.0), tokens: 2 })
}

/// Data in [-1, 1] without a token axis.
pub fn fixed(shape: &[Dim]) -> Option<Input> {
    Some(Input { shape: shape.to_vec(), range: (-1.0, 1.0), tokens: 0 })
}

/// Values in a range, tokens on the axis `tokens` from the end.
pub fn ranged(shape: &[Dim], tokens: usize, low: f64, high: f64) -> Option<Input> {
    Some(Input { shape: shape.to_vec(), range: (low, high), tokens })
}

/// A call of a layer.
#[derive(Clone)]
pub struct Case {
    pub op: &'static Op,
    pub operands: Vec<Option<Input>>,
    pub attrs: Attrs,
}

/// A call of the layer `name`.
pub fn case(name: &str, operands: Vec<Option<Input>>, attrs: Attrs) -> Case {
    Case { op: crate::ops::find(name).expect("a layer of the catalogue"), operands, attrs }
}

/// The number n as a dim.
pub fn d(n: i64) -> Dim {
    Dim::constant(n)
}

/// No attributes.
pub fn none() -> Attrs {
    Attrs::new()
}

impl Case {
    fn describe(&self) -> String {
        let shapes: Vec<String> = self
            .operands
            .iter()
            .map(|o| o.as_ref().map_or("_".into(), |i| Type::tensor(DType::F64, i.shape.clone()).to_string()))
            .collect();
        format!("{} {}{}", self.op.name, shapes.join(", "), self.attrs)
    }

    /// The program of the call, or of its expansion, in f64.
    pub fn program(&self, expanded: bool) -> Program {
        self.program_in(expanded, |_| DType::F64)
    }

    /// The same with an element type for each operand.
    pub fn program_in(&self, expanded: bool, dtype: impl Fn(usize) -> DType) -> Program {
        let t = DimItem { name: "T".into(), low: 0, high: 1 << 12 };
        let mut b = Builder::new("main", vec![t]);
        let params: Vec<Option<ValueId>> = self
            .operands
            .iter()
            .enumerate()
            .map(|(k, o)| o.as_ref().map(|i| b.param(&format!("p{k}"), Type::tensor(dtype(k), i.shape.clone()))))
            .collect();
        let results = if expanded {
            let types: Vec<Option<Type>> = params.iter().map(|p| p.map(|v| b.ty(v).clone())).collect();
            let bounds = b.bounds().clone();
            let call = Call {
                op: self.op,
                types: types.iter().map(Option::as_ref).collect(),
                structures: vec![None; types.len()],
                values: params,
                attrs: &self.attrs,
                written: &[],
                bounds: &bounds,
            };
            let promised = call.check().unwrap_or_else(|f| panic!("{}: {f:?}", self.describe()));
            let expand = self.op.expand.expect("a layer with an expansion");
            let results = expand(&mut b, &call).unwrap_or_else(|f| panic!("{}: {f:?}", self.describe()));
            let found: Vec<Type> = results.iter().map(|r| b.ty(*r).clone()).collect();
            assert_eq!(found, promised, "types of {}", self.describe());
            results
        } else {
            b.call(self.op, &params, self.attrs.clone(), &[], &[])
                .unwrap_or_else(|f| panic!("{}: {f:?}", self.describe()))
        };
        b.finish(results)
    }

    /// Random inputs with T = `tokens`, one a present operand.
    pub fn inputs(&self, tokens: usize, seed: u64) -> Vec<Tensor> {
        let mut random = Random::new(seed);
        let dims = at(tokens);
        self.operands
            .iter()
            .flatten()
            .map(|i| {
                let shape: Vec<usize> = i.shape.iter().map(|n| n.eval(&dims).expect("a dim over T") as usize).collect();
                let n = shape.iter().product();
                let (low, high) = i.range;
                Tensor::floats(&shape, (0..n).map(|_| low + (high - low) * random.unit()).collect())
            })
            .collect()
    }

    /// The results for T = `tokens`.
    pub fn run(&self, expanded: bool, tokens: usize, inputs: &[Tensor]) -> Vec<Tensor> {
        interpret(&self.program(expanded), &at(tokens), inputs, &Weights::new())
            .unwrap_or_else(|e| panic!("{} at T = {tokens}: {e}", self.describe()))
    }
}

/// The value of the one symbol.
pub fn at(tokens: usize) -> DimValues {
    DimValues::from([("T".into(), tokens as i64)])
}

/// The greatest difference, as a part of the greatest value (at least 1e-3).
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape, b.shape);
    let size = (0..b.len()).map(|k| b.at(k).abs()).fold(1e-3, f64::max);
    let far = |k: usize| if a.at(k) == b.at(k) { 0.0 } else { (a.at(k) - b.at(k)).abs() };
    (0..a.len()).map(far).fold(0.0, |m: f64, x| if x.is_nan() { f64::NAN } else { m.max(x) }) / size
}

/// Layers whose meaning is a loop of their own beside an expansion over any operands: that of `ptd` is over constants.
pub fn has_both(op: &Op) -> bool {
    op.expand.is_some() && matches!(op.meaning, Meaning::Eval(_)) && op.name != "ptd"
}

/// Calls of every layer over T tokens (a number or the symbol).
pub fn cases(t: &Dim) -> Vec<Case> {
    let mut all = Vec::new();
    recurrent(t, &mut all);
    attention_like(t, &mut all);
    kernels(t, &mut all);
    mixers(t, &mut all);
    all
}

/// Recurrent layers, with and without a state in and out.
fn recurrent(t: &Dim, all: &mut Vec<Case>) {
    let t = || t.clone();
    let state = || none().with_flag("state", true);
    let decays = |shape: &[Dim], tokens: usize| ranged(shape, tokens, -1.5, 0.1);
    for (attrs, s0) in [(none(), false), (none(), true), (state(), false), (state(), true)] {
        let given = |shape: &[Dim]| if s0 { fixed(shape) } else { None };
        let mut push = |name: &str, operands: Vec<Option<Input>>, attrs: Attrs| {
            let mut operands = operands;
            while operands.last().is_some_and(Option::is_none) {
                operands.pop();
            }
            all.push(case(name, operands, attrs));
        };
        // Groups of heads, and batch dims that are missing or 1.
        let (q, k, v) = (data(&[d(2), d(6), t(), d(3)]), data(&[d(2), t(), d(3)]), data(&[d(2), d(3), t(), d(5)]));
        let linear = attrs.clone().with_flag("causal", true).with_name("feature", "elu1");
        push("linear_attention", vec![q.clone(), k.clone(), v.clone(), given(&[d(6), d(3), d(5)])], linear.clone());
        let alone = |n| data(&[t(), d(n)]);
        push("linear_attention", vec![alone(3), alone(3), alone(4), given(&[d(3), d(4)])], linear);
        let g = ranged(&[d(6)], 0, 0.1, 1.0);
        push("retention", vec![q.clone(), k.clone(), v.clone(), g, given(&[d(2), d(6), d(3), d(5)])], attrs.clone());
        let g = ranged(&[], 0, -0.9, 0.9);
        push("retention", vec![alone(3), alone(3), alone(4), g, given(&[d(3), d(4)])], attrs.clone());
        for a in [decays(&[d(2), d(6), t(), d(3)], 2), decays(&[d(1), d(3), t(), d(1)], 2), decays(&[d(6), t()], 1)] {
            let s = given(&[d(1), d(6), d(3), d(5)]);
            push("gated_linear_attention", vec![q.clone(), k.clone(), v.clone(), a.clone(), s.clone()], attrs.clone());
            let beta = ranged(&[d(6), t()], 1, 0.0, 1.0);
            let scaled = attrs.clone().with_float("scale", 0.5);
            push("delta_rule", vec![q.clone(), k.clone(), v.clone(), beta.clone(), a, s.clone()], scaled);
            push("delta_rule", vec![q.clone(), k.clone(), v.clone(), beta, None, s], attrs.clone());
        }
        let beta = ranged(&[t()], 1, 0.0, 1.0);
        let s = given(&[d(3), d(4)]);
        push("delta_rule", vec![alone(3), alone(3), alone(4), beta, decays(&[t()], 1), s], attrs.clone());
        let (x, a) = (data(&[d(4), t(), d(5)]), decays(&[d(4), t()], 1));
        for lead in [vec![], vec![d(2)], vec![d(4)]] {
            let with = |n: i64| data(&[lead.clone(), vec![t(), d(n)]].concat());
            let s = given(&[d(4), d(3), d(5)]);
            push("ssd", vec![x.clone(), a.clone(), with(3), with(3), s], attrs.clone());
        }
        push("ssd", vec![alone(5), decays(&[t()], 1), alone(2), alone(2), given(&[d(2), d(5)])], attrs.clone());
        for (b_flag, c_flag, softplus) in [(false, false, true), (true, false, false), (false, true, false)] {
            let flags = attrs
                .clone()
                .with_flag("constant_b", b_flag)
                .with_flag("constant_c", c_flag)
                .with_flag("softplus", softplus);
            for lead in [vec![], vec![d(3)], vec![d(2), d(4)]] {
                let with = |n: i64| [lead.clone(), vec![t(), d(n)]].concat();
                let dt = ranged(&with(5), 2, 0.0, 1.0);
                let decay = ranged(&[d(5), d(3)], 0, -2.0, 0.0);
                let either = |constant: bool, heads: i64| match (constant, lead.len()) {
                    (true, _) => fixed(&[d(5), d(3)]),
                    (false, 2) => data(&[d(2), d(heads), t(), d(3)]),
                    (false, _) => data(&with(3)),
                };
                let s = given(&[lead.clone(), vec![d(5), d(3)]].concat());
                let skip = if s0 || softplus { fixed(&[d(5)]) } else { None };
                let operands = vec![data(&with(5)), dt, decay, either(b_flag, 2), either(c_flag, 1), skip, s];
                push("selective_scan", operands, flags.clone());
            }
        }
    }
}

/// Layers that weigh pairs of tokens.
fn attention_like(t: &Dim, all: &mut Vec<Case>) {
    let t = || t.clone();
    let more = t().add(&d(3)).expect("a small sum");
    let (q, k, v) =
        (data(&[d(2), d(4), t(), d(3)]), data(&[d(2), more.clone(), d(3)]), data(&[d(2), d(1), more.clone(), d(5)]));
    let operands = || vec![q.clone(), k.clone(), v.clone()];
    let fewer = || vec![data(&[more.clone(), d(3)]), data(&[t(), d(3)]), data(&[t(), d(5)])];
    for attrs in [none(), none().with_flag("causal", true)] {
        for feature in super::feature::NAMES {
            all.push(case("linear_attention", operands(), attrs.clone().with_name("feature", feature)));
        }
        let positive = attrs.clone().with_name("feature", "elu1");
        all.push(case("linear_attention", operands(), positive.clone().with_flag("normalize", true)));
        all.push(case("linear_attention", fewer(), positive.clone()));
        all.push(case("norm_attention", operands(), positive.clone()));
        all.push(case("norm_attention", fewer(), positive));
        for block in [1, 3, 64] {
            let attrs = attrs.clone().with_int("block", block);
            all.push(case("diag_attention", operands(), attrs.clone().with_name("kernel", "relu")));
            all.push(case("diag_attention", operands(), attrs.clone().with_float("scale", 2.0)));
            all.push(case("diag_attention", fewer(), attrs));
        }
    }
    all.push(case("retention", vec![q.clone(), k.clone(), v.clone(), ranged(&[d(4)], 0, 0.5, 1.0)], none()));
    let pairs = |lead: &[Dim], n: &Dim, r: i64| data(&[lead, &[n.clone(), d(r)]].concat());
    let heads: [&[Dim]; 5] = [&[d(4)], &[d(2)], &[], &[d(1)], &[d(2)]];
    let [a, b, c, e, f] = heads;
    let operands =
        vec![pairs(a, &t(), 3), pairs(b, &d(5), 3), pairs(c, &more, 3), pairs(e, &d(5), 2), pairs(f, &more, 2)];
    all.push(case("tensor_attention", operands, none()));
}

/// Layers that make convolution kernels.
fn kernels(t: &Dim, all: &mut Vec<Case>) {
    let len = |n: &Dim| none().with_dim("len", n.clone());
    for n in [t.clone(), d(1), d(2), d(64), d(65), d(200)] {
        let state = |k: i64| fixed(&[d(3), d(k)]);
        all.push(case("companion_kernel", vec![ranged(&[d(3), d(4)], 0, -0.2, 0.2), state(4), state(4)], len(&n)));
        let one = |k: i64| ranged(&[d(k)], 0, -0.9, 0.9);
        all.push(case("companion_kernel", vec![one(1), one(1), one(1)], len(&n)));
        let a = ranged(&[d(2), d(6), d(3), d(3)], 0, -0.3, 0.3);
        all.push(case("krylov", vec![a, fixed(&[d(3), d(3)]), fixed(&[d(3)])], len(&n)));
        let (decay, turn) = (ranged(&[d(3), d(4)], 0, -1.0, 0.0), ranged(&[d(3), d(4)], 0, -20.0, 20.0));
        let dt = ranged(&[d(3)], 0, -7.0, -1.0);
        all.push(case("s4d_kernel", vec![dt.clone(), decay, turn, state(4), state(4)], len(&n)));
        let zero = || ranged(&[d(3), d(4)], 0, 0.0, 0.0);
        all.push(case("s4d_kernel", vec![dt, zero(), zero(), state(4), state(4)], len(&n)));
    }
    for (kind, n) in [("legs", 5), ("legt", 7), ("fout", 6), ("legs", 1)] {
        all.push(case("hippo", vec![], none().with_name("kind", kind).with_int("n", n)));
    }
}

/// Layers that mix by fixed operators.
fn mixers(t: &Dim, all: &mut Vec<Case>) {
    let t = || t.clone();
    let x = data(&[d(2), t(), d(3)]);
    for lags in [1, 4, 9, 40] {
        all.push(case("long_conv", vec![x.clone(), fixed(&[d(3), d(lags)])], none()));
        let both = vec![x.clone(), fixed(&[d(3), d(2 * lags - 1)])];
        all.push(case("long_conv", both, none().with_flag("two_sided", true)));
    }
    all.push(case("fourier_mix", vec![x.clone()], none()));
    all.push(case("fourier_mix", vec![data(&[t(), d(8)])], none()));
    let weights = |x: i64, y: i64, z: i64| fixed(&[d(x), d(y), d(z)]);
    for gate in [1, 5] {
        let gate = fixed(&[d(8), d(gate)]);
        let (l1, r1, l2, r2) = (weights(2, 4, 3), weights(3, 2, 2), weights(4, 3, 2), weights(2, 4, 4));
        let x = data(&[t(), d(6), d(5)]);
        all.push(case("monarch_mix", vec![x, l1, r1, l2, r2, gate], none()));
    }
    for function in super::feature::NAMES {
        let mut operands = vec![x.clone(), fixed(&[d(7), t()]), fixed(&[d(4), d(7)])];
        all.push(case("token_mlp", operands.clone(), none().with_name("fn", function)));
        operands.extend([fixed(&[d(7)]), fixed(&[d(4)])]);
        all.push(case("token_mlp", operands.clone(), none().with_name("fn", function)));
    }
    for width in [1, 5] {
        let attrs = none().with_int("width", width);
        let mut operands = vec![x.clone(), weights(4, 3, width), fixed(&[d(4), d(7)]), fixed(&[d(4), d(7)])];
        all.push(case("pgn", operands.clone(), attrs.clone()));
        operands.extend([fixed(&[d(4)]), None, fixed(&[d(4)])]);
        all.push(case("pgn", operands, attrs));
    }
    for (k, rounds) in [(1, 1), (3, 6), (40, 3)] {
        let attrs = none().with_int("k", k).with_int("iters", rounds).with_float("gamma", 0.1);
        all.push(case("ot_route", vec![data(&[d(2), t(), d(3)])], attrs));
    }
    let place = |n: i64| fixed(&[d(3), t(), d(n)]);
    let all_over = || ranged(&[d(2)], 0, -0.5, 0.5);
    let parameters = vec![all_over(), all_over(), place(2), all_over(), place(2), all_over(), all_over(), place(2)];
    let plane = fixed(&[d(2), d(3), t()]);
    all.push(case("ssm2d", [vec![plane.clone()], parameters].concat(), none()));
    let by_batch = (0..8).map(|k| if k % 2 == 0 { fixed(&[d(4), d(2), d(3), t(), d(2)]) } else { all_over() });
    let mut operands = vec![plane];
    operands.extend(by_batch);
    all.push(case("ssm2d", operands, none()));
    let constant = (0..8).map(|_| fixed(&[d(3)]));
    all.push(case("ssm2d", [data(&[d(3), t()])].into_iter().chain(constant).collect(), none()));
}

/// The layers with a law.
pub fn with_law(law: Law) -> impl Fn(&Case) -> bool {
    move |c| c.op.laws.contains(&law)
}
