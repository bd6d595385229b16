//! Proposals of mixing operators, their algebra, masks and applications.

use crate::generate::{Maker, Proposal, one};
use crate::source::Role;
use mixc::ir::dim::Dim;
use mixc::ir::dtype::DType;
use mixc::ir::ty::MixType;

/// A call of the operation `name` on operators; nothing when it is none or no operand fits.
pub fn propose(m: &mut Maker, name: &str) -> Option<Proposal> {
    constructor(m, name)
        .or_else(|| modifier(m, name))
        .or_else(|| if name == "apply" { application(m, None) } else { None })
}

/// Rows and columns: those of an operator that is there, so that sums and products come about, or new ones.
fn sides(m: &mut Maker) -> (Dim, Dim) {
    if m.chance(50)
        && let Some((_, ty)) = m.operator(|_| true)
    {
        return (ty.rows, ty.cols);
    }
    let t = m.tokens();
    let s = if m.chance(50) { t.clone() } else { m.tokens() };
    (t, s)
}

fn constructor(m: &mut Maker, name: &str) -> Option<Proposal> {
    let constant = Dim::constant;
    let batch = m.batch();
    let f = |m: &Maker| if m.float == DType::F64 { "f64" } else { "f32" };
    match name {
        "gram" => {
            let ((t, s), r) = (sides(m), m.feature());
            let other = m.narrowed(&batch);
            let (qs, ks) = (m.with(&batch, &[&t, &r]), m.with(&other, &[&s, &r]));
            let (q, k) = (m.data(&qs), m.data(&ks));
            let scale = m.pick(&["", " {scale = 0.5}", " {scale = 0.125}"]);
            one(format!("gram {q}, {k}{scale}"))
        }
        "semiseparable" => {
            let ((t, _), n) = (sides(m), m.feature());
            let (cs, bs) = (m.with(&batch, &[&t, &n]), m.with(&m.with(&batch, &[]), &[&t, &n]));
            let other = m.narrowed(&batch);
            let bs = if m.chance(50) { bs } else { m.with(&other, &[&t, &n]) };
            let a = match m.below(3) {
                0 => m.with(&batch, &[&t]),
                1 => m.with(&batch, &[&t, &constant(1)]),
                _ => m.with(&batch, &[&t, &n]),
            };
            let (c, b, a) = (m.data(&cs), m.data(&bs), m.beside(&a, Role::LogDecay));
            one(format!("semiseparable {c}, {b}, {a}"))
        }
        "outer_sum" => {
            let (t, s) = sides(m);
            let other = m.narrowed(&batch);
            let (us, vs) = (m.with(&batch, &[&t]), m.with(&other, &[&s]));
            let (u, v) = (m.data(&us), m.data(&vs));
            one(format!("outer_sum {u}, {v}"))
        }
        "toeplitz" => {
            let (t, _) = sides(m);
            let two = m.chance(40);
            let k = m.pick(&[&1, &3, &5, &9, &65]);
            let hs = m.with(&batch, &[&constant(*k)]);
            let h = m.data(&hs);
            let whole = crate::source::dims_text(&m.with(&batch, &[&t, &t]));
            one(format!("toeplitz {h}{} : mix {}[{whole}]", if two { " {two_sided}" } else { "" }, f(m)))
        }
        "circulant" | "diagonal" => {
            let (t, _) = sides(m);
            let hs = m.with(&batch, &[&t]);
            one(format!("{name} {}", m.data(&hs)))
        }
        "dense" => {
            let (t, s) = sides(m);
            let ws = m.with(&batch, &[&t, &s]);
            one(format!("dense {}", m.data(&ws)))
        }
        "identity" | "shift" => {
            let (t, _) = sides(m);
            let whole = crate::source::dims_text(&m.with(&batch, &[&t, &t]));
            let by = if name == "shift" { format!(" {{by = {}}}", m.below(6) as i64 - 2) } else { String::new() };
            one(format!("{name}{by} : mix {}[{whole}]", f(m)))
        }
        "block_diagonal" => {
            let n = if m.chance(50) { constant(3) } else { Dim::symbol("B") };
            let q = constant(m.random.below(3) + 2);
            let bs = m.with(&batch, &[&n, &constant(2), &q]);
            one(format!("block_diagonal {}", m.data(&bs)))
        }
        "permutation" => {
            let (n, stride) = *m.pick(&[&(12, 3), &(9, 3), &(4, 2), &(6, 2), &(6, 6)]);
            let whole = crate::source::dims_text(&m.with(&batch, &[&constant(n), &constant(n)]));
            one(format!("permutation {{stride = {stride}}} : mix {}[{whole}]", f(m)))
        }
        "monarch" => {
            let [k, q, p, g, n, s] = *m.pick(&[&[2, 3, 2, 3, 2, 4], &[3, 2, 3, 2, 3, 3], &[4, 3, 3, 3, 4, 4]]);
            let ls = m.with(&batch, &[&constant(g), &constant(s), &constant(n)]);
            let rs = m.with(&batch, &[&constant(k), &constant(q), &constant(p)]);
            let (l, r) = (m.data(&ls), m.data(&rs));
            one(format!("monarch {l}, {r}"))
        }
        "walsh_hadamard" => {
            let n = m.pick(&[&1, &4, &8, &64]);
            let flag = m.pick(&["", "{normalized} "]);
            one(format!("walsh_hadamard {flag}: mix {}[{n}, {n}]", f(m)))
        }
        _ => None,
    }
}

