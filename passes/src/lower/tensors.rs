//! Lowering of tensor operations: elementwise and layout ones become functions of the index or join the program that
//! makes their operand; the rest go to their forms.

use super::layout::{indexing, pull_layout, push_layout};
use super::mix::batched;
use super::{Context, Failure, Lambda, Lowering, Producer, axes, axis, constant_of};
use crate::forms;
use crate::forms::norm::Norm;
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Expr, Unary};
use mixc_ir::op::{Meaning, Op};
use mixc_ir::program::{Node, NodeKind, ValueId};
use mixc_ir::tile::{Combine, TileType};

/// Lowers a node whose results are tensors.
pub fn lower(cx: &mut Context<'_>, node: &Node) -> Result<Vec<Lowering>, Failure> {
    let NodeKind::Op(op) = node.kind else { return Err(cx.fail("a constant is no operation")) };
    if let Meaning::Pointwise(f) = op.meaning {
        return pointwise(cx, node, f).map(|l| vec![l]);
    }
    let result = node.results[0];
    let ty = cx.tensor_type(result)?.clone();
    let (dtype, shape) = (ty.dtype, ty.shape);
    let single = |l: Lambda| Ok(vec![Lowering::Lambda(l)]);
    let open = |p: Producer| Ok(vec![Lowering::Open(Box::new(p))]);
    match op.name {
        "apply" => {
            let mix = cx.mix(cx.operand(node, 0)?)?;
            let x = cx.read(cx.operand(node, 1)?)?;
            let channelwise = node.attrs.flag("channelwise");
            open(application(cx, &mix, &x, channelwise, &shape, dtype)?)
        }
        "matmul" => {
            let a = cx.read(cx.operand(node, 0)?)?;
            let b = cx.read(cx.operand(node, 1)?)?;
            let batch = shape[..shape.len() - 2].to_vec();
            let a = matrix(cx, &a, &batch, node.attrs.flag("transpose_a"))?;
            let b = matrix(cx, &b, &batch, node.attrs.flag("transpose_b"))?;
            open(forms::gemm::product(cx, &a, &b, &shape, dtype)?)
        }
        "linear" => open(linear(cx, node, &shape, dtype)?),
        "reduce" => {
            let x = cx.read(cx.operand(node, 0)?)?;
            let k = axis_attr(cx, node, x.shape.len(), -1)?;
            open(reduce(&x, k, node.attrs.name("op").unwrap_or("sum"), &shape, dtype))
        }
        "cumsum" | "cumlogsumexp" => {
            let x = cx.read(cx.operand(node, 0)?)?;
            let k = axis_attr(cx, node, x.shape.len(), -1)?;
            let combine = if op.name == "cumsum" { Combine::Sum } else { Combine::LogSumExp };
            let x = Lambda { dtype, ..x };
            single(forms::cumulate::cumulate(cx, &x, k, combine, node.attrs.flag("reverse"))?)
        }
        "layer_norm" | "rms_norm" | "softmax_axis" => norm(cx, op, node, &shape, dtype),
        "top_k_axis" => {
            let x = cx.read(cx.operand(node, 0)?)?;
            let k = axis_attr(cx, node, x.shape.len(), -1)?;
            let count = node.attrs.dim("k").cloned().unwrap_or_default();
            if count.as_constant().is_some_and(|count| count < 1) {
                let nothing = |v: &ValueId| {
                    let t = cx.tensor_type(*v)?.clone();
                    Ok(Lowering::Lambda(Lambda { body: constant_of(t.dtype, 0.0), dtype: t.dtype, shape: t.shape }))
                };
                return node.results.iter().map(nothing).collect();
            }
            // The searched axis last; results are moved back.
            let rank = x.shape.len();
            let moved = |from: &[Dim]| {
                let mut s = from.to_vec();
                let n = s.remove(k);
                s.push(n);
                s
            };
            let mut index: Vec<Expr> = (0..rank - 1).map(axis).collect();
            index.insert(k, axis(rank - 1));
            let turned = Lambda { dtype: x.dtype, shape: moved(&x.shape), body: x.at(&index) };
            let (values, columns) = forms::top_k::select(cx, &turned, &count)?;
            let mut back: Vec<Expr> = axes(rank);
            let last = back.remove(k);
            back.push(last);
            let mut out = Vec::new();
            for (b, r) in [values, columns].into_iter().zip(&node.results) {
                let t = cx.tensor_type(*r)?.clone();
                let body = cx.stored(b).at(&back);
                out.push(Lowering::Lambda(Lambda { dtype: t.dtype, shape: t.shape, body }));
            }
            Ok(out)
        }
        "ssm2d" => {
            let x = cx.read_stored(cx.operand(node, 0)?)?;
            let parameters = (1..9)
                .map(|k| {
                    let v = cx.operand(node, k)?;
                    cx.read_stored(v)
                })
                .collect::<Result<Vec<_>, Failure>>()?;
            single(forms::scan_2d::scan(cx, &x, &parameters)?)
        }
        "ot_route" => super::definition::lower(cx, node, "route"),
        "fft" | "ifft" | "rfft" | "irfft" => super::spectral::lower(cx, op.name, node),
        "conv1d" => open(super::conv1d::conv1d(cx, node, &shape, dtype)?),
        "reverse" | "merge_heads" | "reshape" | "transpose" => {
            let v = cx.operand(node, 0)?;
            if let Some(p) = push_layout(cx, op.name, node, v, &shape)? {
                return open(p);
            }
            if op.name == "reverse" {
                return single(indexing(cx, op, node, &shape, dtype)?);
            }
            let x = cx.read(v)?;
            single(pull_layout(cx, op.name, node, &x, &shape)?)
        }
        _ => {
            let l = indexing(cx, op, node, &shape, dtype)?;
            single(l)
        }
    }
}

