//! Values of hand-worked cases, refused calls, and: an expansion computes what the operation means.

use crate::attr::{AttrValue, Attrs};
use crate::diag::Fault;
use crate::dim::{Dim, DimValues};
use crate::dtype::DType;
use crate::expr::{Kind, Scalar};
use crate::op::{Call, Op};
use crate::ops::find;
use crate::program::{Builder, DimItem, ValueId};
use crate::reference::{Weights, interpret};
use crate::tensor::{Data, Tensor};
use crate::ty::Type;

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

#[test]
fn products_have_values() {
    let (a, b) = (floats(&[2, 2], &[1., 2., 3., 4.]), floats(&[2, 2], &[5., 6., 7., 8.]));
    let product = |flags: [bool; 2]| {
        let attrs = attrs().with_flag("transpose_a", flags[0]).with_flag("transpose_b", flags[1]);
        run("matmul", &[a.clone(), b.clone()], attrs).remove(0)
    };
    assert_eq!(product([false, false]), floats(&[2, 2], &[19., 22., 43., 50.]));
    assert_eq!(product([true, false]), floats(&[2, 2], &[26., 30., 38., 44.]));
    assert_eq!(product([false, true]), floats(&[2, 2], &[17., 23., 39., 53.]));
    assert_eq!(product([true, true]), floats(&[2, 2], &[23., 31., 34., 46.]));
    let bias = floats(&[2], &[100., 200.]);
    assert_eq!(run("linear", &[a, b, bias], attrs())[0], floats(&[2, 2], &[117., 223., 139., 253.]));
}

#[test]
fn products_share_groups_and_sum_over_nothing() {
    let a = floats(&[4, 1, 1], &[1., 2., 3., 4.]);
    let b = floats(&[2, 1, 1], &[10., 100.]);
    assert_eq!(run("matmul", &[a, b], attrs())[0], floats(&[4, 1, 1], &[10., 20., 300., 400.]));
    let empty = run("matmul", &[floats(&[2, 0], &[]), floats(&[0, 3], &[])], attrs());
    assert_eq!(empty[0], floats(&[2, 3], &[0.0; 6]));
    let (x, w) = (f32s(vec![t(), Dim::constant(4)]), f32s(dims(&[4, 3])));
    assert!(message("linear", &[x.clone(), w.clone()], attrs()).contains("[outputs, 4]"));
    assert_eq!(message("matmul", &[x, f32s(dims(&[3, 4]))], attrs()), "a has 4 columns, b has 3 rows");
}

#[test]
fn reductions_over_nothing_and_of_integers() {
    let reduce =
        |x: &Tensor, op: &str| run("reduce", std::slice::from_ref(x), attrs().with_name("op", op).with_int("axis", -1));
    let none = floats(&[1, 0], &[]);
    for (op, expected) in [("sum", 0.0), ("prod", 1.0), ("max", f64::NEG_INFINITY), ("min", f64::INFINITY)] {
        assert_eq!(reduce(&none, op)[0], floats(&[1], &[expected]), "{op}");
    }
    assert!(reduce(&none, "mean")[0].at(0).is_nan());
    assert!(reduce(&floats(&[2], &[f64::NAN, 1.0]), "max")[0].at(0).is_nan());
    let ints = Tensor::ints(&[2, 3], vec![1, -2, 3, 4, 5, -6]);
    assert_eq!(reduce(&ints, "prod")[0], Tensor::ints(&[2], vec![-6, -120]));
    let kept = run(
        "reduce",
        std::slice::from_ref(&ints),
        attrs().with_name("op", "max").with_int("axis", 0).with_flag("keep", true),
    );
    assert_eq!(kept[0], Tensor::ints(&[1, 3], vec![4, 5, 3]));
    assert!(
        message("reduce", &[type_of(&ints)], attrs().with_name("op", "mean").with_int("axis", 0)).contains("reals")
    );
    assert!(message("reduce", &[type_of(&ints)], attrs().with_int("axis", 2)).contains("no axis 2"));
}

