//! What recurrent layers share: S_t = decay_t S_{t-1} + b_t x_t^T, y_t = c_t^T S_t with a state S `[.., N, P]` that may
//! be given and returned. Layouts of decays, the type rule of the state, the recurrence itself for the reference, and
//! the state's part of expansions.
//!
//! Decays are only ever summed from an end of the sequence, never subtracted from one another.

use super::rules::View;
use super::steps::{
    Step, broadcast, cast, column, plain, shape, slice, spread_heads, sum_keep, swap_last, to_batch, widen, with_rank,
};
use crate::attr::Attrs;
use crate::batch;
use crate::diag::Fault;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op::Call;
use crate::program::{Builder, ValueId};
use crate::reference::{Eval, RefValue};
use crate::tensor::Tensor;
use crate::ty::{TensorType, Type};

/// The layout of log decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// `[.., T]`: one a token.
    Token,
    /// `[.., T, N]` or `[.., T, 1]`: one for every channel of the state.
    Channel,
}

impl Decay {
    /// The layout of `a` beside data of `rank` axes, or `None` when it has neither. Where both would fit (T = N), the
    /// one of the data's rank is per channel and any of fewer axes is per token.
    pub fn of(a: &TensorType, rank: usize, tokens: &Dim, channels: &Dim) -> Option<Decay> {
        let token = a.shape.last() == Some(tokens);
        let channel = matches!(a.shape.as_slice(), [.., t, n] if t == tokens && (n == channels || n.is(1)));
        match (token, channel) {
            (true, true) if a.rank() >= rank => Some(Decay::Channel),
            (true, _) => Some(Decay::Token),
            (false, true) => Some(Decay::Channel),
            (false, false) => None,
        }
    }

    /// As [`Decay::of`] for operand `k`, with the fault that says what is expected; `None` when it is absent.
    pub fn of_operand(
        call: &Call<'_>,
        k: usize,
        rank: usize,
        tokens: &Dim,
        channels: &Dim,
    ) -> Result<Option<Decay>, Vec<Fault>> {
        let Some(a) = call.ty(k).and_then(Type::as_tensor) else { return Ok(None) };
        let decay = Decay::of(a, rank, tokens, channels).ok_or_else(|| {
            vec![
                Fault::operand(k, format!("log decays do not fit: found {a}"))
                    .help(format!("expected [.., {tokens}], [.., {tokens}, 1] or [.., {tokens}, {channels}]")),
            ]
        })?;
        Ok(Some(decay))
    }

    /// How many axes belong to an index of the batch dims.
    pub fn tail(self) -> usize {
        match self {
            Decay::Token => 1,
            Decay::Channel => 2,
        }
    }
}

/// The element type of the returned state: the given state's, else the written one where it may stand beside the data,
/// else the data's.
pub fn state_dtype(call: &Call<'_>, data: DType, state: usize) -> DType {
    let written = call.written.get(1).and_then(Option::as_ref).map(Type::dtype);
    match (call.ty(state), written) {
        (Some(s), _) => s.dtype(),
        (None, Some(w)) if w == data.accumulator() => w,
        _ => data,
    }
}

/// The result types: y `[batch.., y_tail]` and, with `{state}`, the state `[batch.., state_tail]`, whose operand is
/// number `state` and may be absent.
pub fn result_types<'a>(
    call: &Call<'a>,
    data: DType,
    mut lead: Vec<(usize, &'a [Dim])>,
    y_tail: [Dim; 2],
    state_tail: [Dim; 2],
    state: usize,
) -> Result<Vec<Type>, Vec<Fault>> {
    if let Some(s) = call.ty(state).and_then(Type::as_tensor) {
        let tail = s.rank().checked_sub(2).map(|n| s.shape.split_at(n));
        let Some((s_lead, _)) = tail.filter(|(_, tail)| *tail == state_tail.as_slice()) else {
            let [n, p] = &state_tail;
            return Err(vec![Fault::operand(state, format!("the state must be [.., {n}, {p}], found {s}"))]);
        };
        lead.push((state, s_lead));
    }
    let batch = batch::join(&lead, true)?;
    let typed = |dtype: DType, tail: [Dim; 2]| Type::tensor(dtype, batch.iter().cloned().chain(tail).collect());
    let mut types = vec![typed(data, y_tail)];
    if call.attrs.flag("state") {
        types.push(typed(state_dtype(call, data, state), state_tail));
    }
    Ok(types)
}

/// Operands of a recurrence: c, b `[.., tokens, N]`, x `[.., tokens, P]`, the state before the first token.
pub struct Recurrence {
    /// Reads the state.
    pub c: View,
    /// Writes it.
    pub b: View,
    /// The data.
    pub x: View,
    /// `[.., N, P]`, zeros when absent.
    pub state: Option<View>,
}

