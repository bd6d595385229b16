//! The programs of a transform: one a stage, from tokens to planes of numbers and back.
//!
//! Planes are `[lead.., 2, length channels]`: real parts, then imaginary parts, position by position with all channels of
//! a position side by side, so that a part of a block is one run of neighbours whatever the number of channels.

use super::butterfly::{Complex, Numbers};
use super::plan::{Plan, Stage, root};
use crate::forms::blocks::once_when;
use crate::forms::{Ending, Producer, capacity};
use crate::lower::{Context, Failure, Lambda, Scribe};
use mixc_ir::dim::Dim;
use mixc_ir::dtype::DType;
use mixc_ir::expr::TileId;
use mixc_ir::expr::{COL, Expr, ROW, SlowId};
use mixc_ir::lowered::BufferId;
use mixc_ir::tile::{Extent, TileBuilder, TileType};

/// Elements of a tile of one number of a butterfly: with 8 complex numbers in and out it fills half of a first-level
/// cache.
const BLOCK: usize = 512;
/// Columns of the tiles of a product with a matrix of roots.
const WIDE: usize = 128;

/// A plan with its tables, for tokens of some shape.
#[derive(Clone, Debug)]
pub struct Transform {
    /// The factoring.
    pub plan: Plan,
    /// Whether stages are products with dense matrices.
    pub dense: bool,
    /// The form that the programs are part of.
    pub form: &'static str,
    /// Type of the numbers, f32 or f64.
    pub dtype: DType,
    /// The turns of every stage, `[blocks, radix, 2]`.
    turns: Vec<Lambda>,
    /// For dense stages the roots of unity, `[3, radix, radix]`: cosines, sines, negative sines.
    roots: Vec<Lambda>,
}

/// Sequences that enter a transform, as functions of `[lead.., position, channel]`.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Batch axes and blocks of positions.
    pub lead: Vec<Dim>,
    /// Channels.
    pub channels: Dim,
    /// Real parts; 0 past the end.
    pub re: Lambda,
    /// Imaginary parts, when not 0.
    pub im: Option<Lambda>,
    /// Where, over the lead axes, no position is past the end, with the elements there: loads without guards.
    pub inside: Option<(Expr, Lambda)>,
}

/// What leaves a transform: real parts, stored as the producer says.
pub struct Results<'p> {
    /// Batch axes and blocks of positions.
    pub lead: Vec<Dim>,
    /// Channels.
    pub channels: Dim,
    /// How they end.
    pub end: &'p Producer,
    /// Where they go.
    pub out: BufferId,
    /// Positions of the whole sequence: what is past them is dropped.
    pub total: Dim,
}

/// A number of positions in one program: the tiles' axes and what their elements are.
struct Space {
    rows: Extent,
    cols: Extent,
    /// Index along the last axis of the planes of part 0.
    first: Expr,
    /// Distance of parts there.
    part: Expr,
    /// Block of the stage.
    block: Expr,
    /// Position of part 0 and channel, where rows are positions.
    place: Option<(Expr, Expr)>,
}

impl Transform {
    /// The tables of a plan.
    pub fn new(cx: &mut Context<'_>, plan: Plan, dense: bool, dtype: DType, form: &'static str) -> Transform {
        let number = |n: usize| Dim::constant(n as i64);
        let (mut turns, mut roots) = (Vec::new(), Vec::new());
        for (k, s) in plan.stages.iter().enumerate() {
            let shape = [number(s.blocks), number(s.radix), number(2)];
            turns.push(cx.constant("turns", dtype, &shape, Plan::turns(s, &plan.stages[..k])));
            if dense {
                let q = s.radix;
                let part = |f: fn((f64, f64)) -> f64| (0..q * q).map(move |n| f(root(n / q * (n % q), q)));
                let table = part(|w| w.0).chain(part(|w| w.1)).chain(part(|w| -w.1)).collect();
                roots.push(cx.constant("roots", dtype, &[number(3), number(q), number(q)], table));
            }
        }
        Transform { plan, dense, form, dtype, turns, roots }
    }

    /// The tables.
    pub fn tables(&self) -> impl Iterator<Item = BufferId> {
        self.turns.iter().chain(&self.roots).flat_map(|l| crate::forms::buffers_of(&l.body))
    }