/// Elementwise work: joins the open program of an operand of the result's shape, else becomes a function of the index.
fn pointwise(
    cx: &mut Context<'_>,
    node: &Node,
    f: fn(&mixc_ir::attr::Attrs, &[Expr]) -> Expr,
) -> Result<Lowering, Failure> {
    let t = cx.tensor_type(node.results[0])?.clone();
    let operands: Vec<ValueId> = (0..node.operands.len()).map(|k| cx.operand(node, k)).collect::<Result<_, _>>()?;
    if let Some(wide) = computed_in_f64(cx, node, &operands, t.dtype)? {
        // Angles of transforms: what comes out is short, what it is made from is not.
        let l = Lambda { dtype: t.dtype, shape: t.shape, body: f(&node.attrs, &[wide.body]) };
        let b = forms::map::store_by(cx, &l, TileType::F64)?;
        return Ok(Lowering::Lambda(cx.stored(b)));
    }
    let joins = operands.iter().position(|v| {
        cx.uses(*v) == 1 && cx.is_open(*v) && cx.source.ty(*v).as_tensor().is_some_and(|o| o.shape == t.shape)
    });
    let producer = joins.and_then(|k| cx.take_open(operands[k]).map(|p| (k, p)));
    let index = match &producer {
        Some((_, p)) => p.index.clone(),
        None => axes(t.shape.len()),
    };
    let mut args = Vec::new();
    for (k, v) in operands.iter().enumerate() {
        if let Some((joined, p)) = &producer
            && *joined == k
        {
            args.push(p.epilogue.clone());
            continue;
        }
        let l = cx.read(*v)?;
        // A costly function would be computed once for every element it is broadcast to.
        let l = if l.shape != t.shape && l.cost() > 8 { cx.stored_lambda(&l)? } else { l };
        args.push(l.at(&broadcast_index(&l.shape, &t.shape, &index)));
    }
    let body = f(&node.attrs, &args);
    Ok(match producer {
        Some((_, p)) => Lowering::Open(Box::new(Producer { epilogue: body, dtype: t.dtype, ..p })),
        None => Lowering::Lambda(Lambda { dtype: t.dtype, shape: t.shape, body }),
    })
}

