//! What the rules' third column may say: small functions over types, supports, attributes and constants, by name.
//! Each gives `None` where it does not hold or cannot be computed, and the rule then does not apply.

mod masks;
mod permuted;
mod products;
mod written;

use super::facts::{Surroundings, ValueFact};
use egg::Id;
use mixc_ir::attr::{AttrValue, Attrs, Real};
use mixc_ir::dim::Dim;
use mixc_ir::support::{Condition, Position};
use mixc_ir::ty::{MixType, TensorType, Type};

/// What a function is given.
#[derive(Clone, Debug)]
pub enum Argument {
    /// A value, and its term or class.
    Value(ValueFact, Id),
    /// An attribute, or what is not given.
    Attr(Option<AttrValue>),
    /// The attributes of a spread.
    Attrs(Attrs),
    /// A number that stands in the rule.
    Number(f64),
    /// A word that stands in the rule.
    Word(String),
}

/// What a function gives.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The condition holds.
    Holds,
    /// An attribute, or that it is not given.
    Attr(Option<AttrValue>),
    /// The attributes of a spread.
    Attrs(Attrs),
    /// A constant with one number everywhere.
    Constant(f64, Type),
    /// A written type.
    Written(Type),
}

/// A condition or computation.
pub type Function = fn(&Surroundings, &[Argument]) -> Option<Outcome>;

/// The function of that name.
pub fn find(name: &str) -> Option<Function> {
    TABLE.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
}

/// All functions.
const TABLE: &[(&str, Function)] = &[
    ("number", |_, a| holds(number(a, 0).is_some())),
    ("number_first", |_, a| holds(number(a, 0).is_some() && number(a, 1).is_none())),
    ("one", |_, a| holds(number(a, 0) == Some(1.0))),
    ("positive", |_, a| holds(value(a, 0)?.positive)),
    ("not_positive", |_, a| holds(!value(a, 0)?.positive)),
    ("nonempty_rows", nonempty_rows),
    ("no_zero_sums", no_zero_sums),
    ("same_rank", |_, a| holds(value(a, 0)?.ty.dims().len() == value(a, 1)?.ty.dims().len())),
    ("same_type", |_, a| holds(value(a, 0)?.ty == value(a, 1)?.ty)),
    ("fits", fits),
    ("keeps_position", |_, a| holds(!attrs(a, 0)?.flag("align"))),
    ("before", before),
    ("product", product),
    ("quotient", quotient),
    ("number_like", number_like),
    ("reciprocal_like", |_, a| constant(1.0 / number(a, 0).filter(|x| *x != 0.0)?, a, 1)),
    ("log_like", |_, a| constant(number(a, 0).filter(|x| *x > 0.0)?.ln(), a, 1)),
    ("attr_number", |_, a| Some(Outcome::Attr(Some(float(number(a, 0)?))))),
    ("zero_decays", zero_decays),
    ("log_decays", log_decays),
    ("ones_column", ones_column),
    ("column_shape", |_, a| appended_shape(a, 1)),
    ("matrix_shape", |_, a| appended_shape(a, 2)),
    ("strided_view", |_, a| permuted::view(a, true)),
    ("view_of_runs", |_, a| permuted::view(a, false)),
    ("tokens_exchanged", |_, a| permuted::tokens_exchanged(a)),
    ("shape_of", |_, a| dims_attr(tensor(a, 0)?.shape.clone())),
    ("shape_of_single_elements", |_, a| permuted::single_elements(a)),
    ("is_sum", |_, a| written::is_sum(a)),
    ("same_axis", |_, a| written::same_axis(a)),
    ("second_last_axis", |_, a| written::second_last_axis(a)),
    ("exchanging", |_, a| written::exchanging(a)),
    ("exchanging_product", |_, a| written::exchanging_product(a)),
    ("exchanged_operands", |_, a| written::exchanged_operands(a)),
    ("factor_shape", |_, a| written::factor_shape(a)),
    ("number_over", |_, a| written::number_over(a)),
    ("column_of", |_, a| written::column_of(a)),
    ("row_of", |_, a| written::row_of(a)),
    ("one_axis_less", |_, a| written::one_axis_less(a)),
    ("marked", |_, a| written::marked(a)),
    ("unmarked", |_, a| written::unmarked(a)),
    ("unbiased", |_, a| written::unbiased(a)),
    ("counted", |_, a| written::counted(a)),
    ("earlier", |_, a| written::earlier(a)),
    ("behind", |_, a| written::behind(a)),
    ("base_shape", |_, a| written::base_shape(a)),
    ("minus_infinity", |_, a| holds(number(a, 0) == Some(f64::NEG_INFINITY))),
    ("zero", |_, a| holds(number(a, 0) == Some(0.0))),
    ("decay_column_shape", decay_column_shape),
    ("decay_shape", decay_shape),
    ("token_column", token_column),
    ("wide_number", wide_number),
    ("element_type", element_type),
    ("lora_factor", lora_factor),
    ("negated_int", |_, a| Some(Outcome::Attr(Some(AttrValue::Dim(Dim::constant(-int(a, 0)?)))))),
    ("negative_int", |_, a| holds(int(a, 0).is_some_and(|n| n < 0))),
    ("canonical_mask", masks::canonical_mask),
    ("both_masks", masks::both_masks),
    ("transposed_mask", masks::transposed_mask),
    ("masks_out_of_order", masks::masks_out_of_order),
    ("held", masks::held),
    ("axis_from_end", axis_from_end),
    ("composed_perm", composed_perm),
    ("identity_perm", identity_perm),
    ("swaps_matrix", swaps_matrix),
    ("toggled_a", |_, a| toggled(a, "transpose_a")),
    ("toggled_b", |_, a| toggled(a, "transpose_b")),
    ("last_axis", last_axis),
    ("association_pays", products::association_pays),
    ("pair_reversed", products::pair_reversed),
    ("pairs", products::pairs),
    ("rows_of_number", products::rows_of_number),
    ("time_invariant", time_invariant),
    ("allowed", allowed),
    ("allowed_or", allowed_or),
    ("searchable", searchable),
];