    fn planes(
        &self,
        cx: &mut Context<'_>,
        lead: &[Dim],
        channels: &Dim,
        reads: &[BufferId],
    ) -> Result<BufferId, Failure> {
        let width = channels.scale(self.plan.length as i64).map_err(|e| cx.dim_failure(e))?;
        let mut shape = lead.to_vec();
        shape.extend([Dim::constant(2), width]);
        let reads: Vec<BufferId> = reads.iter().copied().chain(self.tables()).collect();
        Ok(cx.target(self.dtype, &shape, &reads))
    }

    /// The transform of tokens, every number times `factor`: planes.
    pub fn forward(&self, cx: &mut Context<'_>, tokens: &Tokens, factor: f64) -> Result<BufferId, Failure> {
        let mut reads = crate::forms::buffers_of(&tokens.re.body);
        reads.extend(tokens.im.iter().flat_map(|l| crate::forms::buffers_of(&l.body)));
        let last = self.plan.stages.len() - 1;
        let mut now = None;
        for k in 0..self.plan.stages.len() {
            let factor = if k == last { factor } else { 1.0 };
            let to =
                self.planes(cx, &tokens.lead, &tokens.channels, now.as_ref().map_or(&reads, std::slice::from_ref))?;
            match now {
                None => self.enter(cx, tokens, to, factor)?,
                Some(from) => self.step(cx, k, false, &tokens.lead, &tokens.channels, from, to, factor)?,
            }
            now = Some(to);
        }
        now.ok_or_else(|| cx.fail("a transform has a stage"))
    }

    /// The inverse of planes, not divided by the length.
    pub fn inverse(&self, cx: &mut Context<'_>, planes: BufferId, results: &Results<'_>) -> Result<(), Failure> {
        let mut now = planes;
        for k in (1..self.plan.stages.len()).rev() {
            let to = self.planes(cx, &results.lead, &results.channels, &[now])?;
            self.step(cx, k, true, &results.lead, &results.channels, now, to, 1.0)?;
            now = to;
        }
        self.leave(cx, now, results)
    }

    fn name(&self, stage: &Stage, inverse: bool) -> String {
        let kind = if self.dense { "dense" } else { "radix" };
        format!("{}_{kind}{}", if inverse { "inverse" } else { "forward" }, stage.radix)
    }

    /// Tiles whose rows are positions (of a dense stage: parts) and whose columns are channels, for the first stage.
    fn by_position(&self, cx: &Context<'_>, s: &mut Scribe, stage: &Stage, channels: &Dim) -> Space {
        let cap = capacity(cx, channels, if self.dense { WIDE } else { 64 });
        let (c0, cols) = s.grid_blocks("d", channels, cap);
        let rows_of = |n: usize| Dim::constant(n as i64);
        let (r, rows) = if self.dense {
            let r = if stage.run == 1 { Expr::int(0) } else { s.b.grid("r", Expr::int(stage.run as i64)) };
            (r, Extent::fixed(stage.radix))
        } else {
            let (r0, rows) = s.grid_blocks("r", &rows_of(stage.run), (BLOCK / cap).max(1));
            (r0 + Expr::from(ROW), rows)
        };
        let step = Expr::int(stage.run as i64);
        let position = if self.dense { Expr::from(ROW) * step.clone() + r } else { r };
        let channel = c0 + Expr::from(COL);
        Space {
            rows,
            cols,
            first: position.clone() * Expr::from(channels) + channel.clone(),
            part: step * Expr::from(channels),
            block: Expr::int(0),
            place: Some((position, channel)),
        }
    }

