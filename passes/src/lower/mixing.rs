//! Lowering of operations whose results are operators.

use super::factors::{BlockFactor, Factors, monarch, walsh_sign};
use super::lambda::{Lambda, axes, axis};
use super::mix::{Mix, Product, RowStep, Special, batched};
use super::semiseparable::{self, Semiseparable};
use super::{Context, Failure, guard_loads};
use crate::forms;
use mixc_ir::attr::Attrs;
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::{Binary, Compare, Expr, Node as ExprNode, Unary};
use mixc_ir::op::{Call, Op};
use mixc_ir::program::{Node, NodeKind, ValueId};
use mixc_ir::support::SupportContext;
use mixc_ir::ty::{Align, MixType, Type};

/// Lowers a node whose result is an operator.
pub fn operator(cx: &mut Context<'_>, node: &Node) -> Result<Mix, Failure> {
    let NodeKind::Op(op) = node.kind else { return Err(cx.fail("a constant is not an operator")) };
    let ty = match cx.source.ty(node.results[0]) {
        Type::Mix(m) => m.clone(),
        Type::Tensor(_) => return Err(cx.fail("expected an operator")),
    };
    let structure = cx.source.values[node.results[0].index()].structure.clone().unwrap_or_default();
    let nb = ty.batch.len();
    let (mut data, mut inherited) = (Vec::new(), Vec::new());
    for v in node.operands.iter().flatten() {
        if cx.source.ty(*v).as_tensor().is_some() {
            // No condition of their support names a tensor.
            if matches!(op.name, "gram" | "semiseparable") {
                continue;
            }
            let mut l = cx.read_stored(*v)?;
            if op.name == "mask_lengths" {
                // Over the first of the batch dims that the operator has now, whatever is put before them later.
                l.shape.resize(nb.max(1), Dim::constant(1));
            }
            data.push((*v, l));
        } else {
            inherited.extend(cx.mix(*v)?.data);
        }
    }
    data.extend(inherited);
    let (i, j) = (axis(nb), axis(nb + 1));
    let position = match ty.align {
        Align::End => i.clone() + (Expr::from(&ty.cols) - Expr::from(&ty.rows)),
        Align::Lengths(n) => {
            let l = data
                .iter()
                .find(|(v, _)| *v == n)
                .map(|(_, l)| l.clone())
                .ok_or_else(|| cx.fail("lengths are lost"))?;
            let valid = batched(&l, &ty.batch, &axes(nb), &[]).max(0).min(Expr::from(&ty.cols));
            i.clone() + (valid - Expr::from(&ty.rows))
        }
    };
    let plain = |value: Expr, support: Expr| Mix {
        ty: ty.clone(),
        value,
        products: Vec::new(),
        support,
        structure: structure.clone(),
        data: data.clone(),
        position: position.clone(),
        row_step: RowStep::None,
        listed: None,
        factors: None,
        special: None,
    };
    let own = own_support(cx, op, node, &ty, &data, &i, &j)?;
    // An operator operand, made into elements when it is not, over the result's batch dims.
    let elements = |cx: &mut Context<'_>, k: usize| -> Result<Mix, Failure> {
        let m = cx.mix(cx.operand(node, k)?)?;
        Ok(if m.is_plain() { m } else { materialise(cx, &m)? }.widened(&ty.batch))
    };
    // The same with the fields that every value-only operation sets.
    let modified = |m: Mix, value: Expr| Mix {
        ty: ty.clone(),
        value,
        structure: structure.clone(),
        data: data.clone(),
        position: position.clone(),
        factors: None,
        ..m
    };
    let at = |l: &Lambda, tail: &[Expr]| batched(l, &ty.batch, &axes(nb), tail);
    let scan = |scan: Semiseparable| Mix {
        special: Some(Special::Semiseparable(scan)),
        ..plain(Expr::float(0.0), Expr::bool(true))
    };
    if let Some(kept) = still_a_scan(cx, op, node, &ty)? {
        return Ok(scan(kept));
    }
    let number = |cx: &Context<'_>, name: &str, default: f64| -> Result<f64, Failure> {
        let _ = cx;
        Ok(node.attrs.float(name).unwrap_or(default))
    };
    Ok(match op.name {
        "gram" => {
            let (q, k) = (cx.operand(node, 0)?, cx.operand(node, 1)?);
            let q = cx.read_factor(q)?;
            let keys = cx.read(k)?;
            let of_pairs = keys.is_of_pairs(keys.shape.len().saturating_sub(2));
            let k = cx.read_factor(k)?;
            let scale = number(cx, "scale", 1.0)?;
            let product = Expr::arg(0);
            let value = if scale == 1.0 { product } else { product * Expr::float(scale) };
            Mix { products: vec![Product { q, k, of_pairs }], ..plain(value, own) }
        }
        "semiseparable" => {
            let (c, b) = (cx.read_stored(cx.operand(node, 0)?)?, cx.read_stored(cx.operand(node, 1)?)?);
            // No decay at all is known as such. Where a token is left out 0 is read too, so no other number may stay.
            let a = match cx.read(cx.operand(node, 2)?)? {
                none if none.body.as_float() == Some(0.0) => none,
                _ => cx.read_decay(cx.operand(node, 2)?)?,
            };
            let a_has_features = a.shape.len() == c.shape.len();
            scan(Semiseparable { c, b, a, a_has_features, own_diagonal: true, added: None, reversed: false })
        }
        "outer_sum" => {
            let (u, v) = (read(cx, node, 0)?, read(cx, node, 1)?);
            plain(at(&u, std::slice::from_ref(&i)) + at(&v, std::slice::from_ref(&j)), own)
        }
        "toeplitz" | "circulant" => {
            let h = cx.read_stored(cx.operand(node, 0)?)?;
            let lag = i.clone() - j.clone();
            let length = h.shape.last().cloned().unwrap_or_default();
            let (index, guard) = if op.name == "circulant" {
                (lag.modulo(Expr::from(&length)), Expr::bool(true))
            } else if node.attrs.flag("two_sided") {
                let middle = (Expr::from(&length) - Expr::int(1)).floor_div(2);
                (lag + middle, own.clone())
            } else {
                (lag, own.clone())
            };
            plain(guard_loads(&at(&h, &[index]), &guard), own)
        }
        "dense" => {
            let w = read(cx, node, 0)?;
            plain(at(&w, &[i, j]), own)
        }
        "diagonal" => {
            let d = read(cx, node, 0)?;
            plain(at(&d, &[i]), own)
        }
        "identity" | "shift" => plain(Expr::float(1.0), own),
        "permutation" => {
            // M[a*n + c, c*m + a] = 1 for a < m, c < n.
            let m = Expr::int(node.attrs.int("stride").unwrap_or(1).max(1));
            let n = Expr::from(&ty.rows).floor_div(m.clone());
            let (a, c) = (i.clone().floor_div(n.clone()), i.modulo(n));
            plain(Expr::float(1.0), j.equals(c * m + a))
        }
        "block_diagonal" => {
            let b = read(cx, node, 0)?;
            let rank = b.shape.len();
            let (p, q) = (Expr::from(&b.shape[rank - 2]), Expr::from(&b.shape[rank - 1]));
            let index = [i.clone().floor_div(p.clone()), i.modulo(p), j.modulo(q)];
            let factors = Some(Factors::Blocks(vec![BlockFactor { matrix: b.clone(), strided: false }]));
            Mix { factors, ..plain(guard_loads(&at(&b, &index), &own), own) }
        }
        "monarch" => monarch(cx, node, &plain, own, &at, &i, &j)?,
        "walsh_hadamard" => {
            let normalised = node.attrs.flag("normalized");
            let scale = if normalised {
                Expr::float(1.0) / Expr::from(&ty.rows).to_float().apply(Unary::Sqrt)
            } else {
                Expr::float(1.0)
            };
            let number = match ty.rows.as_constant() {
                Some(n) if normalised && n > 0 => 1.0 / (n as f64).sqrt(),
                _ => 1.0,
            };
            let factors = Some(Factors::Hadamard { scale: number });
            Mix { factors, ..plain(walsh_sign(&i, &j, cx.most(&ty.rows)) * scale, own) }
        }
        "transpose" => {
            let m = elements(cx, 0)?;
            let swap = |e: &Expr| {
                let mut index = axes(nb);
                index.extend([axis(nb + 1), axis(nb)]);
                Lambda { dtype: DType::F32, shape: Vec::new(), body: e.clone() }.at(&index)
            };
            let (value, support) = (swap(&m.value), swap(&m.support));
            let products =
                m.products.iter().map(|p| Product { q: p.k.clone(), k: p.q.clone(), of_pairs: false }).collect();
            let factors = m.factors.clone().map(Factors::transposed);
            Mix { products, support, listed: None, factors, ..modified(m, value) }
        }
        "compose" => {
            let (a, b) = (cx.mix(cx.operand(node, 0)?)?, cx.mix(cx.operand(node, 1)?)?);
            Mix {
                special: Some(Special::Compose(Box::new(a), Box::new(b))),
                ..plain(Expr::float(0.0), Expr::bool(true))
            }
        }
        "inverse" => {
            let m = cx.mix(cx.operand(node, 0)?)?;
            Mix { special: Some(Special::Inverse(Box::new(m))), ..plain(Expr::float(0.0), own) }
        }
        "sum" | "times" => {
            let (a, b) = (elements(cx, 0)?, elements(cx, 1)?);
            let offset = a.products.len();
            let b_value = b.value.rewrite(&mut |e| match e.node() {
                ExprNode::Arg(n) => Some(Expr::arg(n + offset)),
                _ => None,
            });
            let products = a.products.iter().chain(&b.products).cloned().collect();
            let (value, support) = if op.name == "times" {
                (a.value.clone() * b_value, a.support.clone().and(b.support.clone()))
            } else {
                let zero = || Expr::float(0.0);
                let left = Expr::select(a.support.clone(), a.value.clone(), zero());
                let right = Expr::select(b.support.clone(), b_value, zero());
                (left + right, a.support.clone().or(b.support.clone()))
            };
            // An intersection stays within the lists of its first operand.
            let listed = a.listed.clone().filter(|_| op.name == "times");
            Mix { products, support, listed, ..modified(a, value) }
        }
        "add_diagonal" => {
            let d = read(cx, node, 1)?;
            let m = elements(cx, 0)?;
            let on = i.clone().equals(j.clone());
            let inside = Expr::select(m.support.clone(), m.value.clone(), Expr::float(0.0));
            let value = inside + Expr::select(on.clone(), at(&d, &[i]), Expr::float(0.0));
            let support = m.support.clone().or(on);
            Mix { support, listed: None, ..modified(m, value) }
        }
        "scale_by" => {
            let m = elements(cx, 0)?;
            let (factor, factors) = match node.operands.get(1).copied().flatten() {
                Some(t) => {
                    let t = cx.read(t)?;
                    (at(&t, &[]), None)
                }
                None => {
                    let by = number(cx, "by", 1.0)?;
                    (Expr::float(by), m.factors.clone().map(|f| f.scaled(by)))
                }
            };
            let value = m.value.clone() * factor;
            Mix { factors, ..modified(m, value) }
        }
        "add_bias" => {
            let t = cx.read_stored(cx.operand(node, 1)?)?;
            let m = elements(cx, 0)?;
            // Broadcast to [.., T, S] as NumPy does: a tensor of lower rank lacks leading axes, axes of 1 are read at 0.
            let shape = m.shape();
            let lead = shape.len() - t.shape.len();
            let index: Vec<Expr> = t
                .shape
                .iter()
                .enumerate()
                .map(|(k, d)| if d.is(1) && !shape[lead + k].is(1) { Expr::int(0) } else { axis(lead + k) })
                .collect();
            let value = m.value.clone() + t.at(&index);
            modified(m, value)
        }
        "alibi" => {
            let s = read(cx, node, 1)?;
            let m = elements(cx, 0)?;
            let distance = (position.clone() - j).apply(Unary::Abs).to_float();
            let value = m.value.clone() - at(&s, &[]) * distance;
            modified(m, value)
        }
        "decay" => {
            let g = read(cx, node, 1)?;
            let m = elements(cx, 0)?;
            let power = Expr::binary(Binary::Pow, at(&g, &[]), (position.clone() - j).to_float());
            let value = m.value.clone() * power;
            modified(m, value)
        }
        "soft_cap" => {
            let cap = number(cx, "cap", 1.0)?;
            let m = elements(cx, 0)?;
            let value = Expr::float(cap) * (m.value.clone() * Expr::float(1.0 / cap)).apply(Unary::Tanh);
            modified(m, value)
        }
        "map" => {
            let m = elements(cx, 0)?;
            let value = feature(cx, node.attrs.name("fn").unwrap_or("identity"), m.value.clone())?;
            modified(m, value)
        }
        "mask" | "mask_lengths" | "mask_segments" | "mask_blocks" | "mask_with" => {
            let m = elements(cx, 0)?;
            let (value, support) = (m.value.clone(), m.support.clone().and(own));
            Mix { support, ..modified(m, value) }
        }
        "softmax" => {
            let sink = match node.operands.get(1).copied().flatten() {
                Some(s) => Some(cx.read_stored(s)?),
                None => None,
            };
            let m = elements(cx, 0)?;
            let value = m.value.clone();
            Mix { row_step: RowStep::Softmax { sink }, ..modified(m, value) }
        }
        "row_normalize" => {
            let m = cx.mix(cx.operand(node, 0)?)?;
            let scans = matches!((&m.special, &m.row_step), (Some(Special::Semiseparable(_)), RowStep::None));
            let m = if scans { m.widened(&ty.batch) } else { elements(cx, 0)? };
            let value = m.value.clone();
            Mix { row_step: RowStep::SumTo { eps: number(cx, "eps", 0.0)? }, ..modified(m, value) }
        }
        "top_k" => {
            let m = elements(cx, 0)?;
            let k = node.attrs.dim("k").cloned().unwrap_or_default();
            let kept = forms::top_k::threshold(cx, &m, &k)?;
            let (value, support) = (m.value.clone(), m.support.clone().and(kept));
            Mix { support, ..modified(m, value) }
        }
        "top_k_tree" => {
            let m = elements(cx, 0)?;
            let value = m.value.clone();
            let m = modified(m, value);
            let size = |name: &str| node.attrs.int(name).unwrap_or(1);
            let dim = |name: &str| node.attrs.dim(name).map_or(Expr::int(0), Expr::from);
            let search = forms::tree_top_k::Search {
                k: node.attrs.dim("k").cloned().unwrap_or(Dim::constant(1)),
                block_q: size("block_q"),
                block_k: size("block_k"),
                sink: dim("sink"),
                window: dim("window"),
            };
            let (kept, listed) = cx.as_part_of("tree_top_k", |cx| forms::tree_top_k::kept(cx, &m, &search))?;
            Mix { support: m.support.clone().and(kept), listed: listed.map(Box::new), ..m }
        }
        other => {
            return Err(cx.fail(format!("this compiler has no native form for `{other}` yet; `--target ref` runs it")));
        }
    })
}

