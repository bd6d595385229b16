//! What tests of forms share: random inputs, and a program in a form against the reference.

use mixc_ir::dim::{DimValues, Symbol};
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Kind, Scalar};
use mixc_ir::lowered::{Action, Lowered};
use mixc_ir::machine::Machine;
use mixc_ir::program::{Program, ValueId};
use mixc_ir::tensor::Tensor;
use mixc_ir::tile::Rounding;
use mixc_ir::{lowered_interp, reference};
use mixc_passes::{forms, lower, rewrite};

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Between -1 and 1.
    pub fn unit(&mut self) -> f64 {
        self.next() as f64 / f64::from(1u32 << 30) - 1.0
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.next() as usize % all.len()]
    }

    /// A log decay: none at all, slow, fast, below what f32 resolves, and of a decay of 0.
    pub fn log_decay(&mut self) -> f64 {
        let log = self.one_of(&[0.0, -1e-6, -0.01, -0.5, -4.0, -60.0, -3e4, f64::NEG_INFINITY]);
        log * (1.0 + 0.1 * self.unit().abs())
    }
}

/// How the operands named in a program are filled.
fn input(name: &str, dtype: DType, shape: &[usize], random: &mut Random) -> Tensor {
    let numbers = Tensor::from_fn(Kind::Float, shape, |_| {
        Scalar::Float(match name {
            "a" => random.log_decay(),
            // Keys of about unit length, as the delta rule is used.
            "k" => random.unit() / (shape.last().copied().unwrap_or(1) as f64).sqrt(),
            "beta" => random.unit().abs(),
            "w" => random.one_of(&[0.0, 0.01, 0.5, 2.0]) * random.unit().abs(),
            "far" => random.one_of(&[15.0, 17.0, 300.0, 1e6]),
            _ => random.unit(),
        })
    });
    numbers.rounded(dtype)
}

/// The tile programs of a program, each of them verified, in a form where one is named.
pub fn lowered(program: &Program, values: &DimValues, form: &str) -> Lowered {
    let expanded = rewrite::expand_layers(program, &|op| forms::lowers_whole(op.name));
    let force_form = Some(form.to_string()).filter(|f| !f.is_empty());
    let settings = lower::Settings { typical: values.clone(), machine: Machine::zen4(), force_form };
    let lowered = lower::lower(&expanded, &settings).unwrap_or_else(|d| panic!("{d:?}"));
    for step in &lowered.steps {
        if let Action::Run { program, .. } = &step.action {
            let problems = mixc_ir::tile::verify(program);
            assert!(problems.is_empty(), "{problems:?}\n{program}");
        }
    }
    lowered
}

/// T queries and S keys.
#[allow(dead_code, reason = "not every test of a form needs it")]
pub fn values(queries: usize, keys: usize) -> DimValues {
    [("T", queries), ("S", keys)].map(|(n, v)| (Symbol::from(n), v as i64)).into_iter().collect()
}

/// The lengths of a value's axes.
pub fn shape_of(program: &Program, v: ValueId, values: &DimValues) -> Vec<usize> {
    program.ty(v).dims().iter().map(|d| d.eval(values).unwrap() as usize).collect()
}

#[allow(dead_code, reason = "not every test of a form needs it")]
pub fn has(lowered: &Lowered, name: &str) -> bool {
    lowered.steps.iter().any(|s| matches!(&s.action, Action::Run { form, .. } if form == forms::family(name)))
}

/// Runs a program in which every dim is `tokens` in a form and compares it with the reference.
#[allow(dead_code, reason = "not every test of a form needs it")]
pub fn agrees(text: &str, tokens: usize, form: &str, random: &mut Random) {
    let program = mixc_ir::verify::check(text).unwrap_or_else(|d| panic!("{d:?}\n{text}"));
    let values = program.dims.iter().map(|d| (d.name.clone(), tokens as i64)).collect();
    agrees_at(text, values, form, random);
}

/// Runs a program at some lengths in a form and compares it with the reference.
#[allow(dead_code, reason = "not every test of a form needs it")]
pub fn agrees_at(text: &str, values: DimValues, form: &str, random: &mut Random) {
    let marks = |shape: &[usize], random: &mut Random| {
        Tensor::from_fn(Kind::Bool, shape, |_| Scalar::Bool(random.next().is_multiple_of(2)))
    };
    agrees_with(text, values, form, random, &marks);
}

/// The same with booleans of one's own making.
#[allow(dead_code, reason = "not every test of a form needs it")]
pub fn agrees_with(
    text: &str,
    values: DimValues,
    form: &str,
    random: &mut Random,
    marks: &dyn Fn(&[usize], &mut Random) -> Tensor,
) {
    let program = mixc_ir::verify::check(text).unwrap_or_else(|d| panic!("{d:?}\n{text}"));
    let mut tolerance: f64 = 1e-5;
    let inputs: Vec<Tensor> = program
        .params
        .iter()
        .map(|v| {
            let dtype = program.ty(*v).dtype();
            if dtype == DType::I64 {
                let shape: Vec<usize> =
                    program.ty(*v).dims().iter().filter_map(|d| d.as_constant()).map(|n| n as usize).collect();
                return Tensor::from_fn(Kind::Int, &shape, |_| Scalar::Int(random.next() as i64 % 2500));
            }
            if dtype == DType::Bool {
                return marks(&shape_of(&program, *v, &values), random);
            }
            tolerance = tolerance.max(if dtype == DType::BF16 {
                2e-2
            } else if dtype == DType::F16 {
                4e-3
            } else {
                0.0
            });
            input(program.name_of(*v), dtype, &shape_of(&program, *v, &values), random)
        })
        .collect();
    let want = reference::interpret(&program, &values, &inputs, &reference::Weights::new()).unwrap();
    let lowered = lowered(&program, &values, form);
    assert!(has(&lowered, form), "{form} is not reached\n{text}");
    let got = lowered_interp::interpret_lowered(&lowered, &values, &inputs, &Default::default(), Rounding::Tiles)
        .unwrap_or_else(|e| panic!("{e}\n{text}"));
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(got.shape, want.shape);
        let most = (0..want.len()).map(|k| want.at(k).abs()).fold(1e-30, f64::max);
        for k in 0..want.len() {
            let (g, w) = (got.at(k), want.at(k));
            assert!((g - w).abs() <= tolerance * most, "{k}: {g} for {w} (most {most}), {values:?}, {form}\n{text}");
        }
    }
}