    /// Tiles whose rows are blocks (of a dense stage: parts) and whose columns are runs, for the other stages.
    fn by_run(&self, cx: &Context<'_>, s: &mut Scribe, stage: &Stage, channels: &Dim) -> Result<Space, Failure> {
        let run = channels.scale(stage.run as i64).map_err(|e| cx.dim_failure(e))?;
        let part = Expr::from(&run);
        let whole = part.clone() * Expr::int(stage.radix as i64);
        let cap = capacity(cx, &run, if self.dense { WIDE } else { BLOCK });
        let blocks = Dim::constant(stage.blocks as i64);
        let (block, rows) = if self.dense {
            let p = if stage.blocks == 1 { Expr::int(0) } else { s.b.grid("p", Expr::int(stage.blocks as i64)) };
            (p, Extent::fixed(stage.radix))
        } else {
            let (p0, rows) = s.grid_blocks("p", &blocks, (BLOCK / cap).max(1));
            (p0 + Expr::from(ROW), rows)
        };
        let (u0, cols) = s.grid_blocks("u", &run, cap);
        let along = if self.dense { Expr::from(ROW) * part.clone() } else { Expr::int(0) };
        let first = block.clone() * whole + along + u0 + Expr::from(COL);
        Ok(Space { rows, cols, first, part, block, place: None })
    }

    /// Cosine and sine of the turn of part j (of a dense stage: of the row's part).
    fn turn(&self, space: &Space, turns: &Lambda, stage: &Stage, j: usize) -> (Expr, Expr) {
        if stage.blocks == 1 && !self.dense {
            let (c, s) = root(j, 4 * stage.radix);
            return (Expr::float(c), Expr::float(s));
        }
        let part = if self.dense { Expr::from(ROW) } else { Expr::int(j as i64) };
        let at = |k: i64| turns.at(&[space.block.clone(), part.clone(), Expr::int(k)]);
        (at(0), at(1))
    }

    /// The first stage: from tokens.
    fn enter(&self, cx: &mut Context<'_>, tokens: &Tokens, to: BufferId, factor: f64) -> Result<(), Failure> {
        let stage = self.plan.stages[0];
        let mut s = Scribe::new(&self.name(&stage, false));
        let out = s.output(cx, to);
        let lead = s.grid_over(&tokens.lead);
        let space = self.by_position(cx, &mut s, &stage, &tokens.channels);
        let tables = Tables::of(self, cx, &mut s, 0);
        let local = |s: &mut Scribe, l: &Lambda| s.local_lambda(cx, l);
        let (re, im) = (local(&mut s, &tokens.re), tokens.im.as_ref().map(|l| local(&mut s, l)));
        let inside = tokens.inside.as_ref().map(|(e, l)| {
            let at = Lambda { body: e.clone(), ..l.clone() }.at(&lead);
            (at, local(&mut s, l))
        });
        let (position, channel) = space.place.clone().ok_or_else(|| cx.fail("tokens have positions"))?;
        let write = |b: &mut TileBuilder, re: &Lambda, im: Option<&Lambda>| {
            let number = |j: usize| {
                let mut at = lead.clone();
                at.extend([position.clone() + Expr::int((j * stage.run) as i64), channel.clone()]);
                (re.at(&at), im.map(|l| l.at(&at)))
            };
            self.forward_stage(b, &space, &tables, &stage, number, out, &lead, factor);
        };
        match &inside {
            None => write(&mut s.b, &re, im.as_ref()),
            Some((when, plain)) if when.as_bool() == Some(true) => write(&mut s.b, plain, im.as_ref()),
            Some((when, plain)) => {
                either(&mut s.b, when, |b| write(b, plain, im.as_ref()), |b| write(b, &re, im.as_ref()));
            }
        }
        s.finish(cx, self.form)
    }

    /// A stage between planes.
    fn step(
        &self,
        cx: &mut Context<'_>,
        k: usize,
        inverse: bool,
        lead: &[Dim],
        channels: &Dim,
        from: BufferId,
        to: BufferId,
        factor: f64,
    ) -> Result<(), Failure> {
        let stage = self.plan.stages[k];
        let mut s = Scribe::new(&self.name(&stage, inverse));
        let out = s.output(cx, to);
        let lead = s.grid_over(lead);
        let space = self.by_run(cx, &mut s, &stage, channels)?;
        let tables = Tables::of(self, cx, &mut s, k);
        let source = cx.stored(from);
        let source = s.local_lambda(cx, &source);
        let number = |j: usize| (plane(&source, &lead, &space, j, 0), Some(plane(&source, &lead, &space, j, 1)));
        if inverse {
            let results = self.inverse_stage(&mut s.b, &space, &tables, &stage, number, true);
            for (j, z) in results.into_iter().enumerate() {
                store_planes(&mut s.b, &space, out, &lead, j, z);
            }
        } else {
            self.forward_stage(&mut s.b, &space, &tables, &stage, number, out, &lead, factor);
        }
        s.finish(cx, self.form)
    }

