//! Streaming, causality and linearity.

use super::{Case, cases, distance, with_law};
use crate::dim::Dim;
use crate::op::Law;
use crate::tensor::Tensor;

/// Rows `from..to` of the axis `axis` from the end.
fn rows(t: &Tensor, axis: usize, from: usize, to: usize) -> Tensor {
    let k = t.shape.len() - axis;
    let inner: usize = t.shape[k + 1..].iter().product();
    let mut shape = t.shape.clone();
    shape[k] = to - from;
    let len = t.shape[k];
    let keep = |n: &usize| (from..to).contains(&(n / inner.max(1) % len.max(1)));
    Tensor::floats(&shape, (0..t.len()).filter(keep).map(|n| t.at(n)).collect())
}

fn part(case: &Case, inputs: &[Tensor], from: usize, to: usize) -> Vec<Tensor> {
    let present = case.operands.iter().flatten();
    present.zip(inputs).map(|(i, t)| if i.tokens > 0 { rows(t, i.tokens, from, to) } else { t.clone() }).collect()
}

#[test]
fn a_prefix_then_the_rest_from_its_state_is_the_whole() {
    let t = Dim::symbol("T");
    let streams = with_law(Law::Streams);
    let mut count = 0;
    for (n, case) in cases(&t).into_iter().enumerate().filter(|(_, c)| streams(c) && c.attrs.flag("state")) {
        count += 1;
        let tokens = 7;
        let inputs = case.inputs(tokens, 77 + n as u64);
        let whole = case.run(false, tokens, &inputs);
        for cut in [0, 3, tokens] {
            let first = case.run(false, cut, &part(&case, &inputs, 0, cut));
            // The rest is the same call with the carried state as its last operand.
            let mut rest = case.clone();
            let mut rest_inputs = part(&case, &inputs, cut, tokens);
            let last = case.op.operands.len();
            if rest.operands.len() == last {
                rest_inputs.pop();
            }
            rest.operands.resize(last, None);
            let shape = first[1].shape.iter().map(|n| Dim::from(*n)).collect();
            rest.operands[last - 1] = Some(super::Input { shape, range: (0.0, 0.0), tokens: 0 });
            rest_inputs.push(first[1].clone());
            for expanded in [false, true] {
                let second = rest.run(expanded, tokens - cut, &rest_inputs);
                let far = distance(&second[1], &whole[1]);
                assert!(far <= 1e-12, "{}, cut at {cut}: the state is off by {far:e}", case.describe());
                for (y, from, to) in [(&first[0], 0, cut), (&second[0], cut, tokens)] {
                    let far = distance(y, &rows(&whole[0], 2, from, to));
                    assert!(far <= 1e-12, "{}, cut at {cut}: rows {from}..{to} off by {far:e}", case.describe());
                }
            }
        }
    }
    assert!(count > 20, "only {count} cases");
}

#[test]
fn causal_layers_do_not_look_ahead() {
    let t = Dim::symbol("T");
    let causal = with_law(Law::Causal);
    for (n, case) in cases(&t).into_iter().enumerate().filter(|(_, c)| causal(c)) {
        let tokens = 6;
        let inputs = case.inputs(tokens, 5 + n as u64);
        let other = case.inputs(tokens, 6 + n as u64);
        // The layers over as many queries as keys: rows are aligned to the end.
        if case.operands[0].as_ref().map(|i| i.shape[i.shape.len() - 2].clone()) != Some(t.clone())
            || case.operands.iter().flatten().any(|i| i.tokens > 0 && i.shape[i.shape.len() - i.tokens] != t)
        {
            continue;
        }
        let split = 3;
        let mixed: Vec<Tensor> = case
            .operands
            .iter()
            .flatten()
            .zip(inputs.iter().zip(&other))
            .map(|(i, (a, b))| {
                if i.tokens == 0 {
                    return a.clone();
                }
                let k = a.shape.len() - i.tokens;
                let inner: usize = a.shape[k + 1..].iter().product();
                let from = |n: usize| if n / inner % tokens < split { a.at(n) } else { b.at(n) };
                Tensor::floats(&a.shape, (0..a.len()).map(from).collect())
            })
            .collect();
        let (y, z) = (case.run(false, tokens, &inputs), case.run(false, tokens, &mixed));
        assert_eq!(rows(&y[0], 2, 0, split), rows(&z[0], 2, 0, split), "{}", case.describe());
        assert_ne!(y[0], z[0], "{}: the inputs did not matter", case.describe());
    }
}

#[test]
fn linear_layers_are_linear() {
    let t = Dim::symbol("T");
    for (n, case) in cases(&t).into_iter().enumerate() {
        for law in case.op.laws {
            let Law::LinearIn(k) = *law else { continue };
            let inputs = case.inputs(5, 40 + n as u64);
            let other = case.inputs(5, 41 + n as u64);
            let place = case.operands[..k].iter().flatten().count();
            let with = |x: Tensor| {
                let mut inputs = inputs.clone();
                inputs[place] = x;
                case.run(false, 5, &inputs)
            };
            let blend = |a: &Tensor, b: &Tensor| {
                Tensor::floats(&a.shape, (0..a.len()).map(|n| 2.0 * a.at(n) - 0.5 * b.at(n)).collect())
            };
            let (x, y) = (&inputs[place], &other[place]);
            let (fx, fy, both) = (with(x.clone()), with(y.clone()), with(blend(x, y)));
            for r in 0..fx.len() {
                let far = distance(&both[r], &blend(&fx[r], &fy[r]));
                assert!(far <= 1e-12, "{} in operand {k}: {far:e}", case.describe());
            }
        }
    }
}