#[test]
fn scans_run_both_ways_and_do_not_overflow() {
    let x = floats(&[3, 2], &[1., 10., 2., 20., 3., 30.]);
    let sums =
        |reverse| run("cumsum", std::slice::from_ref(&x), attrs().with_int("axis", 0).with_flag("reverse", reverse));
    assert_eq!(sums(false)[0], floats(&[3, 2], &[1., 10., 3., 30., 6., 60.]));
    assert_eq!(sums(true)[0], floats(&[3, 2], &[6., 60., 5., 50., 3., 30.]));
    let logs = floats(&[4], &[f64::NEG_INFINITY, 1000.0, 1000.0, -1e9]);
    let y = run("cumlogsumexp", &[logs], attrs().with_int("axis", 0)).remove(0);
    let ln2 = std::f64::consts::LN_2;
    assert_eq!(y, floats(&[4], &[f64::NEG_INFINITY, 1000.0, 1000.0 + ln2, 1000.0 + ln2]));
}

#[test]
fn softmax_of_large_and_absent_logits() {
    let inf = f64::NEG_INFINITY;
    let x = floats(&[3, 2], &[1e4, 1e4, inf, 3.0, inf, inf]);
    assert_eq!(run("softmax_axis", &[x], attrs())[0], floats(&[3, 2], &[0.5, 0.5, 0.0, 1.0, 0.0, 0.0]));
}

#[test]
fn norms_have_values() {
    let x = floats(&[1, 2], &[3.0, 5.0]);
    let g = floats(&[2], &[2.0, 3.0]);
    let eps = |eps: f64| attrs().with_float("eps", eps);
    let y = run_written("layer_norm", &[Some(x.clone()), None, Some(g.clone())], eps(0.0), &[]);
    assert_eq!(y[0], floats(&[1, 2], &[1.0, 4.0]));
    let y = run("rms_norm", &[floats(&[1, 2], &[1.0, 7.0]), g], eps(11.0)).remove(0);
    assert!(difference(&[y], &[floats(&[1, 2], &[2.0 / 6.0, 21.0 / 6.0])]) < 1e-15);
    let y = run("l2_normalize", &[x], attrs().with_int("axis", 0).with_float("eps", 0.0)).remove(0);
    assert_eq!(y, floats(&[1, 2], &[1.0, 1.0]));
}

#[test]
fn reshape_compares_products_of_dims() {
    let p = Dim::symbol("P");
    let joined = t().add(&p).unwrap();
    let reshape = |from: Vec<Dim>, to: Vec<Dim>| infer("reshape", &[f32s(from)], attrs().with_dims("shape", to));
    let n = Dim::constant;
    let open = n(-1);
    let shape = |r: Result<Vec<Type>, Vec<Fault>>| r.expect("it fits")[0].dims();
    assert_eq!(shape(reshape(vec![t(), n(12)], vec![n(3), t(), n(4)])), vec![n(3), t(), n(4)]);
    assert_eq!(shape(reshape(vec![t(), n(12)], vec![t(), n(3), open.clone()]))[2], n(4));
    assert_eq!(shape(reshape(vec![joined.clone(), n(12)], vec![joined.clone(), open.clone()]))[1], n(12));
    let folded = shape(reshape(vec![t(), n(3)], vec![open.clone(), n(16), n(3)]));
    assert_eq!(folded[0].to_string(), "T/16");
    assert_eq!(shape(reshape(folded, vec![open.clone(), n(3)]))[0], t());
    assert!(reshape(vec![t(), n(3)], vec![n(7)]).is_err());
    assert!(reshape(vec![t(), n(3)], vec![open.clone(), open.clone()]).is_err());
    assert!(reshape(vec![n(0), n(3)], vec![n(0), open.clone()]).is_err());
    assert!(reshape(vec![t()], vec![p, open]).is_err());
}