/// The result of a node on a semiseparable operator, where it is one still.
fn still_a_scan(
    cx: &mut Context<'_>,
    op: &'static Op,
    node: &Node,
    ty: &MixType,
) -> Result<Option<Semiseparable>, Failure> {
    let scan_of = |cx: &Context<'_>, k: usize| -> Result<Option<Semiseparable>, Failure> {
        let v = cx.operand(node, k)?;
        if cx.source.ty(v).as_mix().is_none() {
            return Ok(None);
        }
        let m = cx.mix(v)?;
        Ok(match (m.special, m.row_step) {
            (Some(Special::Semiseparable(scan)), RowStep::None) => Some(scan),
            _ => None,
        })
    };
    if ty.rows != ty.cols || ty.align != Align::End || node.operands.is_empty() {
        return Ok(None);
    }
    Ok(match op.name {
        "transpose" => scan_of(cx, 0)?.map(|s| s.transposed(&ty.rows)),
        "mask" if node.attrs.iter().count() == 1 => match scan_of(cx, 0)? {
            Some(s) if !s.reversed && node.attrs.int("right") == Some(-1) => Some(s.strict()),
            Some(s) if !s.reversed && node.attrs.flag("causal") => Some(s),
            _ => None,
        },
        "add_diagonal" => match scan_of(cx, 0)? {
            Some(s) => {
                let d = cx.read_stored(cx.operand(node, 1)?)?;
                s.with_diagonal(d, &ty.rows)
            }
            None => None,
        },
        "sum" => {
            for (k, other) in [(0, 1), (1, 0)] {
                let Some(s) = scan_of(cx, k)? else { continue };
                let Some(d) = diagonal_of(cx, cx.operand(node, other)?)? else { continue };
                return Ok(s.with_diagonal(d, &ty.rows));
            }
            None
        }
        _ => None,
    })
}

