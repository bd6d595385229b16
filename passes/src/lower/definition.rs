//! Layers that are lowered by their definition as it stands, all programs of it part of one form.

use super::{Context, Failure, Lowering, count_uses};
use crate::forms;
use crate::rewrite::{alone, expand_layers};
use mixc_ir::program::{Node, NodeKind};

/// The results of `node`, a layer, by its definition. Its programs are part of `form`.
pub fn lower(cx: &mut Context<'_>, node: &Node, form: &'static str) -> Result<Vec<Lowering>, Failure> {
    let NodeKind::Op(own) = node.kind else { return Err(cx.fail("a constant is no layer")) };
    let call = alone(cx.source, node).ok_or_else(|| cx.fail(format!("`{}` does not stand alone", own.name)))?;
    let definition = expand_layers(&call, &|op| op.name != own.name && forms::lowers_whole(op.name));
    if definition.nodes.iter().any(|n| n.op_name() == Some(own.name)) {
        return Err(cx.fail(format!("this compiler has no native form for `{}` of these operands", own.name)));
    }
    let mut values = vec![None; definition.values.len()];
    for (param, operand) in definition.params.iter().zip(node.operands.iter().flatten()) {
        values[param.index()] = Some(Lowering::Lambda(cx.read(*operand)?));
    }
    let mut inner = Context {
        source: &definition,
        settings: cx.settings,
        out: std::mem::take(&mut cx.out),
        bounds: cx.bounds.clone(),
        values,
        uses: count_uses(&definition),
        at_bind: std::mem::take(&mut cx.at_bind),
        has_weights: cx.has_weights,
        site: cx.site.clone(),
        part_of: Some(cx.part_of.unwrap_or(form)),
        candidates: std::mem::take(&mut cx.candidates),
        span: cx.span,
    };
    let results = inner.nodes().and_then(|()| {
        inner.must_hold();
        definition.results.iter().map(|r| inner.read(*r).map(Lowering::Lambda)).collect()
    });
    (cx.out, cx.at_bind, cx.candidates) = (inner.out, inner.at_bind, inner.candidates);
    results
}