#[test]
fn slices_count_from_the_end_and_stay_inside() {
    let x = floats(&[5], &[0., 1., 2., 3., 4.]);
    let slice = |a: Attrs| run("slice", std::slice::from_ref(&x), a.with_int("axis", 0)).remove(0);
    assert_eq!(slice(attrs().with_int("start", -2)), floats(&[2], &[3., 4.]));
    assert_eq!(slice(attrs().with_int("end", -1).with_int("step", 3)), floats(&[2], &[0., 3.]));
    assert_eq!(slice(attrs().with_int("start", 5)), floats(&[0], &[]));
    let long = f32s(vec![t(), Dim::constant(2)]);
    let ty = infer("slice", std::slice::from_ref(&long), attrs().with_int("axis", 0).with_int("start", -3));
    assert_eq!(ty.unwrap()[0].dims()[0], Dim::constant(3));
    for bad in [
        attrs().with_int("axis", 1).with_int("end", 3),
        attrs().with_int("axis", 1).with_int("start", 2).with_int("end", 1),
        attrs().with_int("axis", 0).with_int("end", 65),
        attrs().with_int("axis", 0).with_int("step", 0),
        attrs().with_int("axis", 2),
    ] {
        assert!(infer("slice", std::slice::from_ref(&long), bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn joining_cutting_and_padding() {
    let (a, b) = (floats(&[2, 1], &[1., 2.]), floats(&[2, 2], &[3., 4., 5., 6.]));
    let joined = run("concat", &[a, b], attrs().with_int("axis", -1)).remove(0);
    assert_eq!(joined, floats(&[2, 3], &[1., 3., 4., 2., 5., 6.]));
    let sizes = |v: &[i64]| attrs().with_int("axis", 1).with_dims("sizes", dims(v));
    let parts = run("split", std::slice::from_ref(&joined), sizes(&[1, 0, 2]));
    assert_eq!(parts[2], floats(&[2, 2], &[3., 4., 5., 6.]));
    assert_eq!(parts[1].shape, [2, 0]);
    assert!(message("split", &[type_of(&joined)], sizes(&[1, 1])).contains("add up to 2"));
    let pad = attrs().with_int("axis", 0).with_int("before", 1).with_float("value", 9.0);
    let padded = run("pad", &[floats(&[1, 2], &[1., 2.])], pad);
    assert_eq!(padded[0], floats(&[2, 2], &[9., 9., 1., 2.]));
    assert_eq!(run("reverse", &[joined], attrs().with_int("axis", 0))[0].at(0), 2.0);
    let (p, x) = (f32s(vec![Dim::symbol("P")]), f32s(vec![t()]));
    let ty = infer("concat", &[p, x], attrs().with_int("axis", 0)).unwrap();
    assert_eq!(ty[0].to_string(), "f32[P+T]");
    let repeated = run("broadcast", &[floats(&[2, 1], &[1., 2.])], attrs().with_dims("shape", dims(&[1, 2, 2])));
    assert_eq!(repeated[0], floats(&[1, 2, 2], &[1., 1., 2., 2.]));
}

#[test]
fn heads_are_cut_before_tokens() {
    let x = floats(&[2, 4], &[0., 1., 2., 3., 4., 5., 6., 7.]);
    let heads = run("split_heads", std::slice::from_ref(&x), attrs().with_int("heads", 2)).remove(0);
    assert_eq!(heads, floats(&[2, 2, 2], &[0., 1., 4., 5., 2., 3., 6., 7.]));
    assert_eq!(run("merge_heads", &[heads], attrs())[0], x);
    assert!(message("split_heads", &[type_of(&x)], attrs().with_int("heads", 3)).contains("do not divide"));
}

#[test]
fn elementwise_calls_are_checked() {
    let (a, b) = (f32s(vec![t(), Dim::constant(3)]), f32s(dims(&[3])));
    assert_eq!(infer("add", &[a.clone(), b], attrs()).unwrap()[0], a);
    assert!(message("add", &[a.clone(), f32s(dims(&[2]))], attrs()).contains("does not broadcast"));
    let half = Type::tensor(DType::BF16, dims(&[3]));
    assert!(message("mul", &[a.clone(), half.clone()], attrs()).contains("differ"));
    assert_eq!(infer("lt", &[half.clone(), half.clone()], attrs()).unwrap()[0].dtype(), DType::Bool);
    let truth = Type::tensor(DType::Bool, dims(&[3]));
    assert!(message("add", &[truth.clone(), truth.clone()], attrs()).contains("takes numbers"));
    assert!(infer("exp", &[Type::tensor(DType::I64, dims(&[3]))], attrs()).is_err());
    assert!(infer("and", &[truth.clone(), half.clone()], attrs()).is_err());
    assert_eq!(infer("select", &[truth, half.clone(), half.clone()], attrs()).unwrap()[0], half);
    assert_eq!(infer("cast", &[half], attrs().with_name("to", "i32")).unwrap()[0].dtype(), DType::I32);
    assert_eq!(find("add").unwrap().attrs.len(), 0);
    let unknown = infer("gelu", &[a], attrs().with("tanhh", AttrValue::Bool(true))).unwrap_err();
    assert_eq!(unknown[0].help.as_deref(), Some("did you mean `tanh`?"));
}

#[test]
fn expansions_of_products_and_norms_mean_the_same() {
    let mut r = Random(7);
    for (n, d, o, rank) in [(5, 3, 7, 2), (1, 1, 1, 1), (0, 3, 2, 1), (4, 5, 3, 0)] {
        let inputs = [r.reals(&[2, n, d]), r.reals(&[o, d]), r.reals(&[rank, d]), r.reals(&[o, rank])];
        same("lora", &inputs, attrs().with_float("alpha", 16.0));
    }
    for axis in [-1, 0, 1] {
        same("l2_normalize", &[r.reals(&[3, 5, 1])], attrs().with_int("axis", axis).with_float("eps", 0.25));
        same("l2_normalize", &[r.reals(&[1, 0, 7])], attrs().with_int("axis", axis));
    }
}

#[test]
fn expansions_of_layout_mean_the_same() {
    let mut r = Random(8);
    let sizes = attrs().with_int("axis", 1).with_dims("sizes", dims(&[3, 0, 1, 7]));
    same("split", &[r.reals(&[3, 11, 2])], sizes);
    for (heads, features) in [(3, 12), (1, 5), (7, 7), (2, 0)] {
        for shape in [&[5][..], &[2, 1], &[2, 3, 0]] {
            let x = r.reals(&[shape, &[features]].concat());
            same("split_heads", std::slice::from_ref(&x), attrs().with_int("heads", heads));
            let cut = run("split_heads", std::slice::from_ref(&x), attrs().with_int("heads", heads));
            if shape.len() > 0 {
                same("merge_heads", &cut, attrs());
                assert_eq!(run("merge_heads", &cut, attrs())[0], x);
            }
        }
    }
}

#[test]
fn rows_and_elements_by_number() {
    let table = floats(&[3, 2], &[0., 1., 10., 11., 20., 21.]);
    let ids = Tensor::ints(&[1, 2], vec![2, 0]);
    assert_eq!(run("gather", &[table.clone(), ids.clone()], attrs())[0], floats(&[1, 2, 2], &[20., 21., 0., 1.]));
    let last = Tensor::ints(&[], vec![-1]);
    assert_eq!(run("take", &[table.clone(), last], attrs().with_int("axis", 0))[0], floats(&[2], &[20., 21.]));
    let swapped = run("take", &[table.clone(), Tensor::ints(&[2], vec![1, 0])], attrs().with_int("axis", 1));
    assert_eq!(swapped[0], floats(&[3, 2], &[1., 0., 11., 10., 21., 20.]));
    for (op, id) in [("gather", 3), ("gather", -1), ("take", 3), ("take", -4)] {
        let outside = results_of(&[Some(table.clone()), Some(Tensor::ints(&[1], vec![id]))], |b, params| {
            let attrs = if op == "take" { attrs().with_int("axis", 0) } else { attrs() };
            b.call(find(op).unwrap(), params, attrs, &[], &[]).unwrap()
        });
        assert!(outside.unwrap_err().contains("out of range"), "{op} {id}");
    }
}

#[test]
fn the_greatest_and_where_they_are() {
    let x = floats(&[1, 5], &[1.0, 3.0, f64::NAN, 3.0, f64::NEG_INFINITY]);
    let best = run("top_k_axis", std::slice::from_ref(&x), attrs().with_int("k", 4));
    assert_eq!(best[0], floats(&[1, 4], &[3.0, 3.0, 1.0, f64::NEG_INFINITY]));
    assert_eq!(best[1], Tensor::ints(&[1, 4], vec![1, 3, 0, 4]));
    assert_eq!(run("argmax", &[x], attrs().with_int("axis", 1))[0], Tensor::ints(&[1], vec![1]));
    assert!(message("top_k_axis", &[f32s(dims(&[3]))], attrs().with_int("k", 4)).contains("greater"));
    assert!(message("argmax", &[f32s(dims(&[3, 0]))], attrs().with_int("axis", 1)).contains("empty"));
    let written = [Some(Type::tensor(DType::I32, dims(&[2, 3])))];
    let counted = run_written("iota", &[], attrs().with_int("axis", 1), &written);
    assert_eq!(counted[0], Tensor::ints(&[2, 3], vec![0, 1, 2, 0, 1, 2]));
    assert!(infer("iota", &[], attrs()).is_err());
    assert!(infer_written("iota", &[], attrs(), &written).is_err());
}

#[test]
fn rotations_and_tables_of_angles() {
    let x = floats(&[2, 4], &[9., 9., 9., 9., 1., 2., 3., 4.]);
    let (s, c) = 1f64.sin_cos();
    let (s2, c2) = 0.01f64.sin_cos();
    let halves = [c - 3.0 * s, 2.0 * c2 - 4.0 * s2, 3.0 * c + s, 4.0 * c2 + 2.0 * s2];
    let turned = run("rope", std::slice::from_ref(&x), attrs());
    assert_eq!(turned[0], floats(&[2, 4], &[&[9.0; 4], &halves[..]].concat()));
    let pairs = [c - 2.0 * s, 2.0 * c + s, 3.0 * c2 - 4.0 * s2, 4.0 * c2 + 3.0 * s2];
    let turned = run("rope", std::slice::from_ref(&x), attrs().with_flag("interleaved", true));
    assert_eq!(turned[0], floats(&[2, 4], &[&[9.0; 4], &pairs[..]].concat()));
    let part = run("rope", &[x, Tensor::ints(&[2], vec![0, 1])], attrs().with_int("dims", 2));
    assert_eq!(part[0], floats(&[2, 4], &[9., 9., 9., 9., c - 2.0 * s, 2.0 * c + s, 3., 4.]));
    let table = run("sinusoid", &[], attrs().with_int("len", 2).with_int("dim", 4));
    assert_eq!(table[0], floats(&[2, 4], &[0., 1., 0., 1., s, c, s2, c2]));
    assert!(message("rope", &[f32s(dims(&[2, 3]))], attrs()).contains("even"));
    assert!(infer("sinusoid", &[], attrs().with_int("len", 2).with_int("dim", 1 << 40)).is_err());
}

#[test]
fn taps_along_tokens() {
    let x = floats(&[4, 1], &[1., 2., 3., 4.]);
    let shift = |by: i64| run("token_shift", std::slice::from_ref(&x), attrs().with_int("by", by)).remove(0);
    assert_eq!(shift(1), floats(&[4, 1], &[0., 1., 2., 3.]));
    assert_eq!(shift(-2), floats(&[4, 1], &[3., 4., 0., 0.]));
    assert_eq!(shift(9), floats(&[4, 1], &[0.; 4]));
    let w = floats(&[1, 3], &[100., 10., 1.]);
    let conv = |a: Attrs| run("short_conv", &[x.clone(), w.clone()], a).remove(0);
    assert_eq!(conv(attrs().with_flag("causal", true)), floats(&[4, 1], &[1., 12., 123., 234.]));
    assert_eq!(conv(attrs()), floats(&[4, 1], &[12., 123., 234., 340.]));
    let wide = attrs().with_flag("causal", true).with_int("dilation", 2);
    assert_eq!(conv(wide), floats(&[4, 1], &[1., 2., 13., 24.]));
    let (flags, before) = (attrs().with_flag("causal", true).with_flag("state", true), floats(&[2, 1], &[8., 9.]));
    let streamed = run_written("short_conv", &[Some(x.clone()), Some(w.clone()), None, Some(before)], flags, &[]);
    assert_eq!(streamed, [floats(&[4, 1], &[891., 912., 123., 234.]), floats(&[2, 1], &[3., 4.])]);
    assert!(message("short_conv", &[type_of(&x), type_of(&w)], attrs().with_flag("state", true)).contains("causal"));
}

#[test]
fn convolutions_of_channels() {
    let x = floats(&[3, 2], &[1., 10., 2., 20., 3., 30.]);
    let w = floats(&[1, 2, 2], &[1., 2., 3., 4.]);
    let y = run("conv1d", &[x.clone(), w], attrs().with_int("before", 1).with_int("stride", 2));
    assert_eq!(y[0], floats(&[2, 1], &[42., 188.0]));
    let w = floats(&[2, 1, 1], &[1., -1.]);
    let y = run("conv1d", &[x, w, floats(&[2], &[0.5, 0.0])], attrs().with_int("groups", 2));
    assert_eq!(y[0], floats(&[3, 2], &[1.5, -10., 2.5, -20., 3.5, -30.]));
    let (x, w) = (f32s(vec![t(), Dim::constant(2)]), f32s(dims(&[4, 2, 3])));
    let ty = infer("conv1d", &[x.clone(), w.clone()], attrs().with_int("stride", 2).with_int("before", 2));
    assert_eq!(ty.unwrap()[0].to_string(), "f32[ceil(T/2), 4]");
    assert!(infer("conv1d", &[x, w.clone()], attrs().with_int("groups", 2)).is_err());
    assert!(infer("conv1d", &[f32s(dims(&[1, 2])), w], attrs()).is_err());
}

#[test]
fn transforms_have_values_and_inverses() {
    let x = floats(&[4], &[1., 2., 3., 4.]);
    let y = run("fft", std::slice::from_ref(&x), attrs());
    assert!(difference(&y, &[floats(&[4], &[10., -2., -2., -2.]), floats(&[4], &[0., 2., 0., -2.])]) < 1e-12);
    let mut r = Random(3);
    for n in [1usize, 2, 5, 8, 9] {
        let x = r.reals(&[2, n]);
        let half = run("rfft", std::slice::from_ref(&x), attrs());
        assert_eq!(half[0].shape, [2, n / 2 + 1]);
        let back = run("irfft", &half, attrs().with_int("n", n as i64));
        assert!(difference(&back, std::slice::from_ref(&x)) < 1e-12, "{n}");
        let back = run("ifft", &run("fft", &[x.clone(), r.reals(&[2, n])], attrs()), attrs());
        assert!(difference(&back[..1], &[x]) < 1e-12, "{n}");
    }
    let ty = infer("rfft", &[f32s(vec![t()])], attrs()).unwrap();
    assert_eq!(ty[0].to_string(), "f32[ceil((T+1)/2)]");
    assert!(infer("irfft", &[f32s(dims(&[1])), f32s(dims(&[1]))], attrs()).is_err());
}

#[test]
fn expansions_of_numbers_and_angles_mean_the_same() {
    let mut r = Random(9);
    same("one_hot", &[r.ints(&[2, 3], 9)], attrs().with_int("depth", 7));
    for (shape, axis) in [(&[3, 5, 2][..], 1), (&[7], 0), (&[0, 3], -1)] {
        same("argmax", &[r.reals(shape)], attrs().with_int("axis", axis));
        same("argmax", &[r.ints(shape, 3)], attrs().with_int("axis", axis));
    }
    for (len, dim) in [(5, 6), (0, 2), (3, 0)] {
        let attrs = attrs().with_int("len", len).with_int("dim", dim);
        same_written("sinusoid", &[], attrs, &[Some(Type::tensor(DType::F64, dims(&[len, dim])))]);
    }
    for interleaved in [false, true] {
        for (shape, turning) in [(&[2, 3, 5, 6][..], 6), (&[4, 7], 4), (&[3, 0, 2], 2), (&[5, 3], 0)] {
            let attrs = attrs().with_int("dims", turning as i64).with_flag("interleaved", interleaved);
            let (x, tokens) = (r.reals(shape), shape[shape.len() - 2]);
            same("rope", std::slice::from_ref(&x), attrs.clone());
            let pos = r.ints(&[tokens], 100_000);
            same("rope", &[x.clone(), pos, r.reals(&[turning / 2])], attrs.clone());
            let inputs = [Some(x), None, Some(r.reals(&[turning / 2]))];
            same_written("rope", &inputs, attrs, &[]);
        }
        let attrs = attrs().with_int("dims", 2).with_flag("interleaved", interleaved);
        same("rope", &[r.reals(&[2, 3, 5, 3]), r.ints(&[2, 1, 5], 50)], attrs.clone());
        same("rope", &[r.reals(&[5, 3]), r.ints(&[2, 5], 50)], attrs);
    }
}

#[test]
fn expansions_of_short_mixing_mean_the_same() {
    let mut r = Random(10);
    for by in [1, 0, 3, 100, -1, -100] {
        same("token_shift", &[r.reals(&[2, 5, 3])], attrs().with_int("by", by));
        same("token_shift", &[r.reals(&[0, 3])], attrs().with_int("by", by));
    }
    for (lead, len, taps, dilation) in [(2, 7, 4, 1), (1, 1, 3, 2), (2, 5, 1, 3), (3, 2, 5, 2), (1, 0, 3, 1)] {
        for bias in [false, true] {
            let (x, w) = (r.reals(&[lead, len, 3]), r.reals(&[3, taps]));
            let b = bias.then(|| r.reals(&[3]));
            let at = attrs().with_int("dilation", dilation as i64);
            same_written("short_conv", &[Some(x.clone()), Some(w.clone()), b.clone()], at.clone(), &[]);
            let causal = at.with_flag("causal", true);
            same_written("short_conv", &[Some(x.clone()), Some(w.clone()), b.clone()], causal.clone(), &[]);
            let before = r.reals(&[(taps - 1) * dilation, 3]);
            let streamed = causal.with_flag("state", true);
            same_written("short_conv", &[Some(x), Some(w), b, Some(before)], streamed, &[]);
        }
    }
}

#[test]
fn expansions_of_transforms_mean_the_same() {
    let mut r = Random(11);
    // One table up to 64, a prime above, one and two stages.
    for n in [0usize, 1, 2, 7, 64, 67, 70, 130, 66 * 67] {
        let (x, y) = (r.reals(&[n]), r.reals(&[n]));
        for op in ["fft", "ifft"] {
            same(op, &[x.clone(), y.clone()], attrs());
            same(op, std::slice::from_ref(&x), attrs());
        }
        same("rfft", std::slice::from_ref(&x), attrs());
        let half = run("rfft", std::slice::from_ref(&x), attrs());
        if n > 0 {
            same("irfft", &half, attrs().with_int("n", n as i64));
        }
    }
    for axis in [0, 1, -1] {
        let (x, y) = (r.reals(&[3, 2, 5]), r.reals(&[3, 2, 5]));
        for n in [1, 3, 4, 7] {
            let attrs = attrs().with_int("axis", axis).with_int("n", n);
            for op in ["fft", "ifft", "irfft"] {
                same(op, &[x.clone(), y.clone()], attrs.clone());
            }
            same("rfft", std::slice::from_ref(&x), attrs);
        }
    }
}

#[test]
fn what_only_a_call_can_tell_is_required() {
    let x = f32s(vec![t(), Dim::constant(4)]);
    let of = |name: &str, a: Attrs| {
        let wanted = super::requirements(find(name).unwrap(), &[Some(&x)], &a).unwrap();
        wanted.iter().map(|d| d.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        of("slice", attrs().with_int("axis", 0).with_int("start", -3).with_int("end", 9)),
        ["T-3", "T-9", "-T+12"]
    );
    assert_eq!(of("top_k_axis", attrs().with_int("axis", 0).with_int("k", 3)), ["T-3"]);
    assert_eq!(of("argmax", attrs().with_int("axis", 0)), ["T-1"]);
    assert_eq!(of("token_shift", attrs().with_dim("by", t())), ["T"]);
    assert_eq!(of("irfft", attrs().with_int("axis", 0)), ["2*T-3"]);
    assert!(of("add", attrs()).is_empty());
}