/// Conditions without which a rule would still be right, and what they are for. All others a rule is wrong without.
#[cfg(test)]
pub const GUIDES: &[(&str, Guide)] = &[
    ("before", Guide::Order),
    ("masks_out_of_order", Guide::Order),
    ("number_first", Guide::Order),
    ("pair_reversed", Guide::Order),
    ("not_positive", Guide::Shorter),
    ("association_pays", Guide::Gain),
];

/// What a condition is for that truth does not need.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guide {
    /// Without it the rule would undo itself without end.
    Order,
    /// Where it does not hold, another rule gives something shorter.
    Shorter,
    /// Where it does not hold, nothing is gained.
    Gain,
}

fn holds(condition: bool) -> Option<Outcome> {
    condition.then_some(Outcome::Holds)
}

fn value(a: &[Argument], k: usize) -> Option<&ValueFact> {
    match a.get(k)? {
        Argument::Value(v, _) => Some(v),
        _ => None,
    }
}

fn tensor(a: &[Argument], k: usize) -> Option<&TensorType> {
    value(a, k)?.ty.as_tensor()
}

fn mix(a: &[Argument], k: usize) -> Option<&MixType> {
    value(a, k)?.ty.as_mix()
}

fn attr(a: &[Argument], k: usize) -> Option<&AttrValue> {
    match a.get(k)? {
        Argument::Attr(value) => value.as_ref(),
        _ => None,
    }
}

fn attrs(a: &[Argument], k: usize) -> Option<&Attrs> {
    match a.get(k)? {
        Argument::Attrs(attrs) => Some(attrs),
        _ => None,
    }
}