/// The elements `[.., T]` of an operator that is written as a diagonal.
fn diagonal_of(cx: &mut Context<'_>, v: ValueId) -> Result<Option<Lambda>, Failure> {
    let source = cx.source;
    let Some(node) = source.nodes.iter().find(|n| n.results.contains(&v)) else { return Ok(None) };
    let (NodeKind::Op(op), Some(ty)) = (&node.kind, source.ty(v).as_mix()) else { return Ok(None) };
    Ok(match op.name {
        "identity" => Some(Lambda { dtype: ty.dtype, shape: vec![ty.rows.clone()], body: Expr::float(1.0) }),
        "diagonal" => Some(cx.read_stored(cx.operand(node, 0)?)?),
        _ => None,
    })
}

fn read(cx: &mut Context<'_>, node: &Node, k: usize) -> Result<Lambda, Failure> {
    let v = cx.operand(node, k)?;
    cx.read(v)
}

/// The support that an operation itself gives, its operands' taken as full.
fn own_support(
    cx: &mut Context<'_>,
    op: &'static Op,
    node: &Node,
    ty: &MixType,
    data: &[(ValueId, Lambda)],
    i: &Expr,
    j: &Expr,
) -> Result<Expr, Failure> {
    // These say what they keep or join themselves.
    if matches!(
        op.name,
        "sum" | "times" | "compose" | "transpose" | "add_diagonal" | "top_k" | "top_k_tree" | "permutation"
    ) {
        return Ok(Expr::bool(true));
    }
    let Some(structure) = op.structure else { return Ok(Expr::bool(true)) };
    let written = [Some(Type::Mix(ty.clone()))];
    let attrs: &Attrs = &node.attrs;
    let call = Call {
        op,
        types: node.operands.iter().map(|o| o.map(|v| cx.source.ty(v))).collect(),
        structures: vec![None; node.operands.len()],
        values: node.operands.clone(),
        attrs,
        written: &written,
        bounds: &cx.bounds,
    };
    let support = structure(&call).support;
    let element = element_callback(&ty.batch, data);
    let context = SupportContext {
        row: i.clone(),
        col: j.clone(),
        rows: Expr::from(&ty.rows),
        cols: Expr::from(&ty.cols),
        element: &element,
    };
    // A condition without a formula belongs to operations that were sorted out above.
    Ok(support.expr(&context).unwrap_or_else(|| Expr::bool(true)))
}