/// What makes operators of operators.
pub const MODIFIERS: &[&str] = &[
    "compose",
    "sum",
    "times",
    "inverse",
    "transpose",
    "mask",
    "mask",
    "mask",
    "mask_lengths",
    "mask_lengths",
    "mask_segments",
    "mask_blocks",
    "mask_with",
    "scale_by",
    "alibi",
    "decay",
    "add_bias",
    "add_diagonal",
    "soft_cap",
    "map",
    "softmax",
    "softmax",
    "softmax",
    "row_normalize",
    "top_k",
    "apply",
];

fn modifier(m: &mut Maker, name: &str) -> Option<Proposal> {
    match name {
        "compose" | "sum" | "times" => {
            let (a, ty) = m.operator(|_| true)?;
            let fits = |o: &MixType| {
                if name == "compose" { o.rows == ty.cols } else { o.rows == ty.rows && o.cols == ty.cols }
            };
            let (b, _) = m.operator(fits)?;
            one(format!("{name} {a}, {b}"))
        }
        "inverse" => {
            // A unit lower triangle of anything square, small enough that the inverse stays finite.
            let (a, ty) = m.operator(|o| o.rows == o.cols)?;
            let small = m.statement(format!("scale_by {a} {{by = 0.1}}"))?;
            let strict = m.statement(format!("mask {small} {{right = -1}}"))?;
            let unit = m.statement(format!("identity : mix {}[{t}, {t}]", ty.dtype, t = ty.rows))?;
            let lower = m.statement(format!("sum {unit}, {strict}"))?;
            one(format!("inverse {lower}"))
        }
        "transpose" => {
            let (a, _) = m.operator(|_| true)?;
            one(format!("transpose {a}"))
        }
        "mask" => {
            let (a, _) = m.operator(|_| true)?;
            let attrs = m.pick(&[
                "causal",
                "causal",
                "left = 2",
                "right = -1",
                "left = -1",
                "right = 3",
                "window = 3",
                "causal, window = 4",
                "causal, window = 40",
                "block = 4",
                "causal, block = 7",
                "causal, sink = 2, window = 3",
                "sink = 1, window = 2",
                "dilation = 3",
                "causal, dilation = 2",
                "causal, align = start",
                "window = 2, align = start",
                "causal, left = 70, right = -65",
            ]);
            one(format!("mask {a} {{{attrs}}}"))
        }
        "mask_lengths" => {
            let (a, ty) = m.operator(|o| !o.batch.is_empty())?;
            let n = m.param(DType::I64, &[ty.batch[0].clone()], Role::Lengths(ty.cols));
            let align = m.pick(&["", " {align}"]);
            one(format!("mask_lengths {a}, {n}{align}"))
        }
        "mask_segments" => {
            let (a, ty) = m.operator(|o| o.rows == o.cols)?;
            let own = m.narrowed(&ty.batch);
            let s = m.with(&own, &[&ty.rows]);
            let s = m.param(DType::I64, &s, Role::Segments);
            one(format!("mask_segments {a}, {s}"))
        }
        "mask_blocks" => {
            let (a, ty) = m.operator(|_| true)?;
            let own = m.narrowed(&ty.batch);
            let (bq, bk) = (1 + m.below(5) as i64, 1 + m.below(5) as i64);
            let shape = m.with(&own, &[&ty.rows.ceil_div(bq).ok()?, &ty.cols.ceil_div(bk).ok()?]);
            let b = m.value(DType::Bool, &shape);
            one(format!("mask_blocks {a}, {b} {{block_q = {bq}, block_k = {bk}}}"))
        }
        "mask_with" => {
            let (a, ty) = m.operator(|_| true)?;
            let own = m.narrowed(&ty.batch);
            let shape = m.with(&own, &[&ty.rows, &ty.cols]);
            let b = m.value(DType::Bool, &shape);
            one(format!("mask_with {a}, {b}"))
        }
        "scale_by" => {
            let (a, ty) = m.operator(|_| true)?;
            if m.chance(50) {
                return one(format!("scale_by {a} {{by = -0.75}}"));
            }
            let own = m.narrowed(&ty.batch);
            let t = data(m, &ty, &own);
            one(format!("scale_by {a}, {t}"))
        }
        "alibi" | "decay" => {
            let (a, ty) = m.operator(|_| true)?;
            let own = m.narrowed(&ty.batch);
            let role = if name == "decay" { Role::Decay } else { Role::Positive };
            let dtype = ty.dtype;
            let t = m.param(dtype, &own, role);
            one(format!("{name} {a}, {t}"))
        }
        "add_bias" => {
            let (a, ty) = m.operator(|_| true)?;
            let own = match m.below(3) {
                0 => ty.batch.clone(),
                _ => vec![],
            };
            let (r, c) = (ty.rows.clone(), ty.cols.clone());
            let mut shape = m.with(&own, &[&r, &c]);
            let k = shape.len();
            match m.below(4) {
                0 => shape[k - 2] = Dim::constant(1),
                1 => shape = vec![c],
                _ => {}
            }
            let t = data(m, &ty, &shape);
            one(format!("add_bias {a}, {t}"))
        }
        "add_diagonal" => {
            let (a, ty) = m.operator(|o| o.rows == o.cols)?;
            let own = m.narrowed(&ty.batch);
            let shape = m.with(&own, &[&ty.rows]);
            let d = data(m, &ty, &shape);
            one(format!("add_diagonal {a}, {d}"))
        }
        "soft_cap" => {
            let (a, _) = m.operator(|_| true)?;
            one(format!("soft_cap {a} {{cap = 5.0}}"))
        }
        "map" => {
            let (a, _) = m.operator(|_| true)?;
            let f = m.pick(&[
                "exp",
                "relu",
                "square",
                "silu",
                "sigmoid",
                "tanh",
                "elu",
                "elu1",
                "gelu",
                "gelu_tanh",
                "identity",
                "abs",
            ]);
            one(format!("map {a} {{fn = {f}}}"))
        }
        "softmax" => {
            let (a, ty) = m.operator(|_| true)?;
            let sink = match ty.batch.last() {
                Some(h) if m.chance(30) => format!(", {}", data(m, &ty, std::slice::from_ref(h))),
                _ => String::new(),
            };
            one(format!("softmax {a}{sink}"))
        }
        "row_normalize" => {
            let (a, _) = m.operator(|_| true)?;
            let eps = m.pick(&["", " {eps = 0.5}"]);
            one(format!("row_normalize {a}{eps}"))
        }
        "top_k" => {
            let (a, ty) = m.operator(|_| true)?;
            let third = ty.cols.ceil_div(3).map_or(String::from("2"), |d| d.to_string());
            let (rows, cols) = (ty.rows.to_string(), ty.cols.to_string());
            let k = m.pick(&["0", "1", "3", "8", "70", &rows, &cols, &third]);
            one(format!("top_k {a} {{k = {k}}}"))
        }
        "top_k_tree" => {
            let (a, _) = m.operator(|_| true)?;
            let attrs =
                m.pick(&["k = 4, block_q = 3, block_k = 2", "k = 3, block_q = 2, block_k = 1, sink = 1, window = 2"]);
            one(format!("top_k_tree {a} {{{attrs}}}"))
        }
        _ => None,
    }
}

