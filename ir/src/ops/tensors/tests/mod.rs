//! Values of hand-worked cases, refused calls, and: an expansion computes what the operation means.

mod expansions;
mod layout;
mod numbers;

use crate::attr::{AttrValue, Attrs};
use crate::diag::Fault;
use crate::dim::{Dim, DimValues};
use crate::dtype::DType;
use crate::expr::{Kind, Scalar};
use crate::op::{Call, Law, Op, OperandKind};
use crate::ops::find;
use crate::program::{Builder, DimItem, ValueId};
use crate::reference::{Weights, interpret};
use crate::tensor::{Data, Tensor};
use crate::ty::Type;
use crate::verify::check;

/// A small generator (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    /// From -2 to 2.
    fn real(&mut self) -> f64 {
        (self.next() % 4001) as f64 / 1000.0 - 2.0
    }

    fn reals(&mut self, shape: &[usize]) -> Tensor {
        Tensor::from_fn(Kind::Float, shape, |_| Scalar::Float(self.real()))
    }

    fn ints(&mut self, shape: &[usize], below: u64) -> Tensor {
        Tensor::from_fn(Kind::Int, shape, |_| Scalar::Int((self.next() % below) as i64))
    }
}

fn attrs() -> Attrs {
    Attrs::new()
}

fn dims(v: &[i64]) -> Vec<Dim> {
    v.iter().map(|&n| Dim::constant(n)).collect()
}

fn shape_of(t: &Tensor) -> Vec<Dim> {
    t.shape.iter().map(|&n| Dim::from(n)).collect()
}

fn type_of(t: &Tensor) -> Type {
    let dtype = match t.data {
        Data::Float(_) => DType::F64,
        Data::Int(_) => DType::I64,
        Data::Bool(_) => DType::Bool,
    };
    Type::tensor(dtype, shape_of(t))
}

/// `T = 0..64`, `P = 0..64`.
fn symbols() -> Vec<DimItem> {
    ["T", "P"].iter().map(|&s| DimItem { name: s.into(), low: 0, high: 64 }).collect()
}

/// The result types of a call on operands of these types.
fn infer(name: &str, types: &[Type], attrs: Attrs) -> Result<Vec<Type>, Vec<Fault>> {
    infer_written(name, types, attrs, &[])
}

fn infer_written(name: &str, types: &[Type], attrs: Attrs, written: &[Option<Type>]) -> Result<Vec<Type>, Vec<Fault>> {
    let mut b = Builder::new("test", symbols());
    let params: Vec<_> = types.iter().map(|ty| Some(b.param("p", ty.clone()))).collect();
    let results = b.call(find(name).expect("the operation exists"), &params, attrs, written, &[])?;
    Ok(results.into_iter().map(|r| b.ty(r).clone()).collect())
}

fn message(name: &str, types: &[Type], attrs: Attrs) -> String {
    infer(name, types, attrs).expect_err("the call is refused")[0].message.clone()
}

/// What the program with the one step that `step` builds gives for these inputs.
fn results_of(
    inputs: &[Option<Tensor>],
    step: impl FnOnce(&mut Builder, &[Option<ValueId>]) -> Vec<ValueId>,
) -> Result<Vec<Tensor>, String> {
    let mut b = Builder::new("test", symbols());
    let params: Vec<Option<ValueId>> = inputs.iter().map(|t| t.as_ref().map(|t| b.param("p", type_of(t)))).collect();
    let results = step(&mut b, &params);
    let given: Vec<Tensor> = inputs.iter().flatten().cloned().collect();
    interpret(&b.finish(results), &DimValues::new(), &given, &Weights::new())
}

fn run_written(name: &str, inputs: &[Option<Tensor>], attrs: Attrs, written: &[Option<Type>]) -> Vec<Tensor> {
    let op = find(name).expect("the operation exists");
    results_of(inputs, |b, params| b.call(op, params, attrs, written, &[]).expect("the call is well typed"))
        .expect("the call has a value")
}

fn run(name: &str, inputs: &[Tensor], attrs: Attrs) -> Vec<Tensor> {
    run_written(name, &inputs.iter().cloned().map(Some).collect::<Vec<_>>(), attrs, &[])
}

fn expand(op: &'static Op, inputs: &[Option<Tensor>], attrs: &Attrs, written: &[Option<Type>]) -> Vec<Tensor> {
    let types: Vec<Option<Type>> = inputs.iter().map(|t| t.as_ref().map(type_of)).collect();
    results_of(inputs, |b, params| {
        let bounds = b.bounds().clone();
        let call = Call {
            op,
            types: types.iter().map(Option::as_ref).collect(),
            structures: vec![None; types.len()],
            values: params.to_vec(),
            attrs,
            written,
            bounds: &bounds,
        };
        op.expand.expect("it has an expansion")(b, &call).expect("the expansion is well typed")
    })
    .expect("the expansion has a value")
}

/// The greatest difference of two results, and whether their shapes and kinds agree.
fn difference(a: &[Tensor], b: &[Tensor]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let mut most = 0.0f64;
    for (a, b) in a.iter().zip(b) {
        if a.shape != b.shape || a.kind() != b.kind() {
            return f64::INFINITY;
        }
        for k in 0..a.len() {
            let d = (a.at(k) - b.at(k)).abs();
            most = most.max(if d.is_nan() { f64::INFINITY } else { d });
        }
    }
    most
}

fn same_written(name: &str, inputs: &[Option<Tensor>], attrs: Attrs, written: &[Option<Type>]) {
    let op = find(name).expect("the operation exists");
    let meaning = run_written(name, inputs, attrs.clone(), written);
    let expansion = expand(op, inputs, &attrs, written);
    let shapes: Vec<_> = inputs.iter().map(|t| t.as_ref().map(|t| t.shape.clone())).collect();
    let d = difference(&meaning, &expansion);
    // Both are in f64; the sums have a few hundred terms of size 2 at most.
    assert!(d < 1e-9, "{name}{attrs} on {shapes:?}: meaning and expansion differ by {d}\n{meaning:?}\n{expansion:?}");
}

fn same(name: &str, inputs: &[Tensor], attrs: Attrs) {
    same_written(name, &inputs.iter().cloned().map(Some).collect::<Vec<_>>(), attrs, &[]);
}

fn floats(shape: &[usize], v: &[f64]) -> Tensor {
    Tensor::floats(shape, v.to_vec())
}

fn t() -> Dim {
    Dim::symbol("T")
}

fn f32s(shape: Vec<Dim>) -> Type {
    Type::tensor(DType::F32, shape)
}
