//! Restrictions of the support by position.

use super::signature::by_row;
use crate::attr::{AttrKind, Attrs};
use crate::diag::Fault;
use crate::dim::{Dim, DimError};
use crate::op::{Call, Group, Law, Meaning, Op, OperandKind};
use crate::ops::{attr, operand};
use crate::reference::{Eval, RefValue};
use crate::support::{Condition, Position, Structure, Support};
use crate::ty::{Align, Type};

/// `mask`.
pub static OP: Op = Op {
    name: "mask",
    group: Group::Operator,
    doc: "Restricts the support; conditions combine. i' = i + S - T, or as `mask_lengths {align}` says, or i with \
          {align = start}. causal: j <= i'. left: j >= i' - left. right: j <= i' + right. window: left = window - 1 \
          and, without causal, right = window - 1. sink, with window: j < sink or inside the window, still cut by the \
          other conditions. block: floor(i' / block) == floor(j / block). dilation: (i' - j) mod dilation == 0.",
    example: "\
func @main(%q: f32[5, 4], %k: f32[7, 4], %x: f32[7, 3]) -> f32[5, 3] {
  %m = gram %q, %k
  %c = mask %m {causal, window = 3, sink = 1}
  %p = softmax %c
  %y = apply %p, %x
  return %y
}
",
    operands: &[operand("M", OperandKind::Mix)],
    variadic: false,
    attrs: &[
        attr("causal", AttrKind::Bool, "j <= i'"),
        attr("left", AttrKind::Dim, "j >= i' - left; may be negative"),
        attr("right", AttrKind::Dim, "j <= i' + right; may be negative: -1 is strictly causal"),
        attr("window", AttrKind::Dim, "the nearest tokens: i' - window < j, and j < i' + window without causal"),
        attr("sink", AttrKind::Dim, "with window: the first tokens, which the window does not cut"),
        attr("block", AttrKind::Int, "i' and j in the same block of this many tokens"),
        attr("dilation", AttrKind::Int, "i' - j a multiple of it"),
        attr("align", AttrKind::Name(&["start", "end"]), "start: i' is i; end, the default: as said above"),
    ],
    infer,
    structure: Some(structure),
    meaning: Meaning::Eval(eval),
    expand: None,
    laws: &[Law::LinearIn(0)],
};

/// The support that the attributes describe, for rows at `at`.
fn support(attrs: &Attrs, at: Position) -> Result<Support, DimError> {
    let one = Dim::constant(1);
    let mut outer = Vec::new();
    if attrs.flag("causal") {
        outer.push(Condition::AtMost { by: Dim::constant(0), at });
    }
    if let Some(left) = attrs.dim("left") {
        outer.push(Condition::AtLeast { by: left.scale(-1)?, at });
    }
    if let Some(right) = attrs.dim("right") {
        outer.push(Condition::AtMost { by: right.clone(), at });
    }
    if let Some(size) = attrs.int("block") {
        outer.push(Condition::SameBlock { size, at });
    }
    if let Some(step) = attrs.int("dilation") {
        outer.push(Condition::Dilated { step, at });
    }
    let outer = Support::all(outer);
    let Some(window) = attrs.dim("window") else { return Ok(outer) };
    let mut inside = vec![Condition::AtLeast { by: one.sub(window)?, at }];
    if !attrs.flag("causal") {
        inside.push(Condition::AtMost { by: window.sub(&one)?, at });
    }
    let mut inside = Support::all(inside);
    if let Some(sink) = attrs.dim("sink") {
        inside = inside.union(&Support::only(Condition::FirstColumns(sink.clone())));
    }
    Ok(outer.intersect(&inside))
}

fn position(attrs: &Attrs, align: Align) -> Position {
    if attrs.name("align") == Some("start") { Position::Row } else { align.into() }
}

fn infer(call: &Call<'_>) -> Result<Vec<Type>, Vec<Fault>> {
    let m = call.mix(0)?;
    let mut faults: Vec<Fault> = [("block", 1), ("dilation", 1), ("window", 0), ("sink", 0)]
        .into_iter()
        .filter(|(name, low)| call.attrs.int(name).is_some_and(|n| n < *low))
        .map(|(name, low)| Fault::attr(name, format!("`{name}` must be at least {low}")))
        .collect();
    if call.attrs.has("sink") && !call.attrs.has("window") {
        faults.push(
            Fault::attr("sink", "`sink` says which tokens a window does not cut, but there is no window")
                .help("add `window = ...`"),
        );
    }
    if let Err(e) = support(call.attrs, Position::Row) {
        faults.push(e.into());
    }
    if faults.is_empty() { Ok(vec![Type::Mix(m.clone())]) } else { Err(faults) }
}

fn structure(call: &Call<'_>) -> Structure {
    let s = call.structure(0);
    let align = call.mix(0).map(|m| m.align).unwrap_or_default();
    let own = support(call.attrs, position(call.attrs, align)).unwrap_or_else(|_| Support::only(Condition::Data));
    // Blocks and sinks are places, the other conditions distances.
    let by_distance = !call.attrs.has("block") && !call.attrs.has("sink");
    Structure {
        support: s.support.intersect(&own),
        non_negative: s.non_negative,
        toeplitz: s.toeplitz && by_distance,
        rank: s.rank,
    }
}

fn eval(e: &Eval<'_>) -> Result<Vec<RefValue>, String> {
    let (left, right) = (e.attr_dim("left")?, e.attr_dim("right")?);
    let (window, sink) = (e.attr_dim("window")?, e.attr_dim("sink")?.unwrap_or(0));
    let (block, dilation) = (e.attrs.int("block"), e.attrs.int("dilation"));
    let (causal, from_start) = (e.attrs.flag("causal"), e.attrs.name("align") == Some("start"));
    by_row(e, move |row, place| {
        let p = if from_start { place.i as i64 } else { place.position };
        row.restrict(|j| {
            let j = j as i64;
            let back = p - j;
            let in_window = |w: i64| back < w && (causal || -back < w);
            (!causal || back >= 0)
                && left.is_none_or(|l| back <= l)
                && right.is_none_or(|r| -back <= r)
                && window.is_none_or(|w| j < sink || in_window(w))
                && block.is_none_or(|b| p.div_euclid(b) == j.div_euclid(b))
                && dilation.is_none_or(|d| back.rem_euclid(d) == 0)
        })
    })
}