fn int(a: &[Argument], k: usize) -> Option<i64> {
    match attr(a, k)? {
        AttrValue::Dim(d) => d.as_constant(),
        _ => None,
    }
}

/// A number: of the rule, of an attribute, or of a constant value.
fn number(a: &[Argument], k: usize) -> Option<f64> {
    match a.get(k)? {
        Argument::Number(x) => Some(*x),
        Argument::Attr(Some(AttrValue::Float(x))) => Some(x.0),
        Argument::Value(v, _) => v.splat,
        _ => None,
    }
}

/// As [`number`], with 1 for an attribute that is not given.
fn factor(a: &[Argument], k: usize) -> Option<f64> {
    match a.get(k)? {
        Argument::Attr(None) => Some(1.0),
        _ => number(a, k),
    }
}

fn float(x: f64) -> AttrValue {
    AttrValue::Float(Real(x))
}

/// A factor as an attribute whose default is 1.
fn factor_attr(x: f64) -> Option<Outcome> {
    x.is_finite().then(|| Outcome::Attr((x != 1.0).then(|| float(x))))
}

/// A scalar constant of the element type of argument `k`. Numbers that a half type would round are left alone.
fn constant(x: f64, a: &[Argument], k: usize) -> Option<Outcome> {
    let dtype = value(a, k)?.ty.dtype();
    let ty = Type::tensor(dtype, Vec::new());
    (x.is_finite() && (!dtype.is_half() || dtype.round(x) == x)).then_some(Outcome::Constant(x, ty))
}

/// Whether every row of an operator has a column in its support, and there are columns.
fn nonempty_rows(around: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (m, support) = (mix(a, 0)?, &value(a, 0)?.structure.as_ref()?.support);
    // With as many rows as columns there is no row where there is no column.
    let columns = m.rows == m.cols || m.cols.bounds(&around.bounds).is_ok_and(|(low, _)| low >= 1);
    let reaches = |c: &Condition| match c {
        // The diagonal is inside.
        Condition::AtMost { by, at } => {
            m.rows == m.cols && !matches!(at, Position::Lengths(_)) && by.as_constant().is_some_and(|n| n >= 0)
        }
        Condition::AtLeast { by, at } => {
            m.rows == m.cols && !matches!(at, Position::Lengths(_)) && by.as_constant().is_some_and(|n| n <= 0)
        }
        _ => false,
    };
    holds(columns && support.regions.iter().any(|r| r.iter().all(reaches)))
}

/// Whether a regularised sum is never 0 for want of columns: `eps` is not 0, or no row is empty.
fn no_zero_sums(around: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    if number(a, 1)? != 0.0 { holds(true) } else { nonempty_rows(around, a) }
}

/// `fits(?m, ?t, n)`: the batch dims of tensor t, which are all but its last n, add none to the operator's before the
/// first, which lengths belong to. An operator without batch dims gets its first from the lengths.
fn fits(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (m, t, matrix) = (mix(a, 0)?, tensor(a, 1)?, number(a, 2)? as usize);
    holds(t.rank().saturating_sub(matrix) <= m.batch.len().max(1))
}

/// Whether the first value stands before the second in the order of the inputs: the one order that spellings share.
fn before(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    holds(value(a, 0)?.input? < value(a, 1)?.input?)
}

/// The product of factors, as an attribute whose default is 1.
fn product(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    factor_attr(factor(a, 0)? * factor(a, 1)?)
}

fn quotient(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    factor_attr(factor(a, 0)? / factor(a, 1).filter(|x| *x != 0.0)?)
}

/// A number as a scalar constant of the element type of the second argument.
fn number_like(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    constant(number(a, 0)?, a, 1)
}

/// Log decays of 0 for the rows of c `[.., T, N]`.
fn zero_decays(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    decays(0.0, tensor(a, 0)?)
}