/// Elements of the data operands of supports, at the present batch index.
pub fn element_callback<'d>(batch: &'d [Dim], data: &'d [(ValueId, Lambda)]) -> impl Fn(ValueId, &[Expr]) -> Expr + 'd {
    move |v, tail| {
        let Some((_, l)) = data.iter().find(|(w, _)| *w == v) else { return Expr::int(0) };
        // A mask may be broadcast along rows or columns: an axis of 1 is read at 0.
        let own = &l.shape[l.shape.len() - tail.len()..];
        let tail: Vec<Expr> =
            tail.iter().zip(own).map(|(e, d)| if d.is(1) { Expr::int(0) } else { e.clone() }).collect();
        batched(l, batch, &axes(batch.len()), &tail)
    }
}

/// A feature map of `map` and the linear attentions, as a scalar expression: the same expression that the elementwise
/// operation of that name means.
pub fn feature(cx: &Context<'_>, name: &str, x: Expr) -> Result<Expr, Failure> {
    let one = || Expr::float(1.0);
    Ok(match name {
        "identity" => x,
        "square" => x.clone() * x,
        "elu1" => Expr::select(
            Expr::compare(Compare::Gt, x.clone(), Expr::float(0.0)),
            x.clone() + one(),
            x.min(Expr::float(0.0)).apply(Unary::Exp),
        ),
        _ => {
            let (op, attrs) = match name {
                "gelu_tanh" => ("gelu", Attrs::new().with_flag("tanh", true)),
                other => (other, Attrs::new()),
            };
            match mixc_ir::ops::find(op).map(|o| o.meaning) {
                Some(mixc_ir::op::Meaning::Pointwise(f)) => f(&attrs, &[x]),
                _ => return Err(cx.fail(format!("no function `{name}`"))),
            }
        }
    })
}

