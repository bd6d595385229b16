//! Calls that must be refused, with the operand or attribute that is wrong.

use super::{Case, Input, at, case, d, data, fixed, none};
use crate::attr::Attrs;
use crate::diag::Place;
use crate::dim::{Dim, DimBounds};
use crate::dtype::DType;
use crate::op::Call;
use crate::ty::Type;

fn place(case: &Case, dtypes: &[DType]) -> Place {
    let dtype = |k: usize| dtypes.get(k).copied().unwrap_or(DType::F32);
    let types: Vec<Option<Type>> = case
        .operands
        .iter()
        .enumerate()
        .map(|(k, o)| o.as_ref().map(|i| Type::tensor(dtype(k), i.shape.clone())))
        .collect();
    let call = Call {
        op: case.op,
        types: types.iter().map(Option::as_ref).collect(),
        structures: vec![None; types.len()],
        values: vec![None; types.len()],
        attrs: &case.attrs,
        written: &[],
        bounds: &DimBounds::from([("T".into(), (0, 64))]),
    };
    let faults = call.check().expect_err(&case.describe());
    faults[0].place.clone()
}

fn refused(name: &str, operands: Vec<Option<Input>>, attrs: Attrs, expected: Place) {
    let case = case(name, operands, attrs);
    assert_eq!(place(&case, &[]), expected, "{}", case.describe());
}

#[test]
fn wrong_shapes_are_placed() {
    let t = || Dim::symbol("T");
    let x = |n: i64| data(&[d(2), t(), d(n)]);
    refused("attention", vec![x(4), x(5), x(4)], none(), Place::Operand(1));
    refused("attention", vec![x(4), x(4), data(&[d(2), d(3), d(4)])], none(), Place::Operand(2));
    refused("attention", vec![data(&[t(), t()]), data(&[t(), t()]), data(&[t(), d(3)])], none(), Place::Attr("scale"));
    refused("attention", vec![x(4), x(4), x(4)], none().with_int("block", 0), Place::Attr("block"));
    refused("attention", vec![x(4), x(4), x(4), data(&[d(3), t()])], none(), Place::Operand(3));
    refused("attention", vec![data(&[d(3), t(), d(4)]), x(4), x(4)], none(), Place::Operand(1));
    let state = || none().with_flag("state", true);
    refused("linear_attention", vec![x(4), x(4), x(4)], state(), Place::Call);
    refused("gated_linear_attention", vec![x(4), x(4), x(3), x(3)], none(), Place::Operand(3));
    let s = fixed(&[d(2), d(4), d(4)]);
    refused("gated_linear_attention", vec![x(4), x(4), x(3), x(4), s.clone()], state(), Place::Operand(4));
    refused("delta_rule", vec![x(4), x(4), x(3), x(4)], none(), Place::Operand(3));
    refused("hippo", vec![], none().with_name("kind", "fout").with_int("n", 5), Place::Attr("n"));
    refused("hippo", vec![], none().with_name("kind", "legs").with_int("n", 1 << 40), Place::Attr("n"));
    let h = |n: i64| fixed(&[d(4), d(n)]);
    refused("long_conv", vec![x(4), h(4)], none().with_flag("two_sided", true), Place::Operand(1));
    refused("long_conv", vec![x(3), h(4)], none(), Place::Operand(1));
    let square = fixed(&[d(3), d(3)]);
    refused("krylov", vec![square, fixed(&[d(3)]), fixed(&[d(3)])], none().with_int("len", -1), Place::Attr("len"));
    let routed = |k: i64| none().with_int("k", k);
    refused("ot_route", vec![x(3)], routed(0), Place::Attr("k"));
    refused("ot_route", vec![x(3)], routed(2).with_int("iters", 1 << 40), Place::Attr("iters"));
    refused("ot_route", vec![x(3)], routed(2).with_float("gamma", 0.0), Place::Attr("gamma"));
    refused("ot_route", vec![fixed(&[d(3)])], routed(2), Place::Operand(0));
    let square = || fixed(&[d(3), d(3)]);
    refused("ptd", vec![fixed(&[d(3), d(4)]), fixed(&[d(3)]), fixed(&[d(3)])], none(), Place::Operand(0));
    refused("ptd", vec![square(), fixed(&[d(4)]), fixed(&[d(3)])], none(), Place::Operand(1));
    refused("ptd", vec![square(), fixed(&[d(3)]), fixed(&[d(3), d(4)])], none(), Place::Operand(2));
    refused("ptd", vec![fixed(&[t(), t()]), fixed(&[t()]), fixed(&[t()])], none(), Place::Operand(0));
    assert_eq!(at(3).len(), 1);
}

#[test]
fn what_stands_beside_half_data_may_be_f32_and_nothing_else() {
    use DType::{BF16, F16, F32, F64};
    let x = data(&[d(2), d(5), d(3)]);
    let a = data(&[d(2), d(5)]);
    let call = case("ssd", vec![x.clone(), a, x.clone(), x], none());
    assert_eq!(place(&call, &[BF16, F16, BF16, BF16]), Place::Operand(1));
    assert_eq!(place(&call, &[F32, F64, F32, F32]), Place::Operand(1));
    assert_eq!(place(&call, &[F32, F32, BF16, F32]), Place::Operand(2));
}