/// Log decays for the rows of c `[.., T, N]`, of a decay that is a number above 0.
fn log_decays(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    decays(number(a, 0).filter(|g| *g > 0.0)?.ln(), tensor(a, 1)?)
}

fn decays(log: f64, c: &TensorType) -> Option<Outcome> {
    let tokens = c.shape.iter().rev().nth(1)?.clone();
    let mut shape = vec![Dim::constant(1); c.rank().checked_sub(2)?];
    shape.push(tokens);
    Some(Outcome::Constant(log, Type::tensor(c.dtype.accumulator(), shape)))
}

/// A column of ones that an operator can be applied to, of the element type of x.
fn ones_column(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (m, x) = (mix(a, 0)?, tensor(a, 1)?);
    Some(Outcome::Constant(1.0, Type::tensor(x.dtype, vec![m.cols.clone(), Dim::constant(1)])))
}

fn dims_attr(dims: Vec<Dim>) -> Option<Outcome> {
    Some(Outcome::Attr(Some(AttrValue::List(dims.into_iter().map(AttrValue::Dim).collect()))))
}

/// The dims of a tensor, then `ones` axes of length 1.
fn appended_shape(a: &[Argument], ones: usize) -> Option<Outcome> {
    let mut shape = tensor(a, 0)?.shape.clone();
    shape.extend(vec![Dim::constant(1); ones]);
    dims_attr(shape)
}

/// `(?g, ?c)`: g over the batch dims, with axes of length 1 before and after, to the rank of c `[.., T, N]` less one.
fn decay_column_shape(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (g, c) = (tensor(a, 0)?, tensor(a, 1)?);
    let mut shape = vec![Dim::constant(1); c.rank().checked_sub(2)?.checked_sub(g.rank())?];
    shape.extend(g.shape.iter().cloned());
    shape.push(Dim::constant(1));
    dims_attr(shape)
}

/// As [`decay_column_shape`], with T in the place of the last axis.
fn decay_shape(around: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let tokens = tensor(a, 1)?.shape.iter().rev().nth(1)?.clone();
    match decay_column_shape(around, a)? {
        Outcome::Attr(Some(AttrValue::List(mut dims))) => {
            *dims.last_mut()? = AttrValue::Dim(tokens);
            Some(Outcome::Attr(Some(AttrValue::List(dims))))
        }
        _ => None,
    }
}

/// The type of a column with the number of every token of q `[.., T, r]`, wide enough that they are exact at any length.
fn token_column(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let q = tensor(a, 0)?;
    let tokens = q.shape.iter().rev().nth(1)?.clone();
    Some(Outcome::Written(Type::tensor(q.dtype.accumulator(), vec![tokens, Dim::constant(1)])))
}

/// `(x, ?q)`: a constant of the type that sums of q have.
fn wide_number(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    Some(Outcome::Constant(number(a, 0)?, Type::tensor(tensor(a, 1)?.dtype.accumulator(), Vec::new())))
}

/// The element type of a tensor, as an attribute.
fn element_type(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    Some(Outcome::Attr(Some(AttrValue::Name(tensor(a, 0)?.dtype.name().into()))))
}

/// `(?alpha, ?a)`: alpha / r for a `[r, D]`.
fn lora_factor(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let rank = tensor(a, 1)?.shape.first()?.as_constant().filter(|r| *r > 0)?;
    constant(number(a, 0)? / rank as f64, a, 1)
}

/// `(?x, ?axis)`: the axis counted from the end; `None` when it is.
fn axis_from_end(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (rank, axis) = (tensor(a, 0)?.rank() as i64, int(a, 1)?);
    (axis >= 0).then(|| Outcome::Attr(Some(AttrValue::Dim(Dim::constant(axis - rank)))))
}