    /// The last stage of an inverse: real parts to where the producer wants them.
    fn leave(&self, cx: &mut Context<'_>, from: BufferId, results: &Results<'_>) -> Result<(), Failure> {
        let stage = self.plan.stages[0];
        let mut s = Scribe::new(&self.name(&stage, true));
        let out = s.output(cx, results.out);
        let lead = s.grid_over(&results.lead);
        let space = self.by_position(cx, &mut s, &stage, &results.channels);
        let tables = Tables::of(self, cx, &mut s, 0);
        let source = cx.stored(from);
        let source = s.local_lambda(cx, &source);
        let (position, channel) = space.place.clone().ok_or_else(|| cx.fail("results have positions"))?;
        let (batch, block) = lead.split_at(lead.len() - 1);
        let start = block[0].clone() * Expr::int(self.plan.length as i64);
        let parts = if self.dense { 1 } else { stage.radix };
        let mut endings: Vec<(Ending, Expr)> = Vec::with_capacity(parts);
        for j in 0..parts {
            let token = start.clone() + position.clone() + Expr::int((j * stage.run) as i64);
            let mut at = batch.to_vec();
            at.extend([token.clone(), channel.clone()]);
            endings.push((results.end.localised(cx, &mut s, &at), token.lt(Expr::from(&results.total))));
        }
        let write = |b: &mut TileBuilder, guarded: bool| {
            let number = |j: usize| (plane(&source, &lead, &space, j, 0), Some(plane(&source, &lead, &space, j, 1)));
            let made = self.inverse_stage(b, &space, &tables, &stage, number, false);
            for ((re, _), (ending, kept)) in made.into_iter().zip(&endings) {
                let all = Expr::bool(true);
                ending.store_where(b, out, if guarded { kept } else { &all }, re, &space.rows, &space.cols);
            }
        };
        let whole = (start + Expr::int(self.plan.length as i64)).le(Expr::from(&results.total));
        let exact = results.total.as_constant().is_some_and(|n| n % self.plan.length as i64 == 0);
        if exact {
            write(&mut s.b, false);
        } else {
            either(&mut s.b, &whole, |b| write(b, false), |b| write(b, true));
        }
        s.finish(cx, self.form)
    }

    #[allow(clippy::too_many_arguments, reason = "one step of one algorithm, called from two places")]
    fn forward_stage(
        &self,
        b: &mut TileBuilder,
        space: &Space,
        tables: &Tables,
        stage: &Stage,
        number: impl Fn(usize) -> (Expr, Option<Expr>),
        out: SlowId,
        lead: &[Expr],
        factor: f64,
    ) {
        let ty = TileType::of(self.dtype);
        let mut n = Numbers { b, ty, rows: space.rows.clone(), cols: space.cols.clone() };
        let mut turned = Vec::new();
        for j in 0..if self.dense { 1 } else { stage.radix } {
            let (re, im) = number(j);
            let (c, s) = self.turn(space, &tables.turns, stage, j);
            let re = n.tile("re", re).expr();
            turned.push(match im {
                Some(im) => {
                    let z = Complex { re: re.into(), im: n.tile("im", im) };
                    if c.as_float() == Some(1.0) { z } else { n.multiplied(&z, &c, &s) }
                }
                None => Complex { re: n.tile("re", re.clone() * c), im: n.tile("im", re * s) },
            });
        }
        let made = if self.dense { dense(n, &turned[0], tables, stage, false) } else { n.transform(&turned, false) };
        for (j, z) in made.into_iter().enumerate() {
            let times = |e: Expr| if factor == 1.0 { e } else { e * Expr::float(factor) };
            store_planes(b, space, out, lead, j, (times(z.re.expr()), times(z.im.expr())));
        }
    }