/// The operand of a cast from f64 to a shorter type, when it is computed from numbers that do not say so themselves:
/// read through by a user of the shorter type it would be computed in that.
fn computed_in_f64(
    cx: &mut Context<'_>,
    node: &Node,
    operands: &[ValueId],
    to: DType,
) -> Result<Option<Lambda>, Failure> {
    let is_cast = matches!(node.kind, NodeKind::Op(op) if op.name == "cast");
    let [v] = operands else { return Ok(None) };
    if !is_cast || !to.is_float() || to == DType::F64 || cx.tensor_type(*v)?.dtype != DType::F64 || cx.is_open(*v) {
        return Ok(None);
    }
    let l = cx.read(*v)?;
    let says_so = forms::buffers_of(&l.body).iter().any(|b| cx.out.buffer(*b).dtype == DType::F64);
    Ok(Some(l).filter(|l| !says_so && l.body.as_float().is_none()))
}

/// The index into `own` of the element at `index` of `out`, by NumPy's broadcasting.
pub(super) fn broadcast_index(own: &[Dim], out: &[Dim], index: &[Expr]) -> Vec<Expr> {
    let lead = out.len() - own.len();
    own.iter()
        .enumerate()
        .map(|(k, d)| if d.is(1) && !out[lead + k].is(1) { Expr::int(0) } else { index[lead + k].clone() })
        .collect()
}

/// A matrix operand over the product's batch dims, transposed where asked.
fn matrix(cx: &Context<'_>, x: &Lambda, batch: &[Dim], transposed: bool) -> Result<Lambda, Failure> {
    let rank = x.shape.len();
    if rank < 2 {
        return Err(cx.fail("a matrix has two axes"));
    }
    let (nb, mut tail) = (batch.len(), x.shape[rank - 2..].to_vec());
    let mut last = [axis(nb), axis(nb + 1)];
    if transposed {
        tail.reverse();
        last.reverse();
    }
    let body = batched(x, batch, &axes(nb), &last);
    let mut shape = batch.to_vec();
    shape.extend(tail);
    Ok(Lambda { dtype: x.dtype, shape, body })
}

fn linear(cx: &mut Context<'_>, node: &Node, shape: &[Dim], dtype: DType) -> Result<Producer, Failure> {
    let (x, w) = (cx.read(cx.operand(node, 0)?)?, cx.read(cx.operand(node, 1)?)?);
    // A vector is a matrix of one row.
    let vector = x.shape.len() == 1;
    let (x, out) = if vector {
        let mut s = vec![Dim::constant(1)];
        s.extend(x.shape.iter().cloned());
        let mut o = vec![Dim::constant(1)];
        o.extend(shape.iter().cloned());
        (Lambda { dtype: x.dtype, body: x.at(&[axis(1)]), shape: s }, o)
    } else {
        (x, shape.to_vec())
    };
    let nb = out.len() - 2;
    let rows = &w.shape[w.shape.len() - 2..];
    let mut ws = out[..nb].to_vec();
    ws.extend([rows[1].clone(), rows[0].clone()]);
    let w = Lambda { dtype: w.dtype, body: w.at(&[axis(nb + 1), axis(nb)]), shape: ws };
    let mut p = forms::gemm::product(cx, &x, &w, &out, dtype)?;
    if let Some(bias) = node.operands.get(2).copied().flatten() {
        let bias = cx.read_stored(bias)?;
        p.epilogue = p.epilogue + bias.at(&[axis(nb + 1)]);
    }
    if vector {
        (p.shape, p.index) = (shape.to_vec(), vec![axis(1)]);
    }
    Ok(p)
}

/// The place of the `axis` attribute among `rank` axes.
pub fn axis_attr(cx: &Context<'_>, node: &Node, rank: usize, default: i64) -> Result<usize, Failure> {
    let k = node.attrs.int("axis").unwrap_or(default);
    let k = if k < 0 { k + rank as i64 } else { k };
    usize::try_from(k).ok().filter(|k| *k < rank).ok_or_else(|| cx.fail("no such axis"))
}

fn reduce(x: &Lambda, k: usize, op: &str, shape: &[Dim], dtype: DType) -> Producer {
    let combine = match op {
        "max" => Combine::Max,
        "min" => Combine::Min,
        "prod" => Combine::Product,
        _ => Combine::Sum,
    };
    let length = Expr::from(&x.shape[k]).to_float();
    let mut p = forms::reduce::reduce(x.clone(), k, combine, dtype);
    if op == "mean" {
        p.epilogue = p.epilogue / length;
    }
    if p.shape.len() != shape.len() {
        p.index.insert(k, Expr::int(0));
    }
    p.shape = shape.to_vec();
    p
}