/// The operator as a stored matrix of elements: the last resort, T x S in memory.
pub fn materialise(cx: &mut Context<'_>, m: &Mix) -> Result<Mix, Failure> {
    match &m.special {
        Some(Special::Semiseparable(scan)) => {
            let elements = semiseparable::elements(cx, m, scan)?;
            return materialise(cx, &elements);
        }
        Some(Special::Inverse(_)) => {
            let values = forms::triangular_inverse::elements(cx, m)?;
            return Ok(Mix { value: values.body, special: None, ..m.clone() });
        }
        Some(Special::Compose(a, b)) => return forms::dense::compose(cx, m, a, b),
        None => {}
    }
    if m.is_plain() {
        return Ok(m.clone());
    }
    // A row step: apply the operator to the identity, whose columns are the elements.
    let identity = Expr::select(axis(m.rank()).equals(axis(m.rank() + 1)), Expr::float(1.0), Expr::float(0.0));
    let mut shape = m.ty.batch.clone();
    shape.extend([m.ty.cols.clone(), m.ty.cols.clone()]);
    let unit = Lambda { dtype: m.ty.dtype, shape, body: identity };
    let producer = forms::apply(cx, m, &unit, false, &m.shape(), m.ty.dtype)?;
    let stored = cx.close(producer)?;
    Ok(Mix { value: stored.body, products: Vec::new(), row_step: RowStep::None, ..m.clone() })
}
