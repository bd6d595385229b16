//! Proposals of named layers.

use crate::generate::{Maker, Proposal, one, several};
use crate::source::Role;
use mixc::ir::dim::Dim;
use mixc::ir::dtype::DType;

/// A call of the layer `name`; nothing when it is none.
pub fn propose(m: &mut Maker, name: &str) -> Option<Proposal> {
    let constant = Dim::constant;
    let (batch, t, r, p) = (m.batch(), m.tokens(), m.feature(), m.feature());
    let group = if m.chance(60) { batch.clone() } else { m.narrowed(&batch) };
    let state = m.chance(30);
    let feature = m.pick(&["elu1", "exp", "relu", "identity", "square", "sigmoid"]);
    let flag = |on: bool, text: &str| if on { format!("{text}, ") } else { String::new() };
    let braces = |inside: String| {
        let inside = inside.trim_end_matches(", ");
        if inside.is_empty() { String::new() } else { format!(" {{{inside}}}") }
    };
    match name {
        "attention" => {
            let s = if m.chance(60) { t.clone() } else { m.tokens() };
            let (qs, ks, vs) = (m.with(&batch, &[&t, &r]), m.with(&group, &[&s, &r]), m.with(&group, &[&s, &p]));
            let (q, k, v) = (m.data(&qs), m.data(&ks), m.data(&vs));
            let mask = match m.below(5) {
                0 => {
                    let own = m.narrowed(&batch);
                    let shape = m.with(&own, &[&t, &s]);
                    format!(", {}", m.value(DType::Bool, &shape))
                }
                1 => format!(", {}", m.data(&[t.clone(), s.clone()])),
                _ => String::new(),
            };
            let attrs = m.pick(&[
                "",
                " {causal}",
                " {causal, window = 3}",
                " {window = 2}",
                " {left = 4}",
                " {right = 2}",
                " {sink = 2, window = 3, causal}",
                " {block = 4}",
                " {scale = 1.0}",
                " {causal, align = start}",
            ]);
            one(format!("attention {q}, {k}, {v}{mask}{attrs}"))
        }
        "linear_attention" | "norm_attention" | "diag_attention" => {
            let (qs, ks, vs) = (m.with(&batch, &[&t, &r]), m.with(&group, &[&t, &r]), m.with(&group, &[&t, &p]));
            let (q, k, v) = (m.data(&qs), m.data(&ks), m.data(&vs));
            let causal = m.chance(60);
            if name == "diag_attention" {
                let kernel = m.pick(&["softmax", "relu"]);
                let block = 1 + m.below(6);
                let attrs = braces(format!("block = {block}, kernel = {kernel}, {}", flag(causal, "causal")));
                return one(format!("diag_attention {q}, {k}, {v}{attrs}"));
            }
            if name == "norm_attention" {
                let attrs = braces(format!("feature = {feature}, {}", flag(causal, "causal")));
                return one(format!("norm_attention {q}, {k}, {v}{attrs}"));
            }
            let normalize = m.chance(30);
            let state = state && causal && !normalize;
            let feature = if normalize { "elu1" } else { feature };
            let s0 = if state && m.chance(50) {
                let shape = m.with(&batch, &[&r, &p]);
                format!(", {}", m.beside(&shape, Role::Data))
            } else {
                String::new()
            };
            let attrs = braces(format!(
                "feature = {feature}, {}{}{}",
                flag(causal, "causal"),
                flag(normalize, "normalize"),
                flag(state, "state")
            ));
            several(1 + usize::from(state), format!("linear_attention {q}, {k}, {v}{s0}{attrs}"))
        }
        "retention" | "gated_linear_attention" => {
            let (qs, ks, vs) = (m.with(&batch, &[&t, &r]), m.with(&group, &[&t, &r]), m.with(&group, &[&t, &p]));
            let (q, k, v) = (m.data(&qs), m.data(&ks), m.data(&vs));
            let a = if name == "retention" {
                m.beside(&batch, Role::Decay)
            } else {
                let shape = if m.chance(50) { m.with(&batch, &[&t]) } else { m.with(&batch, &[&t, &r]) };
                m.beside(&shape, Role::LogDecay)
            };
            let s0 = if m.chance(30) {
                let shape = m.with(&batch, &[&r, &p]);
                format!(", {}", m.beside(&shape, Role::Data))
            } else {
                String::new()
            };
            several(1 + usize::from(state), format!("{name} {q}, {k}, {v}, {a}{s0}{}", braces(flag(state, "state"))))
        }
        "delta_rule" => {
            let (qs, vs, bs) = (m.with(&batch, &[&t, &r]), m.with(&batch, &[&t, &p]), m.with(&batch, &[&t]));
            let q = m.data(&qs);
            // Keys of unit length, as the layer's users have them: anything else explodes.
            let k = m.data(&qs);
            let k = m.statement(format!("l2_normalize {k} {{axis = -1, eps = 1e-6}}"))?;
            let v = m.data(&vs);
            let beta = m.beside(&bs, Role::Decay);
            let a = if m.chance(50) { format!(", {}", m.beside(&bs, Role::LogDecay)) } else { String::new() };
            let s0 = if !a.is_empty() && m.chance(30) {
                let shape = m.with(&batch, &[&r, &p]);
                format!(", {}", m.beside(&shape, Role::Data))
            } else {
                String::new()
            };
            let attrs = braces(format!("{}{}", flag(m.chance(40), "scale = 0.5"), flag(state, "state")));
            several(1 + usize::from(state), format!("delta_rule {q}, {k}, {v}, {beta}{a}{s0}{attrs}"))
        }
        "ssd" => {
            let (xs, a, bs) = (m.with(&batch, &[&t, &p]), m.with(&batch, &[&t]), m.with(&group, &[&t, &r]));
            let (x, b, c) = (m.data(&xs), m.data(&bs), m.data(&bs));
            let a = m.beside(&a, Role::LogDecay);
            let s0 = if m.chance(30) {
                let shape = m.with(&batch, &[&r, &p]);
                format!(", {}", m.beside(&shape, Role::Data))
            } else {
                String::new()
            };
            several(1 + usize::from(state), format!("ssd {x}, {a}, {b}, {c}{s0}{}", braces(flag(state, "state"))))
        }
        "selective_scan" => {
            let n = constant(4);
            let (us, bs) = (m.with(&batch, &[&t, &p]), m.with(&batch, &[&t, &n]));
            let fixed = [p.clone(), n.clone()];
            let (kb, kc) = (m.chance(30), m.chance(30));
            let u = m.data(&us);
            let dt = m.beside(&us, Role::Decay);
            let a = m.beside(&fixed, Role::LogDecay);
            let b = if kb { m.beside(&fixed, Role::Data) } else { m.beside(&bs, Role::Data) };
            let c = if kc { m.beside(&fixed, Role::Data) } else { m.beside(&bs, Role::Data) };
            let d = if m.chance(50) {
                format!(", {}", m.beside(std::slice::from_ref(&p), Role::Data))
            } else {
                String::new()
            };
            let attrs = braces(format!(
                "{}{}{}{}",
                flag(m.chance(50), "softplus"),
                flag(kb, "constant_b"),
                flag(kc, "constant_c"),
                flag(state, "state")
            ));
            several(1 + usize::from(state), format!("selective_scan {u}, {dt}, {a}, {b}, {c}{d}{attrs}"))
        }
        "s4d_kernel" => {
            let n = [p.clone(), constant(3)];
            let dt = m.param(m.float, std::slice::from_ref(&p), Role::LogDecay);
            let re = m.param(m.float, &n, Role::LogDecay);
            let (im, cr, ci) = (m.data(&n), m.data(&n), m.data(&n));
            one(format!("s4d_kernel {dt}, {re}, {im}, {cr}, {ci} {{len = 9}}"))
        }
        "companion_kernel" | "krylov" => {
            let d = constant(4);
            let a = if name == "krylov" { vec![d.clone(), d.clone()] } else { vec![p.clone(), d.clone()] };
            let v = if name == "krylov" { vec![d] } else { vec![p.clone(), d] };
            let (a, b, c) = (m.data(&a), m.data(&v), m.data(&v));
            one(format!("{name} {a}, {b}, {c} {{len = 5}}"))
        }
        "hippo" => {
            let kind = m.pick(&["legs", "legt", "fout"]);
            several(2, format!("hippo {{kind = {kind}, n = 6}}"))
        }
        "long_conv" => {
            let k = m.pick(&[&1, &3, &9, &33]);
            let xs = m.with(&batch, &[&t, &p]);
            let (x, h) = (m.data(&xs), m.beside(&[p, constant(*k)], Role::Data));
            one(format!("long_conv {x}, {h}{}", m.pick(&["", " {two_sided}"])))
        }
        "fourier_mix" => {
            let xs = m.with(&batch, &[&t, &p]);
            one(format!("fourier_mix {}", m.data(&xs)))
        }
        "monarch_mix" => {
            let xs = m.with(&batch, &[&constant(6), &p]);
            let x = m.data(&xs);
            let shapes = [[2, 4, 3], [3, 2, 2], [4, 3, 2], [2, 4, 4]];
            let parts: Vec<String> = shapes.iter().map(|s| m.data(&s.map(constant))).collect();
            let k = m.data(&[constant(8), constant(1)]);
            one(format!("monarch_mix {x}, {}, {k}", parts.join(", ")))
        }
        "token_mlp" => {
            let n = constant(9);
            let xs = m.with(&batch, &[&n, &p]);
            let (x, w1, w2) = (m.data(&xs), m.data(&[constant(5), n.clone()]), m.data(&[n.clone(), constant(5)]));
            let bias = if m.chance(50) {
                format!(", {}, {}", m.beside(&[constant(5)], Role::Data), m.beside(&[n], Role::Data))
            } else {
                String::new()
            };
            one(format!("token_mlp {x}, {w1}, {w2}{bias}{}", m.pick(&["", " {fn = relu}", " {fn = silu}"])))
        }
        "tensor_attention" => {
            let (j1, j2) = (constant(4), constant(3));
            let qs = m.with(&batch, &[&t, &r]);
            let (k1, k2) = (m.with(&group, &[&j1, &r]), m.with(&group, &[&j2, &r]));
            let (v1, v2) = (m.with(&group, &[&j1, &p]), m.with(&group, &[&j2, &p]));
            let all: Vec<String> = [qs, k1, k2, v1, v2].iter().map(|s| m.data(s)).collect();
            one(format!("tensor_attention {}", all.join(", ")))
        }
        "ssm2d" => {
            let (v, n) = (constant(3), constant(2));
            let xs = m.with(&batch, &[&v, &t]);
            let x = m.data(&xs);
            let wide = m.with(&batch, &[&v, &t, &n]);
            let mut all = vec![x];
            for k in 0..8 {
                let shape = if m.chance(30) { wide.clone() } else { vec![n.clone()] };
                // Steps of a state keep it from growing.
                let step = m.param(m.float, &shape, Role::LogDecay);
                all.push(if k < 4 { m.statement(format!("sigmoid {step}"))? } else { step });
                if k < 4 {
                    let half = m.statement(format!("mul {}, {}", all[k + 1], all[k + 1]))?;
                    all[k + 1] = half;
                }
            }
            one(format!("ssm2d {}", all.join(", ")))
        }
        "pgn" => {
            let d = constant(3);
            let xs = m.with(&batch, &[&t, &p]);
            let both = p.add(&d).ok()?;
            let x = m.data(&xs);
            let wh = m.data(&[d.clone(), p, constant(3)]);
            let (wg, wc) = (m.data(&[d.clone(), both.clone()]), m.data(&[d.clone(), both]));
            let bias = if m.chance(50) { format!(", {}", m.beside(&[d], Role::Data)) } else { String::new() };
            one(format!("pgn {x}, {wh}, {wg}, {wc}{bias} {{width = 3}}"))
        }
        "ot_route" => {
            let xs = m.with(&batch, &[&t, &p]);
            let k = 1 + m.below(9);
            one(format!("ot_route {} {{k = {k}, iters = 3, gamma = 0.05}}", m.data(&xs)))
        }
        _ => None,
    }
}
