//! Proposals of tensor operations.

use crate::generate::{Maker, Proposal, one, several};
use crate::source::{Role, dims_text};
use mixc::ir::dim::Dim;
use mixc::ir::dtype::DType;

/// A call of the tensor operation `name`; nothing when it is no tensor operation or no operand fits.
pub fn propose(m: &mut Maker, name: &str) -> Option<Proposal> {
    let constant = Dim::constant;
    match name {
        "add" | "sub" | "mul" | "div" | "max" | "min" | "pow" | "mod" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" => {
            let (a, t) = if m.chance(85) { m.some_data(0) } else { m.any(|t| t.dtype == DType::I64)? };
            // The other operand whole, or broadcast along some axes.
            let mut shape = t.shape.clone();
            if m.chance(40) {
                let cut = m.below(shape.len() + 1);
                shape.drain(..cut);
            }
            if m.chance(25) && !shape.is_empty() {
                let k = m.below(shape.len());
                shape[k] = constant(1);
            }
            let b = match name {
                "div" | "pow" | "mod" if t.dtype.is_float() => m.param(t.dtype, &shape, Role::Positive),
                "div" | "pow" | "mod" => return None,
                _ => m.value(t.dtype, &shape),
            };
            let a = if name == "pow" { m.param(t.dtype, &t.shape, Role::Positive) } else { a };
            one(if m.chance(70) { format!("{name} {a}, {b}") } else { format!("{name} {b}, {a}") })
        }
        "and" | "or" => {
            let (a, t) = m.any(|t| t.dtype == DType::Bool)?;
            let b = m.value(DType::Bool, &t.shape);
            one(format!("{name} {a}, {b}"))
        }
        "not" => {
            let (a, _) = m.any(|t| t.dtype == DType::Bool)?;
            one(format!("not {a}"))
        }
        "select" => {
            let (a, t) = m.some_data(0);
            let mut shape = t.shape.clone();
            if m.chance(30) && !shape.is_empty() {
                shape.remove(0);
            }
            let (c, b) = (m.value(DType::Bool, &shape), m.value(t.dtype, &t.shape));
            one(format!("select {c}, {a}, {b}"))
        }
        "log" | "sqrt" | "rsqrt" | "recip" => {
            let (_, t) = m.some_data(0);
            let a = m.param(t.dtype, &t.shape, Role::Positive);
            one(format!("{name} {a}"))
        }
        "gelu" => {
            let (a, _) = m.some_data(0);
            let flag = m.pick(&["", " {tanh}"]);
            one(format!("gelu {a}{flag}"))
        }
        "neg" | "abs" | "exp" | "tanh" | "sigmoid" | "silu" | "relu" | "softplus" | "elu" | "erf" | "sin" | "cos"
        | "sign" | "floor" | "round" | "is_nan" => {
            let (a, _) = m.some_data(0);
            one(format!("{name} {a}"))
        }
        "cast" => {
            let (a, _) = m.any(|_| true)?;
            let to = m.pick(&["f32", "f64", "bf16", "f16", "i64", "i32", "bool"]);
            one(format!("cast {a} {{to = {to}}}"))
        }
        "matmul" => {
            let (a, t) = m.some_data(2);
            let r = t.shape.len();
            let (batch, k, n) = (t.shape[..r - 2].to_vec(), t.shape[r - 1].clone(), m.feature());
            let n = if m.chance(30) { m.tokens() } else { n };
            let own = if m.chance(50) { batch.clone() } else { vec![] };
            let turned = m.chance(40);
            let shape = if turned { m.with(&own, &[&n, &k]) } else { m.with(&own, &[&k, &n]) };
            let b = m.data(&shape);
            if m.chance(20) {
                // a given as [.., k, m].
                let shape = m.with(&own, &[&t.shape[r - 2], &n]);
                let b = m.data(&shape);
                return one(format!("matmul {a}, {b} {{transpose_a}}"));
            }
            one(format!("matmul {a}, {b}{}", if turned { " {transpose_b}" } else { "" }))
        }
        "linear" | "lora" => {
            let (x, t) = m.some_data(1);
            let d = t.shape.last()?.clone();
            let o = m.feature();
            let w = m.data(&[o.clone(), d.clone()]);
            if name == "lora" {
                let r = constant(2);
                let (a, b) = (m.data(&[r.clone(), d]), m.data(&[o, r]));
                return one(format!("lora {x}, {w}, {a}, {b} {{alpha = 3.0}}"));
            }
            let bias = if m.chance(50) { format!(", {}", m.beside(&[o], Role::Data)) } else { String::new() };
            one(format!("linear {x}, {w}{bias}"))
        }
        "reduce" => {
            let (x, t) =
                if m.chance(85) { m.some_data(1) } else { m.any(|t| t.dtype == DType::I64 && !t.shape.is_empty())? };
            let op = m.pick(&["sum", "max", "min", "mean", "prod"]);
            let axis = m.below(t.shape.len());
            let keep = m.pick(&["", ", keep"]);
            one(format!("reduce {x} {{op = {op}, axis = {axis}{keep}}}"))
        }
        "cumsum" | "cumlogsumexp" | "softmax_axis" | "reverse" | "argmax" => {
            let (x, t) = m.some_data(1);
            let axis = m.below(t.shape.len());
            let axis = if m.chance(30) { axis as i64 - t.shape.len() as i64 } else { axis as i64 };
            let flag = if name == "cumsum" && m.chance(40) { ", reverse" } else { "" };
            one(format!("{name} {x} {{axis = {axis}{flag}}}"))
        }
        "layer_norm" | "rms_norm" => {
            let (x, t) = m.some_data(1);
            let d = t.shape.last()?.clone();
            let g = if m.chance(60) {
                format!(", {}", m.beside(std::slice::from_ref(&d), Role::Data))
            } else {
                String::new()
            };
            let b = if name == "layer_norm" && !g.is_empty() && m.chance(60) {
                format!(", {}", m.beside(&[d], Role::Data))
            } else {
                String::new()
            };
            one(format!("{name} {x}{g}{b}"))
        }
        "l2_normalize" => {
            let (x, t) = m.some_data(1);
            let axis = m.below(t.shape.len());
            one(format!("l2_normalize {x} {{axis = {axis}, eps = 1e-3}}"))
        }
        "reshape" => {
            let (x, t) = m.any(|t| !t.shape.is_empty())?;
            let mut shape = t.shape.clone();
            let k = m.below(shape.len());
            if m.chance(50) && shape.len() > 1 {
                let k = k.min(shape.len() - 2);
                let merged = shape[k].mul(&shape[k + 1]).ok()?;
                shape.splice(k..k + 2, [merged]);
            } else {
                let n = shape[k].as_constant().filter(|n| *n > 1)?;
                let q = (2..=n).find(|q| n % q == 0)?;
                let parts = if m.chance(50) { [q, n / q] } else { [n / q, q] };
                shape.splice(k..k + 1, parts.map(constant));
            }
            one(format!("reshape {x} {{shape = [{}]}}", dims_text(&shape)))
        }
        "transpose" => {
            let (x, t) = m.any(|t| t.shape.len() > 1)?;
            let mut perm: Vec<usize> = (0..t.shape.len()).collect();
            for k in (1..perm.len()).rev() {
                let other = m.below(k + 1);
                perm.swap(k, other);
            }
            let perm: Vec<String> = perm.iter().map(ToString::to_string).collect();
            one(format!("transpose {x} {{perm = [{}]}}", perm.join(", ")))
        }
        "slice" => {
            let (x, t) = m.any(|t| !t.shape.is_empty())?;
            let axis = m.below(t.shape.len());
            let start = m.below(3);
            let length = t.shape[axis].eval(&m.source.lengths).ok()?;
            if length < 2 {
                return None;
            }
            let end = match m.below(4) {
                0 => format!(", end = {}", (start + 1).min(length as usize)),
                1 => ", end = -1".to_string(),
                _ => String::new(),
            };
            let step = if m.chance(25) { ", step = 2" } else { "" };
            let start = if m.chance(20) { -1 } else { start as i64 };
            one(format!("slice {x} {{axis = {axis}, start = {start}{end}{step}}}"))
        }
        "concat" => {
            let (x, t) = m.any(|t| !t.shape.is_empty())?;
            let axis = m.below(t.shape.len());
            let mut shape = t.shape.clone();
            shape[axis] = match m.below(3) {
                0 => m.tokens(),
                1 => m.feature(),
                _ => shape[axis].clone(),
            };
            let y = m.value(t.dtype, &shape);
            let third = if m.chance(25) { format!(", {x}") } else { String::new() };
            one(format!("concat {x}, {y}{third} {{axis = {axis}}}"))
        }
        "split" => {
            let (x, t) = m.any(|t| !t.shape.is_empty())?;
            let axis = m.below(t.shape.len());
            let n = t.shape[axis].as_constant().filter(|n| *n > 1)?;
            let first = 1 + m.below(n as usize - 1) as i64;
            several(2, format!("split {x} {{axis = {axis}, sizes = [{first}, {}]}}", n - first))
        }
        "pad" => {
            let (x, t) = m.any(|t| !t.shape.is_empty() && t.dtype != DType::Bool)?;
            let (axis, before) = (m.below(t.shape.len()), m.below(4));
            let after = m.pick(&["0", "3", "T", "S+1"]);
            let value = if t.dtype.is_float() { m.pick(&["", ", value = 1.5"]) } else { "" };
            one(format!("pad {x} {{axis = {axis}, before = {before}, after = {after}{value}}}"))
        }
        "broadcast" => {
            let (x, t) = m.any(|_| true)?;
            let mut shape = t.shape.clone();
            for d in shape.iter_mut().filter(|d| d.is(1)) {
                *d = m.tokens();
            }
            if m.chance(60) {
                shape.insert(0, constant(3));
            }
            one(format!("broadcast {x} {{shape = [{}]}}", dims_text(&shape)))
        }
        "gather" | "one_hot" | "take" => {
            let batch = m.batch();
            let t = m.tokens();
            let shape = m.with(&batch, &[&t]);
            let kind = if m.chance(80) { DType::I64 } else { DType::I32 };
            if name == "one_hot" {
                let ids = m.param(kind, &shape, Role::Ids(constant(5)));
                return one(format!("one_hot {ids} {{depth = 5}}"));
            }
            if name == "gather" {
                let (v, d) = (m.pick(&[&constant(7), &constant(11)]).clone(), m.feature());
                let table = m.data(&[v.clone(), d]);
                let ids = m.param(kind, &shape, Role::Ids(v));
                return one(format!("gather {table}, {ids}"));
            }
            let (x, ty) = m.any(|t| !t.shape.is_empty())?;
            let axis = m.below(ty.shape.len());
            let n = ty.shape[axis].as_constant()?;
            let ids = m.param(kind, &[constant(4)], Role::Ids(constant(n)));
            one(format!("take {x}, {ids} {{axis = {axis}}}"))
        }
        "iota" => {
            let (t, d) = (m.tokens(), m.feature());
            let kind = m.pick(&["i64", "f32", "i32"]);
            let axis = m.below(2);
            one(format!("iota {{axis = {axis}}} : {kind}[{t}, {d}]"))
        }
        "top_k_axis" => {
            let (x, t) = m.some_data(1);
            let axis = m.below(t.shape.len());
            let k = 1 + m.below(3);
            several(2, format!("top_k_axis {x} {{axis = {axis}, k = {k}}}"))
        }
        "rope" => {
            let (batch, t, d) = (m.batch(), m.tokens(), constant(8));
            let shape = m.with(&batch, &[&t, &d]);
            let x = m.data(&shape);
            let pos = match m.below(3) {
                0 => format!(", {}", m.param(DType::I64, &[t], Role::Ids(constant(1000)))),
                _ => String::new(),
            };
            let attrs = m.pick(&["", " {interleaved}", " {dims = 4}", " {base = 500.0, dims = 6, interleaved}"]);
            one(format!("rope {x}{pos}{attrs}"))
        }
        "sinusoid" => {
            let t = m.tokens();
            one(format!("sinusoid {{len = {t}, dim = 6}}"))
        }
        "token_shift" => {
            let (x, _) = m.some_data(2);
            let by = m.below(4);
            one(format!("token_shift {x} {{by = {by}}}"))
        }
        "short_conv" => {
            let (x, t) = m.some_data(2);
            let d = t.shape.last()?.clone();
            let k = m.pick(&[&1, &3, &4]);
            let w = m.data(&[d.clone(), constant(*k)]);
            let b = if m.chance(40) { format!(", {}", m.beside(&[d], Role::Data)) } else { String::new() };
            let causal = m.chance(60);
            let state = causal && m.chance(30);
            let dilation = 1 + m.below(3);
            let attrs = format!(
                "{{dilation = {dilation}{}{}}}",
                if causal { ", causal" } else { "" },
                if state { ", state" } else { "" }
            );
            several(1 + usize::from(state), format!("short_conv {x}, {w}{b} {attrs}"))
        }
        "conv1d" => {
            let groups = 1 + m.below(2) as i64;
            let (batch, t) = (m.batch(), m.tokens());
            let c = constant(4);
            let shape = m.with(&batch, &[&t, &c]);
            let x = m.data(&shape);
            let k = 1 + m.below(4) as i64;
            let w = m.data(&[constant(6), constant(4 / groups), constant(k)]);
            let b = if m.chance(40) { format!(", {}", m.beside(&[constant(6)], Role::Data)) } else { String::new() };
            let (stride, dilation) = (1 + m.below(3), 1 + m.below(2));
            one(format!(
                "conv1d {x}, {w}{b} {{groups = {groups}, stride = {stride}, dilation = {dilation}, before = {}, after = {}}}",
                m.below(4) + 3,
                m.below(4) + 3
            ))
        }
        "fft" | "ifft" | "rfft" | "irfft" => {
            let (x, t) = m.some_data(1);
            let axis = m.below(t.shape.len());
            let n = if m.chance(40) { format!(", n = {}", 1 + m.below(9)) } else { String::new() };
            if name == "rfft" {
                return several(2, format!("rfft {x} {{axis = {axis}{n}}}"));
            }
            let im = m.data(&t.shape);
            if name == "irfft" {
                return one(format!("irfft {x}, {im} {{axis = {axis}{n}}}"));
            }
            let im = if m.chance(60) { format!(", {im}") } else { String::new() };
            several(2, format!("{name} {x}{im} {{axis = {axis}{n}}}"))
        }
        "split_heads" => {
            let (x, t) = m.some_data(2);
            let n = t.shape.last()?.as_constant()?;
            let heads = [2, 4, 1, 5].into_iter().find(|h| n % h == 0)?;
            one(format!("split_heads {x} {{heads = {heads}}}"))
        }
        "merge_heads" => {
            let (x, _) = m.any(|t| t.shape.len() > 2)?;
            one(format!("merge_heads {x}"))
        }
        _ => None,
    }
}