fn norm(cx: &mut Context<'_>, op: &Op, node: &Node, shape: &[Dim], dtype: DType) -> Result<Vec<Lowering>, Failure> {
    let v = cx.operand(node, 0)?;
    let x = cx.read(v)?;
    let rank = x.shape.len();
    let gain = |cx: &mut Context<'_>, k: usize| match node.operands.get(k).copied().flatten() {
        Some(g) => cx.read_stored(g).map(Some),
        None => Ok(None),
    };
    let kind = match op.name {
        "layer_norm" => {
            Norm::Layer { eps: node.attrs.float("eps").unwrap_or(1e-5), gain: gain(cx, 1)?, bias: gain(cx, 2)? }
        }
        "rms_norm" => Norm::RootMeanSquare { eps: node.attrs.float("eps").unwrap_or(1e-6), gain: gain(cx, 1)? },
        _ => Norm::Softmax,
    };
    let k = if op.name == "softmax_axis" { axis_attr(cx, node, rank, -1)? } else { rank - 1 };
    if k + 1 == rank && cx.most(&x.shape[k]) <= forms::norm::LONGEST {
        return Ok(vec![Lowering::Open(Box::new(forms::norm::norm(x, kind, dtype)))]);
    }
    // A long or inner axis: statistics by reductions, then an elementwise step.
    let x = cx.stored_lambda(&x)?;
    let total = Expr::from(&x.shape[k]).to_float();
    let statistic = |cx: &mut Context<'_>, body: Expr, combine: Combine| -> Result<Expr, Failure> {
        let of = Lambda { dtype: x.dtype.accumulator(), shape: x.shape.clone(), body };
        let p = forms::reduce::reduce(of, k, combine, x.dtype.accumulator());
        let mut index = axes(rank);
        index.remove(k);
        Ok(cx.close(p)?.at(&index))
    };
    let e = x.body.clone();
    let mut value = match &kind {
        Norm::Layer { eps, .. } => {
            let mean = statistic(cx, e.clone(), Combine::Sum)? / total.clone();
            let centred = e - mean;
            let variance = statistic(cx, centred.clone() * centred.clone(), Combine::Sum)? / total;
            centred * (variance + Expr::float(*eps)).apply(Unary::Rsqrt)
        }
        Norm::RootMeanSquare { eps, .. } => {
            let mean = statistic(cx, e.clone() * e.clone(), Combine::Sum)? / total;
            e * (mean + Expr::float(*eps)).apply(Unary::Rsqrt)
        }
        Norm::Softmax => {
            let most = statistic(cx, e.clone(), Combine::Max)?.max(Expr::float(forms::flash::LEAST));
            let part = (e - most).apply(Unary::Exp);
            let sum = statistic(cx, part.clone(), Combine::Sum)?;
            forms::norm::share(part, sum)
        }
    };
    let (gain, bias) = match kind {
        Norm::Layer { gain, bias, .. } => (gain, bias),
        Norm::RootMeanSquare { gain, .. } => (gain, None),
        Norm::Softmax => (None, None),
    };
    if let Some(g) = gain {
        value = value * g.at(&[axis(rank - 1)]);
    }
    if let Some(b) = bias {
        value = value + b.at(&[axis(rank - 1)]);
    }
    Ok(vec![Lowering::Lambda(Lambda { dtype, shape: shape.to_vec(), body: value })])
}

/// An application of an operator; a product of operators is applied one after the other.
fn application(
    cx: &mut Context<'_>,
    mix: &super::Mix,
    x: &Lambda,
    channelwise: bool,
    shape: &[Dim],
    dtype: DType,
) -> Result<Producer, Failure> {
    if let Some(super::mix::Special::Compose(a, b)) = &mix.special {
        let mut inner = shape.to_vec();
        let at = inner.len() - 2;
        inner[at] = b.ty.rows.clone();
        let first = application(cx, b, x, channelwise, &inner, dtype.accumulator())?;
        let middle = cx.close(first)?;
        return application(cx, a, &middle, channelwise, shape, dtype);
    }
    forms::apply(cx, mix, x, channelwise, shape, dtype)
}