/// Data beside an operator: of the program's type, or of the operator's.
fn data(m: &mut Maker, ty: &MixType, shape: &[Dim]) -> String {
    let dtype = if m.chance(50) { ty.dtype } else { m.float };
    m.value(dtype, shape)
}

/// An application of the operator `name`, or of any.
pub fn application(m: &mut Maker, name: Option<&str>) -> Option<Proposal> {
    let (a, ty) = match name {
        Some(name) => {
            let ty = m.mix_named(name)?;
            (format!("%{name}"), ty)
        }
        None => m.operator(|_| true)?,
    };
    let d = m.feature();
    if m.chance(25)
        && let Some((channel, rest)) = ty.batch.split_last()
    {
        let own = if m.chance(60) { rest.to_vec() } else { vec![] };
        let shape = m.with(&own, &[&ty.cols, channel]);
        let x = m.data(&shape);
        return one(format!("apply {a}, {x} {{channelwise}}"));
    }
    let mut own = m.narrowed(&ty.batch);
    if m.chance(15) && ty.batch.len() == 1 {
        own = vec![Dim::symbol("B"), ty.batch[0].clone()];
    }
    let shape = m.with(&own, &[&ty.cols, &d]);
    let x = m.data(&shape);
    one(format!("apply {a}, {x}"))
}