impl Recurrence {
    /// y and, when the call has a second result, the last state. `decay(out, at, j, n)` is the factor of channel n at
    /// token j for batch index `at` of the joined dims `out`. Fewer rows than tokens read the last states; rows before
    /// the first token are zero.
    pub fn run(
        &self,
        e: &Eval<'_>,
        decay: impl Fn(&[usize], &[usize], usize, usize) -> f64,
    ) -> Result<Vec<RefValue>, String> {
        let shape = e.result_shape(0)?;
        let (out, tail) = shape.split_at(shape.len() - 2);
        let (rows, width) = (tail[0], tail[1]);
        let (tokens, channels) = (self.b.axis_len(2), self.b.axis_len(1));
        let mut y = Vec::with_capacity(shape.iter().product());
        let mut last = Vec::new();
        batch::for_each(out, |at| {
            let [c0, b0, x0] = [&self.c, &self.b, &self.x].map(|v| v.base(out, at));
            let mut s = initial(self.state.as_ref(), out, at, channels * width);
            y.extend(std::iter::repeat_n(0.0, rows.saturating_sub(tokens) * width));
            for j in 0..tokens {
                for n in 0..channels {
                    let (keep, write) = (decay(out, at, j, n), self.b.at(b0 + j * channels + n));
                    for p in 0..width {
                        let cell = &mut s[n * width + p];
                        // A factor of 0 forgets whatever was there.
                        *cell = if keep == 0.0 { 0.0 } else { keep * *cell } + write * self.x.at(x0 + j * width + p);
                    }
                }
                if let Some(i) = (j + rows).checked_sub(tokens) {
                    let read = |n: usize| self.c.at(c0 + i * channels + n);
                    y.extend((0..width).map(|p| (0..channels).map(|n| read(n) * s[n * width + p]).sum::<f64>()));
                }
            }
            last.extend(s);
        });
        results(e, y, last)
    }
}

/// Log decays of the reference.
pub struct LogDecay {
    view: View,
    decay: Decay,
}

impl LogDecay {
    /// Operand `a` beside the `[.., tokens, features]` operands `data`, of which `write` has the state's channels.
    pub fn new(e: &Eval<'_>, a: usize, data: [usize; 3], write: usize) -> Result<LogDecay, String> {
        let tensor = |k: usize| e.types.get(k).copied().flatten().and_then(Type::as_tensor);
        let rank = data.iter().filter_map(|k| tensor(*k)).map(TensorType::rank).max().unwrap_or(0);
        let decay = match (tensor(a), tensor(write).map(|t| t.shape.as_slice())) {
            (Some(a), Some([.., tokens, channels])) => Decay::of(a, rank, tokens, channels),
            _ => None,
        };
        let decay = decay.ok_or("log decays do not fit")?;
        Ok(LogDecay { view: View::new(e, a, decay.tail())?, decay })
    }

    /// exp(a) of channel n at token j for a batch index.
    pub fn factor(&self, out: &[usize], at: &[usize], j: usize, n: usize) -> f64 {
        let base = self.view.base(out, at);
        let place = match self.decay {
            Decay::Token => j,
            Decay::Channel => {
                let channels = self.view.axis_len(1);
                j * channels + if channels == 1 { 0 } else { n }
            }
        };
        self.view.at(base + place).exp()
    }
}

/// The state before the first token for a batch index: `len` numbers.
pub fn initial(state: Option<&View>, out: &[usize], at: &[usize], len: usize) -> Vec<f64> {
    match state {
        Some(s) => (0..len).map(|k| s.at(s.base(out, at) + k)).collect(),
        None => vec![0.0; len],
    }
}

/// The results of a recurrent layer: y, and the state when the call has it.
pub fn results(e: &Eval<'_>, y: Vec<f64>, state: Vec<f64>) -> Result<Vec<RefValue>, String> {
    let mut results = vec![Tensor::floats(&e.result_shape(0)?, y).into()];
    if e.results.len() > 1 {
        results.push(Tensor::floats(&e.result_shape(1)?, state).into());
    }
    Ok(results)
}

/// The factors that decays put between tokens and the ends of the sequence.
#[derive(Clone, Copy)]
pub struct Factors {
    /// `[.., T, N or 1]`: from before the first token to after token t, t's own decay included.
    pub from_start: ValueId,
    /// `[.., T, N or 1]`: from after token t to after the last.
    pub to_end: ValueId,
    /// `[.., N or 1, 1]`: of all tokens.
    pub whole: ValueId,
}

impl Factors {
    /// Of log decays `a`.
    pub fn of_logs(b: &mut Builder, a: ValueId, decay: Decay) -> Result<Factors, Vec<Fault>> {
        let a = widen(b, a)?;
        let a = if decay == Decay::Token { column(b, a)? } else { a };
        let axes = shape(b, a);
        let tokens = axes[axes.len() - 2].clone();
        let along = Attrs::new().with_int("axis", -2);
        let sums = b.op("cumsum", &[a], along.clone())?;
        let from_start = plain(b, "exp", &[sums])?;
        // The decays after token t: shifted by one, so that nothing has to be subtracted.
        let padded = b.op("pad", &[a], along.clone().with_int("after", 1))?;
        let end = tokens.add(&Dim::constant(1)).map_err(|e| vec![e.into()])?;
        let later = slice(b, padded, -2, Dim::constant(1), end)?;
        let sums = b.op("cumsum", &[later], along.with_flag("reverse", true))?;
        let to_end = plain(b, "exp", &[sums])?;
        let total = sum_keep(b, a, -2)?;
        let total = plain(b, "exp", &[total])?;
        let whole = swap_last(b, total)?;
        Ok(Factors { from_start, to_end, whole })
    }
}