    /// The parts of an inverse stage, as expressions; imaginary ones mean something when `complex`.
    fn inverse_stage(
        &self,
        b: &mut TileBuilder,
        space: &Space,
        tables: &Tables,
        stage: &Stage,
        number: impl Fn(usize) -> (Expr, Option<Expr>),
        complex: bool,
    ) -> Vec<(Expr, Expr)> {
        let ty = TileType::of(self.dtype);
        let mut n = Numbers { b, ty, rows: space.rows.clone(), cols: space.cols.clone() };
        let mut numbers = Vec::new();
        for j in 0..if self.dense { 1 } else { stage.radix } {
            let (re, im) = number(j);
            let re = n.tile("re", re);
            let im = n.tile("im", im.unwrap_or_else(|| Expr::float(0.0)));
            numbers.push(Complex { re, im });
        }
        let made = if self.dense { dense(n, &numbers[0], tables, stage, true) } else { n.transform(&numbers, true) };
        made.into_iter()
            .enumerate()
            .map(|(j, z)| {
                let (c, s) = self.turn(space, &tables.turns, stage, j);
                let (re, im) = (z.re.expr(), z.im.expr());
                if c.as_float() == Some(1.0) {
                    return (re, im);
                }
                let imaginary =
                    if complex { im.clone() * c.clone() - re.clone() * s.clone() } else { Expr::float(0.0) };
                (re * c + im * s, imaginary)
            })
            .collect()
    }
}

/// The tables of a stage, local to a program.
struct Tables {
    turns: Lambda,
    roots: Option<Lambda>,
}

impl Tables {
    fn of(t: &Transform, cx: &Context<'_>, s: &mut Scribe, stage: usize) -> Tables {
        let turns = if t.plan.stages[stage].blocks == 1 && !t.dense {
            t.turns[stage].clone()
        } else {
            s.local_lambda(cx, &t.turns[stage])
        };
        Tables { turns, roots: t.roots.get(stage).map(|l| s.local_lambda(cx, l)) }
    }
}

/// A part of a complex number in planes.
fn plane(source: &Lambda, lead: &[Expr], space: &Space, j: usize, part: i64) -> Expr {
    let mut at = lead.to_vec();
    at.extend([Expr::int(part), space.first.clone() + space.part.clone() * Expr::int(j as i64)]);
    source.at(&at)
}

fn store_planes(b: &mut TileBuilder, space: &Space, out: SlowId, lead: &[Expr], j: usize, (re, im): (Expr, Expr)) {
    for (part, value) in [re, im].into_iter().enumerate() {
        let mut at = lead.to_vec();
        let place = space.first.clone() + space.part.clone() * Expr::int(j as i64);
        at.extend([Expr::int(part as i64), place]);
        b.store(out, at, value, &space.rows, &space.cols);
    }
}

/// The product of a matrix of roots of unity, or of its conjugate, with the parts along the rows.
fn dense(n: Numbers<'_>, x: &Complex, tables: &Tables, stage: &Stage, conjugate: bool) -> Vec<Complex> {
    let Some(roots) = &tables.roots else { return vec![x.clone()] };
    let square = Extent::fixed(stage.radix);
    let (b, ty) = (n.b, n.ty);
    let mut matrix = |name: &str, part: i64| {
        b.map(name, ty, &square, &square, roots.at(&[Expr::int(part), Expr::from(ROW), Expr::from(COL)]))
    };
    let (plus, minus) = if conjugate { (2, 1) } else { (1, 2) };
    let (cos, sin, negative) = (matrix("cos", 0), matrix("sin", plus), matrix("minus_sin", minus));
    let tile = |e: &super::butterfly::Scaled| -> Option<TileId> {
        match e.expr().node() {
            mixc_ir::expr::Node::Tile(t, ..) => Some(*t),
            _ => None,
        }
    };
    let (Some(re), Some(im)) = (tile(&x.re), tile(&x.im)) else { return vec![x.clone()] };
    let part = b.dot("re", ty, cos, re, None);
    let real = b.dot("re", ty, negative, im, Some(part));
    let part = b.dot("im", ty, cos, im, None);
    let imaginary = b.dot("im", ty, sin, re, Some(part));
    vec![Complex { re: Expr::tile(real).into(), im: Expr::tile(imaginary).into() }]
}

/// One of two ways, by a condition.
fn either(b: &mut TileBuilder, when: &Expr, yes: impl FnOnce(&mut TileBuilder), no: impl FnOnce(&mut TileBuilder)) {
    let not = !when.clone();
    once_when(b, when.clone(), yes);
    once_when(b, not, no);
}
