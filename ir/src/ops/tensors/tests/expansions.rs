//! Expansions against meanings, and every example run and held to its operation's promises.

use super::*;

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
            same("merge_heads", &cut, attrs());
            assert_eq!(run("merge_heads", &cut, attrs())[0], x);
        }
    }
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

/// Checks that a call's expansion has the call's types.
fn same_types(op: &'static Op, types: &[Option<Type>], attrs: &Attrs, dims: Vec<DimItem>, results: &[Type]) {
    let mut b = Builder::new("test", dims);
    let params: Vec<Option<ValueId>> = types.iter().map(|ty| ty.clone().map(|ty| b.param("p", ty))).collect();
    let written: Vec<Option<Type>> = results.iter().cloned().map(Some).collect();
    let bounds = b.bounds().clone();
    let call = Call {
        op,
        types: types.iter().map(Option::as_ref).collect(),
        structures: vec![None; types.len()],
        values: params,
        attrs,
        written: &written,
        bounds: &bounds,
    };
    let expanded = op.expand.expect("it has an expansion")(&mut b, &call).expect("the expansion is well typed");
    let expanded: Vec<Type> = expanded.into_iter().map(|v| b.ty(v).clone()).collect();
    assert_eq!(expanded, results, "{op:?}{attrs}");
}

#[test]
fn examples_run_and_keep_their_promises() {
    let mut r = Random(12);
    for op in crate::ops::tensors::ALL {
        let program = check(op.example).unwrap_or_else(|e| panic!("{op:?}: {e:?}"));
        assert!(program.nodes.iter().any(|n| n.op_name() == Some(op.name)), "{op:?}");
        let dims: DimValues = program.dims.iter().map(|d| (d.name.clone(), 5.clamp(d.low, d.high))).collect();
        let mut input = |v: &ValueId| {
            let ty = program.ty(*v);
            let shape: Vec<usize> = ty.dims().iter().map(|d| d.eval(&dims).unwrap() as usize).collect();
            if ty.dtype().is_float() { r.reals(&shape) } else { r.ints(&shape, 2) }
        };
        let given: Vec<Tensor> = program.params.iter().map(&mut input).collect();
        let value = |inputs: &[Tensor]| interpret(&program, &dims, inputs, &Weights::new()).expect("it has a value");
        let results = value(&given);
        for (v, t) in program.results.iter().zip(&results) {
            let shape: Vec<Dim> = program.ty(*v).dims().iter().map(|d| Dim::constant(d.eval(&dims).unwrap())).collect();
            assert_eq!(shape, shape_of(t), "{op:?}");
        }
        for law in op.laws {
            let Law::LinearIn(k) = *law else { continue };
            let other = input(&program.params[k]);
            let with = |t: Tensor| {
                let mut inputs = given.clone();
                inputs[k] = t;
                value(&inputs)
            };
            let mixed = |a: &Tensor, b: &Tensor| {
                Tensor::from_fn(Kind::Float, &a.shape, |n| Scalar::Float(3.0 * a.at(n) - 0.5 * b.at(n)))
            };
            let expected: Vec<Tensor> = results.iter().zip(&with(other.clone())).map(|(a, b)| mixed(a, b)).collect();
            assert!(difference(&with(mixed(&given[k], &other)), &expected) < 1e-9, "{op:?} is not linear in {k}");
        }
    }
}

#[test]
fn expansions_have_the_types_of_their_calls() {
    for op in crate::ops::tensors::ALL.iter().filter(|op| op.expand.is_some()) {
        let has_data = op.operands.iter().any(|o| o.kind == OperandKind::Data);
        for data in ["f32", "bf16", "f64"].into_iter().filter(|&d| d == "f32" || has_data) {
            let program = check(&op.example.replace("f32", data)).unwrap_or_else(|e| panic!("{op:?}: {e:?}"));
            for node in program.nodes.iter().filter(|n| n.op_name() == Some(op.name)) {
                let types: Vec<Option<Type>> = node.operands.iter().map(|v| v.map(|v| program.ty(v).clone())).collect();
                let results: Vec<Type> = node.results.iter().map(|v| program.ty(*v).clone()).collect();
                same_types(op, &types, &node.attrs, program.dims.clone(), &results);
            }
        }
    }
    let half = Type::tensor(DType::F16, vec![Dim::constant(3), t(), Dim::constant(4)]);
    for (name, operands) in [("fft", 2), ("ifft", 1), ("rfft", 1), ("irfft", 2)] {
        let one = attrs().with_int("axis", 1).with_dim("n", t().add(&Dim::constant(1)).unwrap());
        for a in [one, attrs().with_int("axis", 1).with_dim("n", t()), attrs().with_int("n", 130)] {
            let types = vec![half.clone(); operands];
            let results = infer(name, &types, a.clone()).expect("it is well typed");
            let types: Vec<Option<Type>> = types.into_iter().map(Some).collect();
            same_types(find(name).unwrap(), &types, &a, symbols(), &results);
        }
    }
}

#[test]
fn a_wrong_expansion_is_caught() {
    let x = Random(13).reals(&[3, 4]);
    let meaning = run("rope", std::slice::from_ref(&x), attrs());
    let other = attrs().with_flag("interleaved", true);
    let expansion = expand(find("rope").expect("it exists"), &[Some(x)], &other, &[]);
    assert!(difference(&meaning, &expansion) > 1e-3);
}