/// The product of `v [.., T, N]` and factors `[.., T, N or 1]`, both laid out for the heads of `batch`.
fn decayed(b: &mut Builder, v: ValueId, factors: Option<ValueId>, batch: &[Dim]) -> Step {
    let v = widen(b, v)?;
    let v = spread_heads(b, v, batch, 2)?;
    let Some(f) = factors else { return Ok(v) };
    let f = spread_heads(b, f, batch, 2)?;
    plain(b, "mul", &[v, f])
}

/// What the state before the first token adds to y: `(c_t * factors from the start)^T s0`, `[.., T, P]`.
pub fn from_state(b: &mut Builder, c: ValueId, factors: Option<Factors>, s0: ValueId, batch: &[Dim]) -> Step {
    let c = decayed(b, c, factors.map(|f| f.from_start), batch)?;
    let s0 = widen(b, s0)?;
    let s0 = spread_heads(b, s0, batch, 2)?;
    plain(b, "matmul", &[c, s0])
}

/// The state after the last token, `[batch.., N, P]`: `sum_t (b_t * factors to the end) x_t^T + whole * s0`.
pub fn last_state(
    b: &mut Builder,
    write: ValueId,
    x: ValueId,
    factors: Option<Factors>,
    s0: Option<ValueId>,
    batch: &[Dim],
) -> Step {
    let write = decayed(b, write, factors.map(|f| f.to_end), batch)?;
    let x = widen(b, x)?;
    let x = spread_heads(b, x, batch, 2)?;
    let mut s = b.op("matmul", &[write, x], Attrs::new().with_flag("transpose_a", true))?;
    if let Some(s0) = s0 {
        let s0 = decayed(b, s0, factors.map(|f| f.whole), batch)?;
        s = plain(b, "add", &[s, s0])?;
    }
    to_batch(b, s, batch, 2)
}

/// The operator `semiseparable` of c, b and log decays (absent ones are 0) with the ranks it expects: the decays' rank
/// is that of c or one less.
pub fn semiseparable(b: &mut Builder, c: ValueId, write: ValueId, decays: Option<(ValueId, Decay)>) -> Step {
    let rank_of = |b: &Builder, v: ValueId| shape(b, v).len();
    let mut rank = rank_of(b, c).max(rank_of(b, write));
    if let Some((a, decay)) = decays {
        rank = rank.max(rank_of(b, a) + 2 - decay.tail());
    }
    let c = with_rank(b, c, rank)?;
    let write = with_rank(b, write, rank)?;
    let a = match decays {
        Some((a, decay)) => {
            let a = widen(b, a)?;
            with_rank(b, a, rank + decay.tail() - 2)?
        }
        None => {
            let dtype = b.ty(c).dtype().accumulator();
            let mut axes = vec![Dim::constant(1); rank - 2];
            axes.push(shape(b, c)[rank - 2].clone());
            super::steps::splat(b, 0.0, dtype, axes)
        }
    };
    plain(b, "semiseparable", &[c, write, a])
}

/// The parts of a recurrent layer's expansion, once the operator is built.
pub struct Parts<'a> {
    /// The mixing operator of the tokens alone.
    pub operator: ValueId,
    /// Reads the state, `[.., T, N]`.
    pub c: ValueId,
    /// Writes it.
    pub write: ValueId,
    /// The data, `[.., T, P]`.
    pub x: ValueId,
    /// The state before the first token.
    pub s0: Option<ValueId>,
    /// Result types of the call.
    pub types: &'a [Type],
}

/// y = apply(operator, x) with the state's part, and the last state when the call returns it. `factors` is asked for
/// only when a state is read or returned.
pub fn finish(
    b: &mut Builder,
    parts: &Parts<'_>,
    factors: impl FnOnce(&mut Builder) -> Result<Option<Factors>, Vec<Fault>>,
) -> Result<Vec<ValueId>, Vec<Fault>> {
    let Parts { operator, c, write, x, s0, types } = *parts;
    let whole_shape = types[0].dims();
    let batch = &whole_shape[..whole_shape.len() - 2];
    let mut y = plain(b, "apply", &[operator, x])?;
    let factors = if s0.is_some() || types.len() > 1 { factors(b)? } else { None };
    if let Some(s0) = s0 {
        let part = from_state(b, c, factors, s0, batch)?;
        y = widen(b, y)?;
        y = spread_heads(b, y, batch, 2)?;
        y = plain(b, "add", &[y, part])?;
    }
    y = cast(b, y, types[0].dtype())?;
    y = spread_heads(b, y, batch, 2)?;
    y = broadcast(b, y, whole_shape.clone())?;
    let mut results = vec![y];
    if let Some(ty) = types.get(1) {
        let s = last_state(b, write, x, factors, s0, batch)?;
        results.push(cast(b, s, ty.dtype())?);
    }
    Ok(results)
}