/// The permutation of axes as numbers from the start.
fn perm(a: &[Argument], k: usize) -> Option<Vec<usize>> {
    let AttrValue::List(items) = attr(a, k)? else { return None };
    let n = items.len() as i64;
    items
        .iter()
        .map(|v| match v {
            AttrValue::Dim(d) => d.as_constant().map(|x| if x < 0 { x + n } else { x }),
            _ => None,
        })
        .map(|x| x.filter(|x| (0..n).contains(x)).map(|x| x as usize))
        .collect()
}

/// One permutation for two, the first of which is applied first.
fn composed_perm(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (p, q) = (perm(a, 0)?, perm(a, 1)?);
    let composed = q.iter().map(|&k| p.get(k).copied()).collect::<Option<Vec<_>>>()?;
    dims_attr(composed.into_iter().map(Dim::from).collect())
}

fn identity_perm(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    holds(perm(a, 0)?.iter().enumerate().all(|(k, p)| k == *p))
}

/// Whether a permutation exchanges the last two axes and nothing else.
fn swaps_matrix(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let mut p = perm(a, 0)?;
    let n = p.len();
    if n < 2 {
        return None;
    }
    p.swap(n - 2, n - 1);
    holds(p.iter().enumerate().all(|(k, p)| k == *p))
}

/// The attributes with a flag the other way.
fn toggled(a: &[Argument], name: &str) -> Option<Outcome> {
    let given = attrs(a, 0)?;
    let mut out = Attrs::new().with_flag(name, !given.flag(name));
    for (other, value) in given.iter().filter(|(n, _)| *n != name) {
        out = out.with(other, value.clone());
    }
    Some(Outcome::Attrs(out))
}

/// `(?x, ?axis)`: the axis, -1 when not given, is the last.
fn last_axis(_: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let rank = tensor(a, 0)?.rank() as i64;
    let axis = match a.get(1)? {
        Argument::Attr(None) => -1,
        _ => int(a, 1)?,
    };
    holds(axis == -1 || axis == rank - 1)
}

/// `(?c, ?b, ?a)`: what a semiseparable operator is made of is alike at all tokens, of which there is at least one.
fn time_invariant(around: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let rank = tensor(a, 0)?.rank();
    let alike = |k: usize| {
        let v = value(a, k)?;
        // Decays may have no axis over states.
        let axis = if k < 2 || v.ty.dims().len() == rank { 1 } else { 0 };
        (v.alike >> axis & 1 == 1).then_some(())
    };
    (0..3).try_for_each(alike)?;
    let tokens = &tensor(a, 0)?.shape[rank.checked_sub(2)?];
    holds(tokens.bounds(&around.bounds).is_ok_and(|(low, _)| low >= 1))
}

/// `allowed(name, parameter)`: the parameter of an approximation that the user allows.
fn allowed(around: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let [Argument::Word(name), Argument::Word(parameter), ..] = a else { return None };
    Some(Outcome::Attr(Some(around.approximations.get(name)?.get(parameter)?.clone())))
}

/// As [`allowed`], with an integer to use when the user does not say.
fn allowed_or(around: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let [Argument::Word(name), Argument::Word(parameter), Argument::Number(default)] = a else { return None };
    let given = around.approximations.get(name)?.get(parameter).cloned();
    Some(Outcome::Attr(Some(given.unwrap_or(AttrValue::Dim(Dim::constant(*default as i64))))))
}

/// `(?m, ?k)`: a tree search can find k keys a row: the support is known, only looks back, and may have more columns.
fn searchable(around: &Surroundings, a: &[Argument]) -> Option<Outcome> {
    let (v, k) = (value(a, 0)?, attr(a, 1)?);
    let (m, support) = (v.ty.as_mix()?, &v.structure.as_ref()?.support);
    let AttrValue::Dim(k) = k else { return None };
    let more = m.cols.bounds(&around.bounds).is_ok_and(|(_, high)| k.as_constant().is_none_or(|k| high > k));
    let back = support.below_diagonal(m.align.into(), &m.rows, &m.cols, &around.bounds);
    holds(more && back && support.is_exact())
}
