//! Where elements go, and calls that are refused.

use super::*;

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
    assert_eq!(slice(attrs().with_int("start", 3).with_int("step", i64::MAX)), floats(&[1], &[3.]));
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
fn what_only_a_call_can_tell_is_required() {
    let x = f32s(vec![t(), Dim::constant(4)]);
    let of = |name: &str, a: Attrs| {
        let wanted = crate::ops::tensors::requirements(find(name).unwrap(), &[Some(&x)], &a).unwrap();
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
